//! Opening a replica's file, with errors that say what to do.

use std::fs::File;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, DatabaseError, StorageError};
use thiserror::Error;

use rejoin_engine::EngineError;
use rejoin_engine::store::StoreError;
use rejoin_seal::{Key, SealError, Sealed, is_sealed};

/// Bytes of database pages kept in memory. redb would take up to a gigabyte, which a telephone does
/// not have.
const CACHE_BYTES: usize = 32 << 20;

/// The file of a replica: where it is, and the key that opens it if it is encrypted.
///
/// A path alone is one: `Replica::open("technician.redb")`.
///
/// ```
/// use rejoin::{Key, ReplicaFile};
///
/// // As the keystore of the telephone gives them.
/// # let bytes = [7; 32];
/// let file = ReplicaFile::at("technician.redb").with(Key::bytes(bytes));
/// ```
#[derive(Debug, Clone)]
pub struct ReplicaFile {
    pub(crate) path: PathBuf,
    pub(crate) key: Option<Key>,
}

impl ReplicaFile {
    /// The file at this path, which is not encrypted.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), key: None }
    }

    /// The same file, encrypted with this key. A new one is made with it; one that is there is never
    /// encrypted or decrypted by being opened.
    #[must_use]
    pub fn with(self, key: impl Into<Option<Key>>) -> Self {
        Self { key: key.into(), ..self }
    }
}

impl<P: Into<PathBuf>> From<P> for ReplicaFile {
    fn from(path: P) -> Self {
        Self::at(path)
    }
}

/// Opens or creates the database of a replica.
pub(crate) fn open_database(file: &ReplicaFile) -> Result<Database, OpenError> {
    let ReplicaFile { path, key } = file;
    if !path.exists() {
        create_whole(path, key.as_ref())?;
    }
    // redb would make a new, empty replica of an empty file, and nobody would hear that one was
    // lost.
    if std::fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() == 0) {
        return Err(OpenError::Empty { path: path.to_owned() });
    }
    let opened = unpanicked(|| open_there(path, key.as_ref()));
    opened.unwrap_or_else(|reason| Err(OpenError::Damaged { path: path.to_owned(), reason }))
}

fn open_there(path: &Path, key: Option<&Key>) -> Result<Database, OpenError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let opened = match key {
        Some(key) => {
            let sealed = Sealed::open(existing(path)?, key);
            builder.create_with_backend(sealed.map_err(|error| sealed_error(path, error))?)
        }
        None => {
            check_plain(path)?;
            builder.create(path)
        }
    };
    opened.map_err(|error| refusal(path, error))
}

/// Fails if a file is encrypted.
pub(crate) fn check_plain(path: &Path) -> Result<(), OpenError> {
    match is_sealed(path) {
        Ok(true) => Err(OpenError::Sealed { path: path.to_owned() }),
        Ok(false) => Ok(()),
        Err(source) => Err(io_error(path.to_owned(), source)),
    }
}

/// A file that is there, to be read and written.
fn existing(path: &Path) -> Result<FileBackend, OpenError> {
    let file = File::options().read(true).write(true).open(path);
    let file = file.map_err(|source| io_error(path.to_owned(), source))?;
    FileBackend::new(file).map_err(|error| refusal(path, error))
}

/// Runs redb on a file that may be damaged. It reports most damage, but panics on some: on a wrong
/// length in its table of free pages, for one.
pub(crate) fn unpanicked<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| "its pages contradict each other".to_owned())
}

/// Makes a new database beside its place and moves it there: redb cannot open a file whose creation
/// was cut short, and nobody should have to delete one by hand.
fn create_whole(path: &Path, key: Option<&Key>) -> Result<(), OpenError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".new-{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let io = |source| io_error(path.to_owned(), source);
    let made = match key {
        None => Database::create(&beside),
        Some(key) => {
            let mut options = File::options();
            let file = options.read(true).write(true).create(true).truncate(true).open(&beside);
            let file = FileBackend::new(file.map_err(io)?).map_err(|error| refusal(path, error))?;
            let sealed = Sealed::create(file, key).map_err(|error| sealed_error(path, error))?;
            Database::builder().create_with_backend(sealed)
        }
    };
    drop(made.map_err(|error| refusal(path, error))?);
    // A link, unlike a rename, does not replace a file that another process has put there
    // meanwhile.
    match std::fs::hard_link(&beside, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        // Not every file system has links.
        Err(_) => return std::fs::rename(&beside, path).map_err(io),
        Ok(()) => {}
    }
    std::fs::remove_file(&beside).map_err(io)
}

pub(crate) fn sealed_error(path: &Path, error: SealError) -> OpenError {
    let path = path.to_owned();
    match error {
        SealError::NotSealed => OpenError::NotSealed { path },
        SealError::Open => OpenError::Locked { holder: holder(&path), path },
        SealError::Io(source) => io_error(path, source),
        reason if reason.is_about_the_key() => OpenError::WrongKey { path, reason },
        reason => OpenError::Damaged { path, reason: reason.to_string() },
    }
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
    /// The file is encrypted, and no key was given.
    #[error("{} is encrypted; give its key, as with --key-file or --passphrase-file", path.display())]
    Sealed {
        /// The file.
        path: PathBuf,
    },
    /// The file is encrypted, and the key is not its own.
    #[error("{} does not open: {reason}", path.display())]
    WrongKey {
        /// The file.
        path: PathBuf,
        /// What it is encrypted with.
        reason: SealError,
    },
    /// A key was given, and the file is not encrypted.
    #[error(
        "{} is not encrypted, and a key was given; `rejoin seal encrypt` copies it into a file that \
         is, or open it without a key",
        path.display()
    )]
    NotSealed {
        /// The file.
        path: PathBuf,
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
