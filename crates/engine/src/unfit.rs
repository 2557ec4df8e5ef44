//! Documents with values that do not fit their schema.

use std::fmt;

use rejoin_core::Misfit;
use rejoin_core::{CollectionName, DocumentId};

/// A document with values that do not fit its schema. It is kept as it is, but rules of the schema
/// take no notice of such a value: a time that cannot be read books nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The collection it is in.
    pub collection: CollectionName,
    /// The document.
    pub document: DocumentId,
    /// Its natural key, if it has one.
    pub key: Option<String>,
    /// The values that do not fit, at most 16 of them.
    pub misfits: Vec<Misfit>,
}

/// The document and the first value that does not fit: `jobs 7: starts_at: it is not a time`.
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
