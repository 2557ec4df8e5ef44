//! `rejoin settle` and `rejoin assign`.

use anyhow::{Context, Result, bail, ensure};
use rejoin::{Candidate, Decision, Review, ReviewKind, ReviewState};
use serde_json::{Value, json};

use super::show::decided;
use super::two::Two;
use super::words::{about, changed, shown};
use super::{find, is_about_two, many, short_id};
use crate::arguments::{AssignArguments, PlaceArguments, SettleArguments};
use crate::history::HASH_SHOWN;
use crate::layout::one_line;
use crate::local::Local;
use crate::output::{Output, count};

pub(crate) async fn settle(
    place: &PlaceArguments,
    arguments: &SettleArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    local.caught_up(output).await?;
    let Some(id) = &arguments.id else { return many::settle(&local, arguments, output).await };
    let reviews = local.space.reviews();
    let all = reviews.list().await?;
    let review = find(&all, id)?;
    if !review.is_open() {
        let whole = reviews.get(&review.id).await?;
        bail!(gone(whole.as_ref().unwrap_or(review), &all));
    }
    if is_about_two(review) && arguments.dismiss.is_none() {
        let two = Two::of(&local.space, review).await?;
        let instructions = two.instructions(place, review).join("\n");
        bail!("review {} is about two documents.{instructions}", short_id(&review.id));
    }
    let decision = decision(arguments, review)?;
    let why = arguments.dismiss.as_deref().or(arguments.because.as_deref());
    let edited = reviews.settle(&review.id, decision.clone(), why).await?;
    let value = match &decision {
        Decision::Take(change) => {
            let taken = review.candidates.iter().find(|candidate| candidate.change == *change);
            taken.and_then(|taken| taken.value.clone())
        }
        Decision::Value(value) => value.clone(),
        Decision::Dismiss => review.standing.clone(),
    };
    let state = if decision == Decision::Dismiss { "dismissed" } else { "settled" };
    let waiting = local.replica.status().waiting;
    let heads: Vec<_> = edited.heads.iter().map(ToString::to_string).collect();
    let json = json!({
        "review": review.id.to_string(),
        "state": state,
        "field": review.field,
        "value": value,
        "id": edited.document.to_string(),
        "heads": heads,
        "waiting": waiting,
    });
    output.result(&json, || {
        let id = short_id(&review.id);
        let reads = match is_about_two(review) {
            true => format!("{} stay as they are", about(review)),
            false => format!("{} {} is {}", about(review), review.field, shown(value.as_ref())),
        };
        let waiting = count(waiting, "edit");
        one_line(&format!(
            "review {id} {state}: {reads}; on this device, {waiting} to send to a relay"
        ))
    })
}

fn decision(arguments: &SettleArguments, review: &Review) -> Result<Decision> {
    let SettleArguments { take, value, dismiss, .. } = arguments;
    if let Some(why) = dismiss {
        ensure!(!why.trim().is_empty(), "say why, for those who look back: --dismiss WHY");
        return Ok(Decision::Dismiss);
    }
    if let Some(value) = value {
        return Ok(Decision::Value(value.0.clone()));
    }
    let take = take.as_deref().context("give --take CHANGE, --value VALUE or --dismiss WHY")?;
    let candidates: Vec<&Candidate> = review.numbered();
    let (id, last) = (short_id(&review.id), candidates.len());
    let taken = taken(take, &candidates).with_context(|| {
        format!("review {id} has numbers 1 to {last}, and a change behind each; `rejoin review {id}` shows them")
    })?;
    Ok(Decision::Take(taken.change))
}

/// The candidate with a number, or with a change that begins so. Numbers move when another
/// candidate comes; changes do not.
fn taken<'a>(take: &str, candidates: &[&'a Candidate]) -> Option<&'a Candidate> {
    if take.len() < HASH_SHOWN
        && let Ok(number) = take.parse::<usize>()
    {
        return candidates.get(number.checked_sub(1)?).copied();
    }
    let mut named = candidates.iter().filter(|it| it.change.to_string().starts_with(take));
    named.next().filter(|_| named.next().is_none()).copied()
}

/// How a review was decided that somebody wants to decide.
fn gone(review: &Review, all: &[Review]) -> String {
    let id = short_id(&review.id);
    let how = match &review.state {
        ReviewState::Settled { by, why } if review.kind == ReviewKind::Containers => {
            format!("settled {}", decided(Some(by), why.as_deref()))
        }
        ReviewState::Settled { by, why } => {
            let value = one_line(&shown(by.value.as_ref()));
            format!("settled with {value} {}", decided(Some(by), why.as_deref()))
        }
        ReviewState::Dismissed { by, why } => {
            format!("dismissed {}", decided(by.as_ref(), why.as_deref()))
        }
        ReviewState::Resolved { by, document } => {
            let changed = one_line(&changed(review, by, document));
            format!("resolved {}: {changed}", decided(Some(by), None))
        }
        ReviewState::Open => "opened again".to_owned(),
    };
    let same = |other: &&Review| {
        other.is_open() && other.documents == review.documents && other.field == review.field
    };
    let then = match all.iter().find(same) {
        None if is_about_two(review) => {
            "`rejoin set` changes either of them all the same".to_owned()
        }
        Some(other) => {
            let id = short_id(&other.id);
            format!("There is another question about it now; `rejoin review {id}` shows it")
        }
        None => "`rejoin set` changes the field, as any other".to_owned(),
    };
    format!("review {id} was {how}. {then}")
}

pub(crate) async fn assign(
    place: &PlaceArguments,
    arguments: &AssignArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    local.caught_up(output).await?;
    let reviews = local.space.reviews();
    let all = reviews.list().await?;
    let review = find(&all, &arguments.id)?;
    if !review.is_open() {
        let whole = reviews.get(&review.id).await?;
        bail!(gone(whole.as_ref().unwrap_or(review), &all));
    }
    let who = arguments.who.as_deref();
    ensure!(who.is_none_or(|who| !who.trim().is_empty()), "name a user, or give --nobody");
    // Whoever takes over a review has as long as whoever had it.
    let due = arguments.due.as_deref().or(review.due.as_deref()).filter(|_| who.is_some());
    reviews.assign(&review.id, who, due).await?;
    let waiting = local.replica.status().waiting;
    let json = json!({
        "review": review.id.to_string(),
        "assignee": who,
        "due": due,
        "waiting": Value::from(waiting),
    });
    output.result(&json, || {
        let id = short_id(&review.id);
        let whose = match (who, due) {
            (Some(who), Some(due)) => format!("for {who}, due {due}"),
            (Some(who), None) => format!("for {who}"),
            (None, _) => "nobody's".to_owned(),
        };
        let hint = if who.is_some() { "; `rejoin reviews --mine` shows it to them" } else { "" };
        one_line(&format!("review {id}, {}, is {whose}{hint}", about(review)))
    })
}
