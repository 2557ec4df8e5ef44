//! The lineage of a loaded document: made when it is first asked for, kept up with every change.

use std::collections::BTreeSet;
use std::sync::Arc;

use automerge::legacy::{ElementId, Key, ObjectId as Object, OpType};
use automerge::{Change, ObjType, ReadDoc};
use rejoin_core::change::ObjectId;
use rejoin_core::lineage::{Action, Lineage, NewChange, NewOp, OpKey, Standing};
use rejoin_core::schema::{Rule, Schema};
use rejoin_core::{ActorId, ChangeHash, DocumentId, Settlement, Undo};

use super::loaded::fenced;
use super::{EngineError, LoadedDocument};
use crate::store::DocumentRow;
use crate::value::{Effective, from_scalar};

impl LoadedDocument {
    /// The lineage by a schema.
    pub(super) fn lineage(
        &mut self,
        id: &DocumentId,
        schema: &Arc<Schema>,
    ) -> Result<&Lineage, EngineError> {
        if self.lineage.is_none() {
            let lineage = fenced(|| {
                let mut lineage = Lineage::new(*id, Arc::clone(schema));
                self.doc.get_changes(&[]).iter().for_each(|change| add(&mut lineage, change));
                Ok(lineage)
            })
            .map_err(|reason| EngineError::Unreadable { document: *id, reason })?;
            self.lineage = Some(Box::new(lineage));
        }
        let lineage = self.lineage.as_mut().expect("it was made if there was none");
        lineage.set_schema(Arc::clone(schema));
        Ok(lineage)
    }
}

impl LoadedDocument {
    /// The values that people saw when these older heads were all, where they are not those that
    /// Automerge shows.
    ///
    /// An author means places in lists and values as they were to be seen, so every edit at older
    /// heads is read against these values: `new` is [`Effective::for_edit`] then.
    pub(super) fn effective_at(
        &self,
        id: &DocumentId,
        row: &DocumentRow,
        schema: &Arc<Schema>,
        heads: &[automerge::ChangeHash],
        new: impl Fn(&Lineage, &[Standing]) -> Effective,
    ) -> Result<Effective, EngineError> {
        let effective = || {
            if !self.may_have_read_otherwise(row, schema, heads) {
                return Ok(Effective::default());
            }
            let later: BTreeSet<_> =
                self.doc.get_changes_meta(heads).into_iter().map(|change| change.hash).collect();
            let mut lineage = Lineage::new(*id, Arc::clone(schema));
            let changes = self.doc.get_changes(&[]);
            let known = changes.iter().filter(|change| !later.contains(&change.hash()));
            known.for_each(|change| add(&mut lineage, change));
            Ok(new(&lineage, &lineage.standings()))
        };
        fenced(effective).map_err(|reason| EngineError::Unreadable { document: *id, reason })
    }

    /// Whether the document may have read otherwise at these heads than Automerge shows it there:
    /// it does so now, or something was settled or written over since, or there are sets, of which
    /// like items do not show.
    fn may_have_read_otherwise(
        &self,
        row: &DocumentRow,
        schema: &Schema,
        heads: &[automerge::ChangeHash],
    ) -> bool {
        let settles = |message: &str| {
            Settlement::from_message(message).is_some() || Undo::from_message(message).is_some()
        };
        row.uneasy
            || schema.fields.values().any(|field| field.merge == Rule::Set)
            || self
                .doc
                .get_changes(heads)
                .iter()
                .any(|change| change.message().is_some_and(&settles) || self.writes_over(change))
    }

    /// Whether a change takes the place of a value, and not only of characters.
    fn writes_over(&self, change: &Change) -> bool {
        let takes = |op: &automerge::legacy::Op| {
            !op.pred.is_empty()
                && !matches!(op.action, OpType::Increment(_))
                && !self.is_in_text(&op.obj)
        };
        change.decode().operations.iter().any(takes)
    }

    fn is_in_text(&self, object: &Object) -> bool {
        let Object::Id(id) = object else { return false };
        let id = automerge::ObjId::Id(id.0, id.1.clone(), 0);
        matches!(self.doc.object_type(&id), Ok(ObjType::Text))
    }
}

/// Adds a change that Automerge has applied.
pub(super) fn add(lineage: &mut Lineage, change: &Change) {
    let deps: Vec<_> = change.deps().iter().map(|dep| ChangeHash(dep.0)).collect();
    let actor = ActorId(change.actor_id().to_bytes().to_vec());
    let author = change.author();
    let new = NewChange {
        hash: ChangeHash(change.hash().0),
        deps: &deps,
        actor: &actor,
        seq: change.seq(),
        time_s: change.timestamp(),
        author: author.as_ref().map(|author| author.as_bytes()),
        message: change.message(),
    };
    lineage.add(&new, operations(change));
}

/// The operations of a change.
pub(super) fn operations(change: &Change) -> impl Iterator<Item = NewOp> {
    let decoded = change.decode();
    let start = decoded.start_op.get();
    let numbered = decoded.operations.into_iter().zip(start..);
    numbered.map(|(operation, counter)| op(operation, counter))
}

fn op(operation: automerge::legacy::Op, counter: u64) -> NewOp {
    let object = match operation.obj {
        Object::Root => ObjectId::Root,
        Object::Id(id) => ObjectId::Op { counter: id.0, actor: actor(&id.1) },
    };
    let key = match operation.key {
        _ if operation.insert => OpKey::Insert,
        Key::Map(key) => OpKey::Map(key.into()),
        Key::Seq(ElementId::Id(id)) => OpKey::Item(id.0, actor(&id.1)),
        // Only an insertion stands there.
        Key::Seq(ElementId::Head) => OpKey::Insert,
    };
    let action = match operation.action {
        OpType::Make(ObjType::Text) => Action::MakeText,
        OpType::Make(_) => Action::Make,
        // A counter is born, and then counts. Nobody writes over it.
        OpType::Put(automerge::ScalarValue::Counter(count)) => {
            Action::MakeCounter(i64::from(&count))
        }
        OpType::Increment(by) => Action::Count(by),
        OpType::MarkBegin(..) | OpType::MarkEnd(_) => Action::Touch,
        OpType::Put(scalar) => Action::Put(from_scalar(&scalar)),
        OpType::Delete => Action::Delete,
    };
    let preds = match action {
        Action::Touch => Vec::new(),
        _ => operation.pred.iter().map(|id| (id.0, actor(&id.1))).collect(),
    };
    NewOp { counter, object, key, action, preds }
}

fn actor(actor: &automerge::ActorId) -> ActorId {
    ActorId(actor.to_bytes().to_vec())
}
