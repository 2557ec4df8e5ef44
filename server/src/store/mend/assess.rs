//! The rows of a damaged document that can be believed.

use std::collections::{BTreeMap, BTreeSet};

use redb::WriteTransaction;
use rejoin_core::change;
use rejoin_core::{ChangeGraph, ChangeHash, GraphEntry};

use super::super::StoreError;
use super::super::reads::Rows;
use super::super::tables::{CHUNKS, ChangeRow, Chunk, DocumentRow, POSITIONS_END, SnapshotRow};
use super::super::verify::check_snapshot;

/// A document's rows as they are.
pub(in crate::store) struct Stored {
    rows: Vec<Row>,
    /// A snapshot that is sound by itself.
    snapshot: Option<SnapshotRow>,
}

/// One change's row.
pub(in crate::store) struct Row {
    pub(in crate::store) position: u64,
    pub(in crate::store) bytes: Vec<u8>,
    /// The bytes of a large change.
    pub(in crate::store) apart: Option<Vec<u8>>,
}

/// The part of it that is left.
pub(in crate::store) struct Assessed<'a> {
    pub(in crate::store) graph: ChangeGraph,
    /// In the order of positions, and so of ranks.
    pub(in crate::store) kept: Vec<Kept<'a>>,
    /// Changes that are sound and build on one that is not, each with its position.
    pub(in crate::store) orphans: Vec<(u64, &'a [u8])>,
    /// The number of changes that are lost.
    pub(in crate::store) lost: u64,
    /// Those of which something tells.
    pub(in crate::store) named: BTreeSet<ChangeHash>,
    lost_at: Vec<u64>,
    pub(in crate::store) snapshot: Option<SnapshotRow>,
    /// The snapshot has a change of which no row tells.
    contradicts: bool,
}

pub(in crate::store) struct Kept<'a> {
    pub(in crate::store) position: u64,
    pub(in crate::store) chunk: Chunk<'a>,
}

impl Stored {
    pub(super) fn read(
        documents: &Rows,
        chunks: &Rows,
        parts: &Rows,
        number: u64,
        own: Option<&DocumentRow>,
    ) -> Result<Self, StoreError> {
        let mut rows = Vec::new();
        for entry in documents.range((number, 0)..(number, POSITIONS_END))? {
            let (key, value) = entry?;
            let position = key.value().1;
            let apart = chunks.get((number, position))?.map(|chunk| chunk.value().to_vec());
            rows.push(Row { position, bytes: value.value().to_vec(), apart });
        }
        let mut stored_parts = BTreeMap::new();
        if own.is_none() {
            for part in parts.range((number, 0)..=(number, u64::MAX))? {
                let (key, part) = part?;
                stored_parts.insert(key.value().1, part.value().to_vec());
            }
        }
        let claimed = Self::claimed(number, &rows, own, &stored_parts);
        let sound = claimed
            .map(|snapshot| check_snapshot(parts, number, snapshot.bytes).map(|()| snapshot));
        let snapshot = match sound.transpose() {
            Ok(snapshot) => snapshot,
            Err(error) if error.is_confined() => None,
            Err(error) => return Err(error),
        };
        Ok(Self { rows, snapshot })
    }

    /// These rows, and a snapshot that is sound by itself.
    pub(in crate::store) fn of(rows: Vec<Row>, snapshot: Option<SnapshotRow>) -> Self {
        Self { rows, snapshot }
    }

    /// The snapshot that a document should have. If its own row is lost, only the folded changes
    /// tell how far the snapshot goes.
    pub(in crate::store) fn claimed(
        number: u64,
        rows: &[Row],
        own: Option<&DocumentRow>,
        parts: &BTreeMap<u64, Vec<u8>>,
    ) -> Option<SnapshotRow> {
        if let Some(own) = own {
            return own.snapshot.clone();
        }
        let is_folded = |row: &&Row| {
            ChangeRow::decode(number, &row.bytes).is_ok_and(|row| row.chunk == Chunk::Folded)
        };
        let folded: Vec<u64> = rows.iter().take_while(is_folded).map(|row| row.position).collect();
        let (changes, covers) = (folded.len() as u64, *folded.last()?);
        let bytes = parts.values().map(|part| part.len() as u64).sum();
        Some(SnapshotRow { covers, changes, bytes, folded: covers })
    }

    /// Writes the large changes that are kept, where they are not written yet.
    pub(in crate::store) fn write_apart(
        &self,
        transaction: &WriteTransaction,
        number: u64,
        assessed: &Assessed<'_>,
    ) -> Result<(), StoreError> {
        let kept = assessed.kept.iter().filter(|kept| matches!(kept.chunk, Chunk::Apart(_)));
        let kept: BTreeSet<u64> = kept.map(|kept| kept.position).collect();
        let mut chunks = transaction.open_table(CHUNKS)?;
        for row in self.rows.iter().filter(|row| kept.contains(&row.position)) {
            if let Some(apart) = &row.apart {
                chunks.insert((number, row.position), apart.as_slice())?;
            }
        }
        Ok(())
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.rows.last().map(|row| row.position)
    }

    pub(super) fn positions(&self) -> impl Iterator<Item = u64> {
        self.rows.iter().map(|row| row.position)
    }

