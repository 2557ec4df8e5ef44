//! A peer of automerge-repo, with Automerge's own sync protocol, and no network.

use std::collections::BTreeMap;

use automerge::sync::{Message, State, SyncDoc};
use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ROOT, ReadDoc};
use rejoin_core::automerge_repo::{RepoFrame, SyncFrame};
use rejoin_core::{ChangeHash, DocumentId, SpaceName};
use rejoin_relay::{Close, ConnectionId};

use crate::harness::{PLENTY, World, space};

/// One connection, and what the peer keeps beyond it.
pub(crate) struct RepoPeer {
    pub(crate) id: ConnectionId,
    pub(crate) name: String,
    pub(crate) relay: String,
    pub(crate) documents: BTreeMap<DocumentId, Held>,
    /// What came that is no sync message, as it came.
    pub(crate) others: Vec<Vec<u8>>,
    /// Sync messages that came.
    pub(crate) messages: Vec<Message>,
    pub(crate) unavailable: Vec<DocumentId>,
    pub(crate) error: Option<String>,
    pub(crate) close: Option<Close>,
}

pub(crate) struct Held {
    pub(crate) doc: AutoCommit,
    pub(crate) state: State,
}

impl RepoPeer {
    /// Connects and joins.
    pub(crate) fn join(world: &mut World, name: &str) -> Self {
        Self::join_to(world, space(), name)
    }

    pub(crate) fn join_to(world: &mut World, space: SpaceName, name: &str) -> Self {
        let mut peer = Self::connect(world, space, name);
        world.relay.handle_message(peer.id, peer.join_frame());
        peer.receive(world);
        assert_ne!(peer.relay, "", "the relay answers a join");
        peer
    }

    pub(crate) fn connect(world: &mut World, space: SpaceName, name: &str) -> Self {
        let id = world.next_connection();
        world.relay.handle_peer_connected(world.now, id, space, None);
        Self {
            id,
            name: name.to_owned(),
            relay: String::new(),
            documents: BTreeMap::new(),
            others: Vec::new(),
            messages: Vec::new(),
            unavailable: Vec::new(),
            error: None,
            close: None,
        }
    }

    pub(crate) fn join_frame(&self) -> Vec<u8> {
        let storage = format!("storage of {}", self.name);
        RepoFrame::Join {
            sender: &self.name,
            storage: Some(&storage),
            is_ephemeral: false,
            speaks_version_1: true,
        }
        .encode()
    }

    /// The same peer over another connection, with what it keeps of its sync states.
    pub(crate) fn rejoin(self, world: &mut World) -> Self {
        world.relay.handle_disconnected(self.id);
        let mut peer = Self::join(world, &self.name);
        peer.documents = self.documents;
        for held in peer.documents.values_mut() {
            held.state = State::decode(&held.state.encode()).unwrap();
        }
        peer
    }

    pub(crate) fn doc(&mut self, document: DocumentId) -> &mut AutoCommit {
        let actor = ActorId::from(self.name.as_bytes());
        let held = self.documents.entry(document).or_insert_with(|| Held {
            doc: AutoCommit::new().with_actor(actor),
            state: State::new(),
        });
        &mut held.doc
    }

    pub(crate) fn put(&mut self, document: DocumentId, key: &str, value: &str) {
        let doc = self.doc(document);
        doc.put(ROOT, key, value).unwrap();
        doc.commit();
    }

    pub(crate) fn get(&mut self, document: DocumentId, key: &str) -> Option<String> {
        let value = self.doc(document).get(ROOT, key).unwrap();
        value.map(|(value, _)| value.into_string().unwrap())
    }

    pub(crate) fn heads(&mut self, document: DocumentId) -> Vec<ChangeHash> {
        self.doc(document).get_heads().iter().map(|head| ChangeHash(head.0)).collect()
    }

    /// Heads the relay last told of a document.
    pub(crate) fn told(&self, document: DocumentId) -> Vec<ChangeHash> {
        let heads = self.documents[&document].state.their_heads.iter().flatten();
        heads.map(|head| ChangeHash(head.0)).collect()
    }

    /// Sends the sync message that is due about a document, as a request if it has nothing of it.
    pub(crate) fn send_about(&mut self, world: &mut World, document: DocumentId) -> bool {
        let is_request = self.heads(document).is_empty();
        let held = self.documents.get_mut(&document).unwrap();
        let message = held.doc.sync().generate_sync_message(&mut held.state);
        let Some(message) = message else { return false };
        self.send_data(world, document, is_request, &message.encode());
        true
    }

    pub(crate) fn send_data(
        &self,
        world: &mut World,
        document: DocumentId,
        is_request: bool,
        data: &[u8],
    ) {
        let (sender, target) = (&*self.name, &*self.relay);
        let frame = RepoFrame::Sync(SyncFrame { sender, target, document, is_request, data });
        world.relay.handle_message(self.id, frame.encode());
    }

    pub(crate) fn send(&mut self, world: &mut World) -> bool {
        let documents: Vec<_> = self.documents.keys().copied().collect();
        let mut sent = false;
        for document in documents {
            sent |= self.send_about(world, document);
        }
        sent
    }

    /// Takes what the relay has for it.
    pub(crate) fn receive(&mut self, world: &mut World) -> bool {
        let frames = world.relay.poll_transmit(world.now, self.id, PLENTY);
        frames.iter().for_each(|frame| self.take(frame));
        self.close = world.relay.poll_close(self.id).or_else(|| self.close.take());
        !frames.is_empty()
    }

    fn take(&mut self, frame: &[u8]) {
        match RepoFrame::decode(frame).unwrap() {
            RepoFrame::Peer { sender, .. } => self.relay = sender.to_owned(),
            RepoFrame::Sync(sync) => {
                assert_eq!((sync.sender, sync.target), (&*self.relay, &*self.name));
                let message = Message::decode(sync.data).unwrap();
                self.messages.push(message.clone());
                self.doc(sync.document);
                let held = self.documents.get_mut(&sync.document).unwrap();
                held.doc.sync().receive_sync_message(&mut held.state, message).unwrap();
            }
            RepoFrame::DocUnavailable { document, .. } => self.unavailable.push(document),
            RepoFrame::Error { message, .. } => self.error = Some(message.to_owned()),
            _ => self.others.push(frame.to_owned()),
        }
    }
}

/// Lets everything happen that can.
pub(crate) fn drive(world: &mut World, peers: &mut [&mut RepoPeer]) {
    let mut quiet = 0;
    for _ in 0..10_000 {
        let mut moved = false;
        for peer in peers.iter_mut().filter(|peer| peer.close.is_none()) {
            moved |= peer.send(world);
        }
        world.turn();
        for peer in peers.iter_mut() {
            moved |= peer.receive(world);
        }
        // A message with many changes is worked off in several turns.
        quiet = if moved { 0 } else { quiet + 1 };
        if quiet == 5 {
            return;
        }
    }
    panic!("still moving after 10,000 rounds");
}
