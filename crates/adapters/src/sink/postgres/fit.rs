//! Whether a column keeps a value as it is.
//!
//! Left alone, the database rounds what has more digits than a column keeps, and takes a time
//! without a zone for one of UTC, without a word. Here that is a fault that names the field.

use serde_json::{Map, Value};

use super::columns::{Columns, Kind};
use crate::delivery::Fault;

/// A row as its columns take it. A field without a column stays as it is, and the database tells of it.
///
/// # Errors
/// A value does not fit its column. The fault names the field and never the value.
pub(super) fn fitted(
    row: &Map<String, Value>,
    columns: &Columns,
) -> Result<Map<String, Value>, Fault> {
    let field = |(name, value): (&String, &Value)| {
        let Some(column) = columns.get(name) else { return Ok((name.clone(), value.clone())) };
        let taken = taken(value, column.kind).map_err(|why| {
            let declared = &column.declared;
            Fault::permanent(format!(
                "{name}: {why}, and the column is {declared}; {}",
                advice(why)
            ))
            .in_field(name.clone())
        })?;
        Ok((name.clone(), taken))
    };
    row.iter().map(field).collect()
}

/// Why a column does not keep a value as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    NotWhole,
    NotNumber,
    NotBoolean,
    TooLarge,
    Rounded,
    TooLong,
    NoZone,
    Cut,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotWhole => "the value is no whole number",
            Self::NotNumber => "the value is no number",
            Self::NotBoolean => "the value is neither true nor false",
            Self::TooLarge => "the number is too large",
            Self::Rounded => "the number would be rounded",
            Self::TooLong => "the text is too long",
            Self::NoZone => "the time has no zone",
            Self::Cut => "the time would lose parts of its second",
        })
    }
}

/// What to do about it.
fn advice(why: Why) -> &'static str {
    match why {
        Why::NoZone => "give the field type = \"time\", which reads it by the zone of the schema",
        Why::NotWhole | Why::NotNumber | Why::NotBoolean => {
            "correct the value, or map the field otherwise"
        }
        Why::TooLarge | Why::Rounded | Why::TooLong | Why::Cut => {
            "correct the value, or make the column larger"
        }
    }
}

/// A value as a column of this kind takes it.
fn taken(value: &Value, kind: Kind) -> Result<Value, Why> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    match kind {
        Kind::Other | Kind::Day => Ok(value.clone()),
        Kind::Boolean => boolean(value).map(Value::Bool).ok_or(Why::NotBoolean),
        Kind::Integer(bits) => {
            let number = decimal(value).ok_or(Why::NotWhole)?;
            number.whole(bits).map(Value::from)
        }
        Kind::Decimal(limit) => {
            if text(value).is_some_and(|text| is_special(&text)) {
                return Ok(value.clone());
            }
            let number = decimal(value).ok_or(Why::NotNumber)?;
            limit.map_or(Ok(()), |(precision, scale)| number.fits(precision, scale))?;
            Ok(trimmed(value))
        }
        Kind::Single => float(value, |text| Some(text.parse::<f32>().ok()?.to_string())),
        Kind::Double => float(value, |text| Some(text.parse::<f64>().ok()?.to_string())),
        Kind::Text(None) => Ok(value.clone()),
        Kind::Text(Some(most)) => match text(value) {
            Some(text) if text.trim_end_matches(' ').chars().count() > most => Err(Why::TooLong),
            _ => Ok(value.clone()),
        },
        Kind::Moment(digits) => time(value, digits, true),
        Kind::Clock(digits) => time(value, digits, false),
    }
}

