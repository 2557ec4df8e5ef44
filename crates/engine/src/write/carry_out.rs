//! A planned edit, written.

use std::collections::BTreeSet;

use automerge::transaction::{CommitOptions, Transactable, Transaction};
use automerge::{
    Automerge, AutomergeError, Change, ChangeHash, ObjId, ObjType, Prop, ReadDoc, ScalarValue,
};

use super::births::Born;
use super::decide::object;
use super::transact::transact;
use super::tree::{NodeId, Object, Place};
use super::{BIRTHS_PER_CHANGE, BYTES_PER_CHANGE, OPS_PER_CHANGE, WriteError, WriteOptions};
use rejoin_core::Segment;

/// An edit, ready to be written.
#[derive(Debug)]
pub(super) struct Edit {
    /// The origin of every container, by node.
    pub(super) objects: Vec<Object>,
    /// The births, parents before the containers born in them.
    pub(super) births: Vec<Born>,
    /// Scalars to delete before something is born in their place.
    pub(super) clears: Vec<Action>,
    /// Everything else, in order.
    pub(super) actions: Vec<Action>,
}

impl Edit {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.births.is_empty() && self.clears.is_empty() && self.actions.is_empty()
    }
}

/// One call of Automerge. Indices count removed items, too.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Put {
        place: Place,
        value: ScalarValue,
    },
    Insert {
        list: NodeId,
        index: usize,
        value: ScalarValue,
    },
    /// Makes a container in the ordinary way: at a place, or as an item before it.
    Make {
        place: Place,
        as_item: bool,
        kind: ObjType,
        node: NodeId,
    },
    Delete {
        place: Place,
    },
    Increment {
        place: Place,
        by: i64,
        /// The counter's birth, if this edit makes it.
        birth: Option<usize>,
    },
    Splice {
        text: NodeId,
        index: usize,
        delete: usize,
        insert: String,
    },
}

/// Writes `edit` on top of `base`, or of the current heads.
pub(super) fn carry_out(
    doc: &mut Automerge,
    edit: &Edit,
    base: Option<Vec<ChangeHash>>,
    options: &WriteOptions<'_>,
) -> Result<Vec<Change>, WriteError> {
    let many = edit.births.len() + doc.get_heads().len() > BIRTHS_PER_CHANGE;
    let heads = base.or_else(|| many.then(|| doc.get_heads()));
    let ids = vec![None; edit.objects.len()];
    let (covered, changes) = (BTreeSet::new(), Vec::new());
    let mut writer = Writer { doc, edit, heads, options, ids, covered, changes };
    writer.find_known();
    writer.run(&edit.clears)?;
    let births = writer.bear()?;
    writer.run(&edit.actions)?;
    Ok(births.into_iter().chain(writer.changes).collect())
}

#[derive(Debug)]
struct Writer<'a> {
    doc: &'a mut Automerge,
    edit: &'a Edit,
    /// The heads that the next change is made on, beside the births it needs; `None` for the
    /// document's present heads.
    heads: Option<Vec<ChangeHash>>,
    options: &'a WriteOptions<'a>,
    /// The container of every node that is in the document by now.
    ids: Vec<Option<ObjId>>,
    /// Births that are among the changes that `heads` build on.
    covered: BTreeSet<usize>,
    changes: Vec<Change>,
}

impl Writer<'_> {
    fn find_known(&mut self) {
        for (id, object) in self.ids.iter_mut().zip(&self.edit.objects) {
            if let Object::Known(known) = object {
                *id = Some(known.clone());
            }
        }
    }

    /// Applies the births, and returns those that are new here.
    fn bear(&mut self) -> Result<Vec<Change>, WriteError> {
        let mut new = Vec::new();
        for birth in &self.edit.births {
            if self.doc.get_change_meta_by_hash(&birth.hash()).is_none() {
                new.push(change(birth)?);
            }
        }
        self.doc.apply_changes(new.iter().cloned())?;
        for (id, made) in self.ids.iter_mut().zip(&self.edit.objects) {
            if let Object::Born(number) = made {
                *id = Some(object(&self.edit.births[*number].object()));
            }
        }
        Ok(new)
    }

    /// Writes the actions as one change, or as many as they need.
    fn run(&mut self, actions: &[Action]) -> Result<(), WriteError> {
        let mut rest = actions;
        while !rest.is_empty() {
            let (group, births) = self.next_group(rest);
            rest = &rest[group.len()..];
            if let Some(heads) = &mut self.heads {
                heads.extend(births.iter().map(|number| self.edit.births[*number].hash()));
                heads.sort_unstable();
                heads.dedup();
            }
            self.covered.extend(births);
            self.write_group(group)?;
        }
        Ok(())
    }

    /// The actions that fit into the next change, at least one, and the births it builds on.
    fn next_group<'b>(&self, actions: &'b [Action]) -> (&'b [Action], BTreeSet<usize>) {
        let (mut ops, mut bytes, mut births) = (0, 0, BTreeSet::new());
        for (count, action) in actions.iter().enumerate() {
            ops += action.ops();
            bytes += action.bytes();
            let needed = self.births_of(action).filter(|number| !self.covered.contains(number));
            let needed: Vec<usize> = needed.filter(|number| !births.contains(number)).collect();
            let full = ops > OPS_PER_CHANGE
                || bytes > BYTES_PER_CHANGE
                || births.len() + needed.len() > BIRTHS_PER_CHANGE;
            if full && count > 0 {
                return (&actions[..count], births);
            }
            births.extend(needed);
        }
        (actions, births)
    }

    fn births_of(&self, action: &Action) -> impl Iterator<Item = usize> {
        let container = match self.edit.objects[action.node()] {
            Object::Born(number) => Some(number),
            Object::Known(_) | Object::Made => None,
        };
        let counter = match action {
            Action::Increment { birth, .. } => *birth,
            _ => None,
        };
        container.into_iter().chain(counter)
    }

    /// Writes one change.
    fn write_group(&mut self, group: &[Action]) -> Result<(), WriteError> {
        let mut options = CommitOptions::default().with_time(self.options.time_s);
        if let Some(message) = self.options.message {
            options = options.with_message(message);
        }
        let ids = &mut self.ids;
        let written = transact(self.doc, self.heads.as_deref(), options, |transaction| {
            group.iter().try_for_each(|action| action.apply(transaction, ids))
        })?;
        let Some(hash) = written else { return Ok(()) };
        self.changes.extend(self.doc.get_change_by_hash(&hash));
        if let Some(heads) = &mut self.heads {
            *heads = vec![hash];
        }
        Ok(())
    }
}

