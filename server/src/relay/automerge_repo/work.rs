//! The work on peers' sync messages.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use rejoin_core::automerge_repo::{Chunk, SyncMessage};
use rejoin_core::change::{self, ChunkKind, Place, chunks};
use rejoin_core::limits::REPO_CHANGES_MAX;
use rejoin_core::{ChangeGraph, ChangeHash, Collections, DocumentId};

use super::super::breaches::Breach;
use super::super::connections::Shared;
use super::super::intake::{Intake, Right, Writer};
use super::super::{Answer, Author, ConnectionId, Relay};
use super::{CHUNK_BYTES, MESSAGE_BYTES, Peer, PeerError, Peers};
use crate::store::StoreError;

/// Something to be worked off in a turn, in the order it came for its document.
#[derive(Debug)]
pub(super) enum Work {
    /// A sync message as it came.
    Message { document: DocumentId, is_request: bool, data: Bytes },
    /// The rest of one: its changes, and then its heads and needs.
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
    /// Bytes that the message takes of the peer's inbox, with the changes that it was taken apart
    /// into.
    pub(super) bytes: usize,
}

/// A document that came whole.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Arc<[u8]>,
    /// The number of its changes.
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
    /// Works off the messages of peers, each for its share of a turn.
    pub(in crate::relay) fn work_peers(&mut self, unix_ms: u64) -> Result<(), StoreError> {
        let eventful = std::mem::take(&mut self.shared.peers.eventful);
        let of_each = (CHANGES_PER_TURN / eventful.len().max(1)).max(CHANGES_PER_SHARE_MIN);
        for id in eventful {
            let mut share = of_each;
            while share > 0
                && let Some((peer, shared)) = self.peer(id)
                && let Some(work) = peer.next_work()
            {
                if let Some(done) = peer.work_off(shared, work, &mut share)? {
                    self.note_heads(id, done.document, &done.message.heads, unix_ms);
                }
                if self.shared.store.is_batch_full() {
                    self.commit_and_tell(unix_ms)?;
                }
            }
            if let Some((peer, shared)) = self.peer(id)
                && !peer.inbox.is_empty()
                && peer.closing.is_none()
            {
                shared.peers.eventful.insert(id);
            }
        }
        self.shed_peers();
        Ok(())
    }
}

impl Peer {
    pub(super) fn queue_work(&mut self, peers: &mut Peers, work: Work) {
        match self.busy.get_mut(&work.document()) {
            Some(waiting) => {
                let dropped = match work.is_whole_document() {
                    // It has all that those before it had. Automerge sends one with every edit
                    // until it hears that something came.
                    true => waiting.drain(..).map(|work| work.bytes()).sum(),
                    false => 0,
                };
                waiting.push_back(work);
                self.discharge(peers, dropped);
            }
            None => {
                self.inbox.push_back(work);
                peers.eventful.insert(self.id);
            }
        }
    }

    /// The changes that a document has got meanwhile may be those that orphans wait for.
    pub(super) fn take_orphans_in(&mut self, peers: &mut Peers, document: DocumentId) {
        self.queue_work(peers, Work::Orphans(document));
    }

    fn next_work(&mut self) -> Option<Work> {
        if self.closing.is_some() { None } else { self.inbox.pop_front() }
    }

    /// Returns the message that is worked off with this, if one is.
    fn work_off(
        &mut self,
        shared: &mut Shared,
        work: Work,
        share: &mut usize,
    ) -> Result<Option<Incoming>, StoreError> {
        *share = share.saturating_sub(1);
        let (document, bytes) = (work.document(), work.bytes());
        let done = match work {
            Work::Message { document, is_request, data } => {
                self.take_message(shared, document, is_request, &data, share)
            }
            Work::Changes(incoming) => self.take_changes(shared, incoming, share),
            Work::Orphans(document) => self.take_in(shared, document, Vec::new()).map(|()| None),
        };
        match done {
            // One damaged document must not stop the others.
            Err(error) if error.is_confined() => {
                shared.store.suspect(&error);
                self.end_message(shared, document, bytes);
                Ok(None)
            }
            done => done,
        }
    }

    fn take_message(
        &mut self,
        shared: &mut Shared,
        document: DocumentId,
        is_request: bool,
        data: &Bytes,
        share: &mut usize,
    ) -> Result<Option<Incoming>, StoreError> {
        let message = match SyncMessage::decode(data) {
            Ok(message) => message,
            Err(error) => {
                self.close_for_protocol(shared, &error);
                return Ok(None);
            }
        };
        let mut bytes = data.len() + MESSAGE_BYTES;
        if self.is_hidden(shared, document)? {
            self.finish_unavailable(shared, document, bytes);
            return Ok(None);
        }
        self.open(shared, document);
        let (changes, whole) = match taken_apart(&message, data) {
            Ok(parts) => parts,
            Err(error) => {
                self.close_for_protocol(shared, &error);
                return Ok(None);
            }
        };
        let beside = changes.len() * CHUNK_BYTES;
        self.charge(&mut shared.peers, beside);
        bytes += beside;
        let message = SyncMessage { changes: Vec::new(), ..message };
        let connection = self.id;
        let incoming =
            Incoming { connection, document, is_request, message, changes, whole: None, bytes };
        match whole {
            None => self.take_changes(shared, incoming, share),
            Some(whole) => {
                self.begin_upload(&mut shared.peers, &whole, incoming);
                Ok(None)
            }
        }
    }

