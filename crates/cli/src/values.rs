//! Values as they are typed and shown.

use std::str::FromStr;

use anyhow::Context;
use rejoin::value::{JsonError, Segment, exact_json};
use rejoin::{Entry, Op, Path};
use serde_json::{Map, Value, json};

/// A field to be written, as `FIELD=TEXT` or `FIELD:=JSON`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Assignment {
    pub(crate) field: Path,
    /// The new value; `None` removes the field.
    pub(crate) value: Option<Value>,
}

impl FromStr for Assignment {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (field, value) = split_at_sign(text)?;
        let (field, value) = match field.strip_suffix(':') {
            Some(field) => (field, json_value(value)?),
            None => (field, text_value(value)),
        };
        Ok(Self { field: named(field)?, value })
    }
}

/// A value as it stands behind the field of an assignment: `TEXT`, or `:=JSON`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NewValue(
    /// The new value; `None` clears the field.
    pub(crate) Option<Value>,
);

impl FromStr for NewValue {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(Self(match text.strip_prefix(":=") {
            Some(json) => json_value(json)?,
            None => text_value(text),
        }))
    }
}

fn text_value(text: &str) -> Option<Value> {
    Some(Value::from(text)).filter(|_| !text.is_empty())
}

fn json_value(text: &str) -> anyhow::Result<Option<Value>> {
    let value = match exact_json(text) {
        Err(JsonError::Syntax(error)) => Err(error).with_context(|| {
            format!("{text:?} after := is not JSON; for plain text write = alone")
        })?,
        read => read?,
    };
    Ok(Some(value).filter(|value| !value.is_null()))
}

impl Assignment {
    pub(crate) fn into_op(self) -> Op {
        match self.value {
            Some(after) => Op::Set { path: self.field, before: None, after },
            None => Op::Remove { path: self.field },
        }
    }
}

/// The fields of a new document with these assignments; `None` if one of them is about an item of a
/// list, or about a field within a value that another one sets.
pub(crate) fn new_fields(assignments: &[Assignment]) -> Option<Map<String, Value>> {
    let mut fields = Value::Object(Map::new());
    for Assignment { field, value } in assignments {
        let Some(value) = value else { continue };
        let (last, around) = field.segments().split_last()?;
        let mut map = &mut fields;
        for segment in around {
            map = enter(map, segment)?;
        }
        let Segment::Key(key) = last else { return None };
        map.as_object_mut()?.insert(key.clone(), value.clone());
    }
    match fields {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

fn enter<'a>(map: &'a mut Value, segment: &Segment) -> Option<&'a mut Value> {
    let Segment::Key(key) = segment else { return None };
    Some(map.as_object_mut()?.entry(key.as_str()).or_insert_with(|| json!({})))
}

/// Several fields, with commas between them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fields(pub(crate) Vec<Path>);

impl FromStr for Fields {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut rest = Some(text);
        let mut fields = Vec::new();
        while let Some(text) = rest {
            let (field, after) = match Path::split_written(text, ',') {
                Some((field, after)) => (field, Some(after)),
                None => (text, None),
            };
            anyhow::ensure!(!field.is_empty(), "name a field");
            fields.push(Path::from(field));
            rest = after;
        }
        Ok(Self(fields))
    }
}

/// Reads the name of a field, or of a column of a file. A name that could be taken for a path or for
/// something else is typed and printed as a path of one name: `["a.b"]`.
pub(crate) fn name(text: &str) -> String {
    match (text.starts_with("[\""), Path::from(text).segments()) {
        (true, [Segment::Key(name)]) => name.clone(),
        _ => text.to_owned(),
    }
}

/// The name of a field as commands take it.
pub(crate) fn field(name: &str) -> String {
    Path::from([name]).to_string()
}

/// Reads a field, or a path to one.
pub(crate) fn field_path(text: &str) -> Result<Path, String> {
    if text.is_empty() {
        return Err("name a field".to_owned());
    }
    Ok(Path::from(text))
}

/// A condition that a document is to meet: `FIELD=VALUE`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    pub(crate) field: Path,
    value: String,
}

impl FromStr for Condition {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (field, value) = split_at_sign(text)?;
        Ok(Self { field: named(field)?, value: value.to_owned() })
    }
}

impl Condition {
    /// Whether the field, shown as text, is this value. An absent field is shown like an empty one.
    pub(crate) fn is_met(&self, entry: &Entry) -> bool {
        at(&entry.value, &self.field).map(rejoin::view::shown).as_deref().unwrap_or_default()
            == self.value
    }
}

