//! What has come of what a relay sends, and what is on its way there, in the replica's file.

use std::path::Path;
use std::sync::Arc;

use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ROOT};
use minicbor::Encoder;
use redb::{Database, ReadableTable, TableDefinition};
use rejoin_core::limits::PIECE_BYTES;
use rejoin_core::wire::{
    Access, Backfill, Begun, BegunPiece, Changes, Checkpoint, Cursor, Frame, Hello, Piece, PieceOf,
    Push, SpaceGranted, Start, Welcome,
};
use rejoin_core::{CollectionName, DocumentId, Epoch, RelayId, SpaceName};
use rejoin_engine::store::{CursorRow, Store};
use rejoin_engine::{Content, Edit, Engine, EngineOptions, Link, Op, Target};

const RELAY: &str = "ws://relay.example";

const EPOCH: Epoch = Epoch([7; 16]);

fn main_space() -> SpaceName {
    SpaceName::new("main").unwrap()
}

fn jobs() -> CollectionName {
    CollectionName::new("jobs").unwrap()
}

fn engine(path: &Path) -> Engine {
    let store = Arc::new(Store::open(Database::create(path).unwrap(), [1; 16]).unwrap());
    let mut drawn = 0_u8;
    let random = move || {
        drawn += 1;
        [drawn; 16]
    };
    let mut engine = Engine::new(store, EngineOptions::default(), random).unwrap();
    engine.want_space(&main_space());
    engine
}

/// What the replica has to say.
fn said(engine: &mut Engine) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(message) = engine.poll_transmit(0).unwrap() {
        frames.push(Frame::decode(&message).unwrap().unwrap());
    }
    frames
}

/// Connects, and gives the Hello.
fn connect(engine: &mut Engine) -> Hello {
    engine.handle_connected(0, RELAY, None).unwrap();
    let message = engine.poll_transmit(0).unwrap().expect("a Hello");
    match Frame::decode(&message).unwrap() {
        Some(Frame::Hello(hello)) => hello,
        other => panic!("{other:?}"),
    }
}

fn tell(engine: &mut Engine, frames: impl IntoIterator<Item = Frame>) {
    for frame in frames {
        engine.handle_message(&frame.encode()).unwrap();
    }
    engine.turn(0, 0, Vec::new()).unwrap();
}

fn welcome(start: Start, position: u64, backfill: Option<Backfill>, uploaded: u64) -> Frame {
    let access = Access::Write;
    let (epoch, documents, usual) = (EPOCH, 1, None);
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
    Frame::Welcome(Welcome {
        relay: RelayId([9; 16]),
        spaces: vec![space],
        time_ms: 0,
        frame_bytes_max: 1 << 20,
        uploaded,
        identity: None,
        carries: None,
    })
}

fn append(text: &str) -> Edit {
    let op = Op::Append { path: "notes".into(), text: text.to_owned() };
    Edit {
        space: main_space(),
        collection: jobs(),
        target: Target::Key("1".to_owned()),
        create: true,
        author: None,
        batch: None,
        content: Content::Ops { base: None, ops: vec![op] },
    }
}

/// Text that does not deflate to nothing.
fn noise(len: usize) -> String {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'#' + (state >> 33) as u8 % 56)
    };
    (0..len).map(|_| next()).collect()
}

