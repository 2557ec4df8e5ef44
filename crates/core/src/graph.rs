//! The changes of one document without their operations: the actor of each and the changes it
//! builds on.

mod entries;
mod error;

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use error::GraphError;

use crate::change::Change;
use crate::digest::{HeadsHash, heads_hash};
use crate::history::{History, KnownChange, LastChange};
use crate::limits;
use crate::{ActorId, ChangeHash, ShortHash};

/// The change graph of one document, as the relay keeps it in memory and in rows.
///
/// A change is known by its *rank*: its place in the order of insertion, from 0. A change enters
/// only after everything it depends on, so a dependency always has the lower rank and ranks in
/// ascending order are an order in which the changes can be applied.
///
/// No change is ever removed: a reader may name any change as the one it has, and a change that
/// arrives twice must be recognised, long after its bytes were folded into a snapshot.
#[derive(Clone, Default)]
pub struct ChangeGraph {
    nodes: Vec<Node>,
    /// Ranks of the dependencies of every node, one node after the other, each node's descending.
    deps: Vec<u32>,
    /// First 8 bytes of a hash, and the rank. It is an ordered set rather than a hash table because
    /// the author of changes chooses their hashes, and could aim them at one bucket.
    index: BTreeSet<(u64, u32)>,
    heads: BTreeSet<u32>,
    max_op: u64,
    /// In the order of their first change, which the row format relies on.
    actors: Vec<Actor>,
    actor_index: BTreeMap<ActorId, u32>,
}

/// One change of a document, as it enters the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphEntry {
    /// Its identity.
    pub hash: ChangeHash,
    /// The actor that made it.
    pub actor: ActorId,
    /// Its place among that actor's changes, from 1.
    pub seq: u64,
    /// The counter of its first operation.
    pub start_op: u64,
    /// The counter of its last operation; `start_op - 1` when it has none.
    pub max_op: u64,
    /// The changes it builds on, in any order.
    pub deps: Vec<ChangeHash>,
}

impl From<&Change> for GraphEntry {
    /// The facts of a change that the graph keeps.
    fn from(change: &Change) -> Self {
        Self {
            hash: change.hash(),
            actor: change.actor().clone(),
            seq: change.seq(),
            start_op: change.start_op(),
            max_op: change.max_op(),
            deps: change.deps().to_vec(),
        }
    }
}

/// The changes that a reader lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// Every change that is neither among the known ones the reader named nor an ancestor of one,
    /// ascending, so in an order in which they can be applied.
    pub ranks: Vec<u32>,
    /// The reader named a hash that is no change here, or more than one: it holds a change that
    /// this graph does not, or `ranks` may repeat changes that it has.
    pub unknown: bool,
}

