//! The command line as it is typed.

pub(crate) mod adapters;
pub(crate) mod review;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use rejoin::{CollectionName, Path, SpaceName};

pub(crate) use adapters::{
    AdaptersArguments, AdaptersCommand, LettersArguments, LintArguments, ReconcileArguments,
};

pub(crate) use review::{AssignArguments, ReviewArguments, ReviewsArguments, SettleArguments};

use crate::clock::{self, Since};
use crate::identity::{self, Acting};
use crate::import::{Rename, TimeFormat, delimiter, encoding};
use crate::output::Output;
use crate::values::{self, Assignment, Condition, Fields};
use crate::{
    audit, beside, blame, deleted, demo, documents, export, history, import, inspect, list, relay,
    reviews, schema, sync, watch,
};

/// Edit documents offline, and let them meet again at a relay.
#[derive(Debug, Parser)]
#[command(name = "rejoin", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    /// Print JSON: one document, or a line for each event of a command that goes on
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,
    /// Log to standard error; -vv and -vvv log more, RUST_LOG chooses
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = GLOBAL)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which documents a command is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlaceArguments {
    /// The file with this device's copy
    #[arg(long, global = true, env = "REJOIN_REPLICA", value_name = "FILE", help_heading = GLOBAL)]
    pub(crate) replica: Option<PathBuf>,
    /// The space: what is shared together
    #[arg(long, global = true, default_value = DEFAULT_SPACE, value_name = "NAME", help_heading = GLOBAL)]
    pub(crate) space: String,
    /// As whom this command acts; `rejoin whoami --user` says it for all that follow
    #[arg(long = "as", global = true, env = "REJOIN_AS", value_name = "USER[:ROLE]", help_heading = GLOBAL)]
    pub(crate) acts_as: Option<Acting>,
}

pub(crate) const DEFAULT_SPACE: &str = "main";

/// Above the options that every command has.
const GLOBAL: &str = "Options of every command";

const EXIT_CODES: &str = "\
Exit code: 0 when everything was done, 1 when not, 2 when the command line is not understood.
Try `rejoin demo`: a relay, two technicians and a front desk, in a few seconds.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what Rejoin does: a day of three devices, their relay, and what goes wrong
    Demo,
    /// Run a relay, where replicas meet
    Relay(RelayArguments),
    /// Carry documents to other systems, and look after what is on its way
    Adapters(AdaptersArguments),
    /// Sync the replica with a relay
    Sync(SyncArguments),
    /// Take the rows of a CSV file into documents
    Import(ImportArguments),
    /// Print all documents of a collection
    Export(ExportArguments),
    /// Show the documents of a collection as a table
    List(ListArguments),
    /// Show one document, and which of its fields are not agreed
    Get(GetArguments),
    /// Set fields of a document, which is created if there is none
    Set(SetArguments),
    /// Add to the end of a text
    Append(AppendArguments),
    /// Add to a counter
    Add(AddArguments),
    /// Delete a document; `restore` brings it back
    Delete(DocumentArguments),
    /// Bring a deleted document back; `list --deleted` shows which there are
    Restore(DocumentArguments),
    /// Say how the fields of collections merge, and look at what was said
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Print changes as they come, until Ctrl-C
    Watch(WatchArguments),
    /// List what only a person can decide: concurrent values, double bookings, refused writes
    Reviews(ReviewsArguments),
    /// Show one review: what there is to choose from, who wrote it, when and where
    Review(ReviewArguments),
    /// Decide a review
    Settle(SettleArguments),
    /// Say who is to decide a review
    Assign(AssignArguments),
    /// Show who changed what in a document, newest last
    History(HistoryArguments),
    /// Show where the value of every field of a document came from
    Blame(BlameArguments),
    /// Print every change of every document, one JSON object a line
    Audit(AuditArguments),
    /// Show or set as whom this replica edits
    Whoami(WhoamiArguments),
    /// Show what is in the replica and what waits for a relay
    Status(StatusArguments),
    /// Print the digest of the space: equal on two replicas exactly when their documents are
    Digest,
    /// Look the replica's file over
    Doctor(DoctorArguments),
    /// Fold one document, as a relay asks on standard input
    #[command(hide = true)]
    CompactWorker,
}

