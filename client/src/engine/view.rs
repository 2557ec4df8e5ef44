//! A document as a person should see it: every field with where it stands.

use std::collections::BTreeMap;

use rejoin_core::invariant::{FaultyBooking, booking, look_up};
use rejoin_core::lineage::{Blame, FieldPath, Question, Standing, Step, Unsettled};
use rejoin_core::schema::{ANY, Field, Invariant, Kind, Rule, Schema};
use rejoin_core::{ActorId, ChangeHash, DocumentId, Path, Segment};
use serde_json::Value;

use super::derive::derive;
use super::{EditError, Engine};
use crate::value::{Effective, shown_items};
use crate::view::{FieldState, FieldView, View};

impl Engine {
    /// What a document's fields hold, and what about them is not agreed.
    ///
    /// # Errors
    /// There is no such document, or it does not load.
    pub fn view(&mut self, now: u64, id: &DocumentId) -> Result<View, EditError> {
        let stored = self.store.read()?;
        let mut row = stored.document(id)?.ok_or(EditError::NotFound)?;
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
        // Whoever looks at one document after the other must not fill the memory.
        self.unload_looked_at(&stored)?;
        let fields = fields(&value, &schema, derived.standings(), &items);
        Ok(View { document: *id, key: row.key, heads, value, fields })
    }

    /// Every field of a document with everything that was ever written to it.
    ///
    /// # Errors
    /// There is no such document, or it does not load.
    pub fn blame(&mut self, now: u64, id: &DocumentId) -> Result<Vec<Blame>, EditError> {
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

/// Where a field in a list stands now; nothing if it does not show.
pub(super) fn path_of(place: &FieldPath, ops: &[(u64, ActorId)], items: &Items) -> Option<Path> {
    // Automerge names an item by whichever operation wrote it last.
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
    for invariant in &schema.invariants {
        let (Invariant::NoOverlap { start, .. }, Err(faulty)) =
            (invariant, booking(value, invariant))
        else {
            continue;
        };
        let at = match &faulty {
            FaultyBooking::NotATime { field } => field,
            _ => start,
        };
        let reason = faulty.to_string();
        let states = vec![FieldState::Held { reason }];
        add(&mut fields, at.to_string(), look_up(value, at).cloned(), states);
    }
    for (path, field) in &schema.fields {
        held(value, Path::ROOT, path.segments(), field, &mut |path, value, state| {
            // What another field names more exactly is that one's.
            if schema.field(path).is_some_and(|other| std::ptr::eq(other, field)) {
                add(&mut fields, path.to_string(), value.cloned(), vec![state]);
            }
        });
    }
    for standing in standings.iter().filter(|standing| !standing.unsettled.is_empty()) {
        let states = standing.unsettled.iter().map(state).collect();
        let path = path_of(&standing.place, &standing.ops, items);
        // As it reads: a default may take the place of nothing, and a container that of any value.
        let read = path.as_ref().and_then(|path| look_up(value, path).cloned());
        let place = path.map_or_else(|| standing.place.to_string(), |path| path.to_string());
        add(&mut fields, place, read.or_else(|| standing.value.clone()), states);
    }
    fields
}

/// Adds what there is to say about a field to what was said.
fn add(
    fields: &mut BTreeMap<String, FieldView>,
    place: String,
    value: Option<Value>,
    states: Vec<FieldState>,
) {
    let field = fields.entry(place).or_insert(FieldView { value, states: Vec::new() });
    let is_held = |state: &FieldState| matches!(state, FieldState::Held { .. });
    let was_held = field.states.iter().any(is_held);
    field.states.retain(|state| *state != FieldState::Agreed);
    // One reason is enough to look at it.
    field.states.extend(states.into_iter().filter(|state| !(was_held && is_held(state))));
}

/// Tells where a value is not what the schema says of a field, or absent although it must be there
/// where the map around it is. It is kept as it is.
fn held<'a>(
    value: &'a Value,
    at: Path,
    rest: &[Segment],
    field: &Field,
    tell: &mut impl FnMut(&Path, Option<&'a Value>, FieldState),
) {
    let Some((step, rest)) = rest.split_first() else {
        if let Some(reason) = misfit(field, value) {
            tell(&at, Some(value), FieldState::Held { reason });
        }
        return;
    };
    let Segment::Key(key) = step else { return };
    match value {
        Value::Object(map) if key == ANY => {
            for (key, value) in map {
                held(value, at.join(key.as_str()), rest, field, tell);
            }
        }
        Value::Array(items) if key == ANY => {
            for (index, value) in items.iter().enumerate() {
                held(value, at.join(index), rest, field, tell);
            }
        }
        Value::Object(map) => match map.get(key) {
            Some(value) => held(value, at.join(key.as_str()), rest, field, tell),
            None if rest.is_empty() && field.required => {
                tell(&at.join(key.as_str()), None, FieldState::Missing);
            }
            None => {}
        },
        _ => {}
    }
}

fn state(unsettled: &Unsettled) -> FieldState {
    let (review, candidates) = (unsettled.review, unsettled.candidates.clone());
    match unsettled.question {
        Question::Refused => FieldState::Refused { review, candidates },
        question => FieldState::Conflict { review, question, candidates },
    }
}

/// Why a value is not what the schema says.
pub(super) fn misfit(field: &Field, value: &Value) -> Option<String> {
    let wanted = match &field.merge {
        Rule::Text => Some(Kind::String),
        Rule::Counter => Some(Kind::Integer),
        Rule::Set | Rule::List => Some(Kind::List),
        Rule::Map => Some(Kind::Map),
        _ => field.kind,
    };
    if let Some(kind) = wanted.filter(|kind| !kind.fits(value)) {
        return Some(format!("it is not {kind}, as the schema says"));
    }
    match &field.merge {
        Rule::Order(order) if !order.iter().any(|known| value == known.as_str()) => {
            Some(format!("it is none of {}", order.join(", ")))
        }
        _ => None,
    }
}
