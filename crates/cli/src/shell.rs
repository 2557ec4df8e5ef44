//! `rejoin completions` and `rejoin man`: what a shell and its manual know of the commands.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_complete::Shell;

use crate::output::Output;

#[derive(Debug, Args)]
#[command(after_help = "\
For bash, until the shell ends: source <(rejoin completions bash). A file of it in \
/usr/share/bash-completion/completions, or in the folder of its kind for another shell, stays.")]
pub(crate) struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// The folder for the pages, made if there is none
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints a script that completes words of the command line.
pub(crate) fn completions(
    mut command: Command,
    arguments: &CompletionsArguments,
    output: Output,
) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, NAME, &mut script);
    let mut stream = output.stream();
    stream.write_all(&script)?;
    Ok(stream.flush()?)
}

/// Writes a page of the manual for each command.
pub(crate) fn man(command: Command, arguments: &ManArguments) -> Result<()> {
    let folder = &arguments.folder;
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .with_context(|| format!("the pages cannot be written into {}", folder.display()))
}

const NAME: &str = "rejoin";
