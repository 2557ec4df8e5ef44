//! Reviews: what only a person can decide, the same on every replica that has the same documents.

mod json;

use std::collections::BTreeMap;

use rejoin_core::lineage::{Blame, Candidate};
use rejoin_core::{
    ChangeHash, CollectionName, DocumentId, Genesis, Identity, Path, ReviewId, SpaceName,
};
use serde_json::{Map, Value, json};

use crate::replica::Replica;
use crate::saved::Edited;
use rejoin_engine::reserved::{DISMISSED, REVIEWS};
use rejoin_engine::store::{
    CandidateRow, ReadView, ReviewKind, ReviewRow, ReviewedDocument, SettledRow, StoreError,
};
use rejoin_engine::{Content, Decision, Edit, EditError, Target, Watcher};

/// A question for a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// Which review: derived from what it is about, so it is the same everywhere.
    pub id: ReviewId,
    /// Its space.
    pub space: SpaceName,
    /// What is asked.
    pub kind: ReviewKind,
    /// The collection of the documents.
    pub collection: CollectionName,
    /// The documents it is about.
    pub documents: Vec<ReviewedDocument>,
    /// The field it is about, or the fields of the invariant.
    pub field: String,
    /// What stands until it is settled; nothing if the field has no value.
    pub standing: Option<Value>,
    /// What there is to choose from.
    pub candidates: Vec<ReviewCandidate>,
    /// How far it is.
    pub state: ReviewState,
    /// Of a double booking the document whose booking the relay held first: a hint which should
    /// stay, and no more. Nothing if that is not known.
    pub held_first: Option<DocumentId>,
    /// Who is to settle it.
    pub assignee: Option<String>,
    /// Until when, as whoever assigned it wrote it.
    pub due: Option<String>,
}

/// A value to choose.
#[derive(Debug, Clone, PartialEq)]
pub struct ReviewCandidate {
    /// The change that wrote it.
    pub change: ChangeHash,
    /// The value; nothing if the field was cleared.
    pub value: Option<Value>,
    /// Who wrote it, as far as the change says.
    pub author: Option<Identity>,
    /// When, in seconds since 1970 by the author's clock.
    pub time_s: i64,
    /// The review it settled.
    pub settles: Option<ReviewId>,
}

/// How far a review is.
#[derive(Debug, Clone, PartialEq)]
pub enum ReviewState {
    /// Somebody has to decide.
    Open,
    /// Somebody decided.
    Settled {
        /// What was written, by whom and when.
        by: ReviewCandidate,
        /// Why.
        why: Option<String>,
    },
    /// Somebody decided that what stood stays.
    Dismissed {
        /// Who and when. Of reviews about two documents only [`Reviews::get`] tells it.
        by: Option<ReviewCandidate>,
        /// Why.
        why: Option<String>,
    },
    /// Of a review about two documents: an edit of one of them ended it. Known where the review was
    /// open before; what the documents are now does not tell it.
    Resolved {
        /// What the edit wrote, by whom and when.
        by: ReviewCandidate,
        /// Which of the two it changed.
        document: DocumentId,
    },
}

/// The reviews of a space, or of all spaces of a replica.
#[derive(Debug, Clone)]
pub struct Reviews {
    replica: Replica,
    space: Option<SpaceName>,
}

impl Review {
    /// Whether somebody has to decide.
    pub fn is_open(&self) -> bool {
        self.state == ReviewState::Open
    }
}

impl Reviews {
    pub(crate) fn new(replica: Replica, space: Option<SpaceName>) -> Self {
        Self { replica, space }
    }

