//! `rejoin relay`, and the worker it starts to fold documents.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use rejoin_relay::{
    Config, WORKER_ADDRESS_BYTES_MAX, WorkerProcess, compact_worker_process, serve,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::ctrl_c;
use tokio::sync::watch;
use tracing::{error, info};

use crate::adapters::{self, Opened};
use crate::arguments::RelayArguments;
use crate::output::Output;

pub(crate) async fn run(arguments: &RelayArguments, output: Output) -> Result<()> {
    let adapters = arguments.adapters.as_deref().map(|path| Opened::read(path, output));
    let adapters = adapters.transpose()?;
    let listener = TcpListener::bind(arguments.listen).await.with_context(|| {
        format!("cannot listen on {}; choose another address with --listen", arguments.listen)
    })?;
    let address = listener.local_addr()?;
    let mut config = Config::new(&arguments.data);
    config.compaction_worker = Some(worker()?);
    config.cache_bytes = arguments.cache.unwrap_or(config.cache_bytes);
    config.automerge_space = arguments.automerge_space.clone();
    config.options.automerge_collection = arguments.automerge_collection.clone();
    config.options.checks_ephemeral_sender = arguments.check_ephemeral_sender;
    // Polled for the first time when the relay serves.
    let shutdown = async move {
        announce(address, output);
        match adapters {
            Some(adapters) => stopped_with(adapters, address, output).await,
            None => stopped().await,
        }
    };
    Ok(serve(config, listener, shutdown).await?)
}

/// Runs adapters until somebody asks the process to end, and waits for them: what they sent before
/// they are asked to end, the relay is still there for.
async fn stopped_with(adapters: Opened, relay: SocketAddr, output: Output) {
    let (stop, stopping) = watch::channel(false);
    let relay = format!("ws://{relay}");
    let running =
        tokio::spawn(async move { adapters::beside(&adapters, &relay, stopping, output).await });
    stopped().await;
    stop.send_replace(true);
    if let Err(panic) = running.await {
        error!(%panic, "the adapters broke off");
    }
}

/// Folds documents in a child process of this very binary.
fn worker() -> Result<WorkerProcess> {
    let program = std::env::current_exe().context("this program does not know its own file")?;
    let command = vec![program.into_os_string(), "compact-worker".into()];
    Ok(WorkerProcess { command, time_limit: WORKER_TIME_MAX })
}

/// What the worker does, before anything else runs in its process.
pub(crate) fn compact() -> Result<()> {
    Ok(compact_worker_process(WORKER_ADDRESS_BYTES_MAX)?)
}

/// A line that a script can wait for, and one that people look for. Nobody needs to read them.
fn announce(address: SocketAddr, output: Output) {
    let url = format!("ws://{address}/sync");
    let automerge = format!("ws://{address}/automerge");
    let json = json!({ "event": "listening", "url": url, "automerge": automerge });
    let text = || format!("listening on {url}\nfor automerge-repo on {automerge}");
    let _ = output.result(&json, text);
}

/// Resolves when somebody asks the process to end.
pub(crate) async fn stopped() {
    tokio::select! {
        _ = ctrl_c() => info!("interrupted; saying goodbye to sessions"),
        () = terminated() => info!("asked to end; saying goodbye to sessions"),
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => drop(terminate.recv().await),
        // Then the signal ends the process, which loses nothing either.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}

/// A document that takes longer to fold is served from its changes.
const WORKER_TIME_MAX: Duration = Duration::from_secs(60);