impl ChangeGraph {
    /// A graph without changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change and returns its rank.
    ///
    /// # Errors
    /// A dependency is unknown: insert that one first. The change is known already: nothing is
    /// left to do. Otherwise the change cannot be kept. The graph is as it was.
    pub fn insert(&mut self, entry: GraphEntry) -> Result<u32, GraphError> {
        let hash = entry.hash;
        let rank_of =
            |dep: &_| self.rank(dep).ok_or(GraphError::UnknownDependency { hash, dep: *dep });
        let deps = entry.deps.iter().map(rank_of).collect::<Result<Vec<_>, _>>()?;
        self.check_room_for(&hash, deps.len())?;
        let actor = match self.actor_index.get(&entry.actor) {
            Some(actor) => *actor,
            None => self.add_actor(entry.actor)?,
        };
        let GraphEntry { seq, start_op, max_op, .. } = entry;
        Ok(self.push(Node { hash, seq, start_op, max_op, actor, deps_end: 0 }, deps))
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether this change is known.
    pub fn contains(&self, hash: &ChangeHash) -> bool {
        self.rank(hash).is_some()
    }

    /// The rank of a change, if it is known.
    pub fn rank(&self, hash: &ChangeHash) -> Option<u32> {
        self.ranks_of_prefix(&hash.short()).find(|rank| self.node(*rank).hash == *hash)
    }

    /// The change of this rank.
    ///
    /// # Panics
    /// No change has this rank.
    pub fn hash(&self, rank: u32) -> ChangeHash {
        self.node(rank).hash
    }

    /// The changes that no other builds on, sorted.
    pub fn heads(&self) -> Vec<ChangeHash> {
        let mut heads: Vec<_> = self.heads.iter().map(|rank| self.hash(*rank)).collect();
        heads.sort_unstable();
        heads
    }

    /// The number of changes that no other builds on.
    pub fn heads_len(&self) -> usize {
        self.heads.len()
    }

    /// Whether no change builds on this one.
    pub fn is_head(&self, hash: &ChangeHash) -> bool {
        self.rank(hash).is_some_and(|rank| self.heads.contains(&rank))
    }

    /// The highest counter of an operation; 0 without any.
    pub fn max_op(&self) -> u64 {
        self.max_op
    }

    /// The ranks of the changes that no other builds on, ascending.
    pub fn head_ranks(&self) -> impl Iterator<Item = u32> {
        self.heads.iter().copied()
    }

    /// The ranks that no other of `ranks` builds on, ascending.
    ///
    /// # Panics
    /// One of them is no rank of a change.
    pub fn maximal(&self, ranks: &[u32]) -> Vec<u32> {
        let mut before = RankSet::of(self.len());
        ranks
            .iter()
            .for_each(|rank| self.deps_of(*rank).iter().for_each(|dep| before.insert(*dep)));
        for rank in (0..ranks.iter().max().copied().unwrap_or(0)).rev() {
            if before.contains(rank) {
                self.deps_of(rank).iter().for_each(|dep| before.insert(*dep));
            }
        }
        let latest: BTreeSet<u32> = ranks.iter().copied().collect();
        latest.into_iter().filter(|rank| !before.contains(*rank)).collect()
    }

    /// The ranks a change builds on, descending.
    ///
    /// # Panics
    /// No change has this rank.
    pub fn deps_of(&self, rank: u32) -> &[u32] {
        let start = rank.checked_sub(1).map_or(0, |before| self.node(before).deps_end);
        &self.deps[start as usize..self.node(rank).deps_end as usize]
    }

    /// One hash over all heads.
    pub fn heads_hash(&self) -> HeadsHash {
        heads_hash(&self.heads())
    }

    /// The unknown ones of `deps`, in the order given.
    pub fn missing(&self, deps: &[ChangeHash]) -> Vec<ChangeHash> {
        deps.iter().filter(|dep| !self.contains(dep)).copied().collect()
    }

    /// The changes that a reader lacks who has the changes `have`, which need not be heads, and all
    /// before them.
    ///
    /// Walks back from the heads and from `have` together, latest first, and stops once only
    /// changes the reader holds are left. A reader that lacks little costs little.
    pub fn since(&self, have: &[ShortHash]) -> Since {
        let known: Vec<u32> = have.iter().filter_map(|short| self.rank_of_short(short)).collect();
        let unknown = known.len() < have.len();
        Since { ranks: self.lacking(&known), unknown }
    }

    /// The changes `of` and all changes they build on. Unknown hashes are passed over.
    pub fn ancestors(&self, of: &[ChangeHash]) -> RankSet {
        let mut set = RankSet::of(self.len());
        let roots: Vec<u32> = of.iter().filter_map(|hash| self.rank(hash)).collect();
        roots.iter().for_each(|rank| set.insert(*rank));
        for rank in (0..roots.iter().max().map_or(0, |highest| highest + 1)).rev() {
            if set.contains(rank) {
                self.deps_of(rank).iter().for_each(|dep| set.insert(*dep));
            }
        }
        set
    }

    /// Bytes this graph takes in memory, near enough for a cache's budget.
    pub fn memory_bytes(&self) -> usize {
        let actor_bytes = |actor: &Actor| 2 * actor.id.0.len() + ACTOR_MEMORY_BYTES;
        size_of::<Self>()
            + self.nodes.capacity() * size_of::<Node>()
            + self.deps.capacity() * size_of::<u32>()
            + self.index.len() * INDEX_MEMORY_BYTES
            + self.heads.len() * HEAD_MEMORY_BYTES
            + self.actors.iter().map(actor_bytes).sum::<usize>()
    }

    fn check_room_for(&self, hash: &ChangeHash, deps: usize) -> Result<(), GraphError> {
        if self.contains(hash) {
            return Err(GraphError::Known { hash: *hash });
        }
        let room = |len: usize, more: usize| len.saturating_add(more) < u32::MAX as usize;
        if !room(self.nodes.len(), 1) || !room(self.deps.len(), deps) {
            return Err(GraphError::Full { hash: *hash });
        }
        Ok(())
    }

    /// Takes in an actor that makes its first change now.
    fn add_actor(&mut self, id: ActorId) -> Result<u32, GraphError> {
        if id.0.len() > limits::ACTOR_BYTES_MAX {
            return Err(GraphError::ActorTooLong { len: id.0.len() });
        }
        let actor = self.actors.len() as u32;
        self.actor_index.insert(id.clone(), actor);
        let last = LastChange { seq: 0, max_op: 0 };
        self.actors.push(Actor { id, first_rank: self.next_rank(), last });
        Ok(actor)
    }

    fn push(&mut self, mut node: Node, mut deps: Vec<u32>) -> u32 {
        let rank = self.next_rank();
        deps.sort_unstable_by_key(|dep| Reverse(*dep));
        deps.dedup();
        for dep in &deps {
            self.heads.remove(dep);
        }
        self.heads.insert(rank);
        self.max_op = self.max_op.max(node.max_op);
        self.index.insert((prefix(&node.hash.short()), rank));
        let last = &mut self.actors[node.actor as usize].last;
        last.seq = last.seq.max(node.seq);
        last.max_op = last.max_op.max(node.max_op);
        reserve_a_quarter(&mut self.deps, deps.len());
        self.deps.extend_from_slice(&deps);
        node.deps_end = self.deps.len() as u32;
        reserve_a_quarter(&mut self.nodes, 1);
        self.nodes.push(node);
        rank
    }

    /// The changes that are neither among `has` nor ancestors of one, ascending.
    ///
    /// # Panics
    /// One of `has` is no rank of a change.
    pub fn lacking(&self, has: &[u32]) -> Vec<u32> {
        if has.is_empty() {
            return (0..self.next_rank()).collect();
        }
        let mut frontier = Frontier::default();
        self.heads.iter().for_each(|head| frontier.reach(*head, false));
        has.iter().for_each(|rank| frontier.reach(*rank, true));
        let mut lacking = Vec::new();
        while let Some((rank, has_it)) = frontier.pop() {
            if !has_it {
                lacking.push(rank);
            }
            self.deps_of(rank).iter().for_each(|dep| frontier.reach(*dep, has_it));
        }
        lacking.reverse();
        lacking
    }

    fn rank_of_short(&self, short: &ShortHash) -> Option<u32> {
        let mut ranks = self.ranks_of_prefix(short);
        ranks.next().filter(|_| ranks.next().is_none())
    }

    fn ranks_of_prefix(&self, short: &ShortHash) -> impl Iterator<Item = u32> {
        let prefix = prefix(short);
        self.index.range((prefix, 0)..=(prefix, u32::MAX)).map(|(_, rank)| *rank)
    }

    fn next_rank(&self) -> u32 {
        self.nodes.len() as u32
    }

    fn node(&self, rank: u32) -> &Node {
        &self.nodes[rank as usize]
    }
}

/// Rows for a store.
impl ChangeGraph {
    /// The change of this rank as a row for a store, about 45 bytes.
    ///
    /// | bytes | what |
    /// |---|---|
    /// | 1 | version, 1 |
    /// | 32 | hash |
    /// | varint | actor, counting from 0 in the order of first changes; at an actor's first change its length (one byte) and bytes follow |
    /// | varint | sequence number |
    /// | varint | number of dependencies |
    /// | varints | ranks of the dependencies, descending: each as its distance from the one before, the first from this change |
    /// | varint | first operation less the one expected (the highest of the dependencies, plus one), zigzag |
    /// | varint | number of operations |
    /// | 4 | CRC-32 of the rank (4 bytes) and all the above, little endian |
    ///
    /// The rank is in the checksum because a row says little by itself: a row that is lost or in
    /// the wrong place would give all that follow other dependencies, and no error.
    ///
    /// # Panics
    /// No change has this rank.
    pub fn encode_entry(&self, rank: u32) -> Vec<u8> {
        let node = self.node(rank);
        let mut row = Vec::with_capacity(64);
        row.push(ROW_VERSION);
        row.extend_from_slice(&node.hash.0);
        self.encode_actor(rank, node.actor, &mut row);
        put_varint(&mut row, node.seq);
        self.encode_deps(rank, &mut row);
        let expected = self.expected_start_op(self.deps_of(rank));
        put_varint(&mut row, zigzag(node.start_op.wrapping_sub(expected).cast_signed()));
        put_varint(&mut row, node.max_op.wrapping_add(1).wrapping_sub(node.start_op));
        let sum = row_checksum(rank, &row);
        row.extend_from_slice(&sum);
        row
    }

