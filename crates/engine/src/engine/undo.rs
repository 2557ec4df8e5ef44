//! Taking back the edits that were made here, and making them again.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use automerge::{Automerge, Change, ObjId, Prop, ReadDoc};
use rejoin_core::change::{ObjectId, is_reserved_bytes};
use rejoin_core::lineage::{
    FieldPath, Kept as KeptField, Lineage, Marks, Standing, Step, TakenBack,
};
use rejoin_core::schema::Schema;
use rejoin_core::{
    ActorId, ChangeHash, DocumentId, Identity, Path, ReviewId, Settlement, ShortHash, Undo,
};
use serde_json::Value;

use super::derive::derive;
use super::edit::EditOutcome;
use super::loaded::fenced;
use super::saved::successor;
use super::settle::settle_again;
use super::undone::{FieldUndone, Kept, KeptWhy, UndoError, Undone, UndoneDocument, Way};
use super::{Edit, EditError, Engine, EngineError, LoadedDocument, Origin, Turn, said};
use crate::reserved::SCHEMAS;
use crate::store::{DocumentRow, StepEditRow, StepRow};
use crate::write::{
    Back, Backwards, Where, WriteOptions, delete_item, is_map, message, say, say_with_item,
    write_back,
};

impl Engine {
    /// Takes back the last step that somebody edited here and that was not taken back yet; or, the
    /// other [way](Way), makes the last one again that was. A step is one edit, or all edits with
    /// one [number](Edit::batch). All of it is one commit.
    ///
    /// It writes ordinary changes that leave the work of others: see [`Undone`]. `author` is the
    /// identity; `None` for that of the replica.
    ///
    /// # Errors
    /// There is nothing to take back, nothing of it can be taken back, or see [`UndoError`].
    pub fn undo(
        &mut self,
        now: u64,
        unix_s: i64,
        author: Option<Identity>,
        way: Way,
    ) -> Result<Undone, UndoError> {
        self.fenced_undo(|engine| {
            let mut turn = Turn::begin(&engine.store, now, unix_s)?;
            let (step, row, undone, edits) = engine.stage_undo(&mut turn, author, way)?;
            if edits.is_empty() {
                // The next undo is of the step before.
                turn.txn.remove_step(step)?;
                turn.txn.commit().map_err(EditError::from)?;
                return Err(UndoError::Kept(undone.kept));
            }
            turn.txn.remove_step_edits(step)?;
            for (edit, place) in edits.iter().zip(1..) {
                turn.txn.put_step_edit(step, place, edit)?;
            }
            turn.txn.put_step(step, &StepRow { undone: way == Way::Undo, ..row })?;
            engine.finish(turn).map_err(EditError::from)?;
            engine.may_redo = true;
            Ok(undone)
        })
    }

    /// What [`undo`](Self::undo) would do. Nothing of it is kept.
    ///
    /// # Errors
    /// As [`undo`](Self::undo).
    pub fn preview_undo(
        &mut self,
        now: u64,
        unix_s: i64,
        author: Option<Identity>,
        way: Way,
    ) -> Result<Undone, UndoError> {
        self.fenced_undo(|engine| {
            let batches = engine.batches.clone();
            let mut turn = Turn::begin(&engine.store, now, unix_s)?;
            let (_, _, undone, edits) = engine.stage_undo(&mut turn, author, way)?;
            // The loaded documents hold the changes now.
            engine.forget_unkept(batches);
            if edits.is_empty() { Err(UndoError::Kept(undone.kept)) } else { Ok(undone) }
        })
    }

    fn fenced_undo(
        &mut self,
        undo: impl FnOnce(&mut Self) -> Result<Undone, UndoError>,
    ) -> Result<Undone, UndoError> {
        let batches = self.batches.clone();
        let undone = catch_unwind(AssertUnwindSafe(|| undo(self))).unwrap_or_else(|panic| {
            Err(EditError::from(EngineError::Panicked { reason: said(&*panic) }).into())
        });
        match &undone {
            // Whether the commit became durable is not known.
            Err(UndoError::Edit(EditError::Store(_) | EditError::NotKept(_))) => self.forget(),
            Err(_) => self.forget_unkept(batches),
            Ok(_) => {}
        }
        undone
    }

