//! Encrypted files: they do as plain ones do, give nothing away, and survive what a disk does.

mod crash;
mod damage;
mod disk;
mod files;
mod model;

use redb::{Database, ReadableDatabase, StorageBackend, TableDefinition};
use rejoin_seal::{Key, Sealed};

pub(crate) const NOTES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("notes");

pub(crate) fn key() -> Key {
    Key::bytes([7; 32])
}

/// Opens an encrypted database that is there.
pub(crate) fn open(file: impl StorageBackend) -> Result<Database, redb::Error> {
    let sealed = Sealed::open(file, &key()).map_err(std::io::Error::other)?;
    Ok(Database::builder().create_with_backend(sealed)?)
}

/// Writes rows with one commit.
pub(crate) fn put(
    database: &Database,
    rows: impl IntoIterator<Item = (u64, Vec<u8>)>,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(NOTES)?;
        for (key, value) in rows {
            table.insert(key, &value[..])?;
        }
    }
    Ok(transaction.commit()?)
}

pub(crate) fn get(database: &Database, key: u64) -> Result<Option<Vec<u8>>, redb::Error> {
    let table = database.begin_read()?.open_table(NOTES)?;
    Ok(table.get(key)?.map(|value| value.value().to_vec()))
}
