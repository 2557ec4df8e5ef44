//! One connection: frames go out as they are, and nothing is read unless somebody wants so.

use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use rejoin_core::automerge_repo::RepoFrame;
use rejoin_core::wire::{Frame, PROTOCOL};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::ground::Ground;

/// How long an attacker looks for what it was told, once it can send no more.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// How long an attacker stays away that could not even connect.
const NOBODY_THERE: Duration = Duration::from_millis(20);

/// The language of a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Language {
    Rejoin,
    AutomergeRepo,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) mouth: Mouth,
    pub(super) ear: Ear,
}

/// What it sends with.
#[derive(Debug)]
pub(super) struct Mouth(SplitSink<WebSocketStream<TcpStream>, Message>);

/// What it may read with.
#[derive(Debug)]
pub(super) struct Ear {
    stream: SplitStream<WebSocketStream<TcpStream>>,
    language: Language,
    /// Why the relay ends the connection, once it said so.
    farewell: Option<String>,
}

/// Waits for the siege to begin, dials again and again until the time is up, and each time does this. What it does ends with nothing
/// when the connection does.
pub(super) async fn again(
    ground: &Ground,
    who: &str,
    language: Language,
    act: impl AsyncFn(&mut Connection) -> Option<()>,
) {
    let until = ground.begins().await;
    while ground.goes_on() {
        match timeout_at(until, Connection::dial(&ground.relay, language)).await {
            Ok(Some(mut connection)) => {
                let acted = timeout_at(until, act(&mut connection)).await;
                // It also ends with nothing when enough was sent.
                let is_over = acted == Ok(None) && ground.goes_on();
                ground.note(who, &connection.ear.last_words(is_over).await);
            }
            Ok(None) => {
                ground.note(who, "not let in");
                sleep(NOBODY_THERE).await;
            }
            Err(_) => ground.note(who, "not let in before the end"),
        }
    }
}

/// Speaks and hears at once, until one of them ends.
pub(super) async fn either(
    speak: impl Future<Output = Option<()>>,
    hear: impl Future<Output = Option<()>>,
) -> Option<()> {
    tokio::select! {
        ended = speak => ended,
        ended = hear => ended,
    }
}

impl Connection {
    pub(super) async fn dial(relay: &str, language: Language) -> Option<Self> {
        let path = match language {
            Language::Rejoin => "/sync",
            Language::AutomergeRepo => "/automerge/siege",
        };
        Self::dial_to(relay, path, language).await
    }

    pub(super) async fn dial_to(relay: &str, path: &str, language: Language) -> Option<Self> {
        let mut request = format!("{relay}{path}").into_client_request().ok()?;
        if language == Language::Rejoin {
            let name = PROTOCOL.parse().expect("the name of the protocol is a token");
            request.headers_mut().insert("sec-websocket-protocol", name);
        }
        let stream = TcpStream::connect(relay.strip_prefix("ws://")?).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (socket, _) = client_async_with_config(request, stream, Some(config)).await.ok()?;
        let (sink, stream) = socket.split();
        Some(Self { mouth: Mouth(sink), ear: Ear { stream, language, farewell: None } })
    }
}

impl Mouth {
    /// Sends a frame; nothing once the connection has ended.
    pub(super) async fn say(&mut self, frame: impl Into<Bytes>) -> Option<()> {
        self.0.send(Message::Binary(frame.into())).await.ok()
    }
}

impl Ear {
    /// The next frame; nothing once the connection has ended.
    pub(super) async fn hear(&mut self) -> Option<Bytes> {
        loop {
            match self.stream.next().await?.ok()? {
                Message::Binary(bytes) => {
                    self.farewell =
                        farewell(self.language, &bytes).or_else(|| self.farewell.take());
                    return Some(bytes);
                }
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// Reads to the end, and then there is nothing more to do.
    pub(super) async fn hear_all(&mut self) -> Option<()> {
        while self.hear().await.is_some() {}
        None
    }

    /// How the connection ended, as far as it can be told.
    async fn last_words(mut self, is_over: bool) -> String {
        let heard = timeout(LAST_WORDS, self.hear_all()).await;
        match (self.farewell, is_over || heard.is_ok()) {
            (Some(farewell), _) => format!("closed, {farewell}"),
            (None, true) => "closed".to_owned(),
            (None, false) => "left open".to_owned(),
        }
    }
}

/// What a last frame says.
fn farewell(language: Language, bytes: &[u8]) -> Option<String> {
    match language {
        Language::Rejoin => match Frame::decode(bytes) {
            Ok(Some(Frame::Bye(bye))) => Some(format!("{:?}: {}", bye.code, bye.message)),
            _ => None,
        },
        Language::AutomergeRepo => match RepoFrame::decode(bytes) {
            Ok(RepoFrame::Error { message, .. }) => Some(format!("error: {message}")),
            _ => None,
        },
    }
}
