//! The outbox on its way to the relay: pushes, their answers, and what the relay lacks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rejoin_core::wire::{Refused, RefusedClass};
use rejoin_core::{ChangeHash, DocumentId, ShortHash, limits};
use tracing::{debug, warn};

use super::LinkState;
use crate::engine::{Engine, EngineError, Turn, to_automerge};
use crate::store::{OutboxRow, ReadView, StoreError};

/// What a push in flight was made of.
#[derive(Debug, Default)]
pub(super) struct Ticket {
    /// Keys in the outbox; none for a repair.
    pub(super) keys: Vec<u64>,
    /// Something of it was refused, and the refusal says what becomes of the keys.
    pub(super) refused: bool,
}

/// A document of which the relay lacks everything its heads do not cover.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) space: u32,
    pub(super) document: DocumentId,
    pub(super) heads: Vec<ShortHash>,
    /// Outbox keys that are settled when the last push of it is acknowledged.
    pub(super) keys: Vec<u64>,
}

impl Engine {
    pub(super) fn stage_acked(&mut self, turn: &mut Turn, ticket: u64) -> Result<(), EngineError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let Some(ticket) = link.tickets.remove(&ticket) else { return Ok(()) };
        if ticket.refused {
            return Ok(());
        }
        for key in ticket.keys {
            let Some(edit) = turn.txn.remove_outbox(key)? else { continue };
            turn.dirty = true;
            let Some(row) = turn.txn.document(&edit.document)? else { continue };
            let folded = edit.from..(edit.from + edit.count).min(row.covered);
            turn.txn.remove_changes(&edit.document, folded, |_| false)?;
        }
        Ok(())
    }

    pub(super) fn stage_refused(
        &mut self,
        turn: &mut Turn,
        ticket: u64,
        space: u32,
        document: DocumentId,
        refused: Refused,
    ) -> Result<(), EngineError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let Some(refusal) = link.tickets.get_mut(&ticket) else { return Ok(()) };
        refusal.refused = true;
        let keys = std::mem::take(&mut refusal.keys);
        match refused.class {
            RefusedClass::Missing => {
                debug!(doc = %document, "relay lacks dependencies");
                link.owed.push_back(Owed { space, document, heads: refused.heads, keys });
            }
            RefusedClass::Later => {
                let wait = u64::from(refused.retry_after_ms).max(RETRY_MS_MIN);
                link.again.push((turn.now + wait, keys));
            }
            RefusedClass::Never | RefusedClass::ActorReused => {
                warn!(doc = %document, reason = refused.reason, "relay will never take an edit");
                let anew = refused.class == RefusedClass::ActorReused;
                self.stage_set_aside(turn, &document, &refused.hashes, &refused.reason, anew)?;
            }
        }
        Ok(())
    }

    /// Gives the session the next push. Returns whether there was one.
    pub(super) fn push_next(&mut self, now: u64) -> Result<bool, EngineError> {
        if let Some(owed) = self.link.as_mut().and_then(|link| link.owed.pop_front()) {
            self.push_owed(owed)?;
            return Ok(true);
        }
        let view = self.store.read()?;
        let Some(link) = &mut self.link else { return Ok(false) };
        if let Some(due) = link.again.iter().position(|(at, _)| *at <= now) {
            let (_, keys) = link.again.swap_remove(due);
            let mut rows = Vec::new();
            for key in keys {
                rows.extend(view.outbox(key, 1)?.into_iter().filter(|(found, _)| *found == key));
            }
            push_rows(link, &view, rows)?;
            return Ok(true);
        }
        let batch = link.pushed.next(&view)?;
        if batch.is_empty() {
            return Ok(false);
        }
        push_rows(link, &view, batch)?;
        Ok(true)
    }

    /// Pushes what the relay lacks of a document, in as many pushes as it takes.
    fn push_owed(&mut self, owed: Owed) -> Result<(), EngineError> {
        let view = self.store.read()?;
        let Some(row) = view.document(&owed.document)? else { return Ok(()) };
        let document = self.load_committed(&view, &owed.document, &row)?;
        let known: Vec<_> = if owed.heads.is_empty() {
            Vec::new()
        } else {
            let changes = document.doc.get_changes_meta(&[]);
            let hashes = changes.iter().map(|change| ChangeHash(change.hash.0));
            hashes.filter(|hash| owed.heads.contains(&hash.short())).collect()
        };
        let known = to_automerge(&known);
        let mut chunks: Vec<_> = document
            .doc
            .get_changes(&known)
            .iter_mut()
            .map(|change| change.bytes().into_owned())
            .collect();
        self.loaded.put(0, owed.document, document);
        for (_, quarantined) in view.quarantined(&owed.document)? {
            chunks.push(quarantined.chunk.into());
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        let batches = in_frames(chunks);
        let last = batches.len();
        for (at, changes) in batches.into_iter().enumerate() {
            let keys = if at + 1 == last { owed.keys.clone() } else { Vec::new() };
            link.push(keys, owed.space, owed.document, row.collection.clone(), changes);
        }
        Ok(())
    }

    /// After a repair that gave up, the relay is given everything.
    pub(super) fn owe_everything(&mut self, view: &ReadView) -> Result<(), EngineError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        if self.from_scratch.is_empty() {
            return Ok(());
        }
        let mut owed = VecDeque::new();
        view.each_document(|document, row| {
            if self.from_scratch.contains(&row.space)
                && let Some(space) = link.number(&row.space)
            {
                owed.push_back(Owed { space, document, heads: Vec::new(), keys: Vec::new() });
            }
        })?;
        link.owed = owed;
        Ok(())
    }

    /// Sends what a mutant tells too early.
    #[cfg(feature = "mutants")]
    pub(in crate::engine) fn push_before_commit(
        &mut self,
        id: &DocumentId,
        row: &crate::store::DocumentRow,
        chunks: Vec<Vec<u8>>,
    ) {
        if self.options.mutant != Some(crate::engine::Mutant::PushBeforeCommit) {
            return;
        }
        if let Some(link) = &mut self.link
            && let Some(space) = link.number(&row.space)
        {
            link.push(Vec::new(), space, *id, row.collection.clone(), chunks);
            while let Some(frame) = link.session.poll_transmit() {
                self.early.push(frame.encode());
            }
        }
    }

    /// Messages that a mutant sent before the last commit, whether or not that succeeded.
    #[cfg(feature = "mutants")]
    pub fn take_early(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.early)
    }
}

