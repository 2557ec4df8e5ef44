//! Collections: create, find, list and watch documents.

use rejoin_core::{ChangeHash, CollectionName, DocumentId, Genesis, NameError, SpaceName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::document::Document;
use crate::query::Query;
use crate::replica::{Replica, Space};
use crate::saved::Edited;
use rejoin_engine::store::{ReadTxn, StoreError, ValueRow};
use rejoin_engine::{Content, Edit, EditError, EditOutcome, ReadError, Row, Target, Watcher};

/// A named kind of document in a space.
#[derive(Debug, Clone)]
pub struct Collection {
    replica: Replica,
    space: SpaceName,
    name: CollectionName,
}

/// One document as a list shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The document.
    pub document: DocumentId,
    /// Its natural key, if it has one.
    pub key: Option<String>,
    /// Its heads: the changes that it ends with, which are its version. [`Document::apply_at`],
    /// [`Document::value_at`] and [`Document::restore`] take them.
    pub heads: Vec<ChangeHash>,
    /// Whether it was deleted.
    pub deleted: bool,
    /// Its value: a JSON object. Texts are strings, counters numbers.
    pub value: Value,
    /// The value that counts, if that is another one: it leaves out fields that only people without
    /// the right wrote. This value goes to other systems.
    pub agreed: Option<Value>,
}

impl Entry {
    /// Its value as far as it counts.
    pub fn agreed(&self) -> &Value {
        self.agreed.as_ref().unwrap_or(&self.value)
    }
}

/// The document that a row of a file is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowKey {
    /// The one with this natural key.
    Natural(String),
    /// The one with this id, as files have it of documents without a natural key. It is not made.
    Id(DocumentId),
}

impl Collection {
    pub(crate) fn new(replica: Replica, space: SpaceName, name: CollectionName) -> Self {
        Self { replica, space, name }
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The space it is in.
    pub(crate) fn space(&self) -> Space {
        Space::new(self.replica.clone(), self.space.clone())
    }

    /// Its name.
    pub fn name(&self) -> &CollectionName {
        &self.name
    }

    /// The document with this natural key, whether or not it exists yet. After an operator erased one,
    /// that is another one.
    ///
    /// # Errors
    /// The key is empty, too long or holds a control character.
    pub fn document(&self, key: &str) -> Result<Document, NameError> {
        let keyed = |view: &ReadTxn| view.keyed(&self.space, &self.name, key);
        let id = match self.replica.read::<_, StoreError>(keyed) {
            Ok(keyed) => keyed?.1,
            // While the file cannot be read nobody knows better.
            Err(_) => DocumentId::derive(&self.space, &self.name, &Genesis::first(key)?),
        };
        Ok(self.document_by_id(id))
    }

    /// The document with this id, whether or not it exists.
    pub fn document_by_id(&self, id: DocumentId) -> Document {
        Document::new(self.replica.clone(), self.space.clone(), self.name.clone(), id)
    }

    /// Creates the document with this natural key. If there is one already, it is given those of
    /// these field values that differ. The same record created on two devices is one document.
    ///
    /// # Errors
    /// See [`EditError`]. Nothing was written then.
    pub async fn create<T: Serialize>(&self, key: &str, value: &T) -> Result<Document, EditError> {
        let edited = self.put(key, fields(value)?).await?;
        Ok(self.document_by_id(edited.document))
    }

    /// Creates a document without a natural key.
    ///
    /// # Errors
    /// See [`EditError`]. Nothing was written then.
    pub async fn create_unkeyed<T: Serialize>(&self, value: &T) -> Result<Document, EditError> {
        let content = Content::Fields(fields(value)?);
        let edited = self.replica.edit(self.edit(Target::New, content)).await?;
        Ok(self.document_by_id(edited.document))
    }

    /// Gives the document with this key those of these field values that differ, and creates it if
    /// it does not exist. `null` removes a field; other fields are left alone.
    ///
    /// # Errors
    /// See [`EditError`]. Nothing was written then.
    pub async fn put(&self, key: &str, fields: Map<String, Value>) -> Result<Edited, EditError> {
        self.replica.edit(self.put_edit(key, fields)).await
    }

    pub(crate) fn put_edit(&self, key: &str, fields: Map<String, Value>) -> Edit {
        self.edit(Target::Key(key.to_owned()), Content::Fields(fields))
    }

    /// [`put`](Self::put) for many documents in one commit. The results are in their order; an
    /// error of one leaves the others alone.
    ///
    /// # Errors
    /// The replica was closed.
    pub async fn put_all(
        &self,
        rows: Vec<(String, Map<String, Value>)>,
    ) -> Result<Vec<Result<Edited, EditError>>, EditError> {
        let edits = rows.into_iter().map(|(key, fields)| self.put_edit(&key, fields));
        self.replica.edits(edits.collect()).await
    }

    /// Takes rows of a file in one commit, each for the document with this natural key, or with
    /// this id if the file names documents by ids. [`EditOutcome::row`] tells the further results
    /// of each. The results are in the order of the rows; an error of one leaves the others alone.
    ///
    /// # Errors
    /// The replica was closed.
    pub async fn import(
        &self,
        rows: Vec<(RowKey, Row)>,
    ) -> Result<Vec<Result<Edited, EditError>>, EditError> {
        self.replica.edits(self.row_edits(rows)).await
    }

    /// The results that [`import`](Self::import) of these rows would have. Nothing of them is kept.
    ///
    /// # Errors
    /// The replica was closed, or its file cannot be written.
    pub async fn preview(
        &self,
        rows: Vec<(RowKey, Row)>,
    ) -> Result<Vec<Result<EditOutcome, EditError>>, EditError> {
        let edits =
            self.row_edits(rows).into_iter().map(|edit| self.replica.signed(edit)).collect();
        Ok(self.replica.ask(move |engine, now| engine.preview(now, 0, edits)).await??)
    }

    fn row_edits(&self, rows: Vec<(RowKey, Row)>) -> Vec<Edit> {
        let edit = |(key, row)| match key {
            RowKey::Natural(key) => self.edit(Target::Key(key), Content::Row(row)),
            // Another program may have made it, which a new one here would change the meaning of.
            RowKey::Id(id) => {
                Edit { create: false, ..self.edit(Target::Document(id), Content::Row(row)) }
            }
        };
        rows.into_iter().map(edit).collect()
    }

    /// The value of the document with this key; `None` if there is none or it is deleted.
    ///
    /// # Errors
    /// The file could not be read, or the value does not fit the type.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ReadError> {
        self.document(key)?.get().await
    }

