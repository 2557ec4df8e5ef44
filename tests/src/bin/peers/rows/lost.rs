//! What is gone of what a server acknowledged, when it is killed at once.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use automerge::Automerge;
use rand::RngExt;
use tokio::time::timeout;

use super::{Figure, Unit};
use crate::automerge_repo::replica::Replica;
use crate::client::{Reader, Writer};
use crate::history::{History, new_document};
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
        let history = History::typed(kind, EDITS);
        let document = new_document();
        let mut writer = Writer::create(server.url(), &document, &history).await?;
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
    match history {
        History::Automerge(changes) => {
            let mut fresh = Replica::join(server.url(), document, Automerge::new()).await?;
            fresh.say().await?;
            let hear = async || {
                fresh.hear().await?;
                Ok(changes.reached(&fresh.content.get_heads()))
            };
            patiently(wanted, hear).await
        }
        History::Yjs(_) => {
            let mut fresh = Reader::ask(server.url(), document, history).await?;
            patiently(wanted, async || fresh.read().await).await
        }
    }
}

/// How many edits came until nothing more does, or there are as many as wanted.
async fn patiently(wanted: usize, mut hear: impl AsyncFnMut() -> Result<usize>) -> Result<usize> {
    let mut here = 0;
    let mut patience = LONGEST;
    while here < wanted {
        let Ok(heard) = timeout(patience, hear()).await else { break };
        here = heard?;
        // Who lost some offers what there is, and then has no more to say. The JavaScript server may
        // say that it has no such document, and bring it a moment later.
        patience = QUIET;
    }
    Ok(here)
}
