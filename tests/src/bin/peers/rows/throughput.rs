//! How many changes a second a server takes, and what processor time they cost it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use tokio::time::sleep;

use super::{Figure, Unit};
use crate::client::Writer;
use crate::history::{History, new_document};
use crate::servers::{Kind, Server};

pub(super) const ONE: [&str; 2] = ["changes/s, 1 writer", "CPU per 1,000 changes, 1 writer"];
pub(super) const TEN: [&str; 2] =
    ["changes/s, 10 writers, a document each", "CPU per 1,000 changes, 10 writers"];

const LONGEST: Duration = Duration::from_secs(10);
const WARM_UP: usize = 500;
const QUIET: Duration = Duration::from_secs(1);
/// Servers write to their disks, and tidy up, some seconds after they acknowledge.
const AFTERWARDS: Duration = Duration::from_secs(7);

pub(super) async fn one(kind: Kind) -> Result<Vec<Figure>> {
    writers(kind, 1, 20_000, ONE).await
}

pub(super) async fn ten(kind: Kind) -> Result<Vec<Figure>> {
    writers(kind, 10, 5_000, TEN).await
}

async fn writers(
    kind: Kind,
    writers: usize,
    changes: usize,
    [rate, cost]: [&'static str; 2],
) -> Result<Vec<Figure>> {
    let histories: Vec<_> = (0..writers).map(|_| History::typed(kind, changes)).collect();
    let server = Server::start(kind).await?;
    warm_up(&server).await?;
    let joined = histories
        .into_iter()
        .map(async |history| Writer::create(server.url(), &new_document(), &history).await);
    let joined = try_join_all(joined).await?;

    let before = server.processor()?;
    let started = Instant::now();
    let writing = joined.into_iter().map(|mut writer| {
        tokio::spawn(async move {
            let done = writer.until_or(changes, started + LONGEST).await?;
            // The first one made the document, before the clock started.
            anyhow::Ok((writer.acknowledged - 1, done, writer))
        })
    });
    let mut written = Vec::new();
    for writer in try_join_all(writing).await? {
        written.push(writer?);
    }
    sleep(AFTERWARDS).await;
    let used = server.processor()? - before;

    let acknowledged: usize = written.iter().map(|(acknowledged, ..)| acknowledged).sum();
    let done = written.iter().map(|(_, done, _)| *done).max().unwrap_or(started);
    ensure!(acknowledged > 0, "nothing was acknowledged within {} s", LONGEST.as_secs());
    let took = done - started;
    Ok(vec![
        Figure::new(rate, Unit::PerSecond, acknowledged as f64 / took.as_secs_f64()),
        Figure::milliseconds(cost, used.mul_f64(1e3 / acknowledged as f64)),
    ])
}

/// Lets a server do what it does at first only, such as compile.
pub(super) async fn warm_up(server: &Server) -> Result<()> {
    let history = History::typed(server.kind(), WARM_UP);
    let mut writer = Writer::create(server.url(), &new_document(), &history).await?;
    writer.until_or(WARM_UP, Instant::now() + LONGEST / 2).await?;
    sleep(QUIET).await;
    Ok(())
}
