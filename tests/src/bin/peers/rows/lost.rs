//! What is gone of what a server acknowledged, when it is killed at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use automerge::Automerge;
use rand::RngExt;
use tokio::time::timeout;

use super::{Figure, Unit};
use crate::client::Writer;
use crate::material::{History, new_document};
use crate::replica::Replica;
use crate::servers::{Kind, Server};

pub(super) const FIGURES: [&str; 1] = ["acknowledged edits lost over 20 kill -9"];

const KILLS: usize = 20;
const EDITS: usize = 3_000;
const LONGEST: Duration = Duration::from_secs(10);
const QUIET: Duration = Duration::from_secs(2);

pub(super) async fn after_kills(kind: Kind) -> Result<Vec<Figure>> {
    let mut server = Server::start(kind).await?;
    let (mut acknowledged, mut lost, mut bad) = (0, 0, 0);
    for _ in 0..KILLS {
        let history = Arc::new(History::typed(EDITS));
        let document = new_document();
        let mut writer = Writer::create(server.url(), &document, history.clone()).await?;
        let wanted = rand::rng().random_range(100..EDITS / 2);
        writer.until_or(wanted, Instant::now() + LONGEST).await?;
        server.kill9();
        ensure!(writer.acknowledged >= wanted, "{wanted} edits are not acknowledged in time");
        server.restart().await?;
        let here = kept(&server, &document, &history, writer.acknowledged).await?;
        let gone = writer.acknowledged.saturating_sub(here);
        acknowledged += writer.acknowledged;
        lost += gone;
        bad += usize::from(gone > 0);
    }
    let note = (lost > 0).then(|| format!("of {acknowledged} edits, after {bad} kills of {KILLS}"));
    Ok(vec![Figure::new(FIGURES[0], Unit::Edits, lost as f64).noted(note)])
}

/// How many edits a fresh client gets.
async fn kept(server: &Server, document: &str, history: &History, wanted: usize) -> Result<usize> {
    let mut fresh = Replica::join(server.url(), document, Automerge::new()).await?;
    fresh.say().await?;
    let mut patience = LONGEST;
    loop {
        let here = history.reached(&fresh.content.get_heads());
        if here >= wanted {
            return Ok(here);
        }
        let Ok(heard) = timeout(patience, fresh.hear()).await else { return Ok(here) };
        heard?;
        // Who lost some offers what there is, and then has no more to say. The JavaScript server may
        // say that it has no such document, and bring it a moment later.
        patience = QUIET;
    }
}
