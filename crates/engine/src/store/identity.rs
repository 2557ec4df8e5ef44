//! The identity as which the replica edits.

use rejoin_core::Identity;

use super::rows::{Row, decode, encode};
use super::tables::META;
use super::{ReadTxn, StoreError, WriteTxn, unavailable};

impl Row for Identity {
    const TABLE: &'static str = "identity";
}

impl ReadTxn {
    /// A row about the file itself, if there is one.
    pub(super) fn meta_row<R: Row>(&self, name: &str) -> Result<Option<R>, StoreError> {
        let meta = self.txn.open_table(META).map_err(unavailable)?;
        let row = meta.get(name).map_err(unavailable)?;
        row.map(|row| decode(row.value())).transpose()
    }

    /// The identity as which the replica edits, if it has one.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn identity(&self) -> Result<Option<Identity>, StoreError> {
        self.meta_row(IDENTITY)
    }
}

impl WriteTxn {
    /// Writes a row about the file itself, or removes it.
    pub(super) fn put_meta_row<R: Row>(
        &self,
        name: &str,
        row: Option<&R>,
    ) -> Result<(), StoreError> {
        let mut meta = self.txn.open_table(META).map_err(unavailable)?;
        match row {
            Some(row) => meta.insert(name, encode(row).as_slice()),
            None => meta.remove(name),
        }
        .map_err(unavailable)?;
        Ok(())
    }

    /// Sets the identity as which the replica edits.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_identity(&self, identity: Option<&Identity>) -> Result<(), StoreError> {
        self.put_meta_row(IDENTITY, identity)
    }
}

const IDENTITY: &str = "identity";
