//! Changes that are sound and do harm: they use up operation numbers, heads or depth of a document, or
//! end the process that applies them.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

use automerge::legacy::{Key, ObjectId, Op as LegacyOp, OpType};
use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, Change, ExpandedChange, ObjType, ROOT, ScalarValue};
use redb::Database;
use redb::backends::InMemoryBackend;
use rejoin_core::limits::{BEGUN_BYTES_MAX, HEADS_EASY_MAX, OP_START_MAX};
use rejoin_core::wire::{Access, Changes, Frame, Piece, PieceOf, SpaceGranted, Start, Welcome};
use rejoin_core::{ChangeHash, CollectionName, DocumentId, Epoch, RelayId, SpaceName};
use rejoin_engine::store::Store;
use rejoin_engine::{Content, Edit, EditError, Engine, EngineOptions, Op, Suspects, Target};
use serde_json::json;

fn main_space() -> SpaceName {
    SpaceName::new("main").unwrap()
}

fn jobs() -> CollectionName {
    CollectionName::new("jobs").unwrap()
}

fn document() -> DocumentId {
    DocumentId::from_random([3; 16])
}

/// A replica in a session with a relay that takes everything and sends what a test says.
fn engine() -> Engine {
    let mut engine = engine_of(store());
    connect(&mut engine);
    engine
}

fn store() -> Arc<Store> {
    let backend = InMemoryBackend::new();
    let database = Database::builder().create_with_backend(backend).unwrap();
    Arc::new(Store::open(database, [1; 16]).unwrap())
}

fn engine_of(store: Arc<Store>) -> Engine {
    let mut drawn = 0_u64;
    let random = move || {
        drawn += 1;
        let mut bytes = [9; 16];
        bytes[..8].copy_from_slice(&drawn.to_le_bytes());
        bytes
    };
    let mut engine = Engine::new(store, EngineOptions::default(), random).unwrap();
    engine.want_space(&main_space());
    engine
}

fn connect(engine: &mut Engine) {
    engine.handle_connected(0, "ws://relay.example", None).unwrap();
    let (access, start, backfill) = (Access::Write, Start::Beginning, None);
    let epoch = Epoch([7; 16]);
    let (position, documents, usual) = (0, 0, None);
    let (read, write, scope) = (None, None, None);
    let space = SpaceGranted {
        epoch,
        start,
        access,
        position,
        backfill,
        documents,
        usual,
        read,
        write,
        scope,
    };
    let welcome = Welcome {
        relay: RelayId([9; 16]),
        spaces: vec![space],
        time_ms: 0,
        frame_bytes_max: 1 << 20,
        uploaded: 0,
        identity: None,
        carries: None,
    };
    while engine.poll_transmit(0).unwrap().is_some() {}
    tell(engine, Frame::Welcome(welcome));
}

fn tell(engine: &mut Engine, frame: Frame) {
    engine.handle_message(&frame.encode()).unwrap();
    engine.turn(0, 0, Vec::new()).unwrap();
    assert!(engine.poll_close().is_none(), "the replica hung up");
}

fn send(engine: &mut Engine, changes: &[Change]) {
    for some in changes.chunks(1000) {
        let chunks = some.iter().map(|change| change.raw_bytes().to_vec().into());
        tell(engine, Frame::Changes(frame(chunks.collect(), None)));
    }
}

fn frame(changes: Vec<minicbor::bytes::ByteVec>, piece: Option<Piece>) -> Changes {
    let (space, document, collection) = (0, document(), Some(jobs()));
    let (position, more, step) = (Some(5), None, None);
    Changes { space, document, collection, piece, changes, position, more, step }
}

fn edit(engine: &mut Engine, value: u64) -> Result<(), EditError> {
    let op = Op::Set { path: "status".into(), before: None, after: json!(value) };
    let edit = Edit {
        space: main_space(),
        collection: jobs(),
        target: Target::Document(document()),
        create: false,
        author: None,
        batch: None,
        content: Content::Ops { base: None, ops: vec![op] },
    };
    engine.turn(0, 0, vec![edit]).unwrap().remove(0).map(|_| ())
}

fn first() -> Change {
    let mut author = AutoCommit::new().with_actor(ActorId::from([4; 16]));
    author.put(ROOT, "status", 1_u64).unwrap();
    author.commit();
    author.get_last_local_change().unwrap()
}

/// A change on top of another whose operation has this number.
fn numbered(start_op: u64, after: &Change) -> Change {
    let op = LegacyOp {
        action: OpType::Put(ScalarValue::Uint(666)),
        obj: ObjectId::Root,
        key: Key::Map("status".into()),
        pred: Vec::new().into(),
        insert: false,
    };
    ExpandedChange {
        operations: vec![op],
        actor_id: ActorId::from([6; 16]),
        hash: None,
        seq: 1,
        start_op: NonZeroU64::new(start_op).unwrap(),
        time: 0,
        message: None,
        deps: vec![after.hash()],
        extra_bytes: Vec::new(),
        author: None,
    }
    .into()
}

