//! The consequences of another schema, before anybody applies it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rejoin_core::DocumentId;

use super::{Edit, EditError, Engine, EngineError, Turn, said};
use crate::store::ValueRow;

/// The consequences for the documents of a collection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// The number of documents, deleted ones included.
    pub documents: u64,
    /// The number of documents that would read otherwise.
    pub read_otherwise: u64,
    /// The number of documents that would show a value that does not count any more, because its
    /// author has no right to write it.
    pub count_less: u64,
    /// Reviews that would open.
    pub opened: u64,
    /// Open reviews that would be gone.
    pub ended: u64,
}

impl Foreseen {
    /// Whether anything would be another for anybody.
    pub fn touches_anything(&self) -> bool {
        let Self { read_otherwise, count_less, opened, ended, .. } = self;
        [read_otherwise, count_less, opened, ended].iter().any(|count| **count > 0)
    }
}

impl Engine {
    /// The consequences that an edit of a schema's document would have. Nothing of it is kept. It
    /// looks at every document of the collection, some hundred microseconds each.
    ///
    /// # Errors
    /// The edit would be refused, or as [`turn`](Self::turn).
    pub fn foresee(&mut self, now: u64, edit: Edit) -> Result<Foreseen, EditError> {
        // A value that is behind would differ for other reasons than the schema.
        let stale = self.store.read()?.stale()?;
        self.refresh(now, &stale)?;
        let behind = self.behind.clone();
        let foreseen = catch_unwind(AssertUnwindSafe(|| self.try_foresee(now, edit)));
        // The documents in memory hold the edit now.
        self.loaded.clear();
        self.schemas.clear();
        self.behind = behind;
        foreseen.unwrap_or_else(|panic| Err(EngineError::Panicked { reason: said(&*panic) }.into()))
    }

    fn try_foresee(&mut self, now: u64, edit: Edit) -> Result<Foreseen, EditError> {
        let mut turn = Turn::begin(&self.store, now, 0)?;
        self.behind.clear();
        self.stage_edit(&mut turn, edit)?;
        self.stage_values(&mut turn)?;
        let behind: Vec<DocumentId> = std::mem::take(&mut self.behind).into_iter().collect();
        let mut foreseen = Foreseen { documents: behind.len() as u64, ..Foreseen::default() };
        for id in behind {
            let Some(row) = turn.txn.document(&id)? else { continue };
            let was = turn.txn.sound_value(&id)?;
            let put = self.rederive(&turn.txn, now, &id, row, &mut turn.effects)?;
            turn.effects.clear();
            let is = turn.txn.sound_value(&id)?;
            let seen = |row: &Option<ValueRow>| row.as_ref().map(|row| row.json.clone());
            let counts_less = |row: &ValueRow| row.agreed.is_some();
            foreseen.read_otherwise += u64::from(seen(&was) != seen(&is));
            foreseen.count_less += u64::from(
                is.as_ref().is_some_and(counts_less) && !was.as_ref().is_some_and(counts_less),
            );
            foreseen.opened += put.opened;
            foreseen.ended += put.closed;
            self.loaded.take(&id);
        }
        Ok(foreseen)
    }
}