    /// Appends a change from the row [`encode_entry`](Self::encode_entry) made of it. Rows refer
    /// back to earlier ones, so they are read in the order of their ranks, from 0.
    ///
    /// # Errors
    /// The row is damaged, of another version, or not the one that follows. The graph is as it
    /// was; rebuild it from the changes themselves.
    pub fn push_encoded(&mut self, row: &[u8]) -> Result<u32, GraphError> {
        let parsed = self.parse_row(row)?;
        self.check_room_for(&parsed.node.hash, parsed.deps.len())?;
        if let Some(actor) = parsed.new_actor {
            self.add_actor(actor)?;
        }
        Ok(self.push(parsed.node, parsed.deps))
    }

    fn encode_actor(&self, rank: u32, index: u32, row: &mut Vec<u8>) {
        put_varint(row, index.into());
        let actor = &self.actors[index as usize];
        if actor.first_rank == rank {
            row.push(actor.id.0.len() as u8);
            row.extend_from_slice(&actor.id.0);
        }
    }

    fn encode_deps(&self, rank: u32, row: &mut Vec<u8>) {
        let deps = self.deps_of(rank);
        put_varint(row, deps.len() as u64);
        let mut from = rank;
        for dep in deps {
            put_varint(row, (from - dep).into());
            from = *dep;
        }
    }

