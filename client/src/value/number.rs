//! Numbers as they are written, kept exactly or not at all.
//!
//! Documents hold 64-bit integers and doubles. What is neither would be rounded by whoever reads the
//! text, and nobody would know. Doubles are read back as they were printed by serde's feature
//! `float_roundtrip`, without which one in eight of them is not.

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

/// Why a text is not a JSON value that documents can hold.
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
/// use rejoin::exact_json;
/// use serde_json::json;
///
/// assert_eq!(exact_json(r#"{ "price": 12.10, "parts": [3] }"#)?, json!({ "price": 12.1, "parts": [3] }));
/// assert!(exact_json("12345678901234567890123").is_err());
/// # Ok::<(), rejoin::JsonError>(())
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

/// The number that a text is in JSON's notation; nothing if it is no number.
///
/// # Errors
/// It is one, and would be rounded.
pub(crate) fn exact_number(text: &str) -> Result<Option<Number>, InexactNumber> {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Number(_)) => exact(text.trim()).map(Some),
        // One too large for a double is no JSON for serde, but a number for people.
        Err(_) if is_number(text) => Err(InexactNumber { number: text.to_owned() }),
        _ => Ok(None),
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
    // What a double prints is the shortest text that reads as it, so equal digits are the same number.
    let is_exact =
        number.is_i64() || number.is_u64() || digits(&number.to_string()) == digits(text);
    if is_exact { Ok(number) } else { Err(inexact()) }
}

/// The digits that matter and the power of ten behind the last; nothing for zero.
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
fn numbers(json: &str) -> Vec<&str> {
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
                numbers.push(&json[at..end]);
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
