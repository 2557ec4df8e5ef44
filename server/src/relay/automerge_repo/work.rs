//! What peers' sync messages come to.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use rejoin_core::automerge_repo::{Chunk, SyncMessage};
use rejoin_core::change::{self, ChunkKind, Place, chunks};
use rejoin_core::limits::REPO_CHANGES_MAX;
use rejoin_core::wire::Access;
use rejoin_core::{ChangeGraph, ChangeHash, CollectionName, DocumentId, SpaceName};

use super::super::breaches::Breach;
use super::super::intake::Intake;
use super::super::{Answer, Author, ConnectionId, Relay};
use super::{CHUNK_BYTES, MESSAGE_BYTES, PeerError};
use crate::store::StoreError;

/// Something to be worked off in a turn, in the order it came for its document.
#[derive(Debug)]
pub(super) enum Work {
    /// A sync message as it came.
    Message { document: DocumentId, is_request: bool, data: Bytes },
    /// What is left of one: changes, and then what it says.
    Changes(Incoming),
    /// Some orphans' dependencies have come by another way.
    Orphans(DocumentId),
}

/// A sync message whose changes are being worked off.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) connection: ConnectionId,
    pub(super) document: DocumentId,
    is_request: bool,
    /// Without its changes.
    message: SyncMessage<'static>,
    /// Parts of the message, which are not copied: there may be a million of them.
    pub(super) changes: VecDeque<Bytes>,
    /// The document that was taken apart into them.
    pub(super) whole: Option<Whole>,
    /// What the message takes of the peer's inbox, and the changes that it was taken apart into.
    pub(super) bytes: usize,
}

/// A document that came whole.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Arc<[u8]>,
    /// How many changes it has.
    pub(super) changes: usize,
}

impl Work {
    fn document(&self) -> DocumentId {
        match self {
            Self::Message { document, .. } => *document,
            Self::Changes(incoming) => incoming.document,
            Self::Orphans(document) => *document,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Message { data, .. } => data.len() + MESSAGE_BYTES,
            Self::Changes(incoming) => incoming.bytes,
            Self::Orphans(_) => 0,
        }
    }

    fn is_whole_document(&self) -> bool {
        matches!(self, Self::Message { data, .. } if SyncMessage::is_document(data))
    }
}

