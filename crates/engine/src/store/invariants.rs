//! Indexes of the things that documents must not share, so that they are found without reading
//! documents: the time they take of somebody, and the values that must be unique.
//!
//! Both are made of documents' values, and are kept in the commit that writes those. A second table
//! beside each has the rows of each document, so that they are found again when it changes.

use redb::ReadableTable;
use rejoin_core::invariant::Booking;
use rejoin_core::{CollectionName, DocumentId, SpaceName};

use super::tables::{BOOKED, BOOKINGS, BookingKey, HELD, UNIQUE, UNIQUES};
use super::{DocumentRow, ReadTxn, StoreError, WriteTxn, unavailable};

/// As `reads!` of the store.
macro_rules! reads {
    ($view:ident) => {
        impl $view {
            /// Whether a document has a booking.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn is_booked(&self, document: &DocumentId) -> Result<bool, StoreError> {
                Ok(!self.bookings_of(document)?.is_empty())
            }

            /// The relay's position of the change that a document's booking came from, if that is
            /// known.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn held(&self, document: &DocumentId) -> Result<Option<u64>, StoreError> {
                let table = self.txn.open_table(HELD).map_err(unavailable)?;
                Ok(table.get(document.0).map_err(unavailable)?.map(|row| row.value()))
            }

            /// All bookings of a document, by invariant.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn bookings_of(
                &self,
                document: &DocumentId,
            ) -> Result<Vec<(String, Booking)>, StoreError> {
                let table = self.txn.open_table(BOOKED).map_err(unavailable)?;
                let mut bookings = Vec::new();
                for row in table.range((document.0, "")..).map_err(unavailable)? {
                    let (key, booking) = row.map_err(unavailable)?;
                    let (of, invariant) = key.value();
                    if of != document.0 {
                        break;
                    }
                    bookings.push((invariant.to_owned(), to_booking(booking.value())));
                }
                Ok(bookings)
            }

            /// The booking a document has by an invariant.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn booking(
                &self,
                invariant: &str,
                document: &DocumentId,
            ) -> Result<Option<Booking>, StoreError> {
                let table = self.txn.open_table(BOOKED).map_err(unavailable)?;
                let row = table.get((document.0, invariant)).map_err(unavailable)?;
                Ok(row.map(|row| to_booking(row.value())))
            }

            /// At most `max` bookings, of other documents than `except`, that take some of the same
            /// time.
            ///
            /// If there are more, the choice depends only on the bookings that there are. It costs
            /// a seek or two for each power of two that bookings of this key last, and reads those
            /// that overlap, and those that ended before it by less than their own duration, even
            /// if there are a hundred thousand of this key.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn overlapping(
                &self,
                space: &SpaceName,
                collection: &CollectionName,
                invariant: &str,
                booking: &Booking,
                except: &DocumentId,
                max: usize,
            ) -> Result<Vec<(DocumentId, Booking)>, StoreError> {
                let table = self.txn.open_table(BOOKINGS).map_err(unavailable)?;
                let of = (space.as_str(), collection.as_str(), invariant);
                overlapping_in(&table, of, booking, except, max)
            }

            /// The text of a document that no other may have by an invariant.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn unique(
                &self,
                invariant: &str,
                document: &DocumentId,
            ) -> Result<Option<String>, StoreError> {
                let table = self.txn.open_table(UNIQUE).map_err(unavailable)?;
                let row = table.get((document.0, invariant)).map_err(unavailable)?;
                Ok(row.map(|row| row.value().to_owned()))
            }

            /// At most `max` documents but `except` that have this text, in the order of their ids.
            ///
            /// # Errors
            /// As [`StoreError`].
            pub fn same_unique(
                &self,
                space: &SpaceName,
                collection: &CollectionName,
                invariant: &str,
                key: &str,
                except: &DocumentId,
                max: usize,
            ) -> Result<Vec<DocumentId>, StoreError> {
                let table = self.txn.open_table(UNIQUES).map_err(unavailable)?;
                let at = |id| (space.as_str(), collection.as_str(), invariant, key, id);
                let rows = table.range(at([0; 16])..=at([0xff; 16])).map_err(unavailable)?;
                let ids = rows.map(|row| Ok(DocumentId(row.map_err(unavailable)?.0.value().4)));
                let others = ids.filter(|id| id.as_ref().ok() != Some(except));
                others.take(max).collect()
            }
        }
    };
}

