//! Documents whose change graphs are in memory.

use std::collections::{BTreeMap, BTreeSet};

use rejoin_core::{ChangeGraph, DocumentId};

use super::tables::DocumentRow;

/// A document as the relay checks changes against it: its row and its change graph.
#[derive(Debug)]
pub(super) struct Cached {
    /// Its number in the store.
    pub(super) number: u64,
    pub(super) row: DocumentRow,
    pub(super) graph: ChangeGraph,
    /// The position of every change, by rank. Ascending.
    pub(super) positions: Vec<u64>,
}

impl Cached {
    fn memory_bytes(&self) -> usize {
        self.graph.memory_bytes() + self.positions.capacity() * size_of::<u64>() + CACHED_BYTES
    }
}

/// The least recently used documents leave when the rest takes more than a budget. Small documents
/// and large ones have a share of it each: small ones are soon read again, and a large one whose
/// graph takes long to read is not to leave for them.
#[derive(Debug)]
pub(super) struct GraphCache {
    /// By their numbers in the store.
    cached: BTreeMap<u64, Entry>,
    /// The same, by the number of the space and the id in it.
    numbers: BTreeMap<(u32, DocumentId), u64>,
    /// Of the small documents, and of the large ones.
    shares: [Share; 2],
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    cached: Cached,
    used: u64,
    /// The bytes that the budget was last charged.
    bytes: usize,
}

/// A part of the budget, and the documents that have it.
#[derive(Debug)]
struct Share {
    by_use: BTreeSet<(u64, u64)>,
    bytes: usize,
    bytes_max: usize,
}

impl Share {
    fn new(bytes_max: usize) -> Self {
        Self { by_use: BTreeSet::new(), bytes: 0, bytes_max }
    }

    /// A single document may take any size, for without it no push to it could be checked.
    fn is_over_budget(&self) -> bool {
        self.bytes > self.bytes_max && self.by_use.len() > 1
    }
}

