//! The time a document takes of somebody, and whether others can count on it.

use rejoin_core::invariant;

use crate::document::Document;
use crate::engine::EditError;
use crate::store::ReviewKind;

/// The time a document takes by an invariant of its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking {
    /// Whose time, as JSON.
    pub key: String,
    /// When it begins, in milliseconds since 1970.
    pub start_ms: i64,
    /// When it ends; that moment itself is free.
    pub end_ms: i64,
    /// How far it is.
    pub state: BookingState,
}

/// Whether others can count on a booking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BookingState {
    /// The relay does not hold it yet, or it overlaps another and nobody has decided.
    Tentative,
    /// The relay holds it, and it overlaps nothing this replica knows of.
    Confirmed,
}

impl Document {
    /// The times the document takes by the `no_overlap` invariants of its schema.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn bookings(&self) -> Result<Vec<Booking>, EditError> {
        // A value that is behind would say what was.
        self.read().await?;
        let id = self.id();
        let bookings = self.replica().read(|view| view.bookings_of(&id))?;
        if bookings.is_empty() {
            return Ok(Vec::new());
        }
        let is_safe = self.replica().read(|view| view.waiting(&id))?.is_empty();
        let open = self.reviews().open().await?;
        let is_free = !open.iter().any(|review| {
            review.kind == ReviewKind::DoubleBooking
                && review.documents.iter().any(|named| named.document == id)
        });
        let state = match is_safe && is_free {
            true => BookingState::Confirmed,
            false => BookingState::Tentative,
        };
        let booking = |(_, booking): (String, invariant::Booking)| Booking {
            key: booking.key,
            start_ms: booking.start,
            end_ms: booking.end,
            state,
        };
        Ok(bookings.into_iter().map(booking).collect())
    }
}
