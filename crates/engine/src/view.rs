//! The view of a document for a person: every field with its effective value, and whether it is
//! agreed.

use std::collections::BTreeMap;

use rejoin_core::lineage::{Candidate, Question};
use rejoin_core::{ChangeHash, DocumentId, ReviewId};
use serde_json::Value;

/// A document at its heads: a pure function of those and of the schema, so that every replica that
/// has both sees the same.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The document.
    pub document: DocumentId,
    /// Its natural key, if it has one.
    pub key: Option<String>,
    /// Its heads.
    pub heads: Vec<ChangeHash>,
    /// The effective value, which typed reads give.
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
    /// Its states: one as a rule, or a conflict beside a refused write.
    pub states: Vec<FieldState>,
}

/// The state of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldState {
    /// There is nothing to decide.
    Agreed,
    /// Concurrent values of which a person chooses; until then the last agreed one stands.
    Conflict {
        /// The review that asks.
        review: ReviewId,
        /// The question it asks.
        question: Question,
        /// The candidates to choose from.
        candidates: Vec<Candidate>,
    },
    /// The value does not fit the schema. It is kept as it is, and never changed to fit.
    Misfit {
        /// The rule of the schema that the value breaks.
        reason: String,
    },
    /// Somebody without the right wrote it: the value does not count until somebody with the right
    /// takes it. If nobody else ever wrote the field, it is the value that people see.
    Refused {
        /// The review that asks.
        review: ReviewId,
        /// The values that were written.
        candidates: Vec<Candidate>,
    },
    /// The schema requires the field, and it is absent.
    Missing,
}

impl View {
    /// Whether no question about the document is left for a person.
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
