//! The changes that wait for the next group commit.

use std::collections::BTreeMap;

use redb::Durability;
use rejoin_core::change::Place;
use rejoin_core::{ChangeHash, DocumentId, GraphEntry, HeadsHash, SpaceName};

use super::authors::StagedAuthors;
use super::cache::Cached;
use super::carried::CarriedRow;
use super::fold::Swap;
use super::tables::DocumentRow;
use super::uploads::UploadWrites;
use super::{ChangeStore, StoreError};

/// Changes that were admitted and wait for the next commit. The cached documents are ahead of the
/// database by just these.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<StagedChange>,
    pub(super) bytes: usize,
    /// By their numbers, each as the database has it.
    pub(super) documents: BTreeMap<u64, Before>,
    /// The spaces written to, each with the first position taken.
    pub(super) spaces: BTreeMap<SpaceName, u64>,
    /// The number of new documents in each space, by the space's number.
    pub(super) new_documents: BTreeMap<u32, u64>,
    pub(super) swaps: Vec<Swap>,
    pub(super) uploads: UploadWrites,
    /// Changes that were orphans and are not any more: space, document, and the position they had.
    pub(super) taken_back: Vec<(u32, DocumentId, u64)>,
    /// Documents that have again what they had lost: (space, document).
    pub(super) brought_back: Vec<(u32, DocumentId)>,
    /// Who the authors of actors are.
    pub(super) authors: StagedAuthors,
    /// Changes that come from others than their authors: document, change, and who brought it.
    pub(super) carried: Vec<(u64, ChangeHash, CarriedRow)>,
}

#[derive(Debug)]
pub(super) struct StagedChange {
    /// The numbers of its space, collection and document.
    pub(super) space: u32,
    pub(super) collection: u32,
    pub(super) document: u64,
    pub(super) position: u64,
    pub(super) chunk: Vec<u8>,
    pub(super) graph_row: Vec<u8>,
}

/// A document as the database has it, before this batch.
#[derive(Debug)]
pub(super) struct Before {
    /// Position of its last change, and its heads; `None` if it is new.
    pub(super) known: Option<(u64, HeadsHash)>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.swaps.is_empty() && self.uploads.is_empty()
    }

    pub(super) fn holds(&self, document: u64) -> bool {
        self.documents.contains_key(&document)
    }
}

impl ChangeStore {
    /// Takes an admitted change into the next commit and returns its position. `chunk` is the bytes
    /// that `entry` describes.
    ///
    /// # Errors
    /// The store could not read, or the change does not follow the document's graph: admit it
    /// first.
    pub fn stage(
        &mut self,
        place: &Place<'_>,
        entry: GraphEntry,
        chunk: Vec<u8>,
    ) -> Result<u64, StoreError> {
        let position = self.cached_or_new_space(place.space)?.row.position + 1;
        let document = self.hold(place, position)?;
        let cached = self.cache.get(document).ok_or(StoreError::Failed)?;
        let known = (cached.row.changes > 0).then_some((cached.row.last, cached.row.heads));
        let inserted = cached.graph.insert(entry);
        if inserted.is_err() && cached.row.changes == 0 {
            self.cache.remove(document);
        }
        let rank = inserted.map_err(|source| StoreError::Graph { document, source })?;
        let bytes = chunk.len() as u64;
        self.push(document, position, rank, chunk)?;
        if !self.batch.holds(document) {
            self.batch.documents.insert(document, Before { known });
            if known.is_none() {
                let space = self.cached_or_new_space(place.space)?.row.number;
                *self.batch.new_documents.entry(space).or_default() += 1;
            }
        }
        self.batch.spaces.entry(place.space.clone()).or_insert(position);
        let row = &mut self.cached_or_new_space(place.space)?.row;
        row.position = position;
        row.bytes = row.bytes.map(|before| before + bytes);
        Ok(position)
    }

    /// Whether the next commit is large enough, or takes the whole budget of change graphs. Graphs
    /// that it does not need leave first: a full cache is no reason to commit every document alone.
    pub fn is_batch_full(&mut self) -> bool {
        self.evict();
        self.batch.changes.len() >= BATCH_CHANGES
            || self.batch.bytes >= BATCH_BYTES
            || self.cache.is_over_budget()
    }

    /// Bytes of the changes in the next commit.
    pub fn batch_bytes(&self) -> usize {
        self.batch.bytes
    }

    /// Whether the next commit holds anything.
    pub fn is_batch_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Makes everything staged durable: when this returns `Ok`, it survives a power loss. Returns
    /// how many changes there were.
    ///
    /// # Errors
    /// Whether the commit landed is unknown. Everything in memory is dropped; reopen the store.
    pub fn commit(&mut self, unix_ms: u64) -> Result<usize, StoreError> {
        self.commit_with(unix_ms, Durability::Immediate)
    }

    /// As [`commit`](Self::commit), for a mutant that does not wait for the disk.
    pub(crate) fn commit_with(
        &mut self,
        unix_ms: u64,
        durability: Durability,
    ) -> Result<usize, StoreError> {
        if self.is_failed() {
            return Err(StoreError::Failed);
        }
        if self.batch.is_empty() {
            return Ok(0);
        }
        self.expire_uploads(unix_ms);
        let batch = std::mem::take(&mut self.batch);
        match self.write(&batch, unix_ms, durability) {
            Ok(()) => {
                batch.documents.keys().for_each(|document| self.cache.weigh(*document));
                self.uploads.committed(&batch.uploads);
                self.evict();
                Ok(batch.changes.len())
            }
            Err(error) => {
                self.fail();
                Err(error)
            }
        }
    }

    /// Puts a change that entered the graph at `rank` into the document's row and the batch.
    fn push(
        &mut self,
        document: u64,
        position: u64,
        rank: u32,
        chunk: Vec<u8>,
    ) -> Result<(), StoreError> {
        let cached = self.cache.get(document).ok_or(StoreError::Failed)?;
        cached.positions.push(position);
        cached.row.last = position;
        cached.row.changes += 1;
        cached.row.tail_bytes += chunk.len() as u64;
        let graph_row = cached.graph.encode_entry(rank);
        let DocumentRow { space, collection, .. } = cached.row;
        self.batch.bytes += chunk.len();
        let change = StagedChange { space, collection, document, position, chunk, graph_row };
        self.batch.changes.push(change);
        Ok(())
    }

    /// The number of the document, whose cached state is made if it is new.
    fn hold(&mut self, place: &Place<'_>, position: u64) -> Result<u64, StoreError> {
        if let Some(cached) = self.load(place.space, place.document)? {
            return Ok(cached.number);
        }
        let space = self.cached_or_new_space(place.space)?;
        let (number, collection) = (space.row.number, space.number_or_new(place.collection));
        // Numbers may be left out, and a document that is not kept leaves one out.
        self.numbers.documents += 1;
        let row = DocumentRow::new(number, *place.document, collection, position);
        let number = self.numbers.documents;
        let cached = Cached { number, row, graph: Default::default(), positions: Vec::new() };
        self.absent = None;
        self.cache.insert(cached);
        Ok(number)
    }
}

/// Changes after which a group commit is not made to wait for more.
const BATCH_CHANGES: usize = 4096;

/// Bytes after which a group commit is not made to wait for more.
const BATCH_BYTES: usize = 16 << 20;
