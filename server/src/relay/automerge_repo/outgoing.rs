//! What a peer is sent next.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use rejoin_core::automerge_repo::{RepoFrame, SyncFrame, Takes};
use rejoin_core::wire::{Access, ByeCode};
use rejoin_core::{ChangeGraph, DocumentId, SpaceName};

use super::super::{ConnectionId, DocumentKey, Outgoing, Relay};
use super::Peer;
use crate::store::StoreError;

/// Messages that were made for one reader and are the same for others: of each document the last.
#[derive(Debug, Default)]
pub(super) struct Broadcasts {
    by_document: BTreeMap<DocumentKey, Broadcast>,
    bytes: usize,
}

#[derive(Debug)]
struct Broadcast {
    /// What its readers had.
    has: Vec<u32>,
    /// How many changes the document has.
    changes: usize,
    /// Whether they take a document in place of changes.
    takes_document: bool,
    data: Vec<u8>,
}

impl Broadcasts {
    fn get(&self, key: &DocumentKey, plain: (&[u32], bool), changes: usize) -> Option<&[u8]> {
        let broadcast = self.by_document.get(key)?;
        let same = (&*broadcast.has, broadcast.takes_document) == plain;
        (same && broadcast.changes == changes).then_some(&*broadcast.data)
    }

    fn put(&mut self, key: DocumentKey, broadcast: Broadcast) {
        if broadcast.data.len() > MESSAGE_KEPT_BYTES_MAX {
            return;
        }
        if self.bytes > BROADCAST_BYTES_MAX {
            self.by_document.clear();
            self.bytes = 0;
        }
        self.bytes += broadcast.bytes();
        let before = self.by_document.insert(key, broadcast);
        self.bytes -= before.map_or(0, |before| before.bytes());
    }

    fn remove(&mut self, key: &DocumentKey) {
        let removed = self.by_document.remove(key);
        self.bytes -= removed.map_or(0, |removed| removed.bytes());
    }
}

impl Broadcast {
    fn bytes(&self) -> usize {
        self.data.len() + BROADCAST_BYTES
    }
}

impl Relay {
    /// What to send to a peer that can take more, made now.
    pub(in crate::relay) fn poll_peer_transmit(
        &mut self,
        id: ConnectionId,
        budget_bytes: usize,
    ) -> Outgoing {
        self.ready.remove(&id);
        let mut frames = Outgoing::new();
        let mut spent = 0;
        while spent < budget_bytes {
            let frame = match self.next_frame(id) {
                Ok(Some(frame)) => frame,
                Ok(None) => return frames,
                Err((document, error)) => {
                    self.pass_over(id, &document, &error);
                    continue;
                }
            };
            self.counters.frames_out += 1;
            self.counters.bytes_out += frame.len() as u64;
            spent += frame.len();
            frames.push(frame);
        }
        self.ready.insert(id);
        frames
    }

    /// Everyone who has the document open may be told of it, its author too.
    pub(in crate::relay) fn mark_peers(&mut self, space: &SpaceName, document: &DocumentId) {
        let Some(open) = self.peers.open.get(&(space.clone(), *document)) else { return };
        for id in open {
            let Some(peer) = self.peers.by_connection.get_mut(id) else { continue };
            peer.dirty.insert(*document);
            self.ready.insert(*id);
        }
    }

    /// Drops what was made for readers of a document, and names those who have it open.
    pub(in crate::relay) fn forget_broadcast(&mut self, key: &DocumentKey) -> Vec<ConnectionId> {
        self.peers.broadcasts.remove(key);
        self.peers.open.get(key).into_iter().flatten().copied().collect()
    }

    fn next_frame(
        &mut self,
        id: ConnectionId,
    ) -> Result<Option<Vec<u8>>, (DocumentId, StoreError)> {
        loop {
            let Some(peer) = self.peers.by_connection.get_mut(&id) else { return Ok(None) };
            if let Some(closing) = &mut peer.closing {
                return Ok(closing.error.take());
            }
            if !peer.control.is_empty() {
                return Ok(Some(peer.control.remove(0)));
            }
            // They take turns, so that neither holds up the other.
            let hears = peer.hears_next || peer.dirty.is_empty();
            peer.hears_next = !hears;
            if hears {
                let before = peer.ephemeral.bytes();
                let name = peer.joined.as_ref().map_or("", |joined| &joined.name);
                let frame = peer.ephemeral.pop(name);
                self.peers.bytes = self.peers.bytes + peer.ephemeral.bytes() - before;
                if frame.is_some() {
                    return Ok(frame);
                }
            }
            let Some(document) = peer.next_dirty() else { return Ok(self.heads_frame(id)) };
            if let Some(frame) =
                self.document_frame(id, document).map_err(|error| (document, error))?
            {
                return Ok(Some(frame));
            }
        }
    }

