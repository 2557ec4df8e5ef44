//! How long it takes from an edit until another client has it, at a rate everybody can keep.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use tokio::time::{sleep_until, timeout_at};

use super::throughput::warm_up;
use super::{Figure, quantile};
use crate::client::{Reader, Writer};
use crate::history::{History, new_document};
use crate::servers::{Kind, Server};

pub(super) const ONE: [&str; 2] =
    ["edit to reader, 50 edits/s, p50", "edit to reader, 50 edits/s, p99"];
pub(super) const HUNDRED: [&str; 2] =
    ["edit to reader, 100 docs x 10/s, p50", "edit to reader, 100 docs x 10/s, p99"];

const LASTS: Duration = Duration::from_secs(10);
/// So long after the last edit a reader waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn one(kind: Kind) -> Result<Vec<Figure>> {
    edits(kind, 1, 50, ONE).await
}

pub(super) async fn hundred(kind: Kind) -> Result<Vec<Figure>> {
    edits(kind, 100, 10, HUNDRED).await
}

async fn edits(
    kind: Kind,
    documents: u32,
    rate: u32,
    names: [&'static str; 2],
) -> Result<Vec<Figure>> {
    let edits = rate as usize * LASTS.as_secs() as usize;
    let server = Server::start(kind).await?;
    warm_up(&server).await?;
    let mut pairs = Vec::new();
    for _ in 0..documents {
        let history = History::typed(kind, 1 + edits);
        let document = new_document();
        let writer = Writer::create(server.url(), &document, &history).await?;
        pairs.push((writer, Reader::open(server.url(), &document, &history).await?));
    }
    let start = Instant::now() + Duration::from_millis(100);
    let every = Duration::from_secs(1) / rate;
    let running = (0..).zip(pairs).map(|(number, (writer, reader))| {
        let first = start + every * number / documents;
        let writing = tokio::spawn(write(writer, first, every, edits));
        let reading = tokio::spawn(read(reader, edits, first + LASTS + PATIENCE));
        async { anyhow::Ok((writing.await??, reading.await??)) }
    });
    let done = try_join_all(running).await?;

    let both = done.iter().flat_map(|(sent, seen)| sent.iter().zip(seen));
    let mut took: Vec<_> = both.map(|(sent, seen)| *seen - *sent).collect();
    let all = documents as usize * edits;
    ensure!(!took.is_empty(), "no reader saw any of {all} edits");
    let missing = all - took.len();
    let note = (missing > 0).then(|| format!("{missing} of {all} edits never came"));
    let [p50, p99] = names;
    Ok(vec![
        Figure::milliseconds(p50, quantile(&mut took, 0.5)).noted(note.clone()),
        Figure::milliseconds(p99, quantile(&mut took, 0.99)).noted(note),
    ])
}

/// When each edit was sent. They go out in time, whatever the server says.
async fn write(
    mut writer: Writer,
    first: Instant,
    every: Duration,
    edits: usize,
) -> Result<Vec<Instant>> {
    let mut sent = Vec::with_capacity(edits);
    let mut due = first;
    while sent.len() < edits {
        tokio::select! {
            () = sleep_until(due.into()) => {
                sent.push(Instant::now());
                writer.send_next().await?;
                due += every;
            }
            heard = writer.listen() => heard?,
        }
    }
    // A server may forget what somebody sent who is gone too soon.
    writer.until_or(1 + edits, due + PATIENCE).await?;
    Ok(sent)
}

/// When each edit was here.
async fn read(mut reader: Reader, edits: usize, by: Instant) -> Result<Vec<Instant>> {
    let mut seen = Vec::with_capacity(edits);
    while seen.len() < edits {
        let Ok(here) = timeout_at(by.into(), reader.read()).await else { break };
        let edits_here = here? - 1;
        seen.resize(edits_here, Instant::now());
    }
    Ok(seen)
}
