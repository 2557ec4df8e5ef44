//! How the rest of the server talks to the engine's thread.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::body::Bytes;
use rejoin_core::SpaceName;
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::compactor::Compactor;
use super::connection::Violation;
use super::database::DataFolder;
use super::driver::{Driver, OpenStore};
use super::file::Written;
use super::{Config, ServeError};
use crate::compaction::{Compacted, CompactionError};
use crate::relay::{Close, ConnectionId, Outgoing, UploadId};

/// What the engine is told.
#[derive(Debug)]
pub(super) enum Command {
    /// A connection was upgraded; what it is to write goes to `outbox`.
    Connected { id: ConnectionId, protocol: Protocol, remote: SocketAddr, outbox: Sender<Batch> },
    /// It can take a batch.
    Writable { id: ConnectionId },
    /// A binary message came. The permit counts its bytes until the turn is over.
    Message { id: ConnectionId, bytes: Bytes, permit: OwnedSemaphorePermit },
    /// It broke a rule of WebSockets or of ours about them.
    Violation { id: ConnectionId, violation: Violation },
    /// It is gone.
    Disconnected { id: ConnectionId },
    /// A document was folded, or not.
    Compacted(Result<Compacted, CompactionError>),
    /// A document was taken apart, or not.
    TakenApart(UploadId, Result<Vec<Vec<u8>>, CompactionError>),
    /// Say how things stand, if the disk still takes writes.
    Health { answer: oneshot::Sender<Health> },
    /// Say goodbye to everyone.
    Goodbye,
    /// End, whoever is left.
    Stop,
}

/// What a connection speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Protocol {
    Rejoin,
    /// About the documents of one space.
    AutomergeRepo(SpaceName),
}

/// Frames for a connection to write, and whether to close it then.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) frames: Outgoing,
    pub(super) close: Option<Close>,
}

/// How things stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Health {
    pub(super) sessions: usize,
}

/// How connections reach the engine.
#[derive(Debug, Clone)]
pub(super) struct EngineHandle {
    commands: Sender<Command>,
    /// Bytes of messages that may wait.
    room: Arc<Semaphore>,
    room_bytes: u32,
}

impl EngineHandle {
    /// Tells the engine something, as soon as it has room. It listens as long as the relay runs.
    pub(super) async fn tell(&self, command: Command) {
        let _ = self.commands.send(command).await;
    }

    /// Gives the engine a message, as soon as it has room for so many bytes.
    pub(super) async fn give(&self, id: ConnectionId, bytes: Bytes) {
        let wanted = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(self.room_bytes);
        if let Ok(permit) = Arc::clone(&self.room).acquire_many_owned(wanted).await {
            self.tell(Command::Message { id, bytes, permit }).await;
        }
    }

    /// How things stand; `None` if the engine does not answer or its store does not commit.
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
pub(super) struct Engine {
    handle: EngineHandle,
    thread: thread::JoinHandle<()>,
}

impl Engine {
    /// Opens the store in the configured folder and starts the thread.
    pub(super) async fn start(config: &Config) -> Result<Self, ServeError> {
        let written = Written::default();
        let mut data = DataFolder::new(config.data.clone(), config.cache_bytes, written.clone());
        let mut options = config.options.clone();
        if config.compaction_worker.is_none() {
            options.compaction = None;
        }
        Self::over(config, Box::new(move || data.open(options.clone())), written).await
    }

    /// Opens a store with `open`, now and whenever it failed, and starts the thread.
    pub(super) async fn over(
        config: &Config,
        mut open: OpenStore,
        written: Written,
    ) -> Result<Self, ServeError> {
        // May have to repair a database, which takes as long as it is large.
        let opening = spawn_blocking(move || (open(), open)).await;
        let (opened, open) =
            opening.map_err(|panic| ServeError::Thread(io::Error::other(panic)))?;
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let worker = config.compaction_worker.clone();
        let compactor = worker.map(|worker| Compactor::start(worker, commands.downgrade()));
        let compactor = compactor.transpose().map_err(ServeError::Thread)?;
        let driver = Driver::new(queue, open, opened?, compactor, config.batch_bytes, written);
        let thread = driver.spawn().map_err(ServeError::Thread)?;
        let room_bytes = u32::try_from(config.inbound_bytes_max).unwrap_or(u32::MAX);
        let room = Arc::new(Semaphore::new(room_bytes as usize));
        Ok(Self { handle: EngineHandle { commands, room, room_bytes }, thread })
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

/// How long the engine may take to say how things stand.
const HEALTH_LIMIT: Duration = Duration::from_secs(2);
