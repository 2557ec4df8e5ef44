//! A disk in memory, which keeps what was synced apart from what was only written.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redb::StorageBackend;

/// A disk with one file on it, which may be open more than once, one after the other.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    durable: Vec<u8>,
    cache: Vec<u8>,
    unsynced: Vec<Change>,
    /// Writes, resizes and syncs that still go through.
    left: Option<u64>,
    done: u64,
}

enum Change {
    Write(u64, Vec<u8>),
    Resize(u64),
}

impl Disk {
    /// The power goes after so many more operations.
    pub(crate) fn cut_after(&self, operations: u64) {
        self.0.lock().unwrap().left = Some(operations);
    }

    /// Operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.0.lock().unwrap().done
    }

    /// What may be on the disk after the power has gone: of what was not synced, blocks of 512 bytes
    /// that chance chooses, in any order.
    pub(crate) fn after_power_loss(&self, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let state = self.0.lock().unwrap();
        let mut durable = state.durable.clone();
        let (kept, tears) = (random.random_range(0..=100), random.random_bool(0.7));
        for change in &state.unsynced {
            match change {
                Change::Resize(len) if random.random_range(0..100) < kept => {
                    durable.resize(*len as usize, 0);
                }
                Change::Resize(_) => {}
                Change::Write(offset, bytes) => {
                    let whole = random.random_range(0..100) < kept;
                    let mut at = *offset as usize;
                    let end = at + bytes.len();
                    while at < end {
                        let next = end.min((at / BLOCK + 1) * BLOCK);
                        let keep = if tears { random.random_range(0..100) < kept } else { whole };
                        if keep {
                            durable.resize(durable.len().max(next), 0);
                            let from = at - *offset as usize..next - *offset as usize;
                            durable[at..next].copy_from_slice(&bytes[from]);
                        }
                        at = next;
                    }
                }
            }
        }
        Self::holding(durable)
    }

    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        let state = State { cache: bytes.clone(), durable: bytes, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().cache.clone()
    }

    /// Changes the bytes behind everybody's back.
    pub(crate) fn alter(&self, alter: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock().unwrap();
        alter(&mut state.cache);
        state.durable = state.cache.clone();
    }
}

/// Without its bytes, which would be many.
impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

impl State {
    fn begin(&mut self) -> io::Result<()> {
        match &mut self.left {
            Some(0) => Err(io::Error::other("the power is gone")),
            left => {
                if let Some(left) = left {
                    *left -= 1;
                }
                self.done += 1;
                Ok(())
            }
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let bytes = state.cache.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.begin()?;
        state.cache.resize(len as usize, 0);
        state.unsynced.push(Change::Resize(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.begin()?;
        state.durable = state.cache.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        // The write in whose middle the power goes may be there in part.
        let begun = state.begin();
        let end = offset as usize + data.len();
        if end > state.cache.len() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "beyond the end"));
        }
        state.unsynced.push(Change::Write(offset, data.to_vec()));
        begun?;
        state.cache[offset as usize..end].copy_from_slice(data);
        Ok(())
    }
}

/// Bytes that are written together or not at all.
const BLOCK: usize = 512;
