//! A relay and its peers, driven until nothing moves.

use std::collections::{BTreeMap, BTreeSet};

use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ROOT};
use rejoin_core::repair::RepairItem;
use rejoin_core::session::{Opening, ReplicaEvent, ReplicaSession, SpaceStart};
use rejoin_core::wire::{
    Begun, BegunPiece, ChangePiece, CollectionDigest, Cursor, Frame, Piece, PieceOf, Refused,
    RefusedClass, Start,
};
use rejoin_core::{
    ChangeHash, CollectionName, DeviceId, DocumentId, HeadsHash, Identity, SetDigest, SpaceName,
    heads_hash,
};
use rejoin_relay::access::Principal;
use rejoin_relay::{Close, ConnectionId, Relay, RelayOptions};

use crate::disk::Disk;

/// Enough for every frame there is.
pub(crate) const PLENTY: usize = usize::MAX;

pub(crate) fn space() -> SpaceName {
    SpaceName::new("acme").unwrap()
}

pub(crate) fn jobs() -> CollectionName {
    CollectionName::new("jobs").unwrap()
}

/// A document without a natural key.
pub(crate) fn document(n: u8) -> DocumentId {
    DocumentId::from_random([n; 16])
}

/// Edits of one document, and the chunks they made.
pub(crate) struct Author {
    pub(crate) doc: AutoCommit,
    puts: usize,
}

impl Author {
    pub(crate) fn new(actor: u8) -> Self {
        Self { doc: AutoCommit::new().with_actor(ActorId::from([actor; 16])), puts: 0 }
    }

    /// One whose first change names a person.
    pub(crate) fn named(actor: u8, identity: &Identity) -> Self {
        let mut author = Self::new(actor);
        author.doc.set_author(Some(automerge::Author::from(identity.to_author())));
        author
    }

    /// One of a document that a replica was sent.
    pub(crate) fn of(replica: &mut Peer, document: DocumentId) -> Self {
        let doc = replica.documents.get_mut(&document).unwrap().fork();
        Self { doc, puts: 0 }
    }

    /// One change that sets `key`.
    pub(crate) fn put(&mut self, key: &str, value: &str) -> Vec<u8> {
        self.doc.put(ROOT, key, value).unwrap();
        self.doc.commit();
        self.doc.get_last_local_change().unwrap().raw_bytes().to_vec()
    }

    /// So many changes. Each says something new: putting what is there is no change.
    pub(crate) fn puts(&mut self, count: usize) -> Vec<Vec<u8>> {
        let puts = self.puts..self.puts + count;
        self.puts = puts.end;
        puts.map(|n| self.put("n", &n.to_string())).collect()
    }

    /// Another author of the same document.
    pub(crate) fn fork(&mut self, actor: u8) -> Self {
        Self { doc: self.doc.fork().with_actor(ActorId::from([actor; 16])), puts: 0 }
    }
}

pub(crate) fn hash(chunk: &[u8]) -> ChangeHash {
    rejoin_core::change::parse(chunk).unwrap().hash()
}

pub(crate) fn hashes(chunks: &[Vec<u8>]) -> Vec<ChangeHash> {
    chunks.iter().map(|chunk| hash(chunk)).collect()
}

/// A relay on a disk, and a clock.
pub(crate) struct World {
    pub(crate) disk: Disk,
    pub(crate) relay: Relay,
    pub(crate) now: u64,
    pub(crate) unix_ms: u64,
    connections: u64,
}

/// One replica in one session of one space.
pub(crate) struct Peer {
    pub(crate) id: ConnectionId,
    pub(crate) session: ReplicaSession,
    pub(crate) events: Vec<ReplicaEvent>,
    /// What it was sent and holds.
    pub(crate) documents: BTreeMap<DocumentId, AutoCommit>,
    /// Documents that are sent by themselves, and are not all there.
    pub(crate) parts: BTreeMap<DocumentId, PartHeld>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) cursor: Option<Cursor>,
    pub(crate) digests: Option<Vec<CollectionDigest>>,
    /// Documents that it was told are erased.
    pub(crate) erased: BTreeSet<DocumentId>,
    /// Documents that the relay lost changes of, by the last checkpoint.
    pub(crate) lost: u64,
    pub(crate) close: Option<Close>,
}

