//! The durable state of a replica, in one redb file.
//!
//! Everything that belongs together is written in one commit: a change, its place in the outbox,
//! the document's heads and value, and the digest of its collection. Whether a failed commit is in
//! the file is unknown: the engine drops the documents it has loaded, and the file is opened again.

mod arrivals;
mod derivation;
mod erased;
mod error;
mod identity;
mod imported;
mod index;
mod invariants;
mod migrate;
mod misfits;
mod numbers;
mod removal;
mod reviews;
mod rows;
mod salvage;
mod schema;
mod set_aside;
mod signed_in;
mod tables;
mod undo;
mod values;

use std::sync::{Arc, RwLock, RwLockReadGuard};

use redb::{
    Database, Durability, ReadableDatabase, ReadableMultimapTable, ReadableTable,
    ReadableTableMetadata, TableHandle, WriteTransaction,
};
use rejoin_core::{ChangeHash, CollectionName, DeviceId, DocumentId, SetDigest, SpaceName};

use derivation::mark_derived_otherwise;
pub use erased::ErasedRow;
use erased::overwrite;
pub use error::StoreError;
use error::unavailable;
pub(crate) use imported::ImportedRow;
pub use index::KeyRange;
use migrate::META_BEFORE;
use numbers::Numbers;
pub(crate) use reviews::ReviewsPut;
pub use reviews::{CandidateRow, ReviewKind, ReviewRow, ReviewedDocument, SettledRow};
pub use rows::{
    BegunRow, CursorRow, DigestRow, DocumentRow, OutboxRow, QuarantineRow, SetAsideRow, ValueRow,
};
use rows::{decode, encode};
pub use salvage::{Remains, Unreadable};
pub use signed_in::SignedInRow;
use tables::{
    CHANGES, DIGESTS, DOCUMENTS, META, NUMBERS, OUTBOX, QUARANTINE, SET_ASIDE, SNAPSHOTS, STALE,
    VALUES, WAITING, prepare,
};
pub use undo::{StepEditRow, StepRow};
use values::{decode_value, encode_value};

/// The replica's file, open. Readers on any thread see the last commit; only the engine writes.
#[derive(Debug)]
pub struct Store {
    /// `None` while the file is being opened again after a failed commit.
    database: RwLock<Option<Database>>,
    device: DeviceId,
    /// Cloned for every view: who has an older one may see pages that are free otherwise.
    view: Arc<()>,
}

impl Store {
    /// Opens a store in a database, making its tables if it is new.
    ///
    /// # Errors
    /// The database could not be read or written, or belongs to something else.
    pub fn open(database: Database, fresh: [u8; 16]) -> Result<Self, StoreError> {
        let txn = database.begin_read().map_err(unavailable)?;
        let tables = txn.list_tables().map_err(unavailable)?;
        let tables: Vec<String> = tables.map(|table| table.name().to_owned()).collect();
        drop(txn);
        let has = |name: &str| tables.iter().any(|table| table == name);
        if !has(META.name()) && !has(META_BEFORE.name()) && !tables.is_empty() {
            let is_relay = has(RELAY_TABLE);
            return Err(if is_relay { StoreError::RelayFile } else { StoreError::Foreign });
        }
        let device = prepare(&database, fresh)?;
        mark_derived_otherwise(&database)?;
        Ok(Self { database: RwLock::new(Some(database)), device, view: Arc::default() })
    }

    /// The id of this replica.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// A view of the last commit.
    ///
    /// # Errors
    /// The file is being opened again, or could not be read.
    pub fn read(&self) -> Result<ReadTxn, StoreError> {
        let database = self.database();
        let database = database.as_ref().ok_or(StoreError::Reopening)?;
        let txn = database.begin_read().map_err(unavailable)?;
        Ok(ReadTxn { txn, _view: self.view.clone() })
    }

    /// A transaction that [`WriteTxn::commit`] makes durable and dropping undoes.
    ///
    /// # Errors
    /// The file is being opened again, or could not be written.
    pub fn write(&self) -> Result<WriteTxn, StoreError> {
        let database = self.database();
        let database = database.as_ref().ok_or(StoreError::Reopening)?;
        let mut txn = database.begin_write().map_err(unavailable)?;
        txn.set_durability(Durability::Immediate).map_err(unavailable)?;
        Ok(WriteTxn { txn, numbers: Numbers::default() })
    }