    fn stage_undo(
        &mut self,
        turn: &mut Turn,
        author: Option<Identity>,
        way: Way,
    ) -> Result<(u64, StepRow, Undone, Vec<StepEditRow>), UndoError> {
        let author = self.author(author)?;
        let is_theirs = |row: &StepRow| is_same_person(row.author.as_ref(), author.as_ref());
        let found = match way {
            Way::Undo => turn.txn.last_step(|row| !row.undone && is_theirs(row))?,
            Way::Redo => turn.txn.first_undone(is_theirs)?,
        };
        let (step, row) = found.ok_or(UndoError::Nothing { way })?;
        let of_step = turn.txn.step_edits(step)?;
        let count = of_step.len() as u64;
        let mut undone = Undone { time_s: row.time_s, edits: count, ..Undone::default() };
        let (mut edits, mut places) = (Vec::new(), BTreeMap::new());
        for edit in of_step.into_iter().rev() {
            let taken = self.stage_take_back(turn, &edit, author.as_ref())?;
            // A step may be about more documents than memory holds.
            self.drop_surplus();
            undone.kept.extend(taken.kept);
            let Some(document) = taken.document else { continue };
            edits.push(StepEditRow {
                document: edit.document,
                changes: document.edited.changes.clone(),
                created: false,
            });
            undone.add(document, &mut places);
        }
        Ok((step, row, undone, edits))
    }

    /// Takes back one edit of one document.
    fn stage_take_back(
        &mut self,
        turn: &mut Turn,
        edit: &StepEditRow,
        author: Option<&Identity>,
    ) -> Result<Taken, EditError> {
        let id = &edit.document;
        let Some(before) = turn.txn.document(id)? else {
            return Ok(Taken::kept(id, KeptWhy::Lost));
        };
        let opened = match self.plan_back(turn, edit, &before, author) {
            Ok(opened) => opened,
            // The document is loaded anew when it is next needed, and nothing of it is in the
            // transaction.
            Err(error) => return not_written(id, error),
        };
        let Opened { mut document, schema, value, mut new, mut kept, write } = match opened {
            Ok(opened) => opened,
            Err(why) => return Ok(Taken::kept(id, why)),
        };
        let time_s = turn.unix_s;
        let user = author.map(|author| author.user.clone());
        let (mut row, mut written, mut outbox) = (before.clone(), Vec::new(), None);
        if !new.is_empty() {
            (row, outbox) =
                self.keep_local(turn, id, row, &mut document, &mut new, user.clone())?;
            written.append(&mut new);
        }
        for (decision, value) in write.decide {
            let derived = derive(id, &mut row.clone(), &mut document, &schema, true)?;
            let again = settle_again(&mut document, &derived, &decision, value.as_ref(), time_s)?;
            let Some(mut new) = again else {
                kept.push((None, KeptWhy::NotOpen));
                continue;
            };
            let more;
            (row, more) = self.keep_local(turn, id, row, &mut document, &mut new, user.clone())?;
            outbox = outbox.or(more);
            written.append(&mut new);
        }
        let kept = kept.into_iter().map(|(field, why)| Kept { document: *id, field, why });
        let kept = kept.collect();
        if written.is_empty() {
            self.loaded.put(turn.now, *id, document);
            return Ok(Taken { kept, document: None });
        }
        let row = self.settle(turn, id, Some(&before), row, &mut document, Origin::Local)?;
        let derived = derive(id, &mut row.clone(), &mut document, &schema, true)?;
        let now = derived.value(&document, &schema);
        let deleted = says_deleted(&now, document.marks().deleted);
        self.loaded.put(turn.now, *id, document);
        // A file may say the same again, and then it is news.
        turn.txn.forget_imported(id)?;
        let changes = written.iter().map(|change| ChangeHash(change.hash().0)).collect();
        let fields = fields_undone(&value, &now);
        let undone = undone_document(*id, row, changes, outbox, fields);
        let undone = UndoneDocument { deleted, renewed: write.renewed, ..undone };
        Ok(Taken { kept, document: Some(undone) })
    }

