//! One replica: a real engine on a store in memory, to which changes are handed as a relay hands
//! them, but in any order.

use std::collections::BTreeMap;
use std::sync::Arc;

use automerge::Automerge;
use redb::Database;
use redb::backends::InMemoryBackend;
use rejoin::{ChangeHash, CollectionName, DocumentId, EditError, Identity, Op, SpaceName};
use rejoin_core::wire::{
    Access, Ack, Changes, Frame, Piece, PieceOf, Refused, RefusedClass, SpaceGranted, Start,
    Welcome,
};
use rejoin_core::{Epoch, Genesis, RelayId};
use rejoin_engine::store::Store;
use rejoin_engine::{Content, Edit, EditOutcome, Engine, EngineOptions};

use super::history::{History, Set};
use crate::sim::random::Random;

/// The space everything is in.
pub fn space() -> SpaceName {
    SpaceName::new("main").expect("a plain name")
}

/// The documents of a world: a job, and the schema of its collection.
pub const DOCUMENTS: [(&str, &str); 2] = [("jobs", "J-1"), ("rejoin.schemas", "jobs")];

/// The job.
pub const JOB: usize = 0;
/// The schema of jobs.
pub const SCHEMA: usize = 1;

/// The collection of a document.
pub fn collection(document: usize) -> CollectionName {
    CollectionName::new(DOCUMENTS[document].0).expect("a plain name")
}

/// The id of a document.
pub fn id(document: usize) -> DocumentId {
    let genesis = Genesis::first(DOCUMENTS[document].1).expect("a short key");
    DocumentId::derive(&space(), &collection(document), &genesis)
}

/// A replica and what it knows.
#[derive(Debug)]
pub struct Device {
    /// Its engine.
    pub engine: Engine,
    /// The changes of each document it has.
    pub known: [Set; 2],
    /// Heads of the job that somebody saw here.
    pub seen: Vec<Vec<ChangeHash>>,
    /// Seconds its clock is ahead.
    pub ahead_s: i64,
    options: EngineOptions,
    /// Where in the store its own next changes will be.
    next: [u64; 2],
    random: Random,
}

impl Device {
    /// An empty replica.
    pub fn new(mut random: Random) -> Self {
        let options = EngineOptions {
            value_bytes_eager_max: if random.chance(200) { 0 } else { 16 << 10 },
            documents_loaded_max: if random.chance(300) { 1 } else { 256 },
            ..EngineOptions::default()
        };
        let database = Database::builder().create_with_backend(InMemoryBackend::new());
        let store = Store::open(database.expect("memory"), random.bytes()).expect("a new store");
        let mut ids = random.fork();
        let engine = Engine::new(Arc::new(store), options.clone(), move || ids.bytes());
        let mut device = Self {
            engine: engine.expect("an empty store"),
            known: Default::default(),
            seen: Vec::new(),
            ahead_s: 30 * (random.between(0, 14) as i64 - 7),
            options,
            next: [0; 2],
            random,
        };
        device.connect();
        device
    }

    /// Opens the store again with nothing in memory.
    pub fn reopen(&mut self) {
        let mut ids = self.random.fork();
        let store = Arc::clone(self.engine.store());
        let engine = Engine::new(store, self.options.clone(), move || ids.bytes());
        self.engine = engine.expect("the store can be read");
        self.connect();
    }

    fn connect(&mut self) {
        self.engine.want_space(&space());
        self.engine.handle_connected(0, "ws://table/sync", None).expect("the store can be read");
        let granted = SpaceGranted {
            epoch: Epoch([1; 16]),
            start: Start::Beginning,
            access: Access::Write,
            position: 0,
            backfill: None,
            documents: 0,
            usual: None,
            read: None,
            write: None,
            scope: None,
        };
        self.hand(&Frame::Welcome(Welcome {
            relay: RelayId([1; 16]),
            spaces: vec![granted],
            time_ms: 0,
            frame_bytes_max: 1 << 20,
            uploaded: 0,
            identity: None,
            carries: None,
        }));
        self.turn(0, Vec::new());
    }

    fn hand(&mut self, frame: &Frame) {
        self.engine.handle_message(&frame.encode()).expect("a frame that a relay may send");
    }

    /// Edits and takes what was handed over, in one commit.
    pub fn turn(
        &mut self,
        unix_s: i64,
        mut edits: Vec<Edit>,
    ) -> Vec<Result<EditOutcome, EditError>> {
        if let [edit] = &mut *edits {
            // Who knows of a deletion and writes all the same says so by naming what they saw.
            if let Content::Ops { base: base @ None, ops } = &mut edit.content
                && !matches!(ops.as_slice(), [Op::Restore | Op::Delete])
                && let Ok(view) = self.engine.view(0, &id(JOB))
                && view.value["deleted"] == true
            {
                *base = Some(view.heads);
            }
        }
        let results = self.engine.turn(0, unix_s + self.ahead_s, edits).expect("the store works");
        assert_eq!(self.engine.status().trouble, None, "something was not taken");
        results
    }

