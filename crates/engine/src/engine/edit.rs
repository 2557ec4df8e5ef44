//! Local edits: from a person's request to changes in the store and the outbox.

use automerge::Change;
use rejoin_core::change::{self, genesis};
use rejoin_core::lineage::{FieldPath, Marks, Question, Step};
use rejoin_core::schema::{Rule, Schema};
use rejoin_core::{
    ChangeHash, CollectionName, DocumentId, Genesis, Identity, Path, ReviewId, Segment, SpaceName,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

use super::derive::{Derived, derive};
use super::import::{self, Row, RowOutcome};
use super::loaded::fenced;
use super::settle::{check_right, settle_review};
use super::{EditError, Engine, LoadedDocument, Op, Origin, Turn, WriteError, to_automerge};
use crate::diff::diff;
use crate::store::{DocumentRow, ImportedRow, OutboxRow};
use crate::value::{At, Effective, to_effective_json};
use crate::write::{WriteOptions, may_convert, older_heads, write};

/// One edit of one document.
#[derive(Debug, Clone)]
pub struct Edit {
    /// The space of the document.
    pub space: SpaceName,
    /// The collection of the document.
    pub collection: CollectionName,
    /// The document, by its id or its natural key.
    pub target: Target,
    /// Whether to make the document if it does not exist; clears a deletion.
    pub create: bool,
    /// The identity that edits; `None` for that of the replica.
    pub author: Option<Identity>,
    /// The content to write.
    pub content: Content,
    /// A number that edits have in common which are [taken back](Engine::undo) together; `None` for
    /// an edit of its own.
    pub batch: Option<u64>,
}

impl Edit {
    /// The role of its author.
    fn role(&self) -> Option<&str> {
        self.author.as_ref().and_then(|author| author.role.as_deref())
    }
}

/// The document that an edit is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The one with this id.
    Document(DocumentId),
    /// The one with this natural key.
    Key(String),
    /// A new one without a natural key.
    New,
}

/// The content that an edit writes.
#[derive(Debug, Clone)]
pub enum Content {
    /// These steps, made by someone who saw the document at `base`; at its present heads if that is
    /// `None`.
    Ops {
        /// The heads that they saw.
        base: Option<Vec<ChangeHash>>,
        /// The steps that they made.
        ops: Vec<Op>,
    },
    /// The value that the document had at these heads, as far as it differs from the present one. A
    /// document that is deleted is brought back.
    Restore {
        /// The heads.
        heads: Vec<ChangeHash>,
    },
    /// These values for these fields, as far as they differ from those of the document. `null`
    /// removes a field. Other fields are left alone.
    Fields(Map<String, Value>),
    /// The cells of a row of a file.
    Row(Row),
    /// A decision that settles a review of the document.
    Decide {
        /// The review.
        review: ReviewId,
        /// The decision.
        decision: Decision,
        /// The reason, in the words of the person who decides.
        why: Option<String>,
    },
}

/// A decision about a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// The value that this change wrote.
    Take(ChangeHash),
    /// Another value; `None` clears the field.
    Value(Option<Value>),
    /// The value that stood before.
    Dismiss,
}

impl EditOutcome {
    /// Whether the edit changed anything.
    pub fn changed(&self) -> bool {
        !self.changes.is_empty()
    }
}

/// The result of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditOutcome {
    /// The document.
    pub document: DocumentId,
    /// Its heads now.
    pub heads: Vec<ChangeHash>,
    /// The changes it made, in order. There are none if the document had these values already.
    pub changes: Vec<ChangeHash>,
    /// Whether the edit made the document.
    pub created: bool,
    /// The edit's key in the outbox, if it changed anything.
    pub outbox: Option<u64>,
    /// The further results of a [row](Content::Row).
    pub row: Option<Box<RowOutcome>>,
}

