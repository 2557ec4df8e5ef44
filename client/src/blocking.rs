//! The client without `async`: the same handles, for threads outside an async runtime.
//!
//! ```
//! # use rejoin::blocking::Replica;
//! # use serde_json::json;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("desk.redb");
//! let replica = Replica::open(&path)?;
//! let jobs = replica.space("main")?.collection("jobs")?;
//! let job = jobs.create("2026-118", &json!({ "phone": "555-0100" }))?;
//! job.append("notes", "Called at 4:10. ")?;
//! assert_eq!(jobs.list()?.len(), 1);
//! replica.close();
//! # Ok(())
//! # }
//! ```

mod query;

use std::collections::BTreeSet;
use std::ops::Deref;

use futures_executor::block_on;
use rejoin_core::{
    ChangeHash, CollectionName, DocumentId, NameError, PeerId, SetDigest, SpaceName,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::booking::{Booked, Booking};
use crate::document::edit_value;
use crate::history::{Blame, Candidate};
use crate::import::{Row, RowKey};
use crate::schema::{Schema, SchemaError, Schemas};
use crate::sync::{Counters, DeviceId, EngineOptions, SetAside, Unsent};
use crate::undo::Batch;
use crate::view::{Listed, Misfit, Unfit, View};
use crate::{
    ConnectError, Decision, Entry, Identity, Op, OpenError, Path, Relay, ReplicaFile, Review,
    ReviewId, SaveError, Status, WatchEvent,
};
pub use query::{LiveQuery, Query};
use rejoin_engine::store::StoreError;
use rejoin_engine::{
    EditError, EditOutcome, Foreseen, HistoryEntry, ReadError, SettleError, SignOutError,
    UndoError, Undone, Way,
};

/// [`crate::Replica`], blocking.
#[derive(Debug, Clone)]
pub struct Replica(crate::Replica);

/// [`crate::Space`], blocking.
#[derive(Debug, Clone)]
pub struct Space(crate::Space);

/// [`crate::Collection`], blocking.
#[derive(Debug, Clone)]
pub struct Collection(crate::Collection);

/// [`crate::Document`], blocking.
#[derive(Debug, Clone)]
pub struct Document(crate::Document);

/// [`crate::Reviews`], blocking.
#[derive(Debug, Clone)]
pub struct Reviews(crate::Reviews);

/// [`crate::Edited`], blocking.
#[derive(Debug, Clone)]
pub struct Edited<R = ()>(crate::Edited<R>);

impl<R> Edited<R> {
    /// The value that the closure of the edit returned.
    pub fn returned(self) -> R {
        self.0.returned
    }

    /// As [`crate::Edited::saved`].
    ///
    /// # Errors
    /// As there.
    pub fn saved(&self) -> Result<(), SaveError> {
        block_on(self.0.saved())
    }
}

impl<R> Deref for Edited<R> {
    type Target = EditOutcome;

    fn deref(&self) -> &EditOutcome {
        &self.0
    }
}

/// [`crate::Watcher`], blocking: an iterator that waits for each change, and ends when the replica
/// is closed.
#[derive(Debug)]
pub struct Watcher(crate::Watcher);

impl Watcher {
    /// As [`crate::Watcher::try_next`].
    pub fn try_next(&mut self) -> Option<WatchEvent> {
        self.0.try_next()
    }
}

impl Iterator for Watcher {
    type Item = WatchEvent;

    fn next(&mut self) -> Option<WatchEvent> {
        block_on(self.0.next())
    }
}

/// Forwards methods to the async handle and waits for each.
macro_rules! blocking {
    ($(fn $name:ident $(<$generic:ident: $bound:path>)? (&self $(, $arg:ident: $type:ty)*) -> $returned:ty;)*) => {
        $(
            #[doc = concat!("As the async `", stringify!($name), "`.")]
            ///
            /// # Errors
            /// As there.
            pub fn $name $(<$generic: $bound>)? (&self $(, $arg: $type)*) -> $returned {
                block_on(self.0.$name($($arg),*))
            }
        )*
    };
}

/// The same for methods that edit.
macro_rules! editing {
    ($(fn $name:ident $(<$generic:ident: $bound:path>)? (&self $(, $arg:ident: $type:ty)*) -> Result<Edited, $error:ty>;)*) => {
        $(
            #[doc = concat!("As the async `", stringify!($name), "`.")]
            ///
            /// # Errors
            /// As there.
            pub fn $name $(<$generic: $bound>)? (&self $(, $arg: $type)*) -> Result<Edited, $error> {
                block_on(self.0.$name($($arg),*)).map(Edited)
            }
        )*
    };
}

impl Replica {
    /// As [`crate::Replica::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(file: impl Into<ReplicaFile>) -> Result<Self, OpenError> {
        block_on(crate::Replica::open(file)).map(Self)
    }

    /// As [`crate::Replica::open_with`].
    ///
    /// # Errors
    /// As there.
    pub fn open_with(
        file: impl Into<ReplicaFile>,
        options: EngineOptions,
    ) -> Result<Self, OpenError> {
        block_on(crate::Replica::open_with(file, options)).map(Self)
    }

    /// As [`crate::Replica::device`].
    pub fn device(&self) -> DeviceId {
        self.0.device()
    }

    /// As [`crate::Replica::key_of`].
    ///
    /// # Errors
    /// As there.
    pub fn key_of(&self, document: &DocumentId) -> Result<Option<String>, StoreError> {
        self.0.key_of(document)
    }

    /// As [`crate::Replica::as_one_step`].
    #[must_use]
    pub fn as_one_step(&self) -> Self {
        Self(self.0.as_one_step())
    }

    /// As [`crate::Replica::batch`]. The batch takes the async handles: see
    /// [`Document::as_async`] and [`Collection::as_async`].
    ///
    /// # Errors
    /// As there.
    pub fn batch<T: Send + 'static>(
        &self,
        edits: impl FnOnce(&mut Batch<'_, '_>) -> Result<T, EditError> + Send + 'static,
    ) -> Result<T, EditError> {
        block_on(self.0.batch(edits))
    }

    /// As [`crate::Replica::space`].
    ///
    /// # Errors
    /// As there.
    pub fn space(&self, name: &str) -> Result<Space, NameError> {
        self.0.space(name).map(Space)
    }

    /// As [`crate::Replica::connect`].
    ///
    /// # Errors
    /// As there.
    pub fn connect(&self, relay: impl Into<Relay>, spaces: &[&Space]) -> Result<(), ConnectError> {
        let spaces: Vec<_> = spaces.iter().map(|space| &space.0).collect();
        block_on(self.0.connect(relay, &spaces))
    }

    /// As [`crate::Replica::reviews`].
    pub fn reviews(&self) -> Reviews {
        Reviews(self.0.reviews())
    }

    /// As [`crate::Replica::status`].
    pub fn status(&self) -> Status {
        self.0.status()
    }

    /// As [`crate::Replica::status_when`].
    ///
    /// # Errors
    /// As there.
    pub fn status_when(&self, met: impl FnMut(&Status) -> bool) -> Result<Status, ReadError> {
        block_on(self.0.status_when(met))
    }

    /// As [`crate::Replica::identity`].
    ///
    /// # Errors
    /// As there.
    pub fn identity(&self) -> Result<Option<Identity>, StoreError> {
        self.0.identity()
    }

    /// As [`crate::Replica::signed_in`].
    ///
    /// # Errors
    /// As there.
    pub fn signed_in(&self) -> Result<Option<String>, StoreError> {
        self.0.signed_in()
    }

    /// As [`crate::Replica::acting_as`].
    #[must_use]
    pub fn acting_as(&self, author: Identity) -> Self {
        Self(self.0.acting_as(author))
    }

    /// The async handle to the same replica.
    pub fn as_async(&self) -> &crate::Replica {
        &self.0
    }

    /// As [`crate::Replica::unsent`].
    ///
    /// # Errors
    /// As there.
    pub fn unsent(&self) -> Result<Vec<Unsent>, StoreError> {
        self.0.unsent()
    }

    /// As [`crate::Replica::set_aside`].
    ///
    /// # Errors
    /// As there.
    pub fn set_aside(&self) -> Result<Vec<SetAside>, StoreError> {
        self.0.set_aside()
    }

    blocking! {
        fn acknowledge(&self, known: &[SetAside]) -> Result<(), EditError>;
        fn act_as(&self, identity: Option<Identity>) -> Result<(), EditError>;
        fn undo(&self) -> Result<Undone, UndoError>;
        fn redo(&self) -> Result<Undone, UndoError>;
        fn preview_undo(&self, way: Way) -> Result<Undone, UndoError>;
        fn disconnect(&self) -> ();
        fn sign_out(&self, discard: bool) -> Result<(), SignOutError>;
        fn caught_up(&self) -> Result<(), ReadError>;
        fn saved(&self) -> Result<(), SaveError>;
        fn counters(&self) -> Result<Counters, ReadError>;
        fn documents_in_memory(&self) -> Result<usize, ReadError>;
        fn close(&self) -> ();
    }
}

