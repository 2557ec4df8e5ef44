//! `rejoin list --deleted`: the documents of a collection that were deleted, with the time and the
//! author of each deletion.

use anyhow::Result;
use rejoin::history::Candidate;
use rejoin::{Collection, Entry, ReadError};
use serde_json::{Value, json};

use super::fields::{fields_of, table};
use super::{ListArguments, having};
use crate::clock::clock;
use crate::identity::{author_json, person};
use crate::layout::{Table, width};
use crate::output::{Output, count};
use crate::values::{DELETED, entry_json};

/// Prints the deleted documents of a collection: the content of each, and the author and the time of
/// its deletion.
pub(super) async fn list(
    collection: &Collection,
    arguments: &ListArguments,
    output: Output,
) -> Result<()> {
    let mut entries = collection.deleted().await?;
    entries.retain(|entry| arguments.conditions.iter().all(|condition| condition.is_met(entry)));
    entries.sort_by(|one, other| one.key.cmp(&other.key));
    let mut deletions = Vec::with_capacity(entries.len());
    for entry in &entries {
        let deletion = match collection.document_by_id(entry.document).deletion().await {
            // `rejoin doctor` tells of an unreadable document, and the others are listed all the
            // same.
            Err(ReadError::Unreadable { .. }) => None,
            deletion => deletion?,
        };
        deletions.push(deletion);
    }
    if output.is_json() {
        let each = entries.iter().zip(&deletions).map(|(entry, deletion)| {
            let mut json = entry_json(entry);
            json["deleted"] = deletion.as_ref().map_or(Value::Null, deletion_json);
            json
        });
        return output.event(&Value::from_iter(each));
    }
    if entries.is_empty() {
        return output.line(format!("no deleted documents{}", having(arguments)));
    }
    output.line(shown(entries, &deletions, arguments).fit(width()))?;
    let documents = count(deletions.len(), "deleted document");
    let name = &arguments.collection;
    output.line(format!(
        "{documents}{}; `rejoin restore {name} KEY` brings one back",
        having(arguments)
    ))
}

/// A table with the time and the author of each deletion, and with as many fields of the documents as
/// fit beside them.
fn shown(
    mut entries: Vec<Entry>,
    deletions: &[Option<Candidate>],
    arguments: &ListArguments,
) -> Table {
    for fields in entries.iter_mut().filter_map(|entry| entry.value.as_object_mut()) {
        fields.remove(DELETED);
    }
    let when_and_who = |deletion: &Option<Candidate>| {
        let deletion = deletion.as_ref();
        let when = deletion.map(|deletion| clock(deletion.time_s)).unwrap_or_default();
        let author = deletion.and_then(|deletion| deletion.author.as_ref());
        vec![when, author.map(|author| person(Some(author))).unwrap_or_default()]
    };
    let more: Vec<_> = deletions.iter().map(when_and_who).collect();
    let cells = |cells: &Vec<String>| cells.iter().map(|cell| cell.chars().count() + 2).sum();
    let taken = more.iter().map(cells).max().unwrap_or(0);
    let fields = fields_of(&entries, arguments, width().saturating_sub(taken));
    let rows = entries.iter().zip(more).map(|(entry, more)| (entry, "", more));
    table(&["deleted", "by"], &fields, rows)
}

fn deletion_json(deletion: &Candidate) -> Value {
    json!({
        "author": author_json(deletion.author.as_ref()),
        "time_s": deletion.time_s,
        "change": deletion.change.to_string(),
    })
}
