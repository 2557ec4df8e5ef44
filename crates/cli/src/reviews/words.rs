//! Reviews in words.

use rejoin::{Candidate, DocumentId, Review, ReviewKind, ReviewState, ReviewedDocument};
use serde_json::Value;

use crate::clock::minute_of_ms;
use crate::local::DELETED;

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
        review.numbered().iter().map(|candidate| shown(candidate.value.as_ref())).collect();
    if review.kind == ReviewKind::Containers && !review.is_open() {
        return "decided".to_owned();
    }
    if let ReviewState::Settled { by, .. } = &review.state {
        return format!("decided: {}", shown(by.value.as_ref()));
    }
    if let ReviewState::Resolved { by, document } = &review.state {
        return changed(review, by, document);
    }
    match review.kind {
        ReviewKind::DoubleBooking => match times(review) {
            Some((from_ms, until_ms)) => {
                let ((from, _), (until, zone)) = (minute_of_ms(from_ms), minute_of_ms(until_ms));
                let until = match from.split_once(' ') {
                    Some((day, _)) => until.strip_prefix(&format!("{day} ")).unwrap_or(&until),
                    None => &until,
                };
                format!("twice at {from} to {until}{zone}")
            }
            None => "double booking".to_owned(),
        },
        ReviewKind::Duplicate => "the same twice".to_owned(),
        ReviewKind::Removal => "removed, and edited meanwhile".to_owned(),
        ReviewKind::Containers => format!("made twice, not seen: {}", values.join(", ")),
        ReviewKind::Hidden => format!("cannot be seen: {}", values.join(", ")),
        ReviewKind::RefusedWrite if !values.is_empty() => {
            format!("not allowed: {}", values.join(", "))
        }
        _ if values.is_empty() => "left as it was".to_owned(),
        _ => values.join(" or "),
    }
}

/// What an edit of one of two documents wrote, so that they are out of each other's way: `W-203:
/// starts_at 2026-05-04T17:00:00Z`.
pub(super) fn changed(review: &Review, by: &Candidate, document: &DocumentId) -> String {
    let named = review.documents.iter().find(|named| named.document == *document);
    let named = named.map_or_else(|| document.to_string(), name);
    let fields = by.value.as_ref().and_then(Value::as_object);
    let fields = fields.into_iter().flatten();
    let written = fields.map(|(field, value)| match (field.as_str(), value) {
        (DELETED, Value::Bool(true)) => "deleted".to_owned(),
        _ => format!("{field} {}", shown(Some(value))),
    });
    format!("{named}: {}", written.collect::<Vec<_>>().join(", "))
}

/// The time that both bookings take.
fn times(review: &Review) -> Option<(i64, i64)> {
    let booked = || review.documents.iter().filter_map(|named| named.booked_ms);
    let from = booked().map(|(from, _)| from).max()?;
    let until = booked().map(|(_, until)| until).min()?;
    Some((from, until))
}

/// A value, or that there is none.
pub(crate) fn shown(value: Option<&Value>) -> String {
    match value {
        None => "(none)".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "(empty)".to_owned(),
        Some(value) => rejoin::shown(value).into_owned(),
    }
}
