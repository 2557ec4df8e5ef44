//! The table of `rejoin list`: its rows, and the choice of the fields that become its columns.

use std::collections::{BTreeMap, BTreeSet};

use rejoin::{Entry, Path};

use super::ListArguments;
use crate::layout::{Table, one_line};
use crate::values::{Condition, at};

/// The fields that the command line names, or else the fields that fit.
pub(super) fn fields_of(entries: &[Entry], arguments: &ListArguments, width: usize) -> Vec<Path> {
    let asked = arguments.fields.iter().flat_map(|fields| &fields.0);
    let mut fields: Vec<Path> = asked.cloned().collect();
    if fields.is_empty() {
        return choose_fields(entries, &arguments.conditions, width);
    }
    if key_width(entries) + fields.len() * CUT_MIN > width {
        // There will be no room for the last columns, so a status comes first.
        fields.sort_by_key(|field| !is_status(field));
    }
    fields
}

/// A table with a row for each document: the key with a mark behind it, a cell for each heading in
/// `more`, and a cell for each field.
pub(super) fn table<'a>(
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
            at(&entry.value, field).map(rejoin::view::shown).unwrap_or_default().into_owned()
        });
        table.row(std::iter::once(key).chain(more).chain(cells));
    }
    table
}

/// The name by which other commands take the document: its key, or else its id.
fn key(entry: &Entry) -> String {
    entry.key.clone().unwrap_or_else(|| entry.document.to_string())
}

/// Whether the name of a field says that people look at it first.
fn is_status(field: &Path) -> bool {
    let name = field.to_string().to_lowercase();
    name == "status" || name == "state"
}

/// The findings about a field after looking at every document.
#[derive(Debug, Default)]
struct Field {
    filled: usize,
    distinct: BTreeSet<String>,
    is_key: bool,
    characters: usize,
    widest: usize,
}

/// The fields that are worth their room: a status comes first, then the fields that most documents
/// have and that tell documents apart, and long texts come last. As many of them as fit are chosen.
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

/// Width of the widest key with the mark behind it.
fn key_width(entries: &[Entry]) -> usize {
    let key = entries.iter().map(|entry| key(entry).chars().count()).max().unwrap_or(0);
    key.max("key".len()) + MARK
}

fn survey(entries: &[Entry]) -> BTreeMap<&str, Field> {
    let mut fields: BTreeMap<&str, Field> = BTreeMap::new();
    for entry in entries {
        for (name, value) in entry.value.as_object().into_iter().flatten() {
            let text = rejoin::view::shown(value);
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
    /// The rank of a field among others: the field with the lower one comes first.
    fn rank(&self, name: &str, documents: usize) -> (bool, bool, bool, bool, usize) {
        let other = !is_status(&Path::from([name]));
        let rare = self.filled * 2 < documents;
        let tells_nothing = documents > 1 && self.distinct.len() < 2;
        let average = self.characters / self.filled.max(1);
        // A field with few values is a status or a kind; one with many holds numbers or times.
        let many = self.distinct.len() > KINDS_MAX;
        let width = average.max(name.chars().count());
        (other, rare || tells_nothing, average > CELL_MAX, many, width)
    }
}

/// Width of the marks behind a key.
const MARK: usize = 3;

/// Width of a cell that is cut as far as it may be, and of the gap before it.
const CUT_MIN: usize = 10;

/// The width beyond which a cell is cut, so that others need not be left out.
const CELL_MAX: usize = 28;

/// How many different values a field may have and still be a kind or a status.
const KINDS_MAX: usize = 24;

/// How many different values of a field are counted.
const DISTINCT_MAX: usize = KINDS_MAX + 1;

#[cfg(test)]
mod tests {
    use rejoin::DocumentId;
    use serde_json::{Value, json};

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
