//! The changes of one document as they are, spelled out: what every change builds on, and every
//! write of every field.

use std::collections::{BTreeMap, BTreeSet};

use automerge::legacy::{ElementId, Key, ObjectId, OpType};
use automerge::{Automerge, ObjId, ObjType, ReadDoc, ScalarValue};
use rejoin::history::{ActorId, FieldPath, Step};
use rejoin::{ChangeHash, Identity, ReviewId};
use rejoin_core::change::is_reserved;
use serde_json::{Value, json};

/// Changes, by their place in [`History::changes`].
pub type Set = BTreeSet<usize>;

/// An operation's number and actor.
pub type OpId = (u64, ActorId);

/// A map key or a list item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The operation that made the container it is in; none for the document itself.
    pub object: Option<OpId>,
    /// Where in there.
    pub slot: Slot,
}

/// Where in its container a field stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// At a key of a map.
    Key(String),
    /// The list item that this operation made.
    Item(OpId),
}

/// Every change of a document, each after those it builds on.
#[derive(Debug, Default)]
pub struct History {
    /// The changes.
    pub changes: Vec<Change>,
    /// All of them applied: for what is not a plain value, and for the order of lists.
    pub doc: Automerge,
    by_hash: BTreeMap<ChangeHash, usize>,
    identities: BTreeMap<ActorId, Option<Identity>>,
    writes: BTreeMap<Place, Vec<Write>>,
    /// What every operation put or took away, by field.
    rows: BTreeMap<Place, Vec<Row>>,
    /// The container that an operation made, and where.
    containers: BTreeMap<OpId, (ObjType, Place)>,
    /// The texts, lists, maps and counters that every device makes alike, and where.
    births: Vec<(usize, OpId, Place)>,
    /// The changes that made texts of values: by what wrote those, and what they were.
    converted: BTreeMap<(OpId, String), usize>,
    /// The list item that an operation made or wrote.
    items: BTreeMap<OpId, OpId>,
    /// Deletions that left something.
    pub left_over: u64,
    /// The changes that wrote inside a container, by the operation that made it.
    inside: BTreeMap<Option<OpId>, Set>,
    /// Decisions that deleted containers and counters which others hid: the change, and what it
    /// deleted.
    discards: BTreeMap<Place, Vec<(usize, Vec<OpId>)>>,
    /// What every change added to counters, by how much and to which.
    counts: BTreeMap<Place, Vec<(usize, i64, Vec<OpId>)>>,
}

/// A container or counter that was made somewhere.
#[derive(Debug, Clone)]
pub struct Made {
    /// The change.
    pub change: usize,
    /// The operation.
    pub op: OpId,
    /// What was made; nothing for a counter.
    pub kind: Option<ObjType>,
    /// The changes that wrote in it.
    pub written: Set,
    /// The decisions that deleted it.
    pub discarded: Set,
    /// What a counter came to.
    pub count: i64,
}

/// One change.
#[derive(Debug)]
pub struct Change {
    /// Its identity.
    pub hash: ChangeHash,
    /// Its bytes.
    pub chunk: Vec<u8>,
    /// Whose.
    pub actor: ActorId,
    /// When, by its author's clock.
    pub time_s: i64,
    /// The author of its actor's first change.
    pub identity: Option<Identity>,
    /// Whether every device would make it alike.
    pub reserved: bool,
    /// The review it says it settles.
    pub said: Option<Said>,
    /// The changes it says it takes back.
    pub undoes: Option<Undoes>,
    /// Everything it builds on, not itself.
    pub ancestors: Set,
}

/// What a change says about a review.
#[derive(Debug, Clone)]
pub struct Said {
    /// Which review.
    pub review: ReviewId,
    /// The changes it decided between: the first eight bytes of each, in hex.
    pub closes: BTreeSet<String>,
    /// Whether what stood stays.
    pub dismissed: bool,
    /// Why.
    pub why: Option<String>,
}

/// What a change says about changes that it takes back. Changes are named by the first eight bytes of
/// each, in hex.
#[derive(Debug, Clone)]
pub struct Undoes {
    /// Which changes.
    pub undoes: BTreeSet<String>,
    /// The changes in the place of whose values it writes.
    pub closes: BTreeSet<String>,
    /// The review that is open again.
    pub reopens: Option<ReviewId>,
}

