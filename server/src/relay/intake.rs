//! The choice of the changes of a document that are kept.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

#[cfg(feature = "mutants")]
use rejoin_core::DocumentId;
use rejoin_core::change::{self, Admission, Change, Place, Refusal};
use rejoin_core::wire::RefusedClass;
use rejoin_core::{ChangeGraph, ChangeHash, CollectionName, GraphEntry, Identity, SpaceName};

use super::breaches::shown;
use super::carrying::Carrying;
use super::connections::Shared;
use super::{Counters, RelayOptions, bounds};
use crate::access::{Principal, Rights};
use crate::store::{CarriedRow, ChangeStore, StoreError};

/// What somebody may do with a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// Nothing in the whole space.
    None,
    /// At most read it.
    Read,
    Write,
}

impl Right {
    pub(super) fn of(rights: &Rights, collection: &CollectionName) -> Self {
        match (rights.read.is_empty(), rights.write.contains(collection)) {
            (true, _) => Self::None,
            (false, false) => Self::Read,
            (false, true) => Self::Write,
        }
    }

    /// The reason why nothing is taken. Where rules and tokens say so it may be a mistake of these, or
    /// what somebody else wrote who was signed in on the same device: so it waits, and is not refused
    /// for good.
    pub(super) fn refusal(self, principal: Option<&Principal>) -> Option<Verdict> {
        let reason = match self {
            Self::Write => return None,
            Self::Read => READ_ONLY,
            Self::None => "this space is not open to who is signed in here",
        };
        Some(match principal {
            Some(_) => Verdict::waits(reason),
            None => Verdict::never(&reason),
        })
    }
}

/// Who brings changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer<'a> {
    /// What they may do with the document's collection.
    pub(super) right: Right,
    /// Who they proved to be, where the authors of what they bring have to be theirs.
    pub(super) principal: Option<&'a Principal>,
    /// Whether what they bring proves that. Apps of automerge-repo bring what others wrote, too.
    pub(super) binds: bool,
}

impl Writer<'_> {
    /// The relay itself.
    pub(super) const SELF: Self = Self { right: Right::Write, principal: None, binds: false };
}

/// Checks the changes of one document one by one, against everything committed and staged before,
/// and stages those that are kept. Nothing of it may be told before the commit.
pub(super) struct Intake<'a> {
    pub(super) options: &'a RelayOptions,
    pub(super) store: &'a mut ChangeStore,
    pub(super) counters: &'a mut Counters,
    pub(super) place: Place<'a>,
    /// Heads that the connection added to documents that have many.
    heads_added: &'a mut u32,
    /// Who brings the changes, where the authors of these have to be theirs.
    principal: Option<&'a Principal>,
    binds: bool,
    carrying: &'a Carrying,
    /// The reason why not even a sound change is kept.
    of_all: Option<Verdict>,
    #[cfg(feature = "mutants")]
    refuse: Option<&'a mut Refuse>,
    /// The positions of the new changes. They are of one document, so they follow each other.
    pub(super) positions: Option<RangeInclusive<u64>>,
    pub(super) refused: Refused,
    /// Something was refused because the space is full.
    pub(super) is_over_quota: bool,
    /// Something waits because somebody else wrote it, or may not write here at all.
    pub(super) is_foreign: bool,
}

impl<'a> Intake<'a> {
    pub(super) fn new(
        shared: &'a mut Shared,
        place: Place<'a>,
        heads_added: &'a mut u32,
        writer: Writer<'a>,
    ) -> Result<Self, StoreError> {
        let Shared { options, store, counters, carrying, .. } = shared;
        let of_all = match refusal_of_all(store, &place, writer) {
            Ok(verdict) => verdict,
            Err(error) if error.is_confined() => {
                store.suspect(&error);
                // It is mended until this is pushed again.
                Some(Verdict { class: RefusedClass::Later, reason: error.to_string() })
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            options,
            store,
            counters,
            place,
            heads_added,
            principal: writer.principal,
            binds: writer.binds,
            carrying,
            of_all,
            #[cfg(feature = "mutants")]
            refuse: shared.refuse.as_mut(),
            positions: None,
            refused: Refused::default(),
            is_over_quota: false,
            is_foreign: writer.right != Right::Write,
        })
    }

