//! Commands about one document: get, set, append, add, delete.

use anyhow::{Context, Result, bail};
use rejoin::{Edited, Op, Review};
use serde_json::{Value, json};

use crate::arguments::{
    AddArguments, AppendArguments, DocumentArguments, GetArguments, PlaceArguments, SetArguments,
};
use crate::local::{Local, is_id, named};
use crate::output::{Output, count};
use crate::reviews;
use crate::values::{Assignment, entry_json, new_fields};
use crate::{unfit, view};

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
    let edited = assign(&local, &arguments.document, &arguments.assignments).await?;
    report(&local, &arguments.document, "set", &edited, &before, output).await
}

/// Writes the assignments in one commit.
async fn assign(
    local: &Local,
    document: &DocumentArguments,
    assignments: &[Assignment],
) -> Result<Edited> {
    let collection = local.space.collection(&document.collection)?;
    let handle = named(&collection, &document.key)?;
    let Some(entry) = handle.read().await? else {
        if is_id(&document.key) {
            bail!(
                "there is no document {}; sync first, or give a new one a key of its own",
                document.key
            );
        }
        let fields = new_fields(assignments).context(
            "a new document has nothing to go into yet; set whole maps and lists, as in \
             parts:='[\"valve\"]'",
        )?;
        return Ok(collection.put(&document.key, fields).await?);
    };
    let mut ops: Vec<Op> = assignments.iter().cloned().map(Assignment::into_op).collect();
    if entry.deleted {
        ops.push(Op::Restore);
    }
    Ok(handle.apply(ops).await?)
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

/// Says what an edit came to, how much is now on this device only, and what people have to decide
/// because of it.
pub(crate) async fn report(
    local: &Local,
    document: &DocumentArguments,
    done: &str,
    edited: &Edited,
    before: &[Review],
    output: Output,
) -> Result<()> {
    let DocumentArguments { collection, key } = document;
    let waiting = local.replica.status().waiting;
    let asked = reviews::touched_by(local, edited, before).await?;
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
        let asked = asked.iter().map(|review| view::asked(review, edited.document));
        let unfit = misfits.iter().map(|misfit| format!("! {}", unfit::line(misfit)));
        std::iter::once(done).chain(asked).chain(unfit).collect::<Vec<_>>().join("\n")
    })
}
