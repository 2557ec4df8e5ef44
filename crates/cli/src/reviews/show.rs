//! `rejoin review`: one review with its candidates, and the commands that settle it.

use anyhow::Result;
use clap::Args;
use console::Style;
use rejoin::history::Candidate;
use rejoin::review::{ReviewKind, ReviewState, ReviewedDocument};
use rejoin::{Document, Path, Review, Space};
use serde_json::Value;

use super::two::Two;
use super::{caught_up, find};
use crate::clock::{clock, clock_of_ms};
use crate::identity::{person, whole};
use crate::layout::{SideBySide, one_line, width, wrap};
use crate::output::{Output, Text, count};
use crate::place::{PlaceArguments, command_line};
use crate::questions::{changed, is_about_two, name};
use crate::short::{short_hash, short_id};
use crate::values::{DELETED, shown};

#[derive(Debug, Args)]
pub(crate) struct ReviewArguments {
    /// Which review; the first characters of its id do
    pub(crate) id: String,
}

pub(crate) async fn show(
    place: &PlaceArguments,
    arguments: &ReviewArguments,
    output: Output,
) -> Result<()> {
    let local = caught_up(place, output).await?;
    let reviews = local.space.reviews();
    let all = reviews.list().await?;
    let id = find(&all, &arguments.id)?.id;
    // The review by itself holds more than the one in the list.
    let found = reviews.get(&id).await?;
    let review = found.as_ref().map_or_else(|| find(&all, &arguments.id), Ok)?;
    let mut json = review.to_json();
    let mut lines: Vec<Text> = Vec::new();
    if is_about_two(review) {
        let two = Two::of(&local.space, review).await?;
        for (at, last) in two.last.iter().enumerate() {
            json["documents"][at]["written"] =
                last.as_ref().map_or(Value::Null, Candidate::to_json);
        }
        lines.push(two.headline(review));
        lines.push(Text::default());
        lines.push(side_by_side_documents(review, &two).fit(width()).into());
        lines.extend(stands(review).into_iter().map(Text::from));
        if review.is_open() {
            lines.extend(two.instructions(place, review).into_iter().map(Text::from));
        }
    } else {
        let field = field_name(&local.space, review).await?;
        lines.push(headline(review, &field));
        if !review.candidates.is_empty() {
            lines.push(Text::default());
            lines.push(side_by_side_values(review).fit(width()).into());
        }
        lines.extend(stands(review).into_iter().map(Text::from));
        if review.is_open() {
            lines.push("\nTo settle it:".into());
            lines.extend(commands(place, review).into_iter().map(Text::from));
        }
    }
    output.result(&json, || Text::lines(lines))
}

fn headline(review: &Review, field: &str) -> Text {
    let id = short_id(&review.id);
    let about = match review.documents.first() {
        Some(named) => format!("{} {}", review.collection, name(named)),
        None => review.collection.to_string(),
    };
    let number = review.candidates.len() as u64;
    let text = match (review.kind, number) {
        (_, 0) => format!("{field} of {about}"),
        (ReviewKind::Removal, _) if field == DELETED => {
            format!("{about} was deleted while somebody wrote in it")
        }
        (ReviewKind::Removal, _) => {
            let what = field.strip_suffix(".removed").unwrap_or(field);
            format!("{what} of {about} was removed while somebody wrote in it")
        }
        (ReviewKind::RefusedWrite, _) => {
            format!("{field} of {about} was written by somebody who may not")
        }
        (ReviewKind::Hidden, _) => {
            format!(
                "{field} of {about} holds something that merges, which hides what else was written"
            )
        }
        (ReviewKind::Containers, _) => {
            format!("{field} of {about} was made more than once, and only one of them can be seen")
        }
        (ReviewKind::Disagreement, _) => {
            format!("{field} of {about} was decided in different ways")
        }
        _ => format!("{field} of {about} has {}, and none is agreed", count(number, "value")),
    };
    bold(&format!("Review {id}: {text}"))
}

