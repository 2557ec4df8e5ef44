//! One device, one document.

use super::*;

#[test]
fn what_was_not_touched_is_not_written() {
    let mut doc = device(1);
    let start =
        json!({ "a": 1, "b": { "c": "x", "d": [1, 2, { "e": 1 }] }, "t": { "$text": "abc" } });
    become_value(&mut doc, &start);
    assert!(become_value(&mut doc, &start).is_empty());
    let mut after = start;
    after["b"]["d"][2]["e"] = json!(2);
    after["t"] = json!("abXc");
    let changes = become_value(&mut doc, &after);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].len(), 2);
    assert_eq!(changes[0].timestamp(), 1_700_000_000);
    assert_eq!(changes[0].message(), None);
}

#[test]
fn steps_of_one_edit_see_each_other() {
    let mut doc = device(1);
    let changes = edit(
        &mut doc,
        &[
            set("list", json!(["a", "b"])),
            remove_at("list", 0),
            insert("list", 1, json!({ "name": "c" })),
            append("list[1].notes", "in a new item"),
            increment("list[1].count", 2),
            remove_at("list", 0),
            set("list[0].name", json!("d")),
            append("text", "abc"),
            splice("text", 1, 1, "XYZ"),
            set("text", json!("aXYZc!")),
            increment("n", 4),
            set("n", json!(3)),
        ],
    );
    assert_eq!(ordinary(&changes).len(), 1);
    let list = json!([{ "name": "d", "notes": "in a new item", "count": 2 }]);
    assert_eq!(read(&doc), json!({ "list": list, "text": "aXYZc!", "n": 3 }));
}

#[test]
fn a_text_is_read_as_earlier_steps_left_it() {
    let mut doc = device(1);
    edit(&mut doc, &[append("text", "Gäte 4711, ring")]);
    let steps = [
        splice("text", 1, 1, "aa"),
        append("text", "!"),
        splice("text", 0, 2, "W"),
        set("text", json!("Wate 4711, ring twice!")),
        splice("text", 21, 1, "."),
    ];
    edit(&mut doc, &steps);
    assert_eq!(read(&doc), json!({ "text": "Wate 4711, ring twice." }));
    let beyond = try_edit(&mut doc, &[append("text", "é"), splice("text", 23, 1, "")]);
    assert!(matches!(beyond, Err(WriteError::NoCharacters { len: 23, .. })), "{beyond:?}");
}

#[test]
fn a_typed_value_makes_every_container_and_reads_back() {
    let mut doc = device(1);
    let value = json!({
        "notes": { "$text": "Dög" },
        "n": { "$counter": -3 },
        "bytes": { "$bytes": "00ff" },
        "time": { "$time": 1500 },
        "big": u64::MAX,
        "float": 2.0,
        "list": [{ "$text": "x" }, { "$counter": 2 }, [], {}, null, [[1]]],
        "map": { "empty": {}, "deep": { "er": { "$text": "y" } } },
        "nothing": null,
    });
    become_value(&mut doc, &value);
    let mut expect = crate::value::normal(&value);
    expect.as_object_mut().unwrap().remove("nothing");
    assert_eq!(read(&doc), expect);
    assert!(become_value(&mut doc, &expect).is_empty());
    let loaded = Automerge::load(&doc.save()).unwrap();
    assert_eq!(read(&loaded), expect);
}

