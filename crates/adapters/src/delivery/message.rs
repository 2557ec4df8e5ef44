//! A delivery as receivers read it.

use serde::{Deserialize, Serialize};

use super::{Action, Delivery, Row};

/// A [`Delivery`] as receivers read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The idempotency key.
    pub key: String,
    /// The key of the document's delivery before, if there was one.
    pub previous: Option<String>,
    /// The adapter's name.
    pub adapter: String,
    /// The document's id.
    pub document: String,
    /// Rises by one with every delivery of this adapter about this document, from 1.
    pub seq: u64,
    /// What has a higher one is newer, whatever its number.
    pub generation: u64,
    /// The row's kind.
    pub name: String,
    /// The row's key.
    pub record: String,
    /// What becomes of the row.
    pub op: Op,
    /// The row; `None` if it is gone.
    pub row: Option<Row>,
    /// When the row was found gone, in milliseconds since 1970, if it is to be marked.
    pub deleted_ms: Option<u64>,
    /// The document's heads that the row was projected from, in hex, in ascending order.
    pub heads: Vec<String>,
    /// The version of the mapping that made the row.
    pub mapping: String,
    /// The last head, in hex.
    pub correlation: String,
    /// When it was enqueued, in milliseconds since 1970.
    pub enqueued_ms: u64,
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// The target shall hold it.
    Put,
    /// The target marks it as deleted.
    Mark,
    /// The target deletes it.
    Delete,
}

impl From<&Delivery> for Message {
    fn from(delivery: &Delivery) -> Self {
        let (op, deleted_ms) = match &delivery.action {
            Action::Put(_) => (Op::Put, None),
            Action::Mark { deleted_ms } => (Op::Mark, Some(*deleted_ms)),
            Action::Delete => (Op::Delete, None),
        };
        Self {
            key: delivery.key.0.clone(),
            previous: delivery.previous.as_ref().map(|key| key.0.clone()),
            adapter: delivery.adapter.clone(),
            document: delivery.document.to_string(),
            seq: delivery.seq,
            generation: delivery.generation,
            name: delivery.record.name.clone(),
            record: delivery.record.key.clone(),
            op,
            row: delivery.action.row().cloned(),
            deleted_ms,
            heads: delivery.heads.iter().map(ToString::to_string).collect(),
            mapping: delivery.mapping.clone(),
            correlation: delivery.correlation.clone(),
            enqueued_ms: delivery.enqueued_ms,
        }
    }
}
