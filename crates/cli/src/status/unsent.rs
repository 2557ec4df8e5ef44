//! `rejoin status --unsent`: the edits that wait for a relay.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use rejoin::history::{HistoryEntry, Kind};
use rejoin::sync::Unsent;
use rejoin::{Document, Entry, ReadError};
use serde_json::{Value, json};

use crate::change;
use crate::clock::clock;
use crate::identity::{author_json, person};
use crate::layout::{Table, one_line, width};
use crate::local::Local;
use crate::output::{Output, Text, count, write_json};
use crate::place::PlaceArguments;
use crate::refused;
use crate::values::DELETED;

pub(crate) async fn run(place: &PlaceArguments, output: Output) -> Result<()> {
    let local = Local::open(place).await?;
    let unsent = local.replica.unsent()?;
    if output.is_json() {
        return json(&local, &unsent, output).await;
    }
    if unsent.is_empty() {
        let refused = refused::open(&local.replica)?;
        let is_all = local.replica.set_aside()?.iter().all(|it| it.made_anew);
        return output.line(match refused.is_empty() {
            true if is_all => "nothing waits: a relay holds every edit made here".to_owned(),
            true => "nothing waits".to_owned(),
            false => format!(
                "nothing waits; a relay refused {}, which `rejoin status` lists",
                refused::what(&refused)
            ),
        });
    }
    let mut table = Table::new(["collection", "key", "what", "last edit", "by"]).keeping(2);
    for unsent in unsent.iter().take(SHOWN_MAX) {
        let waiting = Waiting::of(&local, unsent).await?;
        let of_another = unsent.space != *local.space.name();
        let space = if of_another { format!("{}/", unsent.space) } else { String::new() };
        let key = unsent.key.clone().unwrap_or_else(|| unsent.document.to_string());
        table.row([
            format!("{space}{}", unsent.collection),
            key,
            waiting.what(unsent) + &held(unsent),
            clock(unsent.edited_at_s),
            waiting.people(),
        ]);
    }
    let mut lines = vec![table.fit(width())];
    if let Some(more) = unsent.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
        lines.push(format!("... and {more} more; --json lists them all").into());
    }
    let edits = count(unsent.iter().map(|unsent| unsent.edits).sum::<u64>(), "edit");
    let documents = count(unsent.len(), "document");
    lines.push(format!("{edits} of {documents} to send; `rejoin sync` sends them").into());
    output.line(Text::lines(lines))
}

/// Whom the edits of a document wait for, if that is not who is signed in.
fn held(unsent: &Unsent) -> String {
    let user = unsent.held_for.as_ref();
    user.map_or_else(String::new, |user| format!(" (waits for {})", one_line(user)))
}

/// Prints a JSON array with one document a line. One document at a time is in memory.
async fn json(local: &Local, unsent: &[Unsent], output: Output) -> Result<()> {
    let mut out = output.stream();
    let mut start = "[\n";
    for unsent in unsent {
        let waiting = Waiting::of(local, unsent).await?;
        out.write_all(start.as_bytes())?;
        start = ",\n";
        write_json(&mut out, &waiting.json(unsent))?;
    }
    out.write_all(if start == "[\n" { b"[]\n" } else { b"\n]\n" })?;
    Ok(out.flush()?)
}

/// The edits of one document that wait for a relay.
struct Waiting {
    /// The waiting changes that are edits. The others, which every device would make alike, tell a
    /// person nothing.
    changes: Vec<HistoryEntry>,
    deleted: bool,
}

impl Waiting {
    async fn of(local: &Local, unsent: &Unsent) -> Result<Self> {
        let space = local.replica.space(unsent.space.as_str())?;
        let collection = space.collection(unsent.collection.as_str())?;
        let document: Document = collection.document_by_id(unsent.document);
        let mut changes = match document.unsent().await {
            // `rejoin doctor` tells of an unreadable document, and the others are listed all the
            // same.
            Err(ReadError::Unreadable { .. }) => Vec::new(),
            changes => changes?,
        };
        changes.retain(|change| change.kind == Kind::Edit);
        let entry: Option<Entry> = document.read().await?;
        Ok(Self { changes, deleted: entry.is_some_and(|entry| entry.deleted) })
    }

    fn fields(&self) -> BTreeSet<String> {
        self.changes.iter().flat_map(change::fields).collect()
    }

    /// The edits in words: that the document was made, that it was deleted or brought back, and which
    /// fields were written of a document that a relay knows.
    fn what(&self, unsent: &Unsent) -> String {
        let mut fields = self.fields();
        let mut what = Vec::new();
        if unsent.created {
            what.push("created".to_owned());
        }
        match (fields.remove(DELETED), self.deleted) {
            (true, true) => what.push("deleted".to_owned()),
            (true, false) if !unsent.created => what.push("restored".to_owned()),
            _ => {}
        }
        if !unsent.created {
            what.extend(fields);
        }
        what.join(", ")
    }

    fn people(&self) -> String {
        let people = self.changes.iter().filter_map(|change| change.author.as_ref());
        let people: BTreeSet<_> = people.map(|author| person(Some(author))).collect();
        people.into_iter().collect::<Vec<_>>().join(", ")
    }

    fn json(&self, unsent: &Unsent) -> Value {
        let changes = self.changes.iter().map(|change| {
            json!({
                "change": change.hash.to_string(),
                "fields": change::fields(change),
                "author": author_json(change.author.as_ref()),
                "time_s": change.time_s,
            })
        });
        json!({
            "space": unsent.space.as_str(),
            "collection": unsent.collection.as_str(),
            "key": unsent.key,
            "id": unsent.document.to_string(),
            "edits": unsent.edits,
            "edited_at_s": unsent.edited_at_s,
            "created": unsent.created,
            "held_for": unsent.held_for,
            "deleted": self.deleted,
            "fields": self.fields(),
            "changes": Value::from_iter(changes),
        })
    }
}

/// How many documents a person is shown. Each has to be loaded, and nobody reads more.
const SHOWN_MAX: usize = 50;
