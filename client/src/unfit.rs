//! Documents with values that do not fit their schema.

use std::fmt;

use rejoin_core::schema::Misfit;
use rejoin_core::{CollectionName, DocumentId};

use crate::collection::Collection;
use crate::document::Document;
use crate::engine::EditError;
use crate::replica::Space;

/// A document that holds something else than its schema says. It is kept as it is; but what does not
/// fit counts for nothing where the schema reads it, such as a time of which nobody can tell when it
/// is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The collection it is in.
    pub collection: CollectionName,
    /// Which document.
    pub document: DocumentId,
    /// Its natural key, if it has one.
    pub key: Option<String>,
    /// What does not fit, at most 16 of it.
    pub misfits: Vec<Misfit>,
}

/// The document and the first of what does not fit: `jobs 7: starts_at: it is not a time`.
impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { collection, document, key, misfits } = self;
        match key {
            Some(key) => write!(f, "{collection} {key}")?,
            None => write!(f, "{collection} {document}")?,
        }
        misfits.first().map_or(Ok(()), |first| write!(f, ": {}: {}", first.field, first.reason))
    }
}

impl Space {
    /// The documents that hold what does not fit their schema, by collection and key, deleted ones left
    /// out. Reads none of
    /// them, but some whose schema has just changed.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn unfit(&self) -> Result<Vec<Unfit>, EditError> {
        self.replica().refresh_listed().await?;
        let mut unfit = self.replica().read(|view| view.unfit(self.name()))?;
        let named = |it: &Unfit| (it.collection.clone(), it.key.clone(), it.document);
        unfit.sort_by_cached_key(named);
        Ok(unfit)
    }
}

impl Collection {
    /// Those of the collection; see [`Space::unfit`].
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn unfit(&self) -> Result<Vec<Unfit>, EditError> {
        let mut unfit = self.space().unfit().await?;
        unfit.retain(|document| document.collection == *self.name());
        Ok(unfit)
    }
}

impl Document {
    /// What in the document does not fit its schema, at most 16 of it.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn misfits(&self) -> Result<Vec<Misfit>, EditError> {
        // A value that is behind would say what was.
        self.read().await?;
        Ok(self.replica().read(|view| view.misfits(&self.id()))?)
    }
}
