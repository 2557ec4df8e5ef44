//! Schemas of a space: how the fields of its collections merge.
//!
//! Each is a document of the space, so every replica has it, offline too, and two people may edit
//! different fields of one at once. Write a schema in a file and [`parse`] it, or build it:
//!
//! ```
//! # use rejoin::blocking::Replica;
//! use rejoin::schema::{Field, Invariant, Rule, Schema};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let replica = Replica::open(folder.path().join("desk.redb"))?;
//! let main = replica.space("main")?;
//! let jobs = "jobs".parse()?;
//! let schema = Schema::new()
//!     .with("notes", Rule::Text)
//!     .with("status", Rule::order(["booked", "en_route", "done"]))
//!     .with("phone", Field::new(Rule::owner("crm")).required())
//!     .invariant(Invariant::unique(["phone"]));
//!
//! assert!(main.apply_schema(&jobs, &schema)?.changed());
//! assert!(!main.apply_schema(&jobs, &schema)?.changed());
//! assert_eq!(main.schema(&jobs)?, Some(schema));
//! # Ok(())
//! # }
//! ```

use rejoin_core::CollectionName;
pub use rejoin_core::schema::*;
pub use rejoin_engine::reserved::SCHEMAS;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::collection::Collection;
use crate::document::Document;
use crate::replica::Space;
use crate::saved::Edited;
pub use rejoin_core::lineage::DERIVATION;
pub use rejoin_engine::Foreseen;
use rejoin_engine::{EditError, ReadError};

/// A schema was not applied. The space still has the one from before.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// It contradicts itself.
    #[error("the schema of {collection} contradicts itself: {}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Contradictory {
        /// The collection.
        collection: CollectionName,
        /// All of it.
        faults: Vec<Fault>,
    },
    /// The collection is one of Rejoin's own.
    #[error("{collection} belongs to Rejoin itself and has no schema; name a collection of yours")]
    Reserved {
        /// The collection.
        collection: CollectionName,
    },
    /// It could not be written.
    #[error(transparent)]
    Edit(#[from] EditError),
}

impl From<ReadError> for SchemaError {
    fn from(error: ReadError) -> Self {
        Self::Edit(error.into())
    }
}

impl Space {
    /// Makes this the schema of a collection. Writes only the differences, so a second time changes
    /// nothing, and somebody else may edit another field of it meanwhile. Fields and invariants
    /// that it does not name are removed.
    ///
    /// # Errors
    /// It contradicts itself, or see [`EditError`]. Nothing was written then.
    pub async fn apply_schema(
        &self,
        collection: &CollectionName,
        schema: &Schema,
    ) -> Result<Edited, SchemaError> {
        let parts = self.schema_parts(collection, schema).await?;
        Ok(self.schema_documents()?.put(collection.as_str(), parts).await?)
    }

    /// The consequences that [`apply_schema`](Self::apply_schema) would have for the documents that
    /// are here. Nothing of them is kept. It looks at every document of the collection, some
    /// hundred microseconds each, and edits wait meanwhile.
    ///
    /// # Errors
    /// As [`apply_schema`](Self::apply_schema).
    pub async fn foresee_schema(
        &self,
        collection: &CollectionName,
        schema: &Schema,
    ) -> Result<Foreseen, SchemaError> {
        let parts = self.schema_parts(collection, schema).await?;
        let edit = self.schema_documents()?.put_edit(collection.as_str(), parts);
        let edit = self.replica().signed(edit);
        let foreseen = self.replica().ask(move |engine, now| engine.foresee(now, edit)).await;
        let foreseen = foreseen.map_err(EditError::from)?;
        Ok(foreseen?)
    }

    /// The content that a schema's document is to have.
    async fn schema_parts(
        &self,
        collection: &CollectionName,
        schema: &Schema,
    ) -> Result<Map<String, Value>, SchemaError> {
        let reserved = || SchemaError::Reserved { collection: collection.clone() };
        if collection.as_str().starts_with(RESERVED) {
            return Err(reserved());
        }
        let mut faults = schema.check();
        faults.retain(|fault| fault.severity == Severity::Error);
        if !faults.is_empty() {
            return Err(SchemaError::Contradictory { collection: collection.clone(), faults });
        }
        let stored: Option<Map<_, _>> = self.schema_documents()?.get(collection.as_str()).await?;
        let mut parts = stored.unwrap_or_default();
        // A part that is there no longer is removed.
        parts.values_mut().for_each(|part| *part = Value::Null);
        if let Value::Object(wanted) = schema.to_value() {
            parts.extend(wanted);
        }
        Ok(parts)
    }

    /// The schema of a collection, if it has one. Parts that this version does not understand are
    /// in [`Schema::unknown`], and warned of once.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn schema(&self, collection: &CollectionName) -> Result<Option<Schema>, ReadError> {
        let stored: Option<Value> = self.schema_documents()?.get(collection.as_str()).await?;
        Ok(stored.map(|stored| self.read_schema(collection, &stored)))
    }

    /// The schemas of all collections that have one.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn schemas(&self) -> Result<Schemas, ReadError> {
        let entries = self.schema_documents()?.list().await?;
        let named = |key: Option<String>| CollectionName::new(key?).ok();
        let schemas = entries.into_iter().filter_map(|entry| {
            let collection = named(entry.key)?;
            let schema = self.read_schema(&collection, &entry.value);
            Some((collection, schema))
        });
        Ok(schemas.collect())
    }

    /// The document that holds the schema of a collection.
    pub(crate) fn schema_document(
        &self,
        collection: &CollectionName,
    ) -> Result<Document, ReadError> {
        Ok(self.schema_documents()?.document(collection.as_str())?)
    }

    fn schema_documents(&self) -> Result<Collection, ReadError> {
        Ok(self.collection(SCHEMAS)?)
    }

    fn read_schema(&self, collection: &CollectionName, stored: &Value) -> Schema {
        let (schema, unknown) = Schema::from_value(stored);
        for unknown in unknown {
            if self.replica().notes(format!("{} {collection} {unknown}", self.name())) {
                tracing::warn!(space = %self.name(), %collection, "schema: {unknown}");
            }
        }
        schema
    }
}
