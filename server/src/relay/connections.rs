//! Connections of either kind, and the rest of a relay that they share.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;

use rejoin_core::wire::{Bye, ByeCode};

use super::automerge_repo::{Peer, Peers};
use super::breaches::{Breach, Breaches, Who};
use super::carrying::Carrying;
use super::folding::Folding;
#[cfg(feature = "mutants")]
use super::intake::Refuse;
use super::sessions::{Replica, chain};
use super::{Answer, ConnectionId, Counters, Relay, RelayOptions};
use crate::store::ChangeStore;

/// One connection with its state.
#[derive(Debug)]
pub(super) enum Connection {
    /// A replica's, with its session.
    Replica(Box<Replica>),
    /// A peer's, which speaks automerge-repo's protocol.
    Peer(Box<Peer>),
}

/// The part of a relay that a connection works with while it is borrowed itself: everything except
/// the other connections.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: ChangeStore,
    pub(super) options: RelayOptions,
    /// The relay's peer id in automerge-repo's protocol: told apart from others by its storage.
    pub(super) repo_name: Arc<str>,
    pub(super) counters: Counters,
    /// Connections that may have something to send.
    pub(super) ready: BTreeSet<ConnectionId>,
    /// Bytes that wait until replicas read, of all sessions.
    pub(super) unread_bytes: usize,
    pub(super) answers: Vec<Answer>,
    pub(super) folding: Folding,
    pub(super) breaches: Breaches,
    pub(super) carrying: Carrying,
    pub(super) peers: Peers,
    #[cfg(feature = "mutants")]
    pub(super) refuse: Option<Refuse>,
}

/// Every connection of a relay.
#[derive(Debug, Default)]
pub(super) struct Connections(BTreeMap<ConnectionId, Connection>);

/// The end of a connection that is being closed.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) close: Close,
    /// The frame that is still to be sent. There is none for a replica or peer that said itself
    /// that it goes.
    pub(super) last: Option<Vec<u8>>,
    /// Whether answers that the session has go first.
    pub(super) after_answers: bool,
}

/// Hang up, now that everything was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The reason, for a machine.
    pub code: ByeCode,
    /// The reason, for a person.
    pub message: String,
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn insert(&mut self, id: ConnectionId, connection: Connection) {
        self.0.insert(id, connection);
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.0.remove(&id)
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.0.keys().copied().collect()
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.0.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.0.get_mut(&id)
    }

    pub(super) fn replica(&self, id: ConnectionId) -> Option<&Replica> {
        self.get(id)?.replica()
    }

    pub(super) fn replica_mut(&mut self, id: ConnectionId) -> Option<&mut Replica> {
        match self.get_mut(id)? {
            Connection::Replica(replica) => Some(replica),
            Connection::Peer(_) => None,
        }
    }

    pub(super) fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.0.values().filter_map(Connection::replica)
    }

    pub(super) fn peer(&self, id: ConnectionId) -> Option<&Peer> {
        self.get(id)?.peer()
    }

    pub(super) fn peer_mut(&mut self, id: ConnectionId) -> Option<&mut Peer> {
        match self.get_mut(id)? {
            Connection::Peer(peer) => Some(peer),
            Connection::Replica(_) => None,
        }
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.0.values().filter_map(Connection::peer)
    }

    /// Entries kept for all of them.
    pub(super) fn queued(&self) -> usize {
        let each = self.0.values().map(|connection| match connection {
            Connection::Replica(replica) => replica.session.queued(),
            Connection::Peer(peer) => peer.queued(),
        });
        each.sum()
    }
}

impl Connection {
    fn replica(&self) -> Option<&Replica> {
        match self {
            Self::Replica(replica) => Some(replica),
            Self::Peer(_) => None,
        }
    }

    fn peer(&self) -> Option<&Peer> {
        match self {
            Self::Peer(peer) => Some(peer),
            Self::Replica(_) => None,
        }
    }

    fn closing(&self) -> Option<&Closing> {
        match self {
            Self::Replica(replica) => replica.closing.as_ref(),
            Self::Peer(peer) => peer.closing.as_ref(),
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing().is_some()
    }

    pub(super) fn who(&self) -> Who {
        match self {
            Self::Replica(replica) => replica.who(),
            Self::Peer(peer) => peer.who(),
        }
    }
}

impl Relay {
    /// A peer and what it works with.
    pub(super) fn peer(&mut self, id: ConnectionId) -> Option<(&mut Peer, &mut Shared)> {
        Some((self.connections.peer_mut(id)?, &mut self.shared))
    }

    /// Whether the connection must not be used any more, now that its last frame was polled.
    pub fn poll_close(&mut self, id: ConnectionId) -> Option<Close> {
        let closing = self.connections.get(id)?.closing()?;
        closing.last.is_none().then(|| closing.close.clone())
    }

    /// Ends every session: each is sent the answers it is owed and then Bye, and is to be closed
    /// then. `retry_after_ms` spreads their return.
    pub fn stop(
        &mut self,
        code: ByeCode,
        message: &str,
        mut retry_after_ms: impl FnMut(ConnectionId) -> u32,
    ) {
        for id in self.connections.ids() {
            let bye = Bye { code, message: message.to_owned(), retry_after_ms: retry_after_ms(id) };
            self.end(id, bye, true);
            self.shared.breaches.end(id);
        }
    }

    /// Closes a connection that broke its protocol.
    pub(super) fn close_for_protocol(&mut self, id: ConnectionId, error: &dyn Error) {
        self.shared.counters.protocol_errors += 1;
        self.breach(id, Breach::Protocol, 1, || chain(error));
        self.close(id, ByeCode::Protocol, &chain(error));
    }

    /// Closes a connection. A replica is asked to wait before it comes back where the relay has too
    /// much to do.
    pub(super) fn close(&mut self, id: ConnectionId, code: ByeCode, message: &str) {
        let retry_after_ms = match code {
            ByeCode::Unavailable => self.shared.options.retry_after_ms,
            _ => 0,
        };
        self.end(id, Bye { code, message: message.to_owned(), retry_after_ms }, false);
    }

    fn end(&mut self, id: ConnectionId, bye: Bye, after_answers: bool) {
        match self.connections.get_mut(id) {
            Some(Connection::Replica(replica)) => {
                replica.close(&mut self.shared, bye, after_answers);
            }
            Some(Connection::Peer(peer)) => peer.close(&mut self.shared, bye.code, &bye.message),
            None => {}
        }
    }
}
