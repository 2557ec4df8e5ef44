//! What a device pays that was away: bytes and round trips, counted.

use rejoin::{CollectionName, Op, SpaceName};
use rejoin_core::wire::Backfill;
use rejoin_engine::{Content, Edit, EngineOptions, Target};
use rejoin_tests::meeting::Meeting;
use serde_json::json;

const DOCUMENTS: usize = 5_000;
const CHANGES: usize = 30;

fn edit(document: usize, content: Content) -> Edit {
    Edit {
        space: SpaceName::new("main").unwrap(),
        collection: CollectionName::new("jobs").unwrap(),
        target: Target::Key(format!("job-{document}")),
        create: true,
        author: None,
        batch: None,
        content,
    }
}

fn set(document: usize, field: &str, value: impl Into<serde_json::Value>) -> Edit {
    let op = Op::Set { path: field.into(), before: None, after: value.into() };
    edit(document, Content::Ops { base: None, ops: vec![op] })
}

/// Two replicas that hold the same 5,000 documents of 30 changes each, all of them safe at the
/// relay.
fn five_thousand_documents() -> (Meeting, usize, usize) {
    let mut meeting = Meeting::new(7);
    let options = EngineOptions {
        documents_loaded_max: DOCUMENTS,
        loaded_bytes_max: u64::MAX,
        ..EngineOptions::default()
    };
    let (desk, van) = (meeting.join(options.clone()), meeting.join(options));
    // The genesis is the first change of each document.
    let fields = json!({ "phone": "555-0100", "status": "booked" });
    let fields = fields.as_object().unwrap();
    let create = |document| edit(document, Content::Fields(fields.clone()));
    meeting.edit(desk, (0..DOCUMENTS).map(create).collect());
    for change in 2..CHANGES {
        meeting
            .edit(desk, (0..DOCUMENTS).map(|document| set(document, "status", change)).collect());
    }
    meeting.connect(desk);
    meeting.connect(van);
    meeting.settle(van);
    (meeting, desk, van)
}

/// 25 documents change at the desk, 15 in the van, 10 at both, about four changes each.
fn a_week(meeting: &mut Meeting, desk: usize, van: usize) {
    meeting.disconnect(van);
    for change in 0..4 {
        let there = (0..35).map(|document| set(document * 100, "phone", change));
        meeting.edit(desk, there.collect());
        let here = (25..50).map(|document| set(document * 100, "notes", change));
        meeting.edit(van, here.collect());
    }
    meeting.settle(desk);
    meeting.disconnect(desk);
}

fn digest(meeting: &Meeting, replica: usize) -> rejoin::sync::SetDigest {
    let view = meeting.replicas[replica].store().read().unwrap();
    rejoin_engine::store::space_digest(&view.digests(&SpaceName::new("main").unwrap()).unwrap())
}

struct Cost {
    overhead: u64,
    round_trips: usize,
    loaded: u64,
}

/// Connects the van again and counts until both hold everything.
fn come_back(meeting: &mut Meeting, van: usize) -> Cost {
    come_back_to(meeting, van, "ws://table/sync")
}

fn come_back_to(meeting: &mut Meeting, van: usize, address: &str) -> Cost {
    let before = meeting.replicas[van].counters();
    meeting.connect_to(van, address);
    let mut round_trips = 0;
    let mut bytes = 0;
    while meeting.replicas[van].status().link != rejoin::Link::Safe {
        let exchanged = meeting.round_trip(van);
        assert!(!exchanged.is_quiet(), "stuck: {:?}", meeting.replicas[van].status());
        bytes += exchanged.bytes.0 + exchanged.bytes.1;
        round_trips += 1;
    }
    let after = meeting.replicas[van].counters();
    let payload = after.payload_bytes - before.payload_bytes;
    let loaded = after.documents_loaded - before.documents_loaded;
    println!("{bytes} bytes, of them {payload} changes, in {round_trips} round trips");
    Cost { overhead: bytes - payload, round_trips, loaded }
}

#[test]
fn a_device_that_was_away_pays_for_what_changed() {
    let (mut meeting, desk, van) = five_thousand_documents();

    a_week(&mut meeting, desk, van);
    let cost = come_back(&mut meeting, van);
    assert_eq!(cost.round_trips, 1);
    assert!(cost.overhead <= 2_600, "{} bytes", cost.overhead);

    meeting.disconnect(van);
    let cost = come_back(&mut meeting, van);
    assert_eq!((cost.round_trips, cost.loaded), (1, 0), "nothing changed");
    meeting.connect(desk);
    meeting.settle(desk);
    assert_eq!(digest(&meeting, desk), digest(&meeting, van));

    // The cursor is lost.
    a_week(&mut meeting, desk, van);
    let txn = meeting.replicas[van].store().write().unwrap();
    txn.put_cursor("ws://table/sync", &SpaceName::new("main").unwrap(), None).unwrap();
    txn.commit().unwrap();
    let cost = come_back(&mut meeting, van);
    assert!(cost.overhead <= 10 * 1024, "{} bytes", cost.overhead);
    println!("repaired in {} round trips", cost.round_trips);
    meeting.connect(desk);
    meeting.settle(desk);
    assert_eq!(digest(&meeting, desk), digest(&meeting, van));

    let counters = meeting.relay.counters();
    assert_eq!(counters.documents_loaded, 0, "the relay loads no document");
}

