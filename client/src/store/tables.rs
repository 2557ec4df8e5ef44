//! The replica's tables. Each has a version in its name: another layout is another table, filled by
//! a migration that may run twice.

use redb::{Database, MultimapTableDefinition, ReadableDatabase, TableDefinition};
use rejoin_core::DeviceId;

use super::reviews::{REVIEWED, REVIEWS};
use super::{StoreError, unavailable};

/// Table: documents
/// Key:   `[u8; 16]` # [`DocumentId`]
/// Value: `&[u8]`    # [`DocumentRow`], CBOR
pub(super) const DOCUMENTS: TableDefinition<'_, [u8; 16], &[u8]> =
    TableDefinition::new("documents-1");

/// Table: the Automerge document up to a change
/// Key:   `[u8; 16]` # [`DocumentId`]
/// Value: `&[u8]`    # Automerge document chunk; holds the changes below [`DocumentRow::covered`]
pub(super) const SNAPSHOTS: TableDefinition<'_, [u8; 16], &[u8]> =
    TableDefinition::new("snapshots-1");

/// Table: changes since the snapshot, and older ones that the relay does not have yet
/// Key:   `([u8; 16], u64)` # ([`DocumentId`], place in the document's order of arrival, from 0)
/// Value: `&[u8]`           # Automerge change chunk
pub(super) const CHANGES: TableDefinition<'_, ([u8; 16], u64), &[u8]> =
    TableDefinition::new("changes-1");

/// Table: what people see, so that lists and reads load no document
/// Key:   `(&str, &str, [u8; 16])` # (space, collection, [`DocumentId`])
/// Value: `&[u8]`                  # [`ValueRow`], CBOR
pub(super) const VALUES: TableDefinition<'_, (&str, &str, [u8; 16]), &[u8]> =
    TableDefinition::new("values-1");

/// Table: documents whose row in `values-1` is behind; large documents only
/// Key:   `[u8; 16]` # [`DocumentId`]
/// Value: `()`
pub(super) const STALE: TableDefinition<'_, [u8; 16], ()> = TableDefinition::new("stale-1");

/// Table: local edits no relay has acknowledged
/// Key:   `u64`   # rises with every edit, never reused
/// Value: `&[u8]` # [`OutboxRow`], CBOR
pub(super) const OUTBOX: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outbox-1");

/// Table: documents with edits in the outbox
/// Key:   `[u8; 16]` # [`DocumentId`]
/// Value: `u64`      # keys in `outbox-1`
pub(super) const WAITING: MultimapTableDefinition<'_, [u8; 16], u64> =
    MultimapTableDefinition::new("waiting-1");

/// Table: digests of collections
/// Key:   `(&str, &str)` # (space, collection)
/// Value: `&[u8]`        # [`DigestRow`], CBOR
pub(super) const DIGESTS: TableDefinition<'_, (&str, &str), &[u8]> =
    TableDefinition::new("digests-1");

/// Table: how far the replica has come at each relay
/// Key:   `(&str, &str)` # (relay's address, space)
/// Value: `&[u8]`        # [`Cursor`], CBOR
pub(super) const CURSORS: TableDefinition<'_, (&str, &str), &[u8]> =
    TableDefinition::new("cursors-1");

/// Table: changes from a relay that could not be applied
/// Key:   `([u8; 16], [u8; 32])` # ([`DocumentId`], change hash)
/// Value: `&[u8]`                # [`QuarantineRow`], CBOR
pub(super) const QUARANTINE: TableDefinition<'_, ([u8; 16], [u8; 32]), &[u8]> =
    TableDefinition::new("quarantine-1");

/// Table: local work that a relay will never take
/// Key:   `u64`   # counts from 1
/// Value: `&[u8]` # [`SetAsideRow`], CBOR
pub(super) const SET_ASIDE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("set-aside-1");

/// Table: the file itself
/// Key:   `&str`  # "device": 16 random bytes; "outbox-next": u64, big-endian; "identity": CBOR
/// Value: `&[u8]`
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta-1");

/// Makes the tables of a new file, and tells which replica an existing one is.
pub(super) fn prepare(database: &Database, fresh: [u8; 16]) -> Result<DeviceId, StoreError> {
    let known = {
        let txn = database.begin_read().map_err(unavailable)?;
        match txn.open_table(META) {
            Ok(meta) => meta.get("device").map_err(unavailable)?.map(|row| row.value().to_vec()),
            Err(redb::TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(unavailable(error)),
        }
    };
    if let Some(device) = known {
        let device = device.try_into().map_err(|_| StoreError::Foreign)?;
        return Ok(DeviceId(device));
    }
    let txn = database.begin_write().map_err(unavailable)?;
    txn.open_table(DOCUMENTS).map_err(unavailable)?;
    txn.open_table(SNAPSHOTS).map_err(unavailable)?;
    txn.open_table(CHANGES).map_err(unavailable)?;
    txn.open_table(VALUES).map_err(unavailable)?;
    txn.open_table(STALE).map_err(unavailable)?;
    txn.open_table(OUTBOX).map_err(unavailable)?;
    txn.open_multimap_table(WAITING).map_err(unavailable)?;
    txn.open_table(DIGESTS).map_err(unavailable)?;
    txn.open_table(CURSORS).map_err(unavailable)?;
    txn.open_table(QUARANTINE).map_err(unavailable)?;
    txn.open_table(SET_ASIDE).map_err(unavailable)?;
    txn.open_table(REVIEWS).map_err(unavailable)?;
    txn.open_multimap_table(REVIEWED).map_err(unavailable)?;
    {
        let mut meta = txn.open_table(META).map_err(unavailable)?;
        meta.insert("device", fresh.as_slice()).map_err(unavailable)?;
    }
    txn.commit().map_err(unavailable)?;
    Ok(DeviceId(fresh))
}
