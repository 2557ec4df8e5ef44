//! The file of a store while no relay has it open: made, or opened, with the key that encrypts it.

use std::fs::File;
use std::io;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, DatabaseError, StorageError};
use rejoin_seal::{Key, SealError, Sealed, is_sealed};
use thiserror::Error;

/// The file of a store could not be made or opened.
#[derive(Debug, Error)]
pub(crate) enum FileError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Database(StorageError::Io(error).into())
    }
}

/// Makes a database in a file that is not there yet, or is of no use.
pub(crate) fn create(path: &Path, key: Option<&Key>) -> Result<Database, FileError> {
    let Some(key) = key else { return Ok(Database::create(path)?) };
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    let sealed = Sealed::create(FileBackend::new(file)?, key)?;
    Ok(Database::builder().create_with_backend(sealed)?)
}

/// Opens the database in a file.
pub(crate) fn open(path: &Path, key: Option<&Key>) -> Result<Database, FileError> {
    let Some(key) = key else {
        check_plain(path)?;
        return Ok(Database::open(path)?);
    };
    let file = File::options().read(true).write(true).open(path)?;
    let sealed = Sealed::open(FileBackend::new(file)?, key)?;
    Ok(Database::builder().create_with_backend(sealed)?)
}

/// Fails if a file is encrypted.
pub(crate) fn check_plain(path: &Path) -> Result<(), FileError> {
    if is_sealed(path)? {
        return Err(SealError::NeedsKey.into());
    }
    Ok(())
}
