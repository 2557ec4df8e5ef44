//! How adapters stand.

use serde::{Deserialize, Serialize};

use super::Report;

/// How one adapter stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The adapter's name.
    pub adapter: String,
    /// How the replica stands towards its relay.
    pub link: Link,
    /// What a file says of the adapter, if one was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_file: Option<InFile>,
    /// How it stands itself.
    #[serde(flatten)]
    pub standing: Standing,
}

/// How an adapter stands, whatever the relay does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Standing {
    /// Its outbox is open.
    Begun(Box<Begun>),
    /// It has no outbox.
    NotBegun(NotBegun),
}

/// Why an adapter has no outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum NotBegun {
    /// It cannot begin.
    Stopped {
        /// What is in the way.
        stopped: String,
    },
    /// It is in the file, and nobody applied it yet.
    New,
}

impl Status {
    /// The state as people read it.
    pub fn state(&self) -> &'static str {
        match &self.standing {
            Standing::Begun(begun) => begun.state.name(),
            Standing::NotBegun(NotBegun::Stopped { .. }) => "stopped",
            Standing::NotBegun(NotBegun::New) => "new",
        }
    }

    /// What is known of it, if its outbox is open.
    pub fn begun(&self) -> Option<&Begun> {
        match &self.standing {
            Standing::Begun(begun) => Some(begun),
            Standing::NotBegun(_) => None,
        }
    }
}

/// An adapter whose outbox is open. What was taken and failed is counted since the process began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// How it stands with its target.
    pub state: State,
    /// Whose documents it carries.
    pub collection: String,
    /// Which documents there are; `None` without a replica.
    pub carries: Option<Carries>,
    /// Why the target was given up, if it was.
    pub why: Option<String>,
    /// Since when the target answered nothing but failures, in milliseconds since 1970.
    pub failing_since_ms: Option<u64>,
    /// What keeps deliveries from being taken; only the first causes.
    pub troubles: Vec<Trouble>,
    /// Deliveries that the target does not have yet.
    pub waiting: u64,
    /// How long the oldest of them waits, in milliseconds.
    pub oldest_ms: Option<u64>,
    /// Whether that is longer than the mapping allows.
    pub is_late: bool,
    /// Dead letters that wait for somebody.
    pub dead_letters: u64,
    /// Rows that the target does not hold as they are, as their dead letters were let be.
    pub discarded: u64,
    /// Documents that were enqueued at some time.
    pub documents: u64,
    /// Deliveries that the target took.
    pub taken: u64,
    /// Attempts that may go better another time.
    pub transient: u64,
    /// Attempts that the target or the configuration was in the way of.
    pub trouble: u64,
    /// Deliveries that the target will never take.
    pub permanent: u64,
    /// What half of the last deliveries took at most, in milliseconds from enqueued to taken.
    pub lag_p50_ms: Option<u64>,
    /// What 99 of 100 of the last deliveries took at most, in milliseconds.
    pub lag_p99_ms: Option<u64>,
    /// What the last comparison with the target found; `None` before the first.
    pub reconciled: Option<Report>,
    /// The deliveries that wait longest.
    pub unsent: Vec<UnsentRow>,
}

/// How it stands with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Deliveries are taken, for all that is known.
    Up,
    /// Nothing can be delivered for now.
    Down,
    /// Somebody said that nothing is to be sent.
    Paused,
    /// The target was given up.
    Disabled,
    /// The mapping is not the one that was applied, so no rows are made.
    Changed,
}

impl State {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Up, Self::Down, Self::Paused, Self::Disabled, Self::Changed];

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
            Self::Changed => "changed",
        }
    }
}

/// What a file says of an adapter, compared with what it runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InFile {
    /// The same.
    Same,
    /// Something else.
    Changed,
    /// Nothing.
    Removed,
    /// It is there alone: the adapter does not run.
    New,
}

/// How the replica that adapters follow stands towards its relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Link {
    /// Nobody runs the adapters: the replica dials nobody.
    NotRunning,
    /// It is not connected.
    Away(Seen),
    /// It is connected, and does not have everything yet.
    Syncing(Seen),
    /// It is connected, and has everything.
    Connected(Seen),
}

/// What is known of a relay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// When the replica was connected last, in milliseconds since 1970; `None` if it was not since
    /// the adapters began.
    pub last_seen_ms: Option<u64>,
    /// Why it is not connected, while it is away.
    pub trouble: Option<String>,
    /// Documents that have come, while it is syncing.
    pub documents: Option<u64>,
    /// Documents that there are, while it is syncing.
    pub of: Option<u64>,
}

/// Which documents a replica has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carries {
    /// Documents of the collection that an adapter carries.
    pub documents: u64,
    /// The collections there are documents of.
    pub collections: Vec<String>,
}

/// Something that keeps deliveries from being taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What it is, for people.
    pub what: String,
    /// How far it reaches.
    pub reach: Reach,
    /// The kind of rows that it reaches, if it is one.
    pub kind: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// Deliveries that wait for it.
    pub rows: u64,
    /// When the next of them is tried, in milliseconds since 1970. `None` if somebody has to do
    /// something first.
    pub next_ms: Option<u64>,
}

/// How far a trouble reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Nothing can be delivered.
    Target,
    /// Rows of one kind cannot be delivered.
    Kind,
    /// Some rows are not taken, each of which was tried.
    Rows,
}

/// A row that the target does not have yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsentRow {
    /// The id of the document it comes from.
    pub document: String,
    /// The document's natural key, if it has one and the replica is at hand.
    pub key: Option<String>,
    /// The row's kind.
    pub name: String,
    /// The row's key.
    pub record: String,
    /// Since when it waits, in milliseconds since 1970.
    pub since_ms: u64,
    /// Attempts that failed.
    pub attempts: u32,
    /// What keeps it; `None` if it is on its way.
    pub fault: Option<String>,
}
