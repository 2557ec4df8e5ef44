//! Everything a target holds compared with everything it should hold, and what differs sent again
//! by the way that all deliveries go.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::PoisonError;

use rejoin::DocumentId;
use rejoin::value::number::same;
use tokio::sync::watch;
use tokio::time::sleep_until;
use tracing::{error, info, warn};

use super::answer::{Difference, DifferingRow, Report};
use super::error::OperateError;
use super::follow::{enqueue_all, next};
use super::{Adapter, Carried, plan};
use crate::clock::now_ms;
use crate::delivery::{NO_DOCUMENT, Record, Row};
use crate::outbox::Wanted;
use crate::sink::Held;

/// What to do about what differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Repair {
    /// Only tell.
    pub(super) dry_run: bool,
    /// Delete rows that no document ever became.
    pub(super) delete_extra: bool,
}

impl Report {
    fn note(&mut self, record: &Record, what: Difference, fields: Vec<String>) {
        match what {
            Difference::Missing => self.missing += 1,
            Difference::Extra => self.extra += 1,
            Difference::Differs => self.differs += 1,
        }
        if self.rows.len() < ROWS_SHOWN {
            let Record { name, key: record } = record.clone();
            self.rows.push(DifferingRow { name, record, what, fields });
        }
    }
}

/// Compares whenever the mapping says so, until `stop` does.
pub(super) async fn at_times(adapter: Adapter, carried: Carried, mut stop: watch::Receiver<bool>) {
    let Some(times) = adapter.mapping.reconcile.clone() else { return };
    let repair = Repair { dry_run: false, delete_extra: false };
    loop {
        tokio::select! {
            () = sleep_until(next(&times)) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let compared = tokio::select! {
            compared = reconcile(&adapter, &carried, repair) => compared,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match compared {
            Ok(Report { checked, missing, extra, differs, .. }) => {
                match missing + extra + differs {
                    0 => info!(checked, "the target holds what it should"),
                    _ => warn!(missing, extra, differs, "the target did not hold what it should"),
                }
            }
            Err(fault) => {
                error!(error = &fault as &dyn std::error::Error, "the target was not compared");
            }
        }
    }
}

/// Compares, and repairs what differs unless that is not wanted.
pub(super) async fn reconcile(
    adapter: &Adapter,
    carried: &Carried,
    repair: Repair,
) -> Result<Report, OperateError> {
    let stale = match repair.dry_run {
        true => plan::plan(adapter, &adapter.mapping, &adapter.salt, carried).await?.deliveries(),
        false => enqueue_all(adapter, carried, true).await?,
    };
    let mut report = Report {
        adapter: adapter.name.clone(),
        dry_run: repair.dry_run,
        stale,
        ..Report::default()
    };
    let mut names: Vec<_> = adapter.mapping.records.iter().map(|record| &record.name).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        compare(adapter, name, repair, &mut report).await?;
    }
    report.at_ms = now_ms();
    *adapter.reconciled.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
    Ok(report)
}

/// Rows of one kind, page by page, both sides in the order of their keys.
async fn compare(
    adapter: &Adapter,
    name: &str,
    repair: Repair,
    report: &mut Report,
) -> Result<(), OperateError> {
    let began_ms = now_ms();
    let (mut held, mut wanted) = (Pages::default(), Pages::default());
    loop {
        // The target first: what it takes meanwhile is then known to be newer.
        if held.wants_more() {
            let page = adapter.sink.scan(name, held.after.as_deref(), PAGE).await?;
            let page =
                page.ok_or_else(|| OperateError::Unreadable { adapter: adapter.name.clone() })?;
            held.add(page, |held: &Held| &held.record.key);
        }
        if wanted.wants_more() {
            let (name, after) = (name.to_owned(), wanted.after.clone());
            let page = adapter.outbox(move |outbox| outbox.wanted(&name, after.as_deref(), PAGE));
            wanted.add(as_held(adapter, page.await?).await?, |wanted| &wanted.record.key);
        }
        let mut repairs = Vec::new();
        while !(held.wants_more() || wanted.wants_more()) {
            let order = match (held.rows.front(), wanted.rows.front()) {
                (None, None) => break,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(held), Some(wanted)) => held.record.key.cmp(&wanted.record.key),
            };
            let held = if order.is_le() { held.rows.pop_front() } else { None };
            let wanted = if order.is_ge() { wanted.rows.pop_front() } else { None };
            repairs.extend(differing(held, wanted, began_ms, repair, report));
        }
        if !repairs.is_empty() && !repair.dry_run {
            report.repaired +=
                adapter.outbox(move |outbox| outbox.repair(now_ms(), &repairs)).await?;
            adapter.due.notify_one();
        }
        if held.is_over() && wanted.is_over() {
            return Ok(());
        }
    }
}

