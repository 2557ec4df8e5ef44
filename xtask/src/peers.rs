//! Our relay beside others: `cargo xtask bench --peers`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::steps::cargo;

/// What the comparison is asked for, as its own command line has it.
#[derive(Args)]
pub(crate) struct Options {
    /// Measure our relay beside others, over the wire of automerge-repo
    #[arg(long)]
    pub(crate) peers: bool,
    /// With --peers, only this server; may be given more than once
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

/// Installs the npm packages of `tests/node-peers` below `target`, unless they are there.
///
/// # Errors
///
/// When there is no npm, or the packages cannot be had. The message says what to do.
pub(crate) fn install() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let from = root.join("tests/node-peers");
    let place = Place { folder: root.join("target/node-peers") };
    fs::create_dir_all(&place.folder)
        .with_context(|| format!("cannot make {}", place.folder.display()))?;
    // Released when it is closed.
    let lock = File::create(root.join("target/node-peers.lock")).context("cannot make a lock")?;
    lock.lock().context("cannot wait for others who install")?;
    let wanted = read(&from.join(LOCK))?;
    if place.has(&wanted) {
        return Ok(());
    }
    println!("installing npm packages into {}", place.folder.display());
    for file in [LOCK, "package.json"] {
        fs::write(place.folder.join(file), read(&from.join(file))?)
            .with_context(|| format!("cannot write {file} in {}", place.folder.display()))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&place.folder);
    let status = npm.status().context("cannot start npm; install Node 20 or later")?;
    if !status.success() {
        bail!("`npm ci` failed ({status}); see to the network, or to the registry npm uses");
    }
    fs::write(place.stamp(), wanted).context("cannot note what is installed")
}

/// Names each package and its hash.
const LOCK: &str = "package-lock.json";

/// A folder of packages.
struct Place {
    folder: PathBuf,
}

impl Place {
    /// A copy of the lock file whose packages were installed.
    fn stamp(&self) -> PathBuf {
        self.folder.join("installed.json")
    }

    fn has(&self, wanted: &[u8]) -> bool {
        fs::read(self.stamp()).is_ok_and(|installed| installed == wanted)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
