//! Reviews: questions that only a person can decide. They are the same on every replica that has
//! the same documents.

use std::collections::BTreeMap;

use rejoin_core::lineage::Blame;
use rejoin_core::{Path, ReviewId, SpaceName};
use rejoin_engine::reserved::DISMISSED;
use rejoin_engine::store::ReadTxn;
use rejoin_engine::{Edit, EditError, ReadError, SettleError, Watcher};

use crate::replica::Replica;
use crate::saved::Edited;
pub use rejoin_core::lineage::{Candidate, Question};
pub use rejoin_engine::reserved::REVIEWS;
pub use rejoin_engine::store::{ReviewKind, ReviewedDocument};
pub use rejoin_engine::{Decision, Review, ReviewState};

/// The reviews of a space, or of all spaces of a replica.
#[derive(Debug, Clone)]
pub struct Reviews {
    replica: Replica,
    space: Option<SpaceName>,
}

impl Reviews {
    pub(crate) fn new(replica: Replica, space: Option<SpaceName>) -> Self {
        Self { replica, space }
    }

    /// All reviews, also decided ones, open ones first, then the newest first. Loads no document
    /// but some whose schema has just changed; where those are many, [`Replica::caught_up`] waits
    /// for their reviews.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn list(&self) -> Result<Vec<Review>, ReadError> {
        self.replica.refresh_listed().await?;
        let mut reviews = Vec::new();
        for space in self.spaces()? {
            reviews.extend(self.replica.read(|txn| Review::all(txn, &space))?);
        }
        let newest = |review: &Review| review.candidates.iter().map(|it| it.time_s).max();
        reviews.sort_by_key(|review| {
            (!review.is_open(), std::cmp::Reverse(newest(review)), review.id)
        });
        Ok(reviews)
    }

    fn spaces(&self) -> Result<Vec<SpaceName>, ReadError> {
        match &self.space {
            Some(space) => Ok(vec![space.clone()]),
            None => Ok(self.replica.read(ReadTxn::spaces)?),
        }
    }

    /// The open reviews, the newest first.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub async fn open(&self) -> Result<Vec<Review>, ReadError> {
        let mut reviews = self.list().await?;
        reviews.retain(Review::is_open);
        Ok(reviews)
    }

    /// One review.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub async fn get(&self, id: &ReviewId) -> Result<Option<Review>, ReadError> {
        self.replica.refresh_listed().await?;
        let mut found = None;
        for space in self.spaces()? {
            found = found.or(self.replica.read(|txn| Review::one(txn, &space, id))?);
        }
        let Some(mut review) = found else { return Ok(None) };
        if let ReviewState::Dismissed { by: None, why } = &review.state {
            let (by, why) = (self.dismissed_by(&review).await?, why.clone());
            review.state = ReviewState::Dismissed { by, why };
        }
        Ok(Some(review))
    }

    /// The note that dismissed a review, with its author.
    async fn dismissed_by(&self, review: &Review) -> Result<Option<Candidate>, ReadError> {
        let note = self.replica.read(|txn| review.note_document(txn))?;
        let blames = self.replica.ask(move |engine, now| engine.blame(now, &note)).await??;
        let is_it = |blame: &Blame| blame.path == Some(Path::from([DISMISSED]));
        let writes = blames.into_iter().find(is_it).map(|blame| blame.writes).unwrap_or_default();
        let written = writes.into_iter().find(|write| write.stands).map(|write| write.write);
        Ok(written)
    }

    /// Settles a review about a field by an ordinary change that names it, online or offline.
    ///
    /// # Errors
    /// There is no such open review, or no such candidate any more; another role may decide; or it
    /// is about two documents, of which one has to be changed. See [`SettleError`].
    pub async fn settle(
        &self,
        id: &ReviewId,
        decision: Decision,
        why: Option<&str>,
    ) -> Result<Edited, SettleError> {
        let review = self.get(id).await?.filter(Review::is_open);
        let review = review.ok_or(SettleError::NoReview(*id))?;
        Ok(self.replica.edit(review.decide(decision, why)?).await?)
    }

    /// [`settle`](Self::settle) for many reviews in one commit. The results are in their order; an
    /// error of one leaves the others alone.
    ///
    /// # Errors
    /// The file could not be read, or the replica was closed.
    pub async fn settle_all(
        &self,
        decisions: Vec<(ReviewId, Decision)>,
        why: Option<&str>,
    ) -> Result<Vec<Result<Edited, SettleError>>, SettleError> {
        let open: BTreeMap<ReviewId, Review> =
            self.open().await?.into_iter().map(|review| (review.id, review)).collect();
        let edit = |(id, decision)| {
            let review = open.get(&id).ok_or(SettleError::NoReview(id))?;
            review.decide(decision, why)
        };
        let edits: Vec<Result<Edit, SettleError>> = decisions.into_iter().map(edit).collect();
        let written = edits.iter().filter_map(|edit| edit.as_ref().ok()).cloned().collect();
        let mut edited = self.replica.edits(written).await?.into_iter();
        let result = |edit: Result<Edit, SettleError>| {
            edit.and_then(|_| {
                let edited = edited.next().unwrap_or(Err(EditError::Closed));
                edited.map_err(SettleError::from)
            })
        };
        Ok(edits.into_iter().map(result).collect())
    }

    /// Gives a review to somebody, with a time by which it is due if there is one.
    ///
    /// # Errors
    /// There is no such review, or see [`SettleError`].
    pub async fn assign(
        &self,
        id: &ReviewId,
        assignee: Option<&str>,
        due: Option<&str>,
    ) -> Result<Edited, SettleError> {
        let review = self.get(id).await?.ok_or(SettleError::NoReview(*id))?;
        Ok(self.replica.edit(review.assign(assignee, due)?).await?)
    }

    /// Tells whenever a review opens, changes or is settled, and by which document. List them
    /// again then.
    ///
    /// # Errors
    /// The replica was closed.
    pub async fn watch(&self) -> Result<Watcher, ReadError> {
        let space = self.space.clone();
        Ok(self.replica.ask(move |engine, _| engine.watch_reviews(space)).await?)
    }
}
