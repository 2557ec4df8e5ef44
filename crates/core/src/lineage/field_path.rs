//! The place of a field, named so that every replica names it alike.

use std::fmt;

use super::{Key, Lineage};
use crate::{ActorId, Path, Segment};

/// The place of a field in a document. Items of lists are named by the operation that made them,
/// for an index is not the same for everybody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(pub Vec<Step>);

/// One step of a [`FieldPath`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Into a map.
    Key(String),
    /// Into a list: the item made by this operation.
    Item {
        /// The operation's number.
        counter: u64,
        /// Its actor.
        actor: ActorId,
    },
}

impl FieldPath {
    /// The place in the form that schemas use, with `*` for any item of a list.
    pub fn pattern(&self) -> Path {
        let segment = |step: &Step| match step {
            Step::Key(key) => Segment::Key(key.clone()),
            Step::Item { .. } => Segment::Key("*".to_owned()),
        };
        self.0.iter().map(segment).collect()
    }

    /// The path, if no list is on the way.
    pub fn path(&self) -> Option<Path> {
        let segment = |step: &Step| match step {
            Step::Key(key) => Some(Segment::Key(key.clone())),
            Step::Item { .. } => None,
        };
        self.0.iter().map(segment).collect()
    }
}

/// Written like a [`Path`], with a list item named by the number of the operation that made it and
/// the end of that operation's actor: `parts[#12@ab34cd].name`. The end is used because actors of
/// edits at old heads all begin alike.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) => {
                    let key = Path::from([key.as_str()]).to_string();
                    let dot = if at == 0 || key.starts_with('[') { "" } else { "." };
                    write!(f, "{dot}{key}")?;
                }
                Step::Item { counter, actor } => {
                    let actor = actor.to_string();
                    let end = actor.len().saturating_sub(6);
                    write!(f, "[#{counter}@{}]", &actor[end..])?;
                }
            }
        }
        Ok(())
    }
}

impl Lineage {
    pub(super) fn place(&self, register: u32) -> FieldPath {
        let mut steps = Vec::new();
        let mut next = Some(register);
        while let Some(at) = next {
            let register = &self.registers[at as usize];
            steps.push(match &register.key {
                Key::Map(key) => Step::Key(key.to_string()),
                Key::Item((counter, actor)) => {
                    Step::Item { counter: *counter, actor: self.actor_ids[*actor as usize].clone() }
                }
            });
            next = self.containers[register.container as usize].stands_in;
        }
        steps.reverse();
        FieldPath(steps)
    }
}
