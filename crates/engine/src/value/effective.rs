//! The values of a document that are not those that Automerge shows.

use std::collections::BTreeMap;

use automerge::ObjId;
use rejoin_core::ActorId;
use rejoin_core::change::ObjectId;
use rejoin_core::lineage::{Lineage, Reading, Standing, Step};
use serde_json::Value;

/// The effective values of fields with several open values, and the items of sets that do not show.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Effective {
    keys: BTreeMap<Object, BTreeMap<String, Option<Value>>>,
    items: BTreeMap<(u64, ActorId), Item>,
    /// For a caller that edits the document, the values that people see at keys where no value
    /// counts.
    uncounted: BTreeMap<Object, BTreeMap<String, Value>>,
}

/// The operation that made a container; none for the document itself.
type Object = Option<(u64, ActorId)>;

/// A list item that does not read as Automerge shows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    /// It has this value.
    Value(Value),
    /// It does not show.
    Hidden,
    /// It does not show, as another item with its value does.
    Twin,
}

impl Effective {
    /// The values that people see.
    pub(crate) fn seen(lineage: &Lineage, standings: &[Standing]) -> Self {
        Self::new(lineage, standings, Reading::Seen, Reading::Seen)
    }

    /// The values that count.
    pub(crate) fn agreed(lineage: &Lineage, standings: &[Standing]) -> Self {
        Self::new(lineage, standings, Reading::Agreed, Reading::Agreed)
    }

    /// The values as an edit takes them: items are counted as they are seen, but a field whose
    /// value does not count yet can be given the very value that is seen.
    pub(crate) fn for_edit(lineage: &Lineage, standings: &[Standing]) -> Self {
        Self::new(lineage, standings, Reading::Agreed, Reading::Seen)
    }

    fn new(lineage: &Lineage, standings: &[Standing], keys: Reading, items: Reading) -> Self {
        let mut effective = Self::default();
        for standing in standings.iter().filter(|standing| !standing.holds_container) {
            match standing.place.0.last() {
                Some(Step::Key(key)) => {
                    let object = object(&standing.object);
                    let (seen, read) = (standing.read(items), standing.read(keys));
                    if let (Some(seen), None) = (seen, read) {
                        let uncounted = effective.uncounted.entry(object.clone()).or_default();
                        uncounted.insert(key.clone(), seen.clone());
                    }
                    let keys = effective.keys.entry(object).or_default();
                    keys.insert(key.clone(), read.cloned());
                }
                Some(Step::Item { .. }) => {
                    let item = standing.read(items).cloned().map_or(Item::Hidden, Item::Value);
                    let ops = standing.ops.iter().cloned();
                    effective.items.extend(ops.map(|op| (op, item.clone())));
                }
                None => {}
            }
        }
        let twins = lineage.twins(items).into_iter().flat_map(|twins| twins.items);
        effective.items.extend(twins.flatten().map(|op| (op, Item::Twin)));
        effective
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.items.is_empty()
    }

    /// The values at keys of a map that are not those that Automerge shows.
    pub(super) fn keys(&self, map: &ObjId) -> Option<&BTreeMap<String, Option<Value>>> {
        if self.keys.is_empty() { None } else { self.keys.get(&named(map)) }
    }

    /// The value that people see at a key where no value counts.
    pub(super) fn uncounted(&self, map: &ObjId, key: &str) -> Option<&Value> {
        if self.uncounted.is_empty() { None } else { self.uncounted.get(&named(map))?.get(key) }
    }

    /// The value of the list item that Automerge names by this id.
    pub(super) fn item(&self, id: &ObjId) -> Option<&Item> {
        if self.items.is_empty() { None } else { self.items.get(&named(id)?) }
    }
}

fn object(id: &ObjectId) -> Object {
    match id {
        ObjectId::Root => None,
        ObjectId::Op { counter, actor } => Some((*counter, actor.clone())),
    }
}

fn named(id: &ObjId) -> Object {
    match id {
        ObjId::Root => None,
        ObjId::Id(counter, actor, _) => Some((*counter, ActorId(actor.to_bytes().to_vec()))),
    }
}
