//! The edits that were made here and can be taken back, step by step.
//!
//! A step is what one undo takes back: one edit, or all edits of a batch. A step that was taken
//! back holds the changes that did so, and so a redo takes back those.

use minicbor::{Decode, Encode};
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition};
use rejoin_core::{ChangeHash, DocumentId, Identity};

use super::rows::{Row, decode, encode};
use super::{ReadTxn, StoreError, WriteTxn, unavailable};

/// Table: the steps that can be taken back or made again
/// Key:   `u64`   # rises with every step
/// Value: `&[u8]` # [`StepRow`], CBOR
pub(super) const STEPS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("undo-steps-1");

/// Table: the edits of each step
/// Key:   `(u64, u64)` # (the step, the place in it, from 0)
/// Value: `&[u8]`      # [`StepEditRow`], CBOR
pub(super) const STEP_EDITS: TableDefinition<'_, (u64, u64), &[u8]> =
    TableDefinition::new("undo-edits-1");

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
                let table = self.txn.open_table(STEPS).map_err(unavailable)?;
                for row in table.iter().map_err(unavailable)?.rev() {
                    let (key, row) = row.map_err(unavailable)?;
                    let row: StepRow = decode(row.value())?;
                    if wanted(&row) {
                        return Ok(Some((key.value(), row)));
                    }
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
                let table = self.txn.open_table(STEPS).map_err(unavailable)?;
                let mut first = None;
                for row in table.iter().map_err(unavailable)?.rev() {
                    let (key, row) = row.map_err(unavailable)?;
                    let row: StepRow = decode(row.value())?;
                    match row.undone {
                        _ if !wanted(&row) => {}
                        true => first = Some((key.value(), row)),
                        false => break,
                    }
                }
                Ok(first)
            }

            /// A step.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn step(&self, step: u64) -> Result<Option<StepRow>, StoreError> {
                let table = self.txn.open_table(STEPS).map_err(unavailable)?;
                let row = table.get(step).map_err(unavailable)?;
                row.map(|row| decode(row.value())).transpose()
            }

            /// The edits of a step, in the order in which they were made.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn step_edits(&self, step: u64) -> Result<Vec<StepEditRow>, StoreError> {
                let table = self.txn.open_table(STEP_EDITS).map_err(unavailable)?;
                let rows = table.range((step, 0)..=(step, u64::MAX)).map_err(unavailable)?;
                rows.map(|row| decode(row.map_err(unavailable)?.1.value())).collect()
            }
        }
    };
}

reads!(ReadTxn);
reads!(WriteTxn);

impl WriteTxn {
    /// Begins a step, and drops the oldest ones beyond this many steps and edits.
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
        let last = table.last().map_err(unavailable)?.map_or(0, |(key, _)| key.value());
        table.insert(last + 1, encode(row).as_slice()).map_err(unavailable)?;
        let steps = table.len().map_err(unavailable)?;
        drop(table);
        let mut surplus = steps.saturating_sub(steps_max.max(1));
        while surplus > 0 || self.step_edits_len()? > edits_max {
            let table = self.txn.open_table(STEPS).map_err(unavailable)?;
            let first = table.first().map_err(unavailable)?.map(|(key, _)| key.value());
            drop(table);
            let Some(first) = first.filter(|first| *first <= last) else { break };
            self.remove_step(first)?;
            surplus = surplus.saturating_sub(1);
        }
        Ok(last + 1)
    }

    fn step_edits_len(&self) -> Result<u64, StoreError> {
        let table = self.txn.open_table(STEP_EDITS).map_err(unavailable)?;
        table.len().map_err(unavailable)
    }

    /// Writes a step.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_step(&self, step: u64, row: &StepRow) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(STEPS).map_err(unavailable)?;
        table.insert(step, encode(row).as_slice()).map_err(unavailable)?;
        Ok(())
    }

    /// Writes an edit of a step.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_step_edit(
        &self,
        step: u64,
        place: u64,
        row: &StepEditRow,
    ) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(STEP_EDITS).map_err(unavailable)?;
        table.insert((step, place), encode(row).as_slice()).map_err(unavailable)?;
        Ok(())
    }

    /// Removes the edits of a step.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn remove_step_edits(&self, step: u64) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(STEP_EDITS).map_err(unavailable)?;
        table.retain_in((step, 0)..=(step, u64::MAX), |_, _| false).map_err(unavailable)?;
        Ok(())
    }

    /// Removes a step, which can be neither taken back nor made again then.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn remove_step(&self, step: u64) -> Result<(), StoreError> {
        self.remove_step_edits(step)?;
        let mut table = self.txn.open_table(STEPS).map_err(unavailable)?;
        table.remove(step).map_err(unavailable)?;
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
