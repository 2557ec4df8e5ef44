//! `rejoin demo`: a day of two technicians, their front desk and a relay.
//!
//! Everything is real: each device has its own file, and the relay is a process of its own that is
//! killed in the middle of work. No scene waits for a fixed time; it goes on as soon as the event it
//! waits for has happened, and fails if that takes too long.

mod deliveries;
mod device;
mod dispatch;
mod jobs;
mod merges;
mod receiver;
mod relay_process;
mod scenes;
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::signal::ctrl_c;
use tokio::time::timeout;

use crate::output::Output;
use deliveries::Deliveries;
use dispatch::Dispatch;
use merges::Merge;
use scenes::{Company, Crash, Live, Verdict};
use stage::Stage;

/// The outcome of the demo.
#[derive(Debug, Serialize)]
struct Report {
    converged: bool,
    took_ms: u64,
    live: Vec<Live>,
    crash: Crash,
    merges: Vec<Merge>,
    dispatch: Dispatch,
    deliveries: Deliveries,
    #[serde(flatten)]
    verdict: Verdict,
}

pub(crate) async fn run(output: Output) -> Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("rejoin-demo-").tempdir();
    let folder = folder.context("there is no room for the demo in the temporary folder")?;
    let stage = Stage::new(output);
    let played = tokio::select! {
        played = timeout(DEMO_MAX, play(&stage, folder.path())) => played,
        interrupted = ctrl_c() => {
            interrupted?;
            bail!("interrupted");
        }
    };
    let Ok(report) = played else { bail!("the demo was not over after {DEMO_MAX:?}") };
    let report = report?;
    if output.is_json() {
        output.event(&report)?;
    }
    folder.close().context("the demo's temporary folder could not be removed")?;
    Ok(if report.converged { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn play(stage: &Stage, folder: &std::path::Path) -> Result<Report> {
    let mut company = Company::open(stage, folder).await?;
    company.morning(stage).await?;
    let live = company.live(stage).await?;
    company.dead_zone(stage).await?;
    let crash = company.crash(stage).await?;
    let merges = company.merges(stage).await?;
    let dispatch = company.dispatch(stage).await?;
    let deliveries = company.deliveries(stage, folder).await?;
    let verdict = company.verdict(stage).await?;
    company.close().await;
    let kept = merges.iter().all(|merge| merge.as_promised);
    let same = verdict.same_digest && verdict.same_content && verdict.same_reviews;
    let converged = same && kept && dispatch.is_as_promised() && deliveries.is_as_promised();
    let took = stage.elapsed();
    stage.close(converged, took);
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Ok(Report { converged, took_ms, live, crash, merges, dispatch, deliveries, verdict })
}

/// How long the demo may take. One that takes longer has failed.
const DEMO_MAX: Duration = Duration::from_secs(28);
