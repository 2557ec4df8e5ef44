//! Pushes that are many or large, or that a damaged document stands in the way of.

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use rejoin::{CollectionName, Link, Op, SpaceName};
use rejoin_engine::{Content, Edit, EngineOptions, Target};
use rejoin_tests::meeting::Meeting;

fn set(key: &str, field: &str, value: serde_json::Value) -> Edit {
    let op = Op::Set { path: field.into(), before: None, after: value };
    Edit {
        space: SpaceName::new("main").unwrap(),
        collection: CollectionName::new("jobs").unwrap(),
        target: Target::Key(key.to_owned()),
        create: true,
        author: None,
        batch: None,
        content: Content::Ops { base: None, ops: vec![op] },
    }
}

/// Text that does not deflate.
fn noise(rng: &mut ChaCha8Rng, len: usize) -> serde_json::Value {
    let letters = (0..len).map(|_| char::from(rng.random_range(33..127_u8)));
    serde_json::Value::String(letters.collect())
}

#[test]
fn more_than_may_be_in_flight_waiting_for_one_document_is_pushed() {
    let mut meeting = Meeting::new(1);
    let replica = meeting.join(EngineOptions::default());
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for n in 0..35 {
        meeting.edit(replica, vec![set("1", &format!("photo{n}"), noise(&mut rng, 200_000))]);
    }
    meeting.connect(replica);
    meeting.settle(replica);
    assert_eq!(meeting.replicas[replica].status().waiting, 0);
}

#[test]
fn a_large_document_goes_to_a_new_relay_between_many_small_ones() {
    let mut meeting = Meeting::new(3);
    let replica = meeting.join(EngineOptions::default());
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for n in 0..300 {
        meeting.edit(replica, vec![set(&n.to_string(), "phone", noise(&mut rng, 10))]);
    }
    for n in 0..10 {
        for key in ["1", "150", "299"] {
            meeting.edit(replica, vec![set(key, &format!("photo{n}"), noise(&mut rng, 200_000))]);
        }
    }
    meeting.connect(replica);
    meeting.settle(replica);
    meeting.disconnect(replica);
    meeting.replace_relay();
    meeting.connect(replica);
    meeting.settle(replica);
    assert_eq!(meeting.replicas[replica].status().link, Link::Safe);
}

#[test]
fn a_presence_told_before_the_welcome_does_not_end_the_session() {
    let mut meeting = Meeting::new(5);
    let replica = meeting.join(EngineOptions::default());
    let job = meeting.edit(replica, vec![set("1", "phone", "1".into())]).remove(0).document;
    meeting.connect(replica);
    let main = SpaceName::new("main").unwrap();
    meeting.replicas[replica].present(&main, job, Some(b"here".to_vec()), 1000);
    meeting.settle(replica);
}

#[test]
fn a_replica_that_dials_anew_is_present_though_the_relay_still_has_its_old_connection() {
    let mut meeting = Meeting::new(6);
    let main = SpaceName::new("main").unwrap();
    let [van, desk] = [0, 1].map(|_| meeting.join(EngineOptions::default()));
    let job = meeting.edit(van, vec![set("1", "phone", "1".into())]).remove(0).document;
    [van, desk].iter().for_each(|replica| meeting.connect(*replica));
    meeting.settle(desk);
    for said in ["typing", "typing on", "and on"] {
        meeting.replicas[van].present(&main, job, Some(said.as_bytes().to_vec()), 60_000);
        meeting.settle(desk);
        let present = meeting.replicas[desk].presences(0, &job);
        assert_eq!(present.len(), 1, "one replica is one peer: {present:?}");
        assert_eq!(present[0].1, said.as_bytes());
        assert_ne!(present[0].0.0, meeting.replicas[van].store().device().0, "that is its own");
        meeting.lose_line(van);
        meeting.connect(van);
        meeting.settle(desk);
    }
    assert_eq!(meeting.relay.poll_notice(), None, "nothing of it is a breach");
}

#[test]
fn a_document_that_does_not_load_does_not_keep_the_others_from_the_relay() {
    let mut meeting = Meeting::new(7);
    let replica = meeting.join(EngineOptions::default());
    let bad = meeting.edit(replica, vec![set("1", "phone", "1".into())]).remove(0).document;
    meeting.edit(replica, vec![set("2", "phone", "2".into())]);
    meeting.connect(replica);
    meeting.settle(replica);
    meeting.disconnect(replica);
    meeting.replace_relay();
    let engine = &mut meeting.replicas[replica];
    engine.handle_idle(1 << 40).unwrap();
    let txn = engine.store().write().unwrap();
    txn.put_change(&bad, 0, b"no change").unwrap();
    txn.commit().unwrap();
    meeting.connect(replica);
    for _ in 0..20 {
        meeting.wait(250);
        meeting.round_trip(replica);
    }
    let trouble = meeting.replicas[replica].status().trouble.clone().unwrap();
    assert!(trouble.contains("doctor"), "{trouble}");
    let other = meeting.join(EngineOptions::default());
    meeting.connect(other);
    for _ in 0..20 {
        meeting.wait(250);
        meeting.round_trip(other);
    }
    let store = meeting.replicas[other].store();
    let (main, jobs) = (SpaceName::new("main").unwrap(), CollectionName::new("jobs").unwrap());
    assert_eq!(store.read().unwrap().digest(&main, &jobs).unwrap().documents, 1);
}
