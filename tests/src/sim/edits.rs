//! People at work: what they edit, where, and on which base.

use rejoin::schema::{Field, Rule, SCHEMAS, Schema};
use rejoin::{ChangeHash, CollectionName, DocumentId, Identity, Op, Path, SpaceName};
use rejoin_engine::{Content, Edit, Target};
use serde_json::{Map, Value, json};

use super::agenda::Node;
use super::model::{
    COUNT, DONE, Effect, Entry, Fate, LIST, MEMO, STATUS, STEP, STEPS, TEXTS, TREE, boundaries,
    token, tokens,
};
use super::world::{Check, Failed, World};

/// What somebody looks at when they edit.
struct Seen {
    space: SpaceName,
    collection: CollectionName,
    target: Target,
    /// The document, if it is known here.
    document: Option<DocumentId>,
    base: Option<Vec<ChangeHash>>,
    value: Value,
    /// Whether the editor takes the document for a new one although it is here, or an edit of it waits:
    /// what the editor writes is written over that, and not beside it.
    is_blind: bool,
}

impl World {
    /// Somebody edits something, on a device that is awake.
    pub(super) fn edit(&mut self) -> Check {
        self.maybe_undo()?;
        let awake: Vec<_> = (0..self.replicas.len())
            .filter(|at| self.replicas[*at].open_process().is_some())
            .collect();
        let Some(at) = self.random.pick(&awake).copied() else { return Ok(()) };
        let burst = if self.random.chance(100) { self.random.between(2, 12) } else { 1 };
        for _ in 0..burst {
            self.edit_at(at)?;
        }
        if self.random.chance(50) {
            self.show_presence(at);
        }
        self.agenda.wake(self.now, Node::Replica(at));
        self.strike_replica(at)
    }

    fn edit_at(&mut self, at: usize) -> Check {
        let rules = self.faults.words && self.random.chance(20);
        let seen = if rules { self.look_at_rules(at) } else { self.look(at)? };
        let Some(seen) = seen else { return Ok(()) };
        let id = self.ledger.next();
        let steps = self.faults.words && at == 0 && !rules && self.random.chance(50);
        let (effect, content) = match rules {
            true => (Effect::Rules, Content::Fields(late_rules(id))),
            false if steps => self.invent_step(id),
            false => self.invent(id, &seen),
        };
        let author = steps.then(|| Identity { user: "ana".to_owned(), role: None, device: None });
        let create = !matches!(seen.target, Target::Document(_));
        let Seen { space, collection, target, document, .. } = seen;
        // After an erasure, a key is that of another document.
        let document = document.filter(|_| !self.erases || !matches!(target, Target::Key(_)));
        let entry = Entry {
            replica: at,
            space: space.clone(),
            collection: collection.clone(),
            document,
            effect,
            fate: Fate::Asked,
            heads: Vec::new(),
            acknowledged: false,
            author_lost: false,
            set_aside: false,
            undone: false,
            is_back: false,
            torn: false,
        };
        self.note(format_args!("replica {at} asks for edit {id}: {:?} {target:?}", entry.effect));
        self.ledger.add(entry);
        let edit = Edit { space, collection, target, create, author, content, batch: None };
        if let Some(process) = self.replicas[at].open_process() {
            process.queued.push((id, edit));
        }
        Ok(())
    }

    /// The schema of the customers, to be written whatever it says.
    fn look_at_rules(&mut self, at: usize) -> Option<Seen> {
        let space = self.random.pick(&self.replicas[at].spaces).cloned()?;
        let collection = CollectionName::new(SCHEMAS).ok()?;
        let genesis = rejoin_core::Genesis::first("customers").ok()?;
        let document = DocumentId::derive(&space, &collection, &genesis);
        let (target, document) = (Target::Key("customers".to_owned()), Some(document));
        Some(Seen {
            space,
            collection,
            target,
            document,
            base: None,
            value: json!({}),
            is_blind: false,
        })
    }

