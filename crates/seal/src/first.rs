//! The first sector, which redb writes in place with each commit.
//!
//! redb never writes over a page that the last commit needs, except for this one: it says which
//! commit is the last. It takes care that 320 bytes of it may be torn by a power loss, and are still
//! read. An encrypted sector that is torn is lost. So it has two places. What redb writes goes to the
//! one that a sync has not confirmed, and the other one is whole whatever happens.

use std::io;

use redb::StorageBackend;

use crate::cipher::{Cipher, SECTOR_BYTES, TRAILER_BYTES};
use crate::header::HEADERS_BYTES;

/// The first sector, and the place where it goes next.
pub(crate) struct First {
    bytes: Box<[u8; SECTOR_BYTES]>,
    /// The place of the greater sequence counts.
    sequence: u64,
    /// The place that a sync has confirmed.
    confirmed: usize,
    /// Whether the other one was written since.
    is_ahead: bool,
}

impl First {
    /// One that was never written.
    pub(crate) fn blank() -> Self {
        Self { bytes: Box::new([0; SECTOR_BYTES]), sequence: 0, confirmed: 0, is_ahead: false }
    }

    /// Reads it; `None` if neither place has a whole one.
    pub(crate) fn read(file: &dyn StorageBackend, cipher: &Cipher) -> io::Result<Option<Self>> {
        let mut found: Option<Self> = None;
        for confirmed in 0..2 {
            let mut place = vec![0; SEQUENCE_BYTES + SECTOR_BYTES + TRAILER_BYTES];
            file.read(place_of(confirmed), &mut place)?;
            let (sequence, sealed) = place.split_at_mut(SEQUENCE_BYTES);
            let Ok(opened) = cipher.open(&named(sequence), sealed) else { continue };
            let mut bytes = Box::new([0; SECTOR_BYTES]);
            bytes.copy_from_slice(opened);
            let sequence = sequence.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            if found.as_ref().is_none_or(|it| it.sequence < sequence) {
                found = Some(Self { bytes, sequence, confirmed, is_ahead: false });
            }
        }
        Ok(found)
    }

    pub(crate) fn bytes(&self) -> &[u8; SECTOR_BYTES] {
        &self.bytes
    }

    /// Whether something was written that no sync has confirmed.
    pub(crate) fn is_ahead(&self) -> bool {
        self.is_ahead
    }

    /// Writes a part of it.
    pub(crate) fn write(
        &mut self,
        file: &dyn StorageBackend,
        cipher: &Cipher,
        at: usize,
        part: &[u8],
    ) -> io::Result<()> {
        // Even if the write fails, something of it may be on the disk.
        self.sequence += 1;
        let mut bytes = self.bytes.clone();
        bytes[at..at + part.len()].copy_from_slice(part);
        let mut place = vec![0; SEQUENCE_BYTES + SECTOR_BYTES + TRAILER_BYTES];
        let (sequence, sealed) = place.split_at_mut(SEQUENCE_BYTES);
        sequence.copy_from_slice(&self.sequence.to_le_bytes());
        sealed[..SECTOR_BYTES].copy_from_slice(&bytes[..]);
        cipher.seal(&named(sequence), sealed)?;
        file.write(place_of(1 - self.confirmed), &place)?;
        self.bytes = bytes;
        self.is_ahead = true;
        Ok(())
    }

    /// Everything that was written is on the disk.
    pub(crate) fn synced(&mut self) {
        if std::mem::take(&mut self.is_ahead) {
            self.confirmed = 1 - self.confirmed;
        }
    }
}

/// What a first sector opens with: no other sector's number is so long.
fn named(sequence: &[u8]) -> Vec<u8> {
    [b"first", sequence].concat()
}

fn place_of(at: usize) -> u64 {
    HEADERS_BYTES + at as u64 * PLACE_BYTES
}

/// Bytes of each place: two blocks of the disk, which nothing else is in.
const PLACE_BYTES: u64 = 8192;

/// Where the places end.
pub(crate) const PLACES_END: u64 = HEADERS_BYTES + 2 * PLACE_BYTES;

/// The sequence, which stands before the sector.
const SEQUENCE_BYTES: usize = 8;
