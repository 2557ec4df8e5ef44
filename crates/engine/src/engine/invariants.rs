//! Rules between documents: double bookings and duplicates are found in the commit that makes them.

use std::collections::BTreeMap;

use rejoin_core::invariant::{Booking, booking, review_of, unique_key};
use rejoin_core::schema::{Invariant, Schema};
use rejoin_core::{DocumentId, ReviewId};

use crate::store::{
    DocumentRow, ReviewKind, ReviewRow, ReviewedDocument, StoreError, ValueRow, WriteTxn,
};

/// Brings the indexes up to date with a document's value, and adds the reviews of the invariants it
/// breaks together with others. `position` is the relay's position of the changes that came, if
/// they came from a relay.
pub(super) fn stage_invariants(
    txn: &WriteTxn,
    id: &DocumentId,
    row: &DocumentRow,
    value: &ValueRow,
    schema: &Schema,
    position: Option<u64>,
    reviews: &mut BTreeMap<ReviewId, ReviewRow>,
) -> Result<(), StoreError> {
    if schema.invariants.is_empty() {
        return Ok(());
    }
    let json = serde_json::from_slice(value.agreed()).unwrap_or_default();
    for invariant in &schema.invariants {
        let staged = Staged { txn, id, row, name: invariant.name() };
        match invariant {
            Invariant::NoOverlap { key, .. } => {
                // A booking that makes no sense is shown in the view, and takes no time.
                let booked = booking(&json, invariant, schema.zone_or_utc()).ok().flatten();
                let booked = booked.filter(|_| !value.deleted);
                staged.booking(&key.to_string(), booked, position, reviews)?;
            }
            Invariant::Unique { fields } => {
                let unique = unique_key(&json, fields).filter(|_| !value.deleted);
                let names: Vec<_> = fields.iter().map(ToString::to_string).collect();
                staged.unique(&names.join(", "), unique, reviews)?;
            }
        }
    }
    Ok(())
}

/// One document against one invariant.
struct Staged<'a> {
    txn: &'a WriteTxn,
    id: &'a DocumentId,
    row: &'a DocumentRow,
    name: String,
}

impl Staged<'_> {
    fn booking(
        &self,
        field: &str,
        booked: Option<Booking>,
        position: Option<u64>,
        reviews: &mut BTreeMap<ReviewId, ReviewRow>,
    ) -> Result<(), StoreError> {
        let DocumentRow { space, collection, .. } = self.row;
        let was = self.txn.booking(&self.name, self.id)?;
        if was != booked {
            self.txn.set_booking(space, collection, &self.name, self.id, booked.as_ref())?;
            // If only the index was made anew, the relay's position of the booking is still the
            // same.
            if was.is_some() || position.is_some() {
                self.txn.put_held(self.id, position)?;
            }
        }
        let Some(booked) = booked else { return Ok(()) };
        let others = self.txn.overlapping(
            space,
            collection,
            &self.name,
            &booked,
            self.id,
            NEIGHBOURS_MAX,
        )?;
        for (other, at) in others {
            let mut documents = vec![self.named(self.id, Some(&booked))?];
            documents.push(self.named(&other, Some(&at))?);
            self.review(ReviewKind::DoubleBooking, field, &booked.key, documents, reviews);
        }
        Ok(())
    }

    fn unique(
        &self,
        fields: &str,
        unique: Option<String>,
        reviews: &mut BTreeMap<ReviewId, ReviewRow>,
    ) -> Result<(), StoreError> {
        let DocumentRow { space, collection, .. } = self.row;
        self.txn.set_unique(space, collection, &self.name, self.id, unique.as_deref())?;
        let Some(key) = unique else { return Ok(()) };
        let same =
            self.txn.same_unique(space, collection, &self.name, &key, self.id, NEIGHBOURS_MAX)?;
        for other in same {
            let documents = vec![self.named(self.id, None)?, self.named(&other, None)?];
            self.review(ReviewKind::Duplicate, fields, &key, documents, reviews);
        }
        Ok(())
    }

    fn named(
        &self,
        id: &DocumentId,
        booked: Option<&Booking>,
    ) -> Result<ReviewedDocument, StoreError> {
        let key = match id == self.id {
            true => self.row.key.clone(),
            false => self.txn.document(id)?.and_then(|row| row.key),
        };
        let booked_ms = booked.map(|booking| (booking.start, booking.end));
        Ok(ReviewedDocument { document: *id, key, booked_ms })
    }

    /// Adds the review of two documents, which is the same for both of them.
    fn review(
        &self,
        kind: ReviewKind,
        field: &str,
        key: &str,
        mut documents: Vec<ReviewedDocument>,
        reviews: &mut BTreeMap<ReviewId, ReviewRow>,
    ) {
        documents.sort_by_key(|named| named.document);
        let named = documents.iter().map(|named| (named.document, named.booked_ms));
        let id = review_of(tag(kind), &self.name, key, named);
        let row = ReviewRow {
            kind,
            collection: self.row.collection.clone(),
            documents,
            field: field.to_owned(),
            standing: None,
            candidates: Vec::new(),
            settled: None,
        };
        reviews.insert(id, row);
    }
}

/// The byte that stands for a question in a [`ReviewId`]. It never changes. Questions about fields
/// have tags of their own.
fn tag(kind: ReviewKind) -> u8 {
    match kind {
        ReviewKind::DoubleBooking => 4,
        _ => 5,
    }
}

/// Documents that one is compared with at most. With more, the ones that are named would depend on
/// the document that was derived last.
const NEIGHBOURS_MAX: usize = 4096;
