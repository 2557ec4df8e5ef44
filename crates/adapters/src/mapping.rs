//! Which documents go where, as which rows, and how soon.

mod check;
mod known;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rejoin::schema::Schema;
use rejoin::value::Zone;
use rejoin::{CollectionName, Path};
use serde::Deserialize;
use serde_json::Value;

pub use check::{check, check_known, check_zone};
pub use known::{Known, Shape};
pub(crate) use template::Filling;
pub use template::{Part, Template};

use crate::secret::SecretRef;

/// One adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// Whose documents or reviews it carries.
    pub collection: CollectionName,
    /// What it carries of them.
    pub source: Source,
    /// What is delivered of a row that changed several times.
    pub mode: Mode,
    /// How soon.
    pub class: Class,
    /// Deliveries under way at once, each of another document.
    pub concurrency: usize,
    /// Deliveries begun in a second at most; as many as there are if nothing is said.
    pub rate: Option<u32>,
    /// Deliveries that may wait. Beyond that documents wait instead, and what changes in them
    /// meanwhile becomes one difference.
    pub waiting_max: u64,
    /// A delivery that waits longer is told of as late.
    pub late_after: Duration,
    /// What becomes of rows that are gone.
    pub deletes: Deletes,
    /// When to compare everything with what the target holds.
    pub reconcile: Option<Class>,
    /// When to try again.
    pub retry: Retry,
    /// What a delivery that failed for good does to its document.
    pub on_poison: OnPoison,
    /// What hashes of masked values are mixed with.
    pub salt: Option<SecretRef>,
    /// The rows that one document becomes.
    pub records: Vec<RecordMapping>,
    /// The target and its options, as its sink understands them.
    pub sink: toml::Table,
    /// The hash of everything that rows depend on, in hex.
    pub version: String,
}

/// What an adapter carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The documents.
    #[default]
    Documents,
    /// The reviews of the documents: what people have to decide, each one a row.
    Reviews,
}

/// What is delivered of a row that changed several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The last row: what was not sent yet is replaced.
    #[default]
    State,
    /// Every difference, one after the other.
    Event,
}

/// How soon a target has what changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Class {
    /// At once.
    Now,
    /// Within this time.
    Soon(Duration),
    /// At these times, in UTC.
    Later(Box<croner::Cron>),
    /// Every so often.
    Every(Duration),
}

/// What becomes of rows that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletes {
    /// The target deletes them.
    Delete,
    /// The target keeps them, marked; the outbox remembers them this long.
    Mark {
        /// At least as long as anybody may bring back what they last saw.
        ttl: Duration,
    },
}

/// When to try again.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// How long after each failed attempt of a row; after the last it is a dead letter if the target took
    /// something since the row failed first, and else the last wait repeats.
    pub schedule: Vec<Duration>,
    /// The part of a wait that is left to chance, 0 to 1, so that not all come back at once.
    pub jitter: f64,
    /// The target is given up, with an alarm, after this long of nothing but answers that are failures.
    pub disable_after: Duration,
}

/// What a delivery that failed for good does to its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnPoison {
    /// The document's later deliveries go on.
    #[default]
    Continue,
    /// They wait until somebody replays or discards it.
    Hold,
}

/// One kind of row.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordMapping {
    /// Its name outside: a table, a subject, an event type.
    pub name: String,
    /// The list or map of which every item is a row; `None` if the document is one.
    pub each: Option<Path>,
    /// The row's key.
    pub key: Template,
    /// The row's fields, by their outside names.
    pub fields: BTreeMap<String, FieldMapping>,
}

/// One field of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldMapping {
    /// Where its value comes from.
    pub from: From,
    /// What it is outside; as it is in the document if that is not said.
    pub kind: Option<OutsideKind>,
    /// What values are called outside; others are misfits.
    pub map: BTreeMap<String, Value>,
    /// What it is where the document has nothing.
    pub default: Option<Value>,
    /// Whether a row without it is a misfit.
    pub required: bool,
    /// What is hidden of it.
    pub mask: Option<Mask>,
    /// What the target gets while people have not agreed.
    pub held: Held,
}

