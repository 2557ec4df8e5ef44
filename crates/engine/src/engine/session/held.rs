//! Documents as they would be without the edits of people who are not signed in: that is how the relay
//! has them once all else is with it, so that is what is compared with the relay.

use std::collections::{BTreeMap, BTreeSet};

use rejoin_core::{
    ChangeHash, CollectionName, DocumentId, HeadsHash, ShortHash, SpaceName, heads_hash,
};

use super::Session;
use crate::engine::sign_in::{left_out, waiting_changes};
use crate::engine::{Engine, EngineError, Turn};
use crate::store::{ReadTxn, StoreError};

/// Documents in which such edits wait.
pub(super) type Held = BTreeMap<DocumentId, HeldDocument>;

/// A document in which an edit waits for somebody to sign in.
#[derive(Debug)]
pub(super) struct HeldDocument {
    pub(super) space: SpaceName,
    pub(super) collection: CollectionName,
    /// The heads that it has.
    pub(super) now: HeadsHash,
    /// Those that it would have otherwise; `None` if there would be nothing of it.
    pub(super) without: Option<HeadsHash>,
}

impl Engine {
    /// The documents in which edits of people who are not signed in wait. It loads each.
    pub(super) fn held_documents(&mut self, turn: &Turn) -> Result<Held, EngineError> {
        let mut held = Held::new();
        if self.status.waiting_for.is_empty() {
            return Ok(held);
        }
        let view = self.store.read()?;
        let Some(session) = &self.session else { return Ok(held) };
        let whose = session.pushed.whose().clone();
        let rows = view.outbox(0, usize::MAX)?.into_iter().map(|(_, row)| row);
        let rows = rows.filter(|row| !whose.includes(row.user.as_ref()));
        let documents: BTreeSet<_> = rows.map(|row| row.document).collect();
        for id in documents {
            let Some(row) = turn.txn.document(&id)? else { continue };
            let waiting = waiting_changes(&view, &id, true, |of| !whose.includes(of))?;
            let document = match self.load(&turn.txn, &id, &row) {
                Ok(document) => document,
                // It cannot be compared, and that is told where it is read.
                Err(EngineError::Unreadable { .. }) => continue,
                Err(error) => return Err(error),
            };
            let out = left_out(&document, &waiting, true);
            let mut heads = BTreeSet::new();
            for change in document.doc.get_changes_meta(&[]) {
                let hash = ChangeHash(change.hash.0);
                if !out.contains(&hash) {
                    change.deps.iter().for_each(|dep| _ = heads.remove(&ChangeHash(dep.0)));
                    heads.insert(hash);
                }
            }
            self.loaded.put(turn.now, id, document);
            let heads: Vec<_> = heads.into_iter().collect();
            let without = (!heads.is_empty()).then(|| heads_hash(&heads));
            let (space, collection, now) = (row.space, row.collection, heads_hash(&row.heads));
            held.insert(id, HeldDocument { space, collection, now, without });
        }
        Ok(held)
    }

    /// The relay has these heads of a document, and so all that they build on. It may have taken an edit
    /// of somebody who is signed out by now, and its word of that was lost.
    pub(super) fn stage_known_there(
        &mut self,
        turn: &mut Turn,
        id: &DocumentId,
        heads: &[ShortHash],
    ) -> Result<(), EngineError> {
        let keys = turn.txn.waiting(id)?;
        let Some(row) = turn.txn.document(id)?.filter(|_| !keys.is_empty()) else { return Ok(()) };
        let document = match self.load(&turn.txn, id, &row) {
            Ok(document) => document,
            // It is told where the document is pushed.
            Err(EngineError::Unreadable { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut known = BTreeSet::new();
        for change in document.doc.get_changes_meta(&[]).iter().rev() {
            let hash = ChangeHash(change.hash.0);
            if heads.contains(&hash.short()) || known.contains(&hash) {
                known.insert(hash);
                known.extend(change.deps.iter().map(|dep| ChangeHash(dep.0)));
            }
        }
        self.loaded.put(turn.now, *id, document);
        let mut is_less_held = false;
        for key in keys {
            let edit = turn.txn.outbox(key, 1)?.pop().filter(|(found, _)| *found == key);
            let Some((_, edit)) = edit else { continue };
            let chunks = turn.txn.changes_in(id, edit.places())?;
            let is_known = |chunk: &Vec<u8>| {
                rejoin_core::change::hash_of(chunk).is_ok_and(|hash| known.contains(&hash))
            };
            let first = chunks.iter().take_while(|chunk| is_known(chunk)).count() as u64;
            is_less_held |= first > 0;
            if first == edit.count {
                self.stage_key_acked(turn, key)?;
            } else if first > 0 {
                // It took the genesis of a document, and not the edit that came with it.
                turn.txn.shorten_outbox(key, edit, first)?;
                turn.dirty = true;
            }
        }
        if is_less_held && let Some(session) = &mut self.session {
            // What was held behind it may go now.
            session.look_again(session.pushed.whose().clone());
        }
        Ok(())
    }
}

impl Session {
    /// Whether the relay holds all that it may have of the outbox.
    pub(super) fn is_rest_given(&self, view: &ReadTxn) -> Result<bool, StoreError> {
        Ok(!self.is_pushing() && self.again.is_empty() && self.pushed.is_rest_held(view)?)
    }
}