    /// Loads a document and writes into it what takes an edit back, except decisions; or says why it
    /// stays.
    fn plan_back(
        &mut self,
        turn: &Turn,
        edit: &StepEditRow,
        before: &DocumentRow,
        author: Option<&Identity>,
    ) -> Result<Result<Opened, KeptWhy>, EditError> {
        let id = &edit.document;
        let mut document = self.load(&turn.txn, id, before)?;
        if !document.has_room() {
            return Err(EditError::NoRoom { document: *id });
        }
        document.ensure_actor(author, || self.loaded.actor(id, author, &mut self.random));
        let changes = changes_now(turn, id, &document, &edit.changes)?;
        if changes.is_empty() && !edit.created {
            self.loaded.put(turn.now, *id, document);
            return Ok(Err(KeptWhy::Lost));
        }
        let schema = self.schema(&turn.txn, before)?;
        let lineage = document.lineage(id, &schema)?;
        let is_undone = |change: &Change| lineage.is_undone(&ChangeHash(change.hash().0));
        if changes.iter().any(is_undone) {
            self.loaded.put(turn.now, *id, document);
            return Ok(Err(KeptWhy::Done));
        }
        let derived = derive(id, &mut before.clone(), &mut document, &schema, true)?;
        let (value, is_deleted) =
            (derived.value(&document, &schema), derived.is_deleted(&document));
        let role = author.and_then(|author| author.role.as_deref());
        let of = &mut document;
        let mut taking =
            Taking { id, document: of, schema: &schema, is_deleted, role, time_s: turn.unix_s };
        let Planned { kept, write } = taking.plan(&changes, edit.created)?;
        let new = taking.write(&changes, &write)?;
        for change in &new {
            rejoin_core::change::parse(change.raw_bytes()).map_err(EditError::TooLarge)?;
        }
        Ok(Ok(Opened { document, schema, value, new, kept, write }))
    }

    /// Keeps an edit, so that it can be taken back.
    pub(super) fn keep_step(
        &mut self,
        turn: &Turn,
        edit: &Edit,
        row: &DocumentRow,
        changes: &[Change],
        outcome: &EditOutcome,
    ) -> Result<(), EditError> {
        // A schema is taken back by applying the one before, which says what that would do.
        if row.collection.as_str() == SCHEMAS || self.options.undo_steps_max == 0 {
            return Ok(());
        }
        let is_edit = |change: &&Change| !is_reserved_bytes(change.actor_id().to_bytes());
        let hashes = changes.iter().filter(is_edit).map(|change| ChangeHash(change.hash().0));
        let row = StepEditRow {
            document: outcome.document,
            changes: hashes.collect(),
            created: outcome.created,
        };
        if row.changes.is_empty() && !row.created {
            return Ok(());
        }
        let txn = &turn.txn;
        // Of one batch everybody takes back their own edits.
        let user = edit.author.as_ref().map(|author| author.user.clone());
        let batch = edit.batch.map(|batch| (batch, user));
        let known = batch.as_ref().and_then(|batch| self.batches.get(batch).copied());
        let of_batch = match known {
            Some((step, place)) if txn.step(step)?.is_some_and(|row| !row.undone) => {
                Some((step, place))
            }
            _ => None,
        };
        let author = edit.author.clone();
        if self.may_redo {
            txn.remove_undone(|row| is_same_person(row.author.as_ref(), author.as_ref()))?;
            self.may_redo = txn.last_step(|row| row.undone)?.is_some();
        }
        let (step, place) = match of_batch {
            Some(known) => known,
            None => {
                let new = StepRow { author, time_s: turn.unix_s, undone: false };
                (txn.push_step(&new, self.options.undo_steps_max, STEP_EDITS_MAX)?, 1)
            }
        };
        if let Some(batch) = batch {
            self.batches.insert(batch, (step, place + 1));
            while self.batches.len() > BATCHES_MAX {
                self.batches.pop_first();
            }
        }
        txn.put_step_edit(step, place, &row)?;
        Ok(())
    }
}