#[derive(Debug, Args)]
#[command(after_help = "\
With --adapters, `rejoin adapters --config FILE ...` looks after them as it does after those of \
`rejoin adapters run`. What goes wrong with them is logged and tried again; the relay goes on.")]
pub(crate) struct RelayArguments {
    /// Where to listen, on a loopback address; port 0 takes a free one, and the first line printed
    /// says which
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4455")]
    pub(crate) listen: SocketAddr,
    /// The folder it stores everything in, made if there is none
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The space of automerge-repo's clients that connect to /automerge; /automerge/NAME is for
    /// others
    #[arg(long, value_name = "NAME", default_value = DEFAULT_SPACE)]
    pub(crate) automerge_space: SpaceName,
    /// The collection of documents that automerge-repo's clients make
    #[arg(long, value_name = "NAME", default_value = "documents")]
    pub(crate) automerge_collection: CollectionName,
    /// Drop ephemeral messages of automerge-repo's clients that name another author than themselves
    #[arg(long)]
    pub(crate) check_ephemeral_sender: bool,
    /// Memory for pages of its database; what it leaves, the system keeps pages in by itself
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) cache: Option<usize>,
    /// Run the adapters of this file too; they connect to this relay, whatever the file says
    #[arg(long, value_name = "FILE")]
    pub(crate) adapters: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Without --once, syncs until Ctrl-C and prints how it stands.
With --once, ends with 0 as soon as relay and replica both hold everything durably, and with 1 and \
the reason if that takes longer than the timeout, or if the relay refused something for good, now or \
before, and nobody said with `rejoin status --acknowledge` that they know.")]
pub(crate) struct SyncArguments {
    /// The relay, as ws://HOST:PORT; behind an SSH tunnel, as ws://127.0.0.1:PORT
    pub(crate) url: String,
    /// End when both sides hold everything
    #[arg(long)]
    pub(crate) once: bool,
    /// How long --once may take: 30s, 500ms, 2m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

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
    pub(crate) encoding: Option<&'static encoding_rs::Encoding>,
}

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

#[derive(Debug, Args)]
pub(crate) struct DocumentArguments {
    /// A kind of document, such as jobs
    pub(crate) collection: String,
    /// Which document, by its natural key, or by its id if it has none
    pub(crate) key: String,
}

