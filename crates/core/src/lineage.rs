//! The lineage of one document: every write of every field, the writes that each took the place of,
//! and those that are still open; and so which values are agreed, and which questions only a person
//! can decide.
//!
//! Automerge shows an arbitrary one of concurrent values and forgets the others at the next write.
//! Here a write *closes* an earlier one of the same field only if its author can be taken to have
//! decided about it:
//!
//! - The values that were open in the write's ancestors were in agreement, by the field's
//!   [`Rule`]: there was nothing to decide, and all of them are closed. (Only one open value is
//!   agreement, and so are equal ones.)
//! - Otherwise it closes those its [`Settlement`] names, and no other. A write that names none is
//!   one more candidate.
//! - A write that [`Rule::Order`] does not allow closes only what it names. People may go back
//!   behind values that they wrote themselves, as far as the value at which others had left the
//!   field.
//! - A write by somebody without the right closes only what the same person wrote without the right
//!   before. Where such a write was the only one in sight, the next write by somebody with the
//!   right closes it.
//! - The deletion of a list item closes all values its author knew: nobody can bring it back.
//! - A write that takes back earlier ones ([`Undo`]) closes those that it names, and no other. If
//!   it takes back a decision, it is no value itself: the question is open again, with the values
//!   that the decision closed and that nothing else closes. If the decision deleted a list item, an
//!   operation beside it lets Automerge show the item again.
//!
//! A write that nothing closes is open. One open value is the field's value. Of several open values
//! the rule may choose one; if it does not, they are a conflict, and the field keeps the value it
//! had where the ancestors of all candidates meet, or none. A value that somebody wrote without the
//! right is seen only where nobody with the right wrote anything, and never counts. A value that
//! went back in an order stays a question for a person as long as it is open, even if other values
//! come beside it.
//!
//! Of several writes of a field in one change the last counts.
//!
//! A map and a document are removed by a field in them, which [`Marks`] name. If the removal is
//! agreed, and somebody wrote in there while neither knew of the other, a person decides; until
//! then the field keeps the value it had before the removal.
//!
//! All of this is a pure function of the document's changes and the schema, and the order in which
//! changes came does not matter. So every replica that has both sees the same.

mod blame;
mod clock;
mod containers;
mod decide;
mod field_path;
mod left;
mod marks;
mod register;
mod removal;
mod standing;
mod take_back;
mod twins;
mod undo;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

pub use blame::{Blame, BlamedWrite};
pub use field_path::{FieldPath, Step};
pub use marks::{DELETED, Marks, REMOVED};
pub use standing::{Candidate, Question, Reading, Settled, Standing, Unsettled};
pub use take_back::{Kept, TakenBack};
pub use twins::Twins;
pub use written::{Written, Wrote};

use crate::change::{ObjectId, is_reserved};
use crate::limits::DEPTH_MAX;
use crate::schema::{Rule, Schema};
use crate::{ActorId, ChangeHash, DocumentId, Identity, Settlement, Undo};
use clock::{Ancestors, Clock};
use containers::{Holds, Made};
use left::Touched;
use register::{Register, Write};

/// The version of these rules. A replica derives its stored values anew if another version derived
/// them, so a change of the rules that gives any history another result raises this number.
///
/// 1: before there was a number. 2: containers made at one key are asked about; values without the
/// right are seen; people may correct themselves in an order. 3: fields are indexed. 4: changes can
/// be taken back, and decisions reopened; an index may be of two fields. 5: candidates stand in the
/// order of their age. 6: an item comes back with the decision that deleted it.
pub const DERIVATION: u32 = 6;

