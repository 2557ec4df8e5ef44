//! The file as redb sees it, and as it is.

use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};
use zeroize::Zeroizing;

use crate::cipher::{Cipher, SECTOR_BYTES, TRAILER_BYTES};
use crate::error::SealError;
use crate::first::{First, PLACES_END};
use crate::header::{HEADERS_BYTES, Header, Headers};
use crate::key::{Key, random};

/// A file of redb whose pages are encrypted on their way to another file.
///
/// redb sees sectors of 4096 bytes, which is the size of its pages, one after the other. In the file
/// beneath, each of them has what it takes to decrypt and to check it behind it. A sector opens only
/// with the key, and only in its place:
///
/// ```text
/// headers  2 × 4096            the file's own key, wrapped by the owner's
/// first    2 × 8192            the first sector, in two places: redb writes it in place
/// sectors  (4096 + 44) × n     the others: redb writes none of them in place
/// ```
///
/// What redb reads together is one page of it. If any part of a page was altered, or was never
/// written, all of it reads as a page that redb takes for a damaged one: see `POISON` in the source.
/// An error would be worse. redb uses a file no more after the first error that it gives, and every
/// other page would be lost with the damaged one. And after a crash it has to be able to read pages
/// that were written in part, to see that they are not those of the last commit.
pub struct Sealed<B> {
    file: B,
    cipher: Cipher,
    first: Mutex<First>,
}

impl<B: StorageBackend> Sealed<B> {
    /// Makes an encrypted file of an empty one.
    ///
    /// # Errors
    /// The file is not empty, or cannot be written.
    pub fn create(file: B, key: &Key) -> Result<Self, SealError> {
        if file.len()? != 0 {
            return Err(SealError::Io(ErrorKind::AlreadyExists.into()));
        }
        let data_key = Zeroizing::new(random()?);
        let header = Header::wrap(&data_key, key, 1)?;
        let headers = Headers::read(&file)?;
        file.set_len(HEADERS_BYTES)?;
        headers.replace(&file, &header)?;
        Ok(Self { file, cipher: Cipher::new(&data_key), first: Mutex::new(First::blank()) })
    }

    /// Opens an encrypted file.
    ///
    /// # Errors
    /// The file is not encrypted, or with another key, or its beginning is damaged.
    pub fn open(file: B, key: &Key) -> Result<Self, SealError> {
        Self::open_with(file, key, |first| {
            first.ok_or(SealError::Damaged("its first page is damaged"))
        })
    }

