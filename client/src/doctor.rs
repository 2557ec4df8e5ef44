//! Looks a replica's file over, repairs what can be repaired, and reports the rest.

mod bundle;

use std::fmt;
use std::path::Path;

use redb::Database;
use rejoin_core::{DocumentId, SpaceName};
use serde::Serialize;

pub use bundle::{Bundle, BundleMark, BundleSpace, bundle};

use crate::driver::random_bytes;
use crate::file::{OpenError, ReplicaFile, open_database, unpanicked};
use rejoin_engine::damage::{Unsound, check_document, recount_digests};
use rejoin_engine::store::{ReadTxn, Store, StoreError};

/// The findings about a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Documents looked at.
    pub documents: u64,
    /// Edits that wait for a relay.
    pub waiting: u64,
    /// Edits that a relay will never take.
    pub set_aside: u64,
    /// Changes that could not be applied.
    pub quarantined: u64,
    /// The faults, worst first.
    pub findings: Vec<Finding>,
    /// Documents with values that do not fit their schema, each with the first of those. They are
    /// no damage.
    pub unfit: Vec<String>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The fault, for a person.
    pub what: String,
    /// Whether it was repaired.
    pub repaired: bool,
    /// The way to mend it, if it was not mended.
    pub advice: Option<String>,
}

impl Report {
    /// Whether no fault is left.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.repaired)
    }

    fn repaired(&mut self, what: String) {
        self.findings.push(Finding { what, repaired: true, advice: None });
    }

    fn damaged(&mut self, reason: &dyn fmt::Display) {
        let advice = "`rejoin doctor --salvage` takes out what can still be read; restore the file \
                      from a backup, or sync a new replica";
        self.left(format!("the file's structure is damaged ({reason})"), advice);
    }

    fn left(&mut self, what: String, advice: &str) {
        self.findings.push(Finding { what, repaired: false, advice: Some(advice.to_owned()) });
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.advice {
            Some(advice) => write!(f, "{}; {advice}", self.what),
            None => write!(f, "{} (repaired)", self.what),
        }
    }
}

/// Checks the file: redb's own structure, that every document loads and has the heads it should,
/// that its value and digest are right, and that the outbox has its changes. With `repair`, values
/// and digests are made anew.
///
/// # Errors
/// The file cannot be opened at all; the error says what to do.
pub fn check(file: impl Into<ReplicaFile>, repair: bool) -> Result<Report, OpenError> {
    let file = file.into();
    let path = &file.path;
    if !path.exists() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(OpenError::Io { path: path.to_owned(), source });
    }
    let database = open_database(&file)?;
    unpanicked(|| check_open(path, database, repair)).unwrap_or_else(|reason| {
        let mut report = Report::default();
        report.damaged(&reason);
        Ok(report)
    })
}

fn check_open(path: &Path, mut database: Database, repair: bool) -> Result<Report, OpenError> {
    let mut report = Report::default();
    match database.check_integrity() {
        Ok(true) => {}
        Ok(false) => report.repaired("the file was not closed properly".to_owned()),
        Err(error) => {
            report.damaged(&error);
            return Ok(report);
        }
    }
    let unusable = |source| OpenError::Store { path: path.to_owned(), source };
    let store = Store::open(database, random_bytes()).map_err(unusable)?;
    examine(&store, repair, &mut report).map_err(unusable)?;
    Ok(report)
}

fn examine(store: &Store, repair: bool, report: &mut Report) -> Result<(), StoreError> {
    let view = store.read()?;
    report.waiting = view.outbox_len()?;
    report.set_aside = view.set_aside()?.len() as u64;
    for space in view.spaces()? {
        report.unfit.extend(view.unfit(&space)?.iter().map(ToString::to_string));
    }
    let mut documents = Vec::new();
    view.each_document(|id, row| documents.push((id, row)))?;
    report.documents = documents.len() as u64;
    let mut values = Vec::new();
    for (id, row) in &documents {
        report.quarantined += u64::from(row.quarantined);
        match check_document(&view, id, row)? {
            Ok(value) => values.extend(value.map(|value| (*id, value))),
            Err(Unsound::UsedUp) => {
                let advice = "nobody can edit it; copy its fields into a new document";
                report.left(format!("document {id} has no operation numbers left"), advice);
            }
            Err(Unsound::Damaged(reason)) => {
                let advice = "its bytes are kept; sync a new replica from the relay to get it back";
                report.left(format!("document {id} does not load ({reason})"), advice);
            }
        }
    }
    check_outbox(&view, report)?;
    drop(view);
    repair_values(store, repair, &values, report)?;
    repair_digests(store, repair, report)
}

fn check_outbox(view: &ReadTxn, report: &mut Report) -> Result<(), StoreError> {
    let mut from = 0;
    loop {
        let page = view.outbox(from, 1024)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        from = last + 1;
        for (key, edit) in page {
            let changes = view.changes_in(&edit.document, edit.from..edit.from + edit.count)?;
            if changes.len() as u64 != edit.count {
                let what = format!("edit {key} of {} waits without its changes", edit.document);
                report
                    .left(what, "connect: the repair after a differing digest sends what is held");
            }
        }
    }
}

fn repair_values(
    store: &Store,
    repair: bool,
    values: &[(DocumentId, rejoin_engine::store::ValueRow)],
    report: &mut Report,
) -> Result<(), StoreError> {
    if values.is_empty() {
        return Ok(());
    }
    let what = format!("the stored values of {} documents were wrong", values.len());
    if !repair {
        report.left(what, "run doctor with --repair");
        return Ok(());
    }
    let txn = store.write()?;
    for (id, value) in values {
        if let Some(row) = txn.document(id)? {
            txn.put_value(id, &row, value)?;
            // What follows from the value is derived with it when the replica is opened.
            txn.mark_stale(id, true)?;
        }
    }
    txn.commit()?;
    report.repaired(what);
    Ok(())
}

fn repair_digests(store: &Store, repair: bool, report: &mut Report) -> Result<(), StoreError> {
    let txn = store.write()?;
    let mut wrong: Vec<SpaceName> = Vec::new();
    for space in txn.spaces()? {
        if recount_digests(&txn, &space)? {
            wrong.push(space);
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    for space in wrong {
        let what = format!("the digest of space {space} was wrong");
        if repair {
            report.repaired(what);
        } else {
            report.left(what, "run doctor with --repair");
        }
    }
    if repair { txn.commit() } else { Ok(()) }
}
