//! Sound changes that the relay does not take, because they would use up a document.
//!
//! These bounds are the relay's own and no part of admission, which is the same everywhere: a
//! replica that holds such a change already must not refuse its own history.

use rejoin_core::ChangeGraph;
use rejoin_core::change::{Change, is_storable_time};
use rejoin_core::limits::{
    DEPTH_MAX, HEADS_ADDED_MAX, HEADS_EASY_MAX, HEADS_MAX, OP_COUNTER_JUMP_MAX, OP_START_MAX,
};
use rejoin_core::wire::RefusedClass;
use thiserror::Error;

/// The reasons for which a sound change is not taken.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum OutOfBounds {
    #[error(
        "it starts at operation {start_op}, and this document takes at most {max} now; write it \
         anew under a fresh actor"
    )]
    Counter { start_op: u64, max: u64 },
    #[error("it is of the time {time_s} s, which no clock shows; set the clock and edit again")]
    Time { time_s: i64 },
    #[error("it nests {depth} maps and lists, of at most {DEPTH_MAX}; nest less")]
    Depth { depth: usize },
    #[error(
        "the document has {heads} versions that nobody brought together; edit it after a sync, \
         which does, and it is taken then"
    )]
    Heads { heads: usize },
}

impl OutOfBounds {
    pub(super) fn class(&self) -> RefusedClass {
        match self {
            // Its replica makes it anew with other counters.
            Self::Counter { .. } => RefusedClass::ActorReused,
            Self::Depth { .. } | Self::Time { .. } => RefusedClass::Never,
            Self::Heads { .. } => RefusedClass::Later,
        }
    }
}

/// Checks a new change against the graph of its document. `heads_added` counts the heads that one
/// connection added to documents that have many.
pub(super) fn check(
    change: &Change,
    graph: &ChangeGraph,
    heads_added: &mut u32,
) -> Result<(), OutOfBounds> {
    let max = graph.max_op().saturating_add(1 + OP_COUNTER_JUMP_MAX).min(OP_START_MAX);
    if change.start_op() > max {
        return Err(OutOfBounds::Counter { start_op: change.start_op(), max });
    }
    check_alone(change)?;
    let heads = graph.heads_len();
    if heads >= HEADS_EASY_MAX && !change.deps().iter().any(|dep| graph.is_head(dep)) {
        if heads >= HEADS_MAX || *heads_added >= HEADS_ADDED_MAX {
            return Err(OutOfBounds::Heads { heads });
        }
        *heads_added += 1;
    }
    Ok(())
}

/// Checks the bounds that do not depend on a change's document.
pub(super) fn check_alone(change: &Change) -> Result<(), OutOfBounds> {
    if !is_storable_time(change.time()) {
        return Err(OutOfBounds::Time { time_s: change.time() });
    }
    if change.depth() > DEPTH_MAX {
        return Err(OutOfBounds::Depth { depth: change.depth() });
    }
    Ok(())
}