/// How much there is of a document that comes in parts.
#[derive(Debug, Clone, Default)]
pub(crate) struct PartHeld {
    through: u64,
    piece: Option<(PieceOf, u64)>,
    bytes: Vec<u8>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(RelayOptions::default())
    }

    pub(crate) fn with(options: RelayOptions) -> Self {
        Self::over(Disk::default(), options)
    }

    pub(crate) fn over(disk: Disk, options: RelayOptions) -> Self {
        let relay = open(&disk, options);
        Self { disk, relay, now: 1, unix_ms: 1_800_000_000_000, connections: 0 }
    }

    /// A relay that is open, whose disk is somebody else's.
    pub(crate) fn of(relay: Relay) -> Self {
        let disk = Disk::default();
        Self { disk, relay, now: 1, unix_ms: 1_800_000_000_000, connections: 0 }
    }

    /// Closes the store, and puts an empty one in its place.
    pub(crate) fn close(&mut self) {
        self.relay = open(&Disk::default(), RelayOptions::default());
    }

    /// The same store, opened again; sessions are gone.
    pub(crate) fn reopen(&mut self, options: RelayOptions) {
        self.close();
        self.relay = open(&self.disk, options);
    }

    pub(crate) fn connect(&mut self, cursor: Option<Cursor>, holds: bool) -> Peer {
        self.connect_to(space(), cursor, holds)
    }

    pub(crate) fn connect_to(
        &mut self,
        name: SpaceName,
        cursor: Option<Cursor>,
        holds: bool,
    ) -> Peer {
        self.open(SpaceStart { name, cursor, holds, begun: Vec::new() }, None)
    }

    /// The same replica in another session, with everything that came in the one before.
    pub(crate) fn reconnect(&mut self, before: Peer) -> Peer {
        let Peer { cursor, documents, parts, erased, id, .. } = before;
        self.relay.handle_disconnected(id);
        let begun = parts.iter().map(|(document, held)| held.begun(*document)).collect();
        let holds = !documents.is_empty();
        let start = SpaceStart { name: space(), cursor, holds, begun };
        Peer { documents, parts, erased, ..self.open(start, None) }
    }

    /// A session that goes on with the upload of a long change.
    pub(crate) fn connect_uploading(&mut self, upload: ChangeHash) -> Peer {
        let (name, cursor, holds, begun) = (space(), None, false, Vec::new());
        self.open(SpaceStart { name, cursor, holds, begun }, Some(upload))
    }

    /// One session of several spaces, of which it holds nothing.
    pub(crate) fn connect_to_all(&mut self, names: &[SpaceName]) -> Peer {
        let start = |name: &SpaceName| SpaceStart {
            name: name.clone(),
            cursor: None,
            holds: true,
            begun: Vec::new(),
        };
        self.open_as(DeviceId([1; 16]), names.iter().map(start).collect(), None, None)
    }

    /// Another device's replica, with nothing.
    pub(crate) fn connect_device(&mut self, device: u8) -> Peer {
        let (name, cursor, holds, begun) = (space(), None, false, Vec::new());
        let start = SpaceStart { name, cursor, holds, begun };
        self.open_as(DeviceId([device; 16]), vec![start], None, None)
    }

    /// The replica of somebody who signs in with a token, `USER ROLE,ROLE`.
    pub(crate) fn connect_as(&mut self, device: u8, token: &str) -> Peer {
        let (name, cursor, holds, begun) = (space(), None, false, Vec::new());
        let start = SpaceStart { name, cursor, holds, begun };
        self.open_as(DeviceId([device; 16]), vec![start], None, Some(token.into()))
    }

    fn open(&mut self, start: SpaceStart, upload: Option<ChangeHash>) -> Peer {
        self.open_as(DeviceId([1; 16]), vec![start], upload, None)
    }

    fn open_as(
        &mut self,
        device: DeviceId,
        spaces: Vec<SpaceStart>,
        upload: Option<ChangeHash>,
        token: Option<Vec<u8>>,
    ) -> Peer {
        let id = self.next_connection();
        self.relay.handle_connected(self.now, id);
        let cursor = spaces[0].cursor;
        let (app, identity) = (None, None);
        let (pushes, waiting) = (0, 0);
        let opening = Opening { device, token, app, identity, spaces, pushes, upload, waiting };
        Peer {
            id,
            session: ReplicaSession::new(self.now, opening),
            events: Vec::new(),
            documents: BTreeMap::new(),
            parts: BTreeMap::new(),
            frames: Vec::new(),
            cursor,
            digests: None,
            erased: BTreeSet::new(),
            lost: 0,
            close: None,
        }
    }

    pub(crate) fn next_connection(&mut self) -> ConnectionId {
        self.connections += 1;
        ConnectionId(self.connections)
    }

    pub(crate) fn turn(&mut self) {
        self.relay.turn(self.now, self.unix_ms).unwrap();
        while let Some(sign_in) = self.relay.poll_sign_in() {
            let token = String::from_utf8(sign_in.token).unwrap();
            let (user, roles) = token.split_once(' ').unwrap();
            let principal = Principal {
                user: user.to_owned(),
                roles: roles.split(',').map(str::to_owned).collect(),
                device: None,
                token: None,
                issued_s: None,
                expires_s: u64::MAX,
            };
            self.relay.handle_signed_in(sign_in.connection, Ok(principal));
            self.relay.turn(self.now, self.unix_ms).unwrap();
        }
    }

    /// Gives the relay what the peer has to send.
    pub(crate) fn send(&mut self, peer: &mut Peer) -> bool {
        let mut sent = false;
        while let Some(frame) = peer.session.poll_transmit() {
            self.relay.handle_message(peer.id, frame.encode());
            sent = true;
        }
        sent
    }

    /// Gives the peer what the relay has to send, within a budget of bytes.
    pub(crate) fn receive(&mut self, peer: &mut Peer, budget: usize) -> bool {
        let frames = self.relay.poll_transmit(self.now, peer.id, budget);
        let received = !frames.is_empty();
        frames.iter().for_each(|bytes| peer.handle(Frame::decode(bytes).unwrap().unwrap()));
        peer.close = self.relay.poll_close(peer.id).or_else(|| peer.close.take());
        received
    }

    /// Gives the peer the next frame that the relay has to send, if there is one.
    pub(crate) fn receive_one(&mut self, peer: &mut Peer) -> bool {
        loop {
            if self.receive(peer, 1) {
                return true;
            }
            // A search that found nothing to send ends a poll too.
            let mut ready = std::iter::from_fn(|| self.relay.poll_ready());
            if !ready.any(|id| id == peer.id) {
                return false;
            }
        }
    }

    /// Lets everything happen that can, with time passing whenever nothing else does.
    pub(crate) fn drive(&mut self, peers: &mut [&mut Peer]) {
        for _ in 0..10_000 {
            let mut moved = false;
            for peer in peers.iter_mut() {
                moved |= self.send(peer);
            }
            self.turn();
            for peer in peers.iter_mut() {
                moved |= self.receive(peer, PLENTY);
            }
            if !moved && !self.pass_time() {
                return;
            }
        }
        panic!("still moving after 10,000 rounds");
    }

    /// Skips to what is due next, unless that is a handshake nobody makes.
    fn pass_time(&mut self) -> bool {
        let Some(due) = self.relay.poll_timeout().filter(|due| *due < self.now + 5000) else {
            return false;
        };
        self.now = self.now.max(due);
        self.relay.handle_timeout(self.now);
        true
    }

    pub(crate) fn disconnect(&mut self, peer: &Peer) {
        self.relay.handle_disconnected(peer.id);
    }
}

