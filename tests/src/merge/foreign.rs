//! A program of somebody else: it knows Automerge and nothing of schemas, reviews or births, and
//! writes whatever messages it likes.

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{Author, Automerge, ObjId, ObjType, Prop, ReadDoc, ScalarValue, Value as Stored};
use rejoin::Identity;
use serde_json::json;

use super::history::{History, Set, hex};
use crate::sim::random::Random;

/// The program and what it knows of the job.
#[derive(Debug)]
pub struct Foreign {
    /// The changes it has.
    pub known: Set,
    doc: Automerge,
}

impl Foreign {
    /// A program, for a person or for nobody in particular.
    pub fn new(identity: Option<&Identity>, random: &mut Random) -> Self {
        let mut doc = Automerge::new();
        doc.set_author(identity.map(|identity| Author::from(identity.to_author())));
        doc.set_actor(automerge::ActorId::from(random.bytes().as_slice()));
        Self { known: Set::new(), doc }
    }

    /// Takes changes, and all they build on.
    pub fn receive(&mut self, history: &History, some: &Set) {
        let new = some.difference(&self.known);
        let change = |at: &usize| {
            automerge::Change::from_bytes(history.changes[*at].chunk.clone()).expect("a change")
        };
        self.doc.apply_changes(new.map(change)).expect("they fit");
        self.known.extend(some);
    }

    /// Writes something, if there is anything to write in.
    pub fn write(&mut self, history: &mut History, random: &mut Random) {
        if self.known.is_empty() {
            return;
        }
        let message = self.message(history, random);
        let maps = maps(&self.doc);
        let mut transaction = self.doc.transaction();
        for _ in 0..random.between(1, 2) {
            let map = random.pick(&maps).expect("there is the document itself");
            let keys: Vec<String> = transaction.keys(map).collect();
            let plain: Vec<&String> =
                keys.iter().filter(|key| is_plain(transaction.get(map, key.as_str()))).collect();
            if random.chance(120) {
                make(&mut transaction, map, random);
            } else if let Some(list) = list_of(&transaction, map, &keys)
                && random.chance(300)
            {
                write_in_list(&mut transaction, &list, random);
            } else if let Some(key) = random.pick(&plain) {
                let key = (*key).clone();
                match random.chance(250) {
                    true => transaction.delete(map, key).expect("it is there"),
                    false => {
                        let mut value = scalar(&key, random);
                        // Of several values, what is shown: the others are deleted then.
                        let all = transaction.get_all(map, key.as_str()).expect("it is there");
                        if let Some((Stored::Scalar(shown), _)) = all.last()
                            && all.len() > 1
                            && random.chance(500)
                        {
                            value = shown.clone().into_owned();
                        }
                        transaction.put(map, key, value).expect("a plain value");
                    }
                }
            }
        }
        let mut options = CommitOptions::default().with_time(30 * random.between(0, 140) as i64);
        if let Some(message) = message {
            options = options.with_message(message);
        }
        if let (Some(hash), _) = transaction.commit_with(options) {
            let mut change = self.doc.get_change_by_hash(&hash).expect("it was just made");
            let (at, _) = history.add(&change.bytes());
            self.known.insert(at);
        }
    }

    /// Sometimes it claims to settle something, and names some of the changes it knows.
    fn message(&self, history: &History, random: &mut Random) -> Option<String> {
        if random.chance(600) {
            return random.chance(300).then(|| "{\"from\":\"elsewhere\"}".to_owned());
        }
        let mut names: Vec<String> =
            self.known.iter().map(|at| hex(&history.changes[*at].hash)).collect();
        names.retain(|_| random.chance(300));
        let review = format!("{:032x}", random.below(2));
        let said = json!({ "settles": review, "closes": names[..names.len().min(40)].join(" ") });
        Some(said.to_string())
    }
}

/// Makes a text, list, map or counter where it sees none, as people's devices do elsewhere.
fn make(doc: &mut impl Transactable, map: &ObjId, random: &mut Random) {
    let key = ["notes", "parts", "tags", "memo", "extra", "used"][random.index(6)];
    if !matches!(doc.get(map, key), Ok(None)) {
        return;
    }
    let kinds = [ObjType::Text, ObjType::List, ObjType::Map];
    let Some(kind) = kinds.get(random.index(4)) else {
        doc.put(map, key, ScalarValue::counter(random.below(3) as i64)).expect("a new counter");
        return;
    };
    let made = doc.put_object(map, key, *kind).expect("a new container");
    let word = ["a", "b", "c", "d"][random.index(4)];
    match kind {
        _ if random.chance(200) => {}
        ObjType::Text => doc.splice_text(&made, 0, 0, word).expect("a place in the text"),
        ObjType::List => doc.insert(&made, 0, word).expect("a place in the list"),
        _ => doc.put(&made, "by", word).expect("a key of the map"),
    }
}

fn scalar(key: &str, random: &mut Random) -> ScalarValue {
    match key {
        "deleted" | "removed" => ScalarValue::Boolean(random.chance(500)),
        "status" => ["booked", "done"][random.index(2)].into(),
        "finished" | "started" => ScalarValue::Int(random.below(5) as i64),
        _ => ["a", "b", "c", "d"][random.index(4)].into(),
    }
}

fn is_plain(value: Result<Option<(Stored<'_>, ObjId)>, automerge::AutomergeError>) -> bool {
    matches!(value, Ok(Some((Stored::Scalar(scalar), _))) if !matches!(*scalar, ScalarValue::Counter(_)))
}

/// The document itself and the maps in it.
fn maps(doc: &Automerge) -> Vec<ObjId> {
    let mut maps = vec![ObjId::Root];
    let mut at = 0;
    while at < maps.len() {
        let inner = doc.map_range(&maps[at], ..).filter_map(|item| {
            let (value, id) = (item.value.clone(), item.id());
            matches!(Stored::from(value), Stored::Object(ObjType::Map)).then_some(id)
        });
        let inner: Vec<ObjId> = inner.collect();
        maps.extend(inner);
        at += 1;
    }
    maps
}

fn list_of(doc: &impl ReadDoc, map: &ObjId, keys: &[String]) -> Option<ObjId> {
    keys.iter().find_map(|key| match doc.get(map, key.as_str()) {
        Ok(Some((Stored::Object(ObjType::List), id))) => Some(id),
        _ => None,
    })
}

fn write_in_list(doc: &mut impl Transactable, list: &ObjId, random: &mut Random) {
    let index = random.index(doc.length(list) + 1);
    let value: ScalarValue = ["a", "b", "c", "d"][random.index(4)].into();
    let written = match is_plain(doc.get(list, Prop::Seq(index))) {
        true if random.chance(400) => doc.delete(list, index),
        true => doc.put(list, index, value),
        false => doc.insert(list, index, value),
    };
    written.expect("there is such an item");
}
