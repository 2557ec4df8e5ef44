//! What sessions ask of the store.

use std::ops::{Bound, RangeBounds};

use redb::{ReadOnlyTable, ReadableDatabase};
use rejoin_core::limits::{FRAME_CHANGES_MAX, FRAME_PAYLOAD_BYTES, HEADS_MAX};
use rejoin_core::repair::RepairItem;
use rejoin_core::session::{Located, Part};
use rejoin_core::wire::CollectionDigest;
use rejoin_core::{
    ChangeGraph, CollectionName, DocumentId, Epoch, SetDigest, ShortHash, SpaceName,
};

use super::cache::Held;
use super::tables::{
    CHUNKS, ChangeRow, Chunk, DIGESTS, DOCUMENTS, DocumentRow, LOG, LogRow, OWN_ROW, SNAPSHOTS,
    SPACES, SnapshotRow, SpaceRow,
};
use super::{ChangeStore, StoreError};

/// How far a space has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceState {
    /// The lifetime of the store that its positions belong to.
    pub epoch: Epoch,
    /// The last position committed; 0 if the space holds nothing.
    pub position: u64,
}

impl ChangeStore {
    /// How far a space has come. One that holds nothing is like any other.
    pub fn space(&self, space: &SpaceName) -> Result<SpaceState, StoreError> {
        let stored = self.stored_space(space)?;
        Ok(stored.map_or(SpaceState { epoch: Epoch(self.epoch), position: 0 }, |row| SpaceState {
            epoch: row.epoch,
            position: row.position,
        }))
    }

    /// The documents of a space with a change after `position`, each with the first such position.
    pub fn since(
        &self,
        space: &SpaceName,
        position: u64,
    ) -> Result<Vec<(DocumentId, u64)>, StoreError> {
        let transaction = self.database.begin_read()?;
        let documents = transaction.open_table(DOCUMENTS)?;
        let log = transaction.open_table(LOG)?;
        let mut since = Vec::new();
        let name = space.as_str();
        for entry in log.range(above(name, position))? {
            let row = LogRow::decode(entry?.1.value());
            let first = match row.first {
                first if first > position => first,
                _ => first_after(&documents, &row.document, position)?,
            };
            since.push((row.document, first));
        }
        Ok(since)
    }

    /// Every document of a space with the hash of its heads, for a repair.
    pub fn repair_items(&self, space: &SpaceName) -> Result<Vec<RepairItem>, StoreError> {
        let log = self.database.begin_read()?.open_table(LOG)?;
        let mut items = Vec::new();
        for entry in log.range(above(space.as_str(), 0))? {
            let LogRow { document, heads, .. } = LogRow::decode(entry?.1.value());
            items.push(RepairItem { document, heads });
        }
        Ok(items)
    }

    /// The digests of a space's collections.
    pub fn digests(&self, space: &SpaceName) -> Result<Vec<CollectionDigest>, StoreError> {
        let table = self.database.begin_read()?.open_table(DIGESTS)?;
        let mut digests = Vec::new();
        for entry in table.range((space.as_str(), "")..)? {
            let (key, digest) = entry?;
            let (of, collection) = key.value();
            if of != space.as_str() {
                break;
            }
            // Only checked names were ever written.
            let Ok(collection) = CollectionName::new(collection) else { continue };
            let digest = SetDigest::from_bytes(*digest.value());
            digests.push(CollectionDigest { collection, digest });
        }
        Ok(digests)
    }

    /// About a frame of a document from position `from` on; `None` if there is no such document.
    ///
    /// A reader that lacks what was folded away, or everything, gets the snapshot: part by part,
    /// where `under_way` says which (by the last position it covers) and how many bytes of it were
    /// sent. If another has taken its place, that one from its beginning.
    pub fn part(
        &self,
        document: &DocumentId,
        from: u64,
        under_way: Option<(u64, u64)>,
    ) -> Result<Option<Part>, StoreError> {
        let transaction = self.database.begin_read()?;
        let documents = transaction.open_table(DOCUMENTS)?;
        let Some(row) = own_row(&documents, document)? else { return Ok(None) };
        match &row.snapshot {
            Some(snapshot) if from <= snapshot.folded.max(row.first) => {
                let parts = transaction.open_table(SNAPSHOTS)?;
                snapshot_part(&parts, document, row.collection, snapshot, under_way).map(Some)
            }
            _ => {
                let chunks = transaction.open_table(CHUNKS)?;
                changes_part(&documents, &chunks, document, row.collection, from).map(Some)
            }
        }
    }

    /// Where what a holder of `heads` lacks of a document begins.
    pub fn locate(
        &mut self,
        document: &DocumentId,
        heads: &[ShortHash],
    ) -> Result<Located, StoreError> {
        let Some(held) = self.load(document)? else {
            let wanted = (!heads.is_empty()).then(Vec::new);
            return Ok(Located { from: None, wanted });
        };
        let since = held.graph.since(heads);
        let first = since.ranks.first().and_then(|rank| held.positions.get(*rank as usize));
        let wanted = since.unknown.then(|| short_heads(&held.graph));
        Ok(Located { from: first.copied(), wanted })
    }

