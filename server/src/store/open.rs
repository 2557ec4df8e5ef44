//! Opening a store: an empty one, one of this version, or one of the version before.

use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableError, TableHandle, WriteTransaction,
};
use rejoin_core::RelayId;

use super::batch::Batch;
use super::cache::GraphCache;
use super::damage::Damage;
use super::devices::Devices;
use super::index::Recent;
use super::migrate;
use super::revoked::RevokedTable;
use super::spaces::Spaces;
use super::tables::{
    AUTHORS, CARRIED, CHUNKS, COLLECTIONS, DEVICES, DIGESTS, DOCUMENTS, FIRST, FORMAT, HOURS,
    IDENTITY, INDEX, LATEST, LOG, LOSSES, NUMBERS, ORPHANS, OVERWRITE, RECENT, REVOKED, SNAPSHOTS,
    SPACES, UPLOAD_PARTS, UPLOADS,
};
use super::uploads::Uploads;
use super::verify::Verified;
use super::{ChangeStore, StoreError};

/// The last numbers given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Numbers {
    pub(super) documents: u64,
    pub(super) spaces: u32,
}

/// The state of a file before it is opened.
enum Found {
    Nothing,
    /// The layout of the version before this one.
    Before,
    Format(u64),
}

impl ChangeStore {
    /// Opens a store, or makes one in an empty database. `fresh_ids` is asked for random bytes only
    /// when one is made; `graph_bytes_max` bounds the change graphs kept in memory. A file of the
    /// version before is taken over first, in one transaction: it takes some microseconds for each
    /// change, and room for all of it once more.
    ///
    /// # Errors
    /// The database cannot be read or written, or is of a version after this one.
    pub fn open(
        database: Database,
        graph_bytes_max: usize,
        mut fresh_ids: impl FnMut() -> [u8; 16],
    ) -> Result<Self, StoreError> {
        match found(&database.begin_read()?)? {
            Found::Before => migrate::migrate(&database)?,
            Found::Nothing | Found::Format(FORMAT) => {}
            Found::Format(found) => return Err(StoreError::Format { found, known: FORMAT }),
        }
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let (relay, epoch) = {
            let mut identity = transaction.open_table(IDENTITY)?;
            let mut stored_or_fresh = |name: &str| -> Result<[u8; 16], StoreError> {
                if let Some(stored) = identity.get(name)? {
                    return Ok(*stored.value());
                }
                let fresh = fresh_ids();
                identity.insert(name, &fresh)?;
                Ok(fresh)
            };
            (stored_or_fresh("relay")?, stored_or_fresh("epoch")?)
        };
        create_tables(&transaction)?;
        transaction.open_table(NUMBERS)?.insert("format", FORMAT)?;
        transaction.commit()?;
        let transaction = database.begin_read()?;
        let numbers = Numbers::read(&transaction)?;
        let recent = Recent::read(&transaction)?;
        let uploads = Uploads::read(&transaction)?;
        let damage = Damage::read(&transaction)?;
        let revoked = RevokedTable::read(&transaction)?;
        let is_overwrite_due = !transaction.open_table(OVERWRITE)?.is_empty()?;
        drop(transaction);
        Ok(Self {
            database,
            relay: RelayId(relay),
            epoch,
            numbers,
            recent,
            absent: None,
            cache: GraphCache::new(graph_bytes_max),
            spaces: Spaces::default(),
            uploads,
            devices: Devices::default(),
            batch: Batch::default(),
            verified: Verified::default(),
            damage,
            revoked,
            graphs_loaded: 0,
            failed: false,
            is_overwrite_due,
            reader: Default::default(),
        })
    }
}

impl Numbers {
    fn read(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        let table = transaction.open_table(NUMBERS)?;
        let number = |name| -> Result<u64, StoreError> {
            Ok(table.get(name)?.map_or(0, |number| number.value()))
        };
        // It was written from a `u32`.
        Ok(Self { documents: number("documents")?, spaces: number("spaces")? as u32 })
    }

    pub(super) fn write(&self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        let mut table = transaction.open_table(NUMBERS)?;
        table.insert("documents", self.documents)?;
        table.insert("spaces", u64::from(self.spaces))?;
        Ok(())
    }
}

fn found(transaction: &ReadTransaction) -> Result<Found, StoreError> {
    let tables = transaction.list_tables()?;
    let tables: Vec<String> = tables.map(|table| table.name().to_owned()).collect();
    let has = |name: &str| tables.iter().any(|table| table == name);
    if !tables.is_empty() && !has(NUMBERS.name()) {
        let is_replica = REPLICA_TABLES.iter().any(|name| has(name));
        return Err(StoreError::Foreign { is_replica });
    }
    let numbers = match transaction.open_table(NUMBERS) {
        Ok(numbers) => numbers,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Found::Nothing),
        Err(TableError::TableTypeMismatch { .. }) => return Ok(Found::Before),
        Err(error) => return Err(error.into()),
    };
    let format = numbers.get("format")?;
    Ok(format.map_or(Found::Nothing, |format| Found::Format(format.value())))
}

/// Tables of which every replica's file has one.
const REPLICA_TABLES: [&str; 2] = ["meta-2", "meta-1"];

/// So that no read has to ask whether a table is there.
pub(super) fn create_tables(transaction: &WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(NUMBERS)?;
    transaction.open_table(IDENTITY)?;
    transaction.open_table(SPACES)?;
    transaction.open_table(COLLECTIONS)?;
    transaction.open_table(INDEX)?;
    transaction.open_table(RECENT)?;
    transaction.open_table(DOCUMENTS)?;
    transaction.open_table(CHUNKS)?;
    transaction.open_table(SNAPSHOTS)?;
    transaction.open_table(LOG)?;
    transaction.open_table(LATEST)?;
    transaction.open_table(DIGESTS)?;
    transaction.open_table(FIRST)?;
    transaction.open_table(HOURS)?;
    transaction.open_table(UPLOADS)?;
    transaction.open_table(UPLOAD_PARTS)?;
    transaction.open_table(ORPHANS)?;
    transaction.open_table(LOSSES)?;
    transaction.open_table(OVERWRITE)?;
    transaction.open_table(AUTHORS)?;
    transaction.open_table(CARRIED)?;
    transaction.open_table(REVOKED)?;
    transaction.open_table(DEVICES)?;
    Ok(())
}
