//! Walks over a space in pages: its changes in the order they came, and its documents from the one
//! that changed last.

use std::collections::BTreeMap;

use redb::ReadableDatabase;
use rejoin_core::{CollectionName, DocumentId, ShortHash, SpaceName};

use super::guard::confined;
use super::reads::{Rows, above, chunk_of, first_after, own_row};
use super::tables::{
    CHUNKS, ChangeRow, Chunk, DIGESTS, DOCUMENTS, DigestRow, DocumentRow, FIRST, LATEST, LOG,
    LatestRow, OWN_ROW, POSITIONS_END,
};
use super::{ChangeStore, StoreError};

/// Changes of a space, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// In the order of their positions.
    pub entries: Vec<LogEntry>,
    /// The last position that was looked at. A change up to there that is not among the entries is
    /// of a damaged document.
    pub through: u64,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its position in the space.
    pub position: u64,
    /// The document it is of.
    pub document: DocumentId,
    /// The document's number in the store.
    pub number: u64,
    /// The document's collection.
    pub collection: CollectionName,
    /// Its bytes, if they are at hand.
    pub chunk: LogChunk,
}

/// The bytes of a change, or where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogChunk {
    /// All of them.
    Inline(Vec<u8>),
    /// In the document's snapshot only.
    Folded,
    /// There are none: this is where the document was erased.
    Erased,
    /// More than [`LONG_BYTES`](Self::LONG_BYTES): see [`ChangeStore::chunk_piece`].
    Long {
        /// The number of bytes.
        len: u64,
    },
}

impl LogChunk {
    /// Bytes above which a change is not read with others.
    pub const LONG_BYTES: u64 = 16 << 10;
}

/// A document at the position of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// The position of its last change.
    pub position: u64,
    /// The position of its first change.
    pub first: u64,
    /// The document.
    pub document: DocumentId,
    /// Its number in the store.
    pub number: u64,
    /// Its collection.
    pub collection: CollectionName,
    /// Over all of its heads, as a repair compares them.
    pub heads: ShortHash,
}

/// The size of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Its changes.
    pub changes: u64,
    /// Bytes of the changes that no snapshot covers.
    pub tail_bytes: u64,
    /// Bytes of its snapshot; 0 if there is none.
    pub snapshot_bytes: u64,
    /// The time at which an operator erased it, in milliseconds since 1970.
    pub erased_ms: Option<u64>,
}

