//! The operations of a change: counted and checked row by row, never applied.

use std::collections::BTreeMap;

use super::GuardError;
use super::columns::{Booleans, Deltas, Runs};
use super::layout::Layout;
use super::reader::Reader;
use crate::limits::{CHANGE_ROWS_MAX, OP_COUNTER_MAX};

pub(super) const MAKE_MAP: u64 = 0;
pub(super) const PUT: u64 = 1;
pub(super) const MAKE_LIST: u64 = 2;
pub(super) const MAKE_TEXT: u64 = 4;
const DELETE: u64 = 3;
const INCREMENT: u64 = 5;
const MAKE_TABLE: u64 = 6;
const MARK: u64 = 7;

/// The value of an operation that has none.
pub(super) const NULL: u64 = 0;
/// A counter of one byte: its length above the type.
pub(super) const COUNTER_BYTE: u64 = 1 << 4 | 8;

/// The totals of the operations of a change.
#[derive(Debug)]
pub(super) struct Summary<'a> {
    pub(super) count: u64,
    /// How deep the maps, lists and texts that the change makes stand inside each other.
    pub(super) depth: usize,
    /// The first operation, if it writes at a map key where it saw nothing or one thing.
    pub(super) first: Option<MapWrite<'a>>,
    /// The bytes of all values.
    pub(super) values: &'a [u8],
}

/// An operation that writes at a map key and overwrites nothing, or one thing.
#[derive(Debug, Clone, Copy)]
pub(super) struct MapWrite<'a> {
    /// Counter and actor index of the map; the root has none.
    pub(super) object: Option<(u64, usize)>,
    pub(super) key: &'a str,
    pub(super) action: u64,
    pub(super) value_meta: u64,
    pub(super) value: &'a [u8],
    /// Counter and actor index of the operation it overwrites.
    pub(super) pred: Option<(u64, usize)>,
}

/// Reads every row of every column.
///
/// Automerge parses a change that passes to as many operations. References point only to earlier
/// operations; whether those exist is not known here.
pub(super) fn check<'a>(
    layout: &Layout<'a>,
    actors: &[&[u8]],
    start_op: u64,
) -> Result<Summary<'a>, GuardError> {
    let mut rows = Rows::new(layout);
    let mut scope = Scope {
        actors,
        used: vec![false; actors.len()],
        row: 0,
        counter: start_op,
        nesting: Nesting::default(),
    };
    let mut first = None;
    while let Some(action) = rows.action.next_row()? {
        let write = rows.next_operation(action, &mut scope)?;
        if scope.row == 0 {
            first = write;
        }
        scope.row += 1;
        scope.counter += 1;
    }
    rows.finish(scope.row)?;
    if scope.used.iter().skip(1).all(|used| *used) {
        let values = layout.values();
        Ok(Summary { count: scope.row, depth: scope.nesting.deepest, first, values })
    } else {
        Err(GuardError::ActorsOrder)
    }
}

/// How deep the containers that one change makes stand inside each other.
#[derive(Debug, Default)]
struct Nesting {
    /// The depth of each container inside others of this change, by its counter.
    depths: BTreeMap<u64, usize>,
    deepest: usize,
}

impl Nesting {
    /// Takes a container that is made in an object.
    fn make(&mut self, object: Option<(u64, usize)>, counter: u64) {
        let around = object.filter(|(_, actor)| *actor == 0);
        let depth = 1 + around.and_then(|(counter, _)| self.depths.get(&counter)).unwrap_or(&0);
        self.depths.insert(counter, depth);
        self.deepest = self.deepest.max(depth);
    }
}

/// The place in its object at which an operation writes.
#[derive(Debug, Clone, Copy)]
enum Key<'a> {
    /// At a key of a map.
    Map(&'a str),
    /// Before the first element of a sequence.
    Head,
    /// At an element of a sequence, or after it.
    Element,
}

impl Key<'_> {
    fn is_map(self) -> bool {
        matches!(self, Self::Map(_))
    }
}

/// Whether something can be inserted, or written over so many others, there.
fn fits(key: Key<'_>, insert: bool, preds: u64) -> bool {
    match key {
        Key::Map(_) => !insert,
        Key::Head => insert && preds == 0,
        Key::Element => !insert || preds == 0,
    }
}

/// The operations and actors that an operation may refer to.
struct Scope<'c> {
    /// The actors by index; the first is the author's.
    actors: &'c [&'c [u8]],
    used: Vec<bool>,
    /// The operation's place in the change, from 0.
    row: u64,
    /// The operation's own counter.
    counter: u64,
    nesting: Nesting,
}

