//! The operations for writing, inserting or removing one value, which depend on the kind of value
//! that the document has there.

use automerge::{ObjId, ObjType, ROOT, ScalarValue};
use rejoin_core::change::ContainerKind;
use serde_json::{Map, Value};

use super::carry_out::{Action, value_bytes};
use super::plan::Plan;
use super::text::byte_index;
use super::tree::{NodeId, Object, Place, Slot};
use super::{KEY_BYTES_MAX, OPS_PER_CHANGE, VALUE_BYTES_MAX, ValueKind, WriteError};
use crate::diff::{diff_at, text_edits};
use crate::value::{At, Found, plain, same, to_scalar};
use rejoin_core::limits::DEPTH_MAX;
use rejoin_core::{Path, Segment};

/// Writing a value.
impl Plan<'_> {
    pub(super) fn set(
        &mut self,
        place: Place,
        before: Option<&Value>,
        after: &Value,
        path: &Path,
    ) -> Result<(), WriteError> {
        match self.tree.slot(&place) {
            // Null at a key without a value says nothing, and would stand in the way of a
            // container.
            None if after.is_null() => Ok(()),
            None => self.create(&place, after, path),
            Some(Slot::Scalar(old)) => self.set_scalar(&place, &old, after, path),
            Some(Slot::Hidden(_)) => self.set_scalar(&place, &Value::Null, after, path),
            Some(Slot::Counter { count, .. }) => {
                self.set_counter(&place, count, before, after, path)
            }
            Some(Slot::Node(node)) => self.set_node(&place, node, before, after, path),
        }
    }

    /// Writes the differences of a map or list into it. It is compared with the value that the
    /// editor saw, or, if they saw none, with the value that is there.
    pub(super) fn set_contents(
        &mut self,
        node: NodeId,
        before: Option<&Value>,
        after: &Value,
        path: &Path,
    ) -> Result<(), WriteError> {
        if self.tree.depth(node) > DEPTH_MAX {
            return Err(WriteError::Depth { path: path.clone(), max: DEPTH_MAX });
        }
        self.revive(node, path)?;
        let seen = before.cloned().unwrap_or_else(|| self.tree.json(node));
        let kind = ValueKind::of(after);
        let seen = if ValueKind::of(&seen) == kind { seen } else { empty_of(kind) };
        for op in diff_at(path, &seen, after) {
            self.add(&op)?;
        }
        Ok(())
    }

    fn set_scalar(
        &mut self,
        place: &Place,
        old: &Value,
        after: &Value,
        path: &Path,
    ) -> Result<(), WriteError> {
        match to_scalar(after) {
            Some(_) if same(old, after) => Ok(()),
            Some(scalar) => {
                self.put(place, scalar, after, path)?;
                self.delete_twins(place, old);
                Ok(())
            }
            None if old.is_null() => self.create(place, after, path),
            None => match (ValueKind::of(after), old) {
                (ValueKind::Text, Value::String(old)) if place.index().is_none() => {
                    let node = self.convert(place, old, path)?;
                    self.set_node(place, node, None, after, path)
                }
                _ => self.set_other(place, ValueKind::Scalar, after, path),
            },
        }
    }

    /// Counts the difference to the value that the editor saw.
    fn set_counter(
        &mut self,
        place: &Place,
        count: i64,
        before: Option<&Value>,
        after: &Value,
        path: &Path,
    ) -> Result<(), WriteError> {
        let Some(wanted) = plain(after).as_i64() else {
            return self.set_other(place, ValueKind::Counter, after, path);
        };
        let seen = before.and_then(|before| plain(before).as_i64()).unwrap_or(count);
        match wanted.checked_sub(seen) {
            Some(by) => self.increment(place, by, path),
            None => Err(WriteError::CounterRange { path: path.clone() }),
        }
    }

    fn set_node(
        &mut self,
        place: &Place,
        node: NodeId,
        before: Option<&Value>,
        after: &Value,
        path: &Path,
    ) -> Result<(), WriteError> {
        let kind = self.tree.kind(node);
        match (kind, &*plain(after)) {
            (ValueKind::Text, Value::String(text)) => self.set_text(node, before, text, path),
            _ if kind != ValueKind::Text && ValueKind::of(after) == kind => {
                self.set_contents(node, before, after, path)
            }
            _ => self.set_other(place, kind, after, path),
        }
    }

    /// Writes the characters that differ.
    fn set_text(
        &mut self,
        text: NodeId,
        before: Option<&Value>,
        after: &str,
        path: &Path,
    ) -> Result<(), WriteError> {
        let content = self.tree.text(text).to_owned();
        if let Some(before) = before
            && let Value::String(seen) = &*plain(before)
            && *seen != content
        {
            return Err(WriteError::Mismatch { path: path.clone() });
        }
        for edit in text_edits(&content, after) {
            self.splice(text, edit.index, edit.delete, &edit.insert);
        }
        Ok(())
    }

    /// Writes a value that the one at the place cannot become. A list item makes room for it; at a
    /// key only null is understood, and empties the container there.
    fn set_other(
        &mut self,
        place: &Place,
        found: ValueKind,
        after: &Value,
        path: &Path,
    ) -> Result<(), WriteError> {
        if let Some(index) = place.index() {
            self.remove(place, path)?;
            return self.insert(place.node, index, after, path);
        }
        if after.is_null() {
            return self.remove(place, path);
        }
        Err(wrong_kind(path, found, ValueKind::of(after)))
    }
}

