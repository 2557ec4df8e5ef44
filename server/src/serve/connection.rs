//! One connection: moves messages between a socket and the engine.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rejoin_core::wire::{ByeCode, UPDATE, old_bye};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WebSocketError;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tracing::Instrument;

use super::Phase;
use super::command::{Batch, Command, Deed, Protocol, Violation};
use super::engine::EngineHandle;
use super::heard::Heard;
use super::rate::Rate;
use super::room::Account;
use crate::access::Principal;
use crate::relay::{Close, ConnectionId};

/// A WebSocket of ours.
pub(super) type WebSocket = WebSocketStream<Heard<TokioIo<Upgraded>>>;

/// The parts that all connections have in common.
#[derive(Debug, Clone)]
pub(super) struct Pump {
    pub(super) engine: EngineHandle,
    pub(super) write_limit: Duration,
    pub(super) ping_interval: Duration,
    /// Messages and bytes a second of one connection.
    pub(super) pace: (Option<u64>, Option<u64>),
    pub(super) phases: watch::Receiver<Phase>,
}

impl Pump {
    /// Serves a connection until it ends.
    pub(super) async fn run(
        self,
        id: ConnectionId,
        (protocol, principal): (Protocol, Option<Principal>),
        remote: SocketAddr,
        socket: WebSocket,
    ) {
        let span = tracing::info_span!("connection", conn = id.0, %remote);
        self.pump(id, (protocol, principal), remote, socket).instrument(span).await;
    }

    async fn pump(
        &self,
        id: ConnectionId,
        (protocol, principal): (Protocol, Option<Principal>),
        remote: SocketAddr,
        socket: WebSocket,
    ) {
        tracing::debug!(?protocol, "connected");
        let (frames, inbox) = mpsc::channel(1);
        let (heard, account) = (socket.get_ref().flag(), socket.get_ref().account());
        let given = Arc::clone(&account);
        let connected =
            Command::Connected { id, protocol, principal, remote, frames, account: given };
        self.engine.tell(connected).await;
        let (mut sink, mut stream) = socket.split();
        let mut phases = self.phases.clone();
        let write = async {
            let end = self.write(id, &mut sink, inbox, &heard, &account).await;
            linger(end).await;
            end
        };
        let end = tokio::select! {
            () = self.read(id, &account, &mut stream) => "closed by the other side",
            () = account.gives_way() => "gave way to others",
            end = write => end,
            _ = phases.wait_for(|phase| *phase == Phase::Cut) => "cut",
        };
        tracing::debug!(end, "disconnected");
        self.engine.tell(Command::Did { id, deed: Deed::Disconnected }).await;
    }

    /// Gives the engine the messages that come, as fast as it takes them. Returns when the replica
    /// has gone.
    async fn read(
        &self,
        id: ConnectionId,
        account: &Arc<Account>,
        stream: &mut SplitStream<WebSocket>,
    ) {
        let mut rate = Rate::new(self.pace.0, self.pace.1);
        while let Some(message) = stream.next().await {
            let violation = match message {
                Ok(Message::Binary(bytes)) => {
                    let wait = rate.take(bytes.len());
                    let at = std::time::Instant::now();
                    let deed = Deed::Message { bytes, charge: account.charge(), at };
                    self.engine.tell(Command::Did { id, deed }).await;
                    if !wait.is_zero() {
                        sleep(wait).await;
                    }
                    continue;
                }
                Ok(Message::Ping(said) | Message::Pong(said)) => {
                    account.pass_over(said.len() + CONTROL_HEADER_BYTES);
                    continue;
                }
                Ok(Message::Frame(_)) => continue,
                Ok(Message::Close(_)) => return,
                Ok(Message::Text(_)) => Violation::Text,
                Err(error) if is_gone(&error) => return,
                Err(error) => Violation::WebSocket(Box::new(error)),
            };
            self.engine.tell(Command::Did { id, deed: Deed::Violation(violation) }).await;
            // No more is read; the engine gives the reason when it closes.
            pending::<()>().await;
        }
    }

