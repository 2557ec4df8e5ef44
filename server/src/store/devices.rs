//! The devices that were here: when, with which program, and how far each had come.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use redb::{Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};
use rejoin_core::DeviceId;
use rejoin_core::wire::Backfill;

use super::tables::{DEVICES, encode};
use super::{ChangeStore, StoreError};

/// A device as it was last here.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DeviceRow {
    /// The time at which it came first, in milliseconds since 1970.
    #[n(0)]
    pub first_ms: u64,
    /// The time at which it was last known to be here.
    #[n(1)]
    pub seen_ms: u64,
    /// Its program and version, as it said.
    #[n(2)]
    pub app: Option<String>,
    /// The identity of the person, as author bytes; a claim.
    #[n(3)]
    pub identity: Option<Vec<u8>>,
    /// Edits that waited at the device when it came.
    #[n(4)]
    pub waiting: u64,
    /// How far it has come in each space.
    #[n(5)]
    pub marks: Vec<DeviceMark>,
}

/// How far a device has come in a space.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DeviceMark {
    /// The space.
    #[n(0)]
    pub space: String,
    /// The position up to which it has everything, except the backfill.
    #[n(1)]
    pub position: u64,
    /// The older documents that it lacks.
    #[n(2)]
    pub backfill: Option<Backfill>,
    /// Whether it was sent all this and has not been back to say that it arrived.
    #[n(3)]
    pub is_sent: bool,
}

/// The rows that wait for the next commit.
#[derive(Debug, Default)]
pub(super) struct Devices {
    waiting: BTreeMap<DeviceId, DeviceRow>,
}

impl ChangeStore {
    /// Notes a device as it is now. The row goes with the next commit, or with
    /// [`commit_devices`](Self::commit_devices).
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn note_device(&mut self, device: DeviceId, mut row: DeviceRow) -> Result<(), StoreError> {
        if let Some(before) = self.device(&device)? {
            row.first_ms = before.first_ms;
            // A space that it did not ask for this time is where it was.
            let of_before = before.marks.into_iter();
            let missing: Vec<_> = of_before
                .filter(|mark| row.marks.iter().all(|now| now.space != mark.space))
                .collect();
            row.marks.extend(missing);
            row.marks.truncate(MARKS_MAX);
        } else {
            row.first_ms = row.seen_ms;
        }
        self.devices.waiting.insert(device, row);
        Ok(())
    }

    /// A device, if it was ever here.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn device(&self, device: &DeviceId) -> Result<Option<DeviceRow>, StoreError> {
        if let Some(row) = self.devices.waiting.get(device) {
            return Ok(Some(row.clone()));
        }
        let table = self.database.begin_read()?.open_table(DEVICES)?;
        Ok(table.get(&device.0)?.and_then(|row| minicbor::decode(row.value()).ok()))
    }

    /// Every device that was here, the one that was here last first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn devices(&self) -> Result<Vec<(DeviceId, DeviceRow)>, StoreError> {
        let table = self.database.begin_read()?.open_table(DEVICES)?;
        let mut devices = self.devices.waiting.clone();
        for entry in table.iter()? {
            let (device, row) = entry?;
            if let Ok(row) = minicbor::decode(row.value()) {
                devices.entry(DeviceId(*device.value())).or_insert(row);
            }
        }
        let mut devices: Vec<_> = devices.into_iter().collect();
        devices.sort_by_key(|(_, row)| std::cmp::Reverse(row.seen_ms));
        Ok(devices)
    }

    /// Whether rows of devices wait for a commit.
    pub fn has_devices(&self) -> bool {
        !self.devices.waiting.is_empty()
    }

    /// Writes the rows of devices that no other commit took along.
    ///
    /// # Errors
    /// Whether the commit landed is unknown; reopen the store.
    pub fn commit_devices(&mut self) -> Result<(), StoreError> {
        if self.is_failed() {
            return Err(StoreError::Failed);
        }
        let committed = self.try_commit_devices();
        if committed.is_err() {
            self.fail();
        }
        committed
    }

    fn try_commit_devices(&mut self) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        self.devices.write(&transaction)?;
        transaction.commit()?;
        Ok(())
    }
}

impl Devices {
    pub(super) fn write(&mut self, transaction: &WriteTransaction) -> Result<(), StoreError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut table = transaction.open_table(DEVICES)?;
        for (device, row) in std::mem::take(&mut self.waiting) {
            table.insert(&device.0, encode(&row).as_slice())?;
        }
        if table.len()? <= DEVICES_MAX {
            return Ok(());
        }
        // Whoever invents devices without end pushes out those that were not here for longest.
        let mut seen = Vec::new();
        for entry in table.iter()? {
            let (device, row) = entry?;
            let row: Option<DeviceRow> = minicbor::decode(row.value()).ok();
            seen.push((row.map_or(0, |row| row.seen_ms), *device.value()));
        }
        seen.sort_unstable();
        for (_, device) in seen.iter().take(seen.len() - (DEVICES_MAX - DEVICES_SPARE) as usize) {
            table.remove(device)?;
        }
        Ok(())
    }
}

/// Devices that are remembered.
const DEVICES_MAX: u64 = 100_000;

/// Devices that are forgotten together, as finding the oldest reads all of them.
const DEVICES_SPARE: u64 = 10_000;

/// Spaces that are remembered of a device.
const MARKS_MAX: usize = 64;
