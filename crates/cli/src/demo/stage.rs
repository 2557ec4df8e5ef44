//! The output that the audience sees, and the waiting for events that are about to happen.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use console::Style;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::layout::{SideBySide, Table, width, wrap};
use crate::output::{Output, Text};

/// Prints scenes with the time, unless the output is for a program.
pub(super) struct Stage {
    output: Output,
    started: Instant,
    bell: watch::Sender<u64>,
}

impl Stage {
    pub(super) fn new(output: Output) -> Self {
        Self { output, started: Instant::now(), bell: watch::Sender::new(0) }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Prints the title of a scene that begins.
    pub(super) fn scene(&self, title: &str) {
        let time = format!("{:5.2} s", self.elapsed().as_secs_f64());
        let title = Text::styled(title, &Style::new().bold().cyan());
        let time = Text::styled(&time, &Style::new().dim());
        self.print(Text::default());
        self.print(Text::joined([time, title], "  "));
    }

    /// Prints text, in lines that fit the terminal.
    pub(super) fn say(&self, text: &str) {
        for line in wrap(text, self.width() - INDENT) {
            self.print(format!("{:INDENT$}{line}", ""));
        }
    }

    /// Prints things side by side.
    pub(super) fn compare(&self, compared: &SideBySide) {
        for line in compared.fit(self.width() - INDENT).lines() {
            self.print(format!("{:INDENT$}{line}", ""));
        }
    }

    pub(super) fn table(&self, table: Table) {
        self.print(table.indented(INDENT).fit(self.width()));
    }

    /// Prints the last words of the demo.
    pub(super) fn close(&self, converged: bool, took: Duration) {
        let took = format!("{:.1} s", took.as_secs_f64());
        let (words, style) = if converged {
            (format!("Everyone has the same day, after {took}."), Style::new().green())
        } else {
            let words =
                format!("The devices differ, after {took}: this is a bug, please report it.");
            (words, Style::new().red())
        };
        self.print(Text::default());
        self.print(Text::styled(&words, &style.bold()));
    }

    fn width(&self) -> usize {
        width().min(WIDTH_MAX)
    }

    fn print(&self, text: impl Into<Text>) {
        if !self.output.is_json() {
            // The demo goes on without an audience; its exit code tells how it went.
            let _ = self.output.line(text);
        }
    }

    /// The bell that rings whenever anything has changed on any device.
    pub(super) fn bell(&self) -> watch::Sender<u64> {
        self.bell.clone()
    }

    /// Waits until a condition is met, and looks again whenever the bell rings.
    pub(super) async fn until(
        &self,
        what: &str,
        mut is_met: impl AsyncFnMut() -> Result<bool>,
    ) -> Result<()> {
        let mut bell = self.bell.subscribe();
        let met = async {
            loop {
                bell.borrow_and_update();
                if is_met().await? {
                    return Ok(());
                }
                bell.changed().await?;
            }
        };
        within(what, met).await?
    }
}

/// Waits for an event that is about to happen, and fails if it takes too long.
pub(super) async fn within<T>(what: &str, awaited: impl Future<Output = T>) -> Result<T> {
    let happened = timeout(WAIT_MAX, awaited).await;
    happened.map_err(|_| anyhow!("waited {} s in vain for {what}", WAIT_MAX.as_secs()))
}

/// Columns by which the text below the title of a scene is indented.
const INDENT: usize = 9;

/// The greatest width of the output, as longer lines are hard to read.
const WIDTH_MAX: usize = 80;

/// How long any event may take. The slowest is that a device finds a relay again that was away.
const WAIT_MAX: Duration = Duration::from_secs(10);