fn trimmed(value: &Value) -> Value {
    match value {
        Value::String(text) => text.trim().into(),
        value => value.clone(),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What stands for no number in columns of numbers.
fn is_special(text: &str) -> bool {
    let text = text.trim().trim_start_matches(['+', '-']).to_lowercase();
    ["nan", "infinity", "inf"].contains(&&*text)
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(is) => Some(*is),
        Value::Number(number) => match number.as_f64()? {
            0.0 => Some(false),
            1.0 => Some(true),
            _ => None,
        },
        Value::String(text) => match &*text.trim().to_lowercase() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn float(value: &Value, kept: impl Fn(&str) -> Option<String>) -> Result<Value, Why> {
    let written = text(value).ok_or(Why::NotNumber)?;
    if is_special(&written) {
        return Ok(value.clone());
    }
    let number = decimal(value).ok_or(Why::NotNumber)?;
    let kept = kept(written.trim()).ok_or(Why::NotNumber)?;
    match Decimal::read(&kept) {
        Some(kept) if kept == number => Ok(trimmed(value)),
        Some(_) => Err(Why::Rounded),
        None => Err(Why::TooLarge),
    }
}

/// Times are texts here. Those that are none are for the database to tell of.
fn time(value: &Value, digits: usize, needs_zone: bool) -> Result<Value, Why> {
    let Value::String(written) = value else { return Ok(value.clone()) };
    let written = written.trim();
    let bytes = written.as_bytes();
    let begins_as_time = bytes.len() >= 10 && bytes[..4].iter().all(u8::is_ascii_digit);
    if !begins_as_time || bytes[4] != b'-' || bytes[7] != b'-' {
        return Ok(value.clone());
    }
    // The bytes so far are ASCII, or the text is no time.
    let Some(clock) = written.get(10..) else { return Ok(value.clone()) };
    if needs_zone && !clock.contains(['+', '-']) && !clock.to_lowercase().contains('z') {
        let names_zone = clock.trim_start_matches(['T', 't']).contains(char::is_alphabetic);
        if !names_zone {
            return Err(Why::NoZone);
        }
    }
    let fraction = clock.split_once('.').map_or("", |(_, behind)| behind);
    let fraction = fraction.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    match fraction.trim_end_matches('0').len() > digits {
        true => Err(Why::Cut),
        false => Ok(value.clone()),
    }
}

fn decimal(value: &Value) -> Option<Decimal> {
    Decimal::read(text(value)?.trim())
}

/// A decimal number of any size.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    /// The digits from the first to the last that is not zero.
    digits: String,
    /// The power of ten behind the last.
    exponent: i64,
}

impl Decimal {
    /// The number that a text spells, which may begin with zeros or a sign.
    fn read(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?.into()),
            None => (unsigned, 0_i64),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let kept = all.trim_end_matches('0');
        let moved = (all.len() - kept.len()) as i64 - fraction.len() as i64;
        let digits = kept.trim_start_matches('0').to_owned();
        Some(match digits.is_empty() {
            true => Self { is_negative: false, digits, exponent: 0 },
            false => {
                Self { is_negative: text.starts_with('-'), digits, exponent: exponent + moved }
            }
        })
    }

    /// The whole number that it is, if it has so many bits.
    fn whole(&self, bits: u32) -> Result<i64, Why> {
        if self.exponent < 0 {
            return Err(Why::NotWhole);
        }
        let zeros = usize::try_from(self.exponent).unwrap_or(usize::MAX);
        if self.digits.len().saturating_add(zeros) > 19 {
            return Err(Why::TooLarge);
        }
        let sign = if self.is_negative { "-" } else { "" };
        let digits = if self.digits.is_empty() { "0" } else { &self.digits };
        let number = format!("{sign}{digits}{}", "0".repeat(zeros));
        let number: i64 = number.parse().map_err(|_| Why::TooLarge)?;
        let half = i128::from(2).pow(bits - 1);
        match (-half..half).contains(&number.into()) {
            true => Ok(number),
            false => Err(Why::TooLarge),
        }
    }

    /// Whether a column of so many digits in all, and so many behind the point, keeps all of it.
    fn fits(&self, precision: i64, scale: i64) -> Result<(), Why> {
        if self.digits.is_empty() {
            return Ok(());
        }
        if -self.exponent > scale {
            return Err(Why::Rounded);
        }
        let before_point = self.digits.len() as i64 + self.exponent;
        if before_point > precision - scale { Err(Why::TooLarge) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_column_takes_what_a_value_means_or_says_why_not() {
        let numeric = Kind::Decimal(Some((6, 2)));
        for (value, kind, wanted) in [
            (json!("5.0"), Kind::Integer(32), Ok(json!(5))),
            (json!(5.0), Kind::Integer(32), Ok(json!(5))),
            (json!(" 007 "), Kind::Integer(16), Ok(json!(7))),
            (json!("-1e3"), Kind::Integer(16), Ok(json!(-1000))),
            (json!("-9223372036854775808"), Kind::Integer(64), Ok(json!(i64::MIN))),
            (json!("0.000"), Kind::Integer(16), Ok(json!(0))),
            (json!(5.5), Kind::Integer(32), Err(Why::NotWhole)),
            (json!("many"), Kind::Integer(32), Err(Why::NotWhole)),
            (json!(true), Kind::Integer(32), Err(Why::NotWhole)),
            (json!(32768), Kind::Integer(16), Err(Why::TooLarge)),
            (json!("1e19"), Kind::Integer(64), Err(Why::TooLarge)),
            (json!("TRUE"), Kind::Boolean, Ok(json!(true))),
            (json!(0), Kind::Boolean, Ok(json!(false))),
            (json!("maybe"), Kind::Boolean, Err(Why::NotBoolean)),
            (json!(2), Kind::Boolean, Err(Why::NotBoolean)),
            (json!("1234.50"), numeric, Ok(json!("1234.50"))),
            (json!(0.1234), numeric, Err(Why::Rounded)),
            (json!("0.1200"), numeric, Ok(json!("0.1200"))),
            (json!(10000), numeric, Err(Why::TooLarge)),
            (json!("NaN"), numeric, Ok(json!("NaN"))),
            (json!(1250), Kind::Decimal(Some((2, -2))), Err(Why::Rounded)),
            (json!(16777217), Kind::Single, Err(Why::Rounded)),
            (json!(0.1), Kind::Single, Ok(json!(0.1))),
            (json!("0.1000000000000000055"), Kind::Double, Err(Why::Rounded)),
            (json!("1e400"), Kind::Double, Err(Why::TooLarge)),
            (json!("x"), Kind::Double, Err(Why::NotNumber)),
            (json!("abcde"), Kind::Text(Some(4)), Err(Why::TooLong)),
            (json!("äöü  "), Kind::Text(Some(3)), Ok(json!("äöü  "))),
            (json!("2026-05-04T09:00"), Kind::Moment(6), Err(Why::NoZone)),
            (json!("2026-05-04"), Kind::Moment(6), Err(Why::NoZone)),
            (json!("2026-05-04T09:00Z"), Kind::Moment(6), Ok(json!("2026-05-04T09:00Z"))),
            (json!("2026-05-04T09:00:00.5+02:00"), Kind::Moment(0), Err(Why::Cut)),
            (json!("2026-05-04T09:00"), Kind::Clock(6), Ok(json!("2026-05-04T09:00"))),
            (json!("soon"), Kind::Moment(6), Ok(json!("soon"))),
            (Value::Null, Kind::Integer(32), Ok(Value::Null)),
        ] {
            assert_eq!(taken(&value, kind), wanted, "{value} in {kind:?}");
        }
    }

    #[test]
    fn numbers_of_any_size_are_compared_by_their_digits() {
        let long = "123456789012345678901234567890.123456789";
        assert_eq!(taken(&json!(long), Kind::Decimal(None)), Ok(json!(long)));
        assert_eq!(Decimal::read("12.10"), Decimal::read("+0012.1e0"));
        assert_eq!(Decimal::read("-0"), Decimal::read("0.0"));
        for none in ["", "-", ".", "1,5", "0x10", "1e", "١"] {
            assert_eq!(Decimal::read(none), None, "{none}");
        }
    }
}
