//! Documents that an operator erases.

use rejoin_core::change::Place;
use rejoin_core::{DocumentId, SpaceName};

use super::{Answer, Author, Relay};
use crate::store::{Erasure, FIRST_COLLECTION, StoreError};

/// The outcome of an order to erase a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Erased {
    /// It is erased, and everybody who follows its space is told.
    Now(Erasure),
    /// It was erased before.
    Before,
    /// The space has no such document.
    Unknown,
    /// It says how other documents are read, and is replaced instead.
    Schema,
}

impl Relay {
    /// Erases a document for good: every replica is told to remove it, and nothing of it is taken any
    /// more. Its bytes may be in the file until [`overwrite`](Self::overwrite).
    ///
    /// # Errors
    /// The store cannot be read or written, or a backup reads it.
    pub fn erase(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
        unix_ms: u64,
    ) -> Result<Erased, StoreError> {
        self.commit_and_tell(unix_ms)?;
        if self.shared.store.is_read_elsewhere() {
            return Err(StoreError::Busy);
        }
        // No change is looked at: what is damaged can be erased, too.
        let Some(collection) = self.shared.store.collection_to_erase(space, document, unix_ms)?
        else {
            return Ok(Erased::Unknown);
        };
        if collection.as_str() == FIRST_COLLECTION {
            return Ok(Erased::Schema);
        }
        let place = Place { space, collection: &collection, document };
        let Some(erasure) = self.shared.store.erase(&place, unix_ms)? else {
            return Ok(Erased::Before);
        };
        tracing::warn!(
            %space,
            doc = %document,
            changes = erasure.changes,
            "a document was erased by an operator"
        );
        self.forget_document(space, document, "a document was erased; dial again");
        let positions = Some(erasure.position..=erasure.position);
        let (name, document) = (space.clone(), *document);
        self.tell(Answer { author: Author::Peer, name, document, positions });
        Ok(Erased::Now(erasure))
    }

    /// Writes over what is left in the file of documents that were erased, if anything is. Everybody
    /// waits meanwhile, some seconds for each gigabyte.
    ///
    /// # Errors
    /// The store cannot be written, or a backup reads it.
    pub fn overwrite(&mut self) -> Result<(), StoreError> {
        if !self.shared.store.is_overwrite_due() {
            return Ok(());
        }
        if self.shared.store.is_read_elsewhere() {
            return Err(StoreError::Busy);
        }
        self.shared.store.overwrite()
    }

    /// Writes over what an order left to be written over, because it was cut short or somebody read the
    /// store. It is not done at once, so that a disk on which it fails does not keep the relay from
    /// everything else.
    pub(super) fn overwrite_late(&mut self, now: u64) -> Result<(), StoreError> {
        if !self.shared.store.is_overwrite_due() {
            self.overwrite_at = None;
            return Ok(());
        }
        let at = *self.overwrite_at.get_or_insert(now + OVERWRITE_AFTER_MS);
        if now < at {
            return Ok(());
        }
        self.overwrite_at = Some(now + OVERWRITE_AFTER_MS);
        match self.overwrite() {
            Err(StoreError::Busy) => Ok(()),
            overwritten => overwritten,
        }
    }

    /// Lets nothing be written over for an hour: the store failed just now, maybe for want of room for
    /// that, and everything else is to go on.
    pub(crate) fn hold_overwrite(&mut self, now: u64) {
        self.overwrite_at = Some(now + OVERWRITE_AGAIN_MS);
    }

    /// The time at which that is due.
    pub(super) fn overwrite_timeout(&self) -> Option<u64> {
        self.overwrite_at
    }
}

/// Milliseconds after which pages are written over that an order left.
const OVERWRITE_AFTER_MS: u64 = 60_000;

/// Milliseconds after which that is tried again where the store failed.
const OVERWRITE_AGAIN_MS: u64 = 3_600_000;
