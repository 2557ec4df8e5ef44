//! The commands to the engine's thread, and the frames it gives to connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use axum::body::Bytes;
use rejoin_core::SpaceName;
use thiserror::Error;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Error as WebSocketError;

use super::doors::Doors;
use super::limits::Limits;
use super::metrics::Look;
use super::room::{Account, Charge};
use crate::access::Principal;
use crate::admin::{Answer, Ask};
use crate::compaction::{Compacted, CompactionError};
use crate::relay::{Close, ConnectionId, Outgoing, UploadId};
use crate::store::StoreError;
use crate::store::backup::Moment;

/// A command to the engine's thread.
#[derive(Debug)]
pub(super) enum Command {
    /// A connection was upgraded; the frames it is to write go to `frames`.
    Connected {
        id: ConnectionId,
        protocol: Protocol,
        /// Who it is, if it had to prove that already.
        principal: Option<Principal>,
        remote: SocketAddr,
        frames: Sender<Batch>,
        account: Arc<Account>,
    },
    /// It can take a batch.
    Writable { id: ConnectionId },
    /// It did something. The deeds of each connection are handled in their order.
    Did { id: ConnectionId, deed: Deed },
    /// A document was folded, or not.
    Compacted(Result<Compacted, CompactionError>),
    /// A document was taken apart, or not.
    TakenApart(UploadId, Result<Vec<Vec<u8>>, CompactionError>),
    /// Say how things stand, if the disk still takes writes.
    Health { answer: oneshot::Sender<Health> },
    /// Give the store as it is committed now.
    Moment { answer: oneshot::Sender<Result<Moment, StoreError>> },
    /// Answer an operator.
    Admin { ask: Ask, answer: oneshot::Sender<Result<Answer, String>> },
    /// Go on with these rules and keys.
    Doors(Doors),
    /// Go on with other limits.
    Limits(Limits),
    /// Say how much there is of everything.
    Look { answer: oneshot::Sender<Look> },
    /// Say goodbye to everyone.
    Goodbye,
    /// End, even if connections are left.
    Stop,
}

/// Something that a connection did.
#[derive(Debug)]
pub(super) enum Deed {
    /// It sent a binary message. The charge counts its bytes until the turn is over.
    Message { bytes: Bytes, charge: Charge, at: Instant },
    /// It broke a rule of WebSockets or of ours about them.
    Violation(Violation),
    /// It is gone.
    Disconnected,
}

/// The protocol of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Protocol {
    Rejoin,
    /// About the documents of one space.
    AutomergeRepo(SpaceName),
}

/// Frames for a connection to write, and whether to close it then.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) frames: Outgoing,
    pub(super) close: Option<Close>,
    /// The bytes of the frames that are written.
    pub(super) written: Arc<AtomicUsize>,
}

/// The present state of the relay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Health {
    pub(super) sessions: usize,
}

/// A message that no session of ours sends.
#[derive(Debug, Error)]
pub(super) enum Violation {
    #[error("a text message came, but frames are binary messages")]
    Text,
    #[error("the message cannot be taken")]
    WebSocket(#[source] Box<WebSocketError>),
}