    /// All reviews, also decided ones, open ones first, then the newest first. Loads no document but some whose schema
    /// has just changed; where those are many, [`Replica::caught_up`] waits for their reviews.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn list(&self) -> Result<Vec<Review>, EditError> {
        self.replica.refresh_listed().await?;
        let spaces = match &self.space {
            Some(space) => vec![space.clone()],
            None => self.replica.read(ReadView::spaces)?,
        };
        let mut reviews = Vec::new();
        for space in &spaces {
            reviews.extend(self.of_space(space)?);
        }
        let newest = |review: &Review| review.candidates.iter().map(|it| it.time_s).max();
        reviews.sort_by_key(|review| {
            (!review.is_open(), std::cmp::Reverse(newest(review)), review.id)
        });
        Ok(reviews)
    }

    fn of_space(&self, space: &SpaceName) -> Result<Vec<Review>, EditError> {
        let mut rows = self.replica.read(|view| view.reviews(space))?;
        rows.extend(self.replica.read(|view| view.resolved(space))?);
        let mut notes = BTreeMap::new();
        let collection = CollectionName::new(REVIEWS)?;
        self.replica.read(|view| {
            view.each_value(space, &collection, |_, row| {
                let note = serde_json::from_slice(&row.json).unwrap_or_default();
                notes.extend(row.key.filter(|_| !row.deleted).map(|key| (key, note)));
                true
            })
        })?;
        let mut reviews = Vec::with_capacity(rows.len());
        for (id, row) in rows {
            let note = notes.remove(&id.to_string()).unwrap_or_default();
            let held_first = match row.kind {
                ReviewKind::DoubleBooking if row.settled.is_none() => {
                    self.replica.read(|view| held_first(view, &row.documents))?
                }
                _ => None,
            };
            reviews.push(Review { held_first, ..review(space, id, row, &note) });
        }
        Ok(reviews)
    }

    /// Whether an open review says that a document is booked at the time of another.
    pub(crate) fn is_double_booked(&self, document: &DocumentId) -> Result<bool, EditError> {
        let Some(space) = &self.space else { return Ok(false) };
        let collection = CollectionName::new(REVIEWS)?;
        for id in self.replica.read(|view| view.reviews_of(document))? {
            let row = self.replica.read(|view| view.review(space, &id))?;
            if row.is_none_or(|row| row.kind != ReviewKind::DoubleBooking) {
                continue;
            }
            let key = Genesis::first(id.to_string())?;
            let note = DocumentId::derive(space, &collection, &key);
            let note = self.replica.read(|view| view.value(&note))?.filter(|note| !note.deleted);
            let note: Map<String, Value> = match note {
                Some(note) => serde_json::from_slice(&note.json)?,
                None => Map::new(),
            };
            if !note.get(DISMISSED).is_some_and(Value::is_string) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The open reviews, the newest first.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub async fn open(&self) -> Result<Vec<Review>, EditError> {
        let mut reviews = self.list().await?;
        reviews.retain(Review::is_open);
        Ok(reviews)
    }

    /// One review.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub async fn get(&self, id: &ReviewId) -> Result<Option<Review>, EditError> {
        let found = self.list().await?.into_iter().find(|review| review.id == *id);
        let Some(mut review) = found else { return Ok(None) };
        if let ReviewState::Dismissed { by: None, why } = &review.state {
            let (by, why) = (self.dismissed_by(&review).await?, why.clone());
            review.state = ReviewState::Dismissed { by, why };
        }
        Ok(Some(review))
    }

    /// Who noted that a review is dismissed.
    async fn dismissed_by(&self, review: &Review) -> Result<Option<ReviewCandidate>, EditError> {
        let key = Genesis::first(review.id.to_string())?;
        let note = DocumentId::derive(&review.space, &CollectionName::new(REVIEWS)?, &key);
        let blames = self.replica.ask(move |engine, now| engine.blame(now, &note)).await??;
        let is_it = |blame: &Blame| blame.path == Some(Path::from([DISMISSED]));
        let writes = blames.into_iter().find(is_it).map(|blame| blame.writes).unwrap_or_default();
        let written = writes.into_iter().find(|write| write.stands).map(|write| write.write);
        Ok(written.map(|Candidate { change, value, author, time_s, settles }| ReviewCandidate {
            change,
            value,
            author,
            time_s,
            settles,
        }))
    }

    /// Settles a review about a field by an ordinary change that names it, online or offline.
    ///
    /// # Errors
    /// There is no such open review, or no such candidate any more; another role may decide; or it
    /// is about two documents, of which one has to be changed. See [`EditError`].
    pub async fn settle(
        &self,
        id: &ReviewId,
        decision: Decision,
        why: Option<&str>,
    ) -> Result<Edited, EditError> {
        let review = self.get(id).await?.filter(Review::is_open);
        let review = review.ok_or(EditError::NoReview(*id))?;
        self.replica.edit(decide(&review, decision, why)?).await
    }

    /// [`settle`](Self::settle) for many reviews in one commit. The results are in their order; an error
    /// of one leaves the others alone.
    ///
    /// # Errors
    /// The file could not be read, or the replica was closed.
    pub async fn settle_all(
        &self,
        decisions: Vec<(ReviewId, Decision)>,
        why: Option<&str>,
    ) -> Result<Vec<Result<Edited, EditError>>, EditError> {
        let open: BTreeMap<ReviewId, Review> =
            self.open().await?.into_iter().map(|review| (review.id, review)).collect();
        let edit = |(id, decision)| {
            let review = open.get(&id).ok_or(EditError::NoReview(id))?;
            decide(review, decision, why)
        };
        let edits: Vec<Result<Edit, EditError>> = decisions.into_iter().map(edit).collect();
        let written = edits.iter().filter_map(|edit| edit.as_ref().ok()).cloned().collect();
        let mut written = self.replica.edits(written).await?.into_iter();
        let result = |edit: Result<Edit, EditError>| {
            edit.and_then(|_| written.next().unwrap_or(Err(EditError::Closed)))
        };
        Ok(edits.into_iter().map(result).collect())
    }

    /// Gives a review to somebody, with a time by which it is due if there is one.
    ///
    /// # Errors
    /// There is no such review, or see [`EditError`].
    pub async fn assign(
        &self,
        id: &ReviewId,
        assignee: Option<&str>,
        due: Option<&str>,
    ) -> Result<Edited, EditError> {
        let review = self.get(id).await?.ok_or(EditError::NoReview(*id))?;
        self.replica.edit(note(&review, json!({ "assignee": assignee, "due": due }))?).await
    }

    /// Tells whenever a review opens, changes or is settled, and by which document. List them
    /// again then.
    ///
    /// # Errors
    /// The replica was closed.
    pub async fn watch(&self) -> Result<Watcher, EditError> {
        let space = self.space.clone();
        self.replica.ask(move |engine, _| engine.watch_reviews(space)).await
    }
}

