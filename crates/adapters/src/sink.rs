//! The targets, and what they answer.

pub mod amqp;
mod found;
pub mod icalendar;
pub mod jsonl;
#[cfg(feature = "kafka")]
pub mod kafka;
mod kafka_options;
mod kept;
pub mod nats;
pub(crate) mod options;
pub mod postgres;
mod route;
pub mod server_sent_events;
mod tls;
pub mod webhook;

use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use thiserror::Error;

use crate::delivery::{Delivery, Fault, Record, Row};
use crate::mapping::Mapping;
use crate::secret::SecretError;
pub use found::{Found, inspect};
pub use options::kind_of_sink;

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

    /// Looks at the target: whether it would take what a mapping makes, and all that is in the way.
    /// Nothing is changed there; with `send`, one event may be sent that is marked as a test.
    fn check<'a>(&'a self, _mapping: &'a Mapping, _send: bool) -> BoxFuture<'a, Vec<Found>> {
        async { Vec::new() }.boxed()
    }

    /// A page of what the target holds of one kind of row, in the order of the keys, after a key.
    /// `None` if the target cannot be read: a queue cannot, nor a stream or topic, which forgets, and what
    /// it holds is no row.
    fn scan<'a>(
        &'a self,
        _name: &'a str,
        _after: Option<&'a str>,
        _limit: usize,
    ) -> BoxFuture<'a, Result<Option<Vec<Held>>, Fault>> {
        async { Ok(None) }.boxed()
    }

    /// Rows of one kind as [`Sink::scan`] would tell of them once the target took them: what writes
    /// times and numbers its own way says so here.
    fn as_held<'a>(
        &'a self,
        _name: &'a str,
        rows: Vec<Held>,
    ) -> BoxFuture<'a, Result<Vec<Held>, Fault>> {
        async move { Ok(rows) }.boxed()
    }

    /// Where others fetch what it holds. Most sinks have nothing there.
    fn addresses(&self) -> BoxFuture<'_, Result<Vec<Address>, Fault>> {
        async { Ok(Vec::new()) }.boxed()
    }

    /// Lets others fetch what it holds, for as long as it is polled. Most sinks have nothing to do.
    /// Called while adapters run, and again some time after it failed.
    fn serve(&self) -> BoxFuture<'_, Result<(), Fault>> {
        std::future::pending().boxed()
    }
}

/// Where others fetch what a sink holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// What is there: whose calendar, or `events`.
    pub name: String,
    /// Where it is, as far as this machine knows: a reverse proxy has another beginning.
    pub url: String,
    /// Whether who knows the address may read what is there.
    pub is_secret: bool,
}

/// A row as a target holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Which row.
    pub record: Record,
    /// Its fields; `None` if it is marked as deleted.
    pub row: Option<Row>,
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
    /// The options fit no target.
    #[error("{what}")]
    Setup {
        /// What is in the way.
        what: String,
    },
    /// There is such a kind, but not in this program.
    #[error("this program was built without Kafka; build it with --features kafka")]
    NoKafka,
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
#[cfg(feature = "kafka")]
pub const KINDS: &[&str] =
    &["amqp", "icalendar", "jsonl", "kafka", "nats", "postgres", "server_sent_events", "webhook"];

/// The kinds of sinks.
#[cfg(not(feature = "kafka"))]
pub const KINDS: &[&str] =
    &["amqp", "icalendar", "jsonl", "nats", "postgres", "server_sent_events", "webhook"];

/// Whether a mapping describes its sink.
///
/// # Errors
/// There is no such kind, or its options are not understood, or do not go with the mapping.
pub fn check(mapping: &Mapping) -> Result<(), SinkError> {
    let (kind, rest) = parts(&mapping.sink);
    match kind {
        "amqp" => drop(rest.try_into::<amqp::Options>()?),
        "icalendar" => drop(rest.try_into::<icalendar::Options>()?),
        "jsonl" => drop(rest.try_into::<jsonl::Options>()?),
        #[cfg(feature = "kafka")]
        "kafka" => drop(rest.try_into::<kafka::Options>()?),
        #[cfg(not(feature = "kafka"))]
        "kafka" => return Err(SinkError::NoKafka),
        "nats" => drop(rest.try_into::<nats::Options>()?),
        "postgres" => rest.try_into::<postgres::Options>()?.check(mapping.deletes)?,
        "server_sent_events" => drop(rest.try_into::<server_sent_events::Options>()?),
        "webhook" => drop(rest.try_into::<webhook::Options>()?),
        _ => return Err(SinkError::Kind { kind: kind.to_owned() }),
    }
    Ok(())
}

/// All that can be said against a sink without asking its target, and what it lacks here. Relative files
/// are in `folder`; none is made.
pub fn faults(mapping: &Mapping, folder: &Path) -> Vec<SinkError> {
    if let Err(error) = check(mapping) {
        return vec![error];
    }
    let (kind, rest) = parts(&mapping.sink);
    let timeout = rest.get("timeout_s").and_then(toml::Value::as_integer);
    let is_odd = timeout.is_some_and(|timeout_s| !(1..=TIMEOUT_S_MAX).contains(&timeout_s));
    let odd = || {
        let what = format!("timeout_s is from 1 to {TIMEOUT_S_MAX}");
        SinkError::Setup { what }
    };
    let mut faults: Vec<_> = is_odd.then(odd).into_iter().collect();
    faults.extend(match kind {
        "icalendar" => {
            rest.try_into().map_err(SinkError::from).and_then(|it| icalendar::check(&it)).err()
        }
        "server_sent_events" => {
            let options = rest.try_into().map_err(SinkError::from);
            options.and_then(|it| server_sent_events::check(&it)).err()
        }
        // It has nothing but a folder.
        "jsonl" => None,
        // These neither make a file nor connect before there is something to deliver.
        _ => open(&mapping.sink, folder).err(),
    });
    faults
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
        "amqp" => Ok(Arc::new(amqp::Amqp::open(rest.try_into()?, folder)?)),
        "icalendar" => Ok(Arc::new(icalendar::Icalendar::open(rest.try_into()?, folder)?)),
        "jsonl" => Ok(Arc::new(jsonl::Jsonl::open(rest.try_into()?, folder)?)),
        #[cfg(feature = "kafka")]
        "kafka" => Ok(Arc::new(kafka::Kafka::open(rest.try_into()?)?)),
        #[cfg(not(feature = "kafka"))]
        "kafka" => Err(SinkError::NoKafka),
        "nats" => Ok(Arc::new(nats::Nats::open(rest.try_into()?, folder)?)),
        "postgres" => Ok(Arc::new(postgres::Postgres::open(rest.try_into()?, folder)?)),
        "server_sent_events" => {
            Ok(Arc::new(server_sent_events::ServerSentEvents::open(rest.try_into()?, folder)?))
        }
        "webhook" => Ok(Arc::new(webhook::Webhook::open(rest.try_into()?, folder)?)),
        _ => Err(SinkError::Kind { kind: kind.to_owned() }),
    }
}

/// Seconds that a target may have to answer.
const TIMEOUT_S_MAX: i64 = 600;

#[cfg(all(test, not(feature = "kafka")))]
mod tests {
    use super::*;

    #[test]
    fn who_wants_kafka_is_told_how_to_build_it() {
        let options = toml::from_str("kind = 'kafka'\nbrokers = 'localhost:9092'").unwrap();
        let said = open(&options, Path::new("")).err().unwrap().to_string();
        assert!(said.contains("--features kafka") && !KINDS.contains(&"kafka"), "{said}");
    }
}
