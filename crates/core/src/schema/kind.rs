//! Whether a value is of a kind.

use std::fmt;

use serde_json::Value;

use super::Kind;
use crate::time::{Zone, span_ms};

impl Kind {
    /// Whether a value, as documents read, is of this kind. Null is of every kind.
    pub fn fits(self, value: &Value) -> bool {
        let is_marked = |marker: &str| value.get(marker).is_some();
        match self {
            _ if value.is_null() => true,
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Time => !value.is_number() && span_ms(value, Zone::UTC).is_some(),
            Self::Bytes => is_marked("$bytes"),
            Self::List => value.is_array(),
            Self::Map => value.is_object() && !is_marked("$time") && !is_marked("$bytes"),
        }
    }
}

/// As a sentence has it: "a string".
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "a string",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Time => "a point in time or a date",
            Self::Bytes => "bytes",
            Self::List => "a list",
            Self::Map => "a map",
        })
    }
}
