//! Texts, lists, maps and counters that two programs made at one key while they did not know of each
//! other: both are shown, a person decides, and nothing that anybody wrote is lost on the way.

use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ObjId, ObjType, ROOT, ReadDoc, ScalarValue};
use rejoin::{Decision, EditError, Op, Path, ReviewId};
use rejoin_engine::Content;
use rejoin_engine::store::{ReviewKind, ReviewRow};
use rejoin_tests::merge::device::{Device, JOB, id, space};
use rejoin_tests::merge::history::{History, Set};
use rejoin_tests::merge::people::edit;
use rejoin_tests::sim::random::Random;
use serde_json::{Value, json};

/// A device and programs that know Automerge only.
struct Table {
    history: [History; 2],
    device: Device,
}

impl Table {
    fn new() -> Self {
        Self { history: Default::default(), device: Device::new(Random::new(7)) }
    }

    /// The device hears of all that a program knows.
    fn tell(&mut self, app: &mut AutoCommit) {
        for change in app.get_changes(&[]) {
            self.history[JOB].add(change.raw_bytes());
        }
        self.hear_all();
    }

    fn hear_all(&mut self) {
        let all: Set = (0..self.history[JOB].changes.len()).collect();
        self.device.receive(JOB, &self.history[JOB], &all);
        self.device.turn(10, Vec::new());
    }

    /// A program hears of all that the device knows.
    fn hear(&mut self, app: &mut AutoCommit) {
        self.device.publish(&mut self.history);
        let changes = self.history[JOB].changes.iter();
        let changes = changes.map(|it| automerge::Change::from_bytes(it.chunk.clone()).unwrap());
        app.apply_changes(changes).unwrap();
    }

    fn value(&mut self) -> Value {
        self.device.engine.view(0, &id(JOB)).unwrap().value
    }

    fn open(&self) -> Vec<(ReviewId, ReviewRow)> {
        let view = self.device.engine.store().read().unwrap();
        let rows = view.reviews(&space()).unwrap();
        rows.into_iter().filter(|(_, row)| row.settled.is_none()).collect()
    }

    /// The one open question, which is about containers, with what is not seen.
    fn asked(&self) -> (ReviewId, ReviewRow, Vec<Value>) {
        let [(review, row)] = &self.open()[..] else { panic!("one question: {:?}", self.open()) };
        assert_eq!(row.kind, ReviewKind::Containers);
        let read = |value: &Option<minicbor::bytes::ByteVec>| {
            serde_json::from_slice(value.as_ref().unwrap()).unwrap()
        };
        let values = row.candidates.iter().map(|candidate| read(&candidate.value)).collect();
        (*review, row.clone(), values)
    }

    fn settle(&mut self, review: ReviewId, decision: Decision) -> Result<(), EditError> {
        let edit = edit(JOB, Content::Decide { review, decision, why: None });
        self.device.turn(20, vec![edit]).remove(0).map(drop)
    }

    fn edit(&mut self, op: Op) {
        let edit = edit(JOB, Content::Ops { base: None, ops: vec![op] });
        self.device.turn(20, vec![edit]).remove(0).unwrap();
    }
}

/// Two programs that know the same document each make something in it, and the device hears of both.
fn made(fill: [&dyn Fn(&mut AutoCommit); 2]) -> (Table, [AutoCommit; 2]) {
    let mut table = Table::new();
    table.edit(Op::Set { path: "status".into(), before: None, after: json!("booked") });
    let mut apps = [1, 2].map(|number| AutoCommit::new().with_actor(ActorId::from([number; 16])));
    apps.iter_mut().for_each(|app| table.hear(app));
    for (app, fill) in apps.iter_mut().zip(fill) {
        fill(app);
        app.commit();
    }
    for app in &mut apps {
        table.tell(app);
    }
    (table, apps)
}

fn text(word: &'static str) -> impl Fn(&mut AutoCommit) {
    move |app| {
        let text = app.put_object(ROOT, "notes", ObjType::Text).unwrap();
        app.splice_text(&text, 0, 0, word).unwrap();
    }
}

fn read(app: &AutoCommit) -> (String, ObjId) {
    let (_, text) = app.get(ROOT, "notes").unwrap().unwrap();
    (app.text(&text).unwrap(), text)
}