impl Space {
    /// As [`crate::Space::replica`].
    pub fn replica(&self) -> Replica {
        Replica(self.0.replica().clone())
    }

    /// As [`crate::Space::name`].
    pub fn name(&self) -> &SpaceName {
        self.0.name()
    }

    /// As [`crate::Space::collection`].
    ///
    /// # Errors
    /// As there.
    pub fn collection(&self, name: &str) -> Result<Collection, NameError> {
        self.0.collection(name).map(Collection)
    }

    /// As [`crate::Space::reviews`].
    pub fn reviews(&self) -> Reviews {
        Reviews(self.0.reviews())
    }

    /// As [`crate::Space::collections`].
    ///
    /// # Errors
    /// As there.
    pub fn collections(&self) -> Result<Vec<(CollectionName, u64)>, StoreError> {
        self.0.collections()
    }

    /// As [`crate::Space::documents`].
    ///
    /// # Errors
    /// As there.
    pub fn documents(&self) -> Result<Vec<Listed>, StoreError> {
        self.0.documents()
    }

    /// As [`crate::Space::is_erased`].
    ///
    /// # Errors
    /// As there.
    pub fn is_erased(&self, document: &DocumentId) -> Result<bool, StoreError> {
        self.0.is_erased(document)
    }

    /// As [`crate::Space::erased`].
    ///
    /// # Errors
    /// As there.
    pub fn erased(&self) -> Result<BTreeSet<DocumentId>, StoreError> {
        self.0.erased()
    }

