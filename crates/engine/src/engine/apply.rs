//! Changes from a relay: guarded, admitted, applied behind the panic fence, and written.

use automerge::{Automerge, Change, ChangeMetadata};
use rejoin_core::change::is_storable_time;
use rejoin_core::change::{self, Admission, Place, Refusal, admit, check_snapshot};
use rejoin_core::limits::OP_START_MAX;
use rejoin_core::{ChangeHash, CollectionName, DocumentId, Genesis, SpaceName};
use thiserror::Error;
use tracing::{debug, warn};

use super::edit::advance_heads;
use super::loaded::{Ahead, fenced};
use super::{Engine, EngineError, LoadedDocument, Origin, Turn};
use crate::store::{DocumentRow, QuarantineRow, StoreError};

/// Something of one document from a relay.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) space: SpaceName,
    pub(super) collection: CollectionName,
    pub(super) document: DocumentId,
    pub(super) snapshot: Option<Vec<u8>>,
    pub(super) changes: Vec<Vec<u8>>,
    /// The relay's position of the last change.
    pub(super) position: Option<u64>,
}

/// A relay sent something that it must not send. Close the session.
#[derive(Debug, Error)]
pub(super) enum ReceiveError {
    #[error("relay sent a snapshot of {document} that is not one")]
    Snapshot { document: DocumentId, source: change::GuardError },
    #[error("relay sent a snapshot of {document} that does not load: {reason}")]
    Unloadable { document: DocumentId, reason: String },
    #[error("relay sent a change of {document} that is not one")]
    Guard { document: DocumentId, source: change::GuardError },
    #[error("relay sent a change of {document} that does not fit: {source}")]
    Refused { document: DocumentId, source: Refusal },
    #[error("relay sent document {document} in another space or collection than it is in")]
    Moved { document: DocumentId },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<StoreError> for ReceiveError {
    fn from(error: StoreError) -> Self {
        Self::Engine(error.into())
    }
}

/// A chunk that passed the guard and is new, with its hash and deps.
struct NewChange {
    hash: ChangeHash,
    chunk: Vec<u8>,
    /// The reason why it can only be quarantined.
    unfit: Option<&'static str>,
}

impl Engine {
    /// Writes the changes that came into the transaction.
    pub(super) fn stage_received(
        &mut self,
        turn: &mut Turn,
        mut received: Received,
    ) -> Result<(), ReceiveError> {
        let id = received.document;
        let before = turn.txn.document(&id)?;
        if before.is_none() {
            self.stage_not_erased(turn, &id).map_err(EngineError::from)?;
        }
        if let Some(row) = &before
            && (row.space != received.space || row.collection != received.collection)
        {
            return Err(ReceiveError::Moved { document: id });
        }
        let mut row = before.clone().unwrap_or_else(|| {
            DocumentRow::new(received.space.clone(), received.collection.clone(), None)
        });
        let mut document = match &before {
            Some(row) => self.load(&turn.txn, &id, row)?,
            None => LoadedDocument::empty(&id),
        };
        let mut changed = false;
        if let Some(snapshot) = received.snapshot.take() {
            let other = open_snapshot(&id, &snapshot)?;
            let is_unfit = |change: &ChangeMetadata<'_>| {
                change.start_op > OP_START_MAX || !is_storable_time(change.timestamp)
            };
            if other.get_changes_meta(&[]).iter().any(is_unfit) {
                // Change by change, so that it can be left out.
                let changes = other.get_changes(&[]).into_iter();
                let chunks = changes.map(|mut change| change.bytes().into_owned());
                received.changes.splice(0..0, chunks);
            } else {
                let other = (other, &snapshot[..]);
                changed |= self.merge_snapshot(turn, &id, &mut row, &mut document, other)?;
            }
        }
        let news = self.admit_all(turn, &received, &document)?;
        if !news.is_empty() {
            changed = true;
            document = self.apply_all(turn, &id, &mut row, document, news)?;
        }
        if !changed {
            if before.is_some() {
                self.loaded.put(turn.now, id, document);
            }
            return Ok(());
        }
        if row.key.is_none() {
            row.key = natural_key(&row, &id, &document);
        }
        self.settle(turn, &id, before.as_ref(), row, &mut document, Origin::Remote)?;
        turn.note_position(&id, received.position);
        self.loaded.put(turn.now, id, document);
        Ok(())
    }

