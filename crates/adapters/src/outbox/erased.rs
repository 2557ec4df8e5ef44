//! Documents that an operator erased: their rows are deleted at the target, also where rows are
//! only marked otherwise, and nothing that was in them is kept here.

use std::collections::BTreeSet;

use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction,
};
use rejoin::DocumentId;
use rejoin_overwrite::{overwrite_free, rebuild_alone};

use super::dead::{letters_of, remove_dead};
use super::enqueue::{New, Projected, is_held, is_own, put_shadow, shadows};
use super::rows::RowBytes;
use super::tables::{
    CHECKPOINTS, DEAD, DEAD_OF, DISCARDED, ERASING, MISFITS, OUTBOX, RECORDS, SHADOWS, WANTS,
};
use super::{Checkpoint, Outbox, OutboxError, Queued, Shadow, decode, encode, put_when, write};
use crate::delivery::Action;

impl Outbox {
    /// Enqueues the deletion of all rows of these documents and of reviews about them, and forgets what
    /// else is known of them. Those that were never rows are passed over, and those that were erased
    /// before.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn erase(
        &mut self,
        now_ms: u64,
        erased: &BTreeSet<DocumentId>,
    ) -> Result<Queued, OutboxError> {
        let txn = write(&self.database)?;
        let mut found = Vec::new();
        for row in txn.open_table(CHECKPOINTS)?.iter()? {
            let (document, checkpoint) = row?;
            let document = DocumentId(*document.value());
            let checkpoint: Checkpoint = decode(checkpoint.value())?;
            let is_its = |it: &DocumentId| erased.contains(it);
            let is_about = is_its(&document) || checkpoint.about.iter().any(is_its);
            if is_about && !checkpoint.erased {
                found.push((document, checkpoint));
            }
        }
        let mut queued = Queued::default();
        if found.is_empty() {
            return Ok(queued);
        }
        for (document, checkpoint) in found {
            self.erase_one(&txn, now_ms, &document, checkpoint, &mut queued)?;
        }
        txn.open_table(ERASING)?.insert((), ())?;
        txn.commit()?;
        Ok(queued)
    }

    /// Notes which documents reviews are about, where a version of before did not.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn note_about(&mut self, reviews: &[Projected]) -> Result<(), OutboxError> {
        let txn = self.database.begin_read()?;
        let table = txn.open_table(CHECKPOINTS)?;
        let mut unnoted = Vec::new();
        for Projected { document, about, .. } in reviews {
            let Some(row) = table.get(&document.0)? else { continue };
            let checkpoint: Checkpoint = decode(row.value())?;
            if checkpoint.about.is_empty() {
                unnoted.push((document, Checkpoint { about: about.clone(), ..checkpoint }));
            }
        }
        drop((table, txn));
        if unnoted.is_empty() {
            return Ok(());
        }
        let txn = write(&self.database)?;
        for (document, checkpoint) in unnoted {
            txn.open_table(CHECKPOINTS)?.insert(&document.0, &encode(&checkpoint)[..])?;
        }
        txn.commit()?;
        Ok(())
    }

    /// Whether pages of the file may still hold something of documents that were erased.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn is_erasing(&self) -> Result<bool, OutboxError> {
        Ok(!self.database.begin_read()?.open_table(ERASING)?.is_empty()?)
    }

    /// Forgets the rows of erased documents that have left the target, and if no others are left, writes
    /// over what was in the file of them. Returns whether that was done.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn end_erasing(&mut self, now_ms: u64) -> Result<bool, OutboxError> {
        self.purge(now_ms)?;
        let txn = self.database.begin_read()?;
        let discarded = txn.open_table(DISCARDED)?;
        for row in txn.open_table(SHADOWS)?.iter()? {
            let (key, shadow) = row?;
            let shadow: Shadow = decode(shadow.value())?;
            // A row whose deletion somebody discarded stays at the target.
            if shadow.erased && discarded.get(key.value())?.is_none() {
                return Ok(false);
            }
        }
        drop((discarded, txn));
        overwrite(&mut self.database).map_err(|error| OutboxError::Unavailable(Box::new(error)))?;
        Ok(true)
    }

    fn erase_one(
        &self,
        txn: &WriteTransaction,
        now_ms: u64,
        document: &DocumentId,
        checkpoint: Checkpoint,
        queued: &mut Queued,
    ) -> Result<(), OutboxError> {
        let rows = shadows(&txn.open_table(SHADOWS)?, document)?;
        let letters = letters_of(&txn.open_table(DEAD)?, &txn.open_table(DEAD_OF)?, document)?;
        for (number, _) in letters {
            remove_dead(txn, document, number)?;
        }
        let is_its = |of: &[u8; 16]| of == &document.0;
        txn.open_table(MISFITS)?.retain(|(of, _, _), _| !is_its(of))?;
        txn.open_table(DISCARDED)?.retain(|(of, _, _), ()| !is_its(of))?;
        self.forget_waiting(txn, document)?;
        let mut checkpoint = Checkpoint { heads: Vec::new(), erased: true, ..checkpoint };
        for (record, shadow) in rows {
            if !is_own(txn, &record, document)? {
                // Another document has the row by now, and nothing orders a deletion with that.
                txn.open_table(SHADOWS)?.remove((&document.0, &*record.name, &*record.key))?;
                continue;
            }
            let deleted_ms = shadow.deleted_ms.or(Some(now_ms));
            // Where the target has the row, that is all there is to know of it.
            let held = shadow.held.map(|_| RowBytes::default());
            let shadow = Shadow { wanted: None, held, deleted_ms, erased: true, ..shadow };
            put_shadow(txn, document, &record, &shadow)?;
            let (action, again) = (Action::Delete, now_ms);
            let new = New { now_ms, document: *document, record, action, again };
            queued.replaced += self.put(txn, &mut checkpoint, new)?;
            queued.deliveries += 1;
        }
        txn.open_table(CHECKPOINTS)?.insert(&document.0, &encode(&checkpoint)[..])?;
        // A deletion waits for no dead letter, for there are none any more.
        if is_held(txn, document)? {
            let outbox = txn.open_table(OUTBOX)?;
            let all = (&document.0, 0)..=(&document.0, u64::MAX);
            let is_waiting = outbox.range(all)?.next().is_some();
            drop(outbox);
            put_when(txn, document, is_waiting.then_some(now_ms))?;
        }
        Ok(())
    }

    /// Drops what waits of a document, but what is under way.
    fn forget_waiting(
        &self,
        txn: &WriteTransaction,
        document: &DocumentId,
    ) -> Result<(), OutboxError> {
        let first_kept = usize::from(self.pace.is_in_flight(document));
        let mut outbox = txn.open_table(OUTBOX)?;
        let all = (&document.0, 0)..=(&document.0, u64::MAX);
        let mut waiting = Vec::new();
        for row in outbox.range(all)?.skip(first_kept) {
            waiting.push(row?.0.value().1);
        }
        for seq in waiting {
            outbox.remove((&document.0, seq))?;
        }
        Ok(())
    }
}

/// Each table is a commit of its own, so that the file needs room for one of them and not for all.
fn overwrite(database: &mut Database) -> Result<(), redb::Error> {
    rebuild_alone(database, SHADOWS)?;
    rebuild_alone(database, RECORDS)?;
    rebuild_alone(database, OUTBOX)?;
    rebuild_alone(database, DEAD)?;
    rebuild_alone(database, MISFITS)?;
    rebuild_alone(database, WANTS)?;
    rebuild_alone(database, DISCARDED)?;
    overwrite_free(database)?;
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.open_table(ERASING)?.remove(())?;
    transaction.commit()?;
    Ok(())
}
