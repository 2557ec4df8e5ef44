//! Documents whose change graphs are in memory.

use std::collections::{BTreeMap, BTreeSet};

use rejoin_core::{ChangeGraph, DocumentId};

use super::tables::DocumentRow;

/// A document as the relay checks changes against it: its row and its change graph.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) row: DocumentRow,
    pub(super) graph: ChangeGraph,
    /// The position of every change, by rank. Ascending.
    pub(super) positions: Vec<u64>,
}

impl Held {
    fn memory_bytes(&self) -> usize {
        self.graph.memory_bytes() + self.positions.capacity() * size_of::<u64>() + HELD_BYTES
    }
}

/// The least recently used documents leave when the rest takes more than a budget.
#[derive(Debug)]
pub(super) struct GraphCache {
    held: BTreeMap<DocumentId, Entry>,
    by_use: BTreeSet<(u64, DocumentId)>,
    uses: u64,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    held: Held,
    used: u64,
    /// What the budget was last charged.
    bytes: usize,
}

impl GraphCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { held: BTreeMap::new(), by_use: BTreeSet::new(), uses: 0, bytes: 0, bytes_max }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_over_budget(&self) -> bool {
        self.bytes > self.bytes_max
    }

    pub(super) fn contains(&self, document: &DocumentId) -> bool {
        self.held.contains_key(document)
    }

    /// The document, from now on the most recently used.
    pub(super) fn get(&mut self, document: &DocumentId) -> Option<&mut Held> {
        let entry = self.held.get_mut(document)?;
        self.uses += 1;
        self.by_use.remove(&(entry.used, *document));
        self.by_use.insert((self.uses, *document));
        entry.used = self.uses;
        Some(&mut entry.held)
    }

    pub(super) fn insert(&mut self, document: DocumentId, held: Held) {
        self.remove(&document);
        self.uses += 1;
        let bytes = held.memory_bytes();
        self.bytes += bytes;
        self.by_use.insert((self.uses, document));
        self.held.insert(document, Entry { held, used: self.uses, bytes });
    }

    /// Charges the budget what the document takes now, after it grew.
    pub(super) fn weigh(&mut self, document: &DocumentId) {
        if let Some(entry) = self.held.get_mut(document) {
            let bytes = entry.held.memory_bytes();
            self.bytes = self.bytes - entry.bytes + bytes;
            entry.bytes = bytes;
        }
    }

    pub(super) fn remove(&mut self, document: &DocumentId) {
        if let Some(entry) = self.held.remove(document) {
            self.by_use.remove(&(entry.used, *document));
            self.bytes -= entry.bytes;
        }
    }

    /// Drops the least recently used documents until the budget is kept. Those `pinned` says are
    /// ahead of the database and stay.
    pub(super) fn evict(&mut self, pinned: impl Fn(&DocumentId) -> bool) {
        while self.is_over_budget() {
            let mut by_use = self.by_use.iter().map(|(_, document)| *document);
            let Some(document) = by_use.find(|document| !pinned(document)) else { return };
            self.remove(&document);
        }
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
        self.by_use.clear();
        self.bytes = 0;
    }
}

/// Its row, and its entries in the two indexes.
const HELD_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use rejoin_core::{CollectionName, SpaceName};

    use super::*;

    fn held() -> Held {
        let space = SpaceName::new("acme").unwrap();
        let collection = CollectionName::new("jobs").unwrap();
        let row = DocumentRow::new(space, collection, 1);
        Held { row, graph: ChangeGraph::new(), positions: Vec::new() }
    }

    fn document(n: u8) -> DocumentId {
        DocumentId([n; 16])
    }

    fn cache_of(documents: usize) -> GraphCache {
        GraphCache::new(documents * held().memory_bytes())
    }

    #[test]
    fn the_least_recently_used_document_leaves_first() {
        let mut cache = cache_of(2);
        (1..=3).for_each(|n| cache.insert(document(n), held()));
        cache.get(&document(1));
        cache.evict(|_| false);
        assert!(cache.contains(&document(1)));
        assert!(!cache.contains(&document(2)));
        assert!(cache.contains(&document(3)));
    }

    #[test]
    fn a_pinned_document_stays_whatever_the_budget() {
        let mut cache = cache_of(0);
        (1..=3).for_each(|n| cache.insert(document(n), held()));
        cache.evict(|id| *id == document(1));
        assert!(cache.contains(&document(1)));
        assert!(!cache.contains(&document(3)));
        cache.clear();
        assert_eq!(cache.bytes(), 0);
    }
}
