//! How a document came to be what it is.

use std::collections::BTreeSet;

use automerge::{Automerge, ChangeMetadata, Prop};
use rejoin_core::change::{genesis_actor, is_reserved};
use rejoin_core::{ActorId, ChangeHash, DocumentId, History};
use serde_json::Value;

use super::{EditError, Engine, LoadedDocument, to_automerge};
use crate::value::to_json;

/// One change of a document's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Its identity.
    pub hash: ChangeHash,
    /// What it builds on.
    pub deps: Vec<ChangeHash>,
    /// Who made it, in Automerge's sense: one process on one device.
    pub actor: ActorId,
    /// When, in seconds since 1970 by that device's clock; 0 for changes every device would make.
    pub time_s: i64,
    /// What it is.
    pub kind: Kind,
    /// The top-level fields it changed.
    pub fields: BTreeSet<String>,
}

/// What a change is.
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
    ) -> Result<Vec<HistoryEntry>, EditError> {
        self.with_document(now, id, |document| {
            let changes = document.doc.get_changes_meta(&[]);
            let skip = changes.len().saturating_sub(max);
            changes.iter().skip(skip).map(|change| entry(&document.doc, id, change)).collect()
        })
    }

    /// The value a document had at these heads, as Automerge shows it, or has now, as people should
    /// see it.
    ///
    /// # Errors
    /// There is no such document, it does not load, or does not have these heads.
    pub fn value_at(
        &mut self,
        now: u64,
        id: &DocumentId,
        heads: Option<&[ChangeHash]>,
    ) -> Result<Value, EditError> {
        let Some(heads) = heads.map(to_automerge) else { return Ok(self.view(now, id)?.value) };
        self.with_document(now, id, |document| {
            let known = |heads: &Vec<automerge::ChangeHash>| {
                heads.iter().all(|head| document.doc.get_change_meta_by_hash(head).is_some())
            };
            if known(&heads) {
                Ok(to_json(&document.doc, Some(&heads)))
            } else {
                Err(EditError::NotFound)
            }
        })?
    }

    /// Whether a document is in memory and holds a change.
    pub fn holds(&self, id: &DocumentId, change: &ChangeHash) -> bool {
        self.loaded.get(id).is_some_and(|document| History::change(document, change).is_some())
    }

    fn with_document<T>(
        &mut self,
        now: u64,
        id: &DocumentId,
        read: impl FnOnce(&LoadedDocument) -> T,
    ) -> Result<T, EditError> {
        let view = self.store.read()?;
        let row = view.document(id)?.ok_or(EditError::NotFound)?;
        let document = self.load_committed(&view, id, &row)?;
        let result = read(&document);
        self.loaded.put(now, *id, document);
        Ok(result)
    }
}

impl LoadedDocument {
    /// The top-level fields that differ between two heads.
    pub(super) fn fields_between(
        &self,
        before: &[ChangeHash],
        after: &[ChangeHash],
    ) -> BTreeSet<String> {
        fields(&self.doc, &to_automerge(before), &to_automerge(after))
    }
}

fn entry(doc: &Automerge, id: &DocumentId, change: &ChangeMetadata<'_>) -> HistoryEntry {
    let actor = ActorId(change.actor.to_bytes().to_vec());
    let kind = match () {
        () if actor == genesis_actor(id) => Kind::Genesis,
        () if is_reserved(&actor) => Kind::Birth,
        () => Kind::Edit,
    };
    HistoryEntry {
        hash: ChangeHash(change.hash.0),
        deps: change.deps.iter().map(|dep| ChangeHash(dep.0)).collect(),
        actor,
        time_s: change.timestamp,
        kind,
        fields: fields(doc, &change.deps, &[change.hash]),
    }
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
