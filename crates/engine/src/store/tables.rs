//! The replica's tables. Each has a version in its name: another layout is another table, filled by
//! a migration that may run twice.

use redb::{
    Database, MultimapTableDefinition, ReadableDatabase, ReadableTable, TableDefinition, TableError,
};
use rejoin_core::DeviceId;

use super::erased::ERASED;
use super::migrate::{is_before, migrate};
use super::misfits::MISFITS;
use super::reviews::{RESOLVED, REVIEWED, REVIEWS};
use super::undo::STEPS;
use super::{StoreError, unavailable};

/// Table: the numbers of documents
/// Key:   `[u8; 16]` # [`DocumentId`]
/// Value: `u64`      # its number, in the order in which documents came, from 1; never reused
pub(super) const NUMBERS: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("numbers-1");

/// Table: documents
/// Key:   `u64`               # the document's number
/// Value: `([u8; 16], &[u8])` # ([`DocumentId`], [`DocumentRow`] in CBOR)
pub(super) const DOCUMENTS: TableDefinition<'_, u64, IdAndRow<'_>> =
    TableDefinition::new("documents-2");

/// Table: the Automerge document up to a change
/// Key:   `u64`   # the document's number
/// Value: `&[u8]` # Automerge document chunk; holds the changes below [`DocumentRow::covered`]
pub(super) const SNAPSHOTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("snapshots-2");

/// Table: changes since the snapshot, and older ones that the relay does not have yet
/// Key:   `(u64, u64)` # (the document's number, place in its order of arrival, from 0)
/// Value: `&[u8]`      # Automerge change chunk
pub(super) const CHANGES: TableDefinition<'_, (u64, u64), &[u8]> =
    TableDefinition::new("changes-2");

/// Table: the values that people see, so that lists and reads load no document
/// Key:   `(&str, &str, u64)` # (space, collection, the document's number)
/// Value: `([u8; 16], &[u8])` # ([`DocumentId`], [`ValueRow`] in CBOR)
pub(super) const VALUES: TableDefinition<'_, (&str, &str, u64), IdAndRow<'_>> =
    TableDefinition::new("values-2");

/// ([`DocumentId`], a row in CBOR)
pub(super) type IdAndRow<'a> = ([u8; 16], &'a [u8]);

/// Table: documents whose row in `values-2` is behind: large ones, and all of a collection whose
/// schema has changed until they are looked at again
/// Key:   `[u8; 16]` # [`DocumentId`]
/// Value: `()`
pub(super) const STALE: TableDefinition<'_, [u8; 16], ()> = TableDefinition::new("stale-1");

/// Table: local edits no relay has acknowledged
/// Key:   `u64`   # rises with every edit, never reused
/// Value: `&[u8]` # [`OutboxRow`], CBOR
pub(super) const OUTBOX: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outbox-1");

/// Table: documents with edits in the outbox
/// Key:   `u64` # the document's number
/// Value: `u64` # keys in `outbox-1`
pub(super) const WAITING: MultimapTableDefinition<'_, u64, u64> =
    MultimapTableDefinition::new("waiting-2");

/// Table: edits in the outbox by who made them
/// Key:   `&str` # user
/// Value: `u64`  # how many; at least 1
pub(super) const OUTBOX_USERS: TableDefinition<'_, &str, u64> =
    TableDefinition::new("outbox-users-1");

/// Table: digests of collections
/// Key:   `(&str, &str)` # (space, collection)
/// Value: `&[u8]`        # [`DigestRow`], CBOR
pub(super) const DIGESTS: TableDefinition<'_, (&str, &str), &[u8]> =
    TableDefinition::new("digests-1");

/// Table: how far the replica has come at each relay
/// Key:   `(&str, &str)` # (relay's address, space)
/// Value: `&[u8]`        # [`CursorRow`](super::CursorRow), CBOR
pub(super) const CURSORS: TableDefinition<'_, (&str, &str), &[u8]> =
    TableDefinition::new("cursors-1");

