//! From what a document projects to, to deliveries.

use std::collections::BTreeMap;

use redb::{ReadableDatabase, ReadableTable, WriteTransaction};
use rejoin::{ChangeHash, DocumentId};

use super::dead::remove_dead;
use super::rows::RowBytes;
use super::tables::{
    CHECKPOINTS, DEAD, DEAD_NEXT, DEAD_OF, DISCARDED, HELD, MISFITS, OUTBOX, PARKED, RECORDS,
    SHADOWS, WANTS, WHEN,
};
use super::{
    Checkpoint, DeadClass, DeadLetter, Endpoint, Outbox, OutboxError, Shadow, Waiting, decode,
    encode, put_endpoint, put_when, write,
};
use crate::delivery::{Action, Delivery, IdempotencyKey, Origin, Record, Row};
use crate::mapping::{Deletes, Mode};
use crate::projection::Misfit;

/// What a document projects to.
#[derive(Debug, Clone)]
pub struct Projected {
    /// Which document.
    pub document: DocumentId,
    /// Its heads.
    pub heads: Vec<ChangeHash>,
    /// The heads of its schema.
    pub schema: Vec<ChangeHash>,
    /// Whether the heads stand for the rows: the same heads never become other rows.
    pub by_heads: bool,
    /// The documents that it is about, if it is a review.
    pub about: Vec<DocumentId>,
    /// The rows, and what is none.
    pub rows: BTreeMap<Record, Result<Row, Misfit>>,
}

impl Projected {
    /// What is carried no more.
    pub(crate) fn gone(document: DocumentId, schema: &[ChangeHash]) -> Self {
        let (heads, schema) = (Vec::new(), schema.to_vec());
        let (about, rows) = (Vec::new(), BTreeMap::new());
        Self { document, heads, schema, by_heads: false, about, rows }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queued {
    /// New deliveries.
    pub deliveries: u64,
    /// Older ones that they took the place of.
    pub replaced: u64,
    /// Dead letters that are new, or have another fault than before.
    pub misfits: u64,
}

/// A delivery to enqueue.
pub(super) struct New {
    pub(super) now_ms: u64,
    pub(super) document: DocumentId,
    pub(super) record: Record,
    pub(super) action: Action,
    /// See [`Origin`].
    pub(super) again: u64,
}

impl Outbox {
    /// Whether a document with these heads, by this schema, is enqueued already.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn is_enqueued(
        &self,
        document: &DocumentId,
        heads: &[ChangeHash],
        schema: &[ChangeHash],
    ) -> Result<bool, OutboxError> {
        let txn = self.database.begin_read()?;
        let table = txn.open_table(CHECKPOINTS)?;
        let Some(row) = table.get(&document.0)? else { return Ok(false) };
        let checkpoint: Checkpoint = decode(row.value())?;
        Ok(checkpoint.heads == sorted(heads)
            && checkpoint.schema == sorted(schema)
            && checkpoint.mapping == self.policy.mapping
            && checkpoint.generation == self.endpoint.generation)
    }

    /// Enqueues what differs from what was enqueued before, each document once, and notes how far
    /// they are, in one commit.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn enqueue(&mut self, now_ms: u64, projected: &[Projected]) -> Result<Queued, OutboxError> {
        let txn = write(&self.database)?;
        let mut queued = Queued::default();
        for projected in projected {
            self.enqueue_one(&txn, now_ms, projected, &mut queued)?;
        }
        let mapping = self.endpoint.mapping.clone().or_else(|| Some(self.policy.mapping.clone()));
        let endpoint = Endpoint { mapping, ..self.endpoint.clone() };
        if endpoint != self.endpoint {
            put_endpoint(&txn, &endpoint)?;
        }
        txn.commit()?;
        self.endpoint = endpoint;
        Ok(queued)
    }

