//! What is done with a whole file while nobody has it open.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::cipher::SECTOR_BYTES;
use crate::error::{FileError, SealError};
use crate::first::PLACES_END;
use crate::folder::sync_folder_of;
use crate::header::{Header, Headers};
use crate::key::Key;
use crate::sealed::Sealed;

/// Whether a file is encrypted, or was before its header was damaged. One that is not there, or has
/// no bytes, is not.
///
/// # Errors
/// The file cannot be read.
pub fn is_sealed(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    Ok(Headers::read(&FileBackend::new(file).map_err(io::Error::other)?)?.are_there())
}

/// Copies a file that is not encrypted into a new one that is. The old one stays, with all that can be
/// read in it.
///
/// # Errors
/// Somebody has the file open, it is no file of redb, there is something at `to`, or a file cannot be
/// read or written.
pub fn encrypt(from: &Path, to: &Path, key: &Key) -> Result<(), FileError> {
    let plain = alone(from)?;
    let read = || -> Result<u64, SealError> {
        let mut magic = [0; 4];
        let len = plain.len()?;
        if len < SECTOR_BYTES as u64 {
            return Err(SealError::NoDatabase);
        }
        plain.read(0, &mut magic)?;
        match &magic {
            b"redb" if len.is_multiple_of(SECTOR_BYTES as u64) => Ok(len),
            _ if is_sealed(from)? => Err(SealError::Sealed),
            _ => Err(SealError::NoDatabase),
        }
    };
    let len = read().map_err(of(from))?;
    make(to, |file| {
        let sealed = Sealed::create(file, key)?;
        copy(&plain, &sealed, len)?;
        Ok(())
    })
}

/// Copies an encrypted file into a new one that is not. Pages that are damaged are damaged in the new
/// file, too.
///
/// # Errors
/// Somebody has the file open, it has another key, there is something at `to`, or a file cannot be
/// read or written.
pub fn decrypt(from: &Path, to: &Path, key: &Key) -> Result<(), FileError> {
    let open = || {
        let sealed = Sealed::open(file(from)?, key)?;
        hold(&sealed)?;
        Ok(sealed)
    };
    let sealed = open().map_err(of(from))?;
    let len = sealed.len().map_err(SealError::from).map_err(of(from))?;
    make(to, |file| Ok(copy(&sealed, &file, len)?))
}

/// Gives a file another key, at once however large it is: the pages stay as they are. The old key does
/// not open it any more; it opens copies that were made before.
///
/// # Errors
/// Somebody has the file open, `old` is not its key, or it cannot be written.
pub fn change_key(path: &Path, old: &Key, new: &Key) -> Result<(), FileError> {
    let file = alone(path)?;
    let change = || -> Result<(), SealError> {
        let headers = Headers::read(&file)?;
        let header = headers.last().ok_or_else(|| headers.lack())?;
        let data_key = header.unwrap(old)?;
        let next = Header::wrap(&data_key, new, header.sequence() + 1)?;
        Ok(headers.replace(&file, &next)?)
    };
    change().map_err(of(path))
}

/// Makes an encrypted file unreadable for good, whoever has its key, and removes it. It takes no key.
///
/// Only the few bytes that hold the file's own key are written over. A disk of flash may keep the old
/// ones for a while in blocks that it does not show: to be sure, destroy the owner's key as well.
///
/// # Errors
/// Somebody has the file open, it is not encrypted, or it cannot be written or removed. One that is
/// not encrypted is left alone: to remove it would leave its bytes on the disk.
pub fn destroy(path: &Path) -> Result<(), FileError> {
    let file = alone(path)?;
    let destroy = || -> Result<(), SealError> {
        let mut beginning = vec![0; file.len()?.min(PLACES_END) as usize];
        file.read(0, &mut beginning)?;
        // One that was cut short after it had written over the keys goes on.
        let is_begun = !beginning.is_empty() && beginning.iter().all(|byte| *byte == 0);
        if !is_begun && !is_sealed(path)? {
            return Err(SealError::NotSealed);
        }
        beginning.fill(0);
        file.write(0, &beginning)?;
        file.sync_data()?;
        fs::remove_file(path)?;
        Ok(sync_folder_of(path)?)
    };
    destroy().map_err(of(path))
}

/// Opens a file, and keeps everybody else from opening it.
fn alone(path: &Path) -> Result<FileBackend, FileError> {
    let open = || {
        let file = file(path)?;
        hold(&file)?;
        Ok(file)
    };
    open().map_err(of(path))
}

fn file(path: &Path) -> io::Result<FileBackend> {
    let file = File::options().read(true).write(true).open(path)?;
    FileBackend::new(file).map_err(io::Error::other)
}

fn hold(file: &dyn StorageBackend) -> Result<(), SealError> {
    match file.try_lock_range(Bound::Unbounded, Bound::Unbounded) {
        Ok(false) => Err(SealError::Open),
        // Not every file system has locks, and there redb opens files without them.
        Ok(true) | Err(_) => Ok(()),
    }
}

/// Makes a file beside its place, and moves it there once it is whole.
fn make(
    to: &Path,
    write: impl FnOnce(FileBackend) -> Result<(), SealError>,
) -> Result<(), FileError> {
    let mut unfinished = to.as_os_str().to_owned();
    unfinished.push(format!(".unfinished-{}", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    let made = || -> Result<(), SealError> {
        if to.exists() {
            return Err(io::Error::from(ErrorKind::AlreadyExists).into());
        }
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = FileBackend::new(options.open(&unfinished)?).map_err(io::Error::other)?;
        write(file)?;
        fs::rename(&unfinished, to)?;
        Ok(sync_folder_of(to)?)
    };
    made().map_err(|error| {
        // The error is told; half a file helps nobody.
        let _ = fs::remove_file(&unfinished);
        FileError { path: to.to_owned(), source: error }
    })
}

fn copy(from: &dyn StorageBackend, to: &dyn StorageBackend, len: u64) -> io::Result<()> {
    to.set_len(len)?;
    // One by one: what is read together is damaged together.
    let mut sector = vec![0; SECTOR_BYTES];
    for at in (0..len).step_by(SECTOR_BYTES) {
        from.read(at, &mut sector)?;
        to.write(at, &sector)?;
    }
    to.sync_data()
}

fn of(path: &Path) -> impl FnOnce(SealError) -> FileError {
    let path = path.to_owned();
    |source| FileError { path, source }
}
