//! Open and settled reviews, derived from documents in the commit of their changes.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use redb::{MultimapTableDefinition, ReadableMultimapTable, ReadableTable, TableDefinition};
use rejoin_core::{ChangeHash, CollectionName, DocumentId, Identity, ReviewId, SpaceName};

use super::rows::{Row, decode, encode};
use super::{ReadTxn, StoreError, WriteTxn, unavailable};

/// Table: the questions to people, and their decisions
/// Key:   `(&str, [u8; 16])` # (space, [`ReviewId`])
/// Value: `&[u8]`            # [`ReviewRow`], CBOR
pub(super) const REVIEWS: TableDefinition<'_, (&str, [u8; 16]), &[u8]> =
    TableDefinition::new("reviews-1");

/// Table: the reviews that name a document
/// Key:   `[u8; 16]` # [`DocumentId`]
/// Value: `[u8; 16]` # [`ReviewId`]
pub(super) const REVIEWED: MultimapTableDefinition<'_, [u8; 16], [u8; 16]> =
    MultimapTableDefinition::new("reviewed-1");

/// Table: reviews about two documents that an edit ended while they were open here. They cannot be
/// derived from the documents as they are now
/// Key:   `(&str, [u8; 16])` # (space, [`ReviewId`])
/// Value: `&[u8]`            # [`ReviewRow`], CBOR
pub(super) const RESOLVED: TableDefinition<'_, (&str, [u8; 16]), &[u8]> =
    TableDefinition::new("resolved-1");

/// One review, as derived from documents.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct ReviewRow {
    /// The question.
    #[n(0)]
    pub kind: ReviewKind,
    /// The collection of the documents.
    #[n(1)]
    pub collection: CollectionName,
    /// The documents it names.
    #[n(2)]
    pub documents: Vec<ReviewedDocument>,
    /// The field, or the fields of the invariant.
    #[n(3)]
    pub field: String,
    /// The value that stands until it is settled, as JSON; `None` if the field has no value.
    #[n(4)]
    pub standing: Option<ByteVec>,
    /// The candidates to choose from.
    #[n(5)]
    pub candidates: Vec<CandidateRow>,
    /// Its settlement.
    #[n(6)]
    pub settled: Option<SettledRow>,
}

/// The question of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum ReviewKind {
    /// Several people wrote one field without knowing of each other.
    #[n(0)]
    FieldConflict,
    /// A review was settled twice, differently.
    #[n(1)]
    Disagreement,
    /// Somebody without the right wrote a field.
    #[n(2)]
    RefusedWrite,
    /// Something was removed while somebody wrote in it.
    #[n(3)]
    Removal,
    /// Two bookings of one person or thing are at the same time.
    #[n(4)]
    DoubleBooking,
    /// Two documents have the same values where they must differ.
    #[n(5)]
    Duplicate,
    /// A value cannot be seen, as a text, list, map or counter was made in its place meanwhile.
    #[n(6)]
    Hidden,
    /// A text, list, map or counter cannot be seen, as another one was made in its place meanwhile.
    #[n(7)]
    Containers,
}

impl ReviewKind {
    /// In one word, as machines read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FieldConflict => "conflict",
            Self::Disagreement => "disagreement",
            Self::RefusedWrite => "refused_write",
            Self::Removal => "removal",
            Self::DoubleBooking => "double_booking",
            Self::Duplicate => "duplicate",
            Self::Hidden => "hidden",
            Self::Containers => "containers",
        }
    }
}

/// A document that a review names.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ReviewedDocument {
    /// The document.
    #[n(0)]
    pub document: DocumentId,
    /// Its natural key, if it has one.
    #[n(1)]
    pub key: Option<String>,
    /// From when to when it is booked, in milliseconds since 1970.
    #[n(2)]
    pub booked_ms: Option<(i64, i64)>,
}

