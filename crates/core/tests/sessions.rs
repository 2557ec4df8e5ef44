//! What the relay's end of a session promises, tested against frames alone.

mod session_support;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use minicbor::bytes::ByteVec;
use rejoin_core::limits::{PIECE_BYTES, WANT_DOCUMENTS_MAX};
use rejoin_core::session::{
    HANDSHAKE_MS_MAX, Located, LogPage, Opened, Opening, Read, ReadAnswer, RelayEvent,
    RelaySession, ReplicaEvent, ReplicaSession, SessionError, SpaceStart, StoreOutcome, Transmit,
};
use rejoin_core::wire::*;
use rejoin_core::{
    ChangeHash, CollectionName, Collections, DeviceId, Epoch, RelayId, ShortHash, SpaceName, limits,
};
use session_support::{Line, Space, document, jobs};

const EPOCH: Epoch = Epoch([1; 16]);

fn main_space() -> SpaceName {
    SpaceName::new("main").unwrap()
}

fn hello(pushes: u32, begun: Vec<Begun>) -> Frame {
    let begun = Some(begun);
    let spaces = vec![SpaceWanted { name: main_space(), cursor: None, holds: false, begun }];
    Frame::Hello(Hello {
        token: None,
        device: DeviceId([2; 16]),
        spaces,
        pushes,
        app: None,
        identity: None,
        upload: None,
        short: None,
        waiting: None,
    })
}

fn push(n: u64) -> Frame {
    let (document, collection) = (document(1), jobs());
    let changes = vec![ByteVec::from(vec![n as u8])];
    Frame::Push(Push { space: 0, n, document, collection, changes, piece: None })
}

fn bare(start: Start, position: u64, sent: u64, backfill: Option<Backfill>) -> Opened {
    Opened {
        epoch: EPOCH,
        access: Access::Write,
        start,
        position,
        sent,
        backfill,
        first: Vec::new(),
        documents: 0,
        read: Collections::All,
        write: Collections::All,
        scope: None,
        usual: None,
    }
}

/// A session that said Hello and was let in.
fn opened_with(pushes: u32, begun: Vec<Begun>, space: Opened) -> RelaySession {
    let mut session = RelaySession::new(0);
    session.handle_frame(hello(pushes, begun)).unwrap();
    assert!(matches!(session.poll_event(), Some(RelayEvent::Hello(_))));
    session.handle_opened(0, RelayId([3; 16]), 0, vec![space], 0, (None, false));
    assert!(matches!(frame(&mut session, 0), Some(Frame::Welcome(_))));
    session
}

