//! The words developers and CI share: `cargo xtask check`, `test`, `docs`, `dist`, `sim`, `fuzz`,
//! `siege`, `soak` and `bench`.

mod dist;
mod docs;
mod fuzz;
mod groups;
mod node;
mod peers;
mod python;
mod siege;
mod steps;
mod tools;
mod wasm;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::steps::{Steps, cargo, cargo_has};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "What a contributor to Rejoin runs; CI runs the same")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Formatting, lints and dependency rules, and whether core and engine compile for WebAssembly
    Check(Check),
    /// Everything that must pass before a change is merged; installs what it needs
    Test(Test),
    /// The book of the documentation, below `target/book`; installs mdBook below `target` if it is missing
    Docs,
    /// A tarball of the release, with completions and pages of the manual, below `target/dist`
    Dist,
    /// The Python packages that tests need, below `target`; `test` installs them too
    Python,
    /// The npm packages that tests need, below `target`; `test` installs them too
    Node,
    /// Seeded simulations of replicas, relays, networks and disks
    Sim(Sim),
    /// Inputs from outside, searched by what they reach, against what reads them
    Fuzz(fuzz::Options),
    /// Hostile peers against a relay, and what honest ones notice of them
    Siege(siege::Options),
    /// A relay that is killed, stopped, backed up and restored for hours, and whether anything is lost
    Soak(Soak),
    /// Benchmarks, all of them or those whose name contains NAME; `scale` only when it is named
    Bench(Bench),
}

#[derive(Args)]
struct Check {
    /// Install a compiler for WebAssembly with apt if there is none
    #[arg(long)]
    install: bool,
}

#[derive(Args)]
struct Test {
    /// Only what takes a few minutes: the tests of core, engine and client, without servers and browsers
    #[arg(long)]
    quick: bool,
}

#[derive(Args)]
struct Soak {
    /// How long
    #[arg(long, value_name = "N", default_value = "1")]
    hours: String,
    /// Decides what happens when
    #[arg(long, value_name = "S", default_value = "1")]
    seed: String,
}

#[derive(Args)]
struct Bench {
    /// With --peers there may be several; after `scale` stand numbers of documents
    name: Vec<String>,
    #[command(flatten)]
    peers: peers::Options,
}

#[derive(Args)]
struct Sim {
    /// Play random histories of one document against a brute-force fold, instead of worlds
    #[arg(long, conflicts_with = "mutant")]
    merge: bool,
    /// Play deliveries of an adapter to a target that fails, instead of worlds
    #[arg(long, conflicts_with_all = ["merge", "mutant"])]
    adapters: bool,
    /// Play devices that several people share, and logins that fail, instead of worlds
    #[arg(long, conflicts_with_all = ["merge", "adapters", "mutant"])]
    logins: bool,
    /// How many seeds to run
    #[arg(long, value_name = "N", required_unless_present = "seed")]
    seeds: Option<u64>,
    /// Run this one seed, as a failure asks you to
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// The first seed of the run
    #[arg(long, value_name = "S")]
    start: Option<u64>,
    /// Break one promise on purpose, to see that the checkers notice
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().task {
        Task::Check(options) => Ok(check(&options)),
        Task::Test(Test { quick: true }) => Ok(test_quick()),
        Task::Test(_) => Ok(test()),
        Task::Docs => Ok(docs()),
        Task::Dist => Ok(dist()),
        Task::Python => python::install().map(|()| ExitCode::SUCCESS),
        Task::Node => node::install().map(|()| ExitCode::SUCCESS),
        Task::Sim(options) => sim(&options),
        Task::Fuzz(options) => Ok(fuzz(&options)),
        Task::Siege(options) => Ok(siege(&options)),
        Task::Soak(options) => Ok(soak(&options)),
        Task::Bench(Bench { name, peers }) if peers.peers => Ok(bench_peers(&name, &peers)),
        Task::Bench(Bench { name, .. }) => match name.split_first() {
            Some((scale, sizes)) if scale == "scale" => Ok(bench_scale(sizes)),
            _ => bench(&name),
        },
    }
}

fn fuzz(options: &fuzz::Options) -> ExitCode {
    let mut steps = Steps::of("fuzz");
    if steps.run("build", fuzz::build) {
        for target in options.targets() {
            steps.run(target.name(), || options.attempt(target));
        }
    }
    steps.finish()
}

