//! Documents of others: without a genesis, with conflicts, or with strange content.

use automerge::transaction::Transactable;

use super::*;

fn foreign() -> Automerge {
    Automerge::new().with_actor(ActorId::from([1; 16]))
}

#[test]
fn a_document_without_genesis_is_written_in_the_ordinary_way() {
    let mut doc = foreign();
    let value = json!({
        "notes": { "$text": "abc" },
        "n": { "$counter": 2 },
        "m": { "t": { "$text": "x" }, "l": [{ "c": { "$counter": 1 } }] },
    });
    let changes = become_value(&mut doc, &value);
    assert_eq!(ordinary(&changes).len(), 1);
    assert_eq!(changes.len(), 1);
    assert_eq!(read(&doc), crate::value::normal(&value));
    let changes =
        edit(&mut doc, &[append("m.later", "born"), increment("n", 1), append("top", "t")]);
    assert_eq!(changes.iter().filter(|change| is_birth(change)).count(), 1);
    assert_eq!(read(&doc)["m"]["later"], "born");
    assert_eq!(read(&doc)["n"], 3);
}

#[test]
fn null_gives_way_to_a_container() {
    let mut doc = foreign();
    let mut transaction = doc.transaction();
    transaction.put(ROOT, "address", ()).unwrap();
    transaction.commit();
    assert_eq!(read(&doc), json!({ "address": null }));
    edit(&mut doc, &[set("address.street", json!("Elm"))]);
    assert_eq!(read(&doc), json!({ "address": { "street": "Elm" } }));

    let mut doc = device(1);
    let mut transaction = doc.transaction();
    transaction.put(ROOT, "address", ()).unwrap();
    transaction.commit();
    edit(&mut doc, &[set("address.street", json!("Elm")), append("address.notes", "x")]);
    assert_eq!(read(&doc), json!({ "address": { "street": "Elm", "notes": "x" } }));
    assert_eq!(doc.get_all(ROOT, "address").unwrap().len(), 1);
}

#[test]
fn what_others_deleted_is_made_again() {
    let mut doc = device(1);
    edit(&mut doc, &[append("notes", "gone"), increment("n", 1)]);
    let mut transaction = doc.transaction();
    transaction.delete(ROOT, "notes").unwrap();
    transaction.delete(ROOT, "n").unwrap();
    transaction.commit();
    assert_eq!(read(&doc), json!({}));
    edit(&mut doc, &[append("notes", "new"), increment("n", 2)]);
    assert_eq!(read(&doc), json!({ "notes": "new", "n": 2 }));
}

#[test]
fn a_document_with_a_natural_key_is_born_in() {
    let key = Genesis::first("2026-118").unwrap();
    let mut docs = [1, 2].map(|actor| {
        let mut doc = Automerge::new().with_actor(ActorId::from([actor; 16]));
        doc.apply_changes([Change::from_bytes(genesis(&DOCUMENT, Some(&key))).unwrap()]).unwrap();
        edit(&mut doc, &[append("notes", "x")]);
        doc
    });
    let [one, other] = &mut docs;
    exchange(one, other);
    assert_eq!(read(one)["notes"], "xx");
}

#[test]
fn depths_that_would_overflow_the_stack_read_as_null() {
    let mut doc = foreign();
    let mut transaction = doc.transaction();
    let mut map = ROOT;
    for _ in 0..1000 {
        map = transaction.put_object(&map, "k", ObjType::Map).unwrap();
    }
    transaction.commit();
    let mut value = &read(&doc);
    let mut depth = 0;
    while value.is_object() {
        value = &value["k"];
        depth += 1;
    }
    assert_eq!(depth, 101, "the root and 100 below it");
    assert_eq!(*value, Value::Null);
    let text = serde_json::to_string(&read(&doc)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), read(&doc));
    let edge = vec!["k"; 101].join(".");
    for after in [json!({ "x": 1 }), json!(1)] {
        assert!(try_edit(&mut doc, &[set(&edge, after)]).is_err());
    }
    let whole = read(&doc);
    assert!(become_value(&mut doc, &whole).is_empty());
}

#[test]
fn maps_that_look_like_markers_are_left_alone() {
    let mut doc = foreign();
    let mut transaction = doc.transaction();
    let map = transaction.put_object(ROOT, "m", ObjType::Map).unwrap();
    transaction.put(&map, "$text", "x").unwrap();
    transaction.put(ROOT, "nan", f64::NAN).unwrap();
    transaction.put(ROOT, "when", ScalarValue::Timestamp(5)).unwrap();
    transaction.commit();
    assert_eq!(read(&doc), json!({ "m": { "$text": "x" }, "nan": null, "when": { "$time": 5 } }));
    let whole = read(&doc);
    assert!(become_value(&mut doc, &whole).is_empty());
    let error = try_edit(&mut doc, &[set("m", json!({ "$text": "y" }))]).unwrap_err();
    assert!(matches!(
        error,
        WriteError::Kind { found: ValueKind::Map, wanted: ValueKind::Text, .. }
    ));
    edit(&mut doc, &[set("m", json!({ "$text": "x", "more": 1 }))]);
    assert_eq!(read(&doc)["m"], json!({ "$text": "x", "more": 1 }));
}

#[test]
fn a_counter_beside_a_text_is_not_counted_over_it() {
    let (mut alice, mut bob) = (device(1), device(2));
    edit(&mut alice, &[append("x", "text")]);
    edit(&mut bob, &[increment("x", 1)]);
    exchange(&mut alice, &mut bob);
    assert_eq!(read(&bob)["x"], "text");
    assert!(try_edit(&mut bob, &[increment("x", 1)]).is_err());
    edit(&mut bob, &[append("x", "!")]);
    assert_eq!(bob.get_all(ROOT, "x").unwrap().len(), 2, "both are still there");
}
