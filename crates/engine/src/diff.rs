//! The steps of an edit: the difference between the value that an editor was given and the one that
//! it hands back.

mod runs;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::value::{Marker, normal, plain, same};
use rejoin_core::limits::DEPTH_MAX;
use rejoin_core::lineage::DELETED;
use rejoin_core::{Path, Segment};
pub(crate) use runs::{TextEdit, text_edits};

/// One step of an edit.
///
/// Steps apply one after the other: an index is the one at that moment, after the steps before it,
/// and counts visible items, not removed ones.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// Writes a value.
    ///
    /// The kind of value in the document decides how: a text takes over the characters that differ,
    /// a counter the difference, maps and lists the parts that differ, and a scalar the value.
    /// Absent maps on the way are made.
    Set {
        /// The place.
        path: Path,
        /// The value that the editor saw there, if any. Of a counter, a map or a list `after` is compared
        /// with it, so that only the editor's difference is written; a text must still be it, as its
        /// characters are counted in it. For a scalar it says nothing. `None` compares with the value that
        /// is there.
        before: Option<Value>,
        /// The new value. `null` over a container empties it, as [`Remove`](Self::Remove) does.
        after: Value,
    },
    /// Removes the value at a key of a map, or a list item.
    ///
    /// A container at a key stays in the document, where others may be writing in it: a text and a
    /// list are emptied, a counter goes back to 0, and a map is marked as removed, until something
    /// is written into it again.
    Remove {
        /// The place.
        path: Path,
    },
    /// Inserts an item into a list.
    Insert {
        /// The list. An absent one is made.
        path: Path,
        /// Before which item; the length of the list appends.
        index: usize,
        /// The item.
        value: Value,
    },
    /// Removes an item of a list.
    RemoveAt {
        /// The list.
        path: Path,
        /// The item.
        index: usize,
    },
    /// Replaces characters of a text. An absent text is made.
    Splice {
        /// The text.
        path: Path,
        /// The place, in Unicode code points.
        index: usize,
        /// The number of code points to delete there.
        delete: usize,
        /// The text to insert there.
        insert: String,
    },
    /// Appends to a text. An absent text is made.
    Append {
        /// The text.
        path: Path,
        /// The text to append.
        text: String,
    },
    /// Adds to a counter. An absent counter is made.
    Increment {
        /// The counter.
        path: Path,
        /// The amount; a negative one counts down.
        by: i64,
    },
    /// Deletes the document: it leaves lists, and keeps its history.
    Delete,
    /// Brings a deleted document back.
    Restore,
}

impl Op {
    /// The path of the value it is about, or for items that of the list.
    pub fn path(&self) -> &Path {
        match self {
            Self::Delete | Self::Restore => {
                static DOCUMENT: Path = Path::ROOT;
                &DOCUMENT
            }
            Self::Set { path, .. }
            | Self::Remove { path }
            | Self::Insert { path, .. }
            | Self::RemoveAt { path, .. }
            | Self::Splice { path, .. }
            | Self::Append { path, .. }
            | Self::Increment { path, .. } => path,
        }
    }