/// Making containers and counters at places without a value.
impl Plan<'_> {
    /// Inserts an item before the one at `index`, which counts removed ones, too.
    pub(super) fn insert(
        &mut self,
        list: NodeId,
        index: usize,
        value: &Value,
        path: &Path,
    ) -> Result<(), WriteError> {
        let place = Place::new(list, index);
        let kind = ValueKind::of(value);
        if !matches!(kind, ValueKind::Scalar | ValueKind::Counter) {
            let node = self.make_item(&place, kind, path)?;
            return self.fill(node, value, path);
        }
        let count = plain(value).as_i64().unwrap_or(0);
        let (slot, scalar) = match to_scalar(value) {
            Some(scalar) => (Slot::Scalar(plain(value).into_owned()), scalar),
            None => (Slot::Counter { count, birth: None }, ScalarValue::counter(count)),
        };
        check_value(&scalar, path)?;
        self.tree.insert(list, index, slot);
        self.actions.push(Action::Insert { list, index, value: scalar });
        Ok(())
    }

    /// Makes a container at a key that holds no container, or in the place of an item that is
    /// null.
    pub(super) fn make(
        &mut self,
        place: &Place,
        kind: ValueKind,
        path: &Path,
    ) -> Result<NodeId, WriteError> {
        let Segment::Key(key) = &place.segment else {
            self.remove(place, path)?;
            return self.make_item(place, kind, path);
        };
        self.check_depth(place, path)?;
        check_key(key, path)?;
        let parent = self.tree.object(place.node);
        let birth = born(kind).and_then(|kind| self.births.add(parent, key, kind));
        let object = birth.map_or(Object::Made, Object::Born);
        let node = self.tree.add(object, kind, place.node);
        match birth {
            Some(_) => self.clear(place),
            None => self.make_ordinarily(place, false, kind, node),
        }
        self.tree.set(place, Some(Slot::Node(node)));
        Ok(node)
    }

    /// Makes a text of the plain one at a key, by the change that every device would make of it.
    pub(super) fn convert(
        &mut self,
        place: &Place,
        text: &str,
        path: &Path,
    ) -> Result<NodeId, WriteError> {
        let refused = || wrong_kind(path, ValueKind::Scalar, ValueKind::Text);
        let Segment::Key(key) = &place.segment else { return Err(refused()) };
        if text.chars().count() >= OPS_PER_CHANGE {
            return Err(WriteError::LongText { path: path.clone(), max: OPS_PER_CHANGE });
        }
        let op = match self.tree.plain(place).as_slice() {
            [] => return Err(refused()),
            // Of equal ones the last stands, and the text holds them all.
            values if values.iter().all(|(value, _)| value == text) => last(values),
            // Of several different values none is made a text: the others would be out of sight.
            _ => return Err(WriteError::Several { path: path.clone() }),
        };
        // A value that this very edit wrote is in no change yet.
        let is_new = self.written.contains(place);
        let parent = self.tree.object(place.node);
        let number = (!is_new).then(|| self.births.convert(parent, key, text, &op)).flatten();
        let object = Object::Born(number.ok_or_else(refused)?);
        let node = self.tree.add_text(object, text, place.node);
        self.tree.set(place, Some(Slot::Node(node)));
        Ok(node)
    }

    /// Makes a counter at a place without a value, or with null.
    pub(super) fn make_counter(
        &mut self,
        place: &Place,
        count: i64,
        path: &Path,
    ) -> Result<(), WriteError> {
        let parent = self.tree.object(place.node);
        let birth = match &place.segment {
            Segment::Index(_) => None,
            Segment::Key(key) => {
                check_key(key, path)?;
                self.births.add(parent, key, ContainerKind::Counter)
            }
        };
        if birth.is_none() {
            let (place, value) = (place.clone(), ScalarValue::counter(count));
            self.tree.set(&place, Some(Slot::Counter { count, birth }));
            self.actions.push(Action::Put { place, value });
            return Ok(());
        }
        self.clear(place);
        self.tree.set(place, Some(Slot::Counter { count: 0, birth }));
        self.increment(place, count, path)
    }

    /// Writes a value where no container is.
    fn create(&mut self, place: &Place, value: &Value, path: &Path) -> Result<(), WriteError> {
        if let Some(scalar) = to_scalar(value) {
            return self.put(place, scalar, value, path);
        }
        if ValueKind::of(value) == ValueKind::Counter {
            return self.make_counter(place, plain(value).as_i64().unwrap_or(0), path);
        }
        let node = self.make(place, ValueKind::of(value), path)?;
        self.fill(node, value, path)
    }

    fn make_item(
        &mut self,
        place: &Place,
        kind: ValueKind,
        path: &Path,
    ) -> Result<NodeId, WriteError> {
        self.check_depth(place, path)?;
        let node = self.tree.add(Object::Made, kind, place.node);
        self.make_ordinarily(place, true, kind, node);
        if let Segment::Index(index) = place.segment {
            self.tree.insert(place.node, index, Slot::Node(node));
        }
        Ok(node)
    }

    fn make_ordinarily(&mut self, place: &Place, as_item: bool, kind: ValueKind, node: NodeId) {
        let kind = match kind {
            ValueKind::Text => ObjType::Text,
            ValueKind::List => ObjType::List,
            ValueKind::Map | ValueKind::Scalar | ValueKind::Counter => ObjType::Map,
        };
        self.actions.push(Action::Make { place: place.clone(), as_item, kind, node });
    }

    /// Writes the content of a container that was just made.
    fn fill(&mut self, node: NodeId, value: &Value, path: &Path) -> Result<(), WriteError> {
        match &*plain(value) {
            Value::String(text) => self.splice(node, 0, 0, text),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.insert(node, index, item, &path.join(index))?;
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    let place = Place::new(node, key.as_str());
                    self.set(place, None, value, &path.join(key.as_str()))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Sees to it that a birth finds no value at its key: it overwrites nothing, and a value put
    /// there could show instead of it. Deleting that value after the birth would delete both.
    fn clear(&mut self, place: &Place) {
        if self.written.remove(place) {
            let here = |action: &Action| match action {
                Action::Put { place: at, .. } | Action::Delete { place: at } => at == place,
                _ => false,
            };
            self.actions.retain(|action| !here(action));
        }
        if self.tree.find(place).is_some() {
            self.clears.push(Action::Delete { place: place.clone() });
        }
    }

    fn check_depth(&self, place: &Place, path: &Path) -> Result<(), WriteError> {
        if self.tree.depth(place.node) < DEPTH_MAX {
            return Ok(());
        }
        Err(WriteError::Depth { path: path.clone(), max: DEPTH_MAX })
    }
}

/// Removing.
impl Plan<'_> {
    pub(super) fn remove(&mut self, place: &Place, path: &Path) -> Result<(), WriteError> {
        let Some(slot) = self.tree.slot(place) else { return Ok(()) };
        match slot {
            Slot::Node(node) if self.tree.kind(node) == ValueKind::Map => {
                return self.set(
                    Place::new(node, self.tree.marks().removed),
                    None,
                    &Value::Bool(true),
                    path,
                );
            }
            Slot::Node(node) if place.index().is_none() => return self.empty(node, path),
            Slot::Counter { count, .. } if place.index().is_none() => {
                let Some(by) = count.checked_neg() else {
                    return Err(WriteError::CounterRange { path: path.clone() });
                };
                return self.increment(place, by, path);
            }
            Slot::Scalar(value) => {
                self.delete(place);
                self.delete_twins(place, &value);
            }
            Slot::Counter { .. } | Slot::Hidden(_) | Slot::Node(_) => self.delete(place),
        }
        Ok(())
    }

    /// Deletes the hidden items of a set that are equal to one that goes; they would show
    /// otherwise.
    fn delete_twins(&mut self, place: &Place, value: &Value) {
        if place.index().is_none() {
            return;
        }
        let items = self.tree.items(place.node).iter().enumerate();
        let twins =
            items.filter(|(_, item)| matches!(item, Slot::Hidden(Some(twin)) if twin == value));
        let twins: Vec<usize> = twins.map(|(index, _)| index).collect();
        for index in twins.into_iter().rev() {
            self.delete(&Place::new(place.node, index));
        }
    }

    /// Writes again into a map that was removed.
    pub(super) fn revive(&mut self, node: NodeId, path: &Path) -> Result<(), WriteError> {
        if self.tree.is_removed(node) {
            self.remove(&Place::new(node, self.tree.marks().removed), path)?;
        }
        Ok(())
    }

    /// Empties a text or list.
    fn empty(&mut self, node: NodeId, path: &Path) -> Result<(), WriteError> {
        if self.tree.kind(node) == ValueKind::Text {
            let len = self.tree.text_len(node);
            self.splice(node, 0, len, "");
            return Ok(());
        }
        for index in (0..self.tree.items(node).len()).rev() {
            let place = Place::new(node, index);
            if !self.is_removed_item(&place) {
                self.remove(&place, path)?;
            }
        }
        Ok(())
    }

    fn is_removed_item(&mut self, place: &Place) -> bool {
        match self.tree.slot(place) {
            Some(Slot::Node(item)) => self.tree.is_removed(item),
            _ => false,
        }
    }

    fn delete(&mut self, place: &Place) {
        self.tree.set(place, None);
        self.note(place);
        self.actions.push(Action::Delete { place: place.clone() });
    }
}

