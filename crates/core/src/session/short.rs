//! Frames of changes that leave out what the one before them told.
//!
//! A device that was away for a week pays for each document that changed. In most of these frames
//! the collection is that of the frame before, and the position a little beyond its position.

use super::SessionError;
use crate::CollectionName;
use crate::wire::Changes;

/// The last frame of changes, as both ends of a session remember it.
#[derive(Debug, Default)]
pub(super) struct Before(Option<Told>);

#[derive(Debug)]
struct Told {
    space: u32,
    collection: CollectionName,
    /// The last position told; 0 if none was.
    position: u64,
}

impl Before {
    /// Leaves out of a frame what the one before it told.
    pub(super) fn shorten(&mut self, changes: &mut Changes) {
        let Some(collection) = changes.collection.clone() else { return };
        let before = self.0.take().filter(|told| told.space == changes.space);
        let position = before.as_ref().map_or(0, |told| told.position);
        let told = changes.position.unwrap_or(position);
        if let Some(before) = before {
            changes.collection.take_if(|it| *it == before.collection);
            if told > position {
                changes.position = None;
                changes.step = Some(told - position);
            }
        }
        self.0 = Some(Told { space: changes.space, collection, position: told });
    }

    /// Puts back what was left out of a frame, and returns its collection.
    ///
    /// # Errors
    /// No frame before it told what this one leaves out.
    pub(super) fn restore(
        &mut self,
        changes: &mut Changes,
    ) -> Result<CollectionName, SessionError> {
        const LOST: SessionError =
            SessionError::Unexpected { frame: "Changes", when: "without what they follow" };
        let before = self.0.take().filter(|told| told.space == changes.space);
        if let Some(step) = changes.step.take() {
            let position = before.as_ref().and_then(|told| told.position.checked_add(step));
            changes.position = Some(position.ok_or(LOST)?);
        }
        let last = before.as_ref().map_or(0, |told| told.position);
        let position = changes.position.unwrap_or(last);
        let named = changes.collection.take().or_else(|| before.map(|told| told.collection));
        let collection = named.ok_or(LOST)?;
        self.0 = Some(Told { space: changes.space, collection: collection.clone(), position });
        Ok(collection)
    }
}