    /// Chooses a document, and what of it the editor has seen.
    fn look(&mut self, at: usize) -> Check<Option<Seen>> {
        let Some(space) = self.random.pick(&self.replicas[at].spaces).cloned() else {
            return Ok(None);
        };
        let name = *self.random.pick(&["jobs", "customers"]).unwrap_or(&"jobs");
        let mut collection = CollectionName::new(name).map_err(|_| Failed("name".to_owned()))?;
        let (target, document) = match self.random.below(100) {
            0..70 => {
                let key = format!("K-{}", self.random.below(3));
                let genesis = rejoin_core::Genesis::first(key.clone())
                    .map_err(|_| Failed("key".to_owned()))?;
                let mut id = DocumentId::derive(&space, &collection, &genesis);
                if self.erases
                    && let Some(process) = self.replicas[at].open_process()
                {
                    // After an erasure, the key is that of another document here.
                    let view = process.engine.store().read();
                    let keyed = view.and_then(|view| view.keyed(&space, &collection, &key));
                    id = keyed.ok().and_then(Result::ok).map_or(id, |(_, id)| id);
                }
                (Target::Key(key), id)
            }
            70..95 => {
                let of_space = self.ledger.keyless.iter().filter(|(_, (of, _))| *of == space);
                let known: Vec<_> =
                    of_space.map(|(id, (_, collection))| (*id, collection.clone())).collect();
                let Some((id, of)) = self.random.pick(&known).cloned() else { return Ok(None) };
                collection = of;
                (Target::Document(id), id)
            }
            _ => {
                let value = json!({});
                let (target, document, base) = (Target::New, None, None);
                let is_blind = false;
                return Ok(Some(Seen {
                    space,
                    collection,
                    target,
                    document,
                    base,
                    value,
                    is_blind,
                }));
            }
        };
        let Some((base, value)) = self.read(at, &document)? else {
            if matches!(target, Target::Document(_)) {
                return Ok(None);
            }
            let is_same = |edit: &Edit| {
                edit.space == space && edit.collection == collection && edit.target == target
            };
            let is_blind = self.replicas[at].open_process().is_some_and(|process| {
                let view = process.engine.store().read();
                let is_here =
                    view.and_then(|view| view.document(&document)).is_ok_and(|it| it.is_some());
                is_here || process.queued.iter().any(|(_, edit)| is_same(edit))
            });
            let (document, base, value) = (Some(document), None, json!({}));
            return Ok(Some(Seen { space, collection, target, document, base, value, is_blind }));
        };
        let document = Some(document);
        let (base, is_blind) = (Some(base), false);
        Ok(Some(Seen { space, collection, target, document, base, value, is_blind }))
    }

    /// A document as it is or was at a device; `None` if it is not there.
    fn read(&mut self, at: usize, id: &DocumentId) -> Check<Option<(Vec<ChangeHash>, Value)>> {
        let local = self.now + self.replicas[at].skew_ms;
        let stale = self.random.chance(250);
        let Some(process) = self.replicas[at].open_process() else { return Ok(None) };
        let row = match process.engine.store().read().and_then(|view| view.document(id)) {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(None),
            Err(error) => return self.cannot_read(at, &error),
        };
        let mut base = row.heads;
        if stale && let Some(seen) = process.seen.get(id) {
            let seen: Vec<_> = seen.iter().cloned().collect();
            base = self.random.pick(&seen).cloned().unwrap_or(base);
        }
        let Some(process) = self.replicas[at].open_process() else { return Ok(None) };
        match process.engine.value_at(local, id, Some(&base)) {
            Ok(value) => Ok(Some((base, value))),
            Err(rejoin::ReadError::NotFound | rejoin::ReadError::UnknownHeads { .. }) => {
                process.seen.remove(id);
                Ok(None)
            }
            Err(error) => self.cannot_read(at, &error),
        }
    }

    fn cannot_read<T>(&mut self, at: usize, error: &dyn std::error::Error) -> Check<Option<T>> {
        self.fail_replica(at, error)?;
        Ok(None)
    }

    /// What the editor does.
    fn invent(&mut self, id: u64, seen: &Seen) -> (Effect, Content) {
        let mark = token(id);
        let value = &seen.value;
        if self.random.chance(60) {
            let status = format!("s{id}");
            let mut fields = Map::new();
            fields.insert(STATUS.to_owned(), json!(status));
            fields.insert(mark, json!(1));
            return (Effect::Scalar(status), Content::Fields(fields));
        }
        let marked = Path::from([DONE, &mark]);
        let mut ops = vec![Op::Set { path: marked, before: None, after: json!(1) }];
        let effect = match self.random.below(100) {
            0..30 => self.invent_words(mark, value, &mut ops),
            30..50 if self.may_write_much(seen) => {
                ops.push(Op::Append { path: Path::from([TEXTS[1]]), text: self.many_words(mark) });
                Effect::Token(TEXTS[1])
            }
            30..50 => {
                let by = self.random.below(19) as i64 - 9;
                let by = if by == 0 { 10 } else { by };
                ops.push(Op::Increment { path: Path::from([COUNT]), by });
                Effect::Count(by)
            }
            50..58 if self.faults.words && !seen.is_blind => {
                let path = Path::from([MEMO]);
                let text = format!("{mark} ");
                ops.push(match value.get(MEMO) {
                    Some(Value::String(_)) => Op::Append { path, text },
                    _ => Op::Set { path, before: None, after: json!(text) },
                });
                Effect::Word
            }
            50..65 => self.invent_item(mark, value, &mut ops),
            65..82 => {
                let first = *self.random.pick(&["a", "b"]).unwrap_or(&"a");
                let second = *self.random.pick(&["c", "d"]).unwrap_or(&"c");
                let path = Path::from([TREE, first, second, &mark]);
                ops.push(Op::Set { path, before: None, after: json!(id) });
                Effect::Nested(first, second)
            }
            82..95 => {
                let status = format!("s{id}");
                let (path, before) = (Path::from([STATUS]), value.get(STATUS).cloned());
                ops.push(Op::Set { path, before, after: json!(status) });
                Effect::Scalar(status)
            }
            _ => {
                let deleted = value.get("deleted") == Some(&json!(true));
                ops.push(if deleted { Op::Restore } else { Op::Delete });
                Effect::Deleted
            }
        };
        (effect, Content::Ops { base: seen.base.clone(), ops })
    }

