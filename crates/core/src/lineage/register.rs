//! One field: its writes, which of them close which, and which are open.

use std::collections::BTreeSet;

use serde_json::Value;

use super::clock::{Ancestors, Clock};
use super::decide::{Contender, decide, may_follow};
use super::{Key, Lineage, OpId};
use crate::schema::Rule;

/// A map key or list item that plain values are written to.
#[derive(Debug, Clone)]
pub(super) struct Register {
    pub(super) container: u32,
    pub(super) key: Key,
    /// In an order in which each comes after those it knows of.
    pub(super) writes: Vec<Write>,
    /// The writes that nothing closes, by index.
    pub(super) open: Vec<u32>,
    /// Whether it holds a container, beside which plain values cannot be seen.
    pub(super) holds_container: bool,
    /// How many writes settled something here.
    pub(super) settlements: u32,
    /// The last write of every actor: what all writes together cover.
    last: Vec<(u32, u64)>,
}

/// One write of a field. Of several in one change the last counts.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) change: u32,
    pub(super) op: OpId,
    /// The operations it takes the place of.
    pub(super) preds: Vec<OpId>,
    /// Nothing for a deletion.
    pub(super) value: Option<Value>,
    /// The writes it closes, by index.
    pub(super) closes: Vec<u32>,
    /// Whether its author had no right to it.
    pub(super) refused: bool,
    /// Whether it settled a review here.
    pub(super) settles: bool,
}

impl Register {
    pub(super) fn new(container: u32, key: Key) -> Self {
        let (writes, open, last) = (Vec::new(), Vec::new(), Vec::new());
        Self { container, key, writes, open, holds_container: false, settlements: 0, last }
    }

    /// Forgets what was derived from the writes.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.last.clear();
        self.settlements = 0;
    }

    /// Whether one write says it all.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.open[..], [only] if !self.writes[only as usize].refused)
    }
}

impl Lineage {
    pub(super) fn add_write(&mut self, at: u32, rule: &Rule, mut write: Write) {
        let register = &mut self.registers[at as usize];
        if let Some(last) = register.writes.last_mut()
            && last.change == write.change
        {
            last.op = write.op;
            last.value = write.value;
            last.preds.extend(write.preds);
            return;
        }
        let ancestors = self.ancestors(write.change);
        if write.value.is_none() {
            write.value = self.left_by(at, &write.preds, |actor| ancestors.get(actor));
        }
        let open = self.open_in(at, |actor| ancestors.get(actor));
        let (closes, settles) = self.closed_by(at, rule, &write, &open);
        (write.closes, write.settles) = (closes, settles);
        let change = &self.changes[write.change as usize];
        let register = &mut self.registers[at as usize];
        register.settlements += u32::from(settles);
        register.open.retain(|open| !write.closes.contains(open));
        register.open.push(register.writes.len() as u32);
        match register.last.iter_mut().find(|(actor, _)| *actor == change.actor) {
            Some((_, seq)) => *seq = (*seq).max(change.seq),
            None => register.last.push((change.actor, change.seq)),
        }
        register.writes.push(write);
    }

    /// What a deletion leaves. Whoever puts the value that Automerge shows of several is recorded
    /// as deleting the others.
    fn left_by(&self, at: u32, preds: &[OpId], covered: impl Fn(u32) -> u64) -> Option<Value> {
        let writes = || {
            self.registers[at as usize].writes.iter().filter(|write| {
                let change = &self.changes[write.change as usize];
                covered(change.actor) >= change.seq
            })
        };
        let gone: BTreeSet<OpId> =
            writes().flat_map(|write| &write.preds).chain(preds).copied().collect();
        let left = writes().filter(|write| write.value.is_some() && !gone.contains(&write.op));
        let shown = left.max_by_key(|write| (write.op.0, &self.actor_ids[write.op.1 as usize]));
        shown.and_then(|write| write.value.clone())
    }