pub(super) fn bold(text: &str) -> Text {
    Text::styled(&wrap(&one_line(text), width()).join("\n"), &Style::new().bold())
}

/// The field of a review, with the items of lists by their index if they still exist.
async fn field_name(space: &Space, review: &Review) -> Result<String> {
    let Some(named) = review.documents.first().filter(|_| review.field.contains("[#")) else {
        return Ok(review.field.clone());
    };
    let blames = document(space, review, named)?.blame().await?;
    let found = blames.into_iter().find(|blame| blame.place.to_string() == review.field);
    let path = found.and_then(|blame| blame.path);
    Ok(path.map_or_else(|| review.field.clone(), |path: Path| path.to_string()))
}

pub(super) fn document(
    space: &Space,
    review: &Review,
    named: &ReviewedDocument,
) -> Result<Document> {
    let collection = space.collection(review.collection.as_str())?;
    Ok(collection.document_by_id(named.document))
}

fn side_by_side_values(review: &Review) -> SideBySide {
    let candidates = &review.candidates;
    let mut table = SideBySide::new((1..=candidates.len()).map(|number| number.to_string()));
    table.row("value", candidates.iter().map(|it| value(review, it)));
    people(&mut table, &candidates.iter().map(Some).collect::<Vec<_>>());
    table
}

/// The two documents of a review, side by side.
pub(crate) fn side_by_side_documents(review: &Review, two: &Two) -> SideBySide {
    let mut table = SideBySide::new(review.documents.iter().map(name));
    let booked = |end: fn((i64, i64)) -> i64| {
        let times = review.documents.iter().map(|named| named.booked_ms.map(end));
        times.map(|at| at.map(clock_of_ms).unwrap_or_default()).collect::<Vec<_>>()
    };
    table.row("from", booked(|(from, _)| from));
    table.row("until", booked(|(_, until)| until));
    table.row("value", two.values.iter().cloned());
    let first = |named: &ReviewedDocument| {
        let is_first = review.held_first == Some(named.document);
        if is_first { "first".to_owned() } else { String::new() }
    };
    table.row("at relay", review.documents.iter().map(first));
    people(&mut table, &two.last.iter().map(Option::as_ref).collect::<Vec<_>>());
    table
}

/// Adds rows with the author, the device, the time and the change of each write.
fn people(table: &mut SideBySide, writes: &[Option<&Candidate>]) {
    let each = |tell: &dyn Fn(&Candidate) -> String| -> Vec<String> {
        writes.iter().map(|write| write.map(tell).unwrap_or_default()).collect()
    };
    table.row("who", each(&|it| person(it.author.as_ref())));
    let device = |it: &Candidate| it.author.as_ref()?.device.clone();
    table.row("device", each(&|it| device(it).unwrap_or_default()));
    table.row("when", each(&|it| clock(it.time_s)));
    table.row("change", each(&|it| short_hash(&it.change)));
    table.row("settled", each(&|it| it.settles.map(|id| short_id(&id)).unwrap_or_default()));
}

/// A candidate as people read it.
fn value(review: &Review, candidate: &Candidate) -> String {
    match (review.kind, &candidate.value) {
        (ReviewKind::Removal, Some(_)) => "removed".to_owned(),
        (ReviewKind::Removal, None) => "edited meanwhile".to_owned(),
        (_, value) => shown(value.as_ref()),
    }
}

