//! Reads of a damaged file, each of which may fail without ending the others.

use std::collections::{BTreeMap, BTreeSet};

use redb::{Key, Range, ReadTransaction, Value};
use rejoin_core::remains::{self, Walked};
use rejoin_core::{ChangeHash, DocumentId, HeadsHash};
use thiserror::Error;

use super::erased::ERASED;
use super::rows::decode;
use super::tables::{CHANGES, DOCUMENTS, META, NUMBERS, OUTBOX, QUARANTINE, SET_ASIDE, SNAPSHOTS};
use super::{
    DocumentRow, ErasedRow, OutboxRow, QuarantineRow, SetAsideRow, StoreError, WriteTxn,
    unavailable,
};

/// The readable remains of a file.
#[derive(Debug)]
pub struct Remains<'a> {
    txn: &'a ReadTransaction,
}

/// Something of a damaged file may be there, and cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the file is damaged where this is kept")]
pub struct Unreadable;

impl<'a> Remains<'a> {
    /// The remains that a transaction over a damaged file can read.
    pub fn of(txn: &'a ReadTransaction) -> Self {
        Self { txn }
    }

    /// Edits that wait for a relay, in their order, and how many could not be read.
    pub fn outbox(&self) -> (Vec<OutboxRow>, u64) {
        let walked = walk(
            || Ok(self.txn.open_table(OUTBOX)?.range::<u64>(..)?),
            |key, row| (key, decode::<OutboxRow>(row).ok()),
        );
        let next = self.number_in_meta("outbox-next");
        let found: Vec<u64> = walked.rows.keys().copied().collect();
        let mut lost = walked.rows.values().filter(|row| row.is_none()).count() as u64;
        if !walked.is_all {
            // Keys are given one after the other, and those before the first are acknowledged.
            let first = found.first().copied().unwrap_or(next);
            lost += next.saturating_sub(first).saturating_sub(found.len() as u64);
        }
        (walked.rows.into_values().flatten().collect(), lost)
    }

    /// The ids of documents by their numbers.
    pub fn names(&self) -> BTreeMap<u64, DocumentId> {
        let walked = walk(
            || Ok(self.txn.open_table(NUMBERS)?.range::<[u8; 16]>(..)?),
            |id, number| (id, number),
        );
        let mut names: BTreeMap<u64, DocumentId> =
            walked.rows.into_iter().map(|(id, number)| (number, DocumentId(id))).collect();
        let walked = walk(
            || Ok(self.txn.open_table(DOCUMENTS)?.range::<u64>(..)?),
            |number, (id, _)| (number, DocumentId(id)),
        );
        names.extend(walked.rows);
        names
    }

    /// The numbers that documents may have. A damaged row may say any number, so those that no name
    /// is known for are tried only as far as so many documents reach.
    pub fn numbers(&self, names: &BTreeMap<u64, DocumentId>) -> BTreeSet<u64> {
        let named = names.last_key_value().map_or(0, |(number, _)| *number);
        let told = self.number_in_meta("documents-next").saturating_sub(1);
        let tried = named.max(told).min((names.len() as u64).saturating_add(UNNAMED_MAX));
        names.keys().copied().chain(1..=tried).collect()
    }

