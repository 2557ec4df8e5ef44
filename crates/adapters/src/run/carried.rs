//! What an adapter carries: the documents of a collection, or the reviews about them.

use std::collections::BTreeSet;
use std::sync::Arc;

use rejoin::schema::DERIVATION;
use rejoin::schema::SCHEMAS;
use rejoin::value::Zone;
use rejoin::{ChangeHash, Collection, Document, DocumentId, NameError, ReadError, Space};

use crate::mapping::{Mapping, Source};

/// By what documents become rows, beside their own heads.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The heads of the schema, and which version of the rules it is.
    pub(crate) heads: Vec<ChangeHash>,
    /// By whose clocks times without a zone are read.
    pub(crate) zone: Zone,
}

/// A collection of a space, and its schema.
#[derive(Debug, Clone)]
pub(crate) struct Carried {
    pub(crate) space: Space,
    pub(crate) collection: Collection,
    mapping: Arc<Mapping>,
}

impl Carried {
    pub(crate) fn new(space: &Space, mapping: &Arc<Mapping>) -> Result<Self, NameError> {
        let collection = space.collection(mapping.collection.as_str())?;
        Ok(Self { space: space.clone(), collection, mapping: Arc::clone(mapping) })
    }

    /// The document that is the collection's schema.
    pub(crate) fn schema(&self) -> Result<Document, ReadError> {
        Ok(self.space.collection(SCHEMAS)?.document(self.collection.name().as_str())?)
    }

    pub(crate) async fn rules(&self) -> Result<Rules, ReadError> {
        let mut heads = self.schema()?.read().await?.map(|entry| entry.heads).unwrap_or_default();
        let mut version = [0; 32];
        version[..4].copy_from_slice(&DERIVATION.to_be_bytes());
        heads.push(ChangeHash(version));
        let schema = self.space.schema(self.collection.name()).await?;
        Ok(Rules { heads, zone: self.mapping.zone(schema.as_ref()) })
    }

    /// Of documents or reviews that were rows and are not carried by now, those that are gone. Documents that
    /// the replica does not know may be on their way, so only those of other collections are gone; and
    /// while there are no documents at all, nobody knows which questions are answered.
    pub(crate) fn gone(
        &self,
        were_rows: impl IntoIterator<Item = DocumentId>,
    ) -> Result<Vec<DocumentId>, ReadError> {
        let listed = self.space.documents()?;
        let were_rows = were_rows.into_iter();
        Ok(match self.mapping.source {
            Source::Reviews if listed.is_empty() => Vec::new(),
            Source::Reviews => were_rows.collect(),
            Source::Documents => {
                let others = listed.iter().filter(|it| it.collection != *self.collection.name());
                let others: BTreeSet<_> = others.map(|it| it.document).collect();
                were_rows.filter(|document| others.contains(document)).collect()
            }
        })
    }

    /// Whether an operator erased a document.
    pub(crate) fn is_erased(&self, document: &DocumentId) -> Result<bool, ReadError> {
        Ok(self.space.is_erased(document)?)
    }

    /// The documents that an operator erased.
    pub(crate) fn erased(&self) -> Result<BTreeSet<DocumentId>, ReadError> {
        Ok(self.space.erased()?)
    }

    pub(crate) fn documents(&self) -> Result<Vec<DocumentId>, ReadError> {
        let listed = self.space.documents()?.into_iter();
        let own = listed.filter(|listed| listed.collection == *self.collection.name());
        Ok(own.map(|listed| listed.document).collect())
    }
}
