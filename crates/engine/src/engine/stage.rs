//! The consequences of a document's new changes, written in the commit that holds them: its heads,
//! the digest of its collection, its value and, now and then, a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use rejoin_core::schema::Schema;
use rejoin_core::{ChangeHash, CollectionName, DocumentId, ReviewId, heads_hash};
use serde_json::Value;
use tracing::warn;

use super::derive::{Derived, derive, reviews_collection};
use super::invariants::stage_invariants;
use super::loaded::{LoadedDocument, fenced};
use super::schemas::stored_schema;
use super::{Effect, Engine, EngineError, Turn};
use crate::query::index_keys;
use crate::reserved::SCHEMAS;
use crate::store::{
    CandidateRow, DocumentRow, ReadTxn, ReviewRow, ReviewedDocument, ReviewsPut, SettledRow,
    StoreError, ValueRow, WriteTxn,
};
use crate::watch::DocumentChanged;

/// The origin of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Local,
    Remote,
}

impl Engine {
    /// Writes the consequences of a document's new changes: the digest, the row and, now and then,
    /// a snapshot. The value follows at the end of the turn.
    pub(super) fn settle(
        &mut self,
        turn: &mut Turn,
        id: &DocumentId,
        before: Option<&DocumentRow>,
        mut row: DocumentRow,
        document: &mut LoadedDocument,
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
        turn.touch(id, before, origin, document.take_branched());
        if is_fold_due(&row, document) {
            fold(&turn.txn, id, &mut row, document)?;
        }
        turn.txn.put_document(id, &row)?;
        Ok(row)
    }

    /// Writes the values and reviews of the documents that the turn changed, each once, and notes
    /// the news for watchers.
    pub(super) fn stage_values(&mut self, turn: &mut Turn) -> Result<(), EngineError> {
        for (id, touched) in std::mem::take(&mut turn.touched) {
            let Some(row) = turn.txn.document(&id)? else { continue };
            let loaded = self.load(&turn.txn, &id, &row);
            match loaded.and_then(|document| self.stage_value(turn, &id, row, document, touched)) {
                Ok(()) => {}
                // One bad document must not stop the others.
                Err(error @ EngineError::Unreadable { .. }) => {
                    warn!(doc = %id, error = &error as &dyn std::error::Error, "value not written");
                    turn.txn.mark_stale(&id, true)?;
                    // The changes that came must be looked at when the document can be loaded.
                    if let Some(mut row) = turn.txn.document(&id)?.filter(|row| !row.uneasy) {
                        row.uneasy = true;
                        turn.txn.put_document(&id, &row)?;
                    }
                }
                Err(error) => return Err(error),
            }
            self.drop_surplus();
        }
        Ok(())
    }

    fn stage_value(
        &mut self,
        turn: &mut Turn,
        id: &DocumentId,
        row: DocumentRow,
        document: LoadedDocument,
        touched: Touched,
    ) -> Result<(), EngineError> {
        let was = turn.txn.sound_value(id)?;
        let schema = self.schema(&turn.txn, &row)?;
        let mut open = Open { id, row, document, schema };
        let uneasy = open.row.uneasy;
        let derived = open.derive(touched.branched || self.derives_anew)?;
        if open.row.uneasy != uneasy {
            turn.txn.put_document(id, &open.row)?;
        }
        let now = if self.is_eager(&open, was.as_ref()) {
            Some(open.put_value(&turn.txn, &derived)?)
        } else {
            turn.txn.mark_stale(id, true)?;
            None
        };
        let position = touched.position.filter(|_| !touched.local);
        let put = open.put_reviews(&turn.txn, &derived, now.as_ref(), position)?;
        if let Some(now) = &now {
            self.keep_ended(&turn.txn, &mut open, put.ended, &touched.before, was.as_ref(), now)?;
            self.warn_of_unknown_fields(&open.row, &open.schema, now);
        }
        // The same schema written twice, on two devices say, is no change of it.
        let says_else = |now: &ValueRow| {
            was.as_ref().is_none_or(|was| was.json != now.json || was.deleted != now.deleted)
        };
        if open.row.collection.as_str() == SCHEMAS && now.as_ref().is_none_or(says_else) {
            self.schema_changed(&turn.txn, &open.row)?;
        }
        let deleted = now.as_ref().map_or_else(|| open.document.is_deleted(), |now| now.deleted);
        let Touched { local, remote, .. } = touched;
        let change = DocumentChanged { local, remote, ..open.changed(&touched.before, deleted) };
        if put.changed {
            turn.effects.push(open.tell(reviews_collection(), change.clone()));
        }
        if self.watchers.anyone(&open.row.space, &open.row.collection) {
            let fields = match &now {
                Some(now) => fields_changed(was.as_ref(), now),
                None => open.document.fields_between(&touched.before, &open.row.heads),
            };
            let collection = open.row.collection.clone();
            turn.effects.push(open.tell(collection, DocumentChanged { fields, ..change }));
        }
        self.loaded.put(turn.now, *id, open.document);
        Ok(())
    }

