//! Taking back one's own edits, making them again, and edits that are one step.

use rejoin_core::DocumentId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::collection::{Collection, fields};
use crate::document::{Document, ops_of, typed};
use crate::driver::unix_s;
use crate::replica::Replica;
use rejoin_engine::{Content, EditError, EditOutcome, Op, Target};
pub use rejoin_engine::{FieldUndone, Kept, KeptWhy, UndoError, Undone, UndoneDocument, Way};

impl Replica {
    /// Takes back the last edit of this handle's user that was made in this replica file and was not
    /// taken back yet, or all edits of the user's last [`batch`](Self::batch). The user is the one that
    /// the handle [acts as](Self::acting_as), or else the one of the file ([`act_as`](Self::act_as)), or
    /// nobody; edits by others are passed over. The file remembers the last 1,000 steps of all, also when
    /// it is opened again.
    ///
    /// An undo is an ordinary edit: it syncs, and it leaves the work of others, as [`Undone`] tells. A file
    /// that went back to an older copy does not take back again what it took back before
    /// ([`KeptWhy::Done`]), once it has heard of that from a relay. Until then it does not know, and a
    /// counter goes down twice.
    ///
    /// ```
    /// # use rejoin::Replica;
    /// # use serde_json::{Value, json};
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// # let folder = tempfile::tempdir()?;
    /// # let replica = Replica::open(folder.path().join("desk.redb")).await?;
    /// let jobs = replica.space("main")?.collection("jobs")?;
    /// let job = jobs.create("2026-118", &json!({ "status": "booked" })).await?;
    /// job.set("status", "done").await?;
    ///
    /// replica.undo().await?;
    /// assert_eq!(job.get::<Value>().await?, Some(json!({ "status": "booked" })));
    /// replica.redo().await?;
    /// assert_eq!(job.get::<Value>().await?, Some(json!({ "status": "done" })));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// There is nothing to take back; nothing of it can be taken back; or see [`UndoError`].
    pub async fn undo(&self) -> Result<Undone, UndoError> {
        self.go(Way::Undo, true).await
    }

    /// Makes again what the last [`undo`](Self::undo) took back. After another edit there is nothing
    /// to make again.
    ///
    /// # Errors
    /// As [`undo`](Self::undo).
    pub async fn redo(&self) -> Result<Undone, UndoError> {
        self.go(Way::Redo, true).await
    }

    /// What [`undo`](Self::undo) would do, or [`redo`](Self::redo). Nothing of it is kept.
    ///
    /// # Errors
    /// As [`undo`](Self::undo).
    pub async fn preview_undo(&self, way: Way) -> Result<Undone, UndoError> {
        self.go(way, false).await
    }

    async fn go(&self, way: Way, keep: bool) -> Result<Undone, UndoError> {
        let (author, time_s) = (self.author(), unix_s());
        self.ask(move |engine, now| match keep {
            true => engine.undo(now, time_s, author, way),
            false => engine.preview_undo(now, time_s, author, way),
        })
        .await?
    }

    /// Makes several edits together or not at all: one commit, and one step for
    /// [`undo`](Self::undo). Nobody sees only some of them on this device, and if the closure gives
    /// an error, none is kept. At a relay and on other devices they may arrive one after the other.
    ///
    /// The closure runs on the replica's own thread, which waits for it: it should only compute. It
    /// sees what it has written so far.
    ///
    /// ```
    /// # use rejoin::Replica;
    /// # use serde_json::{Value, json};
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// # let folder = tempfile::tempdir()?;
    /// # let replica = Replica::open(folder.path().join("desk.redb")).await?;
    /// # let jobs = replica.space("main")?.collection("jobs")?;
    /// # let log = replica.space("main")?.collection("log")?;
    /// # let job = jobs.create("2026-118", &json!({ "technician": "ana" })).await?;
    /// let before = replica
    ///     .batch(move |batch| {
    ///         let before = batch.edit(&job, |job: &mut Value| {
    ///             std::mem::replace(&mut job["technician"], json!("ben"))
    ///         })?;
    ///         batch.create(&log, "1", &json!({ "handed_over": "2026-118" }))?;
    ///         Ok(before)
    ///     })
    ///     .await?;
    /// assert_eq!(before, "ana");
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// That of the closure, the replica was closed, or its file could not be written.
    pub async fn batch<T: Send + 'static>(
        &self,
        edits: impl FnOnce(&mut Batch<'_, '_>) -> Result<T, EditError> + Send + 'static,
    ) -> Result<T, EditError> {
        let (author, time_s, number) = (self.author(), unix_s(), self.next_batch());
        let made = self.ask(move |engine, now| {
            engine.batch(now, time_s, author, number, |batch| edits(&mut Batch(batch)))
        });
        Ok(made.await??.0)
    }
}

