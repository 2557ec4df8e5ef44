//! The time a document takes of somebody, and whether others can count on it.

use rejoin_core::schema::Schema;
use rejoin_core::{CollectionName, DocumentId, SpaceName, invariant};

use crate::engine::ReadError;
use crate::review::is_double_booked;
use crate::store::{ReadTxn, StoreError};

/// The time a document takes by an invariant of its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking {
    /// The person or thing whose time it is, as JSON.
    pub key: String,
    /// The time at which it begins, in milliseconds since 1970.
    pub start_ms: i64,
    /// The time at which it ends; that moment itself is free.
    pub end_ms: i64,
    /// Whether others can count on it.
    pub state: BookingState,
}

/// Whether others can count on a booking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BookingState {
    /// The relay does not hold it yet, or it overlaps another one and nobody has decided between
    /// them.
    Tentative,
    /// The relay holds it, and it overlaps no other one that this replica knows of.
    Confirmed,
}

/// A document that takes some of a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booked {
    /// The document.
    pub document: DocumentId,
    /// Its natural key, if it has one.
    pub key: Option<String>,
    /// The time at which it begins, in milliseconds since 1970.
    pub start_ms: i64,
    /// The time at which it ends; that moment itself is free.
    pub end_ms: i64,
}

impl Booked {
    /// The documents of a collection that take some of the time `at`, by the `no_overlap`
    /// invariants of its schema, in the order in which they begin. Reads no document; at most 4,096
    /// are given for each invariant.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn at(
        txn: &ReadTxn,
        space: &SpaceName,
        collection: &CollectionName,
        schema: &Schema,
        at: &invariant::Booking,
    ) -> Result<Vec<Self>, StoreError> {
        let mut booked = Vec::new();
        for invariant in &schema.invariants {
            let name = invariant.name();
            let found = txn.overlapping(space, collection, &name, at, &NOBODY, BOOKED_MAX)?;
            for (document, booking) in found {
                let key = txn.document(&document)?.and_then(|row| row.key);
                let (start_ms, end_ms) = (booking.start, booking.end);
                booked.push(Self { document, key, start_ms, end_ms });
            }
        }
        booked.sort_by_key(|booked| (booked.start_ms, booked.document));
        Ok(booked)
    }
}

impl Booking {
    /// The times that a document of a space takes by the `no_overlap` invariants of its schema.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn all_of(
        txn: &ReadTxn,
        space: &SpaceName,
        document: &DocumentId,
    ) -> Result<Vec<Self>, ReadError> {
        let bookings = txn.bookings_of(document)?;
        if bookings.is_empty() {
            return Ok(Vec::new());
        }
        let is_safe = txn.waiting(document)?.is_empty();
        let state = match is_safe && !is_double_booked(txn, space, document)? {
            true => BookingState::Confirmed,
            false => BookingState::Tentative,
        };
        let booking = |(_, booking): (String, invariant::Booking)| Self {
            key: booking.key,
            start_ms: booking.start,
            end_ms: booking.end,
            state,
        };
        Ok(bookings.into_iter().map(booking).collect())
    }
}

/// No document has this id, which would be left out.
const NOBODY: DocumentId = DocumentId([0; 16]);

/// Bookings given at most.
const BOOKED_MAX: usize = 4096;