impl ChangeStore {
    /// Changes of a space above position `after` and at most at `upto`, until there are
    /// `changes_max`, or their chunks are `bytes_max`: at least one, whose chunk alone may be
    /// longer. Long chunks are not read, and do not count. Only committed changes are looked at.
    ///
    /// A damaged document is passed over: the digest will not let its readers take it for whole.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn log_page(
        &mut self,
        space: &SpaceName,
        after: u64,
        upto: u64,
        bytes_max: usize,
        changes_max: usize,
    ) -> Result<LogPage, StoreError> {
        let transaction = self.database.begin_read()?;
        let committed = self.space(space)?.position;
        let end = upto.min(committed);
        let mut page = LogPage { entries: Vec::new(), through: after.max(end) };
        let Some(cached) = self.cached_space(space)? else { return Ok(page) };
        let log = transaction.open_table(LOG)?;
        let mut chunks = Chunks {
            documents: transaction.open_table(DOCUMENTS)?,
            chunks: transaction.open_table(CHUNKS)?,
            ids: BTreeMap::new(),
        };
        let mut room = bytes_max as u64;
        let mut last = after;
        let mut damage = Vec::new();
        for entry in log.range(above(cached.row.number, after))? {
            let (key, value) = entry?;
            let ((_, position), (number, collection)) = (key.value(), value.value());
            if position > end {
                break;
            }
            if page.entries.len() >= changes_max.max(1) {
                page.through = last;
                break;
            }
            let room_left = if page.entries.is_empty() { u64::MAX } else { room };
            match confined(number, || chunks.read(number, position, room_left)) {
                Ok(Some((document, chunk))) => {
                    if let LogChunk::Inline(bytes) = &chunk {
                        room = room.saturating_sub(bytes.len() as u64);
                    }
                    page.entries.extend(cached.name(collection).cloned().map(|collection| {
                        LogEntry { position, document, number, collection, chunk }
                    }));
                }
                Ok(None) => {
                    page.through = last;
                    break;
                }
                Err(error) if error.is_confined() => damage.push(error),
                Err(error) => return Err(error),
            }
            last = position;
        }
        damage.iter().for_each(|error| self.suspect(error));
        Ok(page)
    }

    /// The last change of a document before a position.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn last_before(&self, number: u64, position: u64) -> Result<Option<u64>, StoreError> {
        let documents = self.database.begin_read()?.open_table(DOCUMENTS)?;
        let before = (number, 0)..(number, position.min(POSITIONS_END));
        let last = documents.range(before)?.next_back().transpose()?;
        Ok(last.map(|(key, _)| key.value().1))
    }

    /// The first change of a document after a position.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn first_after(&self, number: u64, position: u64) -> Result<Option<u64>, StoreError> {
        first_after(&self.database.begin_read()?.open_table(DOCUMENTS)?, number, position)
    }

    /// The documents of a space that were last changed at `from` or before, and after `floor`:
    /// downwards, so many at most. Fewer are all there are.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn latest_page(
        &mut self,
        space: &SpaceName,
        from: u64,
        floor: u64,
        count: usize,
    ) -> Result<Vec<Latest>, StoreError> {
        let latest = self.database.begin_read()?.open_table(LATEST)?;
        let mut page = Vec::new();
        let Some(cached) = self.cached_space(space)? else { return Ok(page) };
        if from <= floor {
            return Ok(page);
        }
        let number = cached.row.number;
        for entry in latest.range((number, floor + 1)..=(number, from))?.rev() {
            if page.len() >= count {
                break;
            }
            let (key, row) = entry?;
            let row = LatestRow::decode(row.value());
            // A damaged document may be in no collection. It is passed over.
            let Some(collection) = cached.name(row.collection).cloned() else { continue };
            page.push(Latest {
                position: key.value().1,
                first: row.first,
                document: row.document,
                number: row.number,
                collection,
                heads: row.heads,
            });
        }
        Ok(page)
    }

    /// At most `len` bytes of a change from `offset` on; fewer at its end, none beyond. `None` if
    /// there is no such change, or a snapshot has taken it in.
    ///
    /// # Errors
    /// The database cannot be read, or this document is damaged.
    pub fn chunk_piece(
        &mut self,
        number: u64,
        position: u64,
        offset: u64,
        len: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let transaction = self.database.begin_read()?;
        let documents: Rows = transaction.open_table(DOCUMENTS)?;
        let chunks: Rows = transaction.open_table(CHUNKS)?;
        let Some(row) = documents.get((number, position))? else { return Ok(None) };
        let row = ChangeRow::decode(number, row.value())?;
        let piece = |chunk: &[u8]| {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(chunk.len());
            let end = offset.saturating_add(len).min(chunk.len());
            Some(chunk[offset..end].to_vec())
        };
        match row.chunk {
            Chunk::Folded => Ok(None),
            // A change that takes sixty pieces is not hashed sixty times.
            Chunk::Apart(_) if self.verified.has_change(number, position) => {
                let stored = chunks.get((number, position))?;
                let absent = StoreError::Absent { document: number, what: "bytes of a change" };
                Ok(piece(stored.ok_or(absent)?.value()))
            }
            _ => {
                let chunk = chunk_of(&chunks, number, position, row)?;
                self.verified.note_change(number, position);
                Ok(piece(&chunk))
            }
        }
    }

    /// The documents of a space that a new replica needs before all others, as schemas are: each
    /// with its number, in the order they came.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn first_documents(
        &mut self,
        space: &SpaceName,
    ) -> Result<Vec<(u64, DocumentId)>, StoreError> {
        let table = self.database.begin_read()?.open_table(FIRST)?;
        let Some(space) = self.space_number(space)? else { return Ok(Vec::new()) };
        let mut first = Vec::new();
        for entry in table.range((space, 0)..=(space, u64::MAX))? {
            let (key, id) = entry?;
            first.push((key.value().1, DocumentId(*id.value())));
        }
        Ok(first)
    }

    /// The number of documents of a space.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn documents_of(&mut self, space: &SpaceName) -> Result<u64, StoreError> {
        let table = self.database.begin_read()?.open_table(DIGESTS)?;
        let Some(space) = self.space_number(space)? else { return Ok(0) };
        let mut documents = 0;
        for entry in table.range((space, 0)..=(space, u32::MAX))? {
            documents += DigestRow::decode(entry?.1.value()).documents;
        }
        Ok(documents)
    }

    /// The collection that most documents of a space are in, as far as the first ones go: a space
    /// with thousands of collections has no usual one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn usual_collection(
        &mut self,
        space: &SpaceName,
    ) -> Result<Option<CollectionName>, StoreError> {
        let table = self.database.begin_read()?.open_table(DIGESTS)?;
        let Some(cached) = self.cached_space(space)? else { return Ok(None) };
        let number = cached.row.number;
        let mut most = (0, None);
        for entry in table.range((number, 0)..=(number, u32::MAX))?.take(USUAL_LOOKED_MAX) {
            let (key, row) = entry?;
            let documents = DigestRow::decode(row.value()).documents;
            if documents > most.0 {
                most = (documents, cached.name(key.value().1).cloned());
            }
        }
        Ok(most.1)
    }

    /// The number of documents of a space, staged ones included.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn documents_with_staged(&mut self, space: &SpaceName) -> Result<u64, StoreError> {
        let number = self.space_number(space)?;
        let staged = number.and_then(|number| self.batch.new_documents.get(&number).copied());
        Ok(self.documents_of(space)? + staged.unwrap_or_default())
    }

    /// The size of a document.
    ///
    /// # Errors
    /// The document is damaged, or the database cannot be read.
    pub fn size(&self, number: u64) -> Result<Size, StoreError> {
        let documents = self.database.begin_read()?.open_table(DOCUMENTS)?;
        let row = confined(number, || own_row(&documents, number))?;
        let DocumentRow { changes, tail_bytes, erased_ms, .. } = row;
        let snapshot_bytes = row.snapshot.map_or(0, |snapshot| snapshot.bytes);
        Ok(Size { changes, tail_bytes, snapshot_bytes, erased_ms })
    }

    /// Bytes of the changes of a space as they came, staged ones included. In a file of before that
    /// nobody has asked of, they are counted now, which takes some microseconds for each change;
    /// those that were folded count as their snapshots.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn space_bytes(&mut self, space: &SpaceName) -> Result<u64, StoreError> {
        let Some(row) = self.cached_space(space)?.map(|cached| cached.row.clone()) else {
            return Ok(0);
        };
        if let Some(bytes) = row.bytes {
            return Ok(bytes);
        }
        let transaction = self.database.begin_read()?;
        let (latest, documents) =
            (transaction.open_table(LATEST)?, transaction.open_table(DOCUMENTS)?);
        let staged = self.batch.changes.iter().filter(|change| change.space == row.number);
        let mut bytes = staged.map(|change| change.chunk.len() as u64).sum();
        let mut damage = Vec::new();
        for entry in latest.range((row.number, 0)..=(row.number, u64::MAX))? {
            let number = LatestRow::decode(entry?.1.value()).number;
            match confined(number, || stored_bytes(&documents, number)) {
                Ok(stored) => bytes += stored,
                Err(error) if error.is_confined() => damage.push(error),
                Err(error) => return Err(error),
            }
        }
        damage.iter().for_each(|error| self.suspect(error));
        if let Some(cached) = self.spaces.get_mut(space) {
            cached.row.bytes = Some(bytes);
        }
        Ok(bytes)
    }
}

