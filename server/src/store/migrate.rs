//! Taking over a file of the version before.
//!
//! It is one transaction: whenever it is cut short, the file is as it was. Rows are copied one by
//! one as they are, so a damaged document stays just as damaged and stops no other; the database
//! itself writes out pages that do not fit its cache. Only some dozens of bytes for each document
//! of one space are in memory.

mod before;

use std::collections::BTreeMap;
use std::time::Instant;

use redb::{Database, Durability, ReadableTable, ReadableTableMetadata, Table, WriteTransaction};
use rejoin_core::{CollectionName, DocumentId};

use super::StoreError;
use super::open::{Numbers, create_tables};
use super::tables::{
    CHUNKS, COLLECTIONS, DIGESTS, DOCUMENTS, DigestRow, DocumentRow, FIRST, FIRST_COLLECTION,
    FORMAT, HOURS, IDENTITY, INDEX, LATEST, LATEST_BYTES, LOG, LatestRow, NUMBERS, OWN_ROW,
    SNAPSHOTS, SPACES, SpaceRow, encode,
};
use before::LogRow;

/// Rewrites a file of the version before in the present layout. Documents get their numbers space
/// by space, in the order of their first changes.
///
/// # Errors
/// The database failed, or holds rows that no document accounts for. The file is as it was.
pub(super) fn migrate(database: &Database) -> Result<(), StoreError> {
    let started = Instant::now();
    tracing::info!("the store is of the version before and is being rewritten");
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let identity = take_identity(&transaction)?;
    create_tables(&transaction)?;
    {
        let mut table = transaction.open_table(IDENTITY)?;
        for (name, id) in &identity {
            table.insert(name.as_str(), id)?;
        }
    }
    let numbers = take_spaces(&transaction)?;
    transaction.delete_table(before::SPACES)?;
    transaction.delete_table(before::DOCUMENTS)?;
    transaction.delete_table(before::CHUNKS)?;
    transaction.delete_table(before::SNAPSHOTS)?;
    transaction.delete_table(before::LOG)?;
    transaction.delete_table(before::DIGESTS)?;
    transaction.delete_table(before::HOURS)?;
    numbers.write(&transaction)?;
    transaction.open_table(NUMBERS)?.insert("format", FORMAT)?;
    transaction.commit()?;
    let (documents, ms) = (numbers.documents, started.elapsed().as_millis() as u64);
    tracing::info!(documents, spaces = numbers.spaces, ms, "the store was rewritten");
    Ok(())
}

/// Takes the table of ids out of the way of [`NUMBERS`], which has its name.
fn take_identity(transaction: &WriteTransaction) -> Result<Vec<(String, [u8; 16])>, StoreError> {
    let mut identity = Vec::new();
    for entry in transaction.open_table(before::IDENTITY)?.iter()? {
        let (name, id) = entry?;
        identity.push((name.value().to_owned(), *id.value()));
    }
    transaction.delete_table(before::IDENTITY)?;
    Ok(identity)
}

fn take_spaces(transaction: &WriteTransaction) -> Result<Numbers, StoreError> {
    let mut spaces = Vec::new();
    for entry in transaction.open_table(before::SPACES)?.iter()? {
        let (name, row) = entry?;
        let name = name.value().to_owned();
        let row: before::SpaceRow = minicbor::decode(row.value())
            .map_err(|source| StoreError::SpaceRow { space: name.clone(), source })?;
        spaces.push((name, row));
    }
    let mut numbers = Numbers::default();
    let mut documents = Documents::new(transaction)?;
    for (name, row) in &spaces {
        numbers.spaces += 1;
        take_space(transaction, &mut documents, &mut numbers, name, row)?;
    }
    documents.check_nothing_is_left()?;
    Ok(numbers)
}