impl Action {
    /// The container it writes in.
    fn node(&self) -> NodeId {
        match self {
            Self::Put { place, .. }
            | Self::Make { place, .. }
            | Self::Delete { place }
            | Self::Increment { place, .. } => place.node,
            Self::Insert { list: node, .. } | Self::Splice { text: node, .. } => *node,
        }
    }

    fn ops(&self) -> usize {
        match self {
            Self::Splice { delete, insert, .. } => delete + insert.chars().count(),
            _ => 1,
        }
    }

    fn bytes(&self) -> usize {
        let key = match self {
            Self::Put { place, .. }
            | Self::Make { place, .. }
            | Self::Delete { place }
            | Self::Increment { place, .. } => place.key_bytes(),
            Self::Insert { .. } | Self::Splice { .. } => 0,
        };
        let value = match self {
            Self::Put { value, .. } | Self::Insert { value, .. } => value_bytes(value),
            Self::Splice { insert, .. } => insert.len(),
            _ => 0,
        };
        key + value
    }

    fn apply(
        &self,
        transaction: &mut Transaction<'_>,
        ids: &mut [Option<ObjId>],
    ) -> Result<(), AutomergeError> {
        let id = ids[self.node()].clone().expect("a plan makes a container before it writes in it");
        match self {
            Self::Put { place, value } => put(transaction, &id, place.prop(), value.clone()),
            Self::Insert { index, value, .. } => transaction.insert(id, *index, value.clone()),
            Self::Make { place, as_item, kind, node } => {
                let made = match &place.segment {
                    Segment::Index(index) if *as_item => {
                        transaction.insert_object(id, *index, *kind)?
                    }
                    _ => transaction.put_object(id, place.prop(), *kind)?,
                };
                ids[*node] = Some(made);
                Ok(())
            }
            Self::Delete { place } => delete(transaction, &id, place.prop()),
            Self::Increment { place, by, .. } => transaction.increment(id, place.prop(), *by),
            Self::Splice { index, delete, insert, .. } => {
                transaction.splice_text(id, *index, delete.cast_signed(), insert)
            }
        }
    }
}

/// Puts a value so that the change records it: Automerge would not record a value that it shows
/// already, or only as the deletion of the other values.
pub(super) fn put(
    transaction: &mut Transaction<'_>,
    object: &ObjId,
    prop: Prop,
    value: ScalarValue,
) -> Result<(), AutomergeError> {
    let shown = transaction.get(object, prop.clone())?;
    if shown.is_some_and(|(shown, _)| shown.as_scalar() == Some(&value)) {
        let other = if value.is_null() { ScalarValue::Boolean(false) } else { ScalarValue::Null };
        transaction.put(object, prop.clone(), other)?;
    }
    transaction.put(object, prop, value)
}

/// Deletes a value so that the change records it, even if a deletion by another person hides the
/// value that stands: then there has to be something to delete.
pub(super) fn delete(
    transaction: &mut Transaction<'_>,
    object: &ObjId,
    prop: Prop,
) -> Result<(), AutomergeError> {
    if transaction.get(object, prop.clone())?.is_none() {
        transaction.put(object, prop.clone(), ScalarValue::Null)?;
    }
    transaction.delete(object, prop)
}

impl Place {
    fn prop(&self) -> Prop {
        match &self.segment {
            Segment::Key(key) => Prop::Map(key.clone()),
            Segment::Index(index) => Prop::Seq(*index),
        }
    }

    fn key_bytes(&self) -> usize {
        match &self.segment {
            Segment::Key(key) => key.len(),
            Segment::Index(_) => 0,
        }
    }
}

pub(super) fn value_bytes(value: &ScalarValue) -> usize {
    match value {
        ScalarValue::Bytes(bytes) => bytes.len(),
        ScalarValue::Str(text) => text.len(),
        _ => 8,
    }
}

fn change(birth: &Born) -> Result<Change, WriteError> {
    Change::from_bytes(birth.encode()).map_err(|source| WriteError::Birth {
        key: birth.key().to_owned(),
        source: Box::new(source),
    })
}
