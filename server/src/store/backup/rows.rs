//! The rows of every table, as bytes, and back.

use std::io::{Read, Write};

use redb::{
    Database, Durability, Key, ReadTransaction, ReadableTable, TableDefinition, TableHandle, Value,
    WriteTransaction,
};

use super::BackupError;
use super::stream::{ROWS, Reader, TABLE, Writer};
use crate::store::tables::{
    AUTHORS, CARRIED, CHUNKS, COLLECTIONS, DEVICES, DIGESTS, DOCUMENTS, FIRST, HOURS, IDENTITY,
    INDEX, LATEST, LOG, LOSSES, NUMBERS, ORPHANS, OVERWRITE, RECENT, REVOKED, SNAPSHOTS, SPACES,
    UPLOAD_PARTS, UPLOADS,
};
use crate::store::{StoreError, unpanicked};

/// Does something with the definition of each table of the store.
macro_rules! each_table {
    ($table:ident => $work:expr) => {
        each_table!($table => $work; NUMBERS, IDENTITY, SPACES, COLLECTIONS, INDEX, RECENT,
            DOCUMENTS, CHUNKS, SNAPSHOTS, LOG, LATEST, DIGESTS, FIRST, HOURS, UPLOADS,
            UPLOAD_PARTS, ORPHANS, LOSSES, OVERWRITE, DEVICES, AUTHORS, REVOKED, CARRIED)
    };
    ($table:ident => $work:expr; $($name:ident),*) => {
        $({
            let $table = $name;
            $work
        })*
    };
}

/// The id of the relay that a store is of, and the epoch.
pub(super) fn identity(transaction: &ReadTransaction) -> Result<([u8; 16], [u8; 16]), StoreError> {
    let table = transaction.open_table(IDENTITY)?;
    let of = |name| -> Result<[u8; 16], StoreError> {
        Ok(table.get(name)?.map(|id| *id.value()).unwrap_or_default())
    };
    Ok((of("relay")?, of("epoch")?))
}

/// Writes every row of every table.
pub(super) fn write<W: Write>(
    transaction: &ReadTransaction,
    writer: &mut Writer<W>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), BackupError> {
    each_table!(table => write_table(table, transaction, writer, progress)?);
    Ok(())
}

fn write_table<K: Key + 'static, V: Value + 'static, W: Write>(
    definition: TableDefinition<'_, K, V>,
    transaction: &ReadTransaction,
    writer: &mut Writer<W>,
    progress: &mut dyn FnMut(u64),
) -> Result<(), BackupError> {
    writer.frame(TABLE, definition.name().as_bytes())?;
    let table = transaction.open_table(definition).map_err(StoreError::from)?;
    let mut rows = Vec::new();
    for row in table.iter().map_err(StoreError::from)? {
        let (key, value) = row.map_err(StoreError::from)?;
        put(&mut rows, K::as_bytes(&key.value()).as_ref());
        put(&mut rows, V::as_bytes(&value.value()).as_ref());
        if rows.len() >= ROWS_BYTES {
            writer.frame(ROWS, &rows)?;
            progress(writer.bytes());
            rows.clear();
        }
    }
    if !rows.is_empty() {
        writer.frame(ROWS, &rows)?;
    }
    progress(writer.bytes());
    Ok(())
}

fn put(rows: &mut Vec<u8>, bytes: &[u8]) {
    rows.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    rows.extend_from_slice(bytes);
}

/// Writes the rows of a backup into an empty database, and returns the bytes that they have.
pub(super) fn read<R: Read>(
    reader: &mut Reader<R>,
    database: &Database,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, BackupError> {
    let (mut table, mut bytes, mut uncommitted) = (Vec::new(), 0, 0);
    let mut transaction = begin(database)?;
    while let Some((kind, content)) = reader.next()? {
        match kind {
            TABLE => table = content,
            ROWS => {
                let rows = &content;
                unpanicked(|| read_rows(&table, rows, &transaction)).map_err(BackupError::Store)?;
                uncommitted += rows.len();
                bytes += rows.len() as u64;
                progress(bytes);
            }
            _ => return Err(BackupError::Nonsense { place: "a frame of another kind of backup" }),
        }
        if uncommitted >= COMMIT_BYTES {
            transaction.commit().map_err(StoreError::from)?;
            transaction = begin(database)?;
            uncommitted = 0;
        }
    }
    transaction.set_durability(Durability::Immediate).map_err(StoreError::from)?;
    transaction.commit().map_err(StoreError::from)?;
    Ok(bytes)
}

fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::None)?;
    Ok(transaction)
}

fn read_rows(name: &[u8], rows: &[u8], transaction: &WriteTransaction) -> Result<(), StoreError> {
    each_table!(table => read_rows_of(table, name, rows, transaction)?);
    Ok(())
}

/// Writes rows if they are of this table.
fn read_rows_of<K: Key + 'static, V: Value + 'static>(
    definition: TableDefinition<'_, K, V>,
    name: &[u8],
    mut rows: &[u8],
    transaction: &WriteTransaction,
) -> Result<(), StoreError> {
    if definition.name().as_bytes() != name {
        return Ok(());
    }
    let mut table = transaction.open_table(definition)?;
    let cut = || StoreError::corrupt("a row of the backup is cut short");
    while !rows.is_empty() {
        let key = take::<K>(&mut rows).ok_or_else(cut)?;
        let value = take::<V>(&mut rows).ok_or_else(cut)?;
        table.insert(K::from_bytes(key), V::from_bytes(value))?;
    }
    Ok(())
}

fn take<'a, T: Value>(rows: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, rest) = rows.split_first_chunk::<4>()?;
    let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    *rows = rest;
    Some(bytes).filter(|bytes| T::fixed_width().is_none_or(|width| width == bytes.len()))
}

/// Bytes of rows in one frame, about.
const ROWS_BYTES: usize = 256 << 10;

/// Bytes of rows that are written before they are committed.
const COMMIT_BYTES: usize = 64 << 20;
