//! A schema as JSON: as its file has it, and as the space stores it.
//!
//! Both forms are maps of fields by their path and of invariants by a name made of their content,
//! so that two people who edit different fields at once write at different keys:
//!
//! ```json
//! {
//!   "fields": { "status": { "merge": "order", "order": ["booked", "done"] } },
//!   "invariants": { "unique phone": { "unique": ["phone"] } }
//! }
//! ```
//!
//! In the stored form the lists `order`, `writers` and `unique` are JSON in a string. Two people
//! who edit one at once then have a conflict of two values; items of a list would merge into an
//! order that nobody wrote.

use serde_json::{Map, Value, json};

use super::{Field, Invariant, Rule, Schema};
use crate::Path;

impl Schema {
    /// The schema as its document in the space holds it. [`from_value`](Self::from_value) reads it
    /// back.
    pub fn to_value(&self) -> Value {
        let mut value = self.understood();
        for (part, lists) in [("fields", FIELD_LISTS), ("invariants", INVARIANT_LISTS)] {
            for entry in value[part].as_object_mut().into_iter().flat_map(Map::values_mut) {
                lists.iter().for_each(|list| pack(entry, list));
            }
        }
        overlay(&mut value, &self.unknown);
        value
    }

    /// The schema as its file has it, in JSON: as [`to_value`](Self::to_value), with lists as
    /// lists.
    pub fn to_json(&self) -> Value {
        let mut value = self.understood();
        overlay(&mut value, &self.unknown);
        value
    }

    fn understood(&self) -> Value {
        let fields = self.fields.iter().map(|(path, field)| (path.to_string(), field.options()));
        let invariants = self.invariants.iter().map(|it| (it.name(), it.options()));
        let mut understood = json!({
            "fields": fields.collect::<Map<_, _>>(),
            "invariants": invariants.collect::<Map<_, _>>(),
        });
        if let Some(zone) = self.zone {
            understood["zone"] = json!(zone.to_string());
        }
        understood
    }
}

impl Field {
    fn options(&self) -> Value {
        let mut options = json!({ "merge": self.merge.name() });
        match &self.merge {
            Rule::Order(order) => options["order"] = json!(order),
            Rule::Owner(owner) => options["owner"] = json!(owner),
            Rule::Latest { skew_s } => options["skew"] = json!(format!("{skew_s}s")),
            _ => {}
        }
        if let Some(kind) = self.kind {
            options["type"] = json!(kind.name());
        }
        if self.required {
            options["required"] = json!(true);
        }
        if let Some(default) = &self.default {
            options["default"] = default.clone();
        }
        if let Some(writers) = &self.writers {
            options["writers"] = json!(writers);
        }
        if self.index {
            options["index"] = json!(true);
        }
        if !self.index_then.is_empty() {
            let fields = self.index_then.iter().map(Path::to_string);
            options["index_then"] = Value::from_iter(fields);
        }
        options
    }
}

impl Invariant {
    /// A name made of the fields the invariant is about. It is the same on every device, and
    /// different invariants have different names, unless they differ only in `unless`.
    pub fn name(&self) -> String {
        let words: Vec<_> = match self {
            Self::NoOverlap { key, start, end, .. } => [key, start, end].map(word).into(),
            Self::Unique { fields } => fields.iter().map(word).collect(),
        };
        format!("{} {}", self.kind(), words.join(" "))
    }

    /// Its name in a file.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoOverlap { .. } => "no_overlap",
            Self::Unique { .. } => "unique",
        }
    }

    fn options(&self) -> Value {
        let body = match self {
            Self::NoOverlap { key, start, end, unless } => {
                let mut body = json!({
                    "key": key.to_string(),
                    "start": start.to_string(),
                    "end": end.to_string(),
                });
                if !unless.is_empty() {
                    let unless =
                        unless.iter().map(|(path, value)| (path.to_string(), value.clone()));
                    body["unless"] = Value::Object(unless.collect());
                }
                body
            }
            Self::Unique { fields } => fields.iter().map(ToString::to_string).collect(),
        };
        json!({ self.kind(): body })
    }
}

/// A path as one word of a name: in quotes if it holds a space. No path begins with a quote.
fn word(path: &Path) -> String {
    let path = path.to_string();
    if path.is_empty() || path.contains(' ') { Value::from(path).to_string() } else { path }
}

fn pack(entry: &mut Value, list: &str) {
    if let Some(list) = entry.get_mut(list) {
        *list = Value::from(list.to_string());
    }
}

/// Strings in a list, which the stored form has as JSON in a string.
pub(super) fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(packed) => serde_json::from_str(packed).ok(),
        Value::Array(items) => {
            items.iter().map(|item| item.as_str().map(ToOwned::to_owned)).collect()
        }
        _ => None,
    }
}

/// Puts the entries of `over` in the place of those in `value`.
fn overlay(value: &mut Value, over: &Map<String, Value>) {
    let Value::Object(map) = value else {
        *value = Value::Object(over.clone());
        return;
    };
    for (key, over) in over {
        match (map.get_mut(key), over) {
            (Some(under @ Value::Object(_)), Value::Object(over)) => overlay(under, over),
            _ => drop(map.insert(key.clone(), over.clone())),
        }
    }
}

/// Options of a field that are lists.
const FIELD_LISTS: &[&str] = &["order", "writers"];

/// Invariants that are lists.
const INVARIANT_LISTS: &[&str] = &["unique"];
