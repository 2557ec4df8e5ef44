//! `rejoin export`: prints every document of a collection, and holds one of them in memory at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use csv::Writer;
use rejoin::view::{printable, shown, spreadsheet_safe};
use rejoin::{Collection, DocumentId, Entry};
use serde_json::Value;

use crate::caller::Terminal;
use crate::csv_marks::{BOM, DISPUTED, JSON, KEY};
use crate::local::Local;
use crate::output::{Output, write_json};
use crate::place::PlaceArguments;
use crate::values::entry_json;

#[derive(Debug, Args)]
#[command(after_help = "\
json: an array with one document a line, each {\"key\", \"id\", \"value\"}.
csv: one column for every field that any document has. If a field holds each document's key, that \
is the first column; otherwise the first is _key, with the id of documents that have no key. Fields \
that hold something else than text anywhere are JSON, in a column called NAME:json. _disputed names \
the fields of a document that are under review, if any document has some. `rejoin import` takes it \
back with the first column as --key, and changes nothing.
Documents come in the order of their ids, which is the same on every replica.")]
pub(crate) struct ExportArguments {
    /// A kind of document, such as jobs
    pub(crate) collection: String,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub(crate) format: Format,
    /// CSV that spreadsheets open right: marked as UTF-8, and with a ' before what they would take for a
    /// formula
    #[arg(long, conflicts_with = "json")]
    pub(crate) for_spreadsheets: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Json,
    Csv,
}

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &ExportArguments,
    output: Output,
) -> Result<()> {
    let is_csv = arguments.format == Format::Csv || arguments.for_spreadsheets;
    if output.is_json() && is_csv {
        bail!("--json and --format csv contradict each other; give one of them");
    }
    let local = Local::open(place).await?;
    let collection = local.collection(&arguments.collection)?;
    local.caught_up(output).await?;
    match is_csv {
        false => json(&collection, output).await,
        true => csv(&local, &collection, arguments, output).await,
    }
}

/// Prints a JSON array with one document a line.
async fn json(collection: &Collection, output: Output) -> Result<()> {
    let mut out = output.stream();
    let mut start = "[\n";
    each(collection, |entry| {
        out.write_all(start.as_bytes())?;
        start = ",\n";
        Ok(write_json(&mut out, &entry_json(entry))?)
    })
    .await?;
    out.write_all(if start == "[\n" { b"[]\n" } else { b"\n]\n" })?;
    Ok(out.flush()?)
}

/// Prints CSV in two passes, as the header is known only when every document was looked at. A file
/// gets all values as they are, and a terminal gets them without characters that it cannot show.
async fn csv(
    local: &Local,
    collection: &Collection,
    arguments: &ExportArguments,
    output: Output,
) -> Result<()> {
    let disputed = disputed(local).await?;
    let mut columns = Columns::default();
    each(collection, |entry| {
        columns.see(entry);
        columns.disputed |= disputed.contains_key(&entry.document);
        Ok(())
    })
    .await?;
    let for_spreadsheets = arguments.for_spreadsheets;
    let is_seen = Terminal::current().is_terminal;
    let cell = |text: &str| -> Vec<u8> {
        let text = if for_spreadsheets { spreadsheet_safe(text) } else { Cow::Borrowed(text) };
        let text = if is_seen { printable(&text) } else { text };
        text.as_bytes().to_vec()
    };
    let mut out = output.stream();
    if for_spreadsheets {
        out.write_all(BOM)?;
    }
    let mut writer = Writer::from_writer(out);
    let columns = columns.in_order();
    let named = columns.fields.iter().map(|(name, is_json)| match is_json {
        true => format!("{name}{JSON}"),
        false => name.clone(),
    });
    let first = columns.key.clone().unwrap_or_else(|| KEY.to_owned());
    let last = columns.disputed.then(|| DISPUTED.to_owned());
    let header = std::iter::once(first).chain(named).chain(last);
    writer.write_record(header.map(|name| cell(&name)))?;
    each(collection, |entry| {
        let key = entry.key.clone().unwrap_or_else(|| entry.document.to_string());
        writer.write_field(cell(&key))?;
        for (name, is_json) in &columns.fields {
            let text = match entry.value.get(name) {
                None | Some(Value::Null) => Cow::Borrowed(""),
                Some(value) if *is_json => Cow::Owned(value.to_string()),
                Some(value) => shown(value),
            };
            writer.write_field(cell(&text))?;
        }
        if columns.disputed {
            let fields = disputed.get(&entry.document).map(|fields| fields.join(", "));
            writer.write_field(cell(&fields.unwrap_or_default()))?;
        }
        Ok(writer.write_record(None::<&[u8]>)?)
    })
    .await?;
    Ok(writer.flush()?)
}

