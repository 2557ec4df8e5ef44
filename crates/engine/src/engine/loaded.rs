//! Documents in memory: loaded when they are needed, gone when they are not.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use automerge::{Author, Automerge, Change};
use rejoin_core::change::is_reserved_bytes;
use rejoin_core::limits::OP_START_MAX;
use rejoin_core::lineage::{Lineage, Marks};
use rejoin_core::{
    ActorId, ChangeHash, DocumentId, History, Identity, KnownChange, LastChange, Settlement, Undo,
};

use super::{EngineError, lineage};
use crate::store::DocumentRow;
use crate::value::At;

/// The loaded documents, least recently used ones first to go.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    documents: BTreeMap<DocumentId, LoadedDocument>,
    /// The actor of each document edited in this process, and the identity it was drawn for. It is
    /// kept when the document is unloaded, and gone after a failed commit, for then nobody knows
    /// which sequence numbers were used.
    actors: BTreeMap<DocumentId, (Option<Identity>, ActorId)>,
    clock: u64,
}

/// One document in memory.
#[derive(Debug)]
pub(super) struct LoadedDocument {
    pub(super) doc: Automerge,
    last: BTreeMap<ActorId, LastChange>,
    /// The lineage, once it was asked for.
    pub(super) lineage: Option<Box<Lineage>>,
    tips: Tips,
    /// The identity that the actor of `doc` was drawn for, once one was drawn in this process.
    actor_of: Option<Option<Identity>>,
    changes: u64,
    /// The highest counter of an operation.
    max_op: u64,
    bytes: u64,
    used: u64,
    used_at: u64,
}

impl Loaded {
    /// Takes a document out; [`put`](Self::put) it back after use. A document that is not put back
    /// is loaded anew, which undoes a failed edit.
    pub(super) fn take(&mut self, id: &DocumentId) -> Option<LoadedDocument> {
        self.documents.remove(id)
    }

    pub(super) fn put(&mut self, now: u64, id: DocumentId, mut document: LoadedDocument) {
        self.clock += 1;
        document.used = self.clock;
        document.used_at = now;
        self.documents.insert(id, document);
    }

    pub(super) fn get(&self, id: &DocumentId) -> Option<&LoadedDocument> {
        self.documents.get(id)
    }

    /// The actor of a document for an author; when somebody else has edited it since, another one.
    pub(super) fn actor(
        &mut self,
        id: &DocumentId,
        author: Option<&Identity>,
        fresh: impl FnOnce() -> [u8; 16],
    ) -> ActorId {
        let known = self.actors.get(id).filter(|(of, _)| of.as_ref() == author);
        if let Some((_, actor)) = known {
            return actor.clone();
        }
        let actor = ActorId(fresh().to_vec());
        self.actors.insert(*id, (author.cloned(), actor.clone()));
        actor
    }

    pub(super) fn forget_actor(&mut self, id: &DocumentId) {
        self.actors.remove(id);
    }

    pub(super) fn clear(&mut self) {
        self.documents.clear();
        self.actors.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.documents.len()
    }

    /// Documents to unload: over the limits, or unused since `idle_since`.
    pub(super) fn surplus(
        &self,
        count_max: usize,
        bytes_max: u64,
        idle_since: u64,
    ) -> Vec<DocumentId> {
        let stored: u64 = self.documents.values().map(|document| document.bytes).sum();
        if idle_since == 0 && self.documents.len() <= count_max && stored <= bytes_max {
            return Vec::new();
        }
        let mut by_use: Vec<_> = self.documents.iter().collect();
        by_use.sort_by_key(|(_, document)| std::cmp::Reverse(document.used));
        let (mut count, mut bytes) = (0, 0);
        let mut surplus = Vec::new();
        for (id, document) in by_use {
            count += 1;
            bytes += document.bytes;
            // The one just used stays, however large.
            let over = count > count_max || (bytes > bytes_max && count > 1);
            if over || document.used_at < idle_since {
                surplus.push(*id);
            }
        }
        surplus
    }
}

