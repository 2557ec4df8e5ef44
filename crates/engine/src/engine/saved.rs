//! The fate of edits that do not wait any more in the form they were made in.

use std::collections::{BTreeMap, BTreeSet};

use rejoin_core::change::parse;
use rejoin_core::{ChangeHash, DocumentId};

use super::{Engine, EngineError, to_automerge};
use crate::store::{ReadTxn, SetAsideRow, StoreError};

impl Engine {
    /// The changes among these of a document that a relay will never take, once it has all the
    /// others: `None` while any of them waits.
    ///
    /// A change that was made anew counts as the one that took its place. A change that was refused
    /// and then came to the document in another way counts as held; this happens to the first
    /// change of a document that is made a second time.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn refused(
        &mut self,
        now: u64,
        id: &DocumentId,
        changes: &[ChangeHash],
    ) -> Result<Option<Vec<SetAsideRow>>, StoreError> {
        let view = self.store.read()?;
        let mut aside = BTreeMap::new();
        for (_, row) in view.set_aside()?.into_iter().filter(|(_, row)| row.document == *id) {
            aside.insert(row.hash, row);
        }
        if aside.is_empty() {
            // A change that was in the outbox under the key it was made with left the outbox with
            // an answer.
            return Ok(Some(Vec::new()));
        }
        let waiting = waiting(&view, id)?;
        drop(view);
        let mut refused = Vec::new();
        for change in changes {
            let now_is = successor(&aside, *change);
            if waiting.contains(&now_is) {
                return Ok(None);
            }
            let row = aside.get(&now_is).filter(|row| !row.authored_anew);
            if let Some(row) = row.filter(|_| !self.has(now, id, &now_is)) {
                refused.push(row.clone());
            }
        }
        Ok(Some(refused))
    }

    /// Whether a change is in a document.
    fn has(&mut self, now: u64, id: &DocumentId, change: &ChangeHash) -> bool {
        let hash = to_automerge(&[*change]);
        let found = self.look(now, id, |document, _, _| {
            Ok(hash.iter().all(|hash| document.doc.get_change_meta_by_hash(hash).is_some()))
        });
        // If the document is gone, or does not load, nobody can say that the relay holds the
        // change.
        found.unwrap_or(false)
    }

    /// Notes that somebody knows of these changes, which were set aside.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn acknowledge(&mut self, changes: &BTreeSet<ChangeHash>) -> Result<(), EngineError> {
        let txn = self.store.write()?;
        let mut is_news = false;
        for (key, row) in txn.set_aside()? {
            if row.is_open() && changes.contains(&row.hash) {
                txn.put_set_aside(key, &SetAsideRow { acknowledged: true, ..row })?;
                is_news = true;
            }
        }
        if !is_news {
            return Ok(());
        }
        if let Err(error) = txn.commit() {
            self.forget();
            return Err(error.into());
        }
        self.counters.commits += 1;
        let view = self.store.read()?;
        Ok(self.recount_set_aside(&view)?)
    }

    pub(super) fn recount_set_aside(&mut self, view: &ReadTxn) -> Result<(), StoreError> {
        let rows = view.set_aside()?;
        self.status.set_aside = rows.iter().filter(|(_, row)| row.is_open()).count() as u64;
        Ok(())
    }
}

/// The change that took the place of this one, after any number of times that it was made anew.
pub(super) fn successor(
    aside: &BTreeMap<ChangeHash, SetAsideRow>,
    change: ChangeHash,
) -> ChangeHash {
    let mut now_is = change;
    // Each is made anew once, so this program never wrote a longer way.
    for _ in 0..=aside.len() {
        match aside.get(&now_is).and_then(|row| row.anew) {
            Some(anew) => now_is = anew,
            None => break,
        }
    }
    now_is
}

/// The changes of a document that wait for a relay.
fn waiting(view: &ReadTxn, id: &DocumentId) -> Result<BTreeSet<ChangeHash>, StoreError> {
    let mut waiting = BTreeSet::new();
    for key in view.waiting(id)? {
        for (_, row) in view.outbox(key, 1)? {
            let chunks = view.changes_in(id, row.places())?;
            waiting.extend(chunks.iter().filter_map(|chunk| Some(parse(chunk).ok()?.hash())));
        }
    }
    Ok(waiting)
}
