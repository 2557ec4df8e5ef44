//! The targets, and what they answer.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::delivery::{Delivery, Record, Row};

/// A target that deliveries are handed to.
///
/// A sink keeps no queue of its own and never retries: whatever it answers for a delivery is all
/// that is known about it. It may be asked to apply the same delivery again at any time, and must
/// see to it that the target does not feel it, by [`Delivery::key`].
pub trait Sink: Send + Sync {
    /// How many deliveries one call of [`Sink::apply`] takes at most.
    fn batch(&self) -> usize {
        1
    }

    /// Hands over deliveries, each of another document, and answers for each in the same order.
    fn apply<'a>(&'a self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Vec<Result<(), Fault>>>;

    /// A page of what the target holds of one kind of row, in the order of the keys, after a key.
    /// Nothing if the target cannot be read.
    fn scan<'a>(
        &'a self,
        name: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<Vec<Held>>, Fault>>;
}

/// A row as a target holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Which row.
    pub record: Record,
    /// Its fields; nothing if it is marked as deleted.
    pub row: Option<Row>,
}

/// Why a target did not take a delivery. Messages tell of the target and what it said, never of the
/// row's contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Fault {
    /// What to do about it.
    pub class: FaultClass,
    /// What happened, for people.
    pub what: String,
    /// The beginning of what the target answered, if it did.
    pub answer: Option<String>,
}

/// What to do about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultClass {
    /// It may go away by itself: try again, not before this long if the target said so.
    Transient {
        /// What the target asked for.
        after: Option<Duration>,
    },
    /// The same delivery will fail again.
    Permanent,
    /// The target wants nothing more, ever.
    Gone,
}
