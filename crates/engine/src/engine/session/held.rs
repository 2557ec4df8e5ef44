//! Documents as they would be without the edits of people who are not signed in: that is how the relay
//! has them once all else is with it, so that is what is compared with the relay.

use std::collections::{BTreeMap, BTreeSet};

use rejoin_core::{ChangeHash, CollectionName, DocumentId, HeadsHash, SpaceName, heads_hash};

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
}

impl Session {
    /// Whether the relay was given all that it may have of the outbox, and has answered.
    pub(super) fn is_rest_given(&self, view: &ReadTxn) -> Result<bool, StoreError> {
        Ok(!self.is_pushing() && self.again.is_empty() && self.pushed.is_through(view)?)
    }
}
