//! Commands about one document: get, set, append, add, delete.

use anyhow::{Context, Result};
use rejoin::{Edited, Op};
use serde_json::{Value, json};

use crate::arguments::{
    AddArguments, AppendArguments, DocumentArguments, PlaceArguments, SetArguments,
};
use crate::local::{DELETED, Local, is_deleted};
use crate::output::{Output, count};
use crate::values::{Assignment, entry_json, new_fields, plain};

pub(crate) async fn get(
    place: &PlaceArguments,
    arguments: &DocumentArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    let (_, entry) = local.entry(arguments).await?;
    output.result(&entry_json(&entry), || fields(&entry.value))
}

/// One line for each field; what does not fit in a line stands below its name.
fn fields(value: &Value) -> String {
    let Some(fields) = value.as_object() else { return value.to_string() };
    let width = fields.keys().map(|name| console::measure_text_width(name)).max().unwrap_or(0);
    let lines = fields.iter().map(|(name, value)| {
        let text = match value {
            Value::Object(_) | Value::Array(_) => {
                serde_json::to_string_pretty(value).unwrap_or_default()
            }
            value => plain(value).into_owned(),
        };
        let name = console::pad_str(name, width, console::Alignment::Left, None);
        let text = text.trim_end().replace('\n', &format!("\n{:width$}  ", ""));
        format!("{name}  {text}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

pub(crate) async fn set(
    place: &PlaceArguments,
    arguments: &SetArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open_or_create(place).await?;
    let edited = assign(&local, &arguments.document, &arguments.assignments).await?;
    report(&local, &arguments.document, "set", &edited, output)
}

/// Writes the assignments in one commit.
async fn assign(
    local: &Local,
    document: &DocumentArguments,
    assignments: &[Assignment],
) -> Result<Edited> {
    let collection = local.space.collection(&document.collection)?;
    let handle = collection.document(&document.key)?;
    let Some(entry) = handle.read().await? else {
        let fields = new_fields(assignments).context(
            "a new document has nothing to go into yet; set whole maps and lists, as in \
             parts:='[\"valve\"]'",
        )?;
        return Ok(collection.put(&document.key, fields).await?);
    };
    let mut ops: Vec<Op> = assignments.iter().cloned().map(Assignment::into_op).collect();
    if is_deleted(&entry) {
        ops.push(Op::Remove { path: DELETED.into() });
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
    let edited = document.append(&arguments.field, &arguments.text).await?;
    report(&local, &arguments.document, "appended", &edited, output)
}

pub(crate) async fn add(
    place: &PlaceArguments,
    arguments: &AddArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    let document = local.document(&arguments.document).await?;
    let edited = document.add(&arguments.field, arguments.by).await?;
    report(&local, &arguments.document, "added", &edited, output)
}

pub(crate) async fn delete(
    place: &PlaceArguments,
    arguments: &DocumentArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    let document = local.document(arguments).await?;
    let edited = document.delete().await.context("the document was not deleted")?;
    report(&local, arguments, "deleted", &edited, output)
}

/// Says what an edit came to, and how much is now on this device only.
fn report(
    local: &Local,
    document: &DocumentArguments,
    done: &str,
    edited: &Edited,
    output: Output,
) -> Result<()> {
    let DocumentArguments { collection, key } = document;
    let waiting = local.replica.status().waiting;
    let heads: Vec<_> = edited.heads.iter().map(ToString::to_string).collect();
    let json = json!({
        "collection": collection,
        "key": key,
        "id": edited.document.to_string(),
        "created": edited.created,
        "changed": edited.changed(),
        "heads": heads,
        "waiting": waiting,
    });
    output.result(&json, || {
        let done = match edited {
            Edited { created: true, .. } => "created",
            edited if !edited.changed() => "unchanged",
            _ => done,
        };
        let waiting = count(waiting, "edit");
        format!("{collection} {key}: {done}; on this device, {waiting} to send to a relay")
    })
}
