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

#[test]
fn names_by_which_things_are_removed_are_ours_in_our_documents_only() {
    let reserved = |op: Op, doc: &mut Automerge| {
        let refused = try_edit(doc, &[op]).unwrap_err();
        assert!(matches!(refused, WriteError::Reserved { .. }), "{refused}");
        refused.to_string()
    };
    let mut doc = device(1);
    let refused = reserved(set("deleted", json!(true)), &mut doc);
    assert!(refused.contains("`deleted`") && refused.contains("another name"), "{refused}");
    reserved(Op::Remove { path: "deleted".into() }, &mut doc);
    reserved(set("parts", json!([{ "part": "pump", "removed": true }])), &mut doc);
    let refused = reserved(set("visit", json!({ "a": { "removed": 1 } })), &mut doc);
    assert!(refused.contains("`visit.a.removed`"), "{refused}");
    reserved(append("visit.removed", "x"), &mut doc);
    // They say nothing in other places.
    edit(&mut doc, &[set("removed", json!(true)), set("visit.deleted", json!(true))]);
    assert_eq!(read(&doc), json!({ "removed": true, "visit": { "deleted": true } }));
    edit(&mut doc, &[Op::Delete]);
    assert_eq!(read(&doc)["deleted"], json!(true));
    edit(&mut doc, &[Op::Restore]);
    assert_eq!(read(&doc).get("deleted"), None);

    let mut doc = foreign();
    let theirs = |doc: &mut Automerge, ops: &[Op]| {
        let options = WriteOptions { marks: Marks::THEIRS, ..WriteOptions::default() };
        write(doc, &DOCUMENT, ops, &options)
    };
    let read = |doc: &Automerge| to_json(doc, None, Marks::THEIRS);
    let own = json!({ "a": { "removed": true }, "b": { "c": 1 }, "deleted": true });
    let fields = own.as_object().unwrap().iter();
    let fields: Vec<Op> = fields.map(|(name, value)| set(name, value.clone())).collect();
    theirs(&mut doc, &fields).unwrap();
    assert_eq!(read(&doc), own, "they are fields like others");
    let refused = theirs(&mut doc, &[set("b.rejoin.gone", json!(1))]);
    assert!(refused.is_ok(), "a map in a map: {refused:?}");
    for name in ["rejoin.deleted", "b"] {
        let path = match name {
            "b" => Path::from(["b", "rejoin.removed"]),
            name => Path::from([name]),
        };
        let refused = theirs(&mut doc, &[Op::Set { path, before: None, after: json!(true) }]);
        assert!(matches!(refused, Err(WriteError::Reserved { .. })), "{refused:?}");
    }
    theirs(&mut doc, &[Op::Delete, Op::Remove { path: "b".into() }]).unwrap();
    let gone = json!({ "a": { "removed": true }, "deleted": true, "rejoin.deleted": true });
    assert_eq!(read(&doc), gone);
}