    fn parse_row(&self, row: &[u8]) -> Result<ParsedRow, GraphError> {
        let rank = self.next_rank();
        let damaged = || GraphError::RowDamaged { rank };
        match row.first() {
            Some(&ROW_VERSION) => {}
            Some(&found) => return Err(GraphError::RowVersion { rank, found }),
            None => return Err(damaged()),
        }
        let (body, sum) = row.split_last_chunk::<4>().ok_or_else(damaged)?;
        if row_checksum(rank, body) != *sum {
            return Err(damaged());
        }
        self.parse_row_body(rank, &body[1..]).ok_or_else(damaged)
    }

    /// A row with the right checksum is parsed as carefully as any other, for the checksum finds
    /// accidents and not intent.
    fn parse_row_body(&self, rank: u32, mut body: &[u8]) -> Option<ParsedRow> {
        let rest = &mut body;
        let hash = ChangeHash(*take_bytes(rest, 32)?.first_chunk()?);
        let (actor, new_actor) = self.parse_actor(rest)?;
        let seq = take_varint(rest)?;
        let deps = parse_deps(rank, rest)?;
        let offset = unzigzag(take_varint(rest)?);
        let start_op = self.expected_start_op(&deps).wrapping_add_signed(offset);
        let max_op = start_op.wrapping_add(take_varint(rest)?).wrapping_sub(1);
        let node = Node { hash, seq, start_op, max_op, actor, deps_end: 0 };
        rest.is_empty().then_some(ParsedRow { node, new_actor, deps })
    }

    fn parse_actor(&self, rest: &mut &[u8]) -> Option<(u32, Option<ActorId>)> {
        let index = u32::try_from(take_varint(rest)?).ok()?;
        if (index as usize) < self.actors.len() {
            return Some((index, None));
        }
        let len = take_bytes(rest, 1)?[0];
        let actor = ActorId(take_bytes(rest, len.into())?.to_vec());
        let is_new = index as usize == self.actors.len() && !self.actor_index.contains_key(&actor);
        is_new.then_some((index, Some(actor)))
    }

    /// The counter an author that has seen just `deps` begins with.
    fn expected_start_op(&self, deps: &[u32]) -> u64 {
        let highest = deps.iter().map(|dep| self.node(*dep).max_op).max();
        highest.unwrap_or(0).wrapping_add(1)
    }
}

impl History for ChangeGraph {
    fn change(&self, hash: &ChangeHash) -> Option<KnownChange> {
        let node = self.node(self.rank(hash)?);
        let actor = self.actors[node.actor as usize].id.clone();
        Some(KnownChange { actor, seq: node.seq, start_op: node.start_op, max_op: node.max_op })
    }

    fn last(&self, actor: &ActorId) -> Option<LastChange> {
        self.actor_index.get(actor).map(|index| self.actors[*index as usize].last)
    }
}

impl fmt::Debug for ChangeGraph {
    /// Without the changes, of which there may be hundreds of thousands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeGraph")
            .field("changes", &self.nodes.len())
            .field("actors", &self.actors.len())
            .field("heads", &self.heads())
            .finish()
    }
}

/// A set of ranks, one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankSet {
    words: Vec<u64>,
}