/// Automerge panics when it counts beyond 2^32, and then again while it rolls back.
#[test]
fn a_change_that_uses_up_the_numbers_is_quarantined() {
    for start_op in [OP_START_MAX + 1, (1 << 32) - 6, (1 << 32) - 1] {
        let mut engine = engine();
        send(&mut engine, &[first()]);
        send(&mut engine, &[numbered(start_op, &first())]);
        assert_eq!(engine.counters().changes_quarantined, 1, "{start_op}");
        for value in 0..20 {
            edit(&mut engine, value).unwrap();
        }
        let history = engine.history(0, &document(), 100).unwrap();
        assert_eq!(history.len(), 21);
        assert_eq!(engine.view(0, &document()).unwrap().value["status"], json!(19));
    }
}

#[test]
fn a_change_within_the_numbers_is_an_ordinary_one() {
    let mut engine = engine();
    send(&mut engine, &[first(), numbered(OP_START_MAX - 100, &first())]);
    assert_eq!(engine.counters().changes_quarantined, 0);
    edit(&mut engine, 5).unwrap();
}

/// It comes in a snapshot of a relay that took it. What does not build on it is kept.
#[test]
fn a_snapshot_with_such_a_change_is_taken_without_it() {
    let mut whole = AutoCommit::new();
    whole.apply_changes([first(), numbered((1 << 32) - 6, &first())]).unwrap();
    let bytes = whole.save();
    let mut engine = engine();
    let (kind, total) = (PieceOf::Snapshot, bytes.len() as u64);
    let piece = Piece { kind, position: 5, offset: 0, total, bytes: bytes.into() };
    let changes = Changes { more: Some(false), ..frame(Vec::new(), Some(piece)) };
    tell(&mut engine, Frame::Changes(changes));
    assert_eq!(engine.counters().changes_quarantined, 1);
    edit(&mut engine, 5).unwrap();
    assert_eq!(engine.view(0, &document()).unwrap().value["status"], json!(5));
}

/// A replica of before applied the change. It can be read, and edits are refused in words.
#[test]
fn a_document_without_numbers_left_is_not_edited_and_can_be_read() {
    let mut engine = engine();
    send(&mut engine, &[first(), numbered(OP_START_MAX, &first())]);
    assert_eq!(engine.counters().changes_quarantined, 0);
    let refused = edit(&mut engine, 5);
    assert!(matches!(refused, Err(EditError::NoRoom { .. })), "{refused:?}");
    assert_eq!(engine.history(0, &document(), 100).unwrap().len(), 2);
    assert_eq!(engine.blame(0, &document()).unwrap().len(), 1);
}

/// Automerge stores how far times lie apart, and these lie further apart than it can store.
#[test]
fn a_change_of_a_time_that_cannot_be_stored_is_quarantined() {
    let far = |time| ExpandedChange { time, hash: None, ..numbered(2, &first()).decode() };
    let actor_id = ActorId::from([7; 16]);
    let mut engine = engine();
    let early = Change::from(far(i64::MIN));
    let late = Change::from(ExpandedChange { actor_id, ..far(i64::MAX) });
    send(&mut engine, &[first(), early, late]);
    assert_eq!(engine.counters().changes_quarantined, 2);
    edit(&mut engine, 5).unwrap();
}

/// A panic stands for what ends a process: what the process noted last is what the next one finds.
#[test]
fn a_change_that_ends_the_process_twice_is_quarantined() {
    let store = store();
    let (good, bad) = (numbered(2, &first()), numbered(3, &first()));
    let bad = Change::from(ExpandedChange {
        actor_id: ActorId::from([7; 16]),
        hash: None,
        ..bad.decode()
    });
    let hash = |change: &Change| ChangeHash(change.hash().0);
    let changes = [first(), good.clone(), bad.clone()];
    let chunks = changes.iter().map(|change| change.raw_bytes().to_vec().into());
    let message = Frame::Changes(frame(chunks.collect(), None)).encode();

    let mut left = Suspects::default();
    for process in 1..=2 {
        let mut engine = engine_of(Arc::clone(&store));
        let (last_note, bad) = (Arc::new(Mutex::new(None)), hash(&bad));
        let noted = Arc::clone(&last_note);
        engine.note_applying(left, move |suspects| {
            let alone = suspects.convicted.contains(&bad);
            if alone || (process == 1 && suspects.suspected.contains(&bad)) {
                *noted.lock().unwrap() = Some(suspects.clone());
                panic!("the process ends");
            }
        });
        connect(&mut engine);
        engine.handle_message(&message).unwrap();
        engine.turn(0, 0, Vec::new()).unwrap_err();
        assert!(engine.store().read().unwrap().document(&document()).unwrap().is_none());
        left = last_note.lock().unwrap().take().expect("it noted what it was about to do");
        assert_eq!(left.convicted.len(), process - 1);
    }
    assert_eq!(left.convicted, [hash(&bad)].into());

    let mut engine = engine_of(store);
    let last_note = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&last_note);
    engine.note_applying(left, move |suspects| *noted.lock().unwrap() = Some(suspects.clone()));
    connect(&mut engine);
    engine.handle_message(&message).unwrap();
    engine.turn(0, 0, Vec::new()).unwrap();
    assert_eq!(engine.counters().changes_quarantined, 1);
    let last_note = last_note.lock().unwrap().take();
    assert_eq!(last_note, Some(Suspects::default()), "nobody is suspected any more");
    let history = engine.history(0, &document(), 10).unwrap();
    let known: BTreeSet<_> = history.iter().map(|entry| entry.hash).collect();
    assert_eq!(known, [hash(&changes[0]), hash(&good)].into());
    edit(&mut engine, 5).unwrap();
}

