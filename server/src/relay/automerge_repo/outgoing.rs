//! The frames that a peer is sent next.

use std::collections::BTreeMap;
use std::ops::Bound;

use rejoin_core::automerge_repo::{RepoFrame, SyncFrame, Takes};
use rejoin_core::wire::{Access, ByeCode};
use rejoin_core::{ChangeGraph, DocumentId};

use super::super::connections::Shared;
use super::super::transmit::Step;
use super::super::{ConnectionId, DocumentKey};
use super::{Peer, Peers, Talk};
use crate::store::{ChangeStore, StoreError};

/// Messages that were made for one reader and are the same for others: of each document the last.
#[derive(Debug, Default)]
pub(super) struct Broadcasts {
    by_document: BTreeMap<DocumentKey, Broadcast>,
    bytes: usize,
}

#[derive(Debug)]
struct Broadcast {
    /// The changes that its readers had.
    has: Vec<u32>,
    /// The number of the document's changes.
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

impl Peers {
    /// Drops the message that was made for readers of a document, and names the peers that have it
    /// open.
    pub(in crate::relay) fn forget_broadcast(&mut self, key: &DocumentKey) -> Vec<ConnectionId> {
        self.broadcasts.remove(key);
        self.open.get(key).into_iter().flatten().copied().collect()
    }

    /// The dirty document of a peer that comes after the one that was told of last, so that all
    /// have their turn.
    fn next_dirty(&self, id: ConnectionId, last_told: Option<DocumentId>) -> Option<DocumentId> {
        let (first, last) = ((id, DocumentId([0; 16])), (id, DocumentId([0xff; 16])));
        let after = last_told.map_or(Bound::Included(first), |told| Bound::Excluded((id, told)));
        let mut next = self.dirty.range((after, Bound::Included(last)));
        let next = next.next().or_else(|| self.dirty.range(first..=last).next());
        next.map(|(_, document)| *document)
    }
}

impl Shared {
    /// The kind of chunks that the relay takes from peers for a document.
    fn takes(&self, key: &DocumentKey) -> Takes {
        let has_worker = self.options.compaction.is_some();
        match self.options.access {
            Access::Write if has_worker && !self.peers.uploads.has_failed(key) => Takes::Documents,
            Access::Write => Takes::Changes,
            _ => Takes::Nothing,
        }
    }
}

impl Peer {
    /// The next frame, made now.
    pub(in crate::relay) fn step(&mut self, shared: &mut Shared) -> Step {
        match self.next_frame(shared) {
            Ok(Some(frame)) => Step::Send(frame, 0),
            Ok(None) => Step::Idle,
            Err((document, error)) => {
                self.pass_over(shared, document, &error);
                Step::Searched(0)
            }
        }
    }

    fn next_frame(
        &mut self,
        shared: &mut Shared,
    ) -> Result<Option<Vec<u8>>, (DocumentId, StoreError)> {
        loop {
            if let Some(closing) = &mut self.closing {
                return Ok(closing.last.take());
            }
            if !self.control.is_empty() {
                return Ok(Some(self.control.remove(0)));
            }
            let next = shared.peers.next_dirty(self.id, self.last_told);
            // Ephemeral messages and documents take turns, so that neither holds up the other.
            let hears = self.hears_next || next.is_none();
            self.hears_next = !hears;
            if hears {
                let before = self.ephemeral.bytes();
                let name = self.joined.as_ref().map_or("", |joined| &joined.name);
                let frame = self.ephemeral.pop(name);
                shared.peers.bytes = shared.peers.bytes + self.ephemeral.bytes() - before;
                if frame.is_some() {
                    return Ok(frame);
                }
            }
            self.last_told = next;
            let Some(document) = next else { return Ok(self.heads_frame(shared)) };
            let frame = self.document_frame(shared, document);
            if let Some(frame) = frame.map_err(|error| (document, error))? {
                return Ok(Some(frame));
            }
        }
    }

    /// The answer about a document that is as if it did not exist.
    fn hidden_frame(&mut self, shared: &Shared, document: DocumentId) -> Option<Vec<u8>> {
        let Self { talks, joined: Some(joined), .. } = self else { return None };
        let talk = talks.get_mut(&document)?;
        talk.is_open = false;
        if !std::mem::take(&mut talk.is_unavailable) {
            return None;
        }
        talk.conversation.set_unavailable();
        let (sender, target) = (&*shared.repo_name, &*joined.name);
        Some(RepoFrame::DocUnavailable { sender, target, document }.encode())
    }

    /// The kind of chunks that the relay takes from this peer for a document.
    fn takes(&self, shared: &mut Shared, key: &DocumentKey) -> Result<Takes, StoreError> {
        let collection = shared.store.document(&key.0, &key.1)?.map(|(name, _)| name.clone());
        let collection = collection.unwrap_or_else(|| shared.options.automerge_collection.clone());
        Ok(match self.rights.write.contains(&collection) {
            true => shared.takes(key),
            false => Takes::Nothing,
        })
    }

