//! Takes the documents that can still be read out of a damaged relay's file, into a fresh one.
//!
//! Each read may fail without ending the others: one bad page costs only the rows on it. The new
//! file is another relay with positions of another epoch, so that no replica trusts a mark of the
//! old one: each compares its documents, and brings back changes that are lost here.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use redb::{Database, Durability, Key, Range, ReadTransaction, Value, WriteTransaction};
use rejoin_core::remains::{self, Walked};
use rejoin_core::{CollectionName, DocumentId, Epoch, SpaceName};
use thiserror::Error;

use super::StoreError;
use super::erase;
use super::file::create;
use super::losses;
use super::mend::{Identity, Row, Stored, document_row, write_changes};
use super::open::create_tables;
use super::tables::{
    CHUNKS, COLLECTIONS, DIGESTS, DOCUMENTS, DigestRow, DocumentRow, FIRST, FIRST_COLLECTION,
    FORMAT, HOURS, IDENTITY, INDEX, LATEST, LOSSES, LatestRow, NUMBERS, ORPHANS, OWN_ROW,
    POSITIONS_END, SNAPSHOTS, SPACES, SpaceRow, encode,
};
use super::verify::is_snapshot;

/// The documents and changes that were taken out of a damaged file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvaged {
    /// Documents with everything that they had.
    pub whole: u64,
    /// Documents of which changes are lost.
    pub partly: Vec<Lost>,
    /// Documents of which nothing could be read.
    pub lost: Vec<DocumentId>,
    /// Documents of which not even the id could be read.
    pub unnamed: u64,
}

/// A document of which something is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// The document.
    pub document: DocumentId,
    /// Its changes in the new file, orphans included.
    pub changes: u64,
    /// Its changes that are lost, as far as anything tells of them.
    pub lost: u64,
}

impl Salvaged {
    /// Whether the new file has all that the old one had.
    pub fn is_everything(&self) -> bool {
        self.partly.is_empty() && self.lost.is_empty() && self.unnamed == 0
    }
}