/// A value as text, or `(none)` where there is no value.
pub(crate) fn shown(value: Option<&Value>) -> String {
    match value {
        None => "(none)".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "(empty)".to_owned(),
        Some(value) => rejoin::view::shown(value).into_owned(),
    }
}

/// The value at a path.
pub(crate) fn at<'a>(value: &'a Value, path: &Path) -> Option<&'a Value> {
    path.segments().iter().try_fold(value, |value, segment| match segment {
        Segment::Key(key) => value.get(key),
        Segment::Index(index) => value.get(index),
    })
}

/// A document with its key and its id, for programs.
pub(crate) fn entry_json(entry: &Entry) -> Value {
    json!({ "key": entry.key, "id": entry.document.to_string(), "value": entry.value })
}

fn split_at_sign(text: &str) -> anyhow::Result<(&str, &str)> {
    let split = Path::split_written(text, '=');
    split.with_context(|| format!("{text:?} has no =; write FIELD=VALUE"))
}

fn named(field: &str) -> anyhow::Result<Path> {
    anyhow::ensure!(!field.is_empty(), "there is no field before =; write FIELD=VALUE");
    Ok(Path::from(field))
}

/// The field that says of a document that it is deleted.
pub(crate) const DELETED: &str = "deleted";

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(text: &str) -> (String, Option<Value>) {
        let assignment: Assignment = text.parse().expect(text);
        (assignment.field.to_string(), assignment.value)
    }

    #[test]
    fn assignments_are_text_unless_they_say_json() {
        for (text, field, value) in [
            ("status=done", "status", Some(json!("done"))),
            ("status=", "status", None),
            ("parts:=5", "parts", Some(json!(5))),
            ("parts=5", "parts", Some(json!("5"))),
            ("note:=\"\"", "note", Some(json!(""))),
            ("note:=null", "note", None),
            ("formula=a=b", "formula", Some(json!("a=b"))),
            ("visit.site.floor=2", "visit.site.floor", Some(json!("2"))),
            ("[\"a=b\"]=c", "[\"a=b\"]", Some(json!("c"))),
            ("[\"say \\\"=\\\"\"]=c", "[\"say \\\"=\\\"\"]", Some(json!("c"))),
            ("Unique Key=1", "Unique Key", Some(json!("1"))),
        ] {
            assert_eq!(assignment(text), (field.to_owned(), value), "{text}");
        }
        for wrong in ["", "status", "=done", ":=5", "parts:=five"] {
            assert!(wrong.parse::<Assignment>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_new_document_is_made_of_its_assignments() {
        let fields = |texts: &[&str]| {
            let assignments: Vec<_> = texts.iter().map(|text| text.parse().expect(text)).collect();
            new_fields(&assignments).map(Value::Object)
        };
        assert_eq!(
            fields(&["a.b=1", "a.c:=2", "d=", "e=x"]),
            Some(json!({ "a": { "b": "1", "c": 2 }, "e": "x" }))
        );
        assert_eq!(fields(&["a[0]=1"]), None);
        assert_eq!(fields(&["a=1", "a.b=2"]), None);
    }

    #[test]
    fn conditions_compare_what_is_shown() {
        let entry = Entry {
            document: rejoin::DocumentId([0; 16]),
            key: None,
            heads: Vec::new(),
            deleted: false,
            value: json!({ "status": "done", "parts": 3, "visit": { "tags": ["a"] } }),
            agreed: None,
        };
        let met = |text: &str| text.parse::<Condition>().expect(text).is_met(&entry);
        assert!(met("status=done") && met("parts=3") && met("visit.tags[0]=a") && met("gone="));
        assert!(!met("status=Done") && !met("parts=") && !met("visit.tags[1]=a"));
    }

    #[test]
    fn names_are_typed_as_they_are_or_as_they_are_printed() {
        for odd in ["Geo.Lat", "a,b", "x=y", "say \"hi\"", "[0]", "", "-v", "due:", "a\nb", "plain"]
        {
            assert_eq!(name(&field(odd)), odd);
            let both = format!("{},status", field(odd)).parse::<Fields>().expect("fields");
            assert_eq!(both, Fields(vec![Path::from([odd]), Path::from("status")]));
        }
        assert_eq!((name("Geo.Lat"), name("[0]")), ("Geo.Lat".into(), "[0]".into()));
        assert!("a,,b".parse::<Fields>().is_err() && "".parse::<Fields>().is_err());
    }
}
