//! A decision about one field, written whatever the field seems to hold.

use automerge::transaction::CommitOptions;
use automerge::{Automerge, Change, ObjId, Prop, ReadDoc};
use rejoin_core::change::ObjectId;
use rejoin_core::lineage::{Standing, Step};
use serde_json::Value;

use super::WriteError;
use super::carry_out::{delete, put};
use crate::value::to_scalar;

/// Puts `value` at a field, or clears it, as one change with a message. Nothing if the field is a
/// list item that is gone, or the value is not a plain one.
pub(crate) fn decide(
    doc: &mut Automerge,
    standing: &Standing,
    value: Option<&Value>,
    time_s: i64,
    message: &str,
) -> Result<Option<Change>, WriteError> {
    let object = match &standing.object {
        ObjectId::Root => ObjId::Root,
        ObjectId::Op { counter, actor } => ObjId::Id(*counter, actor.0.clone().into(), 0),
    };
    let Some(prop) = prop(doc, &object, standing) else { return Ok(None) };
    let scalar = match value {
        Some(value) => match to_scalar(value) {
            Some(scalar) => Some(scalar),
            None => return Ok(None),
        },
        None => None,
    };
    let mut transaction = doc.transaction();
    match scalar {
        Some(scalar) => put(&mut transaction, &object, prop, scalar)?,
        None => delete(&mut transaction, &object, prop)?,
    }
    let options = CommitOptions::default().with_time(time_s).with_message(message);
    let (hash, _) = transaction.commit_with(options);
    Ok(hash.and_then(|hash| doc.get_change_by_hash(&hash)))
}

/// Where the field stands in its container now.
fn prop(doc: &Automerge, object: &ObjId, standing: &Standing) -> Option<Prop> {
    match standing.place.0.last()? {
        Step::Key(key) => Some(Prop::Map(key.clone())),
        Step::Item { .. } => {
            let is_item = |id: ObjId| match id {
                ObjId::Root => false,
                ObjId::Id(counter, actor, _) => standing
                    .ops
                    .iter()
                    .any(|(known, by)| *known == counter && by.0 == actor.to_bytes()),
            };
            let mut items = doc.list_range(object, ..);
            items.find(|item| is_item(item.id())).map(|item| Prop::Seq(item.index))
        }
    }
}