#[test]
fn every_wrong_kind_is_refused_and_says_what_to_do() {
    let mut doc = device(1);
    let start = json!({
        "s": "plain", "i": 1, "t": { "$text": "t" }, "c": { "$counter": 1 }, "l": [1], "m": { "k": 1 },
    });
    become_value(&mut doc, &start);
    let (heads, value) = (doc.get_heads(), read(&doc));
    use ValueKind::{Counter, List, Map, Scalar, Text};
    let cases = [
        (append("i", "x"), "i", Scalar, Text),
        (append("l[0]", "x"), "l[0]", Scalar, Text),
        (splice("i", 0, 0, "x"), "i", Scalar, Text),
        (increment("i", 1), "i", Scalar, Counter),
        (insert("s", 0, json!(1)), "s", Scalar, List),
        (set("s.k", json!(1)), "s", Scalar, Map),
        (set("s[0]", json!(1)), "s", Scalar, List),
        (set("i", json!({ "$text": "x" })), "i", Scalar, Text),
        (set("i", json!({ "$counter": 2 })), "i", Scalar, Counter),
        (set("s", json!([])), "s", Scalar, List),
        (set("s", json!({})), "s", Scalar, Map),
        (set("t", json!(1)), "t", Text, Scalar),
        (set("t", json!([])), "t", Text, List),
        (increment("t", 1), "t", Text, Counter),
        (set("t.k", json!(1)), "t", Text, Map),
        (set("c", json!("x")), "c", Counter, Scalar),
        (set("c", json!({ "$text": "x" })), "c", Counter, Text),
        (append("c", "x"), "c", Counter, Text),
        (set("l", json!("x")), "l", List, Scalar),
        (set("l", json!({})), "l", List, Map),
        (set("l.k", json!(1)), "l", List, Map),
        (append("l", "x"), "l", List, Text),
        (set("m", json!(1)), "m", Map, Scalar),
        (set("m", json!([])), "m", Map, List),
        (set("m[0]", json!(1)), "m", Map, List),
        (increment("m", 1), "m", Map, Counter),
        (set("", json!(1)), "", Map, Scalar),
        (set("[0]", json!(1)), "", Map, List),
        (append("", "x"), "", Map, Text),
        (increment("", 1), "", Map, Counter),
        (insert("", 0, json!(1)), "", Map, List),
        (remove("s.k"), "s", Scalar, Map),
    ];
    for (op, at, found_wanted, wants) in cases {
        let error = try_edit(&mut doc, &[append("new", "x"), op.clone()]).unwrap_err();
        let message = error.to_string();
        let WriteError::Kind { path, found, wanted } = error else { panic!("{op:?}: {message}") };
        assert_eq!((path, found, wanted), (at.into(), found_wanted, wants), "{op:?}");
        assert!(message.contains("use another key"), "{message}");
    }
    assert_eq!((doc.get_heads(), read(&doc)), (heads, value));
}

#[test]
fn places_that_are_not_there_are_refused() {
    let mut doc = device(1);
    edit(&mut doc, &[set("l", json!([1, { "a": 1 }, 3])), remove_at("l", 1), append("t", "äb")]);
    for op in [
        set("l[2]", json!(1)),
        remove_at("l", 2),
        insert("l", 3, json!(1)),
        set("l[7].x", json!(1)),
    ] {
        let error = try_edit(&mut doc, std::slice::from_ref(&op)).unwrap_err();
        assert!(matches!(error, WriteError::NoItem { len: 2, .. }), "{op:?}: {error}");
    }
    for op in [splice("t", 3, 0, "x"), splice("t", 1, 2, "x"), splice("t", 0, usize::MAX, "")] {
        let error = try_edit(&mut doc, std::slice::from_ref(&op)).unwrap_err();
        assert!(matches!(error, WriteError::NoCharacters { len: 2, .. }), "{op:?}: {error}");
    }
    assert!(matches!(try_edit(&mut doc, &[remove("")]).unwrap_err(), WriteError::Root));
    assert!(try_edit(&mut doc, &[remove("no.such.key")]).unwrap().is_empty());
}

#[test]
fn values_beyond_a_limit_are_refused() {
    let mut doc = device(1);
    let long = "x".repeat(VALUE_BYTES_MAX + 1);
    for op in
        [set("a", json!(long)), insert("l", 0, json!(long)), set(&"k".repeat(5000), json!({}))]
    {
        let error = try_edit(&mut doc, &[op]).unwrap_err();
        assert!(matches!(error, WriteError::TooLarge { .. }), "{error}");
        assert!(error.to_string().len() < 200);
    }
    edit(&mut doc, &[set("c", json!({ "$counter": i64::MAX }))]);
    let error = try_edit(&mut doc, &[increment("c", 1)]).unwrap_err();
    assert!(matches!(error, WriteError::CounterRange { .. }));
    let deep = (0..200).fold(json!(1), |inner, _| json!({ "k": inner }));
    let error = try_edit(&mut doc, &[set("deep", deep)]).unwrap_err();
    assert!(matches!(error, WriteError::Depth { .. }), "{error}");
    let error = try_edit(&mut doc, &[set(&vec!["k"; 200].join("."), json!(1))]).unwrap_err();
    assert!(matches!(error, WriteError::Depth { .. }), "{error}");
    let fits = (0..99).fold(json!(1), |inner, _| json!({ "k": inner }));
    edit(&mut doc, &[set("deep", fits.clone())]);
    assert_eq!(read(&doc)["deep"], fits);
}

