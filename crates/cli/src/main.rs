//! `rejoin`: a relay, and a replica at the command line.
//!
//! Every command is a file, or a group of related ones is: it takes its arguments as [`arguments`]
//! declares them and prints through [`Output`](output::Output), as text for people or as JSON for
//! programs. Replicas are opened in [`local`].

mod adapters;
mod arguments;
mod audit;
mod blame;
mod clock;
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
mod output;
mod relay;
mod reviews;
mod schema;
mod sync;
mod values;
mod view;
mod watch;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;

use crate::arguments::{Arguments, Command};
use crate::output::Output;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse_usage(&error),
    };
    let output = Output::new(arguments.json);
    match run(arguments, output) {
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
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !asked && std::env::args_os().any(|argument| argument == "--json") {
        Output::new(true).error(&anyhow::anyhow!(error.to_string().trim().to_owned()));
    } else {
        // Nothing is left to tell anyone whose terminal is gone.
        let _ = error.print();
    }
    if asked { ExitCode::SUCCESS } else { ExitCode::from(USAGE) }
}

fn run(arguments: Arguments, output: Output) -> Result<ExitCode> {
    if matches!(arguments.command, Command::CompactWorker) {
        // Before any other thread takes address space from its limit.
        return relay::compact().map(|()| ExitCode::SUCCESS);
    }
    log_to_stderr(&arguments);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("threads could not be started")?;
    let code = runtime.block_on(arguments.run(output));
    // A task of a failed command must not keep the process alive.
    runtime.shutdown_background();
    code
}

/// Logs what `RUST_LOG` or else `-v` asks for; without either, what an operator would miss.
fn log_to_stderr(arguments: &Arguments) {
    let asked = match (&arguments.command, arguments.verbose) {
        (Command::Relay(_) | Command::Adapters(_), 0) => "info",
        (_, 0) => "error",
        (_, 1) => "info",
        (_, 2) => "debug",
        _ => "trace",
    };
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(asked));
    for client in BROKER_CLIENTS {
        let off = format!("{client}=off").parse().expect("a name and a level are a directive");
        filter = filter.add_directive(off);
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(console::colors_enabled_stderr())
        .init();
}

/// What logs whole messages, and at its finest how it signs in. Deliveries tell of what happened.
const BROKER_CLIENTS: [&str; 2] = ["async_nats", "lapin"];

/// The exit code of a command line that is not one, as clap has it.
const USAGE: u8 = 2;