    /// What there is to say about a document, if anything. It stays dirty while there is more.
    fn document_frame(
        &mut self,
        id: ConnectionId,
        document: DocumentId,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let own_name = Arc::clone(&self.repo_name);
        let nothing = ChangeGraph::new();
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return Ok(None) };
        peer.dirty.remove(&document);
        let key = (peer.space.clone(), document);
        if self.peers.arriving.contains_key(&key) || peer.busy.contains_key(&document) {
            // It is marked again when all of it has come.
            return Ok(None);
        }
        let Peer { talks, joined: Some(joined), .. } = peer else { return Ok(None) };
        let Some(talk) = talks.get_mut(&document) else { return Ok(None) };
        let stored = self.store.document(&key.0, &document)?;
        let graph = stored.map_or(&nothing, |(_, graph)| graph);
        let (sender, target) = (&*own_name, &*joined.name);
        if std::mem::take(&mut talk.is_unavailable) && graph.is_empty() {
            talk.conversation.set_unavailable();
            return Ok(Some(RepoFrame::DocUnavailable { sender, target, document }.encode()));
        }
        let frame = |data: &[u8]| {
            RepoFrame::Sync(SyncFrame { sender, target, document, is_request: false, data })
                .encode()
        };
        let changes = graph.len();
        let takes = match self.options.access {
            Access::Write
                if self.options.compaction.is_none() || self.peers.uploads.has_failed(&key) =>
            {
                Takes::Changes
            }
            Access::Write => Takes::Documents,
            _ => Takes::Nothing,
        };
        let plain = talk.conversation.plain(&talk.orphans);
        let plain = plain.filter(|_| takes != Takes::Nothing);
        let plain = plain.map(|(has, takes_document)| (has.to_vec(), takes_document));
        if let Some((has, takes_document)) = &plain
            && let Some(data) =
                self.peers.broadcasts.get(&key, (has.as_slice(), *takes_document), changes)
        {
            talk.conversation.tell_all(graph);
            return Ok(Some(frame(data)));
        }
        let is_due = talk.orphans.is_due(graph);
        let Some(owed) = talk.conversation.owed(graph, &talk.orphans) else {
            if is_due {
                self.take_orphans_in(id, document);
            }
            return Ok(None);
        };
        let parcel =
            self.store.parcel(&key.0, &document, &owed.ranks, owed.takes_document, PARCEL_BYTES)?;
        let stored = self.store.document(&key.0, &document)?;
        let graph = stored.map_or(&nothing, |(_, graph)| graph);
        let Some(parcel) = parcel else {
            let message =
                "what you lack is kept in a snapshot only; use a newer version of Automerge";
            self.close_peer(id, ByeCode::Protocol, message);
            return Ok(None);
        };
        let is_all = parcel.taken == owed.ranks.len();
        let chunks = parcel.chunks.iter().map(Vec::as_slice).collect();
        let message =
            talk.conversation.tell(graph, owed, parcel.taken, chunks, parcel.is_document, takes);
        let data = message.encode();
        let frame = frame(&data);
        if !is_all {
            peer.dirty.insert(document);
        } else if let Some((has, takes_document)) = plain {
            let broadcast = Broadcast { has, changes, takes_document, data };
            self.peers.broadcasts.put(key, broadcast);
        }
        self.weigh_talk(id, &document);
        if is_due {
            self.take_orphans_in(id, document);
        }
        Ok(Some(frame))
    }

    /// A document that cannot be read is passed over until it is mended; anything else ends the
    /// connection, and the next turn fails.
    fn pass_over(&mut self, id: ConnectionId, document: &DocumentId, error: &StoreError) {
        if error.is_confined() {
            return self.store.suspect(error);
        }
        let dyn_error = error as &dyn std::error::Error;
        tracing::error!(conn = id.0, %document, error = dyn_error, "read failed");
        self.store.fail();
        let message = "the relay cannot read its store at present";
        self.close_peer(id, ByeCode::Unavailable, message);
    }
}

impl Peer {
    /// The dirty document after the one that was told of last, so that all have their turn.
    fn next_dirty(&mut self) -> Option<DocumentId> {
        let after = self.last_told.map_or(Bound::Unbounded, Bound::Excluded);
        let next =
            self.dirty.range((after, Bound::Unbounded)).next().or_else(|| self.dirty.first());
        self.last_told = next.copied();
        self.last_told
    }
}

/// Bytes of changes in one message, more if a single change or snapshot is larger. JavaScript takes a
/// history at once in a second, and in parts in minutes.
const PARCEL_BYTES: usize = 16 << 20;

/// Bytes of messages kept for further readers, and what keeping one takes.
const BROADCAST_BYTES_MAX: usize = 4 << 20;
const BROADCAST_BYTES: usize = 128;

/// Bytes of a message that is kept: a longer one is to few readers.
const MESSAGE_KEPT_BYTES_MAX: usize = 256 << 10;
