//! What the replica's end of a session promises, tested against frames alone.

use minicbor::bytes::ByteVec;
use rejoin_core::limits::{PIECE_BYTES, WANT_DOCUMENTS_MAX};
use rejoin_core::session::{
    HANDSHAKE_MS_MAX, Opening, ReplicaEvent, ReplicaSession, SessionError, SpaceStart,
};
use rejoin_core::wire::*;
use rejoin_core::{
    ChangeHash, CollectionName, DeviceId, DocumentId, Epoch, RelayId, ShortHash, SpaceName, limits,
};

const EPOCH: Epoch = Epoch([1; 16]);

fn jobs() -> CollectionName {
    CollectionName::new("jobs").unwrap()
}

fn document(n: u8) -> DocumentId {
    DocumentId([n; 16])
}

fn main_space() -> SpaceName {
    SpaceName::new("main").unwrap()
}

fn start(holds: bool) -> SpaceStart {
    SpaceStart { name: main_space(), cursor: None, holds, begun: Vec::new() }
}

fn opening(spaces: Vec<SpaceStart>) -> Opening {
    Opening {
        device: DeviceId([2; 16]),
        token: None,
        app: None,
        identity: None,
        spaces,
        pushes: 0,
        upload: None,
        waiting: 0,
    }
}

/// A replica's session that was welcomed.
fn welcomed(start_from: Start) -> ReplicaSession {
    let mut session = ReplicaSession::new(0, opening(vec![start(false)]));
    assert!(matches!(session.poll_transmit(), Some(Frame::Hello(_))));
    let granted = SpaceGranted {
        epoch: EPOCH,
        start: start_from,
        access: Access::Write,
        position: 5,
        backfill: Backfill::of(0, 5),
        documents: 3,
        usual: None,
        read: None,
        write: None,
        scope: None,
    };
    let (relay, spaces) = (RelayId([3; 16]), vec![granted]);
    let (frame_bytes_max, uploaded, identity, carries) = (1 << 20, 77, None, None);
    let welcome =
        Welcome { relay, spaces, time_ms: 0, frame_bytes_max, uploaded, identity, carries };
    session.handle_frame(Frame::Welcome(welcome)).unwrap();
    let Some(ReplicaEvent::Welcomed { spaces, uploaded, .. }) = session.poll_event() else {
        panic!("a welcome")
    };
    let cursor = Cursor { epoch: EPOCH, position: 5, backfill: Backfill::of(0, 5), scope: None };
    assert_eq!((spaces[0].cursor, spaces[0].documents, uploaded), (cursor, 3, 77));
    session
}

fn piece(kind: PieceOf, offset: u64, total: u64, bytes: usize) -> Frame {
    let bytes = ByteVec::from(vec![0; bytes]);
    let piece = Some(Piece { kind, position: 9, offset, total, bytes });
    let (space, document, collection) = (0, document(1), jobs());
    let (changes, position, more) = (Vec::new(), Some(9), Some(true));
    let (collection, step) = (Some(collection), None);
    Frame::Changes(Changes { space, document, collection, piece, changes, position, more, step })
}

#[test]
fn a_hello_says_what_has_begun() {
    let piece = BegunPiece { kind: PieceOf::Snapshot, position: 9, bytes: 100 };
    let begun = vec![Begun { document: document(1), through: 0, piece: Some(piece) }];
    let cursor =
        Some(Cursor { epoch: EPOCH, position: 9, backfill: Backfill::of(0, 9), scope: None });
    let cut = SpaceStart { cursor, begun: begun.clone(), ..start(true) };
    let upload = Some(ChangeHash([5; 32]));
    let opening = Opening { upload, pushes: 1, ..opening(vec![cut, start(false)]) };
    let mut session = ReplicaSession::new(0, opening);
    assert_eq!(session.upload(), upload);
    let Some(Frame::Hello(hello)) = session.poll_transmit() else { panic!("a Hello") };
    assert_eq!((hello.upload, hello.pushes), (upload, 1));
    assert_eq!((hello.spaces[0].cursor, hello.spaces[0].begun.as_ref()), (cursor, Some(&begun)));
    assert_eq!(hello.spaces[1].begun, None, "nothing is not written");
}

