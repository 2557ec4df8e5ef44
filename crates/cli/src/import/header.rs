//! The columns of a file: the name of each, and the meaning of its cells.

use anyhow::{Result, bail};
use csv::ByteRecord;
use rejoin::Path;

use crate::csv_marks::{DISPUTED, JSON, KEY};
use crate::values::{self, DELETED, name};

/// The meaning of the cells in a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Column {
    /// The cells are the values of this field, as text.
    Text(String),
    /// The cells are the values of this field, as JSON: the column's name ends in [`JSON`].
    Json(String),
    /// The cells are not imported: they are the documents' ids, or remarks that an export makes about
    /// documents.
    Aside,
}

/// The columns of a file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) columns: Vec<Column>,
    /// The names of the columns in the file.
    pub(super) names: Vec<String>,
    /// The position of the column with the documents' keys.
    pub(super) key: usize,
}

/// Another name for a column: `OLD=NEW`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rename {
    old: String,
    new: String,
}

impl std::str::FromStr for Rename {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match Path::split_written(text, '=') {
            Some((old, new)) if !old.is_empty() && !new.is_empty() => {
                Ok(Self { old: name(old), new: name(new) })
            }
            _ => bail!("{text:?} is not COLUMN=FIELD"),
        }
    }
}

impl Header {
    /// Reads the columns from the first record of a file.
    pub(super) fn new(
        record: &ByteRecord,
        key: &str,
        renames: &[Rename],
        line: u64,
    ) -> Result<Self> {
        let names = names(record, line)?;
        if let Some(rename) = renames.iter().find(|rename| !names.contains(&rename.old)) {
            let (old, all) = (&rename.old, listed(&names));
            bail!("line {line}: no column is called {old:?}, to be renamed; the columns are {all}");
        }
        let renamed = |name: &String| match renames.iter().find(|rename| rename.old == *name) {
            Some(rename) => rename.new.clone(),
            None => name.clone(),
        };
        let is_key = |name: &String| name == key || renamed(name) == key;
        let Some(key) = names.iter().position(is_key) else {
            let columns = listed(&names);
            bail!("line {line}: no column is called {key:?}; the columns are {columns}");
        };
        let columns: Vec<_> = names.iter().map(|name| column(renamed(name))).collect();
        let fields = columns.iter().zip(&names).filter_map(|(column, name)| match column {
            Column::Text(field) | Column::Json(field) => Some((field, name)),
            Column::Aside => None,
        });
        let mut seen = std::collections::BTreeMap::new();
        for (field, name) in fields {
            if field == DELETED {
                bail!(
                    "line {line}: a column is called {name:?}, and a document says in a field of that \
                     name that it was deleted; give the field another name: \
                     --rename {name}=is_{name}"
                );
            }
            if let Some(earlier) = seen.insert(field, name) {
                bail!(
                    "line {line}: columns {earlier:?} and {name:?} are both the field {}",
                    values::field(field)
                );
            }
        }
        Ok(Self { columns, names, key })
    }

    /// The name of the column, if there is one, in which an export says which fields are under
    /// review.
    pub(super) fn left_out(&self) -> Option<&str> {
        self.names.iter().map(String::as_str).find(|name| *name == DISPUTED)
    }
}

/// The names of columns as --key and --rename take them.
fn listed(names: &[String]) -> String {
    names.iter().map(|name| values::field(name)).collect::<Vec<_>>().join(", ")
}

fn column(name: String) -> Column {
    match name.strip_suffix(JSON) {
        _ if name == KEY || name == DISPUTED => Column::Aside,
        Some(field) if !field.is_empty() => Column::Json(field.to_owned()),
        _ => Column::Text(name),
    }
}

fn names(header: &ByteRecord, line: u64) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::with_capacity(header.len());
    for (place, name) in header.iter().enumerate() {
        let number = place + 1;
        let Ok(name) = str::from_utf8(name) else {
            bail!(
                "line {line}: the name of column {number} is not UTF-8; save the file as UTF-8, or \
                 give --encoding windows-1252 if it comes from an older spreadsheet"
            );
        };
        if name.is_empty() {
            bail!("line {line}: column {number} has no name; give it one");
        }
        if let Some(earlier) = names.iter().position(|known| known == name) {
            bail!(
                "line {line}: columns {} and {number} are both called {name:?}; rename one",
                earlier + 1
            );
        }
        names.push(name.to_owned());
    }
    Ok(names)
}
