//! Takes over a file of the version before, whose tables were by document id.
//!
//! All of it is one transaction, so a file is always of one version or of the other. The table with
//! the id of the replica has another name since: the version before therefore says that the file is
//! not one of its own, and does not begin an empty replica in it.

use std::collections::BTreeMap;

use redb::{
    Database, MultimapTableDefinition, ReadableDatabase, ReadableMultimapTable, ReadableTable,
    TableDefinition, TableHandle,
};
use tracing::info;

use super::numbers::DOCUMENTS_NEXT;
use super::tables::{CHANGES, DOCUMENTS, META, NUMBERS, SNAPSHOTS, VALUES, WAITING};
use super::{StoreError, unavailable};

type ById = TableDefinition<'static, [u8; 16], &'static [u8]>;
type Meta = TableDefinition<'static, &'static str, &'static [u8]>;

/// Key: document id. Value: its row.
const DOCUMENTS_BEFORE: ById = TableDefinition::new("documents-1");
/// Key: document id. Value: an Automerge document.
const SNAPSHOTS_BEFORE: ById = TableDefinition::new("snapshots-1");
/// Key: document id and place. Value: a change.
const CHANGES_BEFORE: TableDefinition<'_, ([u8; 16], u64), &[u8]> =
    TableDefinition::new("changes-1");
/// Key: space, collection and document id. Value: what people see.
const VALUES_BEFORE: TableDefinition<'_, (&str, &str, [u8; 16]), &[u8]> =
    TableDefinition::new("values-1");
/// Key: document id. Value: keys in the outbox.
const WAITING_BEFORE: MultimapTableDefinition<'_, [u8; 16], u64> =
    MultimapTableDefinition::new("waiting-1");
/// The id of the replica file.
pub(super) const META_BEFORE: Meta = TableDefinition::new("meta-1");

/// Whether a file is one of the version before.
pub(super) fn is_before(database: &Database) -> Result<bool, StoreError> {
    let txn = database.begin_read().map_err(unavailable)?;
    let mut tables = txn.list_tables().map_err(unavailable)?;
    Ok(tables.any(|table| table.name() == META_BEFORE.name()))
}

/// Rewrites the file. It takes some ten microseconds for each document, and room for all tables
/// once more.
pub(super) fn migrate(database: &Database) -> Result<(), StoreError> {
    info!("the file is of the version before and is being rewritten");
    let txn = database.begin_write().map_err(unavailable)?;
    let numbers = {
        // A table that an earlier version did not make is made here, and is empty.
        let before = txn.open_table(DOCUMENTS_BEFORE).map_err(unavailable)?;
        let mut numbers = txn.open_table(NUMBERS).map_err(unavailable)?;
        let mut documents = txn.open_table(DOCUMENTS).map_err(unavailable)?;
        let mut known = BTreeMap::new();
        for row in before.iter().map_err(unavailable)? {
            let (id, row) = row.map_err(unavailable)?;
            let (id, number) = (id.value(), known.len() as u64 + 1);
            numbers.insert(id, number).map_err(unavailable)?;
            documents.insert(number, (id, row.value())).map_err(unavailable)?;
            known.insert(id, number);
        }
        known
    };
    move_rows(&txn, &numbers)?;
    {
        let before = txn.open_table(META_BEFORE).map_err(unavailable)?;
        let mut meta = txn.open_table(META).map_err(unavailable)?;
        for row in before.iter().map_err(unavailable)? {
            let (name, value) = row.map_err(unavailable)?;
            meta.insert(name.value(), value.value()).map_err(unavailable)?;
        }
        let next = numbers.len() as u64 + 1;
        meta.insert(DOCUMENTS_NEXT, next.to_be_bytes().as_slice()).map_err(unavailable)?;
    }
    txn.delete_table(DOCUMENTS_BEFORE).map_err(unavailable)?;
    txn.delete_table(SNAPSHOTS_BEFORE).map_err(unavailable)?;
    txn.delete_table(CHANGES_BEFORE).map_err(unavailable)?;
    txn.delete_table(VALUES_BEFORE).map_err(unavailable)?;
    txn.delete_multimap_table(WAITING_BEFORE).map_err(unavailable)?;
    txn.delete_table(META_BEFORE).map_err(unavailable)?;
    txn.commit().map_err(unavailable)?;
    info!(documents = numbers.len(), "the file was rewritten");
    Ok(())
}

/// Moves the rows that belong to documents. A row of a document without a row of its own was never
/// read.
fn move_rows(
    txn: &redb::WriteTransaction,
    numbers: &BTreeMap<[u8; 16], u64>,
) -> Result<(), StoreError> {
    let before = txn.open_table(SNAPSHOTS_BEFORE).map_err(unavailable)?;
    let mut snapshots = txn.open_table(SNAPSHOTS).map_err(unavailable)?;
    for row in before.iter().map_err(unavailable)? {
        let (id, chunk) = row.map_err(unavailable)?;
        if let Some(number) = numbers.get(&id.value()) {
            snapshots.insert(number, chunk.value()).map_err(unavailable)?;
        }
    }
    let before = txn.open_table(CHANGES_BEFORE).map_err(unavailable)?;
    let mut changes = txn.open_table(CHANGES).map_err(unavailable)?;
    for row in before.iter().map_err(unavailable)? {
        let (key, chunk) = row.map_err(unavailable)?;
        let (id, at) = key.value();
        if let Some(number) = numbers.get(&id) {
            changes.insert((*number, at), chunk.value()).map_err(unavailable)?;
        }
    }
    let before = txn.open_table(VALUES_BEFORE).map_err(unavailable)?;
    let mut values = txn.open_table(VALUES).map_err(unavailable)?;
    for row in before.iter().map_err(unavailable)? {
        let (key, value) = row.map_err(unavailable)?;
        let (space, collection, id) = key.value();
        if let Some(number) = numbers.get(&id) {
            let key = (space, collection, *number);
            values.insert(key, (id, value.value())).map_err(unavailable)?;
        }
    }
    let before = txn.open_multimap_table(WAITING_BEFORE).map_err(unavailable)?;
    let mut waiting = txn.open_multimap_table(WAITING).map_err(unavailable)?;
    for row in before.iter().map_err(unavailable)? {
        let (id, keys) = row.map_err(unavailable)?;
        let Some(number) = numbers.get(&id.value()) else { continue };
        for key in keys {
            waiting.insert(number, key.map_err(unavailable)?.value()).map_err(unavailable)?;
        }
    }
    Ok(())
}
