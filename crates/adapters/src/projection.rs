//! From a document to the rows a target shall hold: pure, and the same everywhere.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Datelike, TimeZone};
use rejoin::value::number::exact_number;
use rejoin::value::{InexactNumber, Zone, time_ms};
use rejoin::view::look_up;
use rejoin::{DocumentId, Path};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::delivery::{Record, Row};
use crate::mapping::{
    FieldMapping, Filling, From, Held, Mapping, Mask, OutsideKind, RecordMapping, Times,
};

/// A document, as far as rows depend on it.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Which document.
    pub document: &'a DocumentId,
    /// Its natural key, if it has one.
    pub key: Option<&'a str>,
    /// Whether it was deleted, so that it has no rows.
    pub deleted: bool,
    /// Its effective value.
    pub value: &'a Value,
    /// The fields that people have not agreed on.
    pub asked: &'a BTreeSet<Path>,
    /// By whose clocks times without a zone are read.
    pub zone: Zone,
    /// What hashes are mixed with.
    pub salt: &'a str,
}

/// Why something is no row.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Misfit {
    /// A field that must be there is not.
    #[error("{outside} is required, and {path} has no value; fill it in, or give a default")]
    Missing {
        /// The outside name.
        outside: String,
        /// Where it should come from.
        path: Path,
    },
    /// A value has no name outside.
    #[error("{outside}: the mapping has no name for the value of {path}; add it to `map`")]
    Unnamed {
        /// The outside name.
        outside: String,
        /// Where it comes from.
        path: Path,
    },
    /// A value is not what the mapping says.
    #[error("{outside}: the value of {path} is not {kind}; correct it, or the mapping")]
    Kind {
        /// The outside name.
        outside: String,
        /// Where it comes from.
        path: Path,
        /// What it should be.
        kind: &'static str,
    },
    /// A number that would be rounded. What it is stays out of logs.
    #[error(
        "{outside}: the text at {path} is a number with more digits than a number keeps exactly; \
         write fewer, or carry it with type = \"string\""
    )]
    Inexact {
        /// The outside name.
        outside: String,
        /// Where it comes from.
        path: Path,
    },
    /// The row has no key.
    #[error(
        "the row's key needs a plain value at {path}; fill it in, or change the mapping's `key`"
    )]
    Key {
        /// Where it should come from.
        path: Path,
    },
    /// Two rows have one key.
    #[error("two rows have this key; make the mapping's `key` tell them apart")]
    Twice,
}

/// The rows of a document. What does not become one is named by the key it would have, or by the
/// document where it has none.
pub fn project(mapping: &Mapping, source: &Input<'_>) -> BTreeMap<Record, Result<Row, Misfit>> {
    let mut rows = BTreeMap::new();
    if source.deleted {
        return rows;
    }
    for record in &mapping.records {
        for (item, at, value) in items(record, source.value) {
            let filling = Filling {
                document: source.document,
                key: source.key,
                item: item.as_deref(),
                value,
            };
            let (key, row) = match record.key.fill(&filling) {
                Ok(key) => (key, row(record, source, mapping.times(), value, &at)),
                Err(path) => {
                    let place = item.map(|item| format!("/{item}")).unwrap_or_default();
                    (format!("{}{place}", source.document), Err(Misfit::Key { path }))
                }
            };
            let record = Record { name: record.name.clone(), key };
            let is_twice = rows.contains_key(&record);
            rows.insert(record, if is_twice { Err(Misfit::Twice) } else { row });
        }
    }
    rows
}

/// Where in the document the fields of a row come from, by their outside names; nothing if the
/// document does not become this row.
pub fn places(mapping: &Mapping, source: &Input<'_>, wanted: &Record) -> BTreeMap<String, Path> {
    for record in mapping.records.iter().filter(|record| record.name == wanted.name) {
        for (item, at, value) in items(record, source.value) {
            let (document, key, item) = (source.document, source.key, item.as_deref());
            let filling = Filling { document, key, item, value };
            if record.key.fill(&filling).as_ref() == Ok(&wanted.key) {
                let place = |(outside, field): (&String, &FieldMapping)| match &field.from {
                    From::Constant(_) => None,
                    From::Path { path, in_item } => {
                        Some((outside.clone(), whole(path, *in_item, &at)))
                    }
                };
                return record.fields.iter().filter_map(place).collect();
            }
        }
    }
    BTreeMap::new()
}

/// A field's path in the document.
fn whole(path: &Path, in_item: bool, item: &Path) -> Path {
    match in_item {
        true => path.segments().iter().fold(item.clone(), |path, step| path.join(step.clone())),
        false => path.clone(),
    }
}

/// What becomes a row: its index or key, where it stands, and its value.
fn items<'a>(record: &RecordMapping, value: &'a Value) -> Vec<(Option<String>, Path, &'a Value)> {
    let Some(each) = &record.each else { return vec![(None, Path::ROOT, value)] };
    match look_up(value, each) {
        Some(Value::Array(items)) => {
            let items = items.iter().enumerate();
            items.map(|(at, item)| (Some(at.to_string()), each.join(at), item)).collect()
        }
        Some(Value::Object(items)) => {
            let items = items.iter();
            items.map(|(key, item)| (Some(key.clone()), each.join(key.as_str()), item)).collect()
        }
        _ => Vec::new(),
    }
}