/// The value that stands, the decision if there was one, and the user who is to decide.
fn stands(review: &Review) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |label: &str, text: &str| {
        let indent = LABEL;
        let wrapped = wrap(&one_line(text), width().saturating_sub(indent));
        for (at, line) in wrapped.iter().enumerate() {
            let label = if at == 0 { label } else { "" };
            lines.push(format!("{label:indent$}{line}"));
        }
    };
    match &review.state {
        ReviewState::Open if is_about_two(review) => {}
        ReviewState::Open => {
            let standing = match (review.kind, &review.standing) {
                (ReviewKind::Removal, _) => "it is still there".to_owned(),
                (ReviewKind::Hidden, _) => "what merges".to_owned(),
                (ReviewKind::RefusedWrite, None) => {
                    "nothing; what was written is seen, and does not count".to_owned()
                }
                (_, value) => shown(value.as_ref()),
            };
            say("stands", &format!("{standing}, until somebody decides"));
        }
        ReviewState::Settled { by, why } => {
            say("settled", &decided(Some(by), why.as_deref()));
            if review.kind != ReviewKind::Containers {
                say("value", &value(review, by));
            }
        }
        ReviewState::Dismissed { by, why } => {
            say("left", &decided(by.as_ref(), why.as_deref()));
        }
        ReviewState::Resolved { by, document } => {
            say("ended", &decided(Some(by), None));
            say("by", &changed(review, by, document));
        }
    }
    if let Some(assignee) = &review.assignee {
        let due = review.due.as_ref().map(|due| format!(", due {due}")).unwrap_or_default();
        say("for", &format!("{assignee}{due}"));
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

/// The author, the time and the reason of a decision: `by Ann (dispatch) on desk-2, 2026-11-20
/// 22:03:11Z: they called`.
pub(super) fn decided(by: Option<&Candidate>, why: Option<&str>) -> String {
    let who = by.map(|by| match &by.author {
        Some(author) => format!("by {}, {}", whole(author), clock(by.time_s)),
        None => format!("by {}, {}", person(None), clock(by.time_s)),
    });
    let who = who.unwrap_or_else(|| "by somebody".to_owned());
    why.map_or_else(|| who.clone(), |why| format!("{who}: {}", one_line(why)))
}

/// The commands that settle a review, each as it is typed.
fn commands(place: &PlaceArguments, review: &Review) -> Vec<String> {
    let settle = format!("{} settle {}", command_line(place), short_id(&review.id));
    if review.kind == ReviewKind::Hidden {
        // No value can take the place of something that merges.
        return aligned(&[(format!("{settle} --dismiss WHY"), "lets the value go".to_owned())]);
    }
    let mut ways: Vec<_> = review
        .candidates
        .iter()
        .map(|it| {
            let does = match (review.kind, &it.value) {
                (ReviewKind::Removal, Some(_)) => "it is gone".to_owned(),
                (ReviewKind::Removal, None) => "it stays".to_owned(),
                _ => value(review, it),
            };
            (format!("{settle} --take {}", short_hash(&it.change)), does)
        })
        .collect();
    let keeps = match review.kind {
        ReviewKind::Removal => "it stays".to_owned(),
        _ => format!("leaves {}", shown(review.standing.as_ref())),
    };
    if review.kind != ReviewKind::Removal {
        ways.push((format!("{settle} --value VALUE"), "another value".to_owned()));
    }
    ways.push((format!("{settle} --dismiss WHY"), keeps));
    aligned(&ways)
}

/// Commands, each with its effect behind it if there is room. A command is never cut.
pub(super) fn aligned(ways: &[(String, String)]) -> Vec<String> {
    let widest =
        ways.iter().map(|(command, _)| console::measure_text_width(command)).max().unwrap_or(0);
    let room = width().saturating_sub(widest + 6);
    let line = |(command, does): &(String, String)| {
        if does.is_empty() || room < ROOM_MIN {
            return format!("  {command}");
        }
        let does = console::truncate_str(&one_line(does), room, "…").into_owned();
        let command = console::pad_str(command, widest, console::Alignment::Left, None);
        format!("  {command}  # {does}")
    };
    ways.iter().map(line).collect()
}

/// Width of the label before a line.
const LABEL: usize = 9;

/// With less room than this behind a command its effect is left out.
const ROOM_MIN: usize = 10;