/// Where a field's value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum From {
    /// From the document, or the item that is the row.
    Path {
        /// Where.
        path: Path,
        /// Whether it is looked up in the item.
        in_item: bool,
    },
    /// It is always this.
    Constant(Value),
}

/// What a value is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutsideKind {
    /// A text; numbers and booleans are spelled out.
    String,
    /// A whole number; a text that spells one is read.
    Integer,
    /// A number; a text that spells one is read.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A time as RFC 3339 spells it, in UTC unless the target wants [`Times`] otherwise.
    Time,
    /// Anything.
    Json,
}

/// How a target wants times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// In UTC.
    Utc,
    /// As clocks of the zone showed them, with how far those are from UTC: whoever wants no more than
    /// the day or the time of day finds there what people meant.
    Shown,
    /// In UTC, and a date alone as such, which is a whole day.
    WithDays,
}

/// What is hidden of a value, before it is stored anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// The field is left out.
    Drop,
    /// A hash stands for it: equal values have equal hashes.
    Hash,
    /// All but the last four characters.
    Last4,
    /// Nothing stands there.
    Null,
}

/// What a target gets of a field that people have not agreed on.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Held {
    /// What was agreed before.
    #[default]
    Agreed,
    /// Nothing: the field is left out.
    Omit,
    /// This.
    Constant(Value),
}

impl Mapping {
    /// The names of the options that another has otherwise, `rows` for all that rows depend on, and
    /// `sink.NAME` for those of the sink.
    pub fn unlike(&self, other: &Self) -> Vec<String> {
        let options = [
            ("rows", self.version != other.version),
            ("mode", self.mode != other.mode),
            ("class", self.class != other.class),
            ("concurrency", self.concurrency != other.concurrency),
            ("rate", self.rate != other.rate),
            ("waiting_max", self.waiting_max != other.waiting_max),
            ("late_after", self.late_after != other.late_after),
            ("deletes", self.deletes != other.deletes),
            ("reconcile", self.reconcile != other.reconcile),
            ("retry", self.retry != other.retry),
            ("on_poison", self.on_poison != other.on_poison),
            ("salt", self.salt != other.salt),
        ];
        let unlike = options.into_iter().filter(|(_, is_unlike)| *is_unlike);
        let mut names: Vec<String> = unlike.map(|(name, _)| name.to_owned()).collect();
        let sinks: BTreeSet<_> = self.sink.keys().chain(other.sink.keys()).collect();
        let unlike = sinks.into_iter().filter(|name| self.sink.get(*name) != other.sink.get(*name));
        names.extend(unlike.map(|name| format!("sink.{name}")));
        names
    }

    /// By whose clocks times without a zone are read: by those that the schema names, or else by those
    /// of the calendars that are filled, or else in UTC.
    pub fn zone(&self, schema: Option<&Schema>) -> Zone {
        let of_schema = schema.and_then(|schema| schema.zone);
        of_schema.or_else(|| zone_of(&self.sink)).unwrap_or(Zone::UTC)
    }

    /// How its target wants times.
    pub fn times(&self) -> Times {
        match kind_of(&self.sink) {
            "icalendar" => Times::WithDays,
            "postgres" => Times::Shown,
            _ => Times::Utc,
        }
    }

    /// Whether rows depend on what is under review.
    pub fn asks_what_is_agreed(&self) -> bool {
        self.records
            .iter()
            .flat_map(|record| record.fields.values())
            .any(|field| field.held != Held::Agreed)
    }
}

/// The kind of a sink, by its options.
fn kind_of(sink: &toml::Table) -> &str {
    sink.get("kind").and_then(toml::Value::as_str).unwrap_or_default()
}

/// The zone of the calendars that a sink fills, if it says one.
pub(crate) fn zone_of(sink: &toml::Table) -> Option<Zone> {
    let zone = sink.get("timezone").filter(|_| kind_of(sink) == "icalendar")?;
    zone.as_str()?.parse().ok()
}

/// The waits of the Standard Webhooks specification: 75 hours and 35 minutes in all.
pub const STANDARD_SCHEDULE: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];
