//! The origin of the value of every field.

use serde_json::Value;

use super::{Candidate, FieldPath, Lineage};
use crate::{ActorId, ChangeHash, Path};

/// One field and everything that was ever written to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Blame {
    /// The field.
    pub place: FieldPath,
    /// The path where it stands now, with list items by their index; `None` if such an item does
    /// not show any more. A lineage knows this only of places without list items.
    pub path: Option<Path>,
    /// The value that people see; `None` if it has none.
    pub value: Option<Value>,
    /// Its writes; each comes after those it knew of.
    pub writes: Vec<BlamedWrite>,
}

/// One write of a field.
#[derive(Debug, Clone, PartialEq)]
pub struct BlamedWrite {
    /// The value, its author, the time, and the review it settled.
    pub write: Candidate,
    /// The operation: its number and its actor.
    pub op: (u64, ActorId),
    /// The changes whose values it took the place of.
    pub superseded: Vec<ChangeHash>,
    /// Whether no later write took its place.
    pub open: bool,
    /// Whether it is the one whose value people see.
    pub stands: bool,
    /// Whether its author had no right to it, so that it never counted, even where it is seen.
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
        let stands = self.standing_write(at).map(|stands| stands.write);
        // A change that only takes a decision back writes no value.
        let writes = register.writes.iter().zip(0u32..).filter(|(it, _)| it.reopens.is_none());
        let writes = writes.map(|(write, index)| BlamedWrite {
            write: self.candidate(write.change, write.value.clone()),
            op: (write.op.0, self.actor_ids[write.op.1 as usize].clone()),
            superseded: write.closes.iter().map(hash).collect(),
            open: register.open.contains(&index),
            stands: stands == Some(index),
            refused: write.refused,
        });
        let writes = writes.collect();
        let value = stands.and_then(|stands| register.writes[stands as usize].value.clone());
        let place = self.place(at);
        Some(Blame { path: place.path(), place, value, writes })
    }
}
