//! The values that have to be written so that the effect of earlier changes is gone and the work of
//! others stays.

use std::collections::BTreeSet;

use serde_json::Value;

use super::containers::{Holds, Made};
use super::register::Write;
use super::{Candidate, FieldPath, Key, Lineage, Reading, Standing};
use crate::change::ObjectId;
use crate::schema::Schema;
use crate::{ChangeHash, Path, ReviewId, ShortHash};

/// The way in which the effect of changes on one field is taken back.
#[derive(Debug, Clone, PartialEq)]
pub enum TakenBack {
    /// A value is written.
    Write {
        /// The field, as a decision about it takes it.
        field: Box<Standing>,
        /// The value; `None` clears the field.
        value: Option<Value>,
        /// The changes that are taken back here.
        undoes: Vec<ShortHash>,
        /// The changes whose values this one takes the place of.
        closes: Vec<ShortHash>,
    },
    /// A decision is taken back, so that its review is open again.
    Reopen {
        /// The field.
        place: FieldPath,
        /// The change that decided.
        decision: ChangeHash,
        /// The review.
        review: ReviewId,
        /// The list item that the decision deleted, and the value that it showed before.
        deleted: Option<(Box<Standing>, Value)>,
    },
    /// The taking back of a decision is taken back: the same is decided again.
    Decide {
        /// The field.
        place: FieldPath,
        /// The change that decided first.
        decision: ChangeHash,
        /// The value that it chose.
        value: Option<Value>,
    },
    /// A text, list or counter that one of the changes inserted into a list is deleted.
    DeleteItem {
        /// The item.
        field: Box<Standing>,
        /// The operation that made it.
        made: ObjectId,
        /// The way in which it is taken back if it is a map: maps stay, and say that they were removed.
        if_map: Option<Box<Self>>,
    },
    /// The field stays as it is.
    Kept {
        /// The field.
        place: FieldPath,
        /// The reason.
        why: Kept,
    },
}

/// The reason why a field stays as it is while changes are taken back.
#[derive(Debug, Clone, PartialEq)]
pub enum Kept {
    /// Somebody has written it since.
    Written(Box<Candidate>),
    /// The value became a text in which others may be writing, or something that merges was made in
    /// its place.
    Merges,
    /// The author has no right to write it any more.
    NotAllowed,
    /// What it is in was removed since.
    Removed,
}

impl Lineage {
    /// The ways in which the effect of these changes on plain values, on decisions and on inserted
    /// items is taken back by somebody in this role. Texts and counts are no fields in this sense.
    pub fn take_back(&self, changes: &[ChangeHash], role: Option<&str>) -> Vec<TakenBack> {
        let taking = self.taking_back(changes, role);
        (0..self.registers.len() as u32).filter_map(|at| taking.register(at)).collect()
    }

    /// The way in which the making of the document by these changes is taken back: it is deleted,
    /// unless others have worked in it.
    pub fn take_back_document(&self, changes: &[ChangeHash], role: Option<&str>) -> TakenBack {
        self.taking_back(changes, role).removal(0)
    }

    fn taking_back<'a>(&'a self, changes: &[ChangeHash], role: Option<&'a str>) -> TakingBack<'a> {
        let changes = changes.iter().filter_map(|hash| self.by_hash.get(hash).copied());
        TakingBack { lineage: self, changes: changes.collect(), role, undone: self.undone() }
    }

    /// The place of a container; `None` if no change made it.
    pub fn container_place(&self, object: &ObjectId) -> Option<FieldPath> {
        let container = self.container(object)?;
        let stands_in = self.containers[container as usize].stands_in;
        Some(stands_in.map_or(FieldPath(Vec::new()), |register| self.place(register)))
    }

    /// Whether a container is there, and neither it nor one around it says that it was removed.
    pub fn is_in_sight(&self, object: &ObjectId) -> bool {
        let mut next = self.container(object);
        while let Some(at) = next {
            let container = &self.containers[at as usize];
            let Some(around) = container.stands_in else { return true };
            let mark = (at, Key::Map(self.marks.removed.into()));
            let removed = self.register_by_key.get(&mark);
            let says_so = |at: &u32| self.value_of(*at, Reading::Seen) == Some(Value::Bool(true));
            let around = &self.registers[around as usize];
            let is_there = around.merging.iter().any(|made| Some(made.op) == container.made_by);
            if removed.is_some_and(says_so) || !is_there {
                return false;
            }
            next = Some(around.container);
        }
        false
    }
}

