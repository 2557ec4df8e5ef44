//! The writes by which the effect of earlier changes is taken back.
//!
//! Plain values, decisions and new items are written at the present heads, each as a value in the
//! place of named ones. The characters of texts, counts, and items that were deleted are written at
//! the heads after the changes that are taken back: there every index means what it meant to their
//! author, and the merge carries the writes to where those things are now.

use std::collections::BTreeSet;

use automerge::legacy::{Key, ObjectId as Object, OpType};
use automerge::transaction::CommitOptions;
use automerge::{Automerge, Change, ChangeHash, ObjId, ObjType, PatchAction, Prop, ReadDoc};
use rejoin_core::change::ObjectId;
use rejoin_core::lineage::{Marks, Standing, Step};
use rejoin_core::{DocumentId, Path, ShortHash, Undo};
use serde_json::Value;

use super::by_hand::{discard, restore};
use super::carry_out::{delete, put};
use super::decide::{index, object};
use super::gather::gather;
use super::plan::Plan;
use super::transact::transact;
use super::tree::Place;
use super::{ValueKind, WriteError, WriteOptions, older_heads, write_planned};
use crate::diff::{TextEdit, text_edits};
use crate::value::{At, to_scalar};

/// A plain value to write in the place of others.
#[derive(Debug, Clone)]
pub(crate) struct Back {
    pub(crate) field: Standing,
    /// `None` clears the field.
    pub(crate) value: Option<Value>,
    /// The changes that are taken back by it.
    pub(crate) undoes: Vec<ShortHash>,
    /// The changes whose values it takes the place of.
    pub(crate) closes: Vec<ShortHash>,
}

/// Writes values in the place of others, in as many changes as the names of those need.
///
/// # Errors
/// Automerge refused something. Drop the document then, and load it again.
pub(crate) fn write_back(
    doc: &mut Automerge,
    backs: &[Back],
    time_s: i64,
) -> Result<Vec<Change>, WriteError> {
    let mut changes = Vec::new();
    let mut rest = backs;
    while !rest.is_empty() {
        let (group, message) = next_group(rest);
        rest = &rest[group.len()..];
        changes.extend(write_group(doc, group, time_s, &message)?);
    }
    Ok(changes)
}

/// The values that fit into the next change, at least one, and its message.
fn next_group(backs: &[Back]) -> (&[Back], String) {
    let (mut undoes, mut closes) = (BTreeSet::new(), BTreeSet::new());
    let mut fitting = None;
    for (count, back) in backs.iter().enumerate().take(GROUP_MAX) {
        undoes.extend(back.undoes.iter().copied());
        closes.extend(back.closes.iter().copied());
        let names = |hashes: &BTreeSet<ShortHash>| hashes.iter().copied().collect();
        let undo = Undo { undoes: names(&undoes), closes: names(&closes), reopens: None };
        match undo.to_message() {
            Some(message) => fitting = Some((&backs[..=count], message)),
            None => break,
        }
    }
    fitting.unwrap_or_else(|| (&backs[..1], message(&backs[0].undoes, &backs[0].closes)))
}

/// The message of a change that takes back others. Where not all names fit, those of taken back
/// changes are left out first: without the names of what it closes a value would only be one more.
pub(crate) fn message(undoes: &[ShortHash], closes: &[ShortHash]) -> String {
    let mut undo = Undo { undoes: undoes.to_vec(), closes: closes.to_vec(), reopens: None };
    loop {
        match undo.to_message() {
            Some(message) => return message,
            None if undo.undoes.len() > 1 => _ = undo.undoes.pop(),
            None => _ = undo.closes.pop(),
        }
    }
}