/// The writes of one document.
#[derive(Debug, Clone)]
pub struct Lineage {
    document: DocumentId,
    /// The keys at which this document says that something was removed.
    marks: &'static Marks,
    schema: Arc<Schema>,
    actors: BTreeMap<ActorId, u32>,
    actor_ids: Vec<ActorId>,
    /// The identity that acts with each actor.
    identities: Vec<Option<Identity>>,
    changes: Vec<Known>,
    /// The last change of every chain. A change that builds on it is the next; so what was written
    /// in a row is one chain, by however many actors.
    chains: Vec<u32>,
    by_hash: BTreeMap<ChangeHash, u32>,
    containers: Vec<Container>,
    container_by_op: BTreeMap<OpId, u32>,
    registers: Vec<Register>,
    register_by_key: BTreeMap<(u32, Key), u32>,
    /// Registers with more to tell than one open write whose value is seen.
    several: BTreeSet<u32>,
    /// Registers that say that the map around them, or the document, was removed.
    removals: BTreeSet<u32>,
    /// Registers where somebody decided about containers that nobody saw.
    containers_met: BTreeSet<u32>,
    /// The register of the review that a change says it settles.
    settled_in: BTreeMap<u32, u32>,
}

/// One change, as the lineage takes it. Everything it depends on was taken before.
#[derive(Debug, Clone, Copy)]
pub struct NewChange<'a> {
    /// Its identity.
    pub hash: ChangeHash,
    /// The changes it builds on.
    pub deps: &'a [ChangeHash],
    /// Its actor.
    pub actor: &'a ActorId,
    /// The actor's changes, counted from 1.
    pub seq: u64,
    /// The time, in seconds since 1970 by its author's clock.
    pub time_s: i64,
    /// The author bytes, if it carries any.
    pub author: Option<&'a [u8]>,
    /// Its message.
    pub message: Option<&'a str>,
}

/// One operation of a change, as the lineage takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewOp {
    /// Its number. Together with the change's actor it is the operation's id.
    pub counter: u64,
    /// The container it writes in.
    pub object: ObjectId,
    /// The place in that container.
    pub key: OpKey,
    /// The effect there.
    pub action: Action,
    /// The operations it takes the place of.
    pub preds: Vec<(u64, ActorId)>,
}

/// The place in its container at which an operation writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpKey {
    /// At a key of a map.
    Map(String),
    /// At the list item or character made by this operation.
    Item(u64, ActorId),
    /// It makes a new list item or character.
    Insert,
}

/// The action of an operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Puts a plain value.
    Put(Value),
    /// Deletes the values of the operations in [`NewOp::preds`].
    Delete,
    /// Makes a map or list.
    Make,
    /// Makes a text.
    MakeText,
    /// Makes a counter that begins here.
    MakeCounter(i64),
    /// Adds to all counters that its predecessors made.
    Count(i64),
    /// Marks a part of a text.
    Touch,
}

/// A change that says that it makes a text of a plain value. Such a change has no author.
struct Conversion<'a> {
    /// The operation that made the text.
    made: &'a NewOp,
    key: &'a str,
    /// The operation that wrote the value.
    replaces: &'a (u64, ActorId),
    /// The characters.
    value: String,
}

impl<'a> Conversion<'a> {
    /// `None` for a birth, which makes a container and takes no value's place.
    fn of(ops: &'a [NewOp]) -> Option<Self> {
        let (made, characters) = ops.split_first()?;
        let (OpKey::Map(key), [replaces]) = (&made.key, &made.preds[..]) else { return None };
        let character = |op: &NewOp| match &op.action {
            Action::Put(Value::String(character)) => Some(character.clone()),
            _ => None,
        };
        let value = characters.iter().filter_map(character).collect();
        Some(Self { made, key, replaces, value })
    }
}

/// An operation's number, and its actor by index.
type OpId = (u64, u32);

#[derive(Debug, Clone)]
struct Known {
    hash: ChangeHash,
    actor: u32,
    /// The chain it is in, and its place there, from 1.
    chain: u32,
    place: u64,
    time_s: i64,
    /// The changes it builds on, without those of its own chain.
    clock: Clock,
    /// Whether it is a genesis, birth or conversion: any device makes the same bytes, so it has no
    /// author.
    reserved: bool,
    says: Option<Box<Says>>,
}

