//! Texts, lists, maps and counters that stand at one key, because their makers did not know of each
//! other.
//!
//! One of them is seen: a container before a counter, and of several of one kind the one that
//! Automerge shows. Nobody sees the content of the others, so a person decides. The decision is a
//! change with a [`Settlement`](crate::Settlement) that deletes the hidden ones. If somebody wrote
//! in one of those without knowing of the decision, there is a question about it again.

use std::collections::BTreeSet;

use serde_json::Value;

use super::register::Register;
use super::{Candidate, Lineage, OpId, Question};
use crate::change::ObjectId;

/// A container or counter that was made at a field.
#[derive(Debug, Clone)]
pub(super) struct Made {
    /// The operation that made it.
    pub(super) op: OpId,
    /// The change of that operation.
    pub(super) change: u32,
    pub(super) holds: Holds,
    /// The decisions that deleted it.
    pub(super) discarded: Vec<u32>,
}

/// The thing that was made.
#[derive(Debug, Clone)]
pub(super) enum Holds {
    /// The container with this index.
    Container(u32),
    Counter {
        count: i64,
        /// The changes that counted.
        counted: Vec<u32>,
    },
}

/// A change with a settlement that deletes hidden containers.
#[derive(Debug, Clone)]
pub(super) struct Discard {
    pub(super) change: u32,
    /// Whether it settles the question that was open to its author.
    pub(super) settles: bool,
    /// The changes that took it back.
    pub(super) reopened: Vec<u32>,
}

impl Lineage {
    /// Notes that a change decides about containers by deleting the ones that `preds` made. If it
    /// carries no decision, or deletes something else, nothing is noted and the answer is `false`.
    pub(super) fn discard(&mut self, at: u32, change: u32, preds: &BTreeSet<OpId>) -> bool {
        let Some(settlement) = self.changes[change as usize].settlement() else {
            return false;
        };
        let review = settlement.review;
        let register = &mut self.registers[at as usize];
        // Other operations may have taken their place meanwhile: the kind of a change must not
        // depend on which change came first.
        if preds.is_empty() || !preds.iter().all(|op| register.made.contains(op)) {
            return false;
        }
        let is_taken = |made: &mut Made| preds.contains(&made.op);
        let taken: Vec<Made> = register.merging.extract_if(.., is_taken).collect();
        register.discarded.extend(taken);
        for made in register.discarded.iter_mut().filter(|made| preds.contains(&made.op)) {
            if made.discarded.last() != Some(&change) {
                made.discarded.push(change);
            }
        }
        let settles = self.question(at, change, &review) == Some(Question::Containers);
        let register = &mut self.registers[at as usize];
        if register.discards.last().is_none_or(|last| last.change != change) {
            register.settlements[Question::Containers as usize] += u32::from(settles);
            register.discards.push(Discard { change, settles, reopened: Vec::new() });
        }
        self.settled_in.entry(change).or_insert(at);
        self.containers_met.insert(at);
        true
    }

    /// Counts, in every counter that the operation adds to.
    pub(super) fn count(&mut self, at: u32, change: u32, by: i64, preds: &BTreeSet<OpId>) {
        let register = &mut self.registers[at as usize];
        for made in register.merging.iter_mut().chain(&mut register.discarded) {
            if let Holds::Counter { count, counted } = &mut made.holds
                && preds.contains(&made.op)
            {
                *count = count.wrapping_add(by);
                counted.push(change);
            }
        }
    }

    /// The containers and counters that somebody made or wrote in and nobody sees. Each comes with
    /// the operation that made it, and a counter with its count.
    pub(super) fn hidden_containers(&self, at: u32) -> Vec<(Candidate, ObjectId)> {
        let register = &self.registers[at as usize];
        let shown = self.shown(at).map(|made| made.op);
        let hidden = register.merging.iter().filter(|made| Some(made.op) != shown);
        let hidden =
            hidden.chain(register.discarded.iter().filter(|it| self.is_overlooked(register, it)));
        hidden.filter_map(|made| self.hidden_container(register, made)).collect()
    }

