//! The promises, each checked on its own.

use std::collections::BTreeMap;

use rejoin::{ChangeHash, DocumentId, Link, SpaceName};
use rejoin_core::change::Place;
use rejoin_core::{CollectionName, SetDigest};
use rejoin_engine::store::space_digest;
use serde_json::Value;

use super::model::{Asked, Entry, Fate, tokens_in};
use super::world::{Check, Failed, World, explain};

/// A document as one replica has it.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    collection: CollectionName,
    heads: Vec<ChangeHash>,
    value: Value,
    asked: Asked,
}

type Documents = BTreeMap<DocumentId, Held>;

impl World {
    /// What a replica has no reason to push any more is at the relay.
    pub(super) fn audit(&mut self) -> Check {
        if self.relay.restored || self.faults.mangle() {
            return Ok(());
        }
        for at in 0..self.replicas.len() {
            let Some(process) = self.replicas[at].open_process() else { continue };
            let held = process.engine.store().read().and_then(|view| {
                let mut rows = Vec::new();
                view.each_document(|id, row| rows.push((id, row)))?;
                let mut settled = Vec::new();
                for (id, row) in rows {
                    if view.waiting(&id)?.is_empty() {
                        settled.push((id, row));
                    }
                }
                Ok(settled)
            });
            let held = match held {
                Ok(held) => held,
                Err(error) => {
                    self.fail_replica(at, &error)?;
                    self.strike_replica(at)?;
                    continue;
                }
            };
            for (id, row) in held {
                if self.erased.contains_key(&id) {
                    continue;
                }
                let missing = self.missing_at_relay(&id, &row.space, &row.collection, &row.heads);
                if let Some(hash) = missing {
                    let wrong = format!(
                        "replica {at} takes {hash} of {id} for safe, and the relay does not have it"
                    );
                    return Err(Failed(wrong));
                }
            }
        }
        self.strike_relay()
    }

    fn missing_at_relay(
        &mut self,
        document: &DocumentId,
        space: &SpaceName,
        collection: &CollectionName,
        hashes: &[ChangeHash],
    ) -> Option<ChangeHash> {
        let process = self.relay.process.as_mut()?;
        if process.relay.store().is_failed() {
            return None;
        }
        let place = Place { space, collection, document };
        // If the disk fails, the relay will notice.
        let relay = &mut process.relay;
        hashes.iter().find(|hash| matches!(relay.holds(&place, hash), Ok(false))).copied()
    }

    /// Lets everybody come to agree.
    pub(super) fn converge(&mut self) -> Check {
        let (began, events) = (self.now, self.events);
        let mut reason = String::new();
        while self.now < began + CONVERGENCE_MS_MAX && self.events < events + CONVERGENCE_EVENTS_MAX
        {
            let until = self.now + 1000;
            while self.agenda.next_at().is_some_and(|at| at <= until) {
                self.step()?;
            }
            self.now = until;
            match self.disagreement()? {
                None => {
                    let took = self.now - began;
                    self.note(format_args!("everybody agrees after {took} ms"));
                    return Ok(());
                }
                Some(why) => reason = why,
            }
        }
        Err(Failed(format!("nobody agrees after {} ms: {reason}", self.now - began)))
    }

    /// Why not everybody is done.
    fn disagreement(&mut self) -> Check<Option<String>> {
        let Some(relay) = &mut self.relay.process else {
            return Ok(Some("the relay is down".to_owned()));
        };
        let mut digests: BTreeMap<SpaceName, SetDigest> = BTreeMap::new();
        for (at, replica) in self.replicas.iter_mut().enumerate() {
            let spaces = replica.spaces.clone();
            let Some(process) = replica.open_process() else {
                return Ok(Some(format!("replica {at} is down")));
            };
            let status = process.engine.status().clone();
            if status.link != Link::Safe || status.waiting > 0 {
                return Ok(Some(format!("replica {at}: {status:?}")));
            }
            let failed = |error: rejoin_engine::store::StoreError| Failed(explain(&error));
            let view = process.engine.store().read().map_err(failed)?;
            for space in spaces {
                let ours = space_digest(&view.digests(&space).map_err(failed)?);
                let theirs = match digests.get(&space) {
                    Some(theirs) => *theirs,
                    None => {
                        let mut sum = SetDigest::default();
                        let collections = relay.relay.store_mut().digests(&space);
                        let collections = collections.map_err(|error| Failed(explain(&error)))?;
                        collections.iter().for_each(|collection| sum.add(&collection.digest));
                        sum
                    }
                };
                if ours != theirs {
                    return Ok(Some(format!("replica {at} has another digest of {space}")));
                }
                digests.insert(space, theirs);
            }
        }
        Ok(None)
    }

    /// Everybody has the same documents, and they are what the edits come to.
    pub(super) fn check_agreement(&mut self) -> Check {
        let mut agreed: BTreeMap<SpaceName, (usize, Documents)> = BTreeMap::new();
        for at in 0..self.replicas.len() {
            for (space, documents) in self.documents_of(at)? {
                let Some((first, others)) = agreed.get(&space) else {
                    agreed.insert(space, (at, documents));
                    continue;
                };
                if let Some(why) = difference(others, &documents) {
                    return Err(Failed(format!("replicas {first} and {at} differ: {why}")));
                }
            }
        }
        for (space, (_, documents)) in &agreed {
            self.check_documents(space, documents)?;
        }
        let lost = self.ledger.iter().find(|(id, entry)| {
            let documents = agreed.get(&entry.space).map(|(_, documents)| documents);
            let there = entry
                .document
                .is_some_and(|id| documents.is_some_and(|documents| documents.contains_key(&id)));
            self.is_for_good(*id, entry) && !there
        });
        let first = agreed.values().flat_map(|(_, documents)| documents.keys());
        let back =
            first.copied().find(|id| self.erased.get(id) == Some(&true) && !self.relay.restored);
        if let Some(id) = back {
            return Err(Failed(format!("{id} was erased and is there")));
        }
        match lost {
            Some((id, entry)) => {
                Err(Failed(format!("edit {id} and its document are lost: {entry:?}")))
            }
            None => Ok(()),
        }
    }

