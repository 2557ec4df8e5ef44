//! One reader, from its first event to its last.
//!
//! Nothing is put by for a reader but one page of what it has not taken yet: the next is read from
//! the file when there is room. So a slow reader costs no more than a fast one, and one that takes
//! nothing for long is disconnected and goes on where it was.

use std::convert::Infallible;
use std::fmt::Write;
use std::time::Duration;

use axum::body::Bytes;
use serde_json::Value;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::log;
use crate::delivery::{Action, Delivery, Record};
use crate::sink::kept::{File, KeptError};

/// A reader, and where it is told from.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) file: File,
    /// Where the log ends, once something came.
    pub(super) end: watch::Receiver<u64>,
    pub(super) to: mpsc::Sender<Bytes>,
    /// How long it may take nothing.
    pub(super) timeout: Duration,
}

/// Why a reader is told nothing more.
#[derive(Debug, Error)]
pub(super) enum Ended {
    #[error("it left")]
    Left,
    #[error("it takes nothing any more")]
    Stuck,
    #[error("it is so slow that what it has not read is not kept any more")]
    Behind,
    #[error(transparent)]
    Kept(#[from] KeptError),
}

impl Reader {
    /// Tells for as long as the reader listens. `last` is the event it had last, if it had any.
    pub(super) async fn tell(mut self, last: Option<u64>) -> Ended {
        match self.tell_from(last).await {
            Err(ended) => ended,
        }
    }

    async fn tell_from(&mut self, last: Option<u64>) -> Result<Infallible, Ended> {
        let mut at = self.begin(last).await?;
        loop {
            // Before it is read: what comes meanwhile is seen.
            self.end.mark_unchanged();
            let told = self.go_on(at).await?;
            if told == at {
                self.wait().await?;
            }
            at = told;
        }
    }

    /// Tells a page of what follows a position. Returns how far that is.
    async fn go_on(&self, mut at: u64) -> Result<u64, Ended> {
        let page = self.file.read(move |txn| log::after(txn, at)).await?;
        let mut text = String::new();
        for (position, delivery) in page.ok_or(Ended::Behind)? {
            add(&mut text, name(&delivery), Some(position), &delivery.to_json());
            at = position;
        }
        self.send(text).await?;
        Ok(at)
    }

    /// Everything the reader must have before it is told what changes. Returns where that is.
    async fn begin(&self, last: Option<u64>) -> Result<u64, Ended> {
        if let Some(last) = last {
            if self.file.read(move |txn| log::after(txn, last)).await?.is_some() {
                // The reader hears at once that it is connected.
                self.send(BEAT.to_owned()).await?;
                return Ok(last);
            }
            let mut text = String::new();
            add(&mut text, "reset", None, &Value::Object(serde_json::Map::new()));
            self.send(text).await?;
        }
        let mut at = self.file.read(log::end).await?;
        let mut after: Option<Record> = None;
        loop {
            let rows = self.file.read(move |txn| log::rows(txn, after.as_ref(), at)).await?;
            let mut text = String::new();
            // Without ids: who is cut off here begins anew.
            for delivery in &rows.deliveries {
                add(&mut text, name(delivery), None, &delivery.to_json());
            }
            self.send(text).await?;
            after = rows.last;
            if after.is_none() {
                break;
            }
        }
        // What changed meanwhile was left out.
        let end = self.file.read(log::end).await?;
        while at < end {
            at = self.go_on(at).await?;
        }
        let mut text = String::new();
        add(&mut text, "ready", Some(at), &Value::Object(serde_json::Map::new()));
        self.send(text).await?;
        Ok(at)
    }

    /// Waits until there may be more to tell, and shows meanwhile that the connection lives.
    async fn wait(&mut self) -> Result<(), Ended> {
        loop {
            tokio::select! {
                changed = self.end.changed() => return changed.map_err(|_| Ended::Left),
                () = self.to.closed() => return Err(Ended::Left),
                () = sleep(BEAT_EVERY) => self.send(BEAT.to_owned()).await?,
            }
        }
    }

    async fn send(&self, text: String) -> Result<(), Ended> {
        if text.is_empty() {
            return Ok(());
        }
        match timeout(self.timeout, self.to.send(text.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ended::Left),
            Err(_) => Err(Ended::Stuck),
        }
    }
}

fn name(delivery: &Delivery) -> &'static str {
    match delivery.action {
        Action::Put(_) => "put",
        Action::Mark { .. } => "mark",
        Action::Delete => "delete",
    }
}

/// Adds an event. JSON has no line breaks of its own.
fn add(text: &mut String, event: &str, id: Option<u64>, data: &Value) {
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    write!(text, "event: {event}\n{id}data: {data}\n\n").expect("a text can be written to");
}

/// Tells a reader, and whatever is between, that the connection lives.
const BEAT: &str = ":\n\n";

/// How often.
const BEAT_EVERY: Duration = Duration::from_secs(15);
