//! Which changes of a push are kept.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

#[cfg(feature = "mutants")]
use rejoin_core::DocumentId;
use rejoin_core::change::{self, Admission, Change, GuardError, Place, Refusal};
use rejoin_core::session::StoreOutcome;
use rejoin_core::wire::{Access, Push, RefusedClass};
use rejoin_core::{ChangeGraph, ChangeHash, GraphEntry, SpaceName};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Counters, RelayOptions};
use crate::store::{ChangeStore, StoreError};

/// What became of a push. Its answer may be given only after the commit.
#[derive(Debug)]
pub(super) struct Checked {
    /// Where the changes stand that are new. A push has one document, so they follow each other.
    pub(super) positions: Option<RangeInclusive<u64>>,
    /// The answer, if there can be one.
    pub(super) outcome: Result<StoreOutcome, NoChange>,
}

/// Bytes that have not even a hash to refuse them by.
#[derive(Debug, Error)]
#[error("push {n} holds something that is no change")]
pub(super) struct NoChange {
    n: u64,
    source: GuardError,
}

/// Checks a push change by change, against everything committed and staged before it, and stages
/// what is kept.
pub(super) struct PushCheck<'a> {
    options: &'a RelayOptions,
    store: &'a mut ChangeStore,
    counters: &'a mut Counters,
    place: Place<'a>,
    push: &'a Push,
    #[cfg(feature = "mutants")]
    refuse: Option<&'a mut Refuse>,
    positions: Option<RangeInclusive<u64>>,
    refused: Refused,
}

impl<'a> PushCheck<'a> {
    pub(super) fn new(
        options: &'a RelayOptions,
        store: &'a mut ChangeStore,
        counters: &'a mut Counters,
        space: &'a SpaceName,
        push: &'a Push,
    ) -> Self {
        let place = Place { space, collection: &push.collection, document: &push.document };
        let refused = Refused::default();
        Self {
            options,
            store,
            counters,
            place,
            push,
            #[cfg(feature = "mutants")]
            refuse: None,
            positions: None,
            refused,
        }
    }

    /// Refuses new changes as `refuse` says.
    #[cfg(feature = "mutants")]
    pub(super) fn refusing(self, refuse: Option<&'a mut Refuse>) -> Self {
        Self { refuse, ..self }
    }

    pub(super) fn run(mut self) -> Result<Checked, StoreError> {
        let of_all = match self.refusal_of_all() {
            Ok(verdict) => verdict,
            Err(error) if error.is_confined() => Some(self.damaged(&error)),
            Err(error) => return Err(error),
        };
        for chunk in &self.push.changes {
            match (change::parse(chunk), &of_all) {
                (Ok(change), None) => self.check(&change, chunk)?,
                (Ok(change), Some(verdict)) => self.refused.add(change.hash(), verdict.clone()),
                (Err(source), _) => match hash_of_refused(chunk) {
                    Some(hash) => self.refused.add(hash, Verdict::never(&source)),
                    None => {
                        let no_change = NoChange { n: self.push.n, source };
                        return Ok(Checked { positions: self.positions, outcome: Err(no_change) });
                    }
                },
            }
        }
        self.finish()
    }

    /// Why not even a sound change of this push is kept.
    fn refusal_of_all(&mut self) -> Result<Option<Verdict>, StoreError> {
        let never = |reason: String| Verdict { class: RefusedClass::Never, reason };
        if self.options.access != Access::Write {
            return Ok(Some(never("this space may be read, but not written to".to_owned())));
        }
        let known = self.store.known(&self.place)?;
        Ok(known.filter(|known| !known.is_at_home).map(|_| {
            let Place { collection, space, document } = self.place;
            never(format!("{document} does not belong to {collection} of space {space}"))
        }))
    }

    /// One document that cannot be read must not stop the others.
    fn damaged(&self, error: &StoreError) -> Verdict {
        let document = self.place.document;
        tracing::error!(%document, error = error as &dyn std::error::Error, "document damaged");
        Verdict { class: RefusedClass::Later, reason: error.to_string() }
    }

    fn check(&mut self, change: &Change, chunk: &[u8]) -> Result<(), StoreError> {
        if let Some(verdict) = self.refused.of_a_dep(change) {
            self.refused.add(change.hash(), verdict);
            return Ok(());
        }
        let nothing = ChangeGraph::new();
        let known = self.store.known(&self.place)?;
        let graph = known.map_or(&nothing, |known| known.graph);
        match change::admit(change, &self.place, graph) {
            #[cfg(feature = "mutants")]
            Ok(Admission::New)
                if let Some(Refuse(refuse)) = &mut self.refuse
                    && let Some(class) = refuse(self.place.document, change) =>
            {
                let reason = "refused on demand".to_owned();
                self.refused.add(change.hash(), Verdict { class, reason });
                Ok(())
            }
            Ok(Admission::New) => self.stage(entry_of(change), chunk),
            Ok(Admission::Known) => {
                self.counters.changes_known += 1;
                Ok(())
            }
            #[cfg(feature = "mutants")]
            Err(Refusal::Missing(_)) if self.options.drops_dep_check() => {
                let known_deps = change.deps().iter().filter(|dep| graph.contains(dep));
                let deps = known_deps.copied().collect();
                self.stage(GraphEntry { deps, ..entry_of(change) }, chunk)
            }
            Err(refusal) => {
                self.refused.add(change.hash(), Verdict::of(&refusal));
                Ok(())
            }
        }
    }

