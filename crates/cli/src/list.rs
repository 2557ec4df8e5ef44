//! `rejoin list`: documents as a table.

mod deleted;
mod fields;
mod unfit;

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use rejoin::{DocumentId, Entry};
use serde_json::Value;

use crate::layout::width;
use crate::local::Local;
use crate::output::{Output, count};
use crate::place::PlaceArguments;
use crate::values::{Condition, Fields, entry_json};
use fields::{fields_of, table};

#[derive(Debug, Args)]
#[command(after_help = "\
Shows the fields that fit the width of the terminal (COLUMNS overrides it): a status first, then \
those that most documents have and that tell them apart. A pipe or a file gets whole values, in \
lines of any length. --json prints everything.")]
pub(crate) struct ListArguments {
    /// A kind of document, such as jobs
    pub(crate) collection: String,
    /// Only documents with this value in this field, written as `get` shows it; repeat for more
    #[arg(long = "where", value_name = "FIELD=VALUE")]
    pub(crate) conditions: Vec<Condition>,
    /// Show these fields
    #[arg(long, value_name = "FIELD,...")]
    pub(crate) fields: Vec<Fields>,
    /// Show those that were deleted instead, and by whom and when
    #[arg(long)]
    pub(crate) deleted: bool,
    /// Show what does not fit the schema instead
    #[arg(long, conflicts_with_all = ["deleted", "conditions", "fields"])]
    pub(crate) unfit: bool,
}

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &ListArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open(place).await?;
    let collection = local.collection(&arguments.collection)?;
    local.caught_up(output).await?;
    if arguments.unfit {
        return unfit::list(&collection, output).await;
    }
    if arguments.deleted {
        return deleted::list(&collection, arguments, output).await;
    }
    let met = |entry: &Entry| arguments.conditions.iter().all(|condition| condition.is_met(entry));
    let mut entries = collection.filter(met).await?;
    entries.sort_by(|one, other| one.key.cmp(&other.key));
    if output.is_json() {
        return output.event(&Value::from_iter(entries.iter().map(entry_json)));
    }
    if entries.is_empty() {
        return output.line(format!("no documents{}", having(arguments)));
    }
    let fields = fields_of(&entries, arguments, width());
    let open = local.space.reviews().open().await?;
    let asked: BTreeSet<DocumentId> =
        open.iter().flat_map(|review| &review.documents).map(|named| named.document).collect();
    let unfit: BTreeSet<DocumentId> =
        collection.unfit().await?.iter().map(|unfit| unfit.document).collect();
    let rows = entries.iter().map(|entry| {
        let mark = match (asked.contains(&entry.document), unfit.contains(&entry.document)) {
            (true, true) => " *!",
            (true, false) => " *",
            (false, true) => " !",
            (false, false) => "",
        };
        (entry, mark, Vec::new())
    });
    output.line(table(&[], &fields, rows).fit(width()))?;
    let marked = entries.iter().filter(|entry| asked.contains(&entry.document)).count();
    let reviews = match marked {
        0 => String::new(),
        _ => format!(", {marked} with open reviews (*)"),
    };
    let misfits = match entries.iter().filter(|entry| unfit.contains(&entry.document)).count() {
        0 => String::new(),
        some => format!(", {some} not fitting the schema (!; --unfit tells what)"),
    };
    let documents = count(entries.len() as u64, "document");
    output.line(format!("{documents}{}{reviews}{misfits}", having(arguments)))
}

/// The words behind a count of documents, if these had to meet conditions.
fn having(arguments: &ListArguments) -> &'static str {
    if arguments.conditions.is_empty() { "" } else { " match" }
}
