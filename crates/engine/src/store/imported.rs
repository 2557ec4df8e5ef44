//! The words of files about documents when they were last imported here, so that a file with
//! nothing new writes nothing, even if people decided something else meanwhile.

use std::collections::BTreeMap;

use redb::ReadableTable;
use rejoin_core::DocumentId;
use sha2::{Digest, Sha256};

use super::tables::IMPORTED;
use super::{StoreError, WriteTxn, unavailable};

/// The cells of one row as hashes, by a hash of their column's name. Two that are taken for one are
/// out of the question within a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ImportedRow(BTreeMap<[u8; 4], [u8; 8]>);

impl ImportedRow {
    /// Whether the last file about the document had another cell in this column.
    pub(crate) fn said_other_than(&self, column: &str, cell: &str) -> bool {
        self.0.get(&hash(column)).is_some_and(|said| *said != hash(cell))
    }

    /// Notes the cell of a column, and tells whether it was the same before.
    pub(crate) fn says(&mut self, column: &str, cell: &str) -> bool {
        let now = hash(cell);
        self.0.insert(hash(column), now) == Some(now)
    }
}

fn hash<const N: usize>(text: &str) -> [u8; N] {
    let hash: [u8; 32] = Sha256::digest(text).into();
    *hash.first_chunk().expect("N is at most 32")
}

impl WriteTxn {
    /// The words of files about a document so far.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub(crate) fn imported(&self, id: &DocumentId) -> Result<ImportedRow, StoreError> {
        let Some(number) = self.number(id)? else { return Ok(ImportedRow::default()) };
        let table = self.txn.open_table(IMPORTED).map_err(unavailable)?;
        let row = table.get(number).map_err(unavailable)?;
        let Some(row) = row else { return Ok(ImportedRow::default()) };
        // A row that is cut short, as on a damaged disk, only means that cells are compared again.
        let (cells, _) = row.value().as_chunks::<12>();
        let cell = |cell: &[u8; 12]| {
            let (column, said) = (cell.first_chunk::<4>(), cell.last_chunk::<8>());
            Some((*column?, *said?))
        };
        Ok(ImportedRow(cells.iter().filter_map(cell).collect()))
    }

    /// Forgets the words of files about a document.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub(crate) fn forget_imported(&self, id: &DocumentId) -> Result<(), StoreError> {
        let Some(number) = self.number(id)? else { return Ok(()) };
        let mut table = self.txn.open_table(IMPORTED).map_err(unavailable)?;
        table.remove(number).map_err(unavailable)?;
        Ok(())
    }

    /// Keeps the words of files about a document.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub(crate) fn put_imported(
        &self,
        id: &DocumentId,
        row: &ImportedRow,
    ) -> Result<(), StoreError> {
        let number = self.number_or_new(id)?;
        let bytes: Vec<u8> =
            row.0.iter().flat_map(|(column, said)| column.iter().chain(said)).copied().collect();
        let mut table = self.txn.open_table(IMPORTED).map_err(unavailable)?;
        table.insert(number, bytes.as_slice()).map_err(unavailable)?;
        Ok(())
    }
}
