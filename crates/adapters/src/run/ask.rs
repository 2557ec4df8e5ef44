//! What people ask of adapters.

use serde::{Deserialize, Serialize};

use crate::outbox::Selection;

/// Something to tell or to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// How adapters stand, and what waits longest.
    Status {
        /// The configuration, as the text of its file: what it says otherwise than the adapters run with
        /// is told. They are told of alone without it.
        config: Option<String>,
    },
    /// What the documents are like, and their schemas: for those who write a mapping.
    Known,
    /// The dead letters.
    DeadLetters {
        /// Of one adapter; of all if there is none.
        adapter: Option<String>,
        /// Which of them.
        meant: Selection,
    },
    /// Delivers dead letters after all.
    Replay {
        /// Whose.
        adapter: String,
        /// Which.
        letters: Letters,
    },
    /// Lets dead letters be.
    Discard {
        /// Whose.
        adapter: String,
        /// Which.
        letters: Letters,
    },
    /// Sends nothing.
    Pause {
        /// Which adapter.
        adapter: String,
    },
    /// Sends again.
    Resume {
        /// Which adapter.
        adapter: String,
    },
    /// Asks a target at once that is in trouble, and tries at once what waits out a failure.
    Retry {
        /// Which adapter.
        adapter: String,
    },
    /// Delivers everything anew.
    Backfill {
        /// Which adapter.
        adapter: String,
    },
    /// Delivers anew what the target took since some time.
    Rewind {
        /// Which adapter.
        adapter: String,
        /// Since when, in milliseconds since 1970.
        to_ms: u64,
    },
    /// What a configuration would change.
    Plan {
        /// Of one adapter; of all if there is none.
        adapter: Option<String>,
        /// The configuration, as the text of its file.
        config: String,
    },
    /// Makes rows by the mappings of a configuration.
    Apply {
        /// Of one adapter; of all if there is none.
        adapter: Option<String>,
        /// The configuration, as the text of its file.
        config: String,
    },
    /// Compares everything the target holds with what it should hold.
    Reconcile {
        /// Which adapter.
        adapter: String,
        /// Only tells what differs.
        dry_run: bool,
        /// Deletes rows that no document ever became.
        delete_extra: bool,
    },
    /// Where others fetch what targets hold. Part of it is secret.
    Feeds {
        /// Of one adapter; of all if there is none.
        adapter: Option<String>,
    },
    /// Where a row comes from.
    Origin {
        /// Which adapter.
        adapter: String,
        /// The row's kind.
        name: String,
        /// The row's key.
        key: String,
    },
}

impl Ask {
    /// Whether every document is read for it, which takes as long as there are many.
    pub fn reads_everything(&self) -> bool {
        matches!(self, Self::Plan { .. } | Self::Reconcile { .. } | Self::Rewind { .. })
    }
}

/// Which dead letters of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Letters {
    /// One.
    One {
        /// Its number.
        number: u64,
    },
    /// All that are meant.
    All {
        /// Which.
        meant: Selection,
    },
}
