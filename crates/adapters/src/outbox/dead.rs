//! Dead letters: looked at, replayed, discarded.

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};
use rejoin::DocumentId;
use serde::{Deserialize, Serialize};

use super::enqueue::{Projected, is_held, is_waiting};
use super::tables::{DEAD, DEAD_OF, DISCARDED, MISFITS, OUTBOX, SHADOWS};
use super::{
    DeadClass, DeadLetter, Outbox, OutboxError, Shadow, Waiting, decode, encode, put_when, write,
};
use crate::delivery::{Delivery, Record};
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

    /// The numbers of the dead letters that are meant, oldest first.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn selected(&self, selection: &Selection) -> Result<Vec<u64>, OutboxError> {
        let letters = self.dead_letters()?.into_iter();
        Ok(letters.filter(|(_, it)| selection.means(it)).map(|(number, _)| number).collect())
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
        self.replay_all(now_ms, &[number])?;
        Ok(letter)
    }

    /// Replays dead letters, in one commit. Those that are not there any more are left. Returns how many.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn replay_all(&mut self, now_ms: u64, numbers: &[u64]) -> Result<u64, OutboxError> {
        let txn = write(&self.database)?;
        let (mut replayed, mut by_others) = (0, Vec::new());
        for number in numbers {
            let Some(letter) = letter(&txn, *number)? else { continue };
            remove_dead(&txn, &letter.document, *number)?;
            replayed += 1;
            let Some(delivery) = &letter.delivery else {
                let record = (&letter.document.0, &*letter.record.name, &*letter.record.key);
                txn.open_table(MISFITS)?.remove(record)?;
                self.forget_checkpoint(&txn, &letter.document)?;
                continue;
            };
            let is_by_other = delivery.mapping != self.policy.mapping;
            if is_by_other {
                by_others.push((letter.document, letter.record.clone()));
            }
            if is_by_other || self.policy.mode == Mode::State && !is_wanted(&txn, &letter)? {
                release(&txn, now_ms, &letter.document)?;
                continue;
            }
            let key = (&letter.document.0, delivery.seq);
            let waiting = Waiting::new(delivery.clone());
            txn.open_table(OUTBOX)?.insert(key, &encode(&waiting)[..])?;
            put_when(&txn, &letter.document, Some(now_ms))?;
        }
        self.repair_in(&txn, now_ms, &by_others)?;
        txn.commit()?;
        Ok(replayed)
    }

    /// Lets a dead letter be. What comes after it of the same document goes on.
    ///
    /// # Errors
    /// There is none with this number, or as [`OutboxError`].
    pub fn discard(&mut self, now_ms: u64, number: u64) -> Result<DeadLetter, OutboxError> {
        let letter = self.dead_letter(number)?;
        self.discard_all(now_ms, &[number])?;
        Ok(letter)
    }

    /// Lets dead letters be, in one commit. Those that are not there any more are left. Returns how many.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn discard_all(&mut self, now_ms: u64, numbers: &[u64]) -> Result<u64, OutboxError> {
        let txn = write(&self.database)?;
        let mut discarded = 0;
        for number in numbers {
            let Some(letter) = letter(&txn, *number)? else { continue };
            remove_dead(&txn, &letter.document, *number)?;
            discarded += 1;
            let record = (&letter.document.0, &*letter.record.name, &*letter.record.key);
            if letter.class == DeadClass::Misfit {
                txn.open_table(MISFITS)?.remove(record)?;
            }
            let is_last = letter.class == DeadClass::Misfit || is_wanted(&txn, &letter)?;
            if is_last && !is_waiting(&txn, &letter.document, &letter.record)? {
                txn.open_table(DISCARDED)?.insert(record, ())?;
            }
            if letter.delivery.is_some() {
                release(&txn, now_ms, &letter.document)?;
            }
        }
        txn.commit()?;
        Ok(discarded)
    }

    /// Forgets of a document's rows that their dead letters were discarded, except where a row is what it
    /// was then: those that became others are judged anew.
    pub(super) fn forget_discarded(
        &self,
        txn: &WriteTransaction,
        projected: &Projected,
    ) -> Result<(), OutboxError> {
        let (document, mut over) = (projected.document, Vec::new());
        let mut discarded = txn.open_table(DISCARDED)?;
        let shadows = txn.open_table(SHADOWS)?;
        for row in discarded.range((&document.0, "", "")..)? {
            let row = row?.0;
            let (of, name, key) = row.value();
            if *of != document.0 {
                break;
            }
            let record = Record { name: name.to_owned(), key: key.to_owned() };
            let shadow = shadows.get((&document.0, name, key))?;
            let shadow: Option<Shadow> = shadow.map(|row| decode(row.value())).transpose()?;
            let Shadow { wanted, held, .. } = shadow.unwrap_or_default();
            let is_over = match projected.rows.get(&record) {
                Some(Ok(now)) => wanted.is_none_or(|wanted| wanted.0 != *now),
                // It has a letter of its own.
                Some(Err(_)) => true,
                // A target that refused the deletion still has the row.
                None => held.is_none(),
            };
            if is_over {
                over.push(record);
            }
        }
        for Record { name, key } in over {
            discarded.remove((&document.0, &*name, &*key))?;
        }
        Ok(())
    }

    /// Removes the dead letters that a delivery makes good which the target took: older ones about
    /// its row. Where every event counts none does, as a receiver would miss the one before.
    pub(super) fn make_good(
        &self,
        txn: &WriteTransaction,
        taken: &Delivery,
    ) -> Result<(), OutboxError> {
        if self.policy.mode == Mode::Event {
            return Ok(());
        }
        let letters = {
            let (dead, of) = (txn.open_table(DEAD)?, txn.open_table(DEAD_OF)?);
            letters_of(&dead, &of, &taken.document)?
        };
        for (number, letter) in letters {
            let Some(older) = letter.delivery.filter(|it| it.record == taken.record) else {
                continue;
            };
            if (older.generation, older.seq) < (taken.generation, taken.seq) {
                remove_dead(txn, &taken.document, number)?;
            }
        }
        Ok(())
    }

    /// Removes the dead letters of a document about rows that it does not become any more and that
    /// nobody has to be told of: the target never took them. Where every event counts they stay.
    pub(super) fn forget_unwanted(
        &self,
        txn: &WriteTransaction,
        document: &DocumentId,
    ) -> Result<(), OutboxError> {
        if self.policy.mode == Mode::Event {
            return Ok(());
        }
        let letters = {
            let (dead, of) = (txn.open_table(DEAD)?, txn.open_table(DEAD_OF)?);
            letters_of(&dead, &of, document)?
        };
        for (number, letter) in letters {
            let Some(delivery) = &letter.delivery else { continue };
            let is_put = delivery.action.row().is_some();
            if is_put && !is_wanted(txn, &letter)? && !is_held(txn, document)? {
                let gone = shadow(txn, &letter)?.wanted.is_none();
                if gone {
                    remove_dead(txn, document, number)?;
                }
            }
        }
        Ok(())
    }
}