/// The result of taking back one edit.
struct Taken {
    kept: Vec<Kept>,
    /// `None` if nothing was written.
    document: Option<UndoneDocument>,
}

impl Taken {
    fn kept(document: &DocumentId, why: KeptWhy) -> Self {
        Self { kept: vec![Kept { document: *document, field: None, why }], document: None }
    }
}

/// A document with what takes an edit of it back written in it.
struct Opened {
    document: LoadedDocument,
    schema: Arc<Schema>,
    /// Its value before, as people see it.
    value: Value,
    new: Vec<Change>,
    kept: Vec<(Option<String>, KeptWhy)>,
    write: Writes,
}

/// An edit that could not be taken back, which must not keep others from it; unless nobody knows
/// whether the file can be written at all.
fn not_written(document: &DocumentId, error: EditError) -> Result<Taken, EditError> {
    match error {
        EditError::Store(_) | EditError::NotKept(_) | EditError::Closed => Err(error),
        error => Ok(Taken::kept(document, KeptWhy::Failed(error.to_string()))),
    }
}

/// A document of which an edit is taken back.
struct Taking<'a> {
    id: &'a DocumentId,
    document: &'a mut LoadedDocument,
    schema: &'a Arc<Schema>,
    /// Whether people see it as deleted.
    is_deleted: bool,
    role: Option<&'a str>,
    time_s: i64,
}

/// What is to be written so that an edit is taken back.
#[derive(Default)]
struct Writes {
    backwards: Option<Backwards>,
    fields: Vec<Back>,
    items: Vec<(Standing, ObjectId)>,
    reopen: Vec<Reopen>,
    decide: Vec<(Settlement, Option<Value>)>,
    /// Lists in which items come back as new ones.
    renewed: Vec<String>,
}

/// A decision to take back.
struct Reopen {
    decision: ChangeHash,
    review: ReviewId,
    /// The list item that it deleted, and the value that it showed before.
    deleted: Option<(Box<Standing>, Value)>,
}

#[derive(Default)]
struct Planned {
    kept: Vec<(Option<String>, KeptWhy)>,
    write: Writes,
}

impl Planned {
    fn kept(why: KeptWhy) -> Self {
        Self { kept: vec![(None, why)], write: Writes::default() }
    }

    fn add(&mut self, doc: &Automerge, lineage: &Lineage, taken: TakenBack) {
        match taken {
            TakenBack::Write { field, value, undoes, closes } => {
                self.write.fields.push(Back { field: *field, value, undoes, closes });
            }
            TakenBack::DeleteItem { field, made, if_map } => match if_map {
                Some(marked) if is_map(doc, &made) => self.add(doc, lineage, *marked),
                _ => self.write.items.push((*field, made)),
            },
            TakenBack::Reopen { decision, review, deleted, .. } => {
                self.write.reopen.push(Reopen { decision, review, deleted });
            }
            TakenBack::Decide { decision, value, .. } => {
                let settlement = lineage.settlement(&decision).cloned();
                self.write.decide.extend(settlement.map(|settlement| (settlement, value)));
            }
            TakenBack::Kept { place, why } => {
                let field = (!place.0.is_empty()).then(|| place.to_string());
                self.kept.push((field, why.into()));
            }
        }
    }

    /// Whether the document is brought back by it.
    fn brings_back(&self) -> bool {
        let marks = [Marks::OURS, Marks::THEIRS].map(|it| Path::from([it.deleted]));
        let mut fields = self.write.fields.iter();
        fields.any(|back| back.field.place.path().is_some_and(|path| marks.contains(&path)))
    }
}

