//! Peers that speak automerge-repo's protocol: their connections come, talk and go.
//!
//! They meet the replicas of their space in the store: changes of both are checked by the same
//! intake, committed with the same commit, and their documents are marked as dirty for all peers
//! that have them open.

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

use super::breaches::{Breach, Who, shown};
use super::connections::{Close, Closing, Connection, Shared};
use super::sessions::chain;
use super::{ConnectionId, DocumentKey, Relay, Visitor};
use crate::access::{Principal, Rights};
use ephemeral::{EphemeralQueue, Heard};
use outgoing::Broadcasts;
use remote_heads::RemoteHeadsTable;
use uploads::Uploads;
pub use uploads::{Upload, UploadId};
use work::Work;

/// The state that the relay keeps for all peers together.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Bytes that all peers together are charged for.
    bytes: usize,
    /// The connections that joined each space under each peer id. A peer that dials anew has two for a
    /// while, and nothing proves whose a name is, so none of them ends the others.
    names: BTreeMap<(SpaceName, String), usize>,
    /// The peers that have each document open.
    open: BTreeMap<DocumentKey, BTreeSet<ConnectionId>>,
    /// For each peer the documents about which there may be something to say.
    dirty: BTreeSet<(ConnectionId, DocumentId)>,
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
pub(super) struct Peer {
    id: ConnectionId,
    space: SpaceName,
    /// Who it is, by its ticket.
    pub(super) principal: Option<Principal>,
    pub(super) rights: Arc<Rights>,
    opened_at: u64,
    /// `None` until it joined.
    joined: Option<Joined>,
    /// The conversation about each document it has open.
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
    /// The dirty document that was told of last: the next one is the one after it.
    last_told: Option<DocumentId>,
    /// Frames to be sent before anything else.
    control: Vec<Vec<u8>>,
    ephemeral: EphemeralQueue,
    /// The ephemeral messages that it brought.
    heard: Heard,
    /// Whether an ephemeral message comes before the next document.
    hears_next: bool,
    /// Storages whose heads it wants to be told, and the heads of them it has not been told.
    subscriptions: BTreeSet<Arc<str>>,
    heads_due: BTreeSet<(DocumentId, Arc<str>)>,
    pub(super) closing: Option<Closing>,
}

#[derive(Debug)]
struct Joined {
    name: String,
    /// The id of its storage, if it keeps anything.
    storage: Option<String>,
}

/// One peer and one document.
#[derive(Debug, Default)]
struct Talk {
    conversation: Conversation,
    orphans: Orphans,
    /// It is to be told that there is no such document.
    is_unavailable: bool,
    /// A message about it was taken, so it may be told of what others do there.
    is_open: bool,
    /// The bytes that the connection was last charged for it.
    bytes: usize,
}

/// A peer broke the protocol, or did more than the relay bears.
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
    pub(super) fn has_work(&self) -> bool {
        !self.eventful.is_empty()
    }

    /// Bytes that all of them are charged for.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Entries kept for all of them, beside those that each peer has.
    pub(super) fn queued(&self) -> usize {
        self.dirty.len()
    }

    /// Whether a long history of this document is on its way in.
    pub(super) fn is_arriving(&self, key: &DocumentKey) -> bool {
        self.arriving.contains_key(key)
    }
}

impl Shared {
    /// All peers that have the document open may be told of it, its author, too.
    pub(super) fn mark_peers(&mut self, key: &DocumentKey) {
        for id in self.peers.open.get(key).into_iter().flatten() {
            self.peers.dirty.insert((*id, key.1));
            self.ready.insert(*id);
        }
    }

    /// A peer has sent all it had of a document. Everyone may be told of it when nobody else is
    /// still sending.
    fn has_arrived(&mut self, key: &DocumentKey) {
        let Some(count) = self.peers.arriving.get_mut(key) else { return };
        *count -= 1;
        if *count == 0 {
            self.peers.arriving.remove(key);
            self.mark_peers(key);
        }
    }

