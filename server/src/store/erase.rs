//! Documents that an operator erased.
//!
//! Of an erased document a row stays that says so, at a position of its own in the log: so those who
//! follow the log are told, those who begin anew find it among the documents, and digests count it as
//! [`HeadsHash::ERASED`]. Nothing that was in it is left.

use redb::{Database, Durability, ReadableDatabase, ReadableTable, WriteTransaction};
use rejoin_core::change::Place;
use rejoin_core::{CollectionName, DocumentId, HeadsHash, ShortHash, SpaceName};
use rejoin_overwrite::{overwrite_free, rebuild, rebuild_around};

use super::authors;
use super::carried;
use super::guard::confined;
use super::reads::own_row;
use super::tables::{
    CHUNKS, COLLECTIONS, DIGESTS, DOCUMENTS, DigestRow, DocumentRow, FIRST, HOURS, LATEST, LOG,
    LOSSES, ORPHANS, OVERWRITE, OWN_ROW, POSITIONS_END, SNAPSHOTS, SPACES, UPLOAD_PARTS, UPLOADS,
    encode,
};
use super::uploads::Uploads;
use super::write::HOUR_MS;
use super::{ChangeStore, StoreError};

/// What was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erasure {
    /// The position in the log that says so.
    pub position: u64,
    /// The changes that there were.
    pub changes: u64,
}

impl ChangeStore {
    /// Erases a document in a commit of its own; call it between commits. `None` if it was erased
    /// before. One that is not known here is from now on, as an erased one.
    ///
    /// Its bytes may still be in the file then; see [`overwrite`](Self::overwrite).
    ///
    /// # Errors
    /// The database cannot be read or written, or the document's rows cannot be read.
    pub(crate) fn erase(
        &mut self,
        place: &Place<'_>,
        unix_ms: u64,
    ) -> Result<Option<Erasure>, StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        let known = self.sound_own(place.space, place.document, unix_ms)?;
        if known.as_ref().is_some_and(|(_, row)| row.erased_ms.is_some()) {
            return Ok(None);
        }
        let erased = self.write_erased(place, known, unix_ms);
        if erased.is_err() {
            self.fail();
        }
        erased.map(Some)
    }

    fn write_erased(
        &mut self,
        place: &Place<'_>,
        known: Option<(u64, DocumentRow)>,
        unix_ms: u64,
    ) -> Result<Erasure, StoreError> {
        let id = *place.document;
        let space = self.cached_or_new_space(place.space)?;
        let position = space.row.position + 1;
        let (space_number, collection) = match &known {
            Some((_, row)) => (row.space, row.collection),
            None => (space.row.number, space.number_or_new(place.collection)),
        };
        space.row.position = position;
        // They are counted again when somebody asks.
        space.row.bytes = None;
        let is_new_hour = unix_ms / HOUR_MS > space.row.hour;
        if is_new_hour {
            space.row.hour = unix_ms / HOUR_MS;
        }
        let (space_row, hour) = (space.row.clone(), space.row.hour);
        let names: Vec<_> = space.take_new().map(|(name, number)| (name.clone(), number)).collect();
        let number = match &known {
            Some((number, _)) => *number,
            None => {
                self.numbers.documents += 1;
                self.numbers.documents
            }
        };

        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        if let Some((_, row)) = &known {
            remove(&transaction, number, row)?;
        }
        transaction.open_table(OVERWRITE)?.insert(number, ())?;
        // Nobody knows which document the pieces of long changes are of. Who pushes one begins anew.
        transaction.open_table(UPLOADS)?.retain(|_, _| false)?;
        transaction.open_table(UPLOAD_PARTS)?.retain(|_, _| false)?;
        let row = DocumentRow::erased(space_number, id, collection, position, unix_ms);
        put(&transaction, number, &row)?;
        count(&transaction, &row, known.as_ref().map(|(_, before)| before))?;
        {
            transaction
                .open_table(SPACES)?
                .insert(place.space.as_str(), encode(&space_row).as_slice())?;
            if is_new_hour {
                transaction.open_table(HOURS)?.insert((space_number, hour), position)?;
            }
            let mut collections = transaction.open_table(COLLECTIONS)?;
            for (name, of) in names {
                collections.insert((space_number, name.as_str()), of)?;
            }
        }
        if known.is_none() {
            self.recent.write(&transaction, &[(number, space_number, id)])?;
            self.numbers.write(&transaction)?;
        }
        transaction.commit()?;

        self.is_overwrite_due = true;
        self.uploads = Uploads::default();
        self.cache.remove(number);
        self.verified.forget(number);
        self.absent = None;
        self.damage.orphans.remove(&(space_number, id));
        self.damage.losses.remove(&(space_number, id));
        let changes = known.map_or(0, |(_, row)| row.changes);
        Ok(Erasure { position, changes })
    }

    /// The number of a document and its own row, if its space knows it. If that is damaged, the
    /// document is mended first; whether its changes can be read does not matter.
    fn sound_own(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
        unix_ms: u64,
    ) -> Result<Option<(u64, DocumentRow)>, StoreError> {
        let Some(space) = self.space_number(space)? else { return Ok(None) };
        let Some(number) = self.number(space, document)? else { return Ok(None) };
        match self.own(number) {
            Err(error) if error.is_confined() => {}
            row => return Ok(Some((number, row?))),
        }
        self.mend(number, unix_ms)?;
        // It is gone if nothing of it was left.
        let Some(number) = self.number(space, document)? else { return Ok(None) };
        Ok(Some((number, self.own(number)?)))
    }

    fn own(&self, number: u64) -> Result<DocumentRow, StoreError> {
        let documents = self.database.begin_read()?.open_table(DOCUMENTS)?;
        confined(number, || own_row(&documents, number))
    }

    /// The collection of a document, if its space knows it. Call it between commits.
    ///
    /// # Errors
    /// The database cannot be read or written, or the document is damaged and cannot be mended.
    pub(crate) fn collection_to_erase(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
        unix_ms: u64,
    ) -> Result<Option<CollectionName>, StoreError> {
        let Some((number, row)) = self.sound_own(space, document, unix_ms)? else {
            return Ok(None);
        };
        let absent = StoreError::Absent { document: number, what: "collection" };
        let name = self.cached_space(space)?.and_then(|space| space.name(row.collection));
        name.cloned().ok_or(absent).map(Some)
    }

    /// Whether a document was erased.
    ///
    /// # Errors
    /// The database cannot be read, or this document is damaged.
    pub(crate) fn is_erased(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
    ) -> Result<bool, StoreError> {
        Ok(self.load(space, document)?.is_some_and(|cached| cached.row.erased_ms.is_some()))
    }

    /// Whether pages of the file may still hold something that was erased.
    pub(crate) fn is_overwrite_due(&self) -> bool {
        self.is_overwrite_due
    }

    /// Writes over what is left in the file of documents that were erased. It takes some seconds for
    /// each gigabyte, and nothing else is done meanwhile.
    ///
    /// # Errors
    /// The database cannot be written, and is to be opened again.
    pub(crate) fn overwrite(&mut self) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        if self.is_overwrite_due {
            overwrite(&mut self.database).map_err(|error| {
                self.fail();
                StoreError::of_redb(error)
            })?;
            self.is_overwrite_due = false;
        }
        Ok(())
    }
}

