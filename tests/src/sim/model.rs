//! What every edit must come to, written down when it is made.
//!
//! Each edit writes a mark that no other edit writes, in the same change as its effect. The marks
//! of a final document therefore say which edits are in it, and the rest of the document must be
//! exactly what those come to: no less, no more, nothing twice.

use std::collections::{BTreeMap, BTreeSet};

use rejoin::{ChangeHash, CollectionName, DocumentId, SpaceName};
use serde_json::Value;

use super::random::Random;

/// An edit, by number.
pub type EditId = u64;

/// What an edit does besides leaving its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Its token appears in a text.
    Token(&'static str),
    /// Its token appears in a plain value that becomes a text, or in what people are asked about it.
    Word,
    /// A counter moves.
    Count(i64),
    /// Its token appears in a list.
    Item,
    /// The list item of another edit goes.
    RemoveItem(EditId),
    /// Its token appears as a key three maps down.
    Nested(&'static str, &'static str),
    /// A register may hold this value.
    Scalar(String),
    /// The step a document is at, which only one person ever says and may take back.
    Step(&'static str),
    /// The document is deleted or comes back.
    Deleted,
    /// The rules of a collection are these now.
    Rules,
}

/// Whether an edit is in the store of its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not made yet.
    Asked,
    /// The commit returned.
    Kept,
    /// The commit failed, or the process died in it.
    Unknown,
    /// The edit was refused before anything was written.
    NotMade,
}

/// One edit.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Whose.
    pub replica: usize,
    /// Where.
    pub space: SpaceName,
    /// In which collection.
    pub collection: CollectionName,
    /// In which document, once that is known.
    pub document: Option<DocumentId>,
    /// What it does.
    pub effect: Effect,
    /// Whether it is in the store of its author.
    pub fate: Fate,
    /// Heads of the document with it.
    pub heads: Vec<ChangeHash>,
    /// A relay acknowledged it as durable.
    pub acknowledged: bool,
    /// The store of its author was lost, or went back to before it.
    pub author_lost: bool,
    /// Set aside for good, as the author's store says.
    pub set_aside: bool,
    /// Somebody took it back, perhaps to do it again, or was about to.
    pub undone: bool,
    /// Whether it was taken back last, and not done again.
    pub is_back: bool,
    /// A relay refused some of what took it back, also for a while before the device was lost, or it was
    /// taken back twice by a device whose file went back between. Then its mark and its effect may be
    /// parted: they are not in one change any more.
    pub torn: bool,
}

/// Every edit of a world.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<EditId, Entry>,
    next: EditId,
    /// Documents without a natural key.
    pub keyless: BTreeMap<DocumentId, (SpaceName, CollectionName)>,
}

impl Ledger {
    /// Writes an edit down.
    pub fn add(&mut self, entry: Entry) -> EditId {
        self.next += 1;
        self.entries.insert(self.next, entry);
        self.next
    }