/// Pushes outbox rows of one document.
fn push_rows(
    link: &mut LinkState,
    view: &ReadView,
    rows: Vec<(u64, OutboxRow)>,
) -> Result<(), EngineError> {
    let mut groups: BTreeMap<DocumentId, Vec<(u64, OutboxRow)>> = BTreeMap::new();
    for (key, edit) in rows {
        groups.entry(edit.document).or_default().push((key, edit));
    }
    for (document, edits) in groups {
        let Some(row) = view.document(&document)? else { continue };
        let Some(space) = link.number(&row.space) else {
            link.close("a space is new here");
            continue;
        };
        if !link.spaces[space as usize].writable {
            continue;
        }
        let mut changes = Vec::new();
        for (_, edit) in &edits {
            changes.extend(view.changes_in(&document, edit.from..edit.from + edit.count)?);
        }
        let mut keys: Vec<_> = edits.iter().map(|(key, _)| *key).collect();
        let mut batches = in_frames(changes);
        let last = batches.pop().unwrap_or_default();
        for batch in batches {
            link.push(Vec::new(), space, document, row.collection.clone(), batch);
        }
        link.push(std::mem::take(&mut keys), space, document, row.collection, last);
    }
    Ok(())
}

/// How far the outbox was given to the session.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    /// Every key up to here was.
    through: u64,
    /// And these, which came before their turn because their document's was.
    ahead: BTreeSet<u64>,
}

impl Pushed {
    /// The next rows that make one push: the oldest edit, and the later ones of its document.
    fn next(&mut self, view: &ReadView) -> Result<Vec<(u64, OutboxRow)>, StoreError> {
        loop {
            let Some((key, first)) = view.outbox(self.through + 1, 1)?.pop() else {
                self.ahead.clear();
                return Ok(Vec::new());
            };
            self.through = key;
            if self.ahead.remove(&key) {
                continue;
            }
            return self.with_later(view, key, first);
        }
    }

    fn with_later(
        &mut self,
        view: &ReadView,
        key: u64,
        first: OutboxRow,
    ) -> Result<Vec<(u64, OutboxRow)>, StoreError> {
        let mut changes = first.count;
        let document = first.document;
        let mut batch = vec![(key, first)];
        for later in view.waiting(&document)? {
            if later <= key || self.ahead.contains(&later) {
                continue;
            }
            let Some((_, edit)) = view.outbox(later, 1)?.pop() else { break };
            changes += edit.count;
            if changes > BATCH_CHANGES_MAX {
                break;
            }
            self.ahead.insert(later);
            batch.push((later, edit));
        }
        Ok(batch)
    }
}

/// How many pushes the outbox makes.
pub(super) fn push_batches(view: &ReadView) -> Result<usize, EngineError> {
    let (mut pushed, mut batches) = (Pushed::default(), 0);
    loop {
        let batch = pushed.next(view)?;
        if batch.is_empty() {
            return Ok(batches);
        }
        let mut chunks = Vec::new();
        for (_, edit) in &batch {
            chunks.extend(view.changes_in(&edit.document, edit.from..edit.from + edit.count)?);
        }
        batches += in_frames(chunks).len().max(1);
    }
}

/// Chunks in frames' worths, in order.
fn in_frames(chunks: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    let mut frames: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut bytes = usize::MAX;
    for chunk in chunks {
        let full = frames.last().is_none_or(|frame| frame.len() >= limits::FRAME_CHANGES_MAX);
        if full || bytes.saturating_add(chunk.len()) > limits::FRAME_PAYLOAD_BYTES {
            frames.push(Vec::new());
            bytes = 0;
        }
        bytes += chunk.len();
        if let Some(frame) = frames.last_mut() {
            frame.push(chunk);
        }
    }
    frames
}

/// Changes put into one push, unless one edit has more.
const BATCH_CHANGES_MAX: u64 = 1024;

/// Milliseconds to wait at least before pushing again what was refused for now.
const RETRY_MS_MIN: u64 = 100;