/// A value to choose.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct CandidateRow {
    /// The change that wrote it.
    #[n(0)]
    pub change: ChangeHash,
    /// The value, as JSON; `None` if the field was cleared.
    #[n(1)]
    pub value: Option<ByteVec>,
    /// The author, if the change names one.
    #[n(2)]
    pub author: Option<Identity>,
    /// The time, in seconds since 1970 by the author's clock.
    #[n(3)]
    pub time_s: i64,
    /// The review it settled.
    #[n(4)]
    pub settles: Option<ReviewId>,
}

/// The settlement of a review.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct SettledRow {
    /// The value that was written, with its author and time.
    #[n(0)]
    pub by: CandidateRow,
    /// Whether it was dismissed.
    #[n(1)]
    pub dismissed: bool,
    /// The reason.
    #[n(2)]
    pub why: Option<String>,
    /// Of a review about two documents the one whose edit ended it.
    #[n(3)]
    pub document: Option<DocumentId>,
}

impl Row for ReviewRow {
    const TABLE: &'static str = "reviews";
}

impl ReviewRow {
    fn is_open(&self) -> bool {
        self.settled.is_none()
    }

    /// Whether it is about two documents that get in each other's way.
    fn is_about_two(&self) -> bool {
        matches!(self.kind, ReviewKind::DoubleBooking | ReviewKind::Duplicate)
    }

    /// Whether it asks the same of the same documents, though perhaps at another time of day.
    fn goes_on_as(&self, other: &Self) -> bool {
        let documents =
            |row: &Self| row.documents.iter().map(|named| named.document).collect::<Vec<_>>();
        self.kind == other.kind && self.field == other.field && documents(self) == documents(other)
    }
}

/// The changes to the reviews of a document.
#[derive(Debug, Default)]
pub(crate) struct ReviewsPut {
    /// Whether any differs from before.
    pub(crate) changed: bool,
    /// The number of reviews that are open and were not.
    pub(crate) opened: u64,
    /// The number of reviews that were open and are gone or decided.
    pub(crate) closed: u64,
    /// Reviews about two documents that do not get in each other's way any more.
    pub(crate) ended: Vec<(ReviewId, ReviewRow)>,
}

impl ReadTxn {
    /// The reviews of a space.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn reviews(&self, space: &SpaceName) -> Result<Vec<(ReviewId, ReviewRow)>, StoreError> {
        self.reviews_in(REVIEWS, space)
    }

    /// The reviews of a space that an edit ended.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn resolved(&self, space: &SpaceName) -> Result<Vec<(ReviewId, ReviewRow)>, StoreError> {
        self.reviews_in(RESOLVED, space)
    }

    fn reviews_in(
        &self,
        table: TableDefinition<'_, (&str, [u8; 16]), &[u8]>,
        space: &SpaceName,
    ) -> Result<Vec<(ReviewId, ReviewRow)>, StoreError> {
        let table = self.txn.open_table(table).map_err(unavailable)?;
        let name = space.as_str();
        let rows = table.range((name, [0; 16])..=(name, [0xff; 16])).map_err(unavailable)?;
        rows.map(|row| {
            let (key, row) = row.map_err(unavailable)?;
            Ok((ReviewId(key.value().1), decode(row.value())?))
        })
        .collect()
    }

    /// The reviews that name a document.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn reviews_of(&self, id: &DocumentId) -> Result<BTreeSet<ReviewId>, StoreError> {
        let table = self.txn.open_multimap_table(REVIEWED).map_err(unavailable)?;
        let ids = table.get(id.0).map_err(unavailable)?;
        ids.map(|id| Ok(ReviewId(id.map_err(unavailable)?.value()))).collect()
    }

    /// One review.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn review(
        &self,
        space: &SpaceName,
        id: &ReviewId,
    ) -> Result<Option<ReviewRow>, StoreError> {
        self.review_in(REVIEWS, space, id)
    }

    /// One review that an edit ended.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn resolved_review(
        &self,
        space: &SpaceName,
        id: &ReviewId,
    ) -> Result<Option<ReviewRow>, StoreError> {
        self.review_in(RESOLVED, space, id)
    }

    fn review_in(
        &self,
        table: TableDefinition<'_, (&str, [u8; 16]), &[u8]>,
        space: &SpaceName,
        id: &ReviewId,
    ) -> Result<Option<ReviewRow>, StoreError> {
        let table = self.txn.open_table(table).map_err(unavailable)?;
        let row = table.get((space.as_str(), id.0)).map_err(unavailable)?;
        row.map(|row| decode(row.value())).transpose()
    }
}

