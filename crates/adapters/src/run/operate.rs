//! What people ask of adapters, whether they run or not.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use rejoin::schema::to_toml;
use rejoin::{CollectionName, DocumentId, Replica, Space};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::error::OperateError;
use super::letters::Letters;
use super::link::{Heard, is_connected};
use super::reconcile::{self, Repair};
use super::{Adapter, Carried, origin, plan, version};
use crate::clock::now_ms;
use crate::config::{Config, parse};
use crate::delivery::Record;
use crate::mapping::{Known, Mapping};
use crate::outbox::{Failing, FailingReach, Outbox, Selection};
use crate::secret::{SecretError, SecretRef};
use crate::sink::{self, Address, SinkError};

/// Something to tell or to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// How adapters stand, and what waits longest.
    Status {
        /// The configuration, as the text of its file: what it says otherwise than the adapters run with
        /// is told. They are told of alone without it.
        config: Option<String>,
    },
    /// What the documents are like, and their schemas: for those who write a mapping.
    Known,
    /// The dead letters.
    DeadLetters {
        /// Of one adapter; of all if there is none.
        adapter: Option<String>,
        /// Which of them.
        meant: Selection,
    },
    /// Delivers dead letters after all.
    Replay {
        /// Whose.
        adapter: String,
        /// Which.
        letters: Letters,
    },
    /// Lets dead letters be.
    Discard {
        /// Whose.
        adapter: String,
        /// Which.
        letters: Letters,
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
    /// Asks a target at once that is in trouble, and tries at once what waits out a failure.
    Retry {
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

/// Tells how adapters stand, and does what people ask.
pub struct Operator {
    pub(super) adapters: BTreeMap<String, Adapter>,
    /// Those that cannot begin, and why.
    pub(super) stopped: BTreeMap<String, String>,
    replica: Option<(Replica, Space)>,
    heard: Heard,
    config: watch::Sender<Config>,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.adapters.keys()).finish()
    }
}

impl Operator {
    pub(super) fn new(
        adapters: BTreeMap<String, Adapter>,
        stopped: BTreeMap<String, String>,
        replica: Option<(Replica, Space)>,
        heard: Heard,
        config: watch::Sender<Config>,
    ) -> Self {
        Self { adapters, stopped, replica, heard, config }
    }

    /// How the replica stands towards its relay.
    pub(super) fn link(&self) -> Value {
        self.heard.to_json(self.replica.as_ref().map(|(replica, _)| replica))
    }

    /// When the relay was heard of last, in milliseconds since 1970, and whether it is there now.
    pub(super) fn heard(&self) -> Option<(Option<u64>, bool)> {
        let status = self.replica.as_ref()?.0.status();
        Some((self.heard.last_ms(&status), is_connected(&status)))
    }

    /// How many documents there are in a collection, and in which others there are any.
    fn carries(&self, collection: &CollectionName) -> Result<Option<Value>, OperateError> {
        let Some((_, space)) = &self.replica else { return Ok(None) };
        let found = space.collections().map_err(|error| OperateError::Replica(error.into()))?;
        let documents = found.iter().find(|(name, _)| name == collection).map_or(0, |it| it.1);
        let others = found.iter().map(|(name, _)| name.as_str());
        let others: Vec<_> = others.filter(|name| !name.starts_with("rejoin.")).collect();
        Ok(Some(json!({ "documents": documents, "collections": others })))
    }

