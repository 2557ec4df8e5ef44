//! What came of what was tried.

use std::collections::BTreeSet;
use std::time::Duration;

use redb::{ReadableTable, WriteTransaction};
use rejoin::DocumentId;

use super::dead::{letters_of, remove_dead};
use super::enqueue::{is_held, put_dead, put_shadow};
use super::rows::{RowBytes, TARGET, Trouble, WaitingAbout};
use super::tables::{DEAD, DEAD_OF, HELD, OUTBOX, PARKED, SHADOWS, WANTS};
use super::{
    DeadClass, DeadLetter, Endpoint, Outbox, OutboxError, Shadow, Taken, Waiting, decode, encode,
    put_endpoint, put_when, write,
};
use crate::delivery::{Action, Delivery, Fault, FaultClass, Reach};
use crate::mapping::{Mode, OnPoison};

/// What else followed from what was handed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// Documents are to be projected again: those that waited for a row which is free now.
    pub freed: bool,
    /// Troubles that began, or are others than before: what they reach, and what they are.
    pub begun: Vec<(String, Trouble)>,
    /// Troubles that are over.
    pub ended: Vec<(String, Trouble)>,
    /// Why the target was given up, if it was.
    pub given_up: Option<String>,
}

/// How the outcomes of one hand-over are looked at, and what becomes of the endpoint by them.
struct Look {
    now_ms: u64,
    endpoint: Endpoint,
    /// When the target is asked again while nothing can be delivered.
    probe_ms: u64,
    /// Kinds of row that turned out to be in trouble.
    met: BTreeSet<String>,
}