    /// Whether a document is as if it did not exist. A peer without access does not learn that it
    /// does, and the protocol has no word for one that was erased.
    pub(super) fn is_hidden(
        &self,
        shared: &mut Shared,
        document: DocumentId,
    ) -> Result<bool, StoreError> {
        if self.rights.read.is_empty() || shared.store.is_erased(&self.space, &document)? {
            return Ok(true);
        }
        if self.rights.read == Collections::All {
            return Ok(false);
        }
        let collection = shared.store.collection_of(&self.space, &document)?;
        let new_ones = &shared.options.automerge_collection;
        Ok(!self.rights.read.contains(collection.as_ref().unwrap_or(new_ones)))
    }

    /// From now on it is told what others do in the document.
    fn open(&mut self, shared: &mut Shared, document: DocumentId) {
        let Some(talk) = self.talks.get_mut(&document) else { return };
        if !std::mem::replace(&mut talk.is_open, true) && self.principal.is_some() {
            self.owe_heads_known(shared, document);
        }
    }

    /// Takes as many of a message's changes as are due in this turn; after the last ones its heads
    /// and needs count.
    fn take_changes(
        &mut self,
        shared: &mut Shared,
        mut incoming: Incoming,
        share: &mut usize,
    ) -> Result<Option<Incoming>, StoreError> {
        let document = incoming.document;
        if self.is_hidden(shared, document)? {
            self.finish_unavailable(shared, document, incoming.bytes);
            return Ok(None);
        }
        let mut due: Vec<Bytes> = Vec::new();
        while (*share > 0 || due.is_empty())
            && let Some(chunk) = incoming.changes.pop_front()
        {
            *share = share.saturating_sub(cost(&chunk));
            due.push(chunk);
        }
        let orphans = self.talks.get(&document).map(|talk| &talk.orphans);
        if !due.is_empty() || orphans.is_some_and(|orphans| !orphans.is_empty()) {
            self.take_in(shared, document, due)?;
        }
        if self.closing.is_some() {
            return Ok(None);
        }
        if incoming.changes.is_empty() {
            self.finish(shared, &incoming)?;
            return Ok(Some(incoming));
        }
        self.keep_waiting(&document);
        if self.arriving.insert(document) {
            *shared.peers.arriving.entry(self.key(document)).or_default() += 1;
        }
        self.inbox.push_back(Work::Changes(incoming));
        Ok(None)
    }

    /// Messages about this document wait from now on, those included that came already.
    pub(super) fn keep_waiting(&mut self, document: &DocumentId) {
        if !self.busy.contains_key(document) {
            let inbox = std::mem::take(&mut self.inbox).into_iter();
            let (waiting, inbox) = inbox.partition(|work| work.document() == *document);
            self.inbox = inbox;
            self.busy.insert(*document, waiting);
        }
    }

    /// A message was worked off, and those about the same document may go on.
    fn end_message(&mut self, shared: &mut Shared, document: DocumentId, bytes: usize) {
        self.discharge(&mut shared.peers, bytes.min(self.inbox_bytes));
        shared.peers.dirty.insert((self.id, document));
        shared.ready.insert(self.id);
        let waiting = self.busy.remove(&document).unwrap_or_default();
        waiting.into_iter().rev().for_each(|work| self.inbox.push_front(work));
        if self.arriving.remove(&document) {
            shared.has_arrived(&self.key(document));
        }
        shared.peers.uploads.end(self.id, document);
    }

