//! Dead letters as people look at them, and what becomes of them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::delivery::Message;
use crate::outbox::DeadClass;

/// A dead letter: something that will not be delivered unless somebody does something about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// Whose it is.
    pub adapter: String,
    /// Its number among those of the adapter.
    pub number: u64,
    /// Why it is one.
    pub class: DeadClass,
    /// What happened, for people.
    pub fault: String,
    /// The field that is at fault, if it is known.
    pub field: Option<String>,
    /// What was to be delivered in that field, masked as the mapping masks.
    pub value: Option<Value>,
    /// The beginning of what the target answered, if it did.
    pub answer: Option<String>,
    /// Attempts that were made.
    pub attempts: u32,
    /// The document's id.
    pub document: String,
    /// The document's natural key, if it has one and the replica is at hand.
    pub key: Option<String>,
    /// The row's kind.
    pub name: String,
    /// The row's key.
    pub record: String,
    /// When it became one, in milliseconds since 1970.
    pub at_ms: u64,
    /// The document's heads, in hex.
    pub heads: Vec<String>,
    /// What was to be delivered; `None` if it was no row at all.
    pub delivery: Option<Message>,
}

/// Dead letters that are on their way again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// Whose they were.
    pub adapter: String,
    /// How many.
    pub replayed: u64,
}

/// Dead letters that were let be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    /// Whose they were.
    pub adapter: String,
    /// How many.
    pub discarded: u64,
}
