//! Several edits that are made together or not at all.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rejoin_core::{DocumentId, Identity};
use serde_json::Value;

use super::derive::derive;
use super::edit::{Edit, EditOutcome};
use super::{Batches, EditError, Engine, EngineError, Turn, said};

/// The edits of a batch, as far as they were made. They are in a transaction, and nobody else sees
/// them yet.
pub struct Batch<'a> {
    engine: &'a mut Engine,
    turn: Turn,
    author: Option<Identity>,
    number: u64,
    outcomes: Vec<EditOutcome>,
}

/// A document as a batch reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// Its value: a JSON object.
    pub value: Value,
    /// Whether it is deleted.
    pub deleted: bool,
}

impl Engine {
    /// Makes edits as one commit and, for [`undo`](Self::undo), as one step. If the closure gives an
    /// error, nothing of the batch is kept. `number` is that of no other batch since the engine was
    /// made, and rises; `author` is the identity that edits, `None` for that of the replica.
    ///
    /// # Errors
    /// That of the closure; or the commit failed, and it is not known whether the batch was kept.
    pub fn batch<T>(
        &mut self,
        now: u64,
        unix_s: i64,
        author: Option<Identity>,
        number: u64,
        edits: impl FnOnce(&mut Batch<'_>) -> Result<T, EditError>,
    ) -> Result<(T, Vec<EditOutcome>), EditError> {
        let batches = self.batches.clone();
        let made = catch_unwind(AssertUnwindSafe(|| {
            let author = self.author(author)?;
            let turn = Turn::begin(&self.store, now, unix_s)?;
            let mut batch = Batch { engine: self, turn, author, number, outcomes: Vec::new() };
            let given = edits(&mut batch)?;
            let Batch { engine, turn, outcomes, .. } = batch;
            engine.finish(turn)?;
            Ok((given, outcomes))
        }));
        let made = made
            .unwrap_or_else(|panic| Err(EngineError::Panicked { reason: said(&*panic) }.into()));
        match &made {
            // Whether the commit became durable is not known.
            Err(EditError::Store(_) | EditError::NotKept(_)) => self.forget(),
            // The loaded documents hold edits that are not kept.
            Err(_) => self.forget_unkept(batches),
            Ok(_) => {}
        }
        made
    }

    /// Forgets what a transaction that was dropped has left in memory. `batches` were there before.
    pub(super) fn forget_unkept(&mut self, batches: Batches) {
        self.loaded.clear();
        self.schemas.clear();
        self.batches = batches;
        self.may_redo = true;
    }
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("outcomes", &self.outcomes).finish_non_exhaustive()
    }
}

impl Batch<'_> {
    /// The document as the batch has it by now; `None` if it does not exist.
    ///
    /// # Errors
    /// It does not load, or the file could not be read.
    pub fn read(&mut self, id: &DocumentId) -> Result<Option<Read>, EditError> {
        let Some(mut row) = self.turn.txn.document(id)? else { return Ok(None) };
        let schema = self.engine.schema(&self.turn.txn, &row)?;
        let mut document = self.engine.load(&self.turn.txn, id, &row)?;
        let branched = self.turn.has_branched(id);
        let derived = derive(id, &mut row, &mut document, &schema, branched)?;
        let (value, deleted) = (derived.value(&document, &schema), derived.is_deleted(&document));
        self.engine.loaded.put(self.turn.now, *id, document);
        Ok(Some(Read { value, deleted }))
    }

    /// Makes an edit.
    ///
    /// # Errors
    /// See [`EditError`]. Nothing of this edit was written then.
    pub fn edit(&mut self, edit: Edit) -> Result<EditOutcome, EditError> {
        let author = edit.author.clone().or_else(|| self.author.clone());
        let edit = Edit { author, batch: Some(self.number), ..edit };
        let outcome = self.engine.stage_edit(&mut self.turn, edit)?;
        self.outcomes.push(outcome.clone());
        Ok(outcome)
    }
}
