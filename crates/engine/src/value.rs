//! Values that plain JSON cannot express, and the rules by which a document reads as JSON.
//!
//! A value is anything serde can turn into JSON. Four types say more than JSON does:
//!
//! | type | written as | in the document | read as |
//! |---|---|---|---|
//! | [`Text`] | `{"$text": "..."}` | a text that merges by character | a string |
//! | [`Counter`] | `{"$counter": 5}` | a number that adds up what everyone counted | a number |
//! | [`Bytes`] | `{"$bytes": "00ff"}` | bytes | the same marker |
//! | [`Timestamp`] | `{"$time": 1500}` | milliseconds since 1970 | the same marker |
//!
//! They serialize to their marker and deserialize from the form in which a document reads:
//!
//! ```
//! use rejoin_engine::{Counter, Text};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Job {
//!     status: String,
//!     /// Two people may write here at once; both texts are kept.
//!     notes: Text,
//!     /// Two people may count at once; the sum is kept.
//!     parts_used: Counter,
//!     tags: Vec<String>,
//! }
//!
//! let mut job = Job {
//!     status: "booked".into(),
//!     notes: "Gate code 4711.".into(),
//!     parts_used: Counter(2),
//!     tags: vec!["roof".into()],
//! };
//! job.notes.push_str(" Dog in the yard.");
//! *job.parts_used += 1;
//!
//! let written = serde_json::to_value(&job)?;
//! assert_eq!(written["notes"], serde_json::json!({ "$text": "Gate code 4711. Dog in the yard." }));
//! assert_eq!(written["parts_used"], serde_json::json!({ "$counter": 3 }));
//!
//! let read: Job = serde_json::from_str(
//!     r#"{ "status": "booked", "notes": "Gate code 4711.", "parts_used": 2, "tags": [] }"#,
//! )?;
//! assert_eq!(*read.parts_used, 2);
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # What comes back
//!
//! A written value reads back equal, with texts and counters in their plain form, except:
//!
//! - `null` at a key that holds nothing: nothing is written, and the key stays absent;
//! - a number that is not finite: JSON has none, so it reads as `null`. Integers keep the whole
//!   range from `i64::MIN` to `u64::MAX`, and `5` and `5.0` stay apart;
//! - a map with `removed: true`: a map is removed in this way, so it is left out. The root is never
//!   left out;
//! - a map of one key that looks like a marker: it is taken for the marker;
//! - marks and blocks of a text, and values of a later Automerge: the text reads without them, the
//!   values as `null`;
//! - a value that stands more than 100 maps and lists deep, which reads as `null`. Only documents
//!   from elsewhere have such depths, and following them would overflow the stack.
//!
//! If devices put a scalar and a container at one key at once, readers get the container, as
//! everything written into it would otherwise be hidden. If other programs made two containers at
//! one key at once, readers get the one that Automerge shows, and a review shows the other.

mod at;
mod effective;
mod marker;
mod shown;

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use at::{At, Found, shown_items, to_effective_json, to_json};
pub(crate) use effective::Effective;
pub(crate) use marker::{Marker, from_scalar, normal, plain, same, to_scalar};
pub use shown::{shown, spreadsheet_safe};

/// Text that several people may write at once; it merges by character.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(pub String);

/// A number that several people may count at once; it is the sum of all that they counted.
///
/// Two devices that create the same record with a counter of 5 count to 10. Start at 0, and count
/// events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Counter(pub i64);

/// Bytes, such as a small picture or a signature: a plain value, of which the rule of the field or a
/// person chooses if several are written at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

/// A point in time, in milliseconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

macro_rules! wraps {
    ($name:ident, $inner:ty) => {
        impl Deref for $name {
            type Target = $inner;
            fn deref(&self) -> &$inner {
                &self.0
            }
        }

        impl DerefMut for $name {
            fn deref_mut(&mut self) -> &mut $inner {
                &mut self.0
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }

        impl From<$name> for $inner {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

wraps!(Text, String);
wraps!(Counter, i64);
wraps!(Bytes, Vec<u8>);
wraps!(Timestamp, i64);

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Lower-case hex.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&marker::to_hex(&self.0))
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_marker(serializer, marker::TEXT, &self.0)
    }
}

impl Serialize for Counter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_marker(serializer, marker::COUNTER, &self.0)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_marker(serializer, marker::BYTES, &marker::to_hex(&self.0))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_marker(serializer, marker::TIME, &self.0)
    }
}

fn serialize_marker<S: Serializer>(
    serializer: S,
    key: &'static str,
    content: &impl Serialize,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(key, content)?;
    map.end()
}

/// The plain form in which a document reads, or the marker.
#[derive(Deserialize)]
#[serde(untagged)]
enum Form<P, M> {
    Plain(P),
    Marked(M),
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Marked {
            #[serde(rename = "$text")]
            text: String,
        }
        match Form::<String, Marked>::deserialize(deserializer)? {
            Form::Plain(text) | Form::Marked(Marked { text }) => Ok(Self(text)),
        }
    }
}

impl<'de> Deserialize<'de> for Counter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Marked {
            #[serde(rename = "$counter")]
            counter: i64,
        }
        match Form::<i64, Marked>::deserialize(deserializer)? {
            Form::Plain(counter) | Form::Marked(Marked { counter }) => Ok(Self(counter)),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Marked {
            #[serde(rename = "$bytes")]
            hex: String,
        }
        let Marked { hex } = Marked::deserialize(deserializer)?;
        marker::from_hex(&hex).map(Self).ok_or_else(|| {
            serde::de::Error::custom(
                "the bytes are not pairs of hex digits; write them as \"00ff\"",
            )
        })
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Marked {
            #[serde(rename = "$time")]
            time_ms: i64,
        }
        Marked::deserialize(deserializer).map(|marked| Self(marked.time_ms))
    }
}
