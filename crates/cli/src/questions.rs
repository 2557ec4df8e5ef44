//! The questions of reviews, in the words of every command that tells of them.

use rejoin::history::Candidate;
use rejoin::review::{ReviewKind, ReviewState, ReviewedDocument};
use rejoin::{DocumentId, Review};
use serde_json::Value;

use crate::clock::minute_of_ms;
use crate::layout::one_line;
use crate::short::short_id;
use crate::values::{DELETED, shown};

/// Whether a review is about two documents, so that changing one of them settles it.
pub(crate) fn is_about_two(review: &Review) -> bool {
    matches!(review.kind, ReviewKind::DoubleBooking | ReviewKind::Duplicate)
}

/// The collection and the documents that a review is about: `jobs W-203`.
pub(crate) fn about(review: &Review) -> String {
    let names: Vec<_> = review.documents.iter().map(name).collect();
    format!("{} {}", review.collection, names.join(", "))
}

/// The name by which people know a document: its key, or else its id.
pub(crate) fn name(named: &ReviewedDocument) -> String {
    named.key.clone().unwrap_or_else(|| named.document.to_string())
}

/// The question of a review, or its answer, short enough for a list.
pub(crate) fn question(review: &Review) -> String {
    // One value may have been written several times.
    let mut values: Vec<String> = Vec::new();
    for candidate in &review.candidates {
        let value = shown(candidate.value.as_ref());
        if !values.contains(&value) {
            values.push(value);
        }
    }
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

/// The question of a review, for a user who looks at this document or has just edited it, and then
/// whether the edit opened it.
pub(crate) fn asked(review: &Review, document: DocumentId, is_new: bool) -> String {
    let id = short_id(&review.id);
    let others: Vec<_> =
        review.documents.iter().filter(|named| named.document != document).map(name).collect();
    let text = match is_about_two(review) {
        true => {
            let kind = review.kind.name().replace('_', " ");
            let others = others.join(", ");
            format!("{}: {kind} with {others}; see `rejoin review {id}`", review.field)
        }
        false => {
            let what = match is_new {
                true => "this asks a person, in the new",
                false => "one more candidate in the open",
            };
            format!("{}: {what} review {id}; see `rejoin review {id}`", review.field)
        }
    };
    one_line(&text)
}

/// The write to one of two documents that moved them out of each other's way: `W-203: starts_at
/// 2026-05-04T17:00:00Z`.
pub(crate) fn changed(review: &Review, by: &Candidate, document: &DocumentId) -> String {
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

/// The beginning and the end of the time that both bookings take.
fn times(review: &Review) -> Option<(i64, i64)> {
    let booked = || review.documents.iter().filter_map(|named| named.booked_ms);
    let from = booked().map(|(from, _)| from).max()?;
    let until = booked().map(|(_, until)| until).min()?;
    Some((from, until))
}
