//! `rejoin sync`: brings a replica and a relay together.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;
use indicatif::{DecimalBytes, HumanCount, HumanDuration, ProgressBar};
use rejoin::sync::Progress;
use rejoin::{Link, Status};
use serde_json::Value;
use tokio::time::timeout;

use crate::caller::{interrupted, sees_motion};
use crate::layout::one_line;
use crate::local::Local;
use crate::output::{Output, count};
use crate::place::PlaceArguments;
use crate::refused;
use crate::sign_in::SignInArguments;
use crate::sync_status::{StatusLine, held_text, lost_text, status_json};
use crate::units::duration;

#[derive(Debug, Args)]
#[command(after_help = "\
Without --once, syncs until Ctrl-C and prints how it stands.
With --once, ends with 0 as soon as relay and replica both hold everything durably, and with 1 and \
the reason if that takes longer than the timeout, if edits wait for somebody else to sign in, or if the \
relay refused something for good, now or before, and nobody said with `rejoin status --acknowledge` that \
they know.")]
pub(crate) struct SyncArguments {
    /// The relay, as wss://HOST, or as ws://127.0.0.1:PORT for one on this machine
    pub(crate) url: String,
    /// End when both sides hold everything
    #[arg(long)]
    pub(crate) once: bool,
    /// How long --once may take: 30s, 500ms, 2m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) sign_in: SignInArguments,
}

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &SyncArguments,
    output: Output,
) -> Result<()> {
    let mut local = Local::open_or_create(place).await?;
    local.connect(&arguments.url, &arguments.sign_in).await?;
    let synced = if arguments.once {
        once(&local, arguments.timeout, output).await
    } else {
        tokio::select! {
            shown = show_all(&local, output) => shown,
            interrupted = interrupted() => Ok(interrupted?),
        }
    };
    // The session ends in good order after a failure too, so that documents that arrived need not
    // come again.
    local.close().await;
    synced
}

/// Waits until both sides hold everything.
async fn once(local: &Local, limit: Duration, output: Output) -> Result<()> {
    let shown = Shown::new(output);
    let safe = async {
        let mut told = None;
        loop {
            let is_over = |status: &Status| matches!(status.link, Link::Safe | Link::Held);
            let changed = |status: &Status| is_over(status) || Some(status) != told.as_ref();
            let status = local.replica.status_when(changed).await?;
            if is_over(&status) {
                return anyhow::Ok(status);
            }
            // Waiting brings no other token.
            ensure!(status.link != Link::SignedOut, "{}", StatusLine::of(&status));
            shown.show(&status, told.as_ref());
            told = Some(status);
        }
    };
    let synced = timeout(limit, safe).await;
    shown.bar.finish_and_clear();
    let Ok(status) = synced else {
        let status = local.replica.status();
        refused::open(&local.replica)?.iter().for_each(|it| output.note(&refused::line(it)));
        bail!("not in sync after {}: {}", seconds(limit), StatusLine::of(&status));
    };
    let status = status?;
    if status.link == Link::Held {
        let held = held_text(&status.waiting_for).unwrap_or_default();
        bail!(
            "all has come, and the relay holds every edit but {}, {held}",
            count(status.waiting, "edit")
        );
    }
    let documents: u64 = local.space.collections()?.iter().map(|(_, documents)| documents).sum();
    // Edits that were refused before this command count too: nobody may have looked at the output
    // that told of them.
    let refused = refused::open(&local.replica)?;
    let mut json = status_json(&status);
    json["documents"] = Value::from(documents);
    json["refused"] = Value::from_iter(refused.iter().map(refused::json));
    if refused.is_empty() {
        return output.result(&json, || {
            let documents = count(documents, "document");
            format!("safe: the relay and this device both hold everything ({documents})")
        });
    }
    if output.is_json() {
        output.event(&json)?;
    }
    refused.iter().for_each(|it| output.note(&refused::line(it)));
    bail!(
        "the relay holds everything but {}, which it will never take; make that again as the reason \
         says, and then `rejoin status --acknowledge`",
        refused::what(&refused)
    )
}

/// The progress that a person sees while they wait.
struct Shown {
    bar: ProgressBar,
    /// How many documents were here when the first one had come, and when that was.
    began: Cell<Option<(u64, Instant)>>,
    output: Output,
}

impl Shown {
    fn new(output: Output) -> Self {
        let bar = match !output.is_json() && sees_motion() {
            true => ProgressBar::new_spinner(),
            false => ProgressBar::hidden(),
        };
        Self { bar, began: Cell::new(None), output }
    }

    /// Shows how far the sync is, and says at once if something keeps it from going on.
    fn show(&self, status: &Status, told: Option<&Status>) {
        let is_news = told.is_none_or(|told| told.trouble != status.trouble);
        if let Some(trouble) = status.trouble.as_ref().filter(|_| is_news) {
            self.bar.suspend(|| self.output.note(&format!("{}; trying again", one_line(trouble))));
        }
        let lost = told.map_or(0, |told| told.lost);
        if status.lost > 0 && status.lost != lost {
            self.bar.suspend(|| self.output.note(&lost_text(status.lost)));
        }
        let text = match &status.progress {
            Some(progress) => {
                let now = (progress.documents, Instant::now());
                let (before, at) = self.began.get().unwrap_or(now);
                self.began.set(Some((before, at)));
                progress_text(progress, before, at.elapsed())
            }
            None => StatusLine::of(status).to_string(),
        };
        self.bar.set_message(text);
        self.bar.tick();
    }
}

/// The progress in words: `4,200 of 10,000 documents, 2.1 MB, about 40 seconds`. `before` is how many
/// documents were here at first, and `took` the time since then.
fn progress_text(progress: &Progress, before: u64, took: Duration) -> String {
    let Progress { documents, of, bytes } = *progress;
    let mut text = format!(
        "{} of {} documents, {}",
        HumanCount(documents),
        HumanCount(of),
        DecimalBytes(bytes)
    );
    // The pace of the first moments says little about the rest.
    let came = documents.saturating_sub(before);
    if came > 0 && documents < of && took > Duration::from_secs(1) {
        let left = took.as_secs_f64() * (of - documents) as f64 / came as f64;
        let left = Duration::from_secs(left.ceil() as u64);
        text += &format!(", about {}", HumanDuration(left));
    }
    text
}

/// Prints the status of the sync whenever it changes.
async fn show_all(local: &Local, output: Output) -> Result<()> {
    let mut shown = None;
    loop {
        let changed = |status: &Status| Some(StatusLine::of(status)) != shown;
        let status = local.replica.status_when(changed).await?;
        let line = StatusLine::of(&status);
        output.result(&status_json(&status), || line.to_string())?;
        shown = Some(line);
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_tells_documents_bytes_and_what_is_left_of_the_time() {
        let progress = Progress { documents: 4200, of: 10_000, bytes: 2_100_000 };
        let text = progress_text(&progress, 200, Duration::from_secs(20));
        assert_eq!(text, "4,200 of 10,000 documents, 2.10 MB, about 29 seconds");
        let text = progress_text(&progress, 4200, Duration::from_secs(20));
        assert_eq!(text, "4,200 of 10,000 documents, 2.10 MB");
    }
}