fn write_group(
    doc: &mut Automerge,
    backs: &[Back],
    time_s: i64,
    message: &str,
) -> Result<Vec<Change>, WriteError> {
    let (mut keys, mut items, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for Back { field, value, .. } in backs {
        let object = object(&field.object);
        let scalar = value.as_ref().and_then(to_scalar);
        match field.place.0.last() {
            Some(Step::Key(key)) => keys.push((object, Prop::Map(key.clone()), scalar)),
            Some(Step::Item { counter, actor }) => match index(doc, &object, field, None) {
                Some(index) => items.push((index, object, scalar)),
                None => gone.push((field, (*counter, actor), scalar)),
            },
            None => {}
        }
    }
    // A deleted item moves those after it, so the last go first.
    items.sort_by_key(|(index, ..)| std::cmp::Reverse(*index));
    let items = items.into_iter().map(|(index, list, scalar)| (list, Prop::Seq(index), scalar));
    let shown: Vec<_> = keys.into_iter().chain(items).collect();
    let (mut changes, _) = gather(doc, None, time_s)?;
    if !shown.is_empty() {
        let options = CommitOptions::default().with_time(time_s).with_message(message);
        let hash = transact(doc, None, options, |transaction| {
            shown.into_iter().try_for_each(|(object, prop, scalar)| match scalar {
                Some(scalar) => put(transaction, &object, prop, scalar),
                None => delete(transaction, &object, prop),
            })
        })?;
        changes.extend(hash.and_then(|hash| doc.get_change_by_hash(&hash)));
    }
    for (field, item, scalar) in gone {
        changes.extend(restore(doc, &field.object, item, scalar, time_s, message)?);
    }
    Ok(changes)
}

/// Deletes an item of a list that is a text, a list or a counter.
///
/// # Errors
/// As [`write_back`].
pub(crate) fn delete_item(
    doc: &mut Automerge,
    field: &Standing,
    made: &ObjectId,
    time_s: i64,
    message: &str,
) -> Result<Vec<Change>, WriteError> {
    discard(doc, field, std::slice::from_ref(made), time_s, message)
}

/// Whether an operation made a map.
pub(crate) fn is_map(doc: &Automerge, made: &ObjectId) -> bool {
    matches!(doc.object_type(object(made)), Ok(ObjType::Map))
}

/// Values that one change writes back at most.
const GROUP_MAX: usize = 1000;

/// Says by a change without operations what its message says.
///
/// # Errors
/// As [`write_back`].
pub(crate) fn say(
    doc: &mut Automerge,
    time_s: i64,
    message: &str,
) -> Result<Vec<Change>, WriteError> {
    let (mut changes, _) = gather(doc, None, time_s)?;
    let options = CommitOptions::default().with_time(time_s).with_message(message);
    let hash = doc.empty_commit(options);
    changes.extend(doc.get_change_by_hash(&hash));
    Ok(changes)
}

/// The same by a change that lets Automerge show a list item again, if it was deleted.
///
/// # Errors
/// As [`write_back`].
pub(crate) fn say_with_item(
    doc: &mut Automerge,
    item: &Standing,
    value: &Value,
    time_s: i64,
    message: &str,
) -> Result<Vec<Change>, WriteError> {
    let Some(Step::Item { counter, actor }) = item.place.0.last() else {
        return say(doc, time_s, message);
    };
    if index(doc, &object(&item.object), item, None).is_some() {
        return say(doc, time_s, message);
    }
    let (mut changes, _) = gather(doc, None, time_s)?;
    let value = to_scalar(value);
    changes.extend(restore(doc, &item.object, (*counter, actor), value, time_s, message)?);
    Ok(changes)
}

/// A text or a list, or a counter in a map or list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Where {
    pub(crate) object: ObjId,
    /// The key or index of the counter.
    pub(crate) prop: Option<Prop>,
}

/// The effect of changes on texts, counters and items that were deleted, read backwards.
#[derive(Debug)]
pub(crate) struct Backwards {
    /// The heads after the changes, without all that others did meanwhile.
    after: Vec<ChangeHash>,
    splices: Vec<Splice>,
    counts: Vec<Count>,
    items: Vec<Item>,
    /// Texts with more in them than characters, as other programs write them: marks and blocks.
    pub(crate) odd: BTreeSet<ObjId>,
}

