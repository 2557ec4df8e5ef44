//! Finds the documents in which two sets differ, at a cost that grows with the difference alone.
//!
//! Rateless invertible Bloom lookup tables, after Lei Yang, Yossi Gilad and Mohammad Alizadeh,
//! "Practical Rateless Set Reconciliation" (ACM SIGCOMM 2024). One side sends coded symbols of its
//! set until the other, which subtracts those of its own, can read off the difference: about 1.4
//! symbols for each differing item, for sets of any size.
//!
//! Coded symbol `i` is the exclusive or of a pseudorandom share, 1 in `1 + i/2`, of the items.
//! Subtracting two of them cancels what both sets hold. A symbol with just one item left gives that
//! item away, taking it out of the others leaves more such symbols, and so on.
//!
//! Hashes, mapping and packing are frozen: both sides must compute the same on every platform, so
//! there is no floating point in here. The paper's hash is keyed; ours is not, so someone who may
//! write thousands of documents can choose them such that a repair never completes or passes
//! over a few of their own. The set digest then still differs, and everything is asked for.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::graph::{put_varint, take_varint, unzigzag, zigzag};
use crate::limits::{REPAIR_SYMBOLS_MAX, REPAIR_SYMBOLS_TOTAL_MAX};
use crate::{DocumentId, ShortHash};

/// One document at its heads, as repairs compare it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepairItem {
    /// The document.
    pub document: DocumentId,
    /// The first bytes of the hash of its heads.
    pub heads: ShortHash,
}

/// Produces the coded symbols of a set, in order.
#[derive(Debug, Clone)]
pub struct RepairEncoder {
    /// Sorted and unique.
    items: Vec<CodedItem>,
    produced: u32,
}

impl RepairEncoder {
    /// An encoder of these items. An item named twice counts once.
    pub fn new(items: impl Iterator<Item = RepairItem>) -> Self {
        let mut items: Vec<_> = items.collect();
        items.sort_unstable();
        items.dedup();
        Self { items: items.iter().map(CodedItem::new).collect(), produced: 0 }
    }

    /// The number of symbols that were produced: the next call has to begin there.
    pub fn produced(&self) -> u32 {
        self.produced
    }

    /// The symbols from `from`, `count` of them, packed one after the other: 24 bytes of items, 8
    /// of their hashes, and how many there are as a zigzag varint. Each call looks at every item,
    /// so ask for many at once.
    ///
    /// # Errors
    /// Symbols come in order, at most [`REPAIR_SYMBOLS_MAX`] at once and
    /// [`REPAIR_SYMBOLS_TOTAL_MAX`] in all. Nothing was produced.
    pub fn symbols(&mut self, from: u32, count: u32) -> Result<Vec<u8>, RepairError> {
        if from != self.produced {
            return Err(RepairError::OutOfOrder { asked: from, produced: self.produced });
        }
        if count > REPAIR_SYMBOLS_MAX || count > REPAIR_SYMBOLS_TOTAL_MAX - self.produced {
            return Err(RepairError::TooMany);
        }
        let mut packed = Vec::with_capacity(count as usize * PACKED_BYTES_TYPICAL);
        self.next_cells(count).iter().for_each(|cell| cell.pack(&mut packed));
        Ok(packed)
    }

    fn next_cells(&mut self, count: u32) -> Vec<Cell> {
        let from = self.produced as usize;
        let mut cells = vec![Cell::default(); count as usize];
        for item in &mut self.items {
            while let Some(cell) = cells.get_mut(item.mapping.index_from(from)) {
                cell.combine(&item.cell, 1);
                item.mapping.advance();
            }
        }
        self.produced += count;
        cells
    }

    fn contains(&self, item: &RepairItem) -> bool {
        let bytes = item.to_bytes();
        self.items.binary_search_by(|probe| probe.cell.sum.cmp(&bytes)).is_ok()
    }
}

