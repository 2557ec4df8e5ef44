//! Reviews as JSON, in the one form that every program prints.

use rejoin_core::lineage::Candidate;
use serde_json::{Value, json};

use super::{Review, ReviewState};

impl Review {
    /// All of it, for machines.
    pub fn to_json(&self) -> Value {
        let documents = self.documents.iter().map(|named| {
            let booked =
                named.booked_ms.map(|(from, until)| json!({ "from_ms": from, "until_ms": until }));
            json!({ "key": named.key, "id": named.document.to_string(), "booked": booked })
        });
        let candidates = self.candidates.iter().zip(1..).map(|(candidate, number)| {
            let mut json = candidate.to_json();
            json["number"] = Value::from(number);
            json
        });
        let (by, why) = match &self.state {
            ReviewState::Open => (None, None),
            ReviewState::Settled { by, why } => (Some(by), why.as_ref()),
            ReviewState::Dismissed { by, why } => (by.as_ref(), why.as_ref()),
            ReviewState::Resolved { by, .. } => (Some(by), None),
        };
        let resolved_in = match &self.state {
            ReviewState::Resolved { document, .. } => Some(document.to_string()),
            _ => None,
        };
        json!({
            "id": self.id.to_string(),
            "kind": self.kind.name(),
            "space": self.space.as_str(),
            "collection": self.collection.as_str(),
            "documents": Value::from_iter(documents),
            "field": self.field,
            "standing": self.standing,
            "candidates": Value::from_iter(candidates),
            "state": self.state.name(),
            "settled_by": by.map(Candidate::to_json),
            "resolved_in": resolved_in,
            "why": why,
            "assignee": self.assignee,
            "due": self.due,
            "held_first": self.held_first.map(|document| document.to_string()),
        })
    }
}

impl ReviewState {
    /// In one word: `open`, `settled`, `dismissed` or `resolved`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Settled { .. } => "settled",
            Self::Dismissed { .. } => "dismissed",
            Self::Resolved { .. } => "resolved",
        }
    }
}