    /// The heads of a document as a frame names them; none if it is unknown.
    pub fn short_heads(&mut self, document: &DocumentId) -> Result<Vec<ShortHash>, StoreError> {
        Ok(self.load(document)?.map(|held| short_heads(&held.graph)).unwrap_or_default())
    }

    /// The document's row and graph, from memory or from its rows.
    pub(super) fn load(&mut self, document: &DocumentId) -> Result<Option<&mut Held>, StoreError> {
        if !self.cache.contains(document) {
            let Some(held) = self.read_held(document)? else { return Ok(None) };
            self.graphs_loaded += 1;
            self.cache.insert(*document, held);
            self.evict();
        }
        Ok(self.cache.get(document))
    }

    pub(super) fn stored_space(&self, space: &SpaceName) -> Result<Option<SpaceRow>, StoreError> {
        let table = self.database.begin_read()?.open_table(SPACES)?;
        let row = table.get(space.as_str())?;
        row.map(|row| SpaceRow::decode(space.as_str(), row.value())).transpose()
    }

    fn read_held(&self, document: &DocumentId) -> Result<Option<Held>, StoreError> {
        let documents = self.database.begin_read()?.open_table(DOCUMENTS)?;
        let Some(row) = own_row(&documents, document)? else { return Ok(None) };
        let mut graph = ChangeGraph::new();
        let mut positions = Vec::new();
        for entry in documents.range((&document.0, 0)..(&document.0, OWN_ROW))? {
            let (key, value) = entry?;
            graph
                .push_encoded(ChangeRow::decode(document, value.value())?.graph)
                .map_err(|source| StoreError::Graph { document: *document, source })?;
            positions.push(key.value().1);
        }
        if positions.len() as u64 != row.changes {
            return Err(StoreError::Absent {
                document: *document,
                what: "end of the change graph",
            });
        }
        Ok(Some(Held { row, graph, positions }))
    }
}

fn short_heads(graph: &ChangeGraph) -> Vec<ShortHash> {
    graph.heads().iter().take(HEADS_MAX).map(|head| head.short()).collect()
}

fn above(space: &str, position: u64) -> impl RangeBounds<(&str, u64)> {
    (Bound::Excluded((space, position)), Bound::Included((space, u64::MAX)))
}

pub(super) type Rows = ReadOnlyTable<(&'static [u8; 16], u64), &'static [u8]>;

fn own_row(documents: &Rows, document: &DocumentId) -> Result<Option<DocumentRow>, StoreError> {
    let row = documents.get((&document.0, OWN_ROW))?;
    row.map(|row| DocumentRow::decode(document, row.value())).transpose()
}

fn first_after(documents: &Rows, document: &DocumentId, position: u64) -> Result<u64, StoreError> {
    let after = (&document.0, position + 1)..(&document.0, OWN_ROW);
    match documents.range(after)?.next() {
        Some(entry) => Ok(entry?.0.value().1),
        // The log promises one. If its row is lost, whatever follows is what can be sent.
        None => Ok(position + 1),
    }
}

fn changes_part(
    documents: &Rows,
    chunks: &Rows,
    document: &DocumentId,
    collection: CollectionName,
    from: u64,
) -> Result<Part, StoreError> {
    let mut changes: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut bytes = 0;
    for entry in documents.range((&document.0, from)..(&document.0, OWN_ROW))? {
        let (key, value) = entry?;
        let position = key.value().1;
        let row = ChangeRow::decode(document, value.value())?;
        bytes += row.chunk.len();
        let is_full = changes.len() == FRAME_CHANGES_MAX || bytes > FRAME_PAYLOAD_BYTES as u64;
        if is_full && !changes.is_empty() {
            return Ok(Part::Changes { collection, changes, next: Some(position) });
        }
        changes.push((position, chunk_of(chunks, document, position, row.chunk)?));
    }
    Ok(Part::Changes { collection, changes, next: None })
}

/// The bytes of a change that no snapshot had to take in.
pub(super) fn chunk_of(
    chunks: &Rows,
    document: &DocumentId,
    position: u64,
    chunk: Chunk<'_>,
) -> Result<Vec<u8>, StoreError> {
    let absent = || StoreError::Absent { document: *document, what: "bytes of a change" };
    match chunk {
        Chunk::Inline(bytes) => Ok(bytes.to_vec()),
        Chunk::Apart(_) => {
            let stored = chunks.get((&document.0, position))?.ok_or_else(absent)?;
            Ok(stored.value().to_vec())
        }
        Chunk::Folded => Err(absent()),
    }
}

fn snapshot_part(
    rows: &Rows,
    document: &DocumentId,
    collection: CollectionName,
    snapshot: &SnapshotRow,
    under_way: Option<(u64, u64)>,
) -> Result<Part, StoreError> {
    let SnapshotRow { covers, bytes: total, .. } = *snapshot;
    let offset = match under_way {
        Some((of, sent)) if of == covers && sent < total => sent,
        _ => 0,
    };
    match rows.get((&document.0, offset))? {
        Some(part) => {
            let bytes = part.value().to_vec();
            Ok(Part::Snapshot { collection, covers, offset, total, bytes })
        }
        None => Err(StoreError::Absent { document: *document, what: "snapshot" }),
    }
}