/// The cursors of the version before had an epoch and a position, and there was nothing else of a
/// relay in the file.
#[test]
fn a_file_of_the_version_before_opens_and_keeps_its_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    let mut before = engine(&path);
    let made = before.turn(0, 0, vec![append("kept")]).unwrap().remove(0).unwrap();
    drop(before);
    let mut row = Vec::new();
    let mut encoder = Encoder::new(&mut row);
    encoder.map(2).unwrap().u32(0).unwrap().bytes(&EPOCH.0).unwrap();
    encoder.u32(1).unwrap().u64(41).unwrap();
    let cursors: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("cursors-1");
    let database = Database::create(&path).unwrap();
    let txn = database.begin_write().unwrap();
    let keys = (RELAY, "main");
    txn.open_table(cursors).unwrap().insert(keys, row.as_slice()).unwrap();
    let ids: TableDefinition<'_, (&str, &str, [u8; 16]), &[u8]> = TableDefinition::new("begun-1");
    let pieces: TableDefinition<'_, (&str, [u8; 16], u64), &[u8]> =
        TableDefinition::new("pieces-1");
    let wanted: TableDefinition<'_, (&str, &str, [u8; 16]), ()> = TableDefinition::new("wanted-1");
    assert!(txn.delete_table(ids).unwrap());
    assert!(txn.delete_table(pieces).unwrap());
    assert!(txn.delete_table(wanted).unwrap());
    txn.commit().unwrap();
    drop(database);

    let mut engine = engine(&path);
    let cursor = Cursor { epoch: EPOCH, position: 41, backfill: None, scope: None };
    let view = engine.store().read().unwrap();
    assert_eq!(view.cursor(RELAY, &main_space()).unwrap(), Some(CursorRow::from(cursor)));
    let value = view.value(&made.document).unwrap().unwrap();
    assert_eq!(&value.json[..], br#"{"notes":"kept"}"#);
    drop(view);
    let hello = connect(&mut engine);
    let space = &hello.spaces[0];
    assert_eq!((space.cursor, space.holds, &space.begun), (Some(cursor), true, &None));
    // It goes on from there, and is as short as it was.
    let digests = None;
    let told = Checkpoint { space: 0, position: 42, digests, backfill: None, lost: None };
    tell(&mut engine, [welcome(Start::Cursor, 41, None, 0), Frame::Checkpoint(told)]);
    engine.flush(0).unwrap();
    engine.handle_disconnected();
    drop(engine);
    let database = Database::create(&path).unwrap();
    let txn = database.begin_write().unwrap();
    let table = txn.open_table(cursors).unwrap();
    let stored = table.get(keys).unwrap().unwrap().value().to_vec();
    *row.last_mut().unwrap() = 42;
    assert_eq!(stored, row);
}

/// A document of which the relay's position of the last change is 5.
fn pieces(kind: PieceOf, whole: &[u8]) -> Vec<Frame> {
    let count = whole.len().div_ceil(PIECE_BYTES);
    let piece = |(n, bytes): (usize, &[u8])| {
        let (offset, total) = ((n * PIECE_BYTES) as u64, whole.len() as u64);
        let bytes = bytes.to_vec().into();
        Frame::Changes(Changes {
            space: 0,
            document: DocumentId::from_random([3; 16]),
            collection: Some(jobs()),
            piece: Some(Piece { kind, position: 5, offset, total, bytes }),
            changes: Vec::new(),
            position: Some(5),
            more: Some(n + 1 < count),
            step: None,
        })
    };
    whole.chunks(PIECE_BYTES).enumerate().map(piece).collect()
}

#[test]
fn pieces_survive_a_reopen() {
    let document = DocumentId::from_random([3; 16]);
    let text = noise(100_000);
    let mut author = AutoCommit::new().with_actor(ActorId::from([4; 16]));
    author.put(ROOT, "photo", text.as_str()).unwrap();
    author.commit();
    let change = author.get_last_local_change().unwrap().raw_bytes().to_vec();
    for (kind, whole) in [(PieceOf::Change, change), (PieceOf::Snapshot, author.save())] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.redb");
        let backfill = Backfill::of(0, 5);
        let frames = pieces(kind, &whole);
        assert!(frames.len() > 3, "{} pieces", frames.len());
        let (first, rest) = frames.split_at(2);
        let mut before = engine(&path);
        assert_eq!(connect(&mut before).spaces[0].cursor, None);
        tell(&mut before, [welcome(Start::Beginning, 5, backfill, 0)]);
        tell(&mut before, first.to_vec());
        assert!(before.store().read().unwrap().document(&document).unwrap().is_none());
        // Nobody says goodbye.
        drop(before);

        let mut engine = engine(&path);
        let hello = connect(&mut engine);
        let space = &hello.spaces[0];
        assert_eq!(space.cursor, Some(Cursor { epoch: EPOCH, position: 5, backfill, scope: None }));
        let piece = BegunPiece { kind, position: 5, bytes: 2 * PIECE_BYTES as u64 };
        let begun = Begun { document, through: 0, piece: Some(piece) };
        assert_eq!(space.begun, Some(vec![begun]));
        tell(&mut engine, [welcome(Start::Cursor, 5, backfill, 0)]);
        tell(&mut engine, rest.to_vec());
        let done = Checkpoint { space: 0, position: 5, digests: None, backfill: None, lost: None };
        tell(&mut engine, [Frame::Checkpoint(done)]);
        let view = engine.store().read().unwrap();
        let value = view.value(&document).unwrap().unwrap();
        assert_eq!(value.json.len(), text.len() + br#"{"photo":""}"#.len());
        assert_eq!(view.begun(RELAY, &main_space(), 9).unwrap(), []);
        drop(view);
        engine.handle_disconnected();
        let space = &connect(&mut engine).spaces[0];
        assert_eq!(
            space.cursor,
            Some(Cursor { epoch: EPOCH, position: 5, backfill: None, scope: None })
        );
        assert_eq!(space.begun, None);
    }
}