reads!(ReadTxn);
reads!(WriteTxn);

impl WriteTxn {
    /// Notes the relay's position of the change that a document's booking came from, or that it is
    /// not known.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_held(&self, id: &DocumentId, position: Option<u64>) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(HELD).map_err(unavailable)?;
        match position {
            Some(position) => table.insert(id.0, position).map_err(unavailable)?,
            None => table.remove(id.0).map_err(unavailable)?,
        };
        Ok(())
    }

    /// Notes the time a document takes by an invariant, or that it takes none. So does a booking
    /// that does not end after it starts.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn set_booking(
        &self,
        space: &SpaceName,
        collection: &CollectionName,
        invariant: &str,
        document: &DocumentId,
        booking: Option<&Booking>,
    ) -> Result<(), StoreError> {
        let booking = booking.filter(|booking| class(booking).is_some());
        let mut booked = self.txn.open_table(BOOKED).map_err(unavailable)?;
        let row = booked.get((document.0, invariant)).map_err(unavailable)?;
        let was = row.map(|row| to_booking(row.value()));
        if was.as_ref() == booking {
            return Ok(());
        }
        let mut bookings = self.txn.open_table(BOOKINGS).map_err(unavailable)?;
        let of = (space.as_str(), collection.as_str(), invariant);
        if let Some(key) = was.as_ref().and_then(|was| booking_key(of, was, document)) {
            bookings.remove(key).map_err(unavailable)?;
        }
        let now = booking.and_then(|now| Some((booking_key(of, now, document)?, now)));
        if let Some((key, now)) = now {
            bookings.insert(key, now.end).map_err(unavailable)?;
            let value = (now.key.as_str(), now.start, now.end);
            booked.insert((document.0, invariant), value).map_err(unavailable)?;
        } else {
            booked.remove((document.0, invariant)).map_err(unavailable)?;
        }
        Ok(())
    }

    /// Notes the text of a document that no other may have by an invariant, if it has one.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn set_unique(
        &self,
        space: &SpaceName,
        collection: &CollectionName,
        invariant: &str,
        document: &DocumentId,
        key: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut unique = self.txn.open_table(UNIQUE).map_err(unavailable)?;
        let row = unique.get((document.0, invariant)).map_err(unavailable)?;
        let was = row.map(|row| row.value().to_owned());
        if was.as_deref() == key {
            return Ok(());
        }
        let mut uniques = self.txn.open_table(UNIQUES).map_err(unavailable)?;
        let at = |key| (space.as_str(), collection.as_str(), invariant, key, document.0);
        if let Some(was) = was.as_deref() {
            uniques.remove(at(was)).map_err(unavailable)?;
        }
        if let Some(key) = key {
            uniques.insert(at(key), ()).map_err(unavailable)?;
            unique.insert((document.0, invariant), key).map_err(unavailable)?;
        } else {
            unique.remove((document.0, invariant)).map_err(unavailable)?;
        }
        Ok(())
    }

    /// Forgets the bookings and unique texts of the documents of a collection, whose schema
    /// changes.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn clear_collection_invariants(
        &self,
        space: &SpaceName,
        collection: &CollectionName,
    ) -> Result<(), StoreError> {
        let space = space.as_str();
        // The next text in order. No other collection stands between: names hold no such character.
        let next = format!("{collection}\0");
        let mut bookings = self.txn.open_table(BOOKINGS).map_err(unavailable)?;
        let mut booked = self.txn.open_table(BOOKED).map_err(unavailable)?;
        let first = |collection| (space, collection, "", "", 0, i64::MIN, [0; 16]);
        let range = first(collection.as_str())..first(&next);
        for row in bookings.extract_from_if(range, |_, _| true).map_err(unavailable)? {
            let (key, _) = row.map_err(unavailable)?;
            let (_, _, invariant, _, _, _, id) = key.value();
            booked.remove((id, invariant)).map_err(unavailable)?;
        }
        let mut uniques = self.txn.open_table(UNIQUES).map_err(unavailable)?;
        let mut unique = self.txn.open_table(UNIQUE).map_err(unavailable)?;
        let first = |collection| (space, collection, "", "", [0; 16]);
        let range = first(collection.as_str())..first(&next);
        for row in uniques.extract_from_if(range, |_, ()| true).map_err(unavailable)? {
            let (key, _) = row.map_err(unavailable)?;
            let (_, _, invariant, _, id) = key.value();
            unique.remove((id, invariant)).map_err(unavailable)?;
        }
        Ok(())
    }

    /// Forgets the bookings and unique texts of a document.
    pub(super) fn clear_document_invariants(
        &self,
        id: &DocumentId,
        row: &DocumentRow,
    ) -> Result<(), StoreError> {
        let booked = self.txn.open_table(BOOKED).map_err(unavailable)?;
        let by = invariants_of(&booked, id)?;
        drop(booked);
        for invariant in by {
            self.set_booking(&row.space, &row.collection, &invariant, id, None)?;
        }
        let unique = self.txn.open_table(UNIQUE).map_err(unavailable)?;
        let by = invariants_of(&unique, id)?;
        drop(unique);
        for invariant in by {
            self.set_unique(&row.space, &row.collection, &invariant, id, None)?;
        }
        Ok(())
    }
}

