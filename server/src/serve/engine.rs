//! The handle by which the rest of the server talks to the engine's thread.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rejoin_core::limits::REPO_FRAME_BYTES_MAX;
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::command::{Command, Health};
use super::compactor::Compactor;
use super::database::DataFolder;
use super::doors::Entrance;
use super::driver::{Driver, OpenStore, Told};
use super::file::Written;
use super::metrics::{Look, Meters};
use super::room::{Account, Room};
use super::{Config, ServeError};
use crate::admin::{Answer, Ask};
use crate::store::StoreError;
use crate::store::backup::Moment;

/// The handle by which connections reach the engine.
#[derive(Debug, Clone)]
pub(super) struct EngineHandle {
    commands: Sender<Command>,
    /// Memory for messages.
    room: Room,
}

impl EngineHandle {
    /// Tells the engine something, as soon as it has room. It listens as long as the relay runs.
    pub(super) async fn tell(&self, command: Command) {
        let _ = self.commands.send(command).await;
    }

    /// An account of memory for the messages of a connection.
    pub(super) fn account(&self) -> Arc<Account> {
        self.room.account()
    }

    /// The store as it is committed now; `None` while there is none.
    pub(super) async fn moment(&self) -> Option<Result<Moment, StoreError>> {
        let (answer, moment) = oneshot::channel();
        self.tell(Command::Moment { answer }).await;
        moment.await.ok()
    }

    /// Asks what an operator wants to know or to be done.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Answer, String> {
        let (answer, answered) = oneshot::channel();
        self.tell(Command::Admin { ask, answer }).await;
        answered.await.unwrap_or_else(|_| Err("the store is not open; look at the log".to_owned()))
    }

    /// The figures of now; `None` if the engine does not answer.
    pub(super) async fn look(&self) -> Option<Look> {
        let (answer, look) = oneshot::channel();
        let asked = async {
            self.tell(Command::Look { answer }).await;
            look.await.ok()
        };
        timeout(HEALTH_LIMIT, asked).await.ok().flatten()
    }

    /// The present state; `None` if the engine does not answer or its store does not commit.
    pub(super) async fn health(&self) -> Option<Health> {
        let (answer, health) = oneshot::channel();
        let asked = async {
            self.tell(Command::Health { answer }).await;
            health.await.ok()
        };
        timeout(HEALTH_LIMIT, asked).await.ok().flatten()
    }
}

/// A running engine.
#[derive(Debug)]
pub(super) struct EngineThread {
    handle: EngineHandle,
    pub(super) meters: Arc<Meters>,
    thread: thread::JoinHandle<()>,
}

impl EngineThread {
    /// Opens the store in the configured folder and starts the thread.
    pub(super) async fn start(config: &Config, entrance: Entrance) -> Result<Self, ServeError> {
        let written = Written::default();
        let mut data = DataFolder::new(config, written.clone());
        let mut options = config.options.clone();
        if config.compaction_worker.is_none() {
            options.compaction = None;
        }
        Self::over(config, Box::new(move || data.open(options.clone())), written, entrance).await
    }

    /// Opens a store with `open`, now and whenever it failed, and starts the thread.
    pub(super) async fn over(
        config: &Config,
        mut open: OpenStore,
        written: Written,
        entrance: Entrance,
    ) -> Result<Self, ServeError> {
        // May have to repair a database, which takes as long as it is large.
        let opening = spawn_blocking(move || (open(), open)).await;
        let (opened, open) =
            opening.map_err(|panic| ServeError::Thread(io::Error::other(panic)))?;
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let worker = config.compaction_worker.clone();
        let compactor = worker.map(|worker| Compactor::start(worker, commands.downgrade()));
        let compactor = compactor.transpose().map_err(ServeError::Thread)?;
        let meters = Arc::new(Meters::new());
        let told = Told { written, meters: Arc::clone(&meters) };
        let batch_bytes = config.batch_bytes;
        let driver = Driver::new(queue, open, opened?, compactor, batch_bytes, told, entrance);
        let thread = driver.spawn().map_err(ServeError::Thread)?;
        let room = Room::new(config.inbound_bytes_max.max(REPO_FRAME_BYTES_MAX));
        Ok(Self { handle: EngineHandle { commands, room }, meters, thread })
    }

    pub(super) fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Resolves if the thread is gone without having been told to.
    pub(super) async fn died(&self) {
        self.handle.commands.closed().await;
    }

    /// Finishes the turn and ends every session.
    pub(super) async fn say_goodbye(&self) {
        self.handle.tell(Command::Goodbye).await;
    }

    /// Ends the thread and closes the store.
    pub(super) async fn stop(self) {
        self.handle.tell(Command::Stop).await;
        let joined = spawn_blocking(|| self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the engine's thread panicked");
        }
    }
}

/// Commands that may wait for the engine.
const COMMANDS_MAX: usize = 1024;

/// The time that the engine may take to tell its state.
const HEALTH_LIMIT: Duration = Duration::from_secs(2);