#[test]
fn what_cannot_be_deleted_is_emptied() {
    let mut doc = device(1);
    let start = json!({
        "s": 1, "t": { "$text": "abc" }, "c": { "$counter": 5 },
        "l": [1, { "$text": "x" }, { "a": 1 }, [1]], "m": { "k": 1, "t": { "$text": "kept" } },
    });
    become_value(&mut doc, &start);
    become_value(&mut doc, &json!({}));
    assert_eq!(read(&doc), json!({ "t": "", "c": 0, "l": [] }));
    assert!(become_value(&mut doc, &json!({})).is_empty());
    edit(
        &mut doc,
        &[append("t", "new"), increment("c", 1), insert("l", 0, json!(2)), set("s", json!(3))],
    );
    assert_eq!(read(&doc), json!({ "s": 3, "t": "new", "c": 1, "l": [2] }));
    let items = doc.length(doc.get(ROOT, "l").unwrap().unwrap().1);
    assert_eq!(items, 2, "the removed map is still there");
}

#[test]
fn null_empties_what_cannot_be_deleted() {
    let mut doc = device(1);
    let start =
        json!({ "t": { "$text": "abc" }, "c": { "$counter": 5 }, "l": [1], "m": { "k": 1 } });
    become_value(&mut doc, &start);
    become_value(&mut doc, &json!({ "t": null, "c": null, "l": null, "m": null, "none": null }));
    assert_eq!(read(&doc), json!({ "t": "", "c": 0, "l": [] }));
}

#[test]
fn a_removed_map_comes_back_when_it_is_written_again() {
    let mut doc = device(1);
    become_value(&mut doc, &json!({ "m": { "a": 1, "b": { "c": 2 } } }));
    edit(&mut doc, &[remove("m")]);
    assert_eq!(read(&doc), json!({}));
    assert!(edit(&mut doc, &[remove("m.a"), remove("m")]).is_empty());
    let mut path_api = doc.fork().with_actor(ActorId::from([4; 16]));
    edit(&mut path_api, &[set("m.b.d", json!(3))]);
    assert_eq!(read(&path_api), json!({ "m": { "a": 1, "b": { "c": 2, "d": 3 } } }));
    become_value(&mut doc, &json!({ "m": { "a": 2 } }));
    assert_eq!(read(&doc), json!({ "m": { "a": 2 } }), "a whole value replaces what was there");
}

#[test]
fn removed_items_do_not_count() {
    let mut doc = device(1);
    become_value(&mut doc, &json!({ "l": [{ "n": 0 }, { "n": 1 }, { "n": 2 }, 3] }));
    edit(&mut doc, &[remove_at("l", 0), remove_at("l", 1)]);
    assert_eq!(read(&doc), json!({ "l": [{ "n": 1 }, 3] }));
    edit(
        &mut doc,
        &[
            insert("l", 0, json!("a")),
            insert("l", 3, json!("z")),
            set("l[1].n", json!(9)),
            set("l[2]", json!(4)),
        ],
    );
    assert_eq!(read(&doc), json!({ "l": ["a", { "n": 9 }, 4, "z"] }));
}

#[test]
fn a_list_item_can_become_something_else() {
    let mut doc = device(1);
    become_value(
        &mut doc,
        &json!({ "l": [1, { "a": 1 }, [1], { "$text": "t" }, null, null, null] }),
    );
    edit(
        &mut doc,
        &[
            set("l[0]", json!({ "b": 1 })),
            set("l[1]", json!(2)),
            set("l[2]", json!(null)),
            set("l[3]", json!({ "$counter": 1 })),
            set("l[4]", json!({ "$text": "new" })),
            set("l[5].k", json!(1)),
            increment("l[6]", 2),
        ],
    );
    assert_eq!(read(&doc)["l"], json!([{ "b": 1 }, 2, null, 1, "new", { "k": 1 }, 2]));
}

#[test]
fn a_scalar_can_be_removed_to_make_room() {
    let mut doc = device(1);
    become_value(&mut doc, &json!({ "a": "x", "b": 1, "c": 1, "m": { "k": 1 } }));
    edit(&mut doc, &[set("b", json!(null))]);
    let changes = edit(
        &mut doc,
        &[
            remove("a"),
            append("a", "text"),
            set("b", json!({ "k": 1 })),
            set("c", json!(2)),
            remove("c"),
            increment("c", 7),
            remove("m.k"),
            set("m.k", json!([1])),
            set("new", json!(1)),
            remove("new"),
            append("new", "n"),
        ],
    );
    assert_eq!(ordinary(&changes).len(), 2, "the scalars are deleted first");
    let expect = json!({ "a": "text", "b": { "k": 1 }, "c": 7, "m": { "k": [1] }, "new": "n" });
    assert_eq!(read(&doc), expect);
    for key in ["a", "b", "c", "new"] {
        assert_eq!(doc.get_all(ROOT, key).unwrap().len(), 1, "{key}");
    }
}

