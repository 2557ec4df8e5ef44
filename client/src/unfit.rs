//! Documents with values that do not fit their schema.

use rejoin_core::Misfit;
use rejoin_engine::{ReadError, Unfit};

use crate::collection::Collection;
use crate::document::Document;
use crate::replica::Space;

impl Space {
    /// The documents with values that do not fit their schema, by collection and key, deleted ones
    /// left out. None of them is read, except some whose schema has just changed.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn unfit(&self) -> Result<Vec<Unfit>, ReadError> {
        self.replica().refresh_listed().await?;
        let mut unfit = self.replica().read(|view| view.unfit(self.name()))?;
        let named = |it: &Unfit| (it.collection.clone(), it.key.clone(), it.document);
        unfit.sort_by_cached_key(named);
        Ok(unfit)
    }
}

impl Collection {
    /// The documents of the collection with values that do not fit; see [`Space::unfit`].
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn unfit(&self) -> Result<Vec<Unfit>, ReadError> {
        let mut unfit = self.space().unfit().await?;
        unfit.retain(|document| document.collection == *self.name());
        Ok(unfit)
    }
}

impl Document {
    /// The values of the document that do not fit its schema, at most 16 of them.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn misfits(&self) -> Result<Vec<Misfit>, ReadError> {
        // A value that is behind would tell the misfits of before.
        self.read().await?;
        Ok(self.replica().read(|view| view.misfits(&self.id()))?)
    }
}