impl Engine {
    /// Writes one edit into the transaction. After an error nothing of the edit is in there, and
    /// the document is loaded anew when it is next needed.
    pub(super) fn stage_edit(
        &mut self,
        turn: &mut Turn,
        mut edit: Edit,
    ) -> Result<EditOutcome, EditError> {
        edit.author = self.author(edit.author)?;
        let (id, genesis) = match &edit.target {
            Target::Document(id) => (*id, None),
            Target::Key(key) => {
                let (genesis, id) = turn.txn.keyed(&edit.space, &edit.collection, key)??;
                (id, Some(genesis))
            }
            Target::New => (DocumentId::from_random((self.random)()), None),
        };
        let before = turn.txn.document(&id)?;
        if before.is_none() && turn.txn.erased(&id)?.is_some() {
            return Err(EditError::Erased { document: id });
        }
        let (mut document, mut changes, row) = match &before {
            Some(row) => (self.load(&turn.txn, &id, row)?, Vec::new(), row.clone()),
            None if edit.create => new_document(&id, &edit, genesis.as_ref())?,
            None => return Err(EditError::NotFound),
        };
        if matches!(edit.content, Content::Row(_))
            && (&row.space, &row.collection) != (&edit.space, &edit.collection)
        {
            self.loaded.put(turn.now, id, document);
            return Err(EditError::Elsewhere { space: row.space, collection: row.collection });
        }
        if !document.has_room() {
            self.loaded.put(turn.now, id, document);
            return Err(EditError::NoRoom { document: id });
        }
        let author = edit.author.as_ref();
        document.ensure_actor(author, || self.loaded.actor(&id, author, &mut self.random));
        let Written { changes: written, row: outcome, imported } =
            self.write_content(turn, &id, &row, &mut document, &edit)?;
        changes.extend(written);
        if let Some(imported) = imported {
            turn.txn.put_imported(&id, &imported)?;
            turn.dirty = true;
        }
        let (created, row_outcome) = (before.is_none() && !changes.is_empty(), outcome);
        let mut outcome = EditOutcome {
            document: id,
            heads: Vec::new(),
            changes: changes.iter().map(|change| ChangeHash(change.hash().0)).collect(),
            created,
            outbox: None,
            row: row_outcome,
        };
        if changes.is_empty() {
            outcome.heads = document.heads();
        } else {
            let user = edit.author.as_ref().map(|author| author.user.clone());
            let (row, outbox) =
                self.keep_local(turn, &id, row, &mut document, &mut changes, user)?;
            let row = self.settle(turn, &id, before.as_ref(), row, &mut document, Origin::Local)?;
            self.keep_step(turn, &edit, &row, &changes, &outcome)?;
            (outcome.heads, outcome.outbox) = (row.heads, outbox);
        }
        self.loaded.put(turn.now, id, document);
        Ok(outcome)
    }

    /// Writes the content of an edit into the document.
    fn write_content(
        &mut self,
        turn: &Turn,
        id: &DocumentId,
        row: &DocumentRow,
        document: &mut LoadedDocument,
        edit: &Edit,
    ) -> Result<Written, EditError> {
        let schema = self.schema(&turn.txn, row)?;
        let mut row = row.clone();
        row.uneasy |= turn.has_branched(id);
        let derived = match row.uneasy {
            true => derive(id, &mut row, document, &schema, true)?,
            false => Derived::default(),
        };
        if let Content::Decide { review, decision, why } = &edit.content {
            check_right(&schema, &derived, review, edit.role())?;
            let (why, time_s) = (why.clone(), turn.unix_s);
            let changes = settle_review(id, document, &derived, review, decision, why, time_s)?;
            return Ok(Written { changes, ..Written::default() });
        }
        let mut written = Written::default();
        let (base, mut ops) = match &edit.content {
            Content::Row(said) => {
                let current = current_value(turn, id, document, &derived, &schema)?;
                let before = turn.txn.imported(id)?;
                let mut imported = before.clone();
                let plan = import::plan(said, &current, &mut imported, &schema, document.marks())?;
                written.imported = Some(imported).filter(|imported| *imported != before);
                written.row = Some(Box::new(plan.outcome));
                (None, plan.ops)
            }
            Content::Restore { heads } => {
                (None, restore_ops(id, &row, document, &derived, &schema, heads)?)
            }
            _ => edit_ops(turn, id, edit, document, &derived, &schema)?,
        };
        if base.is_none()
            && derived.is_deleted(document)
            && !ops.iter().any(revives)
            && !ops.is_empty()
        {
            return Err(EditError::Deleted);
        }
        if matches!(edit.content, Content::Fields(_) | Content::Row(_)) {
            ops.retain(|op| !is_said_already(op, &derived, edit.author.as_ref()));
        }
        obey_texts(&mut ops, &schema, |path, text| {
            let at = At::new(&document.doc, None, document.marks());
            base.is_none() && may_convert(at.with(derived.effective_for_edit()), path, text)
        });
        // A document that is being made has no reviews.
        let may_be_reviewed = row.next > 0 && !ops.is_empty();
        if let Some(outcome) = written.row.as_deref_mut().filter(|_| may_be_reviewed) {
            import::note_reviews(&self.store.read()?, &row.space, id, &ops, outcome)?;
        }
        if let Some(outcome) = written.row.as_deref_mut() {
            import::leave_what_is_not_written(&ops, outcome);
        }
        check_writers(&schema, edit.role(), &ops)?;
        written.changes = write_ops(turn, id, &row, document, &schema, &derived, base, &ops)?;
        Ok(written)
    }