/// The meaning of a change's message.
#[derive(Debug, Clone)]
enum Says {
    Settles(Settlement),
    Undoes(Undo),
}

impl Says {
    fn of(message: &str) -> Option<Self> {
        let settles = Settlement::from_message(message).map(Self::Settles);
        settles.or_else(|| Undo::from_message(message).map(Self::Undoes))
    }
}

impl Known {
    fn settlement(&self) -> Option<&Settlement> {
        match self.says.as_deref() {
            Some(Says::Settles(settlement)) => Some(settlement),
            _ => None,
        }
    }

    fn undo(&self) -> Option<&Undo> {
        match self.says.as_deref() {
            Some(Says::Undoes(undo)) => Some(undo),
            _ => None,
        }
    }
}

#[derive(Debug, Clone)]
struct Container {
    /// The operation that made it; none for the document itself.
    made_by: Option<OpId>,
    /// Whether operations in it are only noted: a text, or the first one that is too deep to be
    /// read, which also stands for all that is in it.
    is_only_noted: bool,
    /// Maps, lists and texts around it.
    depth: usize,
    /// The register it stands in; none for the document itself.
    stands_in: Option<u32>,
    /// Changes that wrote anything in it, as ranges of their indices.
    touched: Vec<(u32, u32)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Map(Arc<str>),
    Item(OpId),
}

impl Lineage {
    /// The lineage of a document without changes.
    pub fn new(document: DocumentId, schema: Arc<Schema>) -> Self {
        let (made_by, stands_in, touched) = (None, None, Vec::new());
        let root = Container { made_by, is_only_noted: false, depth: 0, stands_in, touched };
        Self {
            document,
            marks: Marks::THEIRS,
            schema,
            actors: BTreeMap::new(),
            actor_ids: Vec::new(),
            identities: Vec::new(),
            changes: Vec::new(),
            chains: Vec::new(),
            by_hash: BTreeMap::new(),
            containers: vec![root],
            container_by_op: BTreeMap::new(),
            registers: Vec::new(),
            register_by_key: BTreeMap::new(),
            several: BTreeSet::new(),
            removals: BTreeSet::new(),
            containers_met: BTreeSet::new(),
            settled_in: BTreeMap::new(),
        }
    }

    /// Takes a change. One that is known already, or whose dependencies are not, is left alone.
    pub fn add(&mut self, change: &NewChange<'_>, ops: impl IntoIterator<Item = NewOp>) {
        if self.by_hash.contains_key(&change.hash) {
            return;
        }
        let Some((clock, after)) = self.clock_of(change) else { return };
        let actor = self.actor(change.actor);
        if let Some(author) = change.author
            && change.seq == 1
        {
            self.identities[actor as usize] = Some(Identity::from_author(author));
        }
        let reserved = is_reserved(change.actor);
        if reserved && change.deps.is_empty() {
            self.begin_with_genesis();
        }
        let says = change.message.filter(|_| !reserved).and_then(Says::of);
        let index = u32::try_from(self.changes.len()).expect("a document has under 2^32 changes");
        self.by_hash.insert(change.hash, index);
        let (chain, place) = match after {
            _ if reserved => (u32::MAX, 0),
            Some((chain, place)) => (chain, place + 1),
            None => (self.chains.len() as u32, 1),
        };
        if !reserved {
            match self.chains.get_mut(chain as usize) {
                Some(last) => *last = index,
                None => self.chains.push(index),
            }
        }
        self.changes.push(Known {
            hash: change.hash,
            actor,
            chain,
            place,
            time_s: change.time_s,
            clock,
            reserved,
            says: says.map(Box::new),
        });
        let mut written = BTreeMap::new();
        if reserved {
            let ops: Vec<NewOp> = ops.into_iter().collect();
            let conversion = Conversion::of(&ops);
            if conversion.is_none_or(|conversion| self.convert(index, &conversion)) {
                ops.into_iter().for_each(|op| self.add_op(index, op, &mut written));
            }
            return;
        }
        ops.into_iter().for_each(|op| self.add_op(index, op, &mut written));
        let reopens = self.reopened_by(index);
        let (is_restored, mut restored) = (|at| reopens.is_some_and(|it| it.writes_in(at)), None);
        for (register, written) in written {
            let (op, value, takes) = self.read_written(register, index, written);
            if is_restored(register) {
                restored = value.map(|value| (op, value));
                continue;
            }
            self.write(register, index, op, value, takes);
            self.note_settled(register, index);
        }
        if let Some(reopens) = reopens {
            self.reopen(index, reopens, restored);
        }
    }

