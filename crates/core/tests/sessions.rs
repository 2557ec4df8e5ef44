//! What the two ends of a session promise, each tested against frames alone.

use minicbor::bytes::ByteVec;
use rejoin_core::session::{
    HANDSHAKE_MS_MAX, Opened, Part, Read, ReadAnswer, RelayEvent, RelaySession, ReplicaEvent,
    ReplicaSession, SessionError, SpaceStart, StoreOutcome, Transmit,
};
use rejoin_core::wire::*;
use rejoin_core::{
    ChangeHash, CollectionName, DeviceId, DocumentId, Epoch, RelayId, SpaceName, limits,
};

const EPOCH: Epoch = Epoch([1; 16]);

fn jobs() -> CollectionName {
    CollectionName::new("jobs").unwrap()
}

fn document(n: u8) -> DocumentId {
    DocumentId([n; 16])
}

fn hello(pushes: u32) -> Frame {
    let name = SpaceName::new("main").unwrap();
    let spaces = vec![SpaceWanted { name, cursor: None, holds: false }];
    Frame::Hello(Hello { token: None, device: DeviceId([2; 16]), spaces, pushes })
}

fn push(n: u64) -> Frame {
    let changes = vec![ByteVec::from(vec![n as u8])];
    Frame::Push(Push { space: 0, n, document: document(1), collection: jobs(), changes })
}

/// A session that said Hello and was let in, with these documents unsent.
fn opened(pushes: u32, position: u64, unsent: Vec<(DocumentId, u64)>) -> RelaySession {
    let mut session = RelaySession::new(0);
    session.handle_frame(hello(pushes)).unwrap();
    assert!(matches!(session.poll_event(), Some(RelayEvent::Hello(_))));
    let start = Start::Beginning;
    let space = Opened { epoch: EPOCH, access: Access::Write, start, position, unsent };
    session.handle_opened(0, RelayId([3; 16]), 0, vec![space]);
    assert!(matches!(frame(&mut session, 0), Some(Frame::Welcome(_))));
    session
}

/// The next frame, where the store is not asked.
fn frame(session: &mut RelaySession, now: u64) -> Option<Frame> {
    match session.poll_transmit(now)? {
        Transmit::Frame(frame) => Some(frame),
        Transmit::Read(read) => panic!("the store is asked: {read:?}"),
    }
}

fn read(session: &mut RelaySession, now: u64) -> Option<Read> {
    match session.poll_transmit(now)? {
        Transmit::Read(read) => Some(read),
        Transmit::Frame(frame) => panic!("a frame is sent: {frame:?}"),
    }
}

fn changes(positions: &[u64], next: Option<u64>) -> ReadAnswer {
    let changes = positions.iter().map(|at| (*at, vec![*at as u8])).collect();
    ReadAnswer::Document(Some(Part::Changes { collection: jobs(), changes, next }))
}

#[test]
fn a_push_is_acknowledged_only_after_its_commit() {
    let mut session = opened(2, 0, Vec::new());
    session.handle_frame(push(1)).unwrap();
    session.handle_frame(push(2)).unwrap();
    assert!(matches!(session.poll_event(), Some(RelayEvent::Push(_))));
    assert!(matches!(session.poll_event(), Some(RelayEvent::Push(_))));
    assert_eq!(session.poll_transmit(0), None);
    session.handle_stored(1, StoreOutcome::Kept);
    session.handle_stored(2, StoreOutcome::Kept);
    assert_eq!(frame(&mut session, 0), Some(Frame::Ack(Ack { n: 2 })));
}

#[test]
fn a_refusal_goes_before_the_acknowledgement() {
    let mut session = opened(1, 0, Vec::new());
    session.handle_frame(push(1)).unwrap();
    let refused = StoreOutcome::Refused {
        class: RefusedClass::Never,
        hashes: vec![ChangeHash([4; 32])],
        heads: Vec::new(),
        retry_after_ms: 0,
        reason: "x".repeat(10_000),
    };
    session.handle_stored(1, refused);
    let Some(Frame::Refused(refused)) = frame(&mut session, 0) else { panic!("a refusal") };
    assert_eq!(refused.reason.len(), limits::REASON_BYTES_MAX);
    assert_eq!(frame(&mut session, 0), Some(Frame::Ack(Ack { n: 1 })));
}

#[test]
fn the_first_digest_waits_for_the_announced_pushes() {
    let mut session = opened(1, 0, Vec::new());
    assert_eq!(session.poll_transmit(0), None);
    session.handle_frame(push(1)).unwrap();
    session.handle_stored(1, StoreOutcome::Kept);
    session.handle_committed(0, document(1), 1..=1, true);
    assert_eq!(frame(&mut session, 0), Some(Frame::Ack(Ack { n: 1 })));
    let asked = read(&mut session, 0).unwrap();
    assert_eq!(asked, Read::Digests { space: 0 });
    let told = session.handle_read(0, asked, ReadAnswer::Digests(Vec::new()));
    let Some(Frame::Checkpoint(checkpoint)) = told else { panic!("a checkpoint") };
    assert_eq!((checkpoint.position, checkpoint.digests), (1, Some(Vec::new())));
    assert!(session.is_drained());
}

