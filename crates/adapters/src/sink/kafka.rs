//! Deliveries as messages in topics of [Apache Kafka](https://kafka.apache.org). Only in programs
//! that were built with the feature `kafka`.
//!
//! ```toml
//! [adapter.board.sink]
//! kind = "kafka"
//! brokers = "kafka-1.internal:9092,kafka-2.internal:9092"
//! topic = "rejoin.{name}"
//! ```
//!
//! A message counts as delivered when all replicas that are in sync have it. Its key is the
//! record's key, so that one partition has all about a record in order, and compaction keeps the
//! last; a deleted record is a message without a value. What one attempt sends is there once; after
//! a lost confirmation a message is there twice, with the same header `idempotency-key`, the
//! delivery's key.
//!
//! In the topic, `{name}` of the record may hold letters, digits, `.`, `-` and `_`; other
//! characters become `_`. Connections are neither encrypted nor signed in: librdkafka does that
//! with OpenSSL, which is not part of this program.

mod check;

use std::fmt;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::route::{BATCH, Route, timeout_s};
use super::{Found, Sink, SinkError};
use crate::delivery::{Action, Delivery, Fault, Record};
use crate::mapping::Mapping;

/// How a [`Kafka`] is set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Servers to begin with, `HOST:PORT`, with commas between.
    pub brokers: String,
    /// The topic, with `{name}` of the record; `rejoin.{name}` if that is not said.
    #[serde(default = "topic")]
    pub topic: String,
    /// Seconds the servers have to take deliveries; 20 if that is not said.
    #[serde(default = "timeout_s")]
    pub timeout_s: u64,
}

fn topic() -> String {
    "rejoin.{name}".to_owned()
}

