//! `rejoin audit`: every change of every document, for auditors to check afterwards.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use rejoin::history::{HistoryEntry, Settlement, Written, Wrote};
use rejoin::view::Listed;
use serde::Serialize;
use serde_json::Value;

use crate::change::kind;
use crate::clock::{Since, rfc3339, since};
use crate::history::undoes_json;
use crate::identity::author_json;
use crate::local::Local;
use crate::output::{Output, write_json};
use crate::place::PlaceArguments;

#[derive(Debug, Args)]
#[command(after_help = "\
Always prints JSON, one object a line, document by document. The README says what is in it.
--since goes by the clocks of those who made the changes. Changes that every device makes alike, when \
a document or a text begins, have no time and are left out then.")]
pub(crate) struct AuditArguments {
    /// Only this collection
    pub(crate) collection: Option<String>,
    /// Only changes from then on: 2026-05-01, '2026-05-01 16:10' (UTC), or 30m, 24h, 7d ago
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub(crate) since: Option<Since>,
}

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &AuditArguments,
    output: Output,
) -> Result<ExitCode> {
    let local = Local::open(place).await?;
    if let Some(name) = &arguments.collection {
        local.collection(name)?;
    }
    let is_asked =
        |name: &str| arguments.collection.as_ref().is_none_or(|collection| collection == name);
    let mut out = output.stream();
    let mut unreadable = false;
    for listed in local.space.documents()? {
        if !is_asked(listed.collection.as_str()) {
            continue;
        }
        let collection = local.space.collection(listed.collection.as_str())?;
        // One document at a time is in memory, and one bad document must not hide the others.
        match collection.document_by_id(listed.document).history(usize::MAX).await {
            Ok(changes) => {
                for change in changes.iter().filter(|change| is_since(change, arguments.since)) {
                    write_json(&mut out, &line(&local, &listed, change))?;
                    out.write_all(b"\n")?;
                }
            }
            Err(error) => {
                let name = listed.key.unwrap_or_else(|| listed.document.to_string());
                let error = anyhow::Error::from(error);
                output.error(&error.context(format!("{} {name} is left out", listed.collection)));
                unreadable = true;
            }
        }
    }
    out.flush().context("the audit could not be written")?;
    Ok(if unreadable { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn is_since(change: &HistoryEntry, since: Option<Since>) -> bool {
    since.is_none_or(|Since(since_s)| change.time_s >= since_s)
}

/// One change, as a line of JSON. The keys stand in this order in every line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    space: &'a str,
    collection: &'a str,
    key: Option<&'a str>,
    document: String,
    change: String,
    deps: Vec<String>,
    actor: String,
    author: Value,
    time: Option<String>,
    time_s: i64,
    kind: &'static str,
    merges: bool,
    fields: Vec<Field<'a>>,
    settles: Option<Settles<'a>>,
    undoes: Option<Value>,
}

/// One field that a change wrote. Texts, counters and new containers have no plain values.
#[derive(Debug, Serialize)]
struct Field<'a> {
    field: String,
    wrote: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a [Option<Value>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Option<&'a Value>>,
}

#[derive(Debug, Serialize)]
struct Settles<'a> {
    review: String,
    dismissed: bool,
    why: Option<&'a str>,
}

fn line<'a>(local: &'a Local, listed: &'a Listed, change: &'a HistoryEntry) -> Line<'a> {
    Line {
        space: local.space.name().as_str(),
        collection: listed.collection.as_str(),
        key: listed.key.as_deref(),
        document: listed.document.to_string(),
        change: change.hash.to_string(),
        deps: change.deps.iter().map(ToString::to_string).collect(),
        actor: change.actor.to_string(),
        author: author_json(change.author.as_ref()),
        time: rfc3339(change.time_s),
        time_s: change.time_s,
        kind: kind(change.kind),
        merges: change.merges,
        fields: change.writes.iter().map(field).collect(),
        settles: change.settles.as_ref().map(|Settlement { review, dismissed, why, .. }| Settles {
            review: review.to_string(),
            dismissed: *dismissed,
            why: why.as_deref(),
        }),
        undoes: change.undoes.as_ref().map(undoes_json),
    }
}

fn field(written: &Written) -> Field<'_> {
    let field = written.place.to_string();
    let bare = |wrote| Field { field: field.clone(), wrote, before: None, after: None };
    match &written.wrote {
        Wrote::Value { before, after } => {
            Field { before: Some(before), after: Some(after.as_ref()), ..bare("value") }
        }
        Wrote::Text => bare("text"),
        Wrote::Count => bare("count"),
        Wrote::Container => bare("container"),
    }
}