impl Scope<'_> {
    /// Checks a reference to an earlier operation.
    fn reference(
        &mut self,
        what: &'static str,
        counter: i128,
        actor: u64,
    ) -> Result<(u64, usize), GuardError> {
        let index = usize::try_from(actor).unwrap_or(usize::MAX);
        let Some(used) = self.used.get_mut(index) else {
            return Err(GuardError::ActorIndex { what, index: actor, count: self.actors.len() });
        };
        *used = true;
        let max = self.counter.saturating_sub(1);
        match u64::try_from(counter) {
            Ok(counter) if (1..=max).contains(&counter) => Ok((counter, index)),
            _ => Err(GuardError::Counter { what, counter, min: 1, max }),
        }
    }

    fn impossible<T>(&self, what: &'static str) -> Result<T, GuardError> {
        Err(GuardError::Operation { row: self.row, what })
    }
}

/// The columns of a change, read in step.
struct Rows<'a> {
    object_actor: Runs<'a, u64>,
    object_counter: Runs<'a, u64>,
    key_actor: Runs<'a, u64>,
    key_counter: Deltas<'a>,
    key_text: Runs<'a, &'a str>,
    insert: Booleans<'a>,
    action: Runs<'a, u64>,
    value_meta: Runs<'a, u64>,
    value: Reader<'a>,
    pred_count: Runs<'a, u64>,
    pred_actor: Runs<'a, u64>,
    pred_counter: Deltas<'a>,
    /// Predecessors of all operations so far.
    preds: u64,
    expand: Booleans<'a>,
    mark_name: Runs<'a, &'a str>,
}

impl<'a> Rows<'a> {
    fn new(layout: &Layout<'a>) -> Self {
        let [
            object_actor,
            object_counter,
            key_actor,
            key_counter,
            key_text,
            insert,
            action,
            value_meta,
            value,
            pred_count,
            pred_actor,
            pred_counter,
            expand,
            mark_name,
        ] = layout.contents();
        Self {
            object_actor: Runs::new(object_actor, "object actor"),
            object_counter: Runs::new(object_counter, "object counter"),
            key_actor: Runs::new(key_actor, "key actor"),
            key_counter: Deltas::new(key_counter, "key counter"),
            key_text: Runs::new(key_text, "key text"),
            insert: Booleans::new(insert, "insert"),
            action: Runs::new(action, "action"),
            value_meta: Runs::new(value_meta, "value type"),
            value: Reader::new(value),
            pred_count: Runs::new(pred_count, "predecessor count"),
            pred_actor: Runs::new(pred_actor, "predecessor actor"),
            pred_counter: Deltas::new(pred_counter, "predecessor counter"),
            preds: 0,
            expand: Booleans::new(expand, "expand"),
            mark_name: Runs::new(mark_name, "mark name"),
        }
    }

