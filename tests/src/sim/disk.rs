//! A disk that fails: it keeps what was synced apart from what was only written, and can lose any
//! part of the latter.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::random::Random;

/// The disk of one machine, with one file on it.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a power loss cannot take away.
    durable: Vec<u8>,
    /// What programs read: the durable bytes with everything written since.
    cache: Vec<u8>,
    /// What was written since the last sync, in order.
    unsynced: Vec<Unsynced>,
    /// Blocks that take space.
    allocated: BTreeSet<u64>,
    /// Which opening of the file may use it. A handle of an earlier one gets errors.
    opening: u64,
    /// Operations so far.
    operations: u64,
    armed: Option<(u64, Trouble)>,
    /// The device fails every operation until the machine restarts.
    broken: bool,
    /// Nothing new fits.
    full: Option<Full>,
    /// Errors given to programs that they did not deserve.
    injected: u64,
    struck: Option<Strike>,
}

#[derive(Debug)]
enum Unsynced {
    Write { offset: u64, bytes: Vec<u8> },
    Resize(u64),
}

/// What happens at a chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The operation fails; the next ones work.
    FailOnce,
    /// It and every later one fail, until the machine restarts.
    FailForGood,
    /// The process or the machine dies in the middle of it.
    Strike(Strike),
}

/// How a machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// The process is killed. The system keeps what was written.
    Kill,
    /// The power goes. Any part of what was not synced is lost.
    PowerLoss,
}

/// How a full disk says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The file cannot grow.
    AtGrowth,
    /// The file grows without taking space, and the first write to each new block fails.
    AtWrite,
}

/// The file as it was at one moment.
#[derive(Debug, Clone)]
pub struct Backup(Vec<u8>);

impl Disk {
    /// An empty disk.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// A disk with a file on it that was written long ago.
    pub fn holding(bytes: Vec<u8>) -> Self {
        let disk = Self::new();
        disk.restore(&Backup(bytes));
        disk
    }

    /// Opens the file. Whoever had it open before cannot use it any more.
    pub fn open(&self) -> impl StorageBackend + use<> {
        let mut state = self.lock();
        state.opening += 1;
        state.struck = None;
        state.injected = 0;
        Handle { disk: Self(Arc::clone(&self.0)), opening: state.opening }
    }

    /// Takes the file away from whoever has it open.
    pub fn close(&self) {
        self.lock().opening += 1;
    }

    /// Arranges for trouble after so many more operations.
    pub fn arm(&self, operations: u64, trouble: Trouble) {
        let mut state = self.lock();
        state.armed = Some((state.operations + operations, trouble));
    }

    /// Fills the disk up, or empties it.
    pub fn set_full(&self, full: Option<Full>) {
        self.lock().full = full;
    }

    /// How the machine went down in the middle of an operation, if it did.
    pub fn struck(&self) -> Option<Strike> {
        self.lock().struck
    }

    /// Errors given to whoever has the file open, since they opened it.
    pub fn injected(&self) -> u64 {
        self.lock().injected
    }

    /// Whether every operation fails until the machine restarts.
    pub fn is_broken(&self) -> bool {
        self.lock().broken
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The machine goes down. After a power loss, only a part of what was not synced is there.
    pub fn go_down(&self, strike: Strike, random: &mut Random) {
        let mut state = self.lock();
        state.opening += 1;
        state.armed = None;
        state.broken = false;
        state.struck = None;
        match strike {
            Strike::Kill => {}
            Strike::PowerLoss => state.lose_unsynced(random),
        }
    }

    /// Ends every fault.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.armed = None;
        state.broken = false;
        state.full = None;
    }

    /// The file as it is now.
    pub fn backup(&self) -> Backup {
        Backup(self.lock().cache.clone())
    }

    /// Puts an older file in place. Nothing may have it open.
    pub fn restore(&self, backup: &Backup) {
        let mut state = self.lock();
        state.opening += 1;
        state.durable.clone_from(&backup.0);
        state.cache.clone_from(&backup.0);
        state.unsynced.clear();
        state.allocated = (0..blocks(backup.0.len() as u64)).collect();
    }

