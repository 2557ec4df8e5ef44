//! The documents that are folded into snapshots, and the times at which they are.

use std::collections::{BTreeMap, BTreeSet};

use rejoin_core::{DocumentId, SpaceName};

use super::connections::Shared;
use super::{DocumentKey, Relay};
use crate::compaction::{Compacted, CompactionError};
use crate::store::{FoldError, FoldInput, Folded, StoreError};

/// The documents to fold, and the progress of folding.
#[derive(Debug, Default)]
pub(super) struct Folding {
    /// The time of the last turn.
    pub(super) now: u64,
    waiting: BTreeSet<DocumentKey>,
    /// Documents that wait until nobody writes to them, and the time of the last write.
    busy: BTreeMap<DocumentKey, u64>,
    /// The time at which those are looked at again.
    look_at: Option<u64>,
    under_way: Option<(DocumentKey, Folded)>,
    done: Option<(Folded, Vec<u8>)>,
    /// Documents that an operator wants folded, however little there is to fold.
    forced: BTreeSet<DocumentKey>,
    /// Tried in vain; left alone until the relay is opened again.
    given_up: BTreeSet<DocumentKey>,
}

impl Relay {
    /// A document to fold, one at a time: give it to a worker, and the worker's result to
    /// [`handle_compacted`](Self::handle_compacted). Call it after a turn.
    pub fn poll_compaction(&mut self) -> Option<FoldInput> {
        self.shared.next_to_fold()
    }

    /// Queues all documents, or those of one space, that have changes beside their snapshot worth
    /// folding, and returns how many.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn fold_all(&mut self, only: Option<&SpaceName>) -> Result<u64, StoreError> {
        let spaces = self.shared.store.spaces()?;
        let mut queued = 0;
        for space in spaces.iter().filter(|space| only.is_none_or(|only| only == *space)) {
            let mut from = u64::MAX;
            loop {
                let page = self.shared.store.latest_page(space, from, 0, PAGE_DOCUMENTS)?;
                let Some(last) = page.last() else { break };
                from = last.position - 1;
                for latest in page {
                    let size = match self.shared.store.size(latest.number) {
                        Ok(size) => size,
                        Err(error) if error.is_confined() => continue,
                        Err(error) => return Err(error),
                    };
                    let key = (space.clone(), latest.document);
                    if size.tail_bytes >= FOLDED_BYTES_MIN && !self.shared.is_left_alone(&key) {
                        self.shared.folding.forced.insert(key.clone());
                        self.shared.folding.waiting.insert(key);
                        queued += 1;
                    }
                }
            }
        }
        Ok(queued)
    }

    /// The worker is done with the document it was given. The next turn puts the snapshot in place.
    pub fn handle_compacted(&mut self, result: Result<Compacted, CompactionError>) {
        self.shared.take_folded(result);
    }
}

impl Shared {
    /// The next document to fold, unless one is at the worker or its snapshot waits for a turn.
    fn next_to_fold(&mut self) -> Option<FoldInput> {
        if self.folding.under_way.is_some() || self.folding.done.is_some() {
            return None;
        }
        let policy = self.options.compaction.clone()?;
        while let Some(key) = self.folding.waiting.pop_first() {
            if self.is_left_alone(&key) {
                continue;
            }
            match self.store.fold_input(&key.0, &key.1) {
                // It may have been folded while it waited.
                Ok(Some(input))
                    if self.folding.forced.remove(&key) || policy.is_due(&input.tail(), false) =>
                {
                    self.folding.under_way = Some((key, input.folded()));
                    return Some(input);
                }
                Ok(_) => {}
                Err(error) => {
                    self.give_up_folding(key, &CompactionError::from(FoldError::from(error)))
                }
            }
        }
        None
    }

    /// Takes the worker's result for the document under way, for the next turn.
    fn take_folded(&mut self, result: Result<Compacted, CompactionError>) {
        let Some((key, folded)) = self.folding.under_way.take() else { return };
        let checked = result.and_then(|compacted| {
            self.counters.documents_loaded += u64::from(compacted.in_process);
            check(&folded, compacted)
        });
        match checked {
            Ok(snapshot) => self.folding.done = Some((folded, snapshot)),
            Err(error) => self.give_up_folding(key, &error),
        }
    }

