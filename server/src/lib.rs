//! The relay, at which replicas meet. It stores changes, forwards them, and runs no document.
//!
//! Read it in this order:
//!
//! - [`store`]: the durable state, in one redb database. Changes stay bytes; beside them stands the
//!   change graph, which is all that is needed to check and to send them.
//! - [`Relay`]: the engine without sockets, threads or a clock. It takes all messages that came,
//!   commits once, and only then lets sessions answer and forward.
//! - [`access`]: who may come in, and what each may do there.
//! - [`compact_worker`]: folds changes into snapshots, and takes uploaded documents apart, in a
//!   process of its own: the only place where bytes from outside meet Automerge.
//! - [`serve()`]: one thread around the engine, and a task for each WebSocket.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use rejoin_relay::{Config, serve};
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:4455").await?;
//! let stop = async { tokio::time::sleep(std::time::Duration::from_secs(3600)).await };
//! serve(Config::new("/var/lib/rejoin"), listener, stop).await?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod access;
pub mod admin;
pub mod store;

mod relay;
#[cfg(feature = "mutants")]
pub use relay::Mutant;
pub use relay::{
    Breach, Close, CompactionPolicy, ConnectionId, Counters, Erased, Notice, Outgoing,
    RefusedCounters, Relay, RelayOptions, SignIn, Upload, UploadId, Visitor,
};
pub use store::{StoreError, TailPolicy};

mod compaction;
pub use compaction::{
    Compacted, CompactionError, WORKER_ADDRESS_BYTES_MAX, WorkerError, WorkerProcess,
    compact_in_process, compact_worker, compact_worker_process, take_apart_in_process,
};

mod serve;
pub use serve::{
    BackupPolicy, Config, DoorsError, Limits, STORE_FILE, ServeError, TlsError, TlsFiles, check,
    check_access, serve,
};