/// What one change wrote to one field. Of several writes the last counts.
#[derive(Debug, Clone)]
pub struct Write {
    /// The change.
    pub change: usize,
    /// The last operation.
    pub op: OpId,
    /// Nothing for a deletion.
    pub value: Option<Value>,
}

/// One operation on a field.
#[derive(Debug)]
struct Row {
    change: usize,
    id: OpId,
    /// A plain value, and not a container or counter.
    plain: Option<Value>,
    puts: bool,
    takes: Vec<OpId>,
    /// Where a counter begins.
    count: i64,
}

impl History {
    /// Adds a change whose dependencies are there. Returns its place, and whether it is new.
    ///
    /// # Panics
    /// It is not a change.
    pub fn add(&mut self, chunk: &[u8]) -> (usize, bool) {
        let change = automerge::Change::from_bytes(chunk.to_vec()).expect("a change");
        let hash = ChangeHash(change.hash().0);
        if let Some(known) = self.by_hash.get(&hash) {
            return (*known, false);
        }
        let index = self.changes.len();
        let actor = ActorId(change.actor_id().to_bytes().to_vec());
        let author = change.author().map(|author| Identity::from_author(author.as_bytes()));
        if change.seq() == 1 {
            self.identities.insert(actor.clone(), author);
        }
        let mut ancestors = Set::new();
        for dep in change.deps() {
            let dep = self.by_hash[&ChangeHash(dep.0)];
            ancestors.insert(dep);
            ancestors.extend(&self.changes[dep].ancestors);
        }
        // A relay takes only a change that builds on its actor's previous one.
        let own = ancestors.iter().filter(|at| self.changes[**at].actor == actor).count();
        assert_eq!(change.seq(), own as u64 + 1, "{hash} is number {} of its actor", change.seq());
        let reserved = is_reserved(&actor);
        let message = change.message().filter(|_| !reserved);
        self.by_hash.insert(hash, index);
        self.changes.push(Change {
            hash,
            chunk: chunk.to_vec(),
            identity: self.identities[&actor].clone(),
            time_s: change.timestamp(),
            reserved,
            said: message.and_then(Said::read),
            undoes: message.and_then(Undoes::read),
            ancestors,
            actor,
        });
        let decoded = change.decode();
        for (op, number) in decoded.operations.iter().zip(decoded.start_op.get()..) {
            self.add_op(index, number, op);
        }
        if reserved {
            self.note_conversion(index, &decoded);
        }
        self.doc.apply_changes([change]).expect("a change that fits");
        (index, true)
    }

    /// Of a change of nobody's that made a text of a value, which value.
    fn note_conversion(&mut self, at: usize, change: &automerge::ExpandedChange) {
        let Some((text, characters)) = change.operations.split_first() else { return };
        let [replaced] = &text.pred.iter().collect::<Vec<_>>()[..] else { return };
        let characters: String = characters
            .iter()
            .filter_map(|op| match &op.action {
                OpType::Put(ScalarValue::Str(character)) => Some(character.as_str()),
                _ => None,
            })
            .collect();
        self.converted.insert((named(replaced), characters), at);
    }

    /// How many texts were made of values by these changes.
    pub fn conversions(&self, set: &Set) -> u64 {
        self.converted.values().filter(|change| set.contains(change)).count() as u64
    }

    /// The change that made a text of a write, which holds it since, if there is one among these.
    pub fn converted(&self, write: &Write, set: &Set) -> Option<usize> {
        let Some(Value::String(value)) = &write.value else { return None };
        let converted = self.converted.get(&(write.op.clone(), value.clone()));
        converted.copied().filter(|change| set.contains(change))
    }