    /// Refuses no change on demand.
    #[cfg(feature = "mutants")]
    pub(super) fn without_refusals(self) -> Self {
        Self { refuse: None, ..self }
    }

    /// Keeps a change that passed the guard, or refuses it.
    pub(super) fn take(&mut self, change: &Change, chunk: &[u8]) -> Result<(), StoreError> {
        if let Some(verdict) = self.of_all.clone() {
            self.refused.add(change.hash(), verdict);
            return Ok(());
        }
        if let Some(verdict) = self.refused.of_a_dep(change) {
            self.refuse_dependant(change, verdict);
            return Ok(());
        }
        let author = self.check_author(change)?;
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
            Ok(Admission::New) if let Some(verdict) = author => {
                self.refused.add(change.hash(), verdict);
                Ok(())
            }
            Ok(Admission::New) => match bounds::check(change, graph, self.heads_added) {
                Ok(()) => {
                    self.stage_within_quota(change, chunk)?;
                    self.bind_author(change)
                }
                Err(out_of_bounds) => {
                    let (class, reason) = (out_of_bounds.class(), out_of_bounds.to_string());
                    self.refused.add(change.hash(), Verdict { class, reason });
                    Ok(())
                }
            },
            Ok(Admission::Known) => {
                self.counters.changes_known += 1;
                Ok(())
            }
            #[cfg(feature = "mutants")]
            Err(Refusal::Missing(_)) if self.options.drops_dep_check() => {
                let known_deps = change.deps().iter().filter(|dep| graph.contains(dep));
                let deps = known_deps.copied().collect();
                self.stage(GraphEntry { deps, ..GraphEntry::from(change) }, chunk)
            }
            // What it builds on may wait because the space is full, and so does it.
            Err(refusal @ Refusal::Missing(_)) => {
                let full = over_quota(self.options, self.store, &self.place)?;
                self.is_over_quota |= full.is_some();
                let later = |reason| Verdict { class: RefusedClass::Later, reason };
                let verdict = full.map_or_else(|| Verdict::of(&refusal), later);
                self.refused.add(change.hash(), verdict);
                Ok(())
            }
            Err(refusal) => {
                self.refused.add(change.hash(), Verdict::of(&refusal));
                Ok(())
            }
        }
    }

    /// Refuses a change that builds on one that is refused.
    fn refuse_dependant(&mut self, change: &Change, verdict: Verdict) {
        match (verdict.class, bounds::check_alone(change)) {
            (RefusedClass::Never, Ok(())) => self.refused.add_dependant(change.hash(), verdict),
            (RefusedClass::Never, Err(out_of_bounds)) => {
                self.refused.add(change.hash(), Verdict::never(&out_of_bounds));
            }
            _ => self.refused.add(change.hash(), verdict),
        }
    }

    /// Whether a change is by whom brings it; the reason why it is not kept if not. Births are of
    /// everybody, and who claims nobody claims nobody's place.
    fn check_author(&mut self, change: &Change) -> Result<Option<Verdict>, StoreError> {
        let Some(principal) = self.principal else { return Ok(None) };
        if change.is_genesis() || change.is_birth() {
            return Ok(None);
        }
        let Place { space, document, .. } = self.place;
        // What damage took from here is known by its hash, and anybody may bring it back.
        if self.store.has_lost(space, document, &change.hash())? {
            return Ok(None);
        }
        let Some(author) = self.author_of(change)? else { return Ok(None) };
        let Identity { user, role, .. } = Identity::from_author(&author);
        // Apps of automerge-repo bind nobody, and so carry nothing.
        if user != principal.user && self.binds && self.carrying.is_open() {
            return Ok(None);
        }
        if user != principal.user {
            // Who carries it may be honest: it waits for its author.
            self.is_foreign = true;
            let (author, carrier) = (shown(&user), shown(&principal.user));
            let reason = format!("a change by {author} is not taken from {carrier}");
            return Ok(Some(Verdict { class: RefusedClass::Later, reason }));
        }
        match role.filter(|role| !principal.roles.contains(role)) {
            None => Ok(None),
            Some(role) => {
                let reason = format!("{} has not the role {}", shown(&user), shown(&role));
                Ok(Some(Verdict { class: RefusedClass::Never, reason }))
            }
        }
    }

    /// Notes whose actor it is, once its first change is staged, and who carried it. That proves nothing
    /// of its author; but from now on nobody else goes on where they claim to have begun.
    fn bind_author(&mut self, change: &Change) -> Result<(), StoreError> {
        let is_reserved = change.is_genesis() || change.is_birth();
        let is_staged = !self.refused.classes.contains_key(&change.hash());
        if self.principal.is_none() || !self.binds || is_reserved || !is_staged {
            return Ok(());
        }
        if let Some(row) = self.carried(change)? {
            self.store.stage_carried(&self.place, change.hash(), row)?;
        }
        if change.seq() != 1 {
            return Ok(());
        }
        self.store.stage_author(&self.place, change.actor(), change.author().unwrap_or_default())
    }

    /// Who carried a change, if its author is another.
    fn carried(&mut self, change: &Change) -> Result<Option<CarriedRow>, StoreError> {
        let Some(principal) = self.principal.filter(|_| self.carrying.is_open()) else {
            return Ok(None);
        };
        let Some(author) = self.author_of(change)? else { return Ok(None) };
        let author = Identity::from_author(&author).user;
        let (carrier, time_ms) = (principal.user.clone(), self.carrying.now_ms);
        Ok((author != carrier).then_some(CarriedRow { author, carrier, time_ms }))
    }

    /// The author of a change, as its actor's first change names them.
    fn author_of(&mut self, change: &Change) -> Result<Option<Vec<u8>>, StoreError> {
        let Place { space, document, .. } = self.place;
        Ok(match change.seq() {
            1 => change.author().map(<[u8]>::to_vec),
            // One that is not known began before there were tokens, or in a backup. Its author was never
            // proved.
            _ => self
                .store
                .author_of(space, document, change.actor())?
                .filter(|author| !author.is_empty()),
        })
    }

    /// Keeps a new change unless its space is full. What the space holds already is no question of
    /// its quota.
    fn stage_within_quota(&mut self, change: &Change, chunk: &[u8]) -> Result<(), StoreError> {
        if let Some(reason) = over_quota(self.options, self.store, &self.place)? {
            self.is_over_quota = true;
            self.refused.add(change.hash(), Verdict { class: RefusedClass::Later, reason });
            return Ok(());
        }
        self.stage(change.into(), chunk)
    }

    fn stage(&mut self, entry: GraphEntry, chunk: &[u8]) -> Result<(), StoreError> {
        let position = self.store.stage(&self.place, entry, chunk.to_vec())?;
        let first = self.positions.as_ref().map_or(position, |positions| *positions.start());
        self.positions = Some(first..=position);
        Ok(())
    }
}

