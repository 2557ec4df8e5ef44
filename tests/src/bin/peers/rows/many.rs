//! What a server holds in memory when many documents came.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use automerge::ChangeHash;
use tokio::time::{sleep, timeout_at};

use super::{Figure, Unit};
use crate::client::Connection;
use crate::material::{new_document, type_text};
use crate::servers::{Kind, Server};
use crate::wire::{self, Frame};

pub(super) const FIGURES: [&str; 2] =
    ["memory after 10,000 docs x 100 changes", "documents of 100 changes taken"];

const DOCUMENTS: usize = 10_000;
const CHANGES: usize = 100;
const LONGEST: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(3);
/// Documents on the way at a time. The JavaScript server cuts off whoever sends more than it works
/// off between two of its pings.
const TOGETHER: usize = 8;

/// What one document consists of, and its last change.
type Content = (Vec<Vec<u8>>, ChangeHash);

pub(super) async fn documents(kind: Kind) -> Result<Vec<Figure>> {
    static CONTENTS: OnceLock<Vec<Content>> = OnceLock::new();
    let contents = CONTENTS.get_or_init(|| (0..DOCUMENTS).map(|_| content()).collect());

    let server = Server::start(kind).await?;
    let empty = server.memory()?;
    let mut connection = Connection::join(server.url()).await?;
    let started = Instant::now();
    let taken = upload(&mut connection, contents, started + LONGEST).await?;
    let took = started.elapsed();
    // The client stays: these documents are open.
    let listening = async { while connection.receive().await.is_ok() {} };
    tokio::select! { () = listening => {}, () = sleep(QUIET) => {} }

    let grown = server.memory()?.saturating_sub(empty);
    let note = (taken < DOCUMENTS)
        .then(|| format!("{taken} of {DOCUMENTS} documents within {} s", LONGEST.as_secs()));
    let memory = grown as f64 / f64::from(1 << 20);
    let rate = taken as f64 / took.as_secs_f64();
    Ok(vec![
        Figure::new(FIGURES[0], Unit::Mebibytes, memory).noted(note),
        Figure::new(FIGURES[1], Unit::PerSecond, rate),
    ])
}

fn content() -> Content {
    let (changes, hashes): (Vec<_>, Vec<_>) = type_text(CHANGES).into_iter().unzip();
    (changes, hashes[CHANGES - 1])
}

/// Uploads documents, some at a time; returns how many were acknowledged in time.
async fn upload(connection: &mut Connection, contents: &[Content], by: Instant) -> Result<usize> {
    let mut waiting = contents.iter();
    let mut on_the_way = HashMap::new();
    let mut taken = 0;
    while taken < contents.len() {
        while on_the_way.len() < TOGETHER
            && let Some((changes, last)) = waiting.next()
        {
            let document = new_document();
            let (heads, nothing) = (vec![*last], Vec::new());
            let data = wire::message(heads, nothing.clone(), nothing, &[*last], changes.clone());
            connection.feed("sync", &document, &data).await?;
            on_the_way.insert(document, *last);
        }
        connection.flush().await?;
        let Ok(bytes) = timeout_at(by.into(), connection.receive()).await else { break };
        let bytes = bytes.with_context(|| format!("after {taken} documents"))?;
        let frame = Frame::decode(&bytes)?;
        if frame.kind == "sync"
            && let Some(last) = on_the_way.get(frame.document)
            && frame.message()?.heads.contains(last)
        {
            on_the_way.remove(frame.document);
            taken += 1;
        }
    }
    Ok(taken)
}