/// Finds the documents in which a remote set differs from the local one, from the remote set's
/// symbols.
///
/// Ask for symbols up to [`symbols_wanted`](Self::symbols_wanted) and [`add`](Self::add) them,
/// until [`is_decoded`](Self::is_decoded) or no more are wanted.
#[derive(Debug, Clone)]
pub struct RepairDecoder {
    local: RepairEncoder,
    /// The remote set less the local one, less the items that were found.
    cells: Vec<Cell>,
    found: Vec<Found>,
    /// The items of `found`. None is found twice.
    found_items: BTreeSet<RepairItem>,
    state: State,
}

impl RepairDecoder {
    /// A decoder that compares with these local items.
    pub fn new(local: impl Iterator<Item = RepairItem>) -> Self {
        Self {
            local: RepairEncoder::new(local),
            cells: Vec::new(),
            found: Vec::new(),
            found_items: BTreeSet::new(),
            state: State::Undecided,
        }
    }

    /// Takes the next packed symbols, which begin where the last ones ended.
    ///
    /// # Errors
    /// The symbols are not those of a set. This decoder is of no more use: end the session, or ask
    /// for everything.
    pub fn add(&mut self, packed: &[u8]) -> Result<(), RepairError> {
        if self.state == State::Corrupt {
            return Err(RepairError::Corrupt);
        }
        self.state = State::Corrupt;
        let first_new = self.cells.len();
        let room = REPAIR_SYMBOLS_TOTAL_MAX as usize - first_new;
        self.cells.extend(unpack(packed, room)?);
        self.take_out_what_is_known(first_new);
        self.peel(first_new)?;
        let decoded = !self.cells.is_empty() && self.cells.iter().all(Cell::is_empty);
        self.state = if decoded { State::Decoded } else { State::Undecided };
        Ok(())
    }

    /// Whether the whole difference was found.
    pub fn is_decoded(&self) -> bool {
        self.state == State::Decoded
    }

    /// The number of symbols that were added.
    pub fn symbols(&self) -> u32 {
        self.cells.len() as u32
    }

    /// The number of symbols to ask for in all. It is no more than [`symbols`](Self::symbols) if
    /// the difference is known, or if it is not worth more: then ask for everything.
    ///
    /// Begins at 32, a kilobyte, enough for some 18 differences, and grows by 3/10. Each step is a
    /// round trip, while a longer step leaves more symbols unused at the end. This way about a
    /// seventh is unused, and a hundred differences take seven or eight round trips.
    pub fn symbols_wanted(&self) -> u32 {
        let have = self.symbols();
        if self.state != State::Undecided {
            return have;
        }
        (have + have * 3 / 10).clamp(SYMBOLS_FIRST, REPAIR_SYMBOLS_TOTAL_MAX)
    }

    /// The items that were found: the whole difference once [`is_decoded`](Self::is_decoded),
    /// before that a part of it.
    pub fn difference(&self) -> Difference {
        let (local_only, remote_only) =
            self.found_items.iter().partition(|item| self.local.contains(item));
        Difference { remote_only, local_only }
    }

    fn take_out_what_is_known(&mut self, first_new: usize) {
        let count = (self.cells.len() - first_new) as u32;
        let new = &mut self.cells[first_new..];
        for (cell, local) in new.iter_mut().zip(self.local.next_cells(count)) {
            cell.combine(&local, -1);
        }
        for found in &mut self.found {
            found.take_out(&mut self.cells, |_| {});
        }
    }

    /// Reads items off the cells that hold just one. This ends for any content of the cells: each
    /// round that queues more has found another item, and there are at most as many items as cells.
    fn peel(&mut self, first_new: usize) -> Result<(), RepairError> {
        let mut queue: Vec<usize> = (first_new..self.cells.len()).collect();
        while let Some(index) = queue.pop() {
            let Some(found) = self.cells[index].single() else { continue };
            self.settle(index, found, &mut queue)?;
        }
        Ok(())
    }

