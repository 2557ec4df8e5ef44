//! One document: read, edit, watch, look back.

use rejoin_core::lineage::{Blame, Candidate, Marks};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::collection::{Entry, entry};
use crate::replica::Replica;
use crate::saved::Edited;
use rejoin_core::{ChangeHash, CollectionName, DocumentId, Path, PeerId, SpaceName, limits};
use rejoin_engine::{
    Content, Edit, EditError, HistoryEntry, Op, ReadError, Target, View, Watcher, diff,
};

/// A handle to a document, whether or not it exists yet. Cheap to clone; it keeps nothing in
/// memory.
#[derive(Debug, Clone)]
pub struct Document {
    replica: Replica,
    space: SpaceName,
    collection: CollectionName,
    id: DocumentId,
}

impl Document {
    pub(crate) fn new(
        replica: Replica,
        space: SpaceName,
        collection: CollectionName,
        id: DocumentId,
    ) -> Self {
        Self { replica, space, collection, id }
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The reviews of the document's space.
    pub(crate) fn space(&self) -> &SpaceName {
        &self.space
    }

    /// The document.
    pub fn id(&self) -> DocumentId {
        self.id
    }

    /// The document's value, whether or not it is deleted; `None` if it does not exist.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn read(&self) -> Result<Option<Entry>, ReadError> {
        if self.replica.read(|view| view.is_stale(&self.id))? {
            self.replica.refresh(vec![self.id]).await?;
        }
        let row = self.replica.read(|view| view.value(&self.id))?;
        row.map(|row| entry(self.id, row)).transpose()
    }

    /// The document's value; `None` if it does not exist or is deleted.
    ///
    /// # Errors
    /// The file could not be read, or the value does not fit the type.
    pub async fn get<T: DeserializeOwned>(&self) -> Result<Option<T>, ReadError> {
        let entry = self.read().await?.filter(|entry| !entry.deleted);
        entry.map(|entry| typed(self.id, entry.value)).transpose()
    }

    /// The document as a person should see it: every field with its effective value, and whether
    /// it is agreed.
    ///
    /// # Errors
    /// There is no such document, or it does not load.
    pub async fn view(&self) -> Result<View, ReadError> {
        let id = self.id;
        self.replica.ask(move |engine, now| engine.view(now, &id)).await?
    }

    /// The origin of the value of every field: the writes of the field with authors and times, the
    /// values that each took the place of, and the review it settled.
    ///
    /// # Errors
    /// There is no such document, or it does not load.
    pub async fn blame(&self) -> Result<Vec<Blame>, ReadError> {
        let id = self.id;
        self.replica.ask(move |engine, now| engine.blame(now, &id)).await?
    }

