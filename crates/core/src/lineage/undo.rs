//! Changes that take back others: a decision that does not count any more, and the values that
//! have to be written so that the effect of earlier changes is gone and the work of others stays.

use std::collections::BTreeSet;

use serde_json::Value;

use super::containers::{Holds, Made};
use super::register::{Last, Write};
use super::{Candidate, FieldPath, Key, Known, Lineage, Reading, Standing};
use crate::change::ObjectId;
use crate::{ChangeHash, ReviewId, ShortHash};

/// The way in which the effect of changes on one field is taken back.
#[derive(Debug, Clone, PartialEq)]
pub enum TakenBack {
    /// A value is written.
    Write {
        /// The field, as a decision about it takes it.
        field: Box<Standing>,
        /// The value; `None` clears the field.
        value: Option<Value>,
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
    /// An item that one of the changes inserted is removed.
    RemoveItem {
        /// The item.
        field: Box<Standing>,
        /// The container or counter that it is.
        made: ObjectId,
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

    /// Takes back the decisions that a change says are to be open again.
    pub(super) fn reopen(&mut self, change: u32) {
        let Some(undo) = self.changes[change as usize].undo() else { return };
        let Some(review) = undo.reopens else { return };
        let ancestors = self.ancestors(change);
        let is_known = |at: &u32| {
            let known = &self.changes[*at as usize];
            ancestors.get(known.chain) >= known.place
                && known.settlement().is_some_and(|settlement| settlement.review == review)
        };
        let named: BTreeSet<u32> = undo.undoes.iter().filter_map(|hash| self.named(hash)).collect();
        for decision in named.into_iter().filter(is_known).collect::<Vec<_>>() {
            let Some(register) = self.settled_in.get(&decision).copied() else { continue };
            self.reopen_containers(register, change, decision);
            self.write_reopening(register, change, decision);
        }
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
    pub(super) fn write_reopening(&mut self, at: u32, change: u32, decision: u32) {
        let refused = self.is_refused(at, change);
        let of_it = |write: &&Write| write.change == decision && write.reopens.is_none();
        let writes = &self.registers[at as usize].writes;
        let Some(settled) = writes.iter().find(of_it).map(|write| write.settles) else { return };
        let was_reopened = self.registers[at as usize].is_reopened(decision);
        // Nothing takes its values away, in Automerge either.
        let takes = Some(Vec::new().into());
        let write = Write { takes, refused, reopens: Some(decision), ..Write::new(change, (0, 0)) };
        let before = self.ancestors(change);
        let Known { chain, place, .. } = self.changes[change as usize];
        let register = &mut self.registers[at as usize];
        if let (Some(settled), false, false) = (settled, was_reopened, refused) {
            register.settlements[settled as usize] -= 1;
        }
        let last = Last { chain, place, open: Vec::new(), before };
        let index = register.writes.len() as u32;
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
        debug_assert!(!register.open.contains(&index), "it is no value");
        self.note_several(at);
    }

    /// The ways in which the effect of these changes on plain values, on decisions and on inserted
    /// items is taken back by somebody in this role. Texts and counts are no fields in this sense.
    pub fn take_back(&self, changes: &[ChangeHash], role: Option<&str>) -> Vec<TakenBack> {
        let changes = changes.iter().filter_map(|hash| self.by_hash.get(hash).copied());
        let changes: BTreeSet<u32> = changes.collect();
        let mut taken = Vec::new();
        for at in 0..self.registers.len() as u32 {
            // What is in a new item goes with that item.
            let around = self.registers[at as usize].container;
            if !self.is_made_by(around, &changes) {
                taken.extend(self.take_back_at(at, &changes, role));
            }
        }
        taken
    }

    /// The last work that somebody did in a document beside these changes, and that nobody took
    /// back.
    pub fn work_beside(&self, changes: &[ChangeHash]) -> Option<Candidate> {
        let changes = changes.iter().filter_map(|hash| self.by_hash.get(hash).copied());
        let changes: BTreeSet<u32> = changes.collect();
        let undone = self.undone();
        let touched = self.containers[0].touched.iter();
        let touched = touched.flat_map(|(first, last)| *first..=*last);
        let mut work = touched.filter(|at| !changes.contains(at) && self.is_work(*at, &undone));
        work.next_back().map(|at| self.candidate(at, None))
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

    fn take_back_at(
        &self,
        at: u32,
        changes: &BTreeSet<u32>,
        role: Option<&str>,
    ) -> Option<TakenBack> {
        let register = &self.registers[at as usize];
        if let Some(made) = register.merging.iter().find(|made| changes.contains(&made.change)) {
            return Some(self.take_back_container(at, made, changes, role));
        }
        let settled = |change: u32| self.settled_in.get(&change) == Some(&at);
        let mut discards = register.discards.iter();
        if let Some(discard) = discards.find(|discard| changes.contains(&discard.change)) {
            return discard.reopened.is_empty().then(|| self.reopening(at, discard.change))?;
        }
        let mut discards = register.discards.iter();
        let again = discards.find(|discard| discard.reopened.iter().any(|it| changes.contains(it)));
        if let Some(discard) = again {
            return Some(self.deciding(at, discard.change));
        }
        let of_them = |at: &u32| changes.contains(&register.writes[*at as usize].change);
        let written: Vec<u32> = (0..register.writes.len() as u32).filter(of_them).collect();
        let last = *written.last()?;
        let write = &register.writes[last as usize];
        if let Some(decision) = write.reopens {
            return Some(self.deciding(at, decision));
        }
        let (refused, open) = self.refused(at, &register.open);
        let (mine, others): (Vec<u32>, Vec<u32>) =
            open.into_iter().partition(|open| self.means(at, *open).contains(&last));
        let first = self.ancestors(register.writes[written[0] as usize].change);
        let before = self.standing_write_in(at, |chain| first.get(chain));
        let value = |write: u32| register.writes[write as usize].value.clone();
        let before = before.and_then(|before| value(before.write));
        let place = self.place(at);
        let kept = |why| Some(TakenBack::Kept { place: self.place(at), why });
        if !register.merging.is_empty() {
            let was_plain = before.as_ref().is_some_and(|before| !before.is_null());
            return if write.value.is_some() || was_plain { kept(Kept::Merges) } else { None };
        }
        if self
            .schema
            .writers(&place.pattern())
            .is_some_and(|may| !role.is_some_and(|role| may.contains(role)))
        {
            return kept(Kept::NotAllowed);
        }
        let by_op = |write: &&u32| {
            let (counter, actor) = register.writes[**write as usize].op;
            (counter, &self.actor_ids[actor as usize])
        };
        // A deletion takes an item out of sight, with the values that are still open there.
        let is_item = matches!(register.key, Key::Item(_));
        let shows = |write: &u32| is_item && register.writes[*write as usize].value.is_some();
        let remaining = others.iter().max_by_key(|it| (shows(it), by_op(it))).copied();
        if mine.is_empty() {
            let by = remaining.or_else(|| refused.iter().max_by_key(by_op).copied())?;
            let by = self.candidate(register.writes[by as usize].change, value(by));
            return kept(Kept::Written(Box::new(by)));
        }
        if write.settles.is_some() && settled(write.change) && mine == [last] {
            return self.reopening(at, write.change);
        }
        let undone = write.closes.last().filter(|_| self.says_undo(write.change));
        let value = match remaining {
            // The value that an undo took away is there again, beside those of others.
            _ if let Some(undone) = undone => value(*undone),
            Some(remaining) => value(remaining),
            None if before == write.value => return None,
            None => before,
        };
        if let (Some(Value::Bool(true)), Some(undone)) = (&value, undone)
            && self.removals.contains(&at)
            && let Some(work) = self.work_since(register.container, *undone, at)
        {
            return kept(Kept::Written(Box::new(self.candidate(work, None))));
        }
        let closes = mine.iter().map(|open| {
            let change = register.writes[*open as usize].change;
            self.changes[change as usize].hash.short()
        });
        let closes = closes.collect();
        Some(TakenBack::Write { field: Box::new(self.standing(at)), value, closes })
    }

    /// The last work in a container that the author of a removal did not know.
    fn work_since(&self, container: u32, removal: u32, at: u32) -> Option<u32> {
        let removal = self.registers[at as usize].writes[removal as usize].change;
        let (known, undone) = (self.ancestors(removal), self.undone());
        let is_new = |at: &u32| {
            let change = &self.changes[*at as usize];
            known.get(change.chain) < change.place && self.is_work(*at, &undone)
        };
        let touched = self.containers[container as usize].touched.iter();
        touched.flat_map(|(first, last)| *first..=*last).rfind(is_new)
    }

    /// An item that is a container or counter goes, unless others have written in it.
    fn take_back_container(
        &self,
        at: u32,
        made: &Made,
        changes: &BTreeSet<u32>,
        role: Option<&str>,
    ) -> TakenBack {
        let place = self.place(at);
        let Key::Item(_) = self.registers[at as usize].key else {
            return TakenBack::Kept { place, why: Kept::Merges };
        };
        let may = self.schema.writers(&place.pattern());
        if may.is_some_and(|may| !role.is_some_and(|role| may.contains(role))) {
            return TakenBack::Kept { place, why: Kept::NotAllowed };
        }
        let undone = self.undone();
        let is_work = |at: &u32| !changes.contains(at) && self.is_work(*at, &undone);
        let work = match &made.holds {
            Holds::Container(container) => {
                let touched = self.containers[*container as usize].touched.iter();
                touched.flat_map(|(first, last)| *first..=*last).rfind(is_work)
            }
            Holds::Counter { counted, .. } => counted.iter().copied().rfind(is_work),
        };
        if let Some(work) = work {
            let by = Box::new(self.candidate(work, None));
            return TakenBack::Kept { place, why: Kept::Written(by) };
        }
        let actor = self.actor_ids[made.op.1 as usize].clone();
        let made = ObjectId::Op { counter: made.op.0, actor };
        TakenBack::RemoveItem { field: Box::new(self.standing(at)), made }
    }

    fn reopening(&self, at: u32, decision: u32) -> Option<TakenBack> {
        let known = &self.changes[decision as usize];
        let review = known.settlement()?.review;
        Some(TakenBack::Reopen { place: self.place(at), decision: known.hash, review })
    }

    fn deciding(&self, at: u32, decision: u32) -> TakenBack {
        let mut writes = self.registers[at as usize].writes.iter();
        let of_it = |write: &&Write| write.change == decision && write.reopens.is_none();
        let value = writes.find(of_it).and_then(|write| write.value.clone());
        let decision = self.changes[decision as usize].hash;
        TakenBack::Decide { place: self.place(at), decision, value }
    }

    /// The write itself and, if it takes back others, the writes whose effect it gives back. So
    /// after an undo the write that restored a value stands for the one that wrote it first.
    fn means(&self, at: u32, write: u32) -> BTreeSet<u32> {
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
    fn is_made_by(&self, container: u32, changes: &BTreeSet<u32>) -> bool {
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

    /// The changes that were taken back, and not by a change that was taken back in turn.
    fn undone(&self) -> BTreeSet<u32> {
        let mut undone = BTreeSet::new();
        // Whoever takes a change back knows it, so the later one is looked at first.
        for at in (0..self.changes.len() as u32).rev().filter(|at| self.says_undo(*at)) {
            let Some(undo) = self.changes[at as usize].undo() else { continue };
            if !undone.contains(&at) {
                undone.extend(undo.undoes.iter().filter_map(|hash| self.named(hash)));
            }
        }
        undone
    }

    fn says_undo(&self, change: u32) -> bool {
        self.changes[change as usize].undo().is_some()
    }

    fn is_work(&self, change: u32, undone: &BTreeSet<u32>) -> bool {
        !self.changes[change as usize].reserved
            && !self.says_undo(change)
            && !undone.contains(&change)
    }

    /// The change with these first bytes of its hash.
    fn named(&self, hash: &ShortHash) -> Option<u32> {
        let mut from = [0; 32];
        from[..hash.0.len()].copy_from_slice(&hash.0);
        let mut after = self.by_hash.range(ChangeHash(from)..);
        after.next().filter(|(found, _)| found.short() == *hash).map(|(_, at)| *at)
    }
}
