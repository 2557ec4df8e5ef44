//! What single operations wrote, and over what.

use serde_json::Value;

use super::register::Write;
use super::{FieldPath, Key, Lineage, Op, OpKey, Step};
use crate::ChangeHash;

/// What an operation wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The field. Of a text or counter the text or counter itself.
    pub place: FieldPath,
    /// The plain value; nothing for texts, counters and what makes a container.
    pub plain: Option<PlainWrite>,
}

/// A plain value that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainWrite {
    /// The values it took the place of: one as a rule, several if it settled a review, none if
    /// there was nothing or if it is one more candidate.
    pub before: Vec<Option<Value>>,
    /// The value; nothing if the field was cleared.
    pub after: Option<Value>,
}

impl Lineage {
    /// What an operation of a known change wrote. Of several that wrote one plain value in one
    /// change, what the last wrote is told of all.
    pub fn written(&self, change: &ChangeHash, op: &Op) -> Option<Written> {
        let change = *self.by_hash.get(change)?;
        let at = self.container(&op.object)?;
        let container = &self.containers[at as usize];
        if container.is_text {
            return Some(Written { place: self.place(container.held_by?), plain: None });
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
        let mut steps = container.held_by.map_or_else(Vec::new, |around| self.place(around).0);
        steps.push(step);
        let plain = register.and_then(|register| self.plain_write(register, change));
        Some(Written { place: FieldPath(steps), plain })
    }

    fn plain_write(&self, register: u32, change: u32) -> Option<PlainWrite> {
        // In the order in which the changes came, one of each.
        let writes = &self.registers[register as usize].writes;
        let at = writes.binary_search_by_key(&change, |write: &Write| write.change).ok()?;
        let before = writes[at].closes.iter().map(|at| writes[*at as usize].value.clone());
        Some(PlainWrite { before: before.collect(), after: writes[at].value.clone() })
    }
}
