//! The document as the steps of an edit change it, before anything is written.

use std::collections::BTreeMap;

use automerge::{ObjId, ObjType, ROOT};
use serde_json::Value;

use super::ValueKind;
use super::text::Text;
use crate::value::{At, Found};
use rejoin_core::Segment;
use rejoin_core::lineage::Marks;

/// A map, list or text in a [`Tree`].
pub(super) type NodeId = usize;

/// The document itself.
pub(super) const ROOT_NODE: NodeId = 0;

/// A key of a map or an index of a list. Indices count removed items, too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) node: NodeId,
    pub(super) segment: Segment,
}

impl Place {
    pub(super) fn new(node: NodeId, segment: impl Into<Segment>) -> Self {
        Self { node, segment: segment.into() }
    }

    /// The index, if it is a list item's.
    pub(super) fn index(&self) -> Option<usize> {
        match self.segment {
            Segment::Key(_) => None,
            Segment::Index(index) => Some(index),
        }
    }
}

/// The value at a place.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Slot {
    Scalar(Value),
    Counter {
        count: i64,
        /// The number of its birth, if this edit makes it.
        birth: Option<usize>,
    },
    Node(NodeId),
    /// A list item that does not show; a twin with its value.
    Hidden(Option<Value>),
}

/// The origin of a container.
#[derive(Debug, Clone)]
pub(super) enum Object {
    /// It is in the document.
    Known(ObjId),
    /// It is made by the birth with this number.
    Born(usize),
    /// It is made inside an ordinary change.
    Made,
}

#[derive(Debug)]
struct Node {
    object: Object,
    /// Maps and lists around it.
    depth: usize,
    /// Whether it is a map that holds `removed: true`.
    removed: bool,
    body: Body,
}

/// Read from the document when it is first needed.
#[derive(Debug)]
enum Body {
    /// The keys that were read or written so far; `None` for a key without a value.
    Map(BTreeMap<String, Option<Slot>>),
    List(Option<Vec<Slot>>),
    Text(Option<Text>),
}

/// A document at its base, read as far as an edit needs it, with the edit's steps so far.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    at: At<'a>,
    nodes: Vec<Node>,
    /// Whether a removed map or hidden item was seen at all. As long as none was, indices need no
    /// translation.
    any_removed: bool,
}

impl<'a> Tree<'a> {
    pub(super) fn new(at: At<'a>) -> Self {
        let mut tree = Self { at, nodes: Vec::new(), any_removed: false };
        tree.push(Object::Known(ROOT), Body::Map(BTreeMap::new()), 0);
        tree
    }