    /// Whether a document's value is written with every edit.
    fn is_eager(&self, open: &Open<'_>, was: Option<&ValueRow>) -> bool {
        was.is_none_or(|was| was.json.len() <= self.options.value_bytes_eager_max)
            || !open.schema.invariants.is_empty()
            // A schema says how other documents read.
            || open.row.collection.as_str() == SCHEMAS
    }

    /// Keeps reviews about two documents that an edit of one of them ended, with the author of the
    /// edit.
    fn keep_ended(
        &self,
        txn: &WriteTxn,
        open: &mut Open<'_>,
        ended: Vec<(ReviewId, ReviewRow)>,
        before: &[ChangeHash],
        was: Option<&ValueRow>,
        now: &ValueRow,
    ) -> Result<(), EngineError> {
        // While documents are derived by a changed schema, reviews come and go that no edit ended.
        let is_behind = |named: &ReviewedDocument| self.behind.contains(&named.document);
        let ended = ended.into_iter().filter(|(_, row)| !row.documents.iter().any(is_behind));
        let ended: Vec<_> = ended.collect();
        if ended.is_empty() {
            return Ok(());
        }
        let Some(by) = open.ended_by(before, was, now)? else { return Ok(()) };
        for (review, ended) in ended {
            let ended = ReviewRow { settled: Some(by.clone()), ..ended };
            txn.put_resolved(&open.row.space, &review, &ended)?;
        }
        Ok(())
    }

    /// Writes a document's value and reviews anew.
    pub(super) fn rederive(
        &mut self,
        txn: &WriteTxn,
        now: u64,
        id: &DocumentId,
        mut row: DocumentRow,
        effects: &mut Vec<Effect>,
    ) -> Result<ReviewsPut, EngineError> {
        let schema = self.schema(txn, &row)?;
        let loaded = self.load(txn, id, &row);
        let kept = row.clone();
        let derived = loaded.and_then(|document| {
            let mut open = Open { id, row: kept, document, schema };
            let derived = open.derive(self.derives_anew)?;
            Ok((open, derived))
        });
        let (open, derived) = match derived {
            Ok(derived) => derived,
            // Its value stays behind; those of others need not.
            Err(EngineError::Unreadable { .. }) => {
                row.uneasy |= self.derives_anew;
                txn.put_document(id, &row)?;
                return Ok(ReviewsPut::default());
            }
            Err(error) => return Err(error),
        };
        txn.put_document(id, &open.row)?;
        let was = txn.sound_value(id)?;
        let value = open.put_value(txn, &derived)?;
        let put = open.put_reviews(txn, &derived, Some(&value), None)?;
        let change = open.changed(&open.row.heads, value.deleted);
        if put.changed {
            effects.push(open.tell(reviews_collection(), change.clone()));
        }
        // A value that was stored late is no news: its change was told when it came.
        let fields = fields_changed(was.as_ref(), &value);
        let is_by_schema = was.is_some_and(|was| was.heads == value.heads);
        let DocumentRow { space, collection, .. } = &open.row;
        if is_by_schema && !fields.is_empty() && self.watchers.anyone(space, collection) {
            effects.push(open.tell(collection.clone(), DocumentChanged { fields, ..change }));
        }
        txn.mark_stale(id, false)?;
        self.loaded.put(now, *id, open.document);
        Ok(put)
    }
}

