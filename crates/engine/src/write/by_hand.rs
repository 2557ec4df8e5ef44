//! Decisions about things that Automerge does not show: a list item that was deleted, such as by
//! somebody without the right, and containers that another one hides.
//!
//! Automerge lets nobody write at an item it does not show. But somebody who had not heard of the
//! deletion could have written there, and then the item would show again. The change made here
//! writes the same, and knows of the deletion. Likewise Automerge deletes everything at a field or
//! nothing, while the change made here deletes only the hidden containers.

use std::num::NonZeroU64;

use automerge::legacy::{ElementId, Key, ObjectId as Object, Op, OpId, OpType};
use automerge::transaction::CommitOptions;
use automerge::{Automerge, Change, ChangeHash, ExpandedChange, ReadDoc, ScalarValue};
use rejoin_core::ActorId;
use rejoin_core::change::ObjectId;
use rejoin_core::lineage::{Standing, Step};

use super::WriteError;
use super::gather::gather;

/// Puts `value` at a deleted item of a list, which brings it back, or deletes it once more.
pub(super) fn restore(
    doc: &mut Automerge,
    list: &ObjectId,
    item: (u64, &ActorId),
    value: Option<ScalarValue>,
    time_s: i64,
    message: &str,
) -> Result<Vec<Change>, WriteError> {
    let key = || Key::Seq(ElementId::Id(OpId(item.0, item.1.0.clone().into())));
    let op = |action, pred: Vec<OpId>| Op {
        action,
        obj: object(list),
        key: key(),
        pred: pred.into(),
        insert: false,
    };
    next_change(doc, time_s, message, |first| match value {
        Some(value) => vec![op(OpType::Put(value), Vec::new())],
        // A deletion needs something to delete.
        None => {
            vec![op(OpType::Put(ScalarValue::Null), Vec::new()), op(OpType::Delete, vec![first])]
        }
    })
}

/// Deletes containers and counters that others hide at a field, and leaves the others that stand
/// there.
pub(crate) fn discard(
    doc: &mut Automerge,
    standing: &Standing,
    hidden: &[ObjectId],
    time_s: i64,
    message: &str,
) -> Result<Vec<Change>, WriteError> {
    let key = match standing.place.0.last() {
        Some(Step::Key(key)) => Key::Map(key.as_str().into()),
        Some(Step::Item { counter, actor }) => {
            Key::Seq(ElementId::Id(OpId(*counter, actor.0.clone().into())))
        }
        None => return Ok(Vec::new()),
    };
    let made = |made: &ObjectId| match made {
        ObjectId::Root => None,
        ObjectId::Op { counter, actor } => Some(OpId(*counter, actor.0.clone().into())),
    };
    let pred: Vec<OpId> = hidden.iter().filter_map(made).collect();
    let obj = object(&standing.object);
    let op = Op { action: OpType::Delete, obj, key, pred: pred.into(), insert: false };
    let (mut changes, _) = gather(doc, None, time_s)?;
    changes.extend(next_change(doc, time_s, message, |_| vec![op])?);
    Ok(changes)
}

fn object(id: &ObjectId) -> Object {
    match id {
        ObjectId::Root => Object::Root,
        ObjectId::Op { counter, actor } => Object::Id(OpId(*counter, actor.0.clone().into())),
    }
}

/// Applies a change of the document's actor that knows all there is and holds these operations.
/// They are made from the name that the first of them will have.
fn next_change(
    doc: &mut Automerge,
    time_s: i64,
    message: &str,
    operations: impl FnOnce(OpId) -> Vec<Op>,
) -> Result<Vec<Change>, WriteError> {
    let mut changes = Vec::new();
    let actor = doc.get_actor().clone();
    let (last, seq) = match last_of(doc, &actor) {
        Some(last) => last,
        None => {
            // The first change of an actor names its author. An expanded change cannot.
            let first = doc.empty_commit(CommitOptions::default().with_time(time_s));
            changes.extend(doc.get_change_by_hash(&first));
            (first, 1)
        }
    };
    let max_op = doc.get_changes_meta(&[]).iter().map(|change| change.max_op).max();
    let start_op = NonZeroU64::MIN.saturating_add(max_op.unwrap_or_default());
    let mut deps = doc.get_heads();
    if !deps.contains(&last) {
        deps.push(last);
        deps.sort_unstable();
    }
    let change = Change::from(ExpandedChange {
        operations: operations(OpId(start_op.get(), actor.clone())),
        actor_id: actor,
        hash: None,
        seq: seq + 1,
        start_op,
        time: time_s,
        message: Some(message.to_owned()),
        deps,
        extra_bytes: Vec::new(),
        author: None,
    });
    doc.apply_changes([change.clone()])?;
    changes.push(change);
    Ok(changes)
}

/// The last change of an actor, and its number among those.
pub(super) fn last_of(doc: &Automerge, actor: &automerge::ActorId) -> Option<(ChangeHash, u64)> {
    let changes = doc.get_changes_meta(&[]);
    let own = changes.iter().filter(|change| *change.actor == *actor);
    own.max_by_key(|change| change.seq).map(|change| (change.hash, change.seq))
}
