//! Connections to a relay: dial, back off, ping, and read and write without holding anyone up.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rejoin_core::wire::PROTOCOL;
use rejoin_core::{limits, printable};
use rustls::ClientConfig;
use socket2::SockRef;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri, header::SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, error::Error as WsError};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
};

use crate::relay::{Credentials, Relay};
use crate::tls;

/// The address of a relay: `ws://host:port` or `wss://host`, with `/sync` for a path unless it has
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelayAddress(Uri);

impl FromStr for RelayAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::Malformed { address: text.to_owned() };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let scheme = uri.scheme_str().filter(|scheme| ["ws", "wss"].contains(scheme));
        let scheme = scheme.ok_or_else(wrong)?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let path = match uri.path() {
            "" | "/" => "/sync",
            path => path,
        };
        format!("{scheme}://{authority}{path}").parse().map(Self).map_err(|_| wrong())
    }
}

impl RelayAddress {
    fn is_tls(&self) -> bool {
        self.0.scheme_str() == Some("wss")
    }

    /// Whether what is sent there stays on this machine.
    fn is_of_this_machine(&self) -> bool {
        let host = self.0.host().unwrap_or_default().trim_matches(['[', ']']);
        let address = host.parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for RelayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Text that is not the address of a relay.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Not an address.
    #[error(
        "{address:?} is not the address of a relay; write it as ws://host:port, or as wss://host for \
         one with TLS"
    )]
    Malformed {
        /// The address that was given.
        address: String,
    },
    /// A token would be sent to another machine for everybody on the way to read.
    #[error(
        "a token for {address:?} could be read by anybody on the way; connect by TLS, with wss://"
    )]
    Plain {
        /// The address that was given.
        address: String,
    },
}

/// A relay cannot be dialled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Not an address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The certificates that it is to be trusted by cannot be read.
    #[error("{0}")]
    Roots(String),
    /// The replica was closed.
    #[error("the replica is closed; open it again")]
    Closed,
}

/// Delays between attempts: exponential with full jitter, for ever.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Milliseconds until the next attempt with another token. A login is not asked as often as a line
    /// is tried.
    pub(crate) fn next_sign_in_ms(&mut self) -> u64 {
        let bound = SIGN_IN_MS.saturating_mul(1 << self.attempts.min(16)).min(SIGN_IN_MS_MAX);
        self.attempts = self.attempts.saturating_add(1);
        rand::random_range(bound / 2..=bound)
    }

    /// Milliseconds until the next attempt: anything up to a bound that doubles, so that a
    /// thousand devices do not come back at once.
    pub(crate) fn next_ms(&mut self) -> u64 {
        let bound = BACKOFF_MS.saturating_mul(1 << self.attempts.min(16)).min(BACKOFF_MS_MAX);
        self.attempts = self.attempts.saturating_add(1);
        rand::random_range(0..=bound)
    }
}

/// An event of a connection.
#[derive(Debug)]
pub(crate) enum Incoming {
    Message(Vec<u8>),
    Closed(String),
}

/// One open connection. A task of its own reads and writes, within bounds.
#[derive(Debug)]
pub(crate) struct Connection {
    incoming: mpsc::Receiver<Incoming>,
    outgoing: mpsc::Sender<Vec<u8>>,
    task: JoinHandle<()>,
}

impl Connection {
    pub(crate) async fn incoming(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }

    pub(crate) fn try_incoming(&mut self) -> Option<Incoming> {
        self.incoming.try_recv().ok()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.outgoing.capacity() == 0
    }

    /// Resolves when there is room for a message.
    pub(crate) fn room(&self) -> impl Future<Output = ()> + use<> {
        let outgoing = self.outgoing.clone();
        async move { drop(outgoing.reserve().await) }
    }

    /// Sends a message. Without room, or after the end, it is dropped: the session is over then.
    pub(crate) fn send(&mut self, message: Vec<u8>) {
        let _ = self.outgoing.try_send(message);
    }

    /// Waits until everything is written, within the write deadline.
    pub(crate) async fn finish(self) {
        drop(self.outgoing);
        drop(self.incoming);
        let _ = timeout(WRITE_TIMEOUT, self.task).await;
    }
}