/// A document that is looked at: its row in the store, its state in memory, and its schema.
struct Open<'a> {
    id: &'a DocumentId,
    row: DocumentRow,
    document: LoadedDocument,
    schema: Arc<Schema>,
}

impl Open<'_> {
    fn derive(&mut self, anew: bool) -> Result<Derived, EngineError> {
        derive(self.id, &mut self.row, &mut self.document, &self.schema, anew)
    }

    /// Writes the value people see, as the document now has it.
    fn put_value(&self, txn: &WriteTxn, derived: &Derived) -> Result<ValueRow, StoreError> {
        let Self { id, row, document, schema } = self;
        let json = derived.value(document, schema);
        let value = value_of(row, document, derived, schema, &json);
        txn.put_value(id, row, &value)?;
        let misfits = if value.deleted { Vec::new() } else { schema.misfits(&json) };
        txn.put_misfits(id, &misfits)?;
        let indexed = if value.deleted { BTreeMap::new() } else { index_keys(schema, &json) };
        txn.put_indexed(id, row, &indexed)?;
        Ok(value)
    }

    /// Writes the reviews that name the document; those about another one, too, if its value is
    /// written.
    fn put_reviews(
        &self,
        txn: &WriteTxn,
        derived: &Derived,
        value: Option<&ValueRow>,
        position: Option<u64>,
    ) -> Result<ReviewsPut, EngineError> {
        let Self { id, row, schema, .. } = self;
        let Some(mut reviews) = derived.reviews(row, id) else { return Ok(ReviewsPut::default()) };
        if let Some(value) = value {
            stage_invariants(txn, id, row, value, schema, position, &mut reviews)?;
        }
        Ok(txn.put_reviews(&row.space, id, &reviews)?)
    }

    /// The news for a watcher that knew these heads; it names no fields yet.
    fn changed(&self, before: &[ChangeHash], deleted: bool) -> DocumentChanged {
        DocumentChanged {
            document: *self.id,
            key: self.row.key.clone(),
            fields: BTreeSet::new(),
            before: before.to_vec(),
            heads: self.row.heads.clone(),
            local: false,
            remote: false,
            deleted,
        }
    }

    fn tell(&self, collection: CollectionName, change: DocumentChanged) -> Effect {
        Effect::Changed { space: self.row.space.clone(), collection, change }
    }

    /// The edits since these heads that ended reviews of the document, with their authors and
    /// values.
    fn ended_by(
        &mut self,
        before: &[ChangeHash],
        was: Option<&ValueRow>,
        now: &ValueRow,
    ) -> Result<Option<SettledRow>, EngineError> {
        let Self { id, document, schema, .. } = self;
        let time_s = |head: &ChangeHash| {
            let change = document.doc.get_change_meta_by_hash(&automerge::ChangeHash(head.0));
            change.map(|change| change.timestamp)
        };
        let new = now.heads.iter().filter(|head| !before.contains(head));
        let last = new.filter_map(|head| Some((time_s(head)?, *head))).max();
        let Some((time_s, change)) = last else { return Ok(None) };
        let author = document.lineage(id, schema)?.author(&change).cloned();
        let mut value: Value = serde_json::from_slice(&now.json).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            let changed = fields_changed(was, now);
            fields.retain(|field, _| changed.contains(field));
        }
        let value = serde_json::to_vec(&value).ok().map(Into::into);
        let by = CandidateRow { change, value, author, time_s, settles: None };
        Ok(Some(SettledRow { by, dismissed: false, why: None, document: Some(**id) }))
    }
}

