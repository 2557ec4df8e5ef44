//! Devices that write apart and meet again.

use std::collections::HashMap;

use rejoin_core::change::{Admission, Place, admit};
use rejoin_core::{History, KnownChange, LastChange};

use super::*;

/// The steps of each of two devices at every level, both for the first time.
fn use_everything(doc: &mut Automerge, who: &str) -> Vec<Change> {
    edit(
        doc,
        &[
            append("notes", who),
            increment("parts_used", 2),
            insert("tags", 0, json!(who)),
            append("customer.site.access.hints", who),
            increment("customer.site.visits", 3),
            set(&format!("customer.site.{who}"), json!(true)),
            insert("customer.site.doors", 0, json!({ "by": who, "code": { "n": 1 } })),
        ],
    )
}

#[test]
fn devices_that_both_start_something_offline_share_it() {
    let (mut alice, mut bob) = (device(1), device(2));
    use_everything(&mut alice, "alice");
    use_everything(&mut bob, "bob");
    exchange(&mut alice, &mut bob);

    let read = read(&alice);
    for text in [&read["notes"], &read["customer"]["site"]["access"]["hints"]] {
        assert!(["alicebob", "bobalice"].contains(&text.as_str().unwrap()), "{text}");
    }
    assert_eq!(read["parts_used"], 4);
    assert_eq!(read["customer"]["site"]["visits"], 6);
    assert_eq!(read["tags"].as_array().unwrap().len(), 2);
    assert_eq!(read["customer"]["site"]["doors"].as_array().unwrap().len(), 2);
    assert_eq!(read["customer"]["site"]["alice"], true);
    assert_eq!(read["customer"]["site"]["bob"], true);
    assert_nothing_is_hidden(&alice, &ROOT);
}

#[test]
fn changes_arriving_in_any_order_give_the_same() {
    let (mut alice, mut bob) = (device(1), device(2));
    let mut changes = use_everything(&mut alice, "alice");
    changes.extend(use_everything(&mut bob, "bob"));
    alice.merge(&mut bob).unwrap();
    for turn in 0..changes.len() {
        changes.rotate_left(1);
        let mut late = device(3);
        if turn % 2 == 0 {
            changes.reverse();
        }
        for change in &changes {
            late.apply_changes([change.clone()]).unwrap();
        }
        assert_eq!(read(&late), read(&alice));
        assert_eq!(late.get_heads(), alice.get_heads());
    }
}

#[test]
fn births_are_the_same_changes_on_both() {
    let (mut alice, mut bob) = (device(1), device(2));
    let births = |changes: Vec<Change>| -> Vec<ChangeHash> {
        changes.iter().filter(|change| is_birth(change)).map(Change::hash).collect()
    };
    let one = births(use_everything(&mut alice, "alice"));
    let other = births(use_everything(&mut bob, "bob"));
    assert_eq!(one, other);
    assert_eq!(one.len(), 9);
    assert!(births(use_everything(&mut alice, "again")).is_empty());
}

#[test]
fn a_map_in_a_list_item_takes_births_too() {
    let (mut alice, mut bob) = (device(1), device(2));
    edit(&mut alice, &[insert("visits", 0, json!({ "day": 1 })), insert("visits", 0, json!(0))]);
    exchange(&mut alice, &mut bob);
    edit(&mut alice, &[append("visits[1].notes", "a"), increment("visits[1].report.pages", 1)]);
    edit(&mut bob, &[append("visits[1].notes", "b"), increment("visits[1].report.pages", 1)]);
    exchange(&mut alice, &mut bob);
    let visit = &read(&alice)["visits"][1];
    assert_eq!(visit["notes"].as_str().unwrap().len(), 2);
    assert_eq!(visit["report"], json!({ "pages": 2 }));
}

#[test]
fn an_edit_of_what_was_seen_keeps_what_came_since() {
    let (mut alice, mut bob) = (device(1), device(2));
    let start = json!({
        "notes": { "$text": "Ring twice." },
        "status": "booked",
        "parts": { "$counter": 1 },
        "tags": ["roof"],
    });
    become_value(&mut alice, &start);
    exchange(&mut alice, &mut bob);
    let (seen, base) = (read(&bob), bob.get_heads());
    edit(
        &mut alice,
        &[
            splice("notes", 0, 4, "Knock"),
            append("extra", "A"),
            increment("parts", 5),
            insert("tags", 0, json!("new")),
        ],
    );
    exchange(&mut alice, &mut bob);

    let mut after = seen.clone();
    after["notes"] = json!("Ring twice. Dog.");
    after["extra"] = json!({ "$text": "B" });
    after["parts"] = json!(3);
    after["tags"] = json!(["roof", "urgent"]);
    let changes = edit_at(&mut bob, Some(&base), &diff(&seen, &after));
    assert!(ordinary(&changes)[0].deps().iter().all(|dep| !alice_made(&bob, dep)));

    exchange(&mut alice, &mut bob);
    let read = read(&alice);
    assert_eq!(read["notes"], "Knock twice. Dog.");
    assert_eq!(read["extra"].as_str().unwrap().len(), 2);
    assert_eq!(read["parts"], 8);
    assert_eq!(read["tags"], json!(["new", "roof", "urgent"]));
    assert_eq!(read["status"], "booked");
}

/// Whether a change is Alice's second one or later.
fn alice_made(doc: &Automerge, hash: &ChangeHash) -> bool {
    let change = doc.get_change_by_hash(hash).unwrap();
    *change.actor_id() == ActorId::from([1; 16]) && change.seq() > 1
}