    /// The relay's storage id: peers keep the heads that they share with it under this id.
    fn repo_storage(&self) -> String {
        Uuid::from_bytes(self.store.relay().0).to_string()
    }
}

impl Peer {
    fn new(
        now: u64,
        id: ConnectionId,
        space: SpaceName,
        principal: Option<Principal>,
        rights: Arc<Rights>,
    ) -> Self {
        Self {
            id,
            space,
            principal,
            rights,
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
            last_told: None,
            control: Vec::new(),
            ephemeral: EphemeralQueue::default(),
            heard: Heard::default(),
            subscriptions: BTreeSet::new(),
            heads_due: BTreeSet::new(),
            closing: None,
        }
    }

    pub(super) fn queued(&self) -> usize {
        let busy: usize = self.busy.values().map(VecDeque::len).sum();
        self.inbox.len() + busy + self.ephemeral.len() + self.heads_due.len()
    }

    pub(super) fn who(&self) -> Who {
        let peer = self.joined.as_ref().map(|joined| shown(&joined.name));
        Who { device: None, peer }
    }

    pub(super) fn visitor(&self) -> Visitor {
        Visitor {
            peer: self.who().peer,
            user: self.principal.as_ref().map(|principal| shown(&principal.user)),
            spaces: vec![self.space.clone()],
            unread_bytes: self.bytes(),
            ..Visitor::default()
        }
    }

    /// Bytes that it is charged for.
    fn bytes(&self) -> usize {
        self.inbox_bytes + self.talk_bytes + self.ephemeral.bytes()
    }

    /// Charges it for bytes that wait in its inbox.
    fn charge(&mut self, peers: &mut Peers, bytes: usize) {
        self.inbox_bytes += bytes;
        peers.bytes += bytes;
    }

    fn discharge(&mut self, peers: &mut Peers, bytes: usize) {
        self.inbox_bytes -= bytes;
        peers.bytes -= bytes;
    }

    fn name(&self) -> &str {
        self.joined.as_ref().map_or("", |joined| &joined.name)
    }

    /// The space that its documents are in.
    pub(super) fn space(&self) -> &SpaceName {
        &self.space
    }

    /// Whether it may be told what others do in a document, and they what it does: not before it is
    /// known that it may read it, where that is not everybody.
    fn is_in(&self, document: &DocumentId) -> bool {
        let is_open = || self.talks.get(document).is_some_and(|talk| talk.is_open);
        self.principal.is_none() || is_open()
    }

    fn key(&self, document: DocumentId) -> DocumentKey {
        (self.space.clone(), document)
    }

    fn breach(
        &self,
        shared: &mut Shared,
        breach: Breach,
        count: u64,
        what: impl FnOnce() -> String,
    ) {
        shared.breach(self.id, breach, count, || self.who(), what);
    }

    fn close_for_protocol(&mut self, shared: &mut Shared, error: &dyn std::error::Error) {
        shared.counters.protocol_errors += 1;
        self.breach(shared, Breach::Protocol, 1, || chain(error));
        self.close(shared, ByeCode::Protocol, &chain(error));
    }

    pub(super) fn close(&mut self, shared: &mut Shared, code: ByeCode, message: &str) {
        if self.closing.is_some() {
            return;
        }
        let message = reason(message);
        // A server that stops is no error of anybody's.
        let last = (code != ByeCode::Stopping).then(|| {
            let (sender, target) = (&*shared.repo_name, self.name());
            RepoFrame::Error { sender, target, message: &message }.encode()
        });
        let close = Close { code, message };
        self.closing = Some(Closing { close, last, after_answers: false });
        self.drop_work(shared);
        shared.ready.insert(self.id);
    }

