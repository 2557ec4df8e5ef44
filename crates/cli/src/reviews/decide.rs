//! `rejoin settle` and `rejoin assign`: the decision of one review, and the user who is to decide it.

use anyhow::{Context, Result, bail, ensure};
use clap::{ArgGroup, Args};
use rejoin::history::Candidate;
use rejoin::review::{ReviewKind, ReviewState};
use rejoin::{CollectionName, Decision, Review};
use serde_json::{Value, json};

use super::show::decided;
use super::two::Two;
use super::{caught_up, find, many};
use crate::layout::one_line;
use crate::local::Local;
use crate::output::{Output, count};
use crate::place::PlaceArguments;
use crate::questions::{about, changed, is_about_two};
use crate::short::{HASH_SHOWN, short_id};
use crate::values::{Condition, NewValue, shown};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("decision").required(true), after_help = "\
A decision is an ordinary edit, made offline, too. Two that differ are a new review.
--value takes a value as `set` does behind the name of the field: TEXT sets a string, :=JSON any plain \
value, and nothing ('') clears the field.
Many at once: `settle --field Status --where City=Bern --take newest` takes in each review what was written \
last, `mine` what you wrote, `standing` what stands until somebody decides.
Reviews about two documents, such as double bookings, are settled by changing one of them, or \
dismissed.")]
pub(crate) struct SettleArguments {
    /// Which review; the first characters of its id do
    #[arg(required_unless_present = "field")]
    pub(crate) id: Option<String>,
    /// All open reviews about this field instead, a settlement each
    #[arg(long, value_name = "FIELD", conflicts_with_all = ["id", "value"])]
    pub(crate) field: Option<String>,
    /// Of those only the ones about documents with this value in this field; repeat for more
    #[arg(long = "where", value_name = "FIELD=VALUE", requires = "field")]
    pub(crate) conditions: Vec<Condition>,
    /// Of those only the ones about documents of this collection
    #[arg(long, value_name = "COLLECTION", requires = "field")]
    pub(crate) collection: Option<CollectionName>,
    /// Take what this change wrote, or what stands under this number in `rejoin review`; for many
    /// reviews `newest`, `mine` or `standing`
    #[arg(long, value_name = "CHANGE|N|WHICH", group = "decision")]
    pub(crate) take: Option<String>,
    /// Write this value instead, in one review
    #[arg(long, value_name = "VALUE", group = "decision", allow_hyphen_values = true)]
    pub(crate) value: Option<NewValue>,
    /// Leave what stands, and say why
    #[arg(long, value_name = "WHY", group = "decision", allow_hyphen_values = true)]
    pub(crate) dismiss: Option<String>,
    /// Why, for those who look back
    #[arg(long, value_name = "WHY", conflicts_with = "dismiss", allow_hyphen_values = true)]
    pub(crate) because: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("assignee").required(true))]
pub(crate) struct AssignArguments {
    /// Which review; the first characters of its id do
    pub(crate) id: String,
    /// The user who is to decide it
    #[arg(group = "assignee")]
    pub(crate) who: Option<String>,
    /// Until when, in your own words
    #[arg(long, value_name = "WHEN", conflicts_with = "nobody")]
    pub(crate) due: Option<String>,
    /// Take it from whoever has it
    #[arg(long, group = "assignee")]
    pub(crate) nobody: bool,
}

pub(crate) async fn settle(
    place: &PlaceArguments,
    arguments: &SettleArguments,
    output: Output,
) -> Result<()> {
    let local = caught_up(place, output).await?;
    let Some(id) = &arguments.id else { return many::settle(&local, arguments, output).await };
    let review = &undecided(&local, id).await?;
    if is_about_two(review) && arguments.dismiss.is_none() {
        let two = Two::of(&local.space, review).await?;
        let instructions = two.instructions(place, review).join("\n");
        bail!("review {} is about two documents.{instructions}", short_id(&review.id));
    }
    let decision = decision(arguments, review)?;
    let why = arguments.dismiss.as_deref().or(arguments.because.as_deref());
    let edited = local.space.reviews().settle(&review.id, decision.clone(), why).await?;
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
        let reads = match review.kind {
            _ if is_about_two(review) => format!("{} stay as they are", about(review)),
            ReviewKind::Removal if decision == Decision::Dismiss => {
                format!("{} stays, with what was written in it", about(review))
            }
            _ => format!("{} {} is {}", about(review), review.field, shown(value.as_ref())),
        };
        let waiting = count(waiting, "edit");
        one_line(&format!(
            "review {id} {state}: {reads}; on this device, {waiting} to send to a relay"
        ))
    })
}

/// The open review whose id begins with `id`. If that review was decided already, the error says how.
async fn undecided(local: &Local, id: &str) -> Result<Review> {
    let reviews = local.space.reviews();
    let all = reviews.list().await?;
    let review = find(&all, id)?;
    if !review.is_open() {
        let whole = reviews.get(&review.id).await?;
        bail!(gone(whole.as_ref().unwrap_or(review), &all));
    }
    Ok(review.clone())
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
    let candidates: Vec<&Candidate> = review.candidates.iter().collect();
    let (id, last) = (short_id(&review.id), candidates.len());
    let taken = taken(take, &candidates).with_context(|| {
        format!("review {id} has numbers 1 to {last}, and a change behind each; `rejoin review {id}` shows them")
    })?;
    Ok(Decision::Take(taken.change))
}

/// The candidate with this number, or with the change whose hash begins with this text. Numbers move
/// when another candidate comes; changes do not.
fn taken<'a>(take: &str, candidates: &[&'a Candidate]) -> Option<&'a Candidate> {
    if take.len() < HASH_SHOWN
        && let Ok(number) = take.parse::<usize>()
    {
        return candidates.get(number.checked_sub(1)?).copied();
    }
    let mut named = candidates.iter().filter(|it| it.change.to_string().starts_with(take));
    named.next().filter(|_| named.next().is_none()).copied()
}

/// A sentence on how a review was decided, for a user who wants to decide it once more.
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
    let local = caught_up(place, output).await?;
    let review = undecided(&local, &arguments.id).await?;
    let who = arguments.who.as_deref();
    ensure!(who.is_none_or(|who| !who.trim().is_empty()), "name a user, or give --nobody");
    // A user who takes over a review has as long for it as the user before.
    let due = arguments.due.as_deref().or(review.due.as_deref()).filter(|_| who.is_some());
    local.space.reviews().assign(&review.id, who, due).await?;
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
        one_line(&format!("review {id}, {}, is {whose}{hint}", about(&review)))
    })
}