/// A relay to dial.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: RelayAddress,
    pub(crate) credentials: Credentials,
    /// What TLS needs; `None` for an address without it.
    tls: Option<Arc<ClientConfig>>,
}

impl Target {
    pub(crate) fn of(relay: Relay) -> Result<Self, ConnectError> {
        let Relay { address, credentials, roots } = relay;
        let address: RelayAddress = address.parse()?;
        let tls = match address.is_tls() {
            true => Some(tls::config(&roots).map_err(ConnectError::Roots)?),
            false => None,
        };
        if tls.is_none() && !credentials.is_none() && !address.is_of_this_machine() {
            return Err(AddressError::Plain { address: address.to_string() }.into());
        }
        Ok(Self { address, credentials, tls })
    }
}

/// A relay that was reached, and the token to sign in with.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) connection: Connection,
    pub(crate) token: Option<String>,
}

/// The reason why there is no connection.
#[derive(Debug)]
pub(crate) enum DialError {
    /// The relay cannot be reached.
    Unreached(String),
    /// There is no token to sign in with.
    NoToken(String),
}

/// Begins to dial, with this token, or with one that is fetched first.
pub(crate) fn start(
    relay: Target,
    token: Option<String>,
) -> oneshot::Receiver<Result<Dialled, DialError>> {
    let (done, dialled) = oneshot::channel();
    tokio::spawn(async move {
        let reached = async {
            let token = match token {
                Some(token) => Some(token),
                None => fetch(&relay.credentials).await.map_err(DialError::NoToken)?,
            };
            let connection = timeout(DIAL_TIMEOUT, dial(&relay)).await;
            let connection = connection.unwrap_or_else(|_| {
                let (relay, seconds) = (&relay.address, DIAL_TIMEOUT.as_secs());
                Err(format!("no answer from {relay} within {seconds} s"))
            });
            let connection = connection.map_err(DialError::Unreached)?;
            Ok(Dialled { connection, token })
        };
        let _ = done.send(reached.await);
    });
    dialled
}

/// Begins to fetch a token for a session that is open.
pub(crate) fn fetch_token(credentials: Credentials) -> oneshot::Receiver<Result<String, String>> {
    let (done, fetched) = oneshot::channel();
    tokio::spawn(async move {
        let token = fetch(&credentials).await;
        let none = || Err("there is no token to sign in with".to_owned());
        let _ = done.send(token.and_then(|token| token.map_or_else(none, Ok)));
    });
    fetched
}

async fn fetch(credentials: &Credentials) -> Result<Option<String>, String> {
    let late = || Err(format!("no token came within {} s", TOKEN_TIMEOUT.as_secs()));
    let token = timeout(TOKEN_TIMEOUT, credentials.get()).await.unwrap_or_else(|_| late())?;
    let (len, max) = (token.as_ref().map_or(0, String::len), limits::TOKEN_BYTES_MAX);
    if len > max {
        return Err(format!("the token has {len} bytes, and a relay reads {max} at most"));
    }
    Ok(token)
}

async fn dial(target: &Target) -> Result<Connection, String> {
    let relay = &target.address;
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits::FRAME_BYTES_MAX))
        .max_frame_size(Some(limits::FRAME_BYTES_MAX))
        .max_write_buffer_size(2 * limits::FRAME_BYTES_MAX);
    let mut request = relay.0.clone().into_client_request().map_err(|error| error.to_string())?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    let connector = target.tls.clone().map_or(Connector::Plain, Connector::Rustls);
    let (stream, _) = connect_async_tls_with_config(request, Some(config), true, Some(connector))
        .await
        .map_err(|error| trouble(relay, &error))?;
    let socket = match stream.get_ref() {
        MaybeTlsStream::Plain(socket) => Some(socket),
        MaybeTlsStream::Rustls(tls) => Some(tls.get_ref().0),
        _ => None,
    };
    if let Some(socket) = socket {
        // An answer to a ping waits behind the bytes that the system keeps for a slow line.
        let _ = SockRef::from(socket).set_send_buffer_size(SEND_BUFFER_BYTES);
    }
    let (out, outgoing) = mpsc::channel(OUTGOING_MESSAGES);
    let (came, incoming) = mpsc::channel(INCOMING_MESSAGES);
    let task = tokio::spawn(pump(stream, came, outgoing));
    Ok(Connection { incoming, outgoing: out, task })
}

