//! Writes of local work that a relay will never take.

use redb::ReadableTable;

use super::rows::encode;
use super::tables::SET_ASIDE;
use super::{SetAsideRow, StoreError, WriteTxn, unavailable};

impl WriteTxn {
    /// Writes a row of local work that was set aside.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_set_aside(&self, key: u64, row: &SetAsideRow) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(SET_ASIDE).map_err(unavailable)?;
        table.insert(key, encode(row).as_slice()).map_err(unavailable)?;
        Ok(())
    }

    /// Keeps local work that a relay will never take.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn push_set_aside(&self, row: &SetAsideRow) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(SET_ASIDE).map_err(unavailable)?;
        let last = table.last().map_err(unavailable)?.map_or(0, |(key, _)| key.value());
        table.insert(last + 1, encode(row).as_slice()).map_err(unavailable)?;
        Ok(())
    }
}