#[test]
fn pushes_travel_with_the_hello_and_wait_in_bounds() {
    let opening = Opening { pushes: 1, ..opening(vec![start(true)]) };
    let mut session = ReplicaSession::new(0, opening);
    session.push(77, 0, document(1), jobs(), vec![vec![1]]);
    assert!(matches!(session.poll_transmit(), Some(Frame::Hello(_))));
    assert!(matches!(session.poll_transmit(), Some(Frame::Push(Push { n: 1, .. }))));
    while session.can_push() {
        session.push(78, 0, document(1), jobs(), vec![vec![0; 1 << 20]]);
    }
    assert!(session.in_flight() <= limits::PUSHES_IN_FLIGHT_MAX);
    assert!(session.in_flight() << 20 <= limits::PUSH_BYTES_IN_FLIGHT_MAX + (1 << 20));
}

#[test]
fn pieces_of_a_long_change_count_as_pushes() {
    let mut session = welcomed(Start::Cursor);
    let mut offset = 0;
    while session.can_push() {
        let bytes = ByteVec::from(vec![0; PIECE_BYTES]);
        let piece = ChangePiece { hash: ChangeHash([5; 32]), offset, total: 1 << 40, bytes };
        offset += PIECE_BYTES as u64;
        session.push_piece(offset, 0, document(1), jobs(), piece);
    }
    assert_eq!(session.in_flight(), limits::PUSHES_IN_FLIGHT_MAX);
    let sent: Vec<_> = std::iter::from_fn(|| session.poll_transmit()).collect();
    for (n, frame) in sent.iter().enumerate() {
        let Frame::Push(push) = frame else { panic!("a Push") };
        assert_eq!(push.n, n as u64 + 1);
        assert_eq!(push.piece.as_ref().unwrap().offset, n as u64 * PIECE_BYTES as u64);
        assert!(push.changes.is_empty());
    }
    session.handle_frame(Frame::Ack(Ack { n: 2 })).unwrap();
    assert!(session.can_push());
}

#[test]
fn an_acknowledgement_answers_every_push_up_to_it() {
    let mut session = welcomed(Start::Cursor);
    for ticket in 1..=3 {
        session.push(ticket, 0, document(1), jobs(), vec![vec![1]]);
    }
    session.handle_frame(Frame::Ack(Ack { n: 2 })).unwrap();
    assert_eq!(session.poll_event(), Some(ReplicaEvent::Acked { ticket: 1 }));
    assert_eq!(session.poll_event(), Some(ReplicaEvent::Acked { ticket: 2 }));
    assert_eq!(session.poll_event(), None);
    assert_eq!(session.in_flight(), 1);
}

#[test]
fn a_cursor_is_not_trusted_until_digests_were_equal() {
    let cursor = Cursor { epoch: EPOCH, position: 5, backfill: Backfill::of(1, 3), scope: None };
    let checkpoint = || {
        let (digests, backfill) = (Some(Vec::new()), cursor.backfill);
        Frame::Checkpoint(Checkpoint { space: 0, position: 5, digests, backfill, lost: None })
    };
    let trusts = |session: &mut ReplicaSession| {
        session.handle_frame(checkpoint()).unwrap();
        let event = session.poll_event();
        let Some(ReplicaEvent::Checkpoint { trusted, cursor: told, .. }) = event else { panic!() };
        assert_eq!(told, cursor);
        trusted
    };
    assert!(trusts(&mut welcomed(Start::Cursor)));
    assert!(trusts(&mut welcomed(Start::Beginning)));
    let mut unknown = welcomed(Start::Now);
    assert!(!trusts(&mut unknown));
    unknown.handle_equal(0);
    assert!(trusts(&mut unknown));
    let mut listed = welcomed(Start::Now);
    listed.trust(0);
    assert!(trusts(&mut listed));
}

#[test]
fn pieces_must_fit_and_those_of_a_later_version_are_passed_over() {
    let mut session = welcomed(Start::Beginning);
    for kind in [PieceOf::Snapshot, PieceOf::Change] {
        session.handle_frame(piece(kind, 4, 8, 4)).unwrap();
        let Some(ReplicaEvent::Received { piece, more, .. }) = session.poll_event() else {
            panic!("a piece")
        };
        let piece = piece.unwrap();
        assert_eq!((piece.kind, piece.offset, piece.total, more), (kind, 4, 8, Some(true)));
    }
    session.handle_frame(piece(PieceOf::Unknown, 4, 2, 0)).unwrap();
    let Some(ReplicaEvent::Received { piece: None, changes, .. }) = session.poll_event() else {
        panic!("nothing to keep")
    };
    assert!(changes.is_empty());

    let beyond = limits::SNAPSHOT_BYTES_MAX as u64 + 1;
    for (offset, total, bytes) in
        [(7, 10, 4), (0, 3, 4), (u64::MAX, 10, 4), (0, beyond, 4), (0, 10, 0)]
    {
        let mut session = welcomed(Start::Beginning);
        let wrong = piece(PieceOf::Snapshot, offset, total, bytes);
        let error = session.handle_frame(wrong).unwrap_err();
        assert!(matches!(error, SessionError::Piece { .. }), "{error}");
    }
}

