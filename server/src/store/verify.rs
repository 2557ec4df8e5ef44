//! The snapshots and chunks that were found to be as they were written, so that a long one is not
//! read whole for every piece of it.

use std::collections::{BTreeMap, BTreeSet};

use rejoin_core::change::ChunkSum;

use super::StoreError;
use super::reads::Rows;
use super::tables::SnapshotRow;

/// Snapshots and long changes that were looked at since the store was opened. Others are looked at
/// whenever they are read.
#[derive(Debug, Default)]
pub(super) struct Verified {
    /// (document, last position covered)
    snapshots: BTreeSet<(u64, u64)>,
    /// (document, position)
    changes: BTreeSet<(u64, u64)>,
}

impl Verified {
    /// Looks whether a snapshot is whole and has its checksum, if nobody has yet.
    ///
    /// # Errors
    /// It has not, or the database cannot be read.
    pub(super) fn snapshot(
        &mut self,
        parts: &Rows,
        number: u64,
        snapshot: &SnapshotRow,
    ) -> Result<(), StoreError> {
        let key = (number, snapshot.covers);
        if !self.snapshots.contains(&key) {
            check_snapshot(parts, number, snapshot.bytes)?;
            note(&mut self.snapshots, key);
        }
        Ok(())
    }

    pub(super) fn has_change(&self, number: u64, position: u64) -> bool {
        self.changes.contains(&(number, position))
    }

    pub(super) fn note_change(&mut self, number: u64, position: u64) {
        note(&mut self.changes, (number, position));
    }

    /// The document is to be looked at anew.
    pub(super) fn forget(&mut self, number: u64) {
        let all = (number, 0)..=(number, u64::MAX);
        for verified in [&mut self.snapshots, &mut self.changes] {
            verified.extract_if(all.clone(), |_| true).for_each(drop);
        }
    }
}

/// Reads a whole snapshot once, without keeping it.
///
/// # Errors
/// It is not as long as it should be or has not its checksum, or the database cannot be read.
pub(super) fn check_snapshot(parts: &Rows, number: u64, bytes: u64) -> Result<(), StoreError> {
    let mut sum = ChunkSum::new();
    let mut end = 0;
    for part in parts.range((number, 0)..=(number, u64::MAX))? {
        let (key, part) = part?;
        if key.value().1 != end {
            break;
        }
        end += part.value().len() as u64;
        sum.update(part.value());
    }
    if end == bytes && sum.is_sound() {
        Ok(())
    } else {
        Err(StoreError::Damaged { document: number, what: "snapshot" })
    }
}

/// Whether parts that were read before are a whole snapshot.
pub(super) fn is_snapshot(parts: &BTreeMap<u64, Vec<u8>>, bytes: u64) -> bool {
    let mut sum = ChunkSum::new();
    let mut end = 0;
    for (offset, part) in parts {
        if *offset != end {
            return false;
        }
        end += part.len() as u64;
        sum.update(part);
    }
    end == bytes && sum.is_sound()
}

fn note(verified: &mut BTreeSet<(u64, u64)>, key: (u64, u64)) {
    if verified.len() >= VERIFIED_MAX {
        verified.clear();
    }
    verified.insert(key);
}

/// Entries remembered of each kind: some 200 KiB. A forgotten one is looked at once more.
const VERIFIED_MAX: usize = 4096;
