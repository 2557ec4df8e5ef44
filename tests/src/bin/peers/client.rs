//! Clients of a relay, which do the least that its protocol wants of them: one writes a history, and
//! one reads it. What they say, and how much of it is understood, is the matter of a [`Session`].

use std::fmt::Debug;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::{sleep_until, timeout};

use crate::history::History;
use crate::servers::Kind;
use crate::socket::{ANSWER, Socket};
use crate::{automerge_repo, hocuspocus};

/// How many changes a writer has on the way.
const WINDOW: usize = 64;

/// A server that says nothing for so long is asked again, if the language has words for that.
const NUDGE: Duration = Duration::from_millis(500);

/// What a client says of one document and its history, in the language of a server.
pub(crate) trait Session: Debug + Send {
    /// Asks for the document, and for what others write into it.
    fn ask(&self) -> Vec<u8>;

    /// Brings the next change, which has this number, to a server that has acknowledged so many.
    fn bring(&self, change: usize, acknowledged: usize) -> Vec<u8>;

    /// Brings once more what the server has not acknowledged. Nothing where nobody does this.
    fn insist(&self, changes: Range<usize>) -> Option<Vec<u8>>;

    /// How many changes the server has acknowledged, with the next frame for a writer.
    fn acknowledged(&mut self, frame: &[u8]) -> Result<usize>;

    /// How many changes are here with the next frame for a reader, and what it answers.
    fn read(&mut self, frame: &[u8]) -> Result<(usize, Option<Vec<u8>>)>;
}

/// A connection that has been let in and does nothing.
pub(crate) async fn join(kind: Kind, url: &str) -> Result<Socket> {
    match kind {
        Kind::Hocuspocus => hocuspocus::join(url, hocuspocus::NOTHING).await,
        _ => Ok(automerge_repo::Connection::join(url).await?.socket),
    }
}

async fn open(url: &str, document: &str, history: &History) -> Result<(Socket, Box<dyn Session>)> {
    Ok(match history {
        History::Automerge(changes) => {
            let (socket, session) = automerge_repo::open(url, document, changes.clone()).await?;
            (socket, Box::new(session))
        }
        History::Yjs(updates) => {
            let (socket, session) = hocuspocus::open(url, document, updates.clone()).await?;
            (socket, Box::new(session))
        }
    })
}

/// Writes a history into a document, a change a message.
#[derive(Debug)]
pub(crate) struct Writer {
    socket: Socket,
    session: Box<dyn Session>,
    changes: usize,
    sent: usize,
    /// The server has said that it has so many.
    pub(crate) acknowledged: usize,
}

impl Writer {
    /// Makes the document with the first change of the history.
    pub(crate) async fn create(url: &str, document: &str, history: &History) -> Result<Self> {
        let (socket, session) = open(url, document, history).await?;
        let changes = history.len();
        let mut writer = Self { socket, session, changes, sent: 0, acknowledged: 0 };
        writer.send_next().await?;
        let created = timeout(ANSWER, async {
            while writer.acknowledged == 0 {
                writer.listen().await?;
            }
            Ok(writer)
        });
        created.await.context("a new document is not acknowledged")?
    }

    /// Writes the history, [`WINDOW`] changes ahead of the server, until this many are acknowledged.
    async fn until(&mut self, acknowledged: usize) -> Result<()> {
        while self.acknowledged < acknowledged {
            while self.sent < self.changes.min(self.acknowledged + WINDOW) {
                self.feed_next().await?;
            }
            self.socket.flush().await?;
            match timeout(NUDGE, self.socket.receive()).await {
                Ok(frame) => self.take(&frame?)?,
                Err(_) => self.nudge().await?,
            }
        }
        Ok(())
    }

    /// Writes the history, [`WINDOW`] changes ahead of the server, until this many are acknowledged or
    /// the time is up. Returns when that was.
    pub(crate) async fn until_or(&mut self, acknowledged: usize, by: Instant) -> Result<Instant> {
        tokio::select! {
            done = self.until(acknowledged) => done.map(|()| Instant::now()),
            () = sleep_until(by.into()) => Ok(by),
        }
    }

    /// Sends the next change and does not wait.
    pub(crate) async fn send_next(&mut self) -> Result<()> {
        self.feed_next().await?;
        self.socket.flush().await
    }

    async fn feed_next(&mut self) -> Result<()> {
        let frame = self.session.bring(self.sent, self.acknowledged);
        self.sent += 1;
        self.socket.feed(frame).await
    }

    async fn nudge(&mut self) -> Result<()> {
        match self.session.insist(self.acknowledged..self.sent) {
            Some(frame) => self.socket.send(frame).await,
            None => Ok(()),
        }
    }

    fn take(&mut self, frame: &[u8]) -> Result<()> {
        self.acknowledged = self.acknowledged.max(self.session.acknowledged(frame)?);
        Ok(())
    }

    /// Takes the next frame.
    pub(crate) async fn listen(&mut self) -> Result<()> {
        let frame = self.socket.receive().await?;
        self.take(&frame)
    }
}

/// Reads a document of which it knows the history.
#[derive(Debug)]
pub(crate) struct Reader {
    socket: Socket,
    session: Box<dyn Session>,
}

impl Reader {
    /// Asks for the document, and returns when it has the first of its changes.
    pub(crate) async fn open(url: &str, document: &str, history: &History) -> Result<Self> {
        let mut reader = Self::ask(url, document, history).await?;
        let opened = timeout(ANSWER, async {
            while reader.read().await? == 0 {}
            Ok(reader)
        });
        opened.await.context("no answer to a request")?
    }

    /// Asks for the document.
    pub(crate) async fn ask(url: &str, document: &str, history: &History) -> Result<Self> {
        let (mut socket, session) = open(url, document, history).await?;
        socket.send(session.ask()).await?;
        Ok(Self { socket, session })
    }

    /// Reads the next frame; returns how many changes are here.
    pub(crate) async fn read(&mut self) -> Result<usize> {
        let frame = self.socket.receive().await?;
        let (here, answer) = self.session.read(&frame)?;
        if let Some(answer) = answer {
            self.socket.send(answer).await?;
        }
        Ok(here)
    }
}
