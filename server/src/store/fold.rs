//! Folding a document's changes into a snapshot.

use std::io::{self, Write};

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, Table, WriteTransaction};
use rejoin_core::{ChangeHash, DocumentId, SpaceName};

use super::cache::GraphCache;
use super::reads::chunk_of;
use super::tables::{
    CHUNKS, ChangeRow, Chunk, DOCUMENTS, DocumentRow, HOURS, OWN_ROW, POSITIONS_END,
    SNAPSHOT_PART_BYTES, SNAPSHOTS, SnapshotRow, encode,
};
use super::write::HOUR_MS;
use super::{ChangeStore, Reader, StoreError};

/// The limits of age and size for changes that stay beside the snapshot that covers them, so that a
/// reader who was away gets those and not everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailPolicy {
    /// Milliseconds after which a change covered by a snapshot goes.
    pub away_ms_max: u64,
    /// Bytes of a document's changes that stay at most, or its snapshot's if that is larger.
    pub bytes_max: u64,
}

/// A document to fold, as it was at one moment, and the facts that the result is checked by.
#[derive(Debug)]
pub struct FoldInput {
    /// The document's number in the store.
    number: u64,
    row: DocumentRow,
    heads: Vec<ChangeHash>,
    transaction: ReadTransaction,
    _reader: Reader,
}

/// A verified snapshot that waits for the next commit.
#[derive(Debug)]
pub(super) struct Swap {
    /// The document's number in the store.
    document: u64,
    snapshot: Vec<u8>,
    covers: u64,
    changes: u64,
    tail: TailPolicy,
}

impl ChangeStore {
    /// The tail of a document that is in memory: the changes that no snapshot covers, and the size
    /// of the snapshot.
    pub(crate) fn tail(&mut self, space: &SpaceName, document: &DocumentId) -> Option<Tail> {
        let space = self.spaces.get(space)?.row.number;
        let number = self.cache.number(space, document)?;
        Some(Tail::of(&self.cache.get(number)?.row))
    }

    /// A document to fold, as committed now. `None` if there is no such document.
    ///
    /// Call it between commits. The reading is done later, on any thread.
    ///
    /// # Errors
    /// The database cannot be read, or this document is damaged.
    pub fn fold_input(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
    ) -> Result<Option<FoldInput>, StoreError> {
        let Some(cached) = self.load(space, document)? else { return Ok(None) };
        let (number, row, heads) = (cached.number, cached.row.clone(), cached.graph.heads());
        let transaction = self.database.begin_read()?;
        Ok(Some(FoldInput { number, row, heads, transaction, _reader: self.reader.clone() }))
    }

    /// Takes a snapshot into the next commit. It was verified to have just the changes of `input`.
    /// Does nothing if another snapshot was made of the document meanwhile.
    pub(crate) fn stage_swap(
        &mut self,
        input: &Folded,
        snapshot: Vec<u8>,
        tail: TailPolicy,
    ) -> Result<bool, StoreError> {
        let document = input.number;
        let Some(cached) = self.load_number(document)? else { return Ok(false) };
        let covered = cached.row.snapshot.as_ref().map_or(0, |snapshot| snapshot.covers);
        if covered != input.covered {
            return Ok(false);
        }
        let Folded { covers, changes, .. } = *input;
        self.batch.swaps.push(Swap { document, snapshot, covers, changes, tail });
        Ok(true)
    }
}

/// The changes of a document beyond its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) changes: u64,
    pub(crate) bytes: u64,
    pub(crate) snapshot_changes: u64,
    pub(crate) snapshot_bytes: u64,
}

impl Tail {
    fn of(row: &DocumentRow) -> Self {
        let snapshot = row.snapshot.as_ref();
        Self {
            changes: row.tail_changes(),
            bytes: row.tail_bytes,
            snapshot_changes: snapshot.map_or(0, |snapshot| snapshot.changes),
            snapshot_bytes: snapshot.map_or(0, |snapshot| snapshot.bytes),
        }
    }
}

/// The facts of a [`FoldInput`] that stay once it was read: enough to check the result by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folded {
    /// The document's number in the store.
    number: u64,
    pub(crate) document: DocumentId,
    /// The last position covered, when the result is put in place.
    pub(crate) covers: u64,
    /// The number of those changes.
    pub(crate) changes: u64,
    /// The heads of those, sorted.
    pub(crate) heads: Vec<ChangeHash>,
    /// The last position the snapshot before covers.
    covered: u64,
}

impl FoldInput {
    /// The document.
    pub fn document(&self) -> DocumentId {
        self.row.id
    }

    pub(crate) fn tail(&self) -> Tail {
        Tail::of(&self.row)
    }

    pub(crate) fn folded(&self) -> Folded {
        Folded {
            number: self.number,
            document: self.row.id,
            covers: self.row.last,
            changes: self.row.changes,
            heads: self.heads.clone(),
            covered: self.row.snapshot.as_ref().map_or(0, |snapshot| snapshot.covers),
        }
    }

    /// Bytes of the present snapshot; 0 if there is none.
    pub(crate) fn snapshot_bytes(&self) -> u64 {
        self.row.snapshot.as_ref().map_or(0, |snapshot| snapshot.bytes)
    }

    /// Writes the present snapshot to `output`.
    pub(crate) fn write_snapshot(&self, output: &mut impl Write) -> Result<(), FoldError> {
        let parts = self.transaction.open_table(SNAPSHOTS).map_err(StoreError::from)?;
        let all = (self.number, 0)..=(self.number, u64::MAX);
        for entry in parts.range(all).map_err(StoreError::from)? {
            output.write_all(entry.map_err(StoreError::from)?.1.value())?;
        }
        Ok(())
    }