impl WriteTxn {
    /// Writes the reviews that name a document, and removes those that no longer do.
    pub(crate) fn put_reviews(
        &self,
        space: &SpaceName,
        id: &DocumentId,
        reviews: &BTreeMap<ReviewId, ReviewRow>,
    ) -> Result<ReviewsPut, StoreError> {
        let mut table = self.txn.open_table(REVIEWS).map_err(unavailable)?;
        let mut reviewed = self.txn.open_multimap_table(REVIEWED).map_err(unavailable)?;
        let mut before = BTreeSet::new();
        for known in reviewed.get(id.0).map_err(unavailable)? {
            before.insert(ReviewId(known.map_err(unavailable)?.value()));
        }
        let mut put = ReviewsPut::default();
        for gone in before.iter().filter(|known| !reviews.contains_key(known)) {
            put.changed = true;
            let row = table.remove((space.as_str(), gone.0)).map_err(unavailable)?;
            let row: Option<ReviewRow> = row.map(|row| decode(row.value())).transpose()?;
            put.closed += u64::from(row.as_ref().is_some_and(ReviewRow::is_open));
            for named in row.iter().flat_map(|row| &row.documents) {
                reviewed.remove(named.document.0, gone.0).map_err(unavailable)?;
            }
            reviewed.remove(id.0, gone.0).map_err(unavailable)?;
            let ended = row.filter(ReviewRow::is_about_two);
            let ended = ended.filter(|row| !reviews.values().any(|now| now.goes_on_as(row)));
            put.ended.extend(ended.map(|row| (*gone, row)));
        }
        let mut resolved = self.txn.open_table(RESOLVED).map_err(unavailable)?;
        for (review, row) in reviews {
            let key = (space.as_str(), review.0);
            let bytes = encode(row);
            let before = table.get(key).map_err(unavailable)?;
            if before.as_ref().is_some_and(|before| before.value() == bytes) {
                continue;
            }
            put.changed = true;
            let before = before.map(|before| decode::<ReviewRow>(before.value())).transpose()?;
            let was_open = before.is_some_and(|before| before.is_open());
            put.opened += u64::from(row.is_open() && !was_open);
            put.closed += u64::from(was_open && !row.is_open());
            if row.is_about_two() {
                resolved.remove(key).map_err(unavailable)?;
            }
            table.insert(key, bytes.as_slice()).map_err(unavailable)?;
            for named in &row.documents {
                reviewed.insert(named.document.0, review.0).map_err(unavailable)?;
            }
        }
        Ok(put)
    }

    /// Removes the reviews that an edit ended and that name a document.
    pub(crate) fn remove_resolved(
        &self,
        space: &SpaceName,
        id: &DocumentId,
    ) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(RESOLVED).map_err(unavailable)?;
        let mut about = Vec::new();
        let all = (space.as_str(), [0; 16])..=(space.as_str(), [u8::MAX; 16]);
        for row in table.range(all).map_err(unavailable)? {
            let (key, row) = row.map_err(unavailable)?;
            let row: ReviewRow = decode(row.value())?;
            if row.documents.iter().any(|named| named.document == *id) {
                about.push(key.value().1);
            }
        }
        for review in about {
            table.remove((space.as_str(), review)).map_err(unavailable)?;
        }
        Ok(())
    }

    /// Keeps a review that an edit ended.
    pub(crate) fn put_resolved(
        &self,
        space: &SpaceName,
        id: &ReviewId,
        row: &ReviewRow,
    ) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(RESOLVED).map_err(unavailable)?;
        table.insert((space.as_str(), id.0), encode(row).as_slice()).map_err(unavailable)?;
        Ok(())
    }
}