#[test]
fn a_scalar_makes_room_also_on_an_older_base() {
    let (mut alice, mut bob) = (device(1), device(2));
    become_value(&mut alice, &json!({ "a": "x" }));
    exchange(&mut alice, &mut bob);
    let base = bob.get_heads();
    edit(&mut alice, &[remove("a"), append("a", "A")]);
    exchange(&mut alice, &mut bob);
    edit_at(&mut bob, Some(&base), &[remove("a"), append("a", "B")]);
    exchange(&mut alice, &mut bob);
    assert_eq!(read(&alice)["a"].as_str().unwrap().len(), 2);
    assert_eq!(alice.get_all(ROOT, "a").unwrap().len(), 1);
}

#[test]
fn a_long_text_is_written_in_changes_of_bounded_size() {
    let mut doc = device(1);
    let text = "Ünï ".repeat(12_500);
    for base in [None, Some(doc.get_heads())] {
        edit(&mut doc, &[set("other", json!(base.is_some()))]);
        let key = if base.is_some() { "stale" } else { "now" };
        let changes =
            edit_at(&mut doc, base.as_deref(), &[append(key, &text), set("after", json!(1))]);
        assert!(changes.len() > 3);
        assert!(changes.iter().all(|change| change.len() <= OPS_PER_CHANGE));
        for pair in ordinary(&changes).windows(2) {
            assert_eq!(pair[1].deps(), [pair[0].hash()]);
        }
        assert_eq!(read(&doc)[key], json!(text));
    }
    let changes = edit(&mut doc, &[remove("now")]);
    assert!(changes.iter().all(|change| change.len() <= OPS_PER_CHANGE));
    assert_eq!(read(&doc)["now"], "");
}

#[test]
fn large_values_are_written_in_changes_of_bounded_size() {
    let mut doc = device(1);
    let items: Vec<String> = (0..60).map(|item| item.to_string().repeat(10_000)).collect();
    let changes =
        edit(&mut doc, &[set("l", json!(items)), set("max", json!("y".repeat(VALUE_BYTES_MAX)))]);
    assert!(ordinary(&changes).len() > 3);
    let max = rejoin_core::limits::CHANGE_BYTES_MAX;
    assert!(changes.iter().all(|change| change.raw_bytes().len() < max));
    assert_eq!(read(&doc)["l"], json!(items));
}

#[test]
fn many_births_do_not_exceed_the_dependencies_of_a_change() {
    for stale in [false, true] {
        let mut doc = device(1);
        let base = doc.get_heads();
        let base = Some(base.as_slice()).filter(|_| stale);
        if stale {
            edit(&mut doc, &[set("other", json!(1))]);
        }
        let value: serde_json::Map<String, Value> =
            (0..700).map(|key| (key.to_string(), json!({ "n": { "$counter": 1 } }))).collect();
        let changes = edit_at(&mut doc, base, &[set("m", Value::from(value.clone()))]);
        assert_eq!(changes.iter().filter(|change| is_birth(change)).count(), 1401);
        let expect = crate::value::normal(&Value::from(value));
        assert_eq!(read(&doc)["m"], expect);
        let changes = edit(&mut doc, &[set("later", json!(1))]);
        assert!(changes[0].deps().len() < 10, "{}", changes[0].deps().len());
    }
}

#[test]
fn keys_are_taken_as_they_are() {
    let mut doc = device(1);
    let keys = ["X Coordinate (State Plane)", "weird.key", "", "a[0]", "\"", "ü"];
    for key in keys {
        let path = Path::from([key]);
        edit(&mut doc, &[Op::Append { path: path.join(key), text: key.into() }]);
        assert_eq!(read(&doc)[key][key], key);
    }
}

/// A plain text is made one that merges, holding what was there, by a change that every device
/// makes.
#[test]
fn appending_to_a_plain_text_makes_it_a_text() {
    let (mut one, mut other) = (device(1), device(2));
    become_value(&mut one, &json!({ "s": "plain", "m": { "k": "deep" } }));
    let all = one.get_changes(&[]);
    other.apply_changes(all).unwrap();
    for doc in [&mut one, &mut other] {
        let changes = try_edit(doc, &[append("s", "!"), append("m.k", "!")]).unwrap();
        assert_eq!(changes.iter().filter(|change| is_birth(change)).count(), 2);
    }
    let changes = other.get_changes(&[]);
    one.apply_changes(changes).unwrap();
    assert_eq!(read(&one), json!({ "s": "plain!!", "m": { "k": "deep!!" } }));
}