    /// Hands over changes of a document, and what they build on, in any order and in batches of
    /// any size. [`turn`](Self::turn) takes them.
    pub fn receive(&mut self, document: usize, history: &History, some: &Set) {
        let new: Set = some.difference(&self.known[document]).copied().collect();
        let order = shuffled(history, &new, &mut self.random);
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.random.between(1, rest.len() as u64) as usize);
            let chunks = now.iter().map(|at| history.changes[*at].chunk.clone().into());
            self.hand_changes(document, None, chunks.collect());
            rest = later;
        }
        self.known[document].extend(new);
    }

    /// Hands over changes of a document, and what they build on, as a snapshot.
    pub fn receive_snapshot(&mut self, document: usize, history: &History, some: &Set) {
        let mut whole = Automerge::new();
        let change = |at: &usize| {
            let chunk = history.changes[*at].chunk.clone();
            automerge::Change::from_bytes(chunk).expect("it was one before")
        };
        whole.apply_changes(some.iter().map(change)).expect("they fit");
        self.receive_saved(document, &whole.save());
        self.known[document].extend(some);
    }

    /// Hands over a document as Automerge saves it. [`turn`](Self::turn) takes it.
    pub fn receive_saved(&mut self, document: usize, bytes: &[u8]) {
        let (offset, total) = (0, bytes.len() as u64);
        let (kind, position) = (PieceOf::Snapshot, 1);
        let piece = Piece { kind, position, offset, total, bytes: bytes.to_vec().into() };
        self.hand_changes(document, Some(piece), Vec::new());
    }

    fn hand_changes(
        &mut self,
        document: usize,
        piece: Option<Piece>,
        changes: Vec<minicbor::bytes::ByteVec>,
    ) {
        let (collection, document) = (Some(collection(document)), id(document));
        let (space, position, step) = (0, None, None);
        let more = piece.is_some().then_some(false);
        let changes = Changes { space, document, collection, piece, changes, position, more, step };
        self.hand(&Frame::Changes(changes));
    }

    /// The relay refuses the changes of the last edit, or some of them: others hold their places in
    /// the sequences of their actors, so they are made anew. Call before they are published.
    pub fn refuse(&mut self, unix_s: i64, changes: &[ChangeHash]) {
        let mut pushed = Vec::new();
        while let Some(message) = self.engine.poll_transmit(0).expect("the store can be read") {
            if let Ok(Some(Frame::Push(push))) = Frame::decode(&message) {
                pushed.push(push);
            }
        }
        for push in pushed {
            let hashes: Vec<_> = push
                .changes
                .iter()
                .filter_map(|chunk| rejoin_core::change::parse(chunk).ok())
                .filter(|change| !rejoin_core::change::is_reserved(change.actor()))
                .map(|change| change.hash())
                .filter(|hash| changes.contains(hash))
                .collect();
            if !hashes.is_empty() {
                let (class, heads) = (RefusedClass::ActorReused, Vec::new());
                let reason = "another change is there".to_owned();
                let refused =
                    Refused { n: push.n, class, hashes, heads, retry_after_ms: 0, reason };
                self.hand(&Frame::Refused(refused));
            }
            self.hand(&Frame::Ack(Ack { n: push.n }));
        }
        self.turn(unix_s, Vec::new());
    }

    /// Adds what was written here to the histories.
    pub fn publish(&mut self, histories: &mut [History; 2]) {
        let view = self.engine.store().read().expect("the store can be read");
        for (document, history) in histories.iter_mut().enumerate() {
            let id = id(document);
            let Some(row) = view.document(&id).expect("a sound row") else { continue };
            for (_, chunk) in view.changes(&id, self.next[document]).expect("sound rows") {
                let (at, _) = history.add(&chunk);
                self.known[document].insert(at);
            }
            self.next[document] = row.next;
            assert_eq!(row.heads, history.heads(&self.known[document]), "other changes are there");
        }
    }

    /// Acts as somebody else from now on.
    pub fn act_as(&mut self, identity: Option<Identity>) {
        self.engine.act_as(identity).expect("the store works");
    }

    /// Brings everything that waits up to date: documents whose schema changed, values that are
    /// behind.
    pub fn catch_up(&mut self) {
        while self.engine.is_behind() {
            self.engine.catch_up(0).expect("the store works");
        }
        self.engine.flush(0).expect("the store works");
    }
}

/// An order in which each comes after what it builds on.
fn shuffled(history: &History, some: &Set, random: &mut Random) -> Vec<usize> {
    let mut waiting: BTreeMap<usize, Set> = some
        .iter()
        .map(|at| (*at, history.changes[*at].ancestors.intersection(some).copied().collect()))
        .collect();
    let mut order = Vec::new();
    while !waiting.is_empty() {
        let ready = waiting.iter().filter(|(_, needs)| needs.is_empty()).map(|(at, _)| *at);
        let ready: Vec<usize> = ready.collect();
        let next = *random.pick(&ready).expect("histories have no circles");
        waiting.remove(&next);
        waiting.values_mut().for_each(|needs| _ = needs.remove(&next));
        order.push(next);
    }
    order
}
