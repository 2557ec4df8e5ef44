//! Errors of a replica's store, and of one edit.

use std::collections::BTreeSet;

use rejoin_core::change::GuardError;
use rejoin_core::lineage::FieldPath;
use rejoin_core::number::InexactNumber;
use rejoin_core::{ChangeHash, CollectionName, DocumentId, NameError, ReviewId, SpaceName};
use thiserror::Error;

use super::WriteError;
use crate::store::StoreError;

/// The engine cannot go on as it is.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The file could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored document does not load.
    #[error("document {document} does not load ({reason}); run `rejoin doctor` on the file")]
    Unreadable {
        /// The document.
        document: DocumentId,
        /// The message of Automerge.
        reason: String,
    },
    /// The code panicked on data that nobody foresaw. Nothing was written.
    #[error("an edit or a message could not be handled ({reason}); please report this")]
    Panicked {
        /// The message of the panic.
        reason: String,
    },
}

/// Something that was not read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such document.
    #[error("there is no such document; create it first, or wait until it has come")]
    NotFound,
    /// The document never had these heads, or they have not come yet.
    #[error("the document does not have change {head}; look at its history for those that it has")]
    UnknownHeads {
        /// The first of them.
        head: ChangeHash,
    },
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The value does not fit the type that it is read as.
    #[error(
        "the value of document {document} does not fit the type it is read as; read it as \
         `serde_json::Value`, or give the fields of the type defaults"
    )]
    Type {
        /// The document.
        document: DocumentId,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// A stored document does not load.
    #[error("document {document} does not load ({reason}); run `rejoin doctor` on the file")]
    Unreadable {
        /// The document.
        document: DocumentId,
        /// The message of Automerge.
        reason: String,
    },
    /// The file could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The code panicked on data that nobody foresaw.
    #[error("it could not be read ({reason}); please report this")]
    Panicked {
        /// The message of the panic.
        reason: String,
    },
    /// The replica was closed.
    #[error("the replica is closed; open it again")]
    Closed,
}

impl From<EngineError> for ReadError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) => Self::Store(error),
            EngineError::Unreadable { document, reason } => Self::Unreadable { document, reason },
            EngineError::Panicked { reason } => Self::Panicked { reason },
        }
    }
}

