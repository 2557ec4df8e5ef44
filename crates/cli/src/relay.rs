//! `rejoin relay`, and the worker that it starts to fold documents.

#[cfg(unix)]
mod reload;
mod settings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use ipnet::IpNet;
use rejoin::{CollectionName, SpaceName};
#[cfg(unix)]
use rejoin_relay::Limits;
use rejoin_relay::{
    TlsFiles, WORKER_ADDRESS_BYTES_MAX, WorkerProcess, check, compact_worker_process, serve,
};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::error;

use crate::adapters::{self, Opened};
use crate::output::Output;
use crate::place::KeyArguments;
use crate::signals::stopped;
use crate::units::{bytes, network};
use settings::Settings;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Options go before the file. `rejoin relay --defaults` prints a file with every setting and what it is \
for.

SIGHUP has the file read again: limits count from then on, and the log names other settings that \
wait for the next start.

With --adapters, `rejoin adapters --config FILE ...` looks after them as it does after those of \
`rejoin adapters run`. What goes wrong with them is logged and tried again; the relay goes on.")]
pub(crate) struct RelayArguments {
    /// Read settings from this file, usually relay.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Say whether the settings are right, and what is in effect, and end
    #[arg(long)]
    pub(crate) check: bool,
    /// Print a file with every setting, its default and what it is for, and end
    #[arg(long, exclusive = true)]
    pub(crate) defaults: bool,
    /// Where to listen; an address that other machines reach takes --access and a certificate. Port 0
    /// takes a free one, and the first line printed says which [default: 127.0.0.1:4455]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// The folder it stores everything in, made if there is none
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The rules of who may come in, and what each role may read and write
    #[arg(long, value_name = "FILE")]
    pub(crate) access: Option<PathBuf>,
    /// The certificate by which the relay speaks TLS, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// A name of the relay, which then answers by its names only; may be given several times
    #[arg(long = "host", value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
    /// The host of a site whose pages may connect; may be given several times
    #[arg(long = "origin", value_name = "HOST")]
    pub(crate) origins: Vec<String>,
    /// The network of a proxy that ends TLS before the relay: nobody else is served
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    pub(crate) behind_proxy: Vec<IpNet>,
    /// Let everybody who reaches the relay do everything
    #[arg(long, conflicts_with = "access")]
    pub(crate) open: bool,
    /// Where to tell metrics, health and readiness over HTTP, on a loopback address
    #[arg(long, value_name = "ADDR")]
    pub(crate) monitor: Option<SocketAddr>,
    /// The space of automerge-repo's clients that connect to /automerge; /automerge/NAME is for
    /// others [default: main]
    #[arg(long, value_name = "NAME")]
    pub(crate) automerge_space: Option<SpaceName>,
    /// The collection of documents that automerge-repo's clients make [default: documents]
    #[arg(long, value_name = "NAME")]
    pub(crate) automerge_collection: Option<CollectionName>,
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

pub(crate) async fn run(
    key: &KeyArguments,
    arguments: &RelayArguments,
    output: Output,
) -> Result<()> {
    if arguments.defaults {
        let file = settings::defaults();
        return output.result(&json!({ "relay.toml": file }), || file.trim_end().to_owned());
    }
    let mut settings = in_effect(arguments)?;
    // An option goes before the file.
    settings.config.store_key = key.read()?.or(settings.store_key()?);
    if arguments.check {
        return tell(&mut settings, output);
    }
    let adapters = arguments.adapters.as_deref().map(|path| Opened::read(path, output));
    let adapters = adapters.transpose()?;
    let listener = TcpListener::bind(settings.listen).await.with_context(|| {
        format!("cannot listen on {}; choose another address with --listen", settings.listen)
    })?;
    let address = listener.local_addr()?;
    #[cfg(unix)]
    if arguments.config.is_some() {
        let (changed, limits) = watch::channel(Limits::of(&settings.config));
        settings.config.limits = Some(limits);
        tokio::spawn(reload::follow(arguments.clone(), in_effect(arguments)?, changed));
    }
    let mut config = settings.config;
    config.data = folder(settings.data)?;
    config.compaction_worker = Some(worker()?);
    let (stopped, is_tls) = (stopped(), config.tls.is_some());
    // A certificate is for a name, and not for an address.
    let own_url = match (is_tls, config.hosts.first()) {
        (true, Some(host)) => format!("wss://{host}:{}", address.port()),
        (true, None) => format!("wss://localhost:{}", address.port()),
        (false, _) if address.ip().is_unspecified() => format!("ws://127.0.0.1:{}", address.port()),
        (false, _) => format!("ws://{address}"),
    };
    // The relay polls this for the first time when it serves.
    let shutdown = async move {
        announce(address, is_tls, output);
        match adapters {
            Some(adapters) => stopped_with(adapters, own_url, stopped, output).await,
            None => stopped.await,
        }
    };
    Ok(serve(config, listener, shutdown).await?)
}

/// The settings of the file, and of the options, which go before it.
fn in_effect(arguments: &RelayArguments) -> Result<Settings> {
    let mut settings = match &arguments.config {
        Some(path) => read(path)?,
        None => Settings::new(),
    };
    let RelayArguments { listen, data, monitor, cache, .. } = arguments;
    settings.listen = listen.unwrap_or(settings.listen);
    settings.data = data.clone().or(settings.data);
    settings.certificate = arguments.tls_certificate.clone().or(settings.certificate);
    settings.key = arguments.tls_key.clone().or(settings.key);
    let config = &mut settings.config;
    config.tls = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => Some(TlsFiles::new(certificate, key)),
        (None, None) => None,
        (Some(_), None) => bail!("tls.certificate needs tls.key, its private key"),
        (None, Some(_)) => bail!("tls.key needs tls.certificate, the certificate it belongs to"),
    };
    config.access = arguments.access.clone().or_else(|| config.access.take());
    config.hosts.extend(arguments.hosts.iter().cloned());
    config.origins.extend(arguments.origins.iter().cloned());
    config.behind_proxy.extend(&arguments.behind_proxy);
    config.open = arguments.open;
    config.monitor = monitor.or(config.monitor);
    config.cache_bytes = cache.unwrap_or(config.cache_bytes);
    if let Some(space) = &arguments.automerge_space {
        config.automerge_space = space.clone();
    }
    if let Some(collection) = &arguments.automerge_collection {
        config.options.automerge_collection = collection.clone();
    }
    config.options.checks_ephemeral_sender |= arguments.check_ephemeral_sender;
    Ok(settings)
}

