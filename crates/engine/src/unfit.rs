//! Documents with values that do not fit their schema.

use std::fmt;

use rejoin_core::schema::Misfit;
use rejoin_core::{CollectionName, DocumentId};

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
