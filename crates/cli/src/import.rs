//! `rejoin import`: rows of a CSV file become documents.

mod rows;

use std::fs::File;
use std::io::{IsTerminal, Read, stderr, stdin};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rejoin::{Collection, EditError, Edited, EngineOptions};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::arguments::{ImportArguments, PlaceArguments};
use crate::layout::one_line;
use crate::local::Local;
use crate::output::{Output, count};
use rows::{Fault, Item, Row, Rows};

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &ImportArguments,
    output: Output,
) -> Result<ExitCode> {
    let (file, bytes) = open(&arguments.file)?;
    // A header that is no good must not leave an empty replica behind.
    let mut rows = Rows::new(file, &arguments.key)
        .with_context(|| format!("{} cannot be imported", arguments.file.display()))?;
    // Each document is met once.
    let options = EngineOptions { documents_loaded_max: 1, ..EngineOptions::default() };
    let local = Local::open_or_create_with(place, options).await?;
    let collection = local.space.collection(&arguments.collection)?;
    let progress = progress(bytes, output);
    let taken = take_all(&mut rows, &collection, &progress).await;
    progress.finish_and_clear();
    let taken = taken?;
    for fault in &taken.faults {
        output.note(&one_line(&format!("{}: {fault}", arguments.file.display())));
    }
    if taken.bad > taken.faults.len() as u64 {
        output.note(&format!("... and {} more", taken.bad - taken.faults.len() as u64));
    }
    let summary = Summary { collection: &arguments.collection, taken: &taken };
    output.result(&summary, || taken.to_text(&arguments.collection))?;
    Ok(if taken.bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The file, and how long it is if that is known.
fn open(path: &Path) -> Result<(Box<dyn Read>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(stdin()), None));
    }
    let file = File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        bail!("{} is a folder; name a CSV file", path.display());
    }
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

/// A bar on a terminal; nothing where nobody looks.
fn progress(bytes: Option<u64>, output: Output) -> ProgressBar {
    if output.is_json() || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{wide_bar} {bytes}/{total_bytes}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} read"),
    };
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    bar.with_style(style)
}

/// What became of the rows.
#[derive(Debug, Default, Serialize)]
struct Taken {
    rows: u64,
    created: u64,
    changed: u64,
    unchanged: u64,
    bad: u64,
    /// The first of the bad ones.
    faults: Vec<Fault>,
}

#[derive(Serialize)]
struct Summary<'a> {
    collection: &'a str,
    #[serde(flatten)]
    taken: &'a Taken,
}

async fn take_all(
    rows: &mut Rows<Box<dyn Read>>,
    collection: &Collection,
    progress: &ProgressBar,
) -> Result<Taken> {
    let mut taken = Taken::default();
    let mut batch = Batch::default();
    while let Some(item) = rows.next() {
        match item {
            Item::Row(row) => batch.push(row),
            Item::Fault(fault) => taken.fault(fault),
        }
        if batch.is_full() {
            batch.put(collection, &mut taken).await?;
            progress.set_position(rows.bytes_read());
        }
    }
    batch.put(collection, &mut taken).await?;
    Ok(taken)
}

/// Rows for one commit.
#[derive(Debug, Default)]
struct Batch {
    lines: Vec<u64>,
    documents: Vec<(String, Map<String, Value>)>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, row: Row) {
        self.bytes += row.bytes;
        self.lines.push(row.line);
        self.documents.push((row.key, row.fields));
    }

    fn is_full(&self) -> bool {
        self.documents.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    async fn put(&mut self, collection: &Collection, taken: &mut Taken) -> Result<()> {
        let Self { lines, documents, .. } = std::mem::take(self);
        if documents.is_empty() {
            return Ok(());
        }
        let results = collection.put_all(documents).await?;
        for (line, result) in lines.into_iter().zip(results) {
            match result {
                Ok(edited) => taken.row(&edited),
                Err(error @ (EditError::Store(_) | EditError::NotKept(_) | EditError::Closed)) => {
                    return Err(error).with_context(|| {
                        format!("stopped at line {line}; import again to take the rest")
                    });
                }
                Err(error) => {
                    let reason = format!("{:#}", anyhow::Error::from(error));
                    taken.fault(Fault { line, reason });
                }
            }
        }
        Ok(())
    }
}

impl Taken {
    fn row(&mut self, edited: &Edited) {
        self.rows += 1;
        match edited {
            Edited { created: true, .. } => self.created += 1,
            edited if edited.changed() => self.changed += 1,
            _ => self.unchanged += 1,
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.rows += 1;
        self.bad += 1;
        if self.faults.len() < FAULTS_SHOWN {
            self.faults.push(fault);
        }
    }

    fn to_text(&self, collection: &str) -> String {
        let Self { rows, created, changed, unchanged, bad, .. } = self;
        let bad = match bad {
            0 => String::new(),
            bad => format!(", {bad} not taken (see above)"),
        };
        let rows = count(*rows, "row");
        format!(
            "{collection}: {rows}: {created} created, {changed} changed, {unchanged} unchanged{bad}"
        )
    }
}

/// Rows, and bytes of rows, that make one commit. All of their documents are in memory then.
const BATCH_ROWS: usize = 512;
const BATCH_BYTES: usize = 256 << 10;

/// Bad rows that are shown; the rest is counted.
const FAULTS_SHOWN: usize = 20;
