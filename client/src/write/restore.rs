//! A decision about a list item that was deleted, such as by somebody without the right.
//!
//! Automerge lets nobody write at an item it does not show. But somebody who had not heard of the
//! deletion could have written there, and then the item would show again. The change made here
//! writes the same, and knows of the deletion.

use std::num::NonZeroU64;

use automerge::legacy::{ElementId, Key, ObjectId as Object, Op, OpId, OpType};
use automerge::transaction::CommitOptions;
use automerge::{Automerge, Change, ChangeHash, ExpandedChange, ReadDoc, ScalarValue};
use rejoin_core::ActorId;
use rejoin_core::change::ObjectId;

use super::WriteError;

/// Puts `value` at a deleted item of a list, which brings it back, or deletes it once more.
pub(super) fn restore(
    doc: &mut Automerge,
    list: &ObjectId,
    item: (u64, &ActorId),
    value: Option<ScalarValue>,
    time_s: i64,
    message: &str,
) -> Result<Vec<Change>, WriteError> {
    let mut changes = Vec::new();
    let actor = doc.get_actor().clone();
    let (last, seq) = match last_of(doc, &actor) {
        Some(last) => last,
        None => {
            // The first change of an actor says who acts. An expanded one cannot.
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
    let op = |action, pred: Vec<OpId>| Op {
        action,
        obj: match list {
            ObjectId::Root => Object::Root,
            ObjectId::Op { counter, actor } => Object::Id(OpId(*counter, actor.0.clone().into())),
        },
        key: Key::Seq(ElementId::Id(OpId(item.0, item.1.0.clone().into()))),
        pred: pred.into(),
        insert: false,
    };
    let operations = match value {
        Some(value) => vec![op(OpType::Put(value), Vec::new())],
        // A deletion needs something to delete.
        None => vec![
            op(OpType::Put(ScalarValue::Null), Vec::new()),
            op(OpType::Delete, vec![OpId(start_op.get(), actor.clone())]),
        ],
    };
    let change = Change::from(ExpandedChange {
        operations,
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
