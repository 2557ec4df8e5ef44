//! The last events, in the file.

use std::ops::Bound;

use redb::{
    ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};

use crate::delivery::{Action, Delivery, Record};
use crate::sink::kept::{self, Kept, KeptError, decode, encode};

/// Table: the last events, and what they follow
/// Key:   `u64`   # position, rising
/// Value: `&[u8]` # [`Delivery`], CBOR; nothing at the position before the first
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log-1");

/// A page of the log: deliveries with their positions.
pub(super) type Page = Vec<(u64, Delivery)>;

/// A page of the rows.
#[derive(Debug)]
pub(super) struct Rows {
    /// The rows that did not change since.
    pub(super) deliveries: Vec<Delivery>,
    /// The last row that was looked at; nothing at the end.
    pub(super) last: Option<Record>,
}

/// Makes the table. Positions begin at the time, so that none of a file that was lost comes again.
pub(super) fn make(txn: &WriteTransaction, now_ms: u64) -> Result<(), KeptError> {
    let mut log = txn.open_table(LOG)?;
    if log.is_empty()? {
        log.insert(now_ms, &[][..])?;
    }
    Ok(())
}

/// Takes deliveries in. Returns where the log ends.
pub(super) fn take(
    txn: &WriteTransaction,
    now_ms: u64,
    max: u64,
    deliveries: &[Delivery],
) -> Result<u64, KeptError> {
    let mut log = txn.open_table(LOG)?;
    let mut end = log.last()?.map_or(0, |(end, _)| end.value());
    for delivery in deliveries {
        let mut kept = Kept::read(txn, &delivery.record)?;
        if kept.take(delivery) {
            end = (end + 1).max(now_ms);
            kept.number = end;
            kept.write(txn, &delivery.record)?;
            log.insert(end, &encode(delivery)[..])?;
        }
    }
    while log.len()? > max {
        log.pop_first()?;
    }
    Ok(end)
}

/// Where the log ends.
pub(super) fn end(txn: &ReadTransaction) -> Result<u64, KeptError> {
    Ok(txn.open_table(LOG)?.last()?.map_or(0, |(end, _)| end.value()))
}

/// What follows a position; `None` if that is not kept any more, or never was.
pub(super) fn after(txn: &ReadTransaction, position: u64) -> Result<Option<Page>, KeptError> {
    let log = txn.open_table(LOG)?;
    if log.get(position)?.is_none() {
        return Ok(None);
    }
    let (mut deliveries, mut bytes) = (Vec::new(), 0);
    for row in log.range((Bound::Excluded(position), Bound::Unbounded))? {
        let (at, row) = row?;
        bytes += row.value().len();
        deliveries.push((at.value(), decode(row.value())?));
        if deliveries.len() == PAGE || bytes >= PAGE_BYTES {
            break;
        }
    }
    Ok(Some(deliveries))
}

/// The rows after one that are held, but for those that changed after a position: the log tells of
/// them.
pub(super) fn rows(
    txn: &ReadTransaction,
    after: Option<&Record>,
    position: u64,
) -> Result<Rows, KeptError> {
    let from = match after {
        Some(record) => Bound::Excluded((&*record.name, &*record.key)),
        None => Bound::Unbounded,
    };
    let mut rows = Rows { deliveries: Vec::new(), last: None };
    for (seen, row) in (1..).zip(kept::after(txn, from)?) {
        let (record, kept) = row?;
        let is_row = |it: &Delivery| matches!(it.action, Action::Put(_));
        rows.deliveries.extend(kept.delivery.filter(|it| kept.number <= position && is_row(it)));
        if seen == PAGE {
            rows.last = Some(record);
            break;
        }
    }
    Ok(rows)
}

/// Deliveries that are read at once.
const PAGE: usize = 64;

/// Bytes after which no more are read at once.
const PAGE_BYTES: usize = 256 << 10;
