//! A client of a relay: the least that automerge-repo's protocol wants of one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use automerge::sync::Message;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::material::{History, Received};
use crate::wire::{self, Frame};

/// How many changes a writer has on the way.
const WINDOW: usize = 64;

/// A server that says nothing for so long is asked again, as an Automerge client would do with its
/// next edit.
const NUDGE: Duration = Duration::from_millis(500);

const ANSWER: Duration = Duration::from_secs(10);

/// A connection after the handshake.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: WebSocketStream<TcpStream>,
    me: String,
    server: String,
}

impl Connection {
    pub(crate) async fn join(url: &str) -> Result<Self> {
        let joined = timeout(ANSWER, Self::shake_hands(url)).await;
        joined.context("the handshake has no answer")?.with_context(|| format!("no peer at {url}"))
    }

    async fn shake_hands(url: &str) -> Result<Self> {
        let address = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next());
        let stream = TcpStream::connect(address.context("no address")?).await?;
        stream.set_nodelay(true)?;
        // The paper comes in one message.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (socket, _) = client_async_with_config(url, stream, Some(config)).await?;
        let me = format!("peer-{:016x}", rand::random::<u64>());
        let mut joined = Self { socket, me, server: String::new() };
        joined.socket.send(wire::join(&joined.me).into()).await?;
        let bytes = joined.receive().await?;
        let frame = Frame::decode(&bytes)?;
        ensure!(frame.kind == "peer", "the server answers {:?} {}", frame.kind, frame.complaint);
        joined.server = frame.sender.to_owned();
        Ok(joined)
    }

    /// Makes a frame ready, to go with the next [`flush`](Self::flush).
    pub(crate) async fn feed(&mut self, kind: &str, document: &str, data: &[u8]) -> Result<()> {
        let frame = wire::about(kind, &self.me, &self.server, document, data);
        Ok(self.socket.feed(frame.into()).await?)
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        Ok(self.socket.flush().await?)
    }

    pub(crate) async fn send(&mut self, kind: &str, document: &str, data: &[u8]) -> Result<()> {
        self.feed(kind, document, data).await?;
        self.flush().await
    }

    /// The next frame. Pings are answered on the way.
    pub(crate) async fn receive(&mut self) -> Result<Bytes> {
        loop {
            match self.socket.next().await.context("the server closed the connection")?? {
                tungstenite::Message::Binary(bytes) => return Ok(bytes),
                tungstenite::Message::Close(_) => bail!("the server closed the connection"),
                _ => {}
            }
        }
    }
}

/// Writes a history into a document, a change a message.
#[derive(Debug)]
pub(crate) struct Writer {
    connection: Connection,
    document: String,
    history: Arc<History>,
    sent: usize,
    /// The server has said that it has so many.
    pub(crate) acknowledged: usize,
}

impl Writer {
    /// Makes the document with the first change of the history.
    pub(crate) async fn create(url: &str, document: &str, history: Arc<History>) -> Result<Self> {
        let connection = Connection::join(url).await?;
        let document = document.to_owned();
        let mut writer = Self { connection, document, history, sent: 0, acknowledged: 0 };
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
            while self.sent < self.history.len().min(self.acknowledged + WINDOW) {
                self.feed_next().await?;
            }
            self.connection.flush().await?;
            match timeout(NUDGE, self.connection.receive()).await {
                Ok(bytes) => self.take(&bytes?)?,
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
        self.connection.flush().await
    }

    async fn feed_next(&mut self) -> Result<()> {
        let change = self.history.changes[self.sent].clone();
        self.sent += 1;
        self.feed(vec![change]).await
    }

    async fn feed(&mut self, changes: Vec<Vec<u8>>) -> Result<()> {
        let (history, sent, acknowledged) = (&self.history, self.sent, self.acknowledged);
        let own = &history.hashes[acknowledged..sent];
        let (heads, shared) = (history.heads(sent), history.heads(acknowledged));
        let data = wire::message(heads, Vec::new(), shared, own, changes);
        self.connection.feed("sync", &self.document, &data).await
    }

    /// Sends what the server has not acknowledged once more.
    async fn nudge(&mut self) -> Result<()> {
        let changes = self.history.changes[self.acknowledged..self.sent].to_vec();
        self.feed(changes).await?;
        self.connection.flush().await
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let frame = Frame::decode(bytes)?;
        if frame.kind == "sync" && frame.document == self.document {
            let reached = self.history.reached(&frame.message()?.heads);
            self.acknowledged = self.acknowledged.max(reached);
        }
        Ok(())
    }

    /// Takes the next frame.
    pub(crate) async fn listen(&mut self) -> Result<()> {
        let bytes = self.connection.receive().await?;
        self.take(&bytes)
    }
}

/// Reads a document of which it knows the history.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: Connection,
    document: String,
    history: Arc<History>,
    received: Received,
    /// How much of it the server was told that we have.
    told: usize,
}

impl Reader {
    /// Asks for the document, and returns when it has the first of its changes.
    pub(crate) async fn open(url: &str, document: &str, history: Arc<History>) -> Result<Self> {
        let connection = Connection::join(url).await?;
        let (document, received) = (document.to_owned(), Received::default());
        let mut reader = Self { connection, document, history, received, told: 0 };
        let nothing = wire::message(Vec::new(), Vec::new(), Vec::new(), &[], Vec::new());
        reader.connection.send("request", &reader.document, &nothing).await?;
        let opened = timeout(ANSWER, async {
            while reader.read().await? == 0 {}
            Ok(reader)
        });
        opened.await.context("no answer to a request")?
    }

    /// Reads the next frame; returns how many changes are here.
    pub(crate) async fn read(&mut self) -> Result<usize> {
        let bytes = self.connection.receive().await?;
        let frame = Frame::decode(&bytes)?;
        if frame.kind == "sync" && frame.document == self.document {
            self.take(&frame.message()?).await?;
        }
        Ok(self.received.complete)
    }

    async fn take(&mut self, message: &Message) -> Result<()> {
        for chunks in message.changes.iter() {
            self.received.take(&self.history, &message.heads, chunks);
        }
        let here = self.received.complete;
        let heads = self.history.heads(here);
        // What Automerge would do: nothing more to say to a peer that knows our heads and has them.
        if here == self.told && message.heads == heads {
            return Ok(());
        }
        self.told = here;
        let need = match self.history.reached(&message.heads) > here {
            true => message.heads.clone(),
            false => Vec::new(),
        };
        let data = wire::message(heads.clone(), need, heads, &[], Vec::new());
        self.connection.send("sync", &self.document, &data).await
    }
}