    /// All documents that are deleted, with their values; otherwise as [`filter`](Self::filter).
    /// [`Document::deletion`] tells who deleted one.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn deleted(&self) -> Result<Vec<Entry>, ReadError> {
        let entries = self.rows(|row| row.deleted).await?;
        entries.collect()
    }

    /// The documents that are not deleted and that `keep` wants, in the order of their ids, which
    /// is the same on every device. None of them is loaded, except some whose schema has just
    /// changed; if those are many, [`Replica::caught_up`] waits until all values follow the new
    /// schema.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn filter(
        &self,
        mut keep: impl FnMut(&Entry) -> bool,
    ) -> Result<Vec<Entry>, ReadError> {
        let entries = self.rows(|row| !row.deleted).await?;
        let kept = entries.filter(|entry| entry.as_ref().map_or(true, &mut keep));
        kept.collect()
    }

    /// The documents whose stored rows are wanted, each read when it is asked for.
    async fn rows(
        &self,
        wanted: impl Fn(&ValueRow) -> bool,
    ) -> Result<impl Iterator<Item = Result<Entry, ReadError>>, ReadError> {
        self.replica.refresh_listed().await?;
        let mut rows = Vec::new();
        self.replica.read(|view| {
            view.each_value(&self.space, &self.name, |document, row| {
                if wanted(&row) {
                    rows.push((document, row));
                }
                true
            })
        })?;
        // The same order on every device, even if documents came there in another one.
        rows.sort_unstable_by_key(|(document, _)| *document);
        Ok(rows.into_iter().map(|(document, row)| entry(document, row)))
    }

    /// Documents that fit conditions, sorted, as values of your own type; see [`Query`].
    pub fn query<T: DeserializeOwned>(&self) -> Query<T> {
        Query::new(self.clone())
    }

    /// All documents that are not deleted; otherwise as [`filter`](Self::filter).
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn list(&self) -> Result<Vec<Entry>, ReadError> {
        self.filter(|_| true).await
    }

    /// Changes of any document of the collection, from now on.
    ///
    /// # Errors
    /// The replica was closed.
    pub async fn watch(&self) -> Result<Watcher, ReadError> {
        let (space, name) = (self.space.clone(), self.name.clone());
        Ok(self.replica.ask(move |engine, _| engine.watch(space, name, None)).await?)
    }

    pub(crate) fn edit(&self, target: Target, content: Content) -> Edit {
        let (space, collection) = (self.space.clone(), self.name.clone());
        Edit { space, collection, target, create: true, author: None, content, batch: None }
    }
}

pub(crate) fn entry(document: DocumentId, row: ValueRow) -> Result<Entry, ReadError> {
    let ValueRow { key, heads, deleted, json, agreed } = row;
    let parsed = |json: &[u8]| {
        serde_json::from_slice(json).map_err(|source| ReadError::Type { document, source })
    };
    let value = parsed(&json)?;
    let agreed = agreed.map(|agreed| parsed(&agreed)).transpose()?;
    Ok(Entry { document, key, heads, deleted, value, agreed })
}

pub(crate) fn fields<T: Serialize>(value: &T) -> Result<Map<String, Value>, EditError> {
    match serde_json::to_value(value)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(EditError::NotAMap),
    }
}