    /// As [`crate::Space::digest`].
    ///
    /// # Errors
    /// As there.
    pub fn digest(&self) -> Result<SetDigest, StoreError> {
        self.0.digest()
    }

    editing! {
        fn apply_schema(&self, collection: &CollectionName, schema: &Schema) -> Result<Edited, SchemaError>;
    }

    blocking! {
        fn unfit(&self) -> Result<Vec<Unfit>, ReadError>;
        fn foresee_schema(&self, collection: &CollectionName, schema: &Schema) -> Result<Foreseen, SchemaError>;
        fn schema(&self, collection: &CollectionName) -> Result<Option<Schema>, ReadError>;
        fn schemas(&self) -> Result<Schemas, ReadError>;
    }
}

impl Collection {
    /// The async handle to the same collection.
    pub fn as_async(&self) -> &crate::Collection {
        &self.0
    }

    /// As [`crate::Collection::name`].
    pub fn name(&self) -> &CollectionName {
        self.0.name()
    }

    /// As [`crate::Collection::create_unkeyed`].
    ///
    /// # Errors
    /// As there.
    pub fn create_unkeyed<T: Serialize>(&self, value: &T) -> Result<Document, EditError> {
        block_on(self.0.create_unkeyed(value)).map(Document)
    }

    /// As [`crate::Collection::import`].
    ///
    /// # Errors
    /// As there.
    pub fn import(
        &self,
        rows: Vec<(RowKey, Row)>,
    ) -> Result<Vec<Result<Edited, EditError>>, EditError> {
        let edited = block_on(self.0.import(rows))?;
        Ok(edited.into_iter().map(|edited| edited.map(Edited)).collect())
    }