/// Produces idempotently. It connects when there is something to deliver.
pub struct Kafka {
    config: ClientConfig,
    topic: Route,
    timeout: Duration,
    producer: Mutex<Option<FutureProducer>>,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Kafka {
    /// A sink for these options.
    ///
    /// # Errors
    /// The servers or the topic are none.
    pub fn open(options: Options) -> Result<Self, SinkError> {
        let wrong = |what: &str| SinkError::Setup { what: what.to_owned() };
        let is_server = |text: &str| {
            let parts = text.trim().rsplit_once(':');
            parts.is_some_and(|(host, port)| {
                !host.is_empty() && !host.contains(['/', '@']) && port.parse::<u16>().is_ok()
            })
        };
        if !options.brokers.split(',').all(is_server) {
            return Err(wrong("`brokers` names no servers; write \"HOST:PORT,HOST:PORT\""));
        }
        let topic = Route::parse(&options.topic)?;
        if topic.has_key() {
            return Err(wrong("a topic for every key is too many; write {name} in `topic`"));
        }
        let timeout = Duration::from_secs(options.timeout_s.max(1));
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", options.brokers)
            .set("client.id", "rejoin")
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // It gives up before this sink does: what is tried again later is not sent meanwhile.
            .set("message.timeout.ms", (timeout.as_millis() * 9 / 10).to_string())
            // Nor is a topic that is not there waited for until then, or nobody would know.
            .set("topic.metadata.propagation.max.ms", (timeout.as_millis() / 2).to_string());
        Ok(Self { config, topic, timeout, producer: Mutex::default() })
    }

    async fn apply_all(&self, deliveries: &[Delivery]) -> Vec<Result<(), Fault>> {
        let deadline = Instant::now() + self.timeout;
        let producer = match self.producer().await {
            Ok(producer) => producer,
            Err(fault) => return vec![Err(fault); deliveries.len()],
        };
        let sent: Vec<_> =
            deliveries.iter().map(|delivery| self.send(&producer, delivery)).collect();
        let mut outcomes = Vec::with_capacity(deliveries.len());
        for (delivery, sent) in deliveries.iter().zip(sent) {
            let outcome = match sent {
                Ok(confirmed) => match timeout_at(deadline, confirmed).await {
                    Ok(Ok(Ok(_))) => Ok(()),
                    Ok(Ok(Err((error, _)))) => Err(error),
                    Ok(Err(_)) => Err(KafkaError::Canceled),
                    Err(_) => Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)),
                },
                Err(error) => Err(error),
            };
            outcomes.push(
                outcome.map_err(|error| self.refused(&topic_of(&self.topic, delivery), &error)),
            );
        }
        outcomes
    }

    /// The producer, made anew after it gave itself up.
    async fn producer(&self) -> Result<FutureProducer, Fault> {
        let mut kept = self.producer.lock().await;
        if let Some(producer) = kept.as_ref().filter(|it| it.client().fatal_error().is_none()) {
            return Ok(producer.clone());
        }
        if let Some(broken) = kept.take() {
            // It waits for its threads.
            drop(tokio::task::spawn_blocking(move || drop(broken)));
        }
        let producer: FutureProducer = self
            .config
            .create()
            .map_err(|error| Fault::trouble(format!("the producer cannot be made: {error}")))?;
        *kept = Some(producer.clone());
        Ok(producer)
    }

    fn send(
        &self,
        producer: &FutureProducer,
        delivery: &Delivery,
    ) -> Result<DeliveryFuture, KafkaError> {
        let topic = topic_of(&self.topic, delivery);
        let headers =
            [("idempotency-key", &delivery.key.0), ("correlation-id", &delivery.correlation)]
                .into_iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header { key, value: Some(value) })
                });
        let body = match delivery.action {
            Action::Delete => None,
            Action::Put(_) | Action::Mark { .. } => Some(delivery.to_json().to_string()),
        };
        let record = FutureRecord {
            topic: &topic,
            partition: None,
            payload: body.as_ref(),
            key: Some(&delivery.record.key),
            timestamp: None,
            headers: Some(headers),
        };
        producer.send_result(record).map_err(|(error, _)| error)
    }

    /// What it means that a message was not taken.
    fn refused(&self, topic: &str, error: &KafkaError) -> Fault {
        use RDKafkaErrorCode as Code;

        let code = error.rdkafka_error_code();
        match code {
            Some(Code::MessageTimedOut) => {
                Fault::transient("the servers did not confirm it in time")
            }
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => {
                Fault::trouble_of_kind(format!("there is no topic {topic:?}; create it"))
            }
            Some(Code::ClusterAuthorizationFailed) => {
                Fault::trouble("the servers let us produce nothing; permit it to the user")
            }
            Some(Code::TopicAuthorizationFailed) => Fault::trouble_of_kind(format!(
                "the servers do not let us write to {topic:?}; permit it"
            )),
            Some(Code::MessageSizeTooLarge) => Fault::permanent(format!(
                "it is larger than the producer or {topic:?} takes (`max.message.bytes`)"
            )),
            Some(Code::InvalidTopic) => Fault::trouble_of_kind(format!(
                "a topic cannot be called {topic:?}; change `topic`, or the record's name"
            )),
            Some(code @ (Code::InvalidRecord | Code::PolicyViolation)) => {
                Fault::permanent(format!("{topic:?} does not take it: {code}"))
            }
            _ => Fault::transient(format!("it cannot be produced: {error}")),
        }
    }
}

impl Sink for Kafka {
    fn batch(&self) -> usize {
        BATCH
    }

    fn apply<'a>(&'a self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        self.apply_all(deliveries).boxed()
    }

    fn check<'a>(&'a self, mapping: &'a Mapping, _send: bool) -> BoxFuture<'a, Vec<Found>> {
        self.look(mapping).boxed()
    }
}

fn topic_of(topic: &Route, delivery: &Delivery) -> String {
    topic_name(topic, &delivery.record)
}

fn topic_name(topic: &Route, record: &Record) -> String {
    topic.fill(record, |text| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ['.', '-', '_'].contains(&c);
        text.chars().map(|c| if is_plain(c) { c } else { '_' }).collect()
    })
}
