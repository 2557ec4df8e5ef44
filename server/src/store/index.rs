//! The index of documents by space and id.
//!
//! Ids are random, so a commit of some new documents would write as many pages of [`INDEX`], each
//! for one row. The newest documents are therefore kept in memory, and in [`RECENT`] where they
//! cost next to nothing, and are filed into the index in the order of its keys, some with each
//! commit: neighbours then share a page.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{ReadTransaction, ReadableDatabase, WriteTransaction};
use rejoin_core::DocumentId;

use super::tables::{INDEX, NUMBERS, RECENT};
use super::{ChangeStore, StoreError};

/// The newest documents, which the index does not have.
#[derive(Debug)]
pub(super) struct Recent {
    /// Their numbers, by space and id.
    numbers: BTreeMap<(u32, DocumentId), u64>,
    /// The key up to which they were filed in this round.
    filed: Option<(u32, DocumentId)>,
    /// The last number when this round began: the index has all up to it when it ends.
    round: u64,
    /// The number of documents that are kept.
    documents_max: usize,
}

impl Recent {
    /// Reads the documents that the index does not have.
    pub(super) fn read(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        let round = transaction.open_table(NUMBERS)?.get("round")?;
        let round = round.map_or(0, |round| round.value());
        let key = |(space, id): (u32, &[u8; 16])| (space, DocumentId(*id));
        let recent = transaction.open_table(RECENT)?;
        let filed = recent.get(FILED)?.map(|filed| key(filed.value()));
        let mut numbers = BTreeMap::new();
        for entry in recent.range(FILED + 1..)? {
            let (number, document) = entry?;
            let (number, document) = (number.value(), key(document.value()));
            // Others may be filed too, and are then filed once more.
            if number > round || Some(document) > filed {
                numbers.insert(document, number);
            }
        }
        Ok(Self { numbers, filed, round, documents_max: RECENT_MAX })
    }

    /// The document is no more. One that was filed is not here.
    pub(super) fn forget(&mut self, space: u32, document: &DocumentId) {
        self.numbers.remove(&(space, *document));
    }

    /// Takes documents in that are new with this commit, in the order of their numbers.
    pub(super) fn write(
        &mut self,
        transaction: &WriteTransaction,
        new: &[(u64, u32, DocumentId)],
    ) -> Result<(), StoreError> {
        let Some((last, ..)) = new.last() else { return Ok(()) };
        let mut recent = transaction.open_table(RECENT)?;
        for (number, space, id) in new {
            recent.insert(number, (*space, &id.0))?;
            self.numbers.insert((*space, *id), *number);
        }
        let excess = self.numbers.len().saturating_sub(self.documents_max);
        // After a restart there may be many at once; nobody is to wait for all of them.
        let due = excess.min(new.len().saturating_mul(4));
        if due == 0 {
            return Ok(());
        }
        if let Some(indexed) = self.file(transaction, due, *last)? {
            recent.retain_in(FILED + 1..=indexed, |_, _| false)?;
            transaction.open_table(NUMBERS)?.insert("round", self.round)?;
        }
        if let Some((space, id)) = &self.filed {
            recent.insert(FILED, (*space, &id.0))?;
        }
        Ok(())
    }

    /// Files so many, and returns the number up to which all are filed if that has changed.
    fn file(
        &mut self,
        transaction: &WriteTransaction,
        due: usize,
        last: u64,
    ) -> Result<Option<u64>, StoreError> {
        let mut indexed = None;
        let mut index = transaction.open_table(INDEX)?;
        let mut filed = 0;
        while filed < due {
            let after = self.filed.map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.numbers.range((after, Bound::Unbounded)).next();
            let Some((key, number)) = next.map(|(key, number)| (*key, *number)) else {
                self.filed = None;
                indexed = Some(std::mem::replace(&mut self.round, last));
                continue;
            };
            index.insert((key.0, &key.1.0), number)?;
            self.numbers.remove(&key);
            self.filed = Some(key);
            filed += 1;
        }
        Ok(indexed)
    }
}