    /// Takes an item read off cell `index` out of all cells, and queues those. Symbols that
    /// contradict themselves or the local set would otherwise be peeled for ever.
    fn settle(
        &mut self,
        index: usize,
        mut found: Found,
        queue: &mut Vec<usize>,
    ) -> Result<(), RepairError> {
        let item = RepairItem::from_bytes(&found.item.cell.sum);
        let is_possible = self.local.contains(&item) == (found.sign < 0);
        let has_room = self.found.len() < self.cells.len();
        if !is_possible || !has_room || !self.found_items.insert(item) {
            return Err(RepairError::Corrupt);
        }
        let mut belongs_here = false;
        found.take_out(&mut self.cells, |touched| {
            belongs_here |= touched == index;
            queue.push(touched);
        });
        self.found.push(found);
        if belongs_here { Ok(()) } else { Err(RepairError::Corrupt) }
    }
}

/// The difference of two sets. A document at different heads is on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// The items that only the remote set has, sorted.
    pub remote_only: Vec<RepairItem>,
    /// The items that only the local set has, sorted.
    pub local_only: Vec<RepairItem>,
}

impl Difference {
    /// The documents of both sides, each once, sorted.
    pub fn documents(&self) -> Vec<DocumentId> {
        let both = self.remote_only.iter().chain(&self.local_only);
        let documents: BTreeSet<_> = both.map(|item| item.document).collect();
        documents.into_iter().collect()
    }
}

/// Symbols cannot be produced or used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RepairError {
    /// Symbols are only produced in order.
    #[error("repair symbols from {asked}, but {produced} were produced; go on from there")]
    OutOfOrder {
        /// The symbol at which the caller wanted to begin.
        asked: u32,
        /// The symbol at which it has to begin.
        produced: u32,
    },
    /// More symbols than a repair may take.
    #[error(
        "more than {REPAIR_SYMBOLS_MAX} repair symbols at once or {REPAIR_SYMBOLS_TOTAL_MAX} in \
         all; ask for everything instead"
    )]
    TooMany,
    /// Bytes that are no symbols.
    #[error("malformed repair symbols; close the session")]
    Malformed,
    /// Symbols that are not those of a set.
    #[error("repair symbols that are of no set; close the session")]
    Corrupt,
}

impl RepairItem {
    fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.document.0);
        bytes[16..].copy_from_slice(&self.heads.0);
        bytes
    }

    fn from_bytes(bytes: &[u8; 24]) -> Self {
        let (mut document, mut heads) = ([0; 16], [0; 8]);
        document.copy_from_slice(&bytes[..16]);
        heads.copy_from_slice(&bytes[16..]);
        Self { document: DocumentId(document), heads: ShortHash(heads) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Undecided,
    Decoded,
    Corrupt,
}

/// An item as a symbol of its own, and the next symbol it goes into.
#[derive(Debug, Clone)]
struct CodedItem {
    cell: Cell,
    mapping: Mapping,
}

impl CodedItem {
    fn new(item: &RepairItem) -> Self {
        Self::from_bytes(item.to_bytes())
    }

    /// The check and the mapping come from different bytes of the hash, so a pair of items with one
    /// in common seldom has the other.
    fn from_bytes(sum: [u8; 24]) -> Self {
        let hash = Sha256::new_with_prefix(ITEM_DOMAIN).chain_update(sum).finalize();
        let (mut check, mut seed) = ([0; 8], [0; 8]);
        check.copy_from_slice(&hash[..8]);
        seed.copy_from_slice(&hash[8..16]);
        let cell = Cell { sum, check: u64::from_le_bytes(check), count: 1 };
        Self { cell, mapping: Mapping { random: u64::from_le_bytes(seed), index: 0 } }
    }
}

/// An item of the difference: `sign` is 1 when the remote set holds it, -1 when the local one.
#[derive(Debug, Clone)]
struct Found {
    item: CodedItem,
    sign: i64,
}

impl Found {
    /// Takes the item out of the cells it goes into and was not yet taken out of.
    fn take_out(&mut self, cells: &mut [Cell], mut touched: impl FnMut(usize)) {
        while let Some(cell) = cells.get_mut(self.item.mapping.index_from(0)) {
            cell.combine(&self.item.cell, -self.sign);
            touched(self.item.mapping.index_from(0));
            self.item.mapping.advance();
        }
    }
}

/// A coded symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Cell {
    sum: [u8; 24],
    check: u64,
    /// Far from overflow: received counts are within 32 bits, and at most the items in memory are
    /// added or taken out.
    count: i64,
}

