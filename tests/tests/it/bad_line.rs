//! Lines that are cut again and again: every session gets further than the one before, and all of
//! them together carry little more than one that is not cut.

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use rejoin::{CollectionName, Op, SpaceName};
use rejoin_engine::{Content, Edit, EngineOptions, Target};
use rejoin_tests::meeting::Meeting;
use serde_json::json;

fn main_space() -> SpaceName {
    SpaceName::new("main").unwrap()
}

fn jobs() -> CollectionName {
    CollectionName::new("jobs").unwrap()
}

fn set(key: &str, field: &str, value: serde_json::Value) -> Edit {
    let op = Op::Set { path: field.into(), before: None, after: value };
    Edit {
        space: main_space(),
        collection: jobs(),
        target: Target::Key(key.to_owned()),
        create: true,
        author: None,
        batch: None,
        content: Content::Ops { base: None, ops: vec![op] },
    }
}

fn noise(rng: &mut ChaCha8Rng, len: usize) -> String {
    (0..len).map(|_| char::from(rng.random_range(33..127_u8))).collect()
}

fn documents(meeting: &Meeting, replica: usize) -> u64 {
    let view = meeting.replicas[replica].store().read().unwrap();
    let digests = view.digests(&main_space()).unwrap();
    digests.iter().map(|(_, digest)| digest.documents).sum()
}

/// A table whose relay holds so many small documents, and the replica that wrote them.
fn filled(count: usize) -> (Meeting, usize) {
    let mut meeting = Meeting::new(1);
    let writer = meeting.join(EngineOptions::default());
    write(&mut meeting, writer, count, "name");
    meeting.connect(writer);
    meeting.settle(writer);
    meeting.disconnect(writer);
    (meeting, writer)
}

fn write(meeting: &mut Meeting, replica: usize, count: usize, field: &str) {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for some in (0..count).collect::<Vec<_>>().chunks(500) {
        let edit = |n: &usize| set(&format!("{n:05}"), field, json!(noise(&mut rng, 40)));
        meeting.edit(replica, some.iter().map(edit).collect());
    }
}

/// Sessions until the replica is safe. Each must get further, by `far`; gives the bytes that came
/// through in all, each way, and how many sessions it took.
fn sessions(
    meeting: &mut Meeting,
    replica: usize,
    bytes_max: (u64, u64),
    far: impl Fn(&Meeting) -> u64,
) -> ((u64, u64), usize) {
    let (mut sum, mut before) = ((0, 0), 0);
    for session in 1..500 {
        let (through, is_safe) = meeting.short_session(replica, bytes_max);
        sum.0 += through.bytes.0;
        sum.1 += through.bytes.1;
        let now = far(meeting);
        if is_safe {
            return (sum, session);
        }
        assert!(now > before, "session {session} stays at {now}");
        before = now;
    }
    panic!("no end after 500 sessions: {:?}", meeting.replicas[replica].status());
}

#[test]
fn a_first_sync_in_short_sessions_gets_further_with_each() {
    let (mut meeting, _) = filled(3000);
    let unbroken = meeting.join(EngineOptions::default());
    let whole = meeting.short_session(unbroken, (u64::MAX, u64::MAX)).0.bytes;
    assert_eq!(documents(&meeting, unbroken), 3000);

    let reader = meeting.join(EngineOptions::default());
    let (sum, count) =
        sessions(&mut meeting, reader, (u64::MAX, 60_000), |meeting| documents(meeting, 2));
    assert_eq!(documents(&meeting, reader), 3000);
    assert!(count > 8, "{count} sessions");
    let most = whole.1 * 12 / 10 + 60_000;
    assert!(sum.1 <= most, "{} bytes in {count} sessions, {} in one", sum.1, whole.1);
}

#[test]
fn what_was_changed_last_comes_first() {
    let (mut meeting, writer) = filled(2000);
    meeting.edit(writer, vec![set("00003", "status", json!("urgent"))]);
    meeting.connect(writer);
    meeting.settle(writer);
    meeting.disconnect(writer);
    let reader = meeting.join(EngineOptions::default());
    meeting.short_session(reader, (u64::MAX, 20_000));
    let id = rejoin::DocumentId::derive(
        &main_space(),
        &jobs(),
        &rejoin_core::Genesis::first("00003").unwrap(),
    );
    let value = meeting.replicas[reader].value_at(0, &id, None).expect("it came first");
    assert_eq!(value["status"], json!("urgent"));
    assert!(documents(&meeting, reader) < 500);
}

