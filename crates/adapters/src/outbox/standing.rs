//! How one document's rows stand with the target.

use std::collections::BTreeMap;

use redb::ReadableDatabase;
use rejoin::DocumentId;

use super::dead::letters_of;
use super::tables::{DEAD, DEAD_OF, DISCARDED, OUTBOX, SHADOWS, WHEN};
use super::{Outbox, OutboxError, Shadow, Waiting, decode};
use crate::delivery::Record;

/// How one row stands with the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which row.
    pub record: Record,
    /// When the target took something of it last, in milliseconds since 1970.
    pub taken_ms: Option<u64>,
    /// How it stands.
    pub state: RowState,
}

/// How a row stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowState {
    /// The target has it as it is.
    Delivered,
    /// The document does not become it any more, and the target knows.
    Gone,
    /// The target does not hold it as it is, as somebody let its dead letter be.
    Discarded,
    /// A delivery waits.
    Waiting {
        /// Since when, in milliseconds since 1970.
        since_ms: u64,
        /// Attempts that failed.
        attempts: u32,
        /// What the last of them came to.
        fault: Option<String>,
        /// When the document's next delivery may be tried, in milliseconds since 1970; nothing while
        /// it waits for somebody to see to a dead letter.
        next_ms: Option<u64>,
    },
    /// It will not be delivered unless somebody does something about it.
    Dead {
        /// The dead letter.
        number: u64,
        /// What happened.
        fault: String,
    },
}

impl Outbox {
    /// How a document's rows stand; none if nothing was ever enqueued of it.
    ///
    /// # Errors
    /// As [`OutboxError`].
    pub fn standing(&self, document: &DocumentId) -> Result<Vec<Standing>, OutboxError> {
        let txn = self.database.begin_read()?;
        let mut rows = BTreeMap::new();
        let shadows = txn.open_table(SHADOWS)?;
        for row in shadows.range((&document.0, "", "")..)? {
            let (key, row) = row?;
            let (of, name, key) = key.value();
            if *of != document.0 {
                break;
            }
            let shadow: Shadow = decode(row.value())?;
            let record = Record { name: name.to_owned(), key: key.to_owned() };
            let state = if shadow.wanted.is_some() { RowState::Delivered } else { RowState::Gone };
            rows.insert(record, (shadow.taken.last().map(|taken| taken.at_ms), state));
        }
        for row in txn.open_table(DISCARDED)?.range((&document.0, "", "")..)? {
            let row = row?.0;
            let (of, name, key) = row.value();
            if *of != document.0 {
                break;
            }
            let record = Record { name: name.to_owned(), key: key.to_owned() };
            rows.entry(record).or_insert((None, RowState::Gone)).1 = RowState::Discarded;
        }
        for (number, letter) in
            letters_of(&txn.open_table(DEAD)?, &txn.open_table(DEAD_OF)?, document)?
        {
            let state = RowState::Dead { number, fault: letter.fault };
            rows.entry(letter.record).or_insert((None, RowState::Gone)).1 = state;
        }
        let when = txn.open_table(WHEN)?.get(&document.0)?.map(|when| when.value());
        for row in txn.open_table(OUTBOX)?.range((&document.0, 0)..=(&document.0, u64::MAX))? {
            let Waiting { delivery, attempts, fault, .. } = decode(row?.1.value())?;
            let since_ms = delivery.enqueued_ms;
            let next_ms = when.and_then(|when| self.tried_ms(when, &delivery.record.name));
            let fault = self.trouble_of(&delivery.record.name).or(fault);
            let state = RowState::Waiting { since_ms, attempts, fault, next_ms };
            rows.entry(delivery.record).or_insert((None, RowState::Gone)).1 = state;
        }
        let rows = rows.into_iter();
        Ok(rows.map(|(record, (taken_ms, state))| Standing { record, taken_ms, state }).collect())
    }
}
