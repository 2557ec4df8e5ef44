//! `rejoin watch`: prints changes as they come.

use anyhow::Result;
use clap::Args;
use rejoin::view::shown;
use rejoin::{Collection, DocumentChanged, Status, WatchEvent};
use serde_json::{Value, json};

use crate::caller::interrupted;
use crate::layout::one_line;
use crate::local::Local;
use crate::output::Output;
use crate::place::PlaceArguments;
use crate::sign_in::SignInArguments;
use crate::sync_status::{StatusLine, status_json};
use crate::values::field;

#[derive(Debug, Args)]
#[command(after_help = "\
Shows what others send and what commands beside this one change. When the process that has the replica \
open ends, this goes on by itself and says `watching` again: list then what may have changed meanwhile.")]
pub(crate) struct WatchArguments {
    /// A kind of document, such as jobs
    pub(crate) collection: String,
    /// Sync with this relay meanwhile
    #[arg(long, value_name = "URL")]
    pub(crate) connect: Option<String>,
    #[command(flatten)]
    pub(crate) sign_in: SignInArguments,
}

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &WatchArguments,
    output: Output,
) -> Result<()> {
    let mut local = match &arguments.connect {
        // A device that only watches begins with an empty replica.
        Some(_) => Local::open_or_create(place).await?,
        None => Local::open(place).await?,
    };
    let collection = local.space.collection(&arguments.collection)?;
    let watcher = collection.watch().await?;
    match &arguments.connect {
        Some(url) => local.connect(url, &arguments.sign_in).await?,
        None if local.is_connected().await => {}
        None => output.note("not connected: only edits made here will come; give --connect URL"),
    }
    output.note(&format!("watching {}; Ctrl-C ends", arguments.collection));
    if output.is_json() {
        output.event(&json!({ "event": "watching", "collection": arguments.collection }))?;
    }
    let shown = tokio::select! {
        shown = show_all(&local, &collection, watcher, output) => shown,
        interrupted = interrupted() => Ok(interrupted?),
    };
    local.close().await;
    shown
}

async fn show_all(
    local: &Local,
    collection: &Collection,
    mut watcher: rejoin::Watcher,
    output: Output,
) -> Result<()> {
    let mut shown = None;
    loop {
        let last = shown.clone();
        tokio::select! {
            event = watcher.next() => match event {
                Some(event) => show(collection, event, output).await?,
                None => return Ok(()),
            },
            status = local.replica.status_when(|status| Some(StatusLine::of(status)) != last) => {
                let status = status?;
                shown = Some(StatusLine::of(&status));
                show_status(&status, output)?;
            }
        }
    }
}

fn show_status(status: &Status, output: Output) -> Result<()> {
    if !output.is_json() {
        output.note(&StatusLine::of(status).to_string());
        return Ok(());
    }
    let mut event = status_json(status);
    event["event"] = Value::from("status");
    output.event(&event)
}

async fn show(collection: &Collection, event: WatchEvent, output: Output) -> Result<()> {
    let change = match event {
        WatchEvent::Changed(change) => change,
        WatchEvent::ReadAgain => {
            let text = "more changed than can be told; `rejoin list` has it all";
            return output.result(&json!({ "event": "read_again" }), || text.to_owned());
        }
        WatchEvent::Presence(_) => return Ok(()),
    };
    let entry = collection.document_by_id(change.document).read().await?;
    let value = entry.map(|entry| entry.value).unwrap_or_default();
    let heads: Vec<_> = change.heads.iter().map(ToString::to_string).collect();
    let json = json!({
        "event": "changed",
        "key": change.key,
        "id": change.document.to_string(),
        "fields": Value::from_iter(change.fields.iter().map(|name| field(name))),
        "local": change.local,
        "remote": change.remote,
        "deleted": change.deleted,
        "heads": heads,
        "value": value,
    });
    output.result(&json, || text(&change, &value))
}

fn text(change: &DocumentChanged, value: &Value) -> String {
    let key = change.key.clone().unwrap_or_else(|| change.document.to_string());
    let key = one_line(&key);
    if change.deleted {
        return format!("{key}: deleted");
    }
    let reads = |name: &String| match (field(name), value.get(name)) {
        (field, Some(now)) => one_line(&format!("{field}={}", shown(now))),
        (field, None) => format!("{field} removed"),
    };
    let fields: Vec<_> = change.fields.iter().map(reads).collect();
    let origin = if change.remote { "" } else { " (here)" };
    format!(
        "{key}: {}{origin}",
        if fields.is_empty() { "changed".into() } else { fields.join(", ") }
    )
}
