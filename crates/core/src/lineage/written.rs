//! The values that single operations wrote, and those that they took the place of.

use serde_json::Value;

use super::register::Write;
use super::{Action, FieldPath, Key, Lineage, NewOp, OpKey, Step};
use crate::limits::DEPTH_MAX;
use crate::{ChangeHash, Path};

/// The effect of an operation on a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The field: the text or counter itself, not what is in it.
    pub place: FieldPath,
    /// The path where it stands now, with list items by their index; `None` if such an item does
    /// not show, or if its value was written over. A lineage knows this only of places without list
    /// items.
    pub path: Option<Path>,
    /// The kind of write, with the values.
    pub wrote: Wrote,
}

/// A write of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrote {
    /// A plain value.
    Value {
        /// The values it took the place of: one as a rule, several if it settled a review, none if
        /// the field was empty or if the write is one more candidate.
        before: Vec<Option<Value>>,
        /// The value; `None` if the field was cleared.
        after: Option<Value>,
    },
    /// Characters of a text.
    Text,
    /// A counter was counted.
    Count,
    /// A text, list, map or counter was made, or something in one that is too deep to be read.
    Container,
}

impl Written {
    fn at(place: FieldPath, wrote: Wrote) -> Self {
        Self { path: place.path(), place, wrote }
    }
}

impl Lineage {
    /// The effect of an operation of a known change. If several operations of one change write one
    /// plain value, all of them are told as the last one.
    pub fn written(&self, change: &ChangeHash, op: &NewOp) -> Option<Written> {
        let change = *self.by_hash.get(change)?;
        let at = self.container(&op.object)?;
        let container = &self.containers[at as usize];
        if container.is_only_noted {
            let is_text = container.depth <= DEPTH_MAX;
            let wrote = if is_text { Wrote::Text } else { Wrote::Container };
            return Some(Written::at(self.place(container.stands_in?), wrote));
        }
        let (key, step) = match &op.key {
            OpKey::Map(key) => (Key::Map(key.as_str().into()), Step::Key(key.clone())),
            OpKey::Item(counter, actor) => {
                let maker = *self.actors.get(actor)?;
                let step = Step::Item { counter: *counter, actor: actor.clone() };
                (Key::Item((*counter, maker)), step)
            }
            OpKey::Insert => {
                let maker = self.changes[change as usize].actor;
                let actor = self.actor_ids[maker as usize].clone();
                (Key::Item((op.counter, maker)), Step::Item { counter: op.counter, actor })
            }
        };
        let register = self.register_by_key.get(&(at, key)).copied();
        let mut steps = container.stands_in.map_or_else(Vec::new, |around| self.place(around).0);
        steps.push(step);
        let wrote = match &op.action {
            Action::Make | Action::MakeText | Action::MakeCounter(_) => Wrote::Container,
            Action::Count(_) | Action::Touch => Wrote::Count,
            Action::Put(value) => self.wrote(register, change, Some(value)),
            Action::Delete => self.wrote(register, change, None),
        };
        Some(Written::at(FieldPath(steps), wrote))
    }

    fn wrote(&self, register: Option<u32>, change: u32, value: Option<&Value>) -> Wrote {
        let alone = || Wrote::Value { before: Vec::new(), after: value.cloned() };
        let Some(register) = register else { return alone() };
        // In the order in which the changes came, one of each.
        let writes = &self.registers[register as usize].writes;
        let at = writes.binary_search_by_key(&change, |write: &Write| write.change);
        let Ok(at) = at else { return alone() };
        let before = writes[at].closes.iter().map(|at| writes[*at as usize].value.clone());
        Wrote::Value { before: before.collect(), after: writes[at].value.clone() }
    }
}