    /// A document's row; an error if there may be one that cannot be read.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn document(&self, number: u64) -> Result<Option<(DocumentId, DocumentRow)>, Unreadable> {
        read(|| {
            let row = self.txn.open_table(DOCUMENTS)?.get(number)?;
            Ok(row.map(|row| {
                let (id, row) = row.value();
                decode(row).map(|row| (DocumentId(id), row)).map_err(|_| Unreadable)
            }))
        })
        .ok_or(Unreadable)?
        .transpose()
    }

    /// A document's snapshot; an error if there may be one that cannot be read.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn snapshot(&self, number: u64) -> Result<Option<Vec<u8>>, Unreadable> {
        read(|| {
            let row = self.txn.open_table(SNAPSHOTS)?.get(number)?;
            Ok(row.map(|row| row.value().to_vec()))
        })
        .ok_or(Unreadable)
    }

    /// A document's changes with their places, and whether these are all.
    pub fn changes(&self, number: u64) -> (Vec<(u64, Vec<u8>)>, bool) {
        let walked = walk(
            || Ok(self.txn.open_table(CHANGES)?.range((number, 0)..=(number, u64::MAX))?),
            |(_, at), chunk| (at, chunk.to_vec()),
        );
        (walked.rows.into_iter().collect(), walked.is_all)
    }

    /// The changes of a document that could not be applied.
    pub fn quarantined(&self, document: &DocumentId) -> Vec<(ChangeHash, QuarantineRow)> {
        let all = (document.0, [0; 32])..=(document.0, [0xff; 32]);
        let walked = walk(
            || Ok(self.txn.open_table(QUARANTINE)?.range(all.clone())?),
            |(_, hash), row| (hash, decode::<QuarantineRow>(row).ok()),
        );
        let rows = walked.rows.into_iter();
        rows.filter_map(|(hash, row)| Some((ChangeHash(hash), row?))).collect()
    }

    /// Work that a relay will never take, and how many rows of it could not be read.
    pub fn set_aside(&self) -> (Vec<SetAsideRow>, u64) {
        let walked = walk(
            || Ok(self.txn.open_table(SET_ASIDE)?.range::<u64>(..)?),
            |key, row| (key, decode::<SetAsideRow>(row).ok()),
        );
        let lost = walked.rows.values().filter(|row| row.is_none()).count() as u64;
        let lost = lost + u64::from(!walked.is_all);
        (walked.rows.into_values().flatten().collect(), lost)
    }

    /// Takes over which documents were erased, with their part in the digests.
    ///
    /// # Errors
    /// The new file could not be written.
    pub fn copy_erased(&self, to: &WriteTxn) -> Result<(), StoreError> {
        let walked = walk(
            || Ok(self.txn.open_table(ERASED)?.range::<[u8; 16]>(..)?),
            |id, row| (id, decode::<ErasedRow>(row).ok()),
        );
        for (id, row) in walked.rows {
            let Some(row) = row else { continue };
            let id = DocumentId(id);
            let mut digest = to.digest(&row.space, &row.collection)?;
            digest.digest.insert(&id, &HeadsHash::ERASED);
            to.put_digest(&row.space, &row.collection, &digest)?;
            to.put_erased(&id, Some(&row))?;
        }
        Ok(())
    }

    /// Takes over the identity that edits on this device.
    pub fn copy_identity(&self, to: &WriteTxn) -> Result<(), StoreError> {
        let identity = read(|| {
            let row = self.txn.open_table(META)?.get("identity")?;
            Ok(row.map(|row| row.value().to_vec()))
        });
        if let Some(Some(identity)) = identity {
            let mut meta = to.txn.open_table(META).map_err(unavailable)?;
            meta.insert("identity", identity.as_slice()).map_err(unavailable)?;
        }
        Ok(())
    }

    /// A number of the file itself; 1 if it cannot be read.
    fn number_in_meta(&self, name: &str) -> u64 {
        let number = read(|| {
            let row = self.txn.open_table(META)?.get(name)?;
            Ok(row.and_then(|row| row.value().try_into().ok().map(u64::from_be_bytes)))
        });
        number.flatten().unwrap_or(1)
    }
}

impl OutboxRow {
    /// The places of its changes.
    pub fn places(&self) -> std::ops::Range<u64> {
        self.from..self.from.saturating_add(self.count)
    }
}

/// The rows of a range that can be read.
fn walk<K: Key + 'static, V: Value + 'static, O: Ord, T>(
    open: impl Fn() -> Result<Range<'static, K, V>, redb::Error>,
    take: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> (O, T),
) -> Walked<O, T> {
    remains::walk(open, |row| {
        let (key, value) = row?;
        Ok(take(key.value(), value.value()))
    })
}

/// One read, which may find the file damaged.
fn read<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Option<T> {
    remains::read(work)
}

/// Numbers beyond as many as there are documents with names that are tried.
const UNNAMED_MAX: u64 = 1 << 20;