    /// Writes local changes of a user and their place in the outbox.
    pub(super) fn keep_local(
        &mut self,
        turn: &mut Turn,
        id: &DocumentId,
        mut row: DocumentRow,
        document: &mut LoadedDocument,
        changes: &mut [Change],
        user: Option<String>,
    ) -> Result<(DocumentRow, Option<u64>), EditError> {
        let chunks: Vec<_> = changes.iter_mut().map(|change| change.bytes().into_owned()).collect();
        for chunk in &chunks {
            change::parse(chunk).map_err(EditError::TooLarge)?;
        }
        let from = row.next;
        for (change, chunk) in changes.iter().zip(&chunks) {
            turn.txn.put_change(id, row.next, chunk)?;
            row.next += 1;
            row.tail_bytes += chunk.len() as u64;
            advance_heads(&mut row.heads, ChangeHash(change.hash().0), change.deps());
            document.note(change);
        }
        let count = chunks.len() as u64;
        let outbox = OutboxRow { document: *id, from, count, time_s: turn.unix_s, user };
        let key = self.push_outbox(turn, &outbox)?;
        #[cfg(feature = "mutants")]
        self.push_before_commit(id, &row, chunks);
        Ok((row, key))
    }

    #[cfg(not(feature = "mutants"))]
    fn push_outbox(&mut self, turn: &Turn, row: &OutboxRow) -> Result<Option<u64>, EditError> {
        Ok(Some(turn.txn.push_outbox(row)?))
    }

    #[cfg(feature = "mutants")]
    fn push_outbox(&mut self, turn: &Turn, row: &OutboxRow) -> Result<Option<u64>, EditError> {
        let skips = self.options.mutant == Some(super::Mutant::SkippedOutboxRow);
        if skips && row.from % 5 == 4 {
            return Ok(None);
        }
        Ok(Some(turn.txn.push_outbox(row)?))
    }
}

/// The changes that an edit wrote into a document, and the words of its file that are to be
/// remembered.
#[derive(Debug, Default)]
struct Written {
    changes: Vec<Change>,
    row: Option<Box<RowOutcome>>,
    /// The words of files about the document, if they are new.
    imported: Option<ImportedRow>,
}

/// Writes steps that an editor made at these heads, or at the present ones.
#[expect(clippy::too_many_arguments, reason = "they are what an edit is made of")]
fn write_ops(
    turn: &Turn,
    id: &DocumentId,
    row: &DocumentRow,
    document: &mut LoadedDocument,
    schema: &Arc<Schema>,
    derived: &Derived,
    base: Option<Vec<ChangeHash>>,
    ops: &[Op],
) -> Result<Vec<Change>, EditError> {
    let base = base.map(|base| to_automerge(&base));
    let base = older_heads(&document.doc, base.as_deref())?;
    // Edits name places and values as the editor saw them.
    let seen = match &base {
        Some(base) => Some(document.effective_at(id, row, schema, base, Effective::for_edit)?),
        None => None,
    };
    let options = WriteOptions {
        base: base.as_deref(),
        time_s: turn.unix_s,
        message: None,
        effective: seen.as_ref().or_else(|| derived.effective_for_edit()),
        marks: document.marks(),
    };
    Ok(write(&mut document.doc, id, ops, &options)?)
}

