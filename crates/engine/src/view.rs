//! What a person should see of a document: every field with its effective value, and whether it is
//! agreed.

use std::collections::BTreeMap;

use rejoin_core::lineage::{Candidate, Question};
use rejoin_core::{ChangeHash, DocumentId, ReviewId};
use serde_json::Value;

/// A document at its heads: a pure function of those and of the schema, so that every replica that
/// has both sees the same.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Which document.
    pub document: DocumentId,
    /// Its natural key, if it has one.
    pub key: Option<String>,
    /// Its heads.
    pub heads: Vec<ChangeHash>,
    /// The effective value: what typed reads give.
    pub value: Value,
    /// The top-level fields, and those further in that are not agreed, by their path; in an item of
    /// a list that does not show, by the place its review has.
    pub fields: BTreeMap<String, FieldView>,
}

/// One field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldView {
    /// Its effective value; `None` if it has none.
    pub value: Option<Value>,
    /// What there is to say about it: one state, or a conflict beside a refused write.
    pub states: Vec<FieldState>,
}

/// How a field stands.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldState {
    /// There is nothing to decide.
    Agreed,
    /// Concurrent values of which a person chooses; until then the last agreed one stands.
    Conflict {
        /// The review that asks.
        review: ReviewId,
        /// What it asks.
        question: Question,
        /// What there is to choose from.
        candidates: Vec<Candidate>,
    },
    /// The value is not what the schema says. It is kept as it is, and never changed to fit.
    Held {
        /// What the schema says.
        reason: String,
    },
    /// Somebody wrote it who may not: what they wrote does not count until somebody takes it who may.
    /// Where nobody else ever wrote the field, it is the value that is seen.
    Refused {
        /// The review that asks.
        review: ReviewId,
        /// What was written.
        candidates: Vec<Candidate>,
    },
    /// The schema requires it, and it is not there.
    Missing,
}

impl View {
    /// Whether nothing about the document is left for a person.
    pub fn is_agreed(&self) -> bool {
        self.fields
            .values()
            .flat_map(|field| &field.states)
            .all(|state| *state == FieldState::Agreed)
    }

    /// The view of one field, if it has a value or something to decide.
    pub fn field(&self, path: &str) -> Option<&FieldView> {
        self.fields.get(path)
    }
}
