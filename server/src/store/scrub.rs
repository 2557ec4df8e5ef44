//! Looks over everything that is stored, a little at a time: rows that nobody reads rot unseen.

use redb::{ReadOnlyTable, ReadableDatabase};
use rejoin_core::ChangeGraph;
use rejoin_core::change::ChunkSum;

use super::guard::confined;
use super::reads::{Rows, chunk_of};
use super::tables::{
    CHUNKS, ChangeRow, Chunk, DOCUMENTS, DocumentRow, LATEST, LATEST_BYTES, OWN_ROW, POSITIONS_END,
    SNAPSHOTS, SnapshotRow,
};
use super::{ChangeStore, StoreError};

/// The progress of a look over the store: documents by their numbers, and of each its changes, its
/// own row, and its snapshot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scrub {
    number: u64,
    /// The next position in the document, and how many changes come before it.
    position: u64,
    rank: u32,
    /// The position of the last change that was looked at.
    last: u64,
    /// The sum over the document's snapshot so far.
    snapshot: Option<Summing>,
}

#[derive(Debug, Clone)]
struct Summing {
    covers: u64,
    offset: u64,
    sum: ChunkSum,
}

/// The result of a step of a scrub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Scrubbed {
    /// Documents that were looked at to their end.
    pub(crate) documents: u64,
    /// Whether there are no more.
    pub(crate) is_end: bool,
}

/// The result of one look.
enum Looked {
    /// At so many bytes, and there is more of the document.
    Bytes(u64),
    /// The document is sound.
    Document,
    /// There are no more documents.
    End,
}

struct Tables {
    documents: Rows,
    chunks: Rows,
    snapshots: Rows,
    latest: ReadOnlyTable<(u32, u64), &'static [u8; LATEST_BYTES]>,
}

impl Scrub {
    /// A look that begins with this document.
    pub(crate) fn from(number: u64) -> Self {
        Self { number, ..Self::default() }
    }
}