fn refusal_of_all(
    store: &mut ChangeStore,
    place: &Place<'_>,
    writer: Writer<'_>,
) -> Result<Option<Verdict>, StoreError> {
    let never = |reason: String| Verdict { class: RefusedClass::Never, reason };
    if let Some(refusal) = writer.right.refusal(writer.principal) {
        return Ok(Some(refusal));
    }
    let Place { collection, space, document } = place;
    let known = store.known(place)?;
    if known.as_ref().is_some_and(|known| known.is_erased) {
        return Ok(Some(never(ERASED.to_owned())));
    }
    Ok(known
        .filter(|known| !known.is_at_home)
        .map(|_| never(format!("{document} does not belong to {collection} of space {space}"))))
}

/// The reason why nothing is taken of somebody in a collection that they may at most read.
const READ_ONLY: &str = "this may be read, but not written to, by who is signed in here";

/// The reason why nothing is taken of a document that an operator erased.
pub(super) const ERASED: &str =
    "the document was erased by an operator; what has its key from now on is another one";

/// The reason why a change of a document waits, if its space has reached its quota.
fn over_quota(
    options: &RelayOptions,
    store: &mut ChangeStore,
    place: &Place<'_>,
) -> Result<Option<String>, StoreError> {
    if options.space_documents_max.is_some()
        && store.known(place)?.is_none()
        && let Some(reason) = full_of_documents(options, store, place.space)?
    {
        return Ok(Some(reason));
    }
    full_of_bytes(options, store, place.space)
}

