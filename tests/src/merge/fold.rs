//! What stands at every field and what is asked, by definition: every write is judged by all that
//! its author knew, one after the other, and nothing is kept up to date.

use std::collections::{BTreeMap, BTreeSet};

use rejoin::history::Step;
use rejoin::review::Question;
use rejoin::{DocumentId, ReviewId};
use rejoin_core::schema::{Rule, Schema};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::history::{Change, History, OpId, Place, Said, Set, Slot, Write, hex};
use super::rules::{Candidate, agreed, furthest, place as place_in};

/// The writes of one document, judged by a schema.
#[derive(Debug)]
pub struct Fold {
    document: DocumentId,
    schema: Schema,
    judged: BTreeMap<Place, Vec<Judged>>,
}

/// What a write did. It depends on nothing but what its author knew.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Its author had no right to it.
    pub refused: bool,
    /// The writes it took the place of.
    pub closes: BTreeSet<usize>,
    /// What was asked that it settled, naming some of what it closed.
    pub settles: Option<Question>,
    /// It stands before something its author knew and did not close, in an order.
    pub goes_back: bool,
    /// Where in an order others had left the field when its author began to write it.
    pub left_at: Option<usize>,
}

/// Something that people are asked about a field.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// What.
    pub question: Question,
    /// What there is to choose from.
    pub candidates: Vec<Choice>,
}

/// Something to choose.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The change that wrote or made it.
    pub change: usize,
    /// The change that tells by whom and when.
    pub by: usize,
    /// What it wrote.
    pub value: Option<Value>,
}

impl Choice {
    fn of(change: usize, value: Option<Value>) -> Self {
        Self { change, by: change, value }
    }
}

impl Fold {
    /// By this schema.
    pub fn new(document: DocumentId, schema: Schema) -> Self {
        Self { document, schema, judged: BTreeMap::new() }
    }

    /// The schema everything is judged by.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Judges what came since.
    pub fn judge(&mut self, history: &History) {
        for place in history.places() {
            for at in self.judged.get(place).map_or(0, Vec::len)..history.writes(place).len() {
                let judged = self.judge_write(history, place, at);
                self.judged.entry(place.clone()).or_default().push(judged);
            }
        }
    }

    /// What a write did.
    pub fn judged(&self, place: &Place, at: usize) -> &Judged {
        &self.judged[place][at]
    }

    fn judge_write(&self, history: &History, place: &Place, at: usize) -> Judged {
        let write = &history.writes(place)[at];
        let writes = history.writes(place);
        let change = &history.changes[write.change];
        let role = change.identity.as_ref().and_then(|identity| identity.role.as_ref());
        let writers = self.schema.writers(&history.path(place).pattern());
        let refused =
            writers.is_some_and(|writers| !role.is_some_and(|role| writers.contains(role)));

        let open = self.open(history, place, &change.ancestors);
        let (improper, proper): (BTreeSet<usize>, BTreeSet<usize>) =
            open.iter().partition(|at| self.judged[place][**at].refused);
        let mut closes = BTreeSet::new();
        if refused {
            // People may correct themselves.
            let own = |at: &usize| is_of_same(&history.changes[writes[*at].change], change);
            closes.extend(improper.into_iter().filter(own));
            return Judged { refused, closes, settles: None, goes_back: false, left_at: None };
        }
        if let Some(said) = &change.said {
            let name = |at: &usize| hex(&history.changes[writes[*at].change].hash);
            closes.extend(open.iter().copied().filter(|at| said.closes.contains(&name(at))));
        }
        if let Some(undoes) = &change.undoes {
            let name = |at: &usize| hex(&history.changes[writes[*at].change].hash);
            // People take back what is their own.
            let is_own = |at: &usize| is_of_same_user(&history.changes[writes[*at].change], change);
            let named = open.iter().copied().filter(|at| undoes.closes.contains(&name(at)));
            closes.extend(named.filter(is_own));
        }
        let said = change.said.as_ref().filter(|_| !closes.is_empty());
        let settles = said.and_then(|said| self.settles(history, place, change, said));
        if proper.is_empty() && !history.is_removal(place) && change.undoes.is_none() {
            // What could be seen was decided about.
            closes.extend(&improper);
        }
        let rule = self.rule(history, place);
        let is_item = matches!(place.slot, Slot::Item(_));
        let candidates = self.candidates(history, place, &proper);
        let left_at = match rule {
            Rule::Order(order) => self.left_at(history, place, change, order, &proper),
            _ => None,
        };
        let follows = match rule {
            Rule::Order(order) => left_at <= place_in(order, &write.value),
            _ => true,
        };
        // Nobody can bring a deleted item back, so there is nothing left to ask.
        let is_deleted_item = is_item && write.value.is_none();
        let decides = is_deleted_item || agreed(rule, &candidates).is_some() && follows;
        // Who takes something back decides about nothing else.
        if decides && change.undoes.is_none() {
            closes.extend(&proper);
        }
        let goes_back = match rule {
            Rule::Order(order) => proper
                .difference(&closes)
                .any(|at| place_in(order, &writes[*at].value) > place_in(order, &write.value)),
            _ => false,
        };
        Judged { refused, closes, settles, goes_back, left_at }
    }