impl ChangeStore {
    /// The number of a document that is committed, if its space has it.
    pub(super) fn number(
        &self,
        space: u32,
        document: &DocumentId,
    ) -> Result<Option<u64>, StoreError> {
        // After a failed commit, nobody knows which of the newest documents there are.
        if self.is_failed() {
            return Err(StoreError::Failed);
        }
        if let Some(number) = self.recent.numbers.get(&(space, *document)) {
            return Ok(Some(*number));
        }
        let index = self.database.begin_read()?.open_table(INDEX)?;
        Ok(index.get((space, &document.0))?.map(|number| number.value()))
    }
}

/// The row of [`RECENT`] that says up to which key documents were filed in this round.
const FILED: u64 = 0;

/// Documents kept beside the index, some 60 bytes each. Of a million documents, as many as stand on
/// six or seven of its pages are filed for every page that is written.
const RECENT_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;
    use redb::{Database, ReadableTable};
    use rejoin_core::change::Place;
    use rejoin_core::{ActorId, ChangeHash, CollectionName, GraphEntry, SpaceName};
    use sha2::{Digest, Sha256};

    use super::*;

    fn open(database: Database, documents_max: usize) -> ChangeStore {
        // So little memory that documents are read from the database.
        let mut store = ChangeStore::open(database, 1, || [1; 16]).unwrap();
        store.recent.documents_max = documents_max;
        store
    }

    fn id(n: u64) -> DocumentId {
        let hash: [u8; 32] = Sha256::digest(n.to_le_bytes()).into();
        DocumentId(*hash.first_chunk().unwrap())
    }

    fn stage(store: &mut ChangeStore, n: u64) {
        let space = SpaceName::new(format!("space {}", n % 2)).unwrap();
        let collection = CollectionName::new("jobs").unwrap();
        let (hash, actor) = (ChangeHash([1; 32]), ActorId(vec![1; 16]));
        let entry = GraphEntry { hash, actor, seq: 1, start_op: 1, max_op: 1, deps: Vec::new() };
        let place = Place { space: &space, collection: &collection, document: &id(n) };
        assert!(store.known(&place).unwrap().is_none(), "document {n}");
        store.stage(&place, entry, vec![n as u8]).unwrap();
    }

    /// Every document is found, by the number it got, and no other.
    fn check(store: &mut ChangeStore, documents: u64) {
        for n in 0..documents {
            let space = if n % 2 == 0 { 1 } else { 2 };
            assert_eq!(store.number(space, &id(n)).unwrap(), Some(n + 1));
            assert_eq!(store.number(3 - space, &id(n)).unwrap(), None);
        }
        assert_eq!(store.number(1, &id(documents)).unwrap(), None);
    }

    #[test]
    fn documents_are_found_while_they_are_filed_and_after_every_restart() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let mut store = open(database, 20);
        let mut documents = 0;
        for round in 0..60 {
            for _ in 0..round % 7 {
                stage(&mut store, documents);
                documents += 1;
            }
            store.commit(0).unwrap();
            // After a restart there are some that were filed already.
            assert!(store.recent.numbers.len() <= 3 * 20);
            check(&mut store, documents);
            if round % 5 == 0 {
                store = open(store.database, 20);
                check(&mut store, documents);
            }
        }
        let recent = store.database.begin_read().unwrap().open_table(RECENT).unwrap();
        let rows = recent.iter().unwrap().count();
        assert!((20..80).contains(&rows), "{rows} of {documents}");
    }

    #[test]
    fn more_documents_than_are_kept_may_come_at_once() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let mut store = open(database, 3);
        (0..50).for_each(|n| stage(&mut store, n));
        store.commit(0).unwrap();
        check(&mut store, 50);
        (50..100).for_each(|n| stage(&mut store, n));
        store.commit(0).unwrap();
        check(&mut store, 100);
        let mut store = open(store.database, 3);
        check(&mut store, 100);
    }
}
