//! The value of a document, read off its changes: the order of lists, texts and counters are
//! Automerge's, every plain value is the fold's.

use std::cell::RefCell;
use std::collections::BTreeMap;

use automerge::{ChangeHash, ObjId, ObjType, ReadDoc, ScalarValue, Value as Stored};
use rejoin::Path;
use rejoin::history::{ActorId, FieldPath, Step};
use rejoin::value::Segment;
use rejoin_core::schema::{Rule, Schema};
use serde_json::{Map, Value, json};

use super::fold::{Choice, Fold};
use super::history::{History, Made, OpId, Place, Set, Slot, json_of};

/// What a document reads as.
#[derive(Debug)]
pub struct Read {
    /// Its value.
    pub value: Value,
    /// The list items that show, with their index.
    shown: BTreeMap<OpId, usize>,
    /// The items of each list that show, in order, by the operation that made the list.
    lists: BTreeMap<OpId, Vec<OpId>>,
}

impl Read {
    /// What a field is called: its place, if it is in an item that does not show.
    pub fn name(&self, place: &FieldPath) -> String {
        self.path(place).map_or_else(|| place.to_string(), |path| path.to_string())
    }

    /// What a field reads as; nothing if it does not show.
    pub fn at(&self, place: &FieldPath) -> Option<&Value> {
        self.path(place)?.segments().iter().try_fold(&self.value, |value, segment| match segment {
            Segment::Key(key) => value.get(key),
            Segment::Index(index) => value.get(index),
        })
    }

    /// The list items that show, in order.
    pub fn items(&self, list: &OpId) -> &[OpId] {
        self.lists.get(list).map_or(&[], Vec::as_slice)
    }

    fn path(&self, place: &FieldPath) -> Option<Path> {
        let segment = |step: &Step| match step {
            Step::Key(key) => Some(Segment::Key(key.clone())),
            Step::Item { counter, actor } => {
                self.shown.get(&(*counter, actor.clone())).map(|index| Segment::Index(*index))
            }
        };
        place.0.iter().map(segment).collect()
    }
}

/// What a document reads as where these changes are known.
pub fn read(history: &History, fold: &Fold, set: &Set) -> Read {
    read_as(history, fold, set, false)
}

/// What of it counts.
pub fn counted(history: &History, fold: &Fold, set: &Set) -> Value {
    read_as(history, fold, set, true).value
}

fn read_as(history: &History, fold: &Fold, set: &Set, counts: bool) -> Read {
    let reading = Reading { counts, ..Reading::new(history, fold, set) };
    let mut value = Value::Object(reading.map(&ObjId::Root));
    put_defaults(&mut value, fold.schema());
    Read { value, shown: reading.shown.into_inner(), lists: reading.lists.into_inner() }
}

/// The keys at which something that several write into at once is gone. Nobody can make it again.
pub fn lost(history: &History, set: &Set) -> Vec<String> {
    let heads: Vec<_> = history.heads(set).iter().map(|head| ChangeHash(head.0)).collect();
    let lost = |(change, id, place): &&(usize, OpId, Place)| {
        let map = match &place.object {
            None => ObjId::Root,
            Some((counter, actor)) => ObjId::Id(*counter, actor.0.clone().into(), 0),
        };
        let Slot::Key(key) = &place.slot else { return true };
        let there = history.doc.get_all_at(&map, key.as_str(), &heads).unwrap_or_default();
        let is_decided =
            || history.discards(place, set).iter().any(|(_, discarded)| discarded.contains(id));
        set.contains(change)
            && !there.iter().any(|(_, there)| named(there).as_ref() == Some(id))
            && !is_decided()
    };
    let lost = history.births().iter().filter(lost);
    lost.map(|(_, _, place)| history.path(place).to_string()).collect()
}

