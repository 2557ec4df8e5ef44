//! The reasons for which a graph does not take a change, or a row of it.

use thiserror::Error;

use crate::{ChangeHash, limits};

/// A change or a row cannot enter a graph.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GraphError {
    /// The change would be an orphan.
    #[error("change {hash} builds on {dep}, which is unknown; insert that first")]
    UnknownDependency {
        /// The change.
        hash: ChangeHash,
        /// The first of its dependencies that is missing.
        dep: ChangeHash,
    },
    /// The change is in the graph.
    #[error("change {hash} is known already; leave it out")]
    Known {
        /// The change.
        hash: ChangeHash,
    },
    /// An actor id over its limit.
    #[error("an actor id of {len} bytes; use at most {}", limits::ACTOR_BYTES_MAX)]
    ActorTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// Ranks are 32 bits.
    #[error("the graph is full and cannot take change {hash}; begin another document")]
    Full {
        /// The change.
        hash: ChangeHash,
    },
    /// A row that was not written by this version for this place.
    #[error("row {rank} of a change graph is damaged; rebuild the graph from the changes")]
    RowDamaged {
        /// The rank the row was read for.
        rank: u32,
    },
    /// A row of a later version, or its first byte is damaged.
    #[error("row {rank} of a change graph has version {found}; read it with a newer version")]
    RowVersion {
        /// The rank the row was read for.
        rank: u32,
        /// The version it says.
        found: u8,
    },
}
