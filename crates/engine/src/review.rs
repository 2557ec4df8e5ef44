//! Reviews: questions that only a person can decide. They are the same on every replica that has
//! the same documents.

mod json;

use std::collections::BTreeMap;

use rejoin_core::lineage::Candidate;
use rejoin_core::{CollectionName, DocumentId, ReviewId, SpaceName};
use serde_json::{Map, Value, json};

use crate::engine::{Content, Decision, Edit, EditError, ReadError, SettleError, Target};
use crate::reserved::{DISMISSED, REVIEWS};
use crate::store::{
    CandidateRow, ReadTxn, ReviewKind, ReviewRow, ReviewedDocument, SettledRow, StoreError,
};

/// A question for a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// The id of the review, derived from the document and field it is about, so it is the same
    /// everywhere.
    pub id: ReviewId,
    /// Its space.
    pub space: SpaceName,
    /// The question.
    pub kind: ReviewKind,
    /// The collection of the documents.
    pub collection: CollectionName,
    /// The documents it is about.
    pub documents: Vec<ReviewedDocument>,
    /// The field it is about, or the fields of the invariant.
    pub field: String,
    /// The value that stands until it is settled; `None` if the field has no value.
    pub standing: Option<Value>,
    /// The candidates to choose from, the oldest first, in which order they are numbered for people: by
    /// their authors' clocks, but whoever knew of another comes after it, whatever the clocks say. Of more than 256, and of
    /// containers that every device makes alike, clocks alone decide.
    pub candidates: Vec<Candidate>,
    /// Its state.
    pub state: ReviewState,
    /// Of a double booking the document whose booking the relay held first: a hint which should
    /// stay, and no more. `None` if that is not known.
    pub held_first: Option<DocumentId>,
    /// The person who is to settle it.
    pub assignee: Option<String>,
    /// The time until which it is to be settled, in the words of the person who assigned it.
    pub due: Option<String>,
}

/// The state of a review.
#[derive(Debug, Clone, PartialEq)]
pub enum ReviewState {
    /// Somebody has to decide.
    Open,
    /// Somebody decided.
    Settled {
        /// The value that was written, with its author and time.
        by: Candidate,
        /// The reason.
        why: Option<String>,
    },
    /// Somebody decided that the value from before stays.
    Dismissed {
        /// The person and the time. For reviews about two documents only `Reviews::get` tells it.
        by: Option<Candidate>,
        /// The reason.
        why: Option<String>,
    },
    /// An edit of one of the two documents ended the review. Only a replica on which the review was
    /// open knows this, for the present values of the documents do not tell it.
    Resolved {
        /// The value that the edit wrote, with its author and time.
        by: Candidate,
        /// The document of the two that it changed.
        document: DocumentId,
    },
}