    /// What became of an edit.
    pub fn set_fate(&mut self, id: EditId, fate: Fate) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.fate = fate;
        }
    }

    /// An edit is in the store of its author. One that is not in the outbox counts as acknowledged.
    pub fn keep(
        &mut self,
        id: EditId,
        document: DocumentId,
        heads: Vec<ChangeHash>,
        in_outbox: bool,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.fate = Fate::Kept;
        entry.heads = heads;
        entry.acknowledged = !in_outbox;
        if entry.document.is_none() {
            entry.document = Some(document);
            self.keyless.insert(document, (entry.space.clone(), entry.collection.clone()));
        }
    }

    /// An edit left the outbox.
    pub fn acknowledge(&mut self, id: EditId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.acknowledged = true;
        }
    }

    /// An edit was set aside, for good or to be made anew.
    pub fn set_aside(&mut self, id: EditId, for_good: bool) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.set_aside = for_good;
        }
    }

    /// Somebody takes an edit back, or does it again.
    pub fn undo(&mut self, id: EditId, is_back: bool) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.undone = true;
            entry.torn |= entry.is_back == is_back;
            entry.is_back = is_back;
        }
    }

    /// A relay refused a change that took edits of a document back.
    pub fn tear(&mut self, document: &DocumentId) {
        let entries = self.entries.values_mut();
        for entry in entries.filter(|entry| entry.undone && entry.document == Some(*document)) {
            entry.torn = true;
        }
    }

    /// How many documents there are.
    pub fn documents(&self) -> usize {
        let documents = self.entries.values().filter_map(|entry| entry.document);
        documents.collect::<BTreeSet<_>>().len()
    }

    /// The space of a document that somebody edited.
    pub fn space_of(&self, document: &DocumentId) -> Option<SpaceName> {
        let mut entries = self.entries.values();
        entries.find(|entry| entry.document == Some(*document)).map(|entry| entry.space.clone())
    }

    /// Some document.
    pub fn any_document(&self, random: &mut Random) -> Option<DocumentId> {
        let documents: Vec<_> = self.entries.values().filter_map(|entry| entry.document).collect();
        random.pick(&documents).copied()
    }

    /// The number the next edit will have.
    pub fn next(&self) -> EditId {
        self.next + 1
    }

    /// Every edit.
    pub fn iter(&self) -> impl Iterator<Item = (EditId, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// Edits of a replica that its store holds.
    pub fn of_replica(&mut self, replica: usize) -> impl Iterator<Item = (EditId, &mut Entry)> {
        let entries = self.entries.iter_mut().map(|(id, entry)| (*id, entry));
        entries.filter(move |(_, entry)| entry.replica == replica)
    }

    /// What is wrong with a final document. `asked` is what people are asked about, `kept_for_good` says
    /// which edits must be in it.
    pub fn wrong(
        &self,
        document: &DocumentId,
        value: &Value,
        asked: &Asked,
        kept_for_good: impl Fn(EditId, &Entry) -> bool,
    ) -> Option<String> {
        let marks = match marks(value) {
            Ok(marks) => marks,
            Err(wrong) => return Some(wrong),
        };
        for (id, entry) in self.iter().filter(|(_, entry)| entry.document == Some(*document)) {
            if kept_for_good(id, entry) && !marks.contains(&id) {
                return Some(format!("edit {id} is lost: {entry:?}"));
            }
        }
        // What was refused may stand by an undo, too, of an edit that was written over it.
        let undone = self.iter().filter(|(_, entry)| entry.undone || entry.set_aside);
        let mut expected =
            Expected { undone: undone.map(|(id, _)| id).collect(), ..Expected::default() };
        let torn = self.iter().filter(|(_, it)| it.torn && it.document == Some(*document));
        for (id, entry) in torn {
            expected.tear(id, entry);
        }
        expected.torn.extend(self.brought_back(document));
        for id in &marks {
            let Some(entry) = self.entries.get(id) else {
                return Some(format!("mark {id} was never made"));
            };
            let elsewhere = entry.document.is_some_and(|of| of != *document);
            if elsewhere || matches!(entry.fate, Fate::NotMade | Fate::Asked) {
                return Some(format!("edit {id} must not be here: {entry:?}"));
            }
            if !entry.torn {
                expected.add(*id, entry);
            }
        }
        expected.wrong(value, asked)
    }
}

impl Ledger {
    /// Items that two people removed and one of them brought back. It comes back as another item, and
    /// whoever removed the first one without knowing did not remove that.
    fn brought_back(&self, document: &DocumentId) -> impl Iterator<Item = EditId> {
        let here = self.iter().filter(|(_, entry)| entry.document == Some(*document));
        let removals = here.filter_map(|(_, entry)| match entry.effect {
            Effect::RemoveItem(item) => Some((item, entry.undone)),
            _ => None,
        });
        let removals: Vec<_> = removals.collect();
        let times = removals.clone();
        removals.into_iter().filter_map(move |(item, undone)| {
            let removed = times.iter().filter(|(other, _)| *other == item).count();
            (undone && removed > 1).then_some(item)
        })
    }
}

/// What people are asked about a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The questions, each with its field.
    pub fields: BTreeSet<String>,
    /// The edits whose tokens are in what there is to choose from.
    pub tokens: BTreeSet<EditId>,
}

/// What a document must hold, given the edits in it.
#[derive(Debug, Default)]
struct Expected {
    tokens: BTreeMap<&'static str, BTreeSet<EditId>>,
    words: BTreeSet<EditId>,
    count: i64,
    items: BTreeSet<EditId>,
    removed: BTreeSet<EditId>,
    nested: BTreeSet<(&'static str, &'static str, EditId)>,
    /// Edits that were taken back. Their values may stand all the same: somebody who did not know wrote
    /// over them, and took that back.
    undone: BTreeSet<EditId>,
    /// Edits that may be there or not.
    torn: BTreeSet<EditId>,
    /// By how much the counter may be off.
    torn_counts: BTreeSet<i64>,
    scalars: BTreeSet<String>,
    /// The last step.
    step: Option<&'static str>,
    /// Whether somebody who said a step had forgotten what they said before.
    is_step_forgotten: bool,
}

