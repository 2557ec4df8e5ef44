//! What adapters answer: structs for whoever asks them here, and the same as JSON for programs and
//! for commands of another process.

mod letter;
mod origin;
mod plan;
mod report;
mod status;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use letter::{Discarded, Letter, Replayed};
pub use origin::{Author, FieldOrigin, Origin, TakenDelivery};
pub use plan::{Applied, Changes, Example, ExampleChange, Foreseen, Outlook, Plan};
pub use report::{Difference, DifferingRow, Report};
pub use status::{
    Begun, Carries, InFile, Link, NotBegun, Reach, Seen, Standing, State, Status, Trouble,
    UnsentRow,
};

use crate::mapping::Known;

/// What adapters answer to an [`Ask`](super::Ask). Between processes it is told with its kind; what
/// programs read on the command line is [`Answer::to_json`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// How all adapters stand.
    Status(Vec<Status>),
    /// What the documents are like, and their schemas.
    Known(KnownDocuments),
    /// The dead letters that were meant.
    DeadLetters(Vec<Letter>),
    /// One dead letter that is on its way again.
    Replayed(Box<Letter>),
    /// All dead letters that were meant are on their way again.
    ReplayedAll(Replayed),
    /// One dead letter that was let be.
    Discarded(Box<Letter>),
    /// All dead letters that were meant were let be.
    DiscardedAll(Discarded),
    /// How an adapter stands that sends nothing now.
    Paused(Status),
    /// How an adapter stands that sends again.
    Resumed(Status),
    /// How an adapter stands that tries at once what waited.
    Retried(Status),
    /// How an adapter stands that delivers everything anew.
    Backfilled(Status),
    /// Rows that are delivered anew.
    Rewound(Rewound),
    /// What a configuration would change.
    Plan(Vec<Plan>),
    /// What a configuration changed.
    Applied(Vec<Applied>),
    /// What a comparison with the target found.
    Reconciled(Report),
    /// Where others fetch what targets hold.
    Feeds(Vec<Feed>),
    /// Where a row comes from.
    Origin(Box<Origin>),
}

impl Answer {
    /// As programs read it: what is answered, without its kind.
    pub fn to_json(&self) -> Value {
        // A kind is told as an object of one entry, whose value is what is answered.
        let Ok(Value::Object(kind)) = serde_json::to_value(self) else { return Value::Null };
        kind.into_iter().next().map(|(_, answer)| answer).unwrap_or_default()
    }
}

/// What documents are like, for those who write a mapping.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KnownDocuments {
    /// The collections and fields there are.
    pub known: Known,
    /// The schemas, as the text of a schema file.
    pub schemas: String,
}

/// Rows that are delivered anew, as somebody asked for all since some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewound {
    /// Which adapter.
    pub adapter: String,
    /// Since when the target took them, in milliseconds since 1970.
    pub to_ms: u64,
    /// How many rows were enqueued.
    pub rows: u64,
}

/// Something that others fetch, such as a calendar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// The adapter that fills it.
    pub adapter: String,
    /// What it is called.
    pub name: String,
    /// Its address.
    pub url: String,
    /// Whether whoever knows the address can read it.
    #[serde(rename = "secret")]
    pub is_secret: bool,
}
