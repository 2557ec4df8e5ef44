//! `rejoin list`: documents as a table.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use rejoin::{DocumentId, Entry, Path};
use serde_json::Value;

use crate::arguments::{ListArguments, PlaceArguments};
use crate::deleted;
use crate::layout::{Table, one_line, width};
use crate::local::Local;
use crate::output::{Output, count};
use crate::unfit;
use crate::values::{Condition, at, entry_json};

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

/// The fields that were asked for, or else those that fit.
pub(crate) fn fields_of(entries: &[Entry], arguments: &ListArguments, width: usize) -> Vec<Path> {
    let asked = arguments.fields.iter().flat_map(|fields| &fields.0);
    let mut fields: Vec<Path> = asked.cloned().collect();
    if fields.is_empty() {
        return choose_fields(entries, &arguments.conditions, width);
    }
    if key_width(entries) + fields.len() * CUT_MIN > width {
        // Those that come last will have no room.
        fields.sort_by_key(|field| !is_status(field));
    }
    fields
}

pub(crate) fn having(arguments: &ListArguments) -> &'static str {
    if arguments.conditions.is_empty() { "" } else { " match" }
}

/// A row for each document: its key with a mark behind it, what else is known of it below `more`, and
/// its fields.
pub(crate) fn table<'a>(
    more: &[&str],
    fields: &[Path],
    rows: impl Iterator<Item = (&'a Entry, &'static str, Vec<String>)>,
) -> Table {
    let heading = std::iter::once("key").chain(more.iter().copied()).map(ToOwned::to_owned);
    let kept = 1 + usize::from(more.is_empty() && fields.first().is_some_and(is_status));
    let mut table =
        Table::new(heading).and_fields(fields.iter().map(ToString::to_string)).keeping(kept);
    for (entry, mark, more) in rows {
        let key = key(entry) + mark;
        let cells = fields.iter().map(|field| {
            at(&entry.value, field).map(rejoin::shown).unwrap_or_default().into_owned()
        });
        table.row(std::iter::once(key).chain(more).chain(cells));
    }
    table
}

/// What other commands take for the document.
fn key(entry: &Entry) -> String {
    entry.key.clone().unwrap_or_else(|| entry.document.to_string())
}

/// Whether people look at a field first, by its name.
fn is_status(field: &Path) -> bool {
    let name = field.to_string().to_lowercase();
    name == "status" || name == "state"
}

/// What is known of a field after looking at every document.
#[derive(Debug, Default)]
struct Field {
    filled: usize,
    distinct: BTreeSet<String>,
    is_key: bool,
    characters: usize,
    widest: usize,
}

/// The fields worth their room: a status comes first, then those that most documents have and that
/// tell documents apart, long texts last; then as many as fit.
fn choose_fields(entries: &[Entry], conditions: &[Condition], width: usize) -> Vec<Path> {
    let fields = survey(entries);
    let asked =
        |name: &str| conditions.iter().any(|condition| condition.field == Path::from([name]));
    let mut worth: Vec<_> = fields
        .iter()
        .filter(|(name, field)| !field.is_key && !asked(name))
        .filter(|(_, field)| field.filled * 10 >= entries.len())
        .map(|(name, field)| (field.rank(name, entries.len()), *name, field))
        .collect();
    worth.sort_by_key(|(rank, name, _)| (*rank, *name));
    let mut left = width.saturating_sub(key_width(entries));
    let mut chosen = Vec::new();
    for (_, name, field) in worth {
        let path = Path::from([name]);
        let title = path.to_string().chars().count();
        let needs = 2 + field.widest.clamp(title, CELL_MAX.max(title));
        if needs <= left || is_status(&path) {
            left = left.saturating_sub(needs);
            chosen.push(path);
        }
    }
    chosen
}