impl LoadedDocument {
    pub(super) fn new(doc: Automerge, bytes: u64) -> Self {
        let (mut last, mut changes, mut max_op) = (BTreeMap::new(), 0, 0);
        let mut tips = Tips::default();
        for change in doc.get_changes_meta(&[]) {
            note(&mut last, change.actor.to_bytes(), change.seq, change.max_op);
            let ops = (change.max_op + 1).saturating_sub(change.start_op);
            let says = says_more(&change.actor, ops, change.message.as_deref());
            tips.note(change.hash, &change.deps, &change.actor, says);
            changes += 1;
            max_op = max_op.max(change.max_op);
        }
        Self {
            last,
            lineage: None,
            tips,
            actor_of: None,
            changes,
            max_op,
            bytes,
            used: 0,
            used_at: 0,
            doc,
        }
    }

    /// A document that has no changes yet.
    pub(super) fn empty(id: &DocumentId) -> Self {
        let mut document = Self::new(Automerge::new(), 0);
        document.lineage = Some(Box::new(Lineage::new(*id, Arc::default())));
        document
    }

    /// Reads a document from its snapshot and the changes since. If there is no snapshot, the
    /// lineage is made at the same time at little cost; out of a snapshot it costs more, and is
    /// made only when it is asked for.
    pub(super) fn load(
        id: &DocumentId,
        row: &DocumentRow,
        snapshot: Option<Vec<u8>>,
        changes: &[(u64, Vec<u8>)],
    ) -> Result<Self, EngineError> {
        let bytes = row.snapshot_bytes + row.tail_bytes;
        let is_all = snapshot.is_none();
        fenced(|| {
            let mut doc = match snapshot {
                Some(snapshot) => Automerge::load(&snapshot)?,
                None => Automerge::new(),
            };
            let tail = changes.iter().filter(|(at, _)| (row.covered..row.next).contains(at));
            let tail: Result<Vec<_>, _> =
                tail.map(|(_, chunk)| Change::from_bytes(chunk.clone())).collect();
            let tail = tail?;
            let lineage = is_all.then(|| {
                let mut lineage = Lineage::new(*id, Arc::default());
                tail.iter().for_each(|change| lineage::add(&mut lineage, change));
                Box::new(lineage)
            });
            doc.apply_changes(tail)?;
            let mut document = Self { lineage, ..Self::new(doc, bytes) };
            // The stored changes were looked at when they came.
            document.tips.take_branched();
            Ok(document)
        })
        .map_err(|reason| EngineError::Unreadable { document: *id, reason })
    }

    pub(super) fn ensure_actor(
        &mut self,
        author: Option<&Identity>,
        actor: impl FnOnce() -> ActorId,
    ) {
        if self.actor_of.as_ref().map(Option::as_ref) != Some(author) {
            self.doc.set_author(author.map(|author| Author::from(author.to_author())));
            self.doc.set_actor(automerge::ActorId::from(actor().0));
            self.actor_of = Some(author.cloned());
        }
    }

    /// Notes a change that was applied to `doc`.
    pub(super) fn note(&mut self, change: &Change) {
        self.changes += 1;
        self.max_op = self.max_op.max(change.max_op());
        self.bytes += change.raw_bytes().len() as u64;
        note(&mut self.last, change.actor_id().to_bytes(), change.seq(), change.max_op());
        let (ops, message) = (change.len() as u64, change.message());
        let says = says_more(change.actor_id(), ops, message);
        self.tips.note(change.hash(), change.deps(), change.actor_id(), says);
        self.lineage = self.lineage.take().and_then(|mut lineage| {
            let known = lineage.len();
            lineage::add(&mut lineage, change);
            // A lineage that lacks a change which another builds on is made anew when it is next
            // asked for.
            (lineage.len() > known).then_some(lineage)
        });
    }

    /// Whether a change came since this was last asked, or since the document was made, that does
    /// not build on all before it.
    pub(super) fn take_branched(&mut self) -> bool {
        self.tips.take_branched()
    }

    /// Whether an edit has room for its operations.
    pub(super) fn has_room(&self) -> bool {
        self.max_op < OP_START_MAX
    }

    /// The number of its changes.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn is_deleted(&self) -> bool {
        let at = At::new(&self.doc, None, self.marks());
        at.find(&automerge::ROOT, at.marks().deleted).is_some_and(|found| found.is_true())
    }

    /// The keys at which it says that something was removed: ours if our genesis is in it, as in a
    /// document that is being made. Births alone prove nothing, for documents of others have them,
    /// too.
    pub(super) fn marks(&self) -> &'static Marks {
        match self.last.is_empty() || self.tips.has_genesis {
            true => Marks::OURS,
            false => Marks::THEIRS,
        }
    }

    pub(super) fn heads(&self) -> Vec<ChangeHash> {
        self.doc.get_heads().iter().map(|head| ChangeHash(head.0)).collect()
    }
}

