//! The errors of the store.

use rejoin_core::GraphError;
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
    /// The file is damaged where all of it depends on it.
    #[error(
        "the relay's file is damaged; stop the relay, and take out what can still be read with \
         `rejoin doctor --salvage`, or restore it from a backup"
    )]
    Corrupt(#[source] Box<redb::Error>),
    /// The file is of another program, or of a replica.
    #[error(
        "the relay's file holds something else{}; give the relay a folder of its own",
        if *.is_replica { ": it is a replica's, which `rejoin --replica FILE` works on" } else { "" }
    )]
    Foreign {
        /// Whether it is a replica's.
        is_replica: bool,
    },
    /// Something failed before, and the state in memory may differ from the disk.
    #[error("the relay's database failed before; reopen it")]
    Failed,
    /// A backup or the folding of a document reads the store.
    #[error("a backup or a fold reads the store at this moment; try again when it is done")]
    Busy,
    /// The file is of a version after this one.
    #[error(
        "the relay's file has format {found}, and this program reads formats up to {known}; run the \
         version of rejoin that wrote it, or a newer one, or restore a backup from before"
    )]
    Format {
        /// The format of the file.
        found: u64,
        /// The last format that this program knows.
        known: u64,
    },
    /// A file of the version before holds rows that no document accounts for.
    #[error(
        "{rows} rows in table {table} of the relay's file belong to no document, so it was left as \
         it is; restore the relay from a backup, or go on with the version before"
    )]
    Unaccounted {
        /// The table.
        table: &'static str,
        /// The number of rows.
        rows: u64,
    },
    /// A document's row cannot be read.
    #[error(
        "the row of document no. {document} is damaged; the relay asks replicas for what it lacks"
    )]
    DocumentRow {
        /// The number of the document in the store.
        document: u64,
        /// The fault in it.
        source: minicbor::decode::Error,
    },
    /// A space's row cannot be read.
    #[error("the row of space {space:?} is damaged; restore the relay from a backup")]
    SpaceRow {
        /// The space.
        space: String,
        /// The fault in it.
        source: minicbor::decode::Error,
    },
    /// The row of a change that comes in parts cannot be read.
    #[error("the row of an upload is damaged; restore the relay from a backup")]
    UploadRow(#[source] minicbor::decode::Error),
    /// The row of a change that was carried cannot be read.
    #[error("the row of a carried change is damaged; restore the relay from a backup")]
    CarriedRow(#[source] minicbor::decode::Error),
    /// A collection of a space is missing.
    #[error("the collections of space {space:?} are damaged; restore the relay from a backup")]
    Collections {
        /// The space.
        space: String,
    },
    /// The rows of a change graph do not make one.
    #[error(
        "the change graph of document no. {document} is damaged; the relay asks replicas for what it \
         lacks"
    )]
    Graph {
        /// The number of the document in the store.
        document: u64,
        /// The fault in it.
        source: GraphError,
    },
    /// Something that another row promises is not there.
    #[error(
        "the {what} of document no. {document} is missing; the relay asks replicas for what it lacks"
    )]
    Absent {
        /// The number of the document in the store.
        document: u64,
        /// The row that is missing.
        what: &'static str,
    },
    /// Something is not as it was written.
    #[error(
        "the {what} of document no. {document} is damaged; the relay asks replicas for what it lacks, \
         and the disk is to be looked at"
    )]
    Damaged {
        /// The number of the document in the store.
        document: u64,
        /// The part that is damaged.
        what: &'static str,
    },
}

impl StoreError {
    /// Whether only one document is affected, and the store serves the others.
    pub fn is_confined(&self) -> bool {
        self.document().is_some()
    }

    /// The error for a file about which redb said, or with which it did, something that makes no
    /// sense.
    pub(crate) fn corrupt(reason: &str) -> Self {
        Self::Corrupt(Box::new(redb::Error::Corrupted(reason.to_owned())))
    }

    pub(super) fn of_redb(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(_) => Self::Corrupt(Box::new(error)),
            error => Self::Database(Box::new(error)),
        }
    }

    /// The number of the only document that is affected.
    pub(crate) fn document(&self) -> Option<u64> {
        match self {
            Self::DocumentRow { document, .. }
            | Self::Graph { document, .. }
            | Self::Absent { document, .. }
            | Self::Damaged { document, .. } => Some(*document),
            _ => None,
        }
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                Self::of_redb(error.into())
            }
        }
    )*};
}

from_redb!(StorageError, TableError, TransactionError, CommitError, SetDurabilityError);
