//! Long changes that replicas push in parts, and go on with after a reconnect.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};
use rejoin_core::limits::{UPLOAD_MS_MAX, UPLOADS_BYTES_MAX, UPLOADS_DEVICE_BYTES_MAX};
use rejoin_core::{ChangeHash, DeviceId};

use super::tables::{UPLOAD_PARTS, UPLOADS, UploadRow, encode};
use super::{ChangeStore, StoreError};

/// The device that pushes a change, and the change.
type Key = (DeviceId, ChangeHash);

/// The progress of all uploads, staged parts included. Their bytes are in the database.
#[derive(Debug)]
pub(super) struct Uploads {
    by_change: BTreeMap<Key, Upload>,
    /// By when their last parts came.
    by_turn: BTreeMap<u64, Key>,
    /// The bytes that each device is charged, and all of them together.
    devices: BTreeMap<DeviceId, u64>,
    charge: u64,
    device_bytes_max: u64,
    bytes_max: u64,
}

#[derive(Debug)]
struct Upload {
    row: UploadRow,
    /// Bytes that have come and are committed.
    committed: u64,
}

/// The changes of the next commit to uploads: it removes some, and then adds parts.
#[derive(Debug, Default)]
pub(super) struct UploadWrites {
    removed: BTreeSet<Key>,
    parts: BTreeMap<(Key, u64), Vec<u8>>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self::within(UPLOADS_DEVICE_BYTES_MAX as u64, UPLOADS_BYTES_MAX as u64)
    }
}

impl Uploads {
    fn within(device_bytes_max: u64, bytes_max: u64) -> Self {
        Self {
            by_change: BTreeMap::new(),
            by_turn: BTreeMap::new(),
            devices: BTreeMap::new(),
            charge: 0,
            device_bytes_max,
            bytes_max,
        }
    }

    pub(super) fn read(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        let mut uploads = Self::default();
        for entry in transaction.open_table(UPLOADS)?.iter()? {
            let (key, row) = entry?;
            let (device, hash) = key.value();
            let row: UploadRow = minicbor::decode(row.value()).map_err(StoreError::UploadRow)?;
            uploads.put((DeviceId(*device), ChangeHash(*hash)), row, row.uploaded);
        }
        Ok(uploads)
    }

    /// The staged parts are committed.
    pub(super) fn committed(&mut self, writes: &UploadWrites) {
        for (key, _) in writes.parts.keys() {
            if let Some(upload) = self.by_change.get_mut(key) {
                upload.committed = upload.row.uploaded;
            }
        }
    }

    pub(super) fn write(
        &mut self,
        transaction: &WriteTransaction,
        writes: &UploadWrites,
        unix_ms: u64,
    ) -> Result<(), StoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        let mut rows = transaction.open_table(UPLOADS)?;
        let mut parts = transaction.open_table(UPLOAD_PARTS)?;
        for (device, hash) in &writes.removed {
            let key = (&device.0, &hash.0);
            rows.remove(key)?;
            parts.retain_in((key.0, key.1, 0)..=(key.0, key.1, u64::MAX), |_, _| false)?;
        }
        for ((key, offset), part) in &writes.parts {
            let (device, hash) = key;
            parts.insert((&device.0, &hash.0, *offset), part.as_slice())?;
            let Some(upload) = self.by_change.get_mut(key) else { continue };
            upload.row.unix_ms = unix_ms;
            rows.insert((&device.0, &hash.0), encode(&upload.row).as_slice())?;
        }
        Ok(())
    }

    fn put(&mut self, key: Key, row: UploadRow, committed: u64) {
        self.take(&key);
        self.charge += row.charge;
        *self.devices.entry(key.0).or_default() += row.charge;
        self.by_turn.insert(row.turn, key);
        self.by_change.insert(key, Upload { row, committed });
    }

    fn take(&mut self, key: &Key) -> Option<Upload> {
        let upload = self.by_change.remove(key)?;
        let charge = upload.row.charge;
        self.by_turn.remove(&upload.row.turn);
        self.charge -= charge;
        if let Some(of_device) = self.devices.get_mut(&key.0) {
            *of_device -= charge;
            if *of_device == 0 {
                self.devices.remove(&key.0);
            }
        }
        Some(upload)
    }

    fn next_turn(&self) -> u64 {
        self.by_turn.last_key_value().map_or(0, |(turn, _)| turn + 1)
    }

    /// The upload that has waited longest, of one device or of all, but not this one.
    fn oldest_but(&self, key: &Key, device: Option<&DeviceId>) -> Option<Key> {
        let mut others = self.by_turn.values().filter(|other| *other != key);
        others.find(|(of, _)| device.is_none_or(|device| of == device)).copied()
    }

    /// An upload that is in the way of so many more bytes of this one.
    fn in_the_way(&self, key: &Key, charge: u64) -> Option<Key> {
        let of_device = self.devices.get(&key.0).copied().unwrap_or(0);
        if of_device + charge > self.device_bytes_max {
            self.oldest_but(key, Some(&key.0))
        } else if self.charge + charge > self.bytes_max {
            self.oldest_but(key, None)
        } else {
            None
        }
    }
}

