//! `rejoin adapters run`.

use anyhow::{Context, Result};
use rejoin::Replica;
use rejoin_adapters::control;
use rejoin_adapters::run::Adapters;
use serde_json::json;
use tokio::sync::watch;

use super::Opened;
use crate::output::Output;
use crate::relay::stopped;

pub(super) async fn run(opened: &Opened, output: Output) -> Result<()> {
    let (config, data) = (&opened.config.replica, opened.data());
    // First of all: who has the outboxes is the one who runs.
    let adapters = Adapters::open(&opened.config, &opened.folder)?;
    let replica = Replica::open(data.join("replica.redb")).await?;
    let space = replica.space(config.space.as_str())?;
    replica.connect(&config.relay, &[&space]).await?;
    let operator = adapters.operator(Some((&replica, &space)));
    let (stop, stopping) = watch::channel(false);
    let names: Vec<_> = opened.config.adapters.keys().cloned().collect();
    let json = json!({ "event": "running", "adapters": names, "relay": config.relay });
    output.result(&json, || format!("running {}; Ctrl-C ends it", names.join(", ")))?;
    let running = adapters.run(&space, stopping);
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => ended?,
        served = control::serve(operator, &data) => {
            served.with_context(|| format!("{} cannot be used", control::socket(&data).display()))?;
        }
        () = stopped() => {
            stop.send_replace(true);
            running.await?;
        }
    }
    replica.close().await;
    // Nobody answers there any more.
    let _ = std::fs::remove_file(control::socket(&data));
    Ok(())
}