impl Cell {
    fn combine(&mut self, other: &Self, sign: i64) {
        self.sum.iter_mut().zip(other.sum).for_each(|(byte, other)| *byte ^= other);
        self.check ^= other.check;
        self.count += sign * other.count;
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The one item in here, if there is just one.
    fn single(&self) -> Option<Found> {
        if self.count.abs() != 1 {
            return None;
        }
        let item = CodedItem::from_bytes(self.sum);
        (item.cell.check == self.check).then_some(Found { item, sign: self.count })
    }

    fn pack(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.sum);
        out.extend_from_slice(&self.check.to_le_bytes());
        put_varint(out, zigzag(self.count));
    }

    fn unpack(rest: &mut &[u8]) -> Option<Self> {
        let (sum, after) = rest.split_first_chunk()?;
        let (check, after) = after.split_first_chunk()?;
        *rest = after;
        let count = unzigzag(take_varint(rest)?);
        let is_sane = count.unsigned_abs() <= u32::MAX.into();
        is_sane.then_some(Self { sum: *sum, check: u64::from_le_bytes(*check), count })
    }
}

fn unpack(mut packed: &[u8], room: usize) -> Result<Vec<Cell>, RepairError> {
    let mut cells = Vec::new();
    while !packed.is_empty() {
        if cells.len() == room {
            return Err(RepairError::TooMany);
        }
        cells.push(Cell::unpack(&mut packed).ok_or(RepairError::Malformed)?);
    }
    Ok(cells)
}

/// The symbols one item goes into, ascending from 0: symbol `i` with probability 1 in `1 + i/2`.
#[derive(Debug, Clone, Copy)]
struct Mapping {
    /// State of a SplitMix64 generator, seeded by the item's hash.
    random: u64,
    index: u64,
}

impl Mapping {
    /// The current symbol, counted from symbol `from`; far out of range once it is past all.
    fn index_from(&self, from: usize) -> usize {
        self.index.saturating_sub(from as u64).try_into().unwrap_or(usize::MAX)
    }

