//! The removal of a document from all tables.

use std::collections::BTreeMap;

use rejoin_core::DocumentId;

use super::tables::{DOCUMENTS, QUARANTINE, SNAPSHOTS, VALUES};
use super::{DocumentRow, StoreError, WriteTxn, unavailable};

impl WriteTxn {
    /// Removes the snapshot of a document.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn remove_snapshot(&self, id: &DocumentId) -> Result<(), StoreError> {
        let Some(number) = self.number(id)? else { return Ok(()) };
        let mut table = self.txn.open_table(SNAPSHOTS).map_err(unavailable)?;
        table.remove(number).map_err(unavailable)?;
        Ok(())
    }

    /// Removes everything about a document but its digest. Returns whether a review named it.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn remove_document(&self, id: &DocumentId, row: &DocumentRow) -> Result<bool, StoreError> {
        for key in self.waiting(id)? {
            self.remove_outbox(key)?;
        }
        self.remove_changes(id, 0..row.next, |_| false)?;
        self.remove_snapshot(id)?;
        self.mark_stale(id, false)?;
        self.clear_document_invariants(id, row)?;
        let has_reviews = self.put_reviews(&row.space, id, &BTreeMap::new())?.changed;
        self.put_held(id, None)?;
        self.put_misfits(id, &[])?;
        self.put_indexed(id, row, &BTreeMap::new())?;
        self.forget_imported(id)?;
        self.remove_resolved(&row.space, id)?;
        let mut quarantine = self.txn.open_table(QUARANTINE).map_err(unavailable)?;
        let all = (id.0, [0; 32])..=(id.0, [0xff; 32]);
        quarantine.retain_in(all, |_, _| false).map_err(unavailable)?;
        let Some(number) = self.number(id)? else { return Ok(has_reviews) };
        let mut values = self.txn.open_table(VALUES).map_err(unavailable)?;
        let key = (row.space.as_str(), row.collection.as_str(), number);
        values.remove(key).map_err(unavailable)?;
        let mut documents = self.txn.open_table(DOCUMENTS).map_err(unavailable)?;
        documents.remove(number).map_err(unavailable)?;
        self.forget_number(id)?;
        Ok(has_reviews)
    }
}