/// The calls of Automerge.
impl Plan<'_> {
    pub(super) fn increment(
        &mut self,
        place: &Place,
        by: i64,
        path: &Path,
    ) -> Result<(), WriteError> {
        let Some(Slot::Counter { count, birth }) = self.tree.slot(place) else { return Ok(()) };
        let Some(count) = count.checked_add(by) else {
            return Err(WriteError::CounterRange { path: path.clone() });
        };
        if by != 0 {
            self.tree.set(place, Some(Slot::Counter { count, birth }));
            self.actions.push(Action::Increment { place: place.clone(), by, birth });
        }
        Ok(())
    }

    pub(super) fn splice_checked(
        &mut self,
        text: NodeId,
        index: usize,
        delete: usize,
        insert: &str,
        path: &Path,
    ) -> Result<(), WriteError> {
        let len = self.tree.text_len(text);
        if index > len || delete > len - index {
            return Err(WriteError::NoCharacters { path: path.clone(), index, delete, len });
        }
        self.splice(text, index, delete, insert);
        Ok(())
    }

    /// Replaces characters that are there; in pieces, so that a long text fits into changes.
    pub(super) fn splice(&mut self, text: NodeId, index: usize, delete: usize, insert: &str) {
        self.tree.splice(text, index, delete, insert);
        let mut left = delete;
        while left > 0 {
            let delete = left.min(OPS_PER_CHANGE);
            self.actions.push(Action::Splice { text, index, delete, insert: String::new() });
            left -= delete;
        }
        let (mut index, mut rest) = (index, insert);
        while !rest.is_empty() {
            let (insert, after) = rest.split_at(byte_index(rest, OPS_PER_CHANGE));
            let insert = insert.to_owned();
            let chars = insert.chars().count();
            self.actions.push(Action::Splice { text, index, delete: 0, insert });
            (index, rest) = (index + chars, after);
        }
    }

    fn put(
        &mut self,
        place: &Place,
        scalar: ScalarValue,
        value: &Value,
        path: &Path,
    ) -> Result<(), WriteError> {
        if let Segment::Key(key) = &place.segment {
            check_key(key, path)?;
        }
        check_value(&scalar, path)?;
        self.tree.set(place, Some(Slot::Scalar(plain(value).into_owned())));
        self.note(place);
        self.actions.push(Action::Put { place: place.clone(), value: scalar });
        Ok(())
    }

    /// Only keys: an index soon means another item.
    fn note(&mut self, place: &Place) {
        if place.index().is_none() {
            self.written.insert(place.clone());
        }
    }

    pub(super) fn kind_of(&self, slot: &Slot) -> ValueKind {
        match slot {
            Slot::Scalar(_) | Slot::Hidden(_) => ValueKind::Scalar,
            Slot::Counter { .. } => ValueKind::Counter,
            Slot::Node(node) => self.tree.kind(*node),
        }
    }
}

