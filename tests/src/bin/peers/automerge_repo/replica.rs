//! A client that is all of Automerge: it applies what it gets, and answers as Automerge does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use automerge::sync::{State, SyncDoc};
use automerge::{Automerge, ChangeHash};
use tokio::time::timeout;

use super::Connection;
use super::wire::Frame;

#[derive(Debug)]
pub(crate) struct Replica {
    connection: Connection,
    document: String,
    pub(crate) content: Automerge,
    state: State,
    /// Bytes of the frames that came.
    pub(crate) bytes: usize,
}

impl Replica {
    pub(crate) async fn join(url: &str, document: &str, content: Automerge) -> Result<Self> {
        let connection = Connection::join(url).await?;
        let (document, state) = (document.to_owned(), State::new());
        Ok(Self { connection, document, content, state, bytes: 0 })
    }

    /// Says what Automerge has to say, if anything.
    pub(crate) async fn say(&mut self) -> Result<()> {
        let Some(message) = self.content.generate_sync_message(&mut self.state) else {
            return Ok(());
        };
        let kind = if self.content.get_heads().is_empty() { "request" } else { "sync" };
        self.connection.send(kind, &self.document, &message.encode()).await
    }

    /// Takes the next frame and answers it; returns when it arrived.
    pub(crate) async fn hear(&mut self) -> Result<Instant> {
        let bytes = self.connection.receive().await?;
        let arrived = Instant::now();
        self.bytes += bytes.len();
        let frame = Frame::decode(&bytes)?;
        if frame.kind == "sync" && frame.document == self.document {
            let message = frame.message()?;
            self.content.receive_sync_message(&mut self.state, message)?;
            self.say().await?;
        }
        Ok(arrived)
    }

    /// Whether the server has said that it has everything we have.
    pub(crate) fn is_known(&self) -> bool {
        self.state.their_heads.as_ref() == Some(&self.content.get_heads())
    }

    /// Asks for the document until it has these heads; returns when they arrived.
    pub(crate) async fn fetch(
        &mut self,
        heads: &[ChangeHash],
        within: Duration,
    ) -> Result<Instant> {
        let fetched = timeout(within, async {
            self.say().await?;
            loop {
                let arrived = self.hear().await?;
                if self.content.get_heads() == heads {
                    return Ok(arrived);
                }
            }
        });
        fetched.await.context("the document does not come")?
    }
}