fn row(
    record: &RecordMapping,
    source: &Input<'_>,
    times: Times,
    item: &Value,
    at: &Path,
) -> Result<Row, Misfit> {
    let mut row = Map::new();
    for (outside, field) in &record.fields {
        if let Some(value) = outside_value(outside, field, source, times, item, at)? {
            row.insert(outside.clone(), value);
        }
    }
    Ok(row)
}

/// What a field is outside; `None` if it is left out.
fn outside_value(
    outside: &str,
    field: &FieldMapping,
    source: &Input<'_>,
    times: Times,
    item: &Value,
    at: &Path,
) -> Result<Option<Value>, Misfit> {
    let (path, in_item) = match &field.from {
        From::Constant(constant) => return Ok(Some(constant.clone())),
        From::Path { path, in_item } => (path, *in_item),
    };
    if field.mask == Some(Mask::Drop) {
        return Ok(None);
    }
    if is_asked(source.asked, &whole(path, in_item, at)) {
        match &field.held {
            Held::Agreed => {}
            Held::Omit => return Ok(None),
            Held::Constant(constant) => return Ok(Some(constant.clone())),
        }
    }
    let found = look_up(if in_item { item } else { source.value }, path);
    let found = found.filter(|value| !value.is_null());
    let value = match found {
        None if field.required => {
            return Err(Misfit::Missing { outside: outside.to_owned(), path: path.clone() });
        }
        None => match &field.default {
            Some(default) => default.clone(),
            None => return Ok(Some(Value::Null)),
        },
        Some(value) => named(outside, field, path, value, (source.zone, times))?,
    };
    Ok(Some(masked(field.mask, source.salt, value)))
}

/// Whether a field, or something around or in it, is for people to decide.
fn is_asked(asked: &BTreeSet<Path>, path: &Path) -> bool {
    asked
        .iter()
        .any(|asked| asked.segments().iter().zip(path.segments()).all(|(one, other)| one == other))
}

fn named(
    outside: &str,
    field: &FieldMapping,
    path: &Path,
    value: &Value,
    times: (Zone, Times),
) -> Result<Value, Misfit> {
    if !field.map.is_empty() {
        let unnamed = || Misfit::Unnamed { outside: outside.to_owned(), path: path.clone() };
        let name = spelled(value).ok_or_else(unnamed)?;
        return field.map.get(&name).cloned().ok_or_else(unnamed);
    }
    let Some(kind) = field.kind else { return Ok(value.clone()) };
    let (outside, path) = (outside.to_owned(), path.clone());
    match converted(kind, value, times) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(Misfit::Kind { outside, path, kind: kind.name() }),
        Err(_) => Err(Misfit::Inexact { outside, path }),
    }
}

/// A plain value as a text.
fn spelled(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// A value as it is outside; `None` if it is of another kind.
fn converted(
    kind: OutsideKind,
    value: &Value,
    (zone, times): (Zone, Times),
) -> Result<Option<Value>, InexactNumber> {
    let number = match (kind, value) {
        (OutsideKind::Number | OutsideKind::Integer, Value::String(text)) => {
            exact_number(&without_zeros(text.trim()))?
        }
        (_, Value::Number(number)) => Some(number.clone()),
        _ => None,
    };
    Ok(match kind {
        OutsideKind::Json => Some(value.clone()),
        OutsideKind::String => spelled(value).map(Value::String),
        OutsideKind::Boolean => match value {
            Value::Bool(_) => Some(value.clone()),
            Value::String(text) => text.trim().to_lowercase().parse::<bool>().ok().map(Value::Bool),
            _ => None,
        },
        OutsideKind::Number => number.map(Value::Number),
        OutsideKind::Integer => number.as_ref().and_then(whole_number).map(Value::Number),
        OutsideKind::Time => time(value, zone, times),
    })
}

/// A number as JSON has it: without zeros before the others, and without a plus.
fn without_zeros(text: &str) -> String {
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.strip_suffix(digits).unwrap_or_default(), digits),
        None => ("", text),
    };
    let kept = digits.trim_start_matches('0');
    let is_whole = kept.starts_with(|first: char| first.is_ascii_digit());
    // A zero before a point, or alone, stays.
    let from = (digits.len() - kept.len()).saturating_sub(usize::from(!is_whole));
    let kept = &digits[from..];
    format!("{}{kept}", if sign == "-" { sign } else { "" })
}

/// The whole number that a number is, as `5` is `5.0`.
fn whole_number(number: &Number) -> Option<Number> {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return Some(number.clone());
    };
    let is_whole = float.fract() == 0.0 && float.abs() <= WHOLE_MAX;
    is_whole.then(|| Number::from(float as i64))
}

