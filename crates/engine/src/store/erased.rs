//! Documents that an operator erased at a relay: of each only a row stays that says so.

use minicbor::{Decode, Encode};
use redb::{Database, ReadableTable, TableDefinition};
use rejoin_core::{CollectionName, DocumentId, Genesis, NameError, SpaceName};
use rejoin_overwrite::{overwrite_free, rebuild_alone};

use super::misfits::MISFITS;
use super::reviews::{RESOLVED, REVIEWS};
use super::rows::{Row, decode, encode};
use super::tables::{
    BEGUN, BOOKED, BOOKINGS, CHANGES, DOCUMENTS, IMPORTED, INDEX, INDEXED, META, PIECES,
    QUARANTINE, SET_ASIDE, SNAPSHOTS, UNIQUE, UNIQUES, VALUES,
};
use super::{ReadTxn, StoreError, WriteTxn, unavailable};

/// Table: documents that were erased
/// Key:   `[u8; 16]` # [`DocumentId`]
/// Value: `&[u8]`    # [`ErasedRow`], CBOR
pub(super) const ERASED: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("erased-1");

/// A document that was erased.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ErasedRow {
    /// The space that it was in.
    #[n(0)]
    pub space: SpaceName,
    /// The collection.
    #[n(1)]
    pub collection: CollectionName,
}

impl Row for ErasedRow {
    const TABLE: &'static str = "erased";
}

macro_rules! reads {
    ($txn:ident) => {
        impl $txn {
            /// What is left of a document that was erased.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn erased(&self, id: &DocumentId) -> Result<Option<ErasedRow>, StoreError> {
                let table = self.txn.open_table(ERASED).map_err(unavailable)?;
                let row = table.get(id.0).map_err(unavailable)?;
                row.map(|row| decode(row.value())).transpose()
            }

            /// Calls `each` with every document that was erased.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn each_erased(
                &self,
                mut each: impl FnMut(DocumentId, ErasedRow),
            ) -> Result<(), StoreError> {
                let table = self.txn.open_table(ERASED).map_err(unavailable)?;
                for row in table.iter().map_err(unavailable)? {
                    let (id, row) = row.map_err(unavailable)?;
                    each(DocumentId(id.value()), decode(row.value())?);
                }
                Ok(())
            }

            /// Calls `each` with the documents that were erased and come after an id, by their ids,
            /// until it returns `false`.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn each_erased_after(
                &self,
                after: &DocumentId,
                mut each: impl FnMut(DocumentId, ErasedRow) -> bool,
            ) -> Result<(), StoreError> {
                let table = self.txn.open_table(ERASED).map_err(unavailable)?;
                let after = (std::ops::Bound::Excluded(after.0), std::ops::Bound::Unbounded);
                for row in table.range::<[u8; 16]>(after).map_err(unavailable)? {
                    let (id, row) = row.map_err(unavailable)?;
                    if !each(DocumentId(id.value()), decode(row.value())?) {
                        break;
                    }
                }
                Ok(())
            }

            /// The document that has a natural key now: the first that was not erased. On a replica
            /// that is still being filled the mark of an erasure may come after the document that took
            /// its key, so a document that is here goes before a first one that is not.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn keyed(
                &self,
                space: &SpaceName,
                collection: &CollectionName,
                key: &str,
            ) -> Result<Result<(Genesis, DocumentId), NameError>, StoreError> {
                let mut genesis = match Genesis::first(key) {
                    Ok(genesis) => genesis,
                    Err(error) => return Ok(Err(error)),
                };
                let (mut free, mut ahead) = (None, 0);
                while ahead < AHEAD {
                    let id = DocumentId::derive(space, collection, &genesis);
                    if self.document(&id)?.is_some() {
                        return Ok(Ok((genesis, id)));
                    }
                    if self.erased(&id)?.is_some() {
                        (free, ahead) = (None, 0);
                    } else {
                        free.get_or_insert((genesis.clone(), id));
                        ahead += 1;
                    }
                    genesis.incarnation += 1;
                }
                let none = || (genesis.clone(), DocumentId::derive(space, collection, &genesis));
                Ok(Ok(free.unwrap_or_else(none)))
            }
        }
    };
}

reads!(ReadTxn);
reads!(WriteTxn);

impl ReadTxn {
    /// Whether pages of the file may still hold something that was erased.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub(crate) fn is_overwrite_due(&self) -> Result<bool, StoreError> {
        let meta = self.txn.open_table(META).map_err(unavailable)?;
        Ok(meta.get(OVERWRITE).map_err(unavailable)?.is_some())
    }
}

impl WriteTxn {
    /// Notes that a document was erased, or that it was not.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub(crate) fn put_erased(
        &self,
        id: &DocumentId,
        row: Option<&ErasedRow>,
    ) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(ERASED).map_err(unavailable)?;
        match row {
            Some(row) => table.insert(id.0, encode(row).as_slice()).map_err(unavailable)?,
            None => table.remove(id.0).map_err(unavailable)?,
        };
        Ok(())
    }

    /// Removes the parts of a document that came from relays, whichever that are, and returns whether
    /// there were any. What is wanted of it stays, until its answer is counted.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub(crate) fn remove_arrivals(&self, id: &DocumentId) -> Result<bool, StoreError> {
        let mut is_removed = false;
        let mut stays = |document: [u8; 16]| {
            is_removed |= document == id.0;
            document != id.0
        };
        let mut begun = self.txn.open_table(BEGUN).map_err(unavailable)?;
        begun.retain(|(_, _, document), _| stays(document)).map_err(unavailable)?;
        let mut pieces = self.txn.open_table(PIECES).map_err(unavailable)?;
        pieces.retain(|(_, document, _), _| stays(document)).map_err(unavailable)?;
        Ok(is_removed)
    }

    /// Notes whether pages of the file may still hold something that was erased.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub(crate) fn mark_overwrite(&self, is_due: bool) -> Result<(), StoreError> {
        let mut meta = self.txn.open_table(META).map_err(unavailable)?;
        if is_due {
            meta.insert(OVERWRITE, [].as_slice()).map_err(unavailable)?;
        } else {
            meta.remove(OVERWRITE).map_err(unavailable)?;
        }
        Ok(())
    }
}

/// Writes over what is left in a file of rows that were removed. A row may have been anywhere in the
/// tables that have content in their keys, or a number that nobody knows any more. Each table is a
/// commit of its own, so that the file needs room for one of them and not for all.
pub(super) fn overwrite(database: &mut Database) -> Result<(), redb::Error> {
    rebuild_alone(database, DOCUMENTS)?;
    rebuild_alone(database, SNAPSHOTS)?;
    rebuild_alone(database, CHANGES)?;
    rebuild_alone(database, VALUES)?;
    rebuild_alone(database, REVIEWS)?;
    rebuild_alone(database, RESOLVED)?;
    rebuild_alone(database, MISFITS)?;
    rebuild_alone(database, INDEX)?;
    rebuild_alone(database, INDEXED)?;
    rebuild_alone(database, UNIQUES)?;
    rebuild_alone(database, UNIQUE)?;
    rebuild_alone(database, BOOKINGS)?;
    rebuild_alone(database, BOOKED)?;
    rebuild_alone(database, QUARANTINE)?;
    rebuild_alone(database, PIECES)?;
    rebuild_alone(database, SET_ASIDE)?;
    rebuild_alone(database, IMPORTED)?;
    overwrite_free(database)
}

/// Incarnations that are looked for beyond one that is not here.
const AHEAD: u32 = 2;

/// The row of the file itself that says so.
const OVERWRITE: &str = "overwrite";
