use automerge::{ActorId, ObjId, ObjType, ROOT, ReadDoc, ScalarValue};
use proptest::prelude::*;
use rejoin_core::Genesis;
use rejoin_core::change::{genesis, is_reserved, parse};
use serde_json::{Value, json};

use super::*;
use crate::diff::diff;
use crate::value::to_json;

mod edits;
mod foreign;
mod meeting;
mod model;

const DOCUMENT: DocumentId = DocumentId([7; 16]);

/// A document that has only its genesis, for one device.
fn device(actor: u8) -> Automerge {
    let mut doc = Automerge::new().with_actor(ActorId::from([actor; 16]));
    doc.apply_changes([Change::from_bytes(genesis(&DOCUMENT, None)).unwrap()]).unwrap();
    doc
}

fn write_at(
    doc: &mut Automerge,
    base: Option<&[ChangeHash]>,
    ops: &[Op],
    time_s: i64,
) -> Result<Vec<Change>, WriteError> {
    write(doc, &DOCUMENT, ops, &WriteOptions { base, time_s, ..WriteOptions::default() })
}

fn try_edit(doc: &mut Automerge, ops: &[Op]) -> Result<Vec<Change>, WriteError> {
    write_at(doc, None, ops, 1_700_000_000)
}

/// Writes, and checks what holds for every edit: what was returned is what was written, in an
/// order it can be applied in, and the guard takes it.
fn edit(doc: &mut Automerge, ops: &[Op]) -> Vec<Change> {
    edit_at(doc, None, ops)
}

fn edit_at(doc: &mut Automerge, base: Option<&[ChangeHash]>, ops: &[Op]) -> Vec<Change> {
    let mut copy = doc.fork();
    let changes = write_at(doc, base, ops, 1_700_000_000).unwrap();
    for change in &changes {
        assert!(change.deps().iter().all(|dep| copy.get_change_by_hash(dep).is_some()));
        parse(change.raw_bytes()).unwrap();
        assert_eq!(change.author(), None);
        copy.apply_changes([change.clone()]).unwrap();
    }
    assert_eq!(copy.get_heads(), doc.get_heads());
    changes
}

/// Sets the whole value, as a typed edit does.
fn become_value(doc: &mut Automerge, after: &Value) -> Vec<Change> {
    let before = read(doc);
    edit(doc, &diff(&before, after))
}

fn read(doc: &Automerge) -> Value {
    to_json(doc, None, Marks::OURS)
}

fn exchange(one: &mut Automerge, other: &mut Automerge) {
    one.merge(other).unwrap();
    other.merge(one).unwrap();
    assert_eq!(read(one), read(other));
}

/// No key holds a container and something else.
fn assert_nothing_is_hidden(doc: &Automerge, map: &ObjId) {
    for key in doc.keys(map) {
        let values = doc.get_all(map, key.as_str()).unwrap();
        let containers = values.iter().filter(|(value, _)| value.is_object()).count();
        assert!(containers == 0 || values.len() == 1, "{key}: {values:?}");
        for (value, id) in values {
            if value.to_objtype() == Some(ObjType::Map) {
                assert_nothing_is_hidden(doc, &id);
            }
        }
    }
}

fn is_birth(change: &Change) -> bool {
    is_reserved(&rejoin_core::ActorId(change.actor_id().to_bytes().to_vec()))
}

fn ordinary(changes: &[Change]) -> Vec<&Change> {
    changes.iter().filter(|change| !is_birth(change)).collect()
}

fn set(path: &str, after: Value) -> Op {
    Op::Set { path: path.into(), before: None, after }
}

fn remove(path: &str) -> Op {
    Op::Remove { path: path.into() }
}

fn insert(path: &str, index: usize, value: Value) -> Op {
    Op::Insert { path: path.into(), index, value }
}

fn remove_at(path: &str, index: usize) -> Op {
    Op::RemoveAt { path: path.into(), index }
}

fn splice(path: &str, index: usize, delete: usize, insert: &str) -> Op {
    Op::Splice { path: path.into(), index, delete, insert: insert.into() }
}

fn append(path: &str, text: &str) -> Op {
    Op::Append { path: path.into(), text: text.into() }
}

fn increment(path: &str, by: i64) -> Op {
    Op::Increment { path: path.into(), by }
}