    /// Queues a document that was just written to, if it is time to fold it.
    pub(super) fn consider_folding(&mut self, space: &SpaceName, document: &DocumentId) {
        let Some(policy) = &self.options.compaction else { return };
        let Some(tail) = self.store.tail(space, document) else { return };
        let key = (space.clone(), *document);
        if self.is_left_alone(&key) || !policy.is_due(&tail, false) {
            return;
        }
        if policy.quiet_ms == 0 || policy.is_due(&tail, true) {
            self.folding.busy.remove(&key);
            self.folding.waiting.insert(key);
        } else {
            let now = self.folding.now;
            self.folding.busy.insert(key, now);
            let look_at = now.saturating_add(policy.quiet_ms);
            self.folding.look_at = self.folding.look_at.or(Some(look_at));
        }
    }

    /// Whether a document is not to be folded. A document that arrives whole brings its snapshot
    /// along.
    fn is_left_alone(&self, key: &DocumentKey) -> bool {
        self.folding.given_up.contains(key) || self.peers.is_arriving(key)
    }

    pub(super) fn fold_timeout(&self) -> Option<u64> {
        self.folding.look_at
    }

    /// Queues the documents to which nobody writes any more.
    pub(super) fn fold_quiet(&mut self, now: u64) {
        let Folding { busy, look_at, waiting, .. } = &mut self.folding;
        let Some(policy) = &self.options.compaction else { return };
        if look_at.is_none_or(|at| at > now) {
            return;
        }
        let is_quiet = |written: &u64| written.saturating_add(policy.quiet_ms) <= now;
        let quiet = busy.extract_if(.., |_, written| is_quiet(written));
        waiting.extend(quiet.map(|(key, _)| key));
        *look_at = (!busy.is_empty()).then_some(now.saturating_add(policy.quiet_ms));
    }

    /// Takes a finished snapshot into the next commit.
    pub(super) fn stage_folded(&mut self) -> Result<(), StoreError> {
        let Some((folded, snapshot)) = self.folding.done.take() else { return Ok(()) };
        let Some(policy) = &self.options.compaction else { return Ok(()) };
        let (changes, bytes) = (folded.changes, snapshot.len());
        if self.store.stage_swap(&folded, snapshot, policy.tail)? {
            self.counters.compactions += 1;
            tracing::debug!(document = %folded.document, changes, bytes, "document folded");
        }
        Ok(())
    }

    /// Takes a document that came whole as its snapshot, with the next commit: it holds just the
    /// changes that are committed by then.
    pub(super) fn take_snapshot(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
        snapshot: Vec<u8>,
    ) -> Result<(), StoreError> {
        if self.options.compaction.is_some()
            && self.folding.done.is_none()
            && let Some(input) = self.store.fold_input(space, document)?
        {
            self.folding.done = Some((input.folded(), snapshot));
        }
        Ok(())
    }

    /// The document is not the same as when its snapshot was begun.
    pub(super) fn forget_folding(&mut self, key: &DocumentKey) {
        let Folding { waiting, busy, under_way, done, given_up, .. } = &mut self.folding;
        waiting.remove(key);
        busy.remove(key);
        given_up.remove(key);
        under_way.take_if(|(under_way, _)| under_way == key);
        done.take_if(|(folded, _)| folded.document == key.1);
    }

    fn give_up_folding(&mut self, key: DocumentKey, error: &CompactionError) {
        self.counters.compactions_failed += 1;
        if self.folding.given_up.len() >= GIVEN_UP_MAX {
            self.folding.given_up.clear();
        }
        let document = key.1;
        tell_message(&document, error);
        let error = error as &dyn std::error::Error;
        // It may be damaged.
        self.store.suspect_named(&key.0, &document, error);
        self.folding.given_up.insert(key);
        tracing::warn!(%document, error, "document not folded; it is served from its changes");
    }
}

/// Puts the words of a worker that ended into the log for debugging only: a panic may quote the
/// document.
pub(super) fn tell_message(document: &DocumentId, error: &CompactionError) {
    if let CompactionError::Failed { message, .. } = error {
        tracing::debug!(%document, message, "what the compaction worker said");
    }
}

/// The snapshot, if it holds just the changes that went in.
fn check(folded: &Folded, compacted: Compacted) -> Result<Vec<u8>, CompactionError> {
    let Compacted { heads, changes, snapshot, .. } = compacted;
    if heads == folded.heads && changes == folded.changes {
        Ok(snapshot)
    } else {
        Err(CompactionError::Differs { found: changes, expected: folded.changes })
    }
}

/// Bytes of changes for which folding a document is worth its while.
const FOLDED_BYTES_MIN: u64 = 4 << 10;

/// Documents that are looked at at once.
const PAGE_DOCUMENTS: usize = 256;

/// Documents remembered as not to be tried again.
const GIVEN_UP_MAX: usize = 10_000;