#[test]
fn parts_of_another_store_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = engine(&folder.path().join("a.redb"));
    let mut author = AutoCommit::new();
    author.put(ROOT, "photo", noise(100_000)).unwrap();
    let frames = pieces(PieceOf::Snapshot, &author.save());
    connect(&mut engine);
    let backfill = Backfill::of(0, 5);
    tell(&mut engine, [welcome(Start::Beginning, 5, backfill, 0)]);
    tell(&mut engine, frames[..2].to_vec());
    engine.handle_disconnected();
    assert!(connect(&mut engine).spaces[0].begun.is_some());
    // The relay began anew: it does not know the cursor.
    tell(&mut engine, [welcome(Start::Beginning, 5, backfill, 0)]);
    engine.handle_disconnected();
    assert_eq!(connect(&mut engine).spaces[0].begun, None);
}

/// The relay holds what the replica does, but says that damage took something from it.
#[test]
fn a_replica_is_not_safe_beside_a_relay_that_lost_changes() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = engine(&folder.path().join("a.redb"));
    connect(&mut engine);
    let told = |lost| {
        let digests = Some(Vec::new());
        Frame::Checkpoint(Checkpoint { space: 0, position: 5, digests, backfill: None, lost })
    };
    tell(&mut engine, [welcome(Start::Beginning, 5, None, 0), told(Some(2))]);
    assert_eq!((engine.status().link, engine.status().lost), (Link::Syncing, 2));
    assert_eq!(engine.status().safe_at_s, None);
    tell(&mut engine, [told(None)]);
    assert_eq!((engine.status().link, engine.status().lost), (Link::Safe, 0));
    tell(&mut engine, [told(Some(1))]);
    assert_eq!((engine.status().link, engine.status().lost), (Link::Syncing, 1));
    engine.handle_disconnected();
    assert_eq!((engine.status().link, engine.status().lost), (Link::Offline, 0));
}

fn pushes(frames: &[Frame]) -> Vec<&Push> {
    let pushes = frames.iter().filter_map(|frame| match frame {
        Frame::Push(push) => Some(push),
        _ => None,
    });
    pushes.collect()
}

#[test]
fn a_long_change_is_pushed_in_pieces_from_what_the_relay_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    let mut engine = engine(&path);
    let photo: String = noise(90_000).bytes().map(|byte| format!("{byte:02x}")).collect();
    let photo = serde_json::json!({ "$bytes": photo });
    let content = Content::Fields([("photo".to_owned(), photo)].into_iter().collect());
    let edit = Edit { content, ..append("") };
    engine.turn(0, 0, vec![edit]).unwrap().remove(0).unwrap();
    let mut upload = None;
    for held in [0, 2 * PIECE_BYTES as u64, 3 * PIECE_BYTES as u64 + 5] {
        let hello = connect(&mut engine);
        assert!(hello.upload.is_some(), "the change is long");
        assert!(upload.is_none_or(|before| hello.upload == before), "the same every time");
        upload = Some(hello.upload);
        assert!(hello.pushes > 0);
        let early = said(&mut engine);
        let early = pushes(&early).iter().filter(|push| push.piece.is_some()).count();
        assert_eq!(early, 0, "not before the relay said how much it has");
        tell(&mut engine, [welcome(Start::Beginning, 0, None, held)]);
        let frames = said(&mut engine);
        let mut expected = held;
        for push in pushes(&frames) {
            let Some(piece) = &push.piece else { continue };
            assert_eq!(Some(piece.hash), hello.upload);
            assert_eq!(piece.offset, expected);
            assert!(piece.bytes.len() <= PIECE_BYTES);
            expected += piece.bytes.len() as u64;
            if expected == piece.total {
                assert!(piece.total > 4 * PIECE_BYTES as u64);
            }
        }
        assert!(expected > held + PIECE_BYTES as u64, "{expected}");
        engine.handle_disconnected();
    }
}
