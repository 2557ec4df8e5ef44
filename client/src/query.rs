//! Lists of documents that fit conditions, in an order, and what changes in them.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use rejoin_core::{ChangeHash, DocumentId, Path};
use serde::de::DeserializeOwned;

use crate::collection::Collection;
use crate::replica::Replica;
pub use rejoin_engine::{Condition, Difference, Plan, ScanReason};
use rejoin_engine::{Found, Live, Query as Asked, ReadError, Sort, WatchEvent, Watcher};

/// A question about a collection: which documents, in which order, and how many, read as values of your
/// own type. Made by [`Collection::query`].
///
/// Conditions and order are about the values that people see, without loading a document. Where the
/// schema has `index = true` for a field that is asked for or sorted by, documents are found without a
/// look at all of them; [`plan`](Self::plan) tells. `index_then = ["starts_at"]` for the technician finds the
/// jobs of one technician in the order of their time, so that a page costs the same among a thousand and
/// among a million.
///
/// ```
/// # async fn example(jobs: rejoin::Collection) -> Result<(), rejoin::ReadError> {
/// #[derive(serde::Deserialize)]
/// struct Job { technician: String, starts_at: String }
///
/// let day = "2026-05-04T00:00:00Z".."2026-05-05T00:00:00Z";
/// let query = jobs.query::<Job>().filter("technician", "ana").filter("starts_at", day);
/// for job in query.sort("starts_at").limit(50).get().await? {
///     println!("{} {}", job.value.starts_at, job.key.unwrap_or_default());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Query<T> {
    collection: Collection,
    asked: Asked,
    of: PhantomData<fn() -> T>,
}

/// A document as a query finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<T> {
    /// Which document.
    pub document: DocumentId,
    /// Its natural key, if it has one.
    pub key: Option<String>,
    /// Its heads: the changes that it ends with, which are its version. [`Document::apply_at`],
    /// [`Document::value_at`] and [`Document::restore`] take them.
    ///
    /// [`Document::apply_at`]: crate::Document::apply_at
    /// [`Document::value_at`]: crate::Document::value_at
    /// [`Document::restore`]: crate::Document::restore
    pub heads: Vec<ChangeHash>,
    /// Its value.
    pub value: T,
}

impl<T> Clone for Query<T> {
    fn clone(&self) -> Self {
        let (collection, asked) = (self.collection.clone(), self.asked.clone());
        Self { collection, asked, of: PhantomData }
    }
}

impl<T: DeserializeOwned> Query<T> {
    pub(crate) fn new(collection: Collection) -> Self {
        let asked = Asked::new(collection.space().name().clone(), collection.name().clone());
        Self { collection, asked, of: PhantomData }
    }

    /// Only documents of whose field this holds: a value that it is, or a range that it is in. Points in
    /// time compare as such however they are written, where the schema says that the field is one.
    /// [`Condition`] says the rest.
    #[must_use]
    pub fn filter(mut self, field: impl Into<Path>, condition: impl Into<Condition>) -> Self {
        self.asked.filters.push((field.into(), condition.into()));
        self
    }

    /// Sorted by a field, the smallest value first and documents without the field before it. Texts stand by
    /// their bytes, capitals before small letters, as far as their first 256 bytes tell; keep a folded field
    /// for people. Each further
    /// one sorts what is alike by those before; documents that are alike by all stand in the order of
    /// their ids, from the last where the first field falls. That is the same on every device.
    #[must_use]
    pub fn sort(self, field: impl Into<Path>) -> Self {
        self.sorted(field.into(), false)
    }

    /// Sorted by a field, the largest value first.
    #[must_use]
    pub fn sort_falling(self, field: impl Into<Path>) -> Self {
        self.sorted(field.into(), true)
    }

    fn sorted(mut self, field: Path, is_falling: bool) -> Self {
        self.asked.sort.push(Sort { field, is_falling });
        self
    }