/// More heads than one change may build on.
#[test]
fn a_document_with_thousands_of_heads_can_be_edited() {
    let first = first();
    let heads = 2 * HEADS_EASY_MAX + 200;
    let concurrent = (0..heads as u64).map(|n| {
        let mut actor = [8; 16];
        actor[..8].copy_from_slice(&n.to_le_bytes());
        let change = numbered(2, &first).decode();
        ExpandedChange { actor_id: ActorId::from(actor), hash: None, ..change }.into()
    });
    let concurrent: Vec<Change> = concurrent.collect();
    let mut engine = engine();
    send(&mut engine, &[first]);
    send(&mut engine, &concurrent);
    edit(&mut engine, 5).unwrap();
    let view = engine.store().read().unwrap();
    assert_eq!(view.document(&document()).unwrap().unwrap().heads.len(), 1);
}

/// Maps inside each other far beyond what is shown, of one change or of a chain of changes of which
/// none is deep.
#[test]
fn deep_nesting_costs_in_proportion() {
    for levels in [20_000, 10] {
        let mut author = AutoCommit::new().with_actor(ActorId::from([4; 16]));
        let mut around = ROOT;
        for level in 1..=20_000 {
            around = author.put_object(&around, "x", ObjType::Map).unwrap();
            author.put(&around, "y", 1_u64).unwrap();
            if level % levels == 0 {
                author.commit();
            }
        }
        let changes = author.get_changes(&[]);
        let mut engine = engine();
        send(&mut engine, &changes);
        edit(&mut engine, 5).unwrap();
        let history = engine.history(0, &document(), usize::MAX).unwrap();
        assert_eq!(history.len(), changes.len() + 1);
        let blame = engine.blame(0, &document()).unwrap();
        assert!(
            blame.iter().all(|field| field.place.0.len() <= 102),
            "no place is too deep to show"
        );
        assert_eq!(blame.len(), 101);
    }
}

/// The bytes of unfinished snapshots in the file, and their documents.
fn begun(engine: &Engine) -> (u64, usize) {
    let txn = engine.store().write().unwrap();
    let documents = (0..12).map(|number| DocumentId::from_random([number; 16]));
    let bytes = documents.map(|id| txn.pieces("ws://relay.example", &id).unwrap().len() as u64);
    let bytes: Vec<_> = bytes.filter(|bytes| *bytes > 0).collect();
    (bytes.iter().sum(), bytes.len())
}

/// A relay begins many large snapshots and ends none.
#[test]
fn unfinished_snapshots_fill_no_disk() {
    let mut engine = engine();
    let mut send = |number: u8, n: u64| {
        begin(&mut engine, number, n * HALF_MB, Some(true)).unwrap();
        engine.turn(0, 0, Vec::new()).unwrap();
        assert!(engine.poll_close().is_none(), "the replica hung up");
        // All pieces are looked at when a document has come to its most.
        if n % 32 == 31 { begun(&engine) } else { (0, 0) }
    };
    let most = BEGUN_BYTES_MAX / HALF_MB;
    let each = most / 8;
    let mut documents_max = 0;
    for number in 0..12 {
        for n in 0..each {
            let (bytes, documents) = send(number, n);
            assert!(bytes <= BEGUN_BYTES_MAX, "{bytes} bytes of {number}");
            documents_max = documents_max.max(documents);
        }
    }
    assert_eq!(documents_max, 8, "of an eighth each");
}

/// Of such a piece more follows, and a relay that says otherwise is not listened to.
#[test]
fn a_piece_that_is_not_the_last_is_not_sent_as_such() {
    for more in [None, Some(false)] {
        let mut engine = engine();
        let refused = begin(&mut engine, 1, 0, more);
        assert!(refused.is_err(), "{more:?}");
        assert_eq!(begun(&engine), (0, 0));
    }
}

/// A relay sends a piece of a snapshot that is as large as it may be.
fn begin(
    engine: &mut Engine,
    number: u8,
    offset: u64,
    more: Option<bool>,
) -> Result<(), impl std::fmt::Debug + use<>> {
    let (kind, total) = (PieceOf::Snapshot, BEGUN_BYTES_MAX);
    let bytes = vec![0; HALF_MB as usize].into();
    let piece = Piece { kind, position: 5, offset, total, bytes };
    let document = DocumentId::from_random([number; 16]);
    let changes = Changes { document, more, ..frame(Vec::new(), Some(piece)) };
    engine.handle_message(&Frame::Changes(changes).encode())
}

const HALF_MB: u64 = 512 << 10;
