//! A decision about one field, written even if Automerge shows that value already.

use automerge::transaction::CommitOptions;
use automerge::{Automerge, Change, ChangeHash, ObjId, Prop, ReadDoc};
use rejoin_core::change::ObjectId;
use rejoin_core::lineage::{Standing, Step};
use serde_json::Value;

use super::WriteError;
use super::by_hand::restore;
use super::carry_out::{delete, put};
use super::gather::gather;
use super::transact::transact;
use crate::value::to_scalar;

/// Puts `value` at a field, or clears it, as one change with a message. `None` if the value is not
/// a plain one. `between` are the changes whose values are decided between.
pub(crate) fn decide(
    doc: &mut Automerge,
    standing: &Standing,
    between: &[ChangeHash],
    value: Option<&Value>,
    time_s: i64,
    message: &str,
) -> Result<Vec<Change>, WriteError> {
    let object = object(&standing.object);
    let scalar = match value.map(to_scalar) {
        Some(None) => return Ok(Vec::new()),
        scalar => scalar.flatten(),
    };
    // A put takes away all that its author knew, and a container must stay.
    let heads = standing.holds_container.then_some(between);
    let prop = match standing.place.0.last() {
        Some(Step::Key(key)) => Prop::Map(key.clone()),
        Some(Step::Item { counter, actor }) => match index(doc, &object, standing, heads) {
            Some(index) => Prop::Seq(index),
            None => {
                let (mut changes, _) = gather(doc, None, time_s)?;
                let item = (*counter, actor);
                changes.extend(restore(doc, &standing.object, item, scalar, time_s, message)?);
                return Ok(changes);
            }
        },
        None => return Ok(Vec::new()),
    };
    let (mut changes, _) = match heads {
        None => gather(doc, None, time_s)?,
        Some(_) => (Vec::new(), None),
    };
    let options = CommitOptions::default().with_time(time_s).with_message(message);
    let hash = transact(doc, heads, options, |transaction| match scalar {
        Some(scalar) => put(transaction, &object, prop, scalar),
        None => delete(transaction, &object, prop),
    })?;
    changes.extend(hash.and_then(|hash| doc.get_change_by_hash(&hash)));
    Ok(changes)
}

/// The object and key of a field in the document as Automerge shows it now; `None` if it is a list
/// item that was deleted.
pub(crate) fn found(doc: &Automerge, standing: &Standing) -> Option<(ObjId, Prop)> {
    let object = object(&standing.object);
    let prop = match standing.place.0.last()? {
        Step::Key(key) => Prop::Map(key.clone()),
        Step::Item { .. } => Prop::Seq(index(doc, &object, standing, None)?),
    };
    Some((object, prop))
}

/// As Automerge names it. It finds a container by counter and actor; the last field is only where
/// it looks for the actor first.
pub(crate) fn object(id: &ObjectId) -> ObjId {
    match id {
        ObjectId::Root => ObjId::Root,
        ObjectId::Op { counter, actor } => ObjId::Id(*counter, actor.0.clone().into(), 0),
    }
}

/// The index of an item in its list; `None` if it was deleted.
pub(super) fn index(
    doc: &Automerge,
    list: &ObjId,
    standing: &Standing,
    heads: Option<&[ChangeHash]>,
) -> Option<usize> {
    let is_item = |id: ObjId| match id {
        ObjId::Root => false,
        ObjId::Id(counter, actor, _) => {
            let ops = &standing.ops;
            ops.iter().any(|(known, by)| *known == counter && by.0 == actor.to_bytes())
        }
    };
    let mut items = match heads {
        None => doc.list_range(list, ..),
        Some(heads) => doc.list_range_at(list, .., heads),
    };
    items.find(|item| is_item(item.id())).map(|item| item.index)
}