/// The edits of a [`Replica::batch`], as far as they were made.
#[derive(Debug)]
pub struct Batch<'a, 'b>(&'a mut rejoin_engine::Batch<'b>);

impl Batch<'_, '_> {
    /// The value of a document as the batch has it by now; `None` if it does not exist or is
    /// deleted.
    ///
    /// # Errors
    /// The document does not load, or its value does not fit the type.
    pub fn get<T: DeserializeOwned>(
        &mut self,
        document: &Document,
    ) -> Result<Option<T>, EditError> {
        let read = self.0.read(&document.id())?.filter(|read| !read.deleted);
        Ok(read.map(|read| typed(document.id(), read.value)).transpose()?)
    }

    /// As [`Collection::create`]; the answer is the new document's id.
    ///
    /// # Errors
    /// See [`EditError`].
    pub fn create<T: Serialize>(
        &mut self,
        collection: &Collection,
        key: &str,
        value: &T,
    ) -> Result<DocumentId, EditError> {
        Ok(self.put(collection, key, fields(value)?)?.document)
    }

    /// As [`Collection::create_unkeyed`]; the answer is the new document's id.
    ///
    /// # Errors
    /// See [`EditError`].
    pub fn create_unkeyed<T: Serialize>(
        &mut self,
        collection: &Collection,
        value: &T,
    ) -> Result<DocumentId, EditError> {
        let edit = collection.edit(Target::New, Content::Fields(fields(value)?));
        Ok(self.0.edit(edit)?.document)
    }

    /// As [`Collection::put`].
    ///
    /// # Errors
    /// See [`EditError`].
    pub fn put(
        &mut self,
        collection: &Collection,
        key: &str,
        fields: Map<String, Value>,
    ) -> Result<EditOutcome, EditError> {
        self.0.edit(collection.put_edit(key, fields))
    }

    /// As [`Document::edit`], with the value that the document has in the batch by now. The answer
    /// is what the closure gave.
    ///
    /// # Errors
    /// There is no such document, it is deleted, or see [`EditError`].
    pub fn edit<T: Serialize + DeserializeOwned, R>(
        &mut self,
        document: &Document,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<R, EditError> {
        let read = self.0.read(&document.id())?.ok_or(EditError::NotFound)?;
        if read.deleted {
            return Err(EditError::Deleted);
        }
        let (ops, returned) = ops_of(document.id(), read.value, change)?;
        self.apply(document, ops)?;
        Ok(returned)
    }

    /// As [`Document::apply`].
    ///
    /// # Errors
    /// See [`EditError`].
    pub fn apply(&mut self, document: &Document, ops: Vec<Op>) -> Result<EditOutcome, EditError> {
        self.0.edit(document.edit_of(Content::Ops { base: None, ops }))
    }

    /// As [`Document::delete`].
    ///
    /// # Errors
    /// See [`EditError`].
    pub fn delete(&mut self, document: &Document) -> Result<EditOutcome, EditError> {
        self.apply(document, vec![Op::Delete])
    }
}
