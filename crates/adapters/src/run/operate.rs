//! What people ask of adapters, whether they run or not.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use rejoin::{DocumentId, EditError, NameError, Replica, Space};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use super::follow::FollowError;
use super::reconcile::{self, Repair};
use super::{Adapter, Carried, now_ms, origin, plan, version};
use crate::delivery::Record;
use crate::mapping::{Mapping, parse};
use crate::outbox::{DeadLetter, Outbox, OutboxError};
use crate::secret::{SecretError, SecretRef};
use crate::sink::{Address, Fault};

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
    /// Delivers anew what the target took since some time.
    Rewind {
        /// Which adapter.
        adapter: String,
        /// Since when, in milliseconds since 1970.
        to_ms: u64,
    },
    /// What a configuration would change.
    Plan {
        /// Of one adapter; of all if there is none.
        adapter: Option<String>,
        /// The configuration, as the text of its file.
        config: String,
    },
    /// Makes rows by the mappings of a configuration.
    Apply {
        /// Of one adapter; of all if there is none.
        adapter: Option<String>,
        /// The configuration, as the text of its file.
        config: String,
    },
    /// Compares everything the target holds with what it should hold.
    Reconcile {
        /// Which adapter.
        adapter: String,
        /// Only tells what differs.
        dry_run: bool,
        /// Deletes rows that no document ever became.
        delete_extra: bool,
    },
    /// Where others fetch what targets hold. Part of it is secret.
    Feeds {
        /// Of one adapter; of all if there is none.
        adapter: Option<String>,
    },
    /// Where a row comes from.
    Origin {
        /// Which adapter.
        adapter: String,
        /// The row's kind.
        name: String,
        /// The row's key.
        key: String,
    },
}

impl Ask {
    /// Whether every document is read for it, which takes as long as there are many.
    pub fn reads_everything(&self) -> bool {
        matches!(self, Self::Plan { .. } | Self::Reconcile { .. } | Self::Rewind { .. })
    }
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
    /// The replica cannot be read.
    #[error(transparent)]
    Replica(EditError),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no replica to look into.
    #[error("there are no documents to compare with yet; `rejoin adapters run` brings them")]
    NoReplica,
    /// The configuration is not sound.
    #[error("the configuration cannot be used: {0}; `rejoin adapters lint` tells it all")]
    Config(String),
    /// A secret is missing.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The target cannot be read.
    #[error("the target cannot be read: {0}")]
    Target(#[from] Fault),
    /// The target can never be read.
    #[error(
        "nobody can ask the target of {adapter} what it holds; `rejoin adapters backfill {adapter}` \
         sends everything anew"
    )]
    Unreadable {
        /// Which adapter.
        adapter: String,
    },
    /// No document became such a row.
    #[error("no document became {name} {key} in {adapter}")]
    NoRow {
        /// Which adapter.
        adapter: String,
        /// The row's kind.
        name: String,
        /// The row's key.
        key: String,
    },
}

impl From<FollowError> for OperateError {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Outbox(error) => Self::Outbox(error),
            FollowError::Replica(error) => Self::Replica(error),
        }
    }
}

/// Tells how adapters stand, and does what people ask.
pub struct Operator {
    pub(super) adapters: BTreeMap<String, Adapter>,
    replica: Option<(Replica, Space)>,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.adapters.keys()).finish()
    }
}

impl Operator {
    pub(super) fn new(
        adapters: BTreeMap<String, Adapter>,
        replica: Option<(Replica, Space)>,
    ) -> Self {
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
                let mut all = Vec::new();
                for adapter in self.one_or_all(adapter.as_deref())? {
                    let letters = adapter.outbox(|outbox| outbox.dead_letters()).await?;
                    let letters = letters.iter();
                    all.extend(letters.map(|(number, it)| self.letter(adapter, *number, it)));
                }
                Ok(Value::Array(all))
            }
            Ask::Feeds { adapter } => {
                let mut all = Vec::new();
                for adapter in self.one_or_all(adapter.as_deref())? {
                    let addresses = adapter.sink.addresses().await?.into_iter();
                    all.extend(addresses.map(|Address { name, url, is_secret }| {
                        let adapter = &adapter.name;
                        json!({ "adapter": adapter, "name": name, "url": url, "secret": is_secret })
                    }));
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
            Ask::Rewind { adapter, to_ms } => {
                let (adapter, to_ms) = (self.adapter(adapter)?, *to_ms);
                let rewound = adapter.outbox(move |outbox| {
                    let rows = outbox.taken_since(to_ms)?;
                    rows.chunks(REPAIRED_TOGETHER)
                        .try_fold(0, |sum, rows| Ok(sum + outbox.repair(now_ms(), rows)?))
                });
                let rewound = rewound.await?;
                adapter.due.notify_one();
                Ok(json!({ "adapter": adapter.name, "to_ms": to_ms, "rows": rewound }))
            }
            Ask::Plan { adapter, config } => self.plan(adapter.as_deref(), config).await,
            Ask::Apply { adapter, config } => self.apply(adapter.as_deref(), config).await,
            Ask::Reconcile { adapter, dry_run, delete_extra } => {
                let adapter = self.adapter(adapter)?;
                let repair = Repair { dry_run: *dry_run, delete_extra: *delete_extra };
                reconcile::reconcile(adapter, &self.carried(&adapter.mapping)?, repair).await
            }
            Ask::Origin { adapter, name, key } => {
                let adapter = self.adapter(adapter)?;
                let carried = self.carried(&adapter.mapping).ok();
                let record = Record { name: name.clone(), key: key.clone() };
                origin::origin(adapter, carried.as_ref(), record).await
            }
        }
    }

