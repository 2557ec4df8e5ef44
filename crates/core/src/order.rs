//! An order of all values, for lists that are sorted and fields that are looked up.
//!
//! Nothing comes first, then `false` and `true`, numbers, points in time, texts, and at last whatever
//! has no order of its own, all of which is alike here.

use serde_json::{Number, Value};

use crate::schema::Kind;
use crate::time::{Zone, time_ms};

/// Bytes that compare as values do. Values of a field of type `time` are points in time however they
/// are written, and without a zone they are read by the clocks of `zone`. Texts are compared by their
/// first [`TEXT_BYTES_MAX`] bytes.
///
/// ```
/// use rejoin_core::order::order_key;
/// use rejoin_core::time::Zone;
/// use serde_json::json;
///
/// let key = |value| order_key(&value, None, Zone::UTC);
/// assert!(key(json!(null)) < key(json!(false)));
/// assert!(key(json!(-2.5)) < key(json!(10)) && key(json!(10)) < key(json!("1")));
/// assert_eq!(key(json!(3)), key(json!(3.0)));
/// ```
pub fn order_key(value: &Value, kind: Option<Kind>, zone: Zone) -> Vec<u8> {
    let is_marked = value.get("$time").is_some();
    if let Some(ms) = time_ms(value, zone).filter(|_| is_marked || kind == Some(Kind::Time)) {
        return tagged(TIME, &signed(ms.into()));
    }
    match value {
        Value::Null => vec![NOTHING],
        Value::Bool(flag) => vec![BOOLEAN, u8::from(*flag)],
        Value::Number(number) => tagged(NUMBER, &of_number(number)),
        Value::String(text) => {
            let mut end = text.len().min(TEXT_BYTES_MAX);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            tagged(TEXT, &text.as_bytes()[..end])
        }
        Value::Array(_) | Value::Object(_) => vec![OTHER],
    }
}

/// Whether a key stands for one value alone: not one of a text that is longer than what texts are compared
/// by, nor one of what has no order of its own.
pub fn is_exact(key: &[u8]) -> bool {
    // A text is cut by the rest of a character at most.
    key.first() != Some(&OTHER) && key.len() < TEXT_BYTES_MAX - 3
}

fn tagged(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(bytes.len() + 1);
    key.push(tag);
    key.extend_from_slice(bytes);
    key
}

/// The double that is nearest, and then how far a whole number is from it: doubles rise with the whole
/// numbers that they are nearest to.
fn of_number(number: &Number) -> Vec<u8> {
    let float = number.as_f64().unwrap_or_default();
    // The two zeros are one number.
    let bits = if float == 0.0 { 0 } else { float.to_bits() };
    let ordered = match bits >> 63 {
        0 => bits | 1 << 63,
        _ => !bits,
    };
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    let off = whole.map_or(0, |whole| whole - float as i128);
    let mut key = ordered.to_be_bytes().to_vec();
    key.extend_from_slice(&signed(off));
    key
}

/// A whole number as bytes in its order; no caller has one that is further from 0 than 2^64.
fn signed(number: i128) -> [u8; 16] {
    ((number as u128) ^ 1 << 127).to_be_bytes()
}

/// Bytes of a text that count for its order.
pub const TEXT_BYTES_MAX: usize = 256;

const NOTHING: u8 = 0;
const BOOLEAN: u8 = 1;
const NUMBER: u8 = 2;
const TIME: u8 = 3;
const TEXT: u8 = 4;
const OTHER: u8 = 5;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_in_their_order_and_equal_ones_are_one() {
        let key = |value: &Value| order_key(value, None, Zone::UTC);
        let rising = [
            json!(null),
            json!(false),
            json!(true),
            json!(i64::MIN),
            json!(-1e3),
            json!(-0.5),
            json!(0),
            json!(1e-300),
            json!(2),
            json!(2.5),
            json!(9_007_199_254_740_992_i64),
            json!(9_007_199_254_740_993_i64),
            json!(9_007_199_254_740_994_i64),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(1e300),
            json!({ "$time": -1 }),
            json!({ "$time": 5 }),
            json!(""),
            json!("a"),
            json!("aa"),
            json!("b"),
            json!([1]),
        ];
        for pair in rising.windows(2) {
            assert!(key(&pair[0]) < key(&pair[1]), "{} and {}", pair[0], pair[1]);
        }
        assert_eq!(key(&json!(0)), key(&json!(-0.0)));
        assert_eq!(key(&json!(7)), key(&json!(7.0)));
        assert_eq!(key(&json!([1])), key(&json!({ "a": 1 })));
        let long = "ä".repeat(TEXT_BYTES_MAX);
        assert_eq!(key(&json!(long)), key(&json!(format!("{long}x"))));
    }

    #[test]
    fn times_are_moments_however_they_are_written() {
        let key = |value: Value| order_key(&value, Some(Kind::Time), Zone::UTC);
        let noon = json!("2026-05-04T12:00:00Z");
        assert_eq!(key(noon.clone()), key(json!("2026-05-04T14:00:00+02:00")));
        assert_eq!(key(noon), key(json!({ "$time": 1_777_896_000_000_i64 })));
        assert!(key(json!("2026-05-04")) < key(json!("2026-05-04T00:01:00Z")));
        assert!(key(json!("soon")) > key(json!("2999-01-01T00:00:00Z")), "it is a text");
    }
}
