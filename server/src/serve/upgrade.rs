//! The WebSocket handshake.
//!
//! By hand rather than by axum, whose WebSocket cannot be written in fragments.

use std::future::Future;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rejoin_core::limits::{FRAME_BYTES_MAX, REPO_FRAME_BYTES_MAX};
use rejoin_core::wire::{OLD_PROTOCOL, PROTOCOL};
use thiserror::Error;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::command::Protocol;
use super::connection::WebSocket;
use super::heard::Heard;
use super::room::Account;

/// A request that asks for a session, and may have one.
pub(super) struct Upgrade {
    connection: OnUpgrade,
    accept: HeaderValue,
    speaks: &'static Speaks,
}

/// A protocol that can be spoken, with its marks in the handshake.
#[derive(Debug)]
struct Speaks {
    /// The WebSocket subprotocol, if it has one.
    subprotocol: Option<&'static str>,
    /// Bytes of a message.
    message_bytes_max: usize,
}

const REJOIN: Speaks = Speaks { subprotocol: Some(PROTOCOL), message_bytes_max: FRAME_BYTES_MAX };
const REJOIN_BEFORE: Speaks =
    Speaks { subprotocol: Some(OLD_PROTOCOL), message_bytes_max: FRAME_BYTES_MAX };
const AUTOMERGE_REPO: Speaks =
    Speaks { subprotocol: None, message_bytes_max: REPO_FRAME_BYTES_MAX };

/// A request that may not.
#[derive(Debug, Error)]
pub(super) enum UpgradeError {
    #[error("this is where replicas connect; upgrade to a WebSocket of version 13")]
    NotWebSocket,
    #[error("ask for the WebSocket subprotocol {PROTOCOL}; it is the one spoken here")]
    Protocol,
}

impl Upgrade {
    /// Checks the request and takes its connection.
    pub(super) fn take(request: &mut Request, protocol: &Protocol) -> Result<Self, UpgradeError> {
        let speaks = match protocol {
            Protocol::Rejoin => &REJOIN,
            Protocol::AutomergeRepo(_) => &AUTOMERGE_REPO,
        };
        let headers = request.headers();
        let is_websocket = names(headers, &CONNECTION, "upgrade")
            && names(headers, &UPGRADE, "websocket")
            && names(headers, &SEC_WEBSOCKET_VERSION, "13");
        let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_websocket);
        let accept = key.map(|key| derive_accept_key(key.as_bytes()));
        let accept = accept.and_then(|accept| HeaderValue::try_from(accept).ok());
        let is_named = |speaks: &Speaks| {
            speaks.subprotocol.is_none_or(|name| names(headers, &SEC_WEBSOCKET_PROTOCOL, name))
        };
        let accept = accept.ok_or(UpgradeError::NotWebSocket)?;
        let speaks = match () {
            () if is_named(speaks) => speaks,
            () if is_named(&REJOIN_BEFORE) => &REJOIN_BEFORE,
            () => return Err(UpgradeError::Protocol),
        };
        let connection = request.extensions_mut().remove().ok_or(UpgradeError::NotWebSocket)?;
        Ok(Self { connection, accept, speaks })
    }

    /// Whether the replica speaks the version before: it is only told to update.
    pub(super) fn is_old(&self) -> bool {
        self.speaks.subprotocol == Some(OLD_PROTOCOL)
    }

    /// Answers the request, and runs `serve` with the WebSocket once the answer is sent.
    pub(super) fn respond<F>(
        self,
        account: Arc<Account>,
        serve: impl FnOnce(WebSocket) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send,
    {
        let Self { connection, accept, speaks } = self;
        let config = config(speaks.message_bytes_max);
        tokio::spawn(async move {
            match connection.await {
                Ok(upgraded) => {
                    let io = Heard::new(TokioIo::new(upgraded), account);
                    serve(WebSocket::from_raw_socket(io, Role::Server, Some(config)).await).await;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "connection not upgraded");
                }
            }
        });
        let headers = [
            (CONNECTION, HeaderValue::from_static("upgrade")),
            (UPGRADE, HeaderValue::from_static("websocket")),
            (SEC_WEBSOCKET_ACCEPT, accept),
        ];
        let mut response =
            (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response();
        if let Some(subprotocol) = speaks.subprotocol {
            let named = HeaderValue::from_static(subprotocol);
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, named);
        }
        response
    }
}

impl IntoResponse for UpgradeError {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, self.to_string()).into_response()
    }
}

/// Whether one of a header's values, between commas, is `wanted`.
fn names(headers: &HeaderMap, header: &HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(header).into_iter().filter_map(|value| value.to_str().ok());
    let mut values = values.flat_map(|value| value.split(','));
    values.any(|value| value.trim().eq_ignore_ascii_case(wanted))
}

fn config(message_bytes_max: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max))
        .read_buffer_size(SOCKET_BUFFER_BYTES)
        .write_buffer_size(SOCKET_BUFFER_BYTES)
        .max_write_buffer_size(2 * FRAME_BYTES_MAX)
}

/// Bytes read at once, and of small messages that are written together. An idle connection keeps
/// as much of either.
pub(super) const SOCKET_BUFFER_BYTES: usize = 4 << 10;
