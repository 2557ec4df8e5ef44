//! The schema of a collection, read in the same state of the file as its documents.

use rejoin_core::schema::Schema;
use rejoin_core::{CollectionName, SpaceName};
use serde_json::Value;

use super::{ReadTxn, StoreError};
use crate::reserved::schema_document;

impl ReadTxn {
    /// The schema of a collection; empty if there is none. Parts that are not understood were told of when
    /// they came.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn schema(
        &self,
        space: &SpaceName,
        collection: &CollectionName,
    ) -> Result<Schema, StoreError> {
        let Some(id) = schema_document(space, collection) else { return Ok(Schema::default()) };
        let stored = self.value(&id)?.filter(|stored| !stored.deleted);
        let value = stored.and_then(|stored| serde_json::from_slice(&stored.json).ok());
        Ok(value.map(|value: Value| Schema::from_value(&value).0).unwrap_or_default())
    }
}