impl UploadWrites {
    pub(super) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.parts.is_empty()
    }

    fn remove(&mut self, key: Key) {
        let parts = self.parts.extract_if((key, 0)..=(key, u64::MAX), |_, _| true);
        parts.for_each(drop);
        self.removed.insert(key);
    }
}

impl ChangeStore {
    /// The number of bytes of a change, from its beginning, that are kept of the parts a device has
    /// pushed: it goes on from there. Only committed parts count.
    ///
    /// # Errors
    /// The store failed before.
    pub fn uploaded(&self, device: &DeviceId, hash: &ChangeHash) -> Result<u64, StoreError> {
        if self.is_failed() {
            return Err(StoreError::Failed);
        }
        let upload = self.uploads.by_change.get(&(*device, *hash));
        Ok(upload.map_or(0, |upload| upload.committed))
    }

    /// Takes a part of a change of `total` bytes into the next commit, and says whether it did. A
    /// part that does not follow the ones before is not taken, nor is one of a change that is
    /// longer than a device's uploads may be. Uploads that have waited longest leave for it: those
    /// of the device if its own are too much, and else those of anyone.
    ///
    /// # Errors
    /// The store failed before.
    pub fn stage_upload_part(
        &mut self,
        device: &DeviceId,
        hash: &ChangeHash,
        offset: u64,
        total: u64,
        bytes: Vec<u8>,
    ) -> Result<bool, StoreError> {
        if self.is_failed() {
            return Err(StoreError::Failed);
        }
        let key = (*device, *hash);
        let len = bytes.len() as u64;
        let before = self.uploads.by_change.get(&key).map(|upload| (upload.row, upload.committed));
        let (before, committed) = match before {
            // It says now that the change is of another length: it begins anew.
            Some((row, _)) if row.total != total && offset == 0 => {
                self.drop_upload(device, hash);
                (None, 0)
            }
            Some((row, committed)) => (Some(row), committed),
            None => (None, 0),
        };
        let uploaded = before.map_or(0, |row| row.uploaded);
        let is_next = before.is_none_or(|row| row.total == total) && offset == uploaded;
        let end = offset.saturating_add(len);
        if !is_next || len == 0 || end > total || total > self.uploads.device_bytes_max {
            return Ok(false);
        }
        // The last part may be short. Others that are cost a row all the same.
        let charge = if end == total { len } else { len.max(PART_CHARGE_BYTES) };
        while let Some(other) = self.uploads.in_the_way(&key, charge) {
            self.drop_upload(&other.0, &other.1);
        }
        let of_device = self.uploads.devices.get(device).copied().unwrap_or(0);
        if of_device + charge > self.uploads.device_bytes_max {
            return Ok(false);
        }
        let charge = charge + before.map_or(0, |row| row.charge);
        let turn = self.uploads.next_turn();
        let unix_ms = before.map_or(0, |row| row.unix_ms);
        let row = UploadRow { total, uploaded: end, charge, turn, unix_ms };
        self.uploads.put(key, row, committed);
        self.batch.bytes += bytes.len();
        self.batch.uploads.parts.insert((key, offset), bytes);
        Ok(true)
    }

