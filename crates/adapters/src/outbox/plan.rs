//! What enqueuing would come to, without doing it.

use std::collections::BTreeSet;

use redb::ReadableDatabase;
use serde_json::Value;

use super::enqueue::{Projected, shadows};
use super::tables::SHADOWS;
use super::{Outbox, OutboxError};
use crate::delivery::{Record, Row};

/// What would become of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRow {
    /// Which row.
    pub record: Record,
    /// What would become of it.
    pub planned: Planned,
}

/// What would become of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Planned {
    /// Nothing: it was enqueued like this.
    Same,
    /// It would be new.
    Add(Row),
    /// These fields would be others: by name, what was enqueued and what would be.
    Change(Vec<(String, Option<Value>, Option<Value>)>),
    /// It would go.
    Remove,
    /// It would be a dead letter.
    Misfit(String),
}

impl Outbox {
    /// What [`Outbox::enqueue`] would make of a document.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn plan(&self, projected: &Projected) -> Result<Vec<PlannedRow>, OutboxError> {
        let txn = self.database.begin_read()?;
        let mut known = shadows(&txn.open_table(SHADOWS)?, &projected.document)?;
        let mut plan = Vec::new();
        for (record, row) in &projected.rows {
            let before = known.remove(record).and_then(|shadow| shadow.wanted).map(|row| row.0);
            let planned = match (row, before) {
                (Err(misfit), _) => Planned::Misfit(misfit.to_string()),
                (Ok(row), None) => Planned::Add(row.clone()),
                (Ok(row), Some(before)) if before == *row => Planned::Same,
                (Ok(row), Some(before)) => Planned::Change(differing(&before, row)),
            };
            plan.push(PlannedRow { record: record.clone(), planned });
        }
        let gone = known.into_iter().filter(|(_, shadow)| shadow.wanted.is_some());
        plan.extend(gone.map(|(record, _)| PlannedRow { record, planned: Planned::Remove }));
        Ok(plan)
    }
}

/// The fields that two rows do not have alike, in the order of their names.
pub(crate) fn differing(before: &Row, after: &Row) -> Vec<(String, Option<Value>, Option<Value>)> {
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| (name.clone(), before.get(name).cloned(), after.get(name).cloned()))
        .collect()
}
