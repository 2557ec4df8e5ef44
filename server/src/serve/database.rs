//! Opens the database in the relay's folder, or names the process that has it open.

use std::fs;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, StorageError};
use rejoin_seal::{Key, SealError, Sealed};

use super::ServeError;
use super::config::Config;
use super::file::{CountedFile, Written};
use crate::relay::{Relay, RelayOptions};
use crate::store::file::{FileError, check_plain, create};
use crate::store::unpanicked;

/// The relay's folder: a database, and beside it the number of the process that has it open.
#[derive(Debug)]
pub(super) struct DataFolder {
    path: PathBuf,
    key: Option<Key>,
    cache_bytes: usize,
    written: Written,
    /// Whether the relay was opened, and the file beside it is ours.
    is_ours: bool,
}

impl DataFolder {
    pub(super) fn new(config: &Config, written: Written) -> Self {
        let (path, key) = (config.data.clone(), config.store_key.clone());
        Self { path, key, cache_bytes: config.cache_bytes, written, is_ours: false }
    }

    /// Opens the relay in the folder, or makes one.
    pub(super) fn open(&mut self, options: RelayOptions) -> Result<Relay, ServeError> {
        let folder = |source| ServeError::Folder { path: self.path.clone(), source };
        fs::create_dir_all(&self.path).map_err(folder)?;
        let path = self.path.join(STORE_FILE);
        if !path.exists() {
            self.make(&path)?;
        }
        let mut builder = Database::builder();
        builder.set_cache_size(self.cache_bytes);
        if fs::metadata(&path).is_ok_and(|it| it.is_file() && it.len() == 0) {
            // It would be taken for a new one.
            return Err(ServeError::Empty { path });
        }
        let open = || open_with(&builder, &path, self.key.as_ref(), self.written.clone());
        // redb reports most damage, and panics on some.
        let opened = catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| {
            let reason = "its pages contradict each other".to_owned();
            Err(FileError::Database(StorageError::Corrupted(reason).into()))
        });
        let database = opened.map_err(|error| self.explain(path.clone(), error))?;
        let relay = unpanicked(|| Relay::open(database, options, rand::random))
            .map_err(|source| ServeError::Store { path, source })?;
        self.is_ours = true;
        // Only for the message of a process that finds the database locked.
        if let Err(error) = fs::write(self.pid_path(), std::process::id().to_string()) {
            tracing::warn!(error = &error as &dyn std::error::Error, "relay.pid not written");
        }
        Ok(relay)
    }

    /// Makes an empty database under another name first: one whose making was cut short cannot be
    /// told from a damaged one.
    fn make(&self, path: &Path) -> Result<(), ServeError> {
        let folder = |source| ServeError::Folder { path: self.path.clone(), source };
        let unfinished = path.with_extension("redb.new");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(folder(error)),
            _ => {}
        }
        let made = create(&unfinished, self.key.as_ref());
        drop(made.map_err(|error| self.explain(unfinished.clone(), error))?);
        // It has everything, and is nobody's but the relay's.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let private = fs::Permissions::from_mode(0o600);
            fs::set_permissions(&unfinished, private).map_err(folder)?;
        }
        fs::rename(&unfinished, path).map_err(folder)?;
        sync_folder(&self.path).map_err(folder)
    }

    fn explain(&self, path: PathBuf, error: FileError) -> ServeError {
        let error = match error {
            FileError::Seal(SealError::Open) => DatabaseError::DatabaseAlreadyOpen,
            FileError::Seal(SealError::Io(source)) => StorageError::Io(source).into(),
            FileError::Seal(SealError::NotSealed) => return ServeError::NotSealed { path },
            FileError::Seal(source) => return ServeError::Key { path, source },
            FileError::Database(error) => error,
        };
        match error {
            DatabaseError::DatabaseAlreadyOpen => {
                ServeError::Locked { path, pid: read_pid(&self.pid_path()) }
            }
            DatabaseError::Storage(StorageError::Io(source)) if is_about_access(&source) => {
                ServeError::Folder { path: self.path.clone(), source }
            }
            error if is_corrupt(&error) => ServeError::Corrupt { path, source: Box::new(error) },
            error => ServeError::Database { path, source: Box::new(error) },
        }
    }

    fn pid_path(&self) -> PathBuf {
        self.path.join("relay.pid")
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_file(self.pid_path());
        }
    }
}

fn open_with(
    builder: &Builder,
    path: &Path,
    key: Option<&Key>,
    written: Written,
) -> Result<Database, FileError> {
    if key.is_none() {
        check_plain(path)?;
    }
    let file = CountedFile::open(path, written)?;
    Ok(match key {
        None => builder.create_with_backend(file)?,
        Some(key) => builder.create_with_backend(Sealed::open(file, key)?)?,
    })
}

/// Makes a rename survive a power loss.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(path)?.sync_all() } else { Ok(()) }
}

fn read_pid(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn is_about_access(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::IsADirectory
    )
}

fn is_corrupt(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::RepairAborted | DatabaseError::UpgradeRequired(_) => true,
        DatabaseError::Storage(StorageError::Corrupted(_)) => true,
        DatabaseError::Storage(StorageError::Io(error)) => {
            matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
        }
        _ => false,
    }
}

/// The name of the store in a relay's folder.
pub const STORE_FILE: &str = "relay.redb";