fn overwrite(database: &mut Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let mut erased = Vec::new();
    for entry in transaction.open_table(OVERWRITE)?.iter()? {
        erased.push(entry?.0.value());
    }
    for rows in [DOCUMENTS, CHUNKS, SNAPSHOTS] {
        let mut table = transaction.open_table(rows)?;
        for number in &erased {
            rebuild_around(&mut table, (*number, 0), (*number, u64::MAX))?;
        }
    }
    // There is hardly ever anything in these.
    rebuild(&transaction, ORPHANS)?;
    rebuild(&transaction, UPLOAD_PARTS)?;
    transaction.commit()?;
    overwrite_free(database)?;
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.open_table(OVERWRITE)?.retain(|_, ()| false)?;
    transaction.commit()?;
    Ok(())
}

/// Counts an erased document in the digest of its collection, where it was counted before if it was
/// there.
fn count(
    transaction: &WriteTransaction,
    row: &DocumentRow,
    before: Option<&DocumentRow>,
) -> Result<(), StoreError> {
    let mut digests = transaction.open_table(DIGESTS)?;
    let key = (row.space, row.collection);
    let counts = digests.get(key)?.map(|counts| DigestRow::decode(counts.value()));
    let mut counts = counts.unwrap_or_default();
    if let Some(before) = before {
        counts.digest.remove(&row.id, &before.heads);
        counts.documents = counts.documents.saturating_sub(1);
    }
    counts.digest.insert(&row.id, &row.heads);
    digests.insert(key, &counts.encode())?;
    Ok(())
}

/// Removes everything about a document but its place in the index.
fn remove(
    transaction: &WriteTransaction,
    number: u64,
    row: &DocumentRow,
) -> Result<(), StoreError> {
    authors::erase(transaction, number)?;
    carried::erase(transaction, number)?;
    let DocumentRow { space, id, .. } = row;
    let mut documents = transaction.open_table(DOCUMENTS)?;
    let mut log = transaction.open_table(LOG)?;
    for entry in documents.range((number, 0)..(number, POSITIONS_END))? {
        log.remove((*space, entry?.0.value().1))?;
    }
    documents.retain_in((number, 0)..=(number, OWN_ROW), |_, _| false)?;
    let all = (number, 0)..=(number, u64::MAX);
    transaction.open_table(CHUNKS)?.retain_in(all.clone(), |_, _| false)?;
    transaction.open_table(SNAPSHOTS)?.retain_in(all, |_, _| false)?;
    transaction.open_table(LATEST)?.remove((*space, row.last))?;
    transaction.open_table(FIRST)?.remove((*space, number))?;
    let orphans = (*space, &id.0, 0)..=(*space, &id.0, u64::MAX);
    transaction.open_table(ORPHANS)?.retain_in(orphans, |_, _| false)?;
    transaction.open_table(LOSSES)?.remove((*space, &id.0))?;
    Ok(())
}

/// Writes the rows of an erased document.
pub(super) fn put(
    transaction: &WriteTransaction,
    number: u64,
    row: &DocumentRow,
) -> Result<(), StoreError> {
    let at = (row.space, row.last);
    transaction.open_table(DOCUMENTS)?.insert((number, OWN_ROW), encode(row).as_slice())?;
    transaction.open_table(LATEST)?.insert(at, &row.latest(number).encode())?;
    transaction.open_table(LOG)?.insert(at, (number, row.collection))?;
    Ok(())
}

/// Whether the heads that are told of a document say that it was erased.
pub(super) fn is_erased(heads: &ShortHash) -> bool {
    *heads == HeadsHash::ERASED.short()
}