/// The heads, followed change by change.
#[derive(Debug, Default)]
struct Tips {
    heads: Vec<automerge::ChangeHash>,
    /// Whether a change did not build on all before it.
    branched: bool,
    /// Whether something came that every device would make alike.
    born: bool,
    /// Whether our genesis is among them: of the changes that every device makes alike it is the
    /// only one without dependencies.
    has_genesis: bool,
}

/// Whether a change says more than Automerge shows, even if it builds on all others: it decides
/// something, or it makes a text of a value and may claim another value.
fn says_more(actor: &automerge::ActorId, ops: u64, message: Option<&str>) -> bool {
    let is_text_of_value = ops > 1 && is_reserved_bytes(actor.to_bytes());
    let decides =
        |said: &str| Settlement::from_message(said).is_some() || Undo::from_message(said).is_some();
    is_text_of_value || message.is_some_and(decides)
}

impl Tips {
    fn note(
        &mut self,
        hash: automerge::ChangeHash,
        deps: &[automerge::ChangeHash],
        actor: &automerge::ActorId,
        says_more: bool,
    ) {
        self.heads.retain(|head| !deps.contains(head));
        self.branched |= says_more;
        // A change that every device would make contradicts nobody, but it can hide a value.
        match is_reserved_bytes(actor.to_bytes()) {
            true => {
                self.born = true;
                self.has_genesis |= deps.is_empty();
            }
            false => self.branched |= !self.heads.is_empty(),
        }
        self.heads.push(hash);
    }

    /// Whether a change came, since this was last asked, whose author may not have known of all
    /// others.
    fn take_branched(&mut self) -> bool {
        let hides = std::mem::take(&mut self.born) && self.heads.len() > 1;
        std::mem::take(&mut self.branched) || hides
    }
}

impl History for LoadedDocument {
    fn change(&self, hash: &ChangeHash) -> Option<KnownChange> {
        let change = self.doc.get_change_meta_by_hash(&automerge::ChangeHash(hash.0))?;
        Some(KnownChange {
            actor: ActorId(change.actor.to_bytes().to_vec()),
            seq: change.seq,
            start_op: change.start_op,
            max_op: change.max_op,
        })
    }

    fn last(&self, actor: &ActorId) -> Option<LastChange> {
        self.last.get(actor).copied()
    }
}

/// A document and changes about to be applied to it.
pub(super) struct Ahead<'a> {
    pub(super) document: &'a LoadedDocument,
    changes: BTreeMap<ChangeHash, KnownChange>,
    last: BTreeMap<ActorId, LastChange>,
}

impl<'a> Ahead<'a> {
    pub(super) fn of(document: &'a LoadedDocument) -> Self {
        Self { document, changes: BTreeMap::new(), last: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, hash: ChangeHash, change: KnownChange) {
        note(&mut self.last, &change.actor.0, change.seq, change.max_op);
        self.changes.insert(hash, change);
    }
}

impl History for Ahead<'_> {
    fn change(&self, hash: &ChangeHash) -> Option<KnownChange> {
        self.changes.get(hash).cloned().or_else(|| self.document.change(hash))
    }

    fn last(&self, actor: &ActorId) -> Option<LastChange> {
        self.last.get(actor).copied().or_else(|| self.document.last(actor))
    }
}

fn note(last: &mut BTreeMap<ActorId, LastChange>, actor: &[u8], seq: u64, max_op: u64) {
    let entry = last.entry(ActorId(actor.to_vec())).or_insert(LastChange { seq: 0, max_op: 0 });
    entry.seq = entry.seq.max(seq);
    entry.max_op = entry.max_op.max(max_op);
}

/// Runs Automerge on bytes from outside: a panic in there becomes an error. The document it was
/// working on is to be dropped.
pub(super) fn fenced<T>(
    work: impl FnOnce() -> Result<T, automerge::AutomergeError>,
) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("Automerge panicked".to_owned()),
    }
}