    /// A change whose parts have all come, staged ones included. They are removed with the next
    /// commit: stage the change before, or it is lost.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn take_upload(
        &mut self,
        device: &DeviceId,
        hash: &ChangeHash,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let key = (*device, *hash);
        let Some(Upload { row, .. }) = self.uploads.by_change.get(&key) else { return Ok(None) };
        let total = row.total as usize;
        if row.uploaded < row.total {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(total);
        if !self.batch.uploads.removed.contains(&key) {
            let parts = self.database.begin_read()?.open_table(UPLOAD_PARTS)?;
            let all = (&device.0, &hash.0, 0)..=(&device.0, &hash.0, u64::MAX);
            for part in parts.range(all)? {
                bytes.extend_from_slice(part?.1.value());
            }
        }
        for (_, part) in self.batch.uploads.parts.range((key, 0)..=(key, u64::MAX)) {
            bytes.extend_from_slice(part);
        }
        self.drop_upload(device, hash);
        // A change that is not whole is pushed again.
        Ok((bytes.len() == total).then_some(bytes))
    }

    /// Removes the parts of a change, with the next commit.
    pub fn drop_upload(&mut self, device: &DeviceId, hash: &ChangeHash) {
        let key = (*device, *hash);
        if self.uploads.take(&key).is_some() {
            self.batch.uploads.remove(key);
        }
    }

    /// Removes uploads that nobody has continued for too long, with the commit at this time.
    pub(super) fn expire_uploads(&mut self, unix_ms: u64) {
        let staged = &self.batch.uploads.parts;
        let is_staged = |key: &Key| staged.range((*key, 0)..=(*key, u64::MAX)).next().is_some();
        let expired = self.uploads.by_turn.values().take_while(|key| {
            let upload = self.uploads.by_change.get(*key);
            let is_old =
                upload.is_some_and(|it| it.row.unix_ms.saturating_add(UPLOAD_MS_MAX) < unix_ms);
            is_old && !is_staged(key)
        });
        for (device, hash) in expired.copied().collect::<Vec<_>>() {
            self.drop_upload(&device, &hash);
        }
    }
}

