//! Reviews in words, and as JSON.

use rejoin::{Review, ReviewCandidate, ReviewKind, ReviewState, ReviewedDocument};
use serde_json::{Value, json};

use crate::clock::utc;
use crate::identity::author_json;
use crate::values::plain;

/// Whether it is settled by changing one of two documents.
pub(crate) fn is_about_two(review: &Review) -> bool {
    matches!(review.kind, ReviewKind::DoubleBooking | ReviewKind::Duplicate)
}

/// What it is about: `jobs W-203`.
pub(super) fn about(review: &Review) -> String {
    let names: Vec<_> = review.documents.iter().map(name).collect();
    format!("{} {}", review.collection, names.join(", "))
}

/// A document as people know it.
pub(crate) fn name(named: &ReviewedDocument) -> String {
    named.key.clone().unwrap_or_else(|| named.document.to_string())
}

/// What is asked, as short as a list needs it.
pub(super) fn question(review: &Review) -> String {
    let values: Vec<_> =
        candidates(review).iter().map(|candidate| shown(candidate.value.as_ref())).collect();
    if let ReviewState::Settled { by, .. } = &review.state {
        return format!("decided: {}", shown(by.value.as_ref()));
    }
    match review.kind {
        ReviewKind::DoubleBooking => match times(review) {
            Some((from_ms, until_ms)) => {
                let (from, until) = (minute(from_ms), minute(until_ms));
                let until = match from.split_once(' ') {
                    Some((day, _)) => until.strip_prefix(day).map_or(&*until, str::trim_start),
                    None => &until,
                };
                format!("twice at {from} to {until}")
            }
            None => "double booking".to_owned(),
        },
        ReviewKind::Duplicate => "the same twice".to_owned(),
        ReviewKind::Removal => "removed, and edited meanwhile".to_owned(),
        ReviewKind::Hidden => format!("cannot be seen: {}", values.join(", ")),
        ReviewKind::RefusedWrite if !values.is_empty() => {
            format!("not allowed: {}", values.join(", "))
        }
        _ if values.is_empty() => "left as it was".to_owned(),
        _ => values.join(" or "),
    }
}

/// The time that both bookings take.
fn times(review: &Review) -> Option<(i64, i64)> {
    let booked = || review.documents.iter().filter_map(|named| named.booked_ms);
    let from = booked().map(|(from, _)| from).max()?;
    let until = booked().map(|(_, until)| until).min()?;
    Some((from, until))
}

/// `2026-05-04 17:00`, of milliseconds since 1970.
pub(super) fn minute(time_ms: i64) -> String {
    utc(time_ms.div_euclid(1000)).chars().take("2026-05-04 17:00".len()).collect()
}

/// The candidates, the oldest first: in the order in which they are numbered.
pub(super) fn candidates(review: &Review) -> Vec<&ReviewCandidate> {
    let mut candidates: Vec<_> = review.candidates.iter().collect();
    candidates.sort_by_key(|candidate| (candidate.time_s, candidate.change));
    candidates
}

/// A value, or that there is none.
pub(crate) fn shown(value: Option<&Value>) -> String {
    match value {
        None => "(none)".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "(empty)".to_owned(),
        Some(value) => plain(value).into_owned(),
    }
}

pub(super) fn state(review: &Review) -> &'static str {
    match review.state {
        ReviewState::Open => "open",
        ReviewState::Settled { .. } => "settled",
        ReviewState::Dismissed { .. } => "dismissed",
    }
}

pub(crate) fn kind(kind: ReviewKind) -> &'static str {
    match kind {
        ReviewKind::FieldConflict => "conflict",
        ReviewKind::Disagreement => "disagreement",
        ReviewKind::RefusedWrite => "refused_write",
        ReviewKind::Removal => "removal",
        ReviewKind::DoubleBooking => "double_booking",
        ReviewKind::Duplicate => "duplicate",
        ReviewKind::Hidden => "hidden",
    }
}

pub(crate) fn review_json(review: &Review) -> Value {
    let documents = review.documents.iter().map(|named| {
        let booked =
            named.booked_ms.map(|(from, until)| json!({ "from_ms": from, "until_ms": until }));
        json!({ "key": named.key, "id": named.document.to_string(), "booked": booked })
    });
    let candidates = candidates(review).into_iter().zip(1..).map(|(candidate, number)| {
        let mut json = candidate_json(candidate);
        json["number"] = Value::from(number);
        json
    });
    let (by, why) = match &review.state {
        ReviewState::Open => (None, None),
        ReviewState::Settled { by, why } => (Some(by), why.as_ref()),
        ReviewState::Dismissed { by, why } => (by.as_ref(), why.as_ref()),
    };
    json!({
        "id": review.id.to_string(),
        "kind": kind(review.kind),
        "space": review.space.as_str(),
        "collection": review.collection.as_str(),
        "documents": Value::from_iter(documents),
        "field": review.field,
        "standing": review.standing,
        "candidates": Value::from_iter(candidates),
        "state": state(review),
        "settled_by": by.map(candidate_json),
        "why": why,
        "assignee": review.assignee,
        "due": review.due,
        "held_first": review.held_first.map(|document| document.to_string()),
    })
}

pub(crate) fn candidate_json(candidate: &ReviewCandidate) -> Value {
    json!({
        "value": candidate.value,
        "author": author_json(candidate.author.as_ref()),
        "time_s": candidate.time_s,
        "change": candidate.change.to_string(),
        "settles": candidate.settles.map(|review| review.to_string()),
    })
}
