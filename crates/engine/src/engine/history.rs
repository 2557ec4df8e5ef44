//! The history of a document.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use automerge::{Automerge, Change, Prop};
use rejoin_core::change::{genesis_actor, is_reserved};
use rejoin_core::lineage::{FieldPath, Lineage, Step, Written};
use rejoin_core::schema::Schema;
use rejoin_core::{ActorId, ChangeHash, DocumentId, History, Identity, Settlement, Undo};
use serde_json::Value;

use super::derive::with_defaults;
use super::lineage::operations;
use super::loaded::fenced;
use super::schemas::stored_schema;
use super::view::path_of;
use super::{Engine, LoadedDocument, ReadError, to_automerge};
use crate::store::DocumentRow;
use crate::value::{Effective, shown_items, to_effective_json};

/// One change of a document's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Its identity.
    pub hash: ChangeHash,
    /// The changes it builds on.
    pub deps: Vec<ChangeHash>,
    /// Its maker in Automerge's sense: one process on one device.
    pub actor: ActorId,
    /// The person who made it, if it names one.
    pub author: Option<Identity>,
    /// The time, in seconds since 1970 by that device's clock; 0 for changes every device would
    /// make.
    pub time_s: i64,
    /// The kind of change.
    pub kind: Kind,
    /// Whether it builds on several edits that did not know of each other.
    pub merges: bool,
    /// The review it settled.
    pub settles: Option<Settlement>,
    /// The earlier changes it took back, and the review it opened again.
    pub undoes: Option<Undo>,
    /// The top-level fields it wrote.
    pub fields: BTreeSet<String>,
    /// Its writes, nested fields included, each field once.
    pub writes: Vec<Written>,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first change of a document, alike on every device.
    Genesis,
    /// The making of a text, list, map or counter, alike on every device.
    Birth,
    /// Somebody's edit.
    Edit,
}

impl Engine {
    /// The last `max` changes of a document, oldest first.
    ///
    /// # Errors
    /// There is no such document, or it does not load.
    pub fn history(
        &mut self,
        now: u64,
        id: &DocumentId,
        max: usize,
    ) -> Result<Vec<HistoryEntry>, ReadError> {
        self.look(now, id, |document, _, schema| {
            let unreadable = |reason| ReadError::Unreadable { document: *id, reason };
            let changes = fenced(|| Ok(last_changes(&document.doc, max))).map_err(unreadable)?;
            document.entries(id, schema, &changes)
        })
    }

    /// The changes of a document that wait for a relay, oldest first.
    ///
    /// # Errors
    /// There is no such document, or it does not load.
    pub fn unsent_history(
        &mut self,
        now: u64,
        id: &DocumentId,
    ) -> Result<Vec<HistoryEntry>, ReadError> {
        let view = self.store.read()?;
        let mut chunks = Vec::new();
        for key in view.waiting(id)? {
            for (_, row) in view.outbox(key, 1)? {
                chunks.extend(view.changes_in(id, row.from..row.from + row.count)?);
            }
        }
        drop(view);
        self.look(now, id, |document, _, schema| {
            let unreadable = |reason| ReadError::Unreadable { document: *id, reason };
            let read = || chunks.into_iter().map(|chunk| Ok(Change::from_bytes(chunk)?)).collect();
            let changes: Vec<_> = fenced(read).map_err(unreadable)?;
            document.entries(id, schema, &changes)
        })
    }

    /// The value a document had at these heads, or has now, as people should see it by the present
    /// schema. The indices of an edit at these heads are read against this value.
    ///
    /// # Errors
    /// There is no such document, it does not load, or does not have these heads.
    pub fn value_at(
        &mut self,
        now: u64,
        id: &DocumentId,
        heads: Option<&[ChangeHash]>,
    ) -> Result<Value, ReadError> {
        let Some(heads) = heads.map(to_automerge) else { return Ok(self.view(now, id)?.value) };
        self.look(now, id, |document, row, schema| {
            let known = |head| document.doc.get_change_meta_by_hash(head).is_some();
            if let Some(head) = heads.iter().find(|head| !known(head)) {
                return Err(ReadError::UnknownHeads { head: ChangeHash(head.0) });
            }
            let effective = document.effective_at(id, row, schema, &heads, Effective::seen)?;
            let marks = document.marks();
            let value = to_effective_json(&document.doc, Some(&heads), &effective, marks);
            Ok(with_defaults(value, schema))
        })
    }

    /// Whether a document is in memory and holds a change.
    pub fn holds(&self, id: &DocumentId, change: &ChangeHash) -> bool {
        self.loaded.get(id).is_some_and(|document| History::change(document, change).is_some())
    }

