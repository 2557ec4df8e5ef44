//! The command line of `rejoin adapters`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use rejoin_adapters::outbox::DeadClass;

use crate::clock::{Since, since};

#[derive(Debug, Args)]
#[command(after_help = "\
While `run` goes on, the other commands ask it; otherwise they open the outboxes themselves.")]
pub(crate) struct AdaptersArguments {
    #[command(subcommand)]
    pub(crate) command: AdaptersCommand,
    /// The file that says which documents go where
    #[arg(
        long,
        alias = "file",
        value_name = "FILE",
        global = true,
        env = "REJOIN_ADAPTERS",
        default_value = "adapters.toml"
    )]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdaptersCommand {
    /// Follow the documents and deliver, until Ctrl-C
    Run,
    /// Write a section to begin with into the file, of a kind of target; the file is made if there is none
    Init(InitArguments),
    /// Print the SQL that makes what an adapter needs in PostgreSQL: tables, columns, keys, rights
    Ddl(DdlArguments),
    /// Connect to a target, and list all that is in the way of deliveries; nothing is changed there
    Check(CheckArguments),
    /// Find what is wrong in the file, each with its line and column
    Lint(LintArguments),
    #[command(flatten)]
    Ask(AskCommand),
}

/// What is asked of adapters, whether they run or not.
#[derive(Debug, Subcommand)]
pub(crate) enum AskCommand {
    /// Show how the targets stand, and what they do not have yet
    Status,
    /// List what will not be delivered unless somebody does something about it
    DeadLetters(DeadLettersArguments),
    /// Show one dead letter, with what was to be delivered
    Show(LetterArguments),
    /// Deliver dead letters after all: one, or all that are meant
    Replay(LettersArguments),
    /// Let dead letters be: one, or all that are meant
    Discard(LettersArguments),
    /// Send nothing to a target; what changes waits
    Pause(NameArguments),
    /// Send again, also to a target that was given up
    Resume(NameArguments),
    /// Try at once what waits out a failure, and ask a target at once that is in trouble
    Retry(NameArguments),
    /// Deliver everything anew
    Backfill(NameArguments),
    /// Deliver anew what the target took since some time
    Rewind(RewindArguments),
    /// Show which rows the file as it is now would change
    Plan(OneArguments),
    /// Make rows as the file says now; look at `plan` before
    Apply(ApplyArguments),
    /// Compare everything the target holds with the documents, and repair what differs
    Reconcile(ReconcileArguments),
    /// Show where calendars and events are to be had; whoever knows a calendar's address can read it
    Feeds(OneArguments),
    /// Show which document and whose changes a row at a target comes from
    Origin(OriginArguments),
}

#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// The kind: postgres, webhook, nats, amqp, kafka, icalendar, server_sent_events or jsonl
    pub(crate) kind: String,
    /// The adapter's name; the kind unless it is said
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Whose documents it carries; unless it is said, those of which there are most here
    #[arg(long, value_name = "COLLECTION")]
    pub(crate) collection: Option<String>,
    /// A schema file that tells of collections and fields, beside the replica's documents
    #[arg(long, value_name = "FILE")]
    pub(crate) schema: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DdlArguments {
    /// The adapter
    pub(crate) adapter: String,
    /// A schema file that tells of types, in the place of the replica's
    #[arg(long, value_name = "FILE")]
    pub(crate) schema: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The adapter; all of them unless it is said
    pub(crate) adapter: Option<String>,
    /// Send a webhook one signed event, of the type rejoin.check.put
    #[arg(long)]
    pub(crate) send: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LintArguments {
    /// A schema file to compare the mapping with
    #[arg(long, value_name = "FILE")]
    pub(crate) schema: Option<PathBuf>,
    /// A document as JSON, as `rejoin get --json` prints it, to show the rows it becomes
    #[arg(long, value_name = "FILE")]
    pub(crate) sample: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DeadLettersArguments {
    /// Only those of this adapter
    pub(crate) adapter: Option<String>,
    /// Only those of this class: misfit, refused or exhausted
    #[arg(long, value_parser = class)]
    pub(crate) class: Option<DeadClass>,
    /// Only those since then: 2026-05-01, '2026-05-01 16:10' (UTC), or how long ago: 30m, 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<Since>,
}

fn class(text: &str) -> Result<DeadClass, String> {
    let found = DeadClass::ALL.into_iter().find(|class| class.name() == text);
    found.ok_or_else(|| format!("there are {}", DeadClass::ALL.map(DeadClass::name).join(", ")))
}

#[derive(Debug, Args)]
pub(crate) struct LettersArguments {
    /// The adapter
    pub(crate) adapter: String,
    /// The number in `rejoin adapters dead-letters`
    #[arg(
        required_unless_present_any = ["all", "class", "since"],
        conflicts_with_all = ["all", "class", "since"]
    )]
    pub(crate) number: Option<u64>,
    /// All dead letters of the adapter
    #[arg(long)]
    pub(crate) all: bool,
    /// All of this class: misfit, refused or exhausted
    #[arg(long, value_parser = class)]
    pub(crate) class: Option<DeadClass>,
    /// All since then: 2026-05-01, '2026-05-01 16:10' (UTC), or how long ago: 30m, 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<Since>,
}

#[derive(Debug, Args)]
pub(crate) struct OneArguments {
    /// Only this adapter
    pub(crate) adapter: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArguments {
    /// Only this adapter
    pub(crate) adapter: Option<String>,
    /// Do not ask, also if rows are removed at a target
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RewindArguments {
    /// The adapter
    pub(crate) adapter: String,
    /// Since when: 2026-05-01, '2026-05-01 16:10' (UTC), or how long ago: 30m, 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) to: Since,
}

#[derive(Debug, Args)]
pub(crate) struct ReconcileArguments {
    /// The adapter
    pub(crate) adapter: String,
    /// Only tell what differs
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Delete rows that no document ever became
    #[arg(long)]
    pub(crate) delete_extra: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OriginArguments {
    /// The adapter
    pub(crate) adapter: String,
    /// The row's kind: the name of its record in the file
    pub(crate) name: String,
    /// The row's key
    pub(crate) key: String,
}

#[derive(Debug, Args)]
pub(crate) struct LetterArguments {
    /// The adapter
    pub(crate) adapter: String,
    /// The number in `rejoin adapters dead-letters`
    pub(crate) number: u64,
}

#[derive(Debug, Args)]
pub(crate) struct NameArguments {
    /// The adapter
    pub(crate) adapter: String,
}