    /// The keys at which the document says that something was removed.
    pub(super) fn marks(&self) -> &'static Marks {
        self.at.marks()
    }

    /// Adds an empty container that this edit makes.
    pub(super) fn add(&mut self, object: Object, kind: ValueKind, parent: NodeId) -> NodeId {
        let body = match kind {
            ValueKind::Text => Body::Text(Some(Text::empty())),
            ValueKind::List => Body::List(Some(Vec::new())),
            ValueKind::Map | ValueKind::Scalar | ValueKind::Counter => Body::Map(BTreeMap::new()),
        };
        self.push(object, body, self.nodes[parent].depth + 1)
    }

    /// Adds a container that is in the document, wherever it stands.
    pub(super) fn known_node(&mut self, id: &ObjId, kind: ValueKind) -> NodeId {
        let is_it = |node: &Node| matches!(&node.object, Object::Known(known) if known == id);
        if let Some(node) = self.nodes.iter().position(is_it) {
            return node;
        }
        let body = match kind {
            ValueKind::Text => Body::Text(None),
            ValueKind::List => Body::List(None),
            ValueKind::Map | ValueKind::Scalar | ValueKind::Counter => Body::Map(BTreeMap::new()),
        };
        self.push(Object::Known(id.clone()), body, 1)
    }

    /// Adds a text that this edit makes with these characters in it.
    pub(super) fn add_text(&mut self, object: Object, text: &str, parent: NodeId) -> NodeId {
        let mut body = Text::empty();
        body.splice(0, 0, text);
        self.push(object, Body::Text(Some(body)), self.nodes[parent].depth + 1)
    }

    pub(super) fn set(&mut self, place: &Place, slot: Option<Slot>) {
        let node = &mut self.nodes[place.node];
        match (&place.segment, &mut node.body) {
            (Segment::Key(key), Body::Map(entries)) => {
                if key == self.at.marks().removed && place.node != ROOT_NODE {
                    node.removed = slot == Some(Slot::Scalar(Value::Bool(true)));
                    self.any_removed |= node.removed;
                }
                entries.insert(key.clone(), slot);
            }
            (Segment::Index(index), Body::List(Some(items))) => match slot {
                Some(slot) => items[*index] = slot,
                None => _ = items.remove(*index),
            },
            _ => {}
        }
    }

    pub(super) fn insert(&mut self, list: NodeId, index: usize, slot: Slot) {
        self.items(list).insert(index, slot);
    }

    pub(super) fn slot(&mut self, place: &Place) -> Option<Slot> {
        match &place.segment {
            Segment::Key(key) => self.entry(place.node, key),
            Segment::Index(index) => self.items(place.node).get(*index).cloned(),
        }
    }

    /// The items of a list, also removed ones.
    pub(super) fn items(&mut self, list: NodeId) -> &mut Vec<Slot> {
        if let Body::List(None) = self.nodes[list].body {
            let found = self.known(list).map(|id| self.at.items(&id)).unwrap_or_default();
            let slots = found.into_iter().map(|found| self.adopt(found, list)).collect();
            self.nodes[list].body = Body::List(Some(slots));
        }
        match &mut self.nodes[list].body {
            Body::List(Some(items)) => items,
            _ => unreachable!("only called for a list, which was just read"),
        }
    }

    /// The content of a text.
    pub(super) fn text(&mut self, text: NodeId) -> &str {
        let (at, id) = (self.at, self.known(text));
        let read = || id.and_then(|id| at.text(&id).ok()).unwrap_or_default();
        self.text_mut(text).content(read)
    }

    /// The length of a text, in code points.
    pub(super) fn text_len(&mut self, text: NodeId) -> usize {
        self.text_mut(text).len()
    }

    /// Replaces code points of a text that are there.
    pub(super) fn splice(&mut self, text: NodeId, index: usize, delete: usize, insert: &str) {
        self.text_mut(text).splice(index, delete, insert);
    }

    /// The index in the list of the visible item `index`, or the list's end for the first index
    /// after the last. Otherwise the error is the number of visible items.
    pub(super) fn document_index(&mut self, list: NodeId, index: usize) -> Result<usize, usize> {
        let len = self.items(list).len();
        if !self.any_removed {
            return if index <= len { Ok(index) } else { Err(len) };
        }
        let Body::List(Some(items)) = &self.nodes[list].body else { return Err(0) };
        let mut visible = 0;
        for (place, item) in items.iter().enumerate() {
            match item {
                Slot::Hidden(_) => {}
                Slot::Node(node) if self.nodes[*node].removed => {}
                _ if visible == index => return Ok(place),
                _ => visible += 1,
            }
        }
        if visible == index { Ok(len) } else { Err(visible) }
    }

    /// Whether it is a map, other than the root, that holds `removed: true`.
    pub(super) fn is_removed(&self, node: NodeId) -> bool {
        self.nodes[node].removed
    }

    /// The node as JSON, whether or not it is itself removed.
    pub(super) fn json(&mut self, node: NodeId) -> Value {
        match self.kind(node) {
            ValueKind::Text => Value::from(self.text(node)),
            ValueKind::List => {
                let slots = self.items(node).clone().into_iter();
                slots.filter_map(|slot| self.slot_json(slot)).collect()
            }
            _ => {
                let entries = self.entries(node).into_iter();
                let removed = self.marks().removed;
                let visible = entries
                    .filter_map(|(key, slot)| Some((key, self.slot_json(slot)?)))
                    .filter(|(key, value)| key != removed || *value != Value::Bool(true));
                Value::Object(visible.collect())
            }
        }
    }

    pub(super) fn kind(&self, node: NodeId) -> ValueKind {
        match self.nodes[node].body {
            Body::Map(_) => ValueKind::Map,
            Body::List(_) => ValueKind::List,
            Body::Text(_) => ValueKind::Text,
        }
    }

    pub(super) fn object(&self, node: NodeId) -> &Object {
        &self.nodes[node].object
    }

    pub(super) fn depth(&self, node: NodeId) -> usize {
        self.nodes[node].depth
    }

    /// The value of the document itself at a place, without this edit's steps.
    pub(super) fn find(&self, place: &Place) -> Option<Found> {
        match (&place.segment, self.known(place.node)) {
            (Segment::Key(key), Some(id)) => self.at.find(&id, key.as_str()),
            _ => None,
        }
    }

    /// The plain values that Automerge has at a key, each with the operation that wrote it. None if
    /// a container or counter is there, too.
    pub(super) fn plain(&self, place: &Place) -> Vec<(Value, ObjId)> {
        match (&place.segment, self.known(place.node)) {
            (Segment::Key(key), Some(id)) => self.at.plain(&id, key),
            _ => Vec::new(),
        }
    }

    /// A value that people see at a key and that does not count yet.
    pub(super) fn uncounted(&self, place: &Place) -> Option<Value> {
        match (&place.segment, self.known(place.node)) {
            (Segment::Key(key), Some(id)) => self.at.uncounted(&id, key).cloned(),
            _ => None,
        }
    }

    /// The origin of every container, by node.
    pub(super) fn into_objects(self) -> Vec<Object> {
        self.nodes.into_iter().map(|node| node.object).collect()
    }

    fn text_mut(&mut self, text: NodeId) -> &mut Text {
        if let Body::Text(None) = self.nodes[text].body {
            let len = self.known(text).map_or(0, |id| self.at.text_len(&id));
            self.nodes[text].body = Body::Text(Some(Text::of_len(len)));
        }
        match &mut self.nodes[text].body {
            Body::Text(Some(text)) => text,
            _ => unreachable!("only called for a text, which was just looked at"),
        }
    }

    fn entry(&mut self, map: NodeId, key: &str) -> Option<Slot> {
        if let Body::Map(entries) = &self.nodes[map].body
            && let Some(slot) = entries.get(key)
        {
            return slot.clone();
        }
        let found = self.known(map).and_then(|id| self.at.find(&id, key));
        let slot = found.map(|found| self.adopt(found, map));
        self.remember(map, key, slot.clone());
        slot
    }

    fn entries(&mut self, map: NodeId) -> Vec<(String, Slot)> {
        if let Some(id) = self.known(map) {
            for (key, _) in self.at.entries(&id) {
                self.entry(map, &key);
            }
        }
        let Body::Map(entries) = &self.nodes[map].body else { return Vec::new() };
        let present = entries.iter().filter_map(|(key, slot)| Some((key.clone(), slot.clone()?)));
        present.collect()
    }

    fn slot_json(&mut self, slot: Slot) -> Option<Value> {
        match slot {
            Slot::Scalar(value) => Some(value),
            Slot::Counter { count, .. } => Some(Value::from(count)),
            Slot::Hidden(_) => None,
            Slot::Node(node) if self.is_removed(node) => None,
            // As deep as `to_json` reads, so that it compares with the value that an editor saw.
            Slot::Node(node) if self.depth(node) > rejoin_core::limits::DEPTH_MAX => {
                Some(Value::Null)
            }
            Slot::Node(node) => Some(self.json(node)),
        }
    }

    fn remember(&mut self, map: NodeId, key: &str, slot: Option<Slot>) {
        if let Body::Map(entries) = &mut self.nodes[map].body {
            entries.insert(key.to_owned(), slot);
        }
    }

    /// A slot for a value that was read from the document in `parent`.
    fn adopt(&mut self, found: Found, parent: NodeId) -> Slot {
        let (kind, id) = match found {
            Found::Scalar(value) => return Slot::Scalar(value),
            Found::Counter(count) => return Slot::Counter { count, birth: None },
            Found::Hidden(twin) => {
                self.any_removed = true;
                return Slot::Hidden(twin);
            }
            Found::Object(kind, id) => (kind, id),
        };
        let body = match kind {
            ObjType::Text => Body::Text(None),
            ObjType::List => Body::List(None),
            ObjType::Map | ObjType::Table => Body::Map(BTreeMap::new()),
        };
        let removed = matches!(body, Body::Map(_)) && self.at.is_removed(&id);
        let node = self.push(Object::Known(id), body, self.nodes[parent].depth + 1);
        self.nodes[node].removed = removed;
        self.any_removed |= removed;
        Slot::Node(node)
    }

    fn push(&mut self, object: Object, body: Body, depth: usize) -> NodeId {
        self.nodes.push(Node { object, depth, removed: false, body });
        self.nodes.len() - 1
    }

    fn known(&self, node: NodeId) -> Option<ObjId> {
        match &self.nodes[node].object {
            Object::Known(id) => Some(id.clone()),
            Object::Born(_) | Object::Made => None,
        }
    }
}
