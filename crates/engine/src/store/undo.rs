//! The edits that were made here and can be taken back, step by step.
//!
//! A step is what one undo takes back: one edit, or all edits of a batch. A step that was taken
//! back holds the changes that did so, and so a redo takes back those.

use minicbor::{Decode, Encode};
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition};
use rejoin_core::{ChangeHash, DocumentId, Identity};

use super::rows::{Row, decode, encode};
use super::{ReadTxn, StoreError, WriteTxn, unavailable};

/// Table: the steps that can be taken back or made again, and the edits of each. In one table, as most
/// steps have one edit, and each table that an edit writes costs pages of its commit
/// Key:   `(u64, u64)` # (the step, which rises with every one; 0, or the place of an edit in it, from 1)
/// Value: `&[u8]`      # [`StepRow`] at 0, otherwise [`StepEditRow`], CBOR
pub(super) const STEPS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("undo-1");

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct StepRow {
    /// The identity that edited.
    #[n(0)]
    pub author: Option<Identity>,
    /// The time of its first edit, in seconds since 1970 by this device's clock.
    #[n(1)]
    pub time_s: i64,
    /// Whether it was taken back.
    #[n(2)]
    pub undone: bool,
}

/// One edit of a step.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct StepEditRow {
    /// The document.
    #[n(0)]
    pub document: DocumentId,
    /// The changes to take back.
    #[n(1)]
    pub changes: Vec<ChangeHash>,
    /// Whether these changes made the document.
    #[n(2)]
    pub created: bool,
}

impl Row for StepRow {
    const TABLE: &'static str = "undo-steps";
}

impl Row for StepEditRow {
    const TABLE: &'static str = "undo-edits";
}

macro_rules! reads {
    ($txn:ident) => {
        impl $txn {
            /// The newest step that `wanted` takes, with its key.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn last_step(
                &self,
                mut wanted: impl FnMut(&StepRow) -> bool,
            ) -> Result<Option<(u64, StepRow)>, StoreError> {
                let mut before = u64::MAX;
                while let Some((step, row)) = self.step_before(before)? {
                    if wanted(&row) {
                        return Ok(Some((step, row)));
                    }
                    before = step;
                }
                Ok(None)
            }

            /// The oldest step that was taken back and that `wanted` takes, with its key.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn first_undone(
                &self,
                wanted: impl Fn(&StepRow) -> bool,
            ) -> Result<Option<(u64, StepRow)>, StoreError> {
                let (mut before, mut first) = (u64::MAX, None);
                while let Some((step, row)) = self.step_before(before)? {
                    match row.undone {
                        _ if !wanted(&row) => {}
                        true => first = Some((step, row)),
                        false => break,
                    }
                    before = step;
                }
                Ok(first)
            }

            /// The newest step below this one. It is found by its last edit, however many it has.
            fn step_before(&self, before: u64) -> Result<Option<(u64, StepRow)>, StoreError> {
                let table = self.txn.open_table(STEPS).map_err(unavailable)?;
                let last = table.range(..(before, 0)).map_err(unavailable)?.next_back();
                let Some(last) = last else { return Ok(None) };
                let (step, _) = last.map_err(unavailable)?.0.value();
                let row = table.get((step, 0)).map_err(unavailable)?;
                let row = row.map(|row| decode(row.value())).transpose()?;
                Ok(row.map(|row| (step, row)))
            }

            /// A step.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn step(&self, step: u64) -> Result<Option<StepRow>, StoreError> {
                let table = self.txn.open_table(STEPS).map_err(unavailable)?;
                let row = table.get((step, 0)).map_err(unavailable)?;
                row.map(|row| decode(row.value())).transpose()
            }

            /// The edits of a step, in the order in which they were made.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn step_edits(&self, step: u64) -> Result<Vec<StepEditRow>, StoreError> {
                let table = self.txn.open_table(STEPS).map_err(unavailable)?;
                let rows = table.range((step, 1)..=(step, u64::MAX)).map_err(unavailable)?;
                rows.map(|row| decode(row.map_err(unavailable)?.1.value())).collect()
            }
        }
    };
}

reads!(ReadTxn);
reads!(WriteTxn);

impl WriteTxn {
    /// Begins a step, and drops the oldest ones beyond this many steps and edits. Steps are dropped some
    /// together, because dropping one with each edit would cost as much as the edit's own step.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn push_step(
        &self,
        row: &StepRow,
        steps_max: u64,
        edits_max: u64,
    ) -> Result<u64, StoreError> {
        let mut table = self.txn.open_table(STEPS).map_err(unavailable)?;
        let last = table.last().map_err(unavailable)?.map_or(0, |(key, _)| key.value().0);
        let step = last + 1;
        table.insert((step, 0), encode(row).as_slice()).map_err(unavailable)?;
        loop {
            let rows = table.len().map_err(unavailable)?;
            let first = table.first().map_err(unavailable)?.map_or(step, |(key, _)| key.value().0);
            // Numbers are given one after the other, so there are no more steps than numbers.
            let most = steps_max.saturating_add(steps_max / DROPPED_PART);
            let last_surplus = match first < step && step - first >= most {
                true => step - steps_max,
                false if rows > edits_max && first < step => first,
                false => return Ok(step),
            };
            let surplus = (first, 0)..=(last_surplus, u64::MAX);
            table.retain_in(surplus, |_, _| false).map_err(unavailable)?;
        }
    }

    /// Writes a step.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_step(&self, step: u64, row: &StepRow) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(STEPS).map_err(unavailable)?;
        table.insert((step, 0), encode(row).as_slice()).map_err(unavailable)?;
        Ok(())
    }

    /// Writes an edit of a step. Places begin at 1.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_step_edit(
        &self,
        step: u64,
        place: u64,
        row: &StepEditRow,
    ) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(STEPS).map_err(unavailable)?;
        table.insert((step, place), encode(row).as_slice()).map_err(unavailable)?;
        Ok(())
    }

    /// Removes the edits of a step.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn remove_step_edits(&self, step: u64) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(STEPS).map_err(unavailable)?;
        table.retain_in((step, 1)..=(step, u64::MAX), |_, _| false).map_err(unavailable)?;
        Ok(())
    }

    /// Removes a step, which can be neither taken back nor made again then.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn remove_step(&self, step: u64) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(STEPS).map_err(unavailable)?;
        table.retain_in((step, 0)..=(step, u64::MAX), |_, _| false).map_err(unavailable)?;
        Ok(())
    }

    /// Removes the steps that were taken back and that `wanted` takes: after another edit they
    /// cannot be made again.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn remove_undone(&self, wanted: impl Fn(&StepRow) -> bool) -> Result<(), StoreError> {
        while let Some((step, _)) = self.first_undone(&wanted)? {
            self.remove_step(step)?;
        }
        Ok(())
    }
}

/// One part in so many of the steps is dropped together.
const DROPPED_PART: u64 = 16;
