//! The plan of an edit: its steps, applied to a document that is only read.

use std::collections::BTreeSet;

use automerge::{Automerge, ChangeHash};
use serde_json::Value;

use super::births::Births;
use super::carry_out::{Action, Edit};
use super::set::wrong_kind;
use super::tree::{NodeId, Place, ROOT_NODE, Slot, Tree};
use super::{ValueKind, WriteError};
use crate::diff::Op;
use crate::value::{At, Effective};
use rejoin_core::limits::DEPTH_MAX;
use rejoin_core::lineage::Marks;
use rejoin_core::{DocumentId, Path, Segment};

/// An edit as far as its steps were added. Nothing is written yet.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) tree: Tree<'a>,
    pub(super) births: Births<'a>,
    pub(super) clears: Vec<Action>,
    pub(super) actions: Vec<Action>,
    /// Places where this edit put or deleted a scalar.
    pub(super) written: BTreeSet<Place>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        doc: &'a Automerge,
        document: &DocumentId,
        base: Option<&'a [ChangeHash]>,
        effective: Option<&'a Effective>,
        marks: &'static Marks,
    ) -> Self {
        Self {
            tree: Tree::new(At::new(doc, base, marks).with(effective)),
            births: Births::new(doc, *document, base),
            clears: Vec::new(),
            actions: Vec::new(),
            written: BTreeSet::new(),
        }
    }

    pub(super) fn finish(self) -> Edit {
        Edit {
            objects: self.tree.into_objects(),
            births: self.births.into_births(),
            clears: self.clears,
            actions: self.actions,
        }
    }

    /// Adds one step, on top of those before.
    pub(super) fn add(&mut self, op: &Op) -> Result<(), WriteError> {
        match op {
            Op::Set { path, before, after } => self.set_path(path, before.as_ref(), after),
            Op::Remove { path } => self.remove_path(path),
            Op::Insert { path, index, value } => {
                let list = self.make_path(path, ValueKind::List)?;
                let place = self.document_index(list, *index, path)?;
                self.insert(list, place, value, &path.join(*index))
            }
            Op::RemoveAt { path, index } => self.remove_path(&path.join(*index)),
            Op::Splice { path, index, delete, insert } => {
                let text = self.make_path(path, ValueKind::Text)?;
                self.splice_checked(text, *index, *delete, insert, path)
            }
            Op::Append { path, text: insert } => {
                let text = self.make_path(path, ValueKind::Text)?;
                let end = self.tree.text_len(text);
                self.splice(text, end, 0, insert);
                Ok(())
            }
            Op::Increment { path, by } => self.increment_path(path, *by),
            Op::Delete => {
                let place = Place::new(ROOT_NODE, self.tree.marks().deleted);
                self.set(place, None, &Value::Bool(true), &Path::ROOT)
            }
            Op::Restore => {
                let place = Place::new(ROOT_NODE, self.tree.marks().deleted);
                self.remove(&place, &Path::ROOT)
            }
        }
    }

    /// Refuses names by which a document says that something was removed: an author who used one
    /// for a field would see things vanish.
    pub(super) fn check_names(&self, op: &Op) -> Result<(), WriteError> {
        let marks = self.tree.marks();
        let is_taken = |depth: usize, key: &str| match depth {
            0 => key == marks.deleted,
            _ => key == marks.removed,
        };
        let holds_more = |value: &Value| value.is_object() || value.is_array();
        let refused = |path: Path| Err(WriteError::Reserved { path });
        let mut at = Path::ROOT;
        for (depth, segment) in op.path().segments().iter().enumerate() {
            at = at.join(segment.clone());
            if let Segment::Key(key) = segment
                && is_taken(depth, key)
            {
                return refused(at);
            }
        }
        let mut values: Vec<(Path, &Value)> =
            op.value().map(|value| (at, value)).into_iter().collect();
        while let Some((path, value)) = values.pop() {
            match value {
                Value::Object(map) => {
                    for (key, value) in map {
                        if is_taken(path.segments().len(), key) {
                            return refused(path.join(key.as_str()));
                        }
                        if holds_more(value) {
                            values.push((path.join(key.as_str()), value));
                        }
                    }
                }
                Value::Array(items) => {
                    let items = items.iter().enumerate().filter(|(_, item)| holds_more(item));
                    values.extend(items.map(|(index, item)| (path.join(index), item)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn set_path(
        &mut self,
        path: &Path,
        before: Option<&Value>,
        after: &Value,
    ) -> Result<(), WriteError> {
        if path.is_root() {
            return match ValueKind::of(after) {
                ValueKind::Map => self.set_contents(ROOT_NODE, before, after, path),
                wanted => {
                    Err(WriteError::Kind { path: path.clone(), found: ValueKind::Map, wanted })
                }
            };
        }
        match self.find_place(path, !after.is_null())? {
            Some(place) => self.set(place, before, after, path),
            None => Ok(()),
        }
    }

    fn remove_path(&mut self, path: &Path) -> Result<(), WriteError> {
        if path.is_root() {
            return Err(WriteError::Root);
        }
        match self.find_place(path, false)? {
            Some(place) => self.remove(&place, path),
            None => Ok(()),
        }
    }

    fn increment_path(&mut self, path: &Path, by: i64) -> Result<(), WriteError> {
        if path.is_root() {
            return Err(wrong_kind(path, ValueKind::Map, ValueKind::Counter));
        }
        let Some(place) = self.find_place(path, true)? else { return Ok(()) };
        match self.tree.slot(&place) {
            Some(Slot::Counter { .. }) => self.increment(&place, by, path),
            None | Some(Slot::Scalar(Value::Null)) => self.make_counter(&place, by, path),
            Some(slot) => Err(wrong_kind(path, self.kind_of(&slot), ValueKind::Counter)),
        }
    }

    /// The place a path ends in. Absent maps on the way are made if `make`; otherwise there is no
    /// such place.
    fn find_place(&mut self, path: &Path, make: bool) -> Result<Option<Place>, WriteError> {
        let Some((last, around)) = path.segments().split_last() else { return Ok(None) };
        let Some(node) = self.find_node(path, around.len(), kind_around(last), make)? else {
            return Ok(None);
        };
        self.place(node, path, around.len()).map(Some)
    }

    /// The container of `kind` at `path`, which is made if it is absent.
    fn make_path(&mut self, path: &Path, kind: ValueKind) -> Result<NodeId, WriteError> {
        let node = self.find_node(path, path.segments().len(), kind, true)?;
        Ok(node.unwrap_or(ROOT_NODE))
    }

    /// The container of `kind` after the first `len` steps of a path.
    fn find_node(
        &mut self,
        path: &Path,
        len: usize,
        kind: ValueKind,
        make: bool,
    ) -> Result<Option<NodeId>, WriteError> {
        if len > DEPTH_MAX {
            return Err(WriteError::Depth { path: path.clone(), max: DEPTH_MAX });
        }
        let mut node = ROOT_NODE;
        for step in 0..len {
            let wanted = match path.segments().get(step + 1) {
                Some(next) if step + 1 < len => kind_around(next),
                _ => kind,
            };
            let Some(next) = self.step_into(node, path, step, wanted, make)? else {
                return Ok(None);
            };
            node = next;
        }
        if self.tree.kind(node) == kind {
            Ok(Some(node))
        } else {
            Err(wrong_kind(&prefix(path, len), self.tree.kind(node), kind))
        }
    }

    /// The container that one step of a path leads to. A removed map is as good as absent; if
    /// something is to be written in it, it comes back with its content.
    fn step_into(
        &mut self,
        node: NodeId,
        path: &Path,
        step: usize,
        wanted: ValueKind,
        make: bool,
    ) -> Result<Option<NodeId>, WriteError> {
        let here = prefix(path, step + 1);
        if self.tree.kind(node) != kind_around(&path.segments()[step]) {
            let wanted = kind_around(&path.segments()[step]);
            return Err(wrong_kind(&prefix(path, step), self.tree.kind(node), wanted));
        }
        let place = self.place(node, path, step)?;
        match self.tree.slot(&place) {
            Some(Slot::Node(child)) if self.tree.kind(child) == wanted => {
                if make {
                    self.revive(child, &here)?;
                }
                Ok(Some(child).filter(|child| make || !self.tree.is_removed(*child)))
            }
            None | Some(Slot::Scalar(Value::Null)) => {
                if make {
                    // An author with the right who appends to the value they see has decided that
                    // it counts.
                    if let (ValueKind::Text, Some(Value::String(text))) =
                        (wanted, self.tree.uncounted(&place))
                    {
                        return self.convert(&place, &text, &here).map(Some);
                    }
                    self.make(&place, wanted, &here).map(Some)
                } else {
                    Ok(None)
                }
            }
            Some(Slot::Scalar(Value::String(text))) if make && wanted == ValueKind::Text => {
                self.convert(&place, &text, &here).map(Some)
            }
            Some(slot) => Err(wrong_kind(&here, self.kind_of(&slot), wanted)),
        }
    }

    /// The place of one step of a path in the node it starts from.
    fn place(&mut self, node: NodeId, path: &Path, step: usize) -> Result<Place, WriteError> {
        let segment = &path.segments()[step];
        let Segment::Index(index) = *segment else { return Ok(Place::new(node, segment.clone())) };
        let list = prefix(path, step);
        let at = self.document_index(node, index, &list)?;
        if at == self.tree.items(node).len() {
            return Err(WriteError::NoItem { path: list, index, len: index });
        }
        Ok(Place::new(node, at))
    }

    fn document_index(
        &mut self,
        list: NodeId,
        index: usize,
        path: &Path,
    ) -> Result<usize, WriteError> {
        self.tree.document_index(list, index).map_err(|len| WriteError::NoItem {
            path: path.clone(),
            index,
            len,
        })
    }
}

/// The kind of container that a step leads into.
fn kind_around(segment: &Segment) -> ValueKind {
    match segment {
        Segment::Key(_) => ValueKind::Map,
        Segment::Index(_) => ValueKind::List,
    }
}

fn prefix(path: &Path, len: usize) -> Path {
    path.segments().iter().take(len).cloned().collect()
}
