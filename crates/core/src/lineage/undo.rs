//! Changes that take back others: a decision that does not count any more, and work that was taken
//! back.

use std::collections::BTreeSet;

use serde_json::Value;

use super::containers::Made;
use super::register::{Last, Write};
use super::{Known, Lineage, OpId};
use crate::{ChangeHash, ShortHash};

/// A decision that a change takes back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reopens {
    register: u32,
    decision: u32,
    /// Whether the decision was a write.
    is_write: bool,
}

impl Reopens {
    /// Whether a write of that change in a field is no value of its own, and only there so that
    /// Automerge shows something.
    pub(super) fn writes_in(&self, register: u32) -> bool {
        self.is_write && self.register == register
    }
}

impl Lineage {
    /// Notes the review that a change says it settles by its write of a field.
    pub(super) fn note_settled(&mut self, register: u32, change: u32) {
        let Some(settlement) = self.changes[change as usize].settlement() else { return };
        // By any schema: whether the write decided anything may depend on that.
        if self.question(register, change, &settlement.review).is_some() {
            self.settled_in.entry(change).or_insert(register);
        }
    }

    /// The decision that a change says is to be open again.
    pub(super) fn reopened_by(&self, change: u32) -> Option<Reopens> {
        let undo = self.changes[change as usize].undo()?;
        let review = undo.reopens?;
        // One decision: that is what this program writes, and more of them would make a small change
        // cost much.
        let [decision] = undo.undoes.as_slice() else { return None };
        let decision = self.named(decision, change)?;
        let settlement = self.changes[decision as usize].settlement();
        if settlement.is_none_or(|settlement| settlement.review != review) {
            return None;
        }
        let register = *self.settled_in.get(&decision)?;
        let mut writes = self.registers[register as usize].writes.iter();
        let is_write = writes.any(|write| write.change == decision && write.reopens.is_none());
        Some(Reopens { register, decision, is_write })
    }

    /// Takes that decision back. `restored` is the value by which the change lets Automerge show the
    /// list item again that the decision deleted; what the item reads as, the open values say.
    pub(super) fn reopen(
        &mut self,
        change: u32,
        reopens: Reopens,
        restored: Option<(OpId, Value)>,
    ) {
        let Reopens { register, decision, .. } = reopens;
        self.reopen_containers(register, change, decision);
        self.write_reopening(register, change, decision, restored);
    }

    fn reopen_containers(&mut self, at: u32, change: u32, decision: u32) {
        let register = &mut self.registers[at as usize];
        let mut discards = register.discards.iter_mut();
        let Some(discard) = discards.find(|discard| discard.change == decision) else { return };
        if discard.settles && discard.reopened.is_empty() {
            register.settlements[super::Question::Containers as usize] -= 1;
        }
        discard.reopened.push(change);
    }

    /// Takes a change that takes back a decision about a field. Without the right to the field it
    /// takes nothing back.
    pub(super) fn write_reopening(
        &mut self,
        at: u32,
        change: u32,
        decision: u32,
        restored: Option<(OpId, Value)>,
    ) {
        let refused = self.is_refused(at, change);
        let of_it = |write: &&Write| write.change == decision && write.reopens.is_none();
        let writes = &self.registers[at as usize].writes;
        let Some(settled) = writes.iter().find(of_it).map(|write| write.settles) else { return };
        let was_reopened = self.registers[at as usize].is_reopened(decision);
        // Nothing takes its values away, in Automerge either.
        let takes = Some(Vec::new().into());
        let (op, value) = restored.map_or(((0, 0), None), |(op, value)| (op, Some(value)));
        let write =
            Write { value, takes, refused, reopens: Some(decision), ..Write::new(change, op) };
        let before = self.ancestors(change);
        let Known { chain, place, .. } = self.changes[change as usize];
        let register = &mut self.registers[at as usize];
        if let (Some(settled), false, false) = (settled, was_reopened, refused) {
            register.settlements[settled as usize] -= 1;
        }
        register.has_reopened = true;
        let last = Last { chain, place, open: Vec::new(), before };
        self.push_write(at, write, last);
        let covers = |other: u32| {
            let known = &self.changes[other as usize];
            other == change || self.ancestors(change).get(known.chain) >= known.place
        };
        let (open, known) = (self.open_of(at, |_| true), self.open_of(at, covers));
        let register = &mut self.registers[at as usize];
        register.open = open;
        if let Some(last) = register.last_mut(chain) {
            last.open = known;
        }
        self.note_several(at);
    }