impl Expected {
    /// Edits are added in the order of their numbers.
    fn add(&mut self, id: EditId, entry: &Entry) {
        match &entry.effect {
            Effect::Token(field) => drop(self.tokens.entry(field).or_default().insert(id)),
            Effect::Word => drop(self.words.insert(id)),
            Effect::Count(by) => self.count += by,
            Effect::Item => drop(self.items.insert(id)),
            Effect::RemoveItem(item) => drop(self.removed.insert(*item)),
            Effect::Nested(first, second) => drop(self.nested.insert((first, second, id))),
            Effect::Scalar(value) => drop(self.scalars.insert(value.clone())),
            Effect::Step(step) => {
                self.step = Some(step);
                self.is_step_forgotten |= entry.author_lost;
            }
            Effect::Deleted | Effect::Rules => {}
        }
    }

    /// The effect of an edit may be there or not.
    fn tear(&mut self, id: EditId, entry: &Entry) {
        self.torn.insert(id);
        match &entry.effect {
            Effect::Count(by) => {
                let more: Vec<_> = self.torn_counts.iter().map(|off| off + by).collect();
                self.torn_counts.extend(more);
                self.torn_counts.insert(*by);
            }
            Effect::RemoveItem(item) => drop(self.torn.insert(*item)),
            Effect::Step(_) => self.is_step_forgotten = true,
            _ => {}
        }
    }

    fn wrong(&self, value: &Value, asked: &Asked) -> Option<String> {
        TEXTS
            .iter()
            .find_map(|field| self.wrong_text(field, value))
            .or_else(|| self.wrong_words(value, asked))
            .or_else(|| self.wrong_count(value))
            .or_else(|| self.wrong_list(value))
            .or_else(|| self.wrong_nested(value))
            .or_else(|| self.wrong_scalar(value, asked))
            .or_else(|| self.wrong_step(value, asked))
    }

    fn wrong_text(&self, field: &'static str, value: &Value) -> Option<String> {
        let text = value.get(field).and_then(Value::as_str).unwrap_or_default();
        let expected: Vec<_> = self.tokens.get(field).into_iter().flatten().copied().collect();
        let mut found = tokens(text);
        found.sort_unstable();
        found.retain(|id| !self.torn.contains(id));
        (found != expected)
            .then(|| format!("text {field} has tokens {found:?} and should have {expected:?}"))
    }

    /// A word that nobody sees and nobody is asked about is lost, and one that is seen twice is wrong.
    fn wrong_words(&self, value: &Value, asked: &Asked) -> Option<String> {
        let text = value.get(MEMO).and_then(Value::as_str).unwrap_or_default();
        let seen = tokens(text);
        let distinct: BTreeSet<EditId> = seen.iter().copied().collect();
        let all: BTreeSet<EditId> = distinct.union(&asked.tokens).copied().collect();
        let lost: Vec<_> = self.words.difference(&all).collect();
        let allowed: BTreeSet<EditId> = self.words.union(&self.undone).copied().collect();
        let is_wrong = distinct.len() < seen.len() || !distinct.is_subset(&allowed);
        (is_wrong || !lost.is_empty()).then(|| {
            format!("memo has {seen:?}, asked are {:?}, of {:?}", asked.tokens, self.words)
        })
    }

    fn wrong_count(&self, value: &Value) -> Option<String> {
        let count = value.get(COUNT).and_then(Value::as_i64).unwrap_or_default();
        let off = count - self.count;
        (off != 0 && !self.torn_counts.contains(&off))
            .then(|| format!("counter is {count} and should be {}", self.count))
    }

    fn wrong_list(&self, value: &Value) -> Option<String> {
        let empty = Vec::new();
        let items = value.get(LIST).and_then(Value::as_array).unwrap_or(&empty);
        let items = items.iter().filter_map(Value::as_str);
        let mut found: Vec<_> = items.flat_map(tokens).collect();
        found.sort_unstable();
        found.retain(|id| self.items.contains(id) || !self.undone.contains(id));
        let is_sure = |id: &EditId| !self.torn.contains(id);
        found.retain(is_sure);
        let expected: Vec<_> =
            self.items.difference(&self.removed).copied().filter(is_sure).collect();
        (found != expected).then(|| format!("list has {found:?} and should have {expected:?}"))
    }