#[test]
fn questions_and_answers_about_documents_reach_the_driver() {
    let mut session = welcomed(Start::Now);
    let listed = Listed { document: document(1), heads: ShortHash([1; 8]) };
    let backfill = Backfill::of(0, 9);
    session.list(0, backfill.unwrap());
    session.offer(0, vec![listed]);
    session.ask_digests(0);
    let wanted = Wanted { document: document(1), heads: Vec::new() };
    session.want(0, vec![wanted.clone(); WANT_DOCUMENTS_MAX + 1]);
    let asks = Frame::Listing(Listing { space: 0, backfill, documents: None });
    assert_eq!(session.poll_transmit(), Some(asks));
    let offers = Frame::Offer(Offer { space: 0, documents: vec![listed] });
    assert_eq!(session.poll_transmit(), Some(offers));
    let counts: Vec<_> = std::iter::from_fn(|| session.poll_transmit())
        .map(|frame| match frame {
            Frame::Want(Want { documents, answers: false, .. }) => documents.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [0, WANT_DOCUMENTS_MAX, 1]);

    let left = Backfill::of(0, 3);
    let answer = Listing { space: 0, backfill: left, documents: Some(vec![listed]) };
    session.handle_frame(Frame::Listing(answer)).unwrap();
    let documents = vec![listed];
    assert_eq!(session.poll_event(), Some(ReplicaEvent::Listed { space: 0, documents, left }));
    let documents = vec![wanted];
    let want = Want { space: 0, documents: documents.clone(), answers: true };
    session.handle_frame(Frame::Want(want)).unwrap();
    let event = ReplicaEvent::Wanted { space: 0, documents, answers: true };
    assert_eq!(session.poll_event(), Some(event));
    let nothing = Nothing { space: 0, document: document(1) };
    session.handle_frame(Frame::Nothing(nothing)).unwrap();
    let event = ReplicaEvent::Nothing { space: 0, document: document(1) };
    assert_eq!(session.poll_event(), Some(event));
}

#[test]
fn a_relay_that_breaks_the_protocol_is_left() {
    let mut session = welcomed(Start::Cursor);
    let refused = Refused {
        n: 1,
        class: RefusedClass::Later,
        hashes: Vec::new(),
        heads: Vec::new(),
        retry_after_ms: 0,
        reason: String::new(),
    };
    assert!(session.handle_frame(Frame::Refused(refused)).is_err());
    let mut other = ReplicaSession::new(0, opening(Vec::new()));
    let hello = other.poll_transmit().expect("a Hello");
    assert!(session.handle_frame(hello).is_err());
    let offer = Offer { space: 0, documents: Vec::new() };
    assert!(session.handle_frame(Frame::Offer(offer)).is_err());
    let nothing = Nothing { space: 7, document: document(1) };
    assert!(session.handle_frame(Frame::Nothing(nothing)).is_err());
    let repair = Repair { space: 0, from: 0, count: 1, symbols: Some(ByteVec::from(vec![])) };
    assert!(session.handle_frame(Frame::Repair(repair)).is_err());

    let mut silent = ReplicaSession::new(0, opening(Vec::new()));
    assert!(silent.handle_timeout(HANDSHAKE_MS_MAX - 1).is_ok());
    assert!(silent.handle_timeout(HANDSHAKE_MS_MAX).is_err());
    let early = Frame::Ack(Ack { n: 1 });
    assert!(silent.handle_frame(early).is_err());
}

#[test]
fn a_relay_without_symbols_does_not_keep_a_repair_going() {
    let mut session = welcomed(Start::Now);
    session.start_repair(0, Vec::new(), 64);
    let Some(Frame::Repair(asked)) = session.poll_transmit() else { panic!("a question") };
    let empty = Repair { symbols: Some(ByteVec::from(vec![])), ..asked };
    assert!(session.handle_frame(Frame::Repair(empty)).is_err());
}
