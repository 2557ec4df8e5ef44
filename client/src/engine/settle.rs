//! What follows from a document's new changes, in the commit that holds them: its heads, the digest
//! of its collection, its value and, now and then, a snapshot.

use std::collections::BTreeSet;

use rejoin_core::{DocumentId, heads_hash};
use tracing::warn;

use super::loaded::{LoadedDocument, fenced};
use super::{DELETED, Effect, Engine, EngineError, Turn};
use crate::store::{DocumentRow, ReadView, StoreError, ValueRow, WriteView};
use crate::value::to_json;
use crate::watch::Change;

/// Where changes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Local,
    Remote,
}

impl Engine {
    /// Writes everything that follows from a document's new changes: the digest, the row, the value
    /// and, now and then, a snapshot.
    pub(super) fn settle(
        &mut self,
        turn: &mut Turn,
        id: &DocumentId,
        before: Option<&DocumentRow>,
        mut row: DocumentRow,
        document: &LoadedDocument,
        origin: Origin,
    ) -> Result<DocumentRow, EngineError> {
        turn.dirty = true;
        row.heads.sort_unstable();
        let mut digest = turn.txn.digest(&row.space, &row.collection)?;
        match before {
            Some(before) => {
                let (from, to) = (heads_hash(&before.heads), heads_hash(&row.heads));
                digest.digest.replace(id, &from, &to);
            }
            None => {
                digest.digest.insert(id, &heads_hash(&row.heads));
                digest.documents += 1;
            }
        }
        turn.txn.put_digest(&row.space, &row.collection, &digest)?;
        self.settle_value(turn, id, before, &row, document, origin)?;
        if row.tail_bytes > SNAPSHOT_TAIL_BYTES.max(4 * row.snapshot_bytes) {
            fold(&turn.txn, id, &mut row, document)?;
        }
        turn.txn.put_document(id, &row)?;
        Ok(row)
    }

    fn settle_value(
        &mut self,
        turn: &mut Turn,
        id: &DocumentId,
        before: Option<&DocumentRow>,
        row: &DocumentRow,
        document: &LoadedDocument,
        origin: Origin,
    ) -> Result<(), EngineError> {
        let was = turn.txn.value(id)?;
        let eager =
            was.as_ref().is_none_or(|was| was.json.len() <= self.options.value_bytes_eager_max);
        let now = if eager {
            Some(put_value(&turn.txn, id, row, document)?)
        } else {
            turn.txn.mark_stale(id, true)?;
            None
        };
        if self.watchers.anyone(&row.space, &row.collection) {
            let heads_before = before.map(|row| row.heads.clone()).unwrap_or_default();
            let fields = match &now {
                Some(now) => fields_changed(was.as_ref(), now),
                None => document.fields_between(&heads_before, &row.heads),
            };
            let change = Change {
                document: *id,
                key: row.key.clone(),
                fields,
                before: heads_before,
                heads: row.heads.clone(),
                local: origin == Origin::Local,
                remote: origin == Origin::Remote,
                deleted: document.is_deleted(),
            };
            let (space, collection) = (row.space.clone(), row.collection.clone());
            turn.effects.push(Effect::Changed { space, collection, change });
        }
        Ok(())
    }
}

/// Writes the value people see, as the document now has it.
pub(super) fn put_value(
    txn: &WriteView,
    id: &DocumentId,
    row: &DocumentRow,
    document: &LoadedDocument,
) -> Result<ValueRow, StoreError> {
    let value = value_of(row, document);
    txn.put_value(id, row, &value)?;
    Ok(value)
}

fn value_of(row: &DocumentRow, document: &LoadedDocument) -> ValueRow {
    let json = to_json(&document.doc, None);
    let deleted = json.get(DELETED) == Some(&serde_json::Value::Bool(true));
    let bytes = serde_json::to_vec(&json).expect("JSON with text keys always serialises");
    ValueRow { key: row.key.clone(), heads: document.heads(), deleted, json: bytes.into() }
}

/// Loads a document and compares it with its row. Gives the reason if it does not load, and the
/// value it should have if the stored one is another.
pub(crate) fn check_document(
    view: &ReadView,
    id: &DocumentId,
    row: &DocumentRow,
) -> Result<Result<Option<ValueRow>, String>, StoreError> {
    let (snapshot, changes) = (view.snapshot(id)?, view.changes(id, row.covered)?);
    let document = match LoadedDocument::load(id, row, snapshot, &changes) {
        Ok(document) => document,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if row.quarantined == 0 && document.heads() != row.heads {
        return Ok(Err("its changes are not those it should have".to_owned()));
    }
    let value = value_of(row, &document);
    let stored = view.value(id)?;
    let right = view.is_stale(id)? || stored.as_ref() == Some(&value);
    Ok(Ok((!right).then_some(value)))
}

/// Folds a document's changes into a new snapshot. Changes that wait in the outbox stay as bytes
/// until a relay has them.
fn fold(
    txn: &WriteView,
    id: &DocumentId,
    row: &mut DocumentRow,
    document: &LoadedDocument,
) -> Result<(), StoreError> {
    // Automerge applies some forged changes and then cannot load what it saves. The changes
    // themselves can always be applied again, so they stay.
    let Ok(snapshot) = fenced(|| document.doc.save_and_verify()) else {
        warn!(doc = %id, "document is not folded: its snapshot would not load");
        return Ok(());
    };
    let mut waiting = BTreeSet::new();
    for key in txn.waiting(id)? {
        if let Some((_, edit)) = txn.outbox(key, 1)?.pop() {
            waiting.extend(edit.from..edit.from + edit.count);
        }
    }
    txn.remove_changes(id, 0..row.next, |at| waiting.contains(&at))?;
    txn.put_snapshot(id, &snapshot)?;
    row.covered = row.next;
    row.tail_bytes = 0;
    row.snapshot_bytes = snapshot.len() as u64;
    Ok(())
}

/// The top-level fields in which two values differ.
fn fields_changed(was: Option<&ValueRow>, now: &ValueRow) -> BTreeSet<String> {
    let parse = |row: &ValueRow| -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_slice(&row.json).unwrap_or_default()
    };
    let was = was.map(parse).unwrap_or_default();
    let now = parse(now);
    let names = was.keys().chain(now.keys());
    names.filter(|name| was.get(*name) != now.get(*name)).cloned().collect()
}

/// Bytes of changes after which a document gets a new snapshot, unless four times its last
/// snapshot is more: the cost of folding stays a fraction of the cost of the edits.
const SNAPSHOT_TAIL_BYTES: u64 = 64 << 10;
