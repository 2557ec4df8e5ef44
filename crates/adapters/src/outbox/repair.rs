//! Rows that are sent once more although their documents did not change: what a target lost, and
//! what somebody wants to have again since some time.

use redb::{ReadableDatabase, ReadableTable, WriteTransaction};
use rejoin::DocumentId;

use super::enqueue::{New, is_known, is_own, is_waiting};
use super::tables::{CHECKPOINTS, SHADOWS};
use super::{Checkpoint, Outbox, OutboxError, Shadow, decode, encode, write};
use crate::delivery::{Action, NO_DOCUMENT, Record};

impl Outbox {
    /// Enqueues rows as they should be, with new keys, each after what waits of its document. Those
    /// that wait already, or that no document became, are left; of a row of [`NO_DOCUMENT`] the
    /// target is told that it is gone. Returns how many were enqueued.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn repair(
        &mut self,
        now_ms: u64,
        rows: &[(DocumentId, Record)],
    ) -> Result<u64, OutboxError> {
        let txn = write(&self.database)?;
        let enqueued = self.repair_in(&txn, now_ms, rows)?;
        txn.commit()?;
        Ok(enqueued)
    }

    /// The same, in a transaction.
    pub(super) fn repair_in(
        &self,
        txn: &WriteTransaction,
        now_ms: u64,
        rows: &[(DocumentId, Record)],
    ) -> Result<u64, OutboxError> {
        let mut enqueued = 0;
        for (document, record) in rows {
            let shadow: Option<Shadow> = {
                let table = txn.open_table(SHADOWS)?;
                let row = table.get((&document.0, &*record.name, &*record.key))?;
                row.map(|row| decode(row.value())).transpose()?
            };
            // What a document became by now is not extra.
            let is_own = match *document == NO_DOCUMENT {
                true => !is_known(txn, record)?,
                false => is_own(txn, record, document)?,
            };
            if !is_own {
                continue;
            }
            let action = match shadow {
                Some(Shadow { wanted: Some(row), .. }) => Action::Put(row.0),
                Some(Shadow { deleted_ms, erased, .. }) => {
                    self.gone(deleted_ms.unwrap_or(now_ms), erased)
                }
                None if *document == NO_DOCUMENT => self.gone(now_ms, false),
                None => continue,
            };
            if is_waiting(txn, document, record)? {
                continue;
            }
            let mut checkpoint: Checkpoint = {
                let table = txn.open_table(CHECKPOINTS)?;
                let row = table.get(&document.0)?;
                row.map(|row| decode(row.value())).transpose()?.unwrap_or_default()
            };
            let (document, record) = (*document, record.clone());
            // Targets compare generations. How far the document itself is enqueued stays as it is.
            let known = std::mem::replace(&mut checkpoint.generation, self.endpoint.generation);
            self.put(
                txn,
                &mut checkpoint,
                New { now_ms, document, record, action, again: now_ms },
            )?;
            checkpoint.generation = known;
            txn.open_table(CHECKPOINTS)?.insert(&document.0, &encode(&checkpoint)[..])?;
            enqueued += 1;
        }
        Ok(enqueued)
    }

    /// The rows that the target took since some time, in milliseconds since 1970.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn taken_since(&self, since_ms: u64) -> Result<Vec<(DocumentId, Record)>, OutboxError> {
        let txn = self.database.begin_read()?;
        let table = txn.open_table(SHADOWS)?;
        let mut rows = Vec::new();
        for row in table.iter()? {
            let (key, row) = row?;
            let shadow: Shadow = decode(row.value())?;
            if shadow.taken.last().is_some_and(|taken| taken.at_ms >= since_ms) {
                let (document, name, record) = key.value();
                let record = Record { name: name.to_owned(), key: record.to_owned() };
                rows.push((DocumentId(*document), record));
            }
        }
        Ok(rows)
    }
}