    /// As [`crate::Collection::document`].
    ///
    /// # Errors
    /// As there.
    pub fn document(&self, key: &str) -> Result<Document, NameError> {
        self.0.document(key).map(Document)
    }

    /// As [`crate::Collection::document_by_id`].
    pub fn document_by_id(&self, id: DocumentId) -> Document {
        Document(self.0.document_by_id(id))
    }

    /// As [`crate::Collection::create`].
    ///
    /// # Errors
    /// As there.
    pub fn create<T: Serialize>(&self, key: &str, value: &T) -> Result<Document, EditError> {
        block_on(self.0.create(key, value)).map(Document)
    }

    /// As [`crate::Collection::filter`].
    ///
    /// # Errors
    /// As there.
    pub fn filter(&self, keep: impl FnMut(&Entry) -> bool) -> Result<Vec<Entry>, ReadError> {
        let mut entries = self.list()?;
        entries.retain(keep);
        Ok(entries)
    }

    /// As [`crate::Collection::query`].
    pub fn query<T: DeserializeOwned>(&self) -> Query<T> {
        Query(self.0.query())
    }

    editing! {
        fn put(&self, key: &str, fields: Map<String, Value>) -> Result<Edited, EditError>;
    }

    /// As [`crate::Collection::put_all`].
    ///
    /// # Errors
    /// As there.
    pub fn put_all(
        &self,
        rows: Vec<(String, Map<String, Value>)>,
    ) -> Result<Vec<Result<Edited, EditError>>, EditError> {
        let edited = block_on(self.0.put_all(rows))?;
        Ok(edited.into_iter().map(|edited| edited.map(Edited)).collect())
    }

    blocking! {
        fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ReadError>;
        fn list(&self) -> Result<Vec<Entry>, ReadError>;
        fn preview(&self, rows: Vec<(RowKey, Row)>) -> Result<Vec<Result<EditOutcome, EditError>>, EditError>;
        fn unfit(&self) -> Result<Vec<Unfit>, ReadError>;
        fn deleted(&self) -> Result<Vec<Entry>, ReadError>;
        fn booked(&self, whose: &Value, start_ms: i64, end_ms: i64) -> Result<Vec<Booked>, ReadError>;
    }

    /// As the async `watch`.
    ///
    /// # Errors
    /// As there.
    pub fn watch(&self) -> Result<Watcher, ReadError> {
        block_on(self.0.watch()).map(Watcher)
    }
}

impl Document {
    /// The async handle to the same document.
    pub fn as_async(&self) -> &crate::Document {
        &self.0
    }

    /// As [`crate::Document::id`].
    pub fn id(&self) -> DocumentId {
        self.0.id()
    }