    /// Moves on to the next symbol.
    ///
    /// The chance that none of the symbols after `i` up to `i + g` is one falls with `g` about as
    /// `((i + 3/2) / (i + 3/2 + g))²`. With `u` uniform in (0, 1) that makes the gap
    /// `g = (i + 3/2) (1 / √u - 1)`, rounded up. Here `√u` is `root / 2³²`, the integer root of a
    /// random 64-bit number, where the paper's implementation takes the root of a float.
    fn advance(&mut self) {
        let root = u128::from(self.next_random().isqrt().max(1));
        let numerator = (2 * u128::from(self.index) + 3) * ((1 << 32) - root);
        let gap = numerator.div_ceil(2 * root);
        self.index = self.index.saturating_add(gap.try_into().unwrap_or(u64::MAX));
    }

    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

/// Frozen: both sides of a repair must agree.
const ITEM_DOMAIN: &[u8] = b"rejoin repair 1\0";

const SYMBOLS_FIRST: u32 = 32;

const PACKED_BYTES_TYPICAL: usize = 24 + 8 + 2;

/// The longest step [`RepairDecoder::symbols_wanted`] makes fits one frame.
const _: () = assert!(REPAIR_SYMBOLS_TOTAL_MAX * 3 / 13 < REPAIR_SYMBOLS_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn item(set: u64, n: u64, version: u64) -> RepairItem {
        let hash = Sha256::new().chain_update(set.to_le_bytes()).chain_update(n.to_le_bytes());
        let mut document = [0; 16];
        document.copy_from_slice(&hash.finalize()[..16]);
        let heads = Sha256::digest((n << 8 | version).to_le_bytes());
        RepairItem {
            document: DocumentId(document),
            heads: ShortHash(*heads.first_chunk().unwrap()),
        }
    }

    /// `len` documents, the first `changed` of them at version `version`.
    fn items(set: u64, len: u64, changed: u64, version: u64) -> impl Iterator<Item = RepairItem> {
        (0..len).map(move |n| item(set, n, if n < changed { version } else { 0 }))
    }

    /// Repairs as the session does. Symbols and round trips it took, and the decoder.
    fn repair(encoder: &mut RepairEncoder, mut decoder: RepairDecoder) -> (u32, RepairDecoder) {
        let mut round_trips = 0;
        while !decoder.is_decoded() {
            let (from, to) = (decoder.symbols(), decoder.symbols_wanted());
            assert!(to > from, "gave up after {from}");
            decoder.add(&encoder.symbols(from, to - from).unwrap()).unwrap();
            round_trips += 1;
        }
        (round_trips, decoder)
    }

    /// Symbols asked for, symbols needed, round trips: on average over `seeds` sets of `len`
    /// documents of which `changed` differ.
    fn figures(seeds: u64, len: u64, changed: u64) -> [f64; 3] {
        let mut total = [0; 3];
        for seed in 0..seeds {
            let mut encoder = RepairEncoder::new(items(seed, len, changed, 1));
            let fresh = RepairDecoder::new(items(seed, len, changed, 2));
            let (round_trips, decoder) = repair(&mut encoder.clone(), fresh.clone());
            let difference = decoder.difference();
            assert_eq!(difference.remote_only, sorted(items(seed, changed, changed, 1)));
            assert_eq!(difference.local_only, sorted(items(seed, changed, changed, 2)));
            assert_eq!(difference.documents().len() as u64, changed);
            let mut one_by_one = fresh;
            while !one_by_one.is_decoded() {
                one_by_one.add(&encoder.symbols(one_by_one.symbols(), 1).unwrap()).unwrap();
            }
            let needed = one_by_one.symbols();
            for (sum, value) in total.iter_mut().zip([decoder.symbols(), needed, round_trips]) {
                *sum += value;
            }
        }
        total.map(|sum| f64::from(sum) / seeds as f64)
    }

    fn sorted(items: impl Iterator<Item = RepairItem>) -> Vec<RepairItem> {
        items.collect::<BTreeSet<_>>().into_iter().collect()
    }

    #[test]
    fn fifty_of_five_thousand_documents_take_less_than_200_symbols() {
        let [asked, needed, round_trips] = figures(50, 5_000, 50);
        assert!(asked < 200.0 && needed < 160.0 && round_trips <= 8.0, "{asked} {needed}");
    }

    #[test]
    fn few_and_many_differences_are_found_in_a_large_set() {
        assert_eq!(figures(1, 50_000, 0), [32.0, 1.0, 1.0]);
        assert_eq!(figures(2, 50_000, 1)[0], 32.0);
        assert!(figures(1, 50_000, 500)[0] < 2_000.0);
    }

    #[test]
    fn equal_sets_decode_from_the_first_batch() {
        for len in [0, 1, 5_000] {
            assert_eq!(figures(1, len, 0)[2], 1.0);
        }
        assert!(!RepairDecoder::new(std::iter::empty()).is_decoded());
    }

    #[test]
    fn sets_of_different_size_are_told_apart_both_ways() {
        for (remote, local) in [(100, 0), (0, 100), (130, 100), (100, 130)] {
            let decoder = RepairDecoder::new(items(1, local, 0, 0));
            let (_, decoder) = repair(&mut RepairEncoder::new(items(1, remote, 0, 0)), decoder);
            let only = |of: u64, not_of: u64| sorted(items(1, of, 0, 0).skip(not_of as usize));
            let difference = decoder.difference();
            assert_eq!(difference.remote_only, only(remote, local));
            assert_eq!(difference.local_only, only(local, remote));
        }
    }

    #[test]
    fn symbols_come_in_order_and_within_limits() {
        let mut encoder = RepairEncoder::new(items(1, 3, 0, 0));
        let wrong = RepairError::OutOfOrder { asked: 1, produced: 0 };
        assert_eq!(encoder.symbols(1, 1), Err(wrong));
        assert_eq!(encoder.symbols(0, REPAIR_SYMBOLS_MAX + 1), Err(RepairError::TooMany));
        for from in (0..REPAIR_SYMBOLS_TOTAL_MAX).step_by(REPAIR_SYMBOLS_MAX as usize) {
            assert!(encoder.symbols(from, REPAIR_SYMBOLS_MAX).is_ok());
        }
        assert_eq!(encoder.produced(), REPAIR_SYMBOLS_TOTAL_MAX);
        assert_eq!(encoder.symbols(encoder.produced(), 1), Err(RepairError::TooMany));
    }

    #[test]
    fn the_batches_a_repair_is_cut_into_do_not_change_its_symbols() {
        let encoder = RepairEncoder::new(items(1, 100, 0, 0));
        let whole = encoder.clone().symbols(0, 90).unwrap();
        let mut parts = encoder;
        let cut =
            [(0, 1), (1, 0), (1, 31), (32, 58)].map(|(from, n)| parts.symbols(from, n).unwrap());
        assert_eq!(cut.concat(), whole);
    }

    #[test]
    fn symbols_are_frozen() {
        let packed = RepairEncoder::new(items(1, 1_000, 0, 0)).symbols(0, 1_000).unwrap();
        let hex: String =
            Sha256::digest(&packed).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "4a6e9ad69de92cea8c958596f65ce95265880e4df075939f397ea7a9a92db14c");
    }