fn trouble(relay: &RelayAddress, error: &WsError) -> String {
    match error {
        WsError::Io(io) => match io.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>()) {
            Some(error) => format!("{relay} is not trusted: {error}"),
            None => format!("{relay} cannot be reached: {io}"),
        },
        WsError::Tls(error) => format!("{relay} is not trusted: {error}"),
        WsError::Http(answer) if answer.status().as_u16() == 503 => {
            let said = answer.body().as_deref().unwrap_or_default();
            let said = String::from_utf8_lossy(&said[..said.len().min(limits::REASON_BYTES_MAX)]);
            format!("{relay} answered {}: {}", answer.status(), printable(said.trim()))
        }
        WsError::Http(answer) => format!(
            "{relay} answered {}; is it a rejoin relay that speaks {PROTOCOL}?",
            answer.status()
        ),
        error => format!("{relay} does not speak {PROTOCOL}: {error}"),
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn pump(
    mut socket: Socket,
    came: mpsc::Sender<Incoming>,
    mut outgoing: mpsc::Receiver<Vec<u8>>,
) {
    let mut heard = Instant::now();
    let mut ping_at = heard + jittered(PING);
    let reason = loop {
        tokio::select! {
            message = socket.next() => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        if came.send(Incoming::Message(bytes.into())).await.is_err() {
                            break None;
                        }
                    }
                    Some(Ok(Message::Text(_))) => break Some("the relay sent text".to_owned()),
                    Some(Ok(Message::Close(close))) => break Some(close_reason(close)),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break Some(error.to_string()),
                    None => break Some("the relay hung up".to_owned()),
                }
            }
            message = outgoing.recv() => {
                let Some(message) = message else { break None };
                if let Err(error) = write(&mut socket, message, &mut outgoing).await {
                    break Some(error);
                }
            }
            () = sleep_until(ping_at) => {
                if heard.elapsed() > 2 * PING {
                    break Some("the relay is silent".to_owned());
                }
                ping_at = Instant::now() + jittered(PING);
                let ping = socket.send(Message::Ping(Vec::new().into()));
                if timeout(WRITE_TIMEOUT, ping).await.is_err() {
                    break Some("the relay does not read".to_owned());
                }
            }
        }
    };
    let _ = timeout(WRITE_TIMEOUT, socket.close(None)).await;
    if let Some(reason) = reason {
        let _ = came.send(Incoming::Closed(reason)).await;
    }
}

/// Writes a message and further small ones that wait, in one flush. On a slow line each has the
/// whole deadline for itself.
async fn write(
    socket: &mut Socket,
    message: Vec<u8>,
    outgoing: &mut mpsc::Receiver<Vec<u8>>,
) -> Result<(), String> {
    let some = async {
        let mut bytes = message.len();
        socket.feed(Message::Binary(message.into())).await?;
        while bytes < limits::PIECE_BYTES
            && let Ok(message) = outgoing.try_recv()
        {
            bytes += message.len();
            socket.feed(Message::Binary(message.into())).await?;
        }
        socket.flush().await
    };
    match timeout(WRITE_TIMEOUT, some).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the relay does not read".to_owned()),
    }
}

fn close_reason(close: Option<tokio_tungstenite::tungstenite::protocol::CloseFrame>) -> String {
    match close {
        Some(close) if !close.reason.is_empty() => close.reason.to_string(),
        _ => "the relay closed the connection".to_owned(),
    }
}

/// Between half and the whole of a duration.
fn jittered(whole: Duration) -> Duration {
    whole.mul_f64(rand::random_range(0.5..=1.0))
}

/// The first bound of the delay between attempts, and the last.
const BACKOFF_MS: u64 = 250;
const BACKOFF_MS_MAX: u64 = 30_000;

/// The first and the last bound between attempts to sign in.
const SIGN_IN_MS: u64 = 1_000;
const SIGN_IN_MS_MAX: u64 = 60_000;

/// Messages between the connection's task and the replica's thread, each way.
const OUTGOING_MESSAGES: usize = 64;
const INCOMING_MESSAGES: usize = 64;

/// Bytes written to a socket that the system keeps until they are sent, about.
const SEND_BUFFER_BYTES: usize = 64 << 10;

const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
const PING: Duration = Duration::from_secs(15);
