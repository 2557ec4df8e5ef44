//! What a sink keeps that others fetch from: the last delivery about every record, in one file.

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use minicbor::{Decode, Encode};
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};
use rejoin::DocumentId;
use thiserror::Error;

use super::{Held, SinkError};
use crate::delivery::{Action, Delivery, Fault, NO_DOCUMENT, Record};
use crate::disk::on_disk;

/// Table: what is known of each record
/// Key:   `(&str, &str)` # (record's name, record's key)
/// Value: `&[u8]`        # [`Kept`], CBOR
const RECORDS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("records-1");

/// What is known of one record.
#[derive(Debug, Default, Encode, Decode)]
#[cbor(map)]
pub(super) struct Kept {
    /// What the sink numbers deliveries with; it only rises.
    #[n(0)]
    pub(super) number: u64,
    /// How far each document is that told of the record, the latest last.
    #[n(1)]
    told: Vec<Told>,
    /// The last delivery; nothing once the row was deleted.
    #[n(2)]
    pub(super) delivery: Option<Delivery>,
}

/// The newest delivery of a document about a record.
#[derive(Debug, Encode, Decode)]
struct Told {
    #[n(0)]
    document: DocumentId,
    #[n(1)]
    seq: u64,
    #[n(2)]
    enqueued_ms: u64,
}

impl Kept {
    /// Takes a delivery in. False if it changes nothing: it was here already, something newer of its
    /// document was, or it deletes what another document has by now.
    pub(super) fn take(&mut self, delivery: &Delivery) -> bool {
        // Numbers begin anew with an outbox that was lost and filled again; time goes on.
        let is_old = |told: &Told| {
            told.document == delivery.document
                && delivery.seq <= told.seq
                && delivery.enqueued_ms <= told.enqueued_ms
        };
        if self.told.iter().any(is_old) {
            return false;
        }
        let is_row = matches!(delivery.action, Action::Put(_));
        let is_anothers = self.delivery.as_ref().is_some_and(|held| {
            let document = delivery.document;
            held.document != document
                && document != NO_DOCUMENT
                && matches!(held.action, Action::Put(_))
        });
        if is_anothers && !is_row {
            return false;
        }
        self.told.retain(|told| told.document != delivery.document);
        if self.told.len() == TOLD_MAX {
            self.told.remove(0);
        }
        let Delivery { document, seq, enqueued_ms, .. } = *delivery;
        self.told.push(Told { document, seq, enqueued_ms });
        self.delivery = Some(delivery.clone()).filter(|it| it.action != Action::Delete);
        true
    }

    /// What is known of a record; nothing yet of a new one.
    pub(super) fn read(txn: &WriteTransaction, record: &Record) -> Result<Self, KeptError> {
        let table = txn.open_table(RECORDS)?;
        let row = table.get((&*record.name, &*record.key))?;
        Ok(row.map(|row| decode(row.value())).transpose()?.unwrap_or_default())
    }

    pub(super) fn write(&self, txn: &WriteTransaction, record: &Record) -> Result<(), KeptError> {
        txn.open_table(RECORDS)?.insert((&*record.name, &*record.key), &encode(self)[..])?;
        Ok(())
    }
}

/// What is known of the records after one, in their order.
pub(super) fn after(
    txn: &ReadTransaction,
    after: Bound<(&str, &str)>,
) -> Result<impl Iterator<Item = Result<(Record, Kept), KeptError>>, KeptError> {
    let range = txn.open_table(RECORDS)?.range::<(&str, &str)>((after, Bound::Unbounded))?;
    Ok(range.map(|row| {
        let (key, row) = row?;
        let (name, key) = key.value();
        Ok((Record { name: name.to_owned(), key: key.to_owned() }, decode(row.value())?))
    }))
}

/// The file.
#[derive(Debug, Clone)]
pub(super) struct File {
    path: Arc<PathBuf>,
    /// Nothing after a commit failed, until it is opened again: what came of that one is not
    /// certain before.
    database: Arc<Mutex<Option<Database>>>,
}

