//! `rejoin import`: rows of a CSV file become documents.

mod header;
mod rows;
mod source;
mod taken;
mod tap;
mod times;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rejoin::{Collection, EditError, EditOutcome, EngineOptions, Row, RowKey};
use tempfile::TempDir;

use crate::arguments::{ImportArguments, PlaceArguments};
use crate::caller::{Input, sees_motion};
use crate::local::Local;
use crate::output::{Output, is_closed_pipe};
pub(crate) use header::{DISPUTED, JSON, KEY, Rename};
use rows::{Fault, Item, Line, Rows};
use source::{Said, Source};
pub(crate) use source::{delimiter, encoding};
use taken::Taken;
pub(crate) use times::TimeFormat;
use times::Times;

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &ImportArguments,
    output: Output,
) -> Result<ExitCode> {
    // Each document is met once.
    let options = EngineOptions { documents_loaded_max: 1, ..EngineOptions::default() };
    // Whether it is open elsewhere is known before the file is read, which may be standard input.
    let there = Local::open_if_there(place, options.clone()).await?;
    let Input { facts, bytes: file } = open(&arguments.file)?;
    let shown = arguments.file.display();
    let ImportArguments { key, delimiter, encoding, rename, time_format, dry_run, .. } = arguments;
    let said = Said { delimiter: *delimiter, encoding: *encoding, key };
    // A header that is no good must not leave an empty replica behind.
    let wrong = || format!("{shown} cannot be imported");
    let source = Source::new(file, said).with_context(wrong)?;
    source.notes.iter().for_each(|note| output.note(&format!("{shown}: {note}")));
    let mut rows = Rows::new(source, key, rename).with_context(wrong)?;
    if let Some(column) = rows.header().left_out() {
        output
            .note(&format!("{shown}: the column {column} is what an export says, and is left out"));
    }
    let (place, _pretended) = match *dry_run && there.is_none() {
        true => pretended(place)?,
        false => (place.clone(), None),
    };
    let local = match there {
        Some(local) => local,
        None => Local::open_or_create_with(&place, options).await?,
    };
    let collection = local.space.collection(&arguments.collection)?;
    let schema = local.space.schema(collection.name()).await?.unwrap_or_default();
    let times = Times::new(time_format, rows.header(), &schema).with_context(wrong)?;
    let progress = progress(facts.len, output);
    let (revive, is_dry) = (arguments.revive, *dry_run);
    let importing = Importing { collection: &collection, times, revive, is_dry };
    let taken = importing.take_all(&mut rows, &progress).await;
    progress.finish_and_clear();
    let taken = taken?;
    taken.faults_in_lines(&shown.to_string()).iter().for_each(|line| output.note(line));
    let told = output.result(&taken.to_json(&arguments.collection, *dry_run), || {
        taken.to_text(&arguments.collection, *dry_run)
    });
    match told {
        // Rows that were not taken are told by the exit code, whether or not anybody reads the rest.
        Err(error) if taken.is_all() || !is_closed_pipe(&error) => Err(error),
        _ if taken.is_all() => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}

/// In the place of a replica that does not exist yet an empty one, which goes with the folder.
fn pretended(place: &PlaceArguments) -> Result<(PlaceArguments, Option<TempDir>)> {
    let folder = TempDir::new()?;
    let replica = Some(folder.path().join("pretended.redb"));
    Ok((PlaceArguments { replica, ..place.clone() }, Some(folder)))
}

fn open(path: &Path) -> Result<Input> {
    let input =
        Input::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    if input.facts.is_folder {
        bail!("{} is a folder; name a CSV file", path.display());
    }
    Ok(input)
}

/// A bar on a terminal; nothing where nobody looks.
fn progress(bytes: Option<u64>, output: Output) -> ProgressBar {
    if output.is_json() || !sees_motion() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{wide_bar} {bytes}/{total_bytes}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} read"),
    };
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    bar.with_style(style)
}

/// Where rows go.
struct Importing<'a> {
    collection: &'a Collection,
    times: Times,
    revive: bool,
    is_dry: bool,
}

impl Importing<'_> {
    async fn take_all(&self, rows: &mut Rows, progress: &ProgressBar) -> Result<Taken> {
        let mut taken = Taken::default();
        let mut batch = Batch::default();
        while let Some(item) = rows.next() {
            match item {
                Item::Row(mut line) => match self.times.read(&mut line.cells) {
                    Ok(()) => batch.push(line, self.revive),
                    Err(error) => {
                        taken.fault(Fault { line: line.line, reason: error.to_string() });
                    }
                },
                Item::Fault(fault) => taken.fault(fault),
            }
            if batch.is_full() {
                self.put(std::mem::take(&mut batch), &mut taken).await?;
                progress.set_position(rows.bytes_read());
            }
        }
        self.put(batch, &mut taken).await?;
        Ok(taken)
    }

    async fn put(&self, batch: Batch, taken: &mut Taken) -> Result<()> {
        let Batch { lines, rows, .. } = batch;
        if rows.is_empty() {
            return Ok(());
        }
        let results = match self.is_dry {
            true => self.collection.preview(rows).await?,
            false => {
                let taken = self.collection.import(rows).await?.into_iter();
                taken.map(|edited| edited.map(EditOutcome::from)).collect()
            }
        };
        for (line, result) in lines.into_iter().zip(results) {
            match result {
                Ok(edited) => taken.row(line, &edited),
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

/// Rows for one commit.
#[derive(Debug, Default)]
struct Batch {
    lines: Vec<u64>,
    rows: Vec<(RowKey, Row)>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, line: Line, revive: bool) {
        self.bytes += line.bytes;
        self.lines.push(line.line);
        self.rows.push((line.key, Row { cells: line.cells, revive }));
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }
}

/// Rows, and bytes of rows, that make one commit. All of their documents are in memory then.
const BATCH_ROWS: usize = 512;
const BATCH_BYTES: usize = 256 << 10;