impl GraphCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        let small = bytes_max / 8 * 3;
        let shares = [Share::new(small), Share::new(bytes_max - small)];
        Self { cached: BTreeMap::new(), numbers: BTreeMap::new(), shares, uses: 0 }
    }

    pub(super) fn bytes(&self) -> usize {
        self.shares.iter().map(|share| share.bytes).sum()
    }

    pub(super) fn is_over_budget(&self) -> bool {
        self.shares.iter().any(Share::is_over_budget)
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.cached.contains_key(&number)
    }

    /// The number of a document that is here.
    pub(super) fn number(&self, space: u32, document: &DocumentId) -> Option<u64> {
        self.numbers.get(&(space, *document)).copied()
    }

    /// The document, from now on the most recently used.
    pub(super) fn get(&mut self, number: u64) -> Option<&mut Cached> {
        let entry = self.cached.get_mut(&number)?;
        self.uses += 1;
        let share = &mut self.shares[share_of(entry.bytes)];
        share.by_use.remove(&(entry.used, number));
        share.by_use.insert((self.uses, number));
        entry.used = self.uses;
        Some(&mut entry.cached)
    }

    pub(super) fn insert(&mut self, cached: Cached) {
        let number = cached.number;
        self.remove(number);
        self.uses += 1;
        let (used, bytes) = (self.uses, cached.memory_bytes());
        let share = &mut self.shares[share_of(bytes)];
        share.bytes += bytes;
        share.by_use.insert((used, number));
        self.numbers.insert((cached.row.space, cached.row.id), number);
        self.cached.insert(number, Entry { cached, used, bytes });
    }

    /// Charges the budget the present size of a document, after it grew.
    pub(super) fn weigh(&mut self, number: u64) {
        let Some(entry) = self.cached.get_mut(&number) else { return };
        let (used, before, now) = (entry.used, entry.bytes, entry.cached.memory_bytes());
        entry.bytes = now;
        self.discharge(number, used, before);
        let share = &mut self.shares[share_of(now)];
        share.bytes += now;
        share.by_use.insert((used, number));
    }

    pub(super) fn remove(&mut self, number: u64) {
        if let Some(entry) = self.cached.remove(&number) {
            self.numbers.remove(&(entry.cached.row.space, entry.cached.row.id));
            self.discharge(number, entry.used, entry.bytes);
        }
    }

    /// Drops the least recently used documents until each share is kept. Documents that `pinned`
    /// names are ahead of the database and stay, and so does the last one used of each share.
    pub(super) fn evict(&mut self, pinned: impl Fn(u64) -> bool) {
        for at in 0..self.shares.len() {
            while self.shares[at].is_over_budget() {
                let older = self.shares[at].by_use.iter().rev().skip(1).rev();
                let mut numbers = older.map(|(_, number)| *number);
                let Some(number) = numbers.find(|number| !pinned(*number)) else { break };
                self.remove(number);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.cached.clear();
        self.numbers.clear();
        for share in &mut self.shares {
            share.by_use.clear();
            share.bytes = 0;
        }
    }

    fn discharge(&mut self, number: u64, used: u64, bytes: usize) {
        let share = &mut self.shares[share_of(bytes)];
        share.by_use.remove(&(used, number));
        share.bytes -= bytes;
    }
}

/// The share that a document of so many bytes belongs to.
fn share_of(bytes: usize) -> usize {
    usize::from(bytes > LARGE_BYTES)
}

/// A graph of some 10,000 changes, which takes milliseconds to read.
const LARGE_BYTES: usize = 1 << 20;

/// Its row, and its entries in the three indexes.
const CACHED_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn cached(n: u64) -> Cached {
        let row = DocumentRow::new(1, DocumentId([n as u8; 16]), 1, 1);
        Cached { number: n, row, graph: ChangeGraph::new(), positions: Vec::new() }
    }

    fn large(n: u64) -> Cached {
        Cached { positions: Vec::with_capacity(LARGE_BYTES), ..cached(n) }
    }

    /// A cache whose share for small documents has room for so many.
    fn cache_of(documents: usize) -> GraphCache {
        GraphCache::new((documents * cached(1).memory_bytes()).div_ceil(3) * 8)
    }

    #[test]
    fn the_least_recently_used_document_leaves_first() {
        let mut cache = cache_of(2);
        (1..=3).for_each(|n| cache.insert(cached(n)));
        cache.get(1);
        assert!(cache.is_over_budget());
        cache.evict(|_| false);
        assert!(cache.contains(1));
        assert!(!cache.contains(2));
        assert!(cache.contains(3));
        assert!(!cache.is_over_budget());
    }

    #[test]
    fn a_pinned_document_stays_whatever_the_budget() {
        let mut cache = cache_of(0);
        (1..=3).for_each(|n| cache.insert(cached(n)));
        cache.evict(|number| number == 1);
        let here = [1, 2, 3].map(|n| cache.contains(n));
        assert_eq!(here, [true, false, true], "the pinned one, and the last one used");
        cache.clear();
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn a_large_document_does_not_leave_for_small_ones() {
        let mut cache = cache_of(2);
        cache.insert(large(1));
        (2..=9).for_each(|n| cache.insert(cached(n)));
        cache.evict(|_| false);
        assert!(cache.contains(1), "it is alone among the large");
        assert!(!cache.is_over_budget());
        cache.insert(large(10));
        cache.evict(|_| false);
        assert!(!cache.contains(1), "two of them are too much");
    }

    #[test]
    fn a_document_that_grew_large_leaves_the_share_of_the_small() {
        let mut cache = cache_of(2);
        (1..=2).for_each(|n| cache.insert(cached(n)));
        cache.get(1).unwrap().positions.reserve(LARGE_BYTES);
        cache.weigh(1);
        cache.insert(cached(3));
        cache.evict(|_| false);
        assert!([1, 2, 3].iter().all(|n| cache.contains(*n)));
        (1..=3).for_each(|n| cache.remove(n));
        assert_eq!(cache.bytes(), 0);
    }
}
