//! How a query is answered.

use std::fmt;
use std::ops::Bound;

use rejoin_core::Path;
use rejoin_core::schema::Schema;
use serde_json::Value;

use super::condition::is_whole;
use super::{Condition, Found, Judge, Query};
use crate::store::{KeyRange, ReadTxn, StoreError};

/// How a query is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// The values of one field are looked up in its index.
    Index {
        /// The field.
        field: Path,
        /// Which of its values.
        range: KeyRange,
        /// Whether the index has documents in the order of the query, and then whether that falls: no more
        /// documents are read than are wanted.
        order: Option<bool>,
    },
    /// All documents of the collection are looked at, for this reason.
    Scan(ScanReason),
}

/// Why no index is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanReason {
    /// No field that is asked for, or sorted by, is indexed.
    NoIndex,
    /// Documents are being derived anew, and indexed by that.
    Behind,
    /// A program that knows of no index wrote to the file.
    NotWhole,
}

/// In one line, for people.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index { field, order: None, .. } => write!(f, "looks {field} up in its index"),
            Self::Index { field, order: Some(_), .. } => {
                write!(f, "follows the index of {field}, and stops when it has enough")
            }
            Self::Scan(ScanReason::NoIndex) => f.write_str(
                "looks at all documents; `index = true` for a field in the schema would spare that",
            ),
            Self::Scan(ScanReason::Behind) => {
                f.write_str("looks at all documents for now, while the index is being made")
            }
            Self::Scan(ScanReason::NotWhole) => f.write_str(
                "looks at all documents for now, as an older program wrote to the file; the index is \
                 made anew",
            ),
        }
    }
}

impl Plan {
    pub(super) fn of(query: &Query, txn: &ReadTxn, schema: &Schema) -> Result<Self, StoreError> {
        let Some(plan) = Self::by_index(query, schema) else {
            return Ok(Self::Scan(ScanReason::NoIndex));
        };
        if !txn.is_index_whole(&query.space, &query.collection)? {
            return Ok(Self::Scan(ScanReason::NotWhole));
        }
        if txn.is_any_stale()? {
            return Ok(Self::Scan(ScanReason::Behind));
        }
        Ok(plan)
    }

    /// The index that helps most, if any does: one in which a value is looked up, or else one in which
    /// the documents stand in the order of the query, or else one in which a part is looked up.
    fn by_index(query: &Query, schema: &Schema) -> Option<Self> {
        let judge = Judge { query, schema };
        let is_indexed = |field: &Path| schema.field(field).is_some_and(|field| field.index);
        let sort = match &query.sort[..] {
            [sort] if is_indexed(&sort.field) => Some(sort),
            _ => None,
        };
        let order_of =
            |field: &Path| sort.filter(|sort| sort.field == *field).map(|sort| sort.is_falling);
        let by = |(field, condition): &(Path, Condition)| {
            let (range, order) = (judge.range(field, condition), order_of(field));
            Self::Index { field: field.clone(), range, order }
        };
        let filters: Vec<_> = query.filters.iter().filter(|(field, _)| is_indexed(field)).collect();
        if let Some(is) = filters.iter().find(|(_, it)| matches!(it, Condition::Is(_))) {
            return Some(by(is));
        }
        if let Some(sorted) = filters.iter().find(|(field, _)| order_of(field).is_some()) {
            return Some(by(sorted));
        }
        match (sort, query.limit) {
            (Some(sort), Some(_)) => Some(Self::Index {
                field: sort.field.clone(),
                range: (Bound::Unbounded, Bound::Unbounded),
                order: Some(sort.is_falling),
            }),
            _ => filters.first().map(|filter| by(filter)),
        }
    }

    pub(super) fn find(
        &self,
        query: &Query,
        txn: &ReadTxn,
        judge: &Judge<'_>,
    ) -> Result<Vec<Found>, StoreError> {
        let limit = query.limit.unwrap_or(usize::MAX);
        let enough = match self {
            Self::Index { order: Some(_), .. } => limit,
            _ => usize::MAX,
        };
        let mut found = Vec::new();
        if enough > 0 {
            self.each(query, txn, judge, |it| {
                found.push(it);
                found.len() < enough
            })?;
        }
        found.sort_unstable_by(|one: &Found, other| one.rank.cmp(&other.rank));
        found.truncate(limit);
        Ok(found)
    }

    pub(super) fn count(
        &self,
        query: &Query,
        txn: &ReadTxn,
        judge: &Judge<'_>,
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        match (self, &query.filters[..]) {
            (Self::Index { field, range, .. }, [(asked, condition)])
                if asked == field && judge.is_told_by_key(field, condition) =>
            {
                let (space, collection) = (&query.space, &query.collection);
                txn.each_indexed(space, collection, &field.to_string(), range, false, |_, _| {
                    count += 1;
                    Ok(true)
                })?;
            }
            _ => self.each(query, txn, judge, |_| {
                count += 1;
                true
            })?,
        }
        Ok(count)
    }

    /// Calls `each` with the documents that fit, until it returns `false`.
    fn each(
        &self,
        query: &Query,
        txn: &ReadTxn,
        judge: &Judge<'_>,
        mut each: impl FnMut(Found) -> bool,
    ) -> Result<(), StoreError> {
        let Query { space, collection, .. } = query;
        match self {
            Self::Scan(_) => txn.each_value(space, collection, |document, row| {
                judge.found(document, row).is_none_or(&mut each)
            }),
            Self::Index { field, range, order } => {
                let (field, is_falling) = (field.to_string(), order.unwrap_or_default());
                txn.each_indexed(
                    space,
                    collection,
                    &field,
                    range,
                    is_falling,
                    |document, number| {
                        let row = txn.value_by_number(space, collection, number)?;
                        let found = row.and_then(|row| judge.found(document, row));
                        Ok(found.is_none_or(&mut each))
                    },
                )
            }
        }
    }
}

impl Judge<'_> {
    /// The keys that an index has of values of which a condition may hold.
    fn range(&self, field: &Path, condition: &Condition) -> KeyRange {
        let key = |value: &Value| self.key(field, value);
        match condition {
            Condition::Is(value) => (Bound::Included(key(value)), Bound::Included(key(value))),
            Condition::Between(from, to) => {
                let kind = |bound: &Bound<Value>| match bound {
                    Bound::Included(value) | Bound::Excluded(value) => key(value).first().copied(),
                    Bound::Unbounded => None,
                };
                // Only values of one kind are between two, and nothing is not between any.
                let kind = kind(from).or_else(|| kind(to));
                let (low, high) = match kind {
                    Some(kind) => (Bound::Included(vec![kind]), Bound::Excluded(vec![kind + 1])),
                    None => (Bound::Excluded(vec![0]), Bound::Unbounded),
                };
                let at = |bound: &Bound<Value>, open: Bound<Vec<u8>>| match bound {
                    Bound::Included(value) | Bound::Excluded(value) => Bound::Included(key(value)),
                    Bound::Unbounded => open,
                };
                (at(from, low), at(to, high))
            }
        }
    }

    /// Whether the key of a value alone tells that a condition holds of it.
    fn is_told_by_key(&self, field: &Path, condition: &Condition) -> bool {
        match condition {
            Condition::Is(value) => is_whole(&self.key(field, value)),
            Condition::Between(..) => false,
        }
    }
}
