//! How a query is answered.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;

use rejoin_core::order::is_exact;
use rejoin_core::schema::Schema;
use rejoin_core::{DocumentId, Path};
use serde_json::Value;

use super::{Condition, Found, Judge, Query, index_name, index_of, within};
use crate::store::{KeyRange, ReadTxn, StoreError};

/// How a query is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// The values of one field are looked up in its index.
    Index {
        /// The field.
        field: Path,
        /// The field by which the index orders documents of one value, if it is of two.
        then: Option<Path>,
        /// Which of its keys.
        range: KeyRange,
        /// Whether the index has documents in the order of the query, and then whether that falls: no more
        /// documents are read than are wanted.
        order: Option<bool>,
        /// The field and the values by whose index documents are left out without reading them.
        within: Option<(Path, KeyRange)>,
    },
    /// All documents of the collection are looked at, for this reason.
    Scan(ScanReason),
}

/// Why no index is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanReason {
    /// No field that is asked for, or sorted by, is indexed.
    NoIndex,
    /// Many documents are being derived anew, and indexed by that.
    Behind,
}

/// In one line, for people.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index { field, then: Some(then), order, .. } => {
                write!(f, "looks {field} and {then} up in their index")?;
                f.write_str(if order.is_some() { ", and stops when it has enough" } else { "" })
            }
            Self::Index { field, order: None, .. } => write!(f, "looks {field} up in its index"),
            Self::Index { field, order: Some(_), within, .. } => {
                write!(f, "follows the index of {field}")?;
                if let Some((other, _)) = within {
                    write!(f, " among what it looked up in that of {other}")?;
                }
                f.write_str(", and stops when it has enough")
            }
            Self::Scan(ScanReason::NoIndex) => f.write_str(
                "looks at all documents; `index = true` for a field in the schema would spare that",
            ),
            Self::Scan(ScanReason::Behind) => {
                f.write_str("looks at all documents for now, while the index is being made")
            }
        }
    }
}

/// A plan, with the work that was done to choose it.
pub(super) struct Ready {
    pub(super) plan: Plan,
    /// The documents that are looked up, by number and in ascending order, where the plan follows another
    /// index among them.
    among: Option<Vec<u64>>,
}

impl From<Plan> for Ready {
    fn from(plan: Plan) -> Self {
        Self { plan, among: None }
    }
}

impl Ready {
    pub(super) fn of(query: &Query, txn: &ReadTxn, schema: &Schema) -> Result<Self, StoreError> {
        let Some(plan) = Plan::by_index(query, schema) else {
            return Ok(Plan::Scan(ScanReason::NoIndex).into());
        };
        if txn.stale_in(&query.space, &query.collection, STALE_MAX)?.is_none() {
            return Ok(Plan::Scan(ScanReason::Behind).into());
        }
        Self::in_order(plan, query, txn, schema)
    }

    /// The same, or in the order of the query if that costs less: where many documents are looked up and
    /// few of them are wanted, following the index of the order until enough of them were met reads no
    /// others.
    fn in_order(
        plan: Plan,
        query: &Query,
        txn: &ReadTxn,
        schema: &Schema,
    ) -> Result<Self, StoreError> {
        let (Plan::Index { field, then, range, order: None, .. }, [sort], Some(limit)) =
            (&plan, &query.sort[..], query.limit)
        else {
            return Ok(plan.into());
        };
        if !is_indexed(schema, &sort.field) {
            return Ok(plan.into());
        }
        let among = numbers(query, txn, &index_name(field, then.as_ref()), range)?;
        let looked_up = among.len() as u64;
        let wanted = u64::try_from(limit).unwrap_or(u64::MAX).min(looked_up);
        let all = txn.digest(&query.space, &query.collection)?.documents;
        // What is looked up stands anywhere in the other index.
        let followed = wanted.saturating_mul(all) / looked_up.max(1);
        if followed + wanted * DOCUMENT_ENTRIES >= looked_up * DOCUMENT_ENTRIES {
            return Ok(plan.into());
        }
        let judge = Judge { query, schema };
        let between = query.filters.iter().find(|(field, _)| *field == sort.field);
        let all = (Bound::Unbounded, Bound::Unbounded);
        let plan = Plan::Index {
            field: sort.field.clone(),
            then: None,
            range: between.map_or(all, |(field, condition)| judge.range(field, condition)),
            order: Some(sort.is_falling),
            within: Some((field.clone(), range.clone())),
        };
        Ok(Self { plan, among: Some(among) })
    }
}

