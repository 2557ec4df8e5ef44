//! The value of every field that is more than one plain write, and the questions to people about
//! it.

use std::collections::BTreeSet;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::register::Write;
use super::{FieldPath, Key, Lineage};
use crate::change::ObjectId;
use crate::{ActorId, ChangeHash, Identity, ReviewId};

/// A field whose value is not simply that of one write.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The field.
    pub place: FieldPath,
    /// The container it is in.
    pub object: ObjectId,
    /// The operations that ever wrote it: Automerge names list items by one of them.
    pub ops: Vec<(u64, ActorId)>,
    /// Whether a container or counter also stands there. Readers get that one.
    pub holds_container: bool,
    /// The value that people see; `None` if it has none.
    pub value: Option<Value>,
    /// The value that counts. It differs from `value` only if nobody with the right ever wrote the
    /// field: then people see the value that was written, and none counts.
    pub agreed: Option<Value>,
    /// The questions to people, at most one of each kind.
    pub unsettled: Vec<Unsettled>,
}

/// The choice of the value that a field is read with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The value that people see.
    Seen,
    /// The value that counts: it goes to other systems, and rules between documents look at it.
    Agreed,
}

impl Standing {
    /// The value by a reading.
    pub fn read(&self, reading: Reading) -> Option<&Value> {
        match reading {
            Reading::Seen => self.value.as_ref(),
            Reading::Agreed => self.agreed.as_ref(),
        }
    }

    /// The value that stays if a question is dismissed. The value of somebody without the right
    /// goes then.
    pub fn stays(&self, question: Question) -> Option<&Value> {
        match question {
            Question::Refused => self.agreed.as_ref(),
            _ => self.value.as_ref(),
        }
    }
}

/// Something about a field that only a person can decide.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsettled {
    /// The review that asks.
    pub review: ReviewId,
    /// The question it asks.
    pub question: Question,
    /// The candidates to choose from, the oldest first: by their authors' clocks, but whoever knew of
    /// another comes after it, whatever the clocks say. The order is the same on every replica.
    /// Of more than 256, and of containers that every device makes alike, clocks alone decide.
    pub candidates: Vec<Candidate>,
    /// With [`Question::Containers`], the operation that made each candidate's container. Its
    /// content is read from the document; only the candidate of a counter has a value here.
    pub containers: Vec<ObjectId>,
}

/// A question about a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// Which of the concurrent values is to stand, or whether to go back in an order.
    Conflict,
    /// Which of several decisions is to stand that were made without knowing of each other.
    Disagreement,
    /// Whether to take the value of somebody without the right.
    Refused,
    /// Whether a document, map or item stays removed in which others wrote meanwhile.
    Removal,
    /// Whether to take or drop a value that cannot be seen, because somebody who did not know of it
    /// made a container in its place, or the other way round.
    Hidden,
    /// Whether to keep a text, list, map or counter that cannot be seen, because somebody who did
    /// not know of it made another one in the same place.
    Containers,
}

impl Question {
    /// Every question.
    pub const ALL: [Self; 6] = [
        Self::Conflict,
        Self::Disagreement,
        Self::Refused,
        Self::Removal,
        Self::Hidden,
        Self::Containers,
    ];

    /// The byte that stands for it in a [`ReviewId`]. It never changes.
    fn tag(self) -> u8 {
        match self {
            Self::Conflict => 0,
            Self::Disagreement => 1,
            Self::Refused => 2,
            Self::Removal => 3,
            Self::Hidden => 4,
            Self::Containers => 5,
        }
    }
}

/// A value to choose.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The change that wrote it.
    pub change: ChangeHash,
    /// The value; `None` if the field was cleared. A candidate of a [`Question::Removal`] that
    /// is not the removal itself has none.
    pub value: Option<Value>,
    /// The author, if the change names one.
    pub author: Option<Identity>,
    /// The time, in seconds since 1970 by the author's clock.
    pub time_s: i64,
    /// The review it settled.
    pub settles: Option<ReviewId>,
}

impl Candidate {
    /// All of it, for machines.
    pub fn to_json(&self) -> Value {
        serde_json::json!({
            "value": self.value,
            "author": self.author.as_ref().map(Identity::to_json),
            "time_s": self.time_s,
            "change": self.change.to_string(),
            "settles": self.settles.map(|review| review.to_string()),
        })
    }
}

/// A question that was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The review that asked.
    pub review: ReviewId,
    /// The question it asked.
    pub question: Question,
    /// About which field.
    pub place: FieldPath,
    /// The value that was written, with its author and time.
    pub by: Candidate,
    /// Whether the review was dismissed, so that the value from before stays.
    pub dismissed: bool,
    /// The reason given for it.
    pub why: Option<String>,
}

