//! `rejoin list --deleted` and `restore`: documents that were deleted, and the way back.

use anyhow::{Context, Result, bail};
use rejoin::{Candidate, Collection, EditError, Entry};
use serde_json::{Value, json};

use crate::arguments::{DocumentArguments, ListArguments, PlaceArguments};
use crate::clock::clock;
use crate::documents::report;
use crate::identity::{author_json, person};
use crate::layout::{Table, width};
use crate::list::{fields_of, having, table};
use crate::local::{DELETED, Local, named};
use crate::output::{Output, count};
use crate::reviews::short_id;
use crate::values::entry_json;

/// The deleted documents of a collection with what they held, who deleted them and when.
pub(crate) async fn list(
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
            // `rejoin doctor` tells of it, and the others are listed all the same.
            Err(EditError::Unreadable { .. }) => None,
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

/// A table of when and by whom each was deleted, and of as many fields as fit beside.
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

pub(crate) async fn restore(
    place: &PlaceArguments,
    arguments: &DocumentArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    let DocumentArguments { collection: name, key } = arguments;
    let document = named(&local.collection(name)?, key)?;
    let held: Option<Entry> = document.read().await?;
    let Some(held) = held else {
        bail!(
            "there is no document {key:?} in {name}; `rejoin list {name} --deleted` shows what can \
             be brought back"
        );
    };
    let before = local.space.reviews().open().await?;
    if !held.deleted {
        let is_asked = before.iter().find(|review| {
            let names = review.documents.iter().any(|named| named.document == document.id());
            names && review.field == DELETED
        });
        match is_asked {
            Some(review) => bail!(
                "whether {name} {key:?} is deleted is not agreed; `rejoin review {}` shows who \
                 wrote what",
                short_id(&review.id)
            ),
            None => bail!("{name} {key:?} is not deleted; `rejoin get {name} {key}` shows it"),
        }
    }
    let edited = document.restore().await.context("the document was not brought back")?;
    report(&local, arguments, "restored", &edited, &before, output).await
}