    /// As [`crate::Document::edit`].
    ///
    /// # Errors
    /// As there.
    pub fn edit<T: Serialize + DeserializeOwned, R>(
        &self,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Edited<R>, EditError> {
        // The closure runs between the waits, so it may use blocking handles itself.
        let entry = self.read()?.ok_or(EditError::NotFound)?;
        let (base, ops, returned) = edit_value(entry, change)?;
        Ok(Edited(block_on(self.0.apply_at(Some(base), ops))?.with(returned)))
    }

    /// As [`crate::Document::set`].
    ///
    /// # Errors
    /// As there.
    pub fn set<T: Serialize>(&self, path: impl Into<Path>, value: T) -> Result<Edited, EditError> {
        block_on(self.0.set(path, value)).map(Edited)
    }

    /// As [`crate::Document::remove`].
    ///
    /// # Errors
    /// As there.
    pub fn remove(&self, path: impl Into<Path>) -> Result<Edited, EditError> {
        block_on(self.0.remove(path)).map(Edited)
    }

    /// As [`crate::Document::splice`].
    ///
    /// # Errors
    /// As there.
    pub fn splice(
        &self,
        path: impl Into<Path>,
        index: usize,
        delete: usize,
        insert: &str,
    ) -> Result<Edited, EditError> {
        block_on(self.0.splice(path, index, delete, insert)).map(Edited)
    }

    /// As [`crate::Document::append`].
    ///
    /// # Errors
    /// As there.
    pub fn append(&self, path: impl Into<Path>, text: &str) -> Result<Edited, EditError> {
        block_on(self.0.append(path, text)).map(Edited)
    }

    /// As [`crate::Document::add`].
    ///
    /// # Errors
    /// As there.
    pub fn add(&self, path: impl Into<Path>, by: i64) -> Result<Edited, EditError> {
        block_on(self.0.add(path, by)).map(Edited)
    }

    editing! {
        fn apply(&self, ops: Vec<Op>) -> Result<Edited, EditError>;
        fn apply_at(&self, base: Option<Vec<ChangeHash>>, ops: Vec<Op>) -> Result<Edited, EditError>;
        fn delete(&self) -> Result<Edited, EditError>;
        fn undelete(&self) -> Result<Edited, EditError>;
        fn restore(&self, heads: &[ChangeHash]) -> Result<Edited, EditError>;
    }

    blocking! {
        fn read(&self) -> Result<Option<Entry>, ReadError>;
        fn get<T: DeserializeOwned>(&self) -> Result<Option<T>, ReadError>;
        fn deletion(&self) -> Result<Option<Candidate>, ReadError>;
        fn saved(&self) -> Result<(), SaveError>;
        fn misfits(&self) -> Result<Vec<Misfit>, ReadError>;
        fn history(&self, max: usize) -> Result<Vec<HistoryEntry>, ReadError>;
        fn unsent(&self) -> Result<Vec<HistoryEntry>, ReadError>;
        fn view(&self) -> Result<View, ReadError>;
        fn bookings(&self) -> Result<Vec<Booking>, ReadError>;
        fn blame(&self) -> Result<Vec<Blame>, ReadError>;
        fn value_at(&self, heads: &[ChangeHash]) -> Result<Value, ReadError>;
        fn present(&self, value: Option<Vec<u8>>, ttl_ms: u32) -> Result<(), EditError>;
        fn presences(&self) -> Result<Vec<(PeerId, Vec<u8>)>, ReadError>;
    }

    /// As the async `watch`.
    ///
    /// # Errors
    /// As there.
    pub fn watch(&self) -> Result<Watcher, ReadError> {
        block_on(self.0.watch()).map(Watcher)
    }
}

impl Reviews {
    /// As [`crate::Reviews::settle_all`].
    ///
    /// # Errors
    /// As there.
    pub fn settle_all(
        &self,
        decisions: Vec<(ReviewId, Decision)>,
        why: Option<&str>,
    ) -> Result<Vec<Result<Edited, SettleError>>, SettleError> {
        let settled = block_on(self.0.settle_all(decisions, why))?;
        Ok(settled.into_iter().map(|edited| edited.map(Edited)).collect())
    }

    editing! {
        fn settle(&self, id: &ReviewId, decision: Decision, why: Option<&str>) -> Result<Edited, SettleError>;
        fn assign(&self, id: &ReviewId, assignee: Option<&str>, due: Option<&str>) -> Result<Edited, SettleError>;
    }

    blocking! {
        fn list(&self) -> Result<Vec<Review>, ReadError>;
        fn open(&self) -> Result<Vec<Review>, ReadError>;
        fn get(&self, id: &ReviewId) -> Result<Option<Review>, ReadError>;
    }

    /// As the async `watch`.
    ///
    /// # Errors
    /// As there.
    pub fn watch(&self) -> Result<Watcher, ReadError> {
        block_on(self.0.watch()).map(Watcher)
    }
}