    /// Decides everything anew by another schema.
    pub fn set_schema(&mut self, schema: Arc<Schema>) {
        if *self.schema == *schema {
            return;
        }
        self.schema = schema;
        for at in 0..self.registers.len() {
            let writes = std::mem::take(&mut self.registers[at].writes);
            self.registers[at].forget();
            for Write { change, op, value, takes, reopens, .. } in writes {
                match reopens {
                    Some(decision) => {
                        let restored = value.map(|value| (op, value));
                        self.write_reopening(at as u32, change, decision, restored);
                    }
                    None => self.write(at as u32, change, op, value, takes),
                }
            }
        }
    }

    /// The schema everything was decided by.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The number of its changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The identity of the person who made a change, if the change carries one.
    pub fn author(&self, change: &ChangeHash) -> Option<&Identity> {
        let known = &self.changes[*self.by_hash.get(change)? as usize];
        self.identities[known.actor as usize].as_ref()
    }

    /// The review that a change says it settles, with the changes it decides between.
    pub fn settlement(&self, change: &ChangeHash) -> Option<&Settlement> {
        self.changes[*self.by_hash.get(change)? as usize].settlement()
    }

    /// The earlier changes that a change says it takes back.
    pub fn undo(&self, change: &ChangeHash) -> Option<&Undo> {
        self.changes[*self.by_hash.get(change)? as usize].undo()
    }

    /// Whether operations in an object are only noted, as in a text.
    pub fn only_notes(&self, object: &ObjectId) -> bool {
        self.container(object).is_some_and(|at| self.containers[at as usize].is_only_noted)
    }

    /// The clock of the changes that a change builds on, without the chain it continues; and that
    /// chain with its last place, if it continues one. `None` if a dependency is unknown.
    fn clock_of(&self, change: &NewChange<'_>) -> Option<(Clock, Option<(u32, u64)>)> {
        let deps: Option<Vec<u32>> =
            change.deps.iter().map(|dep| self.by_hash.get(dep).copied()).collect();
        let deps = deps?;
        let goes_on = |dep: &&u32| {
            let known = &self.changes[**dep as usize];
            !known.reserved && self.chains[known.chain as usize] == **dep
        };
        // A reserved change has no author and belongs to no chain, so its clock has to cover all it
        // builds on.
        let is_in_chain = !is_reserved(change.actor);
        let after = deps.iter().find(goes_on).copied().filter(|_| is_in_chain);
        let mut clock: Option<Clock> = None;
        for dep in deps {
            let known = &self.changes[dep as usize];
            let one = match known.reserved || after == Some(dep) {
                true => known.clock.clone(),
                false => known.clock.with(known.chain, known.place),
            };
            clock = Some(clock.map_or_else(|| one.clone(), |clock| clock.join(&one)));
        }
        let after = after.map(|after| &self.changes[after as usize]);
        Some((clock.unwrap_or_default(), after.map(|known| (known.chain, known.place))))
    }

    fn ancestors(&self, change: u32) -> Ancestors {
        let known = &self.changes[change as usize];
        let own = (!known.reserved).then(|| (known.chain, known.place - 1));
        Ancestors { clock: known.clock.clone(), own }
    }

