//! What stands at every field that is not plainly one write, and what people are asked about it.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::decide::furthest;
use super::{FieldPath, Key, Lineage};
use crate::change::ObjectId;
use crate::schema::Rule;
use crate::{ActorId, ChangeHash, Identity, ReviewId};

/// A field that is not plainly what one write says.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Which field.
    pub place: FieldPath,
    /// The container it is in.
    pub object: ObjectId,
    /// The operations that ever wrote it: Automerge names list items by one of them.
    pub ops: Vec<(u64, ActorId)>,
    /// Whether it also holds a container, which is what reads.
    pub holds_container: bool,
    /// Its effective value; nothing if it has none.
    pub value: Option<Value>,
    /// What people are asked, at most one question of each kind.
    pub unsettled: Vec<Unsettled>,
}

/// Something about a field that only a person can decide.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsettled {
    /// The review that asks.
    pub review: ReviewId,
    /// What is asked.
    pub question: Question,
    /// What there is to choose from, in the order of the changes' hashes.
    pub candidates: Vec<Candidate>,
}

/// What is asked about a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// Which of the concurrent values, or whether to go back in an order.
    Conflict,
    /// Which of the decisions that were made without knowing of each other.
    Disagreement,
    /// Whether to take what somebody wrote who may not.
    Refused,
    /// Whether what was removed, while others wrote in it, stays removed.
    Removal,
}

/// A value to choose.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The change that wrote it.
    pub change: ChangeHash,
    /// The value; nothing if the field was cleared. A candidate of a [`Question::Removal`] that
    /// is not the removal itself has none.
    pub value: Option<Value>,
    /// Who wrote it, as far as the change says.
    pub author: Option<Identity>,
    /// When, in seconds since 1970 by the author's clock.
    pub time_s: i64,
    /// The review it settled.
    pub settles: Option<ReviewId>,
}

/// A question that was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The review that asked.
    pub review: ReviewId,
    /// What was asked.
    pub question: Question,
    /// About which field.
    pub place: FieldPath,
    /// What was written, by whom and when.
    pub by: Candidate,
    /// Whether the review was dismissed: what stood before stays.
    pub dismissed: bool,
    /// Why.
    pub why: Option<String>,
}

impl Lineage {
    /// The questions that were decided.
    pub fn settled(&self) -> Vec<Settled> {
        let mut settled = Vec::new();
        for (register, at) in self.registers.iter().zip(0u32..) {
            if register.settlements == 0 {
                continue;
            }
            for write in register.writes.iter().filter(|write| write.settles) {
                let change = &self.changes[write.change as usize];
                let Some(settlement) = change.settlement.as_deref() else { continue };
                let closed = || write.closes.iter().map(|at| &register.writes[*at as usize]);
                let question = match () {
                    () if closed().any(|closed| closed.refused) => Question::Refused,
                    () if self.removals.contains(&at) => Question::Removal,
                    () if closed().filter(|closed| closed.settles).count() > 1 => {
                        Question::Disagreement
                    }
                    () => Question::Conflict,
                };
                settled.push(Settled {
                    review: settlement.review,
                    question,
                    place: self.place(at),
                    by: self.candidate(write.change, write.value.clone()),
                    dismissed: settlement.dismissed,
                    why: settlement.why.clone(),
                });
            }
        }
        settled.sort_by_key(|settled| (settled.review, settled.by.change));
        settled
    }

    /// The fields that are not plainly what one write says, in the order of their places. All
    /// others are as Automerge shows them.
    pub fn standings(&self) -> Vec<Standing> {
        let mut standings = BTreeMap::new();
        for register in &self.several {
            let standing = self.standing(*register);
            standings.insert(standing.place.clone(), standing);
        }
        for register in &self.removals {
            if let Some(removal) = self.removal(*register) {
                let place = removal.place.clone();
                standings.entry(place).or_insert(removal);
            }
        }
        standings.into_values().collect()
    }

    fn standing(&self, at: u32) -> Standing {
        let register = &self.registers[at as usize];
        let rule = self.rule_of(at);
        let is_refused = |open: &&u32| register.writes[**open as usize].refused;
        let (refused, open): (Vec<u32>, Vec<u32>) = register.open.iter().partition(is_refused);
        let mut unsettled = Vec::new();
        let stands = self.decided(at, rule, &open);
        if stands.is_none() && !open.is_empty() {
            let candidates = self.candidates(at, &open);
            let decisions = candidates.iter().filter(|candidate| candidate.settles.is_some());
            let question = match decisions.count() {
                0 | 1 => Question::Conflict,
                _ => Question::Disagreement,
            };
            let review = self.review(at, question);
            unsettled.push(Unsettled { review, question, candidates });
        }
        if !refused.is_empty() {
            let (review, question) = (self.review(at, Question::Refused), Question::Refused);
            let candidates = self.candidates(at, &refused);
            unsettled.push(Unsettled { review, question, candidates });
        }
        let stands = stands.or_else(|| self.stands_meanwhile(at, rule, &open));
        let value = stands.and_then(|stands| register.writes[stands as usize].value.clone());
        self.standing_with(at, value, unsettled)
    }

