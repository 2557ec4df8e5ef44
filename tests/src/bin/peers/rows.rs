//! What is measured: each row starts a server of its own, with nothing in it.

mod cold;
mod fanout;
mod idle;
mod latency;
mod lost;
mod many;
mod throughput;

use std::pin::Pin;
use std::time::Duration;

use anyhow::Result;

use crate::servers::Kind;

/// How a figure is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    PerSecond,
    Milliseconds,
    Kibibytes,
    Edits,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Milliseconds => "ms",
            Self::Kibibytes => "KiB",
            Self::Edits => "edits",
        }
    }

    pub(crate) fn more_is_better(self) -> bool {
        self == Self::PerSecond
    }
}

/// One figure of one server.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) what: &'static str,
    pub(crate) unit: Unit,
    pub(crate) value: f64,
    /// What must be known to read it.
    pub(crate) note: Option<String>,
}

impl Figure {
    fn new(what: &'static str, unit: Unit, value: f64) -> Self {
        Self { what, unit, value, note: None }
    }

    fn milliseconds(what: &'static str, time: Duration) -> Self {
        Self::new(what, Unit::Milliseconds, time.as_secs_f64() * 1e3)
    }

    /// One more note, if there is any.
    fn noted(self, note: Option<String>) -> Self {
        let note = match (self.note, note) {
            (Some(first), Some(second)) => Some(format!("{first}; {second}")),
            (first, second) => first.or(second),
        };
        Self { note, ..self }
    }
}

type Figures = Pin<Box<dyn Future<Output = Result<Vec<Figure>>>>>;

/// A row or several that are measured together.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// The figures it has, also when it does not come to them.
    pub(crate) figures: &'static [&'static str],
    /// No server may take longer, its start and what comes before the clock included.
    pub(crate) limit: Duration,
    pub(crate) measure: fn(Kind) -> Figures,
}

pub(crate) const ROWS: [Row; 9] = [
    Row {
        name: "throughput-1",
        figures: &throughput::ONE,
        limit: Duration::from_secs(40),
        measure: |kind| Box::pin(throughput::one(kind)),
    },
    Row {
        name: "throughput-10",
        figures: &throughput::TEN,
        limit: Duration::from_secs(40),
        measure: |kind| Box::pin(throughput::ten(kind)),
    },
    Row {
        name: "latency",
        figures: &latency::ONE,
        limit: Duration::from_secs(40),
        measure: |kind| Box::pin(latency::one(kind)),
    },
    Row {
        name: "latency-100",
        figures: &latency::HUNDRED,
        limit: Duration::from_secs(40),
        measure: |kind| Box::pin(latency::hundred(kind)),
    },
    Row {
        name: "fan-out",
        figures: &fanout::FIGURES,
        limit: Duration::from_secs(60),
        measure: |kind| Box::pin(fanout::fan_out(kind)),
    },
    Row {
        name: "documents",
        figures: &many::FIGURES,
        limit: Duration::from_secs(120),
        measure: |kind| Box::pin(many::documents(kind)),
    },
    Row {
        name: "idle",
        figures: &idle::FIGURES,
        limit: Duration::from_secs(40),
        measure: |kind| Box::pin(idle::connections(kind)),
    },
    Row {
        name: "cold",
        figures: &cold::FIGURES,
        limit: Duration::from_secs(60),
        measure: |kind| Box::pin(cold::paper(kind)),
    },
    Row {
        name: "lost",
        figures: &lost::FIGURES,
        limit: Duration::from_secs(180),
        measure: |kind| Box::pin(lost::after_kills(kind)),
    },
];

/// The value below which this part of the durations lies.
fn quantile(durations: &mut [Duration], part: f64) -> Duration {
    durations.sort_unstable();
    let at = (durations.len() as f64 * part) as usize;
    durations[at.min(durations.len() - 1)]
}
