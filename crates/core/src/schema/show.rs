//! Writing a schema as the file it could have come from.

use serde_json::{Map, Value};

use super::read::OPTIONS;
use super::{Schema, Schemas};
use crate::CollectionName;

/// The text of a file with these schemas. [`parse`](super::parse) reads it back.
pub fn to_toml(schemas: &Schemas) -> String {
    let tables = schemas.iter().flat_map(|(collection, schema)| tables(collection, schema));
    tables.collect::<Vec<_>>().join("\n")
}

fn tables(collection: &CollectionName, schema: &Schema) -> Vec<String> {
    let name = key(collection.as_str());
    let mut own = String::new();
    let mut tables = Vec::new();
    for (part, value) in schema.to_json().as_object().into_iter().flatten() {
        match (part.as_str(), value) {
            ("fields", Value::Object(fields)) if fields.is_empty() => {}
            ("fields", Value::Object(fields)) => {
                tables.push(format!("[{name}.fields]\n{}", lines(fields)));
            }
            ("invariants", Value::Object(invariants)) => {
                let invariants = invariants.values().filter_map(Value::as_object);
                let table = |it| format!("[[{name}.invariants]]\n{}", lines(it));
                tables.extend(invariants.map(table));
            }
            (part, value) => own += &line(part, value),
        }
    }
    // Without a table of its own, a schema without fields would not be there at all.
    if tables.is_empty() || !own.is_empty() {
        tables.insert(0, format!("[{name}]\n{own}"));
    }
    tables
}

fn lines(table: &Map<String, Value>) -> String {
    table.iter().map(|(name, value)| line(name, value)).collect()
}

fn line(name: &str, value: &Value) -> String {
    inline(value).map(|value| format!("{} = {value}\n", key(name))).unwrap_or_default()
}

/// A value in one line; `None` for `null`, which TOML does not have.
pub(super) fn inline(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().filter_map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(table) if table.is_empty() => "{}".to_owned(),
        Value::Object(table) => format!("{{ {} }}", entries(table).join(", ")),
    })
}

/// The entries of a table in the order they are best read.
fn entries(table: &Map<String, Value>) -> Vec<String> {
    let entry = |(name, value): (&String, _)| Some(format!("{} = {}", key(name), inline(value)?));
    in_order(table).into_iter().filter_map(entry).collect()
}

/// The options of a field or an invariant, in the order in which they are best read.
pub(super) fn in_order(table: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = table.iter().collect();
    let rank = |name: &str| OPTIONS.iter().chain(&INTERVAL).position(|option| *option == name);
    entries.sort_by_key(|(name, _)| (rank(name).unwrap_or(usize::MAX), *name));
    entries
}

/// A name as a key: plain where that can be.
pub(super) fn key(name: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
    if !name.is_empty() && name.chars().all(is_plain) { name.to_owned() } else { quoted(name) }
}

/// A string in quotes. JSON escapes as TOML does, but leaves some characters that would command a
/// terminal.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for char in Value::from(text).to_string().chars() {
        if char.is_control() {
            quoted += &format!("\\u{:04x}", u32::from(char));
        } else {
            quoted.push(char);
        }
    }
    quoted
}

/// The options of a `no_overlap`, in the order in which they are written.
const INTERVAL: [&str; 4] = ["key", "start", "end", "unless"];