    fn add_op(&mut self, change: usize, number: u64, op: &automerge::legacy::Op) {
        let id = (number, self.changes[change].actor.clone());
        let object = match &op.obj {
            ObjectId::Root => None,
            ObjectId::Id(id) => Some(named(id)),
        };
        let is_text = object
            .as_ref()
            .and_then(|object| self.containers.get(object))
            .is_some_and(|(kind, _)| *kind == ObjType::Text);
        let slot = match &op.key {
            _ if op.insert => Slot::Item(id.clone()),
            Key::Map(key) => Slot::Key(key.to_string()),
            Key::Seq(ElementId::Id(item)) => Slot::Item(named(item)),
            Key::Seq(ElementId::Head) => unreachable!("only an insertion stands at the head"),
        };
        let place = Place { object, slot };
        if !self.changes[change].reserved {
            self.note_inside(change, &place, is_text);
        }
        if is_text {
            return;
        }
        if let Slot::Item(item) = &place.slot {
            self.items.insert(id.clone(), item.clone());
        }
        let plain = match &op.action {
            OpType::Put(ScalarValue::Counter(_)) => None,
            OpType::Put(scalar) => Some(json_of(scalar)),
            _ => None,
        };
        if self.changes[change].reserved {
            self.births.push((change, id.clone(), place.clone()));
        }
        if let OpType::Make(kind) = &op.action {
            self.containers.insert(id.clone(), (*kind, place.clone()));
        }
        let is_write = plain.is_some() || op.action == OpType::Delete;
        let puts = matches!(op.action, OpType::Put(_) | OpType::Make(_));
        let takes: Vec<OpId> = op.pred.iter().map(named).collect();
        if let OpType::Increment(by) = op.action {
            self.counts.entry(place.clone()).or_default().push((change, by, takes.clone()));
        }
        let is_discard = op.action == OpType::Delete
            && self.changes[change].said.is_some()
            && !takes.is_empty()
            && takes.iter().all(|taken| self.is_merging(&place, taken));
        if is_discard {
            self.discards.entry(place.clone()).or_default().push((change, takes.clone()));
        }
        if puts || is_write {
            let count = match &op.action {
                OpType::Put(ScalarValue::Counter(count)) => i64::from(count),
                _ => 0,
            };
            let row = Row { change, id: id.clone(), plain: plain.clone(), puts, takes, count };
            self.rows.entry(place.clone()).or_default().push(row);
        }
        if is_write && !is_discard && !self.changes[change].reserved {
            self.add_write(change, id, place, plain);
        }
    }

    fn add_write(&mut self, change: usize, op: OpId, place: Place, plain: Option<Value>) {
        if self.reopens(change, &place) {
            return;
        }
        let is_deletion = plain.is_none();
        let value = plain.or_else(|| self.left_over(change, &place));
        self.left_over += u64::from(is_deletion && value.is_some());
        let writes = self.writes.entry(place).or_default();
        match writes.last_mut() {
            Some(last) if last.change == change => (last.op, last.value) = (op, value),
            _ => writes.push(Write { change, op, value }),
        }
    }

    /// Whether a change takes a decision back that wrote here: what it writes here itself only lets
    /// Automerge show the item again that was deleted.
    fn reopens(&self, change: usize, place: &Place) -> bool {
        let Some(undoes) = &self.changes[change].undoes else { return false };
        let is_reopened = |write: &Write| {
            let decision = &self.changes[write.change];
            let said = decision.said.as_ref().map(|said| said.review);
            undoes.undoes.len() == 1
                && undoes.undoes.contains(&hex(&decision.hash))
                && self.changes[change].ancestors.contains(&write.change)
                && undoes.reopens.is_some_and(|review| said == Some(review))
        };
        self.writes(place).iter().any(is_reopened)
    }

    fn is_merging(&self, place: &Place, op: &OpId) -> bool {
        let rows = self.rows.get(place).map_or(&[][..], Vec::as_slice);
        rows.iter().any(|row| row.id == *op && row.puts && row.plain.is_none())
    }

    /// Places at which more than one container or counter was made.
    pub fn places_made_twice(&self) -> impl Iterator<Item = &Place> {
        let merging = |row: &&Row| row.puts && row.plain.is_none();
        let rows = self.rows.iter();
        rows.filter(move |(_, rows)| rows.iter().filter(merging).count() > 1)
            .map(|(place, _)| place)
    }

