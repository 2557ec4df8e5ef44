//! One row's journey to a target.

use rejoin::{ChangeHash, DocumentId};
use serde_json::{Map, Value};

/// The fields of one outside row, by their outside names, masked already.
pub type Row = Map<String, Value>;

/// What is to be told to a target about one row. It never changes once it is in the outbox, so every
/// attempt sends the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The same on every attempt and after every crash; another one for anything else.
    pub key: IdempotencyKey,
    /// The adapter's name.
    pub adapter: String,
    /// The document the row comes from.
    pub document: DocumentId,
    /// Rises by one with every delivery of this adapter about this document, from 1.
    pub seq: u64,
    /// The key of the delivery before, so that a receiver sees gaps.
    pub previous: Option<IdempotencyKey>,
    /// Which row.
    pub record: Record,
    /// What becomes of it.
    pub action: Action,
    /// The document's heads that the row was projected from, in ascending order.
    pub heads: Vec<ChangeHash>,
    /// Which mapping made the row: the hash of the mapping as it was then, in hex.
    pub mapping: String,
    /// Goes with the change from its author to the target and back.
    pub correlation: String,
    /// When it was enqueued, in milliseconds since 1970.
    pub enqueued_ms: u64,
}

/// The name of one effect, for receivers to see that they had it already: base32 of a SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(pub String);

/// Names one outside row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// The kind of row: a table, a subject, an event type.
    pub name: String,
    /// Its key among its kind.
    pub key: String,
}

/// What becomes of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// The target shall hold exactly this row.
    Put(Row),
    /// The row is gone: the target marks it as deleted, but keeps it.
    Mark {
        /// When the document was deleted, in milliseconds since 1970.
        deleted_ms: u64,
    },
    /// The row is gone: the target deletes it.
    Delete,
}