    /// Answers with JSON.
    ///
    /// # Errors
    /// There is no such adapter or dead letter, or its outbox cannot be used.
    pub async fn ask(&self, ask: &Ask) -> Result<Value, OperateError> {
        match ask {
            Ask::Status { config } => self.status_of_all(config.as_deref()).await,
            Ask::Known => self.known().await,
            Ask::DeadLetters { adapter, meant } => {
                self.dead_letters(self.one_or_all(adapter.as_deref())?, *meant).await
            }
            Ask::Feeds { adapter } => self.feeds(adapter.as_deref()).await,
            Ask::Replay { adapter, letters } => self.replay(self.adapter(adapter)?, letters).await,
            Ask::Discard { adapter, letters } => {
                self.discard(self.adapter(adapter)?, letters).await
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
            Ask::Retry { adapter } => {
                let adapter = self.adapter(adapter)?;
                let retry = |outbox: &mut Outbox| {
                    outbox.retry();
                    Ok(())
                };
                adapter.outbox(retry).await?;
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

    async fn status_of_all(&self, file: Option<&str>) -> Result<Value, OperateError> {
        let mut all = Vec::new();
        for adapter in self.adapters.values() {
            all.push(self.status(adapter).await?);
        }
        all.extend(self.stopped.iter().map(|(name, why)| {
            let link = self.link();
            json!({ "adapter": name, "state": STOPPED, "stopped": why, "link": link })
        }));
        // What the file says is not in effect before somebody applies it.
        let Some(wanted) = file.and_then(|text| parse(text).config) else {
            return Ok(Value::Array(all));
        };
        let running = self.config.borrow();
        for adapter in &mut all {
            let name = adapter["adapter"].as_str().unwrap_or_default();
            adapter["in_file"] = match wanted.adapters.get(name) {
                None => "removed",
                mapping if mapping != running.adapters.get(name) => "changed",
                Some(_) => "same",
            }
            .into();
        }
        let new = wanted.adapters.keys().filter(|name| !running.adapters.contains_key(*name));
        all.extend(new.map(|name| {
            json!({ "adapter": name, "state": "new", "in_file": "new", "link": self.link() })
        }));
        Ok(Value::Array(all))
    }

    async fn known(&self) -> Result<Value, OperateError> {
        let (_, space) = self.replica.as_ref().ok_or(OperateError::NoReplica)?;
        let known = Known::of(space).await.map_err(OperateError::Replica)?;
        let schemas = space.schemas().await.map_err(OperateError::Replica)?;
        Ok(json!({ "known": known, "schemas": to_toml(&schemas) }))
    }

    async fn feeds(&self, adapter: Option<&str>) -> Result<Value, OperateError> {
        let mut all = Vec::new();
        for adapter in self.one_or_all(adapter)? {
            let addresses = adapter.sink.addresses().await?.into_iter();
            all.extend(addresses.map(|Address { name, url, is_secret }| {
                let adapter = &adapter.name;
                json!({ "adapter": adapter, "name": name, "url": url, "secret": is_secret })
            }));
        }
        Ok(Value::Array(all))
    }

    fn carried(&self, mapping: &Arc<Mapping>) -> Result<Carried, OperateError> {
        let (_, space) = self.replica.as_ref().ok_or(OperateError::NoReplica)?;
        Ok(Carried::new(space, mapping)?)
    }

    /// A configuration, as the text of its file says it; with a name, as they run with it but for the
    /// adapter of that name.
    fn wanted(&self, only: Option<&str>, text: &str) -> Result<Config, OperateError> {
        let parsed = parse(text);
        let wrong = || parsed.findings.first().map(ToString::to_string).unwrap_or_default();
        let mut wanted = parsed.config.ok_or_else(|| OperateError::Config(wrong()))?;
        let Some(only) = only else { return Ok(wanted) };
        let Some(mapping) = wanted.adapters.remove(only) else {
            let known = wanted.adapters.into_keys().collect();
            return Err(OperateError::NoAdapter { name: only.to_owned(), known });
        };
        let mut config = self.config.borrow().clone();
        config.adapters.insert(only.to_owned(), mapping);
        Ok(config)
    }

    /// The mappings of a configuration that are asked for, by name.
    fn mappings(
        &self,
        only: Option<&str>,
        text: &str,
    ) -> Result<BTreeMap<String, Mapping>, OperateError> {
        let mut mappings = self.wanted(only, text)?.adapters;
        mappings.retain(|name, _| only.is_none_or(|only| name == only));
        Ok(mappings)
    }

    async fn plan(&self, only: Option<&str>, text: &str) -> Result<Value, OperateError> {
        let mut plans = Vec::new();
        for (name, mapping) in self.mappings(only, text)? {
            let Some(adapter) = self.adapters.get(&name) else {
                let stopped = self.stopped.get(&name);
                let carries = self.carries(&mapping.collection)?;
                plans.push(json!({
                    "adapter": name,
                    "is_new": stopped.is_none(),
                    "stopped": stopped,
                    "collection": mapping.collection.as_str(),
                    "carries": carries,
                }));
                continue;
            };
            let (salt, version) = salted(&mapping)?;
            let mapping = Arc::new(mapping);
            let plan = plan::plan(adapter, &mapping, &salt, &self.carried(&mapping)?).await?;
            let applied = adapter.outbox(|outbox| Ok(outbox.endpoint().mapping.clone())).await?;
            let mut json = plan.to_json();
            let before = &adapter.mapping.collection;
            if *before != mapping.collection {
                json["collection_before"] = before.as_str().into();
            }
            json["collection"] = mapping.collection.as_str().into();
            json["carries"] = self.carries(&mapping.collection)?.into();
            json["adapter"] = name.into();
            json["is_applied"] = (applied.as_ref() == Some(&version)).into();
            json["mapping"] = version.into();
            plans.push(json);
        }
        Ok(Value::Array(plans))
    }

    /// Makes rows by the mappings of a configuration. Whoever runs the adapters hears of all else that is
    /// new in it, and begins anew with it.
    async fn apply(&self, only: Option<&str>, text: &str) -> Result<Value, OperateError> {
        let (wanted, running) = (self.wanted(only, text)?, self.config.borrow().clone());
        let mappings = self.mappings(only, text)?;
        // What cannot begin must not end what runs.
        for (name, mapping) in &mappings {
            let has_secrets = || salted(mapping).map(drop).map_err(SinkError::from);
            let usable = sink::check(mapping).and_then(|()| has_secrets());
            usable.map_err(|error| OperateError::Unusable { adapter: name.clone(), error })?;
        }
        let mut applied = Vec::new();
        for (name, mapping) in mappings {
            let version = salted(&mapping)?.1;
            let options = match running.adapters.get(&name) {
                Some(running) => mapping.unlike(running),
                None => Vec::new(),
            };
            let mut json = json!({ "adapter": name, "mapping": version, "options": options });
            match self.adapters.get(&name) {
                Some(adapter) => {
                    adapter.outbox(move |outbox| outbox.apply_mapping(now_ms(), &version)).await?;
                    // One that begins anew with the mapping looks at everything then.
                    if running.adapters.get(&name) == Some(&mapping) {
                        adapter.again.notify_one();
                    }
                }
                None if self.stopped.contains_key(&name) => json["was_stopped"] = true.into(),
                None => json["is_new"] = true.into(),
            }
            applied.push(json);
        }
        let removed = running.adapters.keys().filter(|name| !wanted.adapters.contains_key(*name));
        applied.extend(removed.map(|name| json!({ "adapter": name, "is_removed": true })));
        self.config.send_if_modified(|config| {
            let is_new = *config != wanted;
            *config = wanted;
            is_new
        });
        Ok(Value::Array(applied))
    }

    fn adapter(&self, name: &str) -> Result<&Adapter, OperateError> {
        if let Some(why) = self.stopped.get(name) {
            return Err(OperateError::Stopped { adapter: name.to_owned(), why: why.clone() });
        }
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
        let (depth, unsent, endpoint, state, failing) = adapter
            .outbox(|outbox| {
                let (depth, unsent) = (outbox.depth()?, outbox.unsent(UNSENT_SHOWN)?);
                let failing = outbox.failing()?;
                Ok((depth, unsent, outbox.endpoint().clone(), state(outbox), failing))
            })
            .await?;
        let troubles: Vec<_> = failing.iter().take(TROUBLES_SHOWN).map(trouble).collect();
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
            "carries": self.carries(&adapter.mapping.collection)?,
            "link": self.link(),
            "state": state,
            "why": endpoint.disabled,
            "failing_since_ms": endpoint.failing_since_ms,
            "troubles": troubles,
            "waiting": depth.waiting,
            "oldest_ms": oldest,
            "is_late": oldest.is_some_and(|oldest| u128::from(oldest) > late_ms),
            "dead_letters": depth.dead,
            "discarded": depth.discarded,
            "documents": depth.documents,
            "taken": lag.taken,
            "transient": lag.transient,
            "trouble": lag.trouble,
            "permanent": lag.permanent,
            "lag_p50_ms": lag.quantile(0.5),
            "lag_p99_ms": lag.quantile(0.99),
            "reconciled": *adapter.reconciled.lock().unwrap_or_else(PoisonError::into_inner),
            "unsent": waiting,
        }))
    }

    /// A document's natural key, if it has one and the replica is at hand.
    pub(super) fn key(&self, document: &DocumentId) -> Option<String> {
        self.replica.as_ref()?.0.key_of(document).ok()?
    }
}

/// The states that [`state`] tells of.
pub(super) const STATES: [&str; 6] = ["up", "down", "paused", "disabled", "changed", STOPPED];

/// The state of an adapter that cannot begin.
pub(super) const STOPPED: &str = "stopped";

/// How it stands with a target.
pub(super) fn state(outbox: &Outbox) -> &'static str {
    match outbox.endpoint() {
        endpoint if endpoint.disabled.is_some() => "disabled",
        endpoint if endpoint.paused => "paused",
        _ if outbox.delivers_nothing() => "down",
        _ if !outbox.is_applied() => "changed",
        _ => "up",
    }
}

/// What keeps deliveries from being taken.
fn trouble(failing: &Failing) -> Value {
    let (reach, kind) = match &failing.reach {
        FailingReach::Target => ("target", None),
        FailingReach::Kind(kind) => ("kind", Some(kind)),
        FailingReach::Rows => ("rows", None),
    };
    json!({
        "what": failing.what,
        "reach": reach,
        "kind": kind,
        "since_ms": failing.since_ms,
        "rows": failing.rows,
        "next_ms": failing.next_ms,
    })
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

/// Causes that are told of each adapter.
const TROUBLES_SHOWN: usize = 20;
