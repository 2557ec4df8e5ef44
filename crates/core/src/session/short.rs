//! Frames of changes that leave out what the Welcome told.
//!
//! A device that was away for a week pays for each document that changed. Most of these are of one
//! collection, and their positions are a little beyond the one at which the session began. Both are
//! told once, in the Welcome, and not by the frame before: a frame means the same whatever became of
//! others.

use super::SessionError;
use crate::CollectionName;
use crate::wire::{Changes, SpaceGranted};

/// What the Welcome told of a space.
#[derive(Debug, Clone, Default)]
pub(super) struct Usual {
    /// The collection of a frame that names none.
    collection: Option<CollectionName>,
    /// The position that steps are counted from.
    position: u64,
}

impl Usual {
    pub(super) fn of(granted: &SpaceGranted) -> Self {
        Self { collection: granted.usual.clone(), position: granted.position }
    }

    /// Leaves out of a frame what the Welcome told.
    pub(super) fn shorten(&self, changes: &mut Changes) {
        if self.collection.is_none() {
            return;
        }
        changes.collection.take_if(|it| Some(&*it) == self.collection.as_ref());
        if let Some(position) = changes.position.take_if(|it| *it > self.position) {
            changes.step = Some(position - self.position);
        }
    }

    /// Puts back what was left out of a frame, and returns its collection.
    ///
    /// # Errors
    /// The Welcome did not tell what the frame leaves out.
    pub(super) fn restore(&self, changes: &mut Changes) -> Result<CollectionName, SessionError> {
        const LOST: SessionError =
            SessionError::Unexpected { frame: "Changes", when: "without a collection or position" };
        if let Some(step) = changes.step.take() {
            let position = self.collection.as_ref().and_then(|_| self.position.checked_add(step));
            changes.position = Some(position.ok_or(LOST)?);
        }
        changes.collection.take().or_else(|| self.collection.clone()).ok_or(LOST)
    }
}