    /// How far in an order others had left a field that stands at these writes, as the author of a
    /// change sees it: one's own values one may take back, those of others not.
    fn left_at(
        &self,
        history: &History,
        place: &Place,
        change: &Change,
        order: &[String],
        open: &BTreeSet<usize>,
    ) -> Option<usize> {
        let left_by = |at: &usize| {
            let write = &history.writes(place)[*at];
            let stands_at = place_in(order, &write.value);
            match is_of_same(&history.changes[write.change], change) {
                true => self.judged[place][*at].left_at.min(stands_at),
                false => stands_at,
            }
        };
        open.iter().map(left_by).max().flatten()
    }

    /// What was asked that a change settles. One that names what was never asked about this field
    /// settles nothing.
    fn settles(
        &self,
        history: &History,
        place: &Place,
        change: &Change,
        said: &Said,
    ) -> Option<Question> {
        let mut asked = Question::ALL.into_iter();
        let now =
            |it: &Question| self.review(history, place, *it, &change.ancestors) == said.review;
        asked.find(now).or_else(|| {
            // By another schema it may have been settled more or less often before.
            let before = history.writes(place).iter();
            let decides = |write: &&Write| {
                change.ancestors.contains(&write.change)
                    && history.changes[write.change].said.is_some()
            };
            let often = before.filter(decides).count();
            (0..=often).find_map(|settled| {
                let is_it = |it: &Question| self.named(history, place, *it, settled) == said.review;
                Question::ALL.into_iter().find(is_it)
            })
        })
    }

    fn rule(&self, history: &History, place: &Place) -> &Rule {
        self.schema.rule(&history.path(place).pattern())
    }

    /// The writes of these changes that none of them closes.
    pub fn open(&self, history: &History, place: &Place, set: &Set) -> BTreeSet<usize> {
        let writes = history.writes(place).iter().enumerate();
        let there: BTreeSet<usize> =
            writes.filter(|(_, write)| set.contains(&write.change)).map(|(at, _)| at).collect();
        let reopened = self.reopened(history, place, set);
        let counts = |at: &&usize| !reopened.contains(&history.writes(place)[**at].change);
        let closed: BTreeSet<usize> = there
            .iter()
            .filter(counts)
            .flat_map(|at| self.judged[place][*at].closes.clone())
            .collect();
        let open = there.iter().filter(counts).filter(|at| !closed.contains(at));
        open.copied().collect()
    }