    /// The candidate for a container that is out of sight; `None` if nobody ever wrote in it. A
    /// text that was made of a value has the words of that value's author.
    fn hidden_container(&self, at: &Register, made: &Made) -> Option<(Candidate, ObjectId)> {
        let (written, value) = match &made.holds {
            Holds::Container(container) => {
                let touched = self.containers[*container as usize].touched.iter();
                (self.last_of(touched.flat_map(|(first, last)| *first..=*last)), None)
            }
            Holds::Counter { count, counted } => {
                let written = self.last_of(counted.iter().copied()).or(Some(made.change));
                (written, Some(Value::from(*count)))
            }
        };
        let of_text = |(replaced, text): (&OpId, &OpId)| (*text == made.op).then_some(*replaced);
        let converted = at.converted.iter().find_map(of_text);
        let write = at.writes.iter().find(|write| Some(write.op) == converted);
        let written = written.or_else(|| write.map(|write| write.change));
        // A birth names neither an author nor a time.
        let is_birth = self.changes[made.change as usize].reserved;
        let by = if is_birth { written? } else { written.and(Some(made.change))? };
        let hash = self.changes[made.change as usize].hash;
        let candidate = Candidate { change: hash, ..self.candidate(by, value) };
        let actor = self.actor_ids[made.op.1 as usize].clone();
        Some((candidate, ObjectId::Op { counter: made.op.0, actor }))
    }

    /// The last of these changes by their clocks, which is the same for every order in which they
    /// came.
    fn last_of(&self, changes: impl Iterator<Item = u32>) -> Option<u32> {
        let changes = changes.filter(|change| !self.changes[*change as usize].reserved);
        changes.max_by_key(|change| {
            let known = &self.changes[*change as usize];
            (known.time_s, known.hash)
        })
    }

    /// Whether somebody wrote in a deleted container without knowing of a decision to delete it,
    /// while none of these decisions knew of that write. Decisions that were taken back say nothing.
    fn is_overlooked(&self, at: &Register, made: &Made) -> bool {
        let is_taken_back = |discarded: &u32| {
            let mut discards = at.discards.iter();
            discards.any(|it| it.change == *discarded && !it.reopened.is_empty())
        };
        let knows = |one: u32, other: u32| {
            let other = &self.changes[other as usize];
            self.ancestors(one).get(other.chain) >= other.place
        };
        let is_overlooked = |change: u32| {
            let apart = |discarded: &u32| {
                *discarded != change && !knows(*discarded, change) && !knows(change, *discarded)
            };
            made.discarded.iter().filter(|it| !is_taken_back(it)).all(apart)
        };
        match &made.holds {
            Holds::Container(container) => {
                let touched = self.containers[*container as usize].touched.iter();
                touched.flat_map(|(first, last)| *first..=*last).any(is_overlooked)
            }
            Holds::Counter { counted, .. } => counted.iter().copied().any(is_overlooked),
        }
    }

    /// Whether a field stands in a container that another one hides, or in one within such a
    /// container.
    pub(super) fn is_out_of_sight(&self, at: u32) -> bool {
        let mut container = self.registers[at as usize].container;
        while let Some(around) = self.containers[container as usize].stands_in {
            let register = &self.registers[around as usize];
            let op = self.containers[container as usize].made_by;
            let is_it = |made: &&Made| Some(made.op) == op;
            let is_hidden = register.merging.iter().any(|made| is_it(&made))
                && self.shown(around).map(|made| made.op) != op;
            if is_hidden || register.discarded.iter().any(|made| is_it(&made)) {
                return true;
            }
            container = register.container;
        }
        false
    }

    /// The one that is seen of the containers and counters at a field.
    fn shown(&self, at: u32) -> Option<&Made> {
        let rank = |made: &&Made| {
            let is_container = matches!(made.holds, Holds::Container(_));
            (is_container, made.op.0, &self.actor_ids[made.op.1 as usize])
        };
        self.registers[at as usize].merging.iter().max_by_key(rank)
    }

    /// The number of times that the question about containers was settled here, by the changes that
    /// are known.
    pub(super) fn discards_known(&self, at: u32, is_known: impl Fn(u32) -> bool) -> u32 {
        let discards = self.registers[at as usize].discards.iter();
        let settling = discards.filter(|discard| {
            let is_reopened = discard.reopened.iter().any(|change| is_known(*change));
            discard.settles && is_known(discard.change) && !is_reopened
        });
        settling.count() as u32
    }
}