/// Which dead letters are meant: all that are of a class, if one is said, and since some time, if one
/// is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Selection {
    /// Only those of this class.
    pub class: Option<DeadClass>,
    /// Only those that became one since then, in milliseconds since 1970.
    pub since_ms: Option<u64>,
}

impl Selection {
    /// Whether a dead letter is meant.
    pub fn means(&self, letter: &DeadLetter) -> bool {
        self.class.is_none_or(|class| class == letter.class)
            && self.since_ms.is_none_or(|since_ms| letter.at_ms >= since_ms)
    }
}

/// Makes the tables of dead letters. Files of before have no table by document: it is made then.
pub(super) fn index(txn: &WriteTransaction) -> Result<(), OutboxError> {
    let (dead, mut of) = (txn.open_table(DEAD)?, txn.open_table(DEAD_OF)?);
    if of.len()? == dead.len()? {
        return Ok(());
    }
    for row in dead.iter()? {
        let (number, row) = row?;
        let letter: DeadLetter = decode(row.value())?;
        of.insert((&letter.document.0, number.value()), ())?;
    }
    Ok(())
}

/// The dead letters about a document, with their numbers.
pub(super) fn letters_of(
    dead: &impl ReadableTable<u64, &'static [u8]>,
    of: &impl ReadableTable<(&'static [u8; 16], u64), ()>,
    document: &DocumentId,
) -> Result<Vec<(u64, DeadLetter)>, OutboxError> {
    let mut letters = Vec::new();
    for row in of.range((&document.0, 0)..=(&document.0, u64::MAX))? {
        let number = row?.0.value().1;
        if let Some(row) = dead.get(number)? {
            letters.push((number, decode(row.value())?));
        }
    }
    Ok(letters)
}

fn letter(txn: &WriteTransaction, number: u64) -> Result<Option<DeadLetter>, OutboxError> {
    let row = txn.open_table(DEAD)?;
    let row = row.get(number)?;
    Ok(row.map(|row| decode(row.value())).transpose()?)
}

/// Removes a dead letter of a document.
pub(super) fn remove_dead(
    txn: &WriteTransaction,
    document: &DocumentId,
    number: u64,
) -> Result<(), OutboxError> {
    txn.open_table(DEAD)?.remove(number)?;
    txn.open_table(DEAD_OF)?.remove((&document.0, number))?;
    Ok(())
}

/// Lets a document go on that waited for somebody to do something.
fn release(txn: &WriteTransaction, now_ms: u64, document: &DocumentId) -> Result<(), OutboxError> {
    if !is_held(txn, document)? {
        return Ok(());
    }
    let waits = {
        let table = txn.open_table(OUTBOX)?;
        table.range((&document.0, 0)..=(&document.0, u64::MAX))?.next().is_some()
    };
    put_when(txn, document, waits.then_some(now_ms))
}

/// The row that a dead letter is about, as it was enqueued last.
fn shadow(txn: &WriteTransaction, letter: &DeadLetter) -> Result<Shadow, OutboxError> {
    let table = txn.open_table(SHADOWS)?;
    let record = &letter.record;
    let row = table.get((&letter.document.0, &*record.name, &*record.key))?;
    Ok(row.map(|row| decode(row.value())).transpose()?.unwrap_or_default())
}

/// Whether what a dead letter says of its row is still what the target should hold.
fn is_wanted(txn: &WriteTransaction, letter: &DeadLetter) -> Result<bool, OutboxError> {
    let Some(delivery) = &letter.delivery else { return Ok(false) };
    let wanted = shadow(txn, letter)?.wanted.map(|row| row.0);
    Ok(delivery.action.row() == wanted.as_ref())
}
