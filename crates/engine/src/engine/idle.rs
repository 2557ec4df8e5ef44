//! The work of an engine that nobody waits for: what was put off is written, what nobody uses leaves
//! memory, and what was erased is written over.

use super::{Engine, EngineError};
use crate::store::ReadTxn;

impl Engine {
    /// Unloads documents that nobody uses. Call now and then.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn handle_idle(&mut self, now: u64) -> Result<(), EngineError> {
        let expired = self.presences.expire(now);
        for (space, document) in expired {
            if let Some(row) = self.store.read()?.document(&document)? {
                self.watchers.presence(&space, &row.collection, document);
            }
        }
        if self.overwrite_at.is_some_and(|at| at <= now) {
            self.overwrite(now)?;
        }
        self.unload(now, now.saturating_sub(self.options.idle_ms))
    }

    /// Writes over what was erased, if nobody has a view of the file. If that fails, as on a disk without
    /// room, it is tried again after a while, and by the next process.
    fn overwrite(&mut self, now: u64) -> Result<(), EngineError> {
        let overwritten = self.store.overwrite();
        if overwritten.is_err() {
            self.overwrite_at = Some(now + OVERWRITE_AGAIN_MS);
        }
        if overwritten? {
            let txn = self.store.write()?;
            txn.mark_overwrite(false)?;
            txn.commit()?;
            self.overwrite_at = None;
        }
        Ok(())
    }

    /// Writes the state that is only in memory: values that are behind, and cursors.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn flush(&mut self, now: u64) -> Result<(), EngineError> {
        let stale = self.store.read()?.stale()?;
        self.refresh(now, &stale)?;
        self.flush_cursors()?;
        // Unless it failed a moment ago.
        if self.overwrite_at.is_some_and(|at| at < now + OVERWRITE_AGAIN_MS / 2) {
            self.overwrite(now)?;
        }
        Ok(())
    }

    pub(super) fn unload(&mut self, now: u64, idle_since: u64) -> Result<(), EngineError> {
        let options = &self.options;
        let surplus =
            self.loaded.surplus(options.documents_loaded_max, options.loaded_bytes_max, idle_since);
        if surplus.is_empty() {
            return Ok(());
        }
        self.refresh(now, &surplus)?;
        surplus.iter().for_each(|id| drop(self.loaded.take(id)));
        Ok(())
    }

    /// Takes documents beyond the limits out of memory while a transaction is under way, which holds all
    /// that was written in them.
    pub(super) fn drop_surplus(&mut self) {
        // Those of one turn are soon needed again.
        if self.loaded.len() <= 4 * self.options.documents_loaded_max {
            return;
        }
        let (count_max, bytes_max) =
            (self.options.documents_loaded_max, self.options.loaded_bytes_max);
        for id in self.loaded.surplus(count_max, bytes_max, 0) {
            drop(self.loaded.take(&id));
        }
    }

    /// Unloads documents beyond the limits that need no writing, so that a document can be looked
    /// at while the disk is full.
    pub(super) fn unload_looked_at(&mut self, stored: &ReadTxn) -> Result<(), EngineError> {
        let options = &self.options;
        let surplus =
            self.loaded.surplus(options.documents_loaded_max, options.loaded_bytes_max, 0);
        for id in surplus {
            if !stored.is_stale(&id)? {
                drop(self.loaded.take(&id));
            }
        }
        Ok(())
    }
}

/// Milliseconds until it is tried again to write over what was erased.
const OVERWRITE_AGAIN_MS: u64 = 600_000;
