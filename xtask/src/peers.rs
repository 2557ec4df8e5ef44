//! Our relay beside others: `cargo xtask bench --peers`.

use anyhow::Result;
use clap::Args;

use crate::steps::cargo;

/// What the comparison is asked for, as its own command line has it.
#[derive(Args)]
pub(crate) struct Options {
    /// Measure our relay beside others: those of automerge-repo over their wire, and Hocuspocus
    #[arg(long)]
    pub(crate) peers: bool,
    /// With --peers, only this server (rejoin, automerge-repo, samod, hocuspocus); may be given
    /// more than once
    #[arg(long, value_name = "SERVER", requires = "peers")]
    only: Vec<String>,
    /// With --peers, one JSON document for each figure
    #[arg(long, requires = "peers")]
    json: bool,
}

impl Options {
    /// Builds what is compared, as it is shipped.
    ///
    /// # Errors
    ///
    /// As [`cargo`].
    pub(crate) fn build(&self) -> Result<()> {
        cargo(&["build", "--release", "--package", "rejoin-cli"])?;
        let tests = ["build", "--release", "--package", "rejoin-tests"];
        cargo(&[&tests[..], &["--bin", "samod_relay", "--bin", "peers"]].concat())
    }

    /// Measures rows whose name contains one of these, or all.
    ///
    /// # Errors
    ///
    /// As [`cargo`].
    pub(crate) fn measure(&self, rows: &[String]) -> Result<()> {
        let mut arguments =
            vec!["run", "--release", "--package", "rejoin-tests", "--bin", "peers", "--"];
        arguments.extend(self.only.iter().flat_map(|server| ["--only", server]));
        arguments.extend(self.json.then_some("--json"));
        arguments.extend(rows.iter().map(String::as_str));
        cargo(&arguments)
    }
}