impl Lineage {
    /// The questions that were decided.
    pub fn settled(&self) -> Vec<Settled> {
        let mut settled = Vec::new();
        for (register, at) in self.registers.iter().zip(0u32..) {
            let counts =
                |write: &&Write| write.settles.is_some() && !register.is_reopened(write.change);
            let writes = register.writes.iter().filter(counts);
            let writes = writes.map(|it| (it.settles, it.change, it.value.clone()));
            let discards = register.discards.iter().filter(|it| it.reopened.is_empty());
            let discards =
                discards.map(|it| (it.settles.then_some(Question::Containers), it.change, None));
            for (question, change, value) in writes.chain(discards) {
                let Some(question) = question else { continue };
                let by = self.candidate(change, value);
                let change = &self.changes[change as usize];
                let Some(settlement) = change.settlement() else { continue };
                settled.push(Settled {
                    review: settlement.review,
                    question,
                    place: self.place(at),
                    by,
                    dismissed: settlement.dismissed,
                    why: settlement.why.clone(),
                });
            }
        }
        settled.sort_by(|one, other| {
            let key = |settled: &Settled| (settled.review, settled.by.change);
            key(one).cmp(&key(other)).then_with(|| one.place.cmp(&other.place))
        });
        settled
    }

    /// The fields whose values are not simply those of one write, in the order of their places. All
    /// other fields are as Automerge shows them.
    pub fn standings(&self) -> Vec<Standing> {
        let uneasy: BTreeSet<u32> = self.several.union(&self.removals).copied().collect();
        let uneasy = uneasy.union(&self.containers_met);
        let standings = uneasy.map(|at| (at, self.standing(*at)));
        let uneasy = standings
            .filter(|(at, standing)| self.several.contains(at) || !standing.unsettled.is_empty());
        let mut standings: Vec<_> = uneasy
            .map(|(at, mut standing)| {
                if self.is_out_of_sight(*at) {
                    // Nobody sees the field, so the question is about the container it is in.
                    standing.unsettled.clear();
                }
                standing
            })
            .collect();
        standings.sort_by(|one, other| one.place.cmp(&other.place));
        standings
    }

    pub(super) fn standing(&self, at: u32) -> Standing {
        let register = &self.registers[at as usize];
        let rule = self.rule_of(at);
        let (mut refused, open) = self.refused(at, &register.open);
        // A value that became a text merges as a text, and the rights to texts are checked when
        // they are edited.
        refused
            .retain(|write| !register.converted.contains_key(&register.writes[*write as usize].op));
        let mut unsettled = Vec::new();
        let mut ask_about = |question, mut candidates, mut containers| {
            self.sort_by_age(&mut candidates, &mut containers);
            let review = self.review(at, question, register.settlements[question as usize]);
            unsettled.push(Unsettled { review, question, candidates, containers });
        };
        let (candidates, containers): (Vec<_>, Vec<_>) =
            self.hidden_containers(at).into_iter().unzip();
        if !candidates.is_empty() {
            ask_about(Question::Containers, candidates, containers);
        }
        let mut ask = |question, candidates| ask_about(question, candidates, Vec::new());
        let hidden: Vec<u32> = register.hidden().filter(|write| open.contains(write)).collect();
        match self.decided(at, rule, &open) {
            _ if !hidden.is_empty() => ask(Question::Hidden, self.candidates(at, &hidden)),
            // Only the hidden values could be in question.
            _ if !register.merging.is_empty() => {}
            Some(stands) => {
                if let Some(overlooked) = self.overlooked(at, stands, &open, |_| u64::MAX) {
                    let meanwhile = overlooked.changes.iter();
                    let meanwhile = meanwhile.map(|change| self.candidate(*change, None));
                    let mut candidates = self.candidates(at, &overlooked.removals);
                    candidates.extend(meanwhile);
                    ask(Question::Removal, candidates);
                }
            }
            None if open.is_empty() => {}
            None => {
                let decision = |open: &&u32| register.writes[**open as usize].settles.is_some();
                let question = match open.iter().filter(decision).count() {
                    0 | 1 => Question::Conflict,
                    _ => Question::Disagreement,
                };
                ask(question, self.candidates(at, &open));
            }
        }
        if !refused.is_empty() {
            ask(Question::Refused, self.candidates(at, &refused));
        }
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
        let holds_container = !register.merging.is_empty();
        let [value, agreed] = [Reading::Seen, Reading::Agreed].map(|it| self.value_of(at, it));
        Standing { place: self.place(at), object, ops, holds_container, value, agreed, unsettled }
    }

    /// The value of a field.
    pub(super) fn value_of(&self, at: u32, reading: Reading) -> Option<Value> {
        let stands = self.standing_write(at)?;
        if reading == Reading::Agreed && !stands.is_agreed {
            return None;
        }
        self.registers[at as usize].writes[stands.write as usize].value.clone()
    }

    fn candidates(&self, at: u32, open: &[u32]) -> Vec<Candidate> {
        let writes = &self.registers[at as usize].writes;
        let candidate = |open: &u32| {
            let write = &writes[*open as usize];
            self.candidate(write.change, write.value.clone())
        };
        open.iter().map(candidate).collect()
    }