    /// Writes the frames that the engine gives, and pings. Returns the reason why it stopped.
    async fn write(
        &self,
        id: ConnectionId,
        sink: &mut SplitSink<WebSocket, Message>,
        mut inbox: mpsc::Receiver<Batch>,
        heard: &AtomicBool,
        account: &Account,
    ) -> &'static str {
        let mut silent = 0;
        let mut ping_at = self.next_ping();
        loop {
            tokio::select! {
                batch = inbox.recv() => {
                    let Some(batch) = batch else { return "given up by the engine" };
                    let is_last = batch.close.is_some();
                    match timeout(self.limit_of(&batch), write_batch(sink, batch)).await {
                        Err(_) => return "too slow",
                        Ok(Err(_)) => return "not writable",
                        Ok(Ok(())) if is_last => return SAID_GOODBYE,
                        Ok(Ok(())) => self.engine.tell(Command::Writable { id }).await,
                    }
                }
                () = sleep_until(ping_at) => {
                    // A connection that is not read from cannot be heard.
                    let is_heard = heard.swap(false, Ordering::Relaxed) || account.has_to_wait();
                    silent = if is_heard { 0 } else { silent + 1 };
                    if silent >= SILENT_PINGS_MAX {
                        return "silent";
                    }
                    let ping = sink.send(Message::Ping(Default::default()));
                    if !matches!(timeout(self.write_limit, ping).await, Ok(Ok(()))) {
                        return "not writable";
                    }
                    ping_at = self.next_ping();
                }
            }
        }
    }

    fn next_ping(&self) -> Instant {
        Instant::now() + self.ping_interval.mul_f64(rand::random_range(0.8..1.2))
    }

    fn limit_of(&self, batch: &Batch) -> Duration {
        let bytes: usize = batch.frames.iter().map(Vec::len).sum();
        self.write_limit + Duration::from_secs((bytes / WRITE_BYTES_PER_SECOND_MIN) as u64)
    }
}

async fn write_batch(
    sink: &mut SplitSink<WebSocket, Message>,
    batch: Batch,
) -> Result<(), WebSocketError> {
    for frame in batch.frames {
        feed_in_fragments(sink, frame.into(), &batch.written).await?;
    }
    if let Some(close) = batch.close {
        sink.feed(Message::Close(Some(close_frame(&close)))).await?;
    }
    sink.flush().await
}

/// Writes one message in fragments. The write buffer grows to the length written at once and never
/// shrinks: that would be a quarter of a megabyte for each connection that ever was sent a
/// snapshot.
async fn feed_in_fragments(
    sink: &mut SplitSink<WebSocket, Message>,
    mut message: Bytes,
    written: &AtomicUsize,
) -> Result<(), WebSocketError> {
    let mut kind = Data::Binary;
    let size = FRAGMENT_BYTES.max(message.len() / FRAGMENTS_MAX);
    loop {
        let fragment = message.split_to(message.len().min(size));
        let (is_last, bytes) = (message.is_empty(), fragment.len());
        let frame = Frame::message(fragment, OpCode::Data(kind), is_last);
        sink.feed(Message::Frame(frame)).await?;
        written.fetch_add(bytes, Ordering::Relaxed);
        if is_last {
            return Ok(());
        }
        kind = Data::Continue;
    }
}

/// Tells a replica that speaks the version before why it gets no session, and to stay away.
pub(super) async fn say_old_bye(mut socket: WebSocket) {
    let said = async {
        socket.send(Message::Binary(old_bye().into())).await?;
        let close = Close { code: ByeCode::Version, message: UPDATE.to_owned() };
        socket.close(Some(close_frame(&close))).await?;
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<(), WebSocketError>(())
    };
    let _ = timeout(LINGER, said).await;
}

/// After a goodbye, leaves the replica a moment to read it and close: if a socket is dropped with
/// bytes unread, the frames written last are lost with it.
async fn linger(end: &str) {
    if end == SAID_GOODBYE {
        sleep(LINGER).await;
    }
}

fn close_frame(close: &Close) -> CloseFrame {
    let code = match close.code {
        ByeCode::Stopping => 1001,
        ByeCode::Protocol | ByeCode::Version => 1002,
        ByeCode::Forbidden | ByeCode::SignIn | ByeCode::Timeout => 1008,
        ByeCode::Unavailable => 1013,
        ByeCode::Rights => 1012,
    };
    CloseFrame { code: code.into(), reason: close_reason(&close.message).into() }
}

/// A close frame has room for 123 bytes.
fn close_reason(message: &str) -> &str {
    let end = (0..=message.len().min(123)).rev().find(|end| message.is_char_boundary(*end));
    &message[..end.unwrap_or(0)]
}

/// Whether the connection broke, rather than a rule.
fn is_gone(error: &WebSocketError) -> bool {
    match error {
        WebSocketError::Protocol(error) => {
            matches!(error, ProtocolError::ResetWithoutClosingHandshake)
        }
        WebSocketError::Capacity(_) | WebSocketError::Utf8(_) => false,
        _ => true,
    }
}

const SAID_GOODBYE: &str = "said goodbye";

/// Bytes of a message that are written at once.
const FRAGMENT_BYTES: usize = 4000;

/// Fragments of a message, about: Node takes 16,384.
const FRAGMENTS_MAX: usize = 8192;

/// Bytes before the content of a ping or pong.
const CONTROL_HEADER_BYTES: usize = 6;

/// The time that a replica has to close after a goodbye.
const LINGER: Duration = Duration::from_secs(1);

/// Pings without a sign of life after which a connection is dead.
const SILENT_PINGS_MAX: u32 = 2;

/// Slower than an early mobile network is as good as stuck.
const WRITE_BYTES_PER_SECOND_MIN: usize = 4096;
