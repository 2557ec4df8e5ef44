//! A copy of a damaged file, opened in a way that still works.

use std::any::Any;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, ReadTransaction, ReadableDatabase, StorageBackend, TableHandle};
use rejoin_seal::{Key, SealError, Sealed};

use super::SalvageError;
use crate::file::{ReplicaFile, check_plain, sealed_error, unpanicked};

/// A damaged file of Rejoin, as far as it can be read. It reads a copy, which is gone when this is
/// dropped.
#[derive(Debug)]
pub struct DamagedFile {
    transaction: Option<ReadTransaction>,
    /// redb ends a transaction with the database that it is of.
    open: Option<Box<dyn Any>>,
    tables: Vec<String>,
    may_be_older: bool,
    copy: PathBuf,
}

/// A way to treat the header of the copy before it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// As if it had been closed in good order: the last commit is read, even if pages that nobody
    /// asks for are damaged.
    Closed,
    /// As it is, repaired by redb, which goes back to the commit before if the last one is damaged.
    Repaired,
    /// As if it had been closed in good order before the last commit.
    ClosedBefore,
    /// As if it had not been closed, repaired by redb.
    Unclosed,
}

impl DamagedFile {
    /// Copies `from` to a file beside `to`, and opens that. The copy of an encrypted file is encrypted,
    /// too.
    ///
    /// # Errors
    /// The copy cannot be made, the file is encrypted otherwise, or nothing can be read of it.
    pub fn open(from: impl Into<ReplicaFile>, to: &Path) -> Result<Self, SalvageError> {
        let ReplicaFile { path: from, key } = from.into();
        let copy = beside(to, "copy");
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| SalvageError::Io { path, source }
        };
        if key.is_none() {
            check_plain(&from)?;
        }
        fs::copy(&from, &copy).map_err(io(&copy))?;
        let mut damaged = Self {
            transaction: None,
            open: None,
            tables: Vec::new(),
            may_be_older: false,
            copy: copy.clone(),
        };
        let header = match &key {
            None => read_header(&copy).map_err(io(&copy))?,
            // It names the file that the key was given for.
            Some(key) => sealed_header(&copy, key).map_err(|error| sealed_error(&from, error))?,
        };
        let sound = sound_header(&beside(to, "header"));
        for attempt in
            [Attempt::Closed, Attempt::Repaired, Attempt::ClosedBefore, Attempt::Unclosed]
        {
            let header = attempt.header(&header, sound.as_deref());
            if key.is_some() {
                // The attempt before may have written to it.
                fs::copy(&from, &copy).map_err(io(&copy))?;
            }
            match &key {
                None => write_header(&copy, &header).map_err(io(&copy))?,
                Some(key) => write_sealed_header(&copy, key, &header)?,
            }
            // Only a file that opens and lists its tables is of use.
            let opened = unpanicked(|| attempt.open(&copy, key.as_ref()));
            if let Ok(Some((open, transaction, tables))) = opened {
                damaged.tables = tables;
                damaged.transaction = Some(transaction);
                damaged.open = Some(open);
                damaged.may_be_older = attempt != Attempt::Closed;
                return Ok(damaged);
            }
        }
        Err(SalvageError::Unreadable { path: from })
    }

    /// Whether it is a relay's.
    pub fn is_relay(&self) -> bool {
        self.tables.iter().any(|table| table == "identity-1")
    }

    /// Whether the last commit could not be found, so that the latest rows may be missing without a
    /// sign.
    pub fn may_be_older(&self) -> bool {
        self.may_be_older
    }

    /// The transaction that reads it.
    ///
    /// # Panics
    /// Never: an open file has it.
    pub fn transaction(&self) -> &ReadTransaction {
        self.transaction.as_ref().expect("it is there as long as the file is open")
    }
}

impl Drop for DamagedFile {
    fn drop(&mut self) {
        // redb looks its pages over when it closes, and these may be damaged.
        let _ = unpanicked(|| drop((self.transaction.take(), self.open.take())));
        let _ = fs::remove_file(&self.copy);
    }
}

