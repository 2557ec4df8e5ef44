//! `rejoin adapters run`, and adapters in the process of a relay.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rejoin::{Replica, Space};
use rejoin_adapters::config::Config;
use rejoin_adapters::control;
use rejoin_adapters::run::{Adapters, RunError, metrics};
use rejoin_adapters::secret::SecretRef;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::error;

use super::{Opened, REPLICA};
use crate::beside::Holding;
use crate::host::Host;
use crate::output::Output;
use crate::sign_in::SignInArguments;
use crate::signals::stopped;

pub(super) async fn run(opened: &Opened, output: Output) -> Result<()> {
    let (mut opened, mut before) = (opened.clone(), None);
    let mut began = Instant::now();
    let stopped = stopped();
    tokio::pin!(stopped);
    loop {
        let ready = match Ready::open_alone(&opened).await {
            Ok(ready) => ready,
            // A command may look into an outbox for a moment while nobody runs here.
            Err(fault) if before.is_some() && is_taken(&fault) && began.elapsed() < PATIENCE => {
                sleep(SOON).await;
                continue;
            }
            Err(fault) => match before.take() {
                None => return Err(fault),
                Some(config) => {
                    let error = format!("{fault:#}");
                    error!(error, "what was applied cannot begin; the adapters go on as before");
                    opened.config = config;
                    continue;
                }
            },
        };
        ready.announce(output)?;
        match ready.run(&mut stopped).await? {
            Ended::Stopped => return Ok(()),
            Ended::Applied(config) => {
                before = Some(std::mem::replace(&mut opened.config, config));
                began = Instant::now();
            }
        }
    }
}

/// Whether another process has an outbox open.
fn is_taken(fault: &anyhow::Error) -> bool {
    matches!(fault.downcast_ref(), Some(RunError::Open { .. }))
}

/// Runs adapters in the process of the relay they connect to, until `stop` says so. Whatever goes
/// wrong is tried again.
pub(crate) async fn beside(
    opened: &Opened,
    relay: &str,
    mut stop: watch::Receiver<bool>,
    output: Output,
) {
    let mut opened = opened.clone();
    while !*stop.borrow() {
        let mut stopped = stop.clone();
        let ran = async {
            let ready = Ready::open(&opened, relay).await?;
            // Nobody needs to read it.
            let _ = ready.announce(output);
            ready.run(async { _ = stopped.wait_for(|stop| *stop).await }).await
        };
        match ran.await {
            Err(fault) => error!(error = format!("{fault:#}"), "the adapters do not run for now"),
            Ok(Ended::Applied(config)) => {
                opened.config = config;
                continue;
            }
            Ok(Ended::Stopped) if *stop.borrow() => return,
            Ok(Ended::Stopped) => error!("the adapters ended by themselves"),
        }
        tokio::select! {
            () = sleep(AGAIN) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

/// Why adapters ended.
enum Ended {
    /// Somebody wanted it.
    Stopped,
    /// Somebody applied another configuration, which they are to begin with.
    Applied(Config),
}

/// Adapters that have everything they need.
struct Ready {
    adapters: Adapters,
    host: Arc<Host>,
    space: Space,
    data: PathBuf,
    metrics: Option<TcpListener>,
    names: Vec<String>,
    relay: String,
}

impl Ready {
    /// Opens them to run for themselves, with the relay that the file names.
    async fn open_alone(opened: &Opened) -> Result<Self> {
        let Some(relay) = &opened.config.replica.relay else {
            bail!(
                "the file names no relay; write relay = \"ws://HOST:PORT\" below [replica], or let \
                 a relay run the adapters with `rejoin relay --adapters FILE`"
            );
        };
        Self::open(opened, relay).await
    }

    /// Opens outboxes and replica, and connects to a relay.
    async fn open(opened: &Opened, relay: &str) -> Result<Self> {
        let (config, data) = (&opened.config.replica, opened.data());
        // First of all: who has the outboxes is the one who runs.
        let adapters = Adapters::open(&opened.config, &opened.folder)?.any()?;
        let metrics = match config.metrics {
            Some(address) => Some(TcpListener::bind(address).await.with_context(|| {
                format!(
                    "metrics cannot be served at {address}; end whoever listens there, or change \
                     `metrics` in the file"
                )
            })?),
            None => None,
        };
        let replica = Replica::open(data.join(REPLICA)).await?;
        let space = replica.space(config.space.as_str())?;
        let host = Arc::new(Host::new(replica));
        let token = config.token.as_ref();
        let sign_in = SignInArguments {
            token: token.filter(|token| token.is_fixed()).map(SecretRef::resolve).transpose()?,
            token_file: token.and_then(SecretRef::file),
            ca: config.ca.clone(),
        };
        host.connect(relay, &sign_in, &space).await?;
        let names = adapters.names();
        Ok(Self { adapters, host, space, data, metrics, names, relay: relay.to_owned() })
    }

    /// Lines that a script can wait for.
    fn announce(&self, output: Output) -> Result<()> {
        let address = self.metrics.as_ref().map(TcpListener::local_addr).transpose()?;
        let metrics = address.map(|address| format!("http://{address}/metrics"));
        let json = json!({
            "event": "running",
            "adapters": self.names,
            "relay": self.relay,
            "metrics": metrics,
        });
        output.result(&json, || {
            let running = format!("running {}; Ctrl-C ends it", self.names.join(", "));
            let lines = [Some(running), metrics.map(|url| format!("metrics at {url}"))];
            lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
        })
    }

    /// Runs until somebody wants it to end, and ends in order.
    async fn run(self, stopped: impl Future<Output = ()>) -> Result<Ended> {
        let operator = || self.adapters.operator(Some((&self.host.replica, &self.space)));
        let holding = Holding::listen(Arc::clone(&self.host), &self.data.join(REPLICA));
        let socket = control::socket(&self.data);
        let served = async {
            match self.metrics {
                Some(listener) => metrics::serve(operator(), listener).await,
                None => std::future::pending().await,
            }
        };
        let (stop, stopping) = watch::channel(false);
        let running = self.adapters.run(&self.space, stopping);
        tokio::pin!(running);
        let ended = tokio::select! {
            ended = &mut running => ended.map(|()| Ended::Stopped).map_err(Into::into),
            config = self.adapters.applied() => {
                stop.send_replace(true);
                running.await.map(|()| Ended::Applied(config)).map_err(Into::into)
            }
            answered = control::serve(operator(), &self.data) => {
                let named = || format!("{} cannot be used", socket.display());
                answered.map(|()| Ended::Stopped).with_context(named)
            }
            () = served => Ok(Ended::Stopped),
            () = stopped => {
                stop.send_replace(true);
                running.await.map(|()| Ended::Stopped).map_err(Into::into)
            }
        };
        if let Some(holding) = holding {
            holding.end().await;
        }
        self.host.replica.close().await;
        // Nobody answers there any more.
        let _ = std::fs::remove_file(socket);
        ended
    }
}

/// How long adapters that begin anew wait for outboxes that another process has open.
const PATIENCE: Duration = Duration::from_secs(10);

/// How soon they look again.
const SOON: Duration = Duration::from_millis(50);

/// How long to wait after adapters beside a relay failed.
const AGAIN: Duration = Duration::from_secs(5);
