//! `rejoin reviews`, `review`, `settle` and `assign`: what only a person can decide.

mod decide;
mod many;
mod show;
mod two;
mod words;

use anyhow::{Context, Result, bail, ensure};
use rejoin::{Edited, Review, ReviewId};
use serde_json::Value;

use crate::arguments::{PlaceArguments, ReviewsArguments};
use crate::history::short;
use crate::layout::{Table, width};
use crate::local::Local;
use crate::output::{Output, Text, count};
use crate::unfit;

pub(crate) use decide::{assign, settle};
pub(crate) use show::{show, side_by_side_documents};
pub(crate) use two::Two;
pub(crate) use words::{is_about_two, name, shown};

pub(crate) async fn list(
    place: &PlaceArguments,
    arguments: &ReviewsArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    local.caught_up(output).await?;
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
        cells.extend([words::about(review), review.field.clone(), words::question(review)]);
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

/// The one review whose id begins like this.
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
                let (about, state) = (words::about(review), review.state.name());
                let id = short(&review.id.to_string(), shown);
                format!("\n  {id}  {about} {}, {state}", review.field)
            });
            let lines = lines.collect::<String>();
            bail!("several reviews begin with {prefix:?}; give more characters{lines}")
        }
    }
}

/// The open reviews that an edit takes part in: with a value that is one more candidate, or with a
/// document that gets in another's way since. `before` are those that were open already.
pub(crate) async fn touched_by(
    local: &Local,
    edited: &Edited,
    before: &[Review],
) -> Result<Vec<Review>> {
    let mut open = local.space.reviews().open().await?;
    open.retain(|review| {
        let wrote = |change| edited.changes.contains(change);
        let names = || review.documents.iter().any(|named| named.document == edited.document);
        let is_new = || before.iter().all(|known| known.id != review.id);
        review.candidates.iter().any(|candidate| wrote(&candidate.change))
            || (is_about_two(review) && names() && is_new())
    });
    Ok(open)
}

/// The beginning of an id, which names one review in all but very large inboxes.
pub(crate) fn short_id(id: &ReviewId) -> String {
    short(&id.to_string(), ID_SHOWN)
}

const ID_SHOWN: usize = 8;