/// Characters of a text to replace.
#[derive(Debug)]
struct Splice {
    text: ObjId,
    index: usize,
    delete: usize,
    insert: String,
}

/// An amount to count, by the object and key of the counter.
#[derive(Debug)]
struct Count {
    object: ObjId,
    prop: Prop,
    by: i64,
}

/// An item to insert again.
#[derive(Debug)]
struct Item {
    list: ObjId,
    index: usize,
    /// Its place among the items before, which orders those that stand at one index.
    place: usize,
    value: Value,
}

impl Backwards {
    /// Reads the effect of these changes of a document.
    pub(crate) fn of(doc: &Automerge, marks: &'static Marks, changes: &[Change]) -> Self {
        let is_one = |hash: &ChangeHash| changes.iter().any(|change| change.hash() == *hash);
        let deps = changes.iter().flat_map(|change| change.deps().iter().copied());
        let before: Vec<ChangeHash> = deps.filter(|dep| !is_one(dep)).collect();
        let mut after = before.clone();
        after.extend(changes.iter().map(Change::hash));
        let built_on = |hash: &ChangeHash| changes.iter().any(|it| it.deps().contains(hash));
        after.retain(|hash| !built_on(hash));
        after.sort_unstable();
        after.dedup();
        let (splices, counts, items) = (Vec::new(), Vec::new(), Vec::new());
        let mut back = Self { after, splices, counts, items, odd: BTreeSet::new() };
        back.read_texts(doc, &before, changes);
        for change in changes {
            back.read_others(doc, marks, &before, change);
        }
        back
    }

    /// The texts and lists that it writes in, and the counters, each by the map or list it is in.
    pub(crate) fn places(&self) -> BTreeSet<Where> {
        let splices = self.splices.iter().map(|splice| (splice.text.clone(), None));
        let counts = self.counts.iter().map(|it| (it.object.clone(), Some(it.prop.clone())));
        let items = self.items.iter().map(|item| (item.list.clone(), None));
        splices.chain(counts).chain(items).map(|(object, prop)| Where { object, prop }).collect()
    }

    /// Leaves out all of it that is at these places.
    pub(crate) fn leave(&mut self, left: &BTreeSet<Where>) {
        let stays = |object: &ObjId, prop: Option<&Prop>| {
            !left.contains(&Where { object: object.clone(), prop: prop.cloned() })
        };
        self.splices.retain(|splice| stays(&splice.text, None));
        self.counts.retain(|count| stays(&count.object, Some(&count.prop)));
        self.items.retain(|item| stays(&item.list, None));
    }

    /// The lists in which items come back as new ones.
    pub(crate) fn renewed(&self) -> BTreeSet<Where> {
        self.items.iter().map(|item| Where { object: item.list.clone(), prop: None }).collect()
    }

    fn read_texts(&mut self, doc: &Automerge, before: &[ChangeHash], changes: &[Change]) {
        for patch in doc.diff(&self.after, before) {
            if !matches!(doc.object_type(&patch.obj), Ok(ObjType::Text)) {
                continue;
            }
            let (index, delete, insert) = match patch.action {
                PatchAction::SpliceText { index, value, .. } => (index, 0, value.make_string()),
                PatchAction::DeleteSeq { index, length } => (index, length, String::new()),
                _ => {
                    self.odd.insert(patch.obj);
                    continue;
                }
            };
            self.splices.push(Splice { text: patch.obj, index, delete, insert });
        }
        self.splices.retain(|splice| !self.odd.contains(&splice.text));
        // Automerge compares no text that something else at its place hides, so the characters tell.
        let written = changes.iter().flat_map(|change| change.decode().operations);
        let written: BTreeSet<ObjId> = written.map(|op| id(&op.obj)).collect();
        for text in written {
            let is_read =
                self.odd.contains(&text) || self.splices.iter().any(|splice| splice.text == text);
            if is_read || !matches!(doc.object_type(&text), Ok(ObjType::Text)) {
                continue;
            }
            let at = |heads| doc.text_at(&text, heads).unwrap_or_default();
            for TextEdit { index, delete, insert } in text_edits(&at(&self.after), &at(before)) {
                self.splices.push(Splice { text: text.clone(), index, delete, insert });
            }
        }
    }