impl Taking<'_> {
    fn plan(&mut self, changes: &[Change], created: bool) -> Result<Planned, EditError> {
        let hashes: Vec<_> = changes.iter().map(|change| ChangeHash(change.hash().0)).collect();
        let (is_deleted, role) = (self.is_deleted, self.role);
        let lineage = self.document.lineage(self.id, self.schema)?.clone();
        let (doc, mut planned) = (&self.document.doc, Planned::default());
        if created {
            if is_deleted {
                return Ok(Planned::kept(KeptWhy::Removed));
            }
            planned.add(doc, &lineage, lineage.take_back_document(&hashes, role));
            return Ok(planned);
        }
        for taken in lineage.take_back(&hashes, role) {
            planned.add(doc, &lineage, taken);
        }
        if is_deleted && !planned.brings_back() {
            return Ok(Planned::kept(KeptWhy::Removed));
        }
        self.read_backwards(&lineage, changes, &mut planned)?;
        Ok(planned)
    }

    /// Reads what the changes did to texts, counters and items that they deleted.
    fn read_backwards(
        &self,
        lineage: &Lineage,
        changes: &[Change],
        planned: &mut Planned,
    ) -> Result<(), EditError> {
        let marks = self.document.marks();
        let read = fenced(|| Ok(Backwards::of(&self.document.doc, marks, changes)));
        let mut backwards =
            read.map_err(|reason| EditError::Unreadable { document: *self.id, reason })?;
        let mut left = BTreeSet::new();
        for place in backwards.places() {
            let named = named(lineage, &place);
            let why = match &named {
                Some(named) if !may_write(self.schema, &named.pattern(), self.role) => {
                    KeptWhy::NotAllowed
                }
                Some(_) if lineage.is_in_sight(&object_id(&place.object)) => continue,
                _ => KeptWhy::Removed,
            };
            planned.kept.push((named.map(|named| named.to_string()), why));
            left.insert(place);
        }
        for text in &backwards.odd {
            let place = Where { object: text.clone(), prop: None };
            let named = named(lineage, &place).map(|named| named.to_string());
            planned.kept.push((named, KeptWhy::Merges));
        }
        backwards.leave(&left);
        let renewed = backwards.renewed().into_iter();
        let renewed = renewed.filter_map(|list| Some(named(lineage, &list)?.to_string()));
        planned.write.renewed = renewed.collect();
        planned.write.backwards = Some(backwards);
        Ok(())
    }

    /// Writes all of it but decisions.
    fn write(&mut self, changes: &[Change], writes: &Writes) -> Result<Vec<Change>, EditError> {
        let short = |change: &Change| ChangeHash(change.hash().0).short();
        let undoes: Vec<ShortHash> = changes.iter().map(short).collect();
        let (marks, time_s) = (self.document.marks(), self.time_s);
        let doc = &mut self.document.doc;
        let mut written = Vec::new();
        let plain = message(&undoes, &[]);
        let options =
            WriteOptions { time_s, message: Some(&plain), marks, ..WriteOptions::default() };
        if let Some(backwards) = &writes.backwards {
            written.extend(backwards.write(doc, self.id, &options)?);
        }
        written.extend(write_back(doc, &writes.fields, time_s)?);
        for (field, made) in &writes.items {
            written.extend(delete_item(doc, field, made, time_s, &plain)?);
        }
        for Reopen { decision, review, deleted } in &writes.reopen {
            let (undoes, closes) = (vec![decision.short()], Vec::new());
            let undo = Undo { undoes, closes, reopens: Some(*review) };
            let message = undo.to_message().unwrap_or_default();
            written.extend(match deleted {
                Some((item, value)) => say_with_item(doc, item, value, time_s, &message)?,
                None => say(doc, time_s, &message)?,
            });
        }
        if written.is_empty() || !writes.reopen.is_empty() {
            return Ok(written);
        }
        // Work counts as taken back where a change names it, so all of it is named; and what was
        // written at older heads is gathered again, before a document has very many.
        let says = |change: &Change| change.message().and_then(Undo::from_message);
        let named: BTreeSet<_> = written.iter().filter_map(says).flat_map(|it| it.undoes).collect();
        let unnamed: Vec<_> = undoes.iter().filter(|hash| !named.contains(hash)).copied().collect();
        for some in unnamed.chunks(NAMES_MAX) {
            written.extend(say(doc, time_s, &message(some, &[]))?);
        }
        if doc.get_heads().len() > HEADS_MAX {
            written.extend(say(doc, time_s, &plain)?);
        }
        Ok(written)
    }
}

