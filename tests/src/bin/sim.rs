//! Plays simulated worlds and random histories: `cargo xtask sim`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use rejoin_tests::sim::{self, Mutant};
use rejoin_tests::{adapters, login, merge};

struct Options {
    start: u64,
    seeds: u64,
    /// Prints everything that happens.
    print: bool,
    /// Histories of one document instead of worlds.
    merge: bool,
    /// Deliveries of one adapter instead of worlds.
    adapters: bool,
    /// Devices that people share and logins that fail instead of worlds.
    logins: bool,
    mutant: Option<Mutant>,
}

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!(
                "{wrong}; try `[--merge | --adapters | --logins] --seeds N [--start S]`, `--mutant NAME \
                 --seeds N`, or `[--merge | --adapters | --logins] --seed S`"
            );
            return ExitCode::from(2);
        }
    };
    // A panic is reported with its seed.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let failed = match &options {
        Options { merge: true, .. } => histories(&options),
        Options { adapters: true, .. } => deliveries(&options),
        Options { logins: true, .. } => logins(&options),
        _ => worlds(&options),
    };
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays worlds and returns how many broke a promise.
fn worlds(options: &Options) -> u64 {
    let began = Instant::now();
    let (mut failed, mut edits) = (0, 0);
    for seed in options.start..options.start + options.seeds {
        let started = Instant::now();
        match sim::run(seed, options.mutant, options.print) {
            Ok(report) => {
                edits += report.edits;
                let (took, trace) = (started.elapsed().as_secs_f64(), report.trace_hash);
                let (events, lasted) = (report.events, report.lasted_ms / 1000);
                println!(
                    "seed {seed}: {events} events in {lasted} s, trace {trace:016x} ({took:.1} s)"
                );
            }
            Err(failure) => {
                failed += 1;
                println!("{failure}");
            }
        }
    }
    let (seeds, took) = (options.seeds, began.elapsed().as_secs_f64());
    println!("{seeds} seeds, {edits} edits, {failed} failed, {took:.1} s");
    failed
}

/// Plays logins and returns in how many an edit was lost or bore another name.
fn logins(options: &Options) -> u64 {
    let (mut failed, mut edits) = (0, 0);
    for seed in options.start..options.start + options.seeds {
        match login::run(seed) {
            Ok(report) => {
                edits += report.edits;
                println!("seed {seed}: {report:?}");
            }
            Err(broken) => {
                failed += 1;
                println!("{broken}");
            }
        }
    }
    println!("{} seeds, {edits} edits, {failed} failed", options.seeds);
    failed
}

/// Plays histories and returns in how many a device differed from the fold.
fn histories(options: &Options) -> u64 {
    let began = Instant::now();
    let (mut failed, mut changes, mut checks) = (0, 0, 0);
    let mut found = BTreeMap::<&str, u64>::new();
    for seed in options.start..options.start + options.seeds {
        match merge::run(seed, options.print) {
            Ok(report) => {
                changes += report.changes;
                checks += report.checks;
                report.found.into_iter().for_each(|(what, often)| {
                    *found.entry(what).or_default() += often;
                });
            }
            Err(failure) => {
                failed += 1;
                println!("{failure}");
            }
        }
        let played = seed + 1 - options.start;
        if played.is_multiple_of(1000) {
            println!(
                "{played} histories, {failed} failed ({:.0} s)",
                began.elapsed().as_secs_f64()
            );
        }
    }
    let (seeds, took) = (options.seeds, began.elapsed().as_secs_f64());
    let found: Vec<_> = found.iter().map(|(what, often)| format!("{often} {what}")).collect();
    println!("{seeds} histories, {changes} changes, {checks} checks, {failed} failed, {took:.1} s");
    println!("found: {}", found.join(", "));
    failed
}

/// Plays deliveries and returns how many runs broke a promise.
fn deliveries(options: &Options) -> u64 {
    let began = Instant::now();
    let mut failed = 0;
    let mut found = BTreeMap::<&str, u64>::new();
    for seed in options.start..options.start + options.seeds {
        match adapters::run(seed, options.print) {
            Ok(report) => report.found.into_iter().for_each(|(what, often)| {
                *found.entry(what).or_default() += often;
            }),
            Err(failure) => {
                failed += 1;
                println!("{failure}");
            }
        }
    }
    let (seeds, took) = (options.seeds, began.elapsed().as_secs_f64());
    let found: Vec<_> = found.iter().map(|(what, often)| format!("{often} {what}")).collect();
    println!("{seeds} runs, {failed} failed, {took:.1} s: {}", found.join(", "));
    failed
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            start: 1,
            seeds: 0,
            print: false,
            merge: false,
            adapters: false,
            logins: false,
            mutant: None,
        };
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--merge" => options.merge = true,
                "--adapters" => options.adapters = true,
                "--logins" => options.logins = true,
                _ => {}
            }
            if ["--merge", "--adapters", "--logins"].contains(&&*name) {
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{value} is not a number"));
            match name.as_str() {
                "--seeds" => options.seeds = number()?,
                "--start" => options.start = number()?,
                "--seed" => (options.start, options.seeds, options.print) = (number()?, 1, true),
                "--mutant" => options.mutant = Some(mutant(&value)?),
                _ => return Err(format!("{name} is unknown")),
            }
        }
        Ok(options)
    }
}

fn mutant(name: &str) -> Result<Mutant, String> {
    let found = Mutant::ALL.iter().find(|(of, _)| *of == name).map(|(_, mutant)| *mutant);
    found.ok_or_else(|| {
        let names: Vec<_> = Mutant::ALL.iter().map(|(name, _)| *name).collect();
        format!("no mutant {name:?}; there are {}", names.join(", "))
    })
}
