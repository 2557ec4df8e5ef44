//! `rejoin relay`, and the worker that it starts to fold documents.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use rejoin::{CollectionName, SpaceName};
use rejoin_relay::{
    Config, WORKER_ADDRESS_BYTES_MAX, WorkerProcess, compact_worker_process, serve,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::error;

use crate::adapters::{self, Opened};
use crate::output::Output;
use crate::place::DEFAULT_SPACE;
use crate::signals::stopped;
use crate::units::bytes;

#[derive(Debug, Args)]
#[command(after_help = "\
With --adapters, `rejoin adapters --config FILE ...` looks after them as it does after those of \
`rejoin adapters run`. What goes wrong with them is logged and tried again; the relay goes on.")]
pub(crate) struct RelayArguments {
    /// Where to listen, on a loopback address; port 0 takes a free one, and the first line printed
    /// says which
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4455")]
    pub(crate) listen: SocketAddr,
    /// The folder it stores everything in, made if there is none
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The space of automerge-repo's clients that connect to /automerge; /automerge/NAME is for
    /// others
    #[arg(long, value_name = "NAME", default_value = DEFAULT_SPACE)]
    pub(crate) automerge_space: SpaceName,
    /// The collection of documents that automerge-repo's clients make
    #[arg(long, value_name = "NAME", default_value = "documents")]
    pub(crate) automerge_collection: CollectionName,
    /// Drop ephemeral messages of automerge-repo's clients that name another author than themselves
    #[arg(long)]
    pub(crate) check_ephemeral_sender: bool,
    /// Memory for pages of its database; what it leaves, the system keeps pages in by itself
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) cache: Option<usize>,
    /// Run the adapters of this file too; they connect to this relay, whatever the file says
    #[arg(long, value_name = "FILE")]
    pub(crate) adapters: Option<PathBuf>,
}

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
    // The relay polls this for the first time when it serves.
    let shutdown = async move {
        announce(address, output);
        match adapters {
            Some(adapters) => stopped_with(adapters, address, output).await,
            None => stopped().await,
        }
    };
    Ok(serve(config, listener, shutdown).await?)
}

/// Runs adapters until a signal asks the process to end, and waits until they have ended: the relay
/// takes their last edits before it ends itself.
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

/// The child process that folds documents, which is this very program.
fn worker() -> Result<WorkerProcess> {
    let program = std::env::current_exe().context("this program does not know its own file")?;
    let command = vec![program.into_os_string(), "compact-worker".into()];
    Ok(WorkerProcess { command, time_limit: WORKER_TIME_MAX })
}

/// The work of that child process, before anything else runs in it.
pub(crate) fn compact() -> Result<()> {
    Ok(compact_worker_process(WORKER_ADDRESS_BYTES_MAX)?)
}

/// Prints the line that a script can wait for, and one more for people. The relay goes on if nobody
/// reads them.
fn announce(address: SocketAddr, output: Output) {
    let url = format!("ws://{address}/sync");
    let automerge = format!("ws://{address}/automerge");
    let json = json!({ "event": "listening", "url": url, "automerge": automerge });
    let text = || format!("listening on {url}\nfor automerge-repo on {automerge}");
    let _ = output.result(&json, text);
}

/// How long folding one document may take. A document that takes longer is served from its changes.
const WORKER_TIME_MAX: Duration = Duration::from_secs(60);
