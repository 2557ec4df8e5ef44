//! Peers that speak automerge-repo's protocol: connections coming, talking and going.
//!
//! They meet the replicas of their space in the store: what either side pushes is checked by the
//! same intake, committed with the same commit, and marked as dirty for everyone who has it open.

mod ephemeral;
mod outgoing;
mod remote_heads;
mod uploads;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rejoin_core::automerge_repo::{Conversation, Orphans, RepoFrame, SyncFrame};
use rejoin_core::change::GuardError;
use rejoin_core::session::HANDSHAKE_MS_MAX;
use rejoin_core::wire::{ByeCode, reason};
use rejoin_core::{DocumentId, SpaceName};
use thiserror::Error;
use uuid::Uuid;

use super::breaches::Breach;
use super::sessions::chain;
use super::{Close, ConnectionId, DocumentKey, Relay};
use ephemeral::{EphemeralQueue, Heard};
use outgoing::Broadcasts;
use remote_heads::RemoteHeadsTable;
use uploads::Uploads;
pub use uploads::{Upload, UploadId};
use work::Work;

/// All peers of a relay.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_connection: BTreeMap<ConnectionId, Peer>,
    /// What they are charged for, together.
    bytes: usize,
    /// Who joined each space under which peer id.
    names: BTreeMap<(SpaceName, String), ConnectionId>,
    /// Who has a document open.
    open: BTreeMap<DocumentKey, BTreeSet<ConnectionId>>,
    /// Peers with work for the next turn.
    eventful: BTreeSet<ConnectionId>,
    /// Documents of which a long history is on its way in, each with how many peers send it. Nobody
    /// is told of its parts: JavaScript takes seconds to answer each.
    arriving: BTreeMap<DocumentKey, usize>,
    /// The last count that was given to a presence value of a replica.
    presence_count: u64,
    remote_heads: RemoteHeadsTable,
    /// The time of the last turn.
    unix_ms: u64,
    uploads: Uploads,
    broadcasts: Broadcasts,
}

/// One connection of a peer.
#[derive(Debug)]
struct Peer {
    space: SpaceName,
    opened_at: u64,
    /// Nothing until it joined.
    joined: Option<Joined>,
    /// What it said about each document it has open, and is told about it.
    talks: BTreeMap<DocumentId, Talk>,
    inbox: VecDeque<Work>,
    /// Documents whose messages wait for earlier ones, and those messages.
    busy: BTreeMap<DocumentId, VecDeque<Work>>,
    /// Bytes of messages that are not worked off.
    inbox_bytes: usize,
    /// Documents of which a long history is being taken in from it.
    arriving: BTreeSet<DocumentId>,
    /// Heads that it added to documents that have many.
    heads_added: u32,
    /// Bytes that its conversations and orphans take.
    talk_bytes: usize,
    /// Documents about which there may be something to say, and where to go on.
    dirty: BTreeSet<DocumentId>,
    last_told: Option<DocumentId>,
    /// Frames to be sent before anything else.
    control: Vec<Vec<u8>>,
    ephemeral: EphemeralQueue,
    /// What it passed on.
    heard: Heard,
    /// Whether an ephemeral message comes before the next document.
    hears_next: bool,
    /// Storages whose heads it wants to be told, and what it has not been told of them.
    subscriptions: BTreeSet<Arc<str>>,
    heads_due: BTreeSet<(DocumentId, Arc<str>)>,
    closing: Option<Closing>,
}

#[derive(Debug)]
struct Joined {
    name: String,
    /// Whose storage it has, if it keeps anything.
    storage: Option<String>,
}

/// One peer and one document.
#[derive(Debug, Default)]
struct Talk {
    conversation: Conversation,
    orphans: Orphans,
    /// It is to be told that there is no such document.
    is_unavailable: bool,
    /// What the connection was last charged for it.
    bytes: usize,
}

#[derive(Debug)]
struct Closing {
    close: Close,
    /// What is still to be said.
    error: Option<Vec<u8>>,
}