    /// The write itself and, if it takes back others, the writes whose effect it gives back. So
    /// after an undo the write that restored a value stands for the one that wrote it first.
    pub(super) fn means(&self, at: u32, write: u32) -> BTreeSet<u32> {
        let writes = &self.registers[at as usize].writes;
        let (mut meant, mut left) = (BTreeSet::new(), vec![write]);
        while let Some(next) = left.pop() {
            if !meant.insert(next) {
                continue;
            }
            let change = &self.changes[writes[next as usize].change as usize];
            let Some(undo) = change.undo() else { continue };
            let is_undone = |write: &Write| {
                undo.undoes.contains(&self.changes[write.change as usize].hash.short())
            };
            for undone in writes.iter().filter(|write| is_undone(write)) {
                let given = undone.closes.iter().copied();
                left.extend(given.filter(|closed| !is_undone(&writes[*closed as usize])));
            }
        }
        meant
    }

    /// Whether a container, or one around it, was made by one of these changes.
    pub(super) fn is_made_by(&self, container: u32, changes: &BTreeSet<u32>) -> bool {
        let mut next = Some(container);
        while let Some(at) = next {
            let container = &self.containers[at as usize];
            let Some(around) = container.stands_in else { return false };
            let around = &self.registers[around as usize];
            let mut made = around.merging.iter().chain(&around.discarded);
            let is_it = |made: &&Made| Some(made.op) == container.made_by;
            if made.find(is_it).is_some_and(|made| changes.contains(&made.change)) {
                return true;
            }
            next = Some(around.container);
        }
        false
    }

    /// The changes that were taken back by those who made them, and not by a change that was taken back
    /// in turn.
    pub(super) fn undone(&self) -> BTreeSet<u32> {
        let mut undone = BTreeSet::new();
        // Whoever takes a change back knows it, so the later one is looked at first.
        for at in (0..self.changes.len() as u32).rev().filter(|at| self.says_undo(*at)) {
            let Some(undo) = self.changes[at as usize].undo() else { continue };
            if undone.contains(&at) {
                continue;
            }
            let named = undo.undoes.iter().filter_map(|hash| self.named(hash, at));
            undone.extend(named.filter(|named| self.is_same_user(*named, at)));
        }
        undone
    }

    /// Whether somebody took this change back who made it, and did not make it again.
    pub fn is_undone(&self, change: &ChangeHash) -> bool {
        self.by_hash.get(change).is_some_and(|change| self.undone().contains(change))
    }

    /// Whether two changes are of one user, whatever the role and the device; of nobody in particular,
    /// if neither names one.
    pub(super) fn is_same_user(&self, one: u32, other: u32) -> bool {
        let user = |change| self.identity_of(change).map(|identity| &identity.user);
        user(one) == user(other)
    }

    pub(super) fn says_undo(&self, change: u32) -> bool {
        self.changes[change as usize].undo().is_some()
    }

    pub(super) fn is_work(&self, change: u32, undone: &BTreeSet<u32>) -> bool {
        !self.changes[change as usize].reserved
            && !self.says_undo(change)
            && !undone.contains(&change)
    }

    /// The change with these first bytes of its hash, among those that another one builds on.
    fn named(&self, hash: &ShortHash, by: u32) -> Option<u32> {
        let mut from = [0; 32];
        from[..hash.0.len()].copy_from_slice(&hash.0);
        let ancestors = self.ancestors(by);
        let named = self.by_hash.range(ChangeHash(from)..);
        let mut named = named.take_while(|(found, _)| found.short() == *hash).map(|(_, at)| *at);
        named.find(|at| {
            let known = &self.changes[*at as usize];
            ancestors.get(known.chain) >= known.place
        })
    }
}