    /// Which of the writes that were open to its author a write closes, and whether it does so by
    /// settling.
    fn closed_by(&self, at: u32, rule: &Rule, write: &Write, open: &[u32]) -> (Vec<u32>, bool) {
        let register = &self.registers[at as usize];
        let is_refused = |open: &u32| register.writes[*open as usize].refused;
        let (refused, standing): (Vec<u32>, Vec<u32>) = open.iter().partition(|at| is_refused(at));
        if write.refused {
            // Somebody without the right can take back their own, and nothing else.
            return (if refused.len() == 1 { refused } else { Vec::new() }, false);
        }
        let settlement = self.changes[write.change as usize].settlement.as_deref();
        let is_named = |open: &u32| {
            let change = register.writes[*open as usize].change;
            let hash = self.changes[change as usize].hash.short();
            settlement.is_some_and(|settlement| settlement.closes.contains(&hash))
        };
        let named: BTreeSet<u32> = open.iter().copied().filter(is_named).collect();
        let mut closes = named.clone();
        let is_item = matches!(register.key, Key::Item(_));
        if is_item && write.value.is_none() {
            // Automerge cannot bring a deleted item back, so there is nothing left to decide for
            // those who knew all its values.
            closes.extend(standing);
        } else if let Some(stands) = self.decided(at, rule, &standing) {
            let before = register.writes[stands as usize].value.as_ref();
            if may_follow(rule, before, write.value.as_ref()) {
                closes.extend(standing);
            }
        }
        (closes.into_iter().collect(), !named.is_empty())
    }

    /// The write that stands among these, unless a person has to decide.
    pub(super) fn decided(&self, at: u32, rule: &Rule, open: &[u32]) -> Option<u32> {
        if let [only] = open {
            return Some(*only);
        }
        let contenders = self.contenders(at, open);
        let is_after = |one: usize, other: usize| self.knows(at, open[one], open[other]);
        decide(rule, &contenders, is_after).map(|stands| open[stands])
    }

    pub(super) fn contenders(&self, at: u32, open: &[u32]) -> Vec<Contender<'_>> {
        let writes = &self.registers[at as usize].writes;
        let contender = |open: &u32| {
            let write = &writes[*open as usize];
            let identity = self.identity_of(write.change);
            Contender {
                value: write.value.as_ref(),
                op: (write.op.0, &self.actor_ids[write.op.1 as usize].0),
                role: identity.and_then(|identity| identity.role.as_deref()),
                time_s: self.changes[write.change as usize].time_s,
            }
        };
        open.iter().map(contender).collect()
    }

    /// Whether one write was made knowing the other.
    fn knows(&self, at: u32, one: u32, other: u32) -> bool {
        let writes = &self.registers[at as usize].writes;
        let other = &self.changes[writes[other as usize].change as usize];
        self.ancestors(writes[one as usize].change).get(other.actor) >= other.seq
    }

    /// The writes that are open as far as a clock covers, refused ones included.
    fn open_in(&self, at: u32, covered: impl Fn(u32) -> u64) -> Vec<u32> {
        let register = &self.registers[at as usize];
        if register.last.iter().all(|(actor, seq)| covered(*actor) >= *seq) {
            return register.open.clone();
        }
        let is_covered = |write: &Write| {
            let change = &self.changes[write.change as usize];
            covered(change.actor) >= change.seq
        };
        let mut closed = BTreeSet::new();
        for write in register.writes.iter().filter(|write| is_covered(write)) {
            closed.extend(write.closes.iter().copied());
        }
        let writes = register.writes.iter().zip(0u32..);
        let open = writes.filter(|(write, at)| is_covered(write) && !closed.contains(at));
        open.map(|(_, at)| at).collect()
    }

    /// The write that was agreed where the ancestors of all of these meet; nothing if there was
    /// none.
    pub(super) fn agreed_before(&self, at: u32, rule: &Rule, open: &[u32]) -> Option<u32> {
        let mut candidates = open.to_vec();
        while !candidates.is_empty() {
            let meet = self.meet(at, &candidates);
            let open = self.open_in(at, |actor| meet.get(actor));
            let register = &self.registers[at as usize];
            candidates = open;
            candidates.retain(|at| !register.writes[*at as usize].refused);
            if let Some(stands) = self.decided(at, rule, &candidates) {
                return Some(stands);
            }
        }
        None
    }

    fn meet(&self, at: u32, candidates: &[u32]) -> Clock {
        let writes = &self.registers[at as usize].writes;
        let clocks = candidates.iter().map(|at| self.ancestors(writes[*at as usize].change));
        let clocks = clocks.map(|ancestors: Ancestors| ancestors.to_clock());
        clocks.reduce(|one, other| one.meet(&other)).unwrap_or_default()
    }
}