#[derive(Debug, Args)]
pub(crate) struct GetArguments {
    #[command(flatten)]
    pub(crate) document: DocumentArguments,
    /// With --json, also say how each field stands
    #[arg(long)]
    pub(crate) view: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
FIELD=TEXT   sets a string. FIELD= removes the field; a text or list is emptied.
FIELD:=JSON  sets any value: 5, true, [\"roof\"], {\"$text\": \"two may write here at once\"}, \
{\"$counter\": 0}, \"\" for an empty string, null to remove.
A field may be a path: customer.address.city, parts[0].name. A name with a dot, a comma or an = is printed \
and typed in brackets and quotes: '[\"a.b\"]'.")]
pub(crate) struct SetArguments {
    #[command(flatten)]
    pub(crate) document: DocumentArguments,
    /// What to set; all of it at once, or nothing
    #[arg(required = true, value_name = "FIELD=VALUE")]
    pub(crate) assignments: Vec<Assignment>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
What several people append at once is all kept. The text is taken as it is: end it with a space or \
a line break of your own. A field that is not there yet becomes a text.")]
pub(crate) struct AppendArguments {
    #[command(flatten)]
    pub(crate) document: DocumentArguments,
    /// The field, or a path such as visit.notes
    #[arg(value_parser = path)]
    pub(crate) field: Path,
    /// What to add, as it is
    #[arg(allow_hyphen_values = true)]
    pub(crate) text: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
What several people add at once is summed up. A field that is not there yet becomes a counter.")]
pub(crate) struct AddArguments {
    #[command(flatten)]
    pub(crate) document: DocumentArguments,
    /// The field, or a path such as visit.parts_used
    #[arg(value_parser = path)]
    pub(crate) field: Path,
    /// How much; negative counts down
    #[arg(allow_negative_numbers = true, value_name = "N")]
    pub(crate) by: i64,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
A schema is a TOML file with tables for each collection:

    [jobs.fields]
    notes  = { merge = \"text\" }
    status = { merge = \"order\", order = [\"booked\", \"en_route\", \"done\"] }
    phone  = { merge = \"owner\", owner = \"crm\", required = true }
    \"address.street\" = { type = \"string\", default = \"\", writers = [\"dispatch\"] }
    [[jobs.invariants]]
    unique = [\"phone\"]

merge is text, counter, set, list, map, review, order, owner, max, min, latest or any; a field without \
it, and one that is not named, merges by review. Applied, it is shared like any document.")]
pub(crate) enum SchemaCommand {
    /// Find what is wrong in a schema file, each with its line and column
    Lint(SchemaFileArguments),
    /// Print the schemas of the space as such a file
    Show(SchemaShowArguments),
    /// Make the schemas of a file those of the space; collections not in the file are left alone
    Apply(SchemaApplyArguments),
    /// Show what applying a file would change
    Diff(SchemaFileArguments),
}

#[derive(Debug, Args)]
pub(crate) struct SchemaFileArguments {
    /// The schema file; - reads standard input
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaApplyArguments {
    #[command(flatten)]
    pub(crate) file: SchemaFileArguments,
    /// Apply it also where documents that are there would read otherwise or open reviews, without
    /// asking
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaShowArguments {
    /// Only this collection
    pub(crate) collection: Option<CollectionName>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Shows what others send and what commands beside this one change. When the process that has the replica \
open ends, this goes on by itself and says `watching` again: list then what may have changed meanwhile.")]
pub(crate) struct WatchArguments {
    /// A kind of document, such as jobs
    pub(crate) collection: String,
    /// Sync with this relay meanwhile
    #[arg(long, value_name = "URL")]
    pub(crate) connect: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArguments {
    #[command(flatten)]
    pub(crate) document: DocumentArguments,
    /// Show the document as it was right after this change; the first characters of its hash do
    #[arg(long, value_name = "HASH")]
    pub(crate) at: Option<String>,
    /// How many changes to show, the newest
    #[arg(long, value_name = "N", default_value_t = 50, conflicts_with = "at")]
    pub(crate) last: usize,
}

#[derive(Debug, Args)]
pub(crate) struct BlameArguments {
    #[command(flatten)]
    pub(crate) document: DocumentArguments,
    /// Only this field and what is in it
    #[arg(value_parser = path)]
    pub(crate) field: Option<Path>,
    /// Every write, in an order in which each comes after those it knew of
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Always prints JSON, one object a line, document by document. The README says what is in it.
--since goes by the clocks of those who made the changes. Changes that every device makes alike, when \
a document or a text begins, have no time and are left out then.")]
pub(crate) struct AuditArguments {
    /// Only this collection
    pub(crate) collection: Option<String>,
    /// Only changes from then on: 2026-05-01, '2026-05-01 16:10' (UTC), or 30m, 24h, 7d ago
    #[arg(long, value_name = "WHEN", value_parser = clock::since)]
    pub(crate) since: Option<Since>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The replica keeps it, and everything edited from then on carries it: history, reviews and blame name \
people. Until a relay verifies identities, it is a claim.")]
pub(crate) struct WhoamiArguments {
    /// The user, as people know them
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The role that rules speak of, such as dispatch; '' for none
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<String>,
    /// This device, as people know it; '' for none
    #[arg(long, value_name = "NAME")]
    pub(crate) device: Option<String>,
    /// Edit as nobody in particular
    #[arg(long, conflicts_with_all = ["user", "role", "device"])]
    pub(crate) nobody: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// List the edits that wait for a relay instead: what was edited, when and by whom
    #[arg(long)]
    pub(crate) unsent: bool,
    /// Say that you know what is listed as set aside: `rejoin sync --once` fails for it no more. It
    /// stays in the file, and in the output of --json
    #[arg(long, conflicts_with = "unsent")]
    pub(crate) acknowledge: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 0 when nothing is wrong any more, or everything was salvaged; 1 when something is left to \
do, or lost.")]
pub(crate) struct DoctorArguments {
    /// Repair what can be repaired
    #[arg(long)]
    pub(crate) repair: bool,
    /// Take what can still be read of a damaged replica, or of a relay's file or folder, into a
    /// fresh one. The damaged one is only read
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"], conflicts_with = "repair")]
    pub(crate) salvage: Option<Vec<PathBuf>>,
}

impl Arguments {
    /// Carries the command out, or has it carried out by whoever has the replica open.
    pub(crate) async fn run(&self, output: Output) -> Result<ExitCode> {
        match self.command.is_about_a_replica() {
            true => beside::run(self, output).await,
            false => self.carry_out(output).await,
        }
    }

    /// Carries it out in this process.
    pub(crate) async fn carry_out(&self, output: Output) -> Result<ExitCode> {
        let place = &self.place;
        match &self.command {
            Command::Demo => return demo::run(output).await,
            Command::Import(arguments) => return import::run(place, arguments, output).await,
            Command::Schema(command) => return schema::run(place, command, output).await,
            Command::Doctor(arguments) => return inspect::doctor(place, arguments, output),
            Command::Adapters(of) => return crate::adapters::run(of, place, output).await,
            Command::Audit(arguments) => return audit::run(place, arguments, output).await,
            Command::Relay(arguments) => relay::run(arguments, output).await,
            Command::Sync(arguments) => sync::run(place, arguments, output).await,
            Command::Export(arguments) => export::run(place, arguments, output).await,
            Command::List(arguments) => list::run(place, arguments, output).await,
            Command::Get(arguments) => documents::get(place, arguments, output).await,
            Command::Set(arguments) => documents::set(place, arguments, output).await,
            Command::Append(arguments) => documents::append(place, arguments, output).await,
            Command::Add(arguments) => documents::add(place, arguments, output).await,
            Command::Delete(arguments) => documents::delete(place, arguments, output).await,
            Command::Restore(arguments) => deleted::restore(place, arguments, output).await,
            Command::Watch(arguments) => watch::run(place, arguments, output).await,
            Command::Reviews(arguments) => reviews::list(place, arguments, output).await,
            Command::Review(arguments) => reviews::show(place, arguments, output).await,
            Command::Settle(arguments) => reviews::settle(place, arguments, output).await,
            Command::Assign(arguments) => reviews::assign(place, arguments, output).await,
            Command::Whoami(arguments) => identity::run(place, arguments, output).await,
            Command::Blame(arguments) => blame::run(place, arguments, output).await,
            Command::History(arguments) => history::run(place, arguments, output).await,
            Command::Status(arguments) => inspect::status(place, arguments, output).await,
            Command::Digest => inspect::digest(place, output).await,
            Command::CompactWorker => relay::compact(),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Command {
    /// Whether it opens the replica that the command line names, and others may do so beside it.
    fn is_about_a_replica(&self) -> bool {
        !matches!(
            self,
            Self::Demo
                | Self::Relay(_)
                | Self::Adapters(_)
                | Self::Schema(SchemaCommand::Lint(_))
                // It has the file alone, and finds it as nobody else leaves it.
                | Self::Doctor(_)
                | Self::CompactWorker
        )
    }

    /// Whether it goes on until it is interrupted.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(self, Self::Watch(_) | Self::Sync(SyncArguments { once: false, .. }))
    }

    /// Whether it may change what is in the replica.
    pub(crate) fn edits(&self) -> bool {
        match self {
            Self::Import(arguments) => !arguments.dry_run,
            Self::Schema(command) => matches!(command, SchemaCommand::Apply(_)),
            Self::Set(_) | Self::Append(_) | Self::Add(_) | Self::Delete(_) | Self::Restore(_) => {
                true
            }
            Self::Settle(_) | Self::Assign(_) | Self::Whoami(_) | Self::Sync(_) => true,
            _ => false,
        }
    }
}

fn path(text: &str) -> Result<Path, String> {
    if text.is_empty() {
        return Err("name a field".to_owned());
    }
    Ok(Path::from(text))
}

/// The name of a column.
fn column(text: &str) -> Result<String, Infallible> {
    Ok(values::name(text))
}

/// A size with its unit.
fn bytes(text: &str) -> Result<usize, String> {
    let wrong = || "write a number and a unit: 64MiB or 2GiB".to_owned();
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let shift = match unit {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(wrong()),
    };
    let bytes = number.checked_mul(1 << shift).and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(wrong)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let split = text.find(|char: char| !char.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    Some((number.parse().ok()?, unit))
}

/// A time with its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and a unit: 30s, 500ms or 2m".to_owned();
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(ms).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_declared_without_contradictions() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "30", "s", "-1s", "1.5s", "5 h", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("16MiB"), Ok(16 << 20));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        for wrong in ["", "16", "MiB", "-1MiB", "16MB", "99999999999GiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn counters_count_down_and_texts_may_begin_with_a_dash() {
        let line = ["rejoin", "add", "jobs", "1", "parts", "-3"];
        let parsed = Arguments::try_parse_from(line).expect("a complete command line");
        assert!(matches!(parsed.command, Command::Add(AddArguments { by: -3, .. })));
        let line = ["rejoin", "append", "jobs", "1", "notes", "- ring twice"];
        assert!(Arguments::try_parse_from(line).is_ok());
    }
}