#[test]
fn a_digest_comes_even_if_an_announced_push_never_does() {
    let mut session = opened(5, 0, Vec::new());
    assert_eq!(session.poll_transmit(0), None);
    let at = session.poll_timeout().unwrap();
    assert_eq!(read(&mut session, at), Some(Read::Digests { space: 0 }));
}

#[test]
fn what_a_replica_pushed_is_not_sent_back_to_it() {
    let mut session = opened(0, 3, vec![(document(1), 2)]);
    // Its own push lands while the document is still to be caught up.
    session.handle_committed(0, document(1), 4..=4, true);
    let asked = read(&mut session, 0).unwrap();
    let sent = session.handle_read(0, asked, changes(&[2, 3, 4], None)).unwrap();
    let Frame::Changes(sent) = sent else { panic!("changes") };
    assert_eq!(sent.changes, [ByteVec::from(vec![2]), ByteVec::from(vec![3])]);
    // And a push to a document that is up to date marks nothing.
    session.handle_committed(0, document(2), 5..=5, true);
    assert_eq!(read(&mut session, 0), Some(Read::Digests { space: 0 }));
}

#[test]
fn live_edits_go_before_what_came_earlier() {
    let mut session = opened(0, 100, vec![(document(1), 1), (document(2), 50)]);
    session.handle_committed(0, document(3), 101..=101, false);
    let order: Vec<_> = (0..3)
        .map(|_| {
            let asked = read(&mut session, 0).unwrap();
            let Read::Document { document, from, .. } = asked else { panic!("{asked:?}") };
            session.handle_read(0, asked, changes(&[from], None));
            document
        })
        .collect();
    assert_eq!(order, [document(3), document(1), document(2)]);
}

#[test]
fn a_slow_reader_costs_an_entry_per_document() {
    let mut session = opened(0, 0, Vec::new());
    for position in 1..=100_000 {
        session.handle_committed(0, document((position % 7) as u8), position..=position, false);
    }
    assert_eq!(session.queued(), 7);
    // And one catch-up each, from the first position unsent.
    let asked = read(&mut session, 0).unwrap();
    let expected = Read::Document { space: 0, document: document(1), from: 1, snapshot: None };
    assert_eq!(asked, expected);
}

#[test]
fn a_checkpoint_stays_below_what_is_unsent() {
    let mut session = opened(0, 100, vec![(document(1), 40), (document(2), 60)]);
    let asked = read(&mut session, 0).unwrap();
    session.handle_read(0, asked, changes(&[40, 41], None));
    let Some(Frame::Checkpoint(checkpoint)) = frame(&mut session, 1_000) else { panic!() };
    assert_eq!((checkpoint.position, checkpoint.digests), (59, None));
}

#[test]
fn a_snapshot_goes_out_in_parts_and_the_rest_after_it() {
    let mut session = opened(0, 9, vec![(document(1), 1)]);
    let part = |offset| {
        let (collection, bytes) = (jobs(), vec![0; 5]);
        ReadAnswer::Document(Some(Part::Snapshot {
            collection,
            covers: 8,
            offset,
            total: 10,
            bytes,
        }))
    };
    let asked = read(&mut session, 0).unwrap();
    assert!(session.handle_read(0, asked, part(0)).is_some());
    let asked = read(&mut session, 0).unwrap();
    let Read::Document { snapshot, .. } = &asked else { panic!("{asked:?}") };
    assert_eq!(*snapshot, Some((8, 5)));
    assert!(session.handle_read(0, asked, part(5)).is_some());
    let asked = read(&mut session, 0).unwrap();
    let Read::Document { from, snapshot, .. } = asked else { panic!("{asked:?}") };
    assert_eq!((from, snapshot), (9, None));
}

#[test]
fn a_replica_that_breaks_the_protocol_is_told_how() {
    let mut session = RelaySession::new(0);
    assert!(matches!(
        session.handle_frame(push(1)),
        Err(SessionError::Unexpected { frame: "Push", .. })
    ));
    let timeout = session.handle_timeout(HANDSHAKE_MS_MAX).unwrap_err();
    assert!(matches!(timeout, SessionError::Timeout { awaited: "Hello", .. }));

    let mut session = opened(0, 0, Vec::new());
    let gap = session.handle_frame(push(2)).unwrap_err();
    assert!(matches!(gap, SessionError::PushOrder { got: 2, expected: 1 }));
    let again = session.handle_frame(hello(0)).unwrap_err();
    assert!(matches!(again, SessionError::Unexpected { frame: "Hello", .. }));
    let want = Want { space: 7, documents: Vec::new() };
    let unknown = session.handle_frame(Frame::Want(want)).unwrap_err();
    assert!(matches!(unknown, SessionError::Space { space: 7 }));
    for n in 1..=limits::PUSHES_IN_FLIGHT_MAX as u64 {
        session.handle_frame(push(n)).unwrap();
    }
    let flood = session.handle_frame(push(limits::PUSHES_IN_FLIGHT_MAX as u64 + 1)).unwrap_err();
    assert!(matches!(flood, SessionError::TooManyPushes { .. }));
}

