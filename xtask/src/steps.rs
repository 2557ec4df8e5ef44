//! Running commands one after the other, and saying plainly at the end how they went.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The steps of one task. A step that fails does not stop the next: one run reports everything.
pub(crate) struct Steps {
    task: &'static str,
    passed: Vec<(&'static str, Duration)>,
    skipped: Vec<&'static str>,
    failed: Vec<&'static str>,
    started: Instant,
}

impl Steps {
    pub(crate) fn of(task: &'static str) -> Self {
        let started = Instant::now();
        Self { task, passed: Vec::new(), skipped: Vec::new(), failed: Vec::new(), started }
    }

    /// Runs a step and remembers how it went; true if it passed.
    pub(crate) fn run(&mut self, step: &'static str, work: impl FnOnce() -> Result<()>) -> bool {
        println!("\n== {}: {step}", self.task);
        let started = Instant::now();
        let outcome = work();
        match &outcome {
            Ok(()) => self.passed.push((step, started.elapsed())),
            Err(error) => {
                eprintln!("{error:#}");
                self.failed.push(step);
            }
        }
        outcome.is_ok()
    }

    /// Says that a step is left out, here and in the summary.
    pub(crate) fn skip(&mut self, step: &'static str, reason: &str) {
        println!("\n== {}: {step}: SKIPPED, {reason}", self.task);
        self.skipped.push(step);
    }

    /// Prints the summary; the exit code is a failure if any step was.
    pub(crate) fn finish(self) -> ExitCode {
        println!("\n{}", self.summary(self.started.elapsed()));
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn summary(&self, took: Duration) -> String {
        let verdict = if self.failed.is_empty() { "passed" } else { "FAILED" };
        let names =
            |steps: &[&str]| steps.iter().map(|step| (*step).to_owned()).collect::<Vec<_>>();
        let passed = self.passed.iter().map(|(step, took)| format!("{step} {} s", took.as_secs()));
        let all = [
            ("failed", names(&self.failed)),
            ("skipped", names(&self.skipped)),
            ("passed", passed.collect()),
        ];
        let parts: Vec<_> = all
            .iter()
            .filter(|(_, steps)| !steps.is_empty())
            .map(|(how, steps)| format!("{how}: {}", steps.join(", ")))
            .collect();
        format!("xtask {} {verdict} in {} s ({})", self.task, took.as_secs(), parts.join("; "))
    }
}

/// Runs cargo at the workspace root, its output going where ours goes.
///
/// # Errors
///
/// When cargo cannot be started or does not succeed; what it printed says why.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    let line = format!("cargo {}", arguments.join(" "));
    println!("$ {line}");
    let status = cargo_command(arguments)
        .status()
        .with_context(|| format!("cannot start `{line}`; install Rust from https://rustup.rs"))?;
    if !status.success() {
        bail!("`{line}` failed ({status}); its output above says why");
    }
    Ok(())
}

/// Runs a program, its output going where ours goes.
///
/// # Errors
///
/// When it cannot be started or does not succeed; what it printed says why.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot start {line}"))?;
    if !status.success() {
        bail!("{line} failed ({status}); its output above says why");
    }
    Ok(())
}

/// Whether cargo has this subcommand.
pub(crate) fn cargo_has(subcommand: &str) -> bool {
    cargo_command(&[subcommand, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn cargo_command(arguments: &[&str]) -> Command {
    // Cargo names itself to what it runs, so that one run stays with one toolchain.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_step_fails_the_task_and_the_rest_still_runs() {
        let mut steps = Steps::of("test");
        assert!(steps.run("build", || Ok(())));
        assert!(!steps.run("tests", || bail!("two tests failed")));
        assert!(steps.run("doctests", || Ok(())));
        assert_eq!(
            steps.summary(Duration::from_secs(12)),
            "xtask test FAILED in 12 s (failed: tests; passed: build 0 s, doctests 0 s)"
        );
        assert_eq!(steps.finish(), ExitCode::FAILURE);
    }

    #[test]
    fn a_skipped_step_is_named_in_the_summary() {
        let mut steps = Steps::of("check");
        steps.run("lints", || Ok(()));
        steps.skip("dependencies", "cargo-deny is not installed");
        assert_eq!(
            steps.summary(Duration::ZERO),
            "xtask check passed in 0 s (skipped: dependencies; passed: lints 0 s)"
        );
    }
}