fn create(document: usize) -> Edit {
    let fields = json!({ "status": "booked" });
    edit(document, Content::Fields(fields.as_object().unwrap().clone()))
}

/// Two replicas that hold 300 documents, all of them at the relay.
fn three_hundred_documents(seed: u64) -> (Meeting, usize, usize) {
    let mut meeting = Meeting::new(seed);
    let (desk, van) =
        (meeting.join(EngineOptions::default()), meeting.join(EngineOptions::default()));
    meeting.edit(desk, (0..300).map(create).collect());
    meeting.connect(desk);
    meeting.connect(van);
    meeting.settle(van);
    (meeting, desk, van)
}

/// The relay loses everything; who was there brings it back, and who comes late gets it.
fn a_new_relay_gets_everything(meeting: &mut Meeting, desk: usize, van: usize) {
    meeting.replace_relay();
    meeting.connect(van);
    meeting.settle(van);
    meeting.connect(desk);
    meeting.settle(desk);
    assert_eq!(digest(meeting, desk), digest(meeting, van));
    let late = meeting.join(EngineOptions::default());
    meeting.connect(late);
    meeting.settle(late);
    assert_eq!(digest(meeting, desk), digest(meeting, late));
}

#[test]
fn another_address_of_the_same_relay_costs_no_more() {
    let (mut meeting, desk, van) = three_hundred_documents(10);
    meeting.disconnect(van);
    meeting.edit(desk, vec![set(5, "status", "done")]);
    meeting.settle(desk);
    meeting.disconnect(desk);
    let cost = come_back_to(&mut meeting, van, "wss://relay.example/sync");
    assert_eq!((cost.round_trips, cost.overhead < 512), (1, true), "{} bytes", cost.overhead);
    assert_eq!(meeting.replicas[van].counters().repairs, 0);
    meeting.disconnect(van);

    // Another relay at either address has another store, in which positions mean something else.
    a_new_relay_gets_everything(&mut meeting, desk, van);
}

#[test]
fn a_relay_that_lost_everything_gets_it_back() {
    let (mut meeting, desk, van) = three_hundred_documents(8);
    meeting.disconnect(desk);
    meeting.disconnect(van);
    meeting.edit(van, (290..310).map(create).collect());
    meeting.edit(van, vec![set(5, "status", "done")]);
    meeting.edit(desk, vec![set(6, "status", "done")]);

    a_new_relay_gets_everything(&mut meeting, desk, van);
    assert_eq!(meeting.relay.counters().documents_loaded, 0);
}

/// What is still to be listed, if lists are being compared.
fn to_be_listed(meeting: &Meeting, replica: usize) -> Option<Backfill> {
    let view = meeting.replicas[replica].store().read().unwrap();
    let cursor = view.cursor("ws://table/sync", &SpaceName::new("main").unwrap()).unwrap();
    cursor.and_then(|cursor| cursor.listing)
}

/// A document's place in the lists is that of its last change. Somebody who knows nothing of its older
/// ones writes to it before its turn has come.
#[test]
fn a_document_that_is_written_to_leaves_no_gap_in_the_lists() {
    for by_van_itself in [false, true] {
        let mut meeting = Meeting::new(9);
        let options = EngineOptions::default;
        let (desk, van, bike) =
            (meeting.join(options()), meeting.join(options()), meeting.join(options()));
        meeting.edit(desk, vec![set(0, "status", "booked")]);
        for replica in [desk, van, bike] {
            meeting.connect(replica);
        }
        meeting.settle(desk);
        meeting.disconnect(van);
        meeting.disconnect(bike);
        // The older change comes first, so that its document is the last to be listed.
        meeting.edit(desk, vec![set(0, "status", "done")]);
        meeting.settle(desk);
        meeting.edit(desk, (1..1500).map(|document| set(document, "status", "booked")).collect());
        meeting.settle(desk);
        meeting.disconnect(desk);
        let txn = meeting.replicas[van].store().write().unwrap();
        txn.put_cursor("ws://table/sync", &SpaceName::new("main").unwrap(), None).unwrap();
        txn.commit().unwrap();

        meeting.connect(van);
        while to_be_listed(&meeting, van).is_none_or(|left| left.through > 1_400) {
            assert!(!meeting.round_trip(van).is_quiet(), "it never lists");
        }
        let writer = if by_van_itself { van } else { bike };
        meeting.edit(writer, vec![set(0, "phone", "555-0100")]);
        if !by_van_itself {
            meeting.connect(bike);
            meeting.round_trip(bike);
        }
        meeting.settle(van);
        assert_eq!(meeting.replicas[van].counters().repairs, 1, "the lists were enough");
        meeting.connect(desk);
        meeting.settle(desk);
        assert_eq!(digest(&meeting, desk), digest(&meeting, van));
    }
}
