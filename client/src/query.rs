//! Lists of documents that fit conditions, in an order, and what changes in them.

use std::marker::PhantomData;

use rejoin_core::schema::Schema;
use rejoin_core::{ChangeHash, DocumentId, Path};
use serde::de::DeserializeOwned;

use crate::collection::Collection;
use crate::replica::Replica;
use rejoin_engine::{
    Condition, Difference, EditError, Found, Live, Plan, Query as Asked, ScanReason, Sort, Watcher,
};

/// A question about a collection: which documents, in which order, and how many, read as values of your
/// own type. Made by [`Collection::query`].
///
/// Conditions and order are about the values that people see, without loading a document. Where the
/// schema has `index = true` for a field that is asked for or sorted by, documents are found without a
/// look at all of them; [`plan`](Self::plan) tells.
///
/// ```
/// # async fn example(jobs: rejoin::Collection) -> Result<(), rejoin::EditError> {
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
    /// Its heads.
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

    /// Sorted by a field, the smallest value first and documents without the field before it. Each further
    /// one sorts what is alike by those before; documents that are alike by all stand in the order of
    /// their ids, which is the same on every device.
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
    pub async fn plan(&self) -> Result<Plan, EditError> {
        let schema = self.ready().await?;
        Ok(self.replica().read(|txn| self.asked.plan(txn, &schema))?)
    }

    /// The documents that fit. By an index, it costs what is found and a seek; otherwise a look at all
    /// stored values of the collection.
    ///
    /// # Errors
    /// The file could not be read, or the value of a document does not fit the type.
    pub async fn get(&self) -> Result<Vec<Item<T>>, EditError> {
        let schema = self.ready().await?;
        let found = self.replica().read(|txn| self.asked.find(txn, &schema))?;
        found.into_iter().map(item).collect()
    }

    /// How many documents fit, however many the [`limit`](Self::limit) is. By the index of the one field
    /// that is asked about, no value is read.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn count(&self) -> Result<u64, EditError> {
        let schema = self.ready().await?;
        Ok(self.replica().read(|txn| self.asked.count(txn, &schema))?)
    }

    /// The documents that fit, and from then on what changes in that list, as it is committed.
    ///
    /// # Errors
    /// The replica was closed, or as [`get`](Self::get).
    pub async fn watch(&self) -> Result<LiveQuery<T>, EditError> {
        // Nothing that is committed after the look goes by unseen.
        let watcher = self.collection.watch().await?;
        let schemas = self.collection.space().schema_document(self.collection.name())?;
        let schema_watcher = schemas.watch().await?;
        let schema = self.ready().await?;
        let asked = self.asked.clone();
        let live = self.replica().read(|txn| Live::begin(asked, txn, &schema))?;
        let first = live.shown().iter().cloned().map(item).collect::<Result<Vec<_>, _>>()?;
        Ok(LiveQuery {
            query: self.clone(),
            watcher,
            schema_watcher,
            schema,
            live,
            first,
            is_due: false,
            is_ruled_anew: false,
        })
    }

    fn replica(&self) -> &Replica {
        self.collection.replica()
    }

    /// Brings up to date what is read, as far as that is soon done, and gives the schema.
    async fn ready(&self) -> Result<Schema, EditError> {
        self.replica().refresh_listed().await?;
        let schema = self.collection.space().schema(self.collection.name()).await?;
        let schema = schema.unwrap_or_default();
        let plan = self.replica().read(|txn| self.asked.plan(txn, &schema))?;
        if plan == Plan::Scan(ScanReason::NotWhole) {
            let (space, collection) = (self.asked.space.clone(), self.asked.collection.clone());
            self.replica().ask(move |engine, _| engine.index_anew(&space, &collection)).await??;
        }
        Ok(schema)
    }
}

/// A [`Query`] that follows what changes. Made by [`Query::watch`].
#[derive(Debug)]
pub struct LiveQuery<T> {
    query: Query<T>,
    watcher: Watcher,
    schema_watcher: Watcher,
    schema: Schema,
    live: Live,
    first: Vec<Item<T>>,
    /// Something changed that was not looked at yet.
    is_due: bool,
    /// The schema may be another.
    is_ruled_anew: bool,
}

impl<T: DeserializeOwned> LiveQuery<T> {
    /// The documents as they were when the query began to be watched, once: the list that the first
    /// differences are told of. Empty when they were taken already.
    pub fn first(&mut self) -> Vec<Item<T>> {
        std::mem::take(&mut self.first)
    }

    /// Waits until the list is another, and tells what makes of it the list as it is: differences to
    /// [`carry_out`](Difference::carry_out) in order. `None` once the replica was closed. It may be
    /// dropped while it waits, and nothing is lost by that.
    ///
    /// # Errors
    /// The file could not be read, or the value of a document does not fit the type.
    pub async fn next(&mut self) -> Result<Option<Vec<Difference<Item<T>>>>, EditError> {
        loop {
            if !self.is_due {
                let (event, is_schema) = tokio::select! {
                    event = self.watcher.next() => (event, false),
                    event = self.schema_watcher.next() => (event, true),
                };
                if event.is_none() {
                    return Ok(None);
                }
                (self.is_due, self.is_ruled_anew) = (true, self.is_ruled_anew | is_schema);
            }
            // What changed together is looked at together.
            while self.watcher.try_next().is_some() {}
            if self.is_ruled_anew {
                self.schema = self.query.ready().await?;
                self.is_ruled_anew = false;
            } else {
                self.query.replica().refresh_listed().await?;
            }
            let (live, schema) = (&mut self.live, &self.schema);
            let differences = self.query.replica().read(|txn| live.look(txn, schema))?;
            self.is_due = false;
            if !differences.is_empty() {
                let differences = differences.into_iter().map(|it| it.try_map(item));
                return differences.collect::<Result<Vec<_>, _>>().map(Some);
            }
        }
    }
}

fn item<T: DeserializeOwned>(found: Found) -> Result<Item<T>, EditError> {
    let Found { document, row, .. } = found;
    let value = serde_json::from_slice(&row.json)?;
    Ok(Item { document, key: row.key, heads: row.heads, value })
}