impl ChangeStore {
    /// Looks at so many documents and bytes at most, give or take a row, and goes on there next
    /// time. Damaged documents become suspects.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) fn scrub(
        &mut self,
        scrub: &mut Scrub,
        documents_max: u64,
        bytes_max: u64,
    ) -> Result<Scrubbed, StoreError> {
        let tables = self.scrub_tables()?;
        let mut scrubbed = Scrubbed::default();
        let mut bytes = 0;
        while scrubbed.documents < documents_max && bytes < bytes_max {
            match confined(scrub.number, || scrub.look(&tables)) {
                Ok(Looked::Bytes(looked)) => bytes += looked,
                Ok(Looked::Document) => scrubbed.documents += 1,
                Ok(Looked::End) => {
                    scrubbed.is_end = true;
                    break;
                }
                Err(error) if error.is_confined() => {
                    self.suspect(&error);
                    scrubbed.documents += 1;
                    *scrub = Scrub::from(scrub.number + 1);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(scrubbed)
    }

    /// Looks at everything of one document.
    ///
    /// # Errors
    /// It is damaged, or the database cannot be read.
    pub(super) fn check(&self, number: u64) -> Result<(), StoreError> {
        let tables = self.scrub_tables()?;
        let mut scrub = Scrub::from(number);
        loop {
            let looked = confined(number, || scrub.look(&tables))?;
            if matches!(looked, Looked::Document) && scrub.number == number + 1 {
                return Ok(());
            }
            if matches!(looked, Looked::End) || scrub.number != number {
                return Err(StoreError::Absent { document: number, what: "row" });
            }
        }
    }

    /// The last number that a document was given.
    pub(crate) fn last_number(&self) -> u64 {
        self.numbers.documents
    }

    fn scrub_tables(&self) -> Result<Tables, StoreError> {
        let transaction = self.database.begin_read()?;
        Ok(Tables {
            documents: transaction.open_table(DOCUMENTS)?,
            chunks: transaction.open_table(CHUNKS)?,
            snapshots: transaction.open_table(SNAPSHOTS)?,
            latest: transaction.open_table(LATEST)?,
        })
    }
}

impl Scrub {
    /// Looks at the next row, or at the next part of the snapshot.
    fn look(&mut self, tables: &Tables) -> Result<Looked, StoreError> {
        let mut rows = tables.documents.range((self.number, self.position)..)?;
        let Some((key, value)) = rows.next().transpose()? else { return Ok(Looked::End) };
        let (number, position) = key.value();
        if number != self.number {
            *self = Self::from(number);
        }
        if position < POSITIONS_END {
            let bytes = self.check_change(tables, position, value.value())?;
            self.position = position + 1;
            self.last = position;
            self.rank += 1;
            return Ok(Looked::Bytes(bytes));
        }
        if position < OWN_ROW {
            self.position = position + 1;
            return Ok(Looked::Bytes(ROW_BYTES));
        }
        let row = DocumentRow::decode(number, value.value())?;
        if let Some(snapshot) = &row.snapshot
            && let Some(bytes) = self.add_up(tables, snapshot)?
        {
            return Ok(Looked::Bytes(bytes));
        }
        self.check_own(tables, &row)?;
        *self = Self::from(number + 1);
        Ok(Looked::Document)
    }

    fn check_change(
        &self,
        tables: &Tables,
        position: u64,
        value: &[u8],
    ) -> Result<u64, StoreError> {
        let document = self.number;
        let row = ChangeRow::decode(document, value)?;
        if !ChangeGraph::is_row_sound(self.rank, row.graph) {
            return Err(StoreError::Damaged { document, what: "row of a change" });
        }
        match row.chunk {
            Chunk::Folded => Ok(ROW_BYTES),
            _ => Ok(chunk_of(&tables.chunks, document, position, row)?.len() as u64 + ROW_BYTES),
        }
    }

    /// Adds up a part of the snapshot, and gives its bytes; `None` when all of it is sound.
    fn add_up(
        &mut self,
        tables: &Tables,
        snapshot: &SnapshotRow,
    ) -> Result<Option<u64>, StoreError> {
        let document = self.number;
        let covers = snapshot.covers;
        // Another snapshot may have taken its place meanwhile.
        let summing = self.snapshot.take().filter(|summing| summing.covers == covers);
        let mut summing =
            summing.unwrap_or_else(|| Summing { covers, offset: 0, sum: ChunkSum::new() });
        if summing.offset < snapshot.bytes {
            let part = tables.snapshots.get((document, summing.offset))?;
            let part = part.ok_or(StoreError::Absent { document, what: "snapshot" })?;
            let bytes = part.value().len() as u64;
            if bytes == 0 {
                return Err(StoreError::Damaged { document, what: "snapshot" });
            }
            summing.sum.update(part.value());
            summing.offset += bytes;
            self.snapshot = Some(summing);
            return Ok(Some(bytes));
        }
        if summing.offset == snapshot.bytes && summing.sum.is_sound() {
            Ok(None)
        } else {
            Err(StoreError::Damaged { document, what: "snapshot" })
        }
    }

    /// Checks that the document's own row agrees with its other rows.
    fn check_own(&self, tables: &Tables, row: &DocumentRow) -> Result<(), StoreError> {
        let document = self.number;
        let last = if row.erased_ms.is_some() { row.last } else { self.last };
        if row.changes != u64::from(self.rank) || row.last != last {
            return Err(StoreError::Absent { document, what: "end of the change graph" });
        }
        let latest = tables.latest.get((row.space, row.last))?;
        if latest.is_some_and(|latest| *latest.value() == row.latest(document).encode()) {
            Ok(())
        } else {
            Err(StoreError::Damaged { document, what: "last change" })
        }
    }
}

/// The cost of a look at a row, beside the bytes of its change.
const ROW_BYTES: u64 = 256;