/// A document made by this edit, with its genesis.
fn new_document(
    id: &DocumentId,
    edit: &Edit,
    key: Option<&Genesis>,
) -> Result<(LoadedDocument, Vec<Change>, DocumentRow), EditError> {
    let chunk = genesis(id, key);
    let mut document = LoadedDocument::empty(id);
    let change = fenced(|| {
        let change = Change::from_bytes(chunk)?;
        document.doc.apply_changes([change.clone()])?;
        Ok(change)
    })
    .map_err(|reason| EditError::Unreadable { document: *id, reason })?;
    let key = key.map(|genesis| genesis.key.clone());
    let row = DocumentRow::new(edit.space.clone(), edit.collection.clone(), key);
    Ok((document, vec![change], row))
}

type BaseAndOps = (Option<Vec<ChangeHash>>, Vec<Op>);

fn edit_ops(
    turn: &Turn,
    id: &DocumentId,
    edit: &Edit,
    document: &LoadedDocument,
    derived: &Derived,
    schema: &Schema,
) -> Result<BaseAndOps, EditError> {
    match &edit.content {
        Content::Ops { base, ops } => Ok((base.clone(), ops.clone())),
        Content::Decide { .. } | Content::Row(_) | Content::Restore { .. } => {
            Ok((None, Vec::new()))
        }
        Content::Fields(fields) => {
            let current = current_value(turn, id, document, derived, schema)?;
            Ok((None, field_ops(&current, fields, edit.create, document.marks())))
        }
    }
}

/// The steps that give a document the value that it had at some heads.
fn restore_ops(
    id: &DocumentId,
    row: &DocumentRow,
    document: &mut LoadedDocument,
    derived: &Derived,
    schema: &Arc<Schema>,
    heads: &[ChangeHash],
) -> Result<Vec<Op>, EditError> {
    let heads = to_automerge(heads);
    let is_unknown =
        |head: &&automerge::ChangeHash| document.doc.get_change_meta_by_hash(head).is_none();
    if let Some(head) = heads.iter().find(is_unknown) {
        return Err(WriteError::UnknownBase { head: *head }.into());
    }
    let effective = document.effective_at(id, row, schema, &heads, Effective::for_edit)?;
    let marks = document.marks();
    let mut then = to_effective_json(&document.doc, Some(&heads), &effective, marks);
    let mut now = derived.value_for_edit(document);
    let take_mark = |value: &mut Value| {
        let mark = value.as_object_mut().and_then(|fields| fields.remove(marks.deleted));
        mark == Some(Value::Bool(true))
    };
    let (was_deleted, is_deleted) = (take_mark(&mut then), take_mark(&mut now));
    let mut ops = diff(&now, &then);
    if is_deleted && !was_deleted {
        ops.push(Op::Restore);
    }
    Ok(ops)
}

/// Whether a step may be made in a document that is deleted.
fn revives(op: &Op) -> bool {
    matches!(op, Op::Restore | Op::Delete)
}

fn current_value(
    turn: &Turn,
    id: &DocumentId,
    document: &LoadedDocument,
    derived: &Derived,
    schema: &Schema,
) -> Result<Value, EditError> {
    if schema.fields.values().any(|field| field.default.is_some()) {
        // A person who writes the value of the default means that value, even if the default
        // changes later.
        return Ok(derived.value_for_edit(document));
    }
    let behind = turn.has_touched(id) || turn.txn.is_stale(id)?;
    let stored = if behind { None } else { turn.txn.sound_value(id)? };
    match stored {
        Some(row) if row.agreed.is_none() => Ok(serde_json::from_slice(&row.json)?),
        _ => Ok(derived.value_for_edit(document)),
    }
}

/// Refuses to write a field that only other roles may write.
fn check_writers(schema: &Schema, role: Option<&str>, ops: &[Op]) -> Result<(), EditError> {
    for op in ops {
        for path in op.places() {
            let Some(writers) = schema.writers(&path) else { continue };
            if !role.is_some_and(|role| writers.contains(role)) {
                return Err(EditError::not_allowed(field_path(&path), role, writers));
            }
        }
    }
    Ok(())
}

