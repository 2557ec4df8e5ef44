//! The schemas that say how documents merge: documents of the space, too.

use std::sync::Arc;

use rejoin_core::schema::Schema;
use rejoin_core::{CollectionName, DocumentId, Genesis};
use tracing::warn;

use super::{Engine, EngineError};
use crate::schema::SCHEMAS;
use crate::store::{DocumentRow, ReadView, StoreError, ValueRow, WriteView};

impl Engine {
    /// The schema of the collection a document is in; empty if there is none.
    pub(super) fn schema(
        &mut self,
        txn: &WriteView,
        row: &DocumentRow,
    ) -> Result<Arc<Schema>, StoreError> {
        let key = (row.space.clone(), row.collection.clone());
        if let Some(known) = self.schemas.get(&key) {
            return Ok(Arc::clone(known));
        }
        let stored = match schema_document(row) {
            Some(id) => txn.value(&id)?,
            None => None,
        };
        let schema = Arc::new(read_schema(row, stored));
        self.schemas.insert(key, Arc::clone(&schema));
        Ok(schema)
    }

    /// A schema's document changed: what follows from it is behind.
    pub(super) fn schema_changed(
        &mut self,
        txn: &WriteView,
        row: &DocumentRow,
    ) -> Result<(), StoreError> {
        let Some(Ok(collection)) = row.key.as_deref().map(CollectionName::new) else {
            return Ok(());
        };
        self.schemas.remove(&(row.space.clone(), collection.clone()));
        txn.clear_collection_invariants(&row.space, &collection)?;
        let mut documents = Vec::new();
        txn.each_value(&row.space, &collection, |id, _| {
            documents.push(id);
            true
        })?;
        for id in documents {
            txn.mark_stale(&id, true)?;
            self.behind.insert(id);
        }
        Ok(())
    }

    /// Whether documents wait to be derived anew after their schema changed.
    pub fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Derives some of the documents anew whose schema changed. Call while
    /// [`is_behind`](Self::is_behind).
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn catch_up(&mut self, now: u64) -> Result<(), EngineError> {
        let some: Vec<DocumentId> = self.behind.iter().copied().take(BEHIND_AT_ONCE).collect();
        some.iter().for_each(|id| _ = self.behind.remove(id));
        self.refresh(now, &some)
    }
}

/// The schema of the collection a document is in, as last committed; empty if there is none.
pub(super) fn stored_schema(view: &ReadView, row: &DocumentRow) -> Result<Arc<Schema>, StoreError> {
    let stored = match schema_document(row) {
        Some(id) => view.value(&id)?,
        None => None,
    };
    Ok(Arc::new(read_schema(row, stored)))
}

/// The document that holds the schema of a document's collection. Schemas have none themselves.
fn schema_document(row: &DocumentRow) -> Option<DocumentId> {
    let schemas = CollectionName::new(SCHEMAS).ok().filter(|schemas| *schemas != row.collection)?;
    let genesis = Genesis::first(row.collection.as_str()).ok()?;
    Some(DocumentId::derive(&row.space, &schemas, &genesis))
}

fn read_schema(row: &DocumentRow, stored: Option<ValueRow>) -> Schema {
    let Some(stored) = stored.filter(|stored| !stored.deleted) else { return Schema::default() };
    let Ok(value) = serde_json::from_slice(&stored.json) else { return Schema::default() };
    let (schema, unknown) = Schema::from_value(&value);
    for unknown in unknown {
        warn!(space = %row.space, collection = %row.collection, %unknown, "schema not understood");
    }
    schema
}

/// Documents derived anew in one commit.
const BEHIND_AT_ONCE: usize = 64;
