//! `rejoin history`: the changes that made a document, newest last.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;
use rejoin::history::{HistoryEntry, Kind, Settlement, ShortHash, Undo};
use rejoin::{ChangeHash, Document};
use serde_json::{Value, json};

use crate::change::{fields, kind};
use crate::clock::clock;
use crate::identity::author_json;
use crate::layout::{Table, width};
use crate::local::Local;
use crate::output::Output;
use crate::place::{DocumentArguments, PlaceArguments};
use crate::short::{short, short_hash, short_id};

#[derive(Debug, Args)]
pub(crate) struct HistoryArguments {
    #[command(flatten)]
    pub(crate) document: DocumentArguments,
    /// Show the document as it was right after this change; the first characters of its hash do
    #[arg(long, value_name = "HASH")]
    pub(crate) at: Option<String>,
    /// How many changes to show, the newest
    #[arg(long, value_name = "N", default_value_t = 50, conflicts_with = "at")]
    pub(crate) last: usize,
}

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &HistoryArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    let (document, _) = local.entry_or_deleted(&arguments.document).await?;
    match &arguments.at {
        Some(hash) => show_at(&document, hash, output).await,
        None => show(&document, arguments.last, output).await,
    }
}

async fn show(document: &Document, last: usize, output: Output) -> Result<()> {
    let changes = document.history(last).await?;
    // Whether a change made something again depends on what it took back, which may be older.
    let mut undos = BTreeMap::new();
    if changes.iter().any(|change| change.undoes.is_some()) {
        document
            .history(usize::MAX)
            .await?
            .iter()
            .for_each(|change| drop(what(change, &mut undos)));
    }
    output.result(&Value::from_iter(changes.iter().map(change_json)), || {
        let mut table = Table::new(["time", "change", "what", "by", "fields"]).keeping(3);
        for change in &changes {
            let mut fields = fields(change).join(", ");
            if let Some(why) = change.settles.as_ref().and_then(|settles| settles.why.as_ref()) {
                fields += &format!(": {why}");
            }
            let hash = short_hash(&change.hash);
            let what = what(change, &mut undos);
            table.row([clock(change.time_s), hash, what, by(change), fields]);
        }
        table.fit(width())
    })
}

async fn show_at(document: &Document, hash: &str, output: Output) -> Result<()> {
    let change = find(&document.history(usize::MAX).await?, hash)?;
    let value = document.value_at(&[change]).await?;
    output.result(&json!({ "at": change.to_string(), "value": value }), || {
        serde_json::to_string_pretty(&value).unwrap_or_default()
    })
}

/// The one change whose hash begins like this.
pub(crate) fn find(changes: &[HistoryEntry], prefix: &str) -> Result<ChangeHash> {
    let prefix = prefix.to_ascii_lowercase();
    let mut found = changes.iter().filter(|change| change.hash.to_string().starts_with(&prefix));
    match (found.next(), found.next()) {
        (Some(change), None) => Ok(change.hash),
        (Some(_), Some(_)) => bail!("several changes begin with {prefix:?}; give more characters"),
        (None, _) => {
            bail!("no change of this document begins with {prefix:?}; see `rejoin history`")
        }
    }
}

/// The author of a change if it names one, or else the process on a device that made it.
fn by(change: &HistoryEntry) -> String {
    match (change.kind, &change.author) {
        (Kind::Edit, Some(author)) => author.to_string(),
        (Kind::Edit, None) => short(&change.actor.to_string(), ACTOR_SHOWN),
        // Every device would make these changes alike, so nobody is their author.
        (Kind::Genesis | Kind::Birth, _) => "-".to_owned(),
    }
}

/// The kind of a change. `undos` are the changes before it that took others back, and whether each was an
/// undo; whoever takes an undo back makes again what it undid.
fn what(change: &HistoryEntry, undos: &mut BTreeMap<ShortHash, bool>) -> String {
    if let Some(undo) = &change.undoes {
        let is_redo = undo.undoes.iter().any(|hash| undos.get(hash) == Some(&true));
        undos.insert(change.hash.short(), !is_redo);
        return match &undo.reopens {
            Some(review) => format!("reopens {}", short_id(review)),
            None if is_redo => "redo".to_owned(),
            None => "undo".to_owned(),
        };
    }
    let Some(Settlement { review, dismissed, .. }) = &change.settles else {
        return if change.merges { "merge" } else { kind(change.kind) }.to_owned();
    };
    let verb = if *dismissed { "dismisses" } else { "settles" };
    format!("{verb} {}", short_id(review))
}

fn change_json(change: &HistoryEntry) -> Value {
    let settles = change.settles.as_ref().map(|Settlement { review, dismissed, why, .. }| {
        json!({ "review": review.to_string(), "dismissed": dismissed, "why": why })
    });
    let deps: Vec<_> = change.deps.iter().map(ToString::to_string).collect();
    json!({
        "hash": change.hash.to_string(),
        "deps": deps,
        "actor": change.actor.to_string(),
        "author": author_json(change.author.as_ref()),
        "time_s": change.time_s,
        "kind": kind(change.kind),
        "merges": change.merges,
        "fields": fields(change),
        "settles": settles,
        "undoes": change.undoes.as_ref().map(undoes_json),
    })
}

/// The changes that a change takes back, by the first 8 bytes of their hashes, and the review that is open
/// again by it.
pub(crate) fn undoes_json(undo: &Undo) -> Value {
    let changes: Vec<_> = undo.undoes.iter().map(ToString::to_string).collect();
    json!({ "changes": changes, "reopens": undo.reopens.map(|review| review.to_string()) })
}

/// Characters of an actor that are shown: enough to tell devices apart.
const ACTOR_SHOWN: usize = 8;
