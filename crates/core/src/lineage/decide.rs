//! Which of several open values of a field stands, by the field's rule.

use std::cmp::Ordering;

use serde_json::Value;

use crate::schema::Rule;

/// One open value, as far as rules ask about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contender<'a> {
    /// Nothing for a deletion.
    pub(super) value: Option<&'a Value>,
    /// The operation that wrote it, comparable as Automerge compares them.
    pub(super) op: (u64, &'a [u8]),
    /// The writer's role.
    pub(super) role: Option<&'a str>,
    /// When, in seconds since 1970 by the writer's clock.
    pub(super) time_s: i64,
}

/// The candidate that stands; nothing if a person has to decide. `is_after(a, b)` tells whether
/// candidate `a` was written knowing `b`.
pub(super) fn decide(
    rule: &Rule,
    candidates: &[Contender<'_>],
    is_after: impl Fn(usize, usize) -> bool,
) -> Option<usize> {
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
            let furthest = furthest(order, candidates)?;
            let place = |at: usize| place(order, candidates[at].value);
            let is_back = |at: usize| {
                place(at).is_none()
                    || all().any(|other| is_after(at, other) && place(at) < place(other))
            };
            (!all().any(is_back)).then_some(furthest)
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

/// Whether a value that takes another's place goes where the rule allows it.
pub(super) fn may_follow(rule: &Rule, before: Option<&Value>, after: Option<&Value>) -> bool {
    match rule {
        Rule::Order(order) => place(order, before) <= place(order, after),
        _ => true,
    }
}

/// The candidate that stands furthest in an order.
pub(super) fn furthest(order: &[String], candidates: &[Contender<'_>]) -> Option<usize> {
    let placed = |at: &usize| place(order, candidates[*at].value).map(|place| (place, *at));
    let key = |(place, at): &(usize, usize)| (*place, candidates[*at].op);
    (0..candidates.len()).filter_map(|at| placed(&at)).max_by_key(key).map(|(_, at)| at)
}

/// Where a value stands in an order.
pub(super) fn place(order: &[String], value: Option<&Value>) -> Option<usize> {
    let value = value?.as_str()?;
    order.iter().position(|known| known == value)
}

/// The largest or smallest value, deletions left out; nothing if they cannot be compared.
fn extreme(candidates: &[Contender<'_>], wanted: Ordering) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (at, candidate) in candidates.iter().enumerate() {
        let Some(value) = candidate.value else { continue };
        let Some(held) = best else {
            best = Some(at);
            continue;
        };
        let order = compare(value, candidates[held].value?)?;
        let order = order.then_with(|| match wanted {
            // Equal values: whichever, but the same everywhere.
            Ordering::Less => candidates[held].op.cmp(&candidate.op),
            _ => candidate.op.cmp(&candidates[held].op),
        });
        if order == wanted {
            best = Some(at);
        }
    }
    best
}

/// Orders two values of one kind.
pub(super) fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
        },
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
        (Value::Object(one), Value::Object(other)) => {
            compare(one.get("$time").filter(|_| one.len() == 1)?, other.get("$time")?)
        }
        _ => None,
    }
}

/// The value written last, if its clock is further ahead of every other than clocks may be wrong.
fn latest(candidates: &[Contender<'_>], skew_s: u64) -> Option<usize> {
    let key = |at: &usize| (candidates[*at].time_s, candidates[*at].op);
    let newest = (0..candidates.len()).max_by_key(key)?;
    let Contender { value, time_s, .. } = candidates[newest];
    let others = candidates.iter().filter(|other| other.value != value);
    let clear = |other: &Contender<'_>| time_s.saturating_sub(other.time_s).unsigned_abs() > skew_s;
    others.into_iter().all(clear).then_some(newest)
}