    /// Writes over what is left in the file of documents that were erased; whoever wants a view waits
    /// meanwhile. Returns whether that was done: not while somebody has a view.
    ///
    /// # Errors
    /// The file is being opened again, or could not be written.
    pub(crate) fn overwrite(&self) -> Result<bool, StoreError> {
        // Nobody gets a view meanwhile.
        let mut database = self.database.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if Arc::strong_count(&self.view) > 1 {
            return Ok(false);
        }
        let database = database.as_mut().ok_or(StoreError::Reopening)?;
        overwrite(database).map_err(unavailable)?;
        Ok(true)
    }

    /// Closes the file after a failed commit, so that it can be opened again.
    pub fn close(&self) {
        *self.database.write().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }

    /// Puts the file opened again in place.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn reopen(&self, database: Database) -> Result<(), StoreError> {
        prepare(&database, self.device.0)?;
        *self.database.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(database);
        Ok(())
    }

    fn database(&self) -> RwLockReadGuard<'_, Option<Database>> {
        // A panic while somebody has the lock cannot leave an `Option` half written.
        self.database.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Reads common to a [`ReadTxn`] and a [`WriteTxn`]: both open a table by its definition, but
/// with types of their own.
macro_rules! reads {
    ($view:ident) => {
        impl $view {
            /// The row of a document.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn document(&self, id: &DocumentId) -> Result<Option<DocumentRow>, StoreError> {
                let Some(number) = self.number(id)? else { return Ok(None) };
                let table = self.txn.open_table(DOCUMENTS).map_err(unavailable)?;
                let row = table.get(number).map_err(unavailable)?;
                row.map(|row| decode(row.value().1)).transpose()
            }

            /// The snapshot of a document, if it has one.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn snapshot(&self, id: &DocumentId) -> Result<Option<Vec<u8>>, StoreError> {
                let Some(number) = self.number(id)? else { return Ok(None) };
                let table = self.txn.open_table(SNAPSHOTS).map_err(unavailable)?;
                Ok(table.get(number).map_err(unavailable)?.map(|row| row.value().to_vec()))
            }

            /// The changes of a document from a place on, with their places.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn changes(
                &self,
                id: &DocumentId,
                from: u64,
            ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
                let Some(number) = self.number(id)? else { return Ok(Vec::new()) };
                let table = self.txn.open_table(CHANGES).map_err(unavailable)?;
                let rows = table.range((number, from)..=(number, u64::MAX)).map_err(unavailable)?;
                rows.map(|row| {
                    let (key, chunk) = row.map_err(unavailable)?;
                    Ok((key.value().1, chunk.value().to_vec()))
                })
                .collect()
            }

            /// The changes of a document at these places.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn changes_in(
                &self,
                id: &DocumentId,
                places: std::ops::Range<u64>,
            ) -> Result<Vec<Vec<u8>>, StoreError> {
                let Some(number) = self.number(id)? else { return Ok(Vec::new()) };
                let table = self.txn.open_table(CHANGES).map_err(unavailable)?;
                let range = (number, places.start)..(number, places.end);
                let rows = table.range(range).map_err(unavailable)?;
                rows.map(|row| Ok(row.map_err(unavailable)?.1.value().to_vec())).collect()
            }

            /// The value of a document that people see.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn value(&self, id: &DocumentId) -> Result<Option<ValueRow>, StoreError> {
                let Some(document) = self.document(id)? else { return Ok(None) };
                let Some(number) = self.number(id)? else { return Ok(None) };
                let table = self.txn.open_table(VALUES).map_err(unavailable)?;
                let key = (document.space.as_str(), document.collection.as_str(), number);
                let row = table.get(key).map_err(unavailable)?;
                row.map(|row| decode_value(id, row.value().1)).transpose()
            }

            /// The same for a caller that can make it anew: `None` if it is damaged.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn sound_value(&self, id: &DocumentId) -> Result<Option<ValueRow>, StoreError> {
                match self.value(id) {
                    Err(StoreError::Value { .. } | StoreError::Row { table: "values", .. }) => {
                        Ok(None)
                    }
                    value => value,
                }
            }

            /// The digest of one collection.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn digest(
                &self,
                space: &SpaceName,
                collection: &CollectionName,
            ) -> Result<DigestRow, StoreError> {
                let table = self.txn.open_table(DIGESTS).map_err(unavailable)?;
                let row = table.get((space.as_str(), collection.as_str())).map_err(unavailable)?;
                row.map_or_else(|| Ok(DigestRow::default()), |row| decode(row.value()))
            }

            /// The digests of all collections of a space.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn digests(
                &self,
                space: &SpaceName,
            ) -> Result<Vec<(CollectionName, DigestRow)>, StoreError> {
                let table = self.txn.open_table(DIGESTS).map_err(unavailable)?;
                let rows = table.range((space.as_str(), "")..).map_err(unavailable)?;
                let mut digests = Vec::new();
                for row in rows {
                    let (key, row) = row.map_err(unavailable)?;
                    let (of, collection) = key.value();
                    if of != space.as_str() {
                        break;
                    }
                    digests.push((name(collection)?, decode(row.value())?));
                }
                Ok(digests)
            }

            /// Edits in the outbox from a key on, at most `max`.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn outbox(
                &self,
                from: u64,
                max: usize,
            ) -> Result<Vec<(u64, OutboxRow)>, StoreError> {
                let table = self.txn.open_table(OUTBOX).map_err(unavailable)?;
                let rows = table.range(from..).map_err(unavailable)?.take(max);
                rows.map(|row| {
                    let (key, row) = row.map_err(unavailable)?;
                    Ok((key.value(), decode(row.value())?))
                })
                .collect()
            }

            /// Whether an edit is in the outbox.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn waits(&self, key: u64) -> Result<bool, StoreError> {
                let table = self.txn.open_table(OUTBOX).map_err(unavailable)?;
                Ok(table.get(key).map_err(unavailable)?.is_some())
            }

            /// The latest edit in the outbox.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn outbox_last(&self) -> Result<Option<OutboxRow>, StoreError> {
                let table = self.txn.open_table(OUTBOX).map_err(unavailable)?;
                let row = table.last().map_err(unavailable)?;
                row.map(|(_, row)| decode(row.value())).transpose()
            }

            /// The number of edits that wait in the outbox.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn outbox_len(&self) -> Result<u64, StoreError> {
                self.txn.open_table(OUTBOX).map_err(unavailable)?.len().map_err(unavailable)
            }

            /// The key the next edit in the outbox will have.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn outbox_next(&self) -> Result<u64, StoreError> {
                let meta = self.txn.open_table(META).map_err(unavailable)?;
                let row = meta.get("outbox-next").map_err(unavailable)?;
                let Some(row) = row else { return Ok(1) };
                let bytes = row.value().try_into().map_err(|_| StoreError::Foreign)?;
                Ok(u64::from_be_bytes(bytes))
            }

            /// Keys in the outbox of one document's edits.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn waiting(&self, id: &DocumentId) -> Result<Vec<u64>, StoreError> {
                let Some(number) = self.number(id)? else { return Ok(Vec::new()) };
                let table = self.txn.open_multimap_table(WAITING).map_err(unavailable)?;
                let keys = table.get(number).map_err(unavailable)?;
                keys.map(|key| Ok(key.map_err(unavailable)?.value())).collect()
            }

            /// Quarantined changes of a document.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn quarantined(
                &self,
                id: &DocumentId,
            ) -> Result<Vec<(ChangeHash, QuarantineRow)>, StoreError> {
                let table = self.txn.open_table(QUARANTINE).map_err(unavailable)?;
                let range = (id.0, [0; 32])..=(id.0, [0xff; 32]);
                let rows = table.range(range).map_err(unavailable)?;
                rows.map(|row| {
                    let (key, row) = row.map_err(unavailable)?;
                    Ok((ChangeHash(key.value().1), decode(row.value())?))
                })
                .collect()
            }

            /// Documents whose value is behind.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn stale(&self) -> Result<Vec<DocumentId>, StoreError> {
                let table = self.txn.open_table(STALE).map_err(unavailable)?;
                let rows = table.iter().map_err(unavailable)?;
                rows.map(|row| Ok(DocumentId(row.map_err(unavailable)?.0.value()))).collect()
            }

            /// Whether the value of any document is behind.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn is_any_stale(&self) -> Result<bool, StoreError> {
                let table = self.txn.open_table(STALE).map_err(unavailable)?;
                table.is_empty().map(|is_empty| !is_empty).map_err(unavailable)
            }

            /// Whether the value of a document is behind.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn is_stale(&self, id: &DocumentId) -> Result<bool, StoreError> {
                let table = self.txn.open_table(STALE).map_err(unavailable)?;
                Ok(table.get(id.0).map_err(unavailable)?.is_some())
            }

            /// The number of local changes that were set aside.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn set_aside_len(&self) -> Result<u64, StoreError> {
                self.txn.open_table(SET_ASIDE).map_err(unavailable)?.len().map_err(unavailable)
            }

            /// Local work that was set aside.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn set_aside(&self) -> Result<Vec<(u64, SetAsideRow)>, StoreError> {
                let table = self.txn.open_table(SET_ASIDE).map_err(unavailable)?;
                let rows = table.iter().map_err(unavailable)?;
                rows.map(|row| {
                    let (key, row) = row.map_err(unavailable)?;
                    Ok((key.value(), decode(row.value())?))
                })
                .collect()
            }

            /// Calls `each` with the row of every document, in the order in which they came.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn each_document(
                &self,
                mut each: impl FnMut(DocumentId, DocumentRow),
            ) -> Result<(), StoreError> {
                let table = self.txn.open_table(DOCUMENTS).map_err(unavailable)?;
                for row in table.iter().map_err(unavailable)? {
                    let (_, value) = row.map_err(unavailable)?;
                    let (id, row) = value.value();
                    each(DocumentId(id), decode(row)?);
                }
                Ok(())
            }

            /// Calls `each` with the value that people see of every document of a collection, in
            /// the order in which the documents came, until it returns `false`.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn each_value(
                &self,
                space: &SpaceName,
                collection: &CollectionName,
                mut each: impl FnMut(DocumentId, ValueRow) -> bool,
            ) -> Result<(), StoreError> {
                let table = self.txn.open_table(VALUES).map_err(unavailable)?;
                let of = |number| (space.as_str(), collection.as_str(), number);
                for row in table.range(of(0)..=of(u64::MAX)).map_err(unavailable)? {
                    let (_, value) = row.map_err(unavailable)?;
                    let (id, row) = value.value();
                    let id = DocumentId(id);
                    if !each(id, decode_value(&id, row)?) {
                        break;
                    }
                }
                Ok(())
            }

            /// The spaces that have documents.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn spaces(&self) -> Result<Vec<SpaceName>, StoreError> {
                let table = self.txn.open_table(DIGESTS).map_err(unavailable)?;
                let mut spaces = Vec::<SpaceName>::new();
                for row in table.iter().map_err(unavailable)? {
                    let (key, _) = row.map_err(unavailable)?;
                    let space = key.value().0;
                    if spaces.last().is_none_or(|last| last.as_str() != space) {
                        spaces.push(SpaceName::new(space).map_err(|_| StoreError::Foreign)?);
                    }
                }
                Ok(spaces)
            }
        }
    };
}

