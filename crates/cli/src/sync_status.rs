//! How far a replica is with its sync, in one line for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt;

use indicatif::HumanCount;
use rejoin::{Link, Status};
use serde_json::{Value, json};

use crate::layout::one_line;
use crate::output::count;

/// A status as a person reads it, without the numbers that change every moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatusLine {
    link: Link,
    waiting: u64,
    waiting_for: BTreeMap<String, u64>,
    set_aside: u64,
    lost: u64,
    /// How many documents are here and how many there will be, in steps of a hundredth, while older
    /// ones still come.
    here: Option<(u64, u64)>,
    trouble: Option<String>,
}

impl StatusLine {
    pub(crate) fn of(status: &Status) -> Self {
        let Status { link, waiting, waiting_for, set_aside, lost, trouble, progress, .. } =
            status.clone();
        let here = progress.map(|progress| {
            let step = (progress.of / 100).max(1);
            (progress.documents / step * step, progress.of)
        });
        Self { link, waiting, waiting_for, set_aside, lost, here, trouble }
    }
}

impl fmt::Display for StatusLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.link)?;
        if let Some((documents, of)) = self.here {
            write!(f, ", {} of {} documents", HumanCount(documents), HumanCount(of))?;
        }
        if self.waiting > 0 {
            write!(f, ", {} to send", count(self.waiting, "edit"))?;
        }
        if let Some(held) = held_text(&self.waiting_for) {
            write!(f, ", {held}")?;
        }
        if self.set_aside > 0 {
            write!(f, ", {} set aside", count(self.set_aside, "edit"))?;
        }
        if self.lost > 0 {
            write!(f, "; {}", lost_text(self.lost))?;
        }
        match &self.trouble {
            Some(trouble) => write!(f, "; {}", one_line(trouble)),
            None => Ok(()),
        }
    }
}

/// The edits that wait for people who are not signed in; `None` if there are none.
pub(crate) fn held_text(waiting_for: &BTreeMap<String, u64>) -> Option<String> {
    if waiting_for.is_empty() {
        return None;
    }
    let edits: u64 = waiting_for.values().sum();
    let users: Vec<_> = waiting_for.keys().take(USERS_NAMED).map(|user| one_line(user)).collect();
    let more = match waiting_for.len() - users.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let users = users.join(", ");
    let verb = if edits == 1 { "waits" } else { "wait" };
    Some(format!("of which {edits} {verb} for {users}{more} to sign in here"))
}

/// The people whom a status names at most.
const USERS_NAMED: usize = 3;

/// What the relay lost, and who can bring it back.
pub(crate) fn lost_text(documents: u64) -> String {
    format!(
        "the relay lost changes of {} to damage, and waits for a device that has them",
        count(documents, "document")
    )
}

pub(crate) fn status_json(status: &Status) -> Value {
    json!({
        "link": status.link.to_string(),
        "waiting": status.waiting,
        "waiting_for": status.waiting_for,
        "edited_at_s": status.edited_at_s,
        "safe_at_s": status.safe_at_s,
        "set_aside": status.set_aside,
        "lost": status.lost,
        "is_partial": status.is_partial,
        "behind": status.behind,
        "progress": status.progress.map(|progress| json!({
            "documents": progress.documents,
            "of": progress.of,
            "bytes": progress.bytes,
        })),
        "trouble": status.trouble,
    })
}
