//! Whether a relay holds the edits of this replica, and which of them it will never take.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;

use rejoin_core::{ChangeHash, CollectionName, DocumentId, SpaceName};
use thiserror::Error;

use crate::document::Document;
use crate::replica::Replica;
use rejoin_engine::store::{ReadTxn, SetAsideRow, StoreError};
use rejoin_engine::{EditError, EditOutcome};

/// The result of an edit, as [`EditOutcome`] tells, and whether a relay holds it.
///
/// It is a handle to the replica, too, which stays open as long as there is one.
#[derive(Debug, Clone)]
pub struct Edited<R = ()> {
    /// The value that the closure of the edit returned.
    pub returned: R,
    replica: Replica,
    edited: EditOutcome,
}

impl Edited {
    pub(crate) fn new(replica: Replica, edited: EditOutcome) -> Self {
        Self { returned: (), replica, edited }
    }

    pub(crate) fn with<R>(self, returned: R) -> Edited<R> {
        Edited { returned, replica: self.replica, edited: self.edited }
    }
}

impl<R> Edited<R> {
    /// Waits until a relay holds this edit durably, through all interruptions of the connection. An
    /// edit that changed nothing is saved at once. An edit that was made anew, because another
    /// change had its place, is saved when the change that took its place is.
    ///
    /// # Errors
    /// The relay will never take a part of it: the error names that part and the reason,
    /// and all else of the edit is saved. Later calls give the same answer. Or see [`SaveError`].
    pub async fn saved(&self) -> Result<(), SaveError> {
        let Some(key) = self.outbox else { return Ok(()) };
        let (document, changes) = (self.document, &self.changes);
        loop {
            let first = self.replica.first_answer_after(|view| Ok(!view.waits(key)?));
            first.await?;
            let (id, asked, answers) = (document, changes.clone(), self.replica.status().answers);
            let refused = self.replica.ask(move |engine, now| engine.refused(now, &id, &asked));
            match refused.await {
                Ok(Ok(Some(refused))) => return answer(refused),
                // The rest of it waits under another key, or the file is being opened again.
                Ok(Ok(None) | Err(StoreError::Reopening)) => {}
                Ok(Err(error)) => return Err(SaveError::Store(error)),
                Err(_) => return Err(SaveError::Closed),
            }
            self.replica.next_answer(answers).await?;
        }
    }
}

impl<R> Deref for Edited<R> {
    type Target = EditOutcome;

    fn deref(&self) -> &EditOutcome {
        &self.edited
    }
}

impl<R> From<Edited<R>> for EditOutcome {
    fn from(edited: Edited<R>) -> Self {
        edited.edited
    }
}

impl Replica {
    /// Waits until no edit that was made here before the call waits for a relay any more, through
    /// all interruptions of the connection, and tells whether the relay holds all of them durably.
    /// An edit that was made anew, because another change had its place, counts when the relay
    /// holds the change that took its place.
    ///
    /// # Errors
    /// A relay will never take some of them, whether it said so just now or long before
    /// the call: the error names those, and all others are saved. Every call tells it again until
    /// somebody [acknowledges](Self::acknowledge) it; [`Edited::saved`] answers for one edit alone.
    /// Or see [`SaveError`].
    pub async fn saved(&self) -> Result<(), SaveError> {
        self.saved_of(None).await
    }

    /// [`saved`](Self::saved) of one document, or of all.
    async fn saved_of(&self, document: Option<DocumentId>) -> Result<(), SaveError> {
        loop {
            let marks = |view: &ReadTxn| Ok((view.outbox_next()?, view.set_aside_len()?));
            let (next, aside) = self.first_answer(|view| marks(view).map(Some)).await?;
            self.first_answer_after(|view| match &document {
                Some(id) => Ok(view.waiting(id)?.first().is_none_or(|key| *key >= next)),
                None => Ok(view.outbox(0, 1)?.first().is_none_or(|(key, _)| *key >= next)),
            })
            .await?;
            // Edits that are made anew, or kept of a document of which something is set aside, wait
            // under keys that came later.
            let refused = self
                .first_answer(|view| match view.set_aside_len()? == aside {
                    true => Ok(Some(Some(view.set_aside()?))),
                    false => Ok(Some(None)),
                })
                .await?;
            let Some(refused) = refused else { continue };
            let of_it = |row: &SetAsideRow| document.is_none_or(|id| row.document == id);
            let refused = refused.into_iter().map(|(_, row)| row);
            return answer(refused.filter(|row| row.is_open() && of_it(row)).collect());
        }
    }

