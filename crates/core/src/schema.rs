//! What a collection's fields are, and how each of them merges.
//!
//! A schema belongs to one collection. It is written in TOML, and kept as a document of the space,
//! so that every replica has it, offline too. Fields it does not name are kept and merge by
//! [`Rule::Review`], and so does everything in a collection without a schema.

mod kind;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{Path, Segment};

/// How the documents of one collection merge.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schema {
    /// The fields by where they stand. A key `*` stands for any key of a map and any item of a
    /// list.
    pub fields: BTreeMap<Path, Field>,
    /// What must hold between documents.
    pub invariants: Vec<Invariant>,
}

/// One field of a schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// How concurrent values merge.
    pub merge: Rule,
    /// What its values are, if that is restricted.
    pub kind: Option<Kind>,
    /// Whether a document must have it.
    pub required: bool,
    /// What an absent field reads as.
    pub default: Option<Value>,
    /// The roles that may write it; anybody may if that is `None`.
    pub writers: Option<BTreeSet<String>>,
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
    /// The value of this role; where it wrote none, a person decides.
    Owner(String),
    /// The largest value.
    Max,
    /// The smallest value.
    Min,
    /// The value written last by the writers' clocks, if they are further apart than this many
    /// seconds; otherwise a person decides.
    Latest {
        /// How wrong clocks may be, in seconds.
        skew_s: u64,
    },
    /// An arbitrary value, the same everywhere. The only rule that loses something silently.
    Any,
}

/// What the values of a field are.
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
    /// A point in time: `{"$time": milliseconds}`, or a string in RFC 3339 form.
    Time,
    /// Bytes: `{"$bytes": hex}`.
    Bytes,
    /// A list.
    List,
    /// A map.
    Map,
}

/// What must hold between the documents of a collection.
#[derive(Debug, Clone, PartialEq)]
pub enum Invariant {
    /// No two documents of one `key` are at the same time.
    NoOverlap {
        /// Whom or what the time is taken of, such as a technician.
        key: Path,
        /// When it begins.
        start: Path,
        /// When it ends; that moment itself is free.
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

impl Schema {
    /// The field a place in a document belongs to: the one named exactly, or else by `*`.
    pub fn field(&self, path: &Path) -> Option<&Field> {
        self.fields.get(path).or_else(|| {
            let wild = |pattern: &&Path| {
                let (pattern, path) = (pattern.segments(), path.segments());
                let fits = |(pattern, segment): (&Segment, &Segment)| {
                    *pattern == Segment::Key("*".to_owned()) || pattern == segment
                };
                pattern.len() == path.len() && pattern.iter().zip(path).all(fits)
            };
            self.fields.keys().find(wild).and_then(|pattern| self.fields.get(pattern))
        })
    }

    /// How a place in a document merges: as its field says; inside a field of rule
    /// [`Any`](Rule::Any) as that; otherwise by [`Review`](Rule::Review).
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

    /// The roles that may write at a place, or inside of what holds it; anybody if `None`.
    pub fn writers(&self, path: &Path) -> Option<&BTreeSet<String>> {
        let segments = path.segments();
        (1..=segments.len()).rev().find_map(|len| {
            self.field(&segments[..len].iter().cloned().collect())?.writers.as_ref()
        })
    }
}

#[derive(Debug)]
pub struct Unknown;
impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "x")
    }
}
impl Schema {
    /// stub
    pub fn from_value(_: &Value) -> (Self, Vec<Unknown>) {
        (Self::default(), vec![])
    }
}
