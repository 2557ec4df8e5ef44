//! The indexes beneath invariants give what reading every document would.

use std::collections::BTreeMap;

use proptest::prelude::*;
use redb::backends::InMemoryBackend;
use redb::{Database, TableDefinition};
use rejoin_core::invariant::Booking;
use rejoin_core::{CollectionName, DocumentId, SpaceName};
use rejoin_engine::store::{DocumentRow, Store, WriteTxn};

const BUSY: &str = "busy";
const ALL: usize = usize::MAX;

fn store() -> Store {
    let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
    Store::open(database, [1; 16]).unwrap()
}

fn names() -> (SpaceName, CollectionName) {
    (SpaceName::new("main").unwrap(), CollectionName::new("jobs").unwrap())
}

fn id(document: u8) -> DocumentId {
    DocumentId([document; 16])
}

fn book(txn: &WriteTxn, document: u8, booking: Option<&Booking>) {
    let (space, jobs) = names();
    txn.set_booking(&space, &jobs, BUSY, &id(document), booking).unwrap();
}

fn at(key: &str, start: i64, end: i64) -> Booking {
    Booking { key: key.to_owned(), start, end }
}

fn overlapping(txn: &WriteTxn, document: u8, booking: &Booking, max: usize) -> Vec<u8> {
    let (space, jobs) = names();
    let found = txn.overlapping(&space, &jobs, BUSY, booking, &id(document), max).unwrap();
    found.iter().map(|(id, _)| id.0[0]).collect()
}

/// Small numbers, so that bookings often touch; powers of two and their neighbours, where the
/// classes begin and end; and everything.
fn time() -> impl Strategy<Value = i64> {
    let near_power = (0..63_u32, -1..=1_i64, any::<bool>()).prop_map(|(bit, off, below)| {
        let time = (1_i64 << bit) + off;
        if below { -time } else { time }
    });
    prop_oneof![
        4 => -20..20_i64,
        2 => near_power,
        1 => any::<i64>(),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(i64::MIN + 1), Just(i64::MAX - 1)],
    ]
}

fn a_booking() -> impl Strategy<Value = Booking> {
    let duration =
        prop_oneof![3 => 0..30_i64, 1 => -3..0_i64, 1 => (0..63_u32).prop_map(|bit| 1 << bit)];
    let short = (time(), duration).prop_map(|(start, long)| (start, start.saturating_add(long)));
    let times = prop_oneof![3 => short, 1 => (time(), time())];
    (0..2_u8, times).prop_map(|(key, (start, end))| at(&key.to_string(), start, end))
}

proptest! {
    #[test]
    fn overlaps_are_those_of_a_list(
        steps in prop::collection::vec((0..40_u8, prop::option::weighted(0.9, a_booking())), 1..80),
        queries in prop::collection::vec(a_booking(), 1..20),
    ) {
        let (store, mut list) = (store(), BTreeMap::new());
        let txn = store.write().unwrap();
        for (document, booking) in steps {
            book(&txn, document, booking.as_ref());
            list.remove(&document);
            list.extend(booking.filter(|it| it.start < it.end).map(|it| (document, it)));
            let kept = txn.booking(BUSY, &id(document)).unwrap();
            prop_assert_eq!(kept.as_ref(), list.get(&document));
        }
        for (document, query) in list.clone().into_iter().chain(queries.into_iter().map(|it| (77, it))) {
            let (space, jobs) = names();
            let found = txn.overlapping(&space, &jobs, BUSY, &query, &id(document), ALL).unwrap();
            let by_id: BTreeMap<_, _> = found.iter().cloned().collect();
            prop_assert_eq!(by_id.len(), found.len(), "nothing twice");
            let others = list.iter().filter(|(other, it)| **other != document && it.overlaps(&query));
            let expected: BTreeMap<_, _> = others.map(|(other, it)| (id(*other), it.clone())).collect();
            prop_assert_eq!(by_id, expected);
            let some = txn.overlapping(&space, &jobs, BUSY, &query, &id(document), 2).unwrap();
            prop_assert_eq!(&some[..], &found[..found.len().min(2)]);
        }
    }

    #[test]
    fn equal_texts_are_those_of_a_list(
        steps in prop::collection::vec((0..20_u8, prop::option::weighted(0.8, "[ab]{0,2}")), 1..60),
        max in 0..4_usize,
    ) {
        let ((space, jobs), store, mut list) = (names(), store(), BTreeMap::new());
        let txn = store.write().unwrap();
        for (document, text) in steps {
            txn.set_unique(&space, &jobs, "phone", &id(document), text.as_deref()).unwrap();
            list.remove(&document);
            list.extend(text.map(|text| (document, text)));
            let kept = txn.unique("phone", &id(document)).unwrap();
            prop_assert_eq!(kept.as_ref(), list.get(&document));
        }
        for (document, text) in &list {
            let same = |max| txn.same_unique(&space, &jobs, "phone", text, &id(*document), max);
            let others = list.iter().filter(|(other, it)| *other != document && *it == text);
            let expected: Vec<_> = others.map(|(other, _)| id(*other)).collect();
            prop_assert_eq!(&same(ALL).unwrap(), &expected);
            prop_assert_eq!(&same(max).unwrap()[..], &expected[..expected.len().min(max)]);
        }
    }
}

#[test]
fn back_to_back_is_no_overlap() {
    let store = store();
    let txn = store.write().unwrap();
    book(&txn, 1, Some(&at("ana", 900, 1000)));
    book(&txn, 2, Some(&at("ana", 1100, 1200)));
    assert_eq!(overlapping(&txn, 3, &at("ana", 1000, 1100), ALL), [0_u8; 0]);
    assert_eq!(overlapping(&txn, 3, &at("ana", 999, 1101), ALL), [1, 2]);
    assert_eq!(overlapping(&txn, 3, &at("ana", 999, 999), ALL), [0_u8; 0]);
    assert_eq!(overlapping(&txn, 3, &at("an", 0, 2000), ALL), [0_u8; 0]);
}