pub(super) fn wrong_kind(path: &Path, found: ValueKind, wanted: ValueKind) -> WriteError {
    WriteError::Kind { path: path.clone(), found, wanted }
}

/// The container that is born for a value of this kind; `None` for a scalar.
fn born(kind: ValueKind) -> Option<ContainerKind> {
    match kind {
        ValueKind::Scalar => None,
        ValueKind::Counter => Some(ContainerKind::Counter),
        ValueKind::Text => Some(ContainerKind::Text),
        ValueKind::List => Some(ContainerKind::List),
        ValueKind::Map => Some(ContainerKind::Map),
    }
}

/// A map from another program may look like a marker, and then compares with no map.
fn empty_of(kind: ValueKind) -> Value {
    if kind == ValueKind::List { Value::Array(Vec::new()) } else { Value::Object(Map::new()) }
}

fn check_value(scalar: &ScalarValue, path: &Path) -> Result<(), WriteError> {
    check_bytes("value", value_bytes(scalar), VALUE_BYTES_MAX, path)
}

/// The path of a key that is too long is too long for an error, so its map is named.
fn check_key(key: &str, path: &Path) -> Result<(), WriteError> {
    let around = path.segments().split_last().map_or(&[][..], |(_, around)| around);
    let around = around.iter().cloned().collect();
    check_bytes("key", key.len(), KEY_BYTES_MAX, &around)
}