impl Peer {
    pub(crate) fn push(&mut self, ticket: u64, document: DocumentId, changes: Vec<Vec<u8>>) {
        self.session.push(ticket, 0, document, jobs(), changes);
    }

    pub(crate) fn push_piece(&mut self, ticket: u64, document: DocumentId, piece: ChangePiece) {
        self.session.push_piece(ticket, 0, document, jobs(), piece);
    }

    fn handle(&mut self, frame: Frame) {
        self.frames.push(frame.clone());
        self.session.handle_frame(frame).unwrap();
        while let Some(event) = self.session.poll_event() {
            self.note(&event);
            self.events.push(event);
        }
    }

    fn note(&mut self, event: &ReplicaEvent) {
        match event {
            ReplicaEvent::Received { document, piece, changes, position, more, .. } => {
                let whole = piece.as_ref().and_then(|piece| self.take_piece(document, piece));
                let doc = self.documents.entry(*document).or_default();
                for chunk in whole.iter().chain(changes) {
                    doc.load_incremental(chunk).unwrap();
                }
                match (more, position) {
                    (Some(true), Some(position)) if piece.is_none() || whole.is_some() => {
                        self.parts.entry(*document).or_default().through = *position;
                    }
                    (Some(false), _) => drop(self.parts.remove(document)),
                    _ => {}
                }
            }
            ReplicaEvent::Erased { document, .. } => {
                self.documents.remove(document);
                self.parts.remove(document);
                self.erased.insert(*document);
            }
            // What is to come of what is older counts from the beginning.
            ReplicaEvent::Welcomed { spaces, .. } if spaces[0].start == Start::Beginning => {
                self.cursor = Some(spaces[0].cursor);
            }
            ReplicaEvent::Checkpoint { cursor, digests, lost, .. } => {
                self.cursor = Some(*cursor);
                self.digests = digests.clone();
                self.lost = *lost;
            }
            _ => {}
        }
    }