#[test]
fn a_reader_sees_what_was_committed() {
    let ((space, jobs), store) = (names(), store());
    let txn = store.write().unwrap();
    book(&txn, 1, Some(&at("ana", 0, 10)));
    txn.set_unique(&space, &jobs, "phone", &id(1), Some("555")).unwrap();
    txn.commit().unwrap();
    let view = store.read().unwrap();
    assert_eq!(view.booking(BUSY, &id(1)).unwrap(), Some(at("ana", 0, 10)));
    assert_eq!(view.unique("phone", &id(1)).unwrap().unwrap(), "555");
    let found = view.overlapping(&space, &jobs, BUSY, &at("ana", 5, 6), &id(2), ALL).unwrap();
    assert_eq!(found, [(id(1), at("ana", 0, 10))]);
    assert_eq!(view.same_unique(&space, &jobs, "phone", "555", &id(2), ALL).unwrap(), [id(1)]);
}

#[test]
fn clearing_a_collection_leaves_the_others() {
    let (space, jobs) = names();
    let others = [
        (SpaceName::new("mai").unwrap(), jobs.clone()),
        (SpaceName::new("main2").unwrap(), jobs.clone()),
        (space.clone(), CollectionName::new("job").unwrap()),
        (space.clone(), CollectionName::new("jobs ").unwrap()),
        (space.clone(), CollectionName::new("jobs2").unwrap()),
    ];
    let store = store();
    let txn = store.write().unwrap();
    let booking = at("ana", i64::MIN, i64::MAX);
    let all = [(space.clone(), jobs.clone())].into_iter().chain(others.clone());
    for (document, (space, collection)) in (0..).zip(all) {
        for invariant in [BUSY, "also busy"] {
            let document = id(document);
            txn.set_booking(&space, &collection, invariant, &document, Some(&booking)).unwrap();
            txn.set_unique(&space, &collection, invariant, &document, Some("555")).unwrap();
        }
    }
    txn.clear_collection_invariants(&space, &jobs).unwrap();
    for invariant in [BUSY, "also busy"] {
        assert_eq!(txn.booking(invariant, &id(0)).unwrap(), None);
        assert_eq!(txn.unique(invariant, &id(0)).unwrap(), None);
        let found = txn.overlapping(&space, &jobs, invariant, &booking, &id(99), ALL).unwrap();
        assert_eq!(found, []);
        let same = txn.same_unique(&space, &jobs, invariant, "555", &id(99), ALL).unwrap();
        assert_eq!(same, []);
        for (document, (space, collection)) in (1..).zip(&others) {
            let found = txn.overlapping(space, collection, invariant, &booking, &id(99), ALL);
            assert_eq!(found.unwrap(), [(id(document), booking.clone())]);
            let same = txn.same_unique(space, collection, invariant, "555", &id(99), ALL).unwrap();
            assert_eq!(same, [id(document)]);
            assert_eq!(txn.unique(invariant, &id(document)).unwrap().unwrap(), "555");
        }
    }
}

#[test]
fn a_removed_document_takes_no_time_and_no_name() {
    let ((space, jobs), store) = (names(), store());
    let txn = store.write().unwrap();
    let row = DocumentRow::new(space.clone(), jobs.clone(), None);
    for document in [1, 2, 3] {
        txn.put_document(&id(document), &row).unwrap();
        book(&txn, document, Some(&at("ana", 0, 10)));
        txn.set_unique(&space, &jobs, "phone", &id(document), Some("555")).unwrap();
        txn.set_unique(&space, &jobs, "mail", &id(document), Some("ana@example.com")).unwrap();
    }
    txn.remove_document(&id(2), &row).unwrap();
    assert_eq!(overlapping(&txn, 9, &at("ana", 0, 10), ALL), [1, 3]);
    for (invariant, text) in [("phone", "555"), ("mail", "ana@example.com")] {
        let same = txn.same_unique(&space, &jobs, invariant, text, &id(9), ALL).unwrap();
        assert_eq!(same, [id(1), id(3)]);
        assert_eq!(txn.unique(invariant, &id(2)).unwrap(), None);
    }
    assert_eq!(txn.booking(BUSY, &id(2)).unwrap(), None);
}

#[test]
fn a_file_of_an_earlier_version_gets_the_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    let database = Database::create(&path).unwrap();
    let device = Store::open(database, [7; 16]).unwrap().device();

    let database = Database::create(&path).unwrap();
    let txn = database.begin_write().unwrap();
    for name in ["bookings-1", "booked-1", "uniques-1", "unique-1"] {
        assert!(txn.delete_table(TableDefinition::<u64, u64>::new(name)).unwrap(), "{name}");
    }
    txn.commit().unwrap();
    drop(database);

    let store = Store::open(Database::create(&path).unwrap(), [8; 16]).unwrap();
    assert_eq!(store.device(), device, "the replica stays who it was");
    let txn = store.write().unwrap();
    book(&txn, 1, Some(&at("ana", 0, 10)));
    txn.commit().unwrap();
    drop(store);

    let store = Store::open(Database::create(&path).unwrap(), [9; 16]).unwrap();
    assert_eq!(store.device(), device);
    let kept = store.read().unwrap().booking(BUSY, &id(1)).unwrap();
    assert_eq!(kept, Some(at("ana", 0, 10)), "opening again clears nothing");
}
