//! Local work that a relay will never take.
//!
//! A change cannot be taken out of a history that later edits build on. So the change and all that
//! build on it are kept aside as recoverable work, and the document is built again without them.
//! Edits that are still allowed are made anew under a fresh actor: the same operations on the same
//! items, characters and values, with no more knowledge than their author had.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use automerge::{Automerge, Change};
use rejoin_core::change::is_reserved_bytes;
use rejoin_core::schema::Schema;
use rejoin_core::{ChangeHash, DocumentId, ShortHash, Undo, heads_hash};
use tracing::warn;

use super::derive::reviews_collection;
use super::loaded::fenced;
use super::{Effect, Engine, EngineError, LoadedDocument, Origin, Turn};
use crate::store::{DocumentRow, SetAsideRow};
use crate::write::{Again, Written};

/// The way in which changes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The relay will never take them.
    ForGood,
    /// They are allowed, and only their place in the actor's sequence was taken.
    Place,
    /// Whoever made them does not want them any more.
    Discarded,
}

/// Who lets a document go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    /// This device: all of it was refused.
    Here,
    /// The relay, where an operator erased it.
    ByRelay,
}

impl Engine {
    /// Sets `refused` aside, with the changes that build on them. Returns whether there was anything to
    /// set aside.
    pub(super) fn stage_set_aside(
        &mut self,
        turn: &mut Turn,
        id: &DocumentId,
        refused: &[ChangeHash],
        reason: &str,
        refusal: Refusal,
    ) -> Result<bool, EngineError> {
        let Some(before) = turn.txn.document(id)? else { return Ok(false) };
        let mut document = self.load(&turn.txn, id, &before)?;
        self.loaded.forget_actor(id);
        let history = document.doc.get_changes(&[]);
        let refused: BTreeSet<_> = refused.iter().copied().collect();
        let (aside, kept) = part(history, &refused);
        // Words of a file that a relay refused are news if the file says them again.
        turn.txn.forget_imported(id)?;
        if aside.is_empty() {
            self.loaded.put(turn.now, *id, document);
            return Ok(false);
        }
        let schema = self.schema(&turn.txn, &before)?;
        let mut fields = fields_of(id, &mut document, &schema, &aside);
        let mut rebuilt = rebuilt(id, &before, &kept)?;
        // Without its first change there is no document to make anything in.
        let is_gone = kept.is_empty();
        let mut again = Again::new(*id, kept.iter().chain(&aside).map(|(_, change)| change));
        let mut authored = Vec::new();
        let mut lost = BTreeSet::new();
        for (hash, change) in &aside {
            // A change that only builds on a refused one may be made anew again and again: each
            // time, at least one change less is left to be refused.
            let may_be = refusal == Refusal::Place && !self.authored_anew.contains(hash);
            let allowed = !is_gone && (may_be || !refused.contains(hash));
            // What took back only changes that are lost has nothing left to take back, and would count
            // down what was never counted up.
            let is_moot = allowed && takes_back_only(change, &lost);
            let had = authored.len();
            let made = is_moot
                || allowed && self.make_anew(id, &mut again, &mut rebuilt, change, &mut authored);
            if !allowed || is_moot {
                again.lose(change);
            }
            if !made || is_moot {
                lost.insert(hash.short());
            }
            let reason = reason_of(reason, refused.contains(hash));
            let row = SetAsideRow {
                authored_anew: made,
                // Who discards a change knows of it.
                acknowledged: refusal == Refusal::Discarded && refused.contains(hash),
                time_s: turn.unix_s,
                anew: authored.get(had).map(|change| ChangeHash(change.hash().0)),
                fields: fields.remove(hash).unwrap_or_default(),
                ..row_of(id, &before, change, reason)
            };
            turn.txn.push_set_aside(&row)?;
            self.status.set_aside += u64::from(row.is_open());
        }
        self.status.answers += 1;
        if is_gone {
            self.remove_document(turn, id, &before, Removed::Here)?;
            return Ok(true);
        }
        self.authored_anew.extend(authored.iter().map(|change| ChangeHash(change.hash().0)));
        let unsent = self.unsent(turn, id, &before, &kept)?;
        let authored = authored.into_iter().map(|change| (again.user_of(&change), change));
        let local = unsent.into_iter().chain(authored).collect();
        self.rewrite(turn, id, before, rebuilt, local)?;
        Ok(true)
    }