/// An edit that was not made. The document is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EditError {
    /// There is no document to edit.
    #[error("there is no such document; create it first")]
    NotFound,
    /// The document was erased.
    #[error("document {document} was erased by an operator; make a new one")]
    Erased {
        /// The document.
        document: DocumentId,
    },
    /// The edit would bear a name that the relay does not take from who is signed in.
    #[error(
        "{signed_in} is signed in on this device, and edits by {author} would not be taken from them; \
         sign out first (`rejoin sign-out`)"
    )]
    SignedIn {
        /// Who is signed in.
        signed_in: String,
        /// As whom the edit was to be made.
        author: String,
    },
    /// The document is another one than it was taken for.
    #[error("the document is in collection {collection} of space {space}; import it there")]
    Elsewhere {
        /// Its space.
        space: SpaceName,
        /// Its collection.
        collection: CollectionName,
    },
    /// The document is deleted.
    #[error("the document is deleted; bring it back first (`rejoin restore`, or `undelete`)")]
    Deleted,
    /// A deletion is to be taken back, and there is none.
    #[error("the document is not deleted; there is nothing to bring back")]
    NotDeleted,
    /// A name or key that cannot be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The edit does not fit the document.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The edit is larger than a relay takes.
    #[error("the edit is too large for one change; make it in smaller parts")]
    TooLarge(#[source] GuardError),
    /// Somebody's change used up the counters of the document.
    #[error(
        "document {document} has no operation numbers left; copy its fields into a new document, and \
         look with `rejoin history` at who used them up"
    )]
    NoRoom {
        /// The document.
        document: DocumentId,
    },
    /// A value that is not a map of fields.
    #[error("a document is a map of named fields; give it a struct or a map")]
    NotAMap,
    /// The schema gives the field to other roles.
    #[error(
        "{field} is written by {}, and this replica acts as {}; ask one of them",
        .writers.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
        .role.as_deref().unwrap_or("nobody in particular"),
    )]
    NotAllowed {
        /// The field.
        field: FieldPath,
        /// The roles that may.
        writers: BTreeSet<String>,
        /// The role of the editor.
        role: Option<String>,
    },
    /// A decision about a review was not made. Only a [decision](super::Content::Decide) fails so.
    #[error(transparent)]
    Decision(Box<SettleError>),
    /// A number that would be rounded.
    #[error("{field} cannot hold this number")]
    Inexact {
        /// The field.
        field: String,
        /// The number, and the way to write it.
        #[source]
        number: InexactNumber,
    },
    /// The document's value does not fit the type that it is edited as.
    #[error(
        "the value of document {document} does not fit the type it is edited as; give the fields of the \
         type defaults, or edit it by paths"
    )]
    Type {
        /// The document.
        document: DocumentId,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// A value that does not serialise.
    #[error("the value cannot be written as JSON; its type does not serialise")]
    NotJson(#[from] serde_json::Error),
    /// A stored document does not load.
    #[error("document {document} does not load ({reason}); run `rejoin doctor` on the file")]
    Unreadable {
        /// The document.
        document: DocumentId,
        /// The message of Automerge.
        reason: String,
    },
    /// The file could not be written, and nothing was kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The same failure as another edit of the same commit.
    #[error("whether the edit was kept is not known ({0}); read the document and see")]
    NotKept(String),
    /// A presence value over its limit.
    #[error("a presence value of {len} bytes is too large; use at most {max}")]
    Presence {
        /// Its bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The replica was closed.
    #[error("the replica is closed; open it again")]
    Closed,
}

impl EditError {
    pub(super) fn not_allowed(
        field: FieldPath,
        role: Option<&str>,
        writers: &BTreeSet<String>,
    ) -> Self {
        Self::NotAllowed { field, writers: writers.clone(), role: role.map(str::to_owned) }
    }
}

impl From<ReadError> for EditError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotFound => Self::NotFound,
            ReadError::UnknownHeads { head } => {
                WriteError::UnknownBase { head: automerge::ChangeHash(head.0) }.into()
            }
            ReadError::Name(error) => Self::Name(error),
            ReadError::Type { document, source } => Self::Type { document, source },
            ReadError::Unreadable { document, reason } => Self::Unreadable { document, reason },
            ReadError::Store(error) => Self::Store(error),
            ReadError::Panicked { reason } => Self::NotKept(reason),
            ReadError::Closed => Self::Closed,
        }
    }
}

impl From<EngineError> for EditError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) => Self::Store(error),
            EngineError::Unreadable { document, reason } => Self::Unreadable { document, reason },
            EngineError::Panicked { reason } => Self::NotKept(reason),
        }
    }
}

/// A review that was not settled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SettleError {
    /// There is no such open review.
    #[error("there is no open review {0}; somebody may have settled it: list the reviews again")]
    NoReview(ReviewId),
    /// The value chosen is not among the candidates.
    #[error("the review has no such candidate any more; look at it again")]
    NoCandidate,
    /// A review about two documents is settled by changing one of them.
    #[error("the review is about two documents; change or cancel one of them, or dismiss it")]
    ChangeOne,
    /// A container in which others may be writing is never taken away.
    #[error(
        "the field holds something that merges, which stays; write the value into it or elsewhere, \
         and dismiss the review"
    )]
    Contained,
    /// A reason that does not fit beside the decision.
    #[error("the reason has {len} bytes, of at most {max}; say it shorter")]
    WhyTooLong {
        /// Its bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A value that a field of this kind cannot hold.
    #[error("a field like this holds a plain value; give a string, number or truth value")]
    NotPlain,
    /// The document could not be edited.
    #[error(transparent)]
    Edit(EditError),
}

impl From<SettleError> for EditError {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Edit(error) => error,
            error => Self::Decision(Box::new(error)),
        }
    }
}

impl From<EditError> for SettleError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Decision(error) => *error,
            error => Self::Edit(error),
        }
    }
}

impl From<ReadError> for SettleError {
    fn from(error: ReadError) -> Self {
        Self::Edit(error.into())
    }
}