/// A peer did what the protocol does not allow, or more than the relay bears.
#[derive(Debug, Error)]
enum PeerError {
    #[error("the first message must be join")]
    NotJoined,
    #[error("joined already")]
    JoinedTwice,
    #[error("only version \"1\" of automerge-repo's protocol is spoken here")]
    Version,
    #[error("{kind} is not for a server")]
    Unexpected { kind: &'static str },
    #[error("a sync message brings chunks that are neither changes nor documents")]
    Chunk,
    #[error(transparent)]
    Chunks(#[from] GuardError),
    #[error("a message of another sender, or for another receiver")]
    Address,
    #[error("more than {max} {what} over one connection")]
    TooMuch { what: &'static str, max: usize },
    #[error("no join within {} s", HANDSHAKE_MS_MAX / 1000)]
    Timeout,
}

impl Peers {
    /// Whether nothing counts any more that it sends.
    fn is_closing(&self, id: ConnectionId) -> bool {
        self.by_connection.get(&id).is_none_or(|peer| peer.closing.is_some())
    }

    pub(super) fn contains(&self, id: ConnectionId) -> bool {
        self.by_connection.contains_key(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.by_connection.len()
    }

    /// As whom a connection joined.
    pub(super) fn name_of(&self, id: ConnectionId) -> Option<&str> {
        let joined = self.by_connection.get(&id)?.joined.as_ref();
        joined.map(|joined| &*joined.name)
    }

    pub(super) fn has_work(&self) -> bool {
        !self.eventful.is_empty()
    }

    /// What all of them are charged for.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Entries kept for all of them.
    pub(super) fn queued(&self) -> usize {
        self.by_connection.values().map(Peer::queued).sum()
    }

    /// Whether a long history of this document is on its way in.
    pub(super) fn is_arriving(&self, key: &DocumentKey) -> bool {
        self.arriving.contains_key(key)
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.by_connection.keys().copied().collect()
    }
}

impl Peer {
    fn queued(&self) -> usize {
        let busy: usize = self.busy.values().map(VecDeque::len).sum();
        self.inbox.len() + busy + self.dirty.len() + self.ephemeral.len() + self.heads_due.len()
    }

    /// What it is charged for.
    fn bytes(&self) -> usize {
        self.inbox_bytes + self.talk_bytes + self.ephemeral.bytes()
    }

    fn name(&self) -> &str {
        self.joined.as_ref().map_or("", |joined| &joined.name)
    }
}

impl Relay {
    /// A connection was accepted that speaks automerge-repo's protocol about documents of `space`.
    pub fn handle_peer_connected(&mut self, now: u64, id: ConnectionId, space: SpaceName) {
        let is_full = self.connections.len() + self.peers.len() >= self.options.sessions_max;
        let peer = Peer {
            space,
            opened_at: now,
            joined: None,
            talks: BTreeMap::new(),
            inbox: VecDeque::new(),
            busy: BTreeMap::new(),
            inbox_bytes: 0,
            arriving: BTreeSet::new(),
            heads_added: 0,
            talk_bytes: 0,
            hears_next: false,
            dirty: BTreeSet::new(),
            last_told: None,
            control: Vec::new(),
            ephemeral: EphemeralQueue::default(),
            heard: Heard::default(),
            subscriptions: BTreeSet::new(),
            heads_due: BTreeSet::new(),
            closing: None,
        };
        self.peers.by_connection.insert(id, peer);
        self.breaches.pass_time(now);
        self.timers.insert((now + HANDSHAKE_MS_MAX, id));
        if is_full {
            let message = "the relay has as many sessions as it may; come back later";
            self.close_peer(id, ByeCode::Unavailable, message);
        }
    }

    pub(super) fn handle_peer_message(&mut self, id: ConnectionId, message: &Bytes) {
        if self.peers.is_closing(id) {
            return;
        }
        self.counters.frames_in += 1;
        self.counters.bytes_in += message.len() as u64;
        let handled = match RepoFrame::decode(message) {
            Ok(frame) => self.handle_repo_frame(id, frame, message),
            Err(error) => return self.close_peer_for_protocol(id, &error),
        };
        if let Err(error) = handled {
            self.close_peer_for_protocol(id, &error);
        }
        self.shed_peers();
    }

    pub(super) fn handle_peer_disconnected(&mut self, id: ConnectionId) {
        self.drop_work(id);
        let Some(peer) = self.peers.by_connection.remove(&id) else { return };
        self.timers.remove(&(peer.opened_at + HANDSHAKE_MS_MAX, id));
        if let Some(joined) = peer.joined {
            let key = (peer.space.clone(), joined.name);
            if self.peers.names.get(&key) == Some(&id) {
                self.peers.names.remove(&key);
            }
        }
        for document in peer.talks.keys() {
            let key = (peer.space.clone(), *document);
            if let Some(open) = self.peers.open.get_mut(&key) {
                open.remove(&id);
                if open.is_empty() {
                    self.peers.open.remove(&key);
                }
            }
        }
        self.end_subscriptions(id, &peer.space, &peer.subscriptions);
        self.ready.remove(&id);
    }

    /// Nothing it sent is worked off any more. It may take minutes to be gone, if it does not read.
    fn drop_work(&mut self, id: ConnectionId) {
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return };
        self.peers.bytes -= peer.bytes();
        peer.inbox.clear();
        peer.ephemeral.clear();
        peer.busy.clear();
        peer.talks.values_mut().for_each(|talk| *talk = Talk::default());
        (peer.inbox_bytes, peer.talk_bytes) = (0, 0);
        let arriving = std::mem::take(&mut peer.arriving);
        let space = peer.space.clone();
        arriving.iter().for_each(|document| self.has_arrived(&space, document));
        self.peers.uploads.forget(id);
        self.peers.eventful.remove(&id);
    }

    /// Closes who makes the relay remember most, until all of it together is little enough.
    pub(super) fn shed_peers(&mut self) {
        while self.peers.bytes > self.options.peer_bytes_max {
            let open = self.peers.by_connection.iter().filter(|(_, peer)| peer.closing.is_none());
            let largest = open.max_by_key(|(_, peer)| peer.bytes());
            let Some(id) = largest.map(|(id, _)| *id) else { return };
            tracing::warn!(conn = id.0, bytes = self.peers.bytes, "too much of peers is waiting");
            let message = "too much of what clients sent is waiting; come back later";
            self.close_peer(id, ByeCode::Unavailable, message);
        }
    }

    /// It had its time to join.
    pub(super) fn handle_peer_timeout(&mut self, id: ConnectionId) {
        if self.peers.by_connection.get(&id).is_some_and(|peer| peer.joined.is_none()) {
            self.close_peer(id, ByeCode::Timeout, &PeerError::Timeout.to_string());
        }
    }

    pub(super) fn close_peer_for_protocol(
        &mut self,
        id: ConnectionId,
        error: &dyn std::error::Error,
    ) {
        self.counters.protocol_errors += 1;
        self.breach(id, Breach::Protocol, 1, || chain(error));
        self.close_peer(id, ByeCode::Protocol, &chain(error));
    }

    pub(super) fn close_peer(&mut self, id: ConnectionId, code: ByeCode, message: &str) {
        let sender = Arc::clone(&self.repo_name);
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return };
        if peer.closing.is_some() {
            return;
        }
        let message = reason(message);
        // A server that stops is no error of anybody's.
        let error = (code != ByeCode::Stopping).then(|| {
            RepoFrame::Error { sender: &sender, target: peer.name(), message: &message }.encode()
        });
        peer.closing = Some(Closing { close: Close { code, message }, error });
        self.drop_work(id);
        self.ready.insert(id);
    }

    pub(super) fn poll_peer_close(&self, id: ConnectionId) -> Option<Close> {
        let closing = self.peers.by_connection.get(&id)?.closing.as_ref()?;
        closing.error.is_none().then(|| closing.close.clone())
    }

    /// The relay's storage id: peers keep what they share with it under this one.
    fn repo_storage(&self) -> String {
        Uuid::from_bytes(self.store.relay().0).to_string()
    }

    fn handle_repo_frame(
        &mut self,
        id: ConnectionId,
        frame: RepoFrame<'_>,
        message: &Bytes,
    ) -> Result<(), PeerError> {
        let own_name = Arc::clone(&self.repo_name);
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return Ok(()) };
        let Some(joined) = &peer.joined else {
            return match frame {
                RepoFrame::Join { sender, storage, speaks_version_1, .. } => {
                    self.join(id, sender, storage, speaks_version_1)
                }
                _ => Err(PeerError::NotJoined),
            };
        };
        let is_address = |sender: &str, target: &str| {
            if sender == joined.name && *target == *own_name {
                Ok(())
            } else {
                Err(PeerError::Address)
            }
        };
        match frame {
            RepoFrame::Sync(sync) => {
                is_address(sync.sender, sync.target)?;
                self.queue_sync(id, &sync, message)
            }
            RepoFrame::Ephemeral(ephemeral) => {
                self.take_ephemeral(id, &ephemeral);
                Ok(())
            }
            // What another peer lacks is of no use here.
            RepoFrame::DocUnavailable { sender, target, .. } => is_address(sender, target),
            RepoFrame::RemoteSubscriptionChange { sender, add, remove } => {
                is_address(sender, &own_name)?;
                self.change_subscriptions(id, &add, &remove)
            }
            RepoFrame::RemoteHeadsChanged(remote) => {
                is_address(remote.sender, remote.target)?;
                self.take_remote_heads(id, &remote);
                Ok(())
            }
            RepoFrame::Leave { .. } | RepoFrame::Error { .. } => {
                self.leave_peer(id);
                Ok(())
            }
            RepoFrame::Join { .. } => Err(PeerError::JoinedTwice),
            RepoFrame::Peer { .. } => Err(PeerError::Unexpected { kind: "peer" }),
        }
    }

    /// Answers a join. Who joined under this name before has dialled anew, and its old connection is
    /// dead, though nobody noticed.
    fn join(
        &mut self,
        id: ConnectionId,
        name: &str,
        storage: Option<&str>,
        speaks_version_1: bool,
    ) -> Result<(), PeerError> {
        if !speaks_version_1 {
            return Err(PeerError::Version);
        }
        let (own_name, own_storage) = (Arc::clone(&self.repo_name), self.repo_storage());
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return Ok(()) };
        let name = name.to_owned();
        let key = (peer.space.clone(), name.clone());
        let answer = RepoFrame::Peer { sender: &own_name, target: &name, storage: &own_storage };
        peer.control.push(answer.encode());
        peer.joined = Some(Joined { name, storage: storage.map(str::to_owned) });
        self.ready.insert(id);
        if let Some(before) = self.peers.names.insert(key, id) {
            self.close_peer(
                before,
                ByeCode::Protocol,
                "the same peer joined over another connection",
            );
        }
        Ok(())
    }