/// What containers and counters at a place hold that nobody sees: of all but the one that reads, and of
/// those that were decided about while others wrote in them.
pub fn hidden(history: &History, fold: &Fold, set: &Set, place: &Place) -> Vec<Choice> {
    let reading = Reading::new(history, fold, set);
    let made = history.made_at(place, set);
    let reads = made.iter().filter(|made| made.discarded.is_empty());
    let reads = reads.max_by_key(|made| (made.kind.is_some(), made.op.clone()));
    let read = reads.and_then(|made| reading.made(made));
    let reopened = fold.discards_reopened(history, place, set);
    let choice = |made: &Made| {
        let is_overlooked = |change: &usize| {
            let mut discards = made.discarded.difference(&reopened);
            discards.all(|discard| history.concurrent(*discard, *change))
        };
        let is_hidden = match made.discarded.is_empty() {
            true => reads.is_some_and(|reads| reads.op != made.op),
            false => made.written.iter().any(is_overlooked),
        };
        let nothing = [json!(""), json!([]), json!({}), json!(0), Value::Null];
        let value = reading.made(made).filter(|value| !nothing.contains(value))?;
        let last = |change: &&usize| {
            let change = &history.changes[**change];
            (change.time_s, change.hash)
        };
        let of_value = || {
            let mut writes = history.writes(place).iter();
            writes.find(|write| history.converted(write, set) == Some(made.change))
        };
        let by = match history.changes[made.change].reserved {
            true => match made.written.iter().max_by_key(last) {
                Some(last) => *last,
                None => of_value()?.change,
            },
            false => made.change,
        };
        let is_asked = is_hidden && Some(&value) != read.as_ref();
        is_asked.then_some(Choice { change: made.change, by, value: Some(value) })
    };
    made.iter().filter_map(choice).collect()
}

/// Whether a field is in a container that another one hides, or that was deleted by who decided so.
pub fn is_out_of_sight(history: &History, set: &Set, place: &Place) -> bool {
    let mut object = place.object.as_ref();
    while let Some(op) = object {
        let around = history.place_of(op);
        let made = history.made_at(around, set);
        let seen = made.iter().filter(|made| made.discarded.is_empty());
        let seen = seen.max_by_key(|made| (made.kind.is_some(), made.op.clone()));
        let is_there = made.iter().any(|made| made.op == *op);
        if is_there && seen.is_none_or(|seen| seen.op != *op) {
            return true;
        }
        object = around.object.as_ref();
    }
    false
}

struct Reading<'a> {
    history: &'a History,
    fold: &'a Fold,
    set: &'a Set,
    heads: Vec<ChangeHash>,
    /// Whether only what counts is read.
    counts: bool,
    shown: RefCell<BTreeMap<OpId, usize>>,
    lists: RefCell<BTreeMap<OpId, Vec<OpId>>>,
}

impl<'a> Reading<'a> {
    fn new(history: &'a History, fold: &'a Fold, set: &'a Set) -> Self {
        let heads = history.heads(set).iter().map(|head| ChangeHash(head.0)).collect();
        let (shown, lists) = Default::default();
        Self { history, fold, set, heads, counts: false, shown, lists }
    }

    fn plain(&self, place: &Place) -> Option<Value> {
        match self.counts {
            true => self.fold.counted(self.history, place, self.set),
            false => self.fold.value(self.history, place, self.set),
        }
    }

    fn map(&self, map: &ObjId) -> Map<String, Value> {
        let object = named(map);
        let keys = self.history.keys(object.as_ref()).into_iter();
        let place = |key: &str| Place { object: object.clone(), slot: Slot::Key(key.to_owned()) };
        let entry = |key: &str| {
            let stored = self.history.doc.get_all_at(map, key, &self.heads).ok()?;
            let value = match greatest_merging(stored) {
                Some(merging) => self.merging(merging),
                None => self.plain(&place(key)),
            };
            Some((key.to_owned(), value?))
        };
        keys.filter_map(entry).collect()
    }

    fn made(&self, made: &Made) -> Option<Value> {
        let Some(kind) = made.kind else { return Some(json!(made.count)) };
        let (counter, actor) = &made.op;
        let id = ObjId::Id(*counter, actor.0.clone().into(), 0);
        self.merging((Stored::Object(kind), id))
    }

