//! Settling reviews.

use std::collections::BTreeMap;

use automerge::{Change, ObjType, ReadDoc};
use rejoin_core::lineage::{Question, Standing, Unsettled};
use rejoin_core::schema::Schema;
use rejoin_core::{ChangeHash, DocumentId, ReviewId, Settlement};
use serde_json::{Value, json};

use super::derive::Derived;
use super::view::path_of;
use super::{Decision, EditError, LoadedDocument, Op, SettleError, to_automerge};
use crate::value::{Effective, shown_items};
use crate::write::{WriteOptions, decide, discard, object, write};

/// Refuses to settle a review about a field that only other roles may write.
pub(super) fn check_right(
    schema: &Schema,
    derived: &Derived,
    review: &ReviewId,
    role: Option<&str>,
) -> Result<(), EditError> {
    let (standing, _) = find(derived, review)?;
    let Some(writers) = schema.writers(&standing.place.pattern()) else { return Ok(()) };
    if role.is_some_and(|role| writers.contains(role)) {
        return Ok(());
    }
    Err(EditError::not_allowed(standing.place.clone(), role, writers))
}

/// Writes a decision as a change that names the values that were decided between.
pub(super) fn settle_review(
    id: &DocumentId,
    document: &mut LoadedDocument,
    derived: &Derived,
    review: &ReviewId,
    decision: &Decision,
    why: Option<String>,
    time_s: i64,
) -> Result<Vec<Change>, EditError> {
    let (standing, unsettled) = find(derived, review)?;
    let value: Option<&Value> = match decision {
        Decision::Take(change) => {
            let mut candidates = unsettled.candidates.iter();
            let taken = candidates.find(|candidate| candidate.change == *change);
            taken.ok_or(SettleError::NoCandidate)?.value.as_ref()
        }
        Decision::Value(value) => value.as_ref(),
        // The hidden values go.
        Decision::Dismiss if unsettled.question == Question::Hidden => None,
        Decision::Dismiss => standing.stays(unsettled.question),
    };
    if unsettled.question == Question::Hidden && value.is_some() {
        return Err(SettleError::Contained.into());
    }
    if let Some(len) = why.as_ref().map(String::len).filter(|len| *len > WHY_BYTES_MAX) {
        return Err(SettleError::WhyTooLong { len, max: WHY_BYTES_MAX }.into());
    }
    let mut between: Vec<ChangeHash> =
        unsettled.candidates.iter().map(|candidate| candidate.change).collect();
    between.sort_unstable();
    let settlement = Settlement {
        review: *review,
        closes: between.iter().map(ChangeHash::short).collect(),
        dismissed: *decision == Decision::Dismiss,
        why,
    };
    let (message, between) = (settlement.to_message(), to_automerge(&between));
    if unsettled.question == Question::Containers {
        let effective = derived.effective();
        let taken = match decision {
            Decision::Take(change) => as_made(document, unsettled, change),
            _ => value.cloned(),
        };
        let mut written = match decision {
            Decision::Dismiss => Vec::new(),
            _ => write_seen(id, document, effective, standing, taken, time_s)?,
        };
        let hidden = &unsettled.containers;
        written.extend(discard(&mut document.doc, standing, hidden, time_s, &message)?);
        return Ok(written);
    }
    let written = decide(&mut document.doc, standing, &between, value, time_s, &message)?;
    if written.is_empty() { Err(SettleError::NotPlain.into()) } else { Ok(written) }
}

/// Settles a review again as it was settled before, between the candidates of then. `None` if it is
/// not open, or has none of those.
pub(super) fn settle_again(
    document: &mut LoadedDocument,
    derived: &Derived,
    before: &Settlement,
    value: Option<&Value>,
    time_s: i64,
) -> Result<Option<Vec<Change>>, EditError> {
    let Ok((standing, unsettled)) = find(derived, &before.review) else { return Ok(None) };
    // Candidates that came since were not decided about.
    let changes = unsettled.candidates.iter().map(|candidate| candidate.change);
    let mut between: Vec<ChangeHash> =
        changes.filter(|change| before.closes.contains(&change.short())).collect();
    between.sort_unstable();
    if between.is_empty() {
        return Ok(None);
    }
    let closes = between.iter().map(ChangeHash::short).collect();
    let message = Settlement { closes, ..before.clone() }.to_message();
    let (doc, hidden) = (&mut document.doc, &unsettled.containers);
    if unsettled.question == Question::Containers {
        return Ok(Some(discard(doc, standing, hidden, time_s, &message)?));
    }
    let between = to_automerge(&between);
    let written = decide(doc, standing, &between, value, time_s, &message)?;
    Ok(Some(written).filter(|written| !written.is_empty()))
}

/// The content of a hidden container, in the form in which it is written: a text and a counter as
/// such.
fn as_made(document: &LoadedDocument, unsettled: &Unsettled, change: &ChangeHash) -> Option<Value> {
    let mut made = unsettled.candidates.iter().zip(&unsettled.containers);
    let (candidate, container) = made.find(|(candidate, _)| candidate.change == *change)?;
    let value = candidate.value.clone()?;
    Some(match document.doc.object_type(object(container)) {
        Ok(ObjType::Text) => json!({ "$text": value }),
        Ok(_) => value,
        Err(_) => json!({ "$counter": value }),
    })
}

/// Writes the value that somebody decided for into the container that is seen.
fn write_seen(
    id: &DocumentId,
    document: &mut LoadedDocument,
    effective: Option<&Effective>,
    standing: &Standing,
    value: Option<Value>,
    time_s: i64,
) -> Result<Vec<Change>, EditError> {
    let items = match standing.place.path() {
        Some(_) => BTreeMap::new(),
        None => shown_items(&document.doc, effective, document.marks()),
    };
    let Some(path) = path_of(&standing.place, &standing.ops, &items) else {
        return Err(SettleError::Contained.into());
    };
    let op = match value {
        None => Op::Remove { path },
        Some(after) => Op::Set { path, before: standing.value.clone(), after },
    };
    let marks = document.marks();
    let options = WriteOptions { base: None, time_s, message: None, effective, marks };
    Ok(write(&mut document.doc, id, &[op], &options)?)
}

fn find<'a>(
    derived: &'a Derived,
    review: &ReviewId,
) -> Result<(&'a Standing, &'a Unsettled), SettleError> {
    let mut all = derived
        .standings()
        .iter()
        .flat_map(|standing| standing.unsettled.iter().map(move |unsettled| (standing, unsettled)));
    all.find(|(_, unsettled)| unsettled.review == *review).ok_or(SettleError::NoReview(*review))
}

/// Bytes of a reason: beside it the message names two dozen candidates.
const WHY_BYTES_MAX: usize = 500;
