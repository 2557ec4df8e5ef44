//! Which documents are folded into snapshots, and when.

use std::collections::{BTreeMap, BTreeSet};

use rejoin_core::DocumentId;

use super::{CompactionPolicy, Relay};
use crate::compaction::{Compacted, CompactionError};
use crate::store::{FoldError, FoldInput, Folded, StoreError, Tail};

/// Which documents are to be folded, and how far that is.
#[derive(Debug, Default)]
pub(super) struct Folding {
    /// The time of the last turn.
    pub(super) now: u64,
    waiting: BTreeSet<DocumentId>,
    /// Documents that wait until nobody writes to them, and when somebody last did.
    busy: BTreeMap<DocumentId, u64>,
    /// When those are looked at again.
    look_at: Option<u64>,
    under_way: Option<Folded>,
    done: Option<(Folded, Vec<u8>)>,
    /// Tried in vain; left alone until the relay is opened again.
    given_up: BTreeSet<DocumentId>,
}

impl Relay {
    /// A document to fold, one at a time: give it to a worker, and what comes of it to
    /// [`handle_compacted`](Self::handle_compacted). Call it after a turn.
    pub fn poll_compaction(&mut self) -> Option<FoldInput> {
        if self.folding.under_way.is_some() || self.folding.done.is_some() {
            return None;
        }
        while let Some(document) = self.folding.waiting.pop_first() {
            match self.store.fold_input(&document) {
                Ok(Some(input)) => {
                    self.folding.under_way = Some(input.folded());
                    return Some(input);
                }
                Ok(None) => {}
                Err(error) => {
                    self.give_up_folding(document, &CompactionError::from(FoldError::from(error)))
                }
            }
        }
        None
    }

    /// The worker is done with the document it was given. The next turn puts the snapshot in place.
    pub fn handle_compacted(&mut self, result: Result<Compacted, CompactionError>) {
        let Some(folded) = self.folding.under_way.take() else { return };
        let checked = result.and_then(|compacted| {
            self.counters.documents_loaded += u64::from(compacted.in_process);
            check(&folded, compacted)
        });
        match checked {
            Ok(snapshot) => self.folding.done = Some((folded, snapshot)),
            Err(error) => self.give_up_folding(folded.document, &error),
        }
    }

    /// Queues a document that was just written to, if it is time to fold it.
    pub(super) fn consider_folding(&mut self, document: &DocumentId) {
        let Some(policy) = &self.options.compaction else { return };
        let Some(tail) = self.store.tail(document) else { return };
        let Tail { changes, bytes, snapshot_changes, snapshot_bytes } = tail;
        let is_beyond = |times: u64| {
            changes > policy.changes_min.max(snapshot_changes / 8).saturating_mul(times)
                || bytes > policy.bytes_min.saturating_add(snapshot_bytes).saturating_mul(times)
        };
        // What arrives whole brings its snapshot along.
        let is_left_alone =
            self.folding.given_up.contains(document) || self.peers.is_arriving(document);
        if is_left_alone || !is_beyond(1) {
            return;
        }
        if policy.quiet_ms == 0 || is_beyond(CompactionPolicy::BUSY_TIMES) {
            self.folding.busy.remove(document);
            self.folding.waiting.insert(*document);
        } else {
            let now = self.folding.now;
            self.folding.busy.insert(*document, now);
            self.folding.look_at.get_or_insert(now + policy.quiet_ms);
        }
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
        let quiet = busy.extract_if(.., |_, written| *written + policy.quiet_ms <= now);
        waiting.extend(quiet.map(|(document, _)| document));
        *look_at = (!busy.is_empty()).then_some(now + policy.quiet_ms);
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

    /// Takes a document that came whole as its snapshot, with the next commit: it holds just what is
    /// committed by then.
    pub(super) fn take_snapshot(
        &mut self,
        document: &DocumentId,
        snapshot: Vec<u8>,
    ) -> Result<(), StoreError> {
        if self.options.compaction.is_some()
            && self.folding.done.is_none()
            && let Some(input) = self.store.fold_input(document)?
        {
            self.folding.done = Some((input.folded(), snapshot));
        }
        Ok(())
    }

    fn give_up_folding(&mut self, document: DocumentId, error: &CompactionError) {
        self.counters.compactions_failed += 1;
        if self.folding.given_up.len() >= GIVEN_UP_MAX {
            self.folding.given_up.clear();
        }
        self.folding.given_up.insert(document);
        let error = error as &dyn std::error::Error;
        tracing::warn!(%document, error, "document not folded; it is served from its changes");
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

/// Documents remembered as not to be tried again.
const GIVEN_UP_MAX: usize = 10_000;