    /// The containers and counters at a place where these changes are known, but for those that
    /// something else than a decision about them took the place of.
    pub fn made_at(&self, place: &Place, set: &Set) -> Vec<Made> {
        let rows = self.rows.get(place).map_or(&[][..], Vec::as_slice).iter();
        let rows: Vec<&Row> = rows.filter(|row| set.contains(&row.change)).collect();
        let discards = self.discards(place, set);
        let is_gone = |row: &Row| {
            let mut others = rows.iter().filter(|other| other.takes.contains(&row.id));
            others.any(|other| !discards.iter().any(|(change, _)| *change == other.change))
        };
        let merging = rows.iter().filter(|row| row.puts && row.plain.is_none());
        let made = merging.filter(|row| !is_gone(row)).map(|row| {
            let kind = self.containers.get(&row.id).map(|(kind, _)| *kind);
            let counts = self.counts.get(place).map_or(&[][..], Vec::as_slice).iter();
            let counts =
                counts.filter(|(change, _, of)| set.contains(change) && of.contains(&row.id));
            let counts: Vec<_> = counts.collect();
            let inside = self.inside(Some(&row.id)).intersection(set).copied().collect();
            let counted = counts.iter().map(|(change, ..)| *change).collect();
            let mine = discards.iter().filter(|(_, taken)| taken.contains(&row.id));
            Made {
                change: row.change,
                op: row.id.clone(),
                kind,
                written: if kind.is_some() { inside } else { counted },
                discarded: mine.map(|(change, _)| *change).collect(),
                count: row.count + counts.iter().map(|(_, by, _)| by).sum::<i64>(),
            }
        });
        made.collect()
    }

    /// Decisions about containers at a place, and what each deleted, where these changes are known.
    pub fn discards(&self, place: &Place, set: &Set) -> Vec<(usize, Vec<OpId>)> {
        let discards = self.discards.get(place).map_or(&[][..], Vec::as_slice).iter();
        discards.filter(|(change, _)| set.contains(change)).cloned().collect()
    }

    /// Places at which somebody decided about containers.
    pub fn places_discarded(&self) -> impl Iterator<Item = &Place> {
        self.discards.keys()
    }

    /// What a change leaves at a field by deleting: nothing, or the winner of the values it did
    /// not take away. Automerge deletes the others where somebody writes what is shown already.
    fn left_over(&self, change: usize, place: &Place) -> Option<Value> {
        let known = |row: &&Row| {
            row.change == change || self.changes[change].ancestors.contains(&row.change)
        };
        let rows: Vec<&Row> = self.rows[place].iter().filter(known).collect();
        let taken: BTreeSet<&OpId> = rows.iter().flat_map(|row| &row.takes).collect();
        let left = rows.iter().filter(|row| row.puts && !taken.contains(&row.id));
        left.max_by_key(|row| &row.id)?.plain.clone()
    }

    /// Writing in a container is writing in everything around it. To say of a map that it was
    /// removed is writing around that map, and not in it.
    fn note_inside(&mut self, change: usize, place: &Place, is_text: bool) {
        let mut object = place.object.clone();
        if !is_text && self.is_removal(place) {
            let Some(removed) = &object else { return };
            object = self.containers[removed].1.object.clone();
        }
        loop {
            self.inside.entry(object.clone()).or_default().insert(change);
            let Some(inner) = &object else { return };
            object = self.containers[inner].1.object.clone();
        }
    }

    /// Whether it says that the map around it, or the document, was removed.
    pub fn is_removal(&self, place: &Place) -> bool {
        match (&place.object, &place.slot) {
            (None, Slot::Key(key)) => key == "deleted",
            (Some(_), Slot::Key(key)) => key == "removed",
            _ => false,
        }
    }

    /// The texts, lists, maps and counters that every device makes alike: the change, the operation,
    /// and where.
    pub fn births(&self) -> &[(usize, OpId, Place)] {
        &self.births
    }

    /// The changes that wrote in a container.
    pub fn inside(&self, object: Option<&OpId>) -> Set {
        self.inside.get(&object.cloned()).cloned().unwrap_or_default()
    }