/// A document that a turn changed and whose value is not written yet.
#[derive(Debug)]
pub(super) struct Touched {
    /// Its heads before the turn.
    before: Vec<ChangeHash>,
    local: bool,
    remote: bool,
    /// Whether a change came that does not build on all before it.
    branched: bool,
    /// The relay's position of the last change that came.
    position: Option<u64>,
}

impl Turn {
    fn touch(
        &mut self,
        id: &DocumentId,
        before: Option<&DocumentRow>,
        origin: Origin,
        branched: bool,
    ) {
        let touched = self.touched.entry(*id).or_insert_with(|| Touched {
            before: before.map(|row| row.heads.clone()).unwrap_or_default(),
            local: false,
            remote: false,
            branched: false,
            position: None,
        });
        touched.branched |= branched;
        touched.local |= origin == Origin::Local;
        touched.remote |= origin == Origin::Remote;
    }

    /// Whether the document was changed in this turn, so that its stored value is behind.
    pub(super) fn has_touched(&self, id: &DocumentId) -> bool {
        self.touched.contains_key(id)
    }

    /// Notes the relay's position of the changes that came of a document.
    pub(super) fn note_position(&mut self, id: &DocumentId, position: Option<u64>) {
        if let Some(touched) = self.touched.get_mut(id) {
            touched.position = position;
        }
    }

    /// Whether a change came in this turn that does not build on all before it.
    pub(super) fn has_branched(&self, id: &DocumentId) -> bool {
        self.touched.get(id).is_some_and(|touched| touched.branched)
    }
}

fn value_of(
    row: &DocumentRow,
    document: &LoadedDocument,
    derived: &Derived,
    schema: &Schema,
    json: &Value,
) -> ValueRow {
    let deleted = json.get(document.marks().deleted) == Some(&Value::Bool(true));
    let bytes =
        |json: &Value| serde_json::to_vec(json).expect("JSON with text keys always serialises");
    ValueRow {
        key: row.key.clone(),
        heads: document.heads(),
        deleted,
        json: bytes(json).into(),
        agreed: derived.agreed(document, schema).map(|json| bytes(&json).into()),
    }
}

/// A fault of a stored document.
#[derive(Debug)]
pub enum Unsound {
    /// It cannot be read, or not as it should be.
    Damaged(String),
    /// It can be read, but nobody can edit it any more.
    UsedUp,
}

/// Loads a document and compares it with its row. Gives the reason if it does not load, and the
/// value it should have if the stored one is another.
pub fn check_document(
    view: &ReadTxn,
    id: &DocumentId,
    row: &DocumentRow,
) -> Result<Result<Option<ValueRow>, Unsound>, StoreError> {
    let (snapshot, changes) = (view.snapshot(id)?, view.changes(id, row.covered)?);
    let mut document = match LoadedDocument::load(id, row, snapshot, &changes) {
        Ok(document) => document,
        Err(error) => return Ok(Err(Unsound::Damaged(error.to_string()))),
    };
    if row.quarantined == 0 && document.heads() != row.heads {
        let reason = "its changes are not those it should have".to_owned();
        return Ok(Err(Unsound::Damaged(reason)));
    }
    if !document.has_room() {
        return Ok(Err(Unsound::UsedUp));
    }
    let schema = stored_schema(view, row)?;
    let mut row = row.clone();
    let derived = match derive(id, &mut row, &mut document, &schema, true) {
        Ok(derived) => derived,
        Err(error) => return Ok(Err(Unsound::Damaged(error.to_string()))),
    };
    let json = derived.value(&document, &schema);
    let value = value_of(&row, &document, &derived, &schema, &json);
    let stored = view.sound_value(id)?;
    let right = view.is_stale(id)? || stored.as_ref() == Some(&value);
    Ok(Ok((!right).then_some(value)))
}

