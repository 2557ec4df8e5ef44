//! What is tried next, and what came of it.

use std::time::Duration;

use rand::RngExt;
use redb::{ReadableDatabase, ReadableTable, WriteTransaction};
use rejoin::DocumentId;

use super::enqueue::{is_held, put_dead, put_shadow};
use super::rows::RowBytes;
use super::tables::{DUE, HELD, OUTBOX, SHADOWS, WANTS};
use super::{
    DeadClass, DeadLetter, Endpoint, Outbox, OutboxError, Shadow, Taken, Waiting, decode, encode,
    put_endpoint, put_when, write,
};
use crate::delivery::{Action, Delivery};
use crate::mapping::OnPoison;
use crate::sink::{Fault, FaultClass};

/// A delivery to hand to the target now.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// What to hand over.
    pub delivery: Delivery,
    /// Attempts that failed before.
    pub attempts: u32,
}

impl Outbox {
    /// Takes deliveries to hand to the target now, each of another document. Nobody else gets them
    /// until [`Outbox::finish`] or [`Outbox::give_back`]. At most `max` are under way at once.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn take(&mut self, now_ms: u64, max: usize) -> Result<Vec<Attempt>, OutboxError> {
        if self.endpoint.paused || self.endpoint.disabled.is_some() {
            return Ok(Vec::new());
        }
        let mut free = max.saturating_sub(self.in_flight.len());
        if self.is_down() {
            // One delivery asks for all whether the target is back.
            free = free.min(usize::from(self.in_flight.is_empty() && now_ms >= self.probe_ms));
        }
        let txn = self.database.begin_read()?;
        let (due, outbox) = (txn.open_table(DUE)?, txn.open_table(OUTBOX)?);
        let mut taken = Vec::new();
        for row in due.range((0, &[0; 16])..=(now_ms, &[u8::MAX; 16]))? {
            if taken.len() == free {
                break;
            }
            let document = DocumentId(*row?.0.value().1);
            if self.in_flight.contains(&document) {
                continue;
            }
            let first = outbox.range((&document.0, 0)..=(&document.0, u64::MAX))?.next();
            let Some((_, row)) = first.transpose()? else { continue };
            let Waiting { delivery, attempts, .. } = decode(row.value())?;
            taken.push(Attempt { delivery, attempts });
        }
        self.in_flight.extend(taken.iter().map(|attempt| attempt.delivery.document));
        Ok(taken)
    }

    /// How many deliveries are under way.
    pub fn under_way(&self) -> usize {
        self.in_flight.len()
    }

    /// When there may be something to take, in milliseconds since 1970: not before, unless something
    /// is enqueued or finished. Nothing if it is not up to time.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn next_ms(&self) -> Result<Option<u64>, OutboxError> {
        if self.endpoint.paused || self.endpoint.disabled.is_some() {
            return Ok(None);
        }
        let txn = self.database.begin_read()?;
        let due = txn.open_table(DUE)?;
        let mut next = None;
        for row in due.iter()? {
            let key = row?.0;
            let (when, document) = key.value();
            if !self.in_flight.contains(&DocumentId(*document)) {
                next = Some(when).filter(|when| *when != HELD);
                break;
            }
        }
        let is_probing = self.is_down() && !self.in_flight.is_empty();
        let earliest = if self.is_down() { self.probe_ms } else { 0 };
        Ok(next.filter(|_| !is_probing).map(|next| next.max(earliest)))
    }

    /// Gives back what was taken and never handed over.
    pub fn give_back(&mut self, document: &DocumentId) {
        self.in_flight.remove(document);
    }

    /// Gives back all that was taken, when nobody is left who would finish it.
    pub fn give_back_all(&mut self) {
        self.in_flight.clear();
    }

    /// Notes what came of deliveries that were handed over together, in one commit. Returns whether
    /// documents are to be projected again: those that waited for a row which is free now.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn finish(
        &mut self,
        now_ms: u64,
        outcomes: &[(Delivery, Result<(), Fault>)],
    ) -> Result<bool, OutboxError> {
        let txn = write(&self.database)?;
        let mut endpoint = self.endpoint.clone();
        // Whoever refuses is there; and what was handed over together failed once.
        let is_away = |outcome: &Result<(), Fault>| {
            outcome.as_ref().is_err_and(|fault| fault.class != FaultClass::Permanent)
        };
        if outcomes.iter().all(|(_, outcome)| is_away(outcome)) {
            endpoint.failures = endpoint.failures.saturating_add(1);
            endpoint.failing_since_ms.get_or_insert(now_ms);
        } else {
            endpoint.failures = 0;
            endpoint.failing_since_ms = None;
        }
        let mut freed = false;
        for (delivery, outcome) in outcomes {
            match outcome {
                Ok(()) => {
                    taken(&txn, now_ms, delivery)?;
                    freed |= self.free(&txn, delivery)?;
                    next(&txn, now_ms, &delivery.document, delivery.seq)?;
                }
                Err(fault) => self.failed(&txn, now_ms, delivery, fault, &mut endpoint)?,
            }
        }
        if self.is_down() && outcomes.iter().any(|(_, outcome)| outcome.is_ok()) {
            hasten(&txn, now_ms)?;
        }
        if endpoint != self.endpoint {
            put_endpoint(&txn, &endpoint)?;
        }
        txn.commit()?;
        self.endpoint = endpoint;
        for (delivery, _) in outcomes {
            self.in_flight.remove(&delivery.document);
        }
        if self.is_down() {
            let doublings = (self.endpoint.failures - DOWN_AFTER).min(16);
            let wait = PROBE_MIN.saturating_mul(1 << doublings).min(PROBE_MAX);
            self.probe_ms = now_ms.saturating_add(self.jittered(wait));
        }
        Ok(freed)
    }

    /// Makes documents be projected again that become a row which another gave up.
    fn free(&self, txn: &WriteTransaction, delivery: &Delivery) -> Result<bool, OutboxError> {
        if matches!(delivery.action, Action::Put(_)) {
            return Ok(false);
        }
        let (name, key) = (&*delivery.record.name, &*delivery.record.key);
        let mut wants = txn.open_table(WANTS)?;
        let mut found = Vec::new();
        for row in wants.range((name, key, &[0; 16])..=(name, key, &[u8::MAX; 16]))? {
            found.push(DocumentId(*row?.0.value().2));
        }
        for document in &found {
            wants.remove((name, key, &document.0))?;
        }
        drop(wants);
        found.iter().try_for_each(|document| self.forget_checkpoint(txn, document))?;
        Ok(!found.is_empty())
    }

    fn failed(
        &mut self,
        txn: &WriteTransaction,
        now_ms: u64,
        delivery: &Delivery,
        fault: &Fault,
        endpoint: &mut Endpoint,
    ) -> Result<(), OutboxError> {
        let document = &delivery.document;
        let row = txn
            .open_table(OUTBOX)?
            .get((&document.0, delivery.seq))?
            .map(|row| decode(row.value()));
        let Some(mut waiting): Option<Waiting> = row.transpose()? else { return Ok(()) };
        waiting.attempts += 1;
        waiting.fault = Some(fault.what.clone());
        let wait = self.policy.retry.schedule.get(waiting.attempts as usize - 1).copied();
        match (fault.class, wait) {
            (FaultClass::Gone, _) => {
                endpoint.disabled = Some(fault.what.clone());
                put_waiting(txn, &waiting)
            }
            (FaultClass::Transient { after }, Some(wait)) => {
                let since = endpoint.failing_since_ms.unwrap_or(now_ms);
                let limit = self.policy.retry.disable_after;
                if now_ms.saturating_sub(since) >= millis(limit) {
                    endpoint.disabled = Some(format!(
                        "nothing was taken for {}; the last fault: {}",
                        humantime::format_duration(limit),
                        fault.what
                    ));
                }
                let wait = self.jittered(wait).max(after.map_or(0, millis));
                put_waiting(txn, &waiting)?;
                put_when(txn, document, Some(now_ms.saturating_add(wait)))
            }
            (FaultClass::Transient { .. }, None) => {
                self.bury(txn, now_ms, waiting, fault, DeadClass::Exhausted)
            }
            (FaultClass::Permanent, _) => {
                self.bury(txn, now_ms, waiting, fault, DeadClass::Permanent)
            }
        }
    }

    /// Makes a dead letter of what waits, and goes on with the next.
    fn bury(
        &self,
        txn: &WriteTransaction,
        now_ms: u64,
        waiting: Waiting,
        fault: &Fault,
        class: DeadClass,
    ) -> Result<(), OutboxError> {
        let Waiting { delivery, attempts, .. } = waiting;
        let (document, seq) = (delivery.document, delivery.seq);
        let letter = DeadLetter {
            document,
            record: delivery.record.clone(),
            class,
            fault: fault.what.clone(),
            answer: fault.answer.clone(),
            attempts,
            heads: delivery.heads.clone(),
            at_ms: now_ms,
            delivery: Some(delivery),
        };
        put_dead(txn, &letter)?;
        next(txn, now_ms, &document, seq)?;
        if self.policy.on_poison == OnPoison::Hold {
            put_when(txn, &document, Some(HELD))?;
        }
        Ok(())
    }

    /// Whether nothing but failures came back lately.
    pub fn is_down(&self) -> bool {
        self.endpoint.failures >= DOWN_AFTER
    }

    /// A wait, in milliseconds, with its part that is left to chance.
    fn jittered(&mut self, wait: Duration) -> u64 {
        let chance: f64 = self.rng.random();
        millis(wait.mul_f64(1.0 + self.policy.retry.jitter * chance))
    }
}

