//! From JSON to a schema: the parts that are understood, those that are kept as they are, and the
//! faults.
//!
//! Both forms are read alike, see [`form`](super::form). Nothing fails: a field that is not
//! understood merges by [`Review`](super::Rule::Review), under which nothing is lost.

mod field;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::form::strings;
use super::{Fault, Field, Invariant, Schema, Severity};
use crate::Path;
use crate::time::NoZone;
use field::FieldReader;

pub(super) use field::OPTIONS;

/// Something in a stored schema that this version does not understand. It is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unknown {
    /// The place, as keys into the form of [`Schema::to_value`].
    pub place: Vec<String>,
    /// The part of it that is not understood.
    pub reason: String,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; it is kept as it is", self.reason)
    }
}

impl Schema {
    /// Reads a form that [`to_value`](Self::to_value) wrote, or a newer version of it. Parts that
    /// are not understood are kept in [`unknown`](Self::unknown), and a field whose rule is not
    /// understood merges by [`Rule::Review`](super::Rule::Review).
    pub fn from_value(value: &Value) -> (Self, Vec<Unknown>) {
        let Read { schema, faults, .. } = read(value);
        let unknown = |fault: Fault| Unknown { place: fault.place, reason: fault.message };
        (schema, faults.into_iter().map(unknown).collect())
    }
}

/// The content of a schema in JSON.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) schema: Schema,
    pub(super) faults: Vec<Fault>,
    /// The place of each invariant among them.
    pub(super) places: Vec<String>,
}

pub(super) fn read(value: &Value) -> Read {
    let mut read = Read::default();
    let Some(parts) = value.as_object() else {
        let wrong = "a schema is a table; write [NAME.fields] with the collection's name above it";
        read.error(&[], wrong.to_owned());
        return read;
    };
    for (name, part) in parts {
        match name.as_str() {
            "fields" => read.fields(part),
            "invariants" => read.invariants(part),
            "zone" => read.zone(part),
            name => read.other(name, part),
        }
    }
    read
}

impl Read {
    fn other(&mut self, name: &str, part: &Value) {
        self.keep(&[name], part);
        let is_field = |part: &Value| part.as_object().is_some_and(has_options);
        let fields = part.as_object().into_iter().flat_map(Map::values);
        let message = if is_field(part) {
            format!("{name:?} looks like a field; write it below [NAME.fields]")
        } else if fields.into_iter().any(is_field) {
            format!("{name:?} looks like fields; write [NAME.fields] above them")
        } else {
            let known = "this version does not understand; it knows fields, invariants and zone";
            return self.warn(&[name], format!("there is {name:?}, which {known}"));
        };
        self.error(&[name], message);
    }

    fn zone(&mut self, part: &Value) {
        let wrong = match part.as_str().map(str::parse) {
            Some(Ok(zone)) => return self.schema.zone = Some(zone),
            Some(Err(no_zone)) => NoZone::to_string(&no_zone),
            None => format!("zone is {}; write one such as \"Europe/Madrid\"", shape(part)),
        };
        self.keep(&["zone"], part);
        self.error(&["zone"], wrong);
    }

    fn fields(&mut self, part: &Value) {
        let Some(fields) = part.as_object() else {
            self.keep(&["fields"], part);
            let wrong = format!("fields is {}; write [NAME.fields] above the fields", shape(part));
            return self.error(&["fields"], wrong);
        };
        // A path may be written in several ways; the usual one comes first.
        let unusual = |name: &String| Path::from(name).to_string() != *name;
        let mut fields: Vec<_> = fields.iter().collect();
        fields.sort_by_key(|(name, _)| (unusual(name), *name));
        for (name, options) in fields {
            let path = Path::from(name);
            if self.schema.fields.contains_key(&path) {
                self.keep(&["fields", name], options);
                let twice = format!("field {name:?} is there twice; leave one of them out");
                self.error(&["fields", name], twice);
                continue;
            }
            let field = match options.as_object() {
                Some(options) => FieldReader { out: self, name, options }.read(),
                None => {
                    self.keep(&["fields", &path.to_string()], options);
                    let wrong = format!(
                        "field {name:?} is {}; write its options in braces, as in \
                         {{ merge = \"text\" }}",
                        shape(options)
                    );
                    self.error(&["fields", name], wrong);
                    Field::default()
                }
            };
            self.schema.fields.insert(path, field);
        }
    }

    /// In a file they are a list, and stored a map.
    fn invariants(&mut self, part: &Value) {
        match part {
            Value::Array(items) => {
                for (place, item) in items.iter().enumerate() {
                    self.invariant(&place.to_string(), None, item);
                }
            }
            Value::Object(items) => {
                // In the order of their names, which need not be that of the map.
                for (name, item) in items.iter().collect::<BTreeMap<_, _>>() {
                    self.invariant(name, Some(name), item);
                }
            }
            other => {
                self.keep(&["invariants"], other);
                let wrong = format!(
                    "invariants is {}; write [[NAME.invariants]] above each of them",
                    shape(other)
                );
                self.error(&["invariants"], wrong);
            }
        }
    }

