//! Contradictions in a schema, whether it came from a file or was written in Rust.

mod fields;
mod invariants;

use serde_json::Value;

use super::read::in_words;
use super::{Fault, Invariant, Kind, Rule, Schema, Severity, is_any};
use crate::{Path, Segment};

impl Schema {
    /// All contradictions, and, as warnings, the things that are only odd. A schema without an
    /// error can be applied.
    pub fn check(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        fields::check(self, &mut faults);
        invariants::check(self, &mut faults);
        check_zone(self, &mut faults);
        faults
    }
}

/// Doubts times that are without a zone: clocks of people hardly show UTC.
fn check_zone(schema: &Schema, faults: &mut Vec<Fault>) {
    if schema.zone.is_some() || schema.unknown.contains_key("zone") {
        return;
    }
    let timed = schema.fields.iter().find(|(_, field)| field.kind == Some(Kind::Time));
    let place = match timed {
        Some((name, _)) => vec!["fields".to_owned(), name.to_string()],
        None => {
            let books = |it: &Invariant| matches!(it, Invariant::NoOverlap { .. });
            let Some(place) = schema.invariants.iter().position(books) else { return };
            let kind = schema.invariants[place].kind().to_owned();
            vec!["invariants".to_owned(), place.to_string(), kind]
        }
    };
    let message = "times without a zone, such as 2026-05-04T09:30, are read as UTC; name the zone of \
                   your clocks at the top of the file, as in zone = \"Europe/Madrid\"";
    faults.push(Fault { severity: Severity::Warning, place, message: message.to_owned() });
}

/// The report of faults in one field, or one option of an invariant.
struct Report<'a> {
    faults: &'a mut Vec<Fault>,
    place: Vec<String>,
}

impl Report<'_> {
    /// Reports about a part of the place.
    fn error(&mut self, part: &[&str], message: String) {
        self.fault(Severity::Error, part, message);
    }

    fn fault(&mut self, severity: Severity, part: &[&str], message: String) {
        let part = part.iter().map(ToString::to_string);
        let place = self.place.iter().cloned().chain(part).collect();
        self.faults.push(Fault { severity, place, message });
    }
}

/// The reason why a path cannot be the name of a field, if there is one.
fn misnamed(path: &Path) -> Option<String> {
    let name = path.to_string();
    if path.is_root() {
        return Some("a field has no name; write one".to_owned());
    }
    for (place, segment) in path.segments().iter().enumerate() {
        let key = match segment {
            Segment::Key(key) => key.as_str(),
            Segment::Index(index) => {
                return Some(format!(
                    "field {name:?} is about item {index} of a list, and items move; write * for \
                     any item, as in \"parts.*\""
                ));
            }
        };
        if key.is_empty() {
            return Some(format!("a part of the name {name:?} is empty; leave out a dot"));
        }
        if key.contains("[*]") {
            let written = key.replace("[*]", ".*");
            return Some(format!("{key:?} is not how any item is named; write {written:?}"));
        }
        if key == REMOVED || (key == DELETED && place == 0) {
            return Some(format!(
                "field {name:?}: {key:?} is how Rejoin itself marks what was deleted; take another \
                 name"
            ));
        }
    }
    None
}

/// The reason why a value cannot be one of this kind, merging by this rule, with the value to write
/// instead.
fn misfit(rule: &Rule, kind: Option<Kind>, value: &Value) -> Option<String> {
    if matches!(value, Value::Null | Value::Array(_)) || (value.is_object() && !is_marked(value)) {
        return Some("must be one value, such as a string, a number, true or false".to_owned());
    }
    if let Some(kind) = kind.filter(|kind| !kind.has(value)) {
        let kind = kind.name();
        return Some(format!("is not of the field's type; write a value of type {kind:?}"));
    }
    match rule {
        Rule::Order(order)
            if !order.is_empty() && !order.iter().any(|it| value.as_str() == Some(it)) =>
        {
            let order: Vec<_> = order.iter().map(|it| format!("{it:?}")).collect();
            Some(format!("is not in the field's order; write {}", in_words(&order, "or")))
        }
        _ => None,
    }
}

impl Kind {
    fn has(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Time => marked(value, "$time").is_some_and(Value::is_i64) || is_rfc_3339(value),
            Self::Bytes => marked(value, "$bytes").is_some_and(is_hex),
            Self::List => value.is_array(),
            Self::Map => value.is_object() && !is_marked(value),
        }
    }
}

fn is_marked(value: &Value) -> bool {
    Kind::Time.has(value) && value.is_object() || Kind::Bytes.has(value)
}

/// The value in an object that has just this key.
fn marked<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.as_object().filter(|object| object.len() == 1)?.get(key)
}

fn is_hex(value: &Value) -> bool {
    let digits = value.as_str().unwrap_or("-");
    digits.len().is_multiple_of(2) && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// Whether it is a date with a time and its distance from UTC, as in `2026-11-20T08:30:00Z`.
fn is_rfc_3339(value: &Value) -> bool {
    let moment = value.as_str().and_then(|text| text.parse::<toml::value::Datetime>().ok());
    moment.is_some_and(|moment| {
        let to_the_second = moment.time.is_some_and(|time| time.second.is_some());
        moment.date.is_some() && to_the_second && moment.offset.is_some()
    })
}

/// Whether the path names more than one place.
fn has_star(path: &Path) -> bool {
    path.segments().iter().any(is_any)
}

/// The field that says a document is deleted.
const DELETED: &str = "deleted";

/// The key that says a map is removed.
const REMOVED: &str = "removed";