    fn read_others(
        &mut self,
        doc: &Automerge,
        marks: &'static Marks,
        before: &[ChangeHash],
        change: &Change,
    ) {
        let at = At::new(doc, Some(before), marks);
        let mut deleted = Vec::new();
        for op in change.decode().operations {
            let id = id(&op.obj);
            match &op.action {
                OpType::Increment(by) => {
                    let prop = match &op.key {
                        Key::Map(key) => Some(Prop::Map(key.to_string())),
                        Key::Seq(_) => {
                            let of_it = |item: &automerge::iter::ListRangeItem<'_>| {
                                op.pred.iter().any(|pred| is_op(&item.id(), pred))
                            };
                            let mut items = doc.list_range_at(&id, .., &self.after);
                            items.find(of_it).map(|item| Prop::Seq(item.index))
                        }
                    };
                    let Some(prop) = prop else { continue };
                    self.counts.push(Count { object: id, prop, by: by.wrapping_neg() });
                }
                OpType::Delete if matches!(doc.object_type(&id), Ok(ObjType::List)) => {
                    deleted.extend(op.pred.iter().map(|pred| (id.clone(), pred.clone())));
                }
                _ => {}
            }
        }
        // Of those that were before one place the last is inserted first.
        for (list, op) in deleted {
            let items: Vec<_> = doc.list_range_at(&list, .., before).collect();
            let Some(place) = items.iter().position(|item| is_op(&item.id(), &op)) else {
                continue;
            };
            // A plain item comes back as itself.
            let Some(value) = at.item_written(&list, place) else { continue };
            let left: Vec<ObjId> =
                doc.list_range_at(&list, .., &self.after).map(|item| item.id()).collect();
            let stays = |item: &automerge::iter::ListRangeItem<'_>| left.contains(&item.id());
            let index = items[..place].iter().filter(|item| stays(item)).count();
            self.items.push(Item { list, index, place, value });
        }
        self.items.sort_by_key(|item| std::cmp::Reverse((item.index, item.place)));
    }

    /// Writes it.
    ///
    /// # Errors
    /// As [`write`](super::write).
    pub(crate) fn write(
        &self,
        doc: &mut Automerge,
        document: &DocumentId,
        options: &WriteOptions<'_>,
    ) -> Result<Vec<Change>, WriteError> {
        let base = older_heads(doc, Some(&self.after))?;
        let mut plan = Plan::new(doc, document, base.as_deref(), None, options.marks);
        for Splice { text, index, delete, insert, .. } in &self.splices {
            let text = plan.tree.known_node(text, ValueKind::Text);
            plan.splice(text, *index, *delete, insert);
        }
        for Count { object, prop, by } in &self.counts {
            let (kind, place) = match prop {
                Prop::Map(_) => (ValueKind::Map, prop),
                Prop::Seq(_) => (ValueKind::List, prop),
            };
            let node = plan.tree.known_node(object, kind);
            let place = match place {
                Prop::Map(key) => Place::new(node, key.as_str()),
                Prop::Seq(index) => Place::new(node, *index),
            };
            plan.increment(&place, *by, &Path::ROOT)?;
        }
        for Item { list, index, value, .. } in &self.items {
            let node = plan.tree.known_node(list, ValueKind::List);
            plan.insert(node, *index, value, &Path::ROOT)?;
        }
        let edit = plan.finish();
        write_planned(doc, &edit, base, options)
    }
}

fn id(object: &Object) -> ObjId {
    match object {
        Object::Root => ObjId::Root,
        Object::Id(id) => ObjId::Id(id.0, id.1.clone(), 0),
    }
}

fn is_op(id: &ObjId, op: &automerge::legacy::OpId) -> bool {
    matches!(id, ObjId::Id(counter, actor, _) if *counter == op.0 && *actor == op.1)
}