    /// The fields that plain values were written to.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.writes.keys()
    }

    /// Everything in a map that was ever written or made.
    pub fn keys(&self, object: Option<&OpId>) -> Vec<&str> {
        let keys = self.rows.keys().filter(|place| place.object.as_ref() == object);
        let keys = keys.filter_map(|place| match &place.slot {
            Slot::Key(key) => Some(key.as_str()),
            Slot::Item(_) => None,
        });
        keys.collect()
    }

    /// What was written to a field, each after what it knew of.
    pub fn writes(&self, place: &Place) -> &[Write] {
        self.writes.get(place).map_or(&[], Vec::as_slice)
    }

    /// The list item that an operation made or wrote.
    pub fn item(&self, op: &OpId) -> &OpId {
        &self.items[op]
    }

    /// Whether several write at once into what stands at a place, where these changes are known.
    pub fn holds_merging(&self, place: &Place, set: &Set) -> bool {
        let object = match &place.object {
            None => ObjId::Root,
            Some((counter, actor)) => ObjId::Id(*counter, actor.0.clone().into(), 0),
        };
        let heads: Vec<_> =
            self.heads(set).iter().map(|head| automerge::ChangeHash(head.0)).collect();
        let merges = |(value, _): &(automerge::Value<'_>, ObjId)| match value {
            automerge::Value::Object(_) => true,
            automerge::Value::Scalar(scalar) => matches!(**scalar, ScalarValue::Counter(_)),
        };
        let there = match &place.slot {
            Slot::Key(key) => self.doc.get_all_at(&object, key.as_str(), &heads),
            Slot::Item(item) => {
                let items: Vec<_> = self.doc.list_range_at(&object, .., &heads).collect();
                let is_it = |shown: &ObjId| match shown {
                    ObjId::Id(counter, actor, _) => {
                        let op = (*counter, ActorId(actor.to_bytes().to_vec()));
                        self.items.get(&op) == Some(item)
                    }
                    ObjId::Root => false,
                };
                let Some(index) = items.iter().find(|shown| is_it(&shown.id())) else {
                    return false;
                };
                self.doc.get_all_at(&object, index.index, &heads)
            }
        };
        there.unwrap_or_default().iter().any(merges)
    }

    /// The list that stands at a key of the document, where these changes are known.
    pub fn list_at(&self, key: &str, set: &Set) -> Option<OpId> {
        let heads: Vec<_> =
            self.heads(set).iter().map(|head| automerge::ChangeHash(head.0)).collect();
        let there = self.doc.get_all_at(&ObjId::Root, key, &heads).unwrap_or_default();
        let lists = there.into_iter().filter_map(|(value, id)| match (value, id) {
            (automerge::Value::Object(ObjType::List), ObjId::Id(counter, actor, _)) => {
                Some((counter, ActorId(actor.to_bytes().to_vec())))
            }
            _ => None,
        });
        lists.max()
    }

    /// The items of a list that a change wrote, took away or wrote in, in no order.
    pub fn items_touched(&self, change: usize, list: &OpId) -> BTreeSet<OpId> {
        let places = self.rows.iter().filter(|(_, rows)| rows.iter().any(|it| it.change == change));
        places.filter_map(|(place, _)| self.item_around(place, list)).collect()
    }

    /// The items of a list in order, shown or not, where these changes are known.
    pub fn items_at(&self, list: &OpId, set: &Set) -> Vec<OpId> {
        let heads: Vec<_> =
            self.heads(set).iter().map(|head| automerge::ChangeHash(head.0)).collect();
        let list = ObjId::Id(list.0, list.1.0.clone().into(), 0);
        let items = self.doc.list_range_at(&list, .., &heads);
        let item = |id: ObjId| match id {
            ObjId::Id(counter, actor, _) => {
                self.items.get(&(counter, ActorId(actor.to_bytes().to_vec()))).cloned()
            }
            ObjId::Root => None,
        };
        items.filter_map(|it| item(it.id())).collect()
    }

    /// Whether a change made a list item.
    pub fn made(&self, change: usize, item: &OpId) -> bool {
        let rows = self.rows.iter().filter(|(place, _)| place.slot == Slot::Item(item.clone()));
        rows.flat_map(|(_, rows)| rows).any(|row| row.change == change && row.id == *item)
    }

    /// The item of this list that a place is or is in.
    fn item_around(&self, place: &Place, list: &OpId) -> Option<OpId> {
        let mut place = place;
        loop {
            let object = place.object.as_ref()?;
            match &place.slot {
                Slot::Item(item) if object == list => return Some(item.clone()),
                _ => place = &self.containers.get(object)?.1,
            }
        }
    }

    /// Where a container stands.
    pub fn place_of(&self, object: &OpId) -> &Place {
        &self.containers[object].1
    }

    /// A field's place from the root.
    pub fn path(&self, place: &Place) -> FieldPath {
        let mut steps = match &place.object {
            None => Vec::new(),
            Some(object) => self.path(self.place_of(object)).0,
        };
        steps.push(match &place.slot {
            Slot::Key(key) => Step::Key(key.clone()),
            Slot::Item((counter, actor)) => Step::Item { counter: *counter, actor: actor.clone() },
        });
        FieldPath(steps)
    }

    /// A change and everything it builds on.
    pub fn with_ancestors(&self, change: usize) -> Set {
        let mut all = self.changes[change].ancestors.clone();
        all.insert(change);
        all
    }

    /// These heads and everything they build on.
    pub fn up_to(&self, heads: &[ChangeHash]) -> Set {
        heads.iter().flat_map(|head| self.with_ancestors(self.by_hash[head])).collect()
    }

    /// Those that nothing in the set builds on, sorted.
    pub fn heads(&self, set: &Set) -> Vec<ChangeHash> {
        let inner: Set = set.iter().flat_map(|at| &self.changes[*at].ancestors).copied().collect();
        let mut heads: Vec<_> = set.difference(&inner).map(|at| self.changes[*at].hash).collect();
        heads.sort_unstable();
        heads
    }

    /// Whether neither of two changes was made knowing the other.
    pub fn concurrent(&self, one: usize, other: usize) -> bool {
        one != other
            && !self.changes[one].ancestors.contains(&other)
            && !self.changes[other].ancestors.contains(&one)
    }

    /// Changes that people and programs made, not those that every device makes alike.
    pub fn edits(&self) -> usize {
        self.changes.iter().filter(|change| !change.reserved).count()
    }
}