fn check_bytes(what: &'static str, len: usize, max: usize, path: &Path) -> Result<(), WriteError> {
    if len <= max {
        return Ok(());
    }
    Err(WriteError::TooLarge { what, path: path.clone(), len, max })
}

/// The operation that Automerge shows of several.
fn last(values: &[(Value, ObjId)]) -> ObjId {
    let by_op = |id: &&ObjId| match id {
        ObjId::Root => (0, Vec::new()),
        ObjId::Id(counter, actor, _) => (*counter, actor.to_bytes().to_vec()),
    };
    values.iter().map(|(_, id)| id).max_by_key(by_op).cloned().unwrap_or(ObjId::Root)
}

/// Whether the value at a path is a text that merges, or a plain text that can become one so as to
/// hold `text`.
pub(crate) fn may_convert(at: At<'_>, path: &Path, text: &str) -> bool {
    let Some((Segment::Key(key), around)) = path.segments().split_last() else { return false };
    let mut map = ROOT;
    for segment in around {
        let Segment::Key(key) = segment else { return false };
        match at.find(&map, key.as_str()) {
            Some(Found::Object(ObjType::Map, id)) => map = id,
            _ => return false,
        }
    }
    match at.find(&map, key.as_str()) {
        Some(Found::Object(ObjType::Text, _)) => true,
        Some(Found::Scalar(Value::String(old))) => {
            let values = at.plain(&map, key);
            let is_it = |(value, _): &(Value, ObjId)| *value == old.as_str();
            let is_short = |text: &str| text.chars().count() < OPS_PER_CHANGE;
            !values.is_empty() && values.iter().all(is_it) && is_short(&old) && old != text
        }
        _ => false,
    }
}
