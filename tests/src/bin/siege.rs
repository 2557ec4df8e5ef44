//! Hostile peers against a real relay, and what honest ones notice: `cargo xtask siege`.

use std::cmp::Reverse;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use rejoin_tests::hostile::{Attack, Outcome, Plan, Scale, besiege};
use serde_json::{Value, json};

/// MiB of memory that the relay may come to.
const MEMORY_AIM: f64 = 256.0;

/// Milliseconds within which 99 of 100 honest edits are to be at the other side.
const LATENCY_AIM: f64 = 250.0;

/// Endings of attackers' connections that are shown, the most frequent.
const ANSWERS_SHOWN: usize = 5;

#[derive(Parser)]
#[command(about = "Plays hostile peers against a relay, and measures what honest ones notice")]
struct Arguments {
    /// How long all attacks together last
    #[arg(long, value_name = "N", default_value_t = 3)]
    minutes: u64,
    /// Decides what attackers draw at random
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Only this attack, or `together`
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// One JSON document for each attack
    #[arg(long)]
    json: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let sieges = sieges(arguments.only.as_deref())?;
    let lasts = Duration::from_secs(arguments.minutes * 60) / sieges.len() as u32;
    ensure!(!lasts.is_zero(), "a siege lasts at least a minute: --minutes 1");
    let rest = Duration::from_secs(10);
    let plan = Plan { lasts, rest, seed: arguments.seed, scale: Scale::FULL };

    let (mut missed, mut failed) = (Vec::new(), Vec::new());
    if !arguments.json {
        println!("{}", heading());
    }
    for (name, attacks) in &sieges {
        let outcome = besiege(attacks, plan);
        match arguments.json {
            true => println!("{}", as_json(name, &outcome)),
            false => print!("{}", as_lines(name, &outcome)),
        }
        missed.extend(aims_missed(name, &outcome));
        failed.extend(faults(name, &outcome));
    }
    missed.iter().for_each(|missed| eprintln!("missed: {missed}"));
    failed.iter().for_each(|failed| eprintln!("FAILED: {failed}"));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Each attack alone, and at the end all together.
fn sieges(only: Option<&str>) -> Result<Vec<(&'static str, Vec<Attack>)>> {
    let alone = Attack::ALL.map(|attack| (attack.name(), vec![attack]));
    let all = alone.into_iter().chain([("together", Attack::ALL.to_vec())]);
    let asked = all.filter(|(name, _)| only.is_none_or(|only| only == *name));
    let asked: Vec<_> = asked.collect();
    let names = || Attack::ALL.map(Attack::name).join(", ");
    ensure!(!asked.is_empty(), "there is no such attack; there are {} and together", names());
    Ok(asked)
}

/// What must not be, whatever the load.
fn faults(name: &str, outcome: &Outcome) -> Vec<String> {
    let lost = outcome.latencies.lost;
    let faults = [
        (lost > 0, format!("{name}: {lost} honest edits never came")),
        (!outcome.lives, format!("{name}: the relay died")),
        (!outcome.agrees, format!("{name}: honest documents are not the same everywhere")),
    ];
    faults.into_iter().filter(|(is_so, _)| *is_so).map(|(_, fault)| fault).collect()
}

fn aims_missed(name: &str, outcome: &Outcome) -> Vec<String> {
    let p99 = milliseconds(outcome.latencies.p99);
    let peak = outcome.peak.map_or(0.0, mebibytes);
    let missed = [
        (p99 > LATENCY_AIM, format!("{name}: p99 is {p99:.0} ms, the aim {LATENCY_AIM} ms")),
        (peak > MEMORY_AIM, format!("{name}: memory is {peak:.0} MiB, the aim {MEMORY_AIM} MiB")),
    ];
    missed.into_iter().filter(|(is_so, _)| *is_so).map(|(_, missed)| missed).collect()
}

fn heading() -> String {
    let columns = ["p50 ms", "p99 ms", "max ms", "health ms", "peak MiB", "after MiB", "edits"];
    let columns = columns.map(|column| format!("{column:>10}")).join("");
    format!("{:<12}{columns}", "attack")
}

fn as_lines(name: &str, outcome: &Outcome) -> String {
    let latencies = &outcome.latencies;
    let measured =
        |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |it| format!("{it:.1}"));
    let figures = [
        measured(Some(milliseconds(latencies.p50))),
        measured(Some(milliseconds(latencies.p99))),
        measured(Some(milliseconds(latencies.max))),
        measured(outcome.health.map(milliseconds)),
        measured(outcome.peak.map(mebibytes)),
        measured(outcome.after.map(mebibytes)),
        latencies.edits.to_string(),
    ];
    let figures = figures.map(|figure| format!("{figure:>10}")).join("");
    let mut lines = format!("{name:<12}{figures}\n");
    if outcome.browser_cut > 0 {
        let cut = outcome.browser_cut;
        lines.push_str(&format!("    the client of automerge-repo had to dial {cut} times more\n"));
    }
    let mut answers: Vec<_> = outcome.answers.iter().collect();
    answers.sort_by_key(|(_, count)| Reverse(**count));
    for (answer, count) in answers.iter().take(ANSWERS_SHOWN) {
        lines.push_str(&format!("    {count:>6} x {answer}\n"));
    }
    if let Some(others) = answers.get(ANSWERS_SHOWN..).filter(|others| !others.is_empty()) {
        let count: u64 = others.iter().map(|(_, count)| **count).sum();
        lines.push_str(&format!(
            "    {count:>6} x {} other endings; --json has them\n",
            others.len()
        ));
    }
    lines
}

fn as_json(name: &str, outcome: &Outcome) -> Value {
    let latencies = &outcome.latencies;
    json!({
        "attack": name,
        "edits": latencies.edits,
        "lost": latencies.lost,
        "p50_ms": milliseconds(latencies.p50),
        "p99_ms": milliseconds(latencies.p99),
        "max_ms": milliseconds(latencies.max),
        "health_ms": outcome.health.map(milliseconds),
        "peak_mib": outcome.peak.map(mebibytes),
        "after_mib": outcome.after.map(mebibytes),
        "lives": outcome.lives,
        "agrees": outcome.agrees,
        "browser_cut": outcome.browser_cut,
        "answers": outcome.answers,
    })
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