    /// One person says how far something is, on what they see now, and may take back what they said.
    fn invent_step(&mut self, id: u64) -> (Effect, Content) {
        let step = *self.random.pick(&STEPS).unwrap_or(&STEPS[0]);
        let marked = Path::from([DONE, &token(id)]);
        let set = |path, after| Op::Set { path, before: None, after };
        let ops = vec![set(marked, json!(1)), set(Path::from([STEP]), json!(step))];
        (Effect::Step(step), Content::Ops { base: None, ops })
    }

    /// Large edits are slow to play, so they are few, and in one document, where they add up. Each
    /// is small enough to be one change.
    fn may_write_much(&mut self, seen: &Seen) -> bool {
        let large = self.faults.large_texts
            && seen.space.as_str() == "north"
            && seen.collection.as_str() == "jobs"
            && matches!(&seen.target, Target::Key(key) if key == "K-0");
        if large && self.large_edits < LARGE_EDITS_MAX {
            self.large_edits += 1;
            return true;
        }
        false
    }

    fn invent_words(&mut self, mark: String, value: &Value, ops: &mut Vec<Op>) -> Effect {
        let text = value.get(TEXTS[0]).and_then(Value::as_str).unwrap_or_default();
        let path = Path::from([TEXTS[0]]);
        if self.random.chance(500) {
            ops.push(Op::Append { path, text: format!("{mark} ") });
        } else {
            let index = *self.random.pick(&boundaries(text)).unwrap_or(&0);
            ops.push(Op::Splice { path, index, delete: 0, insert: mark });
        }
        Effect::Token(TEXTS[0])
    }

    /// Some kilobytes of words after a mark.
    fn many_words(&mut self, mark: String) -> String {
        let mut text = mark;
        let words = self.random.between(500, 1100);
        for _ in 0..words {
            text.push(' ');
            text.extend((0..16).map(|_| (b'a' + self.random.below(26) as u8) as char));
        }
        text
    }

    fn invent_item(&mut self, mark: String, value: &Value, ops: &mut Vec<Op>) -> Effect {
        let path = Path::from([LIST]);
        let empty = Vec::new();
        let items = value.get(LIST).and_then(Value::as_array).unwrap_or(&empty);
        if !items.is_empty() && self.random.chance(350) {
            let index = self.random.index(items.len());
            let removed = items[index].as_str().and_then(|item| tokens(item).first().copied());
            if let Some(removed) = removed {
                ops.push(Op::RemoveAt { path, index });
                return Effect::RemoveItem(removed);
            }
        }
        let index = self.random.index(items.len() + 1);
        ops.push(Op::Insert { path, index, value: json!(mark) });
        Effect::Item
    }

    fn show_presence(&mut self, at: usize) {
        let Some(document) = self.ledger.any_document(&mut self.random) else { return };
        let Some(space) = self.random.pick(&self.replicas[at].spaces).cloned() else { return };
        let value = self.random.chance(800).then(|| vec![1, 2, 3]);
        if let Some(process) = self.replicas[at].open_process() {
            process.engine.present(&space, document, value, 10_000);
        }
    }
}

/// Edits of tens of kilobytes in one world. With nine of them, nine tenths of the time of
/// all worlds went into loading the one document that had them.
const LARGE_EDITS_MAX: u64 = 4;

/// Rules for documents that are there, with the mark of an edit: nobody here may write the status, the
/// memo is a text, and steps have an order.
fn late_rules(id: u64) -> Map<String, Value> {
    let schema = Schema::new()
        .with(MEMO, Rule::Text)
        .with(STEP, Rule::order(STEPS))
        .with(STATUS, Field::new(Rule::Review).writers(["dispatch"]));
    let Value::Object(mut rules) = schema.to_value() else { return Map::new() };
    rules.insert(token(id), json!(1));
    rules
}