    #[test]
    fn a_flipped_byte_is_an_error_or_never_decodes() {
        let packed = RepairEncoder::new(items(1, 50, 5, 1)).symbols(0, 32).unwrap();
        let fresh = RepairDecoder::new(items(1, 50, 5, 2));
        for (at, flip) in (0..packed.len()).flat_map(|at| [1, 2, 0x80, 0xff].map(|flip| (at, flip)))
        {
            let mut damaged = packed.clone();
            damaged[at] ^= flip;
            let mut decoder = fresh.clone();
            let outcome = decoder.add(&damaged);
            assert!(!decoder.is_decoded(), "byte {at}");
            if outcome.is_err() {
                assert_eq!(decoder.add(&packed), Err(RepairError::Corrupt));
                assert_eq!(decoder.symbols_wanted(), decoder.symbols());
            }
        }
    }

    #[test]
    fn symbols_cut_short_are_malformed_unless_whole() {
        let packed = RepairEncoder::new(items(1, 20, 0, 0)).symbols(0, 8).unwrap();
        // 20 items: every count is one byte.
        for at in 0..packed.len() {
            let outcome = RepairDecoder::new(items(1, 20, 0, 0)).add(&packed[..at]);
            assert_eq!(outcome.is_ok(), at % 33 == 0, "{at} bytes");
        }
    }

