//! Why the store could not do something.

use rejoin_core::{DocumentId, GraphError};
use thiserror::Error;

/// The store could not read or write.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database failed.
    #[error(
        "the relay's database failed; free space or check the disk, then reopen it: whether the \
         last commit landed is unknown"
    )]
    Database(#[source] Box<redb::Error>),
    /// Something failed before, and what is in memory may not be what is on disk.
    #[error("the relay's database failed before; reopen it")]
    Failed,
    /// A document's row cannot be read.
    #[error("the row of document {document} is damaged; restore the relay from a backup")]
    DocumentRow {
        /// The document.
        document: DocumentId,
        /// What is wrong with it.
        source: minicbor::decode::Error,
    },
    /// A space's row cannot be read.
    #[error("the row of space {space:?} is damaged; restore the relay from a backup")]
    SpaceRow {
        /// The space.
        space: String,
        /// What is wrong with it.
        source: minicbor::decode::Error,
    },
    /// The rows of a change graph do not make one.
    #[error("the change graph of document {document} is damaged; restore the relay from a backup")]
    Graph {
        /// The document.
        document: DocumentId,
        /// What is wrong with it.
        source: GraphError,
    },
    /// Something that another row promises is not there.
    #[error("the {what} of document {document} is missing; restore the relay from a backup")]
    Absent {
        /// The document.
        document: DocumentId,
        /// What is missing.
        what: &'static str,
    },
}

impl StoreError {
    /// Whether only one document is affected, and the store serves the others.
    pub fn is_confined(&self) -> bool {
        matches!(self, Self::DocumentRow { .. } | Self::Graph { .. } | Self::Absent { .. })
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}

from_redb!(StorageError, TableError, TransactionError, CommitError, SetDurabilityError);
