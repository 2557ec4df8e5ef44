//! Serves a relay over WebSockets.
//!
//! One thread owns the engine and its store, and is the only one that ever waits for the disk. Each
//! connection is a task that moves bytes. They talk through bounded channels, and frames are
//! pulled: a connection says when it can take more, so a slow one costs the engine only its entry.

mod addresses;
mod admin;
mod backups;
mod callers;
mod command;
mod compactor;
mod config;
mod connection;
mod database;
mod doors;
mod driver;
mod engine;
mod fair;
mod file;
mod heard;
mod http;
mod jwks;
mod limits;
mod link;
mod metrics;
mod monitor;
#[cfg(unix)]
mod operator;
mod rate;
mod room;
#[cfg(test)]
mod tests;
mod ticket_office;
mod tickets;
mod tls;
mod upgrade;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rejoin_seal::SealError;
use rustls::ServerConfig;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::field::display;

pub use config::{BackupPolicy, Config};
pub use database::STORE_FILE;
pub use doors::{DoorsError, check as check_access};
pub use limits::Limits;
pub use tls::{TlsError, TlsFiles};

use crate::store::StoreError;
use doors::Entrance;
use engine::EngineThread;
use http::Shared;
use monitor::Monitor;
use ticket_office::TicketOffice;
use tickets::Tickets;

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
    check_exposure(&config, address)?;
    let stamps = config.tls.as_ref().map(tls::stamps);
    let tls = config.tls.as_ref().map(tls::read).transpose()?;
    let read = config.access.as_deref().map(doors::Read::of).transpose()?;
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
    let jwks = read.as_ref().and_then(|read| read.jwks(&config.data));
    let (unknown, asked) = mpsc::channel(1);
    let doors = read.as_ref().map(|read| read.doors(jwks.as_ref()));
    let entrance = Entrance { doors: doors.clone(), unknown: unknown.clone() };
    let engine = EngineThread::start(&config, entrance).await?;
    let mut followed = JoinSet::new();
    let mut office = TicketOffice::default();
    if let (Some(read), Some(doors)) = (read, doors) {
        let (told, doors) = watch::channel(doors);
        let tickets = Tickets::open(&config.data);
        let folder = |source| ServeError::Folder { path: config.data.clone(), source };
        office = TicketOffice::open(tickets.map_err(folder)?, doors, unknown);
        let (data, engine) = (config.data.clone(), engine.handle());
        followed.spawn(doors::follow(read, jwks, data, engine, told, asked));
    }
    let tls = match (tls, config.tls.clone(), stamps) {
        (Some(config), Some(files), Some(stamps)) => {
            let (fresh, config) = watch::channel(config);
            followed.spawn(tls::follow(files, stamps, fresh));
            Some(config)
        }
        _ => None,
    };
    // What is followed ends with the set.
    let listener = Listener { socket: listener, tls, office };
    run(config, engine, listener, monitor, shutdown).await
}

/// Where connections come in.
#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    /// `None` without TLS.
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    office: TicketOffice,
}

/// Says what would keep a relay from serving with this configuration at an address, without a look at
/// its folder.
///
/// # Errors
/// It would not serve.
pub fn check(config: &Config, address: SocketAddr) -> Result<(), ServeError> {
    check_exposure(config, address)?;
    config.tls.as_ref().map(tls::read).transpose()?;
    config.access.as_deref().map(doors::Read::of).transpose()?;
    Ok(())
}

/// Whether the relay may be reached from where it listens: from other machines only if it can tell
/// who they are and nobody on the way can read or change what it says, or somebody asked for less by
/// its name.
fn check_exposure(config: &Config, address: SocketAddr) -> Result<(), ServeError> {
    if config.open {
        tracing::warn!(
            %address,
            "OPEN: whoever reaches this relay may read and write everything, as --open wants"
        );
        return Ok(());
    }
    if !config.behind_proxy.is_empty() && config.hosts.is_empty() {
        return Err(ServeError::NoHosts);
    }
    let is_behind_proxy = !config.behind_proxy.is_empty();
    let is_private = config.tls.is_some() || is_behind_proxy;
    // Whoever reaches the proxy reaches the relay, wherever that listens.
    let is_for_itself = address.ip().is_loopback() && !is_behind_proxy;
    match is_for_itself || (is_private && config.access.is_some()) {
        true => Ok(()),
        false => Err(ServeError::Exposed { address }),
    }
}

/// Serves with an engine that runs.
async fn run(
    config: Config,
    engine: EngineThread,
    listener: Listener,
    monitor: Option<TcpListener>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let address = listener.socket.local_addr().map_err(ServeError::Listener)?;
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
    let limits = config.limits.clone().unwrap_or_else(|| watch::channel(Limits::of(&config)).1);
    let limited = tokio::spawn(limits::follow(limits.clone(), engine.handle()));
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
    let (shared, mut drained) =
        Shared::new(&config, engine.handle(), limits, (listener.tls, listener.office), phases);
    tokio::select! {
        () = http::accept(listener.socket, shared) => {}
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
    monitored.into_iter().chain(backed_up).chain([limited]).for_each(|task| task.abort());
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
    /// Other machines would reach a relay that cannot tell who they are, or that anybody on the way
    /// could listen to.
    #[error(
        "{address} can be reached from other machines. Say who may do what with --access \
         access.toml, and give the relay a certificate with --tls-certificate and --tls-key, or \
         name the network of the proxy that has one with --behind-proxy. Without these, listen on \
         127.0.0.1 or [::1]; --open lets everybody do everything"
    )]
    Exposed {
        /// The address that was to be listened on.
        address: SocketAddr,
    },
    /// Metrics would be told to other machines.
    #[error("{address} can be reached from other machines; tell metrics on 127.0.0.1 or [::1]")]
    NotLoopback {
        /// The address that was to be listened on.
        address: SocketAddr,
    },
    /// A proxy passes on names that the relay does not know as its own.
    #[error(
        "behind a proxy the relay has to know its names, so that no page of another site gets in; \
         name them with --host"
    )]
    NoHosts,
    /// The rules of access are not right.
    #[error("nobody would get in as it is meant")]
    Access(#[from] DoorsError),
    /// The certificate is not right.
    #[error("the relay cannot speak TLS")]
    Tls(#[from] TlsError),
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
    /// The store is encrypted, and no key or another one was given.
    #[error("cannot open {}", path.display())]
    Key {
        /// The database.
        path: PathBuf,
        /// The reason why not.
        source: SealError,
    },
    /// A key was given, and the store is not encrypted.
    #[error(
        "{} is not encrypted, and a key was given; `rejoin seal encrypt` copies it into a file that \
         is, which can take its place",
        path.display()
    )]
    NotSealed {
        /// The database.
        path: PathBuf,
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
