//! Documents of which changes were lost to damage and not brought back: as long as there is one, no
//! replica is told that it holds everything, for nobody knows who else had the change.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};
use redb::{Durability, ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};
use rejoin_core::{ChangeGraph, ChangeHash, DocumentId, ShortHash, SpaceName, heads_hash};

use super::tables::{LOSSES, SPACES, SpaceRow, encode};
use super::{ChangeStore, StoreError};

/// What a document lost to damage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct LossRow {
    /// The lost changes of which something tells: their own rows, or changes that build on them.
    #[n(0)]
    hashes: Vec<ChangeHash>,
    /// The heads that the document had, where other changes were lost as well: it must have been in
    /// these states again.
    #[n(1)]
    states: Vec<ShortHash>,
    /// The number of changes that were kept: no state before them is one to come.
    #[n(2)]
    kept: u32,
    /// The time at which a relay found the damage, in milliseconds since 1970; `None` if a salvage
    /// did.
    #[n(3)]
    found_ms: Option<u64>,
}

/// A document of which changes were lost and not brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The space.
    pub space: SpaceName,
    /// The document.
    pub document: DocumentId,
    /// The changes of which something tells.
    pub changes: u64,
    /// Whether there were more of which nothing does.
    pub more: bool,
    /// The time at which the relay found it, in milliseconds since 1970; `None` if a salvage did.
    pub found_ms: Option<u64>,
}

impl LossRow {
    /// The changes of these hashes were lost; `state` is what the heads were, if more were.
    pub(super) fn new(
        hashes: BTreeSet<ChangeHash>,
        state: Option<ShortHash>,
        kept: usize,
        found_ms: Option<u64>,
    ) -> Self {
        // A graph counts its changes in as many bits.
        let kept = kept as u32;
        Self { hashes: Vec::from_iter(hashes), states: Vec::from_iter(state), kept, found_ms }
    }

    pub(super) fn decode(row: &[u8]) -> Option<Self> {
        minicbor::decode(row).ok()
    }

    /// Adds what was lost before.
    fn join(&mut self, before: &Self) {
        let hashes: BTreeSet<ChangeHash> =
            before.hashes.iter().chain(&self.hashes).copied().collect();
        self.hashes = Vec::from_iter(hashes);
        self.states.extend(&before.states);
        self.states.sort_unstable();
        self.states.dedup();
        self.kept = self.kept.min(before.kept);
        self.found_ms = before.found_ms.or(self.found_ms);
    }

    /// Whether all of it is in the graph again.
    fn is_back(&self, graph: &ChangeGraph) -> bool {
        self.hashes.iter().all(|hash| graph.contains(hash))
            && (self.states.is_empty() || self.has_passed(graph))
    }

    /// Whether the graph holds each of the states: it was in it while it grew, or, as most states have
    /// one head, has that change and so all that it builds on. A state of several heads beside which
    /// others wrote meanwhile is not recognised.
    fn has_passed(&self, graph: &ChangeGraph) -> bool {
        let mut left = BTreeSet::from_iter(self.states.iter().copied());
        let mut heads = BTreeSet::new();
        for rank in (0_u32..).take(graph.len()) {
            for dep in graph.deps_of(rank) {
                heads.remove(&graph.hash(*dep));
            }
            heads.insert(graph.hash(rank));
            if rank + 1 >= self.kept {
                left.remove(&heads_hash(&[graph.hash(rank)]).short());
                left.remove(&heads_hash(&Vec::from_iter(heads.iter().copied())).short());
            }
        }
        left.is_empty()
    }
}

/// The losses that are known, by the numbers of their spaces.
pub(super) type Losses = BTreeMap<(u32, DocumentId), LossRow>;