    /// The value it writes, if it writes one.
    pub(crate) fn value(&self) -> Option<&Value> {
        match self {
            Self::Set { after: value, .. } | Self::Insert { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The places it writes at: for a map, those of the entries that differ.
    pub(crate) fn places(&self) -> Vec<Path> {
        if matches!(self, Self::Delete | Self::Restore) {
            // As schemas would name it.
            return vec![Path::from([DELETED])];
        }
        let Self::Set { path, before, after: Value::Object(after) } = self else {
            return vec![self.path().clone()];
        };
        if path.is_root() || Marker::of(&Value::Object(after.clone())).is_none() {
            let before = before.as_ref().and_then(Value::as_object);
            let was = |key: &String| before.and_then(|before| before.get(key)).cloned();
            let entries = after.iter().filter(|(key, value)| was(key).as_ref() != Some(*value));
            let nested = entries.flat_map(|(key, value)| {
                let (path, before) = (path.join(key.clone()), was(key));
                Self::Set { path, before, after: value.clone() }.places()
            });
            return nested.collect();
        }
        vec![path.clone()]
    }
}

/// The steps that lead from `before` to `after`.
///
/// `after` is compared with the value that was handed in, never with a document: a part that the
/// editor did not touch is not written, even if others changed it meanwhile.
///
/// [Markers](crate::Text) compare by their content, so a text as read (a string) and as written
/// (`{"$text": ..}`) are the same.
///
/// ```
/// use rejoin_engine::{Op, diff};
/// use serde_json::json;
///
/// let before = json!({ "status": "booked", "tags": ["roof"], "notes": "Ring twice." });
/// let after = json!({ "status": "done", "tags": ["roof", "urgent"], "notes": "Ring twice." });
/// assert_eq!(
///     diff(&before, &after),
///     [
///         Op::Set { path: "status".into(), before: Some(json!("booked")), after: json!("done") },
///         Op::Insert { path: "tags".into(), index: 1, value: json!("urgent") },
///     ],
/// );
/// ```
pub fn diff(before: &Value, after: &Value) -> Vec<Op> {
    diff_at(&Path::ROOT, before, after)
}

/// The same for values that stand at `path`.
pub(crate) fn diff_at(path: &Path, before: &Value, after: &Value) -> Vec<Op> {
    let mut ops = Vec::new();
    compare(path, before, after, &mut ops);
    ops
}

fn compare(path: &Path, before: &Value, after: &Value, ops: &mut Vec<Op>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) if alike(path, before, after) => {
            compare_maps(path, old, new, ops);
        }
        (Value::Array(old), Value::Array(new)) if alike(path, before, after) => {
            compare_lists(path, old, new, ops);
        }
        _ if same(before, after) => {}
        _ => ops.push(Op::Set {
            path: path.clone(),
            before: Some(before.clone()),
            after: after.clone(),
        }),
    }
}

/// Whether two values are compared part by part: two maps or two lists, at a depth at which they
/// can be written.
fn alike(path: &Path, before: &Value, after: &Value) -> bool {
    let kind = Shape::of(before);
    kind == Shape::of(after)
        && matches!(kind, Shape::Map | Shape::List)
        && path.segments().len() <= DEPTH_MAX
}

fn compare_maps(
    path: &Path,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    ops: &mut Vec<Op>,
) {
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    ops.extend(gone.map(|key| Op::Remove { path: path.join(key.as_str()) }));
    for (key, value) in after {
        let path = path.join(key.as_str());
        match before.get(key) {
            Some(old) => compare(&path, old, value, ops),
            None => ops.push(Op::Set { path, before: None, after: value.clone() }),
        }
    }
}

/// Items are matched by equality. If a run of items was replaced by as many others, they are taken
/// for the same items, edited.
fn compare_lists(path: &Path, before: &[Value], after: &[Value], ops: &mut Vec<Op>) {
    let mut names = BTreeMap::new();
    let old_names = name_items(before, &mut names);
    let new_names = name_items(after, &mut names);
    for run in runs::replaced(&old_names, &new_names) {
        let (start, old, new) = (run.new.start, &before[run.old], &after[run.new]);
        if old.len() == new.len() {
            for (place, (old, new)) in old.iter().zip(new).enumerate() {
                compare_items(path, start + place, old, new, ops);
            }
            continue;
        }
        ops.extend(old.iter().map(|_| Op::RemoveAt { path: path.clone(), index: start }));
        ops.extend(new.iter().enumerate().map(|(place, item)| Op::Insert {
            path: path.clone(),
            index: start + place,
            value: item.clone(),
        }));
    }
}

fn compare_items(path: &Path, index: usize, before: &Value, after: &Value, ops: &mut Vec<Op>) {
    if Shape::of(before) == Shape::of(after) {
        return compare(&path.join(Segment::Index(index)), before, after, ops);
    }
    ops.push(Op::RemoveAt { path: path.clone(), index });
    ops.push(Op::Insert { path: path.clone(), index, value: after.clone() });
}

/// One number for all items of equal content.
fn name_items(items: &[Value], names: &mut BTreeMap<String, usize>) -> Vec<usize> {
    let mut name = |item| {
        let next = names.len();
        *names.entry(normal(item).to_string()).or_insert(next)
    };
    items.iter().map(&mut name).collect()
}

/// The shape of a value: a value can be edited in place into another of the same shape. A text and
/// a string read alike, so they have one shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Scalar,
    Map,
    List,
}

impl Shape {
    fn of(value: &Value) -> Self {
        match &*plain(value) {
            Value::Array(_) => Self::List,
            Value::Object(_) if Marker::of(value).is_none() => Self::Map,
            _ => Self::Scalar,
        }
    }
}

#[cfg(test)]
pub(crate) mod model;

#[cfg(test)]
pub(crate) mod tests;
