//! Numbers as they are written, kept exactly or not at all.
//!
//! Documents hold 64-bit integers and doubles. A number that is neither would be rounded by every
//! program that reads the text, and nobody would know. serde's feature `float_roundtrip` reads
//! doubles back as they were printed; without it one in eight of them changes.

use serde_json::{Number, Value};
use thiserror::Error;

/// A number that documents cannot hold exactly.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{number} has more digits than a number keeps exactly; write it as text, in quotes, or with \
     fewer digits"
)]
pub struct InexactNumber {
    /// As it was written.
    pub number: String,
}

/// A text is not a JSON value that documents can hold.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JsonError {
    /// It is not JSON.
    #[error("not JSON")]
    Syntax(#[from] serde_json::Error),
    /// A number in it would be rounded.
    #[error(transparent)]
    Inexact(#[from] InexactNumber),
}

/// Reads JSON of which every number is kept exactly.
///
/// ```
/// use rejoin_core::number::exact_json;
/// use serde_json::json;
///
/// assert_eq!(exact_json(r#"{ "price": 12.10, "parts": [3] }"#)?, json!({ "price": 12.1, "parts": [3] }));
/// assert!(exact_json("12345678901234567890123").is_err());
/// # Ok::<(), rejoin_core::number::JsonError>(())
/// ```
///
/// # Errors
/// It is not JSON, or has a number with more digits than documents hold.
pub fn exact_json(text: &str) -> Result<Value, JsonError> {
    let value: Value = serde_json::from_str(text)?;
    for number in numbers(text) {
        exact(number)?;
    }
    Ok(value)
}

/// The number that a text is in JSON's notation; `None` if it is no number.
///
/// # Errors
/// It is one, and would be rounded.
pub fn exact_number(text: &str) -> Result<Option<Number>, InexactNumber> {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Number(_)) => exact(text.trim()).map(Some),
        // One too large for a double is no JSON for serde, but a number for people.
        Err(_) if is_number(text) => Err(InexactNumber { number: text.to_owned() }),
        _ => Ok(None),
    }
}

/// Reads JSON of another program, whose numbers may have more digits than documents hold. Such
/// numbers become texts, which are equal exactly if the numbers are, so that none is taken for
/// another.
///
/// # Errors
/// It is not JSON.
pub fn foreign_json(text: &str) -> Result<Value, serde_json::Error> {
    let (mut kept, mut done) = (String::with_capacity(text.len()), 0);
    for (at, number) in numbers_at(text) {
        if exact(number).is_ok() {
            continue;
        }
        let (is_negative, digits, exponent) = digits(number).unwrap_or_default();
        let sign = if is_negative { "-" } else { "" };
        kept += &text[done..at];
        kept += &format!("\"{sign}{digits}e{exponent}\"");
        done = at + number.len();
    }
    kept += &text[done..];
    serde_json::from_str(&kept)
}

/// Whether two values are the same for readers: `5` and `5.0` are the same number, although they
/// are stored in two ways.
pub fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || digits(&one.to_string()) == digits(&other.to_string())
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let has = |(key, value): (&String, &Value)| {
                other.get(key).is_some_and(|other| same(value, other))
            };
            one.len() == other.len() && one.iter().all(has)
        }
        _ => one == other,
    }
}

/// Whether a text is a number by JSON's grammar, however large.
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, exponent.strip_prefix(['+', '-']).unwrap_or(exponent))
        }
        None => (text, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let begins_well = whole == "0" || !whole.starts_with('0');
    is_digits(whole) && is_digits(fraction) && is_digits(exponent) && begins_well
}

fn exact(text: &str) -> Result<Number, InexactNumber> {
    let inexact = || InexactNumber { number: text.to_owned() };
    let number: Number = serde_json::from_str(text).map_err(|_| inexact())?;
    // A double is printed as the shortest text that reads as it, so equal digits are the same
    // number.
    let is_exact =
        number.is_i64() || number.is_u64() || digits(&number.to_string()) == digits(text);
    if is_exact { Ok(number) } else { Err(inexact()) }
}

