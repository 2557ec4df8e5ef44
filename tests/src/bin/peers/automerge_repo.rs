//! The language of automerge-repo, which our relay speaks too.

pub(crate) mod changes;
pub(crate) mod replica;
pub(crate) mod wire;

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use automerge::sync::Message;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Bytes;

use self::changes::{Changes, Received};
use self::wire::Frame;
use crate::client::Session;
use crate::socket::{ANSWER, Socket};

/// A connection after the handshake.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    ends: Ends,
}

/// What both sides call themselves.
#[derive(Debug)]
struct Ends {
    me: String,
    server: String,
}

impl Connection {
    pub(crate) async fn join(url: &str) -> Result<Self> {
        let joined = timeout(ANSWER, Self::shake_hands(url)).await;
        joined.context("the handshake has no answer")?.with_context(|| format!("no peer at {url}"))
    }

    async fn shake_hands(url: &str) -> Result<Self> {
        let mut socket = Socket::connect(url).await?;
        let me = format!("peer-{:016x}", rand::random::<u64>());
        socket.send(wire::join(&me)).await?;
        let bytes = socket.receive().await?;
        let frame = Frame::decode(&bytes)?;
        ensure!(frame.kind == "peer", "the server answers {:?} {}", frame.kind, frame.complaint);
        let server = frame.sender.to_owned();
        Ok(Self { socket, ends: Ends { me, server } })
    }

    pub(crate) fn frame(&self, kind: &str, document: &str, data: &[u8]) -> Vec<u8> {
        self.ends.frame(kind, document, data)
    }

    pub(crate) async fn send(&mut self, kind: &str, document: &str, data: &[u8]) -> Result<()> {
        self.socket.send(self.frame(kind, document, data)).await
    }

    /// The next frame. Pings are answered on the way.
    pub(crate) async fn receive(&mut self) -> Result<Bytes> {
        self.socket.receive().await
    }
}

impl Ends {
    fn frame(&self, kind: &str, document: &str, data: &[u8]) -> Vec<u8> {
        wire::about(kind, &self.me, &self.server, document, data)
    }
}

/// Joins, to write this history into a document, or to read it.
pub(crate) async fn open(
    url: &str,
    document: &str,
    history: Arc<Changes>,
) -> Result<(Socket, Peer)> {
    let Connection { socket, ends } = Connection::join(url).await?;
    let (document, received) = (document.to_owned(), Received::default());
    Ok((socket, Peer { ends, document, history, received, told: 0 }))
}

/// What is said of one document.
#[derive(Debug)]
pub(crate) struct Peer {
    ends: Ends,
    document: String,
    history: Arc<Changes>,
    received: Received,
    /// How much of it the server was told that a reader has.
    told: usize,
}

impl Session for Peer {
    fn ask(&self) -> Vec<u8> {
        let nothing = wire::message(Vec::new(), Vec::new(), Vec::new(), &[], Vec::new());
        self.ends.frame("request", &self.document, &nothing)
    }

    fn bring(&self, change: usize, acknowledged: usize) -> Vec<u8> {
        let changes = vec![self.history.changes[change].clone()];
        self.sync(acknowledged..change + 1, changes)
    }

    /// As an Automerge client would do with its next edit.
    fn insist(&self, changes: Range<usize>) -> Option<Vec<u8>> {
        let again = self.history.changes[changes.clone()].to_vec();
        Some(self.sync(changes, again))
    }

    fn acknowledged(&mut self, frame: &[u8]) -> Result<usize> {
        let frame = Frame::decode(frame)?;
        Ok(match self.concerns(&frame) {
            true => self.history.reached(&frame.message()?.heads),
            false => 0,
        })
    }

    fn read(&mut self, frame: &[u8]) -> Result<(usize, Option<Vec<u8>>)> {
        let frame = Frame::decode(frame)?;
        let answer = match self.concerns(&frame) {
            true => self.answer(&frame.message()?),
            false => None,
        };
        Ok((self.received.complete, answer))
    }
}

impl Peer {
    fn concerns(&self, frame: &Frame<'_>) -> bool {
        frame.kind == "sync" && frame.document == self.document
    }

    /// Tells a server that has not acknowledged `own` that these are here, and brings some.
    fn sync(&self, own: Range<usize>, changes: Vec<Vec<u8>>) -> Vec<u8> {
        let history = &self.history;
        let (heads, shared) = (history.heads(own.end), history.heads(own.start));
        let data = wire::message(heads, Vec::new(), shared, &history.hashes[own], changes);
        self.ends.frame("sync", &self.document, &data)
    }

    fn answer(&mut self, message: &Message) -> Option<Vec<u8>> {
        for chunks in message.changes.iter() {
            self.received.take(&self.history, &message.heads, chunks);
        }
        let here = self.received.complete;
        let heads = self.history.heads(here);
        // What Automerge would do: nothing more to say to a peer that knows our heads and has them.
        if here == self.told && message.heads == heads {
            return None;
        }
        self.told = here;
        let need = match self.history.reached(&message.heads) > here {
            true => message.heads.clone(),
            false => Vec::new(),
        };
        let data = wire::message(heads.clone(), need, heads, &[], Vec::new());
        Some(self.ends.frame("sync", &self.document, &data))
    }
}
