//! One field: its writes, which of them close which, and which are open.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::clock::{Ancestors, Clock};
use super::containers::{Discard, Made};
use super::decide::{Contender, Place, decide, furthest, place_in};
use super::{Key, Lineage, OpId, Question, Says};
use crate::schema::Rule;

/// A map key or list item that plain values are written to.
#[derive(Debug, Clone)]
pub(super) struct Register {
    pub(super) container: u32,
    pub(super) key: Key,
    /// In an order in which each comes after those it knows of.
    pub(super) writes: Vec<Write>,
    /// The writes that nothing closes, by index.
    pub(super) open: Vec<u32>,
    /// The containers and counters made in it whose place nothing took. While there is one, plain
    /// values cannot be seen.
    pub(super) merging: Vec<Made>,
    /// The operations that ever made one in it.
    pub(super) made: BTreeSet<OpId>,
    /// The writes whose values were made into texts, by operation, each with the text that has its
    /// characters since.
    pub(super) converted: BTreeMap<OpId, OpId>,
    /// Whether there is a text that claims to be made of one of its values and is made of another.
    /// Only Automerge shows such a text.
    pub(super) made_up: bool,
    /// The containers and counters that nobody saw, that a decision deleted, and whose place
    /// nothing else took.
    pub(super) discarded: Vec<Made>,
    /// The decisions that did so.
    pub(super) discards: Vec<Discard>,
    /// Whether a container or counter of it was taken away: after a counter, Automerge does not
    /// show the plain value that is left.
    pub(super) lost_merging: bool,
    /// The number of times that each question was settled here.
    pub(super) settlements: [u32; Question::ALL.len()],
    /// Whether a decision about it was taken back.
    pub(super) has_reopened: bool,
    /// The last write of every chain. Together they cover all writes.
    last: Vec<Last>,
}

/// One write of a field. Of several in one change the last counts.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) change: u32,
    pub(super) op: OpId,
    /// `None` for a deletion.
    pub(super) value: Option<Value>,
    /// The operations whose values it takes away in Automerge, if these are not all that its author
    /// knew.
    pub(super) takes: Option<Box<[OpId]>>,
    /// The writes it closes, by index.
    pub(super) closes: Vec<u32>,
    /// Whether its author had no right to it.
    pub(super) refused: bool,
    /// The question it settled here.
    pub(super) settles: Option<Question>,
    /// Whether it stands before something its author knew and did not close, in an order.
    pub(super) goes_back: bool,
    /// The place in an order at which others left the field before its author took it over. That
    /// author may go back as far as this.
    pub(super) floor: Place,
    /// The change whose decision here it takes back. Then it is no value itself, and `value` is what it
    /// lets Automerge show.
    pub(super) reopens: Option<u32>,
}

impl Write {
    /// A write of which nothing is known yet.
    pub(super) fn new(change: u32, op: OpId) -> Self {
        Self {
            change,
            op,
            value: None,
            takes: None,
            closes: Vec::new(),
            refused: false,
            settles: None,
            goes_back: false,
            floor: None,
            reopens: None,
        }
    }
}

/// The writes where the ancestors of the open ones meet: the value is looked for among these if
/// none of the open ones stands.
type Before = Vec<u32>;

/// The write that stands at a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stands {
    pub(super) write: u32,
    /// Whether somebody with the right wrote it.
    pub(super) is_agreed: bool,
}

/// The last write of one chain.
#[derive(Debug, Clone)]
pub(super) struct Last {
    pub(super) chain: u32,
    pub(super) place: u64,
    /// The writes that were open after it, as far as its author knew.
    pub(super) open: Vec<u32>,
    /// The changes that its author knew.
    pub(super) before: Ancestors,
}

impl Register {
    pub(super) fn new(container: u32, key: Key) -> Self {
        let (writes, open) = (Vec::new(), Vec::new());
        let settlements = Default::default();
        let (merging, lost_merging) = (Vec::new(), false);
        let (discarded, discards) = (Vec::new(), Vec::new());
        let last = Vec::new();
        Self {
            container,
            key,
            writes,
            open,
            merging,
            made: BTreeSet::new(),
            converted: BTreeMap::new(),
            made_up: false,
            discarded,
            discards,
            lost_merging,
            settlements,
            has_reopened: false,
            last,
        }
    }