    /// The first so many only.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.asked.limit = Some(limit);
        self
    }

    /// How the query is answered now: by which index, or why by a look at all documents.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn plan(&self) -> Result<Plan, ReadError> {
        self.replica().refresh_listed().await?;
        Ok(self.replica().read(|txn| self.asked.plan(txn))?)
    }

    /// The documents that fit. By an index, it costs what is found and a seek; otherwise a look at all
    /// stored values of the collection.
    ///
    /// # Errors
    /// The file could not be read, or the value of a document does not fit the type.
    pub async fn get(&self) -> Result<Vec<Item<T>>, ReadError> {
        self.replica().refresh_listed().await?;
        let found = self.replica().read(|txn| self.asked.find(txn))?;
        found.iter().map(item).collect()
    }

    /// How many documents fit, however many the [`limit`](Self::limit) is. By the index of the one field
    /// that is asked about, no value is read.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn count(&self) -> Result<u64, ReadError> {
        self.replica().refresh_listed().await?;
        Ok(self.replica().read(|txn| self.asked.count(txn))?)
    }

    /// The documents that fit, and from then on what changes in that list, as it is committed. A change
    /// costs a look at the document that changed; where one leaves a list that has a limit, it costs as much
    /// as [`get`](Self::get).
    ///
    /// # Errors
    /// The replica was closed, or as [`get`](Self::get).
    pub async fn watch(&self) -> Result<LiveQuery<T>, ReadError> {
        // Nothing that is committed after the look goes by unseen.
        let watcher = self.collection.watch().await?;
        let schemas = self.collection.space().schema_document(self.collection.name())?;
        let schema_watcher = schemas.watch().await?;
        self.replica().refresh_listed().await?;
        let asked = self.asked.clone();
        let live = self.replica().read(|txn| Live::begin(asked, txn))?;
        let first = live.told().iter().map(|it| item(it)).collect::<Result<Vec<_>, _>>()?;
        let (query, due) = (self.clone(), Due::default());
        Ok(LiveQuery { query, watcher, schema_watcher, live, first, due })
    }

    fn replica(&self) -> &Replica {
        self.collection.replica()
    }
}

/// A [`Query`] that follows what changes. Made by [`Query::watch`].
#[derive(Debug)]
pub struct LiveQuery<T> {
    query: Query<T>,
    watcher: Watcher,
    schema_watcher: Watcher,
    live: Live,
    first: Vec<Item<T>>,
    due: Due,
}

/// What changed and was not looked at yet.
#[derive(Debug, Default)]
struct Due {
    documents: BTreeSet<DocumentId>,
    /// More documents than are known, or by which rules.
    all: bool,
}

impl Due {
    fn note(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Changed(change) => _ = self.documents.insert(change.document),
            WatchEvent::ReadAgain => self.all = true,
            WatchEvent::Presence(_) => {}
        }
    }

    fn is_none(&self) -> bool {
        self.documents.is_empty() && !self.all
    }
}

impl<T: DeserializeOwned> LiveQuery<T> {
    /// The documents as they were when the query began to be watched, once: the list that the first
    /// differences are told of. Empty when they were taken already.
    pub fn first(&mut self) -> Vec<Item<T>> {
        std::mem::take(&mut self.first)
    }

    /// Waits until a document of the list was written or the list is another, and tells what makes of it
    /// the list as it is: differences to [`carry_out`](Difference::carry_out) in order. What several
    /// commits changed meanwhile comes as one answer, and an edit that changes nothing in the list comes as
    /// none. `None` once the replica was closed. It may be
    /// dropped while it waits, and nothing is lost by that, nor by an error: the next call tells of it.
    ///
    /// # Errors
    /// The file could not be read, or the value of a document does not fit the type. One such document
    /// fails the whole list for as long as it is in it: use a type with `#[serde(default)]`, or ask for
    /// `serde_json::Value`, where others may write what they like.
    pub async fn next(&mut self) -> Result<Option<Vec<Difference<Item<T>>>>, ReadError> {
        loop {
            while self.due.is_none() {
                let event = tokio::select! {
                    event = self.watcher.next() => event,
                    event = self.schema_watcher.next() => {
                        self.due.all |= event.is_some();
                        event
                    }
                };
                match event {
                    None => return Ok(None),
                    Some(event) => self.due.note(event),
                }
            }
            // What changed together is looked at together.
            while let Some(event) = self.watcher.try_next() {
                self.due.note(event);
            }
            let replica = self.query.replica().clone();
            replica.refresh_listed().await?;
            let is_behind = |id: &DocumentId| replica.read(|txn| txn.is_stale(id));
            if self
                .due
                .documents
                .iter()
                .map(is_behind)
                .collect::<Result<Vec<_>, _>>()?
                .contains(&true)
            {
                // Nobody tells of it again when its value is written.
                replica.caught_up().await?;
            }
            let (live, due) = (&self.live, &self.due);
            let look = replica.read(|txn| match due.all {
                true => live.look(txn),
                false => live.follow(txn, &due.documents),
            })?;
            let told = look.differences.iter().cloned();
            let told =
                told.map(|it| it.try_map(|found| item(&found))).collect::<Result<Vec<_>, _>>()?;
            self.live.accept(look);
            self.due = Due::default();
            if !told.is_empty() {
                return Ok(Some(told));
            }
        }
    }
}

fn item<T: DeserializeOwned>(found: &Found) -> Result<Item<T>, ReadError> {
    let Found { document, row, .. } = found;
    let value = serde_json::from_slice(&row.json)
        .map_err(|source| ReadError::Type { document: *document, source })?;
    Ok(Item { document: *document, key: row.key.clone(), heads: row.heads.clone(), value })
}