    /// Opens an encrypted file even if its first page is damaged, which reads as zeros then.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_damaged(file: B, key: &Key) -> Result<Self, SealError> {
        Self::open_with(file, key, |first| Ok(first.unwrap_or_else(First::blank)))
    }

    fn open_with(
        file: B,
        key: &Key,
        first: impl FnOnce(Option<First>) -> Result<First, SealError>,
    ) -> Result<Self, SealError> {
        // What is read of a file while another process writes it is of no use. A storage without
        // locks has one user.
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let is_locked = match file.try_lock_range(everything.0, everything.1) {
            Ok(false) => return Err(SealError::Open),
            locked => locked.is_ok(),
        };
        let headers = Headers::read(&file)?;
        let header = headers.last().ok_or_else(|| headers.lack())?;
        let data_key = header.unwrap(key)?;
        if logical_len(file.len()?) == 0 {
            // redb would make a new database of it.
            return Err(SealError::Damaged("its pages were cut off"));
        }
        // A change of the key may have been cut short, or a block of the disk was lost.
        headers.replace(&file, header)?;
        let cipher = Cipher::new(&data_key);
        let first = first(First::read(&file, &cipher)?)?;
        // What was read may be in the system's memory only. The next commit writes over the place of
        // the commit before, which has to be of no use then.
        file.sync_data()?;
        if is_locked {
            // redb takes locks of its own.
            file.unlock_range(everything.0, everything.1).map_err(io::Error::from)?;
        }
        Ok(Self { file, cipher, first: Mutex::new(first) })
    }

    fn first(&self) -> MutexGuard<'_, First> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lock was taken: until then, another process may have written the first sector.
    fn locked(&self, taken: bool) -> Result<bool, BackendError> {
        let mut first = self.first();
        if taken && !first.is_ahead() && logical_len(self.file.len()?) > 0 {
            // If it cannot be read, the one that opened the file stays.
            if let Some(now) = First::read(&self.file, &self.cipher)? {
                // As when the file was opened.
                self.file.sync_data()?;
                *first = now;
            }
        }
        Ok(taken)
    }

    /// Reads whole sectors, the first one not among them. Returns whether all of them are as they
    /// were written.
    fn read_sectors(&self, from: u64, out: &mut [u8]) -> io::Result<bool> {
        let sectors = out.len() / SECTOR_BYTES;
        let mut sealed = vec![0; sectors * SEALED_BYTES];
        self.file.read(place_of(from), &mut sealed)?;
        let pairs = sealed.chunks_exact_mut(SEALED_BYTES).zip(out.chunks_exact_mut(SECTOR_BYTES));
        for (sector, (sealed, out)) in (from..).zip(pairs) {
            match self.cipher.open(&sector.to_le_bytes(), sealed) {
                Ok(bytes) => out.copy_from_slice(bytes),
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Writes whole sectors, the first one not among them.
    fn write_sectors(&self, from: u64, bytes: &[u8]) -> io::Result<()> {
        let mut sealed = vec![0; bytes.len() / SECTOR_BYTES * SEALED_BYTES];
        let pairs = sealed.chunks_exact_mut(SEALED_BYTES).zip(bytes.chunks_exact(SECTOR_BYTES));
        for (sector, (sealed, bytes)) in (from..).zip(pairs) {
            sealed[..SECTOR_BYTES].copy_from_slice(bytes);
            self.cipher.seal(&sector.to_le_bytes(), sealed)?;
        }
        self.file.write(place_of(from), &sealed)
    }

    /// Writes a part of one sector, the first one not among them. What was never written is zeros.
    fn write_part(&self, sector: u64, at: usize, part: &[u8]) -> io::Result<()> {
        let mut sealed = vec![0; SEALED_BYTES];
        self.file.read(place_of(sector), &mut sealed)?;
        let mut bytes = [0; SECTOR_BYTES];
        if sealed.iter().any(|byte| *byte != 0) {
            let opened = self.cipher.open(&sector.to_le_bytes(), &mut sealed);
            bytes.copy_from_slice(opened.map_err(|_| damaged(sector))?);
        }
        bytes[at..at + part.len()].copy_from_slice(part);
        self.write_sectors(sector, &bytes)
    }

    fn within(&self, offset: u64, bytes: usize) -> io::Result<()> {
        let (end, len) = (offset.checked_add(bytes as u64), logical_len(self.file.len()?));
        match end.is_some_and(|end| end <= len) {
            true => Ok(()),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl<B: StorageBackend> StorageBackend for Sealed<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(logical_len(self.file.len()?))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.within(offset, out.len())?;
        let (mut at, mut rest, mut is_whole) = (offset, &mut out[..], true);
        while !rest.is_empty() && is_whole {
            let (sector, skipped) = (at / SECTOR, (at % SECTOR) as usize);
            let is_aligned = sector != 0 && skipped == 0 && rest.len() >= SECTOR_BYTES;
            let read = match is_aligned {
                true => rest.len() / SECTOR_BYTES * SECTOR_BYTES,
                false => rest.len().min(SECTOR_BYTES - skipped),
            };
            let (now, later) = rest.split_at_mut(read);
            if is_aligned {
                is_whole = self.read_sectors(sector, now)?;
            } else if sector == 0 {
                now.copy_from_slice(&self.first().bytes()[skipped..skipped + read]);
            } else {
                let mut bytes = [0; SECTOR_BYTES];
                is_whole = self.read_sectors(sector, &mut bytes)?;
                now.copy_from_slice(&bytes[skipped..skipped + read]);
            }
            (at, rest) = (at + read as u64, later);
        }
        if !is_whole {
            out.fill(POISON_FILL);
            let head = out.len().min(POISON.len());
            out[..head].copy_from_slice(&POISON[..head]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if !len.is_multiple_of(SECTOR) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "no whole number of pages"));
        }
        let mut first = self.first();
        let before = logical_len(self.file.len()?);
        self.file.set_len(physical_len(len))?;
        if len == 0 || before == 0 {
            *first = First::blank();
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        // It stays locked, so that no write of the first sector falls between the two.
        let mut first = self.first();
        self.file.sync_data()?;
        first.synced();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.within(offset, data.len())?;
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let (sector, skipped) = (at / SECTOR, (at % SECTOR) as usize);
            let is_aligned = sector != 0 && skipped == 0 && rest.len() >= SECTOR_BYTES;
            let written = match is_aligned {
                true => rest.len() / SECTOR_BYTES * SECTOR_BYTES,
                false => rest.len().min(SECTOR_BYTES - skipped),
            };
            let (now, later) = rest.split_at(written);
            match sector {
                _ if is_aligned => self.write_sectors(sector, now)?,
                0 => self.first().write(&self.file, &self.cipher, skipped, now)?,
                _ => self.write_part(sector, skipped, now)?,
            }
            (at, rest) = (at + written as u64, later);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.locked(self.file.try_lock_range(start, end)?)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.locked(self.file.try_lock_shared_range(start, end)?)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)?;
        self.locked(true).map(drop)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)?;
        self.locked(true).map(drop)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

/// Nothing of what is in it.
impl<B: fmt::Debug> fmt::Debug for Sealed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("file", &self.file).finish_non_exhaustive()
    }
}

fn damaged(sector: u64) -> io::Error {
    let text = format!("page {sector} is damaged: it does not decrypt");
    io::Error::new(ErrorKind::InvalidData, text)
}

/// Where a sector that is not the first begins in the file beneath.
fn place_of(sector: u64) -> u64 {
    PLACES_END + (sector - 1) * SEALED_BYTES as u64
}

/// Bytes of the file beneath.
fn physical_len(len: u64) -> u64 {
    match len / SECTOR {
        0 => HEADERS_BYTES,
        sectors => place_of(sectors),
    }
}

/// Bytes that redb sees. A sector that was cut short is none.
fn logical_len(physical: u64) -> u64 {
    match physical.checked_sub(PLACES_END) {
        None => 0,
        Some(others) => SECTOR + others / SEALED_BYTES as u64 * SECTOR,
    }
}

/// What a page reads as that does not decrypt: redb's branch without a key, whose only child is a page
/// larger than there can be. redb follows it without looking at a key, and says of the child that the
/// file is damaged. A page of another kind would make it panic, and an empty one would look as if
/// there had been no rows.
const POISON: [u8; 8] = [2, 0, 0, 0, 0, 0, 0, 0];

/// What follows of such a page: a checksum that is wrong, and the child.
const POISON_FILL: u8 = 0xff;

/// Bytes of a sector, as offsets are counted.
const SECTOR: u64 = SECTOR_BYTES as u64;

/// Bytes of a sector in the file beneath.
const SEALED_BYTES: usize = SECTOR_BYTES + TRAILER_BYTES;
