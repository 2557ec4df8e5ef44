//! Documents against plain JSON.

use super::*;
use crate::diff::tests::{maps, values};
use crate::value::normal;

fn documents() -> impl Strategy<Value = Value> {
    maps(values())
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

    /// Whatever two devices write apart, they agree afterwards, and no text or counter is lost.
    #[test]
    fn devices_agree_after_meeting(
        rounds in prop::collection::vec((documents(), documents()), 1..4),
    ) {
        let (mut alice, mut bob) = (device(1), device(2));
        for (one, other) in rounds {
            let ops = diff(&read(&alice), &one);
            let base = bob.get_heads();
            let other_ops = diff(&read(&bob), &other);
            let _ = try_edit(&mut alice, &ops);
            if let Err(error) = write(&mut bob, &DOCUMENT, Some(&base), &other_ops, 0) {
                prop_assert!(matches!(error, WriteError::Kind { .. }), "{}", error);
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
        let at_base = write(&mut doc, &DOCUMENT, Some(&base), &ops, 0);
        let at_heads = write(&mut then, &DOCUMENT, None, &ops, 0);
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
            Value::Object(full.filter(|(_, value)| !is_empty(value) && *value != json!({})).collect())
        }
        Value::Array(items) => items.into_iter().map(without_empty).collect(),
        value => value,
    }
}

/// What is left of a removed text, counter or list.
fn is_empty(value: &Value) -> bool {
    [json!(""), json!(0), json!([])].contains(value)
}
