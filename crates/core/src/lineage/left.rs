//! The value that a change leaves at a field, if its operations alone do not say it.
//!
//! If somebody writes the value that Automerge shows already, Automerge writes nothing, or only
//! deletes the other concurrent values. Such a deletion counts as a write of the value that is
//! left.

use serde_json::Value;

use super::{Lineage, OpId};

/// The effect of one change on one field, as far as its operations were looked at.
#[derive(Debug, Default)]
pub(super) struct Touched {
    op: OpId,
    /// `None` after a deletion.
    value: Option<Value>,
    /// Whether a put came first: it takes the place of all values.
    puts: bool,
    /// The operations whose values it deletes.
    deletes: Vec<OpId>,
}

impl Touched {
    pub(super) fn put(&mut self, op: OpId, value: Value) {
        *self = Self { op, value: Some(value), puts: true, deletes: Vec::new() };
    }

    pub(super) fn delete(&mut self, op: OpId, of: Vec<OpId>) {
        (self.op, self.value) = (op, None);
        self.deletes.extend(of);
    }
}

type Read = (OpId, Option<Value>, Option<Box<[OpId]>>);

impl Lineage {
    /// The last operation of a change on a field, the value it leaves there, and the operations
    /// whose values it takes away, if these are not all.
    pub(super) fn read_written(&self, register: u32, change: u32, touched: Touched) -> Read {
        let Touched { op, value, puts, deletes } = touched;
        if puts || value.is_some() {
            return (op, value, None);
        }
        match self.left(register, change, &deletes) {
            Some(left) => (op, Some(left.clone()), Some(deletes.into())),
            None => (op, None, None),
        }
    }

    /// The value Automerge shows where a change takes these operations' values away.
    fn left(&self, register: u32, change: u32, takes: &[OpId]) -> Option<&Value> {
        let ancestors = self.ancestors(change);
        let is_known = |change: u32| {
            let change = &self.changes[change as usize];
            ancestors.get(change.chain) >= change.place
        };
        self.shown_value(register, is_known, takes)
    }

    /// Whether Automerge shows a plain value in a field.
    pub(super) fn shows_value(&self, register: u32) -> bool {
        self.shown_value(register, |_| true, &[]).is_some()
    }

    /// The value Automerge shows in a field where some changes are known, and where these operations'
    /// values are taken away besides.
    fn shown_value(
        &self,
        register: u32,
        is_known: impl Fn(u32) -> bool,
        takes: &[OpId],
    ) -> Option<&Value> {
        let writes = &self.registers[register as usize].writes;
        let is_known = |write: &u32| is_known(writes[*write as usize].change);
        let known: Vec<u32> = (0..writes.len() as u32).filter(is_known).collect();
        let is_taken = |put: u32| {
            let op = &writes[put as usize].op;
            let takes_it = |other: u32| match &writes[other as usize].takes {
                Some(takes) => takes.contains(op),
                None => self.knows(register, other, put),
            };
            // The last writes know the most.
            takes.contains(op) || known.iter().rev().any(|other| takes_it(*other))
        };
        let put = known.iter().copied().filter(|put| {
            let put = &writes[*put as usize];
            put.value.is_some() && (put.takes.is_none() || put.reopens.is_some())
        });
        let left = put.filter(|put| !is_taken(*put)).map(|put| &writes[put as usize]);
        left.max_by_key(|put| (put.op.0, &self.actor_ids[put.op.1 as usize]))?.value.as_ref()
    }
}