    /// Takes in a snapshot: whole, if nothing of the document is held yet, and otherwise the
    /// changes in it that are new.
    fn merge_snapshot(
        &mut self,
        turn: &mut Turn,
        id: &DocumentId,
        row: &mut DocumentRow,
        document: &mut LoadedDocument,
        (other, snapshot): (Automerge, &[u8]),
    ) -> Result<bool, ReceiveError> {
        if row.next == 0 && row.snapshot_bytes == 0 {
            *document = LoadedDocument::new(other, snapshot.len() as u64);
            turn.txn.put_snapshot(id, snapshot)?;
            row.snapshot_bytes = snapshot.len() as u64;
            row.heads = document.heads();
            self.counters.changes_applied += 1;
            return Ok(true);
        }
        let before = document.doc.get_heads();
        fenced(|| {
            let added = document.doc.get_changes_added(&other);
            document.doc.apply_changes(added)
        })
        .map_err(|reason| ReceiveError::Unloadable { document: *id, reason })?;
        // The order in which each change comes after those it builds on. The order above need not
        // be one.
        let mut added = document.doc.get_changes(&before);
        for change in &mut added {
            let chunk = change.bytes().into_owned();
            keep(turn, id, row, ChangeHash(change.hash().0), change.deps(), &chunk)?;
        }
        added.iter().for_each(|change| document.note(change));
        self.counters.changes_applied += added.len() as u64;
        Ok(!added.is_empty())
    }

    fn admit_all(
        &mut self,
        turn: &Turn,
        received: &Received,
        document: &LoadedDocument,
    ) -> Result<Vec<NewChange>, ReceiveError> {
        let id = received.document;
        let place =
            Place { space: &received.space, collection: &received.collection, document: &id };
        let quarantined = turn.txn.quarantined(&id)?;
        let mut quarantined: Vec<_> = quarantined.into_iter().map(|(hash, _)| hash).collect();
        let mut ahead = Ahead::of(document);
        let mut news = Vec::new();
        for chunk in &received.changes {
            let change = change::parse(chunk)
                .map_err(|source| ReceiveError::Guard { document: id, source })?;
            let hash = change.hash();
            if quarantined.contains(&hash) {
                self.counters.changes_known += 1;
                continue;
            }
            let unfit = match admit(&change, &place, &ahead) {
                Ok(Admission::Known) => {
                    self.counters.changes_known += 1;
                    continue;
                }
                Ok(Admission::New) if change.start_op() > OP_START_MAX => Some(COUNTERS_USED_UP),
                Ok(Admission::New) if !is_storable_time(change.time()) => Some(NO_TIME),
                Ok(Admission::New) => None,
                Err(Refusal::Missing(deps)) if deps.iter().all(|dep| quarantined.contains(dep)) => {
                    Some(ORPHANED)
                }
                Err(source) => return Err(ReceiveError::Refused { document: id, source }),
            };
            match unfit {
                None => ahead.add(hash, change.known()),
                Some(_) => quarantined.push(hash),
            }
            news.push(NewChange { hash, chunk: chunk.clone(), unfit });
        }
        Ok(news)
    }

    /// Applies new changes at once; if Automerge fails on them, one by one, and those it fails on
    /// are quarantined.
    fn apply_all(
        &mut self,
        turn: &mut Turn,
        id: &DocumentId,
        row: &mut DocumentRow,
        mut document: LoadedDocument,
        news: Vec<NewChange>,
    ) -> Result<LoadedDocument, ReceiveError> {
        let (unfit, sound): (Vec<_>, Vec<_>) =
            news.into_iter().partition(|new| new.unfit.is_some());
        let suspected = sound.iter().any(|new| self.notes.is_suspected(&new.hash));
        let applied = match suspected {
            true => Err("a process ended when it was applied".to_owned()),
            false => {
                let hashes: Vec<_> = sound.iter().map(|new| new.hash).collect();
                self.notes.applying(&hashes);
                apply(&mut document, &sound)
            }
        };
        match applied {
            Ok(changes) => {
                for (change, new) in changes.iter().zip(&sound) {
                    keep(turn, id, row, new.hash, change.deps(), &new.chunk)?;
                    document.note(change);
                }
                self.counters.changes_applied += sound.len() as u64;
            }
            Err(reason) => {
                debug!(doc = %id, reason, "applying changes one by one");
                document = self.apply_singly(turn, id, row, sound)?;
            }
        }
        for unfit in &unfit {
            self.quarantine(turn, id, row, unfit, unfit.unfit.unwrap_or_default())?;
        }
        Ok(document)
    }

