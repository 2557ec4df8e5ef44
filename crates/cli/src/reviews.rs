//! `rejoin reviews`, `review`, `settle` and `assign`: the questions that only a person can decide.

mod decide;
mod many;
mod show;
mod two;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rejoin::Review;
use serde_json::Value;

use crate::layout::{Table, width};
use crate::local::Local;
use crate::output::{Output, Text, count};
use crate::place::PlaceArguments;
use crate::questions::{about, question};
use crate::short::{ID_SHOWN, short, short_id};
use crate::unfit;

pub(crate) use decide::{AssignArguments, SettleArguments, assign, settle};
pub(crate) use show::{ReviewArguments, show, side_by_side_documents};
pub(crate) use two::Two;

#[derive(Debug, Args)]
pub(crate) struct ReviewsArguments {
    /// Only those assigned to the user this replica acts as
    #[arg(long)]
    pub(crate) mine: bool,
    /// Also those that are settled or dismissed
    #[arg(long)]
    pub(crate) all: bool,
}

pub(crate) async fn list(
    place: &PlaceArguments,
    arguments: &ReviewsArguments,
    output: Output,
) -> Result<()> {
    let local = caught_up(place, output).await?;
    let mut reviews = local.space.reviews().list().await?;
    reviews.retain(|review| arguments.all || review.is_open());
    if arguments.mine {
        let user = user(&local)?;
        reviews.retain(|review| review.assignee.as_ref() == Some(&user));
    }
    let unfit = unfit::summary(&local.space.unfit().await?).map(Text::from);
    output.result(&Value::from_iter(reviews.iter().map(Review::to_json)), || {
        if reviews.is_empty() {
            return Text::lines(std::iter::once(nothing(arguments).into()).chain(unfit));
        }
        let open = reviews.iter().filter(|review| review.is_open()).count();
        let open = count(open as u64, "review");
        let open = format!("{open} open; `rejoin review ID` shows one").into();
        Text::lines([table(&reviews, arguments.all).fit(width()), open].into_iter().chain(unfit))
    })
}

/// Opens the replica, and waits until the rules were applied again to every document, as that opens
/// and ends reviews.
async fn caught_up(place: &PlaceArguments, output: Output) -> Result<Local> {
    let local = Local::open(place).await?;
    local.caught_up(output).await?;
    Ok(local)
}

/// The user that the replica acts as.
fn user(local: &Local) -> Result<String> {
    let identity = local.replica.identity()?;
    let said = "whose are yours? This replica acts as nobody in particular; `rejoin whoami --user \
                NAME` says who you are";
    Ok(identity.context(said)?.user)
}

fn nothing(arguments: &ReviewsArguments) -> String {
    let yours = if arguments.mine { " assigned to you" } else { "" };
    let open = if arguments.all { "" } else { "open " };
    format!("no {open}reviews{yours}")
}

fn table(reviews: &[Review], with_state: bool) -> Table {
    let assigned = reviews.iter().any(|review| review.assignee.is_some());
    let due = reviews.iter().any(|review| review.due.is_some());
    let mut heading = vec!["review"];
    if with_state {
        heading.push("state");
    }
    heading.extend(["about", "field", "question"]);
    let optional = [(assigned, "for"), (due, "due")];
    heading.extend(optional.iter().filter(|(is, _)| *is).map(|(_, name)| *name));
    let mut table = Table::new(heading).keeping(1 + usize::from(with_state));
    for review in reviews {
        let mut cells = vec![short_id(&review.id)];
        if with_state {
            cells.push(review.state.name().to_owned());
        }
        cells.extend([about(review), review.field.clone(), question(review)]);
        if assigned {
            cells.push(review.assignee.clone().unwrap_or_default());
        }
        if due {
            cells.push(review.due.clone().unwrap_or_default());
        }
        table.row(cells);
    }
    table
}

/// The one review whose id begins with `prefix`.
fn find<'a>(reviews: &'a [Review], prefix: &str) -> Result<&'a Review> {
    let wanted = prefix.to_ascii_lowercase();
    let is_hex = !wanted.is_empty() && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(
        is_hex,
        "{prefix:?} is no review; give the first characters of an id in `rejoin reviews`"
    );
    let found: Vec<_> =
        reviews.iter().filter(|review| review.id.to_string().starts_with(&wanted)).collect();
    match found[..] {
        [review] => Ok(review),
        [] => bail!(
            "no review begins with {prefix:?}; `rejoin reviews --all` lists them. One about two \
             documents that got out of each other's way is listed where it was seen open"
        ),
        _ => {
            let shown = ID_SHOWN.max(wanted.len() + 4);
            let lines = found.iter().map(|review| {
                let (about, state) = (about(review), review.state.name());
                let id = short(&review.id.to_string(), shown);
                format!("\n  {id}  {about} {}, {state}", review.field)
            });
            let lines = lines.collect::<String>();
            bail!("several reviews begin with {prefix:?}; give more characters{lines}")
        }
    }
}