    /// The decisions about a field that one of these changes takes back.
    fn reopened(&self, history: &History, place: &Place, set: &Set) -> Set {
        let reopens = |at: &usize| {
            history.changes[*at].undoes.as_ref().is_some_and(|undoes| undoes.reopens.is_some())
        };
        if !set.iter().any(reopens) {
            return Set::new();
        }
        let writers = self.schema.writers(&history.path(place).pattern());
        let may = |change: &Change| {
            let role = change.identity.as_ref().and_then(|identity| identity.role.as_ref());
            writers.is_none_or(|writers| role.is_some_and(|role| writers.contains(role)))
        };
        let decisions = history.writes(place).iter().map(|write| write.change);
        let decisions: Set = decisions
            .filter(|decision| set.contains(decision))
            .filter(|decision| {
                let change = &history.changes[*decision];
                change
                    .said
                    .as_ref()
                    .is_some_and(|said| self.settles(history, place, change, said).is_some())
            })
            .collect();
        self.taken_back(history, set, &decisions, may)
    }

    /// Those of these decisions that a change of the set says are to be made again.
    fn taken_back(
        &self,
        history: &History,
        set: &Set,
        decisions: &Set,
        may: impl Fn(&Change) -> bool,
    ) -> Set {
        let mut reopened = Set::new();
        for change in set.iter().map(|at| &history.changes[*at]) {
            let Some(undoes) = change.undoes.as_ref().filter(|_| may(change)) else { continue };
            let Some(review) = undoes.reopens.filter(|_| undoes.undoes.len() == 1) else {
                continue;
            };
            reopened.extend(decisions.iter().copied().filter(|decision| {
                let decided = &history.changes[*decision];
                change.ancestors.contains(decision)
                    && undoes.undoes.contains(&hex(&decided.hash))
                    && decided.said.as_ref().is_some_and(|said| said.review == review)
            }));
        }
        reopened
    }

    /// The decisions about containers at a field that one of these changes takes back.
    pub fn discards_reopened(&self, history: &History, place: &Place, set: &Set) -> Set {
        let decisions =
            history.discards(place, set).into_iter().map(|(change, _)| change).collect();
        self.taken_back(history, set, &decisions, |_| true)
    }

    /// Whether a decision about a field does not count any more.
    pub fn is_reopened(
        &self,
        history: &History,
        place: &Place,
        decision: usize,
        set: &Set,
    ) -> bool {
        self.reopened(history, place, set).contains(&decision)
    }

    fn candidates(&self, history: &History, place: &Place, of: &BTreeSet<usize>) -> Vec<Candidate> {
        let candidate = |at: &usize| {
            let Write { change, op, value } = &history.writes(place)[*at];
            let change = &history.changes[*change];
            Candidate {
                value: value.clone(),
                op: op.clone(),
                role: change.identity.as_ref().and_then(|identity| identity.role.clone()),
                time_s: change.time_s,
                goes_back: self.judged[place][*at].goes_back,
            }
        };
        of.iter().map(candidate).collect()
    }

    /// The open writes by people with the right.
    fn proper(&self, history: &History, place: &Place, set: &Set) -> BTreeSet<usize> {
        let open = self.open(history, place, set);
        open.into_iter().filter(|at| !self.judged[place][*at].refused).collect()
    }

    /// The value that people see at a field where these changes are known.
    pub fn value(&self, history: &History, place: &Place, set: &Set) -> Option<Value> {
        history.writes(place)[self.stands(history, place, set)?].value.clone()
    }

    /// The value that counts there.
    pub fn counted(&self, history: &History, place: &Place, set: &Set) -> Option<Value> {
        let stands = self.stands(history, place, set)?;
        let counts = !self.judged[place][stands].refused;
        history.writes(place)[stands].value.clone().filter(|_| counts)
    }

    /// The write whose value people see at a field where these changes are known.
    pub fn stands(&self, history: &History, place: &Place, set: &Set) -> Option<usize> {
        let proper = self.proper(history, place, set);
        if proper.is_empty() {
            // What was written stays in sight, whoever may write it now.
            let open = self.open(history, place, set).into_iter();
            return open
                .filter(|_| !history.is_removal(place))
                .max_by_key(|at| history.writes(place)[*at].op.clone());
        }
        let candidates = self.candidates(history, place, &proper);
        let write =
            |op: &OpId| proper.iter().copied().find(|at| history.writes(place)[*at].op == *op);
        let rule = self.rule(history, place);
        if let Some(agreed) = agreed(rule, &candidates) {
            if self.overlooked(history, place, set).is_empty() {
                return write(&agreed.op);
            }
            return self.before(history, place, &removals(history, place, &proper));
        }
        if let Rule::Order(order) = rule
            && let Some(furthest) = furthest(order, &candidates)
        {
            return write(&furthest.op);
        }
        self.before(history, place, &proper)
    }

