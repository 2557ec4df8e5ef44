//! Dead letters: looked at, replayed, discarded.

use redb::{ReadableDatabase, ReadableTable, WriteTransaction};
use rejoin::DocumentId;

use super::tables::{DEAD, HELD, MISFITS, OUTBOX, SHADOWS, WHEN};
use super::{
    DeadClass, DeadLetter, Outbox, OutboxError, Shadow, Waiting, decode, encode, put_when, write,
};
use crate::delivery::Action;
use crate::mapping::Mode;

impl Outbox {
    /// The dead letters with their numbers, oldest first.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn dead_letters(&self) -> Result<Vec<(u64, DeadLetter)>, OutboxError> {
        let txn = self.database.begin_read()?;
        let table = txn.open_table(DEAD)?;
        let rows = table.iter()?.map(|row| {
            let (number, row) = row?;
            Ok((number.value(), decode(row.value())?))
        });
        rows.collect()
    }

    /// One dead letter.
    ///
    /// # Errors
    /// There is none with this number, or as [`OutboxError`].
    pub fn dead_letter(&self, number: u64) -> Result<DeadLetter, OutboxError> {
        let txn = self.database.begin_read()?;
        let row = txn.open_table(DEAD)?.get(number)?;
        Ok(decode(row.ok_or(OutboxError::NoDeadLetter(number))?.value())?)
    }

    /// Delivers a dead letter after all, with the same key. One that was no row is projected again
    /// with its document, by whoever calls [`Outbox::enqueue`]. Where only the last row counts and
    /// a newer one was made meanwhile, there is nothing to deliver. What another mapping made, which
    /// may have hidden less, is not sent any more: the row as it is takes its place.
    ///
    /// # Errors
    /// There is none with this number, or as [`OutboxError`].
    pub fn replay(&mut self, now_ms: u64, number: u64) -> Result<DeadLetter, OutboxError> {
        let letter = self.dead_letter(number)?;
        let made_by = letter.delivery.as_ref().map(|delivery| &delivery.mapping);
        if made_by.is_some_and(|mapping| *mapping != self.policy.mapping) {
            let letter = self.discard(now_ms, number)?;
            self.repair(now_ms, &[(letter.document, letter.record.clone())])?;
            return Ok(letter);
        }
        let is_wanted = self.policy.mode == Mode::Event || self.is_wanted(&letter)?;
        let txn = write(&self.database)?;
        txn.open_table(DEAD)?.remove(number)?;
        if let Some(delivery) = letter.delivery.as_ref().filter(|_| is_wanted) {
            let waiting = Waiting { delivery: delivery.clone(), attempts: 0, fault: None };
            let key = (&letter.document.0, delivery.seq);
            txn.open_table(OUTBOX)?.insert(key, &encode(&waiting)[..])?;
            put_when(&txn, &letter.document, Some(now_ms))?;
        } else if letter.delivery.is_some() {
            self.release(&txn, now_ms, &letter.document)?;
        } else {
            let record = (&letter.document.0, &*letter.record.name, &*letter.record.key);
            txn.open_table(MISFITS)?.remove(record)?;
            self.forget_checkpoint(&txn, &letter.document)?;
        }
        txn.commit()?;
        Ok(letter)
    }

    /// Lets a dead letter be. What comes after it of the same document goes on.
    ///
    /// # Errors
    /// There is none with this number, or as [`OutboxError`].
    pub fn discard(&mut self, now_ms: u64, number: u64) -> Result<DeadLetter, OutboxError> {
        let letter = self.dead_letter(number)?;
        let txn = write(&self.database)?;
        txn.open_table(DEAD)?.remove(number)?;
        if letter.class == DeadClass::Misfit {
            let record = (&letter.document.0, &*letter.record.name, &*letter.record.key);
            txn.open_table(MISFITS)?.remove(record)?;
        }
        if letter.delivery.is_some() {
            self.release(&txn, now_ms, &letter.document)?;
        }
        txn.commit()?;
        Ok(letter)
    }

    /// Lets a document go on that waited for somebody to do something.
    fn release(
        &self,
        txn: &WriteTransaction,
        now_ms: u64,
        document: &DocumentId,
    ) -> Result<(), OutboxError> {
        let when = txn.open_table(WHEN)?.get(&document.0)?.map(|when| when.value());
        if when != Some(HELD) {
            return Ok(());
        }
        let waits = {
            let table = txn.open_table(OUTBOX)?;
            table.range((&document.0, 0)..=(&document.0, u64::MAX))?.next().is_some()
        };
        put_when(txn, document, waits.then_some(now_ms))
    }

    /// Whether what a dead letter says of its row is still what the target should hold.
    fn is_wanted(&self, letter: &DeadLetter) -> Result<bool, OutboxError> {
        let Some(delivery) = &letter.delivery else { return Ok(false) };
        let txn = self.database.begin_read()?;
        let table = txn.open_table(SHADOWS)?;
        let record = &letter.record;
        let row = table.get((&letter.document.0, &*record.name, &*record.key))?;
        let shadow: Shadow = row.map(|row| decode(row.value())).transpose()?.unwrap_or_default();
        let wanted = shadow.wanted.map(|row| row.0);
        Ok(match &delivery.action {
            Action::Put(row) => wanted.as_ref() == Some(row),
            Action::Mark { .. } | Action::Delete => wanted.is_none(),
        })
    }
}
