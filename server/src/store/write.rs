//! The writes of one group commit: each table in the order of its keys, so that neighbours share
//! pages that were just touched.

use std::collections::BTreeMap;

use redb::{Durability, ReadableTable, Table, WriteTransaction};
use rejoin_core::{CollectionName, HeadsHash};

use super::authors;
use super::batch::{Batch, StagedChange};
use super::cache::GraphCache;
use super::carried;
use super::fold;
use super::tables::{
    CHUNKS, COLLECTIONS, ChangeRow, Chunk, DIGESTS, DOCUMENTS, DigestRow, DocumentRow, FIRST,
    FIRST_COLLECTION, HOURS, INLINE_BYTES_MAX, LATEST, LOG, LOSSES, ORPHANS, OWN_ROW, SPACES,
    encode,
};
use super::{ChangeStore, StoreError};

impl ChangeStore {
    pub(super) fn write(
        &mut self,
        batch: &Batch,
        unix_ms: u64,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        for document in batch.documents.keys() {
            let cached = self.cache.get(*document).ok_or(StoreError::Failed)?;
            cached.row.heads = cached.graph.heads_hash();
        }
        write_rows(&transaction, batch, &mut self.cache)?;
        write_log(&transaction, &batch.changes)?;
        write_latest(&transaction, batch, &mut self.cache)?;
        write_digests(&transaction, batch, &mut self.cache)?;
        self.write_new(&transaction, batch)?;
        self.write_spaces(&transaction, batch, unix_ms)?;
        for swap in &batch.swaps {
            fold::write_swap(&transaction, swap, unix_ms, &mut self.cache)?;
        }
        authors::write(&transaction, &batch.authors)?;
        carried::write(&transaction, &batch.carried)?;
        self.uploads.write(&transaction, &batch.uploads, unix_ms)?;
        self.devices.write(&transaction)?;
        for (space, document, position) in &batch.taken_back {
            transaction.open_table(ORPHANS)?.remove((*space, &document.0, *position))?;
        }
        for (space, document) in &batch.brought_back {
            transaction.open_table(LOSSES)?.remove((*space, &document.0))?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Writes the rows that a document needs once.
    fn write_new(
        &mut self,
        transaction: &WriteTransaction,
        batch: &Batch,
    ) -> Result<(), StoreError> {
        let first_collections = self.first_collections(batch);
        let mut new = Vec::new();
        for (number, _) in batch.documents.iter().filter(|(_, before)| before.known.is_none()) {
            let row = &self.cache.get(*number).ok_or(StoreError::Failed)?.row;
            new.push((*number, row.space, row.id));
            if first_collections.get(&row.space) == Some(&row.collection) {
                transaction.open_table(FIRST)?.insert((row.space, *number), &row.id.0)?;
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        self.recent.write(transaction, &new)?;
        self.numbers.write(transaction)
    }

    /// Of each space that is written to, the number of [`FIRST_COLLECTION`].
    fn first_collections(&self, batch: &Batch) -> BTreeMap<u32, u32> {
        let first = first_collection();
        let spaces = batch.spaces.keys().filter_map(|name| self.spaces.get(name));
        let numbered = spaces.filter_map(|it| Some((it.row.number, it.number(&first)?)));
        numbered.collect()
    }

    fn write_spaces(
        &mut self,
        transaction: &WriteTransaction,
        batch: &Batch,
        unix_ms: u64,
    ) -> Result<(), StoreError> {
        let mut spaces = transaction.open_table(SPACES)?;
        let mut collections = transaction.open_table(COLLECTIONS)?;
        let mut hours = transaction.open_table(HOURS)?;
        let hour = unix_ms / HOUR_MS;
        for (name, first) in &batch.spaces {
            let Some(space) = self.spaces.get_mut(name) else { continue };
            if hour > space.row.hour {
                hours.insert((space.row.number, hour), first)?;
                space.row.hour = hour;
            }
            spaces.insert(name.as_str(), encode(&space.row).as_slice())?;
            let number = space.row.number;
            for (collection, of_collection) in space.take_new() {
                collections.insert((number, collection.as_str()), of_collection)?;
            }
        }
        Ok(())
    }
}

/// The name of [`FIRST_COLLECTION`].
pub(super) fn first_collection() -> CollectionName {
    CollectionName::new(FIRST_COLLECTION).expect("it is short and has no control character")
}

/// The changes, and the documents' own rows.
fn write_rows(
    transaction: &WriteTransaction,
    batch: &Batch,
    cache: &mut GraphCache,
) -> Result<(), StoreError> {
    let mut rows = BTreeMap::new();
    let mut chunks = transaction.open_table(CHUNKS)?;
    for change in by_key(&batch.changes, |change| (change.document, change.position)) {
        let key = (change.document, change.position);
        let chunk = if change.chunk.len() > INLINE_BYTES_MAX {
            chunks.insert(key, change.chunk.as_slice())?;
            Chunk::Apart(change.chunk.len() as u32)
        } else {
            Chunk::Inline(&change.chunk)
        };
        rows.insert(key, ChangeRow { graph: &change.graph_row, chunk }.encode());
    }
    for document in batch.documents.keys() {
        let cached = cache.get(*document).ok_or(StoreError::Failed)?;
        rows.insert((*document, OWN_ROW), encode(&cached.row));
    }
    let mut documents = transaction.open_table(DOCUMENTS)?;
    for (key, row) in &rows {
        documents.insert(key, row.as_slice())?;
    }
    Ok(())
}

fn write_log(transaction: &WriteTransaction, changes: &[StagedChange]) -> Result<(), StoreError> {
    let mut log = transaction.open_table(LOG)?;
    for change in by_key(changes, |change| (change.space, change.position)) {
        log.insert((change.space, change.position), (change.document, change.collection))?;
    }
    Ok(())
}

fn by_key<K: Ord>(
    changes: &[StagedChange],
    key: impl Fn(&StagedChange) -> K,
) -> Vec<&StagedChange> {
    let mut sorted: Vec<&StagedChange> = changes.iter().collect();
    sorted.sort_unstable_by_key(|change| key(change));
    sorted
}

fn write_latest(
    transaction: &WriteTransaction,
    batch: &Batch,
    cache: &mut GraphCache,
) -> Result<(), StoreError> {
    let (mut before, mut now) = (Vec::new(), Vec::new());
    for (number, known) in &batch.documents {
        let row = &cache.get(*number).ok_or(StoreError::Failed)?.row;
        before.extend(known.known.map(|(last, _)| (row.space, last)));
        now.push(((row.space, row.last), row.latest(*number).encode()));
    }
    before.sort_unstable();
    now.sort_unstable();
    let mut latest = transaction.open_table(LATEST)?;
    for key in before {
        latest.remove(key)?;
    }
    for (key, row) in &now {
        latest.insert(key, row)?;
    }
    Ok(())
}

fn write_digests(
    transaction: &WriteTransaction,
    batch: &Batch,
    cache: &mut GraphCache,
) -> Result<(), StoreError> {
    let mut digests = Digests::new(transaction.open_table(DIGESTS)?);
    for (number, before) in &batch.documents {
        let row = &cache.get(*number).ok_or(StoreError::Failed)?.row;
        digests.replace(row, before.known.map(|(_, heads)| heads))?;
    }
    digests.write()
}

/// Digests of the collections a batch touches, read once and written once.
struct Digests<'t> {
    table: Table<'t, (u32, u32), &'static [u8; 40]>,
    touched: BTreeMap<(u32, u32), DigestRow>,
}

impl<'t> Digests<'t> {
    fn new(table: Table<'t, (u32, u32), &'static [u8; 40]>) -> Self {
        Self { table, touched: BTreeMap::new() }
    }

    fn replace(&mut self, row: &DocumentRow, from: Option<HeadsHash>) -> Result<(), StoreError> {
        let key = (row.space, row.collection);
        let mut of_collection = match self.touched.get(&key) {
            Some(touched) => *touched,
            None => {
                let stored = self.table.get(key)?;
                stored.map_or_else(DigestRow::default, |stored| DigestRow::decode(stored.value()))
            }
        };
        match from {
            Some(from) => of_collection.digest.replace(&row.id, &from, &row.heads),
            None => {
                of_collection.digest.insert(&row.id, &row.heads);
                of_collection.documents += 1;
            }
        }
        self.touched.insert(key, of_collection);
        Ok(())
    }

    fn write(mut self) -> Result<(), StoreError> {
        for (key, digest) in &self.touched {
            self.table.insert(key, &digest.encode())?;
        }
        Ok(())
    }
}

/// Milliseconds in one row of [`HOURS`].
pub(super) const HOUR_MS: u64 = 3_600_000;