    fn next_operation(
        &mut self,
        action: Option<u64>,
        scope: &mut Scope<'_>,
    ) -> Result<Option<MapWrite<'a>>, GuardError> {
        if scope.counter > OP_COUNTER_MAX {
            let counter = i128::from(scope.counter);
            let what = "operation counter";
            return Err(GuardError::Counter { what, counter, min: 1, max: OP_COUNTER_MAX });
        }
        let Some(action @ 0..=MARK) = action else { return scope.impossible("action") };
        let object = self.next_object(scope)?;
        let key = self.next_key(scope)?;
        let insert = self.insert.next_row()?.ok_or(GuardError::RowsDiffer { column: "insert" })?;
        let (value_meta, value) = self.next_value(action, scope)?;
        let (preds, pred) = self.next_preds(scope)?;
        let expand = self.expand.next_row()?.unwrap_or(false);
        let mark = self.mark_name.next_or_null()?;
        let plain = !insert && !expand && mark.is_none();
        let possible = match action {
            // Automerge keeps of a delete only the operations that it deletes.
            DELETE => plain && preds > 0 && value_meta == NULL,
            MARK => insert,
            _ => true,
        };
        if !possible || !fits(key, insert, preds) || (object.is_none() && !key.is_map()) {
            return scope.impossible("combination of columns");
        }
        if matches!(action, MAKE_MAP | MAKE_LIST | MAKE_TEXT | MAKE_TABLE) {
            scope.nesting.make(object, scope.counter);
        }
        match key {
            Key::Map(key) if plain && preds < 2 => {
                Ok(Some(MapWrite { object, key, action, value_meta, value, pred }))
            }
            _ => Ok(None),
        }
    }

    /// The object written in; the root is none.
    fn next_object(&mut self, scope: &mut Scope<'_>) -> Result<Option<(u64, usize)>, GuardError> {
        match (self.object_actor.next_or_null()?, self.object_counter.next_or_null()?) {
            (None, None) => Ok(None),
            (Some(actor), Some(counter)) => {
                scope.reference("object counter", i128::from(counter), actor).map(Some)
            }
            _ => scope.impossible("object"),
        }
    }

    fn next_key(&mut self, scope: &mut Scope<'_>) -> Result<Key<'a>, GuardError> {
        let place = (self.key_actor.next_or_null()?, self.key_counter.next_or_null()?);
        match (place, self.key_text.next_or_null()?) {
            ((None, None), Some(key)) => Ok(Key::Map(key)),
            ((None, Some(0)), None) => Ok(Key::Head),
            ((Some(actor), Some(counter)), None) => {
                scope.reference("key counter", i128::from(counter), actor).map(|_| Key::Element)
            }
            _ => scope.impossible("key"),
        }
    }

    /// Type and bytes of the value.
    fn next_value(
        &mut self,
        action: u64,
        scope: &Scope<'_>,
    ) -> Result<(u64, &'a [u8]), GuardError> {
        let meta = self.value_meta.next_value()?;
        let bytes = self.value.take(meta >> 4, "values")?;
        let kind = meta & 0xf;
        if action == INCREMENT && !matches!(kind, UNSIGNED | SIGNED) {
            return scope.impossible("increment");
        }
        if is_value(kind, bytes)? { Ok((meta, bytes)) } else { scope.impossible("value") }
    }

    /// The number of operations that this one overwrites, and the last of them. They stand in the
    /// order of their counters, then actors; otherwise a saved document gets them back in another
    /// order, and another hash.
    fn next_preds(
        &mut self,
        scope: &mut Scope<'_>,
    ) -> Result<(u64, Option<(u64, usize)>), GuardError> {
        let count = self.pred_count.next_value()?;
        self.preds = self.preds.saturating_add(count);
        if self.preds > CHANGE_ROWS_MAX {
            let (column, rows) = ("predecessor", self.preds);
            return Err(GuardError::Rows { column, rows, max: CHANGE_ROWS_MAX });
        }
        let (mut last, mut found) = (None, None);
        for _ in 0..count {
            let id = (self.pred_actor.next_or_null()?, self.pred_counter.next_or_null()?);
            let (Some(actor), Some(counter)) = id else { return scope.impossible("predecessor") };
            let (counter, index) =
                scope.reference("predecessor counter", i128::from(counter), actor)?;
            let pred = Some((counter, scope.actors[index]));
            if last >= pred {
                return scope.impossible("order of predecessors");
            }
            (last, found) = (pred, Some((counter, index)));
        }
        Ok((count, found))
    }

    /// Checks that no column goes on after the last operation.
    fn finish(&self, rows: u64) -> Result<(), GuardError> {
        for column in [&self.object_actor, &self.object_counter, &self.key_actor] {
            column.finish(rows)?;
        }
        self.key_counter.finish(rows)?;
        self.key_text.finish(rows)?;
        self.insert.finish(rows)?;
        self.value_meta.finish(rows)?;
        self.pred_count.finish(rows)?;
        self.pred_actor.finish(self.preds)?;
        self.pred_counter.finish(self.preds)?;
        self.expand.finish_sparse(rows)?;
        self.mark_name.finish(rows)?;
        match self.value.rest().len() {
            0 => Ok(()),
            len => Err(GuardError::Trailing { what: "values", len }),
        }
    }
}

const BOOLEAN_TRUE: u64 = 2;
const UNSIGNED: u64 = 3;
const SIGNED: u64 = 4;
const FLOAT: u64 = 5;
/// The type of a value that is text.
pub(super) const TEXT: u64 = 6;
const COUNTER: u64 = 8;
const TIMESTAMP: u64 = 9;

/// Whether `bytes` are a value of this type; types above are kept as they are.
fn is_value(kind: u64, bytes: &[u8]) -> Result<bool, GuardError> {
    let mut reader = Reader::new(bytes);
    match kind {
        NULL..=BOOLEAN_TRUE => {}
        UNSIGNED => _ = reader.u64("value")?,
        SIGNED | COUNTER | TIMESTAMP => _ = reader.i64("value")?,
        FLOAT => return Ok(bytes.len() == 8),
        TEXT => {
            std::str::from_utf8(bytes).map_err(|_| GuardError::Utf8 { what: "value" })?;
            return Ok(true);
        }
        _ => return Ok(true),
    }
    Ok(reader.is_empty())
}
