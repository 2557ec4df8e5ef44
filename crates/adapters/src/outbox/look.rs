//! What people and metrics see of an outbox.

use std::collections::{BTreeSet, BinaryHeap};

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};
use rejoin::DocumentId;

use super::dead::letters_of;
use super::rows::WaitingSince;
use super::tables::{CHECKPOINTS, DEAD, DEAD_OF, DISCARDED, OUTBOX, RECORDS, SHADOWS};
use super::{Checkpoint, Outbox, OutboxError, Shadow, Waiting, decode, encode};
use crate::delivery::{Record, Row};

/// How much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Deliveries that wait.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Rows that the target does not hold as they are, as somebody let their dead letters be.
    pub discarded: u64,
    /// Documents that were enqueued at some time.
    pub documents: u64,
}

/// A delivery that the target does not have yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// The document.
    pub document: DocumentId,
    /// The row.
    pub record: Record,
    /// Since when it waits, in milliseconds since 1970.
    pub since_ms: u64,
    /// Attempts that failed.
    pub attempts: u32,
    /// What the last of them came to.
    pub fault: Option<String>,
}

/// A row that a target should hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Which row.
    pub record: Record,
    /// The document it comes from.
    pub document: DocumentId,
    /// Its fields; `None` if it is gone.
    pub row: Option<Row>,
    /// Whether a delivery about it waits.
    pub is_waiting: bool,
    /// When the target took the last one, in milliseconds since 1970.
    pub taken_ms: Option<u64>,
    /// Whether the target refused it like this: there is a dead letter of it.
    pub is_refused: bool,
}

impl Outbox {
    /// How much waits.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn depth(&self) -> Result<Depth, OutboxError> {
        let txn = self.database.begin_read()?;
        Ok(Depth {
            waiting: txn.open_table(OUTBOX)?.len()?,
            dead: txn.open_table(DEAD)?.len()?,
            discarded: txn.open_table(DISCARDED)?.len()?,
            documents: txn.open_table(CHECKPOINTS)?.len()?,
        })
    }

    /// What the target does not have yet, at most so many, those that wait longest first.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn unsent(&self, max: usize) -> Result<Vec<Unsent>, OutboxError> {
        let txn = self.database.begin_read()?;
        let table = txn.open_table(OUTBOX)?;
        // Of a long queue only the ages are read.
        let mut oldest = BinaryHeap::new();
        for row in table.iter()? {
            let (key, row) = row?;
            let WaitingSince { delivery } = decode(row.value())?;
            let (document, seq) = key.value();
            oldest.push((delivery.enqueued_ms, *document, seq));
            if oldest.len() > max {
                oldest.pop();
            }
        }
        let mut unsent = Vec::with_capacity(oldest.len());
        for (since_ms, document, seq) in oldest.into_sorted_vec() {
            let Some(row) = table.get((&document, seq))? else { continue };
            let Waiting { delivery, attempts, fault, .. } = decode(row.value())?;
            let (document, record) = (delivery.document, delivery.record);
            let fault = self.trouble_of(&record.name).or(fault);
            unsent.push(Unsent { document, record, since_ms, attempts, fault });
        }
        Ok(unsent)
    }

    /// Where a row comes from: its document, and what was delivered of it.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn origin(&self, record: &Record) -> Result<Option<(DocumentId, Shadow)>, OutboxError> {
        let txn = self.database.begin_read()?;
        let owner = txn.open_table(RECORDS)?.get((&*record.name, &*record.key))?;
        let Some(document) = owner.map(|owner| DocumentId(*owner.value())) else { return Ok(None) };
        let row = txn.open_table(SHADOWS)?;
        let row = row.get((&document.0, &*record.name, &*record.key))?;
        let shadow = row.map(|row| decode(row.value())).transpose()?;
        Ok(shadow.map(|shadow| (document, shadow)))
    }

    /// The rows that a target should hold, by name and key after one, at most so many: those that
    /// were enqueued last.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn wanted(
        &self,
        name: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<Wanted>, OutboxError> {
        let txn = self.database.begin_read()?;
        let (records, shadows) = (txn.open_table(RECORDS)?, txn.open_table(SHADOWS)?);
        let outbox = txn.open_table(OUTBOX)?;
        let (dead, dead_of) = (txn.open_table(DEAD)?, txn.open_table(DEAD_OF)?);
        let mut wanted = Vec::new();
        for row in records.range((name, after.unwrap_or_default())..)? {
            let (key, document) = row?;
            let (of, key) = key.value();
            if of != name || wanted.len() == max {
                break;
            }
            if Some(key) == after {
                continue;
            }
            let document = DocumentId(*document.value());
            let Some(row) = shadows.get((&document.0, of, key))? else { continue };
            let shadow: Shadow = decode(row.value())?;
            let record = Record { name: of.to_owned(), key: key.to_owned() };
            let mut is_waiting = false;
            for row in outbox.range((&document.0, 0)..=(&document.0, u64::MAX))? {
                let waiting: Waiting = decode(row?.1.value())?;
                is_waiting |= waiting.delivery.record == record;
            }
            let taken_ms = shadow.taken.last().map(|taken| taken.at_ms);
            let row = shadow.wanted.map(|row| row.0);
            let letters = letters_of(&dead, &dead_of, &document)?;
            let is_refused = letters.iter().any(|(_, letter)| {
                let delivery = letter.delivery.as_ref();
                letter.record == record
                    && delivery.is_some_and(|it| it.action.row() == row.as_ref())
            });
            wanted.push(Wanted { record, document, row, is_waiting, taken_ms, is_refused });
        }
        Ok(wanted)
    }

    /// The documents that are rows.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn documents(&self) -> Result<BTreeSet<DocumentId>, OutboxError> {
        let txn = self.database.begin_read()?;
        let table = txn.open_table(SHADOWS)?;
        let mut documents = BTreeSet::new();
        for row in table.iter()? {
            let (key, row) = row?;
            let shadow: Shadow = decode(row.value())?;
            if shadow.wanted.is_some() {
                documents.insert(DocumentId(*key.value().0));
            }
        }
        Ok(documents)
    }

    /// Makes a document be projected again, as if it had changed.
    pub(super) fn forget_checkpoint(
        &self,
        txn: &WriteTransaction,
        document: &DocumentId,
    ) -> Result<(), OutboxError> {
        let mut table = txn.open_table(CHECKPOINTS)?;
        let row = table.get(&document.0)?.map(|row| decode::<Checkpoint>(row.value()));
        if let Some(checkpoint) = row.transpose()? {
            let checkpoint = Checkpoint { heads: Vec::new(), ..checkpoint };
            table.insert(&document.0, &encode(&checkpoint)[..])?;
        }
        Ok(())
    }
}