    fn standing_with(&self, at: u32, value: Option<Value>, unsettled: Vec<Unsettled>) -> Standing {
        let register = &self.registers[at as usize];
        let named =
            |(counter, actor): (u64, u32)| (counter, self.actor_ids[actor as usize].clone());
        let object = match self.containers[register.container as usize].made_by.map(named) {
            None => ObjectId::Root,
            Some((counter, actor)) => ObjectId::Op { counter, actor },
        };
        let mut ops: Vec<_> = register.writes.iter().map(|write| named(write.op)).collect();
        if let Key::Item(item) = register.key {
            ops.push(named(item));
        }
        let holds_container = register.holds_container;
        Standing { place: self.place(at), object, ops, holds_container, value, unsettled }
    }

    /// The write whose value a field has.
    pub(super) fn standing_write(&self, at: u32) -> Option<u32> {
        let register = &self.registers[at as usize];
        let rule = self.rule_of(at);
        let is_asked = self.removals.contains(&at) && self.removal(at).is_some();
        if is_asked {
            return self.agreed_before(at, rule, &register.open);
        }
        let mut open = register.open.clone();
        open.retain(|open| !register.writes[*open as usize].refused);
        self.decided(at, rule, &open).or_else(|| self.stands_meanwhile(at, rule, &open))
    }

    /// The write that stands until a person decides.
    fn stands_meanwhile(&self, at: u32, rule: &Rule, open: &[u32]) -> Option<u32> {
        let furthest = match rule {
            Rule::Order(order) => furthest(order, &self.contenders(at, open)),
            _ => None,
        };
        let furthest = furthest.map(|stands| open[stands]);
        furthest.or_else(|| self.agreed_before(at, rule, open))
    }

    fn candidates(&self, at: u32, open: &[u32]) -> Vec<Candidate> {
        let writes = &self.registers[at as usize].writes;
        let candidate = |open: &u32| {
            let write = &writes[*open as usize];
            self.candidate(write.change, write.value.clone())
        };
        let mut candidates: Vec<_> = open.iter().map(candidate).collect();
        candidates.sort_by_key(|candidate| candidate.change);
        candidates
    }

    pub(super) fn candidate(&self, change: u32, value: Option<Value>) -> Candidate {
        let known = &self.changes[change as usize];
        Candidate {
            change: known.hash,
            value,
            author: self.identity_of(change).cloned(),
            time_s: known.time_s,
            settles: known.settlement.as_deref().map(|settlement| settlement.review),
        }
    }

    /// The question whether what was removed stays so: if somebody wrote in it meanwhile.
    fn removal(&self, at: u32) -> Option<Standing> {
        let register = &self.registers[at as usize];
        let [removal] = register.open[..] else { return None };
        let removal = &register.writes[removal as usize];
        if removal.value != Some(Value::Bool(true)) {
            return None;
        }
        let ancestors = self.ancestors(removal.change);
        let remover = &self.changes[removal.change as usize];
        // Of the changes of one actor the last says enough.
        let mut meanwhile: BTreeMap<u32, u32> = BTreeMap::new();
        let touched = &self.containers[register.container as usize].touched;
        for change in touched.iter().flat_map(|(first, last)| *first..=*last) {
            let known = &self.changes[change as usize];
            let unknown_to_remover = ancestors.get(known.actor) < known.seq;
            if unknown_to_remover
                && !known.reserved
                && self.ancestors(change).get(remover.actor) < remover.seq
                && known.hash != remover.hash
            {
                meanwhile.insert(known.actor, change);
            }
        }
        if meanwhile.is_empty() {
            return None;
        }
        let question = Question::Removal;
        let mut candidates = vec![self.candidate(removal.change, removal.value.clone())];
        candidates.extend(meanwhile.values().map(|change| self.candidate(*change, None)));
        candidates.sort_by_key(|candidate| candidate.change);
        let stood = self.agreed_before(at, self.rule_of(at), &register.open);
        let value = stood.and_then(|stood| register.writes[stood as usize].value.clone());
        let unsettled = vec![Unsettled { review: self.review(at, question), question, candidates }];
        Some(self.standing_with(at, value, unsettled))
    }

    /// The review of a question: the same on every replica, and as long as nobody settled it the
    /// same whatever candidates are added.
    fn review(&self, at: u32, question: Question) -> ReviewId {
        let mut hash = Sha256::new();
        hash.update(b"rejoin review 1\0");
        hash.update([question as u8]);
        hash.update(self.document.0);
        hash.update(self.registers[at as usize].settlements.to_be_bytes());
        for step in self.place(at).0 {
            match step {
                super::Step::Key(key) => {
                    hash.update([0]);
                    hash.update((key.len() as u64).to_be_bytes());
                    hash.update(key.as_bytes());
                }
                super::Step::Item { counter, actor } => {
                    hash.update([1]);
                    hash.update(counter.to_be_bytes());
                    hash.update((actor.0.len() as u64).to_be_bytes());
                    hash.update(&actor.0);
                }
            }
        }
        let hash: [u8; 32] = hash.finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        ReviewId(id)
    }
}