impl Review {
    /// All reviews of a space, also decided ones, in the order of their ids. Loads no document.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn all(txn: &ReadTxn, space: &SpaceName) -> Result<Vec<Self>, ReadError> {
        let mut notes = BTreeMap::new();
        txn.each_value(space, &CollectionName::new(REVIEWS)?, |_, row| {
            let note = serde_json::from_slice(&row.json).unwrap_or_default();
            notes.extend(row.key.filter(|_| !row.deleted).map(|key| (key, note)));
            true
        })?;
        let rows = txn.reviews(space)?.into_iter().chain(txn.resolved(space)?);
        rows.map(|(id, row)| {
            let note = notes.remove(&id.to_string()).unwrap_or_default();
            Self::of_row(txn, space, id, row, &note)
        })
        .collect()
    }

    /// One review of a space.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn one(txn: &ReadTxn, space: &SpaceName, id: &ReviewId) -> Result<Option<Self>, ReadError> {
        let row = match txn.review(space, id)? {
            None => txn.resolved_review(space, id)?,
            row => row,
        };
        let Some(row) = row else { return Ok(None) };
        let note = txn.value(&note_of(txn, space, id)?)?.filter(|note| !note.deleted);
        let note =
            note.and_then(|note| serde_json::from_slice(&note.json).ok()).unwrap_or_default();
        Self::of_row(txn, space, *id, row, &note).map(Some)
    }

    /// Whether somebody has to decide.
    pub fn is_open(&self) -> bool {
        self.state == ReviewState::Open
    }

    /// The document in which people note things about the review.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn note_document(&self, txn: &ReadTxn) -> Result<DocumentId, ReadError> {
        note_of(txn, &self.space, &self.id)
    }

    /// The edit that decides the review.
    ///
    /// # Errors
    /// It is about two documents: change one of them, or dismiss it.
    pub fn decide(&self, decision: Decision, why: Option<&str>) -> Result<Edit, SettleError> {
        match (self.kind, &decision) {
            (ReviewKind::DoubleBooking | ReviewKind::Duplicate, Decision::Dismiss) => {
                self.note(json!({ DISMISSED: why.unwrap_or("no reason given") }))
            }
            (ReviewKind::DoubleBooking | ReviewKind::Duplicate, _) => Err(SettleError::ChangeOne),
            _ => {
                let document =
                    self.documents.first().ok_or(SettleError::NoReview(self.id))?.document;
                let why = why.map(str::to_owned);
                Ok(Edit {
                    space: self.space.clone(),
                    collection: self.collection.clone(),
                    target: Target::Document(document),
                    create: false,
                    author: None,
                    batch: None,
                    content: Content::Decide { review: self.id, decision, why },
                })
            }
        }
    }

    /// The edit that gives the review to somebody, with a time by which it is due if there is one.
    ///
    /// # Errors
    /// As [`decide`](Self::decide).
    pub fn assign(&self, assignee: Option<&str>, due: Option<&str>) -> Result<Edit, SettleError> {
        self.note(json!({ "assignee": assignee, "due": due }))
    }

    /// The edit that writes people's notes about the review.
    fn note(&self, note: Value) -> Result<Edit, SettleError> {
        let Value::Object(fields) = note else { return Err(EditError::NotAMap.into()) };
        Ok(Edit {
            space: self.space.clone(),
            collection: CollectionName::new(REVIEWS).map_err(EditError::from)?,
            target: Target::Key(self.id.to_string()),
            create: true,
            author: None,
            batch: None,
            content: Content::Fields(fields),
        })
    }

    fn of_row(
        txn: &ReadTxn,
        space: &SpaceName,
        id: ReviewId,
        row: ReviewRow,
        note: &Map<String, Value>,
    ) -> Result<Self, ReadError> {
        let held_first = match row.kind {
            ReviewKind::DoubleBooking if row.settled.is_none() => held_first(txn, &row.documents)?,
            _ => None,
        };
        let text = |name: &str| note.get(name).and_then(Value::as_str).map(str::to_owned);
        let dismissed =
            || text(DISMISSED).map(|why| ReviewState::Dismissed { by: None, why: Some(why) });
        let state = match row.settled {
            Some(SettledRow { by, document: Some(document), .. }) => {
                let by = candidate(by);
                dismissed().unwrap_or(ReviewState::Resolved { by, document })
            }
            Some(settled) if settled.dismissed => {
                ReviewState::Dismissed { by: Some(candidate(settled.by)), why: settled.why }
            }
            Some(settled) => ReviewState::Settled { by: candidate(settled.by), why: settled.why },
            None => dismissed().unwrap_or(ReviewState::Open),
        };
        Ok(Self {
            id,
            space: space.clone(),
            kind: row.kind,
            collection: row.collection,
            documents: row.documents,
            field: row.field,
            standing: row.standing.and_then(|json| serde_json::from_slice(&json).ok()),
            candidates: row.candidates.into_iter().map(candidate).collect(),
            state,
            held_first,
            assignee: text("assignee"),
            due: text("due"),
        })
    }
}

/// Whether an open review of a space says that a document is booked at the time of another.
pub(crate) fn is_double_booked(
    txn: &ReadTxn,
    space: &SpaceName,
    document: &DocumentId,
) -> Result<bool, ReadError> {
    for id in txn.reviews_of(document)? {
        let review = Review::one(txn, space, &id)?;
        if review.is_some_and(|it| it.kind == ReviewKind::DoubleBooking && it.is_open()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The document of people's notes about a review.
fn note_of(txn: &ReadTxn, space: &SpaceName, id: &ReviewId) -> Result<DocumentId, ReadError> {
    let (_, document) = txn.keyed(space, &CollectionName::new(REVIEWS)?, &id.to_string())??;
    Ok(document)
}

/// The document that the relay held first. One that is not there yet comes after any that is.
fn held_first(
    txn: &ReadTxn,
    documents: &[ReviewedDocument],
) -> Result<Option<DocumentId>, StoreError> {
    let mut held = Vec::new();
    for named in documents {
        if txn.waiting(&named.document)?.is_empty() {
            let Some(position) = txn.held(&named.document)? else { return Ok(None) };
            held.push((position, named.document));
        }
    }
    held.sort_unstable();
    let tied = matches!(held[..], [(first, _), (second, _), ..] if first == second);
    Ok(held.first().filter(|_| !tied).map(|(_, document)| *document))
}

fn candidate(row: CandidateRow) -> Candidate {
    Candidate {
        change: row.change,
        value: row.value.and_then(|json| serde_json::from_slice(&json).ok()),
        author: row.author,
        time_s: row.time_s,
        settles: row.settles,
    }
}
