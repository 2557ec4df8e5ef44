//! What is tried next, and when.
//!
//! While the whole target is in trouble, one delivery at a time asks whether it is back, ever less
//! often; what failed goes behind what was not tried. While rows of one kind are in trouble, one of
//! them asks for all, and the others are parked where nobody who looks for what is due meets them. As
//! soon as something is taken, all that waits out a failure is due, a part at a time.
//!
//! A row that waits out a failure which may be its own is tried once before its time when the target
//! takes another row. That costs the row no attempt, so a row that only the target refuses now and
//! then does not wait for hours, and a row that is at fault is asked about twice as often at most.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt;
use redb::{ReadTransaction, ReadableDatabase};
use rejoin::DocumentId;

use super::attempts::{PROBE_MAX, millis};
use super::rows::{TARGET, WaitingAbout};
use super::tables::{DUE, HELD, OUTBOX, PARKED, WHEN};
use super::{Outbox, OutboxError, Waiting, decode, put_when, write};
use crate::delivery::Delivery;

/// A delivery to hand to the target now.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// What to hand over.
    pub delivery: Delivery,
    /// Attempts that failed before.
    pub attempts: u32,
}

/// What is under way, and what to ask next. It lasts as long as the process: who begins anew asks at
/// once.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    /// Documents with a delivery under way, and of which kind that is.
    in_flight: BTreeMap<DocumentId, String>,
    /// When what is in trouble is asked again, by what the trouble reaches.
    pub(super) probes: BTreeMap<String, u64>,
    /// What waits out a failure is being made due.
    pub(super) release: Option<Release>,
    /// Documents whose first delivery waits for its time by the schedule.
    patient: BTreeSet<DocumentId>,
    /// Those of them since whose failure the target took something.
    ripe: BTreeSet<DocumentId>,
    /// Deliveries that are tried before their time: the number of each, and that time.
    early: BTreeMap<DocumentId, (u64, u64)>,
}

/// How far what waits out a failure was made due.
#[derive(Debug, Clone, Default)]
pub(super) struct Release {
    /// Up to here.
    at: (u64, [u8; 16]),
    /// What failed again since it began, and waits for its own time.
    again: BTreeSet<DocumentId>,
}

impl Pace {
    /// Notes that a delivery of a document failed.
    pub(super) fn failed(&mut self, document: DocumentId) {
        if let Some(release) = &mut self.release {
            release.again.insert(document);
        }
    }

    /// Notes that the target took something.
    pub(super) fn took(&mut self) {
        self.ripe.append(&mut self.patient);
    }

    /// Notes that a delivery of a document waits for its time by the schedule.
    pub(super) fn waits(&mut self, document: DocumentId) {
        self.patient.insert(document);
    }

    /// The time by the schedule of a delivery that is tried before it.
    pub(super) fn early(&self, document: &DocumentId, seq: u64) -> Option<u64> {
        let (tried, time) = self.early.get(document)?;
        (*tried == seq).then_some(*time)
    }

    /// Notes that a delivery of a document was tried, whenever its time was.
    pub(super) fn was_tried(&mut self, document: &DocumentId) {
        self.early.remove(document);
    }

    pub(super) fn is_in_flight(&self, document: &DocumentId) -> bool {
        self.in_flight.contains_key(document)
    }

    fn probe_ms(&self, reach: &str) -> u64 {
        self.probes.get(reach).copied().unwrap_or_default()
    }

    fn is_asked(&self, kind: &str) -> bool {
        self.in_flight.values().any(|asked| asked == kind)
    }
}

/// What is to be handed over, and what is not after all.
#[derive(Debug, Default)]
struct Found {
    attempts: Vec<Attempt>,
    /// Documents whose first delivery is of a kind in trouble.
    to_park: Vec<DocumentId>,
    /// Kinds in trouble of which nothing waits.
    vacant: Vec<String>,
}

/// A place among what is due: when, in milliseconds since 1970, and a document.
type Due = (u64, [u8; 16]);