    /// The write that stands where the ancestors of these meet.
    fn before(&self, history: &History, place: &Place, writes: &BTreeSet<usize>) -> Option<usize> {
        let ancestors = writes.iter().map(|at| {
            let change = history.writes(place)[*at].change;
            history.changes[change].ancestors.clone()
        });
        let meet = ancestors.reduce(|one, other| one.intersection(&other).copied().collect())?;
        self.stands(history, place, &meet)
    }

    /// The changes that wrote in something whose removal is agreed, and that nobody who removed
    /// it knew, nor they of any removal.
    fn overlooked(&self, history: &History, place: &Place, set: &Set) -> Set {
        if !history.is_removal(place) {
            return Set::new();
        }
        let proper = self.proper(history, place, set);
        let agreed = agreed(self.rule(history, place), &self.candidates(history, place, &proper))
            .and_then(|agreed| agreed.value.clone());
        if agreed != Some(Value::Bool(true)) {
            return Set::new();
        }
        let removals = removals(history, place, &proper);
        let removed = |at: &usize| history.writes(place)[*at].change;
        let inside = history.inside(place.object.as_ref());
        let inside = inside.intersection(set).copied();
        inside
            .filter(|change| {
                removals.iter().all(|removal| history.concurrent(*change, removed(removal)))
            })
            .collect()
    }

    /// How many of these changes took back a step in an order that their author had made.
    pub fn corrections(&self, history: &History, set: &Set) -> u64 {
        let mut corrections = 0;
        for place in history.places() {
            let Rule::Order(order) = self.rule(history, place) else { continue };
            let writes = history.writes(place);
            let at = |write: usize| place_in(order, &writes[write].value);
            for write in (0..writes.len()).filter(|it| set.contains(&writes[*it].change)) {
                let judged = &self.judged[place][write];
                let is_back = judged.closes.iter().any(|closed| at(*closed) > at(write));
                corrections += u64::from(is_back && judged.settles.is_none());
            }
        }
        corrections
    }

    /// What people are asked about a field.
    pub fn asked(&self, history: &History, place: &Place, set: &Set) -> Vec<Asked> {
        let writes = history.writes(place);
        let open = self.open(history, place, set);
        let (mut refused, proper): (BTreeSet<usize>, BTreeSet<usize>) =
            open.iter().partition(|at| self.judged[place][**at].refused);
        refused.retain(|at| history.converted(&writes[*at], set).is_none());
        let written = |at: &usize| Choice::of(writes[*at].change, writes[*at].value.clone());
        let mut asked = Vec::new();
        let candidates = self.candidates(history, place, &proper);
        let hides = history.holds_merging(place, set);
        let says_something = |at: &&usize| {
            let mut alike = writes.iter().filter(|it| it.value == writes[**at].value);
            let is_text_now = alike.any(|it| history.converted(it, set).is_some());
            writes[**at].value.as_ref().is_some_and(|value| !value.is_null()) && !is_text_now
        };
        let hidden: Vec<_> = proper.iter().filter(|_| hides).filter(says_something).collect();
        if !hidden.is_empty() {
            let candidates = hidden.into_iter().map(written).collect();
            asked.push(Asked { question: Question::Hidden, candidates });
        } else if hides {
            // Nothing but what is hidden could be in question.
        } else if !proper.is_empty() && agreed(self.rule(history, place), &candidates).is_none() {
            let decisions =
                proper.iter().filter(|at| self.judged[place][**at].settles.is_some()).count();
            let question = if decisions > 1 { Question::Disagreement } else { Question::Conflict };
            asked.push(Asked { question, candidates: proper.iter().map(written).collect() });
        }
        let overlooked = self.overlooked(history, place, set);
        if !overlooked.is_empty() && !hides {
            // Of everybody who wrote in it, the last they wrote.
            let mut last = BTreeMap::new();
            for change in overlooked {
                last.insert(&history.changes[change].actor, change);
            }
            let removals = removals(history, place, &proper);
            let candidates = removals.iter().map(written);
            let candidates =
                candidates.chain(last.into_values().map(|change| Choice::of(change, None)));
            asked.push(Asked { question: Question::Removal, candidates: candidates.collect() });
        }
        if !refused.is_empty() {
            let candidates = refused.iter().map(written).collect();
            asked.push(Asked { question: Question::Refused, candidates });
        }
        asked
    }

