//! A document as a person should see it: every field with where it stands.

use std::collections::BTreeMap;

use rejoin_core::invariant::{FaultyBooking, booking, look_up};
use rejoin_core::lineage::{Blame, Question, Standing, Unsettled};
use rejoin_core::schema::{Field, Invariant, Kind, Rule, Schema};
use rejoin_core::{ChangeHash, DocumentId};
use serde_json::Value;

use super::derive::derive;
use super::{EditError, Engine};
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
        self.loaded.put(now, *id, document);
        let fields = fields(&value, &schema, derived.standings());
        Ok(View { document: *id, key: row.key, heads, value, fields })
    }

    /// Every field of a document with everything that was ever written to it.
    ///
    /// # Errors
    /// There is no such document, or it does not load.
    pub fn blame(&mut self, now: u64, id: &DocumentId) -> Result<Vec<Blame>, EditError> {
        let stored = self.store.read()?;
        let row = stored.document(id)?.ok_or(EditError::NotFound)?;
        let schema = super::schemas::stored_schema(&stored, &row)?;
        let mut document = self.load_committed(&stored, id, &row)?;
        let blame = document.lineage(id, &schema)?.blame();
        self.loaded.put(now, *id, document);
        Ok(blame)
    }
}

fn fields(value: &Value, schema: &Schema, standings: &[Standing]) -> BTreeMap<String, FieldView> {
    let mut fields = BTreeMap::new();
    if let Value::Object(map) = value {
        for (name, value) in map {
            let path = rejoin_core::Path::from([name.as_str()]);
            let state = match schema.field(&path) {
                Some(field) => held(field, value),
                None => None,
            };
            let state = state.unwrap_or(FieldState::Agreed);
            let value = Some(value.clone());
            fields.insert(path.to_string(), FieldView { value, states: vec![state] });
        }
    }
    for (path, _) in schema.fields.iter().filter(|(_, field)| field.required) {
        let absent = || FieldView { value: None, states: vec![FieldState::Missing] };
        if path.segments().len() == 1 {
            fields.entry(path.to_string()).or_insert_with(absent);
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
        let value = look_up(value, at).cloned();
        let view = FieldView { value, states: vec![FieldState::Held { reason }] };
        fields.insert(at.to_string(), view);
    }
    for standing in standings.iter().filter(|standing| !standing.unsettled.is_empty()) {
        let states = standing.unsettled.iter().map(state).collect();
        // As it reads: a default may take the place of nothing, and a container that of any value.
        let read = standing.place.path().and_then(|path| look_up(value, &path).cloned());
        let view = FieldView { value: read.or_else(|| standing.value.clone()), states };
        fields.insert(standing.place.to_string(), view);
    }
    fields
}

fn state(unsettled: &Unsettled) -> FieldState {
    let (review, candidates) = (unsettled.review, unsettled.candidates.clone());
    match unsettled.question {
        Question::Refused => FieldState::Refused { review, candidates },
        question => FieldState::Conflict { review, question, candidates },
    }
}

/// Why a value is not what the schema says; it is kept as it is.
fn held(field: &Field, value: &Value) -> Option<FieldState> {
    let wanted = match &field.merge {
        Rule::Text => Some(Kind::String),
        Rule::Counter => Some(Kind::Integer),
        Rule::Set | Rule::List => Some(Kind::List),
        Rule::Map => Some(Kind::Map),
        _ => field.kind,
    };
    if let Some(kind) = wanted.filter(|kind| !kind.fits(value)) {
        return Some(FieldState::Held { reason: format!("it is not {kind}, as the schema says") });
    }
    match &field.merge {
        Rule::Order(order) if !order.iter().any(|known| value == known.as_str()) => {
            let reason = format!("it is none of {}", order.join(", "));
            Some(FieldState::Held { reason })
        }
        _ => None,
    }
}