impl Plan {
    /// The index that helps most, if any does: one of two fields in which both help, or one in which a
    /// value is looked up, or else one in which the documents stand in the order of the query, or
    /// else one in which a part is looked up.
    fn by_index(query: &Query, schema: &Schema) -> Option<Self> {
        let judge = Judge { query, schema };
        let sort = match &query.sort[..] {
            [sort] if is_indexed(schema, &sort.field) => Some(sort),
            _ => None,
        };
        let order_of =
            |field: &Path| sort.filter(|sort| sort.field == *field).map(|sort| sort.is_falling);
        let by = |(field, condition): &(Path, Condition)| {
            let (range, order) = (judge.range(field, condition), order_of(field));
            Self::Index { field: field.clone(), then: None, range, order, within: None }
        };
        if let Some(plan) = Self::by_two_fields(query, schema) {
            return Some(plan);
        }
        let filters = query.filters.iter().filter(|(field, _)| is_indexed(schema, field));
        let filters: Vec<_> = filters.collect();
        if let Some(is) = filters.iter().find(|(_, it)| matches!(it, Condition::Is(_))) {
            return Some(by(is));
        }
        if let Some(sorted) = filters.iter().find(|(field, _)| order_of(field).is_some()) {
            return Some(by(sorted));
        }
        match (sort, query.limit) {
            (Some(sort), Some(_)) => Some(Self::Index {
                field: sort.field.clone(),
                then: None,
                range: (Bound::Unbounded, Bound::Unbounded),
                order: Some(sort.is_falling),
                within: None,
            }),
            _ => filters.first().map(|filter| by(filter)),
        }
    }

    /// An index in which documents of a value that is asked for stand by another field that is asked
    /// about or sorted by: best if it is both, and where few documents are wanted the order tells more.
    fn by_two_fields(query: &Query, schema: &Schema) -> Option<Self> {
        let judge = Judge { query, schema };
        let about = |field: &Path| query.filters.iter().find(|(asked, _)| asked == field);
        let mut plans = Vec::new();
        for (field, index) in index_of(schema) {
            let Some((_, is @ Condition::Is(_))) = about(field) else { continue };
            let (Bound::Included(value), _) = judge.range(field, is) else { continue };
            for then in &index.index_then {
                let order = match &query.sort[..] {
                    [sort] if sort.field == *then => Some(sort.is_falling),
                    _ => None,
                };
                let second = about(then).map(|(_, condition)| judge.range(then, condition));
                let is_alone = !query.filters.iter().any(|(other, condition)| {
                    other != field
                        && matches!(condition, Condition::Is(_))
                        && is_indexed(schema, other)
                });
                let worth = match (order.is_some(), second.is_some()) {
                    (true, true) => 2,
                    // Few documents may have another value that is asked for, and the order would not
                    // meet them soon.
                    (true, false) if is_alone && query.limit.is_some() => 1,
                    (_, true) => 0,
                    (_, false) => continue,
                };
                let all = (Bound::Unbounded, Bound::Unbounded);
                let range = both(&value, second.unwrap_or(all));
                let (field, then) = (field.clone(), Some(then.clone()));
                plans.push((worth, Self::Index { field, then, range, order, within: None }));
            }
        }
        plans.into_iter().max_by_key(|(worth, _)| *worth).map(|(_, plan)| plan)
    }
}

/// The keys of an index of two fields that have one value of the first and some of the second.
fn both(value: &[u8], second: KeyRange) -> KeyRange {
    let begin = within(value);
    let after = |key: &[u8]| [&begin, key].concat();
    let bound = |bound: Bound<Vec<u8>>, open: &[u8]| match bound {
        Bound::Included(key) => Bound::Included(after(&key)),
        Bound::Excluded(key) => Bound::Excluded(after(&key)),
        Bound::Unbounded => Bound::Included(after(open)),
    };
    // No key begins so: see each_indexed.
    (bound(second.0, &[]), bound(second.1, &[0xff]))
}