    fn apply_singly(
        &mut self,
        turn: &mut Turn,
        id: &DocumentId,
        row: &mut DocumentRow,
        news: Vec<NewChange>,
    ) -> Result<LoadedDocument, ReceiveError> {
        let mut document = self.load(&turn.txn, id, row)?;
        for new in &news {
            let applied = match self.notes.is_convicted(&new.hash) {
                true => Err("a process ended when it was applied alone".to_owned()),
                false => {
                    self.notes.applying(&[new.hash]);
                    apply(&mut document, std::slice::from_ref(new))
                }
            };
            self.notes.clear(&new.hash);
            match applied {
                Ok(changes) => {
                    for change in &changes {
                        keep(turn, id, row, new.hash, change.deps(), &new.chunk)?;
                        document.note(change);
                    }
                    self.counters.changes_applied += 1;
                }
                Err(reason) => {
                    self.quarantine(turn, id, row, new, &reason)?;
                    // Loading again undoes all that Automerge did before it failed.
                    document = self.load(&turn.txn, id, row)?;
                }
            }
        }
        Ok(document)
    }

    fn quarantine(
        &mut self,
        turn: &mut Turn,
        id: &DocumentId,
        row: &mut DocumentRow,
        new: &NewChange,
        reason: &str,
    ) -> Result<(), ReceiveError> {
        warn!(doc = %id, change = %new.hash, reason, "change quarantined");
        let parsed = change::parse(&new.chunk)
            .map_err(|source| ReceiveError::Guard { document: *id, source })?;
        let kept = QuarantineRow { chunk: new.chunk.clone().into(), reason: reason.to_owned() };
        turn.txn.put_quarantine(id, &new.hash, &kept)?;
        row.quarantined += 1;
        advance_heads(&mut row.heads, new.hash, &super::to_automerge(parsed.deps()));
        self.counters.changes_quarantined += 1;
        turn.dirty = true;
        Ok(())
    }
}

/// The reason for which a change is quarantined that builds on one that is.
const ORPHANED: &str = "builds on a quarantined change";

/// The reason for which a change is quarantined that a relay of today does not take.
const COUNTERS_USED_UP: &str = "uses up the operation numbers of the document";

/// The reason for which a change is quarantined whose time Automerge cannot store beside others.
const NO_TIME: &str = "is of a time that no clock shows";

fn open_snapshot(id: &DocumentId, snapshot: &[u8]) -> Result<Automerge, ReceiveError> {
    check_snapshot(snapshot).map_err(|source| ReceiveError::Snapshot { document: *id, source })?;
    fenced(|| Automerge::load(snapshot))
        .map_err(|reason| ReceiveError::Unloadable { document: *id, reason })
}

fn apply(document: &mut LoadedDocument, news: &[NewChange]) -> Result<Vec<Change>, String> {
    fenced(|| {
        let changes: Result<Vec<_>, _> =
            news.iter().map(|new| Change::from_bytes(new.chunk.clone())).collect();
        let changes = changes?;
        document.doc.apply_changes(changes.clone())?;
        Ok(changes)
    })
}

fn keep(
    turn: &mut Turn,
    id: &DocumentId,
    row: &mut DocumentRow,
    hash: ChangeHash,
    deps: &[automerge::ChangeHash],
    chunk: &[u8],
) -> Result<(), StoreError> {
    turn.txn.put_change(id, row.next, chunk)?;
    row.next += 1;
    row.tail_bytes += chunk.len() as u64;
    advance_heads(&mut row.heads, hash, deps);
    turn.dirty = true;
    Ok(())
}

/// The natural key a derived document was made from, out of its genesis.
fn natural_key(row: &DocumentRow, id: &DocumentId, document: &LoadedDocument) -> Option<String> {
    if !id.is_derived() {
        return None;
    }
    let changes = document.doc.get_changes_meta(&[]);
    let first = changes.iter().find(|change| change.deps.is_empty())?;
    let genesis: Genesis = first.message.as_deref()?.parse().ok()?;
    (DocumentId::derive(&row.space, &row.collection, &genesis) == *id).then_some(genesis.key)
}
