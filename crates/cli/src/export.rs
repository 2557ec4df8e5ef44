//! `rejoin export`: every document of a collection, streamed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write, stdout};

use anyhow::{Result, bail};
use csv::Writer;
use rejoin::{Collection, Entry, printable};

use crate::arguments::{ExportArguments, Format, PlaceArguments};
use crate::local::Local;
use crate::output::{Output, write_json};
use crate::values::{entry_json, plain};

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &ExportArguments,
    output: Output,
) -> Result<()> {
    if output.is_json() && arguments.format == Format::Csv {
        bail!("--json and --format csv contradict each other; give one of them");
    }
    let local = Local::open(place).await?;
    let collection = local.collection(&arguments.collection)?;
    local.caught_up(output).await?;
    match arguments.format {
        Format::Json => json(&collection, output).await,
        Format::Csv => csv(&collection, output).await,
    }
}

/// One array, one document a line.
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

/// Two passes: the header is known only when every document was looked at. A file gets all values as
/// they are, and a terminal what it can show.
async fn csv(collection: &Collection, output: Output) -> Result<()> {
    let mut columns = Columns::default();
    each(collection, |entry| {
        columns.see(entry);
        Ok(())
    })
    .await?;
    let shown: fn(&str) -> Cow<'_, str> = match stdout().is_terminal() {
        true => printable,
        false => |text| Cow::Borrowed(text),
    };
    let mut writer = Writer::from_writer(output.stream());
    let (first, columns) = columns.in_order();
    let first = first.as_deref().unwrap_or(KEY);
    let header = std::iter::once(first).chain(columns.iter().map(String::as_str)).map(shown);
    writer.write_record(header.map(Cow::into_owned).map(String::into_bytes))?;
    each(collection, |entry| {
        let cells = columns.iter().map(|name| entry.value.get(name).map(plain).unwrap_or_default());
        let key = entry.key.as_deref().unwrap_or_default();
        writer.write_field(shown(key).as_bytes())?;
        for cell in cells {
            writer.write_field(shown(&cell).as_bytes())?;
        }
        Ok(writer.write_record(None::<&[u8]>)?)
    })
    .await?;
    Ok(writer.flush()?)
}

/// Hands over one document after the other and keeps none.
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

/// The fields of all documents.
#[derive(Debug, Default)]
struct Columns {
    documents: u64,
    names: BTreeSet<String>,
    /// In how many documents a field holds the document's key.
    keys: BTreeMap<String, u64>,
}

impl Columns {
    fn see(&mut self, entry: &Entry) {
        self.documents += 1;
        for (name, value) in entry.value.as_object().into_iter().flatten() {
            if !self.names.contains(name) {
                self.names.insert(name.clone());
            }
            if entry.key.as_deref().is_some_and(|key| value.as_str() == Some(key)) {
                *self.keys.entry(name.clone()).or_default() += 1;
            }
        }
    }

    /// The field that is every document's key, if there is one, and the others.
    fn in_order(mut self) -> (Option<String>, BTreeSet<String>) {
        let key = self.keys.into_iter().find(|(_, documents)| *documents == self.documents);
        let key = key.map(|(name, _)| name);
        if let Some(key) = &key {
            self.names.remove(key);
        }
        (key, self.names)
    }
}

/// The column for keys that no field holds.
const KEY: &str = "_key";

#[cfg(test)]
mod tests {
    use rejoin::DocumentId;
    use serde_json::json;

    use super::*;

    fn order(values: &[(Option<&str>, serde_json::Value)]) -> (Option<String>, Vec<String>) {
        let mut columns = Columns::default();
        for (key, value) in values {
            let key = key.map(ToOwned::to_owned);
            let value = value.clone();
            columns.see(&Entry { document: DocumentId([0; 16]), key, heads: Vec::new(), value });
        }
        let (key, names) = columns.in_order();
        (key, names.into_iter().collect())
    }

    #[test]
    fn a_field_that_holds_every_key_is_the_key_column() {
        let documents = [
            (Some("1"), json!({ "id": "1", "a": "1", "b": 2 })),
            (Some("2"), json!({ "id": "2", "a": "1" })),
        ];
        assert_eq!(order(&documents), (Some("id".into()), vec!["a".into(), "b".into()]));
        assert_eq!(order(&[(Some("3"), json!({ "a": "1" }))]), (None, vec!["a".into()]));
        assert_eq!(order(&[(None, json!({ "a": null }))]), (None, vec!["a".into()]));
    }
}
