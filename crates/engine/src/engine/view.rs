//! A document as a person should see it: every field with its value and its state.

use std::collections::BTreeMap;

use rejoin_core::Misfit;
use rejoin_core::invariant::look_up;
use rejoin_core::lineage::{Blame, FieldPath, Question, Standing, Step, Unsettled};
use rejoin_core::schema::Schema;
use rejoin_core::{ActorId, ChangeHash, DocumentId, Path, Segment};
use serde_json::Value;

use super::derive::derive;
use super::{Engine, ReadError};
use crate::value::{Effective, shown_items};
use crate::view::{FieldState, FieldView, View};

impl Engine {
    /// The fields of a document with their values, and with all about them that is not agreed.
    ///
    /// # Errors
    /// There is no such document, or it does not load.
    pub fn view(&mut self, now: u64, id: &DocumentId) -> Result<View, ReadError> {
        let stored = self.store.read()?;
        let mut row = stored.document(id)?.ok_or(ReadError::NotFound)?;
        let schema = super::schemas::stored_schema(&stored, &row)?;
        let mut document = self.load_committed(&stored, id, &row)?;
        let derived = derive(id, &mut row, &mut document, &schema, false)?;
        let value = derived.value(&document, &schema);
        let heads: Vec<ChangeHash> = document.heads();
        let is_in_list = |standing: &Standing| standing.place.path().is_none();
        let items = match derived.standings().iter().any(is_in_list) {
            true => shown_items(&document.doc, derived.effective(), document.marks()),
            false => Items::new(),
        };
        self.loaded.put(now, *id, document);
        // A caller that looks at one document after the other must not fill the memory.
        self.unload_looked_at(&stored)?;
        let fields = fields(&value, &schema, derived.standings(), &items);
        Ok(View { document: *id, key: row.key, heads, value, fields })
    }

    /// Every field of a document with everything that was ever written to it.
    ///
    /// # Errors
    /// There is no such document, or it does not load.
    pub fn blame(&mut self, now: u64, id: &DocumentId) -> Result<Vec<Blame>, ReadError> {
        self.look(now, id, |document, _, schema| {
            let lineage = document.lineage(id, schema)?;
            let effective = Effective::seen(lineage, &lineage.standings());
            let mut blames = lineage.blame();
            let items = shown_items(&document.doc, Some(&effective), document.marks());
            for blame in blames.iter_mut().filter(|blame| blame.path.is_none()) {
                let ops: Vec<_> = blame.writes.iter().map(|write| write.op.clone()).collect();
                blame.path = path_of(&blame.place, &ops, &items);
            }
            Ok(blames)
        })
    }
}

/// The list items that show, with their index.
type Items = BTreeMap<(u64, ActorId), usize>;

/// The path of a field in a list now; `None` if it does not show.
pub(super) fn path_of(place: &FieldPath, ops: &[(u64, ActorId)], items: &Items) -> Option<Path> {
    // Automerge names an item by the operation that wrote it last.
    let (last, around) = place.0.split_last()?;
    let index = |counter: u64, actor: &ActorId| items.get(&(counter, actor.clone())).copied();
    let segment = |step: &Step| match step {
        Step::Key(key) => Some(Segment::Key(key.clone())),
        Step::Item { counter, actor } => index(*counter, actor).map(Segment::Index),
    };
    let written = || ops.iter().find_map(|op| items.get(op).copied());
    let end = match last {
        Step::Key(_) => segment(last),
        Step::Item { .. } => segment(last).or_else(|| written().map(Segment::Index)),
    };
    around.iter().map(segment).chain([end]).collect()
}

fn fields(
    value: &Value,
    schema: &Schema,
    standings: &[Standing],
    items: &Items,
) -> BTreeMap<String, FieldView> {
    let mut fields = BTreeMap::new();
    if let Value::Object(map) = value {
        for (name, value) in map {
            let place = Path::from([name.as_str()]).to_string();
            let (value, states) = (Some(value.clone()), vec![FieldState::Agreed]);
            fields.insert(place, FieldView { value, states });
        }
    }
    for Misfit { field, reason, is_missing } in schema.misfits(value) {
        let state = match is_missing {
            true => FieldState::Missing,
            false => FieldState::Misfit { reason },
        };
        add(&mut fields, field.to_string(), look_up(value, &field).cloned(), vec![state]);
    }
    for standing in standings.iter().filter(|standing| !standing.unsettled.is_empty()) {
        let states = standing.unsettled.iter().map(state).collect();
        let path = path_of(&standing.place, &standing.ops, items);
        // The value as it reads: a default may stand for an absent value, and a container for any
        // value.
        let read = path.as_ref().and_then(|path| look_up(value, path).cloned());
        let place = path.map_or_else(|| standing.place.to_string(), |path| path.to_string());
        add(&mut fields, place, read.or_else(|| standing.value.clone()), states);
    }
    fields
}

/// Adds a value and states to those that the view has of a field.
fn add(
    fields: &mut BTreeMap<String, FieldView>,
    place: String,
    value: Option<Value>,
    states: Vec<FieldState>,
) {
    let field = fields.entry(place).or_insert(FieldView { value, states: Vec::new() });
    field.states.retain(|state| *state != FieldState::Agreed);
    field.states.extend(states);
}

fn state(unsettled: &Unsettled) -> FieldState {
    let (review, candidates) = (unsettled.review, unsettled.candidates.clone());
    match unsettled.question {
        Question::Refused => FieldState::Refused { review, candidates },
        question => FieldState::Conflict { review, question, candidates },
    }
}