    fn actor(&mut self, actor: &ActorId) -> u32 {
        if let Some(known) = self.actors.get(actor) {
            return *known;
        }
        let index = self.actor_ids.len() as u32;
        self.actors.insert(actor.clone(), index);
        self.actor_ids.push(actor.clone());
        self.identities.push(None);
        index
    }

    fn container(&self, object: &ObjectId) -> Option<u32> {
        match object {
            ObjectId::Root => Some(0),
            ObjectId::Op { counter, actor } => {
                let actor = self.actors.get(actor)?;
                self.container_by_op.get(&(*counter, *actor)).copied()
            }
        }
    }

    /// Takes an operation. The fields it writes are gathered in `written`.
    fn add_op(&mut self, change: u32, op: NewOp, written: &mut BTreeMap<u32, Touched>) {
        let Some(container) = self.container(&op.object) else { return };
        let id = (op.counter, self.changes[change as usize].actor);
        let key = match op.key {
            OpKey::Map(key) => Key::Map(key.into()),
            OpKey::Insert => Key::Item(id),
            OpKey::Item(counter, actor) => match self.actors.get(&actor) {
                Some(actor) => Key::Item((counter, *actor)),
                None => return,
            },
        };
        let only_touches = matches!(op.action, Action::Touch | Action::Count(_));
        let preds = op.preds.into_iter();
        let preds = preds.filter_map(|(counter, by)| Some((counter, *self.actors.get(&by)?)));
        let preds: BTreeSet<OpId> = preds.collect();
        if self.containers[container as usize].is_only_noted || only_touches {
            self.touch(container, change);
            if matches!(op.action, Action::Make | Action::MakeText) {
                self.container_by_op.insert(id, container);
            }
            if let Action::Count(by) = op.action
                && let Some(register) = self.register_by_key.get(&(container, key)).copied()
            {
                self.count(register, change, by, &preds);
            }
            return;
        }
        let register = self.register(container, key);
        let says_removed = self.removals.contains(&register);
        match self.containers[container as usize].stands_in {
            Some(around) if says_removed => {
                let around = self.registers[around as usize].container;
                self.touch(around, change);
            }
            None if says_removed => {}
            _ => self.touch(container, change),
        }
        if op.action == Action::Delete && self.discard(register, change, &preds) {
            self.note_several(register);
            return;
        }
        let at = &mut self.registers[register as usize];
        let before = at.merging.len();
        at.merging.retain(|made| !preds.contains(&made.op));
        at.lost_merging |= at.merging.len() < before;
        at.discarded.retain(|made| !preds.contains(&made.op));
        match op.action {
            Action::Put(value) => written.entry(register).or_default().put(id, value),
            Action::Delete => {
                written.entry(register).or_default().delete(id, preds.into_iter().collect());
            }
            made @ (Action::Make | Action::MakeText | Action::MakeCounter(_)) => {
                self.make(change, id, register, &made);
            }
            Action::Count(_) | Action::Touch => {}
        }
        self.note_several(register);
    }

    /// Takes the container or counter that an operation made in a register.
    fn make(&mut self, change: u32, op: OpId, register: u32, action: &Action) {
        let holds = match action {
            Action::MakeCounter(count) => Holds::Counter { count: *count, counted: Vec::new() },
            _ => {
                let around = self.registers[register as usize].container;
                let depth = self.containers[around as usize].depth + 1;
                let is_only_noted = *action == Action::MakeText || depth > DEPTH_MAX;
                let at = self.containers.len() as u32;
                let (made_by, stands_in, touched) = (Some(op), Some(register), Vec::new());
                let container = Container { made_by, is_only_noted, depth, stands_in, touched };
                self.containers.push(container);
                self.container_by_op.insert(op, at);
                Holds::Container(at)
            }
        };
        let register = &mut self.registers[register as usize];
        register.made.insert(op);
        register.merging.push(Made { op, change, holds, discarded: Vec::new() });
    }

