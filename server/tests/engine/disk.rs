//! A disk in memory that can fail, and lose what was not synced.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::{Database, StorageBackend};

/// A disk; clones are the same one. Databases opened on it come and go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// What a reader sees, and what survives a power loss.
    seen: Vec<u8>,
    synced: Vec<u8>,
    calls: u64,
    syncs: u64,
    /// The call that fails, and whether all after it fail too.
    fails_at: Option<u64>,
    stays_broken: bool,
}

impl Disk {
    pub(crate) fn database(&self) -> Result<Database, redb::DatabaseError> {
        Database::builder().create_with_backend(Backend(self.clone()))
    }

    /// Calls so far, of any kind.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// How often something was made durable.
    pub(crate) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Lets call `number` fail, counting from the first ever, and if `stays_broken` all after it.
    pub(crate) fn fail_at(&self, number: u64, stays_broken: bool) {
        let mut state = self.state();
        state.fails_at = Some(number);
        state.stays_broken = stays_broken;
    }

    /// What is left after a power loss right now: what was synced.
    pub(crate) fn after_power_loss(&self) -> Self {
        let synced = self.state().synced.clone();
        let state = State { seen: synced.clone(), synced, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the disk")
    }
}

impl State {
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        let fails = match self.fails_at {
            Some(at) if self.stays_broken => self.calls >= at,
            Some(at) => self.calls == at,
            None => false,
        };
        if fails { Err(io::Error::other("the disk fails on demand")) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct Backend(Disk);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.0.state();
        state.call()?;
        Ok(state.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.0.state();
        state.call()?;
        let start = offset as usize;
        let from = state.seen.get(start..start + out.len());
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.state();
        state.call()?;
        state.seen.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.state();
        state.call()?;
        state.syncs += 1;
        state.synced = state.seen.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.state();
        state.call()?;
        let start = offset as usize;
        state.seen[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}
