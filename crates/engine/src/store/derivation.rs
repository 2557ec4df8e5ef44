//! The version of the rules by which the stored values and reviews were derived.
//!
//! A program with another version of the rules, newer or older, looks at every document again, so
//! two replicas of one version show the same, even if they were of different ones before. (Programs
//! from before there was a number leave it as it is; values that they wrote are looked at when
//! their document is next touched.)

use redb::{Database, ReadableDatabase, ReadableTable};
use rejoin_core::lineage::DERIVATION;
use tracing::info;

use super::tables::{DOCUMENTS, META, STALE};
use super::{ReadTxn, StoreError, WriteTxn, unavailable};

/// Marks every document's value as behind, once, if it was derived by another version.
pub(super) fn mark_derived_otherwise(database: &Database) -> Result<(), StoreError> {
    let txn = database.begin_read().map_err(unavailable)?;
    let meta = txn.open_table(META).map_err(unavailable)?;
    if version(&meta, DERIVED)? == Some(DERIVATION) || version(&meta, MARKED)? == Some(DERIVATION) {
        return Ok(());
    }
    drop((meta, txn));
    let txn = database.begin_write().map_err(unavailable)?;
    let mut marked = 0u64;
    {
        let documents = txn.open_table(DOCUMENTS).map_err(unavailable)?;
        let mut stale = txn.open_table(STALE).map_err(unavailable)?;
        for row in documents.iter().map_err(unavailable)? {
            let (id, _) = row.map_err(unavailable)?.1.value();
            stale.insert(id, ()).map_err(unavailable)?;
            marked += 1;
        }
        let mut meta = txn.open_table(META).map_err(unavailable)?;
        // A file without documents has no value that is behind.
        let name = if marked == 0 { DERIVED } else { MARKED };
        // A program that opens the file before all were looked at finds values of both versions.
        meta.remove(DERIVED).map_err(unavailable)?;
        meta.insert(name, DERIVATION.to_be_bytes().as_slice()).map_err(unavailable)?;
    }
    txn.commit().map_err(unavailable)?;
    if marked > 0 {
        info!(
            documents = marked,
            "this version derives values by other rules; looking at all again"
        );
    }
    Ok(())
}

impl ReadTxn {
    /// Whether documents may still have values that were derived by another version.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn is_derived_otherwise(&self) -> Result<bool, StoreError> {
        let meta = self.txn.open_table(META).map_err(unavailable)?;
        Ok(version(&meta, DERIVED)? != Some(DERIVATION))
    }
}

impl WriteTxn {
    /// Notes that no document's value is by another version any more.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_derived(&self) -> Result<(), StoreError> {
        let mut meta = self.txn.open_table(META).map_err(unavailable)?;
        meta.insert(DERIVED, DERIVATION.to_be_bytes().as_slice()).map_err(unavailable)?;
        meta.remove(MARKED).map_err(unavailable)?;
        Ok(())
    }
}

fn version(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<u32>, StoreError> {
    let row = meta.get(name).map_err(unavailable)?;
    let bytes =
        row.map(|row| row.value().try_into().map_err(|_| StoreError::Foreign)).transpose()?;
    Ok(bytes.map(u32::from_be_bytes))
}

/// The row of [`META`] with the version by which every value was derived.
const DERIVED: &str = "derived";

/// The row of [`META`] with the version for which all values were marked as behind.
const MARKED: &str = "derived-marked";