    fn enqueue_one(
        &self,
        txn: &WriteTransaction,
        now_ms: u64,
        projected: &Projected,
        queued: &mut Queued,
    ) -> Result<(), OutboxError> {
        let document = projected.document;
        let before = checkpoint_of(txn, &document)?.unwrap_or_default();
        let again = before.generation != self.endpoint.generation;
        let mut checkpoint = Checkpoint {
            heads: sorted(&projected.heads),
            schema: sorted(&projected.schema),
            mapping: self.policy.mapping.clone(),
            generation: self.endpoint.generation,
            erased: before.erased && projected.rows.is_empty(),
            // A review that is over is still about the same.
            about: match projected.about.is_empty() {
                true => before.about,
                false => projected.about.clone(),
            },
            ..before
        };
        self.forget_discarded(txn, projected)?;
        let mut shadows = shadows(&txn.open_table(SHADOWS)?, &document)?;
        let (mut deliveries, mut dead) = (Vec::new(), Vec::new());
        for (record, row) in &projected.rows {
            let shadow = shadows.remove(record).unwrap_or_default();
            let row = match row {
                Ok(row) => self.is_free(txn, record, &document)?.map(|()| row),
                Err(misfit) => Err(misfit.to_string()),
            };
            match row {
                Ok(row) if !again && shadow.wanted.as_ref().is_some_and(|it| it.0 == *row) => {}
                Ok(row) => {
                    txn.open_table(RECORDS)?.insert((&*record.name, &*record.key), &document.0)?;
                    let wanted = Some(RowBytes(row.clone()));
                    let shadow = Shadow { wanted, deleted_ms: None, erased: false, ..shadow };
                    put_shadow(txn, &document, record, &shadow)?;
                    deliveries.push((record.clone(), Action::Put(row.clone())));
                }
                Err(fault) => dead.push((record.clone(), fault)),
            }
        }
        for (record, shadow) in shadows {
            let is_gone = shadow.wanted.is_none();
            // Another document may have the row by now: nothing orders a deletion with that.
            if is_gone && !(again && is_own(txn, &record, &document)?) {
                continue;
            }
            let deleted_ms = shadow.deleted_ms.unwrap_or(now_ms);
            let action = self.gone(deleted_ms, shadow.erased);
            let shadow = Shadow { wanted: None, deleted_ms: Some(deleted_ms), ..shadow };
            put_shadow(txn, &document, &record, &shadow)?;
            deliveries.push((record, action));
        }
        let again = if projected.by_heads { 0 } else { now_ms };
        for (record, action) in deliveries {
            let new = New { now_ms, document, record, action, again };
            queued.replaced += self.put(txn, &mut checkpoint, new)?;
            queued.deliveries += 1;
        }
        queued.misfits += self.put_misfits(txn, now_ms, &checkpoint.heads, &document, dead)?;
        txn.open_table(CHECKPOINTS)?.insert(&document.0, &encode(&checkpoint)[..])?;
        Ok(())
    }

    /// Makes dead letters of what is no row, removes those of what is one again, and says how many are
    /// new or have another fault than before.
    fn put_misfits(
        &self,
        txn: &WriteTransaction,
        now_ms: u64,
        heads: &[ChangeHash],
        document: &DocumentId,
        found: Vec<(Record, String)>,
    ) -> Result<u64, OutboxError> {
        let mut known = misfits(txn, document)?;
        let (mut new, mut changed) = (Vec::new(), 0);
        for (record, fault) in found {
            // A row that was none before stays the letter that it is, so that people find it again.
            if let Some((number, letter)) = known.remove(&record) {
                if letter.fault != fault {
                    let letter = DeadLetter { fault, heads: heads.to_vec(), ..letter };
                    txn.open_table(DEAD)?.insert(number, &encode(&letter)[..])?;
                    changed += 1;
                }
                continue;
            }
            new.push(DeadLetter {
                delivery: None,
                document: *document,
                record,
                class: DeadClass::Misfit,
                fault,
                answer: None,
                field: None,
                attempts: 0,
                heads: heads.to_vec(),
                at_ms: now_ms,
            });
        }
        for (record, (number, _)) in known {
            remove_dead(txn, document, number)?;
            txn.open_table(MISFITS)?.remove((&document.0, &*record.name, &*record.key))?;
        }
        self.forget_unwanted(txn, document)?;
        new.iter().try_for_each(|letter| put_dead(txn, letter).map(drop))?;
        Ok(new.len() as u64 + changed)
    }

    /// What a target is to do about a row that is gone.
    pub(super) fn gone(&self, deleted_ms: u64, is_erased: bool) -> Action {
        match self.policy.deletes {
            _ if is_erased => Action::Delete,
            Deletes::Delete => Action::Delete,
            Deletes::Mark { .. } => Action::Mark { deleted_ms },
        }
    }

