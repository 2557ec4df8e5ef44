//! Steps applied to plain JSON, which a document should then read as.

use serde_json::{Map, Value};

use super::Op;
use crate::value::normal;
use rejoin_core::{Path, Segment};

/// Applies one step. Panics where a document would refuse it.
pub(crate) fn apply(value: &mut Value, op: &Op) {
    match op {
        Op::Set { path, after, .. } => *at(value, path) = normal(after),
        Op::Remove { path } => {
            let (last, parent) = path.segments().split_last().unwrap();
            let parent: Path = parent.iter().cloned().collect();
            match (last, at(value, &parent)) {
                (Segment::Key(key), Value::Object(map)) => _ = map.remove(key),
                (Segment::Index(index), Value::Array(items)) => _ = items.remove(*index),
                (last, other) => panic!("{last:?} of {other}"),
            }
        }
        Op::Insert { path, index, value: item } => {
            list(value, path).insert(*index, normal(item));
        }
        Op::RemoveAt { path, index } => _ = list(value, path).remove(*index),
        Op::Splice { path, index, delete, insert } => {
            splice(at(value, path), *index, *delete, insert);
        }
        Op::Append { path, text } => {
            let end = at(value, path).as_str().map_or(0, |text| text.chars().count());
            splice(at(value, path), end, 0, text);
        }
        Op::Increment { path, by } => {
            let count = at(value, path);
            *count = Value::from(count.as_i64().unwrap_or(0) + by);
        }
        Op::Delete | Op::Restore => unreachable!("an edit of a value does neither"),
    }
}

fn at<'a>(value: &'a mut Value, path: &Path) -> &'a mut Value {
    path.segments().iter().fold(value, |value, segment| match segment {
        Segment::Key(key) => {
            if value.is_null() {
                *value = Value::Object(Map::new());
            }
            value.as_object_mut().unwrap().entry(key.as_str()).or_insert(Value::Null)
        }
        Segment::Index(index) => &mut value[*index],
    })
}

fn list<'a>(value: &'a mut Value, path: &Path) -> &'a mut Vec<Value> {
    let list = at(value, path);
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    list.as_array_mut().unwrap()
}

fn splice(text: &mut Value, index: usize, delete: usize, insert: &str) {
    let mut chars: Vec<char> = text.as_str().unwrap_or_default().chars().collect();
    chars.splice(index..index + delete, insert.chars());
    *text = Value::from(chars.into_iter().collect::<String>());
}
