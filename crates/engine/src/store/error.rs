//! The errors of reading and writing a replica's file.

use rejoin_core::DocumentId;
use thiserror::Error;

pub(super) fn unavailable(error: impl Into<redb::Error>) -> StoreError {
    let error = error.into();
    match &error {
        redb::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => StoreError::Full,
        redb::Error::Corrupted(_) => StoreError::Corrupt(Box::new(error)),
        _ => StoreError::Database(Box::new(error)),
    }
}

/// The replica's file could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No space left.
    #[error("the disk is full; the edit was not kept: free some space and try again")]
    Full,
    /// Not a replica, or one of a version this program does not know.
    #[error("the file is not a replica of this version; open another one")]
    Foreign,
    /// The file of a relay.
    #[error(
        "the file is a relay's and not a replica's; give --replica another file, and give this one's \
         folder to `rejoin relay --data`"
    )]
    RelayFile,
    /// A row that does not read back.
    #[error("a row of {table} does not read back; run `rejoin doctor` on the file")]
    Row {
        /// The kind of row.
        table: &'static str,
        /// The fault in it.
        source: minicbor::decode::Error,
    },
    /// A value that is not the one that was written.
    #[error(
        "the stored value of document {document} is damaged; `rejoin doctor --repair` makes it anew \
         from the document's changes"
    )]
    Value {
        /// The document, as far as the damaged row says it.
        document: DocumentId,
    },
    /// redb found the file damaged.
    #[error(
        "the file is damaged; `rejoin doctor --salvage` takes out what can still be read, or restore \
         it from a backup"
    )]
    Corrupt(#[source] Box<redb::Error>),
    /// Anything else.
    #[error("the file could not be used; check the disk and open it again")]
    Database(#[source] Box<redb::Error>),
    /// After a failed commit, until the file is open again.
    #[error("the file is being opened again after a failed write; try again in a moment")]
    Reopening,
}

impl StoreError {
    /// The error for a file about which redb said, or with which it did, something that makes no
    /// sense.
    pub fn corrupt(reason: String) -> Self {
        Self::Corrupt(Box::new(redb::Error::Corrupted(reason)))
    }
}