    /// Forgets what was derived from the writes.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.last.clear();
        self.has_reopened = false;
        let counts = |discard: &&Discard| discard.settles && discard.reopened.is_empty();
        let settling = self.discards.iter().filter(counts).count();
        self.settlements = Default::default();
        self.settlements[Question::Containers as usize] = settling as u32;
    }

    /// Whether the field has one open write, and people see its value.
    pub(super) fn is_plain(&self) -> bool {
        // Automerge still shows a value that was taken back with the decision for it.
        self.merging.len() < 2 && !self.made_up && !self.has_reopened && self.says_one_thing()
    }

    /// Whether a decision of this change was taken back.
    pub(super) fn is_reopened(&self, decision: u32) -> bool {
        let is_it = |write: &Write| write.reopens == Some(decision) && !write.refused;
        self.has_reopened && self.writes.iter().any(is_it)
    }

    pub(super) fn last_mut(&mut self, chain: u32) -> Option<&mut Last> {
        self.last.iter_mut().find(|last| last.chain == chain)
    }

    fn says_one_thing(&self) -> bool {
        match self.open[..] {
            [] => self.writes.is_empty(),
            [only] => {
                let only = &self.writes[only as usize];
                let is_shown = !self.lost_merging || only.value.is_none();
                !only.refused && is_shown && self.hidden().next().is_none()
            }
            _ => false,
        }
    }

    /// The open values that a container or counter hides.
    pub(super) fn hidden(&self) -> impl Iterator<Item = u32> {
        let open = if self.merging.is_empty() { &[][..] } else { &self.open[..] };
        let says_something =
            |write: &Write| write.value.as_ref().is_some_and(|value| !value.is_null());
        // A value that was made into a text is in that text, and so is an equal value beside it.
        let is_in_container = |value: &Option<Value>| {
            let mut converted = self.writes.iter().filter(|it| self.converted.contains_key(&it.op));
            converted.any(|it| it.value == *value)
        };
        let says_something =
            move |write: &Write| says_something(write) && !is_in_container(&write.value);
        open.iter().copied().filter(move |open| says_something(&self.writes[*open as usize]))
    }
}

impl Lineage {
    pub(super) fn add_write(&mut self, at: u32, rule: &Rule, mut write: Write) {
        let before = self.ancestors(write.change);
        let mut open = self.open_before(at, &before);
        self.judge(at, rule, &mut write, &open);
        let change = &self.changes[write.change as usize];
        let register = &mut self.registers[at as usize];
        open.retain(|open| !write.closes.contains(open));
        open.push(register.writes.len() as u32);
        if let Some(settled) = write.settles {
            register.settlements[settled as usize] += 1;
        }
        register.open.retain(|open| !write.closes.contains(open));
        register.open.push(register.writes.len() as u32);
        let (chain, place) = (change.chain, change.place);
        self.push_write(at, write, Last { chain, place, open, before });
    }

    /// Takes a write, after which these are open to its author.
    pub(super) fn push_write(&mut self, at: u32, write: Write, last: Last) {
        let register = &mut self.registers[at as usize];
        match register.last.iter_mut().find(|known| known.chain == last.chain) {
            Some(known) => *known = last,
            None => register.last.push(last),
        }
        register.writes.push(write);
    }

