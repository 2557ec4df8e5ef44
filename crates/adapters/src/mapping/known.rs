//! What is known of a collection, for those who write its mapping.

use std::collections::{BTreeMap, BTreeSet};

use rejoin::schema::{Kind, Schema};
use rejoin::value::Segment;
use rejoin::{Path, ReadError, Space};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the documents of a space are like.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Known {
    /// The collections that have documents, with how many.
    pub collections: BTreeMap<String, u64>,
    /// The fields of their documents, with what may be said of their values; of the first documents only.
    pub fields: BTreeMap<String, BTreeMap<String, Shape>>,
}

/// What the values of a field are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Texts, numbers, booleans.
    Plain,
    /// Times, by the schema.
    Time,
    /// Lists or maps.
    Nested,
}

impl Known {
    /// Looks at the documents of a space, and at its schemas.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub async fn of(space: &Space) -> Result<Self, ReadError> {
        let mut known = Self::default();
        for (name, documents) in space.collections()? {
            if !name.as_str().starts_with("rejoin.") && documents > 0 {
                known.collections.insert(name.as_str().to_owned(), documents);
            }
        }
        let mut seen = BTreeMap::<String, usize>::new();
        for listed in space.documents()? {
            let name = listed.collection.as_str().to_owned();
            let count = seen.entry(name.clone()).or_default();
            if !known.collections.contains_key(&name) || *count >= LOOKED_AT {
                continue;
            }
            *count += 1;
            let collection = space.collection(&name).map_err(ReadError::from)?;
            let entry = collection.document_by_id(listed.document).read().await?;
            let Some(entry) = entry.filter(|entry| !entry.deleted) else { continue };
            let fields = known.fields.entry(name).or_default();
            for (field, value) in entry.agreed().as_object().into_iter().flatten() {
                let shape = if is_nested(value) { Shape::Nested } else { Shape::Plain };
                fields.entry(field.clone()).or_insert(shape);
            }
        }
        for (collection, schema) in space.schemas().await? {
            known.take_schema(collection.as_str(), &schema);
        }
        Ok(known)
    }

    /// Adds what a schema says of a collection.
    pub fn take_schema(&mut self, collection: &str, schema: &Schema) {
        let fields = self.fields.entry(collection.to_owned()).or_default();
        for (path, field) in &schema.fields {
            let [Segment::Key(name)] = path.segments() else { continue };
            match field.kind {
                Some(Kind::Time) => _ = fields.insert(name.clone(), Shape::Time),
                Some(Kind::List | Kind::Map) => _ = fields.insert(name.clone(), Shape::Nested),
                _ => _ = fields.entry(name.clone()).or_insert(Shape::Plain),
            }
        }
    }

    /// The names of the collections that there is something of.
    pub fn names(&self) -> BTreeSet<&str> {
        let with_fields = self.fields.iter().filter(|(_, fields)| !fields.is_empty());
        let with_fields = with_fields.map(|(name, _)| name.as_str());
        self.collections.keys().map(String::as_str).chain(with_fields).collect()
    }

    /// Whether a document has a field at the beginning of a path.
    pub(super) fn has(&self, collection: &str, path: &Path) -> Option<bool> {
        let fields = self.fields.get(collection).filter(|fields| !fields.is_empty())?;
        match path.segments().first() {
            Some(Segment::Key(name)) => Some(fields.contains_key(name)),
            _ => None,
        }
    }
}

fn is_nested(value: &Value) -> bool {
    let is_marked = value.get("$time").is_some() || value.get("$bytes").is_some();
    matches!(value, Value::Array(_)) || (value.is_object() && !is_marked)
}

/// Documents of a collection that are looked at.
const LOOKED_AT: usize = 500;
