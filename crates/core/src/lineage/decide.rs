//! The choice of the value that stands among several open ones, by the field's rule.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use crate::schema::Rule;

/// One open value, as far as rules ask about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contender<'a> {
    /// `None` for a deletion.
    pub(super) value: Option<&'a Value>,
    /// The operation that wrote it, comparable as Automerge compares them.
    pub(super) op: (u64, &'a [u8]),
    /// The writer's role.
    pub(super) role: Option<&'a str>,
    /// The time, in seconds since 1970 by the writer's clock.
    pub(super) time_s: i64,
    /// Whether it went back in an order, and nobody decided that it may.
    pub(super) goes_back: bool,
}

/// The candidate that stands; `None` if a person has to decide.
pub(super) fn decide(rule: &Rule, candidates: &[Contender<'_>]) -> Option<usize> {
    let all = || 0..candidates.len();
    let by_op = |at: &usize| candidates[*at].op;
    let first = candidates.first()?;
    if candidates.iter().all(|candidate| candidate.value == first.value) {
        return all().max_by_key(by_op);
    }
    match rule {
        Rule::Any => all().max_by_key(by_op),
        Rule::Max => extreme(candidates, Ordering::Greater),
        Rule::Min => extreme(candidates, Ordering::Less),
        Rule::Latest { skew_s } => latest(candidates, *skew_s),
        Rule::Order(order) => {
            let is_sound =
                |one: &Contender<'_>| !one.goes_back && place(order, one.value).is_some();
            furthest(order, candidates).filter(|_| candidates.iter().all(is_sound))
        }
        Rule::Owner(owner) => {
            let own: Vec<usize> =
                all().filter(|at| candidates[*at].role == Some(owner.as_str())).collect();
            let first = candidates[*own.first()?].value;
            let agree = own.iter().all(|at| candidates[*at].value == first);
            own.into_iter().max_by_key(by_op).filter(|_| agree)
        }
        Rule::Text | Rule::Counter | Rule::Set | Rule::List | Rule::Map | Rule::Review => None,
    }
}

/// The place of a value in an order; `None` if it is not in it.
pub(super) type Place = Option<usize>;

/// The place of a value by a rule. By a rule without an order all values have one place.
pub(super) fn place_in(rule: &Rule, value: Option<&Value>) -> Place {
    match rule {
        Rule::Order(order) => place(order, value),
        _ => None,
    }
}

/// The candidate that stands furthest in an order.
pub(super) fn furthest(order: &[String], candidates: &[Contender<'_>]) -> Option<usize> {
    let placed = |at: &usize| place(order, candidates[*at].value).map(|place| (place, *at));
    let key = |(place, at): &(usize, usize)| (*place, candidates[*at].op);
    (0..candidates.len()).filter_map(|at| placed(&at)).max_by_key(key).map(|(_, at)| at)
}

fn place(order: &[String], value: Option<&Value>) -> Place {
    let value = value?.as_str()?;
    order.iter().position(|known| known == value)
}

/// The largest or smallest value, deletions left out; `None` if they cannot be compared.
fn extreme(candidates: &[Contender<'_>], wanted: Ordering) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (at, candidate) in candidates.iter().enumerate() {
        let Some(value) = candidate.value else { continue };
        let Some(so_far) = best else {
            best = Some(at);
            continue;
        };
        let order = compare(value, candidates[so_far].value?)?;
        // Of equal values any may stand, if it is the same one on every replica.
        let is_next = order.is_eq() && candidate.op > candidates[so_far].op;
        if order == wanted || is_next {
            best = Some(at);
        }
    }
    best
}

/// Orders two values of one kind.
fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        _ if one == other => Some(Ordering::Equal),
        (Value::Number(one), Value::Number(other)) => compare_numbers(one, other),
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
        (Value::Object(one), Value::Object(other)) => {
            compare(one.get("$time").filter(|_| one.len() == 1)?, other.get("$time")?)
        }
        _ => None,
    }
}

/// Compares exactly: the largest of several must not depend on which are compared first.
fn compare_numbers(one: &Number, other: &Number) -> Option<Ordering> {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => Some(one.cmp(&other)),
        (Some(one), None) => compare_to_whole(other.as_f64()?, one).map(Ordering::reverse),
        (None, Some(other)) => compare_to_whole(one.as_f64()?, other),
        (None, None) => one.as_f64()?.partial_cmp(&other.as_f64()?),
    }
}

/// Numbers beyond any integer of a document saturate.
fn compare_to_whole(float: f64, whole: i128) -> Option<Ordering> {
    let floor = float.floor();
    let fraction = float.partial_cmp(&floor)?;
    Some((floor as i128).cmp(&whole).then(fraction))
}

/// The value written last by the authors' clocks; `None` if another value is more than `skew_s`
/// seconds older, for then clocks cannot be trusted to tell.
fn latest(candidates: &[Contender<'_>], skew_s: u64) -> Option<usize> {
    let key = |at: &usize| (candidates[*at].time_s, candidates[*at].op);
    let newest = (0..candidates.len()).max_by_key(key)?;
    let Contender { value, time_s, .. } = candidates[newest];
    let others = candidates.iter().filter(|other| other.value != value);
    let is_near = |other: &Contender<'_>| time_s.abs_diff(other.time_s) <= skew_s;
    others.into_iter().all(is_near).then_some(newest)
}
