//! The identity as which the replica edits.

use rejoin_core::Identity;

use super::rows::{Row, decode, encode};
use super::tables::META;
use super::{ReadTxn, StoreError, WriteTxn, unavailable};

impl Row for Identity {
    const TABLE: &'static str = "identity";
}

impl ReadTxn {
    /// The identity as which the replica edits, if it has one.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn identity(&self) -> Result<Option<Identity>, StoreError> {
        let meta = self.txn.open_table(META).map_err(unavailable)?;
        let row = meta.get(IDENTITY).map_err(unavailable)?;
        row.map(|row| decode(row.value())).transpose()
    }
}

impl WriteTxn {
    /// Sets the identity as which the replica edits.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_identity(&self, identity: Option<&Identity>) -> Result<(), StoreError> {
        let mut meta = self.txn.open_table(META).map_err(unavailable)?;
        match identity {
            Some(identity) => meta.insert(IDENTITY, encode(identity).as_slice()),
            None => meta.remove(IDENTITY),
        }
        .map_err(unavailable)?;
        Ok(())
    }
}

const IDENTITY: &str = "identity";
