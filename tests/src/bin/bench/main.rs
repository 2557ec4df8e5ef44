//! The macro run of `cargo xtask bench`: each figure beside a peer's in the same run, as a ratio.

mod bookings;
mod local;
mod meeting;
mod traces;
mod view;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;

/// One line of the result.
struct Figure {
    what: String,
    ours: Duration,
    beside: String,
    theirs: Duration,
}

impl Figure {
    fn new(what: impl Into<String>, ours: Duration, beside: &str, theirs: Duration) -> Self {
        Self { what: what.into(), ours, beside: beside.to_owned(), theirs }
    }

    fn ratio(&self) -> f64 {
        self.ours.as_secs_f64() / self.theirs.as_secs_f64()
    }
}

type Measure = fn() -> Vec<Figure>;

const MEASURES: [(&str, Measure); 8] = [
    ("edit", local::durable_edit),
    ("first-sync", meeting::first_sync),
    ("latency", meeting::latency),
    ("throughput", meeting::throughput),
    ("replay", traces::paper),
    ("concurrent", traces::concurrent),
    ("bookings", bookings::merged),
    ("view", view::view),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let as_json = arguments.iter().any(|argument| argument == "--json");
    let name = arguments.iter().find(|argument| !argument.starts_with("--"));
    let chosen = MEASURES.iter().filter(|(measure, _)| name.is_none_or(|name| name == measure));
    let mut any = false;
    for (name, measure) in chosen {
        any = true;
        eprintln!("measuring {name} ...");
        for figure in measure() {
            print(&figure, as_json);
        }
    }
    if any {
        return ExitCode::SUCCESS;
    }
    let names: Vec<_> = MEASURES.iter().map(|(name, _)| *name).collect();
    eprintln!("there is no such measure; there are {}", names.join(", "));
    ExitCode::from(2)
}

fn print(figure: &Figure, as_json: bool) {
    if as_json {
        let (ours, theirs) = (figure.ours.as_secs_f64() * 1e3, figure.theirs.as_secs_f64() * 1e3);
        let Figure { what, beside, .. } = figure;
        let ratio = figure.ratio();
        let line = json!({
            "what": what, "ms": ours, "beside": beside, "beside_ms": theirs, "ratio": ratio,
        });
        println!("{line}");
    } else {
        println!("{:<46} {:>13}", figure.what, shown(figure.ours));
        println!("  {:<44} {:>13}  {:>7.3} x", figure.beside, shown(figure.theirs), figure.ratio());
    }
}

fn shown(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    if ms < 1.0 { format!("{:.1} µs", ms * 1e3) } else { format!("{ms:.3} ms") }
}

/// How long something takes.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let result = work();
    (result, started.elapsed())
}

/// The value below which this part of the sorted durations lies.
fn quantile(durations: &mut [Duration], part: f64) -> Duration {
    durations.sort_unstable();
    let at = (durations.len() as f64 * part) as usize;
    durations[at.min(durations.len() - 1)]
}