    /// Local work that a relay will never take, oldest first. The file keeps it.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn set_aside(&self) -> Result<Vec<SetAside>, StoreError> {
        Ok(SetAside::of(self.read(ReadTxn::set_aside)?.into_iter().map(|(_, row)| row)))
    }

    /// Notes that somebody knows of this work, so that [`saved`](Self::saved) answers for it no
    /// more.
    ///
    /// # Errors
    /// The file could not be written, or the replica was closed.
    pub async fn acknowledge(&self, known: &[SetAside]) -> Result<(), EditError> {
        let changes: BTreeSet<_> = known.iter().flat_map(|it| it.changes.iter().copied()).collect();
        Ok(self.ask(move |engine, _| engine.acknowledge(&changes)).await??)
    }

    async fn first_answer_after(
        &self,
        mut met: impl FnMut(&ReadTxn) -> Result<bool, StoreError>,
    ) -> Result<(), SaveError> {
        self.first_answer(|view| Ok(met(view)?.then_some(()))).await
    }

    /// Looks into the file whenever something was heard of edits, until there is an answer.
    async fn first_answer<T>(
        &self,
        mut look: impl FnMut(&ReadTxn) -> Result<Option<T>, StoreError>,
    ) -> Result<T, SaveError> {
        loop {
            // Taken before the look, so that an answer that comes meanwhile makes another look.
            let answers = self.status().answers;
            match self.read(&mut look) {
                Ok(Some(answer)) => return Ok(answer),
                // It is opened again in a moment, or it is closed for good, which ends the wait.
                Ok(None) | Err(StoreError::Reopening) => {}
                Err(error) => return Err(SaveError::Store(error)),
            }
            self.next_answer(answers).await?;
        }
    }

    /// Waits until more was heard of edits than this.
    async fn next_answer(&self, answers: u64) -> Result<(), SaveError> {
        let heard = self.status_when(|status| status.answers != answers).await;
        heard.map(drop).map_err(|_| SaveError::Closed)
    }
}

impl Document {
    /// Waits until no edit that was made in this document before the call waits for a relay any
    /// more, and tells whether the relay holds all of them durably; otherwise as
    /// [`Replica::saved`].
    ///
    /// # Errors
    /// As [`Replica::saved`], of this document.
    pub async fn saved(&self) -> Result<(), SaveError> {
        self.replica().saved_of(Some(self.id())).await
    }
}

/// Work that was set aside: changes of one document that were refused together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// The space of the document.
    pub space: SpaceName,
    /// Its collection.
    pub collection: CollectionName,
    /// The document.
    pub document: DocumentId,
    /// Its natural key, if it has one.
    pub key: Option<String>,
    /// The top-level fields that were written.
    pub fields: BTreeSet<String>,
    /// The changes.
    pub changes: Vec<ChangeHash>,
    /// The reason why the relay will never take them, with advice, in its words.
    pub reason: String,
    /// The time at which it was set aside, in seconds since 1970 by the device's clock.
    pub time_s: i64,
    /// Whether the same was written anew under a fresh actor, so that nothing is lost.
    pub made_anew: bool,
    /// Whether somebody [said](Replica::acknowledge) that they know.
    pub acknowledged: bool,
}

impl SetAside {
    /// Whether the work is lost to others and nobody has acknowledged it.
    pub fn is_open(&self) -> bool {
        !self.made_anew && !self.acknowledged
    }

    fn of(rows: impl IntoIterator<Item = SetAsideRow>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for row in rows {
            let together = all.last_mut().filter(|last| {
                (last.document, last.time_s) == (row.document, row.time_s)
                    && last.reason == row.reason
                    && last.made_anew == row.authored_anew
                    && last.acknowledged == row.acknowledged
            });
            match together {
                Some(last) => {
                    last.fields.extend(row.fields);
                    last.changes.push(row.hash);
                }
                None => all.push(Self {
                    space: row.space,
                    collection: row.collection,
                    document: row.document,
                    key: row.key,
                    fields: row.fields.into_iter().collect(),
                    changes: vec![row.hash],
                    reason: row.reason,
                    time_s: row.time_s,
                    made_anew: row.authored_anew,
                    acknowledged: row.acknowledged,
                }),
            }
        }
        all
    }
}

/// `jobs 2026-118 (notes, phone): why`.
impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{} {key}", self.collection)?,
            None => write!(f, "{} {}", self.collection, self.document)?,
        }
        if !self.fields.is_empty() {
            let fields: Vec<_> = self.fields.iter().map(String::as_str).collect();
            write!(f, " ({})", fields.join(", "))?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Edits of which nobody can say that a relay holds them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SaveError {
    /// A relay will never take some of them. All else that was asked about it holds.
    #[error(
        "the relay refused for good: {}; this device keeps it aside, make it again as the reason says",
        named(.0)
    )]
    SetAside(Vec<SetAside>),
    /// The replica was closed.
    #[error(
        "the replica was closed; the edits are on this device and will be sent when it is open"
    )]
    Closed,
    /// The file could not be read.
    #[error(transparent)]
    Store(StoreError),
}

fn answer(refused: Vec<SetAsideRow>) -> Result<(), SaveError> {
    match refused.is_empty() {
        true => Ok(()),
        false => Err(SaveError::SetAside(SetAside::of(refused))),
    }
}

/// The first of them, and how many there are.
fn named(refused: &[SetAside]) -> String {
    let mut named: Vec<_> = refused.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    if let Some(more) = refused.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        named.push(format!("and {more} more"));
    }
    named.join("; ")
}

/// Refusals that an error names. It holds them all.
const NAMED_MAX: usize = 5;