fn is_fold_due(row: &DocumentRow, document: &LoadedDocument) -> bool {
    let is_large_part = (row.next - row.covered) * FOLD_PART > document.changes();
    let is_large = row.tail_bytes > FOLD_TIMES * row.snapshot_bytes;
    row.tail_bytes > FOLD_BYTES_MIN && (is_large_part || is_large)
}

/// Folds a document's changes into a new snapshot. Changes that wait in the outbox stay as bytes
/// until a relay has them.
fn fold(
    txn: &WriteTxn,
    id: &DocumentId,
    row: &mut DocumentRow,
    document: &LoadedDocument,
) -> Result<(), StoreError> {
    // Automerge applies some forged changes and then cannot load the document that it saves. The
    // changes themselves can always be applied again, so they stay.
    let Ok(snapshot) = fenced(|| document.doc.save_and_verify()) else {
        warn!(doc = %id, "document is not folded: its snapshot would not load");
        return Ok(());
    };
    // Changes that were folded earlier and are still there wait, and go when they are acknowledged.
    let waiting = waiting_places(txn, id, row.covered)?;
    txn.remove_changes(id, row.covered..row.next, |at| is_among(&waiting, at))?;
    txn.put_snapshot(id, &snapshot)?;
    row.covered = row.next;
    row.tail_bytes = 0;
    row.snapshot_bytes = snapshot.len() as u64;
    Ok(())
}

/// Places from `from` on that wait in the outbox, the last first, none touching the next.
fn waiting_places(
    txn: &WriteTxn,
    id: &DocumentId,
    from: u64,
) -> Result<Vec<Range<u64>>, StoreError> {
    let mut places: Vec<Range<u64>> = Vec::new();
    for key in txn.waiting(id)?.into_iter().rev() {
        let Some((_, edit)) = txn.outbox(key, 1)?.pop() else { continue };
        let end = edit.from + edit.count;
        if end <= from {
            break;
        }
        match places.last_mut() {
            Some(later) if later.start == end => later.start = edit.from,
            _ => places.push(edit.from..end),
        }
    }
    Ok(places)
}

fn is_among(places: &[Range<u64>], at: u64) -> bool {
    let first = places.partition_point(|places| places.start > at);
    places.get(first).is_some_and(|places| places.contains(&at))
}

/// The top-level fields in which two values differ: in the value that people see, or in the one
/// that counts.
fn fields_changed(was: Option<&ValueRow>, now: &ValueRow) -> BTreeSet<String> {
    let parse = |json: &[u8]| -> serde_json::Map<String, Value> {
        serde_json::from_slice(json).unwrap_or_default()
    };
    let mut changed = BTreeSet::new();
    let mut compare = |was: Option<&[u8]>, now: &[u8]| {
        let (was, now) = (was.map(parse).unwrap_or_default(), parse(now));
        let names = was.keys().chain(now.keys());
        changed.extend(names.filter(|name| was.get(*name) != now.get(*name)).cloned());
    };
    compare(was.map(|was| was.json.as_slice()), &now.json);
    if now.agreed.is_some() || was.is_some_and(|was| was.agreed.is_some()) {
        compare(was.map(ValueRow::agreed), now.agreed());
    }
    changed
}

/// Bytes of changes after which a document may get a new snapshot.
const FOLD_BYTES_MIN: u64 = 64 << 10;

/// It also waits until the changes since the last one are this part of all, so that folding costs
/// a fraction of the edits, however long the history is.
const FOLD_PART: u64 = 8;

/// But no longer than until they take this many times its bytes. Typing takes some 30 times the
/// space in changes that it takes in a snapshot.
const FOLD_TIMES: u64 = 64;
