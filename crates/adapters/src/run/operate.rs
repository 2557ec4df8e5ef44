//! What people ask of adapters, whether they run or not.

use std::collections::BTreeMap;
use std::sync::Arc;

use rejoin::schema::to_toml;
use rejoin::{DocumentId, Replica, Space};
use tokio::sync::watch;

use super::answer::{Answer, Applied, Feed, Foreseen, KnownDocuments, Outlook, Plan, Rewound};
use super::error::OperateError;
use super::link::{Heard, is_connected};
use super::reconcile::{self, Repair};
use super::{Adapter, Ask, Carried, origin, plan, version};
use crate::clock::now_ms;
use crate::config::{Config, parse};
use crate::delivery::Record;
use crate::mapping::{Known, Mapping};
use crate::outbox::Outbox;
use crate::secret::{SecretError, SecretRef};
use crate::sink::{self, Address, SinkError};

/// Tells how adapters stand, and does what people ask.
pub struct Operator {
    pub(super) adapters: BTreeMap<String, Adapter>,
    /// Those that cannot begin, and why.
    pub(super) stopped: BTreeMap<String, String>,
    pub(super) replica: Option<(Replica, Space)>,
    pub(super) heard: Heard,
    pub(super) config: watch::Sender<Config>,
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

    /// When the relay was heard of last, in milliseconds since 1970, and whether it is there now.
    pub(super) fn heard(&self) -> Option<(Option<u64>, bool)> {
        let status = self.replica.as_ref()?.0.status();
        Some((self.heard.last_ms(&status), is_connected(&status)))
    }

    /// Tells or does what is asked.
    ///
    /// # Errors
    /// There is no such adapter or dead letter, or its outbox cannot be used.
    pub async fn ask(&self, ask: &Ask) -> Result<Answer, OperateError> {
        Ok(match ask {
            Ask::Status { config } => Answer::Status(self.status_of_all(config.as_deref()).await?),
            Ask::Known => Answer::Known(self.known().await?),
            Ask::DeadLetters { adapter, meant } => {
                let adapters = self.one_or_all(adapter.as_deref())?;
                Answer::DeadLetters(self.dead_letters(adapters, *meant).await?)
            }
            Ask::Feeds { adapter } => Answer::Feeds(self.feeds(adapter.as_deref()).await?),
            Ask::Replay { adapter, letters } => {
                self.replay(self.adapter(adapter)?, letters).await?
            }
            Ask::Discard { adapter, letters } => {
                self.discard(self.adapter(adapter)?, letters).await?
            }
            Ask::Pause { adapter } => {
                let adapter = self.adapter(adapter)?;
                adapter.outbox(|outbox| outbox.pause()).await?;
                Answer::Paused(self.status(adapter).await?)
            }
            Ask::Resume { adapter } => {
                let adapter = self.adapter(adapter)?;
                adapter.outbox(|outbox| outbox.resume()).await?;
                adapter.due.notify_one();
                Answer::Resumed(self.status(adapter).await?)
            }
            Ask::Retry { adapter } => {
                let adapter = self.adapter(adapter)?;
                let retry = |outbox: &mut Outbox| {
                    outbox.retry();
                    Ok(())
                };
                adapter.outbox(retry).await?;
                adapter.due.notify_one();
                Answer::Retried(self.status(adapter).await?)
            }
            Ask::Backfill { adapter } => {
                let adapter = self.adapter(adapter)?;
                adapter.outbox(|outbox| outbox.backfill(now_ms())).await?;
                adapter.again.notify_one();
                Answer::Backfilled(self.status(adapter).await?)
            }
            Ask::Rewind { adapter, to_ms } => {
                Answer::Rewound(rewind(self.adapter(adapter)?, *to_ms).await?)
            }
            Ask::Plan { adapter, config } => {
                Answer::Plan(self.plan(adapter.as_deref(), config).await?)
            }
            Ask::Apply { adapter, config } => {
                Answer::Applied(self.apply(adapter.as_deref(), config).await?)
            }
            Ask::Reconcile { adapter, dry_run, delete_extra } => {
                let adapter = self.adapter(adapter)?;
                let repair = Repair { dry_run: *dry_run, delete_extra: *delete_extra };
                let carried = self.carried(&adapter.mapping)?;
                Answer::Reconciled(reconcile::reconcile(adapter, &carried, repair).await?)
            }
            Ask::Origin { adapter, name, key } => {
                let adapter = self.adapter(adapter)?;
                let carried = self.carried(&adapter.mapping).ok();
                let record = Record { name: name.clone(), key: key.clone() };
                Answer::Origin(Box::new(origin::origin(adapter, carried.as_ref(), record).await?))
            }
        })
    }