fn soak(Soak { hours, seed }: &Soak) -> ExitCode {
    let mut steps = Steps::of("soak");
    let run = ["run", "--release", "--package", "rejoin-tests", "--bin", "soak", "--"];
    if steps.run("build", || cargo(&["build", "--release", "--package", "rejoin-cli"])) {
        steps.run("soak", || cargo(&[&run[..], &["--hours", hours, "--seed", seed]].concat()));
    }
    steps.finish()
}

fn siege(options: &siege::Options) -> ExitCode {
    let mut steps = Steps::of("siege");
    if steps.run("build", siege::build) {
        steps.run("siege", || options.play());
    }
    steps.finish()
}

fn check(options: &Check) -> ExitCode {
    let mut steps = Steps::of("check");
    if options.install && wasm::compiler().is_none() {
        steps.run("tools", || tools::install(&wasm::PACKAGES));
    }
    steps.run("format", || cargo(&["fmt", "--all", "--check"]));
    steps.run("lints", || {
        cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
    });
    // The workspace as a whole is built with what its tests ask for, and nobody else builds it so.
    steps.run("lints of the program", || {
        cargo(&["clippy", "--package", "rejoin-cli", "--", "-D", "warnings"])?;
        let least = ["clippy", "--package", "rejoin-cli", "--no-default-features"];
        cargo(&[&least[..], &["--", "-D", "warnings"]].concat())
    });
    steps.run("lints of fuzz targets", fuzz::lint);
    steps.run("rustdoc", || {
        let denied = "build.rustdocflags=[\"-Dwarnings\"]";
        cargo(&["doc", "--workspace", "--no-deps", "--config", denied])
    });
    match wasm::compiler() {
        Some(compiler) => _ = steps.run("engine in WebAssembly", || wasm::check(&compiler)),
        None => steps.skip("engine in WebAssembly", wasm::MISSING),
    }
    if cargo_has("deny") {
        steps.run("dependencies", || cargo(&["deny", "check", "bans", "licenses", "sources"]));
        steps.run("advisories", || cargo(&["deny", "check", "advisories"]));
    } else {
        let reason = "cargo-deny is not installed: `cargo install cargo-deny --locked`";
        steps.skip("dependencies", reason);
        steps.skip("advisories", reason);
    }
    steps.finish()
}

fn test() -> ExitCode {
    let mut steps = Steps::of("test");
    // Without any of these, failures that follow would only hide the one to look at.
    let ready = steps.run("tools", tools::install_missing)
        && steps.run("python", python::install)
        && steps.run("node", node::install)
        && steps.run("build", build);
    if ready {
        groups::forget();
        steps.run("tests", || nextest(&["--workspace", "--no-fail-fast"]));
        groups::print();
        steps.run("doctests", || cargo(&["test", "--doc", "--workspace"]));
    }
    steps.finish()
}

/// What one runs while one works.
fn test_quick() -> ExitCode {
    let mut steps = Steps::of("test --quick");
    if steps.run("build", || nextest(&[&QUICK[..], &["--no-run"]].concat())) {
        steps.run("tests", || nextest(&QUICK));
    }
    steps.finish()
}

fn docs() -> ExitCode {
    let mut steps = Steps::of("docs");
    if steps.run("mdBook", docs::install) {
        steps.run("book", docs::build);
    }
    steps.finish()
}

fn dist() -> ExitCode {
    let mut steps = Steps::of("dist");
    if steps.run("build", dist::build) {
        steps.run("pack", dist::pack);
    }
    steps.finish()
}

/// The program that tests start, with all tests: built by itself, it would have its dependencies
/// compiled with other features, and so twice.
fn build() -> Result<()> {
    cargo(&["build", "--workspace", "--bin", "rejoin", "--tests"])
}

fn nextest(options: &[&str]) -> Result<()> {
    if cargo_has("nextest") {
        return cargo(&[&["nextest", "run"], options].concat());
    }
    println!("cargo-nextest is not installed, so `cargo test` runs the tests, more slowly");
    // `--tests` leaves the doctests to the step that runs them either way.
    cargo(&[&["test", "--tests"], options].concat())
}