impl Outbox {
    /// Notes what came of deliveries that were handed over together, in one commit.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn finish(
        &mut self,
        now_ms: u64,
        outcomes: &[(Delivery, Result<(), Fault>)],
    ) -> Result<Finished, OutboxError> {
        let mut look = self.look_at(now_ms, outcomes);
        let txn = write(&self.database)?;
        let mut freed = false;
        for (delivery, outcome) in outcomes {
            match outcome {
                Err(fault) if !self.is_gone_with_its_place(delivery, fault) => {
                    self.failed(&txn, delivery, fault, &mut look)?;
                }
                _ => {
                    taken(&txn, now_ms, delivery)?;
                    self.make_good(&txn, delivery)?;
                    freed |= self.free(&txn, delivery)?;
                    next(&txn, now_ms, &delivery.document, delivery.seq)?;
                }
            }
        }
        if look.endpoint != self.endpoint {
            put_endpoint(&txn, &look.endpoint)?;
        }
        txn.commit()?;
        for (delivery, outcome) in outcomes {
            self.give_back(&delivery.document);
            self.pace.was_tried(&delivery.document);
            if outcome.is_ok() {
                self.pace.took();
            }
            if outcome.is_err() {
                self.pace.failed(delivery.document);
            }
        }
        Ok(Finished { freed, ..self.turn_to(look) })
    }

    /// Whether a delivery is about a row that is gone, of a kind that the mapping makes no more, and the
    /// place of that kind is gone, too: nobody brings it back for this adapter, and nothing is left to
    /// delete. A mapping that nobody applied yet says nothing of that.
    fn is_gone_with_its_place(&self, delivery: &Delivery, fault: &Fault) -> bool {
        self.is_applied()
            && fault.class == FaultClass::Trouble(Reach::NoPlace)
            && delivery.action.row().is_none()
            && !self.policy.kinds.contains(&delivery.record.name)
    }

    /// What outcomes say of the target.
    fn look_at(&mut self, now_ms: u64, outcomes: &[(Delivery, Result<(), Fault>)]) -> Look {
        let mut endpoint = self.endpoint.clone();
        let (mut judged, mut reaches, mut answered, mut trouble) = (false, false, None, None);
        let mut after = Duration::ZERO;
        for (delivery, outcome) in outcomes {
            let kind = &delivery.record.name;
            match outcome.as_ref().map_err(|fault| (fault, fault.class)) {
                Ok(()) => {
                    judged = true;
                    endpoint.troubles.remove(kind);
                    endpoint.taken_ms.insert(kind.clone(), now_ms);
                }
                Err((_, FaultClass::Permanent)) => {
                    judged = true;
                    endpoint.troubles.remove(kind);
                }
                Err((_, FaultClass::Trouble(Reach::Kind | Reach::NoPlace))) => reaches = true,
                Err((fault, FaultClass::Trouble(Reach::Target))) => trouble = Some(fault),
                // Rows that failed before are tried early because the target takes others: what becomes of
                // them says nothing of it.
                Err((_, FaultClass::Transient { .. }))
                    if self.pace.early(&delivery.document, delivery.seq).is_some() => {}
                Err((fault, FaultClass::Transient { after: asked })) => {
                    answered = Some(fault);
                    after = after.max(asked.unwrap_or_default());
                }
                Err((fault, FaultClass::Gone)) => answered = Some(fault),
            }
        }
        // Whoever refuses a row, or knows no such table, is there.
        if judged || reaches {
            endpoint.troubles.remove(TARGET);
        }
        if judged {
            (endpoint.failures, endpoint.failing_since_ms) = (0, None);
        }
        if let Some(fault) = trouble {
            // It did not answer, so it did not refuse anything for long either.
            (endpoint.failures, endpoint.failing_since_ms) = (0, None);
            begin(&mut endpoint, TARGET, now_ms, fault);
        } else if let Some(fault) = answered.filter(|_| !judged && !reaches) {
            endpoint.failures = endpoint.failures.saturating_add(1);
            let since_ms = *endpoint.failing_since_ms.get_or_insert(now_ms);
            if endpoint.failures >= DOWN_AFTER || endpoint.troubles.contains_key(TARGET) {
                begin(&mut endpoint, TARGET, since_ms, fault);
            }
        }
        let since_ms = endpoint.troubles.get(TARGET).map_or(now_ms, |trouble| trouble.since_ms);
        let probe_ms = self.probe_after(now_ms, since_ms).max(now_ms + millis(after));
        Look { now_ms, endpoint, probe_ms, met: BTreeSet::new() }
    }

    /// Goes by what was found, once that is kept.
    fn turn_to(&mut self, look: Look) -> Finished {
        let Look { now_ms, endpoint, probe_ms, met } = look;
        let before = std::mem::replace(&mut self.endpoint, endpoint);
        let now = &self.endpoint.troubles;
        let is_new = |(kind, trouble): &(&String, &Trouble)| {
            before.troubles.get(*kind).is_none_or(|before| before.what != trouble.what)
        };
        let owned = |(kind, trouble): (&String, &Trouble)| (kind.clone(), trouble.clone());
        let begun: Vec<_> = now.iter().filter(is_new).map(owned).collect();
        let is_over = |(kind, _): &(&String, &Trouble)| !now.contains_key(*kind);
        let ended: Vec<_> = before.troubles.iter().filter(is_over).map(owned).collect();
        ended.iter().for_each(|(kind, _)| _ = self.pace.probes.remove(kind));
        let sinces: Vec<_> =
            met.iter().filter_map(|kind| Some((kind, now.get(kind)?.since_ms))).collect();
        for (kind, since_ms) in sinces {
            let probe_ms = self.probe_after(now_ms, since_ms);
            self.pace.probes.insert(kind.clone(), probe_ms);
        }
        if self.is_down() {
            self.pace.probes.insert(TARGET.to_owned(), probe_ms);
            self.pace.release = None;
        } else if !ended.is_empty() {
            self.release_all();
        }
        let given_up = self.endpoint.disabled.clone().filter(|_| before.disabled.is_none());
        Finished { freed: false, begun, ended, given_up }
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
        delivery: &Delivery,
        fault: &Fault,
        look: &mut Look,
    ) -> Result<(), OutboxError> {
        let (document, now_ms) = (&delivery.document, look.now_ms);
        let row = txn
            .open_table(OUTBOX)?
            .get((&document.0, delivery.seq))?
            .map(|row| decode(row.value()));
        let Some(mut waiting): Option<Waiting> = row.transpose()? else { return Ok(()) };
        if fault.class != FaultClass::Gone && self.is_replaced(txn, delivery)? {
            next(txn, now_ms, document, delivery.seq)?;
            let is_away = look.endpoint.troubles.contains_key(TARGET);
            let waits = is_away && !is_held(txn, document)?;
            return if waits { put_when(txn, document, Some(look.probe_ms)) } else { Ok(()) };
        }
        match fault.class {
            FaultClass::Gone => {
                look.endpoint.disabled = Some(fault.what.clone());
                waiting.attempts += 1;
                waiting.fault = Some(fault.what.clone());
                put_waiting(txn, &waiting)
            }
            // Behind all others, so that one row alone cannot keep a trouble going.
            FaultClass::Trouble(Reach::Target) => put_when(txn, document, Some(look.probe_ms)),
            FaultClass::Trouble(Reach::Kind | Reach::NoPlace) => {
                self.met(txn, waiting, fault, look)
            }
            FaultClass::Transient { .. } if look.endpoint.troubles.contains_key(TARGET) => {
                self.give_up_after(fault, look);
                put_when(txn, document, Some(look.probe_ms))
            }
            FaultClass::Transient { after } => self.try_again(txn, waiting, fault, after, look),
            FaultClass::Permanent => {
                waiting.attempts += 1;
                self.bury(txn, now_ms, waiting, fault, DeadClass::Permanent)
            }
        }
    }

    /// Whether something newer about its row waits, by which it is not to be delivered any more: it was
    /// enqueued while this one was under way.
    fn is_replaced(
        &self,
        txn: &WriteTransaction,
        delivery: &Delivery,
    ) -> Result<bool, OutboxError> {
        let is_put = matches!(delivery.action, Action::Put(_));
        if is_put && is_erased(txn, delivery)? {
            return Ok(true);
        }
        if self.policy.mode != Mode::State {
            return Ok(false);
        }
        let (document, after) = (&delivery.document.0, delivery.seq + 1);
        let table = txn.open_table(OUTBOX)?;
        for row in table.range((document, after)..=(document, u64::MAX))? {
            let about: WaitingAbout = decode(row?.1.value())?;
            if about.delivery.record == delivery.record {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A row met a trouble of its kind. If others of its kind were taken since it failed first, they do
    /// not wait for it: the configuration may lack what this row alone needs, such as a column.
    fn met(
        &mut self,
        txn: &WriteTransaction,
        mut waiting: Waiting,
        fault: &Fault,
        look: &mut Look,
    ) -> Result<(), OutboxError> {
        let (document, kind) = (waiting.delivery.document, waiting.delivery.record.name.clone());
        let since_ms = waiting.failed_since_ms.unwrap_or(look.now_ms);
        let others =
            look.endpoint.taken_ms.get(&kind).is_some_and(|taken_ms| *taken_ms >= since_ms);
        if others && !look.endpoint.troubles.contains_key(&kind) {
            waiting.fault = Some(fault.what.clone());
            waiting.failed_since_ms = Some(since_ms);
            put_waiting(txn, &waiting)?;
            return put_when(txn, &document, Some(self.probe_after(look.now_ms, since_ms)));
        }
        begin(&mut look.endpoint, &kind, look.now_ms, fault);
        look.met.insert(kind);
        if waiting.failed_since_ms.replace(since_ms).is_none() {
            put_waiting(txn, &waiting)?;
        }
        put_when(txn, &document, Some(PARKED))
    }

    /// A row failed, and nobody knows whose fault that is. At the end of the schedule it is its own
    /// if the target took something since the row failed first; or else the last wait is repeated.
    fn try_again(
        &mut self,
        txn: &WriteTransaction,
        mut waiting: Waiting,
        fault: &Fault,
        after: Option<Duration>,
        look: &mut Look,
    ) -> Result<(), OutboxError> {
        let (now_ms, document) = (look.now_ms, waiting.delivery.document);
        waiting.fault = Some(fault.what.clone());
        if let Some(time) = self.pace.early(&document, waiting.delivery.seq) {
            self.give_up_after(fault, look);
            put_waiting(txn, &waiting)?;
            let time = time.max(now_ms.saturating_add(after.map_or(0, millis)));
            return put_when(txn, &document, Some(time));
        }
        waiting.attempts += 1;
        let since_ms = *waiting.failed_since_ms.get_or_insert(now_ms);
        let schedule = &self.policy.retry.schedule;
        let wait = schedule.get(waiting.attempts as usize - 1).copied();
        let takes_others = look.endpoint.taken_ms.values().any(|taken_ms| *taken_ms >= since_ms);
        if wait.is_none() && takes_others {
            return self.bury(txn, now_ms, waiting, fault, DeadClass::Exhausted);
        }
        let wait = wait.or_else(|| schedule.last().copied()).unwrap_or(PROBE_MAX);
        self.give_up_after(fault, look);
        let wait = self.jittered(wait).max(after.map_or(0, millis));
        put_waiting(txn, &waiting)?;
        // A target that says how long it wants to be left alone is.
        if after.is_none() {
            self.pace.waits(document);
        }
        put_when(txn, &document, Some(now_ms.saturating_add(wait)))
    }

    /// Gives the target up if it answered nothing but failures for as long as the mapping allows.
    fn give_up_after(&self, fault: &Fault, look: &mut Look) {
        let since_ms = look.endpoint.failing_since_ms.unwrap_or(look.now_ms);
        let limit = self.policy.retry.disable_after;
        if look.now_ms.saturating_sub(since_ms) >= millis(limit) {
            look.endpoint.disabled = Some(format!(
                "nothing was taken for {}; the last fault: {}",
                humantime::format_duration(limit),
                fault.what
            ));
        }
    }

    /// Makes a dead letter of what waits, and goes on with the next. Where only the last row counts, the
    /// letter takes the place of older ones about the same row.
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
            field: fault.field.clone(),
            attempts,
            heads: delivery.heads.clone(),
            at_ms: now_ms,
            delivery: Some(delivery),
        };
        if self.policy.mode == Mode::State {
            let known = {
                let (dead, of) = (txn.open_table(DEAD)?, txn.open_table(DEAD_OF)?);
                letters_of(&dead, &of, &document)?
            };
            let is_older = |it: &DeadLetter| it.delivery.is_some() && it.record == letter.record;
            let mut older = known.into_iter().filter(|(_, known)| is_older(known));
            older.try_for_each(|(number, _)| remove_dead(txn, &document, number))?;
        }
        put_dead(txn, &letter)?;
        next(txn, now_ms, &document, seq)?;
        if self.policy.on_poison == OnPoison::Hold {
            put_when(txn, &document, Some(HELD))?;
        }
        Ok(())
    }
}

