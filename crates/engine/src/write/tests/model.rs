//! Documents against plain JSON.

use super::*;
use crate::diff::model::apply;
use crate::diff::tests::{maps, values};
use crate::value::normal;
use rejoin_core::Segment;

/// Any values at any key: steps may be refused, as kinds change.
fn documents() -> impl Strategy<Value = Value> {
    maps(values())
}

/// Values whose keys always hold the same kind, as those of a program do.
fn records() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![Just(json!("x")), Just(json!(1)), Just(json!(null)), Just(json!(0.5))];
    let text = "[abü]{0,6}".prop_map(|text| json!({ "$text": text }));
    let count = (-2i64..3).prop_map(|count| json!({ "$counter": count }));
    let field = prop_oneof![
        scalar.clone().prop_map(|value| ("scalar", value)),
        text.prop_map(|value| ("text", value)),
        count.prop_map(|value| ("count", value)),
    ];
    let record = |field: BoxedStrategy<(&'static str, Value)>| {
        let fields = prop::collection::vec(field, 0..5);
        let field = |(key, value): (&str, Value)| (key.to_owned(), value);
        fields.prop_map(move |fields| Value::Object(fields.into_iter().map(field).collect()))
    };
    record(field.clone().boxed()).prop_recursive(3, 24, 4, move |inner| {
        let items = prop::collection::vec(prop_oneof![scalar.clone(), inner.clone()], 0..5);
        let field = prop_oneof![
            2 => field.clone(),
            1 => items.prop_map(|items| ("list", Value::from(items))),
            1 => inner.prop_map(|map| ("map", map)),
        ];
        record(field.boxed())
    })
}

