//! Runs adapters beside a replica: follows its documents, and hands deliveries over.
//!
//! Each adapter has an outbox file, a task that follows, a task that delivers and a task that serves
//! what was delivered. They share nothing with those of others, so a target that hangs holds up
//! nobody.

mod alarm;
pub mod answer;
mod ask;
mod carried;
mod deliver;
mod deliveries;
mod error;
mod follow;
mod lag;
mod letters;
mod link;
pub mod metrics;
mod operate;
mod origin;
mod plan;
mod reconcile;
mod reviews;
mod serve;
mod status;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redb::Database;
use rejoin::{Replica, Space};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{Instrument, Span, error, error_span};

pub use answer::Answer;
pub use ask::{Ask, Letters};
pub use error::{OperateError, RunError};
pub use operate::Operator;

use crate::config::Config;
use crate::disk::on_disk;
use crate::mapping::Mapping;
use crate::outbox::{Outbox, OutboxError, Policy, UnderWay};
use crate::sink::{self, Sink};
use carried::Carried;
use lag::Lag;
use link::Heard;

/// One adapter at work.
#[derive(Clone)]
pub(crate) struct Adapter {
    pub(crate) name: String,
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) salt: Arc<str>,
    outbox: Arc<Mutex<Slot>>,
    path: Arc<PathBuf>,
    sink: Arc<dyn Sink>,
    /// Something may be due.
    due: Arc<Notify>,
    /// Documents are to be projected again.
    again: Arc<Notify>,
    lag: Arc<Mutex<Lag>>,
    /// Held from reading documents to enqueuing them, or something older could come last.
    projecting: Arc<tokio::sync::Mutex<()>>,
    /// Whether rows of erased documents are still at the target, or what was in them here.
    erasing: Arc<AtomicBool>,
    /// What the last comparison with the target found.
    reconciled: Arc<Mutex<Option<answer::Report>>>,
}

/// An outbox, or what is under way while its file cannot be opened.
enum Slot {
    Open(Box<Outbox>),
    Closed(Box<UnderWay>, Policy),
}

/// The adapters of a configuration, with their outboxes open.
pub struct Adapters {
    adapters: BTreeMap<String, Adapter>,
    /// Those that cannot begin, and why.
    stopped: BTreeMap<String, RunError>,
    heard: Heard,
    /// What they were opened with, and what somebody applied since.
    config: watch::Sender<Config>,
}

impl std::fmt::Debug for Adapters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.adapters.keys()).finish()
    }
}

impl Adapters {
    /// Opens the outboxes of all adapters, in the data folder. Relative files are in `folder`, where
    /// the configuration is. An adapter that lacks a secret, or whose sink cannot be made, is stopped,
    /// and the others are opened.
    ///
    /// # Errors
    /// An outbox cannot be used, or another process has it open.
    pub fn open(config: &Config, folder: &Path) -> Result<Self, RunError> {
        let data = folder.join(&config.replica.data);
        std::fs::create_dir_all(&data)
            .map_err(|source| RunError::Folder { folder: data.display().to_string(), source })?;
        let (mut adapters, mut stopped) = (BTreeMap::new(), BTreeMap::new());
        for (name, mapping) in &config.adapters {
            match Adapter::open(name, mapping, &data, folder) {
                Ok(adapter) => _ = adapters.insert(name.clone(), adapter),
                Err(error @ (RunError::Secret { .. } | RunError::Sink { .. })) => {
                    let why = std::error::Error::source(&error).map(ToString::to_string);
                    error!(adapter = name, why, "this adapter is stopped, as it cannot begin");
                    stopped.insert(name.clone(), error);
                }
                Err(error) => return Err(error),
            }
        }
        let config = watch::Sender::new(config.clone());
        Ok(Self { adapters, stopped, heard: Heard::default(), config })
    }

