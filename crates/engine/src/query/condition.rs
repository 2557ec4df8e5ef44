//! What holds of a field's value.

use std::ops::{Bound, Range, RangeFrom, RangeInclusive, RangeTo, RangeToInclusive};

use rejoin_core::order::is_exact;
use serde_json::Value;

/// What holds of a field's value: it is a value, or between two. A field that is not there holds
/// nothing, which is `null`: `Condition::Is(Value::Null)` finds such documents, and any other value does
/// not. Values of different kinds are never alike. Points in time compare as such, however they are
/// written, if the schema says that the field is one; texts compare by their bytes.
///
/// ```
/// # use rejoin_engine::Condition;
/// let ana = Condition::from("ana");
/// let early = Condition::from(.."2026-05-04T12:00:00Z");
/// let some = Condition::from(3..=5);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// It is this value.
    Is(Value),
    /// It is between these, and of their kind. Nothing is between: a document without the field is not
    /// found.
    Between(Bound<Value>, Bound<Value>),
}

impl Condition {
    /// Whether it holds of a value, given what values are compared by.
    pub(super) fn holds(&self, value: &Value, key: impl Fn(&Value) -> Vec<u8>) -> bool {
        match self {
            Self::Is(wanted) => {
                let at = key(value);
                at == key(wanted) && (is_exact(&at) || value == wanted)
            }
            Self::Between(from, to) => {
                let at = key(value);
                let is_alike = |bound: &Value| at.first() == key(bound).first();
                let is_after = match from {
                    Bound::Included(from) => is_alike(from) && at >= key(from),
                    Bound::Excluded(from) => is_alike(from) && at > key(from),
                    Bound::Unbounded => true,
                };
                let is_before = match to {
                    Bound::Included(to) => is_alike(to) && at <= key(to),
                    Bound::Excluded(to) => is_alike(to) && at < key(to),
                    Bound::Unbounded => true,
                };
                !value.is_null() && is_after && is_before
            }
        }
    }
}

macro_rules! is_value {
    ($($kind:ty),*) => {
        $(
            impl From<$kind> for Condition {
                fn from(value: $kind) -> Self {
                    Self::Is(value.into())
                }
            }
        )*
    };
}

is_value!(&str, String, bool, i32, i64, u32, u64, f64, Value);

macro_rules! is_range {
    ($($range:ty: $it:ident => $bounds:expr;)*) => {
        $(
            impl<T: Into<Value>> From<$range> for Condition {
                fn from($it: $range) -> Self {
                    let (from, to) = $bounds;
                    Self::Between(from, to)
                }
            }
        )*
    };
}

is_range! {
    Range<T>: it => (Bound::Included(it.start.into()), Bound::Excluded(it.end.into()));
    RangeFrom<T>: it => (Bound::Included(it.start.into()), Bound::Unbounded);
    RangeTo<T>: it => (Bound::Unbounded, Bound::Excluded(it.end.into()));
    RangeToInclusive<T>: it => (Bound::Unbounded, Bound::Included(it.end.into()));
    RangeInclusive<T>: it => {
        let (from, to) = it.into_inner();
        (Bound::Included(from.into()), Bound::Included(to.into()))
    };
}