    /// Notes which of the writes that were open to its author a write closes.
    fn judge(&self, at: u32, rule: &Rule, write: &mut Write, open: &[u32]) {
        let writes = &self.registers[at as usize].writes;
        let (refused, standing) = self.refused(at, open);
        if write.refused {
            // Somebody without the right can take back their own, and nothing else.
            let own = |open: &u32| self.is_same_author(writes[*open as usize].change, write.change);
            write.closes = refused.into_iter().filter(own).collect();
            return;
        }
        let (settlement, named) = match self.changes[write.change as usize].says.as_deref() {
            Some(Says::Settles(settlement)) => (Some(settlement), &settlement.closes[..]),
            Some(Says::Undoes(undo)) => (None, &undo.closes[..]),
            None => (None, &[][..]),
        };
        let takes_back = self.changes[write.change as usize].undo().is_some();
        let is_named = |open: &u32| {
            let change = writes[*open as usize].change;
            // People take back what is their own.
            let is_own = !takes_back || self.is_same_user(change, write.change);
            is_own && named.contains(&self.changes[change as usize].hash.short())
        };
        let mut closes: BTreeSet<u32> = open.iter().copied().filter(is_named).collect();
        let settlement = settlement.filter(|_| !closes.is_empty());
        write.settles =
            settlement.and_then(|settlement| self.question(at, write.change, &settlement.review));
        if standing.is_empty() && !self.removals.contains(&at) && !takes_back {
            // Nothing else was in sight, so the author, who has the right, decided about it.
            closes.extend(&refused);
        }
        let is_item = matches!(self.registers[at as usize].key, Key::Item(_));
        write.floor = self.floor(at, rule, write.change, &standing);
        if takes_back {
            // The work of others stays, whatever the rule would make of it.
        } else if is_item && write.value.is_none() {
            // Automerge cannot bring a deleted item back, so there is nothing left to decide for
            // those who knew all its values.
            closes.extend(&standing);
        } else if self.decided(at, rule, &standing).is_some()
            && write.floor <= place_in(rule, write.value.as_ref())
        {
            closes.extend(&standing);
        }
        let place_of = |open: &u32| place_in(rule, writes[*open as usize].value.as_ref());
        let mut left = standing.iter().filter(|open| !closes.contains(open));
        write.goes_back = left.any(|open| place_of(open) > place_in(rule, write.value.as_ref()));
        write.closes = closes.into_iter().collect();
    }

    /// The place in an order to which a write may go back: that at which others left the field, for
    /// people may correct their own writes.
    fn floor(&self, at: u32, rule: &Rule, change: u32, standing: &[u32]) -> Place {
        let place = |open: &u32| {
            let open = &self.registers[at as usize].writes[*open as usize];
            let place = place_in(rule, open.value.as_ref());
            if self.is_same_author(open.change, change) { place.min(open.floor) } else { place }
        };
        standing.iter().filter_map(place).max()
    }

    fn is_same_author(&self, one: u32, other: u32) -> bool {
        let (by, too) = (self.identity_of(one), self.identity_of(other));
        by.is_some() && by == too
            || self.changes[one as usize].actor == self.changes[other as usize].actor
    }

    /// Parts writes into those by people without the right and the others.
    pub(super) fn refused(&self, at: u32, open: &[u32]) -> (Vec<u32>, Vec<u32>) {
        let writes = &self.registers[at as usize].writes;
        open.iter().partition(|open| writes[**open as usize].refused)
    }

    /// The write that is agreed among these, unless a person has to decide.
    pub(super) fn decided(&self, at: u32, rule: &Rule, open: &[u32]) -> Option<u32> {
        if let [only] = open {
            return Some(*only);
        }
        decide(rule, &self.contenders(at, open)).map(|stands| open[stands])
    }