/// Bytes of a document's changes and snapshot.
fn stored_bytes(documents: &Rows, number: u64) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for row in documents.range((number, 0)..=(number, OWN_ROW))? {
        let (key, row) = row?;
        bytes += match key.value().1 {
            OWN_ROW => {
                let row = DocumentRow::decode(number, row.value())?;
                row.snapshot.map_or(0, |snapshot| snapshot.bytes)
            }
            _ => ChangeRow::decode(number, row.value())?.chunk.len(),
        };
    }
    Ok(bytes)
}

/// Collections among which the usual one is looked for.
const USUAL_LOOKED_MAX: usize = 64;

/// Changes as a page has them.
struct Chunks {
    documents: Rows,
    chunks: Rows,
    /// Of documents that were read already.
    ids: BTreeMap<u64, DocumentId>,
}

impl Chunks {
    /// A change and the document it is of; `None` if its chunk has no room.
    fn read(
        &mut self,
        number: u64,
        position: u64,
        room: u64,
    ) -> Result<Option<(DocumentId, LogChunk)>, StoreError> {
        let absent = StoreError::Absent { document: number, what: "change" };
        let Some(row) = self.documents.get((number, position))? else {
            let own = own_row(&self.documents, number)?;
            let is_erasure = own.erased_ms.is_some() && own.last == position;
            return if is_erasure { Ok(Some((own.id, LogChunk::Erased))) } else { Err(absent) };
        };
        let change = ChangeRow::decode(number, row.value())?;
        let chunk = match change.chunk {
            Chunk::Folded => LogChunk::Folded,
            chunk if chunk.len() > LogChunk::LONG_BYTES => LogChunk::Long { len: chunk.len() },
            chunk if chunk.len() > room => return Ok(None),
            _ => LogChunk::Inline(chunk_of(&self.chunks, number, position, change)?),
        };
        let document = match self.ids.get(&number) {
            Some(document) => *document,
            None => {
                let document = own_row(&self.documents, number)?.id;
                self.ids.insert(number, document);
                document
            }
        };
        Ok(Some((document, chunk)))
    }
}
