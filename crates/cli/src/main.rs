//! `rejoin`: a relay, and a replica at the command line.
//!
//! Every command is a file, and so is every group of related ones: it declares its arguments, carries
//! itself out, and prints through [`Output`], as text for people or as JSON for
//! programs. This file reads the command line and hands it to its command; commands stand on modules
//! that several of them share, and these know no command. A replica is opened in [`local`]; a command
//! about a replica that another process has open is carried out by that process, see [`beside`]. The
//! log goes to standard error by way of [`log`], which makes text from outside harmless to a terminal
//! just as `Output` does.

mod access;
mod acting;
mod adapters;
mod admin;
mod audit;
mod backup;
mod beside;
mod blame;
mod caller;
mod change;
mod clock;
mod confirm;
mod csv_marks;
mod demo;
mod digest;
mod doctor;
mod documents;
mod export;
mod history;
mod host;
mod identity;
mod import;
mod layout;
mod list;
mod local;
mod log;
mod output;
mod place;
mod questions;
mod refused;
mod relay;
mod reviews;
mod schema;
mod seal;
mod shell;
mod short;
mod sign_in;
mod sign_out;
mod signals;
mod status;
mod sync;
mod sync_status;
mod token;
mod undo;
mod unfit;
mod units;
mod values;
mod view;
mod watch;
mod whoami;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use rejoin::undo::Way;

use crate::access::AccessCommand;
use crate::acting::Acting;
use crate::adapters::AdaptersArguments;
use crate::admin::AdminArguments;
use crate::audit::AuditArguments;
use crate::backup::BackupArguments;
use crate::beside::{Asked, GuestCommand};
use crate::blame::BlameArguments;
use crate::doctor::DoctorArguments;
use crate::documents::{
    AddArguments, AppendArguments, GetArguments, RestoreArguments, SetArguments,
};
use crate::export::ExportArguments;
use crate::history::HistoryArguments;
use crate::import::ImportArguments;
use crate::list::ListArguments;
use crate::output::Output;
use crate::place::{DocumentArguments, GLOBAL, PlaceArguments};
use crate::relay::RelayArguments;
use crate::reviews::{AssignArguments, ReviewArguments, ReviewsArguments, SettleArguments};
use crate::schema::SchemaCommand;
use crate::seal::SealCommand;
use crate::shell::{CompletionsArguments, ManArguments};
use crate::sign_out::SignOutArguments;
use crate::status::StatusArguments;
use crate::sync::SyncArguments;
use crate::token::TokenCommand;
use crate::undo::UndoArguments;
use crate::watch::WatchArguments;
use crate::whoami::WhoamiArguments;

/// A relay runs for months, and the memory that a crowd of clients made it take has to go back to the
/// system once they are gone. The system's own allocator keeps most of it.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Edit documents offline, and let them meet again at a relay.
#[derive(Debug, Parser)]
#[command(name = "rejoin", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    place: PlaceArguments,
    /// Print JSON: one document, or a line for each event of a command that goes on
    #[arg(long, global = true, help_heading = GLOBAL)]
    json: bool,
    /// Log to standard error; -vv and -vvv log more, RUST_LOG chooses
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = GLOBAL)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what Rejoin does: a day of three devices, their relay, and what goes wrong
    Demo,
    /// Run a relay, where replicas meet
    Relay(RelayArguments),
    /// Look after a relay that runs: devices, spaces, connections, damage
    Admin(AdminArguments),
    /// Make keys and tokens for those who sign in at a relay, and look at them
    #[command(subcommand)]
    Token(TokenCommand),
    /// Look at what the rules of a relay allow, and to whom
    #[command(subcommand)]
    Access(AccessCommand),
    /// Back up a relay, look at a backup, or restore a relay from one
    Backup(BackupArguments),
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
    /// Bring a deleted document back, or give a document the value that it had before
    Restore(RestoreArguments),
    /// Take back the last edit made in this replica, or the last batch of edits
    #[command(after_help = "\
