//! `rejoin undo` and `rejoin redo`: take back the last edit that was made in this replica, or make it
//! again.

use anyhow::{Result, bail};
use clap::Args;
use rejoin::UndoError;
use rejoin::undo::{FieldUndone, Kept, Undone, UndoneDocument, Way};
use serde_json::{Value, json};

use crate::clock::clock;
use crate::layout::{one_line, width};
use crate::local::Local;
use crate::output::{Output, count};
use crate::place::PlaceArguments;
use crate::short::short;
use crate::values::{field, shown};

#[derive(Debug, Args)]
pub(crate) struct UndoArguments {
    /// Also if the step is a batch of several edits, such as an import
    #[arg(long)]
    batch: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

pub(crate) async fn run(
    place: &PlaceArguments,
    way: Way,
    arguments: &UndoArguments,
    output: Output,
) -> Result<()> {
    let UndoArguments { batch, dry_run } = *arguments;
    let local = Local::open(place).await?;
    let planned = match local.replica.preview_undo(way).await {
        // Only an undo that is meant drops the step, so that the next one is of the step before.
        Err(UndoError::Kept(_)) if !dry_run => match way {
            Way::Undo => local.replica.undo().await?,
            Way::Redo => local.replica.redo().await?,
        },
        planned => planned?,
    };
    let (word, done) = match way {
        Way::Undo => ("undo", "undone"),
        Way::Redo => ("redo", "made again"),
    };
    if planned.edits > 1 && !batch {
        bail!(
            "the last step is a batch of {}, made {}; `rejoin {word} --batch --dry-run` shows them, and \
             `rejoin {word} --batch` is for all of them",
            count(planned.edits, "edit"),
            clock(planned.time_s)
        );
    }
    if dry_run {
        return output
            .result(&to_json(&planned, false), || format!("would be {done}: {}", text(&planned)));
    }
    if !output.is_json() {
        output.line(format!("{word}: {}", text(&planned)))?;
    }
    let undone = match way {
        Way::Undo => local.replica.undo().await?,
        Way::Redo => local.replica.redo().await?,
    };
    let waiting = local.replica.status().waiting;
    output.result(&to_json(&undone, true), || {
        format!("{done}; on this device, {} to send to a relay", count(waiting, "edit"))
    })
}

fn text(undone: &Undone) -> String {
    let edits = count(undone.edits, "edit");
    let mut lines = vec![format!("{edits} made {}", clock(undone.time_s))];
    for document in undone.documents.iter().take(DOCUMENTS_SHOWN) {
        lines.push(format!("  {}", named(document)));
        lines.extend(document.fields.iter().filter(|it| !says_deleted(it)).map(line));
        if document.fields.is_empty() && !document.deleted {
            lines.push("    what is seen stays; a review may have changed".to_owned());
        }
        let renewed = document.renewed.iter();
        lines.extend(renewed.map(|list| format!("    {list}: items come back as new ones")));
    }
    let more = undone.documents.len().saturating_sub(DOCUMENTS_SHOWN);
    if more > 0 {
        lines.push(format!("  and {} more; --json lists all", count(more, "document")));
    }
    for kept in undone.kept.iter().take(DOCUMENTS_SHOWN) {
        lines.push(format!("  stays: {}", stays(kept, undone)));
    }
    let more = undone.kept.len().saturating_sub(DOCUMENTS_SHOWN);
    if more > 0 {
        lines.push(format!("  and {more} more that stay; --json lists all"));
    }
    lines.join("\n")
}

fn named(document: &UndoneDocument) -> String {
    let UndoneDocument { collection, key, edited, .. } = document;
    let key = key.clone().unwrap_or_else(|| edited.document.to_string());
    let changes = document.fields.iter().find(|it| says_deleted(it));
    match (changes.is_some(), document.deleted) {
        (true, true) => format!("{collection} {key}: is deleted"),
        (true, false) => format!("{collection} {key}: is brought back"),
        _ => format!("{collection} {key}"),
    }
}

/// Whether it is the field that says that a document is deleted.
fn says_deleted(field: &FieldUndone) -> bool {
    let is_true = |value: &Option<Value>| *value == Some(Value::Bool(true));
    ["deleted", "rejoin.deleted"].contains(&field.field.as_str())
        && (is_true(&field.before) || is_true(&field.after))
}

fn line(change: &FieldUndone) -> String {
    let name = field(&change.field);
    let room = width().saturating_sub(name.chars().count() + 12) / 2;
    let shown = |value: &Option<Value>| cut(&one_line(&shown(value.as_ref())), room.max(10));
    format!("    {name}: {} → {}", shown(&change.before), shown(&change.after))
}

/// The beginning of a text that is longer, with a sign that it goes on.
fn cut(text: &str, characters: usize) -> String {
    match text.chars().count() > characters {
        true => format!("{}…", short(text, characters.saturating_sub(1))),
        false => text.to_owned(),
    }
}

fn stays(kept: &Kept, undone: &Undone) -> String {
    let of_it = |it: &&UndoneDocument| it.edited.document == kept.document;
    let document = undone.documents.iter().find(of_it);
    let document = document.map_or_else(|| kept.document.to_string(), named);
    match &kept.field {
        Some(field) => format!("{document} {field}, as {}", kept.why),
        None => format!("{document}, as {}", kept.why),
    }
}

fn to_json(undone: &Undone, is_done: bool) -> Value {
    let documents = undone.documents.iter().map(|document| {
        let fields = document
            .fields
            .iter()
            .map(|it| json!({ "field": it.field, "before": it.before, "after": it.after }));
        json!({
            "space": document.space.as_str(),
            "collection": document.collection.as_str(),
            "key": document.key,
            "id": document.edited.document.to_string(),
            "deleted": document.deleted,
            "fields": Value::from_iter(fields),
            "renewed": document.renewed,
        })
    });
    let kept = undone.kept.iter().map(|kept| {
        json!({
            "id": kept.document.to_string(),
            "field": kept.field,
            "why": kept.why.to_string(),
        })
    });
    json!({
        "done": is_done,
        "time_s": undone.time_s,
        "edits": undone.edits,
        "documents": Value::from_iter(documents),
        "kept": Value::from_iter(kept),
    })
}

/// Documents that are named one by one.
const DOCUMENTS_SHOWN: usize = 20;