    fn merging(&self, merging: (Stored<'_>, ObjId)) -> Option<Value> {
        match merging {
            (Stored::Object(ObjType::Text), text) => {
                Some(json!(self.history.doc.text_at(&text, &self.heads).ok()?))
            }
            (Stored::Object(ObjType::List), list) => Some(Value::Array(self.list(&list))),
            (Stored::Object(_), map) => {
                let map = self.map(&map);
                (map.get("removed") != Some(&json!(true))).then_some(Value::Object(map))
            }
            (Stored::Scalar(counter), _) => Some(json_of(&counter)),
        }
    }

    fn list(&self, list: &ObjId) -> Vec<Value> {
        let object = named(list);
        let is_set = object.as_ref().is_some_and(|object| {
            let place = self.history.path(self.history.place_of(object)).pattern();
            *self.fold.schema().rule(&place) == Rule::Set
        });
        // Of like items of a set the one made first shows.
        let mut first: BTreeMap<String, OpId> = BTreeMap::new();
        let mut items = Vec::new();
        for shown in self.history.doc.list_range_at(list, .., &self.heads) {
            let stored =
                self.history.doc.get_all_at(list, shown.index, &self.heads).unwrap_or_default();
            let Some(op) = named(&shown.id()) else { continue };
            let item = self.history.item(&op).clone();
            if let Some(merging) = greatest_merging(stored) {
                items.extend(self.merging(merging).map(|value| (item, false, value)));
                continue;
            }
            let place = Place { object: object.clone(), slot: Slot::Item(item.clone()) };
            let Some(value) = self.plain(&place) else { continue };
            if is_set {
                let first = first.entry(value.to_string()).or_insert_with(|| item.clone());
                *first = item.clone().min(first.clone());
            }
            items.push((item, true, value));
        }
        let shows = |(item, plain, value): &(OpId, bool, Value)| {
            let first = first.get(&value.to_string());
            !plain || first.is_none() || first == Some(item)
        };
        let mut values = Vec::new();
        for (item, _, value) in items.into_iter().filter(shows) {
            if let Some(list) = &object {
                self.lists.borrow_mut().entry(list.clone()).or_default().push(item.clone());
            }
            self.shown.borrow_mut().insert(item, values.len());
            values.push(value);
        }
        values
    }
}

/// What several write into at once hides plain values; a container hides a counter.
fn greatest_merging<'a>(stored: Vec<(Stored<'a>, ObjId)>) -> Option<(Stored<'a>, ObjId)> {
    let rank = |value: &Stored<'_>| match value {
        Stored::Object(_) => 2,
        Stored::Scalar(scalar) if matches!(**scalar, ScalarValue::Counter(_)) => 1,
        Stored::Scalar(_) => 0,
    };
    let merging = stored.into_iter().filter(|(value, _)| rank(value) > 0);
    merging.max_by_key(|(value, id)| (rank(value), named(id)))
}

fn named(id: &ObjId) -> Option<OpId> {
    match id {
        ObjId::Root => None,
        ObjId::Id(counter, actor, _) => Some((*counter, ActorId(actor.to_bytes().to_vec()))),
    }
}

/// An absent field reads as its default where the map around it is there.
fn put_defaults(value: &mut Value, schema: &Schema) {
    for (path, field) in &schema.fields {
        let Some(default) = &field.default else { continue };
        let Some((Segment::Key(last), around)) = path.segments().split_last() else { continue };
        let mut map = Some(&mut *value);
        for segment in around {
            map = match segment {
                Segment::Key(key) if key != "*" => map.and_then(|map| map.get_mut(key)),
                _ => None,
            };
        }
        if last != "*"
            && let Some(map) = map.and_then(Value::as_object_mut)
        {
            map.entry(last.clone()).or_insert_with(|| default.clone());
        }
    }
}
