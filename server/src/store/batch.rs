//! What one group commit writes.

use std::collections::BTreeMap;

use redb::{Durability, ReadableTable, Table, WriteTransaction};
use rejoin_core::change::Place;
use rejoin_core::{CollectionName, DocumentId, Epoch, GraphEntry, HeadsHash, SetDigest, SpaceName};

use super::cache::{GraphCache, Held};
use super::fold::{self, Swap};
use super::tables::{
    CHUNKS, ChangeRow, Chunk, DIGESTS, DOCUMENTS, DocumentRow, HOURS, INLINE_BYTES_MAX, LOG,
    LogRow, OWN_ROW, SPACES, SpaceRow, encode,
};
use super::{ChangeStore, StoreError};

/// Changes that were admitted and wait for the next commit. The cached documents are ahead of the
/// database by just these.
#[derive(Debug, Default)]
pub(super) struct Batch {
    changes: Vec<StagedChange>,
    bytes: usize,
    documents: BTreeMap<DocumentId, Before>,
    /// The spaces written to, each with the first position taken.
    spaces: BTreeMap<SpaceName, u64>,
    pub(super) swaps: Vec<Swap>,
}

#[derive(Debug)]
struct StagedChange {
    document: DocumentId,
    position: u64,
    chunk: Vec<u8>,
    graph_row: Vec<u8>,
}

