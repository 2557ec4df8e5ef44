//! Ephemeral messages, and presence that crosses between peers and replicas.

use std::collections::{BTreeMap, VecDeque};

use minicbor::bytes::ByteVec;
use rejoin_core::automerge_repo::{Ephemeral, RepoFrame};
use rejoin_core::limits::{EPHEMERAL_BYTES_MAX, PRESENCE_BYTES_MAX};
use rejoin_core::wire::Presence;
use rejoin_core::{PeerId, SpaceName};
use sha2::{Digest, Sha256};

use super::super::{ConnectionId, Relay};

/// Messages that wait for one peer. The oldest are dropped when it does not keep up: they say what
/// was going on a while ago.
#[derive(Debug, Default)]
pub(super) struct EphemeralQueue {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl EphemeralQueue {
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }

    fn push(&mut self, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
        while self.frames.len() > QUEUE_MAX || self.bytes > QUEUE_BYTES_MAX {
            self.pop();
        }
    }
}

/// The last count of each author's session in each space: the same message may come by several
/// ways.
#[derive(Debug, Default)]
pub(super) struct Seen {
    counts: BTreeMap<(SpaceName, String, String), u64>,
    /// The last count given to a presence value of a replica.
    own: u64,
}

impl Seen {
    /// Whether a message is new.
    fn take(&mut self, space: &SpaceName, ephemeral: &Ephemeral<'_>) -> bool {
        let (sender, session) = (ephemeral.sender.to_owned(), ephemeral.session.to_owned());
        let key = (space.clone(), sender, session);
        if self.counts.get(&key).is_some_and(|last| ephemeral.count <= *last) {
            return false;
        }
        self.note(key, ephemeral.count);
        true
    }

    fn note(&mut self, key: (SpaceName, String, String), count: u64) {
        if self.counts.len() >= SEEN_MAX {
            self.counts.clear();
        }
        self.counts.insert(key, count);
    }
}

impl Relay {
    /// Passes a message on to whoever has the document open, its author as it was.
    pub(super) fn take_ephemeral(&mut self, id: ConnectionId, ephemeral: &Ephemeral<'_>) {
        let Some(peer) = self.peers.by_connection.get(&id) else { return };
        let is_own = ephemeral.sender == peer.name();
        let is_refused = self.options.checks_ephemeral_sender && !is_own;
        let space = peer.space.clone();
        if is_refused || ephemeral.data.len() > EPHEMERAL_BYTES_MAX {
            let (document, bytes) = (ephemeral.document, ephemeral.data.len());
            tracing::debug!(conn = id.0, %document, bytes, "ephemeral message dropped");
        } else if self.peers.seen.take(&space, ephemeral) {
            self.give_ephemeral(&space, Some(id), ephemeral);
            self.give_presence(&space, ephemeral);
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
        let seen = &mut self.peers.seen;
        seen.own = unix_ms.max(seen.own + 1);
        let sender = presence.peer.to_string();
        // Peers pass on what they hear, back to here too.
        let own = seen.own;
        seen.note((space.clone(), sender.clone(), SESSION.to_owned()), own);
        let ephemeral = Ephemeral {
            sender: &sender,
            target: "",
            session: SESSION,
            count: own,
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
        let Some(open) = self.peers.open.get(&key) else { return };
        for id in open.iter().filter(|id| Some(**id) != from) {
            let Some(peer) = self.peers.by_connection.get_mut(id) else { continue };
            let frame = RepoFrame::Ephemeral(Ephemeral { target: peer.name(), ..*ephemeral });
            let frame = frame.encode();
            peer.ephemeral.push(frame);
            self.ready.insert(*id);
        }
    }

    /// A message as a presence value, for replicas. One that is too long for that is for peers only.
    fn give_presence(&mut self, space: &SpaceName, ephemeral: &Ephemeral<'_>) {
        if ephemeral.data.len() > PRESENCE_BYTES_MAX {
            return;
        }
        let presence = Presence {
            space: 0,
            document: ephemeral.document,
            peer: presence_peer(ephemeral.sender, ephemeral.session),
            value: Some(ByteVec::from(ephemeral.data.to_vec())),
            ttl_ms: PRESENCE_TTL_MS,
        };
        self.give_to_replicas(space, None, &presence);
    }
}

/// Half a hash of who a message is from.
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

/// Whether a document is open says nothing of how long a message means something; automerge-repo's
/// own presence is renewed every 15 s.
const PRESENCE_TTL_MS: u32 = 30_000;

/// Messages, and their bytes, that may wait for one peer.
const QUEUE_MAX: usize = 256;
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// The session that presence values of replicas are told as.
const SESSION: &str = "rejoin";

/// Sessions whose last count is remembered.
const SEEN_MAX: usize = 16_384;