/// Notes that the target took a delivery.
fn taken(txn: &WriteTransaction, now_ms: u64, delivery: &Delivery) -> Result<(), OutboxError> {
    let Delivery { document, record, action, .. } = delivery;
    let known = {
        let table = txn.open_table(SHADOWS)?;
        let row = table.get((&document.0, &*record.name, &*record.key))?;
        row.map(|row| decode(row.value())).transpose()?
    };
    let mut shadow: Shadow = known.unwrap_or_default();
    shadow.held = match action {
        Action::Put(row) => Some(RowBytes(row.clone())),
        Action::Mark { .. } | Action::Delete => None,
    };
    if shadow.held.is_none() && shadow.wanted.is_none() {
        shadow.deleted_ms.get_or_insert(now_ms);
    }
    let at = Taken { key: delivery.key.clone(), heads: delivery.heads.clone(), at_ms: now_ms };
    shadow.taken.push(at);
    let extra = shadow.taken.len().saturating_sub(TAKEN_KEPT);
    shadow.taken.drain(..extra);
    put_shadow(txn, document, record, &shadow)
}

/// Takes a delivery out of the outbox, and makes the document's next one due.
fn next(
    txn: &WriteTransaction,
    now_ms: u64,
    document: &DocumentId,
    seq: u64,
) -> Result<(), OutboxError> {
    txn.open_table(OUTBOX)?.remove((&document.0, seq))?;
    if is_held(txn, document)? {
        return Ok(());
    }
    let table = txn.open_table(OUTBOX)?;
    let waits = table.range((&document.0, 0)..=(&document.0, u64::MAX))?.next().is_some();
    drop(table);
    put_when(txn, document, waits.then_some(now_ms))
}