    /// Looks at a document as last committed, with its row and the schema of its collection.
    pub(super) fn look<T>(
        &mut self,
        now: u64,
        id: &DocumentId,
        look: impl FnOnce(&mut LoadedDocument, &DocumentRow, &Arc<Schema>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let view = self.store.read()?;
        let row = view.document(id)?.ok_or(ReadError::NotFound)?;
        let schema = stored_schema(&view, &row)?;
        let mut document = self.load_committed(&view, id, &row)?;
        let seen = look(&mut document, &row, &schema)?;
        self.loaded.put(now, *id, document);
        // A caller that looks at one document after the other must not fill the memory.
        self.unload_looked_at(&view)?;
        Ok(seen)
    }
}

impl LoadedDocument {
    /// The entries of some of its changes.
    pub(super) fn entries(
        &mut self,
        id: &DocumentId,
        schema: &Arc<Schema>,
        changes: &[Change],
    ) -> Result<Vec<HistoryEntry>, ReadError> {
        self.lineage(id, schema)?;
        let Some(lineage) = &self.lineage else { return Ok(Vec::new()) };
        let entry = |change: &Change| entry(&self.doc, lineage, id, change);
        let mut entries: Vec<_> = changes.iter().map(entry).collect();
        let in_lists = entries.iter_mut().flat_map(|entry| &mut entry.writes);
        let mut in_lists = in_lists.filter(|written| written.path.is_none()).peekable();
        if in_lists.peek().is_some() {
            let effective = Effective::seen(lineage, &lineage.standings());
            let items = shown_items(&self.doc, Some(&effective), self.marks());
            in_lists.for_each(|written| written.path = path_of(&written.place, &[], &items));
        }
        Ok(entries)
    }

    /// The top-level fields that differ between two heads.
    pub(super) fn fields_between(
        &self,
        before: &[ChangeHash],
        after: &[ChangeHash],
    ) -> BTreeSet<String> {
        fields(&self.doc, &to_automerge(before), &to_automerge(after))
    }
}

/// The last changes, without making all the others.
fn last_changes(doc: &Automerge, max: usize) -> Vec<Change> {
    let known = doc.get_changes_meta(&[]);
    let last = &known[known.len().saturating_sub(max)..];
    if last.len() == known.len() {
        return doc.get_changes(&[]);
    }
    let order: BTreeMap<_, _> = last.iter().map(|change| change.hash).zip(0..).collect();
    // The history before them ends in its heads, or in changes that the last ones build on.
    let mut before = doc.get_heads();
    before.extend(last.iter().flat_map(|change| change.deps.iter().copied()));
    before.retain(|hash| !order.contains_key(hash));
    let mut changes = doc.get_changes(&before);
    changes.sort_by_key(|change| order.get(&change.hash()).copied());
    changes
}

fn entry(doc: &Automerge, lineage: &Lineage, id: &DocumentId, change: &Change) -> HistoryEntry {
    let (hash, actor) = (ChangeHash(change.hash().0), actor(change));
    let kind = match () {
        () if actor == genesis_actor(id) => Kind::Genesis,
        () if is_reserved(&actor) => Kind::Birth,
        () => Kind::Edit,
    };
    let is_edit = |dep: &&automerge::ChangeHash| {
        let known = doc.get_change_meta_by_hash(dep);
        known.is_some_and(|known| !is_reserved(&ActorId(known.actor.to_bytes().to_vec())))
    };
    let mut writes = BTreeMap::new();
    for op in operations(change) {
        if let Some(written) = lineage.written(&hash, &op) {
            writes.insert(written.place.clone(), written);
        }
    }
    let top = |place: &FieldPath| match place.0.first() {
        Some(Step::Key(key)) => Some(key.clone()),
        _ => None,
    };
    HistoryEntry {
        hash,
        deps: change.deps().iter().map(|dep| ChangeHash(dep.0)).collect(),
        actor,
        author: lineage.author(&hash).cloned(),
        time_s: change.timestamp(),
        kind,
        merges: change.deps().len() > 1 && change.deps().iter().filter(is_edit).count() > 1,
        settles: lineage.settlement(&hash).cloned(),
        undoes: lineage.undo(&hash).cloned(),
        fields: writes.keys().filter_map(top).collect(),
        writes: writes.into_values().collect(),
    }
}

fn actor(change: &Change) -> ActorId {
    ActorId(change.actor_id().to_bytes().to_vec())
}

fn fields(
    doc: &Automerge,
    before: &[automerge::ChangeHash],
    after: &[automerge::ChangeHash],
) -> BTreeSet<String> {
    let patches = doc.diff(before, after);
    let top = patches.into_iter().filter_map(|patch| match patch.path.into_iter().next() {
        Some((_, Prop::Map(field))) => Some(field),
        Some(_) => None,
        None => match patch.action {
            automerge::PatchAction::PutMap { key, .. }
            | automerge::PatchAction::DeleteMap { key } => Some(key),
            automerge::PatchAction::Increment { prop: Prop::Map(key), .. }
            | automerge::PatchAction::Conflict { prop: Prop::Map(key) } => Some(key),
            _ => None,
        },
    });
    top.collect()
}
