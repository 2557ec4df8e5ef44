//! What one adapter has to deliver: a state machine over one redb file. Time and outcomes go in,
//! attempts come out.
//!
//! Deliveries and the document's checkpoint are written in one commit. A crash before it leaves the
//! document to be projected again, to the same deliveries with the same keys; a crash after it
//! sends them once more at worst, with the same keys.
//!
//! Of one document one delivery is under way at a time, in the order they were made; documents do
//! not wait for each other.
//!
//! A failure is somebody's: a row's, which makes a dead letter of it; the target's or the
//! configuration's, which costs no row an attempt and is waited out; or it can be either, and then the
//! row is tried again by the schedule, and judged at its end only if the target took others meanwhile.

mod attempts;
mod dead;
mod enqueue;
mod erased;
mod failing;
mod look;
mod pace;
mod plan;
mod repair;
mod rows;
mod standing;
mod tables;

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, WriteTransaction};
use rejoin::DocumentId;
use thiserror::Error;

pub use attempts::Finished;
pub use dead::Selection;
pub use enqueue::{Projected, Queued};
pub use failing::{Failing, FailingReach};
pub use look::{Depth, Unsent, Wanted};
pub use pace::Attempt;
pub use plan::{Planned, PlannedRow};
pub use rows::{
    Checkpoint, DeadClass, DeadLetter, Endpoint, Shadow, TARGET, Taken, Trouble, Waiting,
};
pub use standing::{RowState, Standing};

use crate::mapping::{Deletes, Mode, OnPoison, Retry};
use pace::Pace;
use tables::{
    CHECKPOINTS, DEAD_NEXT, DISCARDED, DUE, ENDPOINT, ERASING, MISFITS, OUTBOX, RECORDS, SHADOWS,
    WANTS, WHEN,
};

/// What an outbox has to know of its mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The adapter's name.
    pub adapter: String,
    /// The mapping's version.
    pub mapping: String,
    /// The kinds of row that it makes.
    pub kinds: BTreeSet<String>,
    /// What is delivered of a row that changed several times.
    pub mode: Mode,
    /// What becomes of rows that are gone.
    pub deletes: Deletes,
    /// When to try again.
    pub retry: Retry,
    /// What a delivery that failed for good does to its document.
    pub on_poison: OnPoison,
}

/// One adapter's outbox.
#[derive(Debug)]
pub struct Outbox {
    database: Database,
    policy: Policy,
    endpoint: Endpoint,
    pace: Pace,
    rng: SmallRng,
}

/// What is under way while the file is opened again.
#[derive(Debug, Clone, Default)]
pub struct UnderWay(Pace);

/// An outbox cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The file could not be read or written. Nothing of what was asked for is certain: open it
    /// again.
    #[error("the outbox cannot be read or written; see to the disk: {0}")]
    Unavailable(#[source] Box<redb::Error>),
    /// A row is not what this program writes.
    #[error(
        "the outbox holds a row that cannot be read: {0}; restore the file, or move it away and run `rejoin adapters backfill`"
    )]
    Row(#[from] minicbor::decode::Error),
    /// There is no such dead letter.
    #[error("there is no dead letter {0}; `rejoin adapters dead-letters` lists them")]
    NoDeadLetter(u64),
}

macro_rules! unavailable {
    ($($error:ty),*) => {
        $(
            impl From<$error> for OutboxError {
                fn from(error: $error) -> Self {
                    Self::Unavailable(Box::new(error.into()))
                }
            }
        )*
    };
}

unavailable!(
    redb::CommitError,
    redb::SetDurabilityError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError
);

