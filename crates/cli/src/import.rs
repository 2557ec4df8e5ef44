//! `rejoin import`: makes documents of the rows of a CSV file.

mod header;
mod rows;
mod source;
mod taken;
mod tap;
mod times;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use encoding_rs::Encoding;
use indicatif::{ProgressBar, ProgressStyle};
use rejoin::import::{Row, RowKey};
use rejoin::sync::EngineOptions;
use rejoin::{Collection, EditError, EditOutcome};
use tempfile::TempDir;

use crate::caller::{Input, sees_motion};
use crate::local::Local;
use crate::output::{Output, is_closed_pipe};
use crate::place::PlaceArguments;
use crate::values;
use header::Rename;
use rows::{Fault, Item, Line, Rows};
use source::{Said, Source, delimiter, encoding};
use taken::Taken;
use times::{TimeFormat, Times};

#[derive(Debug, Args)]
#[command(after_help = "\
Each row becomes the document whose key is in the key column. A cell becomes what the schema says \
of its field, or what the field holds already: a number, true or false, a list or a map as JSON; \
and is text otherwise. Cells of a column called NAME:json are JSON. What `rejoin export --format \
csv` wrote is taken back without a change.

Only cells are written that say something new: other than the document, and other than what a file \
said of it when it was last imported here. So importing a file again changes nothing, and undoes \
nothing that people decided meanwhile. An empty cell is an absent field: it is removed if the \
document has it. Documents that were deleted are left so, unless --revive is given.

Rows that cannot be taken are reported with their line: a wrong number of fields, a quote that is \
never closed, bytes that are not in the encoding, no key, a key that an earlier row had. The good \
rows are kept, and the exit code is 1.")]
pub(crate) struct ImportArguments {
    /// The CSV file with a header; - reads standard input
    pub(crate) file: PathBuf,
    /// The collection to put the rows in
    #[arg(long, value_name = "NAME")]
    pub(crate) collection: String,
    /// The column that holds each row's key
    #[arg(long, value_name = "COLUMN", value_parser = column)]
    pub(crate) key: String,
    /// Say what would happen, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Bring back documents that were deleted
    #[arg(long)]
    pub(crate) revive: bool,
    /// Give a column another name in the documents; repeat for more
    #[arg(long, value_name = "COLUMN=FIELD")]
    pub(crate) rename: Vec<Rename>,
    /// How times are written, such as '%m/%d/%Y %I:%M %p' (strftime): those of a column, or all that the
    /// schema says are times; repeat for more
    #[arg(long, value_name = "[COLUMN=]FORMAT")]
    pub(crate) time_format: Vec<TimeFormat>,
    /// What separates the columns: , or ; or tab (found out from the header, or a line sep=;)
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    pub(crate) delimiter: Option<u8>,
    /// The encoding, such as windows-1252, if it is not UTF-8, or UTF-16 that says so
    #[arg(long, value_name = "NAME", value_parser = encoding)]
    pub(crate) encoding: Option<&'static Encoding>,
}

/// The name of a column.
fn column(text: &str) -> Result<String, Infallible> {
    Ok(values::name(text))
}

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &ImportArguments,
    output: Output,
) -> Result<ExitCode> {
    // A file is about each document once, so none has to stay in memory.
    let options = EngineOptions { documents_loaded_max: 1, ..EngineOptions::default() };
    // If another process has the replica open, that has to be known before the file is read, as the
    // file may be standard input.
    let there = Local::open_if_there(place, options.clone()).await?;
    let Input { facts, bytes: file } = open(&arguments.file)?;
    let shown = arguments.file.display();
    let ImportArguments { key, delimiter, encoding, rename, time_format, dry_run, .. } = arguments;
    let said = Said { delimiter: *delimiter, encoding: *encoding, key };
    // A faulty header must not leave an empty replica behind.
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
    // One undo takes all of it back.
    let space = local.replica.as_one_step().space(local.space.name().as_str())?;
    let collection = space.collection(&arguments.collection)?;
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
        // The exit code tells of rows that were not taken, whether or not anybody reads the output.
        Err(error) if taken.is_all() || !is_closed_pipe(&error) => Err(error),
        _ if taken.is_all() => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}

/// An empty replica in a temporary folder, for a dry run where there is no replica yet.
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

/// The progress bar, which is hidden unless a person sees it.
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

/// The collection that rows are imported into, and how.
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

/// The rows of one commit.
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

/// How many rows, or bytes of rows, make one commit. All of their documents are in memory at once.
const BATCH_ROWS: usize = 512;
const BATCH_BYTES: usize = 256 << 10;
