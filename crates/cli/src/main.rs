//! `rejoin`: a relay, and a replica at the command line.
//!
//! Every command is a file, or a group of related ones is: it takes its arguments as [`arguments`]
//! declares them and prints through [`Output`](output::Output), as text for people or as JSON for
//! programs. Replicas are opened in [`local`], and commands about one that another process has open are
//! carried out there by [`beside`]. What goes to standard error by another way than that,
//! such as the log of [`log`], shows text from outside as it does.

mod adapters;
mod arguments;
mod audit;
mod beside;
mod blame;
mod caller;
mod clock;
mod deleted;
mod demo;
mod documents;
mod export;
mod history;
mod identity;
mod import;
mod inspect;
mod layout;
mod list;
mod local;
mod log;
mod output;
mod refused;
mod relay;
mod reviews;
mod salvage;
mod schema;
mod sync;
mod unfit;
mod unsent;
mod values;
mod view;
mod watch;

use std::process::ExitCode;

/// A relay runs for months, and what a crowd of clients made it take has to go back to the system once
/// they are gone. The system's own allocator keeps most of it.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

use anyhow::{Context, Result};
use clap::Parser;
use clap::error::ErrorKind;

use crate::arguments::{Arguments, Command};
use crate::output::Output;

fn main() -> ExitCode {
    log::panics_to_stderr();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse_usage(&error),
    };
    let output = Output::new(arguments.json);
    told(run(arguments, output), output)
}

/// The exit code of a command. What went wrong is told.
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

/// Prints what is wrong with the command line, or the help it asked for.
fn refuse_usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Nothing is left to tell anyone whose terminal is gone.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let said = error.to_string().trim().to_owned();
    if std::env::args_os().any(|argument| argument == "--json") {
        Output::new(true).error(&anyhow::anyhow!(said));
    } else {
        // It names what was typed, or what a script put there.
        output::tell(&said);
    }
    ExitCode::from(USAGE)
}

fn run(arguments: Arguments, output: Output) -> Result<ExitCode> {
    if matches!(arguments.command, Command::CompactWorker) {
        // Before any other thread takes address space from its limit.
        return relay::compact().map(|()| ExitCode::SUCCESS);
    }
    log::to_stderr(&arguments);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("threads could not be started")?;
    let code = runtime.block_on(arguments.run(output));
    // A task of a failed command must not keep the process alive.
    runtime.shutdown_background();
    code
}

/// The exit code of a command line that is not one, as clap has it.
const USAGE: u8 = 2;
