//! Opening a replica's file, with errors that say what to do.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, StorageError};
use thiserror::Error;

use rejoin_engine::EngineError;
use rejoin_engine::store::StoreError;

/// Bytes of database pages kept in memory. redb would take up to a gigabyte, which a telephone does
/// not have.
const CACHE_BYTES: usize = 32 << 20;

/// Opens or creates the database of a replica.
pub(crate) fn open_database(path: &Path) -> Result<Database, OpenError> {
    let refused = |error| refusal(path, error);
    if !path.exists() {
        create_whole(path).map_err(refused)?;
    }
    // redb would make a new, empty replica of an empty file, and nobody would hear that one was
    // lost.
    if std::fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() == 0) {
        return Err(OpenError::Empty { path: path.to_owned() });
    }
    let open = || Database::builder().set_cache_size(CACHE_BYTES).create(path);
    let opened = unpanicked(open)
        .unwrap_or_else(|reason| Err(DatabaseError::Storage(StorageError::Corrupted(reason))));
    opened.map_err(refused)
}

/// Runs redb on a file that may be damaged. It reports most damage, but panics on some: on a wrong
/// length in its table of free pages, for one.
pub(crate) fn unpanicked<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| "its pages contradict each other".to_owned())
}

/// Makes a new database beside its place and moves it there: redb cannot open a file whose creation
/// was cut short, and nobody should have to delete one by hand.
fn create_whole(path: &Path) -> Result<(), DatabaseError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".new-{}", std::process::id()));
    let beside = PathBuf::from(beside);
    drop(Database::create(&beside)?);
    // A link, unlike a rename, does not replace a file that another process has put there
    // meanwhile.
    match std::fs::hard_link(&beside, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        // Not every file system has links.
        Err(_) => return Ok(std::fs::rename(&beside, path)?),
        Ok(()) => {}
    }
    Ok(std::fs::remove_file(&beside)?)
}

fn refusal(path: &Path, error: DatabaseError) -> OpenError {
    let at = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked { path: at, holder: holder(path) },
        DatabaseError::Storage(StorageError::Io(source)) => io_error(at, source),
        DatabaseError::Storage(StorageError::Corrupted(reason)) => {
            OpenError::Damaged { path: at, reason }
        }
        DatabaseError::UpgradeRequired(_) | DatabaseError::RepairAborted => {
            OpenError::Damaged { path: at, reason: error.to_string() }
        }
        error => OpenError::Damaged { path: at, reason: error.to_string() },
    }
}

fn io_error(path: PathBuf, source: std::io::Error) -> OpenError {
    match source.kind() {
        ErrorKind::NotFound => OpenError::NoFolder { path },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly { path },
        ErrorKind::StorageFull => OpenError::Full { path },
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
            OpenError::Damaged { path, reason: source.to_string() }
        }
        _ => OpenError::Io { path, source },
    }
}

/// A process that has the file open, if the system tells. The lock itself names none.
#[cfg(target_os = "linux")]
fn holder(path: &Path) -> Holder {
    let found = || -> Option<u32> {
        let path = path.canonicalize().ok()?;
        let pids = std::fs::read_dir("/proc").ok()?.filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.parse::<u32>().ok()
        });
        pids.into_iter().find(|pid| {
            let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
            let mut open = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
            open.any(|file| file == path)
        })
    };
    Holder(found())
}

#[cfg(not(target_os = "linux"))]
fn holder(_: &Path) -> Holder {
    Holder(None)
}

/// The process that has a file open, if it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder(pub Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) if pid == std::process::id() => f.write_str("this process"),
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

/// A replica could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// One process at a time.
    #[error("{} is open in {holder}; stop that, or use another file", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
        /// The process that has it open.
        holder: Holder,
    },
    /// The folder is not there.
    #[error("{} cannot be created because its folder does not exist; make the folder first", path.display())]
    NoFolder {
        /// The file.
        path: PathBuf,
    },
    /// No permission to write.
    #[error("{} cannot be written; give yourself write permission for the file and its folder, or use another place", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// No space left.
    #[error("the disk of {} is full; free some space and try again", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file is there and has no bytes.
    #[error("{} is empty: was it cut short? Move it away to begin anew, or restore it from a backup", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Not a replica, or no longer one.
    #[error("{} is damaged or not a replica ({reason}); `rejoin doctor --salvage` takes out what can still be read of a damaged one, or restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The message of redb.
        reason: String,
    },
    /// Another failure of the system.
    #[error("{} cannot be opened", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The message of the system.
        source: std::io::Error,
    },
    /// The tables could not be read.
    #[error("{} cannot be used", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: StoreError,
    },
    /// The engine could not start.
    #[error("{} cannot be used", path.display())]
    Engine {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: Box<EngineError>,
    },
    /// The private runtime or its thread could not be made.
    #[error("a thread for the replica could not be started")]
    Runtime(#[source] std::io::Error),
}