/// A replica's session that was welcomed.
fn welcomed(start: Start) -> ReplicaSession {
    let name = SpaceName::new("main").unwrap();
    let spaces = vec![SpaceStart { name, cursor: None, holds: false }];
    let mut session = ReplicaSession::new(0, DeviceId([2; 16]), None, spaces, 0);
    assert!(matches!(session.poll_transmit(), Some(Frame::Hello(_))));
    let granted = SpaceGranted { epoch: EPOCH, start, access: Access::Write };
    let relay = RelayId([3; 16]);
    let spaces = vec![granted];
    let welcome = Welcome { relay, spaces, time_ms: 0, frame_bytes_max: 1 << 20 };
    session.handle_frame(Frame::Welcome(welcome)).unwrap();
    assert!(matches!(session.poll_event(), Some(ReplicaEvent::Welcomed { .. })));
    session
}

fn part(offset: u64, total: u64, bytes: usize) -> Frame {
    let bytes = ByteVec::from(vec![0; bytes]);
    let snapshot = Some(SnapshotPart { offset, total, bytes });
    let (document, changes) = (document(1), Vec::new());
    let (collection, position) = (jobs(), None);
    Frame::Changes(Changes { space: 0, document, collection, snapshot, changes, position })
}

#[test]
fn pushes_travel_with_the_hello_and_wait_in_bounds() {
    let name = SpaceName::new("main").unwrap();
    let spaces = vec![SpaceStart { name, cursor: None, holds: true }];
    let mut session = ReplicaSession::new(0, DeviceId([2; 16]), None, spaces, 1);
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
    let checkpoint = || {
        let digests = Some(Vec::new());
        Frame::Checkpoint(Checkpoint { space: 0, position: 5, digests })
    };
    let trusts = |session: &mut ReplicaSession| {
        session.handle_frame(checkpoint()).unwrap();
        let event = session.poll_event();
        let Some(ReplicaEvent::Checkpoint { trusted, cursor, .. }) = event else { panic!() };
        assert_eq!(cursor, Cursor { epoch: EPOCH, position: 5 });
        trusted
    };
    assert!(trusts(&mut welcomed(Start::Cursor)));
    let mut unknown = welcomed(Start::Now);
    assert!(!trusts(&mut unknown));
    unknown.handle_equal(0);
    assert!(trusts(&mut unknown));
}

#[test]
fn parts_of_a_snapshot_must_fit() {
    let mut session = welcomed(Start::Beginning);
    session.handle_frame(part(0, 10, 4)).unwrap();
    // The relay made another snapshot meanwhile, and begins again.
    session.handle_frame(part(0, 8, 4)).unwrap();
    assert_eq!(session.poll_event(), None);
    session.handle_frame(part(4, 8, 4)).unwrap();
    let Some(ReplicaEvent::Received { snapshot, .. }) = session.poll_event() else { panic!() };
    assert_eq!(snapshot.unwrap().len(), 8);

    for wrong in [part(1, 10, 4), part(0, 3, 4), part(0, u64::MAX, 4), part(0, 10, 0)] {
        let mut session = welcomed(Start::Beginning);
        let error = session.handle_frame(wrong).unwrap_err();
        assert!(matches!(error, SessionError::Snapshot { .. }), "{error}");
    }
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
    assert!(session.handle_frame(hello(0)).is_err());
    let repair = Repair { space: 0, from: 0, count: 1, symbols: Some(ByteVec::from(vec![])) };
    assert!(session.handle_frame(Frame::Repair(repair)).is_err());

    let mut silent = ReplicaSession::new(0, DeviceId([2; 16]), None, Vec::new(), 0);
    assert!(silent.handle_timeout(HANDSHAKE_MS_MAX - 1).is_ok());
    assert!(silent.handle_timeout(HANDSHAKE_MS_MAX).is_err());
    let early = Frame::Ack(Ack { n: 1 });
    assert!(silent.handle_frame(early).is_err());
}

#[test]
fn a_relay_without_symbols_does_not_keep_a_repair_going() {
    let mut session = welcomed(Start::Now);
    session.start_repair(0, Vec::new());
    let Some(Frame::Repair(asked)) = session.poll_transmit() else { panic!("a question") };
    let empty = Repair { symbols: Some(ByteVec::from(vec![])), ..asked };
    assert!(session.handle_frame(Frame::Repair(empty)).is_err());
}