/// The invariants by which a document has a row.
fn invariants_of<V: redb::Value + 'static>(
    table: &impl ReadableTable<([u8; 16], &'static str), V>,
    id: &DocumentId,
) -> Result<Vec<String>, StoreError> {
    let mut invariants = Vec::new();
    for row in table.range((id.0, "")..).map_err(unavailable)? {
        let (key, _) = row.map_err(unavailable)?;
        let (of, invariant) = key.value();
        if of != id.0 {
            break;
        }
        invariants.push(invariant.to_owned());
    }
    Ok(invariants)
}

/// Bookings are sorted by the [`class`] of their length and then by their start. A booking of
/// limited length that still goes on when this one starts cannot have started long before. So each
/// class is read from that point to the end of this one, and empty classes are passed over.
fn overlapping_in(
    table: &impl ReadableTable<BookingKey<'static>, i64>,
    (space, collection, invariant): (&str, &str, &str),
    booking: &Booking,
    except: &DocumentId,
    max: usize,
) -> Result<Vec<(DocumentId, Booking)>, StoreError> {
    let mut found = Vec::new();
    if class(booking).is_none() {
        return Ok(found);
    }
    let of = booking.key.as_str();
    let at = |class, start, id| (space, collection, invariant, of, class, start, id);
    let mut class = 0;
    while class < CLASSES && found.len() < max {
        let longest = u64::MAX >> (CLASSES - 1 - class);
        let first = at(class, booking.start.saturating_sub_unsigned(longest), [0; 16]);
        let last = at(CLASSES, i64::MAX, [0xff; 16]);
        let mut next = CLASSES;
        for row in table.range(first..=last).map_err(unavailable)? {
            let (key, end) = row.map_err(unavailable)?;
            let (_, _, _, _, row_class, start, id) = key.value();
            if row_class > class || start >= booking.end || found.len() == max {
                next = row_class.max(class + 1);
                break;
            }
            let end = end.value();
            if end > booking.start && id != except.0 {
                found.push((DocumentId(id), Booking { key: of.to_owned(), start, end }));
            }
        }
        class = next;
    }
    Ok(found)
}

/// The key in `bookings-1`; `None` if the booking takes no time.
fn booking_key<'a>(
    (space, collection, invariant): (&'a str, &'a str, &'a str),
    booking: &'a Booking,
    document: &DocumentId,
) -> Option<BookingKey<'a>> {
    let class = class(booking)?;
    Some((space, collection, invariant, &booking.key, class, booking.start, document.0))
}

fn to_booking((key, start, end): (&str, i64, i64)) -> Booking {
    Booking { key: key.to_owned(), start, end }
}

/// The length of a booking, as the power of two it reaches; `None` if it takes no time.
fn class(booking: &Booking) -> Option<u8> {
    let duration = booking.end.abs_diff(booking.start);
    (booking.start < booking.end).then(|| duration.ilog2() as u8)
}

/// One for each bit of a duration.
const CLASSES: u8 = 64;