#[test]
fn edits_at_an_old_base_can_follow_each_other() {
    let mut doc = device(1);
    edit(&mut doc, &[append("notes", "start.")]);
    let base = doc.get_heads();
    for letter in ["a", "b", "c"] {
        edit_at(&mut doc, Some(&base), &[append("notes", letter), increment("n", 1)]);
    }
    let read = read(&doc);
    let mut notes: Vec<char> = read["notes"].as_str().unwrap().chars().collect();
    notes.sort_unstable();
    assert_eq!(notes.into_iter().collect::<String>(), ".aabcrstt");
    assert_eq!(read["n"], 3);
}

#[test]
fn a_base_equal_to_the_heads_is_no_base() {
    let mut doc = device(1);
    edit(&mut doc, &[set("a", json!(1))]);
    let mut heads = doc.get_heads();
    heads.reverse();
    let changes = edit_at(&mut doc, Some(&heads), &[set("a", json!(2))]);
    assert_eq!(*changes[0].actor_id(), ActorId::from([1; 16]));
    assert_eq!(changes[0].seq(), 2);
}

#[test]
fn a_base_that_is_not_here_is_refused() {
    let mut doc = device(1);
    let head = ChangeHash([9; 32]);
    let error = write_at(&mut doc, Some(&[head]), &[set("a", json!(1))], 0).unwrap_err();
    assert!(matches!(error, WriteError::UnknownBase { head: it } if it == head));
}

#[test]
fn a_text_that_is_not_the_one_edited_is_refused() {
    let mut doc = device(1);
    edit(&mut doc, &[append("notes", "abc")]);
    let heads = doc.get_heads();
    let before = Some(json!({ "$text": "abX" }));
    let op = Op::Set { path: "notes".into(), before, after: json!({ "$text": "abXY" }) };
    let error = try_edit(&mut doc, &[append("other", "x"), op]).unwrap_err();
    assert!(matches!(error, WriteError::Mismatch { path } if path == "notes".into()));
    assert_eq!(doc.get_heads(), heads, "nothing is left behind");
}

#[test]
fn what_was_removed_and_written_apart_is_kept_and_said() {
    let (mut alice, mut bob) = (device(1), device(2));
    become_value(&mut alice, &json!({ "address": { "street": "Elm" }, "stops": [{ "n": 1 }] }));
    exchange(&mut alice, &mut bob);
    edit(&mut alice, &[remove("address"), remove_at("stops", 0)]);
    edit(&mut bob, &[set("address.street", json!("Oak")), set("stops[0].n", json!(2))]);
    exchange(&mut alice, &mut bob);
    assert_eq!(read(&alice), json!({ "stops": [] }));
    let address = doc_map(&alice, "address");
    assert_eq!(alice.get(&address, "street").unwrap().unwrap().0.as_str(), Some("Oak"));
    edit(&mut bob, &[set("address.city", json!("Ulm"))]);
    assert_eq!(read(&bob)["address"], json!({ "street": "Oak", "city": "Ulm" }));
}

fn doc_map(doc: &Automerge, key: &str) -> ObjId {
    doc.get(ROOT, key).unwrap().unwrap().1
}

#[test]
fn a_container_made_beside_a_scalar_is_what_reads() {
    let (mut alice, mut bob) = (device(1), device(2));
    edit(&mut alice, &[append("notes", "kept")]);
    edit(&mut bob, &[set("x", json!(1)), set("notes", json!("scalar"))]);
    exchange(&mut alice, &mut bob);
    assert_eq!(read(&alice)["notes"], "kept");
    edit(&mut bob, &[append("notes", "!")]);
    assert_eq!(read(&bob)["notes"], "kept!");
    let error = try_edit(&mut bob, &[set("notes", json!(1))]).unwrap_err();
    assert!(matches!(error, WriteError::Kind { found: ValueKind::Text, .. }));
}

/// The changes of a document as the relay knows them.
#[derive(Default)]
struct Relay(HashMap<rejoin_core::ChangeHash, KnownChange>);

impl History for Relay {
    fn change(&self, hash: &rejoin_core::ChangeHash) -> Option<KnownChange> {
        self.0.get(hash).cloned()
    }

    fn last(&self, actor: &rejoin_core::ActorId) -> Option<LastChange> {
        let made = self.0.values().filter(|change| change.actor == *actor);
        made.map(|change| LastChange { seq: change.seq, max_op: change.max_op })
            .max_by_key(|last| last.seq)
    }
}

#[test]
fn the_relay_admits_what_is_written() {
    let (mut alice, mut bob) = (device(1), device(2));
    let base = alice.get_heads();
    use_everything(&mut alice, "alice");
    exchange(&mut alice, &mut bob);
    edit_at(&mut bob, Some(&base), &[append("notes", "late"), append("bob.only", "x")]);
    edit(&mut bob, &[set("customer.site.doors[0].code.m.k", json!({ "$text": "deep" }))]);
    exchange(&mut alice, &mut bob);

    let (space, collection) = ("acme".parse().unwrap(), "jobs".parse().unwrap());
    let place = Place { space: &space, collection: &collection, document: &DOCUMENT };
    let mut relay = Relay::default();
    for change in alice.get_changes(&[]) {
        let change = parse(change.raw_bytes()).unwrap();
        assert_eq!(admit(&change, &place, &relay), Ok(Admission::New), "{change:?}");
        relay.0.insert(change.hash(), change.known());
    }
}
