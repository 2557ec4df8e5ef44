//! The targets, and what they answer.

pub mod icalendar;
pub mod jsonl;
mod kept;
mod listener;
pub mod server_sent_events;
pub mod webhook;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use thiserror::Error;

use crate::delivery::{Delivery, Record, Row};
use crate::secret::SecretError;

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

    /// Lets others fetch what it holds, for as long as it is polled. Most sinks have nothing to do.
    /// Called while adapters run, and again some time after it failed.
    fn serve(&self) -> BoxFuture<'_, Result<(), Fault>> {
        std::future::pending().boxed()
    }
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

impl Fault {
    /// Something that may go away by itself.
    pub fn transient(what: impl Into<String>) -> Self {
        Self { class: FaultClass::Transient { after: None }, what: what.into(), answer: None }
    }

    /// Something that will be the same the next time.
    pub fn permanent(what: impl Into<String>) -> Self {
        Self { class: FaultClass::Permanent, what: what.into(), answer: None }
    }
}

/// A sink cannot be made from its options.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SinkError {
    /// There is no such kind.
    #[error("there is no sink of kind {kind:?}; there are {}", KINDS.join(", "))]
    Kind {
        /// The kind that was asked for.
        kind: String,
    },
    /// The options are not understood.
    #[error("the options of the sink are not understood: {0}")]
    Options(#[from] toml::de::Error),
    /// A secret is missing.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A webhook cannot be set up.
    #[error("{what}")]
    Webhook {
        /// What is in the way.
        what: String,
    },
    /// What others fetch over HTTP cannot be served so.
    #[error("{what}")]
    Served {
        /// What is in the way.
        what: String,
    },
    /// The target's place cannot be used.
    #[error("{place} cannot be used: {source}; see to it that it is a folder one can write to")]
    Place {
        /// Which place.
        place: String,
        /// What is in the way.
        source: std::io::Error,
    },
}

/// The kinds of sinks.
pub const KINDS: [&str; 4] = ["icalendar", "jsonl", "server_sent_events", "webhook"];

/// Whether options describe a sink.
///
/// # Errors
/// There is no such kind, or its options are not understood.
pub fn check(options: &toml::Table) -> Result<(), SinkError> {
    let (kind, rest) = parts(options);
    match kind {
        "icalendar" => drop(rest.try_into::<icalendar::Options>()?),
        "jsonl" => drop(rest.try_into::<jsonl::Options>()?),
        "server_sent_events" => drop(rest.try_into::<server_sent_events::Options>()?),
        "webhook" => drop(rest.try_into::<webhook::Options>()?),
        _ => return Err(SinkError::Kind { kind: kind.to_owned() }),
    }
    Ok(())
}

/// The kind, and the other options.
fn parts(options: &toml::Table) -> (&str, toml::Table) {
    let kind = options.get("kind").and_then(toml::Value::as_str).unwrap_or_default();
    let mut rest = options.clone();
    rest.remove("kind");
    (kind, rest)
}

/// Makes the sink that the options of a mapping describe. Relative files are in `folder`.
///
/// # Errors
/// There is no such kind, or its options are not understood.
pub fn open(options: &toml::Table, folder: &Path) -> Result<Arc<dyn Sink>, SinkError> {
    let (kind, rest) = parts(options);
    match kind {
        "icalendar" => Ok(Arc::new(icalendar::Icalendar::open(rest.try_into()?, folder)?)),
        "jsonl" => Ok(Arc::new(jsonl::Jsonl::open(rest.try_into()?, folder)?)),
        "server_sent_events" => {
            Ok(Arc::new(server_sent_events::ServerSentEvents::open(rest.try_into()?, folder)?))
        }
        "webhook" => Ok(Arc::new(webhook::Webhook::open(rest.try_into()?, folder)?)),
        _ => Err(SinkError::Kind { kind: kind.to_owned() }),
    }
}
