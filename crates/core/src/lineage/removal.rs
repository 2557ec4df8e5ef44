//! Removals of documents and maps in which others wrote meanwhile.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Lineage;

/// A removal that the people who removed agree about, and that overlooks somebody's work.
#[derive(Debug)]
pub(super) struct Overlooked {
    /// The writes that say that it is removed, by index.
    pub(super) removals: Vec<u32>,
    /// The changes that were made meanwhile, of each actor the last one.
    pub(super) changes: Vec<u32>,
}

impl Lineage {
    /// The work that a removal overlooks, among the changes that `covered` names. `None` if the
    /// register says nothing of a removal, if `stands` is no removal, or if each change in there
    /// was known to somebody who removed or was made in knowledge of the removal.
    pub(super) fn overlooked(
        &self,
        at: u32,
        stands: u32,
        open: &[u32],
        covered: impl Fn(u32) -> u64,
    ) -> Option<Overlooked> {
        let register = &self.registers[at as usize];
        let says_so =
            |write: &u32| register.writes[*write as usize].value == Some(Value::Bool(true));
        if !self.removals.contains(&at) || !says_so(&stands) {
            return None;
        }
        let removals: Vec<u32> = open.iter().copied().filter(says_so).collect();
        let removed = removals.iter().map(|write| register.writes[*write as usize].change);
        let removed: Vec<_> = removed.map(|change| (change, self.ancestors(change))).collect();
        let is_overlooked = |change: u32| {
            let known = &self.changes[change as usize];
            let ancestors = self.ancestors(change);
            covered(known.chain) >= known.place
                && removed.iter().all(|(removal, before)| {
                    let remover = &self.changes[*removal as usize];
                    *removal != change
                        && before.get(known.chain) < known.place
                        && ancestors.get(remover.chain) < remover.place
                })
        };
        let touched = &self.containers[register.container as usize].touched;
        let touched = touched.iter().flat_map(|(first, last)| *first..=*last);
        // Of the changes of one actor the last says enough.
        let last: BTreeMap<u32, u32> = touched
            .filter(|change| !self.changes[*change as usize].reserved && is_overlooked(*change))
            .map(|change| (self.changes[change as usize].actor, change))
            .collect();
        let changes = last.into_values().collect();
        (!Vec::is_empty(&changes)).then_some(Overlooked { removals, changes })
    }
}