/// The digits that matter and the power of ten behind the last; `None` for zero.
fn digits(number: &str) -> Option<(bool, String, i64)> {
    let (is_negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number),
    };
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse().unwrap_or(i64::MAX / 2)),
        None => (number, 0_i64),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let kept = all.trim_end_matches('0');
    let moved = (all.len() - kept.len()) as i64 - fraction.len() as i64;
    let exponent = exponent.saturating_add(moved);
    let kept = kept.trim_start_matches('0');
    (!kept.is_empty()).then(|| (is_negative, kept.to_owned(), exponent))
}

/// The numbers in a text that is JSON.
fn numbers(json: &str) -> impl Iterator<Item = &str> {
    numbers_at(json).into_iter().map(|(_, number)| number)
}

/// The same, with where each begins.
fn numbers_at(json: &str) -> Vec<(usize, &str)> {
    let mut numbers = Vec::new();
    let mut bytes = json.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                while let Some((_, byte)) = bytes.next() {
                    match byte {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| {
                    byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-')
                };
                let mut end = at + 1;
                while let Some((at, _)) = bytes.next_if(|(_, byte)| is_part(byte)) {
                    end = at + 1;
                }
                numbers.push((at, &json[at..end]));
            }
            _ => {}
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_others_are_the_same_or_not_by_every_digit() {
        let alike = |one: &str, other: &str| {
            same(&foreign_json(one).unwrap(), &foreign_json(other).unwrap())
        };
        for (one, other) in [
            ("5", "5.0"),
            ("12.10", "12.1"),
            ("[1e2, {\"a\": 0}]", "[100, {\"a\": -0.0}]"),
            ("100000000000000000000", "1e20"),
            ("0.10000000000000000001", "0.100000000000000000010"),
            ("1e400", "10e399"),
        ] {
            assert!(alike(one, other), "{one} and {other}");
        }
        for (one, other) in [
            ("9007199254740993", "9007199254740992.0"),
            ("0.1", "0.10000000000000000001"),
            ("0.10000000000000000001", "0.10000000000000000002"),
            ("1e400", "-1e400"),
            ("18446744073709551615", "18446744073709551616"),
            ("\"5\"", "5"),
            ("[1]", "[1, 2]"),
        ] {
            assert!(!alike(one, other), "{one} and {other}");
        }
        assert_eq!(foreign_json("{\"a\": \"1e400\"}").unwrap()["a"], "1e400");
        assert!(foreign_json("{").is_err());
    }

    #[test]
    fn numbers_are_exact_or_refused() {
        for exact in [
            "0",
            "-0",
            "0.0",
            "5",
            "5.0",
            "12.10",
            "0.1",
            "-3.5e2",
            "18446744073709551615",
            "-9223372036854775808",
            "97.45424510282939",
            "0e9223372036854775807",
            "1e21",
            "123456789012345.6",
            "100000000000000000000",
            "2.5E-3",
        ] {
            assert!(exact_json(exact).is_ok(), "{exact}");
            assert!(exact_number(exact).unwrap().is_some(), "{exact}");
        }
        for inexact in [
            "12345678901234567890123",
            "18446744073709551617",
            "-9223372036854775809",
            "0.12345678901234567890",
            "9007199254740993.5",
            "3.14159265358979323846",
            "1e-400",
        ] {
            assert!(exact_json(inexact).is_err(), "{inexact}");
            assert!(exact_number(inexact).is_err(), "{inexact}");
            assert!(exact_json(&format!("{{\"a\":[1,{inexact}]}}")).is_err(), "{inexact}");
            assert!(
                exact_json(&format!("[\"\\\"{inexact}\"]")).is_ok(),
                "a text may say {inexact}"
            );
        }
        assert!(exact_number("1e999").is_err());
        for other in ["", "five", "1 2", "0x10", "007", "+5", "true", "NaN", "1.", "12,5", "1-2"] {
            assert!(matches!(exact_number(other), Ok(None)), "{other}");
        }
    }
}