    /// It says that it goes; there is nothing more to say to it.
    fn leave_peer(&mut self, id: ConnectionId) {
        self.close_peer(id, ByeCode::Stopping, "left");
    }

    /// A sync message, which came in this one, waits for the turn: it reads the store.
    fn queue_sync(
        &mut self,
        id: ConnectionId,
        sync: &SyncFrame<'_>,
        message: &Bytes,
    ) -> Result<(), PeerError> {
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return Ok(()) };
        let bytes = sync.data.len() + MESSAGE_BYTES;
        peer.inbox_bytes += bytes;
        self.peers.bytes += bytes;
        if peer.inbox_bytes > INBOX_BYTES_MAX {
            let what = "bytes of messages waiting";
            return Err(PeerError::TooMuch { what, max: INBOX_BYTES_MAX });
        }
        if !peer.talks.contains_key(&sync.document) {
            if peer.talks.len() >= DOCUMENTS_MAX {
                return Err(PeerError::TooMuch { what: "documents", max: DOCUMENTS_MAX });
            }
            peer.talks.insert(sync.document, Talk::default());
            let key = (peer.space.clone(), sync.document);
            self.peers.open.entry(key).or_default().insert(id);
            self.tell_heads_known(id, &sync.document);
        }
        let work = Work::Message {
            document: sync.document,
            is_request: sync.is_request,
            data: match sync.data.len() {
                // It would keep all that was read with it.
                ..COPIED_BYTES_MAX => Bytes::copy_from_slice(sync.data),
                _ => message.slice_ref(sync.data),
            },
        };
        self.queue_work(id, work);
        Ok(())
    }
}

/// Documents one connection may have open. Each takes some 300 bytes, and what is charged for it.
const DOCUMENTS_MAX: usize = 100_000;

/// Bytes of messages of one connection that wait to be worked off, uploads included.
const INBOX_BYTES_MAX: usize = 2 * rejoin_core::limits::REPO_FRAME_BYTES_MAX;

/// Bytes of a message that is copied to wait.
const COPIED_BYTES_MAX: usize = 64 << 10;

/// What a message takes beside its bytes.
const MESSAGE_BYTES: usize = 256;

/// What one of its changes takes beside its bytes.
const CHUNK_BYTES: usize = 48;
