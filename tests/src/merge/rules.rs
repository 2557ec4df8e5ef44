//! Which of several open values stands, by each of the twelve rules.

use std::cmp::Ordering;

use rejoin_core::schema::Rule;
use serde_json::Value;

use super::history::OpId;

/// One open value.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Nothing for a deletion.
    pub value: Option<Value>,
    /// What wrote it.
    pub op: OpId,
    /// The role of who wrote it.
    pub role: Option<String>,
    /// When, by their clock.
    pub time_s: i64,
    /// Whether it went back in an order, and nobody settled that it may.
    pub goes_back: bool,
}

/// The value that stands, if nobody has to be asked.
pub fn agreed<'a>(rule: &Rule, candidates: &'a [Candidate]) -> Option<&'a Candidate> {
    let greatest = |of: Vec<&'a Candidate>| of.into_iter().max_by(|a, b| a.op.cmp(&b.op));
    let all: Vec<_> = candidates.iter().collect();
    if all.is_empty() {
        return None;
    }
    if all.iter().all(|it| it.value == all[0].value) {
        return greatest(all);
    }
    match rule {
        Rule::Any => greatest(all),
        Rule::Max => extreme(&all, Ordering::Greater),
        Rule::Min => extreme(&all, Ordering::Less),
        Rule::Owner(owner) => {
            let own: Vec<_> =
                all.into_iter().filter(|it| it.role.as_deref() == Some(owner)).collect();
            let one = own.windows(2).all(|two| two[0].value == two[1].value);
            greatest(own).filter(|_| one)
        }
        Rule::Order(order) => {
            let sound = all.iter().all(|it| !it.goes_back && place(order, &it.value).is_some());
            furthest(order, candidates).filter(|_| sound)
        }
        Rule::Latest { skew_s } => {
            let last = all.iter().max_by_key(|it| (it.time_s, &it.op))?;
            let ahead = |it: &Candidate| i128::from(last.time_s) - i128::from(it.time_s);
            let behind = |it: &&&Candidate| it.value != last.value;
            let near = |it: &&Candidate| ahead(it) <= i128::from(*skew_s);
            all.iter().filter(behind).all(near).then_some(last)
        }
        Rule::Review | Rule::Text | Rule::Counter | Rule::Set | Rule::List | Rule::Map => None,
    }
}

/// The value furthest in an order.
pub fn furthest<'a>(order: &[String], candidates: &'a [Candidate]) -> Option<&'a Candidate> {
    let placed = candidates.iter().filter(|it| place(order, &it.value).is_some());
    placed.max_by_key(|it| (place(order, &it.value), &it.op))
}

/// Where a value stands in an order.
pub fn place(order: &[String], value: &Option<Value>) -> Option<usize> {
    order.iter().position(|known| value.as_ref().is_some_and(|value| value == known.as_str()))
}

/// The one that comes before or after all others; of equal ones the last by operation. Deletions
/// do not count. Nothing if two of them cannot be compared.
fn extreme<'a>(all: &[&'a Candidate], wanted: Ordering) -> Option<&'a Candidate> {
    let put = || all.iter().filter_map(|it| Some((it.value.as_ref()?, *it)));
    for (one, _) in put() {
        for (other, _) in put() {
            compare(one, other)?;
        }
    }
    let beats = |one: (&Value, &Candidate), other: (&Value, &Candidate)| {
        let order = compare(one.0, other.0);
        order == Some(wanted) || order == Some(Ordering::Equal) && one.1.op >= other.1.op
    };
    put().find(|one| put().all(|other| beats(*one, other))).map(|(_, candidate)| candidate)
}

fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        _ if one == other => Some(Ordering::Equal),
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        (Value::Bool(one), Value::Bool(other)) => Some(one.cmp(other)),
        (Value::Number(one), Value::Number(other)) => match (one.as_i128(), other.as_i128()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            (Some(one), None) => Some(compare_whole(other.as_f64()?, one).reverse()),
            (None, Some(other)) => Some(compare_whole(one.as_f64()?, other)),
            (None, None) => one.as_f64()?.partial_cmp(&other.as_f64()?),
        },
        (Value::Object(one), Value::Object(other)) => {
            Some(one.get("$time")?.as_i64()?.cmp(&other.get("$time")?.as_i64()?))
        }
        _ => None,
    }
}

/// A fraction is rounded down, and is more than what it was rounded to. Beyond the range of
/// `i128` the cast saturates, and no whole number of a document is there.
fn compare_whole(float: f64, whole: i128) -> Ordering {
    (float.floor() as i128)
        .cmp(&whole)
        .then(float.fract().partial_cmp(&0.0).unwrap_or(Ordering::Equal))
}
