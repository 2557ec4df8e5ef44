//! The result of taking edits back.

use std::collections::BTreeMap;
use std::fmt;

use rejoin_core::lineage::Candidate;
use rejoin_core::{CollectionName, DocumentId, SpaceName};
use serde_json::Value;
use thiserror::Error;

use super::{EditError, EditOutcome};
use crate::store::StoreError;

/// Which way to go in one's own edits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To take back the last step.
    Undo,
    /// To make the step again that was taken back last.
    Redo,
}

/// The result of an undo or a redo.
///
/// It leaves the work of others. A field goes back to the value that it had before the edit, unless
/// somebody has written it since; where others wrote at the same time, only the own value goes.
/// Of texts only the own characters go or come back, and of counters the own amounts. A decision
/// about a review is taken back by opening the review again. A document that the edit made is
/// deleted. A text, list or map that the edit began stays, and is empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Undone {
    /// The time of the edit, in seconds since 1970 by this device's clock.
    pub time_s: i64,
    /// The number of edits in the step.
    pub edits: u64,
    /// The documents that were written, each once.
    pub documents: Vec<UndoneDocument>,
    /// The parts of the edits that stand as before, because they cannot be taken back.
    pub kept: Vec<Kept>,
}

impl Undone {
    /// Adds what happened to a document in an edit of the step. `places` has those that are there by now.
    pub(super) fn add(
        &mut self,
        document: UndoneDocument,
        places: &mut BTreeMap<DocumentId, usize>,
    ) {
        let place = *places.entry(document.edited.document).or_insert(self.documents.len());
        let Some(known) = self.documents.get_mut(place) else {
            return self.documents.push(document);
        };
        known.deleted = document.deleted;
        known.renewed.extend(document.renewed);
        known.edited.heads = document.edited.heads;
        known.edited.changes.extend(document.edited.changes);
        known.edited.outbox = document.edited.outbox.or(known.edited.outbox);
        for field in document.fields {
            match known.fields.iter_mut().find(|known| known.field == field.field) {
                Some(known) => known.after = field.after,
                None => known.fields.push(field),
            }
        }
        known.fields.retain(|field| field.before != field.after);
    }
}

/// A document in which something was taken back.
#[derive(Debug, Clone, PartialEq)]
pub struct UndoneDocument {
    /// Its space.
    pub space: SpaceName,
    /// Its collection.
    pub collection: CollectionName,
    /// Its natural key, if it has one.
    pub key: Option<String>,
    /// The top-level fields that differ now, as people see them.
    pub fields: Vec<FieldUndone>,
    /// Whether it is deleted now.
    pub deleted: bool,
    /// The lists in which items came back as new ones, as paths: who still writes in the old item
    /// does not write in the new one.
    pub renewed: Vec<String>,
    /// The changes that were written.
    pub edited: EditOutcome,
}

/// A field that an undo changed.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldUndone {
    /// Its name.
    pub field: String,
    /// The value before the undo; `None` if there was none.
    pub before: Option<Value>,
    /// The value now; `None` if there is none.
    pub after: Option<Value>,
}

/// Something that an undo left as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The document.
    pub document: DocumentId,
    /// The field; `None` for the document as a whole.
    pub field: Option<String>,
    /// The reason.
    pub why: KeptWhy,
}

/// The reason why something cannot be taken back.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum KeptWhy {
    /// Somebody has written it, or written in it, since.
    Written(Box<Candidate>),
    /// It became, or was, a text, list, map or counter in which others may be writing.
    Merges,
    /// The editor has no right to write it any more.
    NotAllowed,
    /// It, or what is around it, was deleted since.
    Removed,
    /// The edit is not in the document: a relay refused it, or the document is gone.
    Lost,
    /// It was taken back, or made again, already. The replica does not remember that if its file went
    /// back to an older copy.
    Done,
    /// The question that was decided is not open any more.
    NotOpen,
    /// The document could not be written, for this reason.
    Failed(String),
}

impl fmt::Display for KeptWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(by) => match &by.author {
                Some(author) => write!(f, "{} has written there since", author.user),
                None => f.write_str("somebody has written there since"),
            },
            Self::Merges => f.write_str("it merges now, and others may be writing in it"),
            Self::NotAllowed => f.write_str("your role may not write it any more"),
            Self::Removed => f.write_str("it was deleted since"),
            Self::Lost => f.write_str("the edit is not in the document any more"),
            Self::Done => f.write_str("that was done already"),
            Self::NotOpen => f.write_str("the question is not open any more"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// An undo or a redo that was not done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UndoError {
    /// There is no such step.
    #[error("{}", match .way {
        Way::Undo => "there is nothing to undo: no edit was made here, or all were undone",
        Way::Redo => "there is nothing to redo: nothing was undone since the last edit",
    })]
    Nothing {
        /// The way that was asked for.
        way: Way,
    },
    /// Nothing of the step can be taken back. The step is dropped, so that the next undo is of the
    /// one before.
    #[error(
        "nothing was undone, so as to keep what stands there: {}; the next undo is of the edit before",
        .0.first().map(|kept| kept.why.to_string()).unwrap_or_default()
    )]
    Kept(Vec<Kept>),
    /// A document could not be written.
    #[error(transparent)]
    Edit(#[from] EditError),
}

impl From<StoreError> for UndoError {
    fn from(error: StoreError) -> Self {
        Self::Edit(error.into())
    }
}