/// Makes what waits out a failure due now: the target is back.
fn hasten(txn: &WriteTransaction, now_ms: u64) -> Result<(), OutboxError> {
    let mut later = Vec::new();
    {
        let due = txn.open_table(DUE)?;
        for row in due.range((now_ms + 1, &[0; 16])..(HELD, &[0; 16]))?.take(HASTENED_MAX) {
            later.push(DocumentId(*row?.0.value().1));
        }
    }
    later.iter().try_for_each(|document| put_when(txn, document, Some(now_ms)))
}

fn put_waiting(txn: &WriteTransaction, waiting: &Waiting) -> Result<(), OutboxError> {
    let key = (&waiting.delivery.document.0, waiting.delivery.seq);
    txn.open_table(OUTBOX)?.insert(key, &encode(waiting)[..])?;
    Ok(())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Failures in a row after which a target counts as down.
const DOWN_AFTER: u32 = 5;
/// How soon a target that is down is asked again, at first.
const PROBE_MIN: Duration = Duration::from_secs(1);
/// And at last.
const PROBE_MAX: Duration = Duration::from_mins(5);
/// Documents that are tried at once when a target is back.
const HASTENED_MAX: usize = 10_000;
/// Deliveries remembered of a row, for whoever asks where it came from.
const TAKEN_KEPT: usize = 8;
