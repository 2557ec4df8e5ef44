//! What keeps deliveries from being taken, one entry for each cause however many rows wait for it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::rows::{TARGET, WaitingAbout};
use super::tables::{HELD, OUTBOX, WHEN};
use super::{Outbox, OutboxError, Trouble, decode};

/// Something that keeps deliveries from being taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// What it is, for people.
    pub what: String,
    /// How far it reaches.
    pub reach: FailingReach,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// How many deliveries wait for it.
    pub rows: u64,
    /// When the next of them is tried, in milliseconds since 1970. `None` if somebody has to do
    /// something first.
    pub next_ms: Option<u64>,
}

/// What cannot be delivered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailingReach {
    /// Nothing.
    Target,
    /// Rows of this kind.
    Kind(String),
    /// Some rows, each of which was tried.
    Rows,
}

impl Outbox {
    /// What keeps deliveries from being taken: a trouble of the whole target, or else those of kinds of
    /// rows, and what rows were answered that may be their own fault.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn failing(&self) -> Result<Vec<Failing>, OutboxError> {
        let txn = self.database.begin_read()?;
        let (outbox, whens) = (txn.open_table(OUTBOX)?, txn.open_table(WHEN)?);
        if let Some(Trouble { what, since_ms }) = self.endpoint.troubles.get(TARGET).cloned() {
            let (reach, rows) = (FailingReach::Target, outbox.len()?);
            let next_ms = self.next_ms()?.filter(|_| rows > 0);
            return Ok(vec![Failing { what, reach, since_ms, rows, next_ms }]);
        }
        let mut found = BTreeMap::<(FailingReach, String), Failing>::new();
        for row in outbox.iter()? {
            let (key, row) = row?;
            let (document, _) = key.value();
            let WaitingAbout { delivery, fault, failed_since_ms } = decode(row.value())?;
            let kind = delivery.record.name;
            let (reach, what, since_ms) = match (self.endpoint.troubles.get(&kind), fault) {
                (Some(trouble), _) => {
                    let reach = FailingReach::Kind(kind.clone());
                    (reach, trouble.what.clone(), trouble.since_ms)
                }
                (None, Some(fault)) => {
                    (FailingReach::Rows, fault, failed_since_ms.unwrap_or_default())
                }
                (None, None) => continue,
            };
            let when = whens.get(document)?.map_or(HELD, |when| when.value());
            let next_ms = self.tried_ms(when, &kind);
            let failing = found.entry((reach.clone(), what.clone()));
            let new = Failing { what, reach, since_ms, rows: 0, next_ms };
            let failing = failing.or_insert(new);
            failing.rows += 1;
            failing.since_ms = failing.since_ms.min(since_ms);
            failing.next_ms = failing.next_ms.into_iter().chain(next_ms).min();
        }
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_by_key(|failing| Reverse(failing.rows));
        Ok(found)
    }

    /// What lets no row of a kind be delivered, if anything does.
    pub(super) fn trouble_of(&self, kind: &str) -> Option<String> {
        let troubles = &self.endpoint.troubles;
        let trouble = troubles.get(TARGET).or_else(|| troubles.get(kind));
        trouble.map(|trouble| trouble.what.clone())
    }
}