/// A path as the place of a field. The items of lists that it goes through are not told apart.
fn field_path(path: &Path) -> FieldPath {
    let step = |segment: &Segment| match segment {
        Segment::Key(key) => Step::Key(key.clone()),
        Segment::Index(_) => Step::Key("*".to_owned()),
    };
    FieldPath(path.segments().iter().map(step).collect())
}

/// Turns writes of fields that the schema says are texts into edits of texts. A plain value that is
/// there becomes a text by that. The first words of a field stay plain until somebody changes them,
/// for two people who write the same first words would have them twice. `may_convert` says whether
/// the value at a place can become a text.
fn obey_texts(ops: &mut [Op], schema: &Schema, may_convert: impl Fn(&Path, &str) -> bool) {
    if !schema.fields.values().any(|field| field.merge == Rule::Text) {
        return;
    }
    for op in ops {
        let Op::Set { path, after, .. } = op else { continue };
        let mut places = vec![(path.clone(), after)];
        while let Some((path, value)) = places.pop() {
            match value {
                Value::String(text)
                    if *schema.rule(&path) == Rule::Text && may_convert(&path, text) =>
                {
                    *value = json!({ "$text": text });
                }
                Value::Object(map) => {
                    let entries = map.iter_mut();
                    places.extend(entries.map(|(key, value)| (path.join(key.as_str()), value)));
                }
                _ => {}
            }
        }
    }
}

/// Whether a step writes a value that the same author has written and that is a candidate of an
/// open review: importing one file twice says nothing new, even if another value stands meanwhile.
fn is_said_already(op: &Op, derived: &Derived, author: Option<&Identity>) -> bool {
    let (path, value) = match op {
        Op::Set { path, after, .. } => (path, Some(after)),
        Op::Remove { path } => (path, None),
        _ => return false,
    };
    let place = path.to_string();
    let of_place =
        derived.standings().iter().filter(|standing| standing.place.to_string() == place);
    let mut candidates = of_place
        .flat_map(|standing| &standing.unsettled)
        .filter(|it| matches!(it.question, Question::Conflict | Question::Refused))
        .flat_map(|unsettled| &unsettled.candidates);
    let same_author = |candidate: Option<&Identity>| match (candidate, author) {
        (Some(candidate), Some(author)) => {
            (&candidate.user, &candidate.role) == (&author.user, &author.role)
        }
        (candidate, author) => candidate.is_none() && author.is_none(),
    };
    candidates.any(|candidate| {
        candidate.value.as_ref() == value && same_author(candidate.author.as_ref())
    })
}

/// The steps that turn the present fields into the wanted ones. A field that reads the same is not
/// written.
fn field_ops(current: &Value, fields: &Map<String, Value>, revive: bool, marks: &Marks) -> Vec<Op> {
    let mut ops = Vec::new();
    for (name, wanted) in fields {
        let path = Path::from([name.as_str()]);
        match (current.get(name), wanted) {
            (None, Value::Null) => {}
            (Some(_), Value::Null) => ops.push(Op::Remove { path }),
            (Some(now), wanted) if now.is_object() && wanted.is_object() => {
                let (now, wanted) = (nested(name, now), nested(name, wanted));
                ops.extend(diff(&now, &wanted));
            }
            (Some(now), wanted) if *now == *wanted => {}
            (now, wanted) => {
                ops.push(Op::Set { path, before: now.cloned(), after: wanted.clone() });
            }
        }
    }
    if revive && current.get(marks.deleted) == Some(&Value::Bool(true)) {
        ops.push(Op::Restore);
    }
    ops
}

fn nested(name: &str, value: &Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value.clone())]))
}

/// Heads after a change: it takes the place of its dependencies.
pub(super) fn advance_heads(
    heads: &mut Vec<ChangeHash>,
    hash: ChangeHash,
    deps: &[automerge::ChangeHash],
) {
    heads.retain(|head| !deps.iter().any(|dep| dep.0 == head.0));
    heads.push(hash);
}
