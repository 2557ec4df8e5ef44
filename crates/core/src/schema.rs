//! The fields of a collection, and how each of them merges.
//!
//! A schema belongs to one collection. It is written in TOML, and kept as a document of the space,
//! so that every replica has it, offline too. Fields it does not name are kept and merge by
//! [`Rule::Review`], and so does everything in a collection without a schema.
//!
//! - [`parse`] reads a file and finds everything that is wrong in it; [`to_toml`] writes one;
//! - [`Schema::new`] begins one in Rust, and [`Schema::check`] finds its contradictions;
//! - [`Schema::to_value`] and [`Schema::from_value`] write and read the form that the space stores;
//! - [`diff`] tells two apart.

mod build;
mod check;
mod diff;
mod file;
mod form;
mod kind;
mod read;
mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use crate::time::Zone;
use crate::{CollectionName, Path, Segment};

pub use diff::{Change, Difference, Part, diff};
pub use file::{Finding, Parsed, parse};
pub use read::Unknown;
pub use show::to_toml;

/// The schemas of a space or a file, by collection.
pub type Schemas = BTreeMap<CollectionName, Schema>;

/// How the documents of one collection merge.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schema {
    /// The fields by their paths. A key `*` stands for any key of a map and any item of a list.
    pub fields: BTreeMap<Path, Field>,
    /// The rules between documents.
    pub invariants: Vec<Invariant>,
    /// The zone by whose clocks times without a zone are read; UTC if that is `None`.
    pub zone: Option<Zone>,
    /// The parts that this version does not understand, each at its place in
    /// [`to_value`](Self::to_value), where it stands instead of anything else. They came from a
    /// newer version, and go back as they are.
    pub unknown: Map<String, Value>,
}

/// One field of a schema.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Field {
    /// How concurrent values merge.
    pub merge: Rule,
    /// The kind of its values, if that is restricted.
    pub kind: Option<Kind>,
    /// Whether a document must have it.
    pub required: bool,
    /// The value that an absent field reads as.
    pub default: Option<Value>,
    /// The roles that may write it; anybody may if that is `None`.
    pub writers: Option<BTreeSet<String>>,
    /// Whether documents are found by it without a look at all of them.
    pub index: bool,
    /// The fields in whose order it finds documents of one value: each makes one more index. An index
    /// that has any is [`index`](Self::index) too.
    pub index_then: Vec<Path>,
}

/// How concurrent values of a field become one, or do not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Rule {
    /// A text, which merges by character.
    Text,
    /// A counter, which adds up.
    Counter,
    /// A list whose items are alike wherever they stand: an item added twice is there once.
    Set,
    /// A list, which keeps everybody's items.
    List,
    /// A map, whose entries merge each on its own.
    Map,
    /// A person decides.
    #[default]
    Review,
    /// The value that stands furthest in this order. Going back in it is for a person to decide.
    Order(Vec<String>),
    /// The value of this role; if it wrote none, a person decides.
    Owner(String),
    /// The largest value.
    Max,
    /// The smallest value.
    Min,
    /// The value written last by the writers' clocks, if they are no further apart than this many
    /// seconds; otherwise, as after a week offline, a person decides.
    Latest {
        /// The seconds by which clocks may be wrong.
        skew_s: u64,
    },
    /// An arbitrary value, which is the same on every replica. This is the only rule that loses
    /// values silently.
    Any,
}

/// The kind of the values of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A string, or a text.
    String,
    /// A whole number, or a counter.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// A point in time: `{"$time": milliseconds}`, or a string in RFC 3339 form, which may lack
    /// seconds and zone. Or a date alone, which stands for the whole day.
    Time,
    /// Bytes: `{"$bytes": hex}`.
    Bytes,
    /// A list.
    List,
    /// A map.
    Map,
}

/// A rule between the documents of a collection.
#[derive(Debug, Clone, PartialEq)]
pub enum Invariant {
    /// No two documents of one `key` are at the same time.
    NoOverlap {
        /// The person or thing whose time is taken, such as a technician.
        key: Path,
        /// The time at which it begins.
        start: Path,
        /// The time at which it ends; that moment itself is free.
        end: Path,
        /// Documents with one of these values take no time.
        unless: BTreeMap<Path, Value>,
    },
    /// No two documents have the same values of these fields, all present and not empty.
    Unique {
        /// The fields.
        fields: Vec<Path>,
    },
}