/// Changes that somebody takes back.
struct TakingBack<'a> {
    lineage: &'a Lineage,
    changes: BTreeSet<u32>,
    role: Option<&'a str>,
    /// The changes that were taken back before.
    undone: BTreeSet<u32>,
}

impl TakingBack<'_> {
    fn register(&self, at: u32) -> Option<TakenBack> {
        let lineage = self.lineage;
        let register = &lineage.registers[at as usize];
        // What is in a new item goes with that item.
        if lineage.is_made_by(register.container, &self.changes) {
            return None;
        }
        if let Some(made) = register.merging.iter().find(|it| self.changes.contains(&it.change)) {
            return Some(self.container(at, made));
        }
        let taken = self.decision(at).or_else(|| self.value(at))?;
        if matches!(taken, TakenBack::Kept { .. }) || self.may_write(at) {
            return Some(taken);
        }
        Some(self.kept(at, Kept::NotAllowed))
    }

    /// A decision that one of the changes made about a field, or took back.
    fn decision(&self, at: u32) -> Option<TakenBack> {
        let register = &self.lineage.registers[at as usize];
        let mut discards = register.discards.iter();
        if let Some(discard) = discards.find(|discard| self.changes.contains(&discard.change)) {
            return discard.reopened.is_empty().then(|| self.reopening(at, discard.change))?;
        }
        let mut discards = register.discards.iter();
        let is_again = |change: &u32| self.changes.contains(change);
        if let Some(discard) = discards.find(|discard| discard.reopened.iter().any(is_again)) {
            return Some(self.deciding(at, discard.change));
        }
        let mut writes = register.writes.iter().rev();
        let write = writes.find(|write| self.changes.contains(&write.change))?;
        if let Some(decision) = write.reopens {
            return Some(self.deciding(at, decision));
        }
        let settled = self.lineage.settled_in.get(&write.change) == Some(&at);
        let is_open = |open: &u32| register.writes[*open as usize].change == write.change;
        let is_its_own = write.settles.is_some() && settled && register.open.iter().any(is_open);
        is_its_own.then(|| self.reopening(at, write.change))?
    }

    fn reopening(&self, at: u32, decision: u32) -> Option<TakenBack> {
        let known = &self.lineage.changes[decision as usize];
        let review = known.settlement()?.review;
        let register = &self.lineage.registers[at as usize];
        let mut writes = register.writes.iter();
        let write = writes.find(|write| write.change == decision && write.reopens.is_none());
        let is_deletion =
            |write: &&Write| matches!(register.key, Key::Item(_)) && write.value.is_none();
        let shown = write.filter(is_deletion).and_then(|deletion| {
            let last = self.last_of(at, deletion.closes.iter().copied())?;
            register.writes[last as usize].value.clone()
        });
        let deleted = shown.map(|value| (Box::new(self.lineage.standing(at)), value));
        let place = self.lineage.place(at);
        Some(TakenBack::Reopen { place, decision: known.hash, review, deleted })
    }

    fn deciding(&self, at: u32, decision: u32) -> TakenBack {
        let mut writes = self.lineage.registers[at as usize].writes.iter();
        let write = writes.find(|write| write.change == decision && write.reopens.is_none());
        let value = write.and_then(|write| write.value.clone());
        let decision = self.lineage.changes[decision as usize].hash;
        TakenBack::Decide { place: self.lineage.place(at), decision, value }
    }

    /// The plain value that the changes wrote last at a field.
    fn value(&self, at: u32) -> Option<TakenBack> {
        let lineage = self.lineage;
        let register = &lineage.registers[at as usize];
        let of_them = |at: &u32| self.changes.contains(&register.writes[*at as usize].change);
        let written: Vec<u32> = (0..register.writes.len() as u32).filter(of_them).collect();
        let last = *written.last()?;
        let write = &register.writes[last as usize];
        let value = |write: u32| register.writes[write as usize].value.clone();
        let first = lineage.ancestors(register.writes[written[0] as usize].change);
        let before = lineage.standing_write_in(at, |chain| first.get(chain));
        let before = before.and_then(|before| value(before.write));
        if !register.merging.is_empty() {
            let was_plain = before.as_ref().is_some_and(|before| !before.is_null());
            let is_said = write.value.is_some() || was_plain;
            return is_said.then(|| self.kept(at, Kept::Merges));
        }
        let (mine, others): (Vec<u32>, Vec<u32>) =
            register.open.iter().partition(|open| lineage.means(at, **open).contains(&last));
        let others = others.into_iter();
        let others = others.filter(|open| !register.writes[*open as usize].refused);
        let remaining = self.last_of(at, others);
        if mine.is_empty() {
            let by = remaining.or_else(|| self.last_of(at, register.open.iter().copied()))?;
            let by = lineage.candidate(register.writes[by as usize].change, value(by));
            return Some(self.kept(at, Kept::Written(Box::new(by))));
        }
        let undone = write.closes.last().filter(|_| lineage.says_undo(write.change));
        let value = match remaining {
            // The value that an undo took away is there again, beside those of others.
            _ if let Some(undone) = undone => value(*undone),
            Some(remaining) => value(remaining),
            None if before == write.value => return None,
            None => before,
        };
        let removes = lineage.removals.contains(&at) && value == Some(Value::Bool(true));
        if let (true, Some(undone)) = (removes, undone)
            && let Some(work) = self.work_since(register.container, *undone, at)
        {
            return Some(self.kept(at, Kept::Written(Box::new(work))));
        }
        if !self.is_in_sight(at) {
            return Some(self.kept(at, Kept::Removed));
        }
        let named = |writes: &[u32]| self.named(at, writes);
        let (undoes, closes) = (named(&written), named(&mine));
        Some(TakenBack::Write { field: Box::new(lineage.standing(at)), value, undoes, closes })
    }

    /// The last of some open writes, as Automerge orders them. A deletion takes an item out of sight,
    /// with the values that are still open there, so of an item any value comes after a deletion.
    fn last_of(&self, at: u32, writes: impl Iterator<Item = u32>) -> Option<u32> {
        let register = &self.lineage.registers[at as usize];
        let is_item = matches!(register.key, Key::Item(_));
        writes.max_by_key(|at| {
            let write = &register.writes[*at as usize];
            let (counter, actor) = write.op;
            let shows = is_item && write.value.is_some();
            (shows, counter, &self.lineage.actor_ids[actor as usize])
        })
    }

    /// Whether the map or list that a field is in is seen; of a mark, the one around what it marks.
    fn is_in_sight(&self, at: u32) -> bool {
        let lineage = self.lineage;
        let mut container = lineage.registers[at as usize].container;
        if lineage.removals.contains(&at) {
            let Some(around) = lineage.containers[container as usize].stands_in else {
                return true;
            };
            container = lineage.registers[around as usize].container;
        }
        lineage.is_in_sight(&self.object(container))
    }

    /// An item that is a container or counter goes, unless others have written in it.
    fn container(&self, at: u32, made: &Made) -> TakenBack {
        let Key::Item(_) = self.lineage.registers[at as usize].key else {
            return self.kept(at, Kept::Merges);
        };
        if !self.may_write(at) {
            return self.kept(at, Kept::NotAllowed);
        }
        let work = match &made.holds {
            Holds::Container(container) => self.work_in(*container),
            Holds::Counter { counted, .. } => counted.iter().copied().rfind(|at| self.is_work(*at)),
        };
        if let Some(work) = work {
            let by = Box::new(self.lineage.candidate(work, None));
            return self.kept(at, Kept::Written(by));
        }
        let actor = self.lineage.actor_ids[made.op.1 as usize].clone();
        let if_map = match &made.holds {
            Holds::Container(container) => Some(Box::new(self.removal(*container))),
            Holds::Counter { .. } => None,
        };
        let made = ObjectId::Op { counter: made.op.0, actor };
        TakenBack::DeleteItem { field: Box::new(self.lineage.standing(at)), made, if_map }
    }

    /// A map or the document is marked as removed, unless others have worked in it.
    fn removal(&self, container: u32) -> TakenBack {
        let lineage = self.lineage;
        let of = &lineage.containers[container as usize];
        let mark = if container == 0 { lineage.marks.deleted } else { lineage.marks.removed };
        let mut place = of.stands_in.map_or(FieldPath(Vec::new()), |around| lineage.place(around));
        if let Some(work) = self.work_in(container) {
            let by = Box::new(lineage.candidate(work, None));
            return TakenBack::Kept { place, why: Kept::Written(by) };
        }
        let known = lineage.register_by_key.get(&(container, Key::Map(mark.into()))).copied();
        let open = known.map_or(&[][..], |at| &lineage.registers[at as usize].open[..]);
        let change = |open: &u32| {
            known.map(|at| lineage.registers[at as usize].writes[*open as usize].change)
        };
        if let Some(work) = open.iter().filter_map(change).find(|at| self.is_work(*at)) {
            let by = Box::new(lineage.candidate(work, None));
            return TakenBack::Kept { place, why: Kept::Written(by) };
        }
        let closes = known.map_or_else(Vec::new, |at| self.named(at, open));
        place.0.push(super::Step::Key(mark.to_owned()));
        if !may_write(&lineage.schema, &place.pattern(), self.role) {
            return TakenBack::Kept { place, why: Kept::NotAllowed };
        }
        let field = known.map_or_else(
            || Standing {
                place,
                object: self.object(container),
                ops: Vec::new(),
                holds_container: false,
                value: None,
                agreed: None,
                unsettled: Vec::new(),
            },
            |at| lineage.standing(at),
        );
        let undoes = self.changes.iter().map(|at| lineage.changes[*at as usize].hash.short());
        let (value, undoes) = (Some(Value::Bool(true)), undoes.collect());
        TakenBack::Write { field: Box::new(field), value, undoes, closes }
    }

    /// The last work of others in a container.
    fn work_in(&self, container: u32) -> Option<u32> {
        let touched = self.lineage.containers[container as usize].touched.iter();
        touched.flat_map(|(first, last)| *first..=*last).rfind(|at| self.is_work(*at))
    }

    /// The last work in a container that the author of a removal did not know.
    fn work_since(&self, container: u32, removal: u32, at: u32) -> Option<Candidate> {
        let lineage = self.lineage;
        let removal = lineage.registers[at as usize].writes[removal as usize].change;
        let known = lineage.ancestors(removal);
        let is_new = |at: &u32| {
            let change = &lineage.changes[*at as usize];
            let is_known = known.get(change.chain) >= change.place;
            !is_known && lineage.is_work(*at, &self.undone)
        };
        let touched = lineage.containers[container as usize].touched.iter();
        let work = touched.flat_map(|(first, last)| *first..=*last).rfind(is_new)?;
        Some(lineage.candidate(work, None))
    }

    fn is_work(&self, change: u32) -> bool {
        !self.changes.contains(&change) && self.lineage.is_work(change, &self.undone)
    }

    fn may_write(&self, at: u32) -> bool {
        may_write(&self.lineage.schema, &self.lineage.place(at).pattern(), self.role)
    }

    fn named(&self, at: u32, writes: &[u32]) -> Vec<ShortHash> {
        let writes =
            writes.iter().map(|write| &self.lineage.registers[at as usize].writes[*write as usize]);
        writes.map(|write| self.lineage.changes[write.change as usize].hash.short()).collect()
    }

    fn object(&self, container: u32) -> ObjectId {
        match self.lineage.containers[container as usize].made_by {
            None => ObjectId::Root,
            Some((counter, actor)) => {
                ObjectId::Op { counter, actor: self.lineage.actor_ids[actor as usize].clone() }
            }
        }
    }

    fn kept(&self, at: u32, why: Kept) -> TakenBack {
        TakenBack::Kept { place: self.lineage.place(at), why }
    }
}

fn may_write(schema: &Schema, place: &Path, role: Option<&str>) -> bool {
    schema.writers(place).is_none_or(|may| role.is_some_and(|role| may.contains(role)))
}
