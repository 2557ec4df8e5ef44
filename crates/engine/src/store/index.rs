//! Documents found by the values of their fields, without reading them.
//!
//! The index stands beside documents' values and is written in the same commit. Of documents whose values
//! are behind it may lack the values of fields that the schema indexes by now, so those are looked at
//! by themselves. A program of before, which knows of no index, derives all values when it opens the
//! file, and so does this one afterwards: by
//! [`DERIVATION`](rejoin_core::lineage::DERIVATION) both know that the other was there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use redb::{ReadableTable, ReadableTableMetadata};
use rejoin_core::{CollectionName, DocumentId, SpaceName};

use super::tables::{INDEX, INDEXED, STALE, VALUES};
use super::values::decode_value;
use super::{DocumentRow, ReadTxn, StoreError, ValueRow, WriteTxn, unavailable};

/// Which keys of an index: values as [`order_key`](rejoin_core::order::order_key) has them, or of an index of
/// two fields both values, the first with an end.
pub type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

impl ReadTxn {
    /// Calls `each` with the document's number, in the order of the index' keys and then of the
    /// documents' ids, or from the end, until it returns `false`. Documents that are deleted are left out,
    /// and those without the field have the value of nothing.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn each_indexed(
        &self,
        space: &SpaceName,
        collection: &CollectionName,
        field: &str,
        range: &KeyRange,
        is_falling: bool,
        mut each: impl FnMut(DocumentId, u64) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let table = self.txn.open_table(INDEX).map_err(unavailable)?;
        let at = |key, id| (space.as_str(), collection.as_str(), field, key, id);
        let (low, high) = ([0; 16], [0xff; 16]);
        // Every value of the field stands before this: no value begins so.
        let end: &[u8] = &[0xff];
        let from = match &range.0 {
            Bound::Included(key) => Bound::Included(at(key.as_slice(), low)),
            Bound::Excluded(key) => Bound::Excluded(at(key.as_slice(), high)),
            Bound::Unbounded => Bound::Included(at(&[], low)),
        };
        let to = match &range.1 {
            Bound::Included(key) => Bound::Included(at(key.as_slice(), high)),
            Bound::Excluded(key) => Bound::Excluded(at(key.as_slice(), low)),
            Bound::Unbounded => Bound::Included(at(end, high)),
        };
        let mut rows = table.range((from, to)).map_err(unavailable)?;
        while let Some(row) = if is_falling { rows.next_back() } else { rows.next() } {
            let (key, number) = row.map_err(unavailable)?;
            if !each(DocumentId(key.value().4), number.value())? {
                break;
            }
        }
        Ok(())
    }

    /// The documents of a collection whose values are behind, if there are no more than so many.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn stale_in(
        &self,
        space: &SpaceName,
        collection: &CollectionName,
        max: usize,
    ) -> Result<Option<BTreeSet<DocumentId>>, StoreError> {
        let table = self.txn.open_table(STALE).map_err(unavailable)?;
        let mut stale = BTreeSet::new();
        for (seen, row) in table.iter().map_err(unavailable)?.enumerate() {
            if seen == max {
                return Ok(None);
            }
            let id = DocumentId(row.map_err(unavailable)?.0.value());
            let row = self.document(&id)?;
            if row.is_some_and(|row| row.space == *space && row.collection == *collection) {
                stale.insert(id);
            }
        }
        Ok(Some(stale))
    }

    /// What people see of the document with this number.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn value_by_number(
        &self,
        space: &SpaceName,
        collection: &CollectionName,
        number: u64,
    ) -> Result<Option<ValueRow>, StoreError> {
        let table = self.txn.open_table(VALUES).map_err(unavailable)?;
        let row = table.get((space.as_str(), collection.as_str(), number)).map_err(unavailable)?;
        let Some(row) = row else { return Ok(None) };
        let (id, row) = row.value();
        decode_value(&DocumentId(id), row).map(Some)
    }
}

impl WriteTxn {
    /// The documents of a collection, in the order in which they came, without a look at their values.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn documents_of(
        &self,
        space: &SpaceName,
        collection: &CollectionName,
    ) -> Result<Vec<DocumentId>, StoreError> {
        let table = self.txn.open_table(VALUES).map_err(unavailable)?;
        let of = |number| (space.as_str(), collection.as_str(), number);
        let rows = table.range(of(0)..=of(u64::MAX)).map_err(unavailable)?;
        rows.map(|row| Ok(DocumentId(row.map_err(unavailable)?.1.value().0))).collect()
    }

    /// Notes the values of a document's indexed fields; none of a document that is deleted.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_indexed(
        &self,
        id: &DocumentId,
        row: &DocumentRow,
        values: &BTreeMap<String, Vec<u8>>,
    ) -> Result<(), StoreError> {
        let mut indexed = self.txn.open_table(INDEXED).map_err(unavailable)?;
        if values.is_empty() && indexed.is_empty().map_err(unavailable)? {
            return Ok(());
        }
        let number = self.number_or_new(id)?;
        let mut known = BTreeMap::new();
        for row in indexed.range((number, "")..).map_err(unavailable)? {
            let (key, value) = row.map_err(unavailable)?;
            let (of, field) = key.value();
            if of != number {
                break;
            }
            known.insert(field.to_owned(), value.value().to_vec());
        }
        if known == *values {
            return Ok(());
        }
        let mut index = self.txn.open_table(INDEX).map_err(unavailable)?;
        let (space, collection) = (row.space.as_str(), row.collection.as_str());
        for (field, was) in &known {
            if values.get(field) != Some(was) {
                let key = (space, collection, field.as_str(), was.as_slice(), id.0);
                index.remove(key).map_err(unavailable)?;
                indexed.remove((number, field.as_str())).map_err(unavailable)?;
            }
        }
        for (field, value) in values {
            if known.get(field) != Some(value) {
                let key = (space, collection, field.as_str(), value.as_slice(), id.0);
                index.insert(key, number).map_err(unavailable)?;
                indexed.insert((number, field.as_str()), value.as_slice()).map_err(unavailable)?;
            }
        }
        Ok(())
    }
}
