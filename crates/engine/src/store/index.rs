//! Documents found by the values of their fields, without reading them.
//!
//! The index stands beside documents' values and is written in the same commit. It is whole as long as
//! every commit kept it: a program of before, which knows of none, moves the digest of a collection
//! and not the digest up to which the index is whole.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{ReadableTable, ReadableTableMetadata};
use rejoin_core::{CollectionName, DocumentId, SpaceName};

use super::tables::{DIGESTS, INDEX, INDEXED, INDEXED_AT, VALUES};
use super::values::decode_value;
use super::{DocumentRow, ReadTxn, StoreError, ValueRow, WriteTxn, unavailable};

/// Which values of an indexed field, as [`order_key`](rejoin_core::order::order_key) has them.
pub type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

impl ReadTxn {
    /// Whether the index of a collection has every document as it is stored.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn is_index_whole(
        &self,
        space: &SpaceName,
        collection: &CollectionName,
    ) -> Result<bool, StoreError> {
        let of = (space.as_str(), collection.as_str());
        let digests = self.txn.open_table(DIGESTS).map_err(unavailable)?;
        let indexed = self.txn.open_table(INDEXED_AT).map_err(unavailable)?;
        let digest = digests.get(of).map_err(unavailable)?.map(|row| row.value().to_vec());
        let indexed = indexed.get(of).map_err(unavailable)?.map(|row| row.value().to_vec());
        Ok(digest == indexed)
    }

    /// Calls `each` with the document's number, in the order of the field's values and then of the
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

    /// Begins the index of a collection anew: it is empty, and whole once every document was derived.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn begin_index(
        &self,
        space: &SpaceName,
        collection: &CollectionName,
    ) -> Result<(), StoreError> {
        let mut index = self.txn.open_table(INDEX).map_err(unavailable)?;
        let mut of_documents = self.txn.open_table(INDEXED).map_err(unavailable)?;
        // The next text in order. No other collection stands between: names hold no such character.
        let next = format!("{collection}\0");
        let first = |collection| (space.as_str(), collection, "", &[][..], [0; 16]);
        let range = first(collection.as_str())..first(&next);
        for row in index.extract_from_if(range, |_, _| true).map_err(unavailable)? {
            let (key, number) = row.map_err(unavailable)?;
            of_documents.remove((number.value(), key.value().2)).map_err(unavailable)?;
        }
        let of = (space.as_str(), collection.as_str());
        let digests = self.txn.open_table(DIGESTS).map_err(unavailable)?;
        let digest = digests.get(of).map_err(unavailable)?.map(|row| row.value().to_vec());
        let mut indexed = self.txn.open_table(INDEXED_AT).map_err(unavailable)?;
        match digest {
            Some(digest) => drop(indexed.insert(of, digest.as_slice()).map_err(unavailable)?),
            None => drop(indexed.remove(of).map_err(unavailable)?),
        }
        Ok(())
    }

    /// Moves the digest up to which the index of a collection is whole, if it was whole up to the one
    /// before.
    pub(super) fn move_index(
        &self,
        of: (&str, &str),
        before: Option<&[u8]>,
        now: &[u8],
    ) -> Result<(), StoreError> {
        let mut indexed = self.txn.open_table(INDEXED_AT).map_err(unavailable)?;
        let was = indexed.get(of).map_err(unavailable)?.map(|row| row.value().to_vec());
        if was.as_deref() == before {
            indexed.insert(of, now).map_err(unavailable)?;
        }
        Ok(())
    }
}