fn take_space(
    transaction: &WriteTransaction,
    documents: &mut Documents<'_>,
    numbers: &mut Numbers,
    name: &str,
    row: &before::SpaceRow,
) -> Result<(), StoreError> {
    let before::SpaceRow { epoch, position, hour } = *row;
    let space = numbers.spaces;
    let row = SpaceRow { number: space, epoch, position, hour, bytes: None };
    transaction.open_table(SPACES)?.insert(name, encode(&row).as_slice())?;
    let mut hours = transaction.open_table(HOURS)?;
    for entry in transaction.open_table(before::HOURS)?.range((name, 0)..=(name, u64::MAX))? {
        let (key, first) = entry?;
        hours.insert((space, key.value().1), first.value())?;
    }
    let mut collections = Collections::default();
    let mut index = Vec::new();
    for (position, of_document) in by_first_change(transaction, name)? {
        numbers.documents += 1;
        index.push((of_document.document, numbers.documents));
        let place = NewPlace { space, number: numbers.documents, position };
        documents.take(&place, &of_document, &mut collections)?;
    }
    index.sort_unstable();
    let mut table = transaction.open_table(INDEX)?;
    for (document, number) in &index {
        table.insert((space, &document.0), number)?;
    }
    collections.write(transaction, space, name)
}

/// The documents of a space in the order of their first changes, each with the position of its
/// last.
fn by_first_change(
    transaction: &WriteTransaction,
    space: &str,
) -> Result<Vec<(u64, LogRow)>, StoreError> {
    let mut documents = Vec::new();
    for entry in transaction.open_table(before::LOG)?.range((space, 0)..=(space, u64::MAX))? {
        let (key, row) = entry?;
        documents.push((key.value().1, LogRow::decode(row.value())));
    }
    documents.sort_unstable_by_key(|(_, row)| row.first);
    Ok(documents)
}

/// The new place of a document.
struct NewPlace {
    space: u32,
    number: u64,
    /// Of its last change.
    position: u64,
}

/// The collections of one space.
#[derive(Default)]
struct Collections {
    /// Each with its number, and how many documents it has.
    by_name: BTreeMap<CollectionName, (u32, u64)>,
}

impl Collections {
    fn number(&mut self, name: CollectionName, documents: u64) -> u32 {
        let next = self.by_name.len() as u32 + 1;
        let (number, counted) = self.by_name.entry(name).or_insert((next, 0));
        *counted += documents;
        *number
    }

    fn write(
        mut self,
        transaction: &WriteTransaction,
        space: u32,
        name: &str,
    ) -> Result<(), StoreError> {
        let mut digests = transaction.open_table(DIGESTS)?;
        for entry in transaction.open_table(before::DIGESTS)?.range((name, "")..)? {
            let (key, digest) = entry?;
            let (of, collection) = key.value();
            if of != name {
                break;
            }
            // Only checked names were ever written.
            let Ok(collection) = CollectionName::new(collection) else { continue };
            let number = self.number(collection.clone(), 0);
            let documents = self.by_name.get(&collection).map_or(0, |(_, documents)| *documents);
            let digest = rejoin_core::SetDigest::from_bytes(*digest.value());
            digests.insert((space, number), &DigestRow { digest, documents }.encode())?;
        }
        let mut table = transaction.open_table(COLLECTIONS)?;
        for (collection, (number, _)) in &self.by_name {
            table.insert((space, collection.as_str()), number)?;
        }
        Ok(())
    }
}

type ById<'t> = Table<'t, (&'static [u8; 16], u64), &'static [u8]>;
type ByNumber<'t> = Table<'t, (u64, u64), &'static [u8]>;

/// The tables that documents are moved between.
struct Documents<'t> {
    rows: Moved<'t>,
    chunks: Moved<'t>,
    snapshots: Moved<'t>,
    log: Table<'t, (u32, u64), (u64, u32)>,
    latest: Table<'t, (u32, u64), &'static [u8; LATEST_BYTES]>,
    first: Table<'t, (u32, u64), &'static [u8; 16]>,
}

