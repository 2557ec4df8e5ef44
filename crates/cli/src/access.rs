//! `rejoin access`: what the rules of a relay allow, and to whom.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use rejoin::{CollectionName, SpaceName};
use rejoin_relay::access::{Explanation, Principal};
use rejoin_relay::check_access;
use serde_json::json;

use crate::output::Output;
use crate::place::PlaceArguments;

#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// Say what is wrong with access.toml, or may not be meant so
    Check(CheckArguments),
    /// Say which line lets somebody read and write a collection of the space (--space), or that none does
    Explain(ExplainArguments),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The relay's rules
    #[arg(default_value = "access.toml")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// The user
    pub(crate) user: String,
    /// The collection
    pub(crate) collection: CollectionName,
    /// A document's key there; rights are the same for all documents of a collection
    pub(crate) key: Option<String>,
    /// A role that the user has; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// The relay's rules
    #[arg(long, value_name = "FILE", default_value = "access.toml")]
    pub(crate) access: PathBuf,
}

pub(crate) fn run(place: &PlaceArguments, command: &AccessCommand, output: Output) -> Result<()> {
    match command {
        AccessCommand::Check(arguments) => check(arguments, output),
        AccessCommand::Explain(arguments) => explain(place, arguments, output),
    }
}

fn check(arguments: &CheckArguments, output: Output) -> Result<()> {
    let doubts = check_access(&arguments.file)?.doubts();
    let lines: Vec<_> = doubts.iter().map(ToString::to_string).collect();
    if lines.is_empty() {
        let json = json!({ "doubts": lines });
        return output.result(&json, || "nothing is wrong".to_owned());
    }
    bail!("{}:\n{}", arguments.file.display(), lines.join("\n"))
}

fn explain(place: &PlaceArguments, arguments: &ExplainArguments, output: Output) -> Result<()> {
    let space = &SpaceName::new(place.space.as_str())?;
    let rules = check_access(&arguments.access)?;
    let principal = Principal {
        user: arguments.user.clone(),
        roles: arguments.roles.iter().cloned().collect(),
        device: None,
        token: None,
        issued_s: None,
        expires_s: u64::MAX,
    };
    let ExplainArguments { user, collection, .. } = arguments;
    let Explanation { read, write } = Explanation::of(&rules, &principal, space, collection);
    output.result(&json!({ "read": read, "write": write }), || {
        let with = match arguments.roles.is_empty() {
            true => "without a role".to_owned(),
            false => format!("as {}", arguments.roles.join(", ")),
        };
        let line = |may: &str, line: Option<usize>| match line {
            Some(line) => format!("{user}, {with}, may {may} {collection}, by line {line}"),
            None => format!("{user}, {with}, may not {may} {collection}: no line allows it"),
        };
        format!("{}\n{}", line("read", read), line("write to", write))
    })
}