/// One that has everything up to a position.
fn opened(pushes: u32, position: u64) -> RelaySession {
    opened_with(pushes, Vec::new(), bare(Start::Cursor, position, position, None))
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

#[test]
fn a_push_is_acknowledged_only_after_its_commit() {
    let mut session = opened(2, 0);
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
    let mut session = opened(1, 0);
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
fn a_digest_comes_even_if_an_announced_push_never_does() {
    let mut session = opened(5, 0);
    assert_eq!(session.poll_transmit(0), None);
    let at = session.poll_timeout().unwrap();
    assert_eq!(read(&mut session, at), Some(Read::Digests { space: 0 }));
}

#[test]
fn the_first_digest_waits_for_the_announced_pushes() {
    let mut session = opened(1, 0);
    assert_eq!(session.poll_transmit(0), None);
    session.handle_frame(push(1)).unwrap();
    session.handle_stored(1, StoreOutcome::Kept);
    session.handle_committed(0, 1..=1, true);
    assert_eq!(frame(&mut session, 0), Some(Frame::Ack(Ack { n: 1 })));
    let asked = read(&mut session, 0).unwrap();
    assert_eq!(asked, Read::Digests { space: 0 });
    let told = session.handle_read(0, asked, ReadAnswer::Digests { digests: Vec::new(), lost: 0 });
    let Some(Frame::Checkpoint(checkpoint)) = told else { panic!("a checkpoint") };
    assert_eq!((checkpoint.position, checkpoint.digests), (1, Some(Vec::new())));
    assert_eq!(checkpoint.backfill, None);
    assert!(session.is_drained());
}

#[test]
fn what_is_new_comes_in_the_order_of_the_log_and_every_page_counts() {
    let mut space = Space::default();
    for n in 0..200 {
        space.write(document(n % 7), 1000);
    }
    let mut session = opened_with(0, Vec::new(), bare(Start::Cursor, 200, 0, None));
    let mut line = Line::default();
    line.take_all(&mut session, &space, 0);
    line.has_each_once(1..=200);
    // Within a page each document is together; pages are in order.
    let (mut bytes, mut last, mut page, mut marks) = (0, 0, BTreeSet::new(), Vec::new());
    for frame in &line.frames {
        match frame {
            Frame::Changes(changes) => {
                bytes += changes.changes.iter().map(|chunk| chunk.len()).sum::<usize>();
                for chunk in &changes.changes {
                    page.insert(u64::from_be_bytes(chunk[..8].try_into().unwrap()));
                }
                assert!(bytes <= PIECE_BYTES, "{bytes} bytes without a checkpoint");
            }
            Frame::Checkpoint(checkpoint) => {
                assert!(page.iter().copied().eq(last + 1..=checkpoint.position));
                (bytes, last) = (0, checkpoint.position);
                page.clear();
                marks.push((last, checkpoint.digests.is_some()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(marks.len(), 200_000 / 16_000 + 1, "{marks:?}");
    assert_eq!(marks.last(), Some(&(200, true)));
    assert!(marks[..marks.len() - 1].iter().all(|(_, digests)| !digests));
}

/// The frames of changes for a replica that lacks three documents, and live edits of others, and the
/// bytes that they take.
fn frames_of_changes(usual: Option<CollectionName>) -> (Vec<Changes>, usize) {
    let mut space = Space::default();
    for n in 0..30 {
        space.write(document(n % 3 + n / 20 * 3), 20);
    }
    let beginning = bare(Start::Beginning, 20, 20, Backfill::of(0, 20));
    let mut session = opened_with(0, Vec::new(), Opened { usual, ..beginning });
    let mut line = Line::default();
    session.handle_committed(0, 21..=30, false);
    line.take_all(&mut session, &space, 0);
    let changes = line.frames.into_iter().filter_map(|frame| match frame {
        Frame::Changes(changes) => Some(changes),
        _ => None,
    });
    let changes: Vec<_> = changes.collect();
    let bytes = changes.iter().map(|it| Frame::Changes(it.clone()).encode().len()).sum();
    (changes, bytes)
}

/// What a replica makes of frames after a Welcome that names this collection.
fn received(
    usual: Option<CollectionName>,
    frames: &[Changes],
) -> Result<Vec<ReplicaEvent>, SessionError> {
    let (cursor, begun) = (None, Vec::new());
    let space = SpaceStart { name: main_space(), cursor, holds: false, begun };
    let device = DeviceId([2; 16]);
    let (token, app, identity, upload) = (None, None, None, None);
    let (spaces, pushes, waiting) = (vec![space], 0, 0);
    let opening = Opening { device, token, app, identity, spaces, pushes, upload, waiting };
    let mut replica = ReplicaSession::new(0, opening);
    let granted = SpaceGranted {
        epoch: EPOCH,
        start: Start::Beginning,
        access: Access::Write,
        position: 20,
        backfill: Backfill::of(0, 20),
        documents: 3,
        usual,
        read: None,
        write: None,
        scope: None,
    };
    let (relay, spaces) = (RelayId([3; 16]), vec![granted]);
    let (frame_bytes_max, uploaded, identity, carries) = (1 << 20, 0, None, None);
    let welcome =
        Welcome { relay, spaces, time_ms: 0, frame_bytes_max, uploaded, identity, carries };
    replica.handle_frame(Frame::Welcome(welcome))?;
    for frame in frames {
        replica.handle_frame(Frame::Changes(frame.clone()))?;
    }
    Ok(std::iter::from_fn(|| replica.poll_event()).collect())
}

#[test]
fn a_short_frame_says_what_a_long_one_says() {
    let (long, long_bytes) = frames_of_changes(None);
    let (short, short_bytes) = frames_of_changes(Some(jobs()));
    assert!(long.len() > 4);
    assert!(long.iter().all(|it| it.collection.is_some() && it.step.is_none()));
    assert!(short.iter().any(|it| it.position.is_some()), "older documents come backwards");
    assert!(short.iter().any(|it| it.step.is_some()));
    assert!(short.iter().all(|it| it.collection.is_none()));
    assert!(short_bytes + 6 * long.len() <= long_bytes, "{short_bytes} of {long_bytes}");
    let told = received(None, &long).unwrap();
    let usual = Some(jobs());
    let mut again = received(usual.clone(), &short).unwrap();
    assert_eq!(again, told);
    // In any order each says the same.
    let mut turned = short.clone();
    turned.reverse();
    let mut backwards = received(usual.clone(), &turned).unwrap();
    again.remove(0);
    backwards.remove(0);
    backwards.reverse();
    assert_eq!(backwards, again);

    // Where the Welcome named no collection, or beyond all positions, they mean nothing.
    let lost = |usual, frame: Changes| {
        let frames = [frame];
        assert!(matches!(received(usual, &frames), Err(SessionError::Unexpected { .. })));
    };
    lost(None, short[0].clone());
    lost(None, Changes { collection: Some(jobs()), step: Some(1), ..short[0].clone() });
    lost(usual, Changes { step: Some(u64::MAX), position: None, ..short[0].clone() });
}

#[test]
fn what_a_replica_pushed_is_not_sent_back_to_it() {
    let mut space = Space::default();
    for n in 1..=3 {
        space.write(document(n), 100);
    }
    let mut session = opened_with(0, Vec::new(), bare(Start::Cursor, 3, 1, None));
    // Its own pushes land while others' are still to be sent, one of them between two others.
    session.handle_committed(0, space.write(document(2), 100)..=4, true);
    session.handle_committed(0, space.write(document(3), 100)..=5, false);
    session.handle_committed(0, space.write(document(4), PIECE_BYTES * 3)..=6, true);
    let mut line = Line::default();
    line.take_all(&mut session, &space, 0);
    line.has_each_once([2, 3, 5]);
    assert_eq!(line.marks, Some((6, None)));
    // And a push of a replica that has everything asks the store for nothing.
    session.handle_committed(0, space.write(document(2), 100)..=7, true);
    assert_eq!(session.poll_transmit(1), None);
    assert_eq!(session.queued(), 0);
    let asked = read(&mut session, 1_000).unwrap();
    assert_eq!(asked, Read::Digests { space: 0 });
    session.handle_read(1_000, asked, ReadAnswer::Digests { digests: Vec::new(), lost: 0 });
}

#[test]
fn a_document_that_was_pushed_to_and_has_older_changes_is_sent_them() {
    let mut space = Space::default();
    for n in [1, 1, 2, 3] {
        space.write(document(n), 100);
    }
    let backfill = Backfill::of(0, 4);
    let mut session = opened_with(0, Vec::new(), bare(Start::Beginning, 4, 4, backfill));
    session.handle_committed(0, space.write(document(1), 100)..=5, true);
    session.handle_committed(0, space.write(document(1), PIECE_BYTES * 2)..=6, true);
    let mut line = Line::default();
    line.take_all(&mut session, &space, 0);
    line.has_each_once(1..=4);
    assert_eq!(line.documents()[0], document(1), "with what is new, not with the backfill");
    assert_eq!((line.marks, line.digests), (Some((6, None)), 1));
}

#[test]
fn the_backfill_goes_from_the_newest_down_and_live_edits_before_it() {
    let mut space = Space::default();
    for n in 1..=40 {
        space.write(document(n), 5_000);
    }
    let backfill = Backfill::of(0, 40);
    let mut session = opened_with(0, Vec::new(), bare(Start::Beginning, 40, 40, backfill));
    let mut line = Line::default();
    line.take(&mut session, &space, 0, 1);
    assert_eq!(line.came, [40]);
    let live = space.write(document(99), 100);
    session.handle_committed(0, live..=live, false);
    // What was read already goes, and then what is new.
    line.take(&mut session, &space, 0, 8);
    let at = line.came.iter().position(|position| *position == live).expect("sent soon");
    assert!(at <= 3, "{:?}", line.came);
    line.take_all(&mut session, &space, 0);
    line.has_each_once(1..=41);
    let older: Vec<_> = line.came.iter().copied().filter(|position| *position != live).collect();
    assert!(older.is_sorted_by(|a, b| a > b), "{older:?}");
    // The marks go down with it, and only the last checkpoint has digests.
    let marks = line.frames.iter().filter_map(|frame| match frame {
        Frame::Checkpoint(it) => {
            let left = it.backfill.map_or(0, |it| it.through);
            Some(((left, Reverse(it.position)), &it.digests))
        }
        _ => None,
    });
    let marks = marks.collect::<Vec<_>>();
    assert!(marks.len() >= 40 && marks.is_sorted_by(|a, b| a.0 > b.0), "{marks:?}");
    let (last, others) = marks.split_last().unwrap();
    assert!(last.1.is_some() && others.iter().all(|(_, digests)| digests.is_none()));
}

#[test]
fn live_edits_pass_between_the_parts_of_a_large_document() {
    let mut space = Space::default();
    for _ in 0..40 {
        space.write(document(1), 4_000);
    }
    space.write(document(1), PIECE_BYTES * 4 + 100);
    let end = space.end();
    let backfill = Backfill::of(0, end);
    let mut session = opened_with(0, Vec::new(), bare(Start::Beginning, end, end, backfill));
    let mut line = Line::default();
    for n in 0..10 {
        let live = space.write(document(100 + n), 100);
        session.handle_committed(0, live..=live, false);
        let before = line.came.len();
        line.take(&mut session, &space, 0, 2);
        assert!(line.came[before..].contains(&live), "{:?}", &line.came[before..]);
        line.take(&mut session, &space, 0, 1);
    }
    line.take_all(&mut session, &space, 0);
    line.has_each_once(1..=space.end());
    let of_it = line.frames.iter().filter_map(|frame| match frame {
        Frame::Changes(it) if it.document == document(1) => it.more,
        _ => None,
    });
    let more: Vec<_> = of_it.collect();
    assert_eq!(more.len(), 8 + 5, "{more:?}");
    assert!(more[..12].iter().all(|more| *more) && !more[12]);
    assert_eq!(line.marks, Some((space.end(), None)));
}

#[test]
fn a_document_written_to_while_it_is_backfilled_is_sent_once() {
    for at in 0..14 {
        let mut space = Space::default();
        space.write(document(2), 100);
        for _ in 0..40 {
            space.write(document(1), 4_000);
        }
        let end = space.end();
        let backfill = Backfill::of(0, end);
        let mut session = opened_with(0, Vec::new(), bare(Start::Beginning, end, end, backfill));
        let mut line = Line::default();
        line.take(&mut session, &space, 0, at);
        for (n, own) in [(1, false), (2, true), (1, true), (1, false)] {
            let live = space.write(document(n), 4_000);
            session.handle_committed(0, live..=live, own);
            line.take(&mut session, &space, 0, 1);
        }
        line.take_all(&mut session, &space, 0);
        line.take_all(&mut session, &space, 1_000);
        let own = [end + 2, end + 3];
        line.has_each_once((1..=end + 4).filter(|position| !own.contains(position)));
        assert_eq!(line.marks, Some((end + 4, None)));
        assert_eq!(session.queued(), 0);
    }
}

#[test]
fn a_slow_reader_costs_two_marks() {
    let mut space = Space::default();
    let mut session = opened(0, 0);
    for n in 0..20_000_u32 {
        let position = space.write(document((n % 7) as u8), 8);
        session.handle_committed(0, position..=position, false);
    }
    assert_eq!(session.queued(), 0);
    let asked = read(&mut session, 0).unwrap();
    assert_eq!(asked, Read::Log { space: 0, after: 0, through: 20_000, backfill: None });
    let page = LogPage { batches: Vec::new(), through: 20_000, large: None };
    session.handle_read(0, asked, ReadAnswer::Log(page));
    assert!(matches!(read(&mut session, 0), Some(Read::Digests { .. })));
}

#[test]
fn what_was_begun_goes_on_where_it_was_cut() {
    let mut space = Space::default();
    for _ in 0..3 {
        space.write(document(1), 100);
    }
    space.write(document(1), PIECE_BYTES * 5);
    space.write(document(2), 100);
    let piece = BegunPiece { kind: PieceOf::Change, position: 4, bytes: PIECE_BYTES as u64 * 2 };
    let begun = Begun { document: document(1), through: 3, piece: Some(piece) };
    let backfill = Backfill::of(0, 4);
    let space_opened = || bare(Start::Cursor, 5, 5, backfill);
    let mut session = opened_with(0, vec![begun.clone()], space_opened());
    let asked = read(&mut session, 0).unwrap();
    let Read::Backfill { begun: named, .. } = &asked else { panic!("{asked:?}") };
    assert_eq!(*named, [document(1)]);
    let mut line = Line::default();
    line.pieces.insert(4, piece.bytes);
    session.handle_read(0, asked.clone(), space.answer(&asked));
    line.take_all(&mut session, &space, 0);
    line.has_each_once([4]);
    assert_eq!(line.marks, Some((5, None)));

    // In another store the parts mean nothing.
    let opened = Opened { start: Start::Beginning, ..space_opened() };
    let mut session = opened_with(0, vec![begun], opened);
    let mut line = Line::default();
    line.take_all(&mut session, &space, 0);
    line.has_each_once(1..=4);
}

#[test]
fn a_cut_costs_no_more_than_what_comes_between_two_marks() {
    let mut space = Space::default();
    for n in 1..=100 {
        space.write(document(n), 3_000);
    }
    let (mut marks, mut came) = ((100, Backfill::of(0, 100)), Vec::new());
    let mut sessions = 0;
    while marks.1.is_some() {
        sessions += 1;
        let opened = bare(Start::Cursor, 100, marks.0, marks.1);
        let mut session = opened_with(0, Vec::new(), opened);
        let mut line = Line::default();
        line.take(&mut session, &space, 0, 9);
        marks = line.marks.expect("a checkpoint within nine frames");
        came.extend(line.came);
    }
    // Of nine frames every second is a mark, as two documents are more than comes between marks.
    assert!((20..=30).contains(&sessions), "{sessions} sessions");
    let each: BTreeSet<_> = came.iter().copied().collect();
    assert_eq!(each.len(), 100);
    assert!(came.len() <= 100 + sessions, "{} changes came", came.len());
}

#[test]
fn a_want_is_answered_with_changes_or_with_nothing() {
    let mut space = Space::default();
    for n in [1, 2, 1] {
        space.write(document(n), 100);
    }
    let mut session = opened_with(0, Vec::new(), bare(Start::Now, 3, 3, None));
    let held = |at: u8| vec![ShortHash([at; 8])];
    let documents = vec![
        Wanted { document: document(1), heads: held(1) },
        Wanted { document: document(2), heads: held(2) },
    ];
    session.handle_frame(Frame::Want(Want { space: 0, documents, answers: false })).unwrap();
    let mut line = Line::default();
    line.take_all(&mut session, &space, 0);
    line.has_each_once([3]);
    let nothing = Frame::Nothing(Nothing { space: 0, document: document(2) });
    assert_eq!(line.frames.iter().filter(|frame| **frame == nothing).count(), 1);
    assert!(matches!(line.frames.last(), Some(Frame::Checkpoint(it)) if it.digests.is_some()));

    // And the relay asks for what it does not know.
    let documents = vec![Wanted { document: document(1), heads: held(9) }];
    session.handle_frame(Frame::Want(Want { space: 0, documents, answers: false })).unwrap();
    let asked = read(&mut session, 0).unwrap();
    let located = Located { from: None, wanted: Some(held(3)) };
    session.handle_read(0, asked, ReadAnswer::Located(located));
    let nothing = Frame::Nothing(Nothing { space: 0, document: document(1) });
    assert_eq!(frame(&mut session, 0), Some(nothing));
    let documents = vec![Wanted { document: document(1), heads: held(3) }];
    let want = Want { space: 0, documents, answers: false };
    assert_eq!(frame(&mut session, 0), Some(Frame::Want(want)));
}

#[test]
fn documents_that_are_needed_first_go_before_the_backfill() {
    let mut space = Space::default();
    for n in 1..=20 {
        space.write(document(n), 4_000);
    }
    let first = vec![document(1)];
    let opened = Opened { first, ..bare(Start::Beginning, 20, 20, Backfill::of(0, 20)) };
    let mut session = opened_with(0, Vec::new(), opened);
    let mut line = Line::default();
    line.take_all(&mut session, &space, 0);
    assert_eq!(line.documents()[..2], [document(1), document(20)]);
    assert_eq!(line.came.iter().collect::<BTreeSet<_>>().len(), 20);
}

#[test]
fn a_listing_is_read_from_the_store_and_an_offer_answered_once() {
    let mut session = opened(0, 300);
    assert!(matches!(read(&mut session, 0), Some(Read::Digests { .. })));
    session.handle_read(
        0,
        Read::Digests { space: 0 },
        ReadAnswer::Digests { digests: Vec::new(), lost: 0 },
    );
    let listed = |n| Listed { document: document(n), heads: ShortHash([n; 8]) };

    let backfill = Backfill::of(0, 300);
    let asks = || Frame::Listing(Listing { space: 0, backfill, documents: None });
    session.handle_frame(asks()).unwrap();
    assert!(matches!(session.handle_frame(asks()), Err(SessionError::Unexpected { .. })));
    let asked = read(&mut session, 0).unwrap();
    assert_eq!(asked, Read::Listing { space: 0, backfill: backfill.unwrap() });
    let left = Backfill::of(0, 200);
    let told = session.handle_read(0, asked, ReadAnswer::Listing(vec![listed(1)], left));
    let documents = Some(vec![listed(1)]);
    assert_eq!(told, Some(Frame::Listing(Listing { space: 0, backfill: left, documents })));

    for wanted in [0, 1, WANT_DOCUMENTS_MAX, WANT_DOCUMENTS_MAX + 1] {
        let offer = || Frame::Offer(Offer { space: 0, documents: vec![listed(1), listed(2)] });
        session.handle_frame(offer()).unwrap();
        assert!(matches!(session.handle_frame(offer()), Err(SessionError::Unexpected { .. })));
        let asked = read(&mut session, 0).unwrap();
        let documents = vec![listed(1), listed(2)];
        assert_eq!(asked, Read::Compare { space: 0, documents });
        let wants = vec![Wanted { document: document(2), heads: Vec::new() }; wanted];
        assert_eq!(session.handle_read(0, asked, ReadAnswer::Compared(wants)), None);
        assert!(!session.is_drained());
        let mut got = 0;
        loop {
            let Some(Frame::Want(want)) = frame(&mut session, 0) else { panic!("a Want") };
            assert!(want.documents.len() <= WANT_DOCUMENTS_MAX);
            got += want.documents.len();
            if want.answers {
                break;
            }
        }
        assert_eq!(got, wanted, "the last of them says that these are all");
        // The digest comes after what was compared.
        assert!(matches!(read(&mut session, 0), Some(Read::Digests { .. })));
        session.handle_read(
            0,
            Read::Digests { space: 0 },
            ReadAnswer::Digests { digests: Vec::new(), lost: 0 },
        );
    }
}

#[test]
fn digests_come_only_when_nothing_is_unsent() {
    let mut space = Space::default();
    for n in 1..=30 {
        space.write(document(n), 6_000);
    }
    let mut session =
        opened_with(0, Vec::new(), bare(Start::Beginning, 30, 30, Backfill::of(0, 30)));
    let mut line = Line::default();
    // However much time passes.
    for step in 0..200 {
        line.take(&mut session, &space, step * 250, 1);
        if step < 30 {
            assert_eq!(line.digests, 0, "after {step} frames");
        }
    }
    line.has_each_once(1..=30);
    assert_eq!((line.digests, line.marks), (1, Some((30, None))));
    // A question for digests is answered again.
    let want = Want { space: 0, documents: Vec::new(), answers: false };
    session.handle_frame(Frame::Want(want)).unwrap();
    line.take_all(&mut session, &space, 100_000);
    assert_eq!(line.digests, 2);
}

#[test]
fn a_long_live_change_is_followed_by_digests() {
    let mut space = Space::default();
    let mut session = opened(0, 0);
    let mut line = Line::default();
    line.take_all(&mut session, &space, 0);
    for (n, len) in [100, 9_000, PIECE_BYTES * 3].into_iter().enumerate() {
        let position = space.write(document(n as u8), len);
        session.handle_committed(0, position..=position, false);
        line.take_all(&mut session, &space, 1_000 * (n as u64 + 1));
        assert_eq!(line.marks, Some((position, None)));
        assert_eq!(line.digests, 2 + n, "one more");
    }
}

#[test]
fn what_cannot_be_read_is_passed_over_and_holds_nothing_up() {
    let mut space = Space::default();
    for _ in 0..10 {
        space.write(document(1), 4_000);
    }
    let mut session =
        opened_with(0, Vec::new(), bare(Start::Beginning, 10, 10, Backfill::of(0, 10)));
    let asked = read(&mut session, 0).unwrap();
    session.handle_read(0, asked.clone(), space.answer(&asked));
    let asked = read(&mut session, 0).unwrap();
    assert!(matches!(asked, Read::Document { .. }));
    session.handle_read(0, asked, ReadAnswer::Failed);
    let mut line = Line::default();
    line.take_all(&mut session, &space, 0);
    assert_eq!((line.marks, line.digests), (Some((10, None)), 1));
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

    let mut session = opened(0, 0);
    let gap = session.handle_frame(push(2)).unwrap_err();
    assert!(matches!(gap, SessionError::PushOrder { got: 2, expected: 1 }));
    let again = session.handle_frame(hello(0, Vec::new())).unwrap_err();
    assert!(matches!(again, SessionError::Unexpected { frame: "Hello", .. }));
    let nothing = Frame::Nothing(Nothing { space: 0, document: document(1) });
    let not_mine = session.handle_frame(nothing).unwrap_err();
    assert!(matches!(not_mine, SessionError::Unexpected { frame: "Nothing", .. }));
    let elsewhere = [
        Frame::Want(Want { space: 7, documents: Vec::new(), answers: false }),
        Frame::Listing(Listing { space: 7, backfill: Backfill::of(0, 1), documents: None }),
        Frame::Offer(Offer { space: 7, documents: Vec::new() }),
        Frame::Repair(Repair { space: 7, from: 0, count: 1, symbols: None }),
    ];
    for frame in elsewhere {
        let unknown = session.handle_frame(frame).unwrap_err();
        assert!(matches!(unknown, SessionError::Space { space: 7 }));
    }
    for n in 1..=limits::PUSHES_IN_FLIGHT_MAX as u64 {
        session.handle_frame(push(n)).unwrap();
    }
    let flood = session.handle_frame(push(limits::PUSHES_IN_FLIGHT_MAX as u64 + 1)).unwrap_err();
    assert!(matches!(flood, SessionError::TooManyPushes { .. }));

    let mut session = opened(0, 0);
    let wanted = vec![Wanted { document: document(1), heads: Vec::new() }; WANT_DOCUMENTS_MAX];
    let mut asked = 0;
    let refused = loop {
        let want = Want { space: 0, documents: wanted.clone(), answers: false };
        match session.handle_frame(Frame::Want(want)) {
            Ok(()) => asked += wanted.len(),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, SessionError::TooManyWanted { .. }));
    assert_eq!(asked, limits::WANTED_MAX);
}

/// A replica that does not read may take long to be gone.
#[test]
fn an_ending_session_keeps_nothing_but_answers() {
    for answers in [false, true] {
        let mut session = opened_with(0, Vec::new(), bare(Start::Cursor, 5, 5, None));
        let documents = (1..=100).map(|n| Wanted { document: document(n), heads: Vec::new() });
        let documents = documents.collect();
        let want = Frame::Want(Want { space: 0, documents, answers: false });
        session.handle_frame(want).unwrap();
        session.handle_frame(push(1)).unwrap();
        while session.poll_event().is_some() {}
        let (class, hashes) = (RefusedClass::Never, vec![ChangeHash([1; 32])]);
        let (heads, reason, retry_after_ms) = (Vec::new(), String::new(), 0);
        session.handle_stored(
            1,
            StoreOutcome::Refused { class, hashes, heads, retry_after_ms, reason },
        );
        let before = session.unread_bytes();
        session.handle_ending(answers);
        assert!(session.unread_bytes() < before / 2, "{} of {before}", session.unread_bytes());
        assert_eq!(session.unread_bytes() > 0, answers);
    }
}
