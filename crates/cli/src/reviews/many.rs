//! `rejoin settle --field`: one decision for many reviews, with a settlement for each.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use rejoin::review::ReviewKind;
use rejoin::{Decision, DocumentId, Entry, Review};
use serde_json::json;

use super::{SettleArguments, user};
use crate::layout::one_line;
use crate::local::Local;
use crate::output::{Output, count};
use crate::questions::{about, is_about_two};
use crate::short::short_id;

/// The rule by which a candidate is chosen in each review.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Take {
    /// The candidate that was written last, by the clocks of its authors.
    Newest,
    /// The candidate that this user wrote; of several the newest.
    Mine(String),
    /// The value that stands until somebody decides, so the review is dismissed.
    Standing,
}

pub(super) async fn settle(
    local: &Local,
    arguments: &SettleArguments,
    output: Output,
) -> Result<()> {
    let take = take(local, arguments)?;
    let reviews = matching(local, arguments).await?;
    let field = arguments.field.as_deref().unwrap_or_default();
    ensure!(
        !reviews.is_empty(),
        "no open review is about field {field} of such documents; `rejoin reviews` lists those that are"
    );
    let (mut decisions, mut decided, mut left) = (Vec::new(), Vec::new(), Vec::new());
    for review in &reviews {
        match decision(&take, review) {
            Ok(decision) => {
                decisions.push((review.id, decision));
                decided.push(review);
            }
            Err(why) => left.push((review, why.to_owned())),
        }
    }
    if decisions.len() >= MANY {
        output.note(&format!("settling {}", count(decisions.len() as u64, "review")));
    }
    let why = arguments.dismiss.as_deref().or(arguments.because.as_deref());
    let results = local.space.reviews().settle_all(decisions, why).await?;
    for (review, result) in decided.iter().zip(&results) {
        if let Err(error) = result {
            left.push((review, error.to_string()));
        }
    }
    let settled = results.iter().filter(|result| result.is_ok()).count() as u64;
    let waiting = local.replica.status().waiting;
    let left_json =
        left.iter().map(|(review, why)| json!({ "review": review.id.to_string(), "reason": why }));
    let json = json!({
        "settled": settled,
        "left": left_json.collect::<serde_json::Value>(),
        "waiting": waiting,
    });
    output.result(&json, || {
        let mut lines = vec![match settled {
            0 => "no review was settled".to_owned(),
            _ => format!(
                "{} settled; on this device, {} to send to a relay",
                count(settled, "review"),
                count(waiting, "edit")
            ),
        }];
        // Reviews that are left open for the same reason share a line.
        let mut by_reason: BTreeMap<&str, Vec<&Review>> = BTreeMap::new();
        left.iter().for_each(|(review, why)| by_reason.entry(why).or_default().push(review));
        for (why, reviews) in by_reason {
            let first = reviews.first().map(|it| format!("{} {}", short_id(&it.id), about(it)));
            let number = count(reviews.len() as u64, "review");
            let first = first.unwrap_or_default();
            lines.push(one_line(&format!("{number} left open, such as {first}: {why}")));
        }
        lines.join("\n")
    })?;
    ensure!(settled > 0, "nothing was settled");
    Ok(())
}

fn take(local: &Local, arguments: &SettleArguments) -> Result<Take> {
    if arguments.dismiss.is_some() {
        return Ok(Take::Standing);
    }
    match arguments.take.as_deref() {
        Some("newest") => Ok(Take::Newest),
        Some("mine") => Ok(Take::Mine(user(local)?)),
        Some("standing") => Ok(Take::Standing),
        _ => None.context(
            "which value of each? For many reviews give --take newest, --take mine, --take standing, \
             or --dismiss WHY",
        ),
    }
}

/// The open reviews about a field of documents that meet the conditions.
async fn matching(local: &Local, arguments: &SettleArguments) -> Result<Vec<Review>> {
    let mut reviews = local.space.reviews().open().await?;
    reviews.retain(|review| {
        Some(&review.field) == arguments.field.as_ref()
            && arguments.collection.as_ref().is_none_or(|only| *only == review.collection)
    });
    if arguments.conditions.is_empty() {
        return Ok(reviews);
    }
    let mut met: BTreeMap<DocumentId, bool> = BTreeMap::new();
    for review in &reviews {
        let collection = local.space.collection(review.collection.as_str())?;
        for named in &review.documents {
            let is_met = |entry: Entry| arguments.conditions.iter().all(|it| it.is_met(&entry));
            let entry = collection.document_by_id(named.document).read().await?;
            met.insert(named.document, entry.is_some_and(is_met));
        }
    }
    reviews.retain(|review| review.documents.iter().any(|named| met[&named.document]));
    Ok(reviews)
}

/// The decision of one review, or the reason why it is left open.
fn decision(take: &Take, review: &Review) -> Result<Decision, &'static str> {
    if is_about_two(review) {
        return match take {
            Take::Standing => Ok(Decision::Dismiss),
            _ => Err("it is about two documents, of which one is to be changed"),
        };
    }
    if matches!(review.kind, ReviewKind::Removal | ReviewKind::Hidden | ReviewKind::Containers) {
        return Err("it asks for more than which value; decide it by itself");
    }
    if review.kind == ReviewKind::RefusedWrite && review.standing.is_some() && *take == Take::Newest
    {
        return Err("what somebody wrote who may stands, and may be newer; decide it by itself");
    }
    let mut candidates = review.candidates.iter().rev();
    let taken = match take {
        Take::Newest => candidates.next(),
        Take::Mine(user) => {
            candidates.find(|it| it.author.as_ref().is_some_and(|author| author.user == *user))
        }
        Take::Standing if review.kind == ReviewKind::RefusedWrite && review.standing.is_none() => {
            return Err(
                "nothing stands but what was written by somebody who may not; take the newest",
            );
        }
        Take::Standing => return Ok(Decision::Dismiss),
    };
    taken.map(|taken| Decision::Take(taken.change)).ok_or("none of its values is yours")
}

/// A command tells that it settles reviews before it begins if there are this many.
const MANY: usize = 1000;