fn read(path: &Path) -> Result<Settings> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    settings::read(&text).with_context(|| format!("{} is not right", path.display()))
}

fn folder(data: Option<PathBuf>) -> Result<PathBuf> {
    data.context("name the relay's folder with --data DIR, or `data` in its file")
}

/// Says what is in effect.
fn tell(settings: &mut Settings, output: Output) -> Result<()> {
    folder(settings.data.clone())?;
    if let Some(address) = settings.config.monitor.filter(|address| !address.ip().is_loopback()) {
        bail!(
            "monitor.listen: {address} can be reached from other machines; write a loopback address"
        );
    }
    check(&settings.config, settings.listen)?;
    if settings.config.monitor == Some(settings.listen) && settings.listen.port() != 0 {
        bail!("listen and monitor.listen are the same address; metrics need one of their own");
    }
    let backup = &settings.config.backup;
    if backup.folder.is_some() && backup.full_every < backup.every {
        bail!("backup.full_every is shorter than backup.every, which lies between two backups");
    }
    let values = settings.values();
    let json: Map<String, Value> = values
        .iter()
        .map(|(path, value)| Ok((path.clone(), serde_json::to_value(value)?)))
        .collect::<Result<_>>()?;
    output.result(&json!({ "settings": json }), || {
        let lines = values.iter().map(|(path, value)| format!("{path} = {value}"));
        format!("nothing is wrong; in effect:\n{}", lines.collect::<Vec<_>>().join("\n"))
    })
}

/// Runs adapters until a signal asks the process to end, and waits until they have ended: the relay
/// takes their last edits before it ends itself.
async fn stopped_with(
    adapters: Opened,
    relay: String,
    stopped: impl Future<Output = ()>,
    output: Output,
) {
    let (stop, stopping) = watch::channel(false);
    let running =
        tokio::spawn(async move { adapters::beside(&adapters, &relay, stopping, output).await });
    stopped.await;
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
fn announce(address: SocketAddr, is_tls: bool, output: Output) {
    let scheme = if is_tls { "wss" } else { "ws" };
    let url = format!("{scheme}://{address}/sync");
    let automerge = format!("{scheme}://{address}/automerge");
    let json = json!({ "event": "listening", "url": url, "automerge": automerge });
    let text = || format!("listening on {url}\nfor automerge-repo on {automerge}");
    let _ = output.result(&json, text);
}

/// How long folding one document may take. A document that takes longer is served from its changes.
const WORKER_TIME_MAX: Duration = Duration::from_secs(60);
