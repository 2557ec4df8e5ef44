//! Chosen changes of a document, for peers that name the changes they lack.

use redb::ReadableDatabase;
use rejoin_core::{DocumentId, SpaceName};

use super::guard::confined;
use super::reads::{Rows, chunk_of};
use super::tables::{CHUNKS, ChangeRow, DOCUMENTS, SNAPSHOTS, SnapshotRow};
use super::{ChangeStore, StoreError};

/// Bytes of the first of the changes that were asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parcel {
    /// One change each; one item with a snapshot, and changes after it, if `is_document`.
    pub(crate) chunks: Vec<Vec<u8>>,
    /// The number of the changes asked for that are in it.
    pub(crate) taken: usize,
    pub(crate) is_document: bool,
}

impl ChangeStore {
    /// About `bytes_max` of the changes with these ranks, ascending: at least one of them, or a
    /// whole snapshot if the reader takes one and lacks folded changes, or everything. `None` if it
    /// would need a snapshot and does not take one.
    pub(crate) fn parcel(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
        ranks: &[u32],
        takes_document: bool,
        bytes_max: usize,
    ) -> Result<Option<Parcel>, StoreError> {
        let nothing = Parcel { chunks: Vec::new(), taken: 0, is_document: false };
        let Some(first) = ranks.first() else { return Ok(Some(nothing)) };
        let Some(cached) = self.load(space, document)? else { return Ok(Some(nothing)) };
        let (document, snapshot) = (cached.number, cached.row.snapshot.clone());
        let positions: Vec<u64> =
            ranks.iter().map(|rank| cached.positions[*rank as usize]).collect();
        let is_needed = snapshot.as_ref().is_some_and(|it| positions[0] <= it.folded);
        let is_better = snapshot.is_some() && *first == 0;
        match snapshot {
            Some(snapshot) if takes_document && (is_needed || is_better) => {
                let read = || self.snapshot_and_rest(document, &snapshot, &positions, bytes_max);
                confined(document, read).map(Some)
            }
            _ if is_needed => Ok(None),
            _ => {
                let read = || self.chunks_at(document, &positions, bytes_max);
                let (chunks, taken) = confined(document, read)?;
                Ok(Some(Parcel { chunks, taken, is_document: false }))
            }
        }
    }

    fn snapshot_and_rest(
        &mut self,
        document: u64,
        snapshot: &SnapshotRow,
        positions: &[u64],
        bytes_max: usize,
    ) -> Result<Parcel, StoreError> {
        let mut bytes = self.whole_snapshot(document, snapshot)?;
        let covered = positions.partition_point(|position| *position <= snapshot.covers);
        let room = bytes_max.saturating_sub(bytes.len());
        let (rest, taken) = self.chunks_at(document, &positions[covered..], room)?;
        rest.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
        Ok(Parcel { chunks: vec![bytes], taken: covered + taken, is_document: true })
    }

    fn whole_snapshot(
        &mut self,
        document: u64,
        snapshot: &SnapshotRow,
    ) -> Result<Vec<u8>, StoreError> {
        let parts = self.database.begin_read()?.open_table(SNAPSHOTS)?;
        self.verified.snapshot(&parts, document, snapshot)?;
        let mut bytes = Vec::with_capacity(snapshot.bytes as usize);
        for part in parts.range((document, 0)..=(document, u64::MAX))? {
            bytes.extend_from_slice(part?.1.value());
        }
        if bytes.len() as u64 == snapshot.bytes {
            Ok(bytes)
        } else {
            Err(StoreError::Absent { document, what: "snapshot" })
        }
    }

    /// Changes from the front until they are `bytes_max`, and how many that are.
    fn chunks_at(
        &self,
        document: u64,
        positions: &[u64],
        bytes_max: usize,
    ) -> Result<(Vec<Vec<u8>>, usize), StoreError> {
        let transaction = self.database.begin_read()?;
        let documents: Rows = transaction.open_table(DOCUMENTS)?;
        let chunks: Rows = transaction.open_table(CHUNKS)?;
        let mut taken = Vec::new();
        let mut bytes = 0;
        for position in positions {
            let row = documents.get((document, *position))?;
            let row = row.ok_or(StoreError::Absent { document, what: "change" })?;
            let row = ChangeRow::decode(document, row.value())?;
            bytes += row.chunk.len() as usize;
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.push(chunk_of(&chunks, document, *position, row)?);
        }
        let count = taken.len();
        Ok((taken, count))
    }
}