impl Attempt {
    fn open(
        self,
        copy: &Path,
        key: Option<&Key>,
    ) -> Option<(Box<dyn Any>, ReadTransaction, Vec<String>)> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let (open, transaction): (Box<dyn Any>, _) = match (self, key) {
            (Self::Closed | Self::ClosedBefore, None) => {
                let database = builder.open_read_only(copy).ok()?;
                let transaction = database.begin_read().ok()?;
                (Box::new(database), transaction)
            }
            (Self::Repaired | Self::Unclosed, None) => {
                let database = builder.open(copy).ok()?;
                let transaction = database.begin_read().ok()?;
                (Box::new(database), transaction)
            }
            // redb opens a file of another kind for writing only. It is a copy.
            (_, Some(key)) => {
                let sealed = open_sealed(copy, key).ok()?;
                let database = builder.create_with_backend(sealed).ok()?;
                let transaction = database.begin_read().ok()?;
                (Box::new(database), transaction)
            }
        };
        let tables = transaction.list_tables().ok()?;
        let tables: Vec<String> = tables.map(|table| table.name().to_owned()).collect();
        (!tables.is_empty()).then_some((open, transaction, tables))
    }

    /// The header for this attempt: the bytes that every file of redb begins with are put right.
    fn header(self, found: &[u8], sound: Option<&[u8]>) -> Vec<u8> {
        let mut header = found.to_vec();
        if self == Self::Repaired || header.len() < HEADER_BYTES {
            return header;
        }
        if let Some(sound) = sound {
            header[..FLAGS_AT].copy_from_slice(&sound[..FLAGS_AT]);
            header[GEOMETRY].copy_from_slice(&sound[GEOMETRY]);
        }
        match self {
            Self::Closed => header[FLAGS_AT] &= !NOT_CLOSED,
            Self::ClosedBefore => {
                header[FLAGS_AT] &= !NOT_CLOSED;
                header[FLAGS_AT] ^= OTHER_COMMIT;
            }
            _ => header[FLAGS_AT] |= NOT_CLOSED,
        }
        header
    }
}

/// A path beside another, for a file that is not finished.
pub(super) fn beside(path: &Path, what: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{what}-{}", std::process::id()));
    PathBuf::from(beside)
}

/// The bytes that redb writes at the beginning of a new file.
fn sound_header(scratch: &Path) -> Option<Vec<u8>> {
    let made = Database::create(scratch).ok().map(drop);
    let header = made.and_then(|()| read_header(scratch).ok());
    let _ = fs::remove_file(scratch);
    header.filter(|header| header.len() == HEADER_BYTES)
}

fn read_header(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut header = Vec::new();
    fs::File::open(path)?.take(HEADER_BYTES as u64).read_to_end(&mut header)?;
    Ok(header)
}

fn write_header(path: &Path, header: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(header)
}

/// The same of an encrypted file. Where its first page is damaged they are zeros.
fn sealed_header(path: &Path, key: &Key) -> Result<Vec<u8>, SealError> {
    let sealed = open_sealed(path, key)?;
    let mut header = vec![0; HEADER_BYTES.min(sealed.len()? as usize)];
    sealed.read(0, &mut header)?;
    Ok(header)
}

fn write_sealed_header(path: &Path, key: &Key, header: &[u8]) -> Result<(), SalvageError> {
    let write = || {
        let sealed = open_sealed(path, key)?;
        sealed.write(0, header)?;
        sealed.sync_data()?;
        Ok(())
    };
    write().map_err(|error| sealed_error(path, error).into())
}

fn open_sealed(path: &Path, key: &Key) -> Result<Sealed<FileBackend>, SealError> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    Sealed::open_damaged(FileBackend::new(file).map_err(std::io::Error::other)?, key)
}

/// Bytes of database pages kept in memory.
const CACHE_BYTES: usize = 32 << 20;

/// Bytes at the beginning of a file that every attempt writes anew.
const HEADER_BYTES: usize = 64;

/// The place of redb's flags, after its magic number. They say which of the two commits counts, and
/// whether the file was not closed in good order.
const FLAGS_AT: usize = 9;
const OTHER_COMMIT: u8 = 1;
const NOT_CLOSED: u8 = 2;

/// The place of the sizes of pages and regions, which are the same in every file.
const GEOMETRY: std::ops::Range<usize> = 12..24;