impl RankSet {
    /// An empty set with room for the ranks of `len` changes.
    pub(crate) fn of(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)] }
    }

    /// Whether the change of this rank is in the set.
    pub fn contains(&self, rank: u32) -> bool {
        self.words.get(rank as usize / 64).is_some_and(|word| word >> (rank % 64) & 1 == 1)
    }

    /// The number of changes in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The ranks in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.words.len() as u32 * 64).filter(|rank| self.contains(*rank))
    }

    pub(crate) fn insert(&mut self, rank: u32) {
        self.words[rank as usize / 64] |= 1 << (rank % 64);
    }
}

/// 64 bytes: one cache line, and with its index entry and one dependency about 100.
#[derive(Clone, Copy)]
struct Node {
    hash: ChangeHash,
    seq: u64,
    start_op: u64,
    max_op: u64,
    actor: u32,
    /// The end of this node's dependencies in `ChangeGraph::deps`; they begin at the end of those
    /// of the node before.
    deps_end: u32,
}

#[derive(Clone)]
struct Actor {
    id: ActorId,
    /// The row of this change carries the id.
    first_rank: u32,
    last: LastChange,
}

struct ParsedRow {
    node: Node,
    new_actor: Option<ActorId>,
    deps: Vec<u32>,
}

/// The changes a walk back has reached and not yet passed, and whether the reader has each.
#[derive(Default)]
struct Frontier {
    reached: BTreeMap<u32, bool>,
    /// The number of them that the reader lacks. At 0 the walk can only meet changes that the
    /// reader has.
    lacking: usize,
}

impl Frontier {
    fn reach(&mut self, rank: u32, has_it: bool) {
        match self.reached.entry(rank) {
            Entry::Vacant(entry) => {
                entry.insert(has_it);
                self.lacking += usize::from(!has_it);
            }
            Entry::Occupied(mut entry) if has_it && !entry.get() => {
                entry.insert(true);
                self.lacking -= 1;
            }
            Entry::Occupied(_) => {}
        }
    }

    /// The latest change reached. Everything that builds on it was passed before, so whether
    /// the reader has it is settled.
    fn pop(&mut self) -> Option<(u32, bool)> {
        if self.lacking == 0 {
            return None;
        }
        let (rank, has_it) = self.reached.pop_last()?;
        self.lacking -= usize::from(!has_it);
        Some((rank, has_it))
    }
}

/// Grows by a quarter rather than by double, because the largest documents fill the memory.
fn reserve_a_quarter<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more.max(vec.len() / 4).max(4));
    }
}

fn prefix(short: &ShortHash) -> u64 {
    u64::from_be_bytes(short.0)
}

fn parse_deps(rank: u32, rest: &mut &[u8]) -> Option<Vec<u32>> {
    let count = take_varint(rest)?;
    let mut deps = Vec::new();
    let mut from = rank;
    for _ in 0..count {
        let distance = u32::try_from(take_varint(rest)?).ok().filter(|distance| *distance > 0)?;
        from = from.checked_sub(distance)?;
        deps.push(from);
    }
    Some(deps)
}

fn row_checksum(rank: u32, body: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(&rank.to_le_bytes());
    crc.update(body);
    crc.sum().to_le_bytes()
}

fn take_bytes<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

/// Appends `value` in groups of 7 bits, lowest first, the top bit set on all but the last.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number that [`put_varint`] wrote; `None` if it is cut short, over 64 bits, or longer
/// than need be.
pub(crate) fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take_bytes(rest, 1)?[0];
        let group = u64::from(byte & 0x7f);
        if (group << shift) >> shift != group || (byte == 0 && shift > 0) {
            return None;
        }
        value |= group << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Small numbers of either sign as small numbers without one.
pub(crate) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

const ROW_VERSION: u8 = 1;

/// Bytes of an entry in a B-tree of 16-byte keys, about two thirds full.
const INDEX_MEMORY_BYTES: usize = 28;
const HEAD_MEMORY_BYTES: usize = 8;
/// Its record, its index entry and the two allocations of its id.
const ACTOR_MEMORY_BYTES: usize = 136;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_one_spelling() {
        for value in [0, 1, 127, 128, 300, u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(take_varint(&mut &bytes[..]), Some(value));
            assert_eq!(take_varint(&mut &bytes[..bytes.len() - 1]), None);
            assert_eq!(unzigzag(zigzag(value.cast_signed())), value.cast_signed());
        }
        assert_eq!(take_varint(&mut &[0x80, 0][..]), None);
        assert_eq!(take_varint(&mut &[0xff; 11][..]), None);
    }
}