    /// Puts the oldest candidates first, each with its container if there are any. Of very many, as a
    /// flood of heads makes them, clocks alone decide.
    fn sort_by_age(&self, candidates: &mut Vec<Candidate>, containers: &mut Vec<ObjectId>) {
        // What every device makes alike knows of nothing.
        let is_own = |index: &u32| !self.changes[*index as usize].reserved;
        let index =
            |candidate: &Candidate| self.by_hash.get(&candidate.change).copied().filter(is_own);
        let mut ages: Vec<_> = candidates
            .iter()
            .map(|it| Age { index: index(it), not_before_s: it.time_s, knows: 0 })
            .collect();
        if ages.len() <= COMPARED_MAX {
            // Changes stand behind those that they know.
            let mut in_order: Vec<usize> = (0..ages.len()).collect();
            in_order.sort_unstable_by_key(|at| ages[*at].index);
            for (place, at) in in_order.iter().enumerate() {
                let Some(own) = ages[*at].index else { continue };
                let ancestors = self.ancestors(own);
                for other in &in_order[..place] {
                    let Some(other_index) = ages[*other].index.filter(|it| *it != own) else {
                        continue;
                    };
                    let change = &self.changes[other_index as usize];
                    if ancestors.get(change.chain) >= change.place {
                        ages[*at].knows += 1;
                        ages[*at].not_before_s =
                            ages[*at].not_before_s.max(ages[*other].not_before_s);
                    }
                }
            }
        }
        let mut order: Vec<usize> = (0..ages.len()).collect();
        order.sort_by_key(|at| (ages[*at].not_before_s, ages[*at].knows, candidates[*at].change));
        *candidates = order.iter().map(|at| candidates[*at].clone()).collect();
        if !containers.is_empty() {
            *containers = order.iter().map(|at| containers[*at].clone()).collect();
        }
    }

    pub(super) fn candidate(&self, change: u32, value: Option<Value>) -> Candidate {
        let known = &self.changes[change as usize];
        Candidate {
            change: known.hash,
            value,
            author: self.identity_of(change).cloned(),
            time_s: known.time_s,
            settles: known.settlement().map(|settlement| settlement.review),
        }
    }

    /// The question of a review that a change settles here; `None` if that review never asked about
    /// this field.
    pub(super) fn question(&self, at: u32, change: u32, review: &ReviewId) -> Option<Question> {
        let ancestors = self.ancestors(change);
        let is_known = |write: &&Write| {
            let change = &self.changes[write.change as usize];
            ancestors.get(change.chain) >= change.place
        };
        let writes = &self.registers[at as usize].writes;
        let reopened = writes.iter().filter(is_known).filter(|write| !write.refused);
        let reopened: BTreeSet<u32> = reopened.filter_map(|write| write.reopens).collect();
        let settled = |asked: Question| {
            let settled = writes
                .iter()
                .filter(|write| write.settles == Some(asked) && !reopened.contains(&write.change));
            let discards = match asked {
                Question::Containers => self.discards_known(at, |discard| {
                    let discard = &self.changes[discard as usize];
                    ancestors.get(discard.chain) >= discard.place
                }),
                _ => 0,
            };
            settled.filter(is_known).count() as u32 + discards
        };
        let asks = |asked: Question, settled: u32| self.review(at, asked, settled) == *review;
        let mut now = Question::ALL.into_iter().filter(|asked| asks(*asked, settled(*asked)));
        now.next().or_else(|| {
            // The write may have settled something by an earlier schema.
            let decides =
                |write: &&Write| self.changes[write.change as usize].settlement().is_some();
            let most = writes.iter().filter(decides).filter(is_known).count() as u32;
            let mut ever = (most.saturating_sub(SETTLED_BEFORE_MAX)..=most).flat_map(|settled| {
                Question::ALL.into_iter().filter(move |asked| asks(*asked, settled))
            });
            ever.next()
        })
    }

    /// The review of a question, given how often that question was settled there. It is the same on
    /// every replica, and until somebody settles it, it stays the same while candidates are added.
    fn review(&self, at: u32, question: Question, settlements: u32) -> ReviewId {
        let mut hash = Sha256::new();
        hash.update(b"rejoin review 1\0");
        hash.update([question.tag()]);
        hash.update(self.document.0);
        hash.update(settlements.to_be_bytes());
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

/// How many settlements of a field back a review is looked for that was settled by an earlier
/// schema. Somebody may name a review that never was, as often as they like.
const SETTLED_BEFORE_MAX: u32 = 64;

/// How old a candidate is among others.
struct Age {
    /// The number of its change in the lineage.
    index: Option<u32>,
    /// Its time, or that of a candidate it knows of if that is later.
    not_before_s: i64,
    /// Candidates that it knows of.
    knows: u32,
}

/// Candidates that are compared with each other.
const COMPARED_MAX: usize = 256;
