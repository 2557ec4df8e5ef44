//! Where the value of every field came from.

use serde_json::Value;

use super::{Candidate, FieldPath, Lineage};
use crate::ChangeHash;

/// One field and everything that was ever written to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Blame {
    /// Which field.
    pub place: FieldPath,
    /// Its effective value; nothing if it has none.
    pub value: Option<Value>,
    /// Its writes; each comes after those it knew of.
    pub writes: Vec<BlamedWrite>,
}

/// One write of a field.
#[derive(Debug, Clone, PartialEq)]
pub struct BlamedWrite {
    /// What, who, when, and the review it settled.
    pub write: Candidate,
    /// The changes whose values it took the place of.
    pub superseded: Vec<ChangeHash>,
    /// Whether no later write took its place.
    pub open: bool,
    /// Whether its author had no right to it, so that it never counted.
    pub refused: bool,
}

impl Lineage {
    /// The fields with plain values and what was written to them, in the order of their places.
    /// Texts, counters and other containers have no such writes.
    pub fn blame(&self) -> Vec<Blame> {
        let mut blames: Vec<Blame> =
            (0..self.registers.len() as u32).filter_map(|at| self.blame_of(at)).collect();
        blames.sort_by(|one, other| one.place.cmp(&other.place));
        blames
    }

    fn blame_of(&self, at: u32) -> Option<Blame> {
        let register = &self.registers[at as usize];
        if register.writes.is_empty() {
            return None;
        }
        let hash = |write: &u32| {
            let change = register.writes[*write as usize].change;
            self.changes[change as usize].hash
        };
        let writes = register.writes.iter().zip(0u32..).map(|(write, index)| BlamedWrite {
            write: self.candidate(write.change, write.value.clone()),
            superseded: write.closes.iter().map(hash).collect(),
            open: register.open.contains(&index),
            refused: write.refused,
        });
        let writes = writes.collect();
        Some(Blame { place: self.place(at), value: self.value_of(at), writes })
    }
}