    /// Edits the document through a value of your own type. Only the changes of the closure are
    /// written: fields it did not touch, and fields the type does not know, keep the values that
    /// anybody else writes to them meanwhile. Returns after the local commit, with the value that
    /// the closure gave in [`Edited::returned`].
    ///
    /// # Errors
    /// There is no such document, it is deleted, the value does not fit the type, or see
    /// [`EditError`]. Nothing was written then.
    pub async fn edit<T: Serialize + DeserializeOwned, R>(
        &self,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<Edited<R>, EditError> {
        let entry = self.read().await?.ok_or(EditError::NotFound)?;
        let (base, ops, returned) = edit_value(entry, change)?;
        Ok(self.apply_at(Some(base), ops).await?.with(returned))
    }

    /// Applies steps to the document as it is now, in one commit.
    ///
    /// # Errors
    /// See [`EditError`]. Nothing was written then.
    pub async fn apply(&self, ops: Vec<Op>) -> Result<Edited, EditError> {
        self.apply_at(None, ops).await
    }

    /// Applies steps as somebody who saw the document at `base`: concurrent with all changes that
    /// came since, so they merge with them instead of overwriting them. [`Entry::heads`] of what was
    /// read, or [`heads`](rejoin_engine::EditOutcome::heads) of an edit, are such a base; `None` is the
    /// document as it is now, and no heads at all are those of somebody who saw nothing.
    ///
    /// ```
    /// # use rejoin::{Op, Replica};
    /// # use serde_json::{Value, json};
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// # let folder = tempfile::tempdir()?;
    /// # let replica = Replica::open(folder.path().join("desk.redb")).await?;
    /// # let jobs = replica.space("main")?.collection("jobs")?;
    /// let job = jobs.create("2026-118", &json!({ "notes": { "$text": "Ring." } })).await?;
    /// let seen = job.read().await?.expect("it was just made").heads;
    /// job.append("notes", " Gate 4711.").await?;
    /// // Somebody who saw the notes before writes at their beginning: both stay.
    /// let step =
    ///     Op::Splice { path: "notes".into(), index: 0, delete: 0, insert: "Dog! ".to_owned() };
    /// job.apply_at(Some(seen), vec![step]).await?;
    /// assert_eq!(job.get::<Value>().await?, Some(json!({ "notes": "Dog! Ring. Gate 4711." })));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`EditError`]. Nothing was written then.
    pub async fn apply_at(
        &self,
        base: Option<Vec<ChangeHash>>,
        ops: Vec<Op>,
    ) -> Result<Edited, EditError> {
        self.replica.edit(self.edit_of(Content::Ops { base, ops })).await
    }

    pub(crate) fn edit_of(&self, content: Content) -> Edit {
        Edit {
            space: self.space.clone(),
            collection: self.collection.clone(),
            target: Target::Document(self.id),
            create: false,
            author: None,
            batch: None,
            content,
        }
    }

    /// Puts a value at a path. Maps, lists, [`Text`](crate::Text) and
    /// [`Counter`](crate::Counter) become containers that merge.
    ///
    /// # Errors
    /// See [`EditError`].
    pub async fn set<T: Serialize>(
        &self,
        path: impl Into<Path>,
        value: T,
    ) -> Result<Edited, EditError> {
        let after = serde_json::to_value(value)?;
        self.apply(vec![Op::Set { path: path.into(), before: None, after }]).await
    }

    /// Removes the value at a path. Containers are emptied rather than removed, so that additions
    /// that somebody else is making to them are not lost.
    ///
    /// # Errors
    /// See [`EditError`].
    pub async fn remove(&self, path: impl Into<Path>) -> Result<Edited, EditError> {
        self.apply(vec![Op::Remove { path: path.into() }]).await
    }

    /// Replaces characters of a text: `delete` code points from `index` on by `insert`.
    ///
    /// # Errors
    /// See [`EditError`].
    pub async fn splice(
        &self,
        path: impl Into<Path>,
        index: usize,
        delete: usize,
        insert: &str,
    ) -> Result<Edited, EditError> {
        let (path, insert) = (path.into(), insert.to_owned());
        self.apply(vec![Op::Splice { path, index, delete, insert }]).await
    }

    /// Adds to the end of a text, making the text if there is none.
    ///
    /// # Errors
    /// See [`EditError`].
    pub async fn append(&self, path: impl Into<Path>, text: &str) -> Result<Edited, EditError> {
        self.apply(vec![Op::Append { path: path.into(), text: text.to_owned() }]).await
    }

    /// Adds to a counter, making it if there is none.
    ///
    /// # Errors
    /// See [`EditError`].
    pub async fn add(&self, path: impl Into<Path>, by: i64) -> Result<Edited, EditError> {
        self.apply(vec![Op::Increment { path: path.into(), by }]).await
    }

    /// Deletes the document: it leaves lists, keeps its history, and is back when its key is
    /// created again, or when somebody [`undelete`](Self::undelete)s it.
    ///
    /// # Errors
    /// See [`EditError`].
    pub async fn delete(&self) -> Result<Edited, EditError> {
        self.apply(vec![Op::Delete]).await
    }

    /// Takes a deletion back: the document is in lists again, with its whole content. It is an
    /// ordinary edit, which syncs and may be taken back in turn.
    ///
    /// # Errors
    /// There is no such document, it is not deleted, or see [`EditError`].
    pub async fn undelete(&self) -> Result<Edited, EditError> {
        let entry = self.read().await?.ok_or(EditError::NotFound)?;
        if !entry.deleted {
            return Err(EditError::NotDeleted);
        }
        self.apply(vec![Op::Restore]).await
    }

    /// Gives the document the value that it had at these heads, as [`history`](Self::history) tells
    /// them. It is an ordinary edit at the present heads: nothing of the history goes, a field about
    /// which people disagree gets one more candidate, and list items that were removed since come
    /// back as new ones. A deleted document is brought back.
    ///
    /// # Errors
    /// There is no such document, it never had these heads, or see [`EditError`]. Nothing was
    /// written then.
    pub async fn restore(&self, heads: &[ChangeHash]) -> Result<Edited, EditError> {
        self.replica.edit(self.edit_of(Content::Restore { heads: heads.to_vec() })).await
    }

    /// The write that deleted the document, with its author, time and change. `None` if it is not
    /// deleted.
    ///
    /// # Errors
    /// There is no such document, or it does not load.
    pub async fn deletion(&self) -> Result<Option<Candidate>, ReadError> {
        if !self.read().await?.ok_or(ReadError::NotFound)?.deleted {
            return Ok(None);
        }
        let blames = self.blame().await?;
        // A field of another program may be called as ours are in documents that we made.
        let marks = [Marks::THEIRS, Marks::OURS].map(|marks| Path::from([marks.deleted]));
        let says_so = |place: &Path| {
            let blames = blames.iter().filter(|blame| blame.path.as_ref() == Some(place));
            let mut writes = blames.flat_map(|blame| &blame.writes);
            let stands = writes.find(|blamed| blamed.stands).map(|blamed| blamed.write.clone());
            stands.filter(|write| write.value == Some(Value::Bool(true)))
        };
        Ok(marks.iter().find_map(says_so))
    }

    /// The last `max` changes, oldest first.
    ///
    /// # Errors
    /// There is no such document, or it could not be read.
    pub async fn history(&self, max: usize) -> Result<Vec<HistoryEntry>, ReadError> {
        let id = self.id;
        self.replica.ask(move |engine, now| engine.history(now, &id, max)).await?
    }

    /// The changes that no relay has acknowledged, oldest first.
    ///
    /// # Errors
    /// There is no such document, or it could not be read.
    pub async fn unsent(&self) -> Result<Vec<HistoryEntry>, ReadError> {
        let id = self.id;
        self.replica.ask(move |engine, now| engine.unsent_history(now, &id)).await?
    }

    /// The value at any point of the history.
    ///
    /// # Errors
    /// There is no such document, or no such point.
    pub async fn value_at(&self, heads: &[ChangeHash]) -> Result<Value, ReadError> {
        let (id, heads) = (self.id, heads.to_vec());
        self.replica.ask(move |engine, now| engine.value_at(now, &id, Some(&heads))).await?
    }

    /// Changes of the document, and of the peers that are present in it, from now on.
    ///
    /// # Errors
    /// The replica was closed.
    pub async fn watch(&self) -> Result<Watcher, ReadError> {
        let (space, collection) = (self.space.clone(), self.collection.clone());
        let id = Some(self.id);
        Ok(self.replica.ask(move |engine, _| engine.watch(space, collection, id)).await?)
    }

    /// Tells the peers the activity of this one in the document, for `ttl_ms` milliseconds; `None`
    /// when it leaves. It is not stored, and dropped while offline.
    ///
    /// # Errors
    /// The value is over [`limits::PRESENCE_BYTES_MAX`], or the replica was closed.
    pub async fn present(&self, value: Option<Vec<u8>>, ttl_ms: u32) -> Result<(), EditError> {
        let (len, max) = (value.as_ref().map_or(0, Vec::len), limits::PRESENCE_BYTES_MAX);
        if len > max {
            return Err(EditError::Presence { len, max });
        }
        let (space, id) = (self.space.clone(), self.id);
        Ok(self.replica.ask(move |engine, _| engine.present(&space, id, value, ttl_ms)).await?)
    }

    /// The present activity of the other peers in the document.
    ///
    /// # Errors
    /// The replica was closed.
    pub async fn presences(&self) -> Result<Vec<(PeerId, Vec<u8>)>, ReadError> {
        let id = self.id;
        Ok(self.replica.ask(move |engine, now| engine.presences(now, &id)).await?)
    }
}

/// The steps that a closure made in the value it was handed, and the heads of that value.
pub(crate) fn edit_value<T: Serialize + DeserializeOwned, R>(
    entry: Entry,
    change: impl FnOnce(&mut T) -> R,
) -> Result<(Vec<ChangeHash>, Vec<Op>, R), EditError> {
    if entry.deleted {
        return Err(EditError::Deleted);
    }
    let (ops, returned) = ops_of(entry.document, entry.value, change)?;
    Ok((entry.heads, ops, returned))
}

/// The steps that a closure made in a value, and the value it returned.
pub(crate) fn ops_of<T: Serialize + DeserializeOwned, R>(
    document: DocumentId,
    value: Value,
    change: impl FnOnce(&mut T) -> R,
) -> Result<(Vec<Op>, R), EditError> {
    let mut value: T = typed(document, value)?;
    let before = serde_json::to_value(&value)?;
    let returned = change(&mut value);
    let after = serde_json::to_value(&value)?;
    if !after.is_object() {
        return Err(EditError::NotAMap);
    }
    Ok((diff(&before, &after), returned))
}

/// A document's value as a type of the app.
pub(crate) fn typed<T: DeserializeOwned>(
    document: DocumentId,
    value: Value,
) -> Result<T, ReadError> {
    serde_json::from_value(value).map_err(|source| ReadError::Type { document, source })
}