/// Table: documents of which a part has come from a relay
/// Key:   `(&str, &str, [u8; 16])` # (relay's address, space, [`DocumentId`])
/// Value: `&[u8]`                  # [`BegunRow`](super::BegunRow), CBOR
pub(super) const BEGUN: TableDefinition<'_, (&str, &str, [u8; 16]), &[u8]> =
    TableDefinition::new("begun-1");

/// Table: the pieces that are there of the snapshots and long changes of those documents
/// Key:   `(&str, [u8; 16], u64)` # (relay's address, [`DocumentId`], where the piece begins)
/// Value: `&[u8]`                 # the piece
pub(super) const PIECES: TableDefinition<'_, (&str, [u8; 16], u64), &[u8]> =
    TableDefinition::new("pieces-1");

/// Table: documents that a relay has otherwise, and that are still to come
/// Key:   `(&str, &str, [u8; 16])` # (relay's address, space, [`DocumentId`])
/// Value: `()`
pub(super) const WANTED: TableDefinition<'_, (&str, &str, [u8; 16]), ()> =
    TableDefinition::new("wanted-1");

/// Table: repairs that were begun and have not ended
/// Key:   `(&str, &str)` # (relay's address, space)
/// Value: `u32`          # how many, one after the other
pub(super) const REPAIRS: TableDefinition<'_, (&str, &str), u32> =
    TableDefinition::new("repairs-1");

/// Table: changes from a relay that could not be applied
/// Key:   `([u8; 16], [u8; 32])` # ([`DocumentId`], change hash)
/// Value: `&[u8]`                # [`QuarantineRow`], CBOR
pub(super) const QUARANTINE: TableDefinition<'_, ([u8; 16], [u8; 32]), &[u8]> =
    TableDefinition::new("quarantine-1");

/// Table: local work that a relay will never take
/// Key:   `u64`   # counts from 1
/// Value: `&[u8]` # [`SetAsideRow`], CBOR
pub(super) const SET_ASIDE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("set-aside-1");

/// Table: the time documents take, by the person or thing whose time may not overlap
/// Key:   [`BookingKey`]
/// Value: `i64`          # when it ends, in milliseconds since 1970
pub(super) const BOOKINGS: TableDefinition<'_, BookingKey<'_>, i64> =
    TableDefinition::new("bookings-1");

/// (space, collection, invariant, whose time, power of two its duration in milliseconds reaches,
/// when it starts in milliseconds since 1970, [`DocumentId`])
pub(super) type BookingKey<'a> = (&'a str, &'a str, &'a str, &'a str, u8, i64, [u8; 16]);

/// Table: the time each document takes
/// Key:   `([u8; 16], &str)`  # ([`DocumentId`], invariant)
/// Value: `(&str, i64, i64)`  # (whose time, start, end), as in `bookings-1`
pub(super) const BOOKED: TableDefinition<'_, ([u8; 16], &str), (&str, i64, i64)> =
    TableDefinition::new("booked-1");

/// Table: the texts of documents that must be unique
/// Key:   `(&str, &str, &str, &str, [u8; 16])` # (space, collection, invariant, text, [`DocumentId`])
/// Value: `()`
pub(super) const UNIQUES: TableDefinition<'_, (&str, &str, &str, &str, [u8; 16]), ()> =
    TableDefinition::new("uniques-1");

/// Table: the text of each document that must be unique
/// Key:   `([u8; 16], &str)` # ([`DocumentId`], invariant)
/// Value: `&str`             # the text, as in `uniques-1`
pub(super) const UNIQUE: TableDefinition<'_, ([u8; 16], &str), &str> =
    TableDefinition::new("unique-1");

/// Table: the relay's position of the change that a document's booking came from
/// Key:   `[u8; 16]` # [`DocumentId`]
/// Value: `u64`      # the relay's position
pub(super) const HELD: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("held-1");

/// Table: documents by the values of fields that are indexed
/// Key:   `(&str, &str, &str, &[u8], [u8; 16])` # (space, collection, field, its value as
///                                              # [`order_key`](rejoin_core::order::order_key), [`DocumentId`])
/// Value: `u64`                                 # the document's number
pub(super) const INDEX: TableDefinition<'_, IndexKey<'_>, u64> = TableDefinition::new("index-1");

