//! The schemas that say how documents merge: documents of the space, too.

use std::sync::Arc;

use rejoin_core::lineage::DELETED;
use rejoin_core::schema::{Rule, Schema};
use rejoin_core::{CollectionName, DocumentId, Segment};
use serde_json::Value;
use tracing::warn;

use super::{Engine, EngineError, REFRESHED_AT_ONCE};
use crate::reserved::{DISMISSED, REVIEWS, schema_document};
use crate::store::{DocumentRow, ReadTxn, StoreError, ValueRow, WriteTxn};

impl Engine {
    /// The schema of the collection a document is in; empty if there is none.
    pub(super) fn schema(
        &mut self,
        txn: &WriteTxn,
        row: &DocumentRow,
    ) -> Result<Arc<Schema>, StoreError> {
        let key = (row.space.clone(), row.collection.clone());
        if let Some(known) = self.schemas.get(&key) {
            return Ok(Arc::clone(known));
        }
        let schema = match schema_document(&row.space, &row.collection) {
            _ if row.collection.as_str() == REVIEWS => of_notes(),
            Some(id) => read_schema(row, txn.value(&id)?),
            None => Schema::default(),
        };
        let schema = Arc::new(schema);
        self.schemas.insert(key, Arc::clone(&schema));
        Ok(schema)
    }

    /// A schema's document changed: the values derived by it are behind.
    pub(super) fn schema_changed(
        &mut self,
        txn: &WriteTxn,
        row: &DocumentRow,
    ) -> Result<(), StoreError> {
        let Some(Ok(collection)) = row.key.as_deref().map(CollectionName::new) else {
            return Ok(());
        };
        self.schemas.remove(&(row.space.clone(), collection.clone()));
        txn.clear_collection_invariants(&row.space, &collection)?;
        let documents = txn.documents_of(&row.space, &collection)?;
        for id in documents {
            // A document that was plain by the schema before need not be so by this one.
            if let Some(mut row) = txn.document(&id)?.filter(|row| !row.uneasy) {
                row.uneasy = true;
                txn.put_document(&id, &row)?;
            }
            txn.mark_stale(&id, true)?;
            self.behind.insert(id);
        }
        Ok(())
    }

    /// Says once of each field that the schema does not name it. It is kept, and a review decides
    /// about it where two write it at once; perhaps somebody mistyped a name.
    pub(super) fn warn_of_unknown_fields(
        &mut self,
        row: &DocumentRow,
        schema: &Schema,
        value: &ValueRow,
    ) {
        if schema.fields.is_empty() {
            return;
        }
        let Ok(Value::Object(fields)) = serde_json::from_slice(&value.json) else { return };
        for field in fields.into_iter().map(|(field, _)| field) {
            let is_known = field == DELETED
                || schema.fields.keys().any(|path| {
                    matches!(path.segments().first(),
                        Some(Segment::Key(key)) if *key == field || key == "*")
                });
            let key = (row.space.clone(), row.collection.clone(), field);
            if is_known || self.unknown_fields.contains(&key) {
                continue;
            }
            if self.unknown_fields.len() < UNKNOWN_FIELDS_MAX {
                let (space, collection, field) = &key;
                warn!(%space, %collection, field, "the schema does not name this field; it is kept");
                self.unknown_fields.insert(key);
            }
        }
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
        let some: Vec<DocumentId> = self.behind.iter().copied().take(REFRESHED_AT_ONCE).collect();
        self.refresh(now, &some)
    }
}

/// The schema of the collection a document is in, as last committed; empty if there is none.
pub(super) fn stored_schema(view: &ReadTxn, row: &DocumentRow) -> Result<Arc<Schema>, StoreError> {
    if row.collection.as_str() == REVIEWS {
        return Ok(Arc::new(of_notes()));
    }
    let stored = match schema_document(&row.space, &row.collection) {
        Some(id) => view.value(&id)?,
        None => None,
    };
    Ok(Arc::new(read_schema(row, stored)))
}

/// Notes about reviews never become reviews themselves: two people who dismiss one agree.
fn of_notes() -> Schema {
    ["assignee", "due", DISMISSED]
        .into_iter()
        .fold(Schema::new(), |schema, note| schema.with(note, Rule::Any))
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

/// Fields that are warned of at most: documents with arbitrary keys are not mistyped.
const UNKNOWN_FIELDS_MAX: usize = 100;