/// Notes a trouble, which lasts since it was met first.
fn begin(endpoint: &mut Endpoint, reach: &str, since_ms: u64, fault: &Fault) {
    let trouble = Trouble { what: String::new(), since_ms };
    let trouble = endpoint.troubles.entry(reach.to_owned()).or_insert(trouble);
    trouble.what.clone_from(&fault.what);
}

/// Whether the document of a delivery was erased while it was under way.
fn is_erased(txn: &WriteTransaction, delivery: &Delivery) -> Result<bool, OutboxError> {
    let Delivery { document, record, .. } = delivery;
    let table = txn.open_table(SHADOWS)?;
    let row = table.get((&document.0, &*record.name, &*record.key))?;
    let shadow: Option<Shadow> = row.map(|row| decode(row.value())).transpose()?;
    Ok(shadow.is_some_and(|shadow| shadow.erased))
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
        // What is erased is deleted there next.
        Action::Put(_) if shadow.erased => Some(RowBytes::default()),
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

fn put_waiting(txn: &WriteTransaction, waiting: &Waiting) -> Result<(), OutboxError> {
    let key = (&waiting.delivery.document.0, waiting.delivery.seq);
    txn.open_table(OUTBOX)?.insert(key, &encode(waiting)[..])?;
    Ok(())
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Failures in a row after which nothing but the target can be at fault, for all that is known.
const DOWN_AFTER: u32 = 5;
/// The longest time until a target in trouble is asked again.
pub(super) const PROBE_MAX: Duration = Duration::from_secs(60);
/// Deliveries remembered of a row, for whoever asks where it came from.
const TAKEN_KEPT: usize = 8;
