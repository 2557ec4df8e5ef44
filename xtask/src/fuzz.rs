//! Inputs that are looked for by what they reach: `cargo xtask fuzz`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::steps::run;

#[derive(Args)]
pub(crate) struct Options {
    /// Only this target
    target: Option<Target>,
    /// How long each target is tried
    #[arg(long, value_name = "S", default_value_t = 60)]
    seconds: u32,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Target {
    /// Messages of automerge-repo
    AutomergeRepo,
    /// Changes with a right checksum
    Change,
    /// Frames between replicas and relays
    Frame,
}

impl Target {
    /// Its program, and the folder of its seeds.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AutomergeRepo => "automerge_repo",
            Self::Change => "change",
            Self::Frame => "frame",
        }
    }
}

impl Options {
    /// The targets that were asked for.
    pub(crate) fn targets(&self) -> Vec<Target> {
        self.target.map_or_else(|| Target::value_variants().to_vec(), |target| vec![target])
    }

    /// Tries a target until the time is up. What it finds on the way stays below `target/fuzz`, for
    /// the next run to begin with.
    ///
    /// # Errors
    ///
    /// When an input breaks a promise; the output says which file holds it.
    pub(crate) fn attempt(&self, target: Target) -> Result<()> {
        let (folder, name) = (folder(), target.name());
        let corpus = folder.join("corpus").join(name);
        fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
        let mut command = cargo("run");
        command
            .args(["--quiet", "--bin", name, "--"])
            .arg(corpus)
            .arg(sources().join("seeds").join(name));
        command.arg(format!("-max_total_time={}", self.seconds));
        command.arg(format!("-artifact_prefix={}/{name}-", folder.display()));
        command.args(["-max_len=4096", "-print_final_stats=1", "-verbosity=0"]);
        run(&mut command)
            .with_context(|| format!("keep the input in tests/fuzz/seeds/{name} with its repair"))
    }
}

/// Builds the targets with the counters that guide the search. Rust has them without a nightly
/// toolchain; only sanitizers would need one, and there is no unsafe code to look at.
///
/// # Errors
///
/// When they do not compile. They need a C++ compiler.
pub(crate) fn build() -> Result<()> {
    run(&mut cargo("build"))
}

/// Looks at the targets without building what they are linked with, which takes a C++ compiler.
///
/// # Errors
/// When they do not compile, or could be better.
pub(crate) fn lint() -> Result<()> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["clippy", "--locked", "--manifest-path"]).arg(sources().join("Cargo.toml"));
    command.arg("--target-dir").arg(folder()).env("CUSTOM_LIBFUZZER_PATH", folder().join("none"));
    command.args(["--all-targets", "--", "-D", "warnings"]);
    run(&mut command)
}

/// The target is named, so that the flags are not for build scripts and macros.
fn cargo(task: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args([task, "--release", "--locked", "--target", "host-tuple", "--manifest-path"]);
    command.arg(sources().join("Cargo.toml")).arg("--target-dir").arg(folder());
    command.env("RUSTFLAGS", COUNTERS.join(" "));
    command
}

/// What was built and found.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz")
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz")
}

/// As libFuzzer wants them: a counter for each edge, and what comparisons compare.
const COUNTERS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