    pub(in crate::store) fn assess(&self, number: u64) -> Assessed<'_> {
        let assessed = self.assess_with(number, self.snapshot.clone());
        if assessed.contradicts { self.assess_with(number, None) } else { assessed }
    }

    fn assess_with(&self, number: u64, snapshot: Option<SnapshotRow>) -> Assessed<'_> {
        let covers = snapshot.as_ref().map_or(0, |snapshot| snapshot.covers);
        let mut assessed = Assessed::new(snapshot);
        // The graph as its rows tell it, up to the first that is damaged, to which those after it
        // refer.
        let mut told = Some(ChangeGraph::new());
        for stored in &self.rows {
            let row = ChangeRow::decode(number, &stored.bytes).ok();
            let entry = told.as_mut().and_then(|graph| {
                let rank = graph.push_encoded(row?.graph).ok()?;
                Some(graph.entry(rank))
            });
            if entry.is_none() {
                told = None;
            }
            let is_covered = stored.position <= covers;
            let hash = entry.as_ref().map(|entry| entry.hash);
            let chunk = stored.chunk(row);
            let change = chunk.bytes().and_then(|bytes| change::parse(bytes).ok());
            let change = change.map(|change| GraphEntry::from(&change));
            let change = change.filter(|it| entry.as_ref().is_none_or(|e| e.hash == it.hash));
            match (change, entry) {
                (Some(change), _) => assessed.take(stored.position, change, chunk, is_covered),
                (None, Some(entry)) if is_covered => {
                    assessed.take(stored.position, entry, Bytes::InSnapshot, is_covered);
                }
                _ => assessed.lose(stored.position, hash, is_covered),
            }
        }
        assessed.name_missing();
        assessed.fold();
        assessed
    }
}

/// The place of the bytes of a change, if they are anywhere.
#[derive(Clone, Copy)]
enum Bytes<'a> {
    Inline(&'a [u8]),
    Apart(&'a [u8]),
    InSnapshot,
    Nowhere,
}

impl<'a> Bytes<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Inline(bytes) | Self::Apart(bytes) => Some(bytes),
            Self::InSnapshot | Self::Nowhere => None,
        }
    }
}

impl Row {
    fn chunk<'a>(&'a self, row: Option<ChangeRow<'a>>) -> Bytes<'a> {
        match (row.map(|row| row.chunk), &self.apart) {
            (Some(Chunk::Inline(bytes)), _) => Bytes::Inline(bytes),
            (_, Some(apart)) => Bytes::Apart(apart),
            _ => Bytes::Nowhere,
        }
    }
}

impl<'a> Assessed<'a> {
    fn new(snapshot: Option<SnapshotRow>) -> Self {
        Self {
            graph: ChangeGraph::new(),
            kept: Vec::new(),
            orphans: Vec::new(),
            lost: 0,
            named: BTreeSet::new(),
            lost_at: Vec::new(),
            snapshot,
            contradicts: false,
        }
    }

    /// The positions of changes that are not kept.
    pub(super) fn removed(&self) -> impl Iterator<Item = u64> {
        let orphans = self.orphans.iter().map(|(position, _)| *position);
        self.lost_at.iter().copied().chain(orphans)
    }

    /// What an orphan builds on, and nobody has, was lost.
    fn name_missing(&mut self) {
        let orphans = self.orphans.iter().filter_map(|(_, bytes)| change::parse(bytes).ok());
        let orphans = Vec::from_iter(orphans.map(|change| GraphEntry::from(&change)));
        let here: BTreeSet<ChangeHash> = orphans.iter().map(|orphan| orphan.hash).collect();
        let needed = orphans.iter().flat_map(|orphan| &orphan.deps).copied();
        let is_missing = |hash: &ChangeHash| !here.contains(hash) && !self.graph.contains(hash);
        self.named.extend(needed.filter(is_missing));
    }

    fn take(&mut self, position: u64, entry: GraphEntry, bytes: Bytes<'a>, is_covered: bool) {
        let hash = entry.hash;
        match (self.graph.insert(entry), bytes.bytes()) {
            (Ok(_), _) => {
                let chunk = match bytes {
                    Bytes::Inline(bytes) => Chunk::Inline(bytes),
                    // It was written from a length that fits.
                    Bytes::Apart(bytes) => Chunk::Apart(bytes.len() as u32),
                    Bytes::InSnapshot | Bytes::Nowhere => Chunk::Folded,
                };
                self.kept.push(Kept { position, chunk });
            }
            (Err(_), Some(bytes)) => {
                self.orphans.push((position, bytes));
                self.contradicts |= is_covered;
            }
            (Err(_), None) => self.lose(position, Some(hash), is_covered),
        }
    }

    fn lose(&mut self, position: u64, hash: Option<ChangeHash>, is_covered: bool) {
        self.named.extend(hash);
        self.lost += 1;
        self.lost_at.push(position);
        self.contradicts |= is_covered;
    }

    /// If the bytes of a change are in the snapshot only, so are those of all before it.
    fn fold(&mut self) {
        let is_folded = |kept: &Kept<'_>| kept.chunk == Chunk::Folded;
        let Some(end) = self.kept.iter().rposition(is_folded) else { return };
        let folded = self.kept[end].position;
        self.kept[..=end].iter_mut().for_each(|kept| kept.chunk = Chunk::Folded);
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.folded = snapshot.folded.max(folded);
        }
    }
}
