//! Markers, and the scalars of a document as JSON.

use std::borrow::Cow;

use automerge::ScalarValue;
use serde_json::{Map, Number, Value};

pub(super) const TEXT: &str = "$text";
pub(super) const COUNTER: &str = "$counter";
pub(super) const BYTES: &str = "$bytes";
pub(super) const TIME: &str = "$time";

/// A marker object. Objects that are not exactly a marker are ordinary maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Marker<'a> {
    Text(&'a str),
    Counter(i64),
    Bytes(Vec<u8>),
    Time(i64),
}

impl<'a> Marker<'a> {
    pub(crate) fn of(value: &'a Value) -> Option<Self> {
        let object = value.as_object().filter(|object| object.len() == 1)?;
        let (key, content) = object.iter().next()?;
        match key.as_str() {
            TEXT => content.as_str().map(Self::Text),
            COUNTER => content.as_i64().map(Self::Counter),
            BYTES => content.as_str().and_then(from_hex).map(Self::Bytes),
            TIME => content.as_i64().map(Self::Time),
            _ => None,
        }
    }
}

/// The value as a document would read it: text and counters without their markers, bytes in
/// lower-case hex. Not deeply; the content of maps and lists is left as it is.
pub(crate) fn plain(value: &Value) -> Cow<'_, Value> {
    match Marker::of(value) {
        Some(Marker::Text(text)) => Cow::Owned(Value::from(text)),
        Some(Marker::Counter(count)) => Cow::Owned(Value::from(count)),
        Some(Marker::Bytes(bytes)) => Cow::Owned(marked(BYTES, to_hex(&bytes))),
        Some(Marker::Time(_)) | None => Cow::Borrowed(value),
    }
}

/// The value as a document would read it, all the way down.
pub(crate) fn normal(value: &Value) -> Value {
    match plain(value).into_owned() {
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), normal(value))).collect(),
        value => value,
    }
}

/// Whether two values have the same content, markers aside, all the way down.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    match (&*plain(one), &*plain(other)) {
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| other.get(key).is_some_and(|it| same(value, it)))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (one, other) => one == other,
    }
}

/// The scalar a value is written as; `None` for a value that is a container in a document.
pub(crate) fn to_scalar(value: &Value) -> Option<ScalarValue> {
    match value {
        Value::Null => Some(ScalarValue::Null),
        Value::Bool(flag) => Some(ScalarValue::Boolean(*flag)),
        Value::Number(number) => Some(number_to_scalar(number)),
        Value::String(text) => Some(ScalarValue::Str(text.as_str().into())),
        Value::Array(_) => None,
        Value::Object(_) => match Marker::of(value)? {
            Marker::Bytes(bytes) => Some(ScalarValue::Bytes(bytes)),
            Marker::Time(time_ms) => Some(ScalarValue::Timestamp(time_ms)),
            Marker::Text(_) | Marker::Counter(_) => None,
        },
    }
}

fn number_to_scalar(number: &Number) -> ScalarValue {
    if let Some(int) = number.as_i64() {
        ScalarValue::Int(int)
    } else if let Some(uint) = number.as_u64() {
        ScalarValue::Uint(uint)
    } else {
        number.as_f64().map_or(ScalarValue::Null, ScalarValue::F64)
    }
}

/// A scalar of a document as JSON. Counters are plain numbers here.
pub(crate) fn from_scalar(scalar: &ScalarValue) -> Value {
    match scalar {
        ScalarValue::Bytes(bytes) => marked(BYTES, to_hex(bytes)),
        ScalarValue::Str(text) => Value::from(text.as_str()),
        ScalarValue::Int(int) => Value::from(*int),
        ScalarValue::Uint(uint) => Value::from(*uint),
        ScalarValue::F64(float) => Number::from_f64(*float).map_or(Value::Null, Value::Number),
        ScalarValue::Counter(count) => Value::from(i64::from(count)),
        ScalarValue::Timestamp(time_ms) => marked(TIME, *time_ms),
        ScalarValue::Boolean(flag) => Value::from(*flag),
        ScalarValue::Unknown { .. } | ScalarValue::Null => Value::Null,
    }
}

pub(super) fn marked(key: &str, content: impl Into<Value>) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), content.into())]))
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

pub(super) fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = hex.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_an_object_that_is_exactly_a_marker_is_one() {
        assert_eq!(Marker::of(&json!({ "$text": "a" })), Some(Marker::Text("a")));
        assert_eq!(Marker::of(&json!({ "$counter": -1 })), Some(Marker::Counter(-1)));
        assert_eq!(Marker::of(&json!({ "$bytes": "00Ff" })), Some(Marker::Bytes(vec![0, 255])));
        assert_eq!(Marker::of(&json!({ "$time": 7 })), Some(Marker::Time(7)));
        for ordinary in [
            json!({ "$text": "a", "more": 1 }),
            json!({ "$text": 1 }),
            json!({ "$bytes": "0" }),
            json!({ "$bytes": "é0" }),
            json!({ "$counter": 1.5 }),
            json!({}),
            json!("$text"),
        ] {
            assert_eq!(Marker::of(&ordinary), None, "{ordinary}");
        }
    }

    #[test]
    fn numbers_keep_their_whole_range() {
        for number in [json!(i64::MIN), json!(-1), json!(u64::MAX), json!(5), json!(5.0)] {
            let scalar = to_scalar(&number).unwrap();
            assert_eq!(from_scalar(&scalar), number);
        }
        assert_eq!(from_scalar(&ScalarValue::F64(f64::NAN)), Value::Null);
        assert_eq!(from_scalar(&ScalarValue::F64(f64::INFINITY)), Value::Null);
    }

    #[test]
    fn values_are_the_same_with_and_without_markers() {
        let written =
            json!({ "a": [{ "$text": "x" }, { "$counter": 1 }], "b": { "$bytes": "AB" } });
        let read = json!({ "a": ["x", 1], "b": { "$bytes": "ab" } });
        assert!(same(&written, &read));
        assert!(!same(&written, &json!({ "a": ["x", 2], "b": { "$bytes": "ab" } })));
        assert!(!same(&json!({ "$time": 1 }), &json!(1)));
    }
}