    fn invariant(&mut self, place: &str, name: Option<&str>, item: &Value) {
        let wanted = "no_overlap = { .. } or unique = [ .. ]";
        let Some(table) = item.as_object().filter(|table| !table.is_empty()) else {
            let name = name.map_or_else(|| item.to_string(), ToOwned::to_owned);
            self.keep(&["invariants", &name], item);
            return self.error(&["invariants", place], format!("say what must hold: {wanted}"));
        };
        for (kind, body) in table {
            let invariant = match kind.as_str() {
                "no_overlap" => self.no_overlap(place, body),
                "unique" => self.unique(place, body),
                _ => {
                    let unknown = format!(
                        "there is an invariant {kind:?}, which this version does not understand; \
                         it knows no_overlap and unique"
                    );
                    self.warn(&["invariants", place, kind], unknown);
                    None
                }
            };
            match invariant {
                Some(invariant) => {
                    self.schema.invariants.push(invariant);
                    self.places.push(place.to_owned());
                }
                None => {
                    let name = name.map_or_else(|| format!("{kind} {body}"), ToOwned::to_owned);
                    self.keep(&["invariants", &name, kind], body);
                }
            }
        }
    }

    fn no_overlap(&mut self, place: &str, body: &Value) -> Option<Invariant> {
        let place = ["invariants", place, "no_overlap"];
        let Some(options) = body.as_object() else {
            let wrong = format!(
                "no_overlap is {}; write no_overlap = {{ key = \"..\", start = \"..\", end = \"..\" }}",
                shape(body)
            );
            self.error(&place, wrong);
            return None;
        };
        let [key, start, end] =
            ["key", "start", "end"].map(|option| self.named_field(&place, options, option));
        let unless = self.unless(&place, options.get("unless"));
        let invariant =
            Invariant::NoOverlap { key: key?, start: start?, end: end?, unless: unless? };
        for (option, value) in options {
            if !matches!(option.as_str(), "key" | "start" | "end" | "unless") {
                let unknown = format!(
                    "no_overlap has an option {option:?}, which this version does not understand; \
                     it knows key, start, end and unless"
                );
                self.warn(&[&place[..], &[option]].concat(), unknown);
                self.keep(&["invariants", &invariant.name(), "no_overlap", option], value);
            }
        }
        Some(invariant)
    }

    fn named_field(
        &mut self,
        place: &[&str],
        options: &Map<String, Value>,
        option: &str,
    ) -> Option<Path> {
        let wrong = match options.get(option) {
            Some(Value::String(path)) => return Some(Path::from(path)),
            Some(other) => format!("{option} of no_overlap is {}", shape(other)),
            None => format!("no_overlap has no {option}"),
        };
        let place = [place, &[option]].concat();
        self.error(&place, format!("{wrong}; name a field, as in {option} = \"..\""));
        None
    }

    fn unless(&mut self, place: &[&str], unless: Option<&Value>) -> Option<BTreeMap<Path, Value>> {
        let wrong = match unless {
            None => return Some(BTreeMap::new()),
            Some(Value::Object(unless)) => {
                let values = unless.iter().map(|(path, value)| (Path::from(path), value.clone()));
                return Some(values.collect());
            }
            Some(other) => shape(other),
        };
        let wrong = format!("unless is {wrong}; write unless = {{ status = \"cancelled\" }}");
        self.error(&[place, &["unless"]].concat(), wrong);
        None
    }

    fn unique(&mut self, place: &str, body: &Value) -> Option<Invariant> {
        let Some(fields) = strings(body) else {
            let wrong = "unique is a list of fields; write unique = [\"phone\"]";
            self.error(&["invariants", place, "unique"], wrong.to_owned());
            return None;
        };
        Some(Invariant::unique(fields))
    }

    fn error(&mut self, place: &[&str], message: String) {
        self.fault(Severity::Error, place, message);
    }

    fn warn(&mut self, place: &[&str], message: String) {
        self.fault(Severity::Warning, place, message);
    }

    fn fault(&mut self, severity: Severity, place: &[&str], message: String) {
        let place = place.iter().map(ToString::to_string).collect();
        self.faults.push(Fault { severity, place, message });
    }

    /// Keeps a part that is not understood.
    fn keep(&mut self, place: &[&str], value: &Value) {
        let Some((last, around)) = place.split_last() else { return };
        let mut map = &mut self.schema.unknown;
        for key in around {
            let inside = map.entry(*key).or_insert_with(|| Value::Object(Map::new()));
            // A part that is kept whole contains this one, too.
            let Value::Object(inside) = inside else { return };
            map = inside;
        }
        map.insert((*last).to_owned(), value.clone());
    }
}

/// Whether a table has options of a field.
fn has_options(table: &Map<String, Value>) -> bool {
    table.keys().any(|key| OPTIONS.contains(&key.as_str()))
}

/// The kind of a value, in words.
pub(super) fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// `a, b and c`.
pub(super) fn in_words(items: &[impl AsRef<str>], and: &str) -> String {
    let items: Vec<_> = items.iter().map(AsRef::as_ref).collect();
    match items.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, before)) => format!("{} {and} {last}", before.join(", ")),
        None => String::new(),
    }
}