impl Outbox {
    /// Opens the outbox in a database, making its tables if it is new. `seed` is for what is left to
    /// chance.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub fn open(database: Database, policy: Policy, seed: u64) -> Result<Self, OutboxError> {
        let txn = write(&database)?;
        let endpoint = {
            txn.open_table(CHECKPOINTS)?;
            txn.open_table(SHADOWS)?;
            txn.open_table(RECORDS)?;
            txn.open_table(OUTBOX)?;
            txn.open_table(WHEN)?;
            txn.open_table(DUE)?;
            dead::index(&txn)?;
            txn.open_table(DEAD_NEXT)?;
            txn.open_table(MISFITS)?;
            txn.open_table(WANTS)?;
            txn.open_table(DISCARDED)?;
            txn.open_table(ERASING)?;
            let table = txn.open_table(ENDPOINT)?;
            let row = table.get(())?;
            row.map(|row| decode(row.value())).transpose()?.unwrap_or_default()
        };
        txn.commit()?;
        let mut outbox = Self {
            database,
            policy,
            endpoint,
            pace: Pace::default(),
            rng: SmallRng::seed_from_u64(seed),
        };
        // Whoever starts anew may have mended what was in the way.
        outbox.retry();
        Ok(outbox)
    }

    /// Takes over what is under way from the outbox that had the file open before a commit failed.
    pub fn take_over(&mut self, under_way: UnderWay) {
        self.pace = under_way.0;
    }

    /// Closes the file, and keeps in mind what is under way. After a commit failed, nobody knows
    /// whether it is there until the file is opened again.
    pub fn close(self) -> UnderWay {
        UnderWay(self.pace)
    }

    /// What it knows of its mapping.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How it stands with the target.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Changes how it stands with the target, durably.
    fn set_endpoint(&mut self, change: impl FnOnce(&mut Endpoint)) -> Result<(), OutboxError> {
        let mut endpoint = self.endpoint.clone();
        change(&mut endpoint);
        let txn = write(&self.database)?;
        put_endpoint(&txn, &endpoint)?;
        txn.commit()?;
        self.endpoint = endpoint;
        Ok(())
    }

    /// Sends nothing until [`Outbox::resume`]; what changes is enqueued all the same.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn pause(&mut self) -> Result<(), OutboxError> {
        self.set_endpoint(|endpoint| endpoint.paused = true)
    }

    /// Sends again, also to a target that was given up.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn resume(&mut self) -> Result<(), OutboxError> {
        self.set_endpoint(|endpoint| {
            (endpoint.paused, endpoint.disabled) = (false, None);
            (endpoint.failures, endpoint.failing_since_ms) = (0, None);
        })?;
        self.retry();
        Ok(())
    }

    /// Whether rows are to be made by the mapping that this outbox knows of. A new outbox's are, and it goes
    /// by that mapping from its first rows on; one
    /// whose mapping was changed makes none until [`Outbox::apply_mapping`].
    pub fn is_applied(&self) -> bool {
        self.endpoint.mapping.as_ref().is_none_or(|applied| *applied == self.policy.mapping)
    }

    /// Makes rows by another version of the mapping from now on.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn apply_mapping(&mut self, now_ms: u64, version: &str) -> Result<(), OutboxError> {
        if self.endpoint.mapping.as_deref() == Some(version) {
            return Ok(());
        }
        self.set_endpoint(|endpoint| {
            endpoint.epoch = now_ms.max(endpoint.epoch + 1);
            endpoint.mapping = Some(version.to_owned());
        })?;
        self.retry();
        Ok(())
    }

    /// Forgets rows that are gone, for the target too, and are not to be remembered any longer.
    /// Returns how many.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn purge(&mut self, now_ms: u64) -> Result<u64, OutboxError> {
        let gone = self.forgettable(now_ms)?;
        if gone.is_empty() {
            return Ok(0);
        }
        let txn = write(&self.database)?;
        {
            let (mut shadows, mut records) = (txn.open_table(SHADOWS)?, txn.open_table(RECORDS)?);
            for (document, name, record) in &gone {
                shadows.remove((document, &**name, &**record))?;
                let key = (&**name, &**record);
                let is_own = records.get(key)?.is_some_and(|owner| owner.value() == document);
                if is_own {
                    records.remove(key)?;
                }
            }
        }
        txn.commit()?;
        Ok(gone.len() as u64)
    }

    /// The rows that are gone, for the target too, for as long as they are to be remembered.
    fn forgettable(&self, now_ms: u64) -> Result<Vec<([u8; 16], String, String)>, OutboxError> {
        let txn = self.database.begin_read()?;
        let (shadows, outbox) = (txn.open_table(SHADOWS)?, txn.open_table(OUTBOX)?);
        let kept = match self.policy.deletes {
            Deletes::Delete => 0,
            Deletes::Mark { ttl } => u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        };
        let mut gone = Vec::new();
        for row in shadows.iter()? {
            let (key, row) = row?;
            let shadow: Shadow = decode(row.value())?;
            let Some(deleted_ms) = shadow.deleted_ms else { continue };
            let kept = if shadow.erased { 0 } else { kept };
            let is_over = deleted_ms.saturating_add(kept) <= now_ms;
            if shadow.wanted.is_none() && shadow.held.is_none() && is_over {
                let (document, name, record) = key.value();
                // Whoever else becomes this row waits for its deletion.
                if outbox.range((document, 0)..=(document, u64::MAX))?.next().is_none() {
                    gone.push((*document, name.to_owned(), record.to_owned()));
                }
            }
        }
        Ok(gone)
    }

    /// Makes every document be delivered anew once it is projected again, with other keys. Targets
    /// take it for newer than all there was, also when this outbox was restored from a copy.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn backfill(&mut self, now_ms: u64) -> Result<(), OutboxError> {
        self.set_endpoint(|endpoint| endpoint.generation = now_ms.max(endpoint.generation + 1))
    }
}

fn write(database: &Database) -> Result<WriteTransaction, OutboxError> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    Ok(txn)
}

fn put_endpoint(txn: &WriteTransaction, endpoint: &Endpoint) -> Result<(), OutboxError> {
    txn.open_table(ENDPOINT)?.insert((), &encode(endpoint)[..])?;
    Ok(())
}

/// Says when the first delivery of a document may be tried; never if nothing waits.
fn put_when(
    txn: &WriteTransaction,
    document: &DocumentId,
    when: Option<u64>,
) -> Result<(), OutboxError> {
    let (mut whens, mut due) = (txn.open_table(WHEN)?, txn.open_table(DUE)?);
    let before = whens.get(&document.0)?.map(|when| when.value());
    if before == when {
        return Ok(());
    }
    if let Some(before) = before {
        due.remove((before, &document.0))?;
    }
    match when {
        Some(when) => {
            whens.insert(&document.0, when)?;
            due.insert((when, &document.0), ())?;
        }
        None => _ = whens.remove(&document.0)?,
    }
    Ok(())
}

fn encode<T: minicbor::Encode<()>>(row: &T) -> Vec<u8> {
    minicbor::to_vec(row).expect("encoding into a Vec cannot fail")
}

fn decode<'a, T: minicbor::Decode<'a, ()>>(bytes: &'a [u8]) -> Result<T, minicbor::decode::Error> {
    minicbor::decode(bytes)
}