/// A view of one commit.
pub struct ReadTxn {
    txn: redb::ReadTransaction,
    _view: Arc<()>,
}

/// A transaction under way.
pub struct WriteTxn {
    txn: WriteTransaction,
    numbers: Numbers,
}

reads!(ReadTxn);
reads!(WriteTxn);

impl WriteTxn {
    /// Makes everything written durable.
    ///
    /// # Errors
    /// It may or may not have become durable: drop the loaded documents and open the file
    /// again.
    pub fn commit(self) -> Result<(), StoreError> {
        self.keep_numbers()?;
        self.txn.commit().map_err(unavailable)
    }

    /// Writes the row of a document.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_document(&self, id: &DocumentId, row: &DocumentRow) -> Result<(), StoreError> {
        let number = self.number_or_new(id)?;
        let mut table = self.txn.open_table(DOCUMENTS).map_err(unavailable)?;
        table.insert(number, (id.0, encode(row).as_slice())).map_err(unavailable)?;
        Ok(())
    }

    /// Writes the snapshot of a document.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_snapshot(&self, id: &DocumentId, chunk: &[u8]) -> Result<(), StoreError> {
        let number = self.number_or_new(id)?;
        let mut table = self.txn.open_table(SNAPSHOTS).map_err(unavailable)?;
        table.insert(number, chunk).map_err(unavailable)?;
        Ok(())
    }

    /// Writes a change at its place.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_change(&self, id: &DocumentId, at: u64, chunk: &[u8]) -> Result<(), StoreError> {
        let number = self.number_or_new(id)?;
        let mut table = self.txn.open_table(CHANGES).map_err(unavailable)?;
        table.insert((number, at), chunk).map_err(unavailable)?;
        Ok(())
    }

    /// One change.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn change(&self, id: &DocumentId, at: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(number) = self.number(id)? else { return Ok(None) };
        let table = self.txn.open_table(CHANGES).map_err(unavailable)?;
        Ok(table.get((number, at)).map_err(unavailable)?.map(|row| row.value().to_vec()))
    }

    /// Removes the changes of a document at these places, but those `keep` names.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn remove_changes(
        &self,
        id: &DocumentId,
        places: std::ops::Range<u64>,
        keep: impl Fn(u64) -> bool,
    ) -> Result<(), StoreError> {
        let Some(number) = self.number(id)? else { return Ok(()) };
        let mut table = self.txn.open_table(CHANGES).map_err(unavailable)?;
        let range = (number, places.start)..(number, places.end);
        table.retain_in(range, |(_, at), _| keep(at)).map_err(unavailable)
    }

    /// Writes the value of a document that people see.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_value(
        &self,
        id: &DocumentId,
        document: &DocumentRow,
        value: &ValueRow,
    ) -> Result<(), StoreError> {
        let number = self.number_or_new(id)?;
        let mut table = self.txn.open_table(VALUES).map_err(unavailable)?;
        let key = (document.space.as_str(), document.collection.as_str(), number);
        table.insert(key, (id.0, encode_value(id, value).as_slice())).map_err(unavailable)?;
        Ok(())
    }

    /// Notes whether the value of a document is behind.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn mark_stale(&self, id: &DocumentId, stale: bool) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(STALE).map_err(unavailable)?;
        if stale {
            table.insert(id.0, ()).map_err(unavailable)?;
        } else {
            table.remove(id.0).map_err(unavailable)?;
        }
        Ok(())
    }

    /// Adds an edit to the outbox and gives its key.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn push_outbox(&self, row: &OutboxRow) -> Result<u64, StoreError> {
        let number = self.number_or_new(&row.document)?;
        let key = self.outbox_next()?;
        let mut meta = self.txn.open_table(META).map_err(unavailable)?;
        meta.insert("outbox-next", (key + 1).to_be_bytes().as_slice()).map_err(unavailable)?;
        let mut outbox = self.txn.open_table(OUTBOX).map_err(unavailable)?;
        outbox.insert(key, encode(row).as_slice()).map_err(unavailable)?;
        let mut waiting = self.txn.open_multimap_table(WAITING).map_err(unavailable)?;
        waiting.insert(number, key).map_err(unavailable)?;
        self.count_waiting(row, true)?;
        Ok(key)
    }

    /// Takes an edit out of the outbox.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn remove_outbox(&self, key: u64) -> Result<Option<OutboxRow>, StoreError> {
        let mut outbox = self.txn.open_table(OUTBOX).map_err(unavailable)?;
        let Some(row) = outbox.remove(key).map_err(unavailable)? else { return Ok(None) };
        let row: OutboxRow = decode(row.value())?;
        self.count_waiting(&row, false)?;
        let Some(number) = self.number(&row.document)? else { return Ok(Some(row)) };
        let mut waiting = self.txn.open_multimap_table(WAITING).map_err(unavailable)?;
        waiting.remove(number, key).map_err(unavailable)?;
        Ok(Some(row))
    }

    /// Writes the digest of a collection.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_digest(
        &self,
        space: &SpaceName,
        collection: &CollectionName,
        row: &DigestRow,
    ) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(DIGESTS).map_err(unavailable)?;
        let key = (space.as_str(), collection.as_str());
        table.insert(key, encode(row).as_slice()).map_err(unavailable)?;
        Ok(())
    }

    /// Keeps a change that could not be applied.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_quarantine(
        &self,
        id: &DocumentId,
        hash: &ChangeHash,
        row: &QuarantineRow,
    ) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(QUARANTINE).map_err(unavailable)?;
        table.insert((id.0, hash.0), encode(row).as_slice()).map_err(unavailable)?;
        Ok(())
    }
}

impl std::fmt::Debug for ReadTxn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadTxn").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for WriteTxn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteTxn").finish_non_exhaustive()
    }
}

/// The digest of a whole space: the sum over its collections.
pub fn space_digest(digests: &[(CollectionName, DigestRow)]) -> SetDigest {
    let mut sum = SetDigest::default();
    digests.iter().for_each(|(_, row)| sum.add(&row.digest));
    sum
}

/// A table that every relay's file has.
const RELAY_TABLE: &str = "identity-1";

fn name(collection: &str) -> Result<CollectionName, StoreError> {
    CollectionName::new(collection).map_err(|_| StoreError::Foreign)
}