    /// Sets all of these changes aside for good, whether or not the document can be read: it is about
    /// to be removed.
    pub(super) fn stage_all_aside(
        &mut self,
        turn: &mut Turn,
        id: &DocumentId,
        row: &DocumentRow,
        chunks: &[Vec<u8>],
        reason: &str,
    ) -> Result<(), EngineError> {
        let changes: Vec<Change> =
            chunks.iter().filter_map(|chunk| Change::from_bytes(chunk.clone()).ok()).collect();
        let mut fields = match self.load(&turn.txn, id, row) {
            Ok(mut document) => {
                let schema = self.schema(&turn.txn, row)?;
                let hash = |change: &Change| ChangeHash(change.hash().0);
                let changes: Vec<_> =
                    changes.into_iter().map(|change| (hash(&change), change)).collect();
                fields_of(id, &mut document, &schema, &changes)
            }
            Err(EngineError::Unreadable { .. }) => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        for chunk in chunks {
            // The bytes are kept in any case; one that is damaged has no name.
            let hash = rejoin_core::change::hash_of(chunk).unwrap_or(ChangeHash([0; 32]));
            let aside = SetAsideRow {
                space: row.space.clone(),
                collection: row.collection.clone(),
                document: *id,
                key: row.key.clone(),
                hash,
                chunk: chunk.clone().into(),
                reason: reason.to_owned(),
                authored_anew: false,
                time_s: turn.unix_s,
                anew: None,
                fields: fields.remove(&hash).unwrap_or_default(),
                acknowledged: false,
            };
            turn.txn.push_set_aside(&aside)?;
            self.status.set_aside += 1;
        }
        if !chunks.is_empty() {
            self.status.answers += 1;
        }
        Ok(())
    }

    /// Removes a document of which nothing is left, or nothing is to be, from everything but what was
    /// set aside.
    pub(super) fn remove_document(
        &mut self,
        turn: &mut Turn,
        id: &DocumentId,
        before: &DocumentRow,
        removed: Removed,
    ) -> Result<(), EngineError> {
        let mut digest = turn.txn.digest(&before.space, &before.collection)?;
        digest.digest.remove(id, &heads_hash(&before.heads));
        digest.documents = digest.documents.saturating_sub(1);
        turn.txn.put_digest(&before.space, &before.collection, &digest)?;
        let has_reviews = turn.txn.remove_document(id, before)?;
        turn.dirty = true;
        let (space, collection) = (before.space.clone(), before.collection.clone());
        let change = crate::watch::DocumentChanged {
            document: *id,
            key: before.key.clone(),
            fields: BTreeSet::new(),
            before: before.heads.clone(),
            heads: Vec::new(),
            local: removed == Removed::Here,
            remote: removed == Removed::ByRelay,
            deleted: true,
        };
        if has_reviews {
            let (space, change) = (space.clone(), change.clone());
            turn.effects.push(Effect::Changed { space, collection: reviews_collection(), change });
        }
        turn.effects.push(Effect::Changed { space, collection, change });
        Ok(())
    }

    /// Makes a change again in the rebuilt document. Returns whether all of it stands there now.
    fn make_anew(
        &mut self,
        id: &DocumentId,
        again: &mut Again,
        rebuilt: &mut LoadedDocument,
        change: &Change,
        authored: &mut Vec<Change>,
    ) -> bool {
        let written = match again.write(&rebuilt.doc, change, &mut self.random) {
            Written::Change(written) => written,
            Written::Unneeded => return true,
            Written::Lost => {
                warn!(doc = %id, change = %ChangeHash(change.hash().0), "change not made anew: what it writes in is gone");
                return false;
            }
        };
        match fenced(|| rebuilt.doc.apply_changes([(*written).clone()])) {
            Ok(()) => {
                authored.push(*written);
                true
            }
            Err(reason) => {
                warn!(doc = %id, reason, "change not made anew");
                again.lose(change);
                false
            }
        }
    }

    /// Changes that stay and that the relay does not have yet, with who made them. They leave the
    /// outbox here.
    fn unsent(
        &mut self,
        turn: &mut Turn,
        id: &DocumentId,
        before: &DocumentRow,
        kept: &[(ChangeHash, Change)],
    ) -> Result<Vec<(Option<String>, Change)>, EngineError> {
        let mut waiting = BTreeMap::new();
        for key in turn.txn.waiting(id)? {
            let Some(edit) = turn.txn.remove_outbox(key)? else { continue };
            for at in edit.from..(edit.from + edit.count).min(before.next) {
                let chunk = turn.txn.change(id, at)?;
                let parsed = chunk.and_then(|chunk| rejoin_core::change::parse(&chunk).ok());
                waiting.extend(parsed.map(|change| (change.hash(), edit.user.clone())));
            }
        }
        let unsent = kept.iter().filter_map(|(hash, change)| {
            let user = waiting.remove(hash)?;
            // A genesis or birth names nobody. The relay may have it without the edit that it came with.
            let is_shared = is_reserved_bytes(change.actor_id().to_bytes());
            Some((user.filter(|_| !is_shared), change.clone()))
        });
        Ok(unsent.collect())
    }

    /// Writes the rebuilt document in the place of the old one. `local` are the changes that wait for
    /// the relay, with who made them.
    fn rewrite(
        &mut self,
        turn: &mut Turn,
        id: &DocumentId,
        before: DocumentRow,
        mut rebuilt: LoadedDocument,
        local: Vec<(Option<String>, Change)>,
    ) -> Result<(), EngineError> {
        turn.txn.remove_changes(id, 0..before.next, |_| false)?;
        let snapshot = rebuilt.doc.save();
        turn.txn.put_snapshot(id, &snapshot)?;
        let mut row = before.clone();
        row.heads = rebuilt.heads();
        row.snapshot_bytes = snapshot.len() as u64;
        for of_one in local.chunk_by(|(user, _), (next, _)| user == next) {
            let user = of_one[0].0.clone();
            let mut changes: Vec<_> = of_one.iter().map(|(_, change)| change.clone()).collect();
            let kept = self.keep_local(turn, id, row, &mut rebuilt, &mut changes, user);
            row = kept
                .map_err(|error| match error {
                    super::EditError::Store(error) => EngineError::Store(error),
                    error => EngineError::Unreadable { document: *id, reason: error.to_string() },
                })?
                .0;
        }
        // The snapshot holds them all; the bytes stay for the outbox.
        row.heads = rebuilt.heads();
        row.covered = row.next;
        row.tail_bytes = 0;
        self.settle(turn, id, Some(&before), row, &mut rebuilt, Origin::Local)?;
        self.loaded.put(turn.now, *id, rebuilt);
        Ok(())
    }
}

/// The reason why a change is set aside: it was refused, or builds on one that was.
fn reason_of(reason: &str, is_refused: bool) -> String {
    match is_refused {
        true => reason.to_owned(),
        false => format!("it builds on a change that was refused: {reason}"),
    }
}

/// A change of a document as it is set aside for good.
fn row_of(id: &DocumentId, document: &DocumentRow, change: &Change, reason: String) -> SetAsideRow {
    SetAsideRow {
        space: document.space.clone(),
        collection: document.collection.clone(),
        document: *id,
        key: document.key.clone(),
        hash: ChangeHash(change.hash().0),
        chunk: change.raw_bytes().to_vec().into(),
        reason,
        authored_anew: false,
        time_s: 0,
        anew: None,
        fields: Vec::new(),
        acknowledged: false,
    }
}

/// A document of these changes alone.
fn rebuilt(
    id: &DocumentId,
    row: &DocumentRow,
    kept: &[(ChangeHash, Change)],
) -> Result<LoadedDocument, EngineError> {
    let rebuilt = fenced(|| {
        let mut doc = Automerge::new();
        doc.apply_changes(kept.iter().map(|(_, change)| change.clone()).collect::<Vec<_>>())?;
        Ok(doc)
    });
    let rebuilt = rebuilt.map_err(|reason| EngineError::Unreadable { document: *id, reason })?;
    Ok(LoadedDocument::new(rebuilt, row.snapshot_bytes + row.tail_bytes))
}

/// Whether a change is an undo, and every change that it names is one of these.
fn takes_back_only(change: &Change, lost: &BTreeSet<ShortHash>) -> bool {
    let undo = change.message().and_then(Undo::from_message);
    undo.is_some_and(|undo| {
        !undo.undoes.is_empty() && undo.undoes.iter().all(|hash| lost.contains(hash))
    })
}

type Parted = (Vec<(ChangeHash, Change)>, Vec<(ChangeHash, Change)>);

/// The refused changes with those that build on them, and the others, each in the order of the
/// history.
fn part(history: Vec<Change>, refused: &BTreeSet<ChangeHash>) -> Parted {
    let mut aside = BTreeSet::new();
    history.into_iter().map(|change| (ChangeHash(change.hash().0), change)).partition(
        |(hash, change)| {
            let builds = change.deps().iter().any(|dep| aside.contains(&dep.0));
            let is_aside = refused.contains(hash) || builds;
            if is_aside {
                aside.insert(hash.0);
            }
            is_aside
        },
    )
}

/// The top-level fields that changes wrote, for people who are to make them again. There are none
/// if the document cannot be read: that must not keep the refused work from being set aside.
fn fields_of(
    id: &DocumentId,
    document: &mut LoadedDocument,
    schema: &Arc<Schema>,
    changes: &[(ChangeHash, Change)],
) -> BTreeMap<ChangeHash, Vec<String>> {
    let changes: Vec<_> = changes.iter().map(|(_, change)| change.clone()).collect();
    let entries = document.entries(id, schema, &changes).unwrap_or_default().into_iter();
    entries.map(|entry| (entry.hash, entry.fields.into_iter().collect())).collect()
}