/// The fields that are under review, of each document that has some.
async fn disputed(local: &Local) -> Result<BTreeMap<DocumentId, Vec<String>>> {
    let mut disputed: BTreeMap<DocumentId, Vec<String>> = BTreeMap::new();
    for review in local.space.reviews().open().await? {
        for named in &review.documents {
            let fields = disputed.entry(named.document).or_default();
            if !fields.contains(&review.field) {
                fields.push(review.field.clone());
            }
        }
    }
    Ok(disputed)
}

/// Hands the documents of a collection to `take`, one after the other, and keeps none.
async fn each(collection: &Collection, mut take: impl FnMut(&Entry) -> Result<()>) -> Result<()> {
    let mut failed = None;
    let visit = |entry: &Entry| {
        if failed.is_none() {
            failed = take(entry).err();
        }
        false
    };
    collection.filter(visit).await?;
    failed.map_or(Ok(()), Err)
}

/// The findings about the columns after looking at documents.
#[derive(Debug, Default)]
struct Columns {
    documents: u64,
    /// Every field, and whether a document holds a value in it that text alone does not tell apart
    /// from others.
    names: BTreeMap<String, bool>,
    /// Fields that hold the document's own key, and in how many documents they do.
    keys: BTreeMap<String, u64>,
    /// Whether a document has fields under review.
    disputed: bool,
}

/// The columns of a file.
#[derive(Debug, PartialEq)]
struct InOrder {
    /// The field that is every document's key, if there is one.
    key: Option<String>,
    /// The other fields, and whether their cells are JSON.
    fields: Vec<(String, bool)>,
    disputed: bool,
}

impl Columns {
    fn see(&mut self, entry: &Entry) {
        self.documents += 1;
        for (name, value) in entry.value.as_object().into_iter().flatten() {
            // An empty cell stands for an absent field, so an empty text is written as JSON.
            let is_text = value.is_null() || value.as_str().is_some_and(|text| !text.is_empty());
            match self.names.get_mut(name) {
                Some(is_json) => *is_json |= !is_text,
                None => drop(self.names.insert(name.clone(), !is_text || is_special(name))),
            }
            if entry.key.as_deref().is_some_and(|key| value.as_str() == Some(key)) {
                *self.keys.entry(name.clone()).or_default() += 1;
            }
        }
    }

    fn in_order(mut self) -> InOrder {
        let is_key =
            |(name, documents): &(String, u64)| *documents == self.documents && !is_special(name);
        let key = self.keys.into_iter().find(is_key).map(|(name, _)| name);
        if let Some(key) = &key {
            self.names.remove(key);
        }
        InOrder { key, fields: self.names.into_iter().collect(), disputed: self.disputed }
    }
}

/// Whether an import would give a column of this name another meaning than that of a field.
fn is_special(name: &str) -> bool {
    name == KEY || name == DISPUTED || name.ends_with(JSON)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn order(values: &[(Option<&str>, Value)]) -> (Option<String>, Vec<(String, bool)>) {
        let mut columns = Columns::default();
        for (key, value) in values {
            let key = key.map(ToOwned::to_owned);
            let value = value.clone();
            columns.see(&Entry {
                document: DocumentId([0; 16]),
                key,
                heads: Vec::new(),
                deleted: false,
                value,
                agreed: None,
            });
        }
        let InOrder { key, fields, .. } = columns.in_order();
        (key, fields)
    }

    #[test]
    fn a_field_that_holds_every_key_is_the_key_column() {
        let column = |name: &str, is_json| (name.to_owned(), is_json);
        let documents = [
            (Some("1"), json!({ "id": "1", "a": "1", "b": 2 })),
            (Some("2"), json!({ "id": "2", "a": "1" })),
        ];
        let expected = vec![column("a", false), column("b", true)];
        assert_eq!(order(&documents), (Some("id".into()), expected));
        assert_eq!(order(&[(Some("3"), json!({ "a": "1" }))]), (None, vec![column("a", false)]));
        assert_eq!(order(&[(None, json!({ "a": null }))]), (None, vec![column("a", false)]));
        assert_eq!(order(&[(None, json!({ "a": "" }))]), (None, vec![column("a", true)]));
        assert_eq!(
            order(&[(Some("1"), json!({ "_key": "1" }))]),
            (None, vec![column("_key", true)])
        );
    }
}