What others wrote since stays, and the output names it. A text, list or map that the edit began stays, and is \
empty; a document that it made is deleted. With --as, the last edit of that user is taken back.")]
    Undo(UndoArguments),
    /// Make again what the last undo took back
    Redo(UndoArguments),
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
    /// Sign out who is signed in at a relay, if none of their edits wait
    SignOut(SignOutArguments),
    /// Show what is in the replica and what waits for a relay
    Status(StatusArguments),
    /// Print the digest of the space: equal on two replicas exactly when their documents are
    Digest,
    /// Look the replica's file over
    Doctor(DoctorArguments),
    /// Encrypt files of replicas and relays, give them other keys, and destroy them
    #[command(subcommand)]
    Seal(SealCommand),
    /// Print a script with which a shell completes commands and options
    Completions(CompletionsArguments),
    /// Write pages of the manual into a folder
    Man(ManArguments),
    /// Fold one document, as a relay asks on standard input
    #[command(hide = true)]
    CompactWorker,
}

fn main() -> ExitCode {
    log::panics_to_stderr();
    beside::serve_with(read_guest);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_usage(&error),
    };
    let output = Output::new(cli.json);
    told(run(&cli, output), output)
}

/// The exit code of a command, after an error of it was printed.
fn told(ended: Result<ExitCode>, output: Output) -> ExitCode {
    match ended {
        Ok(code) => code,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Prints an error of the command line, or the help that the command line asked for.
fn refuse_usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // If the terminal is gone, nobody is left to be told.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let said = error.to_string().trim().to_owned();
    if std::env::args_os().any(|argument| argument == "--json") {
        Output::new(true).error(&anyhow::anyhow!(said));
    } else {
        // The text quotes the command line, where a script may have put text from outside.
        output::tell(&said);
    }
    ExitCode::from(USAGE)
}

fn run(cli: &Cli, output: Output) -> Result<ExitCode> {
    if matches!(cli.command, Command::CompactWorker) {
        // This has to happen before any other thread takes address space from the worker's limit.
        return relay::compact().map(|()| ExitCode::SUCCESS);
    }
    let _log = log::to_stderr(
        matches!(cli.command, Command::Relay(_) | Command::Adapters(_)),
        cli.verbose,
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("threads could not be started")?;
    let code = runtime.block_on(cli.run(output));
    // A task of a failed command must not keep the process alive.
    runtime.shutdown_background();
    code
}

/// Reads the command line of a guest, for whom this process carries the command out.
fn read_guest(
    words: Vec<OsString>,
    replica: Option<PathBuf>,
    acts_as: Option<Acting>,
) -> Result<GuestCommand, clap::Error> {
    let mut cli = Cli::try_parse_from(words)?;
    // The guest's environment may name these, and the environment of this process must not.
    cli.place.replica = replica;
    cli.place.acts_as = acts_as;
    let output = Output::new(cli.json);
    Ok(GuestCommand {
        goes_on: cli.command.goes_on(),
        ending: Box::pin(async move { told(cli.carry_out(output).await, output) }),
    })
}

impl Cli {
    /// Carries the command out, or has it carried out by the process that has the replica open.
    async fn run(&self, output: Output) -> Result<ExitCode> {
        if !self.command.is_about_a_replica() {
            return self.carry_out(output).await;
        }
        let (goes_on, edits) = (self.command.goes_on(), self.command.edits());
        let asked = Asked { place: &self.place, goes_on, edits };
        beside::run(&asked, async || self.carry_out(output).await).await
    }

    /// Carries the command out in this process.
    async fn carry_out(&self, output: Output) -> Result<ExitCode> {
        let place = &self.place;
        match &self.command {
            Command::Demo => return demo::run(output).await,
            Command::Import(arguments) => return import::run(place, arguments, output).await,
            Command::Schema(command) => return schema::run(place, command, output).await,
            Command::Doctor(arguments) => return doctor::run(place, arguments, output),
            Command::Admin(arguments) => return admin::run(place, arguments, output).await,
            Command::Backup(arguments) => return backup::run(&place.key, arguments, output),
            Command::Token(command) => token::run(command, output),
            Command::Seal(command) => return seal::run(&place.key, command, output),
            Command::Access(command) => access::run(place, command, output),
            Command::Adapters(of) => return adapters::run(of, place, output).await,
            Command::Audit(arguments) => return audit::run(place, arguments, output).await,
            Command::Completions(arguments) => {
                shell::completions(Self::command(), arguments, output)
            }
            Command::Man(arguments) => shell::man(Self::command(), arguments),
            Command::Relay(arguments) => relay::run(&place.key, arguments, output).await,
            Command::Sync(arguments) => sync::run(place, arguments, output).await,
            Command::Export(arguments) => export::run(place, arguments, output).await,
            Command::List(arguments) => list::run(place, arguments, output).await,
            Command::Get(arguments) => documents::get(place, arguments, output).await,
            Command::Set(arguments) => documents::set(place, arguments, output).await,
            Command::Append(arguments) => documents::append(place, arguments, output).await,
            Command::Add(arguments) => documents::add(place, arguments, output).await,
            Command::Delete(arguments) => documents::delete(place, arguments, output).await,
            Command::Restore(arguments) => documents::restore(place, arguments, output).await,
            Command::Undo(arguments) => undo::run(place, Way::Undo, arguments, output).await,
            Command::Redo(arguments) => undo::run(place, Way::Redo, arguments, output).await,
            Command::Watch(arguments) => watch::run(place, arguments, output).await,
            Command::Reviews(arguments) => reviews::list(place, arguments, output).await,
            Command::Review(arguments) => reviews::show(place, arguments, output).await,
            Command::Settle(arguments) => reviews::settle(place, arguments, output).await,
            Command::Assign(arguments) => reviews::assign(place, arguments, output).await,
            Command::Whoami(arguments) => whoami::run(place, arguments, output).await,
            Command::SignOut(arguments) => sign_out::run(place, arguments, output).await,
            Command::Blame(arguments) => blame::run(place, arguments, output).await,
            Command::History(arguments) => history::run(place, arguments, output).await,
            Command::Status(arguments) => status::run(place, arguments, output).await,
            Command::Digest => digest::run(place, output).await,
            Command::CompactWorker => relay::compact(),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Command {
    /// Whether it opens the replica that the command line names, and may be carried out by another
    /// process that has the replica open.
    fn is_about_a_replica(&self) -> bool {
        !matches!(
            self,
            Self::Demo
                | Self::Relay(_)
                | Self::Admin(_)
                | Self::Backup(_)
                | Self::Token(_)
                | Self::Access(_)
                | Self::Adapters(_)
                | Self::Schema(SchemaCommand::Lint(_))
                // It needs the file for itself, in the state in which other processes leave it.
                | Self::Doctor(_)
                | Self::Seal(_)
                | Self::Completions(_)
                | Self::Man(_)
                | Self::CompactWorker
        )
    }

    /// Whether it goes on until it is interrupted.
    fn goes_on(&self) -> bool {
        matches!(self, Self::Watch(_) | Self::Sync(SyncArguments { once: false, .. }))
    }

    /// Whether it may change the replica.
    fn edits(&self) -> bool {
        match self {
            Self::Import(arguments) => !arguments.dry_run,
            Self::Schema(command) => matches!(command, SchemaCommand::Apply(_)),
            Self::Set(_) | Self::Append(_) | Self::Add(_) | Self::Delete(_) | Self::Restore(_) => {
                true
            }
            Self::Undo(arguments) | Self::Redo(arguments) => !arguments.dry_run,
            Self::Settle(_) | Self::Assign(_) | Self::Whoami(_) => true,
            Self::SignOut(_) | Self::Sync(_) => true,
            // One by one, so that a new command is not taken for one that only reads.
            Self::Demo | Self::Relay(_) | Self::Adapters(_) | Self::CompactWorker => false,
            Self::Admin(_) | Self::Backup(_) | Self::Token(_) | Self::Access(_) => false,
            // It is about files that nobody has open.
            Self::Seal(_) => false,
            Self::Completions(_) | Self::Man(_) => false,
            Self::Export(_) | Self::List(_) | Self::Get(_) | Self::Watch(_) => false,
            Self::Reviews(_) | Self::Review(_) | Self::History(_) | Self::Blame(_) => false,
            Self::Audit(_) | Self::Status(_) | Self::Digest | Self::Doctor(_) => false,
        }
    }
}

const EXIT_CODES: &str = "\
Exit code: 0 when everything was done, 1 when not, 2 when the command line is not understood.
Try `rejoin demo`: a relay, two technicians and a front desk, in a few seconds.";

/// The exit code for a command line that is not understood, as clap has it.
const USAGE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_declared_without_contradictions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn counters_count_down_and_texts_may_begin_with_a_dash() {
        let line = ["rejoin", "add", "jobs", "1", "parts", "-3"];
        let parsed = Cli::try_parse_from(line).expect("a complete command line");
        assert!(matches!(parsed.command, Command::Add(AddArguments { by: -3, .. })));
        let line = ["rejoin", "append", "jobs", "1", "notes", "- ring twice"];
        assert!(Cli::try_parse_from(line).is_ok());
    }
}