/// The new file could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SalvageError {
    /// There is something where the new file is to be.
    #[error("{} exists already; name a file that does not", path.display())]
    Exists {
        /// The new file.
        path: PathBuf,
    },
    /// It cannot be moved to its place.
    #[error("{} cannot be written", path.display())]
    Io {
        /// The new file.
        path: PathBuf,
        /// The message of the system.
        source: io::Error,
    },
    /// It cannot be made.
    #[error("{} cannot be made", path.display())]
    Database {
        /// The new file.
        path: PathBuf,
        /// The message of the database.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It cannot be written.
    #[error("the new file cannot be written")]
    Store(#[from] StoreError),
}

/// Takes all that can be read into a fresh file of a relay at `to`, encrypted if there is a key. `random` gives the new relay
/// its names, and `progress` is told the number of documents that are done, and of all.
///
/// # Errors
/// The new file could not be written. Damage in the old one is no error.
pub fn salvage(
    from: &ReadTransaction,
    to: &Path,
    key: Option<&rejoin_seal::Key>,
    random: impl FnMut() -> [u8; 16],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Salvaged, SalvageError> {
    if to.exists() {
        return Err(SalvageError::Exists { path: to.to_owned() });
    }
    // A file that was cut short is not taken for a relay's.
    let mut unfinished = to.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let io = |source| SalvageError::Io { path: unfinished.clone(), source };
    if unfinished.exists() {
        std::fs::remove_file(&unfinished).map_err(io)?;
    }
    let database = create(&unfinished, key).map_err(|source| SalvageError::Database {
        path: unfinished.clone(),
        source: Box::new(source),
    })?;
    let salvaged = Salvage::read(from).write(&database, random, progress)?;
    drop(database);
    std::fs::rename(&unfinished, to).map_err(io)?;
    Ok(salvaged)
}

/// The facts about the file as a whole.
struct Salvage<'a> {
    from: &'a ReadTransaction,
    spaces: BTreeMap<u32, Space>,
    /// Documents by their numbers, as the rows of their last changes name them.
    latest: BTreeMap<u64, (u32, u64, LatestRow)>,
    /// The same, as the index does.
    index: BTreeMap<u64, DocumentId>,
    last_number: u64,
    salvaged: Salvaged,
}

struct Space {
    name: SpaceName,
    row: SpaceRow,
    /// The names of collections by their numbers in the old file.
    collections: BTreeMap<u32, CollectionName>,
    digests: BTreeMap<u32, DigestRow>,
}

impl<'a> Salvage<'a> {
    fn read(from: &'a ReadTransaction) -> Self {
        let mut spaces = BTreeMap::new();
        let walked = walk(
            || Ok(from.open_table(SPACES)?.range::<&str>(..)?),
            |name, row| (name.to_owned(), SpaceRow::decode(name, row).ok()),
        );
        for (name, row) in walked.rows {
            let (Ok(name), Some(row)) = (SpaceName::new(name), row) else { continue };
            let (collections, digests) = (BTreeMap::new(), BTreeMap::new());
            spaces.insert(row.number, Space { name, row, collections, digests });
        }
        let walked = walk(
            || Ok(from.open_table(COLLECTIONS)?.range::<(u32, &str)>(..)?),
            |(space, name), number| ((space, name.to_owned()), number),
        );
        for ((space, name), number) in walked.rows {
            if let (Some(space), Ok(name)) = (spaces.get_mut(&space), CollectionName::new(name)) {
                space.collections.insert(number, name);
            }
        }
        let walked = walk(
            || Ok(from.open_table(LATEST)?.range::<(u32, u64)>(..)?),
            |key, row| (key, LatestRow::decode(row)),
        );
        let latest = walked.rows.into_iter();
        let latest = latest.map(|((space, position), row)| (row.number, (space, position, row)));
        let latest: BTreeMap<u64, _> = latest.collect();
        let walked = walk(
            || Ok(from.open_table(INDEX)?.range::<(u32, &[u8; 16])>(..)?),
            |(space, id), number| ((space, *id), number),
        );
        let index = walked.rows.into_iter().map(|((_, id), number)| (number, DocumentId(id)));
        let index: BTreeMap<u64, DocumentId> = index.collect();
        let told = read(|| {
            let told = from.open_table(NUMBERS)?.get("documents")?;
            Ok(told.map_or(0, |told| told.value()))
        });
        let named = latest.keys().chain(index.keys()).max().copied().unwrap_or(0);
        // A damaged row may say anything.
        let told = told.unwrap_or(0).min(named.saturating_add(UNNAMED_MAX));
        let last_number = named.max(told);
        Self { from, spaces, latest, index, last_number, salvaged: Salvaged::default() }
    }

    fn write(
        mut self,
        database: &Database,
        mut random: impl FnMut() -> [u8; 16],
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Salvaged, StoreError> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        create_tables(&transaction)?;
        let epoch = Epoch(random());
        {
            let mut identity = transaction.open_table(IDENTITY)?;
            identity.insert("relay", &random())?;
            identity.insert("epoch", &epoch.0)?;
        }
        for number in 1..=self.last_number {
            self.take(&transaction, number)?;
            progress(number, self.last_number);
        }
        self.copy_losses(&transaction)?;
        self.write_spaces(&transaction, epoch)?;
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.insert("documents", self.last_number)?;
        let spaces = self.spaces.keys().max().copied().unwrap_or(0);
        numbers.insert("spaces", u64::from(spaces))?;
        numbers.insert("format", FORMAT)?;
        drop(numbers);
        transaction.commit()?;
        Ok(self.salvaged)
    }

    /// Takes one document out.
    fn take(&mut self, to: &WriteTransaction, number: u64) -> Result<(), StoreError> {
        let own = self.own(number);
        let (is_readable, own) = (own.is_some(), own.flatten());
        let latest = self.latest.get(&number).copied();
        let rows = self.rows(number);
        if own.is_none() && latest.is_none() {
            match self.index.get(&number) {
                Some(document) => self.salvaged.lost.push(*document),
                // A number that was left out has no row anywhere.
                None if is_readable && rows.rows.is_empty() && rows.is_all => {}
                None => self.salvaged.unnamed += 1,
            }
            return Ok(());
        }
        let named = own.as_ref().map(|own| (own.space, own.id, own.collection));
        let named =
            named.or_else(|| latest.map(|(space, _, row)| (space, row.document, row.collection)));
        let Some((space, id, collection)) = named else { return Ok(()) };
        let known = self.spaces.get(&space);
        let Some(space) = known.filter(|it| it.collections.contains_key(&collection)) else {
            self.salvaged.lost.push(id);
            return Ok(());
        };
        let identity = Identity::new(space.name.clone(), space.row.number, id, collection)
            .was(own.as_ref(), latest.as_ref().map(|(_, position, row)| (*position, row)));
        if let Some(row) = identity.erased(own.as_ref(), !rows.rows.is_empty(), 0) {
            return self.take_erased(to, number, &row);
        }
        let parts = walk(
            || Ok(self.from.open_table(SNAPSHOTS)?.range((number, 0)..=(number, u64::MAX))?),
            |(_, offset), part| (offset, part.to_vec()),
        );
        let claimed = Stored::claimed(number, &rows.rows, own.as_ref(), &parts.rows);
        let snapshot = claimed.filter(|it| is_snapshot(&parts.rows, it.bytes));
        let stored = Stored::of(rows.rows, snapshot);
        let assessed = stored.assess(number);
        let changes = (assessed.kept.len() + assessed.orphans.len()) as u64;
        // The number of changes alone tells that rows on lost pages are missing.
        let had = own.as_ref().map_or(0, |own| own.changes);
        let lost = assessed.lost.max(had.saturating_sub(changes));
        write_changes(to, number, &identity, &stored, &assessed)?;
        if let Some(loss) = identity.loss(&assessed, None) {
            losses::write(to, space.row.number, &id, loss)?;
        }
        let Some(row) = document_row(&identity, &assessed) else {
            self.salvaged.lost.push(id);
            return Ok(());
        };
        stored.write_apart(to, number, &assessed)?;
        if assessed.snapshot.is_some() {
            write_parts(to, number, &parts.rows)?;
        }
        to.open_table(DOCUMENTS)?.insert((number, OWN_ROW), encode(&row).as_slice())?;
        to.open_table(LATEST)?.insert((row.space, row.last), &row.latest(number).encode())?;
        to.open_table(INDEX)?.insert((row.space, &id.0), number)?;
        let Some(space) = self.spaces.get_mut(&row.space) else { return Ok(()) };
        if space.collections.get(&collection).is_some_and(|it| it.as_str() == FIRST_COLLECTION) {
            to.open_table(FIRST)?.insert((row.space, number), &id.0)?;
        }
        space.row.position = space.row.position.max(row.last);
        let digest = space.digests.entry(collection).or_default();
        digest.digest.insert(&id, &row.heads);
        digest.documents += 1;
        if lost == 0 && assessed.orphans.is_empty() && rows.is_all {
            self.salvaged.whole += 1;
        } else {
            self.salvaged.partly.push(Lost { document: id, changes, lost });
        }
        Ok(())
    }

    /// The own row of a document, if it is one; `None` if it cannot be read.
    fn own(&self, number: u64) -> Option<Option<DocumentRow>> {
        read(|| {
            let row = self.from.open_table(DOCUMENTS)?.get((number, OWN_ROW))?;
            Ok(row.and_then(|row| DocumentRow::decode(number, row.value()).ok()))
        })
    }

    /// Takes out that a document was erased.
    fn take_erased(
        &mut self,
        to: &WriteTransaction,
        number: u64,
        row: &DocumentRow,
    ) -> Result<(), StoreError> {
        erase::put(to, number, row)?;
        to.open_table(INDEX)?.insert((row.space, &row.id.0), number)?;
        let Some(space) = self.spaces.get_mut(&row.space) else { return Ok(()) };
        space.row.position = space.row.position.max(row.last);
        space.digests.entry(row.collection).or_default().digest.insert(&row.id, &row.heads);
        self.salvaged.whole += 1;
        Ok(())
    }

    /// The rows of a document's changes.
    fn rows(&self, number: u64) -> Rows {
        let walked = walk(
            || {
                let all = (number, 0)..(number, POSITIONS_END);
                Ok(self.from.open_table(DOCUMENTS)?.range(all)?)
            },
            |(_, position), row| (position, row.to_vec()),
        );
        let rows = walked.rows.into_iter().map(|(position, bytes)| {
            let apart = read(|| {
                let chunk = self.from.open_table(CHUNKS)?.get((number, position))?;
                Ok(chunk.map(|chunk| chunk.value().to_vec()))
            });
            Row { position, bytes, apart: apart.flatten() }
        });
        Rows { rows: rows.collect(), is_all: walked.is_all }
    }

    /// Takes over what is known of changes that were lost before, and their orphans.
    fn copy_losses(&self, to: &WriteTransaction) -> Result<(), StoreError> {
        let walked = walk(
            || Ok(self.from.open_table(LOSSES)?.range::<(u32, &[u8; 16])>(..)?),
            |(space, id), row| ((space, *id), row.to_vec()),
        );
        let mut table = to.open_table(LOSSES)?;
        for ((space, id), row) in &walked.rows {
            table.insert((*space, id), row.as_slice())?;
        }
        let walked = walk(
            || Ok(self.from.open_table(ORPHANS)?.range::<(u32, &[u8; 16], u64)>(..)?),
            |(space, id, position), chunk| ((space, *id, position), chunk.to_vec()),
        );
        let mut table = to.open_table(ORPHANS)?;
        for ((space, id, position), chunk) in &walked.rows {
            table.insert((*space, id, *position), chunk.as_slice())?;
        }
        Ok(())
    }

    fn write_spaces(&mut self, to: &WriteTransaction, epoch: Epoch) -> Result<(), StoreError> {
        let mut spaces = to.open_table(SPACES)?;
        let mut collections = to.open_table(COLLECTIONS)?;
        let mut digests = to.open_table(DIGESTS)?;
        for space in self.spaces.values_mut() {
            space.row.epoch = epoch;
            let number = space.row.number;
            spaces.insert(space.name.as_str(), encode(&space.row).as_slice())?;
            for (collection, name) in &space.collections {
                collections.insert((number, name.as_str()), *collection)?;
            }
            for (collection, digest) in &space.digests {
                digests.insert((number, *collection), &digest.encode())?;
            }
        }
        let walked = walk(
            || Ok(self.from.open_table(HOURS)?.range::<(u32, u64)>(..)?),
            |key, position| (key, position),
        );
        let mut hours = to.open_table(HOURS)?;
        for (key, position) in walked.rows {
            hours.insert(key, position)?;
        }
        Ok(())
    }
}

/// Writes the parts of a snapshot, each with where it begins.
fn write_parts(
    to: &WriteTransaction,
    number: u64,
    parts: &BTreeMap<u64, Vec<u8>>,
) -> Result<(), StoreError> {
    let mut table = to.open_table(SNAPSHOTS)?;
    for (offset, part) in parts {
        table.insert((number, *offset), part.as_slice())?;
    }
    Ok(())
}

/// The rows of changes of one document, and whether these are all.
struct Rows {
    rows: Vec<Row>,
    is_all: bool,
}

/// Numbers beyond the last known document that are tried.
const UNNAMED_MAX: u64 = 1 << 20;

/// The rows of a range that can be read.
fn walk<K: Key + 'static, V: Value + 'static, O: Ord, T>(
    open: impl Fn() -> Result<Range<'static, K, V>, redb::Error>,
    take: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> (O, T),
) -> Walked<O, T> {
    remains::walk(open, |row| {
        let (key, value) = row?;
        Ok(take(key.value(), value.value()))
    })
}

/// One read, which may find the file damaged.
fn read<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Option<T> {
    remains::read(work)
}