impl Ready {
    pub(super) fn find(
        &self,
        query: &Query,
        txn: &ReadTxn,
        judge: &Judge<'_>,
    ) -> Result<Vec<Found>, StoreError> {
        let limit = query.limit.unwrap_or(usize::MAX);
        let enough = match self.plan {
            Plan::Index { order: Some(_), .. } => limit,
            _ => usize::MAX,
        };
        let stale = self.stale(query, txn)?;
        let mut found = Vec::new();
        if enough > 0 {
            self.each(query, txn, judge, &stale, |it| {
                found.push(it);
                found.len() < enough
            })?;
        }
        each_of(&stale, txn, judge, |it| found.push(it))?;
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
        let stale = self.stale(query, txn)?;
        let mut count = 0;
        match (&self.plan, &query.filters[..]) {
            (Plan::Index { field, then: None, range, .. }, [(asked, condition)])
                if asked == field && judge.is_told_by_key(field, condition) =>
            {
                let (space, collection) = (&query.space, &query.collection);
                txn.each_indexed(space, collection, &field.to_string(), range, false, |id, _| {
                    count += u64::from(!stale.contains(&id));
                    Ok(true)
                })?;
            }
            _ => self.each(query, txn, judge, &stale, |_| {
                count += 1;
                true
            })?,
        }
        each_of(&stale, txn, judge, |_| count += 1)?;
        Ok(count)
    }

    /// The documents whose values are behind, of which an index may tell nothing.
    fn stale(&self, query: &Query, txn: &ReadTxn) -> Result<BTreeSet<DocumentId>, StoreError> {
        match self.plan {
            Plan::Scan(_) => Ok(BTreeSet::new()),
            Plan::Index { .. } => {
                let stale = txn.stale_in(&query.space, &query.collection, STALE_MAX)?;
                Ok(stale.unwrap_or_default())
            }
        }
    }

    /// Calls `each` with the documents that fit, until it returns `false`; by an index, without those
    /// whose values are behind.
    fn each(
        &self,
        query: &Query,
        txn: &ReadTxn,
        judge: &Judge<'_>,
        stale: &BTreeSet<DocumentId>,
        mut each: impl FnMut(Found) -> bool,
    ) -> Result<(), StoreError> {
        let Query { space, collection, .. } = query;
        match &self.plan {
            Plan::Scan(_) => txn.each_value(space, collection, |document, row| {
                judge.found(document, row).is_none_or(&mut each)
            }),
            Plan::Index { field, then, range, order, .. } => {
                let field = index_name(field, then.as_ref());
                let is_falling = order.unwrap_or_default();
                let among = self.among.as_deref();
                txn.each_indexed(
                    space,
                    collection,
                    &field,
                    range,
                    is_falling,
                    |document, number| {
                        let is_other = among.is_some_and(|it| it.binary_search(&number).is_err());
                        if is_other || stale.contains(&document) {
                            return Ok(true);
                        }
                        let row = txn.value_by_number(space, collection, number)?;
                        let found = row.and_then(|row| judge.found(document, row));
                        Ok(found.is_none_or(&mut each))
                    },
                )
            }
        }
    }
}

/// Calls `each` with those of some documents that fit, by the values that are stored.
fn each_of(
    documents: &BTreeSet<DocumentId>,
    txn: &ReadTxn,
    judge: &Judge<'_>,
    mut each: impl FnMut(Found),
) -> Result<(), StoreError> {
    for document in documents {
        let found = txn.value(document)?.and_then(|row| judge.found(*document, row));
        found.into_iter().for_each(&mut each);
    }
    Ok(())
}

/// Whether a field has an index: one that stands for several fields has none.
fn is_indexed(schema: &Schema, field: &Path) -> bool {
    index_of(schema).any(|(indexed, _)| indexed == field)
}

/// The numbers of the documents that an index has of some values, in ascending order.
fn numbers(
    query: &Query,
    txn: &ReadTxn,
    index: &str,
    range: &KeyRange,
) -> Result<Vec<u64>, StoreError> {
    let mut numbers = Vec::new();
    let (space, collection) = (&query.space, &query.collection);
    txn.each_indexed(space, collection, index, range, false, |_, number| {
        numbers.push(number);
        Ok(true)
    })?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// Documents whose values are behind that are looked at by themselves.
const STALE_MAX: usize = 256;

/// Entries of an index that are read in the time that it takes to read a document's values.
const DOCUMENT_ENTRIES: u64 = 30;

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
            Condition::Is(value) => is_exact(&self.key(field, value)),
            Condition::Between(..) => false,
        }
    }
}
