//! Ephemeral messages, and presence that crosses between peers and replicas.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use minicbor::bytes::ByteVec;
use rejoin_core::automerge_repo::{Ephemeral, RepoFrame};
use rejoin_core::limits::{EPHEMERAL_BYTES_MAX, EPHEMERAL_SESSIONS_MAX, PRESENCE_BYTES_MAX};
use rejoin_core::wire::Presence;
use rejoin_core::{DocumentId, PeerId, SpaceName};
use sha2::{Digest, Sha256};

use super::super::breaches::Breach;
use super::super::connections::Shared;
use super::super::{ConnectionId, Relay};

/// Messages that wait for one peer. The oldest are dropped when it does not keep up: they tell
/// activity of a while ago.
#[derive(Debug, Default)]
pub(super) struct EphemeralQueue {
    messages: VecDeque<Arc<Waiting>>,
    bytes: usize,
}

/// A message, shared by all peers for which it waits: a frame of its own is made for each when it
/// is sent, for many of them may never read.
#[derive(Debug)]
struct Waiting {
    sender: String,
    session: String,
    count: u64,
    document: DocumentId,
    data: Vec<u8>,
}

impl EphemeralQueue {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Bytes that a peer is charged for it, although others may share it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next message, as a frame for its peer.
    pub(super) fn pop(&mut self, target: &str) -> Option<Vec<u8>> {
        let message = self.drop_oldest()?;
        let Waiting { sender, session, count, document, data } = &*message;
        let (count, document) = (*count, *document);
        let message = Ephemeral { sender, target, session, count, document, data };
        Some(RepoFrame::Ephemeral(message).encode())
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn push(&mut self, message: Arc<Waiting>) {
        self.bytes += message.bytes();
        self.messages.push_back(message);
        while self.messages.len() > QUEUE_MAX || self.bytes > QUEUE_BYTES_MAX {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) -> Option<Arc<Waiting>> {
        let oldest = self.messages.pop_front()?;
        self.bytes -= oldest.bytes();
        Some(oldest)
    }
}

impl Waiting {
    fn of(ephemeral: &Ephemeral<'_>) -> Self {
        let Ephemeral { sender, session, count, document, data, .. } = *ephemeral;
        let (sender, session) = (sender.to_owned(), session.to_owned());
        Self { sender, session, count, document, data: data.to_vec() }
    }

    fn bytes(&self) -> usize {
        self.data.len() + self.sender.len() + self.session.len() + WAITING_BYTES
    }
}

/// The last count of each author's session that came over one connection. It counts for this
/// connection alone, so that a peer that makes up an author or a count silences only itself.
#[derive(Debug, Default)]
pub(super) struct Heard {
    counts: BTreeMap<PeerId, u64>,
}

impl Heard {
    /// Whether a message is new over this connection: the same may come by several ways.
    fn take(&mut self, author: PeerId, count: u64) -> bool {
        if self.counts.get(&author).is_some_and(|last| count <= *last) {
            return false;
        }
        if self.counts.len() >= EPHEMERAL_SESSIONS_MAX && !self.counts.contains_key(&author) {
            self.counts.pop_first();
        }
        self.counts.insert(author, count);
        true
    }
}

impl Relay {
    /// Passes a message on to all peers that have the document open, with its author as it was.
    ///
    /// Peers pass on messages that they hear, so an author may be somebody behind the peer. A peer
    /// that joined the space over another connection is not: that connection brings its messages.
    pub(super) fn take_ephemeral(&mut self, id: ConnectionId, ephemeral: &Ephemeral<'_>) {
        let Some((peer, shared)) = self.peer(id) else { return };
        let Ephemeral { sender, session, count, document, .. } = *ephemeral;
        let (bytes, space) = (ephemeral.data.len(), peer.space.clone());
        if bytes > EPHEMERAL_BYTES_MAX {
            let what =
                || format!("{bytes} bytes about {document}, {EPHEMERAL_BYTES_MAX} are passed on");
            return peer.breach(shared, Breach::Ephemeral, 1, what);
        }
        if !peer.is_in(&document) {
            tracing::debug!(conn = id.0, %document, "ephemeral message of a stranger dropped");
            return;
        }
        let is_own = sender == peer.name();
        let is_refused = shared.options.checks_ephemeral_sender && !is_own;
        let joined = shared.peers.names.contains_key(&(space.clone(), sender.to_owned()));
        // A message that the relay sent itself comes back with its name.
        let speaks_itself = session == &*shared.repo_name || (joined && !is_own);
        if is_refused || speaks_itself {
            tracing::debug!(conn = id.0, %document, "ephemeral message of another dropped");
            return;
        }
        let author = presence_peer(sender, session);
        if peer.heard.take(author, count) {
            self.give_ephemeral(&space, Some(id), ephemeral);
            self.give_presence((space, author), id, is_own, ephemeral);
        }
    }

    /// A replica's presence value as an ephemeral message, for peers.
    pub(in crate::relay) fn give_to_peers(
        &mut self,
        space: &SpaceName,
        presence: &Presence,
        unix_ms: u64,
    ) {
        let Some(data) = &presence.value else { return };
        // Rises over restarts of the relay too, or peers would take it for an old one.
        self.shared.peers.presence_count = unix_ms.max(self.shared.peers.presence_count + 1);
        let session = Arc::clone(&self.shared.repo_name);
        let ephemeral = Ephemeral {
            sender: &presence.peer.to_string(),
            target: "",
            session: &session,
            count: self.shared.peers.presence_count,
            document: presence.document,
            data,
        };
        self.give_ephemeral(space, None, &ephemeral);
    }

    fn give_ephemeral(
        &mut self,
        space: &SpaceName,
        from: Option<ConnectionId>,
        ephemeral: &Ephemeral<'_>,
    ) {
        let key = (space.clone(), ephemeral.document);
        let Shared { peers, ready, .. } = &mut self.shared;
        let Some(open) = peers.open.get(&key) else { return };
        let message = Arc::new(Waiting::of(ephemeral));
        for id in open.iter().filter(|id| Some(**id) != from) {
            let Some(peer) = self.connections.peer_mut(*id) else { continue };
            if peer.closing.is_some() || !peer.is_in(&ephemeral.document) {
                continue;
            }
            let before = peer.ephemeral.bytes();
            peer.ephemeral.push(Arc::clone(&message));
            peers.bytes = peers.bytes + peer.ephemeral.bytes() - before;
            ready.insert(*id);
        }
    }

    /// A message as a presence value, for replicas. One that is too long for that is for peers
    /// only.
    fn give_presence(
        &mut self,
        author: (SpaceName, PeerId),
        from: ConnectionId,
        is_own: bool,
        ephemeral: &Ephemeral<'_>,
    ) {
        if ephemeral.data.len() > PRESENCE_BYTES_MAX {
            return;
        }
        // No replica has an id that is a hash of an author, so none keeps it from one.
        let holder = self.speakers.holder(&author).filter(|id| *id != from && !is_own);
        let holder = holder.and_then(|id| self.connections.peer(id));
        if holder.is_some_and(|peer| peer.closing.is_none()) {
            return;
        }
        self.speakers.hold(author.clone(), from);
        let (space, peer) = author;
        let presence = Presence {
            space: 0,
            document: ephemeral.document,
            peer,
            value: Some(ByteVec::from(ephemeral.data.to_vec())),
            ttl_ms: PRESENCE_TTL_MS,
        };
        self.give_to_replicas(&space, None, &presence);
    }
}

/// Half a hash of the author of a message.
fn presence_peer(sender: &str, session: &str) -> PeerId {
    let mut hash = Sha256::new();
    hash.update((sender.len() as u64).to_le_bytes());
    hash.update(sender);
    hash.update(session);
    let hash: [u8; 32] = hash.finalize().into();
    let mut peer = [0; 16];
    peer.copy_from_slice(&hash[..16]);
    PeerId(peer)
}

/// Milliseconds for which a message counts as presence; automerge-repo's own presence is renewed
/// every 15 s.
const PRESENCE_TTL_MS: u32 = 30_000;

/// Messages, and their bytes, that may wait for one peer.
const QUEUE_MAX: usize = 256;
const QUEUE_BYTES_MAX: usize = 320 << 10;

/// Memory that a message takes beside its bytes.
const WAITING_BYTES: usize = 256;
