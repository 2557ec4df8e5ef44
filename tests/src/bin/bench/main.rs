//! The macro run of `cargo xtask bench`: each figure beside a peer's in the same run, as a ratio.

mod adapters;
mod bookings;
mod local;
mod meeting;
mod query;
mod traces;
mod view;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;

/// One line of the result.
struct Figure {
    what: String,
    ours: Amount,
    beside: String,
    theirs: Amount,
}

/// What is measured.
#[derive(Clone, Copy)]
enum Amount {
    Time(Duration),
    Bytes(u64),
}

impl From<Duration> for Amount {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}

impl Figure {
    fn new<A: Into<Amount>>(what: impl Into<String>, ours: A, beside: &str, theirs: A) -> Self {
        let (ours, theirs) = (ours.into(), theirs.into());
        Self { what: what.into(), ours, beside: beside.to_owned(), theirs }
    }

    fn ratio(&self) -> f64 {
        self.ours.number() / self.theirs.number()
    }
}

impl Amount {
    /// In milliseconds or bytes.
    fn number(self) -> f64 {
        match self {
            Self::Time(time) => time.as_secs_f64() * 1e3,
            Self::Bytes(bytes) => bytes as f64,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Time(_) => "ms",
            Self::Bytes(_) => "bytes",
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Time(time) if time.as_millis() < 1 => format!("{:.1} µs", self.number() * 1e3),
            Self::Time(_) => format!("{:.3} ms", self.number()),
            Self::Bytes(_) => format!("{:.1} MiB", self.number() / f64::from(1 << 20)),
        }
    }
}

type Measure = fn() -> Vec<Figure>;

const MEASURES: [(&str, Measure); 14] = [
    ("edit", local::durable_edit),
    ("encrypted-edit", local::encrypted_edit),
    ("first-sync", meeting::first_sync),
    ("latency", meeting::latency),
    ("throughput", meeting::throughput),
    ("replay", traces::paper),
    ("concurrent", traces::concurrent),
    ("bookings", bookings::merged),
    ("view", view::view),
    ("query", query::page),
    ("adapters-rows", adapters::rows),
    ("adapters-backfill", adapters::backfill),
    ("adapters-visible", adapters::visible),
    ("adapters-hanging", adapters::hanging),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let as_json = arguments.iter().any(|argument| argument == "--json");
    let name = arguments.iter().find(|argument| !argument.starts_with("--"));
    let chosen =
        MEASURES.iter().filter(|(measure, _)| name.is_none_or(|name| measure.contains(&**name)));
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
    let Figure { what, ours, beside, theirs } = figure;
    if as_json {
        let unit = ours.unit();
        let line = json!({
            "what": what, unit: ours.number(), "beside": beside,
            format!("beside_{unit}"): theirs.number(), "ratio": figure.ratio(),
        });
        println!("{line}");
    } else {
        println!("{what:<46} {:>13}", ours.shown());
        println!("  {beside:<44} {:>13}  {:>7.3} x", theirs.shown(), figure.ratio());
    }
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