    /// Changes pass guard, order and admission; those that are kept are staged.
    fn take_in(
        &mut self,
        shared: &mut Shared,
        document: DocumentId,
        chunks: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        let stored = shared.store.document(&self.space, &document)?;
        let collection = stored.map(|(collection, _)| collection.clone());
        let collection = collection.unwrap_or_else(|| shared.options.automerge_collection.clone());
        let mut came: Vec<Chunk> = Vec::with_capacity(chunks.len());
        let mut no_changes = 0;
        for chunk in chunks {
            match change::parse(&chunk) {
                Ok(change) => came.push((change, chunk.into())),
                Err(error) => {
                    no_changes += 1;
                    let what = || format!("a change of {document}: {error}");
                    self.breach(shared, Breach::Change, 1, what);
                }
            }
        }
        shared.counters.refused.never += no_changes;
        let Some(talk) = self.talks.get_mut(&document) else { return Ok(()) };
        let nothing = ChangeGraph::new();
        let stored = shared.store.document(&self.space, &document)?;
        let graph = stored.map_or(&nothing, |(_, graph)| graph);
        if no_changes > 0 {
            talk.orphans.give_up();
        }
        let ready = talk.orphans.sort(graph, came);
        let place = Place { space: &self.space, collection: &collection, document: &document };
        let right = Right::of(&self.rights, &collection);
        let writer = Writer { right, principal: self.principal.as_ref(), binds: false };
        let mut intake = Intake::new(shared, place, &mut self.heads_added, writer)?;
        for (change, chunk) in &ready {
            intake.take(change, chunk)?;
        }
        let Intake { positions, refused, .. } = intake;
        refused.classes.values().for_each(|class| shared.counters.refused.count(*class));
        if let Some(class) = refused.class() {
            talk.orphans.give_up();
            let (count, reason) = (refused.classes.len() as u64, &refused.reason);
            let what = || format!("a change of {document}, {class:?}: {reason}");
            self.breach(shared, Breach::Change, count, what);
        }
        if positions.is_some() {
            let name = self.space.clone();
            shared.answers.push(Answer { author: Author::Peer, name, document, positions });
        }
        self.weigh_talk(shared, document);
        Ok(())
    }

    /// All changes of a message are staged or refused: its heads and needs count now.
    fn finish(&mut self, shared: &mut Shared, incoming: &Incoming) -> Result<(), StoreError> {
        let Incoming { document, is_request, message, bytes, .. } = incoming;
        let nothing = ChangeGraph::new();
        let stored = shared.store.document(&self.space, document)?;
        let graph = stored.map_or(&nothing, |(_, graph)| graph);
        // The relay has just the changes of the document that came, and that document is known to
        // load: no need to fold it.
        let is_snapshot = |whole: &&Whole| {
            whole.changes == graph.len() && sorted(&message.heads) == graph.heads()
        };
        let snapshot =
            incoming.whole.as_ref().filter(is_snapshot).map(|whole| whole.bytes.to_vec());
        if let Some(talk) = self.talks.get_mut(document) {
            talk.conversation.receive(message, graph);
            talk.is_unavailable = *is_request && graph.is_empty() && message.heads.is_empty();
        }
        if let Some(snapshot) = snapshot {
            shared.take_snapshot(&self.space, document, snapshot)?;
        }
        self.end_message(shared, *document, *bytes);
        self.weigh_talk(shared, *document);
        Ok(())
    }

    fn finish_unavailable(&mut self, shared: &mut Shared, document: DocumentId, bytes: usize) {
        if let Some(talk) = self.talks.get_mut(&document) {
            talk.is_unavailable = true;
        }
        self.end_message(shared, document, bytes);
        self.weigh_talk(shared, document);
    }

    /// Charges it for the memory that it makes the relay use for a document.
    pub(super) fn weigh_talk(&mut self, shared: &mut Shared, document: DocumentId) {
        if self.closing.is_some() {
            return;
        }
        let Some(talk) = self.talks.get_mut(&document) else { return };
        let bytes = talk.conversation.memory_bytes() + talk.orphans.bytes();
        self.talk_bytes = self.talk_bytes + bytes - talk.bytes;
        shared.peers.bytes = shared.peers.bytes + bytes - talk.bytes;
        talk.bytes = bytes;
        if self.talk_bytes > TALK_BYTES_MAX {
            let what = "bytes to remember";
            self.close_for_protocol(shared, &PeerError::TooMuch { what, max: TALK_BYTES_MAX });
        }
    }
}

/// The changes of a message, and the document that is among them.
fn taken_apart(
    message: &SyncMessage<'_>,
    data: &Bytes,
) -> Result<(VecDeque<Bytes>, Option<Bytes>), PeerError> {
    let mut changes = VecDeque::new();
    let mut whole = None;
    for item in &message.changes {
        for chunk in chunks(item) {
            match chunk? {
                (ChunkKind::Change, _) if changes.len() >= REPO_CHANGES_MAX => {
                    let (what, max) = ("changes in a message", REPO_CHANGES_MAX);
                    return Err(PeerError::TooMuch { what, max });
                }
                (ChunkKind::Change, chunk) => changes.push_back(data.slice_ref(chunk)),
                (ChunkKind::Document, chunk) if whole.is_none() => {
                    whole = Some(data.slice_ref(chunk));
                }
                (ChunkKind::Document, _) => {
                    return Err(PeerError::TooMuch { what: "documents in a message", max: 1 });
                }
                _ => return Err(PeerError::Chunk),
            }
        }
    }
    Ok((changes, whole))
}

fn sorted(heads: &[ChangeHash]) -> Vec<ChangeHash> {
    let mut heads = heads.to_vec();
    heads.sort_unstable();
    heads
}

/// The cost of checking a change in a peer's share of a turn. A deflated one may inflate to
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

/// Bytes that the relay remembers for one connection: the changes it said it has, and changes that
/// wait for others.
const TALK_BYTES_MAX: usize = 64 << 20;