impl Relay {
    pub(super) fn queue_work(&mut self, id: ConnectionId, work: Work) {
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return };
        match peer.busy.get_mut(&work.document()) {
            Some(waiting) => {
                if work.is_whole_document() {
                    // It has all that those before it had. Automerge sends one with every edit until
                    // it hears that something came.
                    let dropped: usize = waiting.drain(..).map(|work| work.bytes()).sum();
                    peer.inbox_bytes -= dropped;
                    self.peers.bytes -= dropped;
                }
                waiting.push_back(work);
            }
            None => {
                peer.inbox.push_back(work);
                self.peers.eventful.insert(id);
            }
        }
    }

    /// What a document has got meanwhile may be what orphans wait for.
    pub(super) fn take_orphans_in(&mut self, id: ConnectionId, document: DocumentId) {
        self.queue_work(id, Work::Orphans(document));
    }

    /// Works off what peers sent, each for its share of a turn.
    pub(in crate::relay) fn work_peers(&mut self, unix_ms: u64) -> Result<(), StoreError> {
        let eventful = std::mem::take(&mut self.peers.eventful);
        let of_each = (CHANGES_PER_TURN / eventful.len().max(1)).max(CHANGES_PER_SHARE_MIN);
        for id in eventful {
            let mut share = of_each;
            while share > 0
                && let Some(work) = self.next_work(id)
            {
                let (document, bytes) = (work.document(), work.bytes());
                match self.work_off(id, work, &mut share, unix_ms) {
                    Ok(()) => {}
                    // One damaged document must not stop the others.
                    Err(error) if error.is_confined() => {
                        self.store.suspect(&error);
                        self.end_message(id, &document, bytes);
                    }
                    Err(error) => return Err(error),
                }
                if self.store.is_batch_full() {
                    self.commit_and_tell(unix_ms)?;
                }
            }
            let peer = self.peers.by_connection.get(&id);
            if peer.is_some_and(|peer| !peer.inbox.is_empty() && peer.closing.is_none()) {
                self.peers.eventful.insert(id);
            }
        }
        self.shed_peers();
        Ok(())
    }

    fn next_work(&mut self, id: ConnectionId) -> Option<Work> {
        let peer = self.peers.by_connection.get_mut(&id)?;
        if peer.closing.is_some() { None } else { peer.inbox.pop_front() }
    }

    fn work_off(
        &mut self,
        id: ConnectionId,
        work: Work,
        share: &mut usize,
        unix_ms: u64,
    ) -> Result<(), StoreError> {
        *share = share.saturating_sub(1);
        match work {
            Work::Message { document, is_request, data } => {
                self.take_message(id, document, is_request, &data, share, unix_ms)
            }
            Work::Changes(incoming) => self.take_changes(id, incoming, share, unix_ms),
            Work::Orphans(document) => {
                let home = self.collection_of(id, &document)?;
                self.take_in(id, &document, home, Vec::new())
            }
        }
    }

    fn take_message(
        &mut self,
        id: ConnectionId,
        document: DocumentId,
        is_request: bool,
        data: &Bytes,
        share: &mut usize,
        unix_ms: u64,
    ) -> Result<(), StoreError> {
        let message = match SyncMessage::decode(data) {
            Ok(message) => message,
            Err(error) => {
                self.close_peer_for_protocol(id, &error);
                return Ok(());
            }
        };
        let mut bytes = data.len() + MESSAGE_BYTES;
        if !self.is_open_to(id) {
            // As if it did not exist: whoever may not have it does not learn that it does.
            self.finish_unavailable(id, &document, bytes);
            return Ok(());
        }
        let mut changes = VecDeque::new();
        let mut whole: Option<&[u8]> = None;
        for item in &message.changes {
            for chunk in chunks(item) {
                let taken = match chunk {
                    Ok((ChunkKind::Change, _)) if changes.len() >= REPO_CHANGES_MAX => {
                        let (what, max) = ("changes in a message", REPO_CHANGES_MAX);
                        Err(PeerError::TooMuch { what, max })
                    }
                    Ok((ChunkKind::Change, chunk)) => {
                        changes.push_back(data.slice_ref(chunk));
                        Ok(())
                    }
                    Ok((ChunkKind::Document, chunk)) if whole.is_none() => {
                        whole = Some(chunk);
                        Ok(())
                    }
                    Ok((ChunkKind::Document, _)) => {
                        Err(PeerError::TooMuch { what: "documents in a message", max: 1 })
                    }
                    Ok((_, _)) => Err(PeerError::Chunk),
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = taken {
                    self.close_peer_for_protocol(id, &error);
                    return Ok(());
                }
            }
        }
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return Ok(()) };
        let beside = changes.len() * CHUNK_BYTES;
        peer.inbox_bytes += beside;
        self.peers.bytes += beside;
        bytes += beside;
        let message = SyncMessage { changes: Vec::new(), ..message };
        let connection = id;
        let incoming =
            Incoming { connection, document, is_request, message, changes, whole: None, bytes };
        match whole {
            None => self.take_changes(id, incoming, share, unix_ms),
            Some(whole) => {
                self.begin_upload(whole, incoming);
                Ok(())
            }
        }
    }

    /// Takes as many of a message's changes as are due in this turn; the last bring with them what
    /// the message says.
    fn take_changes(
        &mut self,
        id: ConnectionId,
        mut incoming: Incoming,
        share: &mut usize,
        unix_ms: u64,
    ) -> Result<(), StoreError> {
        let document = incoming.document;
        if !self.is_open_to(id) {
            self.finish_unavailable(id, &document, incoming.bytes);
            return Ok(());
        }
        let mut due: Vec<Bytes> = Vec::new();
        while (*share > 0 || due.is_empty())
            && let Some(chunk) = incoming.changes.pop_front()
        {
            *share = share.saturating_sub(cost(&chunk));
            due.push(chunk);
        }
        let collection = self.collection_of(id, &document)?;
        if !due.is_empty() || !self.is_without_orphans(id, &document) {
            self.take_in(id, &document, collection, due)?;
        }
        if self.peers.is_closing(id) {
            return Ok(());
        }
        if incoming.changes.is_empty() {
            return self.finish(id, &incoming, unix_ms);
        }
        self.keep_waiting(id, &document);
        if let Some(peer) = self.peers.by_connection.get_mut(&id) {
            if peer.arriving.insert(document) {
                let key = (peer.space.clone(), document);
                *self.peers.arriving.entry(key).or_default() += 1;
            }
            peer.inbox.push_back(Work::Changes(incoming));
        }
        Ok(())
    }

    /// Whether a peer may know of documents of its space.
    fn is_open_to(&self, id: ConnectionId) -> bool {
        self.peers.by_connection.contains_key(&id) && self.options.access != Access::None
    }

    /// The collection of a document of the peer's space, if there is such a document.
    fn collection_of(
        &mut self,
        id: ConnectionId,
        document: &DocumentId,
    ) -> Result<Option<CollectionName>, StoreError> {
        let Some(peer) = self.peers.by_connection.get(&id) else { return Ok(None) };
        let stored = self.store.document(&peer.space, document)?;
        Ok(stored.map(|(collection, _)| collection.clone()))
    }

    /// Messages of this peer about this document wait from now on, those included that came already.
    pub(super) fn keep_waiting(&mut self, id: ConnectionId, document: &DocumentId) {
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return };
        if !peer.busy.contains_key(document) {
            let inbox = std::mem::take(&mut peer.inbox).into_iter();
            let (waiting, inbox) = inbox.partition(|work| work.document() == *document);
            peer.inbox = inbox;
            peer.busy.insert(*document, waiting);
        }
    }

    /// A peer has sent all it had of a document. Everyone may be told of it when nobody else is still
    /// sending.
    pub(super) fn has_arrived(&mut self, space: &SpaceName, document: &DocumentId) {
        let key = (space.clone(), *document);
        let Some(count) = self.peers.arriving.get_mut(&key) else { return };
        *count -= 1;
        if *count == 0 {
            self.peers.arriving.remove(&key);
            self.mark_peers(space, document);
        }
    }

    /// A message was worked off, and those about the same document may go on.
    fn end_message(&mut self, id: ConnectionId, document: &DocumentId, bytes: usize) {
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return };
        let bytes = bytes.min(peer.inbox_bytes);
        peer.inbox_bytes -= bytes;
        self.peers.bytes -= bytes;
        peer.dirty.insert(*document);
        self.ready.insert(id);
        let waiting = peer.busy.remove(document).unwrap_or_default();
        waiting.into_iter().rev().for_each(|work| peer.inbox.push_front(work));
        if peer.arriving.remove(document) {
            let space = peer.space.clone();
            self.has_arrived(&space, document);
        }
        self.peers.uploads.end(id, *document);
    }

    fn is_without_orphans(&self, id: ConnectionId, document: &DocumentId) -> bool {
        let peer = self.peers.by_connection.get(&id);
        let talk = peer.and_then(|peer| peer.talks.get(document));
        talk.is_none_or(|talk| talk.orphans.is_empty())
    }

    /// Guard, order, admission; what is kept is staged.
    fn take_in(
        &mut self,
        id: ConnectionId,
        document: &DocumentId,
        collection: Option<CollectionName>,
        chunks: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        let mut came: Vec<Chunk> = Vec::with_capacity(chunks.len());
        let mut no_changes = 0;
        for chunk in chunks {
            match change::parse(&chunk) {
                Ok(change) => came.push((change, chunk.into())),
                Err(error) => {
                    no_changes += 1;
                    self.breach(id, Breach::Change, 1, || {
                        format!("a change of {document}: {error}")
                    });
                }
            }
        }
        self.counters.refused.never += no_changes;
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return Ok(()) };
        let Some(talk) = peer.talks.get_mut(document) else { return Ok(()) };
        let nothing = ChangeGraph::new();
        let stored = self.store.document(&peer.space, document)?;
        let graph = stored.map_or(&nothing, |(_, graph)| graph);
        if no_changes > 0 {
            talk.orphans.give_up();
        }
        let ready = talk.orphans.sort(graph, came);
        let collection = collection.unwrap_or_else(|| self.options.automerge_collection.clone());
        let name = peer.space.clone();
        let place = Place { space: &name, collection: &collection, document };
        let Self { options, store, counters, peers, .. } = self;
        let Some(peer) = peers.by_connection.get_mut(&id) else { return Ok(()) };
        let mut intake = Intake::new(options, store, counters, place, &mut peer.heads_added)?;
        #[cfg(feature = "mutants")]
        {
            intake = intake.refusing(self.refuse.as_mut());
        }
        for (change, chunk) in &ready {
            intake.take(change, chunk)?;
        }
        let Intake { positions, refused, .. } = intake;
        refused.classes.values().for_each(|class| self.counters.refused.count(*class));
        if let Some(class) = refused.class() {
            if let Some(peer) = self.peers.by_connection.get_mut(&id)
                && let Some(talk) = peer.talks.get_mut(document)
            {
                talk.orphans.give_up();
            }
            let (count, reason) = (refused.classes.len() as u64, &refused.reason);
            let what = || format!("a change of {document}, {class:?}: {reason}");
            self.breach(id, Breach::Change, count, what);
        }
        if positions.is_some() {
            let document = *document;
            self.answers.push(Answer { author: Author::Peer, name, document, positions });
        }
        self.weigh_talk(id, document);
        Ok(())
    }

    /// All changes of a message are staged or refused: what it says counts now.
    fn finish(
        &mut self,
        id: ConnectionId,
        incoming: &Incoming,
        unix_ms: u64,
    ) -> Result<(), StoreError> {
        let Incoming { document, is_request, message, bytes, .. } = incoming;
        let nothing = ChangeGraph::new();
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return Ok(()) };
        let space = peer.space.clone();
        let stored = self.store.document(&space, document)?;
        let graph = stored.map_or(&nothing, |(_, graph)| graph);
        // What the relay has now is what came, and that is known to load: no need to fold it.
        let is_snapshot = |whole: &&Whole| {
            whole.changes == graph.len() && sorted(&message.heads) == graph.heads()
        };
        let snapshot =
            incoming.whole.as_ref().filter(is_snapshot).map(|whole| whole.bytes.to_vec());
        if let Some(talk) = peer.talks.get_mut(document) {
            talk.conversation.receive(message, graph);
            talk.is_unavailable = *is_request && graph.is_empty() && message.heads.is_empty();
        }
        if let Some(snapshot) = snapshot {
            self.take_snapshot(&space, document, snapshot)?;
        }
        self.end_message(id, document, *bytes);
        self.weigh_talk(id, document);
        self.note_heads(id, document, &message.heads, unix_ms);
        Ok(())
    }

    fn finish_unavailable(&mut self, id: ConnectionId, document: &DocumentId, bytes: usize) {
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return };
        if let Some(talk) = peer.talks.get_mut(document) {
            talk.is_unavailable = true;
        }
        self.end_message(id, document, bytes);
        self.weigh_talk(id, document);
    }

    /// Charges a connection what it makes the relay remember about a document.
    pub(super) fn weigh_talk(&mut self, id: ConnectionId, document: &DocumentId) {
        if self.peers.is_closing(id) {
            return;
        }
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return };
        let Some(talk) = peer.talks.get_mut(document) else { return };
        let bytes = talk.conversation.memory_bytes() + talk.orphans.bytes();
        peer.talk_bytes = peer.talk_bytes + bytes - talk.bytes;
        self.peers.bytes = self.peers.bytes + bytes - talk.bytes;
        talk.bytes = bytes;
        if peer.talk_bytes > TALK_BYTES_MAX {
            let what = "bytes to remember";
            self.close_peer_for_protocol(id, &PeerError::TooMuch { what, max: TALK_BYTES_MAX });
        }
    }
}

fn sorted(heads: &[ChangeHash]) -> Vec<ChangeHash> {
    let mut heads = heads.to_vec();
    heads.sort_unstable();
    heads
}

/// What checking a change costs of a peer's share of a turn. A deflated one may inflate to
/// thousands of times its length.
fn cost(chunk: &[u8]) -> usize {
    let is_deflated = chunk.get(8) == Some(&DEFLATED);
    1 + chunk.len() / 4096 + if is_deflated { DEFLATED_COST } else { 0 }
}

/// Changes that peers may have checked in one turn, so that others' wait for milliseconds at most.
const CHANGES_PER_TURN: usize = 2048;

/// Changes that each peer may have checked in one turn at least, however many there are.
const CHANGES_PER_SHARE_MIN: usize = 64;

/// Changes that a deflated one counts for.
const DEFLATED_COST: usize = 32;

/// The chunk type of a deflated change.
const DEFLATED: u8 = 2;

/// Bytes that the relay remembers for one connection: what it said it has, and changes that wait for
/// others.
const TALK_BYTES_MAX: usize = 64 << 20;
