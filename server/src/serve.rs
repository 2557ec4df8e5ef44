//! Serves a relay over WebSockets.
//!
//! One thread owns the engine and its store, and is the only one that ever waits for the disk. Each
//! connection is a task that moves bytes. They talk through bounded channels, and frames are
//! pulled: a connection says when it can take more, so a slow one costs the engine only its entry.

mod addresses;
mod admin;
mod backups;
mod command;
mod compactor;
mod config;
mod connection;
mod database;
mod driver;
mod engine;
mod fair;
mod file;
mod heard;
mod http;
mod link;
mod metrics;
mod monitor;
#[cfg(unix)]
mod operator;
mod rate;
mod room;
#[cfg(test)]
mod tests;
mod upgrade;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::field::display;

pub use config::{BackupPolicy, Config};
pub use database::STORE_FILE;

use crate::store::StoreError;
use engine::EngineThread;
use http::Shared;
use monitor::Monitor;

/// Serves replicas at `/sync`, peers of automerge-repo at `/automerge` and `/automerge/SPACE`, and
/// health at `/healthz` until `shutdown` resolves, then says goodbye
/// to every session and returns once the store is closed.
///
/// # Errors
/// The relay could not start: the error names the obstacle. Once it runs, a store that
/// cannot write is no error; it is reopened until it can.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    if !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback { address });
    }
    let monitor = match config.monitor {
        None => None,
        Some(address) if !address.ip().is_loopback() => {
            return Err(ServeError::NotLoopback { address });
        }
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            Some(bound.map_err(|source| ServeError::Monitor { address, source })?)
        }
    };
    let engine = EngineThread::start(&config).await?;
    run(config, engine, listener, monitor, shutdown).await
}

/// Serves with an engine that runs.
async fn run(
    config: Config,
    engine: EngineThread,
    listener: TcpListener,
    monitor: Option<TcpListener>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let address = listener.local_addr().map_err(ServeError::Listener)?;
    let (data, cache_bytes) = (config.data.display(), config.cache_bytes);
    tracing::info!(%address, %data, cache_bytes, "relay started");
    let (phase, phases) = watch::channel(Phase::Serving);
    let monitored = monitor.map(|listener| {
        let (engine, meters) = (engine.handle(), Arc::clone(&engine.meters));
        let (phases, file) = (phases.clone(), config.data.join(STORE_FILE));
        let address = listener.local_addr().map(display);
        tracing::info!(address = address.ok(), "metrics are told");
        tokio::spawn(monitor::serve(listener, Monitor { engine, meters, phases, file }))
    });
    let backed_up = config.backup.folder.clone().map(|folder| {
        let (meters, policy) = (Arc::clone(&engine.meters), config.backup.clone());
        tokio::spawn(backups::run(engine.handle(), meters, policy, folder))
    });
    #[cfg(unix)]
    let operated = match operator::bind(&config.data) {
        Ok(socket) => {
            Some(tokio::spawn(operator::serve(socket, engine.handle(), config.data.clone())))
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "no socket for `rejoin admin`; the relay serves without it");
            None
        }
    };
    let (shared, mut drained) = Shared::new(&config, engine.handle(), phases);
    tokio::select! {
        () = http::accept(listener, shared) => {}
        () = engine.died() => return Err(ServeError::Engine),
        () = shutdown => {}
    }
    phase.send_replace(Phase::Leaving);
    engine.say_goodbye().await;
    // Every connection holds a sender; the last one to end closes the channel.
    if timeout(config.drain_limit, drained.recv()).await.is_err() {
        tracing::warn!("sessions did not end in time and are cut");
    }
    phase.send_replace(Phase::Cut);
    monitored.into_iter().chain(backed_up).for_each(|task| task.abort());
    #[cfg(unix)]
    if let Some(operated) = operated {
        operated.abort();
        // The next process replaces one that is left behind.
        let _ = std::fs::remove_file(crate::admin::socket(&config.data));
    }
    // The store is locked until now, so no other relay has put its socket there.
    engine.stop().await;
    tracing::info!("relay stopped");
    Ok(())
}

/// The stage of the relay in stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// Sessions are told to go, and no request is answered.
    Leaving,
    /// The connections that are left are cut off.
    Cut,
}

/// The relay cannot start, or not go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The relay does not check yet who connects.
    #[error(
        "{address} can be reached from other machines, and the relay cannot yet tell who may do \
         what; listen on 127.0.0.1 or [::1]. Another machine comes in through a tunnel: with \
         `ssh -N -L 4455:127.0.0.1:{} HOST` on that one, its relay is ws://127.0.0.1:4455",
        address.port()
    )]
    NotLoopback {
        /// The address that was to be listened on.
        address: SocketAddr,
    },
    /// The listener does not tell its address.
    #[error("the listener has no address")]
    Listener(#[source] io::Error),
    /// The address of metrics cannot be listened on.
    #[error("cannot listen on {address} for metrics; choose another address with monitor.listen")]
    Monitor {
        /// The address.
        address: SocketAddr,
        /// The reason why not.
        source: io::Error,
    },
    /// The folder cannot be made, or not be written to.
    #[error("cannot write to {}; give the relay a folder of its own that it may write to", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The reason why not.
        source: io::Error,
    },
    /// Another process has the store open.
    #[error("{} is in use by {}; stop that one, or give this relay another folder", path.display(), process(*.pid))]
    Locked {
        /// The database.
        path: PathBuf,
        /// The process, if it said so.
        pid: Option<u32>,
    },
    /// The file is there and has no bytes.
    #[error(
        "{} is empty: was it cut short? Move it away to begin anew, or restore it from a backup",
        path.display()
    )]
    Empty {
        /// The database.
        path: PathBuf,
    },
    /// The file is no database, or not a sound one.
    #[error(
        "{} is damaged or no database of a relay; `rejoin doctor --salvage` takes out what can still \
         be read of a damaged one, or restore it from a backup",
        path.display()
    )]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// The message of the database.
        source: Box<redb::DatabaseError>,
    },
    /// The database cannot be opened for another reason.
    #[error("cannot open {}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// The reason why not.
        source: Box<redb::DatabaseError>,
    },
    /// The store in the database cannot be read.
    #[error("cannot open the store in {}", path.display())]
    Store {
        /// The database.
        path: PathBuf,
        /// The reason why not.
        source: StoreError,
    },
    /// The thread that does everything is gone.
    #[error(
        "the relay's engine panicked; nothing acknowledged is lost, start it again and report this"
    )]
    Engine,
    /// The system gives no more threads.
    #[error("cannot start the engine's thread; raise the limit of threads")]
    Thread(#[source] io::Error),
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
