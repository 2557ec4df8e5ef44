//! Items of sets that are there twice, because two devices added them without knowing of each
//! other.

use std::collections::BTreeMap;

use super::{Container, Key, Lineage, OpId, Reading};
use crate::ActorId;
use crate::change::ObjectId;
use crate::schema::Rule;

/// Items of one set that have the value of another item, which is shown for all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twins {
    /// The set.
    pub set: ObjectId,
    /// For each item the operations that ever wrote it: Automerge names it by one of them.
    pub items: Vec<Vec<(u64, ActorId)>>,
}

impl Lineage {
    /// The items of lists with [`Rule::Set`] that do not show, because the same value is there
    /// already. Of equal items the one made by the smallest operation shows.
    pub fn twins(&self, reading: Reading) -> Vec<Twins> {
        if !self.schema.fields.values().any(|field| field.merge == Rule::Set) {
            return Vec::new();
        }
        let is_set = |container: &Container| {
            container.stands_in.is_some_and(|register| *self.rule_of(register) == Rule::Set)
        };
        let is_set: Vec<bool> = self.containers.iter().map(is_set).collect();
        let mut sets: BTreeMap<OpId, BTreeMap<String, Vec<u32>>> = BTreeMap::new();
        for (register, at) in self.registers.iter().zip(0u32..) {
            let container = register.container as usize;
            if let (Key::Item(_), true) = (&register.key, is_set[container])
                && let (Some(set), Some(value)) =
                    (self.containers[container].made_by, self.value_of(at, reading))
                // A decision that was taken back may have deleted the item for good.
                && (!register.has_reopened || self.shows_value(at))
            {
                sets.entry(set).or_default().entry(value.to_string()).or_default().push(at);
            }
        }
        let named = |(counter, actor): OpId| (counter, self.actor_ids[actor as usize].clone());
        let item = |at: u32| match self.registers[at as usize].key {
            Key::Item(item) => Some(named(item)),
            Key::Map(_) => None,
        };
        let hidden = |mut alike: Vec<u32>| {
            alike.sort_by_key(|at| item(*at));
            alike.into_iter().skip(1)
        };
        let ops = |at: u32| {
            let writes = self.registers[at as usize].writes.iter().map(|write| named(write.op));
            writes.chain(item(at)).collect()
        };
        let twins = sets.into_iter().map(|(set, values)| {
            let (counter, actor) = named(set);
            let items = values.into_values().flat_map(hidden).map(ops).collect();
            Twins { set: ObjectId::Op { counter, actor }, items }
        });
        twins.filter(|twins| !twins.items.is_empty()).collect()
    }
}