    /// Gives each change that the present snapshot does not cover to `each`.
    pub(crate) fn each_change(
        &self,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), FoldError> {
        let document = self.number;
        let rows = self.transaction.open_table(DOCUMENTS).map_err(StoreError::from)?;
        let chunks = self.transaction.open_table(CHUNKS).map_err(StoreError::from)?;
        let from = self.row.snapshot.as_ref().map_or(0, |snapshot| snapshot.covers + 1);
        let tail = (document, from)..=(document, self.row.last);
        for entry in rows.range(tail).map_err(StoreError::from)? {
            let (key, value) = entry.map_err(StoreError::from)?;
            let row = ChangeRow::decode(document, value.value())?;
            each(&chunk_of(&chunks, document, key.value().1, row)?)?;
        }
        Ok(())
    }
}

/// A document could not be read for folding.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The store could not read it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The worker that folds it stopped listening.
    #[error("the compaction worker stopped reading; see its own message")]
    Output(#[from] io::Error),
}

/// Puts the snapshot in place of the one before, and removes the changes it makes superfluous.
pub(super) fn write_swap(
    transaction: &WriteTransaction,
    swap: &Swap,
    unix_ms: u64,
    cache: &mut GraphCache,
) -> Result<(), StoreError> {
    let document = swap.document;
    let mut documents = transaction.open_table(DOCUMENTS)?;
    let stored = documents.get((document, OWN_ROW))?.map(|row| row.value().to_vec());
    let Some(stored) = stored else { return Ok(()) };
    let mut row = DocumentRow::decode(document, &stored)?;
    write_parts(transaction, swap)?;
    let young = first_young(transaction, &row, unix_ms.saturating_sub(swap.tail.away_ms_max))?;
    let folded = last_to_fold(&documents, swap, &row, young)?;
    fold_changes(&mut documents, document, folded)?;
    let mut chunks = transaction.open_table(CHUNKS)?;
    chunks.retain_in((document, 0)..=(document, folded), |_, _| false)?;
    row.tail_bytes = tail_bytes(&documents, swap)?;
    row.snapshot = Some(SnapshotRow {
        covers: swap.covers,
        changes: swap.changes,
        bytes: swap.snapshot.len() as u64,
        folded,
    });
    documents.insert((document, OWN_ROW), encode(&row).as_slice())?;
    if let Some(cached) = cache.get(document) {
        cached.row = row;
    }
    Ok(())
}

fn write_parts(transaction: &WriteTransaction, swap: &Swap) -> Result<(), StoreError> {
    let mut parts = transaction.open_table(SNAPSHOTS)?;
    let document = swap.document;
    parts.retain_in((document, 0)..=(document, u64::MAX), |_, _| false)?;
    for (number, part) in swap.snapshot.chunks(SNAPSHOT_PART_BYTES).enumerate() {
        parts.insert((document, (number * SNAPSHOT_PART_BYTES) as u64), part)?;
    }
    Ok(())
}

/// The last covered change that is too old to stay, or beyond what may stay.
fn last_to_fold(
    documents: &Rows<'_>,
    swap: &Swap,
    row: &DocumentRow,
    young: u64,
) -> Result<u64, StoreError> {
    let document = swap.document;
    let bytes_max = swap.tail.bytes_max.max(swap.snapshot.len() as u64);
    let folded = row.snapshot.as_ref().map_or(0, |snapshot| snapshot.folded);
    let covered = (document, folded + 1)..=(document, swap.covers);
    let mut bytes = 0;
    for entry in documents.range(covered)?.rev() {
        let (key, value) = entry?;
        bytes += ChangeRow::decode(document, value.value())?.chunk.len();
        let position = key.value().1;
        if position < young || bytes > bytes_max {
            return Ok(position);
        }
    }
    Ok(folded)
}

/// Takes the chunks up to a position out of their rows; the part that the graph needs stays.
fn fold_changes(documents: &mut Rows<'_>, document: u64, folded: u64) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    for entry in documents.range((document, 0)..=(document, folded))?.rev() {
        let (key, value) = entry?;
        let row = ChangeRow::decode(document, value.value())?;
        if row.chunk == Chunk::Folded {
            break;
        }
        rows.push((key.value().1, ChangeRow { chunk: Chunk::Folded, ..row }.encode()));
    }
    for (position, row) in rows {
        documents.insert((document, position), row.as_slice())?;
    }
    Ok(())
}

/// The first position of a space that may have been taken at `unix_ms` or later; to the hour, so
/// that those of the same hour count as later.
fn first_young(
    transaction: &WriteTransaction,
    row: &DocumentRow,
    unix_ms: u64,
) -> Result<u64, StoreError> {
    let hours = transaction.open_table(HOURS)?;
    let space = row.space;
    let mut later = hours.range((space, unix_ms / HOUR_MS)..=(space, u64::MAX))?;
    match later.next() {
        Some(entry) => Ok(entry?.1.value()),
        None => Ok(u64::MAX),
    }
}

/// Bytes of the changes that the new snapshot does not cover.
fn tail_bytes(documents: &Rows<'_>, swap: &Swap) -> Result<u64, StoreError> {
    let document = swap.document;
    let mut bytes = 0;
    for entry in documents.range((document, swap.covers + 1)..(document, POSITIONS_END))? {
        bytes += ChangeRow::decode(document, entry?.1.value())?.chunk.len();
    }
    Ok(bytes)
}

type Rows<'t> = Table<'t, (u64, u64), &'static [u8]>;