    /// Enqueues a delivery. Returns how many older ones it took the place of.
    pub(super) fn put(
        &self,
        txn: &WriteTransaction,
        checkpoint: &mut Checkpoint,
        new: New,
    ) -> Result<u64, OutboxError> {
        let New { now_ms, document, record, action, again } = new;
        let (replaced, was_first) = match self.policy.mode {
            Mode::State => self.replace(txn, &document, &record)?,
            Mode::Event => (0, false),
        };
        checkpoint.seq += 1;
        let origin = Origin {
            adapter: &self.policy.adapter,
            document: &document,
            heads: &checkpoint.heads,
            schema: &checkpoint.schema,
            mapping: &checkpoint.mapping,
            generation: checkpoint.generation,
            epoch: self.endpoint.epoch,
            again,
            seq: checkpoint.seq,
        };
        let key = IdempotencyKey::new(&origin, &record);
        txn.open_table(DISCARDED)?.remove((&document.0, &*record.name, &*record.key))?;
        let last = checkpoint.heads.last().map(ToString::to_string);
        let delivery = Delivery {
            previous: checkpoint.last.replace(key.clone()),
            key,
            adapter: self.policy.adapter.clone(),
            document,
            seq: checkpoint.seq,
            record,
            action,
            heads: checkpoint.heads.clone(),
            mapping: checkpoint.mapping.clone(),
            correlation: last.unwrap_or_default(),
            enqueued_ms: now_ms,
            generation: checkpoint.generation,
        };
        let seq = delivery.seq;
        let waiting = Waiting::new(delivery);
        txn.open_table(OUTBOX)?.insert((&document.0, seq), &encode(&waiting)[..])?;
        let when = txn.open_table(WHEN)?.get(&document.0)?.map(|when| when.value());
        // A row that was corrected does not wait for what the one before it was answered. What waits
        // first may be of another kind now, which is in no trouble.
        let is_new_first = was_first && when != Some(HELD);
        if when.is_none() || is_new_first || when == Some(PARKED) && replaced > 0 {
            put_when(txn, &document, Some(now_ms))?;
        }
        Ok(replaced)
    }

    /// Drops what waits about a row, as something newer takes its place; not what is under way. Returns
    /// how many deliveries that are, and whether the document's first is one of them.
    fn replace(
        &self,
        txn: &WriteTransaction,
        document: &DocumentId,
        record: &Record,
    ) -> Result<(u64, bool), OutboxError> {
        let mut table = txn.open_table(OUTBOX)?;
        let mut older = Vec::new();
        let (in_flight, mut was_first) = (self.pace.is_in_flight(document), false);
        for (at, row) in table.range((&document.0, 0)..=(&document.0, u64::MAX))?.enumerate() {
            let (key, row) = row?;
            let waiting: Waiting = decode(row.value())?;
            if waiting.delivery.record == *record && !(in_flight && at == 0) {
                older.push(key.value().1);
                was_first |= at == 0;
            }
        }
        for seq in &older {
            table.remove((&document.0, *seq))?;
        }
        Ok((older.len() as u64, was_first))
    }

    /// Whether no other document has this row already.
    fn is_free(
        &self,
        txn: &WriteTransaction,
        record: &Record,
        document: &DocumentId,
    ) -> Result<Result<(), String>, OutboxError> {
        let records = txn.open_table(RECORDS)?;
        let owner = records.get((&*record.name, &*record.key))?;
        let owner = owner.map(|owner| DocumentId(*owner.value()));
        let Some(other) = owner.filter(|owner| owner != document) else { return Ok(Ok(())) };
        let shadow = txn.open_table(SHADOWS)?;
        let shadow = shadow.get((&other.0, &*record.name, &*record.key))?;
        let shadow: Option<Shadow> = shadow.map(|row| decode(row.value())).transpose()?;
        let Shadow { wanted, held, .. } = shadow.unwrap_or_default();
        // Its deletion could come after this one's row.
        let is_held = held.is_some() || is_waiting(txn, &other, record)?;
        if wanted.is_none() && !is_held {
            return Ok(Ok(()));
        }
        txn.open_table(WANTS)?.insert((&*record.name, &*record.key, &document.0), ())?;
        Ok(Err(match wanted {
            Some(_) => format!(
                "the document {other} has this row already; make the mapping's `key` tell them apart"
            ),
            None => format!(
                "the target still holds this row of the document {other}, which gave it up; this \
                 one follows when that is delivered"
            ),
        }))
    }
}