/// One step that fits a value of this shape: `{ "s", "t", "c", "l": [..], "m": { the same } }`.
fn fitting_step(value: &Value, depth: usize, (kind, at, to): (u8, usize, usize)) -> Op {
    let path: Path = vec![Segment::from("m"); depth].into_iter().collect();
    let here = (0..depth).fold(value, |value, _| &value["m"]);
    let text = here["t"].as_str().unwrap_or_default().chars().count();
    let list = here["l"].as_array().map_or(0, Vec::len);
    let (from, item) = (at % (text + 1), at % list.max(1));
    let key = |key: &str| path.join(key);
    match kind % 9 {
        0 => Op::Append { path: key("t"), text: "äx".into() },
        1 => {
            let delete = to % (text - from + 1);
            Op::Splice { path: key("t"), index: from, delete, insert: "yz".into() }
        }
        2 => Op::Increment { path: key("c"), by: to as i64 % 7 - 3 },
        3 if list > 0 => Op::RemoveAt { path: key("l"), index: item },
        4 if list > 0 => {
            let path = key("l").join(item);
            Op::Set { path, before: None, after: json!({ "k": to % 3, "t": { "$text": "new" } }) }
        }
        5 | 3 => Op::Insert { path: key("l"), index: at % (list + 1), value: json!(to % 5) },
        6 | 4 => {
            let value = json!({ "k": at % 5, "n": [{ "$counter": 1 }] });
            Op::Insert { path: key("l"), index: at % (list + 1), value }
        }
        7 => Op::Set { path: key("s"), before: None, after: json!(to % 4) },
        _ => {
            Op::Set { path: key("t"), before: None, after: json!({ "$text": "b".repeat(to % 4) }) }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Where nothing changes its kind at a key, a document becomes any value it is given.
    #[test]
    fn a_document_becomes_what_it_is_given(steps in prop::collection::vec(documents(), 1..6)) {
        let mut doc = device(1);
        for after in steps {
            let ops = diff(&read(&doc), &after);
            match try_edit(&mut doc, &ops) {
                Ok(_) => {
                    let read = read(&doc);
                    prop_assert!(covers(&read, &normal(&after)), "{read} is not {after}");
                    let again = diff(&read, &after);
                    prop_assert!(try_edit(&mut doc, &again).unwrap().is_empty());
                }
                Err(WriteError::Kind { .. }) => {}
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
        let loaded = Automerge::load(&doc.save()).unwrap();
        prop_assert_eq!(read(&loaded), read(&doc));
    }

    #[test]
    fn a_record_becomes_what_it_is_given(steps in prop::collection::vec(records(), 1..6)) {
        let mut doc = device(1);
        for after in steps {
            become_value(&mut doc, &after);
            let read = read(&doc);
            prop_assert!(covers(&read, &normal(&after)), "{read} is not {after}");
            prop_assert!(become_value(&mut doc, &after).is_empty());
        }
    }

    /// Steps on places do to a document what they do to plain JSON, one by one and all at once.
    #[test]
    fn steps_do_what_they_say(
        steps in prop::collection::vec((0usize..3, any::<(u8, usize, usize)>()), 1..40),
        edits in 1usize..5,
    ) {
        let mut doc = device(1);
        let mut value = json!({});
        for steps in steps.chunks(steps.len().div_ceil(edits)) {
            let mut ops = Vec::new();
            for (depth, step) in steps {
                let op = fitting_step(&value, *depth, *step);
                apply(&mut value, &op);
                ops.push(op);
            }
            edit(&mut doc, &ops);
            let read = read(&doc);
            prop_assert!(covers(&read, &value), "{read} is not {value}: {ops:?}");
            value = read;
        }
    }

    /// Whatever two devices write apart, also on top of what they saw before they last met, they
    /// agree afterwards, and no key hides a container.
    #[test]
    fn devices_agree_after_meeting(
        rounds in prop::collection::vec((records(), records(), records()), 1..4),
    ) {
        let (mut alice, mut bob) = (device(1), device(2));
        for (one, other, late) in rounds {
            let (seen, base) = (read(&bob), bob.get_heads());
            become_value(&mut alice, &one);
            become_value(&mut bob, &other);
            exchange(&mut alice, &mut bob);
            edit_at(&mut bob, Some(&base), &diff(&seen, &late));
            exchange(&mut alice, &mut bob);
            assert_nothing_is_hidden(&alice, &ROOT);
        }
    }

    /// Also where kinds change, and steps are refused.
    #[test]
    fn devices_agree_whatever_is_written(
        rounds in prop::collection::vec((documents(), documents()), 1..4),
    ) {
        let (mut alice, mut bob) = (device(1), device(2));
        for (one, other) in rounds {
            for (doc, after) in [(&mut alice, one), (&mut bob, other)] {
                let ops = diff(&read(doc), &after);
                if let Err(error) = try_edit(doc, &ops) {
                    prop_assert!(matches!(error, WriteError::Kind { .. }), "{}", error);
                }
            }
            exchange(&mut alice, &mut bob);
        }
    }

    /// An edit of an older state, written at those heads, says the same on a device that has only
    /// that state and on one that has more. What that one had born already, it does not bear again.
    #[test]
    fn an_older_base_writes_what_it_would_have_written_then(
        start in documents(), since in documents(), late in documents(),
    ) {
        let mut doc = device(1);
        let _ = try_edit(&mut doc, &diff(&json!({}), &start));
        let (seen, base) = (read(&doc), doc.get_heads());
        let mut then = doc.fork().with_actor(ActorId::from([2; 16]));
        let _ = try_edit(&mut doc, &diff(&seen, &since));
        let ops = diff(&seen, &late);
        let at_base = write_at(&mut doc, Some(&base), &ops, 0);
        let at_heads = write_at(&mut then, None, &ops, 0);
        prop_assert_eq!(at_base.is_ok(), at_heads.is_ok());
        if let Ok(changes) = at_base {
            let heads: Vec<_> = base.into_iter().chain(changes.iter().map(Change::hash)).collect();
            let replay = doc.fork_at(&heads).unwrap();
            prop_assert_eq!(without_empty(read(&replay)), without_empty(read(&then)));
        }
    }
}

/// Whether a document reads as `wanted`, but for what cannot be deleted and what null means.
fn covers(read: &Value, wanted: &Value) -> bool {
    match (read, wanted) {
        (Value::Object(read), Value::Object(wanted)) => {
            let left = read.iter().filter(|(key, _)| !wanted.contains_key(*key));
            let kept = wanted.iter().all(|(key, wanted)| match read.get(key) {
                Some(read) => covers(read, wanted),
                None => wanted.is_null(),
            });
            kept && left.into_iter().all(|(_, value)| is_empty(value))
        }
        (Value::Array(read), Value::Array(wanted)) => {
            read.len() == wanted.len()
                && read.iter().zip(wanted).all(|(read, wanted)| covers(read, wanted))
        }
        (read, Value::Null) => read.is_null() || is_empty(read),
        (read, wanted) => read == wanted,
    }
}

fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let full = map.into_iter().map(|(key, value)| (key, without_empty(value)));
            Value::Object(
                full.filter(|(_, value)| !is_empty(value) && *value != json!({})).collect(),
            )
        }
        Value::Array(items) => items.into_iter().map(without_empty).collect(),
        value => value,
    }
}

/// The value that is left of a removed text, counter or list.
fn is_empty(value: &Value) -> bool {
    [json!(""), json!(0), json!([])].contains(value)
}