/// The edit that decides a review.
fn decide(review: &Review, decision: Decision, why: Option<&str>) -> Result<Edit, EditError> {
    match (review.kind, &decision) {
        (ReviewKind::DoubleBooking | ReviewKind::Duplicate, Decision::Dismiss) => {
            note(review, json!({ DISMISSED: why.unwrap_or("no reason given") }))
        }
        (ReviewKind::DoubleBooking | ReviewKind::Duplicate, _) => Err(EditError::ChangeOne),
        _ => {
            let document = review.documents.first().ok_or(EditError::NoReview(review.id))?.document;
            let why = why.map(str::to_owned);
            Ok(Edit {
                space: review.space.clone(),
                collection: review.collection.clone(),
                target: Target::Document(document),
                create: false,
                author: None,
                content: Content::Decide { review: review.id, decision, why },
            })
        }
    }
}

/// The edit that writes what people note about a review.
fn note(review: &Review, note: Value) -> Result<Edit, EditError> {
    let Value::Object(fields) = note else { return Err(EditError::NotAMap) };
    Ok(Edit {
        space: review.space.clone(),
        collection: CollectionName::new(REVIEWS)?,
        target: Target::Key(review.id.to_string()),
        create: true,
        author: None,
        content: Content::Fields(fields),
    })
}

fn review(space: &SpaceName, id: ReviewId, row: ReviewRow, note: &Map<String, Value>) -> Review {
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
    Review {
        id,
        space: space.clone(),
        kind: row.kind,
        collection: row.collection,
        documents: row.documents,
        field: row.field,
        standing: row.standing.and_then(|json| serde_json::from_slice(&json).ok()),
        candidates: row.candidates.into_iter().map(candidate).collect(),
        state,
        held_first: None,
        assignee: text("assignee"),
        due: text("due"),
    }
}

/// The document that the relay held first. One that is not there yet comes after any that is.
fn held_first(
    view: &ReadView,
    documents: &[ReviewedDocument],
) -> Result<Option<DocumentId>, StoreError> {
    let mut held = Vec::new();
    for named in documents {
        if view.waiting(&named.document)?.is_empty() {
            let Some(position) = view.held(&named.document)? else { return Ok(None) };
            held.push((position, named.document));
        }
    }
    held.sort_unstable();
    let tied = matches!(held[..], [(first, _), (second, _), ..] if first == second);
    Ok(held.first().filter(|_| !tied).map(|(_, document)| *document))
}

fn candidate(row: CandidateRow) -> ReviewCandidate {
    ReviewCandidate {
        change: row.change,
        value: row.value.and_then(|json| serde_json::from_slice(&json).ok()),
        author: row.author,
        time_s: row.time_s,
        settles: row.settles,
    }
}