/// The dead letters of a document that were no rows, with their numbers.
fn misfits(
    txn: &WriteTransaction,
    document: &DocumentId,
) -> Result<BTreeMap<Record, (u64, DeadLetter)>, OutboxError> {
    let (misfits, dead) = (txn.open_table(MISFITS)?, txn.open_table(DEAD)?);
    let mut found = BTreeMap::new();
    for row in misfits.range((&document.0, "", "")..)? {
        let (key, number) = row?;
        let (of, name, record) = key.value();
        if *of != document.0 {
            break;
        }
        let number = number.value();
        let record = Record { name: name.to_owned(), key: record.to_owned() };
        let Some(row) = dead.get(number)? else { continue };
        found.insert(record, (number, decode(row.value())?));
    }
    Ok(found)
}

/// The rows that a document was enqueued as.
pub(super) fn shadows(
    table: &impl ReadableTable<(&'static [u8; 16], &'static str, &'static str), &'static [u8]>,
    document: &DocumentId,
) -> Result<BTreeMap<Record, Shadow>, OutboxError> {
    let mut shadows = BTreeMap::new();
    for row in table.range((&document.0, "", "")..)? {
        let (key, row) = row?;
        let (of, name, record) = key.value();
        if *of != document.0 {
            break;
        }
        let record = Record { name: name.to_owned(), key: record.to_owned() };
        shadows.insert(record, decode(row.value())?);
    }
    Ok(shadows)
}

fn checkpoint_of(
    txn: &WriteTransaction,
    document: &DocumentId,
) -> Result<Option<Checkpoint>, OutboxError> {
    let row = txn.open_table(CHECKPOINTS)?.get(&document.0)?.map(|row| decode(row.value()));
    Ok(row.transpose()?)
}

/// Whether a delivery about a row waits.
pub(super) fn is_waiting(
    txn: &WriteTransaction,
    document: &DocumentId,
    record: &Record,
) -> Result<bool, OutboxError> {
    let outbox = txn.open_table(OUTBOX)?;
    for row in outbox.range((&document.0, 0)..=(&document.0, u64::MAX))? {
        let waiting: Waiting = decode(row?.1.value())?;
        if waiting.delivery.record == *record {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a row comes from a document, and from no other since.
pub(super) fn is_own(
    txn: &WriteTransaction,
    record: &Record,
    document: &DocumentId,
) -> Result<bool, OutboxError> {
    let records = txn.open_table(RECORDS)?;
    let owner = records.get((&*record.name, &*record.key))?;
    Ok(owner.is_some_and(|owner| *owner.value() == document.0))
}

/// Whether a document became this row.
pub(super) fn is_known(txn: &WriteTransaction, record: &Record) -> Result<bool, OutboxError> {
    Ok(txn.open_table(RECORDS)?.get((&*record.name, &*record.key))?.is_some())
}

pub(super) fn put_shadow(
    txn: &WriteTransaction,
    document: &DocumentId,
    record: &Record,
    shadow: &Shadow,
) -> Result<(), OutboxError> {
    let key = (&document.0, &*record.name, &*record.key);
    txn.open_table(SHADOWS)?.insert(key, &encode(shadow)[..])?;
    Ok(())
}

pub(super) fn put_dead(txn: &WriteTransaction, letter: &DeadLetter) -> Result<u64, OutboxError> {
    let mut next = txn.open_table(DEAD_NEXT)?;
    let number = next.get(())?.map_or(1, |number| number.value());
    next.insert((), number + 1)?;
    txn.open_table(DEAD)?.insert(number, &encode(letter)[..])?;
    txn.open_table(DEAD_OF)?.insert((&letter.document.0, number), ())?;
    if letter.class == DeadClass::Misfit {
        let key = (&letter.document.0, &*letter.record.name, &*letter.record.key);
        txn.open_table(MISFITS)?.insert(key, number)?;
    }
    Ok(number)
}

/// Whether a document waits for somebody to do something.
pub(super) fn is_held(txn: &WriteTransaction, document: &DocumentId) -> Result<bool, OutboxError> {
    let when = txn.open_table(WHEN)?.get(&document.0)?.map(|when| when.value());
    Ok(when == Some(HELD))
}

fn sorted(heads: &[ChangeHash]) -> Vec<ChangeHash> {
    let mut heads = heads.to_vec();
    heads.sort_unstable();
    heads
}