/// Hashes that one message names for sure.
const NAMES_MAX: usize = 40;

/// Heads of a document after which those of undone edits are gathered.
const HEADS_MAX: usize = 8;

/// The place of a text, list or counter, as people read it.
fn named(lineage: &Lineage, place: &Where) -> Option<FieldPath> {
    let mut named = lineage.container_place(&object_id(&place.object))?;
    match &place.prop {
        Some(Prop::Map(key)) => named.0.push(Step::Key(key.clone())),
        // An index names nothing that stays, and rights hold for all items alike.
        Some(Prop::Seq(_)) => named.0.push(Step::Key("*".to_owned())),
        None => {}
    }
    Some(named)
}

fn object_id(id: &ObjId) -> ObjectId {
    match id {
        ObjId::Root => ObjectId::Root,
        ObjId::Id(counter, actor, _) => {
            ObjectId::Op { counter: *counter, actor: ActorId(actor.to_bytes().to_vec()) }
        }
    }
}

/// A document in which something was taken back by these changes.
fn undone_document(
    document: DocumentId,
    row: DocumentRow,
    changes: Vec<ChangeHash>,
    outbox: Option<u64>,
    fields: Vec<FieldUndone>,
) -> UndoneDocument {
    let DocumentRow { space, collection, key, heads, .. } = row;
    let edited = EditOutcome { document, heads, changes, created: false, outbox, row: None };
    UndoneDocument { space, collection, key, fields, deleted: false, renewed: Vec::new(), edited }
}

/// The changes of an edit as they are in the document now: a relay may have refused some of them,
/// so that they were made anew or are gone.
fn changes_now(
    turn: &Turn,
    id: &DocumentId,
    document: &LoadedDocument,
    changes: &[ChangeHash],
) -> Result<Vec<Change>, EditError> {
    let find = |hash: &ChangeHash| document.doc.get_change_by_hash(&automerge::ChangeHash(hash.0));
    let mut found: Vec<Option<Change>> = changes.iter().map(find).collect();
    if found.iter().any(Option::is_none) {
        let aside = turn.txn.set_aside()?.into_iter().map(|(_, row)| row);
        let aside = aside.filter(|row| row.document == *id).map(|row| (row.hash, row)).collect();
        let now = |hash: &ChangeHash| find(&successor(&aside, *hash));
        found = changes.iter().map(now).collect();
    }
    Ok(found.into_iter().flatten().collect())
}

fn may_write(schema: &Schema, path: &Path, role: Option<&str>) -> bool {
    schema.writers(path).is_none_or(|may| role.is_some_and(|role| may.contains(role)))
}

fn is_same_person(one: Option<&Identity>, other: Option<&Identity>) -> bool {
    one.map(|one| &one.user) == other.map(|other| &other.user)
}

fn says_deleted(value: &Value, mark: &str) -> bool {
    value.get(mark) == Some(&Value::Bool(true))
}

/// The top-level fields that differ.
fn fields_undone(before: &Value, after: &Value) -> Vec<FieldUndone> {
    let of = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (mut before, after) = (of(before), of(after));
    let mut fields: BTreeMap<String, FieldUndone> = BTreeMap::new();
    for (field, now) in after {
        let was = before.remove(&field);
        if was.as_ref() != Some(&now) {
            let undone = FieldUndone { field: field.clone(), before: was, after: Some(now) };
            fields.insert(field, undone);
        }
    }
    for (field, was) in before {
        let undone = FieldUndone { field: field.clone(), before: Some(was), after: None };
        fields.insert(field, undone);
    }
    fields.into_values().collect()
}

impl From<KeptField> for KeptWhy {
    fn from(why: KeptField) -> Self {
        match why {
            KeptField::Written(by) => Self::Written(by),
            KeptField::Merges => Self::Merges,
            KeptField::NotAllowed => Self::NotAllowed,
            KeptField::Removed => Self::Removed,
        }
    }
}

/// Edits that all steps together hold at most: some 100 MB in the file.
const STEP_EDITS_MAX: u64 = 1_000_000;

/// Batches that are under way at most.
const BATCHES_MAX: usize = 4096;