/// Rows that should be held, as the target would tell of them.
async fn as_held(adapter: &Adapter, page: Vec<Wanted>) -> Result<Vec<Wanted>, OperateError> {
    let Some(first) = page.first() else { return Ok(page) };
    let rows = page.iter().map(|it| Held { record: it.record.clone(), row: it.row.clone() });
    let converted = adapter.sink.as_held(&first.record.name, rows.collect()).await?;
    let rows = page.into_iter().zip(converted);
    Ok(rows.map(|(wanted, held)| Wanted { row: held.row, ..wanted }).collect())
}

/// Notes how a row differs. Returns it if it is to be sent again.
fn differing(
    held: Option<Held>,
    wanted: Option<Wanted>,
    began_ms: u64,
    repair: Repair,
    report: &mut Report,
) -> Option<(DocumentId, Record)> {
    let Some(wanted) = wanted else {
        let held = held.filter(|held| held.row.is_some())?;
        report.note(&held.record, Difference::Extra, Vec::new());
        return repair.delete_extra.then_some((NO_DOCUMENT, held.record));
    };
    report.checked += u64::from(wanted.row.is_some());
    let (what, fields) = match (held.and_then(|held| held.row), &wanted.row) {
        (None, None) => return None,
        (None, Some(_)) => (Difference::Missing, Vec::new()),
        (Some(_), None) => (Difference::Extra, Vec::new()),
        (Some(held), Some(row)) => (Difference::Differs, unlike(&held, row)),
    };
    if what == Difference::Differs && fields.is_empty() {
        return None;
    }
    if wanted.is_waiting || wanted.taken_ms.is_some_and(|taken_ms| taken_ms >= began_ms) {
        report.waiting += 1;
        return None;
    }
    if wanted.is_refused {
        // Asking again and again makes nothing of it but more dead letters.
        report.refused += 1;
        return None;
    }
    report.note(&wanted.record, what, fields);
    Some((wanted.document, wanted.record))
}

/// The fields of a row that are held otherwise; what a target has besides is its own.
fn unlike(held: &Row, wanted: &Row) -> Vec<String> {
    let value = |row: &Row, field: &str| row.get(field).cloned().unwrap_or_default();
    let unlike = wanted.keys().filter(|field| !same(&value(held, field), &value(wanted, field)));
    unlike.cloned().collect()
}

/// Rows that are read a page at a time.
struct Pages<T> {
    rows: VecDeque<T>,
    /// The key of the last one that was read.
    after: Option<String>,
    is_whole: bool,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { rows: VecDeque::new(), after: None, is_whole: false }
    }
}

impl<T> Pages<T> {
    fn wants_more(&self) -> bool {
        self.rows.is_empty() && !self.is_whole
    }

    fn is_over(&self) -> bool {
        self.rows.is_empty() && self.is_whole
    }

    fn add(&mut self, page: Vec<T>, key: impl Fn(&T) -> &String) {
        self.is_whole = page.len() < PAGE;
        if let Some(last) = page.last() {
            self.after = Some(key(last).clone());
        }
        self.rows.extend(page);
    }
}

/// Rows read at once.
const PAGE: usize = 500;

/// Rows that are told of.
const ROWS_SHOWN: usize = 100;