#[test]
fn the_text_that_is_not_seen_is_asked_about_and_can_be_taken() {
    let (mut table, mut apps) = made([&text("two dogs"), &text("call first")]);
    assert_eq!(table.value()["notes"], "call first");
    let (review, row, hidden) = table.asked();
    assert_eq!(hidden, ["two dogs"]);
    assert_eq!(row.standing.as_deref().map(Vec::as_slice), Some(&br#""call first""#[..]));

    table.settle(review, Decision::Take(row.candidates[0].change)).unwrap();
    assert_eq!(table.value()["notes"], "two dogs");
    assert!(table.open().is_empty());
    for app in &mut apps {
        table.hear(app);
        assert_eq!(read(app).0, "two dogs", "other programs see what was decided");
        assert_eq!(app.get_all(ROOT, "notes").unwrap().len(), 1);
    }
}

#[test]
fn a_person_may_write_both_into_one() {
    let (mut table, mut apps) = made([&text("two dogs"), &text("call first")]);
    let (review, ..) = table.asked();
    table.settle(review, Decision::Value(Some(json!("call first, two dogs")))).unwrap();
    table.hear(&mut apps[0]);
    assert_eq!(read(&apps[0]).0, "call first, two dogs");
    assert!(table.open().is_empty());
}

#[test]
fn what_is_written_meanwhile_where_nobody_looks_any_more_is_asked_about_again() {
    let (mut table, mut apps) = made([&text("two dogs"), &text("call first")]);
    let (review, ..) = table.asked();
    table.settle(review, Decision::Dismiss).unwrap();
    assert!(table.open().is_empty());
    // The first program still sees only its own text.
    let (_, own) = read(&apps[0]);
    apps[0].splice_text(&own, 8, 0, ", one bites").unwrap();
    apps[0].commit();
    table.tell(&mut apps[0]);
    assert_eq!(table.value()["notes"], "call first");
    let (again, row, hidden) = table.asked();
    assert_eq!(hidden, ["two dogs, one bites"]);
    assert_ne!(again, review, "it is another question");
    table.settle(again, Decision::Take(row.candidates[0].change)).unwrap();
    assert_eq!(table.value()["notes"], "two dogs, one bites");
    assert!(table.open().is_empty());
}

#[test]
fn lists_maps_and_counters_are_asked_about_too() {
    let list = |word: &'static str| {
        move |app: &mut AutoCommit| {
            let list = app.put_object(ROOT, "tags", ObjType::List).unwrap();
            app.insert(&list, 0, word).unwrap();
        }
    };
    let map = |key: &'static str| {
        move |app: &mut AutoCommit| {
            let map = app.put_object(ROOT, "address", ObjType::Map).unwrap();
            app.put(&map, key, 1).unwrap();
        }
    };
    let counter = |count: i64| {
        move |app: &mut AutoCommit| {
            app.put(ROOT, "visits", ScalarValue::counter(count)).unwrap();
            app.increment(ROOT, "visits", 2).unwrap();
        }
    };
    type Fill<'a> = &'a dyn Fn(&mut AutoCommit);
    let cases: [([Fill<'_>; 2], &str, Value, Value); 4] = [
        ([&list("a"), &list("b")], "tags", json!(["a"]), json!(["b"])),
        ([&map("zip"), &map("street")], "address", json!({ "zip": 1 }), json!({ "street": 1 })),
        ([&counter(5), &counter(1)], "visits", json!(7), json!(3)),
        // A container is seen before a counter, whoever made it last.
        (
            [&|app| drop(app.put_object(ROOT, "x", ObjType::Map).unwrap()), &|app| {
                app.put(ROOT, "x", ScalarValue::counter(4)).unwrap();
            }],
            "x",
            json!(4),
            json!({}),
        ),
    ];
    for (fill, key, hidden, seen) in cases {
        let (mut table, _) = made(fill);
        assert_eq!(table.value()[key], seen, "{key}");
        let (review, row, values) = table.asked();
        assert_eq!(values, std::slice::from_ref(&hidden), "{key}");
        let taken = table.settle(review, Decision::Take(row.candidates[0].change));
        if key == "x" {
            assert!(matches!(taken, Err(EditError::Write(_))), "a map is no counter: {taken:?}");
            table.settle(review, Decision::Dismiss).unwrap();
            assert_eq!(table.value()[key], seen);
        } else {
            taken.unwrap();
            assert_eq!(table.value()[key], hidden, "{key}");
        }
        assert!(table.open().is_empty(), "{key}");
    }
}

#[test]
fn what_holds_nothing_or_the_same_is_not_asked_about() {
    let empty = |app: &mut AutoCommit| {
        app.put_object(ROOT, "notes", ObjType::Text).unwrap();
    };
    for fill in [[&empty as &dyn Fn(&mut AutoCommit), &text("a")], [&text("a"), &text("a")]] {
        let (mut table, _) = made(fill);
        assert_eq!(table.value()["notes"], "a");
        assert_eq!(table.open(), []);
    }
    // Until somebody writes in it.
    let (mut table, mut apps) = made([&empty, &text("a")]);
    let (_, own) = read(&apps[0]);
    apps[0].splice_text(&own, 0, 0, "mine").unwrap();
    apps[0].commit();
    table.tell(&mut apps[0]);
    assert_eq!(table.asked().2, ["mine"]);
}

#[test]
fn our_own_kinds_at_one_key_are_asked_about() {
    let mut table = Table::new();
    table.edit(Op::Append { path: "memo".into(), text: "call".into() });
    let mut other = Device::new(Random::new(8));
    let memo_by = Path::from(["memo", "by"]);
    let op = Op::Set { path: memo_by.clone(), before: None, after: json!("Ann") };
    other.turn(20, vec![edit(JOB, Content::Ops { base: None, ops: vec![op] })]).remove(0).unwrap();
    table.device.publish(&mut table.history);
    other.publish(&mut table.history);
    table.hear_all();
    // Births are the same everywhere for ever, and so is which of the two is seen.
    assert_eq!(table.value()["memo"], json!("call"));
    let (review, _, hidden) = table.asked();
    assert_eq!(hidden, [json!({ "by": "Ann" })]);
    table.settle(review, Decision::Dismiss).unwrap();
    assert_eq!(table.value()["memo"], json!("call"));
    assert!(table.open().is_empty());
    // The other device has not heard of it, and writes on.
    let op = Op::Set { path: memo_by, before: None, after: json!("Eve") };
    other.turn(30, vec![edit(JOB, Content::Ops { base: None, ops: vec![op] })]).remove(0).unwrap();
    other.publish(&mut table.history);
    table.hear_all();
    assert_eq!(table.asked().2, [json!({ "by": "Eve" })]);
}