    fn check_documents(&mut self, space: &SpaceName, documents: &Documents) -> Check {
        for (id, held) in documents {
            // Where the relay was restored from a backup of before, some of it is there again.
            if self.erased.contains_key(id) {
                continue;
            }
            let for_good = |edit, entry: &Entry| self.is_for_good(edit, entry);
            if let Some(wrong) = self.ledger.wrong(id, &held.value, &held.asked, for_good) {
                return Err(Failed(format!("{id}: {wrong}")));
            }
            if let Some(hash) = self.missing_at_relay(id, space, &held.collection, &held.heads) {
                return Err(Failed(format!("{id}: the relay does not have {hash}")));
            }
        }
        Ok(())
    }

    /// Whether an edit must be there in the end: its author still has the store it was kept in, or
    /// a relay that still has its own acknowledged it.
    fn is_for_good(&self, _: u64, entry: &Entry) -> bool {
        let at_relay = entry.acknowledged && !self.relay.restored && !self.faults.mangle();
        let is_erased = entry.document.is_some_and(|document| self.erased.contains_key(&document));
        let is_meant = !entry.set_aside && !entry.undone && !is_erased;
        entry.fate == Fate::Kept && is_meant && (at_relay || !entry.author_lost)
    }

    fn documents_of(&mut self, at: usize) -> Check<BTreeMap<SpaceName, Documents>> {
        let local = self.now + self.replicas[at].skew_ms;
        let spaces = self.replicas[at].spaces.clone();
        let failed = |error: &dyn std::error::Error| Failed(explain(error));
        let Some(process) = self.replicas[at].open_process() else {
            return Err(Failed(format!("replica {at} is down")));
        };
        process.engine.flush(local).map_err(|error| failed(&error))?;
        let view = process.engine.store().read().map_err(|error| failed(&error))?;
        let mut rows = Vec::new();
        view.each_document(|id, row| rows.push((id, row))).map_err(|error| failed(&error))?;
        let mut documents: BTreeMap<SpaceName, Documents> = BTreeMap::new();
        spaces.into_iter().for_each(|space| drop(documents.insert(space, Documents::new())));
        for (id, row) in rows {
            let value =
                process.engine.value_at(local, &id, None).map_err(|error| failed(&error))?;
            let stored = view.value(&id).map_err(|error| failed(&error))?;
            let stored: Option<Value> =
                stored.and_then(|stored| serde_json::from_slice(&stored.json).ok());
            if stored.as_ref() != Some(&value) {
                return Err(Failed(format!(
                    "replica {at}: the stored value of {id} is not its value"
                )));
            }
            let Some(of_space) = documents.get_mut(&row.space) else {
                return Err(Failed(format!("replica {at} holds {id} of another space")));
            };
            let (collection, heads) = (row.collection, row.heads);
            let mut asked = Asked::default();
            for review in view.reviews_of(&id).map_err(|error| failed(&error))? {
                let review = view.review(&row.space, &review).map_err(|error| failed(&error))?;
                if let Some(review) = review {
                    asked.fields.insert(format!("{:?} {}", review.kind, review.field));
                    let values = review.candidates.iter().filter_map(|it| it.value.as_ref());
                    asked.tokens.extend(values.flat_map(|value| tokens_in(value)));
                }
            }
            of_space.insert(id, Held { collection, heads, value, asked });
        }
        let quarantined = process.engine.counters().changes_quarantined;
        if quarantined > 0 {
            return Err(Failed(format!("replica {at} quarantined {quarantined} changes")));
        }
        Ok(documents)
    }

    /// Nobody says much when there is nothing to say.
    pub(super) fn check_quiet(&mut self) -> Check {
        let (began, frames) = (self.now, self.net.frames);
        while self.now < began + QUIET_MS
            && self.agenda.next_at().is_some_and(|at| at <= began + QUIET_MS)
        {
            self.step()?;
        }
        let frames = self.net.frames - frames;
        if frames > 2 * self.replicas.len() as u64 {
            return Err(Failed(format!("{frames} frames in {QUIET_MS} ms of quiet")));
        }
        match self.disagreement()? {
            None => Ok(()),
            Some(why) => Err(Failed(format!("nobody agrees any more: {why}"))),
        }
    }
}

fn difference(left: &Documents, right: &Documents) -> Option<String> {
    let ids = left.keys().chain(right.keys());
    let id = ids.into_iter().find(|id| left.get(*id) != right.get(*id))?;
    Some(format!("{id}: {:?} and {:?}", left.get(id), right.get(id)))
}

/// Milliseconds in which everybody must agree once nothing breaks any more: time to notice that a
/// connection is dead, and to dial again.
const CONVERGENCE_MS_MAX: u64 = 180_000;

/// Events in which everybody must agree.
const CONVERGENCE_EVENTS_MAX: u64 = 100_000;

/// Milliseconds in which nothing happens.
const QUIET_MS: u64 = 600_000;
