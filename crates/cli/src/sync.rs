//! `rejoin sync`: bring a replica and a relay together.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail};
use rejoin::{Link, Status};
use serde_json::{Value, json};
use tokio::signal::ctrl_c;
use tokio::time::timeout;

use crate::arguments::{PlaceArguments, SyncArguments};
use crate::local::Local;
use crate::output::{Output, count};

pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &SyncArguments,
    output: Output,
) -> Result<()> {
    let local = Local::open_or_create(place).await?;
    local.replica.connect(&arguments.url, &[&local.space]).await?;
    let synced = if arguments.once {
        once(&local, arguments.timeout, output).await
    } else {
        tokio::select! {
            shown = show_all(&local, output) => shown,
            interrupted = ctrl_c() => Ok(interrupted?),
        }
    };
    // Also when it failed: what arrived so far need not come again.
    local.close().await;
    synced
}

/// Waits until both sides hold everything.
async fn once(local: &Local, limit: Duration, output: Output) -> Result<()> {
    let aside = local.replica.status().set_aside;
    let safe = local.replica.status_when(|status| status.link == Link::Safe);
    let Ok(status) = timeout(limit, safe).await else {
        let status = local.replica.status();
        bail!("not in sync after {}: {}", seconds(limit), StatusLine::of(&status));
    };
    let status = status?;
    if status.set_aside > aside {
        let refused = count(status.set_aside - aside, "edit");
        bail!("the relay refused {refused} for good; `rejoin status` lists what was set aside");
    }
    let documents: u64 = local.space.collections()?.iter().map(|(_, documents)| documents).sum();
    let mut json = status_json(&status);
    json["documents"] = Value::from(documents);
    output.result(&json, || {
        let documents = count(documents, "document");
        format!("safe: the relay and this device both hold everything ({documents})")
    })
}

/// Prints how it stands, whenever that changes.
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

/// A status as a person reads it, without what changes every moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatusLine {
    link: Link,
    waiting: u64,
    set_aside: u64,
    trouble: Option<String>,
}

impl StatusLine {
    pub(crate) fn of(status: &Status) -> Self {
        let Status { link, waiting, set_aside, trouble, .. } = status.clone();
        Self { link, waiting, set_aside, trouble }
    }
}

impl fmt::Display for StatusLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.link)?;
        if self.waiting > 0 {
            write!(f, ", {} to send", count(self.waiting, "edit"))?;
        }
        if self.set_aside > 0 {
            write!(f, ", {} set aside", count(self.set_aside, "edit"))?;
        }
        match &self.trouble {
            Some(trouble) => write!(f, "; {trouble}"),
            None => Ok(()),
        }
    }
}

pub(crate) fn status_json(status: &Status) -> Value {
    json!({
        "link": status.link.to_string(),
        "waiting": status.waiting,
        "edited_at_s": status.edited_at_s,
        "safe_at_s": status.safe_at_s,
        "set_aside": status.set_aside,
        "trouble": status.trouble,
    })
}
