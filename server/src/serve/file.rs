//! The database's file, with the bytes that are written to it counted.

use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend, StorageError};

/// Bytes written to a file so far, however often it was opened.
pub(super) type Written = Arc<AtomicU64>;

/// Does as the file does, and counts.
#[derive(Debug)]
pub(super) struct CountedFile {
    file: FileBackend,
    written: Written,
}

impl CountedFile {
    /// Opens a file that holds a database.
    pub(super) fn open(path: &Path, written: Written) -> Result<Self, DatabaseError> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if file.metadata()?.len() == 0 {
            // It would be taken for a new one.
            return Err(StorageError::Corrupted("the file is empty".to_owned()).into());
        }
        Ok(Self { file: FileBackend::new(file)?, written })
    }
}

impl StorageBackend for CountedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use redb::{Database, TableDefinition};

    use super::*;

    #[test]
    fn what_a_commit_writes_is_counted_and_what_was_written_before_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.redb");
        drop(Database::create(&path).unwrap());
        let written = Written::default();
        let file = CountedFile::open(&path, written.clone()).unwrap();
        let database = Database::builder().create_with_backend(file).unwrap();
        let opened = written.load(Ordering::Relaxed);
        assert!(opened < 64 << 10, "{opened} bytes");
        let table: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("some");
        let transaction = database.begin_write().unwrap();
        transaction.open_table(table).unwrap().insert(1, [7; 100_000].as_slice()).unwrap();
        transaction.commit().unwrap();
        let committed = written.load(Ordering::Relaxed) - opened;
        assert!((100_000..400_000).contains(&committed), "{committed} bytes");
    }

    #[test]
    fn an_empty_file_is_no_new_database() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.redb");
        std::fs::write(&path, b"").unwrap();
        let error = CountedFile::open(&path, Written::default()).unwrap_err();
        assert!(error.to_string().contains("empty"), "{error}");
    }
}
