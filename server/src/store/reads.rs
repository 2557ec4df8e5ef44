//! The reads of the store that sessions ask for.

use std::ops::{Bound, RangeBounds};

use redb::{ReadOnlyTable, ReadableDatabase};
use rejoin_core::limits::{FRAME_CHANGES_MAX, HEADS_MAX};
use rejoin_core::repair::RepairItem;
use rejoin_core::session::{Located, Part};
use rejoin_core::wire::{BegunPiece, CollectionDigest, PieceOf};
use rejoin_core::{
    ChangeGraph, CollectionName, Collections, DocumentId, Epoch, HeadsHash, SetDigest, ShortHash,
    SpaceName,
};

use super::cache::Cached;
use super::guard::confined;
use super::tables::{
    CHUNKS, ChangeRow, Chunk, DIGESTS, DOCUMENTS, DigestRow, DocumentRow, LATEST, LatestRow,
    OWN_ROW, POSITIONS_END, SNAPSHOTS,
};
use super::{ChangeStore, LogChunk, StoreError};

/// The epoch and last position of a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceState {
    /// The lifetime of the store that its positions belong to.
    pub epoch: Epoch,
    /// The last position committed; 0 if the space is empty.
    pub position: u64,
}

/// The content of a collection, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionContent {
    /// Its name.
    pub collection: CollectionName,
    /// Over its documents and their heads.
    pub digest: SetDigest,
    /// The number of its documents.
    pub documents: u64,
}