#[test]
fn a_large_document_comes_in_short_sessions() {
    let mut meeting = Meeting::new(3);
    let writer = meeting.join(EngineOptions::default());
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let photo = noise(&mut rng, 400_000);
    meeting.edit(writer, vec![set("1", "photo", json!(photo))]);
    for _ in 0..600 {
        let text = noise(&mut rng, 100);
        let op = Op::Append { path: "notes".into(), text };
        let edit = Edit {
            space: main_space(),
            collection: jobs(),
            target: Target::Key("2".to_owned()),
            create: true,
            author: None,
            batch: None,
            content: Content::Ops { base: None, ops: vec![op] },
        };
        meeting.edit(writer, vec![edit]);
    }
    // Its own way up is as bad.
    let (sum, count) = sessions(&mut meeting, writer, (70_000, u64::MAX), |meeting| {
        meeting.replicas[0].counters().bytes_sent
    });
    assert!(count > 5, "{count} sessions");
    assert!(sum.0 < 900_000, "{} bytes up in {count} sessions", sum.0);
    meeting.compact();

    let reader = meeting.join(EngineOptions::default());
    let (sum, count) = sessions(&mut meeting, reader, (u64::MAX, 70_000), |meeting| {
        meeting.replicas[1].counters().commits
    });
    assert!(count > 4, "{count} sessions");
    assert!(sum.1 < 600_000, "{} bytes down in {count} sessions", sum.1);
    assert_eq!(documents(&meeting, reader), 2);
}

#[test]
fn what_is_written_meanwhile_goes_before_what_is_older() {
    let (mut meeting, writer) = filled(2000);
    let reader = meeting.join(EngineOptions::default());
    meeting.short_session(reader, (u64::MAX, 30_000));
    // A document that has not come, one that has, and a new one.
    for key in ["00010", "01999", "new"] {
        meeting.edit(writer, vec![set(key, "status", json!("moved"))]);
    }
    meeting.connect(writer);
    meeting.settle(writer);
    meeting.disconnect(writer);
    meeting.short_session(reader, (u64::MAX, 10_000));
    for key in ["00010", "01999", "new"] {
        let genesis = rejoin_core::Genesis::first(key).unwrap();
        let id = rejoin::DocumentId::derive(&main_space(), &jobs(), &genesis);
        let value = meeting.replicas[reader].value_at(0, &id, None).expect("it came first");
        assert_eq!(value["status"], json!("moved"));
        assert!(key == "new" || value["name"].is_string(), "{key} is not whole: {value}");
    }
    let (_, _) =
        sessions(&mut meeting, reader, (u64::MAX, 60_000), |meeting| documents(meeting, 1));
    assert_eq!(documents(&meeting, reader), 2001);
}

#[test]
fn a_device_that_was_away_for_long_catches_up_in_short_sessions() {
    let (mut meeting, writer) = filled(3000);
    let reader = meeting.join(EngineOptions::default());
    meeting.short_session(reader, (u64::MAX, u64::MAX));
    write(&mut meeting, writer, 2500, "status");
    meeting.connect(writer);
    meeting.settle(writer);
    meeting.disconnect(writer);
    let applied = |meeting: &Meeting| meeting.replicas[1].counters().changes_applied;
    let (sum, count) = sessions(&mut meeting, reader, (u64::MAX, 60_000), applied);
    assert!(count > 4, "{count} sessions");
    assert!(sum.1 < 1_000_000, "{} bytes in {count} sessions", sum.1);
}

/// Both hold documents and neither has a cursor of the new relay.
#[test]
fn a_new_relay_is_filled_in_short_sessions_by_those_who_hold_the_documents() {
    let (mut meeting, writer) = filled(2000);
    let reader = meeting.join(EngineOptions::default());
    meeting.short_session(reader, (u64::MAX, u64::MAX));
    meeting.edit(reader, vec![set("only here", "name", json!("reader"))]);
    meeting.replace_relay();
    let (_, up) = sessions(&mut meeting, writer, (60_000, u64::MAX), |meeting| {
        meeting.replicas[0].counters().bytes_sent
    });
    assert!(up > 3, "{up} sessions up");
    let (sum, count) = sessions(&mut meeting, reader, (u64::MAX, 20_000), |meeting| {
        meeting.replicas[1].counters().bytes_received
    });
    assert!(sum.1 < 200_000, "{} bytes in {count} sessions: lists, not documents", sum.1);
    let (_, _) = sessions(&mut meeting, writer, (60_000, 60_000), |meeting| {
        meeting.replicas[0].counters().bytes_sent
    });
    assert_eq!(documents(&meeting, writer), 2001);
    assert_eq!(documents(&meeting, reader), 2001);
}