/// (space, collection, field, value, document)
pub(super) type IndexKey<'a> = (&'a str, &'a str, &'a str, &'a [u8], [u8; 16]);

/// Table: what each document has in `index-1`
/// Key:   `(u64, &str)` # (the document's number, field)
/// Value: `&[u8]`       # the value, as there
pub(super) const INDEXED: TableDefinition<'_, (u64, &str), &[u8]> =
    TableDefinition::new("indexed-1");

/// Table: the words of files about documents when they were last imported here
/// Key:   `u64`   # the document's number
/// Value: `&[u8]` # for each column 4 bytes of its name's hash and 8 of its cell's, sorted
pub(super) const IMPORTED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("imported-1");

/// Table: the file itself
/// Key:   `&str`  # "device": 16 random bytes; "outbox-next", "documents-next": u64, big-endian;
///                # "identity", "signed-in": CBOR; "derived", "derived-marked": u32, big-endian
/// Value: `&[u8]`
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta-2");

/// Opens every table: in a transaction that reads to see whether all are there, and in one that
/// writes to make those that are missing.
macro_rules! open_all {
    ($txn:expr) => {
        (|| -> Result<(), TableError> {
            $txn.open_table(NUMBERS)?;
            $txn.open_table(DOCUMENTS)?;
            $txn.open_table(SNAPSHOTS)?;
            $txn.open_table(CHANGES)?;
            $txn.open_table(VALUES)?;
            $txn.open_table(STALE)?;
            $txn.open_table(OUTBOX)?;
            $txn.open_multimap_table(WAITING)?;
            $txn.open_table(OUTBOX_USERS)?;
            $txn.open_table(DIGESTS)?;
            $txn.open_table(CURSORS)?;
            $txn.open_table(BEGUN)?;
            $txn.open_table(PIECES)?;
            $txn.open_table(WANTED)?;
            $txn.open_table(REPAIRS)?;
            $txn.open_table(QUARANTINE)?;
            $txn.open_table(SET_ASIDE)?;
            $txn.open_table(BOOKINGS)?;
            $txn.open_table(BOOKED)?;
            $txn.open_table(UNIQUES)?;
            $txn.open_table(UNIQUE)?;
            $txn.open_table(REVIEWS)?;
            $txn.open_multimap_table(REVIEWED)?;
            $txn.open_table(RESOLVED)?;
            $txn.open_table(MISFITS)?;
            $txn.open_table(HELD)?;
            $txn.open_table(INDEX)?;
            $txn.open_table(INDEXED)?;
            $txn.open_table(IMPORTED)?;
            $txn.open_table(STEPS)?;
            $txn.open_table(ERASED)?;
            $txn.open_table(META)?;
            Ok(())
        })()
    };
}

/// Makes the tables of a new file, or those an earlier version did not have, and tells which
/// replica it is.
pub(super) fn prepare(database: &Database, fresh: [u8; 16]) -> Result<DeviceId, StoreError> {
    if is_before(database)? {
        migrate(database)?;
    }
    let txn = database.begin_read().map_err(unavailable)?;
    match open_all!(txn) {
        Ok(()) => {
            let meta = txn.open_table(META).map_err(unavailable)?;
            if let Some(device) = device(&meta)? {
                return Ok(device);
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(unavailable(error)),
    }
    drop(txn);
    let txn = database.begin_write().map_err(unavailable)?;
    open_all!(txn).map_err(unavailable)?;
    let mut meta = txn.open_table(META).map_err(unavailable)?;
    let known = device(&meta)?;
    if known.is_none() {
        meta.insert("device", fresh.as_slice()).map_err(unavailable)?;
    }
    drop(meta);
    txn.commit().map_err(unavailable)?;
    Ok(known.unwrap_or(DeviceId(fresh)))
}

/// The id of the replica file.
fn device(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Option<DeviceId>, StoreError> {
    let row = meta.get("device").map_err(unavailable)?;
    row.map(|row| row.value().try_into().map(DeviceId).map_err(|_| StoreError::Foreign)).transpose()
}