    /// Notes that a change wrote in a container, and so in all around it.
    fn touch(&mut self, container: u32, change: u32) {
        if self.changes[change as usize].reserved {
            return;
        }
        let mut next = Some(container);
        while let Some(at) = next {
            let container = &mut self.containers[at as usize];
            match container.touched.last_mut() {
                Some((_, last)) if *last == change => return,
                Some((_, last)) if *last + 1 == change => *last = change,
                _ => container.touched.push((change, change)),
            }
            next = container.stands_in.map(|register| self.registers[register as usize].container);
        }
    }

    /// Reads removals by the keys of documents that begin with our genesis. The genesis is the
    /// first change of such a document, unless somebody forged it.
    fn begin_with_genesis(&mut self) {
        self.marks = Marks::OURS;
        let says_removed = |at: &u32| {
            let register = &self.registers[*at as usize];
            self.is_mark(register.container, &register.key)
        };
        self.removals = (0..self.registers.len() as u32).filter(says_removed).collect();
    }

    fn is_mark(&self, container: u32, key: &Key) -> bool {
        let mark = if container == 0 { self.marks.deleted } else { self.marks.removed };
        matches!(key, Key::Map(name) if &**name == mark)
    }

    fn register(&mut self, container: u32, key: Key) -> u32 {
        if let Some(known) = self.register_by_key.get(&(container, key.clone())) {
            return *known;
        }
        let index = self.registers.len() as u32;
        if self.is_mark(container, &key) {
            self.removals.insert(index);
        }
        self.register_by_key.insert((container, key.clone()), index);
        self.registers.push(Register::new(container, key));
        index
    }

    fn write(
        &mut self,
        register: u32,
        change: u32,
        op: OpId,
        value: Option<Value>,
        takes: Option<Box<[OpId]>>,
    ) {
        if self.changes[change as usize].reserved {
            return;
        }
        let rule = self.rule_of(register).clone();
        let refused = self.is_refused(register, change);
        let write = Write { value, takes, refused, ..Write::new(change, op) };
        self.add_write(register, &rule, write);
        self.note_several(register);
    }

    /// Whether the author of a change has no right to write a field.
    fn is_refused(&self, register: u32, change: u32) -> bool {
        let role = self.identity_of(change).and_then(|identity| identity.role.as_deref());
        let writers = self.schema.writers(&self.place(register).pattern());
        writers.is_some_and(|may| !role.is_some_and(|role| may.contains(role)))
    }

    /// Notes that a text was made of a value, so that the value is seen in the text. The answer is
    /// `false` if the field had another value than the conversion says: such a text has no author,
    /// so nobody is shown it, and the value stands as it did.
    fn convert(&mut self, change: u32, conversion: &Conversion<'_>) -> bool {
        let Conversion { made, key, replaces: (counter, actor), value } = conversion;
        let Some(container) = self.container(&made.object) else { return false };
        let key = Key::Map((*key).into());
        let Some(register) = self.register_by_key.get(&(container, key)).copied() else {
            return false;
        };
        let Some(actor) = self.actors.get(actor) else { return false };
        let replaced = (*counter, *actor);
        let text = (made.counter, self.changes[change as usize].actor);
        let at = &mut self.registers[register as usize];
        let is_it = |write: &Write| {
            write.op == replaced && write.value.as_ref().is_some_and(|it| it == value)
        };
        let is_true = at.writes.iter().any(is_it);
        match is_true {
            true => _ = at.converted.insert(replaced, text),
            false => at.made_up = true,
        }
        self.note_several(register);
        is_true
    }

    fn note_several(&mut self, register: u32) {
        if self.registers[register as usize].is_plain() {
            self.several.remove(&register);
        } else {
            self.several.insert(register);
        }
    }

    fn identity_of(&self, change: u32) -> Option<&Identity> {
        self.identities[self.changes[change as usize].actor as usize].as_ref()
    }

    fn rule_of(&self, register: u32) -> &Rule {
        self.schema.rule(&self.place(register).pattern())
    }
}
