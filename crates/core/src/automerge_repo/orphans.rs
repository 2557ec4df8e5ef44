//! Changes of one document that came before the changes they build on.

use std::collections::{BTreeMap, BTreeSet};

use crate::change::Change;
use crate::{ChangeGraph, ChangeHash};

/// A change and its bytes.
pub type Chunk = (Change, Vec<u8>);

/// Puts changes in an order in which they can be kept, and keeps back the orphans: changes whose
/// dependencies are missing.
///
/// A peer does not send a change twice over one connection, so an orphan waits here until the rest
/// is there. A change comes too early if our Bloom filter wrongly claimed that we have one it
/// builds on, which happens once in a hundred times.
#[derive(Debug, Default)]
pub struct Orphans {
    /// By the first of their dependencies that is missing.
    waiting: BTreeMap<ChangeHash, Vec<Chunk>>,
    /// The hashes of all of them.
    hashes: BTreeSet<ChangeHash>,
    bytes: usize,
    is_given_up: bool,
}

impl Orphans {
    /// Takes in changes that came, and returns all that can be kept now, dependencies first.
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
            if passed.contains(&hash) || self.hashes.contains(&hash) || graph.contains(&hash) {
                continue;
            }
            let is_here = |dep: &ChangeHash| passed.contains(dep) || graph.contains(dep);
            match change.deps().iter().find(|dep| !is_here(dep)) {
                Some(dep) => self.keep_back(*dep, (change, chunk)),
                None => {
                    passed.insert(hash);
                    ready.push((change, chunk));
                    due.extend(self.release(&hash));
                }
            }
        }
        ready
    }

    /// Whether the graph has become ready for one of them.
    pub fn is_due(&self, graph: &ChangeGraph) -> bool {
        self.waiting.keys().any(|dep| graph.contains(dep))
    }

    /// Whether this change is one of them.
    pub fn contains(&self, hash: &ChangeHash) -> bool {
        self.hashes.contains(hash)
    }

    /// The hashes of the changes to ask for, ascending.
    pub fn missing(&self) -> impl Iterator<Item = ChangeHash> {
        self.waiting.keys().filter(|dep| !self.hashes.contains(dep)).copied()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Bytes that they take in memory, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets them and takes no more: a change that others build on was refused, and will never
    /// come.
    pub fn give_up(&mut self) {
        *self = Self { is_given_up: true, ..Self::default() };
    }

    fn keep_back(&mut self, dep: ChangeHash, chunk: Chunk) {
        if self.is_given_up {
            return;
        }
        self.hashes.insert(chunk.0.hash());
        self.bytes += chunk.1.len() + ORPHAN_BYTES;
        self.waiting.entry(dep).or_default().push(chunk);
    }

    fn release(&mut self, dep: &ChangeHash) -> Vec<Chunk> {
        let released = self.waiting.remove(dep).unwrap_or_default();
        for (change, bytes) in &released {
            self.hashes.remove(&change.hash());
            self.bytes -= bytes.len() + ORPHAN_BYTES;
        }
        released
    }
}

/// Memory that a change takes beside its bytes, for its description and two index entries.
const ORPHAN_BYTES: usize = 512;
