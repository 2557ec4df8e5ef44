//! A paper of 260,000 changes, from a server that has just started.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use automerge::Automerge;
use rejoin_tests::traces;
use tokio::time::{sleep, timeout};

use super::{Figure, Unit};
use crate::automerge_repo::replica::Replica;
use crate::history::new_document;
use crate::servers::{Kind, Server};

pub(super) const FIGURES: [&str; 3] = [
    "upload of 260,000 changes, acknowledged",
    "first copy of them after a restart",
    "bytes of the first copy",
];

const LONGEST: Duration = Duration::from_secs(20);
/// Servers write to their disks some time after they acknowledge.
const QUIET: Duration = Duration::from_secs(3);

pub(super) async fn paper(kind: Kind) -> Result<Vec<Figure>> {
    let is_yjs = kind == Kind::Hocuspocus;
    ensure!(!is_yjs, "left out, the paper is a file of Automerge");
    let saved = traces::read("automerge-paper.am").context("the paper is not here")?;
    let paper = Automerge::load(&saved).context("the paper is damaged")?;
    let heads = paper.get_heads();
    let mut server = Server::start(kind).await?;
    let document = new_document();

    let mut author = Replica::join(server.url(), &document, paper).await?;
    let started = Instant::now();
    let uploaded = timeout(LONGEST, async {
        author.say().await?;
        while !author.is_known() {
            author.hear().await?;
        }
        anyhow::Ok(())
    });
    uploaded.await.context("the paper is not acknowledged in time")??;
    let uploaded = started.elapsed();
    sleep(QUIET).await;
    drop(author);
    server.terminate();
    server.restart().await?;

    let started = Instant::now();
    let mut fresh = Replica::join(server.url(), &document, Automerge::new()).await?;
    let arrived = fresh.fetch(&heads, LONGEST).await?;
    let kibibytes = fresh.bytes as f64 / 1024.0;
    Ok(vec![
        Figure::milliseconds(FIGURES[0], uploaded),
        Figure::milliseconds(FIGURES[1], arrived - started),
        Figure::new(FIGURES[2], Unit::Kibibytes, kibibytes),
    ])
}
