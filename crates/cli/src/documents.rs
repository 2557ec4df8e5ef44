//! Commands about one document: get, set, append, add, delete and restore.

use anyhow::{Context, Result, bail};
use clap::Args;
use rejoin::schema::{Rule, Schema};
use rejoin::view::look_up;
use rejoin::{Edited, Entry, Op, Path, Review};
use serde_json::{Value, json};

use crate::history::find;
use crate::local::{Local, is_id, named};
use crate::output::{Output, count};
use crate::place::{DocumentArguments, PlaceArguments};
use crate::questions::{self, is_about_two};
use crate::short::short_id;
use crate::values::{Assignment, DELETED, entry_json, field_path, new_fields};
use crate::{unfit, view};

#[derive(Debug, Args)]
pub(crate) struct GetArguments {
    #[command(flatten)]
    pub(crate) document: DocumentArguments,
    /// With --json, also say how each field stands
    #[arg(long)]
    pub(crate) view: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
FIELD=TEXT   sets a string. FIELD= removes the field; a text or list is emptied.
FIELD:=JSON  sets any value: 5, true, [\"roof\"], {\"$text\": \"two may write here at once\"}, \
{\"$counter\": 0}, \"\" for an empty string, null to remove.
A field may be a path: customer.address.city, parts[0].name. A name with a dot, a comma or an = is printed \
and typed in brackets and quotes: '[\"a.b\"]'.")]
pub(crate) struct SetArguments {
    #[command(flatten)]
    pub(crate) document: DocumentArguments,
    /// What to set; all of it at once, or nothing
    #[arg(required = true, value_name = "FIELD=VALUE")]
    pub(crate) assignments: Vec<Assignment>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
What several people append at once is all kept. The text is taken as it is: end it with a space or \
a line break of your own. A field that is not there yet becomes a text.")]
pub(crate) struct AppendArguments {
    #[command(flatten)]
    pub(crate) document: DocumentArguments,
    /// The field, or a path such as visit.notes
    #[arg(value_parser = field_path)]
    pub(crate) field: Path,
    /// What to add, as it is
    #[arg(allow_hyphen_values = true)]
    pub(crate) text: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
What several people add at once is summed up. A field that is not there yet becomes a counter.")]
pub(crate) struct AddArguments {
    #[command(flatten)]
    pub(crate) document: DocumentArguments,
    /// The field, or a path such as visit.parts_used
    #[arg(value_parser = field_path)]
    pub(crate) field: Path,
    /// How much; negative counts down
    #[arg(allow_negative_numbers = true, value_name = "N")]
    pub(crate) by: i64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Without --at a deletion is taken back; `list --deleted` shows which documents are deleted. With --at the \
document gets the value that it had right after that change, by an ordinary edit: nothing of its history \
goes, and `undo` takes it back.")]
pub(crate) struct RestoreArguments {
    #[command(flatten)]
    pub(crate) document: DocumentArguments,
    /// The change; the first characters of its hash do, as `history` shows them
    #[arg(long, value_name = "HASH")]
    pub(crate) at: Option<String>,
}

pub(crate) async fn get(
    place: &PlaceArguments,
    arguments: &GetArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    let (document, entry) = local.entry(&arguments.document).await?;
    let mut json = entry_json(&entry);
    if output.is_json() {
        if arguments.view {
            json["view"] = view::json(&document.view().await?);
        }
        return output.event(&json);
    }
    let reviews = local.space.reviews().open().await?;
    output.line(view::text(&document.view().await?, &reviews))
}

pub(crate) async fn set(
    place: &PlaceArguments,
    arguments: &SetArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open_or_create(place).await?;
    let before = local.space.reviews().open().await?;
    let (done, edited) = assign(&local, &arguments.document, &arguments.assignments).await?;
    report(&local, &arguments.document, done, &edited, &before, output).await
}

/// Writes all assignments in one commit, and makes the document if there is none. Says what was done.
async fn assign(
    local: &Local,
    document: &DocumentArguments,
    assignments: &[Assignment],
) -> Result<(&'static str, Edited)> {
    let collection = local.space.collection(&document.collection)?;
    let handle = named(&collection, &document.key)?;
    let entry = handle.read().await?;
    let schema = local.space.schema(collection.name()).await?.unwrap_or_default();
    let value = entry.as_ref().map(|entry| &entry.value);
    let assignments = assignments.iter().map(|it| counted(it.clone(), &schema, value));
    let assignments = assignments.collect::<Result<Vec<_>>>()?;
    let Some(entry) = entry else {
        if is_id(&document.key) {
            bail!(
                "there is no document {}; sync first, or give a new one a key of its own",
                document.key
            );
        }
        let fields = new_fields(&assignments).context(
            "a new document has nothing to go into yet; set whole maps and lists, as in \
             parts:='[\"valve\"]'",
        )?;
        return Ok(("set", collection.put(&document.key, fields).await?));
    };
    let mut ops: Vec<Op> = assignments.into_iter().map(Assignment::into_op).collect();
    if entry.deleted {
        ops.push(Op::Restore);
    }
    let done = if entry.deleted { "brought back, and set" } else { "set" };
    Ok((done, handle.apply(ops).await?))
}

/// The same assignment, of a counter where the schema says that the field counts and nothing is there.
fn counted(
    assignment: Assignment,
    schema: &Schema,
    document: Option<&Value>,
) -> Result<Assignment> {
    let Assignment { field, value } = assignment;
    if *schema.rule(&field) != Rule::Counter {
        return Ok(Assignment { field, value });
    }
    let is_there = document.and_then(|value| look_up(value, &field)).is_some();
    let value = match value {
        Some(Value::String(text)) => {
            bail!(
                "{field} is a counter; write `{field}:=NUMBER`, or `rejoin add` for {text:?} more"
            )
        }
        Some(count) if !is_there && count.is_i64() => Some(json!({ "$counter": count })),
        value => value,
    };
    Ok(Assignment { field, value })
}

pub(crate) async fn append(
    place: &PlaceArguments,
    arguments: &AppendArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    let document = local.document(&arguments.document).await?;
    let before = local.space.reviews().open().await?;
    let edited = document.append(&arguments.field, &arguments.text).await?;
    report(&local, &arguments.document, "appended", &edited, &before, output).await
}

pub(crate) async fn add(
    place: &PlaceArguments,
    arguments: &AddArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    let document = local.document(&arguments.document).await?;
    let before = local.space.reviews().open().await?;
    let edited = document.add(&arguments.field, arguments.by).await?;
    report(&local, &arguments.document, "added", &edited, &before, output).await
}

pub(crate) async fn delete(
    place: &PlaceArguments,
    arguments: &DocumentArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    let document = local.document(arguments).await?;
    let before = local.space.reviews().open().await?;
    let edited = document.delete().await.context("the document was not deleted")?;
    report(&local, arguments, "deleted", &edited, &before, output).await
}

pub(crate) async fn restore(
    place: &PlaceArguments,
    arguments: &RestoreArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    let RestoreArguments { document: arguments, at } = arguments;
    if let Some(hash) = at {
        let (document, _) = local.entry_or_deleted(arguments).await?;
        let change = find(&document.history(usize::MAX).await?, hash)?;
        let before = local.space.reviews().open().await?;
        let edited = document.restore(&[change]).await.context("the document is as it was")?;
        return report(&local, arguments, "restored", &edited, &before, output).await;
    }
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
    let edited = document.undelete().await.context("the document was not brought back")?;
    report(&local, arguments, "restored", &edited, &before, output).await
}

/// Prints the outcome of an edit, the number of edits that are on this device only, and the reviews
/// and misfits that came of it.
async fn report(
    local: &Local,
    document: &DocumentArguments,
    done: &str,
    edited: &Edited,
    before: &[Review],
    output: Output,
) -> Result<()> {
    let DocumentArguments { collection, key } = document;
    let waiting = local.replica.status().waiting;
    let asked = touched_by(local, edited, before).await?;
    let misfits =
        local.space.collection(collection)?.document_by_id(edited.document).misfits().await?;
    let heads: Vec<_> = edited.heads.iter().map(ToString::to_string).collect();
    let json = json!({
        "collection": collection,
        "key": key,
        "id": edited.document.to_string(),
        "created": edited.created,
        "changed": edited.changed(),
        "heads": heads,
        "waiting": waiting,
        "reviews": Value::from_iter(asked.iter().map(|review| review.to_json())),
        "unfit": unfit::misfits_json(&misfits),
    });
    output.result(&json, || {
        let done = match edited.created {
            true => "created",
            false if !edited.changed() => "unchanged",
            false => done,
        };
        let waiting = count(waiting, "edit");
        let done =
            format!("{collection} {key}: {done}; on this device, {waiting} to send to a relay");
        let asked = asked.iter().map(|review| {
            let is_new = before.iter().all(|known| known.id != review.id);
            questions::asked(review, edited.document, is_new)
        });
        let unfit = misfits.iter().map(|misfit| format!("! {}", unfit::line(misfit)));
        std::iter::once(done).chain(asked).chain(unfit).collect::<Vec<_>>().join("\n")
    })
}

/// The open reviews that an edit takes part in: it wrote one of the candidates, or the document has
/// got in the way of another one since. `before` are the reviews that were open before the edit.
async fn touched_by(local: &Local, edited: &Edited, before: &[Review]) -> Result<Vec<Review>> {
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
