//! The facts about a document's changes that the admission of another one needs.

use crate::{ActorId, ChangeHash};

/// One known change, without its operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownChange {
    /// The actor that made it.
    pub actor: ActorId,
    /// Its place among that actor's changes, from 1.
    pub seq: u64,
    /// The counter of its first operation.
    pub start_op: u64,
    /// The counter of its last operation; `start_op - 1` when it has none.
    pub max_op: u64,
}

/// The history of one document. The relay answers from its change graph, a replica from the loaded
/// Automerge document.
pub trait History {
    /// The change with this hash, if it is known.
    fn change(&self, hash: &ChangeHash) -> Option<KnownChange>;

    /// The highest sequence number and operation counter of `actor`, if it made a change.
    fn last(&self, actor: &ActorId) -> Option<LastChange>;
}

/// The last change of one actor in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastChange {
    /// Sequence number of its latest change.
    pub seq: u64,
    /// Counter of its latest operation.
    pub max_op: u64,
}