/// The bytes that a part is charged at least, so that rows are bounded, too.
const PART_CHARGE_BYTES: u64 = 1024;

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;
    use redb::{Database, ReadableTableMetadata};

    use super::*;

    const DAY_MS: u64 = 24 * 3_600_000;

    /// A store in memory that keeps 10,000 bytes for a device, and 25,000 for all.
    fn store() -> ChangeStore {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let mut store = ChangeStore::open(database, 1 << 20, || [1; 16]).unwrap();
        store.uploads = Uploads::within(10_000, 25_000);
        store
    }

    fn reopen(store: ChangeStore) -> ChangeStore {
        ChangeStore::open(store.database, 1 << 20, || [1; 16]).unwrap()
    }

    fn key(device: u8, change: u8) -> Key {
        (DeviceId([device; 16]), ChangeHash([change; 32]))
    }

    fn stage(store: &mut ChangeStore, (device, hash): Key, offset: u64, len: usize) -> bool {
        let bytes = vec![offset as u8; len];
        store.stage_upload_part(&device, &hash, offset, 9000, bytes).unwrap()
    }

    fn uploaded(store: &ChangeStore, (device, hash): Key) -> u64 {
        store.uploaded(&device, &hash).unwrap()
    }

    #[test]
    fn parts_continue_over_a_restart_and_come_out_whole() {
        let mut store = store();
        let (device, hash) = key(1, 1);
        assert!(stage(&mut store, (device, hash), 0, 4000));
        assert!(!stage(&mut store, (device, hash), 0, 4000), "it came already");
        assert_eq!(uploaded(&store, (device, hash)), 0, "it is not committed");
        store.commit(0).unwrap();
        let mut store = reopen(store);
        assert_eq!(uploaded(&store, (device, hash)), 4000);
        assert!(!stage(&mut store, (device, hash), 5000, 10), "a gap");
        assert!(!stage(&mut store, (device, hash), 4000, 5001), "more than the change has");
        assert!(stage(&mut store, (device, hash), 4000, 2000));
        assert_eq!(store.take_upload(&device, &hash).unwrap(), None);
        store.commit(0).unwrap();
        assert!(stage(&mut store, (device, hash), 6000, 3000));
        let whole = store.take_upload(&device, &hash).unwrap().unwrap();
        let parts = [vec![0; 4000], vec![4000_u64 as u8; 2000], vec![6000_u64 as u8; 3000]];
        assert_eq!(whole, parts.concat());
        store.commit(0).unwrap();
        let store = reopen(store);
        assert_eq!(uploaded(&store, (device, hash)), 0);
        let parts = store.database.begin_read().unwrap().open_table(UPLOAD_PARTS).unwrap();
        assert!(parts.is_empty().unwrap());
    }

    #[test]
    fn what_is_taken_and_not_committed_is_still_there() {
        let mut store = store();
        let (device, hash) = key(1, 1);
        assert!(stage(&mut store, (device, hash), 0, 9000));
        store.commit(0).unwrap();
        assert!(store.take_upload(&device, &hash).unwrap().is_some());
        let mut store = reopen(store);
        assert_eq!(store.take_upload(&device, &hash).unwrap().map(|it| it.len()), Some(9000));
    }

    #[test]
    fn a_change_that_is_of_another_length_after_all_begins_anew() {
        let mut store = store();
        let (device, hash) = key(1, 1);
        assert!(stage(&mut store, (device, hash), 0, 4000));
        store.commit(0).unwrap();
        assert!(store.stage_upload_part(&device, &hash, 0, 5000, vec![7; 5000]).unwrap());
        assert_eq!(store.take_upload(&device, &hash).unwrap(), Some(vec![7; 5000]));
    }

    #[test]
    fn a_device_loses_what_it_left_first() {
        let mut store = store();
        assert!(stage(&mut store, key(1, 1), 0, 4000));
        assert!(stage(&mut store, key(1, 2), 0, 4000));
        assert!(stage(&mut store, key(1, 1), 4000, 1000));
        assert!(stage(&mut store, key(1, 3), 0, 4000));
        store.commit(0).unwrap();
        let all = [1, 2, 3].map(|change| uploaded(&store, key(1, change)));
        assert_eq!(all, [5000, 0, 4000]);
        let (device, hash) = key(1, 4);
        assert!(!store.stage_upload_part(&device, &hash, 0, 10_001, vec![0; 10]).unwrap());
    }

    #[test]
    fn the_upload_that_waited_longest_leaves_when_all_are_too_much() {
        let mut store = store();
        for device in 1..=4 {
            assert!(stage(&mut store, key(device, 1), 0, 8000));
            store.commit(0).unwrap();
        }
        assert_eq!(
            [1, 2, 3, 4].map(|device| uploaded(&store, key(device, 1))),
            [0, 8000, 8000, 8000]
        );
        let mut small = 0;
        while stage(&mut store, key(9, 1), small, 1) {
            small += 1;
        }
        assert_eq!(small, 9, "short parts are charged for their rows");
    }

    #[test]
    fn uploads_that_nobody_goes_on_with_are_dropped_in_the_end() {
        let mut store = store();
        assert!(stage(&mut store, key(1, 1), 0, 2000));
        store.commit(DAY_MS).unwrap();
        assert!(stage(&mut store, key(2, 1), 0, 2000));
        store.commit(20 * DAY_MS).unwrap();
        assert!(stage(&mut store, key(3, 1), 0, 2000));
        store.commit(32 * DAY_MS).unwrap();
        let store = reopen(store);
        assert_eq!([1, 2, 3].map(|device| uploaded(&store, key(device, 1))), [0, 2000, 2000]);
    }
}
