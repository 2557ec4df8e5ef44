//! People take back what they did last on a device, or do it again.

use std::collections::BTreeSet;

use rejoin::undo::{Undone, Way};
use rejoin::{EditError, UndoError};
use serde_json::Value;

use super::agenda::Node;
use super::model::{DONE, EditId, tokens};
use super::world::{Check, Failed, World, explain};

impl World {
    /// Somebody may take something back, in a world where people do.
    pub(super) fn maybe_undo(&mut self) -> Check {
        if !self.undoes || !self.random.chance(100) {
            return Ok(());
        }
        let at = self.random.index(self.replicas.len());
        self.undo(at)
    }

    /// Somebody takes something back, or does it again. An edit that was taken back is in the end whole
    /// or not at all: its mark goes with its effect.
    fn undo(&mut self, at: usize) -> Check {
        let way = if self.random.chance(400) { Way::Redo } else { Way::Undo };
        let local = self.now + self.replicas[at].skew_ms;
        let unix_s = self.unix_s(self.replicas[at].calendar_s);
        let Some(process) = self.replicas[at].open_process() else { return Ok(()) };
        // Written down before it is done: the process may die in it.
        let planned = process.engine.preview_undo(local, unix_s, None, way);
        let planned = match planned {
            Ok(planned) => planned,
            Err(error) => return self.not_undone(at, &error),
        };
        for id in marks_of(&planned) {
            self.ledger.undo(id, way == Way::Undo);
        }
        let Some(process) = self.replicas[at].open_process() else { return Ok(()) };
        match process.engine.undo(local, unix_s, None, way) {
            Ok(undone) => {
                self.undone += 1;
                let marks = marks_of(&undone);
                self.note(format_args!("replica {at}: {way:?} of {marks:?}"));
                self.agenda.wake(self.now, Node::Replica(at));
                self.strike_replica(at)
            }
            Err(error) => self.not_undone(at, &error),
        }
    }

    fn not_undone(&mut self, at: usize, error: &UndoError) -> Check {
        self.note(format_args!("replica {at} takes nothing back: {}", explain(error)));
        match error {
            UndoError::Nothing { .. } | UndoError::Kept(_) => Ok(()),
            UndoError::Edit(EditError::Store(error)) => self.fail_replica(at, error),
            UndoError::Edit(EditError::NotKept(_)) => self.fail_replica(at, error),
            _ => Err(Failed(format!("replica {at} could not undo: {}", explain(error)))),
        }
    }
}

/// The edits whose marks came or went.
fn marks_of(undone: &Undone) -> BTreeSet<EditId> {
    let keys = |value: &Option<Value>| -> BTreeSet<EditId> {
        let fields = value.as_ref().and_then(Value::as_object);
        fields.into_iter().flatten().flat_map(|(key, _)| tokens(key)).collect()
    };
    let fields = undone.documents.iter().flat_map(|document| &document.fields);
    let marks = fields.flat_map(|field| match field.field.as_str() {
        DONE => keys(&field.before).symmetric_difference(&keys(&field.after)).copied().collect(),
        name => tokens(name),
    });
    marks.collect()
}
