//! What people ask of adapters, whether they run or not.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use rejoin::{DocumentId, Replica};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use super::{Adapter, now_ms};
use crate::outbox::{DeadLetter, OutboxError};

/// Something to tell or to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// How adapters stand, and what waits longest.
    Status,
    /// The dead letters.
    DeadLetters {
        /// Of one adapter; of all if there is none.
        adapter: Option<String>,
    },
    /// Delivers a dead letter after all.
    Replay {
        /// Whose.
        adapter: String,
        /// Which.
        number: u64,
    },
    /// Lets a dead letter be.
    Discard {
        /// Whose.
        adapter: String,
        /// Which.
        number: u64,
    },
    /// Sends nothing.
    Pause {
        /// Which adapter.
        adapter: String,
    },
    /// Sends again.
    Resume {
        /// Which adapter.
        adapter: String,
    },
    /// Delivers everything anew.
    Backfill {
        /// Which adapter.
        adapter: String,
    },
}

/// Something could not be told or done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OperateError {
    /// There is no such adapter.
    #[error("there is no adapter {name:?}; the configuration has {}", known.join(", "))]
    NoAdapter {
        /// The name that was given.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// The outbox cannot be used, or has no such dead letter.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

/// Tells how adapters stand, and does what people ask.
pub struct Operator {
    adapters: BTreeMap<String, Adapter>,
    replica: Option<Replica>,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.adapters.keys()).finish()
    }
}

impl Operator {
    pub(super) fn new(adapters: BTreeMap<String, Adapter>, replica: Option<Replica>) -> Self {
        Self { adapters, replica }
    }

    /// Answers with JSON.
    ///
    /// # Errors
    /// There is no such adapter or dead letter, or its outbox cannot be used.
    pub async fn ask(&self, ask: &Ask) -> Result<Value, OperateError> {
        match ask {
            Ask::Status => {
                let mut all = Vec::new();
                for adapter in self.adapters.values() {
                    all.push(self.status(adapter).await?);
                }
                Ok(Value::Array(all))
            }
            Ask::DeadLetters { adapter } => {
                let one = adapter.as_ref().map(|name| self.adapter(name)).transpose()?;
                let mut all = Vec::new();
                for adapter in self.adapters.values() {
                    if one.is_none_or(|one| one.name == adapter.name) {
                        let letters = adapter.outbox(|outbox| outbox.dead_letters()).await?;
                        all.extend(
                            letters
                                .iter()
                                .map(|(number, letter)| self.letter(adapter, *number, letter)),
                        );
                    }
                }
                Ok(Value::Array(all))
            }
            Ask::Replay { adapter, number } => {
                let (adapter, number) = (self.adapter(adapter)?, *number);
                let letter = adapter.outbox(move |outbox| outbox.replay(now_ms(), number)).await?;
                adapter.again.notify_one();
                adapter.due.notify_one();
                Ok(self.letter(adapter, number, &letter))
            }
            Ask::Discard { adapter, number } => {
                let (adapter, number) = (self.adapter(adapter)?, *number);
                let letter = adapter.outbox(move |outbox| outbox.discard(now_ms(), number)).await?;
                adapter.due.notify_one();
                Ok(self.letter(adapter, number, &letter))
            }
            Ask::Pause { adapter } => {
                let adapter = self.adapter(adapter)?;
                adapter.outbox(|outbox| outbox.pause()).await?;
                self.status(adapter).await
            }
            Ask::Resume { adapter } => {
                let adapter = self.adapter(adapter)?;
                adapter.outbox(|outbox| outbox.resume()).await?;
                adapter.due.notify_one();
                self.status(adapter).await
            }
            Ask::Backfill { adapter } => {
                let adapter = self.adapter(adapter)?;
                adapter.outbox(|outbox| outbox.backfill(now_ms())).await?;
                adapter.again.notify_one();
                self.status(adapter).await
            }
        }
    }

    fn adapter(&self, name: &str) -> Result<&Adapter, OperateError> {
        let known = || self.adapters.keys().cloned().collect();
        self.adapters
            .get(name)
            .ok_or_else(|| OperateError::NoAdapter { name: name.to_owned(), known: known() })
    }

    async fn status(&self, adapter: &Adapter) -> Result<Value, OperateError> {
        let (depth, unsent, endpoint, is_down) = adapter
            .outbox(|outbox| {
                let (depth, unsent) = (outbox.depth()?, outbox.unsent(UNSENT_SHOWN)?);
                Ok((depth, unsent, outbox.endpoint().clone(), outbox.is_down()))
            })
            .await?;
        let state = match &endpoint {
            endpoint if endpoint.disabled.is_some() => "disabled",
            endpoint if endpoint.paused => "paused",
            _ if is_down => "down",
            _ => "up",
        };
        let oldest = unsent.first().map(|unsent| now_ms().saturating_sub(unsent.since_ms));
        let waiting: Vec<_> = unsent
            .iter()
            .map(|unsent| {
                json!({
                    "document": unsent.document.to_string(),
                    "key": self.key(&unsent.document),
                    "name": unsent.record.name,
                    "record": unsent.record.key,
                    "since_ms": unsent.since_ms,
                    "attempts": unsent.attempts,
                    "fault": unsent.fault,
                })
            })
            .collect();
        let lag = adapter.lag.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(json!({
            "adapter": adapter.name,
            "collection": adapter.mapping.collection.as_str(),
            "state": state,
            "why": endpoint.disabled,
            "failing_since_ms": endpoint.failing_since_ms,
            "waiting": depth.waiting,
            "oldest_ms": oldest,
            "dead_letters": depth.dead,
            "documents": depth.documents,
            "taken": lag.taken,
            "transient": lag.transient,
            "permanent": lag.permanent,
            "lag_p50_ms": lag.quantile(0.5),
            "lag_p99_ms": lag.quantile(0.99),
            "unsent": waiting,
        }))
    }

    fn letter(&self, adapter: &Adapter, number: u64, letter: &DeadLetter) -> Value {
        let heads: Vec<_> = letter.heads.iter().map(ToString::to_string).collect();
        json!({
            "adapter": adapter.name,
            "number": number,
            "class": letter.class.name(),
            "fault": letter.fault,
            "answer": letter.answer,
            "attempts": letter.attempts,
            "document": letter.document.to_string(),
            "key": self.key(&letter.document),
            "name": letter.record.name,
            "record": letter.record.key,
            "at_ms": letter.at_ms,
            "heads": heads,
            "delivery": letter.delivery.as_ref().map(|delivery| delivery.to_json()),
        })
    }

    /// A document's natural key, if it has one and the replica is at hand.
    fn key(&self, document: &DocumentId) -> Option<String> {
        self.replica.as_ref()?.key_of(document).ok()?
    }
}

/// Deliveries that are told of each adapter.
const UNSENT_SHOWN: usize = 20;
