use proptest::prelude::*;
use serde_json::json;

use super::model::apply;
use super::*;

fn check(before: Value, after: Value, expect: &[Op]) {
    assert_eq!(diff(&before, &after), expect, "{before} -> {after}");
    check_reaches(&before, &after);
}

fn check_reaches(before: &Value, after: &Value) {
    let mut value = normal(before);
    for op in diff(before, after) {
        apply(&mut value, &op);
    }
    assert_eq!(value, normal(after), "{before} -> {after}");
}

fn set(path: &str, before: Value, after: Value) -> Op {
    Op::Set { path: path.into(), before: Some(before), after }
}

#[test]
fn what_was_not_touched_is_not_written() {
    check(
        json!({ "a": 1, "b": [1, { "c": null }] }),
        json!({ "b": [1, { "c": null }], "a": 1 }),
        &[],
    );
    check(
        json!({ "n": "x", "c": 1 }),
        json!({ "n": { "$text": "x" }, "c": { "$counter": 1 } }),
        &[],
    );
}

#[test]
fn only_the_innermost_value_that_differs_is_written() {
    check(
        json!({ "customer": { "address": { "street": "Elm", "city": "Ulm" } } }),
        json!({ "customer": { "address": { "street": "Oak", "city": "Ulm" } } }),
        &[set("customer.address.street", json!("Elm"), json!("Oak"))],
    );
    check(
        json!({ "a": 1, "b": 2 }),
        json!({ "b": 2, "c": { "d": 3 } }),
        &[
            Op::Remove { path: "a".into() },
            Op::Set { path: "c".into(), before: None, after: json!({ "d": 3 }) },
        ],
    );
}

#[test]
fn a_list_is_compared_item_by_item() {
    let path = || Path::from("l");
    check(
        json!({ "l": [1, 2, 3, 4] }),
        json!({ "l": [1, 3, 4, 5] }),
        &[
            Op::RemoveAt { path: path(), index: 1 },
            Op::Insert { path: path(), index: 3, value: json!(5) },
        ],
    );
    check(json!({ "l": [1, 2, 3] }), json!({ "l": [1, 9, 3] }), &[set("l[1]", json!(2), json!(9))]);
    check(
        json!({ "l": [{ "a": 1, "b": 1 }, { "a": 2, "b": 2 }] }),
        json!({ "l": [{ "a": 1, "b": 1 }, { "a": 3, "b": 2 }] }),
        &[set("l[1].a", json!(2), json!(3))],
    );
    check(
        json!({ "l": [[1], 2] }),
        json!({ "l": [[1, 2], { "a": 2 }] }),
        &[
            Op::Insert { path: "l[0]".into(), index: 1, value: json!(2) },
            Op::RemoveAt { path: path(), index: 1 },
            Op::Insert { path: path(), index: 1, value: json!({ "a": 2 }) },
        ],
    );
}

#[test]
fn a_value_of_another_kind_is_set_as_a_whole() {
    check(
        json!({ "a": [1] }),
        json!({ "a": { "b": 1 } }),
        &[set("a", json!([1]), json!({ "b": 1 }))],
    );
    check(json!({ "a": {} }), json!({ "a": null }), &[set("a", json!({}), json!(null))]);
    check(json!([1]), json!({ "a": 1 }), &[set("", json!([1]), json!({ "a": 1 }))]);
}

#[test]
fn text_edits_touch_only_what_differs() {
    let edits = text_edits("Ring twice. Dog.", "Ring once. Dög.");
    let kept = edits.iter().map(|edit| edit.delete).sum::<usize>();
    assert!(kept <= 6, "{edits:?}");
    assert_eq!(apply_edits("Ring twice. Dog.", &edits), "Ring once. Dög.");
    let edit = TextEdit { index: 1, delete: 0, insert: "é".into() };
    assert_eq!(text_edits("aa", "aéa"), [edit]);
}

#[test]
fn large_rewrites_are_compared_in_bounded_time() {
    let lines = |seed: usize| -> String {
        (0..20_000).map(|line| format!("line {} of {seed}\n", line * 7 % 1000)).collect()
    };
    let (before, after) = (lines(1), lines(2));
    let started = std::time::Instant::now();
    let edits = text_edits(&before, &after);
    assert!(started.elapsed().as_secs() < 5);
    assert_eq!(apply_edits(&before, &edits), after);
}

#[test]
fn far_apart_edits_of_a_large_text_stay_small() {
    let before: String = (0..2000).map(|line| format!("line {line} says this\n")).collect();
    let after = before.replace("line 3 says", "line 3 said").replace("line 1990 ", "line x1990 ");
    let edits = text_edits(&before, &after);
    assert!(edits.iter().map(|edit| edit.delete + edit.insert.len()).sum::<usize>() < 10);
    assert_eq!(apply_edits(&before, &edits), after);
}

fn apply_edits(text: &str, edits: &[TextEdit]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for edit in edits {
        chars.splice(edit.index..edit.index + edit.delete, edit.insert.chars());
    }
    chars.into_iter().collect()
}

/// Values with few keys and letters, so that two of them have much in common.
pub(crate) fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..3).prop_map(Value::from),
        Just(json!(0.5)),
        "[ab]{0,3}".prop_map(Value::from),
        "[abü]{0,6}".prop_map(|text| json!({ "$text": text })),
        (-2i64..3).prop_map(|count| json!({ "$counter": count })),
        Just(json!({ "$bytes": "00FF" })),
        Just(json!({ "$time": 1500 })),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from), maps(inner),]
    })
}

pub(crate) fn maps(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let entries = prop::collection::btree_map("[a-d]", inner, 0..4);
    entries.prop_map(|map| Value::Object(map.into_iter().collect()))
}

proptest! {
    #[test]
    fn the_steps_lead_from_one_value_to_the_other(before in values(), after in values()) {
        check_reaches(&before, &after);
    }

    #[test]
    fn text_edits_lead_from_one_text_to_the_other(
        before in "[ab\nü ]{0,40}",
        after in "[ab\nü ]{0,40}",
    ) {
        prop_assert_eq!(apply_edits(&before, &text_edits(&before, &after)), after);
    }
}