    /// The same, if any of them can run.
    ///
    /// # Errors
    /// None can: why the first cannot.
    pub fn any(mut self) -> Result<Self, RunError> {
        match self.stopped.pop_first() {
            Some((_, error)) if self.adapters.is_empty() => Err(error),
            Some((name, error)) => {
                self.stopped.insert(name, error);
                Ok(self)
            }
            None => Ok(self),
        }
    }

    /// The names of those that can run.
    pub fn names(&self) -> Vec<String> {
        self.adapters.keys().cloned().collect()
    }

    /// Follows the documents of a space and delivers, until `stop` says so. What is under way then
    /// is waited for.
    ///
    /// # Errors
    /// A collection cannot be named so.
    pub async fn run(&self, space: &Space, stop: watch::Receiver<bool>) -> Result<(), RunError> {
        let mut tasks = JoinSet::new();
        for adapter in self.adapters.values() {
            let carried = Carried::new(space, &adapter.mapping)?;
            // Whatever is logged carries the name, also where only errors are wanted.
            let span = error_span!("adapter", name = %adapter.name, space = %space.name());
            let with = |work: Work| {
                let (adapter, carried, stop) = (adapter.clone(), carried.clone(), stop.clone());
                kept_up(stop.clone(), span.clone(), move || {
                    work(adapter.clone(), carried.clone(), stop.clone())
                })
            };
            tasks.spawn(with(|adapter, carried, stop| {
                reconcile::at_times(adapter, carried, stop).boxed()
            }));
            tasks.spawn(with(|adapter, carried, stop| {
                follow::follow(adapter, carried, stop).boxed()
            }));
            tasks.spawn(with(|adapter, _, stop| deliver::deliver(adapter, stop).boxed()));
            tasks.spawn(with(|adapter, _, stop| alarm::watch(adapter, stop).boxed()));
            tasks.spawn(with(|adapter, _, stop| serve::serve(adapter, stop).boxed()));
        }
        tasks.spawn(link::watch(space.replica().clone(), self.heard.clone(), stop));
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    /// The configuration that somebody applied and that is another than these run with: whoever runs
    /// them ends them then, and opens others with it.
    pub async fn applied(&self) -> Config {
        let mut config = self.config.subscribe();
        // The sender is here.
        _ = config.changed().await;
        config.borrow().clone()
    }

    /// What people look at and do while adapters run, or while they do not.
    pub fn operator(&self, replica: Option<(&Replica, &Space)>) -> Operator {
        let replica = replica.map(|(replica, space)| (replica.clone(), space.clone()));
        let stopped = self.stopped.iter().map(|(name, error)| {
            let why = std::error::Error::source(error)
                .map_or_else(|| error.to_string(), |why| why.to_string());
            (name.clone(), why)
        });
        let (adapters, heard) = (self.adapters.clone(), self.heard.clone());
        Operator::new(adapters, stopped.collect(), replica, heard, self.config.clone())
    }
}

/// A part of what an adapter does, until it is told to stop.
type Work = fn(Adapter, Carried, watch::Receiver<bool>) -> BoxFuture<'static, ()>;

/// Does something to its end, and begins again if it breaks off: an adapter that stands still and
/// says that it is well would be worse than one that is not there.
async fn kept_up(
    mut stop: watch::Receiver<bool>,
    span: Span,
    make: impl Fn() -> BoxFuture<'static, ()>,
) {
    // What is in the set ends with whoever waits for it.
    let mut one = JoinSet::new();
    loop {
        one.spawn(make().instrument(span.clone()));
        let Some(Err(panic)) = one.join_next().await else { return };
        span.in_scope(|| error!(%panic, "a part of the adapter broke off; it begins again"));
        tokio::select! {
            () = sleep(AGAIN) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

impl Adapter {
    fn open(name: &str, mapping: &Mapping, data: &Path, folder: &Path) -> Result<Self, RunError> {
        let adapter = || name.to_owned();
        let salt = mapping.salt.as_ref().map(|salt| salt.resolve()).transpose();
        let salt = salt.map_err(|source| RunError::Secret { adapter: adapter(), source })?;
        let path: PathBuf = data.join(format!("{name}.outbox.redb"));
        let database = create(&path)
            .map_err(|source| RunError::Open { adapter: adapter(), source: Box::new(source) })?;
        let policy = Policy {
            adapter: name.to_owned(),
            mapping: version(mapping, salt.as_deref()),
            kinds: mapping.records.iter().map(|record| record.name.clone()).collect(),
            mode: mapping.mode,
            deletes: mapping.deletes,
            retry: mapping.retry.clone(),
            on_poison: mapping.on_poison,
        };
        let outbox = Outbox::open(database, policy, rand::random())
            .map_err(|source| RunError::Outbox { adapter: adapter(), source })?;
        let sink = sink::check(mapping)
            .and_then(|()| sink::open(&mapping.sink, folder))
            .map_err(|source| RunError::Sink { adapter: adapter(), source })?;
        let erasing = outbox
            .is_erasing()
            .map_err(|source| RunError::Outbox { adapter: adapter(), source })?;
        Ok(Self {
            name: name.to_owned(),
            mapping: Arc::new(mapping.clone()),
            salt: salt.unwrap_or_default().into(),
            outbox: Arc::new(Mutex::new(Slot::Open(Box::new(outbox)))),
            path: Arc::new(path),
            sink,
            due: Arc::default(),
            again: Arc::default(),
            lag: Arc::default(),
            projecting: Arc::default(),
            erasing: Arc::new(AtomicBool::new(erasing)),
            reconciled: Arc::default(),
        })
    }

    /// Uses the outbox, on a thread that may wait for the disk.
    pub(crate) async fn outbox<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Outbox) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let (slot, path) = (Arc::clone(&self.outbox), Arc::clone(&self.path));
        on_disk(move || {
            // A panic leaves no transaction open, and what is in memory is what was committed.
            slot.lock().unwrap_or_else(PoisonError::into_inner).work(&path, work)
        })
        .await
    }
}

impl Slot {
    /// Uses the outbox. After a commit failed its file is opened again with the next use.
    fn work<T>(
        &mut self,
        path: &Path,
        work: impl FnOnce(&mut Outbox) -> Result<T, OutboxError>,
    ) -> Result<T, OutboxError> {
        if let Self::Closed(under_way, policy) = self {
            let unavailable =
                |error: redb::DatabaseError| OutboxError::Unavailable(Box::new(error.into()));
            let database = create(path).map_err(unavailable)?;
            let mut outbox = Outbox::open(database, policy.clone(), rand::random())?;
            outbox.take_over(std::mem::take(&mut **under_way));
            *self = Self::Open(Box::new(outbox));
        }
        let Self::Open(outbox) = self else { unreachable!("it was just opened") };
        let done = work(outbox);
        if let Err(OutboxError::Unavailable(_)) = done {
            let closed = Self::Closed(Box::default(), outbox.policy().clone());
            if let Self::Open(outbox) = std::mem::replace(self, closed)
                && let Self::Closed(under_way, _) = self
            {
                **under_way = outbox.close();
            }
        }
        done
    }
}

/// Opens an outbox's file. Left alone, redb would keep pages of ever more rows in memory.
fn create(path: &Path) -> Result<Database, redb::DatabaseError> {
    Database::builder().set_cache_size(CACHE_BYTES).create(path)
}

/// The version of what a mapping makes of documents: another salt makes other rows.
fn version(mapping: &Mapping, salt: Option<&str>) -> String {
    let Some(salt) = salt else { return mapping.version.clone() };
    let hash = Sha256::digest(format!("{} {salt}", mapping.version));
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How long to wait after something broke off.
const AGAIN: Duration = Duration::from_secs(5);

/// Memory for the pages of one outbox.
const CACHE_BYTES: usize = 16 << 20;