    /// Keeps a piece, and gives what it is a piece of when that is whole.
    fn take_piece(&mut self, document: &DocumentId, piece: &Piece) -> Option<Vec<u8>> {
        let held = self.parts.entry(*document).or_default();
        let of = Some((piece.kind, piece.position));
        if piece.offset == 0 {
            (held.piece, held.bytes) = (of, Vec::new());
        }
        assert_eq!((held.piece, held.bytes.len() as u64), (of, piece.offset), "in order");
        held.bytes.extend_from_slice(&piece.bytes);
        if (held.bytes.len() as u64) < piece.total {
            return None;
        }
        held.piece = None;
        Some(std::mem::take(&mut held.bytes))
    }

    /// Tickets acknowledged, in order.
    pub(crate) fn acked(&self) -> Vec<u64> {
        let acked = self.events.iter().filter_map(|event| match event {
            ReplicaEvent::Acked { ticket } => Some(*ticket),
            _ => None,
        });
        acked.collect()
    }

    pub(crate) fn refused(&self) -> Vec<Refused> {
        let refused = self.events.iter().filter_map(|event| match event {
            ReplicaEvent::Refused { refused, .. } => Some(refused.clone()),
            _ => None,
        });
        refused.collect()
    }

    /// The one refusal there was.
    pub(crate) fn refusal(&self) -> (RefusedClass, Vec<ChangeHash>) {
        let refused = self.refused();
        assert_eq!(refused.len(), 1, "{refused:?}");
        (refused[0].class, refused[0].hashes.clone())
    }

    /// Every change received, and everything that came in pieces, in order.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        let mut received = Vec::new();
        let mut pieces: BTreeMap<DocumentId, Vec<u8>> = BTreeMap::new();
        for event in &self.events {
            let ReplicaEvent::Received { document, piece, changes, .. } = event else { continue };
            if let Some(piece) = piece {
                let held = pieces.entry(*document).or_default();
                held.truncate(piece.offset as usize);
                held.extend_from_slice(&piece.bytes);
                if held.len() as u64 == piece.total {
                    received.push(std::mem::take(held));
                }
            }
            received.extend(changes.iter().cloned());
        }
        received
    }

    pub(crate) fn is_told(&self) -> bool {
        !self.acked().is_empty() || !self.received().is_empty()
    }

    /// Whether the last checkpoint had digests, and they are of just what this peer holds.
    pub(crate) fn agrees(&mut self) -> bool {
        let mut digest = SetDigest::EMPTY;
        for item in self.items_with_heads() {
            digest.insert(&item.0, &heads_hash(&item.1));
        }
        for document in &self.erased {
            digest.insert(document, &HeadsHash::ERASED);
        }
        let documents = self.documents.len() as u64;
        self.digests == Some(vec![CollectionDigest { collection: jobs(), digest, documents }])
    }

    pub(crate) fn items(&mut self) -> Vec<RepairItem> {
        let with_heads = self.items_with_heads().into_iter();
        let item = |(document, heads): (_, Vec<_>)| RepairItem {
            document,
            heads: heads_hash(&heads).short(),
        };
        with_heads.map(item).collect()
    }

    pub(crate) fn heads(&mut self, document: &DocumentId) -> Vec<ChangeHash> {
        let heads = self.documents.get_mut(document).unwrap().get_heads();
        heads.iter().map(|head| ChangeHash(head.0)).collect()
    }

    fn items_with_heads(&mut self) -> Vec<(DocumentId, Vec<ChangeHash>)> {
        let documents: Vec<_> = self.documents.keys().copied().collect();
        documents.iter().map(|document| (*document, self.heads(document))).collect()
    }
}

impl PartHeld {
    fn begun(&self, document: DocumentId) -> Begun {
        let bytes = self.bytes.len() as u64;
        let piece = self.piece.map(|(kind, position)| BegunPiece { kind, position, bytes });
        Begun { document, through: self.through, piece }
    }
}

pub(crate) fn open(disk: &Disk, options: RelayOptions) -> Relay {
    let mut next = 0;
    let ids = || {
        next += 1;
        [next; 16]
    };
    Relay::open(disk.database().unwrap(), options, ids).unwrap()
}

/// Text that does not deflate to nothing.
pub(crate) fn noise(seed: u64, len: usize) -> String {
    let mut state = seed + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b' ' + (state >> 33) as u8 % 90)
    };
    (0..len).map(|_| next()).collect()
}