/// A document as the database has it, before this batch.
#[derive(Debug)]
struct Before {
    /// Position of its last change, and its heads; `None` if it is new.
    known: Option<(u64, HeadsHash)>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.swaps.is_empty()
    }

    pub(super) fn holds(&self, document: &DocumentId) -> bool {
        self.documents.contains_key(document)
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
        let position = self.space_row(place.space)?.position + 1;
        self.hold(place, position)?;
        let document = *place.document;
        let held = self.cache.get(&document).ok_or(StoreError::Failed)?;
        let known = (held.row.changes > 0).then_some((held.row.last, held.row.heads));
        let inserted = held.graph.insert(entry);
        if inserted.is_err() && held.row.changes == 0 {
            self.cache.remove(&document);
        }
        let rank = inserted.map_err(|source| StoreError::Graph { document, source })?;
        self.push(StagedChange { document, position, chunk, graph_row: Vec::new() }, rank, known)?;
        self.batch.spaces.entry(place.space.clone()).or_insert(position);
        self.space_row(place.space)?.position = position;
        Ok(position)
    }

    /// Whether the next commit is large enough.
    pub fn is_batch_full(&self) -> bool {
        self.batch.changes.len() >= BATCH_CHANGES
            || self.batch.bytes >= BATCH_BYTES
            || self.cache.is_over_budget()
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
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(0);
        }
        match self.write(&batch, unix_ms, durability) {
            Ok(()) => {
                batch.documents.keys().for_each(|document| self.cache.weigh(document));
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
        mut change: StagedChange,
        rank: u32,
        known: Option<(u64, HeadsHash)>,
    ) -> Result<(), StoreError> {
        let held = self.cache.get(&change.document).ok_or(StoreError::Failed)?;
        held.positions.push(change.position);
        held.row.last = change.position;
        held.row.changes += 1;
        held.row.tail_bytes += change.chunk.len() as u64;
        change.graph_row = held.graph.encode_entry(rank);
        self.batch.documents.entry(change.document).or_insert(Before { known });
        self.batch.bytes += change.chunk.len();
        self.batch.changes.push(change);
        Ok(())
    }

    /// Makes the document's cached state, if it is new.
    fn hold(&mut self, place: &Place<'_>, position: u64) -> Result<(), StoreError> {
        if self.load(place.document)?.is_none() {
            let row = DocumentRow::new(place.space.clone(), place.collection.clone(), position);
            let held = Held { row, graph: Default::default(), positions: Vec::new() };
            self.cache.insert(*place.document, held);
        }
        Ok(())
    }

    /// The space as it will be after the next commit; its epoch is that of the store if it is new.
    fn space_row(&mut self, space: &SpaceName) -> Result<&mut SpaceRow, StoreError> {
        if !self.spaces.contains_key(space) {
            let stored = self.stored_space(space)?;
            let new = SpaceRow { epoch: Epoch(self.epoch), position: 0, hour: 0 };
            self.spaces.insert(space.clone(), stored.unwrap_or(new));
        }
        self.spaces.get_mut(space).ok_or(StoreError::Failed)
    }

    fn write(
        &mut self,
        batch: &Batch,
        unix_ms: u64,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        write_changes(&transaction, batch)?;
        write_documents(&transaction, batch, &mut self.cache)?;
        self.write_spaces(&transaction, batch, unix_ms)?;
        for swap in &batch.swaps {
            fold::write_swap(&transaction, swap, unix_ms, &mut self.cache)?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn write_spaces(
        &mut self,
        transaction: &WriteTransaction,
        batch: &Batch,
        unix_ms: u64,
    ) -> Result<(), StoreError> {
        let mut spaces = transaction.open_table(SPACES)?;
        let mut hours = transaction.open_table(HOURS)?;
        let hour = unix_ms / HOUR_MS;
        for (name, first) in &batch.spaces {
            let Some(row) = self.spaces.get_mut(name) else { continue };
            if hour > row.hour {
                hours.insert((name.as_str(), hour), first)?;
                row.hour = hour;
            }
            spaces.insert(name.as_str(), encode(row).as_slice())?;
        }
        Ok(())
    }
}

/// In the order of their keys, so that neighbours share pages that were just touched.
fn write_changes(transaction: &WriteTransaction, batch: &Batch) -> Result<(), StoreError> {
    let mut staged: Vec<&StagedChange> = batch.changes.iter().collect();
    staged.sort_unstable_by_key(|change| (change.document, change.position));
    let mut documents = transaction.open_table(DOCUMENTS)?;
    let mut chunks = transaction.open_table(CHUNKS)?;
    for change in staged {
        let key = (&change.document.0, change.position);
        let chunk = if change.chunk.len() > INLINE_BYTES_MAX {
            chunks.insert(key, change.chunk.as_slice())?;
            Chunk::Apart(change.chunk.len() as u32)
        } else {
            Chunk::Inline(&change.chunk)
        };
        let row = ChangeRow { graph: &change.graph_row, chunk };
        documents.insert(key, row.encode().as_slice())?;
    }
    Ok(())
}

/// The rows of the documents, their places in the log, and the digests of their collections.
fn write_documents(
    transaction: &WriteTransaction,
    batch: &Batch,
    cache: &mut GraphCache,
) -> Result<(), StoreError> {
    let mut documents = transaction.open_table(DOCUMENTS)?;
    let mut log = transaction.open_table(LOG)?;
    let mut digests = Digests::new(transaction.open_table(DIGESTS)?);
    for (document, before) in &batch.documents {
        let held = cache.get(document).ok_or(StoreError::Failed)?;
        held.row.heads = held.graph.heads_hash();
        let row = &held.row;
        documents.insert((&document.0, OWN_ROW), encode(row).as_slice())?;
        if let Some((last, _)) = before.known {
            log.remove((row.space.as_str(), last))?;
        }
        let entry = LogRow { document: *document, heads: row.heads.short(), first: row.first };
        log.insert((row.space.as_str(), row.last), &entry.encode())?;
        digests.replace(row, document, before.known.map(|(_, heads)| heads))?;
    }
    digests.write()
}

/// Digests of the collections a batch touches, read once and written once.
struct Digests<'t> {
    table: Table<'t, (&'static str, &'static str), &'static [u8; 32]>,
    touched: BTreeMap<(SpaceName, CollectionName), SetDigest>,
}

impl<'t> Digests<'t> {
    fn new(table: Table<'t, (&'static str, &'static str), &'static [u8; 32]>) -> Self {
        Self { table, touched: BTreeMap::new() }
    }

    fn replace(
        &mut self,
        row: &DocumentRow,
        document: &DocumentId,
        from: Option<HeadsHash>,
    ) -> Result<(), StoreError> {
        let key = (row.space.clone(), row.collection.clone());
        let mut digest = match self.touched.get(&key) {
            Some(digest) => *digest,
            None => {
                let stored = self.table.get((row.space.as_str(), row.collection.as_str()))?;
                stored.map_or(SetDigest::EMPTY, |bytes| SetDigest::from_bytes(*bytes.value()))
            }
        };
        match from {
            Some(from) => digest.replace(document, &from, &row.heads),
            None => digest.insert(document, &row.heads),
        }
        self.touched.insert(key, digest);
        Ok(())
    }

    fn write(mut self) -> Result<(), StoreError> {
        for ((space, collection), digest) in &self.touched {
            self.table.insert((space.as_str(), collection.as_str()), &digest.to_bytes())?;
        }
        Ok(())
    }
}

/// Milliseconds in one row of [`HOURS`].
pub(super) const HOUR_MS: u64 = 3_600_000;

/// Changes after which a group commit is not made to wait for more.
const BATCH_CHANGES: usize = 4096;

/// Bytes after which a group commit is not made to wait for more.
const BATCH_BYTES: usize = 16 << 20;
