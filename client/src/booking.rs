//! Bookings, asked of collections and documents.

use rejoin_core::invariant;
use serde_json::Value;

use crate::collection::Collection;
use crate::document::Document;
use rejoin_engine::ReadError;
pub use rejoin_engine::{Booked, Booking, BookingState};

impl Collection {
    /// The documents that take some of this time of somebody, by the `no_overlap` invariants of the
    /// collection: ask before booking it. Reads no document, even among many bookings; at most
    /// 4,096 of them are given.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn booked(
        &self,
        whose: &Value,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<Booked>, ReadError> {
        // A value that is behind would tell the bookings of before, and free time must not be told
        // by those.
        let replica = self.replica();
        replica.caught_up().await?;
        replica.refresh_listed().await?;
        let at = invariant::Booking::at(whose, start_ms, end_ms);
        let space = self.space();
        let schema = space.schema(self.name()).await?.unwrap_or_default();
        replica.read(|txn| Ok(Booked::at(txn, space.name(), self.name(), &schema, &at)?))
    }
}

impl Document {
    /// The times the document takes by the `no_overlap` invariants of its schema.
    ///
    /// # Errors
    /// The file could not be read.
    pub async fn bookings(&self) -> Result<Vec<Booking>, ReadError> {
        // A value that is behind would tell the bookings of before.
        self.read().await?;
        self.replica().read(|txn| Booking::all_of(txn, self.space(), &self.id()))
    }
}
