//! Changes of one document that came before what they build on.

use std::collections::{BTreeMap, BTreeSet};

use crate::change::Change;
use crate::{ChangeGraph, ChangeHash};

/// A change and its bytes.
pub type Chunk = (Change, Vec<u8>);

/// Puts changes in an order in which they can be kept, and holds those that cannot be yet.
///
/// A peer does not send a change twice over one connection, so what came too early is held until
/// the rest is there. It comes too early when a Bloom filter claimed for us what we do not have,
/// once in a hundred times.
#[derive(Debug, Default)]
pub struct Orphans {
    /// By the first of their dependencies that is missing.
    waiting: BTreeMap<ChangeHash, Vec<Chunk>>,
    held: BTreeSet<ChangeHash>,
    bytes: usize,
    is_given_up: bool,
}

impl Orphans {
    /// Takes in what came, and returns everything that can be kept now, dependencies first.
    /// Changes that the graph has are left out.
    pub fn sort(&mut self, graph: &ChangeGraph, came: Vec<Chunk>) -> Vec<Chunk> {
        let here = |dep: &&ChangeHash| graph.contains(dep);
        let arrived: Vec<_> = self.waiting.keys().filter(here).copied().collect();
        // The next one last.
        let mut due: Vec<Chunk> = came.into_iter().rev().collect();
        due.extend(arrived.iter().flat_map(|dep| self.release(dep)));
        let mut ready = Vec::new();
        let mut passed = BTreeSet::new();
        while let Some((change, chunk)) = due.pop() {
            let hash = change.hash();
            if passed.contains(&hash) || self.held.contains(&hash) || graph.contains(&hash) {
                continue;
            }
            let is_here = |dep: &ChangeHash| passed.contains(dep) || graph.contains(dep);
            match change.deps().iter().find(|dep| !is_here(dep)) {
                Some(dep) => self.hold(*dep, (change, chunk)),
                None => {
                    passed.insert(hash);
                    ready.push((change, chunk));
                    due.extend(self.release(&hash));
                }
            }
        }
        ready
    }

    /// Whether something is held that the graph has become ready for.
    pub fn is_due(&self, graph: &ChangeGraph) -> bool {
        self.waiting.keys().any(|dep| graph.contains(dep))
    }

    /// Whether this change is held.
    pub fn holds(&self, hash: &ChangeHash) -> bool {
        self.held.contains(hash)
    }

    /// What is to be asked for, ascending.
    pub fn missing(&self) -> impl Iterator<Item = ChangeHash> {
        self.waiting.keys().filter(|dep| !self.held.contains(dep)).copied()
    }

    /// Whether no change is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Bytes that the changes which are held take in memory, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds nothing any more: what others build on was refused, and will never come.
    pub fn give_up(&mut self) {
        *self = Self { is_given_up: true, ..Self::default() };
    }

    fn hold(&mut self, dep: ChangeHash, chunk: Chunk) {
        if self.is_given_up {
            return;
        }
        self.held.insert(chunk.0.hash());
        self.bytes += chunk.1.len() + ORPHAN_BYTES;
        self.waiting.entry(dep).or_default().push(chunk);
    }

    fn release(&mut self, dep: &ChangeHash) -> Vec<Chunk> {
        let released = self.waiting.remove(dep).unwrap_or_default();
        for (change, bytes) in &released {
            self.held.remove(&change.hash());
            self.bytes -= bytes.len() + ORPHAN_BYTES;
        }
        released
    }
}

/// What a change takes beside its bytes: read, and in two indexes.
const ORPHAN_BYTES: usize = 512;