impl ChangeStore {
    /// The epoch and last position of a space. An empty space is like any other.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn space(&self, space: &SpaceName) -> Result<SpaceState, StoreError> {
        let stored = self.stored_space(space)?;
        Ok(stored.map_or(SpaceState { epoch: Epoch(self.epoch), position: 0 }, |row| SpaceState {
            epoch: row.epoch,
            position: row.position,
        }))
    }

    /// Every document of some collections of a space with the hash of its heads, for a repair.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn repair_items(
        &mut self,
        space: &SpaceName,
        of: &Collections,
    ) -> Result<Vec<RepairItem>, StoreError> {
        let mut items = Vec::new();
        let latest = self.database.begin_read()?.open_table(LATEST)?;
        let Some(space) = self.cached_space(space)? else { return Ok(items) };
        for entry in latest.range(above(space.row.number, 0))? {
            let row = LatestRow::decode(entry?.1.value());
            let LatestRow { document, heads, collection, .. } = row;
            let is_among = || space.name(collection).is_some_and(|name| of.contains(name));
            if *of == Collections::All || is_among() {
                items.push(RepairItem { document, heads });
            }
        }
        Ok(items)
    }

    /// The collection of a document, if its space knows it.
    ///
    /// # Errors
    /// The database cannot be read, or this document is damaged.
    pub fn collection_of(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
    ) -> Result<Option<CollectionName>, StoreError> {
        let Some(cached) = self.load(space, document)? else { return Ok(None) };
        let collection = cached.row.collection;
        Ok(self.cached_space(space)?.and_then(|space| space.name(collection)).cloned())
    }

    /// The digests of a space's collections, in the order of their names.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn digests(&mut self, space: &SpaceName) -> Result<Vec<CollectionDigest>, StoreError> {
        let contents = self.contents(space)?.into_iter();
        let digest = |it: CollectionContent| CollectionDigest {
            collection: it.collection,
            digest: it.digest,
            documents: it.documents,
        };
        Ok(contents.map(digest).collect())
    }

    /// The contents of the collections of a space, in the order of their names.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn contents(&mut self, space: &SpaceName) -> Result<Vec<CollectionContent>, StoreError> {
        let table = self.database.begin_read()?.open_table(DIGESTS)?;
        let mut contents = Vec::new();
        let Some(space) = self.cached_space(space)? else { return Ok(contents) };
        for (collection, number) in space.collections() {
            // A collection that is only staged is still empty.
            let Some(row) = table.get((space.row.number, number))? else { continue };
            let DigestRow { digest, documents } = DigestRow::decode(row.value());
            let collection = collection.clone();
            contents.push(CollectionContent { collection, digest, documents });
        }
        Ok(contents)
    }

    /// Some bytes of a document from position `from` on; `None` if the space has no such document.
    /// A change of more than [`LONG_BYTES`](super::LogChunk::LONG_BYTES) comes in pieces.
    ///
    /// A reader that lacks folded changes, or everything, gets the snapshot, in pieces, too. `here`
    /// says of which snapshot or change the reader has a beginning, and how many bytes. If that is
    /// another one, the next piece is a first one.
    ///
    /// # Errors
    /// The database cannot be read, or this document is damaged.
    pub fn part(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
        from: u64,
        here: Option<BegunPiece>,
        bytes_max: usize,
    ) -> Result<Option<Part>, StoreError> {
        let Some(of_space) = self.space_number(space)? else { return Ok(None) };
        let Some(number) = self.number(of_space, document)? else { return Ok(None) };
        confined(number, || self.part_of(space, number, from, here, bytes_max)).map(Some)
    }

    fn part_of(
        &mut self,
        space: &SpaceName,
        number: u64,
        from: u64,
        here: Option<BegunPiece>,
        bytes_max: usize,
    ) -> Result<Part, StoreError> {
        let transaction = self.database.begin_read()?;
        let documents = transaction.open_table(DOCUMENTS)?;
        let row = own_row(&documents, number)?;
        let absent = StoreError::Absent { document: number, what: "collection" };
        let name = self.cached_space(space)?.and_then(|space| space.name(row.collection));
        let collection = name.cloned().ok_or(absent)?;
        if row.erased_ms.is_some() {
            return Ok(Part::Erased { collection });
        }
        let offset = |kind, position, total| match here {
            Some(here) if here.kind == kind && here.position == position && here.bytes < total => {
                here.bytes
            }
            _ => 0,
        };
        if let Some(snapshot) = row.snapshot.as_ref().filter(|it| from <= it.folded.max(row.first))
        {
            let parts = transaction.open_table(SNAPSHOTS)?;
            let (kind, position, total) = (PieceOf::Snapshot, snapshot.covers, snapshot.bytes);
            let offset = offset(kind, position, total);
            self.verified.snapshot(&parts, number, snapshot)?;
            let bytes = snapshot_piece(&parts, number, offset, bytes_max)?;
            let next = Some(position + 1).filter(|next| *next <= row.last);
            return Ok(Part::Piece { collection, kind, position, offset, total, bytes, next });
        }
        let chunks = transaction.open_table(CHUNKS)?;
        let (changes, next) = changes_part(&documents, &chunks, number, from, bytes_max)?;
        match next {
            Some(Next::Long { position, len, after }) if changes.is_empty() => {
                let (kind, total) = (PieceOf::Change, len);
                let offset = offset(kind, position, total);
                let absent = StoreError::Absent { document: number, what: "bytes of a change" };
                let piece = self.chunk_piece(number, position, offset, bytes_max)?;
                let bytes = piece.filter(|bytes| !bytes.is_empty()).ok_or(absent)?;
                let next = after;
                Ok(Part::Piece { collection, kind, position, offset, total, bytes, next })
            }
            next => {
                let next = next.map(|next| next.position());
                Ok(Part::Changes { collection, changes, next })
            }
        }
    }

    /// The position at which the changes begin that a holder of `heads` lacks of a document.
    ///
    /// # Errors
    /// The database cannot be read, or this document is damaged.
    pub fn locate(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
        heads: &[ShortHash],
    ) -> Result<Located, StoreError> {
        let Some(cached) = self.load(space, document)? else {
            let wanted = (!heads.is_empty()).then(Vec::new);
            return Ok(Located { from: None, wanted });
        };
        if cached.row.erased_ms.is_some() {
            return Ok(Located { from: Some(cached.row.last), wanted: None });
        }
        let since = cached.graph.since(heads);
        let first = since.ranks.first().and_then(|rank| cached.positions.get(*rank as usize));
        let wanted = since.unknown.then(|| short_heads(&cached.graph));
        Ok(Located { from: first.copied(), wanted })
    }

    /// The heads of a document as a frame names them; none if its space does not know it.
    ///
    /// # Errors
    /// The database cannot be read, or this document is damaged.
    pub fn short_heads(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
    ) -> Result<Vec<ShortHash>, StoreError> {
        let cached = self.load(space, document)?;
        Ok(cached.map(|cached| short_heads(&cached.graph)).unwrap_or_default())
    }

    /// The heads of a document as digests count it, if its space knows it.
    ///
    /// # Errors
    /// The database cannot be read, or this document is damaged.
    pub fn known_heads(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
    ) -> Result<Option<HeadsHash>, StoreError> {
        let cached = self.load(space, document)?;
        Ok(cached.map(|cached| match cached.row.erased_ms {
            Some(_) => HeadsHash::ERASED,
            None => cached.graph.heads_hash(),
        }))
    }

    /// The number of changes of a document; 0 if its space does not know it.
    ///
    /// # Errors
    /// The database cannot be read, or this document is damaged.
    pub fn changes_of(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
    ) -> Result<usize, StoreError> {
        Ok(self.load(space, document)?.map_or(0, |cached| cached.graph.len()))
    }

    /// The document's row and graph, from memory or from its rows, staged changes included.
    pub(super) fn load(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
    ) -> Result<Option<&mut Cached>, StoreError> {
        let Some(space) = self.space_number(space)? else { return Ok(None) };
        let number = match self.cache.number(space, document) {
            Some(number) => number,
            None if self.absent == Some((space, *document)) => return Ok(None),
            None => match self.number(space, document)? {
                Some(number) => number,
                None => {
                    self.absent = Some((space, *document));
                    return Ok(None);
                }
            },
        };
        self.load_number(number)
    }

    /// As [`load`](Self::load), by the document's number.
    pub(super) fn load_number(&mut self, number: u64) -> Result<Option<&mut Cached>, StoreError> {
        if !self.cache.contains(number) {
            let cached = confined(number, || self.read_cached(number))?;
            self.graphs_loaded += 1;
            self.cache.insert(cached);
            self.evict();
        }
        Ok(self.cache.get(number))
    }

    fn read_cached(&self, number: u64) -> Result<Cached, StoreError> {
        let documents = self.database.begin_read()?.open_table(DOCUMENTS)?;
        let row = own_row(&documents, number)?;
        let mut graph = ChangeGraph::new();
        let mut positions = Vec::new();
        for entry in documents.range((number, 0)..(number, POSITIONS_END))? {
            let (key, value) = entry?;
            graph
                .push_encoded(ChangeRow::decode(number, value.value())?.graph)
                .map_err(|source| StoreError::Graph { document: number, source })?;
            positions.push(key.value().1);
        }
        if positions.len() as u64 != row.changes {
            return Err(StoreError::Absent { document: number, what: "end of the change graph" });
        }
        Ok(Cached { number, row, graph, positions })
    }
}

