//! The time a document takes of somebody, and whether others can count on it.

use rejoin_core::{DocumentId, invariant};
use serde_json::Value;

use crate::collection::Collection;
use crate::document::Document;
use rejoin_engine::{EditError, is_double_booked};

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

/// A document that takes some of a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booked {
    /// Which document.
    pub document: DocumentId,
    /// Its natural key, if it has one.
    pub key: Option<String>,
    /// When it begins, in milliseconds since 1970.
    pub start_ms: i64,
    /// When it ends; that moment itself is free.
    pub end_ms: i64,
}

impl Collection {
    /// What takes some of this time of somebody, by the `no_overlap` invariants of the collection:
    /// ask before booking it. Reads no document, however many bookings there are; at most 4,096 of
    /// them are given.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn booked(
        &self,
        whose: &Value,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<Booked>, EditError> {
        // A value that is behind would say what was, and this must not be said of free time.
        let replica = self.replica();
        replica.caught_up().await?;
        replica.refresh_listed().await?;
        let at = invariant::Booking::at(whose, start_ms, end_ms);
        let schema = self.space().schema(self.name()).await?.unwrap_or_default();
        let mut booked = Vec::new();
        for invariant in &schema.invariants {
            let (space, name) = (self.space(), invariant.name());
            let found = replica.read(|view| {
                view.overlapping(space.name(), self.name(), &name, &at, &NOBODY, BOOKED_MAX)
            })?;
            for (document, booking) in found {
                let row = replica.read(|view| view.document(&document))?;
                let key = row.and_then(|row| row.key);
                let (start_ms, end_ms) = (booking.start, booking.end);
                booked.push(Booked { document, key, start_ms, end_ms });
            }
        }
        booked.sort_by_key(|booked| (booked.start_ms, booked.document));
        Ok(booked)
    }
}

/// No document has this id, which would be left out.
const NOBODY: DocumentId = DocumentId([0; 16]);

/// Bookings given at most.
const BOOKED_MAX: usize = 4096;

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
        let is_free = !self.replica().read(|txn| is_double_booked(txn, self.space(), &id))?;
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