    fn stage(&mut self, entry: GraphEntry, chunk: &[u8]) -> Result<(), StoreError> {
        let position = self.store.stage(&self.place, entry, chunk.to_vec())?;
        let first = self.positions.as_ref().map_or(position, |positions| *positions.start());
        self.positions = Some(first..=position);
        Ok(())
    }

    fn finish(self) -> Result<Checked, StoreError> {
        self.counters.pushes += 1;
        let positions = self.positions;
        let Some(class) = self.refused.class() else {
            return Ok(Checked { positions, outcome: Ok(StoreOutcome::Kept) });
        };
        self.refused.classes.values().for_each(|class| self.counters.refused.count(*class));
        let heads = match class {
            RefusedClass::Missing => self.store.short_heads(self.place.document)?,
            _ => Vec::new(),
        };
        let retry_after_ms = match class {
            RefusedClass::Later => self.options.retry_after_ms,
            _ => 0,
        };
        let Refused { hashes, reason, .. } = self.refused;
        let outcome = StoreOutcome::Refused { class, hashes, heads, retry_after_ms, reason };
        Ok(Checked { positions, outcome: Ok(outcome) })
    }
}

/// Why one change is not kept.
#[derive(Debug, Clone)]
struct Verdict {
    class: RefusedClass,
    reason: String,
}

impl Verdict {
    fn never(why: &impl ToString) -> Self {
        Self { class: RefusedClass::Never, reason: why.to_string() }
    }

    fn of(refusal: &Refusal) -> Self {
        let class = match refusal {
            Refusal::Missing(_) => RefusedClass::Missing,
            Refusal::ActorReused { .. } => RefusedClass::ActorReused,
            // With its dependencies known, a gap is no accident of delivery: an honest change
            // depends on the one before it.
            _ => RefusedClass::Never,
        };
        Self { class, reason: refusal.to_string() }
    }
}

/// Decides which new changes are refused, though they are sound.
#[cfg(feature = "mutants")]
pub(super) struct Refuse(pub(super) Box<dyn RefuseChange>);

#[cfg(feature = "mutants")]
pub(super) trait RefuseChange:
    FnMut(&DocumentId, &Change) -> Option<RefusedClass> + Send
{
}

#[cfg(feature = "mutants")]
impl<F: FnMut(&DocumentId, &Change) -> Option<RefusedClass> + Send> RefuseChange for F {}

#[cfg(feature = "mutants")]
impl std::fmt::Debug for Refuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refuse(..)")
    }
}

/// The changes of a push that are not kept.
#[derive(Debug, Default)]
struct Refused {
    hashes: Vec<ChangeHash>,
    classes: BTreeMap<ChangeHash, RefusedClass>,
    /// Why, as far as the class goes that the whole push is answered with.
    reason: String,
}

impl Refused {
    fn add(&mut self, hash: ChangeHash, verdict: Verdict) {
        if self.class().is_none_or(|class| precedence(verdict.class) < precedence(class)) {
            self.reason = verdict.reason;
        }
        if self.classes.insert(hash, verdict.class).is_none() {
            self.hashes.push(hash);
        }
    }

    /// What goes for a change goes for those that build on it.
    fn of_a_dep(&self, change: &Change) -> Option<Verdict> {
        let classes = change.deps().iter().filter_map(|dep| self.classes.get(dep));
        let class = *classes.min_by_key(|class| precedence(**class))?;
        Some(Verdict { class, reason: "it builds on a change that is refused".to_owned() })
    }

    /// The class the push is answered with: of those that occur, the one that gives up least.
    fn class(&self) -> Option<RefusedClass> {
        self.classes.values().copied().min_by_key(|class| precedence(*class))
    }
}

/// A Refused frame has one class for all its changes, so the mildest is chosen: what can never be
/// kept is refused again by itself, while a change once set aside does not come back.
fn precedence(class: RefusedClass) -> u8 {
    match class {
        RefusedClass::Missing => 0,
        RefusedClass::Later => 1,
        RefusedClass::ActorReused => 2,
        RefusedClass::Never => 3,
    }
}

fn entry_of(change: &Change) -> GraphEntry {
    GraphEntry {
        hash: change.hash(),
        actor: change.actor().clone(),
        seq: change.seq(),
        start_op: change.start_op(),
        max_op: change.max_op(),
        deps: change.deps().to_vec(),
    }
}

/// The hash of a whole change that breaks another rule of the guard, so that a replica with older
/// rules can set it aside rather than be sent away with it for ever. Bytes that do not even have the
/// hash they claim are no accident of versions.
fn hash_of_refused(chunk: &[u8]) -> Option<ChangeHash> {
    let (header, hashed) = chunk.split_at_checked(8)?;
    let is_change = header[..4] == MAGIC && hashed.first() == Some(&CHANGE_TYPE);
    let hash: [u8; 32] = Sha256::digest(hashed).into();
    (is_change && header[4..] == hash[..4]).then_some(ChangeHash(hash))
}

/// What every Automerge chunk begins with.
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];

/// The chunk type of a change that is not deflated. What its checksum and hash cover begins here.
const CHANGE_TYPE: u8 = 1;
