//! The numbers that documents go by inside the file.
//!
//! Ids are random: in a table by id, each document of a commit would stand on another page, and
//! each of those is written. Of the tables that every document is in only [`NUMBERS`] is by id, with
//! nothing else in it; changes, values and whatever waits are by number, in the order in which the
//! documents came. Tables of few documents, or of fields that a schema names, are by id or by value.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use redb::ReadableTable;
use rejoin_core::DocumentId;

use super::tables::{META, NUMBERS};
use super::{ReadTxn, StoreError, WriteTxn, unavailable};

/// The numbers that a transaction knows.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    known: RefCell<BTreeMap<DocumentId, u64>>,
    /// The next number, once one was given.
    next: Cell<Option<u64>>,
}

impl ReadTxn {
    /// The number of a document, if there is one.
    pub(super) fn number(&self, id: &DocumentId) -> Result<Option<u64>, StoreError> {
        let table = self.txn.open_table(NUMBERS).map_err(unavailable)?;
        Ok(table.get(id.0).map_err(unavailable)?.map(|number| number.value()))
    }
}

impl WriteTxn {
    /// The number of a document, if there is one.
    pub(super) fn number(&self, id: &DocumentId) -> Result<Option<u64>, StoreError> {
        if let Some(known) = self.numbers.known.borrow().get(id) {
            return Ok(Some(*known));
        }
        let table = self.txn.open_table(NUMBERS).map_err(unavailable)?;
        let number = table.get(id.0).map_err(unavailable)?.map(|number| number.value());
        if let Some(number) = number {
            self.numbers.known.borrow_mut().insert(*id, number);
        }
        Ok(number)
    }

    /// The number of a document, which is given one if it has none.
    pub(super) fn number_or_new(&self, id: &DocumentId) -> Result<u64, StoreError> {
        if let Some(number) = self.number(id)? {
            return Ok(number);
        }
        let number = match self.numbers.next.get() {
            Some(next) => next,
            None => next_number(&self.txn.open_table(META).map_err(unavailable)?)?,
        };
        let mut table = self.txn.open_table(NUMBERS).map_err(unavailable)?;
        table.insert(id.0, number).map_err(unavailable)?;
        self.numbers.next.set(Some(number + 1));
        self.numbers.known.borrow_mut().insert(*id, number);
        Ok(number)
    }

    /// Takes a document's number away. If the document comes again, it gets another one.
    pub(super) fn forget_number(&self, id: &DocumentId) -> Result<(), StoreError> {
        self.numbers.known.borrow_mut().remove(id);
        let mut table = self.txn.open_table(NUMBERS).map_err(unavailable)?;
        table.remove(id.0).map_err(unavailable)?;
        Ok(())
    }

    /// Writes which number is the next.
    pub(super) fn keep_numbers(&self) -> Result<(), StoreError> {
        let Some(next) = self.numbers.next.get() else { return Ok(()) };
        let mut meta = self.txn.open_table(META).map_err(unavailable)?;
        meta.insert(DOCUMENTS_NEXT, next.to_be_bytes().as_slice()).map_err(unavailable)?;
        Ok(())
    }
}

fn next_number(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<u64, StoreError> {
    let Some(next) = meta.get(DOCUMENTS_NEXT).map_err(unavailable)? else { return Ok(1) };
    let bytes = next.value().try_into().map_err(|_| StoreError::Foreign)?;
    Ok(u64::from_be_bytes(bytes))
}

/// The row of [`META`] that says which number is the next.
pub(super) const DOCUMENTS_NEXT: &str = "documents-next";