/// Something in a schema that is wrong, or that this version does not understand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Its severity.
    pub severity: Severity,
    /// The place, as keys into the form of [`Schema::to_json`]; the items of lists and the
    /// invariants are counted from 0.
    pub place: Vec<String>,
    /// The fault, and the way to correct it.
    pub message: String,
}

/// Whether a schema can be applied nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but perhaps its author meant something else.
    Warning,
}

impl Schema {
    /// The zone by whose clocks times without one are read.
    pub fn zone_or_utc(&self) -> Zone {
        self.zone.unwrap_or(Zone::UTC)
    }

    /// The field a place in a document belongs to: the one named exactly, or else the one that
    /// names it with the fewest `*`.
    pub fn field(&self, path: &Path) -> Option<&Field> {
        self.fields.get(path).or_else(|| {
            let path = path.segments();
            let fits =
                |(pattern, segment): (&Segment, &Segment)| is_any(pattern) || pattern == segment;
            let wild = |(pattern, _): &(&Path, &Field)| {
                let pattern = pattern.segments();
                pattern.len() == path.len() && pattern.iter().zip(path).all(fits)
            };
            let fitting = self.fields.iter().filter(wild);
            fitting.min_by_key(|(pattern, _)| stars(pattern)).map(|(_, field)| field)
        })
    }

    /// The rule by which a place in a document merges: that of its field; inside a field of rule
    /// [`Any`](Rule::Any) that rule; otherwise [`Review`](Rule::Review).
    pub fn rule(&self, path: &Path) -> &Rule {
        if let Some(field) = self.field(path) {
            return &field.merge;
        }
        let segments = path.segments();
        let around = (1..segments.len())
            .rev()
            .find_map(|len| self.field(&segments[..len].iter().cloned().collect()));
        match around {
            Some(Field { merge: Rule::Any, .. }) => &Rule::Any,
            _ => &Rule::Review,
        }
    }

    /// The roles that may write at a place, or inside of a field around it; anybody if `None`.
    pub fn writers(&self, path: &Path) -> Option<&BTreeSet<String>> {
        let segments = path.segments();
        (1..=segments.len()).rev().find_map(|len| {
            self.field(&segments[..len].iter().cloned().collect())?.writers.as_ref()
        })
    }
}

impl Rule {
    /// The names of the rules in a file.
    pub const NAMES: [&str; 12] = [
        "text", "counter", "set", "list", "map", "review", "order", "owner", "max", "min",
        "latest", "any",
    ];

    /// The name of the rule in a file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Counter => "counter",
            Self::Set => "set",
            Self::List => "list",
            Self::Map => "map",
            Self::Review => "review",
            Self::Order(_) => "order",
            Self::Owner(_) => "owner",
            Self::Max => "max",
            Self::Min => "min",
            Self::Latest { .. } => "latest",
            Self::Any => "any",
        }
    }

    /// Whether the field is something that several write into at once, rather than one value.
    pub fn is_container(&self) -> bool {
        matches!(self, Self::Text | Self::Counter | Self::Set | Self::List | Self::Map)
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::String,
        Self::Integer,
        Self::Number,
        Self::Boolean,
        Self::Time,
        Self::Bytes,
        Self::List,
        Self::Map,
    ];

    /// The name of the kind in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Time => "time",
            Self::Bytes => "bytes",
            Self::List => "list",
            Self::Map => "map",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Whether a step of a field's path stands for any.
fn is_any(segment: &Segment) -> bool {
    matches!(segment, Segment::Key(key) if key == ANY)
}

/// The number of steps of a path that stand for any.
fn stars(path: &Path) -> usize {
    path.segments().iter().filter(|segment| is_any(segment)).count()
}

/// The step of a field's path that stands for any.
pub const ANY: &str = "*";

/// The seconds by which clocks may be wrong under [`Rule::Latest`], unless the schema says
/// otherwise.
pub const SKEW_S: u64 = 120;

/// The beginning of the names of Rejoin's own collections. They have no schema.
pub const RESERVED: &str = "rejoin.";
