//! The differences between two schemas.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use super::Schema;
use super::show::{in_order, inline, key};

/// One field or invariant that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The kind of thing it is.
    pub part: Part,
    /// The path of the field, or the name of the invariant.
    pub name: String,
    /// Its options before, as in [`Schema::to_json`]; `None` if it was not there.
    pub before: Option<Value>,
    /// Its options now; `None` if it is not there any more.
    pub after: Option<Value>,
}

/// The part of a schema that a [`Difference`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A field.
    Field,
    /// An invariant.
    Invariant,
    /// The zone, or something that this version does not understand.
    Other,
}

/// The kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another.
    Changed,
}

/// The differences that lead from one schema to another: fields, then invariants, each by name.
pub fn diff(before: &Schema, after: &Schema) -> Vec<Difference> {
    let (before, after) = (before.to_json(), after.to_json());
    let mut differences = Vec::new();
    for (part, key) in [(Part::Field, "fields"), (Part::Invariant, "invariants")] {
        compare(part, before.get(key), after.get(key), &mut differences);
    }
    let others = [&before, &after].map(|value| {
        let mut others = value.clone();
        if let Some(parts) = others.as_object_mut() {
            parts.retain(|key, _| key != "fields" && key != "invariants");
        }
        others
    });
    compare(Part::Other, Some(&others[0]), Some(&others[1]), &mut differences);
    differences
}

fn compare(
    part: Part,
    before: Option<&Value>,
    after: Option<&Value>,
    differences: &mut Vec<Difference>,
) {
    let nothing = Map::new();
    let [before, after] =
        [before, after].map(|it| it.and_then(Value::as_object).unwrap_or(&nothing));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for name in names {
        let (before, after) = (before.get(name).cloned(), after.get(name).cloned());
        if before != after {
            differences.push(Difference { part, name: name.clone(), before, after });
        }
    }
}

impl Difference {
    /// The kind of change.
    pub fn change(&self) -> Change {
        match (&self.before, &self.after) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ => Change::Changed,
        }
    }
}

/// In one line, as a file has it, with `+`, `-` or `~` before it.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, whole) = match (&self.before, &self.after) {
            (None, Some(whole)) => ('+', whole),
            (Some(whole), None) => ('-', whole),
            (before, after) => {
                let options = [before, after].map(|it| it.clone().unwrap_or_default());
                return write!(f, "~ {}", self.changed(&options[0], &options[1]));
            }
        };
        let text = match (self.part, whole) {
            // The name of an invariant is made of its options.
            (Part::Invariant, Value::Object(kinds)) => {
                let kinds = in_order(kinds).into_iter();
                kinds.map(|(kind, body)| said(kind, body)).collect::<Vec<_>>().join(", ")
            }
            _ => said(&self.name, whole),
        };
        write!(f, "{sign} {text}")
    }
}

impl Difference {
    /// The options that changed.
    fn changed(&self, before: &Value, after: &Value) -> String {
        let (Value::Object(before), Value::Object(after)) = (before, after) else {
            return format!("{}, was {}", said(&self.name, after), shown(before));
        };
        let all: Map<_, _> =
            before.iter().chain(after).map(|(name, it)| (name.clone(), it.clone())).collect();
        let changed = in_order(&all).into_iter().filter_map(|(name, _)| {
            match (before.get(name), after.get(name)) {
                (before, after) if before == after => None,
                (Some(before), Some(after)) => {
                    Some(format!("{}, was {}", said(name, after), shown(before)))
                }
                (None, Some(after)) => Some(said(name, after)),
                (_, None) => Some(format!("no {} any more", key(name))),
            }
        });
        let changed = changed.collect::<Vec<_>>().join("; ");
        if self.part == Part::Invariant {
            changed
        } else {
            format!("{}: {changed}", key(&self.name))
        }
    }
}

fn said(name: &str, value: &Value) -> String {
    format!("{} = {}", key(name), shown(value))
}

fn shown(value: &Value) -> String {
    inline(value).unwrap_or_else(|| "nothing".to_owned())
}
