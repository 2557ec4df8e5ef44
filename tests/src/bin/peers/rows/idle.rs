//! What a connection costs on which nothing happens.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::{Figure, Unit};
use crate::client::join;
use crate::servers::{Kind, Server};

pub(super) const FIGURES: [&str; 1] = ["memory per idle connection, of 1,000"];

const CONNECTIONS: usize = 1_000;
const QUIET: Duration = Duration::from_secs(3);
/// The others let somebody in who has not said which document it is about.
const OPEN: &str = "each has one empty document open, the same, as it knows no connection without";

pub(super) async fn connections(kind: Kind) -> Result<Vec<Figure>> {
    let server = Server::start(kind).await?;
    let before = server.memory()?;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = join(kind, server.url()).await?;
        // Who answers no pings is cut off.
        idle.push(tokio::spawn(async move { connection.receive().await.map(drop) }));
    }
    sleep(QUIET).await;
    let grown = server.memory()?.saturating_sub(before);
    let gone = idle.iter().filter(|connection| connection.is_finished()).count();
    idle.iter().for_each(tokio::task::JoinHandle::abort);
    let note = (gone > 0).then(|| format!("{gone} of {CONNECTIONS} did not stay idle"));
    let open = (kind == Kind::Hocuspocus).then(|| OPEN.to_owned());
    let each = grown as f64 / 1024.0 / CONNECTIONS as f64;
    Ok(vec![Figure::new(FIGURES[0], Unit::Kibibytes, each).noted(note).noted(open)])
}