    /// The name of a review: another one only once somebody settled the same question about the
    /// same field.
    pub fn review(
        &self,
        history: &History,
        place: &Place,
        question: Question,
        set: &Set,
    ) -> ReviewId {
        let judged = self.judged.get(place).map_or(&[][..], Vec::as_slice).iter();
        let writes = history.writes(place).iter().zip(judged);
        let reopened = self.reopened(history, place, set);
        let settled = writes.filter(|(write, judged)| {
            set.contains(&write.change)
                && judged.settles == Some(question)
                && !reopened.contains(&write.change)
        });
        let discarded = match question {
            Question::Containers => self.discarded(history, place, set).len(),
            _ => 0,
        };
        self.named(history, place, question, settled.count() + discarded)
    }

    /// Decisions about containers at a place that settle what was asked.
    pub fn discarded(&self, history: &History, place: &Place, set: &Set) -> BTreeSet<usize> {
        let reopened = self.discards_reopened(history, place, set);
        let discards = history.discards(place, set).into_iter().map(|(change, _)| change);
        let discards = discards.filter(|discard| !reopened.contains(discard));
        let settles = |discard: &usize| {
            let change = &history.changes[*discard];
            let review = self.review(history, place, Question::Containers, &change.ancestors);
            change.said.as_ref().is_some_and(|said| said.review == review)
        };
        discards.filter(settles).collect()
    }

    /// The name of a review that was settled so often before.
    fn named(
        &self,
        history: &History,
        place: &Place,
        question: Question,
        settled: usize,
    ) -> ReviewId {
        let mut hash = Sha256::new();
        hash.update(b"rejoin review 1\0");
        hash.update(
            [Question::ALL.iter().position(|it| *it == question).unwrap_or_default() as u8],
        );
        hash.update(self.document.0);
        hash.update((settled as u32).to_be_bytes());
        for step in history.path(place).0 {
            let (kind, name) = match &step {
                Step::Key(key) => (0, key.as_bytes()),
                Step::Item { actor, .. } => (1, actor.0.as_slice()),
            };
            hash.update([kind]);
            if let Step::Item { counter, .. } = &step {
                hash.update(counter.to_be_bytes());
            }
            hash.update((name.len() as u64).to_be_bytes());
            hash.update(name);
        }
        let hash: [u8; 32] = hash.finalize().into();
        ReviewId(*hash.first_chunk().expect("it is longer"))
    }
}

/// Whether two changes are of one actor, or of one person.
fn is_of_same(one: &Change, other: &Change) -> bool {
    one.actor == other.actor || one.identity.is_some() && one.identity == other.identity
}

/// Whether two changes are of one user, or both of nobody in particular.
fn is_of_same_user(one: &Change, other: &Change) -> bool {
    let user = |change: &Change| change.identity.as_ref().map(|identity| identity.user.clone());
    user(one) == user(other)
}

/// The writes among these that say that something was removed.
fn removals(history: &History, place: &Place, of: &BTreeSet<usize>) -> BTreeSet<usize> {
    let says_so = |at: &usize| history.writes(place)[*at].value == Some(Value::Bool(true));
    of.iter().copied().filter(says_so).collect()
}