    fn wrong_nested(&self, value: &Value) -> Option<String> {
        let mut found = BTreeSet::new();
        for (first, seconds) in value.get(TREE).and_then(Value::as_object).into_iter().flatten() {
            for (second, thirds) in seconds.as_object().into_iter().flatten() {
                let keys = thirds.as_object().into_iter().flatten();
                found.extend(keys.flat_map(|(key, _)| {
                    tokens(key).into_iter().map(|id| (first.as_str(), second.as_str(), id))
                }));
            }
        }
        found.retain(|(_, _, id)| !self.torn.contains(id));
        (found != self.nested)
            .then(|| format!("tree has {found:?} and should have {:?}", self.nested))
    }

    /// A register that several wrote at once has the value agreed before, or none, and a review.
    fn wrong_scalar(&self, value: &Value, asked: &Asked) -> Option<String> {
        let status = value.get(STATUS).and_then(Value::as_str);
        let is_undone = |status: &str| {
            let id = status.strip_prefix('s').and_then(|id| id.parse().ok());
            id.is_some_and(|id: EditId| self.undone.contains(&id))
        };
        let known = status.is_none_or(|status| self.scalars.contains(status) || is_undone(status));
        // Where a late rule lets nobody write it, people are asked about all of it in another way.
        let kinds = ["FieldConflict", "RefusedWrite"];
        let open = kinds.iter().any(|kind| asked.fields.contains(&format!("{kind} {STATUS}")));
        let absent = status.is_none() && !self.scalars.is_empty() && !open;
        (!known || absent).then(|| format!("status is {status:?}, of {:?}", self.scalars))
    }

    /// Whoever corrects nobody but themselves is asked nothing, also by an order that came late.
    fn wrong_step(&self, value: &Value, asked: &Asked) -> Option<String> {
        let step = value.get(STEP).and_then(Value::as_str);
        let is_asked = asked.fields.iter().any(|field| field.ends_with(&format!(" {STEP}")));
        let is_wrong = !self.is_step_forgotten && (is_asked || step != self.step);
        is_wrong
            .then(|| format!("step is {step:?}, asked are {:?}, of {:?}", asked.fields, self.step))
    }
}

/// The token of an edit.
pub fn token(id: EditId) -> String {
    format!("<{id:06}>")
}

/// The tokens in a text, in order.
pub fn tokens(text: &str) -> Vec<EditId> {
    let parts = text.split('<').skip(1);
    parts.filter_map(|part| part.split_once('>')?.0.parse().ok()).collect()
}

/// The tokens in the bytes of a change.
pub fn tokens_in(bytes: &[u8]) -> BTreeSet<EditId> {
    let windows = bytes.windows(TOKEN_BYTES);
    let tokens = windows.filter(|window| window[0] == b'<' && window[TOKEN_BYTES - 1] == b'>');
    let digits = tokens.filter_map(|window| std::str::from_utf8(&window[1..TOKEN_BYTES - 1]).ok());
    digits.filter_map(|digits| digits.parse().ok()).collect()
}

/// Where a token may be put into a text: not inside another.
pub fn boundaries(text: &str) -> Vec<usize> {
    let starts = text.chars().enumerate().filter(|(_, char)| *char == '<').map(|(at, _)| at);
    starts.chain([text.chars().count()]).collect()
}

/// The edits whose marks a document has.
fn marks(value: &Value) -> Result<BTreeSet<EditId>, String> {
    let inside = value.get(DONE).and_then(Value::as_object).into_iter().flatten();
    let outside = value.as_object().into_iter().flatten();
    let keys = inside.map(|(key, _)| key).chain(outside.map(|(key, _)| key));
    let mut marks = BTreeSet::new();
    for id in keys.flat_map(|key| tokens(key)) {
        if !marks.insert(id) {
            return Err(format!("edit {id} has two marks"));
        }
    }
    Ok(marks)
}

/// Bytes of a token.
const TOKEN_BYTES: usize = 8;

/// The map of marks.
pub const DONE: &str = "done";
/// The texts.
pub const TEXTS: [&str; 2] = ["notes", "body"];
/// The plain value that becomes a text when somebody appends to it.
pub const MEMO: &str = "memo";
/// The counter.
pub const COUNT: &str = "count";
/// The list.
pub const LIST: &str = "parts";
/// The maps in maps.
pub const TREE: &str = "tree";
/// The register.
pub const STATUS: &str = "status";
/// The register that one person writes.
pub const STEP: &str = "step";
/// What stands in it, in order.
pub const STEPS: [&str; 3] = ["open", "booked", "done"];