/// The packages of quick tests.
const QUICK: [&str; 6] = ["-p", "rejoin-core", "-p", "rejoin-engine", "-p", "rejoin"];

fn sim(options: &Sim) -> Result<ExitCode> {
    let options = options.to_arguments();
    let mut arguments = vec!["run", "--release", "--package", "rejoin-tests", "--bin", "sim", "--"];
    arguments.extend(options.iter().map(String::as_str));
    cargo(&arguments)?;
    Ok(ExitCode::SUCCESS)
}

impl Sim {
    /// The options as the `sim` binary takes them: those given, by the same names.
    fn to_arguments(&self) -> Vec<String> {
        let number = |option: Option<u64>| option.map(|number| number.to_string());
        let kinds =
            [("--merge", self.merge), ("--adapters", self.adapters), ("--logins", self.logins)];
        let kinds = kinds.into_iter().filter(|(_, is_it)| *is_it).map(|(name, _)| name.to_owned());
        let others = [
            ("--seeds", number(self.seeds)),
            ("--seed", number(self.seed)),
            ("--start", number(self.start)),
            ("--mutant", self.mutant.clone()),
        ];
        let others = others.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?]));
        kinds.chain(others.flatten()).collect()
    }
}

fn bench(names: &[String]) -> Result<ExitCode> {
    let name = match names {
        [] => None,
        [name] => Some(name.as_str()),
        _ => bail!("benchmarks are chosen by one NAME; only those with --peers take several"),
    };
    let mut whole = vec!["run", "--release", "--package", "rejoin-tests", "--bin", "bench", "--"];
    whole.extend(name);
    let mut parts = vec!["bench", "--workspace", "--"];
    parts.extend(name);

    let mut steps = Steps::of("bench");
    // What runs as a process of its own is measured as it is now.
    steps.run("build", || cargo(&["build", "--release", "--package", "rejoin-cli"]));
    steps.run("whole system", || cargo(&whole));
    steps.run("parts", || cargo(&parts));
    Ok(steps.finish())
}

/// What a document costs in stores of these sizes, or of those that are usual.
fn bench_scale(sizes: &[String]) -> ExitCode {
    let mut run = vec!["run", "--release", "--package", "rejoin-tests", "--bin", "scale", "--"];
    run.extend(sizes.iter().map(String::as_str));
    let mut steps = Steps::of("bench scale");
    if steps.run("build", || cargo(&["build", "--release", "--package", "rejoin-cli"])) {
        steps.run("scale", || cargo(&run));
    }
    steps.finish()
}

fn bench_peers(rows: &[String], options: &peers::Options) -> ExitCode {
    let mut steps = Steps::of("bench --peers");
    let ready =
        steps.run("packages", node::install_peers) && steps.run("build", || options.build());
    if ready {
        steps.run("peers", || options.measure(rows));
    }
    steps.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sim(line: &str) -> Option<Vec<String>> {
        match Arguments::try_parse_from(line.split(' ')).ok()?.task {
            Task::Sim(options) => Some(options.to_arguments()),
            _ => None,
        }
    }

    #[test]
    fn sim_passes_on_what_it_was_given_and_nothing_else() {
        let options = "--seeds 20 --start 7 --mutant ack-before-commit";
        let passed = sim(&format!("xtask sim {options}")).expect("a complete command line");
        assert_eq!(passed.join(" "), options);
        let passed = sim("xtask sim --merge --seeds 3").expect("a complete command line");
        assert_eq!(passed, ["--merge", "--seeds", "3"]);
        assert_eq!(sim("xtask sim --seed 7").expect("one seed is enough"), ["--seed", "7"]);
    }

    #[test]
    fn siege_passes_on_what_it_was_given() {
        let line = "--minutes 2 --seed 7 --only wants --json";
        let siege = Arguments::try_parse_from(format!("xtask siege {line}").split(' '));
        let Ok(Arguments { task: Task::Siege(options) }) = siege else { panic!("a command line") };
        assert_eq!(options.to_arguments().join(" "), line);
    }

    #[test]
    fn sim_wants_to_know_how_many_seeds() {
        assert_eq!(sim("xtask sim --start 7"), None);
    }
}