    /// The next frame about a document, if there is anything to say. The document stays dirty while
    /// there is more.
    fn document_frame(
        &mut self,
        shared: &mut Shared,
        document: DocumentId,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        shared.peers.dirty.remove(&(self.id, document));
        let key = self.key(document);
        if shared.peers.is_arriving(&key) || self.busy.contains_key(&document) {
            // It is marked again when all of it has come.
            return Ok(None);
        }
        // A document may have come to be in another collection than the peer asked for.
        if self.is_hidden(shared, document)? {
            return Ok(self.hidden_frame(shared, document));
        }
        let takes = self.takes(shared, &key)?;
        let Self { talks, joined: Some(joined), .. } = self else { return Ok(None) };
        let Some(talk) = talks.get_mut(&document) else { return Ok(None) };
        let nothing = ChangeGraph::new();
        let stored = shared.store.document(&key.0, &document)?;
        let graph = stored.map_or(&nothing, |(_, graph)| graph);
        let (sender, target) = (&*shared.repo_name, &*joined.name);
        if std::mem::take(&mut talk.is_unavailable) && graph.is_empty() {
            talk.conversation.set_unavailable();
            return Ok(Some(RepoFrame::DocUnavailable { sender, target, document }.encode()));
        }
        let frame = |data: &[u8]| {
            RepoFrame::Sync(SyncFrame { sender, target, document, is_request: false, data })
                .encode()
        };
        let changes = graph.len();
        let plain = talk.conversation.plain(&talk.orphans).filter(|_| takes != Takes::Nothing);
        let plain = plain.map(|(has, takes_document)| (has.to_vec(), takes_document));
        if let Some((has, takes_document)) = &plain
            && let Some(data) =
                shared.peers.broadcasts.get(&key, (has.as_slice(), *takes_document), changes)
        {
            talk.conversation.tell_all(graph);
            return Ok(Some(frame(data)));
        }
        let is_due = talk.orphans.is_due(graph);
        let told = match talk.tell(&mut shared.store, &key, takes)? {
            Told::Nothing => None,
            Told::NotInChanges => {
                let message =
                    "what you lack is kept in a snapshot only; use a newer version of Automerge";
                self.close(shared, ByeCode::Protocol, message);
                return Ok(None);
            }
            Told::Message { data, is_all } => {
                let frame = frame(&data);
                if !is_all {
                    shared.peers.dirty.insert((self.id, document));
                } else if let Some((has, takes_document)) = plain {
                    let broadcast = Broadcast { has, changes, takes_document, data };
                    shared.peers.broadcasts.put(key, broadcast);
                }
                self.weigh_talk(shared, document);
                Some(frame)
            }
        };
        if is_due {
            self.take_orphans_in(&mut shared.peers, document);
        }
        Ok(told)
    }

    /// A document that cannot be read is passed over until it is mended; anything else ends the
    /// connection, and the next turn fails.
    fn pass_over(&mut self, shared: &mut Shared, document: DocumentId, error: &StoreError) {
        if error.is_confined() {
            return shared.store.suspect(error);
        }
        let dyn_error = error as &dyn std::error::Error;
        tracing::error!(conn = self.id.0, %document, error = dyn_error, "read failed");
        shared.store.fail();
        let message = "the relay cannot read its store at present";
        self.close(shared, ByeCode::Unavailable, message);
    }
}

/// The news of a document for a peer.
enum Told {
    Nothing,
    /// It lacks changes that are no longer kept one by one, and takes no snapshot.
    NotInChanges,
    Message {
        data: Vec<u8>,
        /// Whether the message brings all that the peer lacks.
        is_all: bool,
    },
}

impl Talk {
    /// The next message about the document, with as many as fit of the changes that the peer lacks.
    fn tell(
        &mut self,
        store: &mut ChangeStore,
        key: &DocumentKey,
        takes: Takes,
    ) -> Result<Told, StoreError> {
        let nothing = ChangeGraph::new();
        let (space, document) = key;
        let stored = store.document(space, document)?;
        let graph = stored.map_or(&nothing, |(_, graph)| graph);
        let Some(owed) = self.conversation.owed(graph, &self.orphans) else {
            return Ok(Told::Nothing);
        };
        let parcel =
            store.parcel(space, document, &owed.ranks, owed.takes_document, PARCEL_BYTES)?;
        let stored = store.document(space, document)?;
        let graph = stored.map_or(&nothing, |(_, graph)| graph);
        let Some(parcel) = parcel else { return Ok(Told::NotInChanges) };
        let is_all = parcel.taken == owed.ranks.len();
        let chunks = parcel.chunks.iter().map(Vec::as_slice).collect();
        let message =
            self.conversation.tell(graph, owed, parcel.taken, chunks, parcel.is_document, takes);
        Ok(Told::Message { data: message.encode(), is_all })
    }
}

/// Bytes of changes in one message, more if a single change or snapshot is larger. JavaScript takes
/// a history at once in a second, and in parts in minutes.
const PARCEL_BYTES: usize = 16 << 20;

/// Bytes of messages kept for further readers, and memory that keeping one takes.
const BROADCAST_BYTES_MAX: usize = 4 << 20;
const BROADCAST_BYTES: usize = 128;

/// Bytes of a message that is kept: a longer one is to few readers.
const MESSAGE_KEPT_BYTES_MAX: usize = 256 << 10;