/// The file could not be used.
#[derive(Debug, Error)]
pub(super) enum KeptError {
    #[error("what was delivered cannot be read or written; see to the disk: {0}")]
    Unavailable(#[source] Box<redb::Error>),
    #[error("what was delivered holds something that cannot be read: {0}; restore the file")]
    Row(#[from] minicbor::decode::Error),
}

macro_rules! unavailable {
    ($($error:ty),*) => {
        $(
            impl From<$error> for KeptError {
                fn from(error: $error) -> Self {
                    Self::Unavailable(Box::new(error.into()))
                }
            }
        )*
    };
}

unavailable!(
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError
);

impl From<KeptError> for Fault {
    fn from(error: KeptError) -> Self {
        Self::trouble(error.to_string())
    }
}

impl File {
    /// Opens the file in a folder, and makes in it what `make` does.
    pub(super) fn open(
        folder: PathBuf,
        make: impl FnOnce(&WriteTransaction) -> Result<(), KeptError>,
    ) -> Result<Self, SinkError> {
        let place = |source| SinkError::Place { place: folder.display().to_string(), source };
        std::fs::create_dir_all(&folder).map_err(place)?;
        let path = folder.join("delivered.redb");
        let open = || -> Result<Database, KeptError> {
            let database = Database::create(&path)?;
            write(&database, |txn| {
                txn.open_table(RECORDS)?;
                make(txn)
            })?;
            Ok(database)
        };
        let database = open().map_err(|error| place(std::io::Error::other(error)))?;
        Ok(Self { path: Arc::new(path), database: Arc::new(Mutex::new(Some(database))) })
    }

    /// Writes, in one commit that survives a power cut.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, KeptError> + Send + 'static,
    ) -> Result<T, KeptError> {
        self.using(move |database| write(database, work)).await
    }

    /// Reads one state of everything.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, KeptError> + Send + 'static,
    ) -> Result<T, KeptError> {
        self.using(move |database| work(&database.begin_read()?)).await
    }

    async fn using<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, KeptError> + Send + 'static,
    ) -> Result<T, KeptError> {
        let (path, slot) = (Arc::clone(&self.path), Arc::clone(&self.database));
        on_disk(move || {
            // A panic leaves no transaction open.
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            let database = match slot.take() {
                Some(database) => database,
                None => Database::create(&*path)?,
            };
            let done = work(&database);
            if !matches!(done, Err(KeptError::Unavailable(_))) {
                *slot = Some(database);
            }
            done
        })
        .await
    }

    /// What [`Sink::scan`](super::Sink::scan) answers.
    pub(super) fn scan<'a>(
        &'a self,
        name: &'a str,
        from: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<Vec<Held>>, Fault>> {
        let (name, from) = (name.to_owned(), from.map(str::to_owned));
        async move {
            let held = self.read(move |txn| {
                let from = match &from {
                    Some(key) => Bound::Excluded((&*name, &**key)),
                    None => Bound::Included((&*name, "")),
                };
                let mut held = Vec::new();
                for kept in after(txn, from)? {
                    let (record, Kept { delivery, .. }) = kept?;
                    if record.name != name || held.len() == limit {
                        break;
                    }
                    match delivery.map(|delivery| delivery.action) {
                        Some(Action::Put(row)) => held.push(Held { record, row: Some(row) }),
                        Some(Action::Mark { .. }) => held.push(Held { record, row: None }),
                        Some(Action::Delete) | None => {}
                    }
                }
                Ok(held)
            });
            Ok(Some(held.await?))
        }
        .boxed()
    }
}

fn write<T>(
    database: &Database,
    work: impl FnOnce(&WriteTransaction) -> Result<T, KeptError>,
) -> Result<T, KeptError> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    let done = work(&txn)?;
    txn.commit()?;
    Ok(done)
}

pub(super) fn encode<T: Encode<()>>(row: &T) -> Vec<u8> {
    minicbor::to_vec(row).expect("encoding into a Vec cannot fail")
}

pub(super) fn decode<'a, T: Decode<'a, ()>>(bytes: &'a [u8]) -> Result<T, KeptError> {
    Ok(minicbor::decode(bytes)?)
}

/// Deliveries that are written in one commit.
pub(super) const BATCH: usize = 64;

/// Documents that are remembered of one record: a row seldom comes from more than one.
const TOLD_MAX: usize = 16;
