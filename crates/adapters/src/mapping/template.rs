//! How the key of a row is put together.

use rejoin::view::look_up;
use rejoin::{DocumentId, Path};
use serde_json::Value;

/// A text with places to fill in: `{key}` and `{id}` of the document, `{item}` for the index or key
/// of the item that is the row, and `{PATH}` of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// A part of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// The document's natural key, or its id if it has none.
    Key,
    /// The document's id.
    Id,
    /// The index or key of the item.
    Item,
    /// What stands at a path.
    Field(Path),
}

/// What a key is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filling<'a> {
    pub(crate) document: &'a DocumentId,
    pub(crate) key: Option<&'a str>,
    pub(crate) item: Option<&'a str>,
    /// The item, or the document.
    pub(crate) value: &'a Value,
}

impl Template {
    /// Reads the written form.
    ///
    /// # Errors
    /// A brace is not closed, or nothing stands between two. The text says which.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| format!("the brace of \"{{{after}\" is not closed; add a `}}`"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(match name {
                "" => {
                    return Err(
                        "nothing stands in `{}`; write `{key}`, `{id}` or a field".to_owned()
                    );
                }
                "key" => Part::Key,
                "id" => Part::Id,
                "item" => Part::Item,
                path => Part::Field(Path::from(path)),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// Its parts.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// The key; the path of a field that has no plain value if it cannot be made.
    pub(crate) fn fill(&self, filling: &Filling<'_>) -> Result<String, Path> {
        let mut key = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => key += text,
                Part::Key => match filling.key {
                    Some(natural) => key += natural,
                    None => key += &filling.document.to_string(),
                },
                Part::Id => key += &filling.document.to_string(),
                Part::Item => key += filling.item.unwrap_or_default(),
                Part::Field(path) => match look_up(filling.value, path) {
                    Some(Value::String(text)) if !text.is_empty() => key += text,
                    Some(value @ (Value::Number(_) | Value::Bool(_))) => key += &value.to_string(),
                    _ => return Err(path.clone()),
                },
            }
        }
        if key.is_empty() { Err(Path::ROOT) } else { Ok(key) }
    }
}