    async fn known(&self) -> Result<KnownDocuments, OperateError> {
        let (_, space) = self.replica.as_ref().ok_or(OperateError::NoReplica)?;
        let known = Known::of(space).await.map_err(OperateError::Replica)?;
        let schemas = space.schemas().await.map_err(OperateError::Replica)?;
        Ok(KnownDocuments { known, schemas: to_toml(&schemas) })
    }

    async fn feeds(&self, adapter: Option<&str>) -> Result<Vec<Feed>, OperateError> {
        let mut all = Vec::new();
        for adapter in self.one_or_all(adapter)? {
            let addresses = adapter.sink.addresses().await?.into_iter();
            all.extend(addresses.map(|Address { name, url, is_secret }| {
                let adapter = adapter.name.clone();
                Feed { adapter, name, url, is_secret }
            }));
        }
        Ok(all)
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

    async fn plan(&self, only: Option<&str>, text: &str) -> Result<Vec<Plan>, OperateError> {
        let mut plans = Vec::new();
        for (adapter, mapping) in self.mappings(only, text)? {
            let outlook = match self.adapters.get(&adapter) {
                Some(adapter) => {
                    Outlook::Foreseen(Box::new(self.foreseen(adapter, &mapping).await?))
                }
                None => {
                    let stopped = self.stopped.get(&adapter).cloned();
                    Outlook::NotBegun { is_new: stopped.is_none(), stopped }
                }
            };
            let carries = self.carries(&mapping.collection)?;
            let collection = mapping.collection.as_str().to_owned();
            plans.push(Plan { adapter, collection, carries, outlook });
        }
        Ok(plans)
    }

    /// What would become of an adapter's rows by a mapping.
    async fn foreseen(
        &self,
        adapter: &Adapter,
        mapping: &Mapping,
    ) -> Result<Foreseen, OperateError> {
        let ((salt, version), mapping) = (salted(mapping)?, Arc::new(mapping.clone()));
        let changes = plan::plan(adapter, &mapping, &salt, &self.carried(&mapping)?).await?;
        let applied = adapter.outbox(|outbox| Ok(outbox.endpoint().mapping.clone())).await?;
        let before = &adapter.mapping.collection;
        let is_another = *before != mapping.collection;
        Ok(Foreseen {
            is_applied: applied.as_ref().is_none_or(|applied| *applied == version),
            mapping: version,
            collection_before: is_another.then(|| before.as_str().to_owned()),
            changes,
        })
    }

    /// Makes rows by the mappings of a configuration. Whoever runs the adapters hears of all else that is
    /// new in it, and begins anew with it.
    async fn apply(&self, only: Option<&str>, text: &str) -> Result<Vec<Applied>, OperateError> {
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
            let (adapter, was_stopped) =
                (self.adapters.get(&name), self.stopped.contains_key(&name));
            if let Some(adapter) = adapter {
                let version = version.clone();
                adapter.outbox(move |outbox| outbox.apply_mapping(now_ms(), &version)).await?;
                // One that begins anew with the mapping looks at everything then.
                if running.adapters.get(&name) == Some(&mapping) {
                    adapter.again.notify_one();
                }
            }
            let is_new = adapter.is_none() && !was_stopped;
            let mapping = version;
            applied.push(Applied::Made { adapter: name, mapping, options, is_new, was_stopped });
        }
        let removed = running.adapters.keys().filter(|name| !wanted.adapters.contains_key(*name));
        let removed = removed.cloned();
        applied.extend(removed.map(|adapter| Applied::Removed { adapter, is_removed: true }));
        self.config.send_if_modified(|config| {
            let is_new = *config != wanted;
            *config = wanted;
            is_new
        });
        Ok(applied)
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

    /// A document's natural key, if it has one and the replica is at hand.
    pub(super) fn key(&self, document: &DocumentId) -> Option<String> {
        self.replica.as_ref()?.0.key_of(document).ok()?
    }
}

/// Enqueues anew what a target took since some time.
async fn rewind(adapter: &Adapter, to_ms: u64) -> Result<Rewound, OperateError> {
    let rewound = adapter.outbox(move |outbox| {
        let rows = outbox.taken_since(to_ms)?;
        rows.chunks(REPAIRED_TOGETHER)
            .try_fold(0, |sum, rows| Ok(sum + outbox.repair(now_ms(), rows)?))
    });
    let rows = rewound.await?;
    adapter.due.notify_one();
    Ok(Rewound { adapter: adapter.name.clone(), to_ms, rows })
}

/// A mapping's salt, and its version with that.
fn salted(mapping: &Mapping) -> Result<(String, String), SecretError> {
    let salt = mapping.salt.as_ref().map(SecretRef::resolve).transpose()?;
    let version = version(mapping, salt.as_deref());
    Ok((salt.unwrap_or_default(), version))
}

/// Rows enqueued anew in one commit.
const REPAIRED_TOGETHER: usize = 500;