    /// Its messages are not worked off any more. It may take minutes to be gone, if it does not
    /// read.
    fn drop_work(&mut self, shared: &mut Shared) {
        shared.peers.bytes -= self.bytes();
        self.inbox.clear();
        self.ephemeral.clear();
        self.busy.clear();
        self.talks.values_mut().for_each(|talk| *talk = Talk::default());
        (self.inbox_bytes, self.talk_bytes) = (0, 0);
        for document in std::mem::take(&mut self.arriving) {
            shared.has_arrived(&self.key(document));
        }
        shared.peers.uploads.forget(self.id);
        shared.peers.eventful.remove(&self.id);
    }

    /// It had its time to join.
    pub(super) fn handle_timeout(&mut self, shared: &mut Shared) {
        if self.joined.is_none() {
            self.close(shared, ByeCode::Timeout, &PeerError::Timeout.to_string());
        }
    }

    /// A sync message, which came in this one, waits for the turn: it reads the store.
    fn queue_sync(
        &mut self,
        shared: &mut Shared,
        sync: &SyncFrame<'_>,
        message: &Bytes,
    ) -> Result<(), PeerError> {
        let document = sync.document;
        self.charge(&mut shared.peers, sync.data.len() + MESSAGE_BYTES);
        if self.inbox_bytes > INBOX_BYTES_MAX {
            let what = "bytes of messages waiting";
            return Err(PeerError::TooMuch { what, max: INBOX_BYTES_MAX });
        }
        if !self.talks.contains_key(&document) {
            if self.talks.len() >= DOCUMENTS_MAX {
                return Err(PeerError::TooMuch { what: "documents", max: DOCUMENTS_MAX });
            }
            self.talks.insert(document, Talk::default());
            shared.peers.open.entry(self.key(document)).or_default().insert(self.id);
            self.owe_heads_known(shared, document);
        }
        let data = match sync.data.len() {
            // It would keep all that was read with it.
            ..COPIED_BYTES_MAX => Bytes::copy_from_slice(sync.data),
            _ => message.slice_ref(sync.data),
        };
        let work = Work::Message { document, is_request: sync.is_request, data };
        self.queue_work(&mut shared.peers, work);
        Ok(())
    }
}

impl Relay {
    /// A connection was accepted that speaks automerge-repo's protocol about documents of `space`.
    /// `principal` is who it proved to be, where that is asked of it.
    pub fn handle_peer_connected(
        &mut self,
        now: u64,
        id: ConnectionId,
        space: SpaceName,
        principal: Option<Principal>,
    ) {
        let rights = self.rights(principal.as_ref(), &space);
        let peer = Peer::new(now, id, space, principal.clone(), rights);
        self.accept(now, id, Connection::Peer(peer.into()));
        self.timers.insert((now + HANDSHAKE_MS_MAX, id));
        self.admit_peer(id, principal);
    }

    pub(super) fn handle_peer_message(&mut self, id: ConnectionId, message: &Bytes) {
        let handled = match RepoFrame::decode(message) {
            Ok(frame) => self.handle_repo_frame(id, frame, message),
            Err(error) => return self.close_for_protocol(id, &error),
        };
        if let Err(error) = handled {
            self.close_for_protocol(id, &error);
        }
        self.shed_peers();
    }

    pub(super) fn forget_peer(&mut self, mut peer: Peer) {
        peer.drop_work(&mut self.shared);
        self.timers.remove(&(peer.opened_at + HANDSHAKE_MS_MAX, peer.id));
        self.entries.forget(peer.id, peer.principal.as_ref());
        let peers = &mut self.shared.peers;
        if let Some(joined) = &peer.joined {
            let key = (peer.space.clone(), joined.name.clone());
            if let Some(connections) = peers.names.get_mut(&key) {
                *connections -= 1;
                if *connections == 0 {
                    peers.names.remove(&key);
                }
            }
        }
        for document in peer.talks.keys() {
            peers.dirty.remove(&(peer.id, *document));
            let key = peer.key(*document);
            if let Some(open) = peers.open.get_mut(&key) {
                open.remove(&peer.id);
                if open.is_empty() {
                    peers.open.remove(&key);
                }
            }
        }
        for storage in &peer.subscriptions {
            let key = (peer.space.clone(), storage.to_string());
            peers.remote_heads.unsubscribe(peer.id, &key);
        }
    }

