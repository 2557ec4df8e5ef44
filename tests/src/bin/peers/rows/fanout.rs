//! One writes, and two hundred read.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use tokio::time::timeout_at;

use super::throughput::warm_up;
use super::{Figure, Unit};
use crate::client::{Reader, Writer};
use crate::history::{History, new_document};
use crate::servers::{Kind, Server};

pub(super) const FIGURES: [&str; 1] = ["changes/s seen by all of 200 readers"];

const READERS: usize = 200;
const CHANGES: usize = 5_000;
const LONGEST: Duration = Duration::from_secs(20);

pub(super) async fn fan_out(kind: Kind) -> Result<Vec<Figure>> {
    let history = History::typed(kind, 1 + CHANGES);
    let server = Server::start(kind).await?;
    warm_up(&server).await?;
    let document = new_document();
    let mut writer = Writer::create(server.url(), &document, &history).await?;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(Reader::open(server.url(), &document, &history).await?);
    }

    let started = Instant::now();
    let by = started + LONGEST;
    let reading = readers.into_iter().map(|reader| tokio::spawn(read(reader, by)));
    let reading: Vec<_> = reading.collect();
    let written = tokio::spawn(async move {
        let result = writer.until_or(1 + CHANGES, by).await;
        // Kept open, so that what the server has still to say is read by nobody else's fault.
        result.map(|_| writer)
    });
    let mut seen = Vec::new();
    for reader in try_join_all(reading).await? {
        seen.push(reader?);
    }
    written.await??;
    let by_all = seen.iter().map(|(changes, _)| *changes).min().unwrap_or(0);
    let done = seen.iter().map(|(_, at)| *at).max().unwrap_or(by);
    ensure!(by_all > 0, "no change was seen by all readers within {} s", LONGEST.as_secs());
    let note = (by_all < CHANGES)
        .then(|| format!("{by_all} of {CHANGES} changes within {} s", LONGEST.as_secs()));
    let rate = by_all as f64 / (done - started).as_secs_f64();
    Ok(vec![Figure::new(FIGURES[0], Unit::PerSecond, rate).noted(note)])
}

/// How many changes came, and when the last of them did, or the time was up.
async fn read(mut reader: Reader, by: Instant) -> Result<(usize, Instant)> {
    let mut here = 1;
    while here <= CHANGES {
        match timeout_at(by.into(), reader.read()).await {
            Ok(read) => here = read?,
            Err(_) => return Ok((here - 1, by)),
        }
    }
    Ok((CHANGES, Instant::now()))
}