fn time(value: &Value, zone: Zone, times: Times) -> Option<Value> {
    let time_ms = time_ms(value, zone)?;
    if times == Times::WithDays
        && let Value::String(text) = value
        && chrono::NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d").is_ok()
    {
        return Some(text.trim().into());
    }
    let (shown, ahead) = zone.shows(time_ms).filter(|_| times == Times::Shown).unwrap_or_default();
    // What RFC 3339 cannot write of clocks long ago is written in UTC.
    let offset = chrono::FixedOffset::east_opt(ahead).filter(|_| ahead != 0 && ahead % 60 == 0);
    match offset {
        Some(offset) => rfc3339(offset.from_local_datetime(&shown).single()?),
        None => rfc3339(chrono::DateTime::from_timestamp_millis(time_ms)?),
    }
}

fn rfc3339<T: TimeZone<Offset: std::fmt::Display>>(time: chrono::DateTime<T>) -> Option<Value> {
    // In that form a year has four digits.
    let time = Some(time).filter(|time| (0..=9999).contains(&time.year()))?;
    Some(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true).into())
}

/// Up to here, a float is one whole number and not the nearest of several.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

impl OutsideKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::String => "a text",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Time => "a time",
            Self::Json => "a value",
        }
    }
}

fn masked(mask: Option<Mask>, salt: &str, value: Value) -> Value {
    if value.is_null() {
        return value;
    }
    match mask {
        None => value,
        Some(Mask::Drop | Mask::Null) => Value::Null,
        Some(Mask::Last4) => {
            let text = spelled(&value).unwrap_or_else(|| value.to_string());
            let characters = text.chars().count();
            // Of a short text four characters are all there is.
            let shown = if characters >= 8 { 4 } else { 0 };
            let hidden = "*".repeat(characters - shown);
            Value::String(text.chars().skip(characters - shown).fold(hidden, |mut all, letter| {
                all.push(letter);
                all
            }))
        }
        Some(Mask::Hash) => {
            let mut hash = Sha256::new();
            hash.update((salt.len() as u64).to_be_bytes());
            hash.update(salt);
            hash.update(value.to_string());
            Value::String(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_becomes_the_number_it_spells_or_none() {
        let utc = (Zone::UTC, Times::Utc);
        let read = |kind, text: &str| converted(kind, &json!(text), utc);
        let (number, integer) = (OutsideKind::Number, OutsideKind::Integer);
        for (kind, text, is) in [
            (number, " 12.10 ", json!(12.1)),
            (integer, "18446744073709551615", json!(u64::MAX)),
            (integer, "-9223372036854775808", json!(i64::MIN)),
            (number, "1e21", json!(1e21)),
            (integer, "5.0", json!(5)),
            (integer, "007", json!(7)),
            (integer, "+0", json!(0)),
            (number, "-00.50", json!(-0.5)),
            (OutsideKind::Boolean, " TRUE", json!(true)),
        ] {
            assert_eq!(read(kind, text), Ok(Some(is)), "{text}");
        }
        for inexact in ["12345678901234567890123", "0.1000000000000000055", "1e400", "-1e-400"] {
            assert!(read(number, inexact).is_err(), "{inexact}");
            assert!(read(integer, inexact).is_err(), "{inexact}");
        }
        for none in ["", "five", "0x10", "1,5"] {
            assert_eq!(read(number, none), Ok(None), "{none}");
        }
        assert_eq!(read(integer, "5.5"), Ok(None));
        assert_eq!(converted(integer, &json!(u64::MAX), utc), Ok(Some(json!(u64::MAX))));
        assert_eq!(converted(integer, &json!(5.0), utc), Ok(Some(json!(5))));
        assert_eq!(converted(integer, &json!(1e300), utc), Ok(None));
        for none in ["", "+", "-", "00x", ".5", "0"] {
            assert_eq!(read(integer, none).is_ok_and(|it| it.is_some()), none == "0", "{none}");
        }
    }

    #[test]
    fn a_time_is_written_as_its_target_wants_it() {
        let madrid: Zone = "Europe/Madrid".parse().unwrap();
        let time = |text: &str, zone, times| {
            converted(OutsideKind::Time, &json!(text), (zone, times)).unwrap().unwrap()
        };
        for (text, times, wanted) in [
            ("2026-08-20T16:00", Times::Utc, "2026-08-20T14:00:00Z"),
            ("2026-08-20T16:00", Times::Shown, "2026-08-20T16:00:00+02:00"),
            ("2026-08-20", Times::Shown, "2026-08-20T00:00:00+02:00"),
            ("2026-08-20", Times::Utc, "2026-08-19T22:00:00Z"),
            ("2026-08-20", Times::WithDays, "2026-08-20"),
            ("2026-08-20T16:00", Times::WithDays, "2026-08-20T14:00:00Z"),
            ("1850-01-01T00:14:44Z", Times::Shown, "1850-01-01T00:14:44Z"),
        ] {
            assert_eq!(time(text, madrid, times), wanted, "{text}");
        }
        assert_eq!(time("2026-08-20T16:00", Zone::UTC, Times::Shown), "2026-08-20T16:00:00Z");
    }
}