impl Outbox {
    /// Takes deliveries to hand to the target now, each of another document. Nobody else gets them
    /// until [`Outbox::finish`] or [`Outbox::give_back`]. At most `max` are under way at once.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn take(&mut self, now_ms: u64, max: usize) -> Result<Vec<Attempt>, OutboxError> {
        let mut free = max.saturating_sub(self.pace.in_flight.len());
        if self.is_down() {
            // One delivery asks for all whether the target is back.
            let may_ask = self.pace.in_flight.is_empty() && now_ms >= self.pace.probe_ms(TARGET);
            free = free.min(usize::from(may_ask));
        }
        if self.is_stopped() || free == 0 {
            return Ok(Vec::new());
        }
        self.try_early(now_ms)?;
        self.release_some(now_ms, free)?;
        let Found { attempts, to_park, vacant } = self.find(now_ms, free)?;
        self.put_all(&to_park, PARKED)?;
        if !vacant.is_empty() {
            // Nobody waits for the end of it, and nobody is left who would find that it is over.
            self.set_endpoint(|endpoint| {
                endpoint.troubles.retain(|kind, _| !vacant.contains(kind));
            })?;
            self.release_all();
        }
        for Attempt { delivery, .. } in &attempts {
            self.pace.in_flight.insert(delivery.document, delivery.record.name.clone());
            self.pace.patient.remove(&delivery.document);
            self.pace.ripe.remove(&delivery.document);
        }
        Ok(attempts)
    }

    /// How many deliveries are under way.
    pub fn under_way(&self) -> usize {
        self.pace.in_flight.len()
    }

    /// When there may be something to take, in milliseconds since 1970: not before, unless something
    /// is enqueued or finished. `None` if it is not up to time.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn next_ms(&self) -> Result<Option<u64>, OutboxError> {
        let is_asking = self.is_down() && !self.pace.in_flight.is_empty();
        if self.is_stopped() || is_asking {
            return Ok(None);
        }
        let txn = self.database.begin_read()?;
        let earliest = if self.is_down() { self.pace.probe_ms(TARGET) } else { 0 };
        let is_early = !self.pace.ripe.is_empty();
        if is_early || !self.to_release(&txn, 0, 1)?.0.is_empty() {
            return Ok(Some(earliest));
        }
        let (mut due, mut has_parked) = (None, false);
        for row in txn.open_table(DUE)?.range(..(HELD, &[0; 16]))? {
            let key = row?.0;
            let (when, document) = key.value();
            if !self.pace.is_in_flight(&DocumentId(*document)) {
                has_parked = when == PARKED;
                due = Some(when).filter(|when| *when != PARKED);
                break;
            }
        }
        if due.is_some() && !has_parked {
            let parked = txn.open_table(DUE)?;
            has_parked = parked.range((PARKED, &[0; 16])..(HELD, &[0; 16]))?.next().is_some();
        }
        let kinds = self.endpoint.troubles.keys().filter(|kind| *kind != TARGET);
        let kinds = kinds.filter(|kind| has_parked && !self.pace.is_asked(kind));
        let asked = kinds.map(|kind| self.pace.probe_ms(kind)).min();
        Ok(due.into_iter().chain(asked).min().map(|next| next.max(earliest)))
    }

    /// When the first delivery of a document is tried that may be tried at this time at the earliest:
    /// troubles may last longer. `None` if that is not up to time.
    pub(super) fn tried_ms(&self, when: u64, kind: &str) -> Option<u64> {
        let of_kind = self.endpoint.troubles.contains_key(kind).then(|| self.pace.probe_ms(kind));
        let of_all = self.is_down().then(|| self.pace.probe_ms(TARGET));
        match when {
            HELD => None,
            _ if self.is_stopped() => None,
            PARKED => Some(of_kind.max(of_all).unwrap_or_default()),
            when => Some(when.max(of_kind.unwrap_or_default()).max(of_all.unwrap_or_default())),
        }
    }

    /// Gives back what was taken and never handed over.
    pub fn give_back(&mut self, document: &DocumentId) {
        self.pace.in_flight.remove(document);
    }

    /// Gives back all that was taken, when nobody is left who would finish it.
    pub fn give_back_all(&mut self) {
        self.pace.in_flight.clear();
    }

    /// Asks again at once whatever is in trouble, and makes due what waits out a failure.
    pub fn retry(&mut self) {
        self.pace.probes.clear();
        self.release_all();
    }

    /// Begins to make due what waits out a failure.
    pub(super) fn release_all(&mut self) {
        self.pace.release = Some(Release::default());
    }

    /// Whether nothing can be delivered to the target, for all that is known.
    pub fn is_down(&self) -> bool {
        self.endpoint.troubles.contains_key(TARGET)
    }

    /// Whether no row can be delivered: nothing to the target, or none of any kind that the mapping makes.
    pub fn delivers_nothing(&self) -> bool {
        let kinds = &self.policy.kinds;
        let troubles = &self.endpoint.troubles;
        let none_goes = !kinds.is_empty() && kinds.iter().all(|kind| troubles.contains_key(kind));
        self.is_down() || none_goes
    }

    /// Whether somebody has to do something before anything is tried.
    fn is_stopped(&self) -> bool {
        self.endpoint.paused || self.endpoint.disabled.is_some()
    }

    /// What is due, at most so much.
    fn find(&mut self, now_ms: u64, free: usize) -> Result<Found, OutboxError> {
        let txn = self.database.begin_read()?;
        let (due, outbox) = (txn.open_table(DUE)?, txn.open_table(OUTBOX)?);
        let (mut found, mut asked) = (Found::default(), BTreeSet::new());
        let may_ask = |kind: &str, asked: &BTreeSet<String>| {
            let is_asked = asked.contains(kind) || self.pace.is_asked(kind);
            !is_asked && now_ms >= self.pace.probe_ms(kind)
        };
        for row in due.range((0, &[0; 16])..=(now_ms, &[u8::MAX; 16]))? {
            if found.attempts.len() == free || found.to_park.len() == TOGETHER {
                break;
            }
            let document = DocumentId(*row?.0.value().1);
            if self.pace.is_in_flight(&document) {
                continue;
            }
            let first = outbox.range((&document.0, 0)..=(&document.0, u64::MAX))?.next();
            let Some((_, row)) = first.transpose()? else { continue };
            let Waiting { delivery, attempts, .. } = decode(row.value())?;
            let kind = &delivery.record.name;
            if self.endpoint.troubles.contains_key(kind) {
                if !may_ask(kind, &asked) {
                    found.to_park.push(document);
                    continue;
                }
                asked.insert(kind.clone());
            }
            found.attempts.push(Attempt { delivery, attempts });
        }
        let from = self.rng.random();
        for kind in self.endpoint.troubles.keys().filter(|kind| *kind != TARGET) {
            if found.attempts.len() == free || !may_ask(kind, &asked) {
                continue;
            }
            match self.parked_one(&txn, kind, from)? {
                Some(attempt) => found.attempts.push(attempt),
                None => found.vacant.push(kind.clone()),
            }
        }
        Ok(found)
    }

    /// Some parked delivery of a kind, another each time: one that cannot be delivered must not be the
    /// only one that asks. One that did not meet the trouble itself is asked first, as far as one is near.
    fn parked_one(
        &self,
        txn: &ReadTransaction,
        kind: &str,
        from: [u8; 16],
    ) -> Result<Option<Attempt>, OutboxError> {
        let (due, outbox) = (txn.open_table(DUE)?, txn.open_table(OUTBOX)?);
        let after = due.range((PARKED, &from)..(HELD, &[0; 16]))?;
        let (mut met, mut looked_at) = (None, 0);
        for row in after.chain(due.range((PARKED, &[0; 16])..(PARKED, &from))?) {
            let document = DocumentId(*row?.0.value().1);
            let first = outbox.range((&document.0, 0)..=(&document.0, u64::MAX))?.next();
            let Some((_, row)) = first.transpose()? else { continue };
            let about: WaitingAbout = decode(row.value())?;
            if about.delivery.record.name != kind || self.pace.is_in_flight(&document) {
                continue;
            }
            let Waiting { delivery, attempts, failed_since_ms, .. } = decode(row.value())?;
            if failed_since_ms.is_none() {
                return Ok(Some(Attempt { delivery, attempts }));
            }
            met.get_or_insert(Attempt { delivery, attempts });
            looked_at += 1;
            if looked_at == NEAR {
                break;
            }
        }
        Ok(met)
    }

    /// Makes due what waits for its time by the schedule, if the target took something since it failed.
    fn try_early(&mut self, now_ms: u64) -> Result<(), OutboxError> {
        let ripe: Vec<_> = self.pace.ripe.iter().take(TOGETHER).copied().collect();
        let mut early = Vec::with_capacity(ripe.len());
        {
            let txn = self.database.begin_read()?;
            let (whens, outbox) = (txn.open_table(WHEN)?, txn.open_table(OUTBOX)?);
            for document in &ripe {
                let time = whens.get(&document.0)?.map_or(now_ms, |when| when.value());
                let first = outbox.range((&document.0, 0)..=(&document.0, u64::MAX))?.next();
                let Some((key, _)) = first.transpose()? else { continue };
                if time > now_ms && time < PARKED {
                    early.push((*document, (key.value().1, time)));
                }
            }
        }
        let documents: Vec<_> = early.iter().map(|(document, _)| *document).collect();
        self.put_all(&documents, now_ms)?;
        self.pace.early.extend(early);
        ripe.iter().for_each(|document| _ = self.pace.ripe.remove(document));
        Ok(())
    }

    /// Makes due what waits out a failure, until so much is due or there is no more.
    fn release_some(&mut self, now_ms: u64, free: usize) -> Result<(), OutboxError> {
        while self.pace.release.is_some() {
            let txn = self.database.begin_read()?;
            let mut due = 0;
            for row in txn.open_table(DUE)?.range((0, &[0; 16])..=(now_ms, &[u8::MAX; 16]))? {
                due += usize::from(!self.pace.is_in_flight(&DocumentId(*row?.0.value().1)));
                if due == free {
                    return Ok(());
                }
            }
            let (some, at) = self.to_release(&txn, now_ms, TOGETHER)?;
            drop(txn);
            self.put_all(&some, now_ms)?;
            match (at, &mut self.pace.release) {
                (Some(at), Some(release)) => release.at = at,
                _ => self.pace.release = None,
            }
        }
        Ok(())
    }

    /// The next documents to make due, and how far that goes; `None` if they are the last.
    fn to_release(
        &self,
        txn: &ReadTransaction,
        now_ms: u64,
        max: usize,
    ) -> Result<(Vec<DocumentId>, Option<Due>), OutboxError> {
        let Some(release) = &self.pace.release else { return Ok((Vec::new(), None)) };
        let (due, outbox) = (txn.open_table(DUE)?, txn.open_table(OUTBOX)?);
        let mut some = Vec::new();
        let from = release.at.max((now_ms.saturating_add(1), [0; 16]));
        for row in due.range((from.0, &from.1)..(HELD, &[0; 16]))? {
            let key = row?.0;
            let (when, document) = (key.value().0, DocumentId(*key.value().1));
            if some.len() == max {
                return Ok((some, Some((when, document.0))));
            }
            if self.pace.is_in_flight(&document) || release.again.contains(&document) {
                continue;
            }
            if when == PARKED {
                let first = outbox.range((&document.0, 0)..=(&document.0, u64::MAX))?.next();
                let Some((_, row)) = first.transpose()? else { continue };
                let about: WaitingAbout = decode(row.value())?;
                if self.endpoint.troubles.contains_key(&about.delivery.record.name) {
                    continue;
                }
            }
            some.push(document);
        }
        Ok((some, None))
    }

    /// Says of documents when their first delivery may be tried.
    fn put_all(&self, documents: &[DocumentId], when: u64) -> Result<(), OutboxError> {
        if documents.is_empty() {
            return Ok(());
        }
        let txn = write(&self.database)?;
        documents.iter().try_for_each(|document| put_when(&txn, document, Some(when)))?;
        Ok(txn.commit()?)
    }

    /// When to ask again what is in trouble since some time: a tenth of that later, not too soon and
    /// not too late.
    pub(super) fn probe_after(&mut self, now_ms: u64, since_ms: u64) -> u64 {
        let lasted = now_ms.saturating_sub(since_ms) / 10;
        let wait = lasted.min(millis(PROBE_MAX)) as f64;
        let chance: f64 = self.rng.random();
        let wait = wait * (1.0 - self.policy.retry.jitter * chance);
        now_ms.saturating_add((wait as u64).max(millis(PROBE_MIN)))
    }

    /// A wait, in milliseconds, with its part that is left to chance.
    pub(super) fn jittered(&mut self, wait: Duration) -> u64 {
        let chance: f64 = self.rng.random();
        millis(wait.mul_f64(1.0 + self.policy.retry.jitter * chance))
    }
}

/// How soon a target in trouble is asked again, at first.
const PROBE_MIN: Duration = Duration::from_secs(1);

/// Deliveries that met a trouble which are looked at for one that did not.
const NEAR: usize = 32;

/// Documents that are parked or made due in one commit.
const TOGETHER: usize = 500;