    fn carried(&self, mapping: &Mapping) -> Result<Carried, OperateError> {
        let (_, space) = self.replica.as_ref().ok_or(OperateError::NoReplica)?;
        Ok(Carried::new(space, mapping)?)
    }

    /// The mappings of a configuration that are asked for, by name.
    fn mappings(
        &self,
        only: Option<&str>,
        text: &str,
    ) -> Result<BTreeMap<String, Mapping>, OperateError> {
        let parsed = parse(text);
        let wrong = || parsed.findings.first().map(ToString::to_string).unwrap_or_default();
        let mut mappings = parsed.config.ok_or_else(|| OperateError::Config(wrong()))?.adapters;
        if let Some(only) = only {
            if !mappings.contains_key(only) {
                let known = mappings.into_keys().collect();
                return Err(OperateError::NoAdapter { name: only.to_owned(), known });
            }
            mappings.retain(|name, _| name == only);
        }
        Ok(mappings)
    }

    async fn plan(&self, only: Option<&str>, text: &str) -> Result<Value, OperateError> {
        let mut plans = Vec::new();
        for (name, mapping) in self.mappings(only, text)? {
            let Some(adapter) = self.adapters.get(&name) else {
                plans.push(json!({ "adapter": name, "is_new": true }));
                continue;
            };
            let (salt, version) = salted(&mapping)?;
            let plan = plan::plan(adapter, &mapping, &salt, &self.carried(&mapping)?).await?;
            let applied = adapter.outbox(|outbox| Ok(outbox.endpoint().mapping.clone())).await?;
            let mut json = plan.to_json();
            json["adapter"] = name.into();
            json["is_applied"] = (applied.as_ref() == Some(&version)).into();
            json["mapping"] = version.into();
            plans.push(json);
        }
        Ok(Value::Array(plans))
    }

    async fn apply(&self, only: Option<&str>, text: &str) -> Result<Value, OperateError> {
        let mut applied = Vec::new();
        for (name, mapping) in self.mappings(only, text)? {
            let Some(adapter) = self.adapters.get(&name) else { continue };
            let version = salted(&mapping)?.1;
            let set = version.clone();
            let is_current = adapter.outbox(move |outbox| {
                outbox.apply_mapping(now_ms(), &set).map(|()| outbox.is_applied())
            });
            // Who runs with another mapping goes on with this one only once it is started again.
            let needs_restart = !is_current.await?;
            adapter.again.notify_one();
            let json =
                json!({ "adapter": name, "mapping": version, "needs_restart": needs_restart });
            applied.push(json);
        }
        Ok(Value::Array(applied))
    }

    fn adapter(&self, name: &str) -> Result<&Adapter, OperateError> {
        let known = || self.adapters.keys().cloned().collect();
        self.adapters
            .get(name)
            .ok_or_else(|| OperateError::NoAdapter { name: name.to_owned(), known: known() })
    }

    /// One adapter; all if no name is given.
    fn one_or_all(&self, name: Option<&str>) -> Result<Vec<&Adapter>, OperateError> {
        match name {
            Some(name) => Ok(vec![self.adapter(name)?]),
            None => Ok(self.adapters.values().collect()),
        }
    }

    async fn status(&self, adapter: &Adapter) -> Result<Value, OperateError> {
        let (depth, unsent, endpoint, state) = adapter
            .outbox(|outbox| {
                let (depth, unsent) = (outbox.depth()?, outbox.unsent(UNSENT_SHOWN)?);
                Ok((depth, unsent, outbox.endpoint().clone(), state(outbox)))
            })
            .await?;
        let oldest = unsent.first().map(|unsent| now_ms().saturating_sub(unsent.since_ms));
        let late_ms = adapter.mapping.late_after.as_millis();
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
            "is_late": oldest.is_some_and(|oldest| u128::from(oldest) > late_ms),
            "dead_letters": depth.dead,
            "documents": depth.documents,
            "taken": lag.taken,
            "transient": lag.transient,
            "permanent": lag.permanent,
            "lag_p50_ms": lag.quantile(0.5),
            "lag_p99_ms": lag.quantile(0.99),
            "reconciled": *adapter.reconciled.lock().unwrap_or_else(PoisonError::into_inner),
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
        self.replica.as_ref()?.0.key_of(document).ok()?
    }
}

/// The states that [`state`] tells of.
pub(super) const STATES: [&str; 5] = ["up", "down", "paused", "disabled", "changed"];

/// How it stands with a target.
pub(super) fn state(outbox: &Outbox) -> &'static str {
    match outbox.endpoint() {
        endpoint if endpoint.disabled.is_some() => "disabled",
        endpoint if endpoint.paused => "paused",
        _ if outbox.is_down() => "down",
        _ if !outbox.is_applied() => "changed",
        _ => "up",
    }
}

/// A mapping's salt, and its version with that.
fn salted(mapping: &Mapping) -> Result<(String, String), SecretError> {
    let salt = mapping.salt.as_ref().map(SecretRef::resolve).transpose()?;
    let version = version(mapping, salt.as_deref());
    Ok((salt.unwrap_or_default(), version))
}

/// Rows enqueued anew in one commit.
const REPAIRED_TOGETHER: usize = 500;

/// Deliveries that are told of each adapter.
const UNSENT_SHOWN: usize = 20;