    /// Removes the file.
    pub fn erase(&self) {
        self.restore(&Backup(Vec::new()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole after every operation, wherever a panic strikes.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// Counts an operation, and says whether it may go on.
    fn begin(&mut self, opening: u64) -> io::Result<()> {
        if opening != self.opening {
            return Err(io::Error::other("the file was closed"));
        }
        self.operations += 1;
        if self.broken {
            return Err(self.inject(ErrorKind::Other, "the device fails"));
        }
        let Some((_, trouble)) = self.armed.filter(|(at, _)| *at <= self.operations) else {
            return Ok(());
        };
        self.armed = None;
        match trouble {
            Trouble::FailOnce => {}
            Trouble::FailForGood => self.broken = true,
            Trouble::Strike(strike) => {
                self.struck = Some(strike);
                self.opening += 1;
            }
        }
        Err(self.inject(ErrorKind::Other, "the device failed"))
    }

    fn inject(&mut self, kind: ErrorKind, what: &'static str) -> io::Error {
        self.injected += 1;
        io::Error::new(kind, what)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        if end > self.cache.len() as u64 {
            return Err(io::Error::new(ErrorKind::InvalidInput, "write beyond the end"));
        }
        let touched = offset / BLOCK..blocks(end);
        if self.full == Some(Full::AtWrite)
            && touched.clone().any(|block| !self.allocated.contains(&block))
        {
            return Err(self.inject(ErrorKind::StorageFull, "the disk is full"));
        }
        self.allocated.extend(touched);
        self.cache[offset as usize..end as usize].copy_from_slice(bytes);
        self.unsynced.push(Unsynced::Write { offset, bytes: bytes.to_vec() });
        Ok(())
    }

    fn resize(&mut self, len: u64) -> io::Result<()> {
        if self.full == Some(Full::AtGrowth) && len > self.cache.len() as u64 {
            return Err(self.inject(ErrorKind::StorageFull, "the disk is full"));
        }
        self.cache.resize(len as usize, 0);
        self.allocated.split_off(&blocks(len));
        self.unsynced.push(Unsynced::Resize(len));
        Ok(())
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            apply(&mut self.durable, &change, |_| true);
        }
    }

    /// Keeps all, none, some writes, or some sectors of what was not synced, as chance has it.
    fn lose_unsynced(&mut self, random: &mut Random) {
        let mode = random.below(5);
        let kept = random.below(1001);
        for change in std::mem::take(&mut self.unsynced) {
            let whole = match mode {
                0 => false,
                1 => true,
                _ => random.chance(kept),
            };
            match mode {
                3 | 4 => apply(&mut self.durable, &change, |_| random.chance(kept)),
                _ => apply(&mut self.durable, &change, |_| whole),
            }
        }
        self.cache.clone_from(&self.durable);
        self.allocated = (0..blocks(self.cache.len() as u64)).collect();
    }
}

/// Makes a change, or those of its sectors that `keep` lets through.
fn apply(file: &mut Vec<u8>, change: &Unsynced, mut keep: impl FnMut(u64) -> bool) {
    match change {
        Unsynced::Resize(len) if keep(0) => file.resize(*len as usize, 0),
        Unsynced::Resize(_) => {}
        Unsynced::Write { offset, bytes } => {
            let (mut at, end) = (*offset, offset + bytes.len() as u64);
            while at < end {
                let sector = at / SECTOR;
                let next = end.min((sector + 1) * SECTOR);
                if keep(sector) {
                    if file.len() < next as usize {
                        file.resize(next as usize, 0);
                    }
                    let from = (at - offset) as usize..(next - offset) as usize;
                    file[at as usize..next as usize].copy_from_slice(&bytes[from]);
                }
                at = next;
            }
        }
    }
}

/// The file, open in one process.
#[derive(Debug)]
struct Handle {
    disk: Disk,
    opening: u64,
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.lock();
        state.begin(self.opening)?;
        Ok(state.cache.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.begin(self.opening)?;
        let start = offset as usize;
        match state.cache.get(start..start + out.len()) {
            Some(bytes) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.begin(self.opening)?;
        state.resize(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.begin(self.opening)?;
        state.sync();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        let struck = state.opening == self.opening;
        let begun = state.begin(self.opening);
        if begun.is_err() && struck && state.struck.is_some() {
            // The write under way may reach the disk in part, too.
            state.write(offset, data)?;
        }
        begun?;
        state.write(offset, data)
    }
}

fn blocks(len: u64) -> u64 {
    len.div_ceil(BLOCK)
}

/// Bytes that a disk writes as one.
const SECTOR: u64 = 512;

/// Bytes that a file system gives out at once.
const BLOCK: u64 = 4096;

#[cfg(test)]
mod tests {
    use redb::{Database, ReadableDatabase, TableDefinition};

    use super::*;

    const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("table");

    fn open(disk: &Disk) -> Database {
        Database::builder().create_with_backend(disk.open()).expect("the file opens")
    }

    fn put(database: &Database, key: u64) -> Result<(), Box<redb::Error>> {
        let wrong = |error: redb::Error| Box::new(error);
        let txn = database.begin_write().map_err(|error| wrong(error.into()))?;
        {
            let mut table = txn.open_table(TABLE).map_err(|error| wrong(error.into()))?;
            let value = vec![key as u8; 3000];
            table.insert(key, value.as_slice()).map_err(|error| wrong(error.into()))?;
        }
        txn.commit().map_err(|error| wrong(error.into()))
    }

    fn has(database: &Database, key: u64) -> bool {
        let txn = database.begin_read().expect("reading begins");
        let table = txn.open_table(TABLE).expect("the table is there");
        table.get(key).expect("reading works").is_some()
    }

    #[test]
    fn what_was_synced_survives_every_power_loss() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let disk = Disk::new();
            let mut kept = Vec::new();
            let mut database = open(&disk);
            put(&database, 1000).expect("nothing is wrong yet");
            for key in 0..20 {
                if random.chance(200) {
                    disk.arm(random.below(30), Trouble::Strike(Strike::PowerLoss));
                }
                match put(&database, key) {
                    Ok(()) => kept.push(key),
                    Err(_) => {
                        disk.go_down(Strike::PowerLoss, &mut random);
                        database = open(&disk);
                    }
                }
                assert!(kept.iter().all(|key| has(&database, *key)), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_power_loss_loses_what_was_not_synced() {
        let disk = Disk::new();
        let handle = disk.open();
        handle.set_len(4096).expect("it fits");
        handle.sync_data().expect("it syncs");
        handle.write(0, &[1; 2048]).expect("it writes");
        let mut sizes = BTreeSet::new();
        for seed in 0..50 {
            let copy = Disk::new();
            copy.restore(&disk.backup());
            let handle = copy.open();
            handle.write(0, &[2; 2048]).expect("it writes");
            copy.go_down(Strike::PowerLoss, &mut Random::new(seed));
            let kept = copy.backup().0.iter().filter(|byte| **byte == 2).count();
            assert_eq!(kept % SECTOR as usize, 0);
            sizes.insert(kept);
        }
        assert!(sizes.contains(&0) && sizes.contains(&2048) && sizes.len() > 3, "{sizes:?}");
    }

    #[test]
    fn a_full_disk_takes_no_more_and_recovers() {
        for full in [Full::AtGrowth, Full::AtWrite] {
            let disk = Disk::new();
            let mut database = open(&disk);
            put(&database, 0).expect("there is space");
            disk.set_full(Some(full));
            let failed = (1..10_000).find(|key| put(&database, *key).is_err());
            let failed = failed.expect("the disk is full at some time");
            disk.set_full(None);
            drop(database);
            database = open(&disk);
            assert!((0..failed).all(|key| has(&database, key)));
            put(&database, failed).expect("there is space again");
        }
    }
}
