//! Dead letters: looked at, replayed, discarded.

use redb::{ReadableDatabase, ReadableTable};

use super::tables::{DEAD, HELD, MISFITS, OUTBOX, WHEN};
use super::{DeadClass, DeadLetter, Outbox, OutboxError, Waiting, decode, encode, put_when, write};

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
    /// with its document, by whoever calls [`Outbox::enqueue`].
    ///
    /// # Errors
    /// There is none with this number, or as [`OutboxError`].
    pub fn replay(&mut self, now_ms: u64, number: u64) -> Result<DeadLetter, OutboxError> {
        let letter = self.dead_letter(number)?;
        let txn = write(&self.database)?;
        txn.open_table(DEAD)?.remove(number)?;
        if let Some(delivery) = &letter.delivery {
            let waiting = Waiting { delivery: delivery.clone(), attempts: 0, fault: None };
            let key = (&letter.document.0, delivery.seq);
            txn.open_table(OUTBOX)?.insert(key, &encode(&waiting)[..])?;
            put_when(&txn, &letter.document, Some(now_ms))?;
        } else {
            let record = (&letter.document.0, &*letter.record.name, &*letter.record.key);
            txn.open_table(MISFITS)?.remove(record)?;
            txn.open_table(super::tables::CHECKPOINTS)?.get(&letter.document.0)?;
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
        let when = txn.open_table(WHEN)?.get(&letter.document.0)?.map(|when| when.value());
        if when == Some(HELD) {
            let table = txn.open_table(OUTBOX)?;
            let mut waits =
                table.range((&letter.document.0, 0)..=(&letter.document.0, u64::MAX))?;
            let waits = waits.next().is_some();
            drop(table);
            put_when(&txn, &letter.document, waits.then_some(now_ms))?;
        }
        txn.commit()?;
        Ok(letter)
    }
}