/// The reason why a space takes no new documents, or nothing at all.
pub(super) fn full(
    options: &RelayOptions,
    store: &mut ChangeStore,
    space: &SpaceName,
) -> Result<Option<String>, StoreError> {
    match full_of_bytes(options, store, space)? {
        None => full_of_documents(options, store, space),
        reason => Ok(reason),
    }
}

fn full_of_documents(
    options: &RelayOptions,
    store: &mut ChangeStore,
    space: &SpaceName,
) -> Result<Option<String>, StoreError> {
    let Some(max) = options.space_documents_max else { return Ok(None) };
    let documents = store.documents_with_staged(space)?;
    Ok((documents >= max).then(|| {
        format!(
            "space {space} has {documents} documents, and limits.space_documents of the relay allows \
             {max}; new ones wait until there is room"
        )
    }))
}

fn full_of_bytes(
    options: &RelayOptions,
    store: &mut ChangeStore,
    space: &SpaceName,
) -> Result<Option<String>, StoreError> {
    let Some(max) = options.space_bytes_max else { return Ok(None) };
    let bytes = store.space_bytes(space)?;
    Ok((bytes >= max).then(|| {
        format!(
            "space {space} has {bytes} bytes, and limits.space_size of the relay allows {max}; edits \
             wait until there is room"
        )
    }))
}

/// The reason why one change is not kept.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    pub(super) class: RefusedClass,
    pub(super) reason: String,
}

impl Verdict {
    fn waits(reason: &str) -> Self {
        Self { class: RefusedClass::Later, reason: reason.to_owned() }
    }

    pub(super) fn never(why: &impl ToString) -> Self {
        Self { class: RefusedClass::Never, reason: why.to_string() }
    }

    fn of(refusal: &Refusal) -> Self {
        let class = match refusal {
            Refusal::Missing(_) => RefusedClass::Missing,
            Refusal::ActorReused { .. } => RefusedClass::ActorReused,
            // If its dependencies are known, a gap is no accident of delivery: an honest change
            // depends on the one before it.
            _ => RefusedClass::Never,
        };
        Self { class, reason: refusal.to_string() }
    }
}

/// Decides which sound changes are refused on demand.
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

/// The changes that are not kept.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// The changes to be named. A change that builds on one that is refused for ever is not among
    /// them: it could be taken if its replica wrote it anew without that one.
    pub(super) hashes: Vec<ChangeHash>,
    pub(super) classes: BTreeMap<ChangeHash, RefusedClass>,
    /// The class the push is answered with: of those that occur, the one that gives up least.
    class: Option<RefusedClass>,
    /// The reason for the class that the whole push is answered with.
    pub(super) reason: String,
}

impl Refused {
    pub(super) fn add(&mut self, hash: ChangeHash, verdict: Verdict) {
        let is_new = !self.classes.contains_key(&hash);
        self.add_dependant(hash, verdict);
        if is_new {
            self.hashes.push(hash);
        }
    }

    /// Notes a change that is refused only because it builds on one that is.
    fn add_dependant(&mut self, hash: ChangeHash, verdict: Verdict) {
        if self.class.is_none_or(|class| precedence(verdict.class) < precedence(class)) {
            self.reason = verdict.reason;
            self.class = Some(verdict.class);
        }
        self.classes.insert(hash, verdict.class);
    }

    /// The verdict of a change that builds on a refused one, which is the same.
    fn of_a_dep(&self, change: &Change) -> Option<Verdict> {
        let classes = change.deps().iter().filter_map(|dep| self.classes.get(dep));
        let class = *classes.min_by_key(|class| precedence(**class))?;
        Some(Verdict { class, reason: "it builds on a change that is refused".to_owned() })
    }

    /// The class the push is answered with, if anything was refused.
    pub(super) fn class(&self) -> Option<RefusedClass> {
        self.class
    }
}

/// A Refused frame has one class for all its changes, so the mildest is chosen: a change that can
/// never be kept is refused again by itself, while a change once set aside does not come back.
fn precedence(class: RefusedClass) -> u8 {
    match class {
        RefusedClass::Missing => 0,
        RefusedClass::Later => 1,
        RefusedClass::ActorReused => 2,
        RefusedClass::Never => 3,
    }
}