pub(super) fn read(transaction: &ReadTransaction) -> Result<Losses, StoreError> {
    let mut losses = Losses::new();
    for entry in transaction.open_table(LOSSES)?.iter()? {
        let (key, row) = entry?;
        let (space, document) = key.value();
        // A row that cannot be read still says that something was lost, and not what would be all.
        let unknown = || LossRow { states: vec![ShortHash([0; 8])], ..LossRow::default() };
        let row = LossRow::decode(row.value()).unwrap_or_else(unknown);
        losses.insert((space, DocumentId(*document)), row);
    }
    Ok(losses)
}

/// Writes what a document lost, with what it lost before, and returns that.
pub(super) fn write(
    transaction: &WriteTransaction,
    space: u32,
    document: &DocumentId,
    mut row: LossRow,
) -> Result<LossRow, StoreError> {
    let mut losses = transaction.open_table(LOSSES)?;
    let before = losses.get((space, &document.0))?.and_then(|row| LossRow::decode(row.value()));
    if let Some(before) = before {
        row.join(&before);
    }
    losses.insert((space, &document.0), encode(&row).as_slice())?;
    Ok(row)
}

impl ChangeStore {
    /// The documents of a space of which changes were lost and not brought back.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) fn documents_lost(&mut self, space: &SpaceName) -> Result<u64, StoreError> {
        if self.damage.losses.is_empty() {
            return Ok(0);
        }
        let Some(number) = self.space_number(space)? else { return Ok(0) };
        let all = (number, DocumentId([0; 16]))..=(number, DocumentId([u8::MAX; 16]));
        Ok(self.damage.losses.range(all).count() as u64)
    }

    /// Whether a change of a document is known to be lost, and not brought back.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) fn has_lost(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
        change: &ChangeHash,
    ) -> Result<bool, StoreError> {
        if self.damage.losses.is_empty() {
            return Ok(false);
        }
        let Some(number) = self.space_number(space)? else { return Ok(false) };
        let loss = self.damage.losses.get(&(number, *document));
        Ok(loss.is_some_and(|loss| loss.hashes.contains(change)))
    }

    /// The number of documents of which changes were lost and not brought back.
    pub(crate) fn losses_len(&self) -> usize {
        self.damage.losses.len()
    }

    /// All of them.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn losses(&self) -> Result<Vec<Loss>, StoreError> {
        let mut losses = Vec::new();
        for entry in self.database.begin_read()?.open_table(SPACES)?.iter()? {
            let (name, row) = entry?;
            let number = SpaceRow::decode(name.value(), row.value())?.number;
            // Only checked names were ever written.
            let Ok(space) = SpaceName::new(name.value()) else { continue };
            let of_space = self.damage.losses.iter().filter(|((space, _), _)| *space == number);
            losses.extend(of_space.map(|((_, document), row)| Loss {
                space: space.clone(),
                document: *document,
                changes: row.hashes.len() as u64,
                more: !row.states.is_empty(),
                found_ms: row.found_ms,
            }));
        }
        Ok(losses)
    }

    /// Lets the next commit forget the losses that it makes good, and says of which documents.
    pub(crate) fn stage_brought_back(&mut self) -> Vec<DocumentId> {
        let mut back = Vec::new();
        if self.damage.losses.is_empty() {
            return back;
        }
        for number in self.batch.documents.keys() {
            let Some(cached) = self.cache.get(*number) else { continue };
            let key = (cached.row.space, cached.row.id);
            if self.damage.losses.get(&key).is_some_and(|loss| loss.is_back(&cached.graph)) {
                self.damage.losses.remove(&key);
                self.batch.brought_back.push(key);
                back.push(key.1);
            }
        }
        back
    }

    /// An operator accepts that changes of a document are lost for good. `false` if none are known
    /// to be.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub(crate) fn accept_loss(
        &mut self,
        space: &SpaceName,
        document: DocumentId,
    ) -> Result<bool, StoreError> {
        let Some(number) = self.space_number(space)? else { return Ok(false) };
        if !self.damage.losses.contains_key(&(number, document)) {
            return Ok(false);
        }
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.open_table(LOSSES)?.remove((number, &document.0))?;
        transaction.commit()?;
        self.damage.losses.remove(&(number, document));
        Ok(true)
    }
}