impl Said {
    fn read(message: &str) -> Option<Self> {
        let said: Value = serde_json::from_str(message).ok()?;
        Some(Self {
            review: said["settles"].as_str()?.parse().ok()?,
            closes: said["closes"].as_str()?.split_whitespace().map(str::to_owned).collect(),
            dismissed: said["dismissed"] == true,
            why: said["why"].as_str().map(str::to_owned),
        })
    }
}

impl Undoes {
    fn read(message: &str) -> Option<Self> {
        let said: Value = serde_json::from_str(message).ok()?;
        let names = |name: &str| {
            let names = said[name].as_str()?.split_whitespace();
            Some(names.map(str::to_owned).collect())
        };
        Some(Self {
            undoes: names("undoes")?,
            closes: names("closes")?,
            reopens: said["reopens"].as_str().and_then(|review| review.parse().ok()),
        })
    }
}

fn named(id: &automerge::legacy::OpId) -> OpId {
    (id.0, ActorId(id.1.to_bytes().to_vec()))
}

/// A plain value as documents read.
pub fn json_of(scalar: &ScalarValue) -> Value {
    match scalar {
        ScalarValue::Str(text) => json!(text.as_str()),
        ScalarValue::Int(int) => json!(int),
        ScalarValue::Uint(uint) => json!(uint),
        ScalarValue::F64(float) => json!(float),
        ScalarValue::Boolean(flag) => json!(flag),
        ScalarValue::Timestamp(time_ms) => json!({ "$time": time_ms }),
        ScalarValue::Counter(count) => json!(i64::from(count)),
        _ => Value::Null,
    }
}

/// The first eight bytes of a hash, as settlements name changes.
pub fn hex(hash: &ChangeHash) -> String {
    hash.0[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