    /// Closes the peer that makes the relay remember most, until all together are within the limit.
    pub(super) fn shed_peers(&mut self) {
        while self.shared.peers.bytes > self.shared.options.peer_bytes_max {
            let open = self.connections.peers().filter(|peer| peer.closing.is_none());
            let Some(largest) = open.max_by_key(|peer| peer.bytes()) else { return };
            let (id, bytes) = (largest.id, self.shared.peers.bytes);
            tracing::warn!(conn = id.0, bytes, "too much of peers is waiting");
            let message = "too much of what clients sent is waiting; come back later";
            self.close(id, ByeCode::Unavailable, message);
        }
    }

    fn handle_repo_frame(
        &mut self,
        id: ConnectionId,
        frame: RepoFrame<'_>,
        message: &Bytes,
    ) -> Result<(), PeerError> {
        let Some((peer, shared)) = self.peer(id) else { return Ok(()) };
        let Some(joined) = &peer.joined else {
            return match frame {
                RepoFrame::Join { sender, storage, speaks_version_1, .. } => {
                    self.join(id, sender, storage, speaks_version_1)
                }
                _ => Err(PeerError::NotJoined),
            };
        };
        let is_address = |sender: &str, target: &str| {
            if sender == joined.name && *target == *shared.repo_name {
                Ok(())
            } else {
                Err(PeerError::Address)
            }
        };
        match frame {
            RepoFrame::Sync(sync) => {
                is_address(sync.sender, sync.target)?;
                peer.queue_sync(shared, &sync, message)
            }
            RepoFrame::Ephemeral(ephemeral) => {
                self.take_ephemeral(id, &ephemeral);
                Ok(())
            }
            // Documents that another peer lacks are of no use here.
            RepoFrame::DocUnavailable { sender, target, .. } => is_address(sender, target),
            RepoFrame::RemoteSubscriptionChange { sender, add, remove } => {
                is_address(sender, &shared.repo_name)?;
                peer.change_subscriptions(shared, &add, &remove)
            }
            RepoFrame::RemoteHeadsChanged(remote) => {
                is_address(remote.sender, remote.target)?;
                self.take_remote_heads(id, &remote);
                Ok(())
            }
            RepoFrame::Leave { .. } | RepoFrame::Error { .. } => {
                // It says that it goes, so there is nothing more to say to it.
                peer.close(shared, ByeCode::Stopping, "left");
                Ok(())
            }
            RepoFrame::Join { .. } => Err(PeerError::JoinedTwice),
            RepoFrame::Peer { .. } => Err(PeerError::Unexpected { kind: "peer" }),
        }
    }

    /// Answers a join.
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
        let Some((peer, shared)) = self.peer(id) else { return Ok(()) };
        let (sender, target) = (&*shared.repo_name, name);
        let answer = RepoFrame::Peer { sender, target, storage: &shared.repo_storage() };
        peer.control.push(answer.encode());
        let name = name.to_owned();
        let key = (peer.space.clone(), name.clone());
        peer.joined = Some(Joined { name, storage: storage.map(str::to_owned) });
        shared.ready.insert(id);
        *shared.peers.names.entry(key).or_default() += 1;
        Ok(())
    }
}

/// Documents one connection may have open. Each takes some 300 bytes, beside those that are charged
/// for it.
const DOCUMENTS_MAX: usize = 100_000;

/// Bytes of messages of one connection that wait to be worked off, uploads included.
const INBOX_BYTES_MAX: usize = 2 * rejoin_core::limits::REPO_FRAME_BYTES_MAX;

/// Bytes of a message that is copied to wait.
const COPIED_BYTES_MAX: usize = 64 << 10;

/// Memory that a message takes beside its bytes.
const MESSAGE_BYTES: usize = 256;

/// Memory that one of its changes takes beside its bytes.
const CHUNK_BYTES: usize = 48;