impl<'t> Documents<'t> {
    fn new(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        let from = |definition| transaction.open_table(definition);
        let to = |definition| transaction.open_table(definition);
        Ok(Self {
            rows: Moved { from: from(before::DOCUMENTS)?, to: to(DOCUMENTS)?, count: 0 },
            chunks: Moved { from: from(before::CHUNKS)?, to: to(CHUNKS)?, count: 0 },
            snapshots: Moved { from: from(before::SNAPSHOTS)?, to: to(SNAPSHOTS)?, count: 0 },
            log: transaction.open_table(LOG)?,
            latest: transaction.open_table(LATEST)?,
            first: transaction.open_table(FIRST)?,
        })
    }

    fn take(
        &mut self,
        place: &NewPlace,
        of_document: &LogRow,
        collections: &mut Collections,
    ) -> Result<(), StoreError> {
        let LogRow { document, heads, first } = *of_document;
        let NewPlace { space, number, position } = *place;
        let stored = self.rows.from.get((&document.0, OWN_ROW))?.map(|row| row.value().to_vec());
        // One that cannot be read is damaged here too, and is in no collection.
        let row = stored.and_then(|row| minicbor::decode::<before::DocumentRow>(&row).ok());
        if row.as_ref().is_some_and(|row| row.collection.as_str() == FIRST_COLLECTION) {
            self.first.insert((space, number), &document.0)?;
        }
        let collection =
            row.as_ref().map_or(0, |row| collections.number(row.collection.clone(), 1));
        let own_row = row.map(|row| encode(&new_row(row, space, document, collection)));
        let log = &mut self.log;
        self.rows.take(document, number, |position, row| {
            if position == OWN_ROW {
                return Ok(own_row.clone().unwrap_or_else(|| row.to_vec()));
            }
            log.insert((space, position), (number, collection))?;
            Ok(row.to_vec())
        })?;
        self.chunks.take(document, number, |_, chunk| Ok(chunk.to_vec()))?;
        self.snapshots.take(document, number, |_, part| Ok(part.to_vec()))?;
        let latest = LatestRow { number, collection, document, heads, first };
        self.latest.insert((space, position), &latest.encode())?;
        Ok(())
    }

    fn check_nothing_is_left(&self) -> Result<(), StoreError> {
        self.rows.check("documents-1")?;
        self.chunks.check("chunks-1")?;
        self.snapshots.check("snapshots-1")
    }
}

fn new_row(row: before::DocumentRow, space: u32, id: DocumentId, collection: u32) -> DocumentRow {
    let before::DocumentRow { first, last, changes, heads, tail_bytes, snapshot, .. } = row;
    let row = DocumentRow::new(space, id, collection, first);
    DocumentRow { last, changes, heads, tail_bytes, snapshot, ..row }
}

/// A table keyed by ids, and the one that takes its place.
struct Moved<'t> {
    from: ById<'t>,
    to: ByNumber<'t>,
    /// Rows moved.
    count: u64,
}

impl Moved<'_> {
    /// Moves the rows of a document; `made` makes each new row of its place and the old one.
    fn take(
        &mut self,
        document: DocumentId,
        number: u64,
        mut made: impl FnMut(u64, &[u8]) -> Result<Vec<u8>, StoreError>,
    ) -> Result<(), StoreError> {
        for entry in self.from.range((&document.0, 0)..=(&document.0, u64::MAX))? {
            let (key, row) = entry?;
            let at = key.value().1;
            self.to.insert((number, at), made(at, row.value())?.as_slice())?;
            self.count += 1;
        }
        Ok(())
    }

    /// Checks that no row is thrown away that nobody looked at.
    fn check(&self, table: &'static str) -> Result<(), StoreError> {
        match self.from.len()? - self.count {
            0 => Ok(()),
            rows => Err(StoreError::Unaccounted { table, rows }),
        }
    }
}
