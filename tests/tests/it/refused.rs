//! Edits that a relay refuses because another change holds their place, and that are made anew: they
//! mean the same items, characters and values, whatever came meanwhile.

use rejoin::{ChangeHash, Op, Path};
use rejoin_engine::Content;
use rejoin_tests::merge::device::{Device, JOB, id};
use rejoin_tests::merge::history::{History, Set};
use rejoin_tests::merge::people::edit;
use rejoin_tests::sim::random::Random;
use serde_json::{Value, json};

/// Two devices that hold the same job.
struct Table {
    histories: [History; 2],
    devices: [Device; 2],
}

impl Table {
    fn with(ops: Vec<Op>) -> Self {
        let mut random = Random::new(1);
        let devices = [Device::new(random.fork()), Device::new(random.fork())];
        let mut table = Self { histories: Default::default(), devices };
        table.edit(0, None, ops);
        table.devices[0].publish(&mut table.histories);
        table.tell(1);
        table
    }

    fn edit(&mut self, at: usize, base: Option<Vec<ChangeHash>>, ops: Vec<Op>) -> Vec<ChangeHash> {
        let edit = edit(JOB, Content::Ops { base, ops });
        self.devices[at].turn(10, vec![edit]).remove(0).expect("an edit that fits").changes
    }

    /// A device hears of everything that was published.
    fn tell(&mut self, at: usize) {
        let all: Set = (0..self.histories[JOB].changes.len()).collect();
        self.devices[at].receive(JOB, &self.histories[JOB], &all);
        self.devices[at].turn(10, Vec::new());
    }

    /// The first device edits, then hears of what the second did, and then its edit is refused.
    fn refused(&mut self, mine: Vec<Op>, theirs: Vec<Op>) -> Value {
        let changes = self.edit(0, None, mine);
        self.edit(1, None, theirs);
        self.devices[1].publish(&mut self.histories);
        self.tell(0);
        self.devices[0].refuse(20, &changes);
        self.devices[0].publish(&mut self.histories);
        self.tell(1);
        let [mine, theirs] =
            [0, 1].map(|at| self.devices[at].engine.view(0, &id(JOB)).expect("it is there").value);
        assert_eq!(mine, theirs);
        mine
    }
}

fn set(path: &str, after: Value) -> Op {
    Op::Set { path: path.into(), before: None, after }
}

fn insert(index: usize, value: Value) -> Op {
    Op::Insert { path: "parts".into(), index, value }
}

fn remove_at(index: usize) -> Op {
    Op::RemoveAt { path: "parts".into(), index }
}

#[test]
fn a_removal_takes_the_item_its_author_saw() {
    let mut table = Table::with(vec![set("parts", json!(["a", "b", "c"]))]);
    let value = table.refused(vec![remove_at(1)], vec![insert(0, json!("new"))]);
    assert_eq!(value["parts"], json!(["new", "a", "c"]));
}

#[test]
fn an_item_is_inserted_where_its_author_saw_the_gap() {
    let mut table = Table::with(vec![set("parts", json!(["a", "b", "c"]))]);
    let value = table.refused(vec![insert(2, json!("mine"))], vec![remove_at(0)]);
    assert_eq!(value["parts"], json!(["b", "mine", "c"]));
}

#[test]
fn an_item_is_set_and_written_in_where_its_author_saw_it() {
    let parts = json!(["a", { "name": "pipe" }, "c"]);
    let mut table = Table::with(vec![set("parts", parts)]);
    let path = |index: usize| Path::from(["parts"]).join(index);
    let mine = vec![
        Op::Set { path: path(2), before: None, after: json!("mine") },
        Op::Set { path: path(1).join("name"), before: None, after: json!("valve") },
    ];
    let value = table.refused(mine, vec![insert(0, json!("new"))]);
    assert_eq!(value["parts"], json!(["new", "a", { "name": "valve" }, "mine"]));
}

#[test]
fn characters_are_put_and_taken_where_their_author_saw_them() {
    let mut table = Table::with(vec![set("notes", json!({ "$text": "Ring twice." }))]);
    let splice = |index, delete, insert: &str| Op::Splice {
        path: "notes".into(),
        index,
        delete,
        insert: insert.to_owned(),
    };
    let value = table.refused(vec![splice(5, 5, "once")], vec![splice(0, 0, "Dog. ")]);
    assert_eq!(value["notes"], json!("Dog. Ring once."));
}

#[test]
fn what_is_first_used_by_a_refused_edit_is_made_with_it() {
    let mut table = Table::with(vec![set("status", json!("booked"))]);
    let mine = vec![
        Op::Append { path: "notes".into(), text: "Gate code 4711.".to_owned() },
        Op::Increment { path: "used".into(), by: 2 },
        insert(0, json!({ "name": "pipe" })),
        Op::Append { path: Path::from(["parts"]).join(0_usize).join("log"), text: "x".to_owned() },
    ];
    let theirs = vec![Op::Append { path: "notes".into(), text: "Dog. ".to_owned() }];
    let value = table.refused(mine, theirs);
    let notes = value["notes"].as_str().expect("a text");
    assert!(notes.contains("Gate code 4711.") && notes.contains("Dog. "), "{notes}");
    assert_eq!(value["used"], json!(2));
    assert_eq!(value["parts"], json!([{ "name": "pipe", "log": "x" }]));
}

/// An edit that builds on another of the same device, when both are refused.
#[test]
fn edits_in_a_row_keep_building_on_each_other() {
    let mut table = Table::with(vec![set("parts", json!(["a", "b"]))]);
    let first = table.edit(0, None, vec![insert(1, json!({ "name": "pipe" }))]);
    let path = Path::from(["parts"]).join(1_usize).join("log");
    table.edit(0, None, vec![Op::Append { path, text: "checked".to_owned() }]);
    table.edit(0, None, vec![remove_at(2)]);
    table.edit(1, None, vec![insert(0, json!("new"))]);
    table.devices[1].publish(&mut table.histories);
    table.tell(0);
    table.devices[0].refuse(20, &first);
    table.devices[0].publish(&mut table.histories);
    table.tell(1);
    for at in [0, 1] {
        let value = table.devices[at].engine.view(0, &id(JOB)).expect("it is there").value;
        assert_eq!(value["parts"], json!(["new", "a", { "name": "pipe", "log": "checked" }]));
    }
}