fn short_heads(graph: &ChangeGraph) -> Vec<ShortHash> {
    graph.heads().iter().take(HEADS_MAX).map(|head| head.short()).collect()
}

/// The keys of a space above a position.
pub(super) fn above(space: u32, position: u64) -> impl RangeBounds<(u32, u64)> {
    (Bound::Excluded((space, position)), Bound::Included((space, u64::MAX)))
}

pub(super) type Rows = ReadOnlyTable<(u64, u64), &'static [u8]>;

/// The own row of a document that the index knows.
pub(super) fn own_row(documents: &Rows, number: u64) -> Result<DocumentRow, StoreError> {
    let row = documents.get((number, OWN_ROW))?;
    let row = row.ok_or(StoreError::Absent { document: number, what: "row" })?;
    DocumentRow::decode(number, row.value())
}

/// The first position of a document after another.
pub(super) fn first_after(
    documents: &Rows,
    number: u64,
    position: u64,
) -> Result<Option<u64>, StoreError> {
    let after = (number, position.saturating_add(1))..(number, POSITIONS_END);
    let first = documents.range(after)?.next().transpose()?;
    Ok(first.map(|(key, _)| key.value().1))
}

/// Changes with their positions, and the part that comes next, if there is one.
type Changes = (Vec<(u64, Vec<u8>)>, Option<Next>);

/// The change after some.
#[derive(Debug, Clone, Copy)]
enum Next {
    Short {
        position: u64,
    },
    /// One that comes in pieces, and the position after it.
    Long {
        position: u64,
        len: u64,
        after: Option<u64>,
    },
}

impl Next {
    fn position(self) -> u64 {
        match self {
            Self::Short { position } | Self::Long { position, .. } => position,
        }
    }
}

fn changes_part(
    documents: &Rows,
    chunks: &Rows,
    number: u64,
    from: u64,
    bytes_max: usize,
) -> Result<Changes, StoreError> {
    let mut changes: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut bytes = 0;
    let mut rows = documents.range((number, from)..(number, POSITIONS_END))?;
    while let Some(entry) = rows.next() {
        let (key, value) = entry?;
        let position = key.value().1;
        let row = ChangeRow::decode(number, value.value())?;
        let len = row.chunk.len();
        if len > LogChunk::LONG_BYTES {
            let after = rows.next().transpose()?.map(|(key, _)| key.value().1);
            return Ok((changes, Some(Next::Long { position, len, after })));
        }
        bytes += len;
        let is_full = changes.len() == FRAME_CHANGES_MAX || bytes > bytes_max as u64;
        if is_full && !changes.is_empty() {
            return Ok((changes, Some(Next::Short { position })));
        }
        changes.push((position, chunk_of(chunks, number, position, row)?));
    }
    Ok((changes, None))
}

/// The bytes of a change that no snapshot had to take in, if they are still those that were pushed.
pub(super) fn chunk_of(
    chunks: &Rows,
    number: u64,
    position: u64,
    row: ChangeRow<'_>,
) -> Result<Vec<u8>, StoreError> {
    let absent = || StoreError::Absent { document: number, what: "bytes of a change" };
    let bytes = match row.chunk {
        Chunk::Inline(bytes) => bytes.to_vec(),
        Chunk::Apart(_) => {
            let stored = chunks.get((number, position))?.ok_or_else(absent)?;
            stored.value().to_vec()
        }
        Chunk::Folded => return Err(absent()),
    };
    if row.is_of(&bytes) {
        Ok(bytes)
    } else {
        Err(StoreError::Damaged { document: number, what: "bytes of a change" })
    }
}

/// Bytes of a snapshot from there on, as far as the stored part has them.
fn snapshot_piece(
    parts: &Rows,
    number: u64,
    offset: u64,
    bytes_max: usize,
) -> Result<Vec<u8>, StoreError> {
    let absent = || StoreError::Absent { document: number, what: "snapshot" };
    let part = parts.range((number, 0)..=(number, offset))?.next_back();
    let (key, part) = part.ok_or_else(absent)??;
    let begins = (offset - key.value().1) as usize;
    let rest = part.value().get(begins..).filter(|rest| !rest.is_empty()).ok_or_else(absent)?;
    Ok(rest[..rest.len().min(bytes_max.max(1))].to_vec())
}