    fn contenders(&self, at: u32, open: &[u32]) -> Vec<Contender<'_>> {
        let writes = &self.registers[at as usize].writes;
        let contender = |open: &u32| {
            let write = &writes[*open as usize];
            let identity = self.identity_of(write.change);
            Contender {
                value: write.value.as_ref(),
                op: (write.op.0, &self.actor_ids[write.op.1 as usize].0),
                role: identity.and_then(|identity| identity.role.as_deref()),
                time_s: self.changes[write.change as usize].time_s,
                goes_back: write.goes_back,
            }
        };
        open.iter().map(contender).collect()
    }

    /// Whether one write was made knowing the other.
    pub(super) fn knows(&self, at: u32, one: u32, other: u32) -> bool {
        let writes = &self.registers[at as usize].writes;
        let other = &self.changes[writes[other as usize].change as usize];
        self.ancestors(writes[one as usize].change).get(other.chain) >= other.place
    }

    /// The writes that are open to the author of the next one. The answer of the last write of a
    /// chain is reused, for an author who writes value after value knows of nothing new in between.
    fn open_before(&self, at: u32, before: &Ancestors) -> Vec<u32> {
        let last = &self.registers[at as usize].last;
        let own = before.own.and_then(|(chain, _)| last.iter().find(|last| last.chain == chain));
        let knows_no_more = |own: &&Last| {
            last.iter().filter(|other| other.chain != own.chain).all(|other| {
                let (then, now) = (own.before.get(other.chain), before.get(other.chain));
                then == now || then.min(now) >= other.place
            })
        };
        match own.filter(knows_no_more) {
            Some(own) => own.open.clone(),
            None => self.open_in(at, |chain| before.get(chain)),
        }
    }

    /// The writes that are open as far as a clock covers, refused ones included.
    pub(super) fn open_in(&self, at: u32, covered: impl Fn(u32) -> u64) -> Vec<u32> {
        let register = &self.registers[at as usize];
        if register.last.iter().all(|last| covered(last.chain) >= last.place) {
            return register.open.clone();
        }
        self.open_of(at, |change| {
            let change = &self.changes[change as usize];
            covered(change.chain) >= change.place
        })
    }

    /// The writes that are open among those of some changes. A decision that was taken back closes
    /// nothing, and is open no more.
    pub(super) fn open_of(&self, at: u32, is_covered: impl Fn(u32) -> bool) -> Vec<u32> {
        let register = &self.registers[at as usize];
        let writes = register.writes.iter().zip(0u32..);
        let covered: Vec<_> = writes.filter(|(write, _)| is_covered(write.change)).collect();
        let reopened = covered.iter().filter(|(write, _)| !write.refused);
        let reopened: BTreeSet<u32> = reopened.filter_map(|(write, _)| write.reopens).collect();
        let (mut closed, mut left) = (BTreeSet::new(), Vec::new());
        for (write, at) in covered {
            if write.reopens.is_none() && !reopened.contains(&write.change) {
                closed.extend(write.closes.iter().copied());
                left.push(at);
            }
        }
        left.retain(|at| !closed.contains(at));
        left
    }

    /// The write whose value people see. If nobody with the right ever wrote, this is the last
    /// write of the others, for a value must not disappear because a rule came after it. Such a
    /// value does not count.
    pub(super) fn standing_write(&self, at: u32) -> Option<Stands> {
        self.standing_write_in(at, |_| u64::MAX)
    }

    /// The same as far as a clock covers.
    pub(super) fn standing_write_in(
        &self,
        at: u32,
        covered: impl Fn(u32) -> u64,
    ) -> Option<Stands> {
        let rule = self.rule_of(at);
        let (mut refused, open) = self.refused(at, &self.open_in(at, &covered));
        let mut stands = self.stands(at, rule, &open, covered);
        loop {
            match stands {
                Ok(write) => return Some(Stands { write, is_agreed: true }),
                Err(before) if before.is_empty() => {
                    let write = self.latest(at, &refused)?;
                    return Some(Stands { write, is_agreed: false });
                }
                Err(before) => {
                    let meet = self.meet(at, &before);
                    let open;
                    (refused, open) = self.refused(at, &self.open_in(at, |chain| meet.get(chain)));
                    stands = self.stands(at, rule, &open, |chain| meet.get(chain));
                }
            }
        }
    }

    /// The last of these writes, as Automerge orders them. `None` for a removal, which is not seen
    /// before it counts.
    fn latest(&self, at: u32, writes: &[u32]) -> Option<u32> {
        if self.removals.contains(&at) {
            return None;
        }
        let by_op = |write: &&u32| {
            let (counter, actor) = self.registers[at as usize].writes[**write as usize].op;
            (counter, &self.actor_ids[actor as usize])
        };
        writes.iter().max_by_key(by_op).copied()
    }

    /// The write that stands among these.
    fn stands(
        &self,
        at: u32,
        rule: &Rule,
        open: &[u32],
        covered: impl Fn(u32) -> u64,
    ) -> Result<u32, Before> {
        match self.decided(at, rule, open) {
            Some(stands) => match self.overlooked(at, stands, open, covered) {
                Some(overlooked) => Err(overlooked.removals),
                None => Ok(stands),
            },
            None => match rule {
                Rule::Order(order) => furthest(order, &self.contenders(at, open)),
                _ => None,
            }
            .map(|furthest| open[furthest])
            .ok_or_else(|| open.to_vec()),
        }
    }

    fn meet(&self, at: u32, candidates: &[u32]) -> Clock {
        let writes = &self.registers[at as usize].writes;
        let clocks = candidates.iter().map(|at| self.ancestors(writes[*at as usize].change));
        let clocks = clocks.map(|ancestors: Ancestors| ancestors.to_clock());
        clocks.reduce(|one, other| one.meet(&other)).unwrap_or_default()
    }
}