/// Columns of the keys with the mark behind them.
fn key_width(entries: &[Entry]) -> usize {
    let key = entries.iter().map(|entry| key(entry).chars().count()).max().unwrap_or(0);
    key.max("key".len()) + MARK
}

fn survey(entries: &[Entry]) -> BTreeMap<&str, Field> {
    let mut fields: BTreeMap<&str, Field> = BTreeMap::new();
    for entry in entries {
        for (name, value) in entry.value.as_object().into_iter().flatten() {
            let text = rejoin::shown(value);
            if text.is_empty() {
                continue;
            }
            let field = fields.entry(name).or_default();
            field.is_key =
                (field.filled == 0 || field.is_key) && entry.key.as_deref() == Some(&text);
            field.filled += 1;
            let shown = console::measure_text_width(&one_line(&text));
            field.characters += shown;
            field.widest = field.widest.max(shown);
            if field.distinct.len() < DISTINCT_MAX {
                field.distinct.insert(text.chars().take(CELL_MAX).collect());
            }
        }
    }
    fields
}

impl Field {
    /// Lower is better.
    fn rank(&self, name: &str, documents: usize) -> (bool, bool, bool, bool, usize) {
        let other = !is_status(&Path::from([name]));
        let rare = self.filled * 2 < documents;
        let tells_nothing = documents > 1 && self.distinct.len() < 2;
        let average = self.characters / self.filled.max(1);
        // Few values are a status or a kind, many are numbers and times.
        let many = self.distinct.len() > KINDS_MAX;
        let width = average.max(name.chars().count());
        (other, rare || tells_nothing, average > CELL_MAX, many, width)
    }
}

/// Columns of the marks behind a key.
const MARK: usize = 3;

/// Columns of a cell that is cut as far as it may be, and of what is between it and the one before.
const CUT_MIN: usize = 10;

/// Columns of a cell beyond which it is cut rather than others left out.
const CELL_MAX: usize = 28;

/// Different values that a kind or a status may have.
const KINDS_MAX: usize = 24;

/// Different values of a field that are counted.
const DISTINCT_MAX: usize = KINDS_MAX + 1;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entries(values: &[Value]) -> Vec<Entry> {
        let entry = |(number, value): (usize, &Value)| Entry {
            document: DocumentId([0; 16]),
            key: Some(format!("job-{number}")),
            heads: Vec::new(),
            deleted: false,
            value: value.clone(),
            agreed: None,
        };
        values.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn what_names_a_document_is_never_cut() {
        let mut entries = entries(&[json!({ "status": "open", "notes": "on and on ".repeat(9) })]);
        entries[0].key = None;
        let fields = choose_fields(&entries, &[], 60);
        let rows = entries.iter().map(|entry| (entry, "", Vec::new()));
        let table = table(&[], &fields, rows).fit(60);
        let table = table.as_str();
        assert!(table.contains(&entries[0].document.to_string()), "{table}");
        assert!(table.lines().all(|line| console::measure_text_width(line) <= 60), "{table}");
    }

    #[test]
    fn columns_that_tell_documents_apart_come_first() {
        let long = "a text that goes on and on ".repeat(5);
        let entries = entries(&[
            json!({ "agency": "NYPD", "id": "job-0", "status": "open", "notes": long, "zip": "1" }),
            json!({ "agency": "NYPD", "id": "job-1", "status": "done", "notes": "", "rare": "x" }),
            json!({ "agency": "NYPD", "id": "job-2", "status": "done", "notes": long, "zip": "2" }),
        ]);
        let chosen = choose_fields(&entries, &[], 80);
        let names: Vec<_> = chosen.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["status", "zip", "rare", "agency", "notes"]);
        let narrow = choose_fields(&entries, &[], 21);
        assert_eq!(narrow, [Path::from("status"), Path::from("zip")]);
        let asked = ["status=done".parse().expect("a condition")];
        assert!(!choose_fields(&entries, &asked, 80).contains(&Path::from("status")));
    }
}
