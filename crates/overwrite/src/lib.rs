//! Makes what was removed from a redb file be gone from its bytes, too.
//!
//! What is removed leaves the tree, but its bytes stay where they were, in one of two places. A page
//! that was given up is free until something else needs it: [`overwrite_free`] fills all of those with
//! rows of zeros, commits them, and removes them again. And a page that a transaction changes more
//! than once is changed in place: its rows move together, and behind them is what was there before.
//! Nothing of that is taken along where a page is built anew from its rows, which [`rebuild`] does with
//! a whole table, and [`rebuild_around`] with the pages beside rows that are gone.
//!
//! ```
//! use redb::{Database, TableDefinition};
//!
//! const NOTES: TableDefinition<'_, &str, &str> = TableDefinition::new("notes");
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("notes.redb");
//! let mut database = Database::create(&path)?;
//! let write = |work: &dyn Fn(&redb::WriteTransaction) -> Result<(), redb::Error>| {
//!     let transaction = database.begin_write()?;
//!     work(&transaction)?;
//!     Ok::<(), redb::Error>(transaction.commit()?)
//! };
//! write(&|it| it.open_table(NOTES)?.insert("1", "gate code 4711").map(drop).map_err(Into::into))?;
//! write(&|it| it.open_table(NOTES)?.remove("1").map(drop).map_err(Into::into))?;
//! write(&|it| rejoin_overwrite::rebuild(it, NOTES))?;
//! rejoin_overwrite::overwrite_free(&mut database)?;
//! drop(database);
//! let bytes = std::fs::read(&path)?;
//! assert!(!bytes.windows(4).any(|bytes| bytes == b"4711"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ops::Bound;

use redb::{
    CompactionError, Database, Durability, Key, ReadableTable, Table, TableDefinition, Value,
    WriteTransaction,
};

/// Writes over every page that was free when the last commit ended, or that it gave up. It reads all
/// of the file once, and takes some seconds for each gigabyte of it. redb makes the file longer to fill
/// its last page, so it is compacted after that: it ends no longer than it was.
///
/// Pages that a read transaction can still see are not free: end all that began before what was
/// removed was removed. If this is cut short, rows of zeros stay in a table of their own until it is
/// called again.
///
/// # Errors
/// The database cannot be read or written.
pub fn overwrite_free(database: &mut Database) -> Result<(), redb::Error> {
    for _ in 0..PASSES {
        fill_free(database)?;
        // Somebody who reads keeps the file from becoming shorter, and no more than that.
        if let Err(CompactionError::Storage(error)) = database.compact() {
            return Err(error.into());
        }
    }
    Ok(())
}

fn fill_free(database: &Database) -> Result<(), redb::Error> {
    // Pages that a commit gives up are free when the commit after the next one begins.
    for _ in 0..SETTLING_COMMITS {
        commit(database, |transaction| {
            transaction.delete_table(ZEROS)?;
            transaction.open_table(ZEROS)?.insert(0, [].as_slice())?;
            Ok(())
        })?;
    }
    commit(database, |transaction| {
        let (free, page_bytes) = free_pages(transaction)?;
        let zeros = vec![0; page_bytes - PAGE_COST_BYTES];
        let mut table = transaction.open_table(ZEROS)?;
        for row in 1..=free + MORE_PAGES {
            table.insert(row, zeros.as_slice())?;
        }
        Ok(())
    })?;
    commit(database, |transaction| {
        transaction.delete_table(ZEROS)?;
        Ok(())
    })
}

/// Builds a table anew from its rows, so that its pages hold nothing else. The file must have room for
/// the table once more until the transaction is committed.
///
/// # Errors
/// The database cannot be read or written.
pub fn rebuild<K: Key + 'static, V: Value + 'static>(
    transaction: &WriteTransaction,
    definition: TableDefinition<'_, K, V>,
) -> Result<(), redb::Error> {
    let rebuilt = TableDefinition::<K, V>::new(REBUILT);
    transaction.delete_table(rebuilt)?;
    {
        let from = transaction.open_table(definition)?;
        let mut to = transaction.open_table(rebuilt)?;
        for row in from.iter()? {
            let (key, value) = row?;
            to.insert(key.value(), value.value())?;
        }
    }
    transaction.delete_table(definition)?;
    transaction.rename_table(rebuilt, definition)?;
    Ok(())
}

/// [`rebuild`] as a commit of its own.
///
/// # Errors
/// The database cannot be read or written.
pub fn rebuild_alone<K: Key + 'static, V: Value + 'static>(
    database: &Database,
    definition: TableDefinition<'_, K, V>,
) -> Result<(), redb::Error> {
    commit(database, |transaction| rebuild(transaction, definition))
}

/// Builds the pages anew that have the last row before `start` and the first one after `end`. Where
/// all rows from `start` to `end` were removed in an earlier transaction, and nothing that they held was
/// ever in a row of another key, no page of the table holds anything of them then.
///
/// # Errors
/// The database cannot be read or written.
pub fn rebuild_around<K: Key + Copy + for<'k> Value<SelfType<'k> = K> + 'static>(
    table: &mut Table<'_, K, &'static [u8]>,
    start: K,
    end: K,
) -> Result<(), redb::Error> {
    let before = table.range(..start)?.next_back().transpose()?;
    let before = before.map(|(key, row)| (key.value(), row.value().to_vec()));
    let after = table.range((Bound::Excluded(end), Bound::Unbounded))?.next().transpose()?;
    let after = after.map(|(key, row)| (key.value(), row.value().to_vec()));
    for (key, row) in before.into_iter().chain(after) {
        // A page that no row of this transaction changed is not changed in place.
        table.remove(key)?;
        table.insert(key, row.as_slice())?;
    }
    Ok(())
}

fn commit(
    database: &Database,
    work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    work(&transaction)?;
    transaction.commit()?;
    Ok(())
}

/// The number of free pages, and the bytes of each.
fn free_pages(transaction: &WriteTransaction) -> Result<(u64, usize), redb::Error> {
    let stats = transaction.stats()?;
    // Every byte of the file is stored, or says where something is, or is spare.
    let bytes = stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
    let pages = bytes / stats.page_size() as u64;
    Ok((pages.saturating_sub(stats.allocated_pages()), stats.page_size()))
}

/// The table that takes the place of one that is built anew.
const REBUILT: &str = "rejoin-rebuilt-1";

/// Rows that fill a page each.
const ZEROS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rejoin-overwrite-1");

/// Commits after which every page that was given up before them is free.
const SETTLING_COMMITS: usize = 3;

/// Once was not enough in one of some thousand files: of the pages that the filling transaction took,
/// it seems, it gave one up again unwritten. After the file was compacted it takes others.
const PASSES: usize = 2;

/// Rows beyond the number of free pages: pages that the last commits gave up are counted as in use.
const MORE_PAGES: u64 = 64;

/// Bytes of a page that a row with a key of eight bytes cannot have, and some to spare: a row that
/// did not fit would take two pages, which are there or not.
const PAGE_COST_BYTES: usize = 64;