    #[test]
    fn symbols_that_contradict_themselves_are_corrupt() {
        let x = CodedItem::new(&item(1, 0, 0));
        let mut next = x.mapping;
        next.advance();
        let second = next.index as usize;
        let outcome = |local: u64, len: usize, cells: &[(usize, Cell)]| {
            let mut all = vec![Cell::default(); len];
            cells.iter().for_each(|(index, cell)| all[*index] = *cell);
            let mut packed = Vec::new();
            all.iter().for_each(|cell| cell.pack(&mut packed));
            RepairDecoder::new(items(1, local, 0, 0)).add(&packed)
        };
        let twice = Cell { count: 2, ..Cell::default() };
        let taken = Cell { count: -1, ..x.cell };
        assert_eq!(outcome(0, second, &[(0, x.cell)]), Ok(()));
        // In the symbols where its mapping puts it, and in one where it does not.
        let elsewhere = [(0, x.cell), (second, x.cell), (second + 1, x.cell)];
        assert_eq!(outcome(0, second + 2, &elsewhere), Err(RepairError::Corrupt));
        // Lacking remotely, but the local set has no such item; and the other way round.
        assert_eq!(outcome(0, 1, &[(0, taken)]), Err(RepairError::Corrupt));
        assert_eq!(outcome(1, 1, &[(0, twice)]), Err(RepairError::Corrupt));
        // A second time, once the first was taken out.
        let again = [(0, x.cell), (second, twice)];
        assert_eq!(outcome(0, second + 1, &again), Err(RepairError::Corrupt));
    }

    #[test]
    fn random_symbols_never_decode_and_never_panic() {
        let mut random = Mapping { random: 1, index: 0 };
        for _ in 0..200 {
            let mut decoder = RepairDecoder::new(items(1, 20, 0, 0));
            let mut packed = Vec::new();
            for _ in 0..64 {
                let count = unzigzag(random.next_random() >> (random.next_random() % 64));
                let some = CodedItem::new(&item(1, random.next_random() % 40, 0));
                Cell { count: if count % 2 == 0 { count } else { count.signum() }, ..some.cell }
                    .pack(&mut packed);
            }
            let _ = decoder.add(&packed);
            assert!(!decoder.is_decoded());
        }
    }

    #[test]
    fn symbols_beyond_the_limit_are_refused() {
        let zeros = vec![0; 33 * (REPAIR_SYMBOLS_TOTAL_MAX as usize + 1)];
        let mut decoder = RepairDecoder::new(items(1, 1, 0, 0));
        assert_eq!(decoder.add(&zeros), Err(RepairError::TooMany));
        let mut decoder = RepairDecoder::new(items(1, 1, 0, 0));
        let mut wanted = vec![];
        while decoder.symbols_wanted() > decoder.symbols() {
            wanted.push(decoder.symbols_wanted());
            let count = decoder.symbols_wanted() - decoder.symbols();
            // A cell that this decoder has no way to read off.
            let cell = Cell { sum: [1; 24], check: 1, count: 7 };
            let mut packed = Vec::new();
            (0..count).for_each(|_| cell.pack(&mut packed));
            decoder.add(&packed).unwrap();
        }
        assert_eq!(wanted[..4], [32, 41, 53, 68]);
        assert_eq!(wanted.last(), Some(&REPAIR_SYMBOLS_TOTAL_MAX));
    }

    /// `cargo test --release -p rejoin-core repair_cost -- --ignored --nocapture`
    #[test]
    #[ignore = "prints figures"]
    fn repair_cost() {
        for (len, changed) in [(5_000, 1), (5_000, 10), (5_000, 50), (50_000, 500), (50_000, 2_000)]
        {
            let [asked, needed, trips] = figures(50_000 / len * 5, len, changed);
            let each = needed / (2 * changed) as f64;
            println!(
                "{changed} of {len}: asked {asked} needed {needed} ({each:.2} each) in {trips}"
            );
        }
        for len in [5_000, 100_000] {
            let start = std::time::Instant::now();
            let mut encoder = RepairEncoder::new(items(1, len, 0, 0));
            let built = start.elapsed();
            let bytes = encoder.symbols(0, 200).unwrap().len();
            println!(
                "{len}: built {built:?}, 200 symbols {bytes} bytes {:?}",
                start.elapsed() - built
            );
        }
    }
}
