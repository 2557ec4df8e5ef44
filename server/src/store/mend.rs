//! Takes rows that cannot be read out of a damaged document, so that the relay says only the truth
//! about it: its heads and digests then differ from those of replicas that have more, and the
//! ordinary repair brings back the lost changes.
//!
//! A change that builds on a lost one means nothing without it. Such an orphan is kept beside the
//! document, and taken in again when the lost change was pushed again.

mod assess;

use redb::{Durability, ReadableDatabase, ReadableTable, WriteTransaction};
use rejoin_core::{DocumentId, HeadsHash, ShortHash, SpaceName};

use assess::Assessed;
pub(super) use assess::{Row, Stored};

use super::erase::{self, is_erased};
use super::guard::confined;
use super::losses::{self, LossRow};
use super::reads::{Rows, own_row};
use super::tables::{
    CHUNKS, ChangeRow, Chunk, DIGESTS, DOCUMENTS, DigestRow, DocumentRow, FIRST, INDEX, LATEST,
    LATEST_BYTES, LOG, LatestRow, ORPHANS, OWN_ROW, POSITIONS_END, RECENT, SNAPSHOTS, SPACES,
    SpaceRow, encode,
};
use super::{ChangeStore, StoreError};

/// A document that was looked at because a read of it failed.
#[derive(Debug)]
pub(crate) struct Mended {
    pub(crate) space: SpaceName,
    pub(crate) document: DocumentId,
    /// Changes whose bytes are lost here.
    pub(crate) lost: u64,
    /// Changes that wait until those are pushed again.
    pub(crate) orphans: u64,
}

/// The place of a document, and the heads by which digests count it.
pub(super) struct Identity {
    space: SpaceName,
    space_number: u32,
    id: DocumentId,
    collection: u32,
    /// The heads by which the digest counts it, if they are known.
    counted: Option<HeadsHash>,
    /// The place of its row in [`LATEST`].
    latest: Option<u64>,
    /// The heads by its own row, and by the row of its last change. They are the same, unless one
    /// of those rows is damaged.
    former: [Option<ShortHash>; 2],
    /// The number of its changes, if its own row says it.
    changes: u64,
}

impl Identity {
    /// Of a document that is not counted in anywhere.
    pub(super) fn new(
        space: SpaceName,
        space_number: u32,
        id: DocumentId,
        collection: u32,
    ) -> Self {
        let (former, changes) = ([None, None], 0);
        Self { space, space_number, id, collection, counted: None, latest: None, former, changes }
    }

    /// What its own row and the row of its last change say of it.
    pub(super) fn was(
        mut self,
        own: Option<&DocumentRow>,
        latest: Option<(u64, &LatestRow)>,
    ) -> Self {
        self.latest = latest.map(|(at, _)| at);
        self.former = [own.map(|own| own.heads.short()), latest.map(|(_, latest)| latest.heads)];
        self.changes = own.map_or(0, |own| own.changes);
        self
    }

    /// The row of a document that was erased, made anew. Its own row says so, or it is gone and the row
    /// of its last change says so while there is no change: that row has no checksum, and damage
    /// must not erase anything.
    pub(super) fn erased(
        &self,
        own: Option<&DocumentRow>,
        has_changes: bool,
        unix_ms: u64,
    ) -> Option<DocumentRow> {
        let says_so = match own {
            Some(own) => own.erased_ms.is_some(),
            None => !has_changes && self.former.iter().flatten().any(is_erased),
        };
        if !says_so {
            return None;
        }
        let position = own.map(|own| own.last).or(self.latest)?;
        let erased_ms = own.and_then(|own| own.erased_ms).unwrap_or(unix_ms);
        let Self { space_number, id, collection, .. } = *self;
        Some(DocumentRow::erased(space_number, id, collection, position, erased_ms))
    }

    /// What the document lost, if it lost anything.
    pub(super) fn loss(&self, assessed: &Assessed<'_>, found_ms: Option<u64>) -> Option<LossRow> {
        let heads = assessed.graph.heads_hash().short();
        if self.former.contains(&Some(heads)) {
            return None;
        }
        let here = (assessed.kept.len() + assessed.orphans.len()) as u64;
        let lost = assessed.lost.max(self.changes.saturating_sub(here));
        let is_named = !assessed.named.is_empty() && assessed.named.len() as u64 >= lost;
        let state = match self.former {
            [Some(own), Some(latest)] if own == latest => Some(own),
            // One of them is damaged too. Heads that never were would never be there again, so they are
            // taken only where nothing else tells of a loss, and a salvage, which tells itself what it
            // could not save, does not take them.
            _ if found_ms.is_none() || !assessed.named.is_empty() => None,
            [own, latest] => latest.or(own),
        };
        let state = state.filter(|_| !is_named);
        let is_known = state.is_some() || !assessed.named.is_empty();
        let row = || LossRow::new(assessed.named.clone(), state, assessed.kept.len(), found_ms);
        is_known.then(row)
    }
}

impl ChangeStore {
    /// Looks at a whole document, and takes its damaged rows out, in a commit of its own. Call it
    /// between commits. `None` if the document is sound.
    ///
    /// # Errors
    /// The database cannot be read or written, or the rows that are left do not say which
    /// document it is.
    pub(crate) fn mend(&mut self, number: u64, unix_ms: u64) -> Result<Option<Mended>, StoreError> {
        match self.check(number) {
            Ok(()) => return Ok(None),
            Err(error) if error.is_confined() => {}
            Err(error) => return Err(error),
        }
        let transaction = self.database.begin_read()?;
        let documents: Rows = transaction.open_table(DOCUMENTS)?;
        let row = match confined(number, || own_row(&documents, number)) {
            Ok(row) => Some(row),
            Err(error) if error.is_confined() => None,
            Err(error) => return Err(error),
        };
        let chunks: Rows = transaction.open_table(CHUNKS)?;
        let parts: Rows = transaction.open_table(SNAPSHOTS)?;
        let read = || Stored::read(&documents, &chunks, &parts, number, row.as_ref());
        let stored = match confined(number, read) {
            Err(error) if error.is_confined() => {
                // Whole pages are gone, and writing beside them would make it worse.
                self.give_up(number, None);
                return Err(error);
            }
            stored => stored?,
        };
        drop(transaction);
        let Some(mut identity) = self.identify(number, row.as_ref(), &stored)? else {
            self.give_up(number, None);
            return Err(StoreError::Absent { document: number, what: "name" });
        };
        if let Some(row) = identity.erased(row.as_ref(), stored.last().is_some(), unix_ms) {
            self.write_again(number, &row)?;
            let Identity { space, id: document, .. } = identity;
            return Ok(Some(Mended { space, document, lost: 0, orphans: 0 }));
        }
        let assessed = stored.assess(number);
        let heads = assessed.graph.heads_hash();
        let [own, latest] = identity.former;
        if latest == Some(heads.short()) {
            identity.counted = Some(heads);
        } else if own != latest {
            // One of the two rows is damaged, and nothing says which.
            identity.counted = None;
        }
        let loss = identity.loss(&assessed, Some(unix_ms));
        let written = self.write_mended(number, &identity, &stored, &assessed, loss);
        let Identity { space, id, space_number, .. } = identity;
        let loss = match written {
            Ok(loss) => loss,
            Err(error) => {
                if error.is_confined() {
                    self.give_up(number, Some(space));
                }
                return Err(error);
            }
        };
        if let Some(loss) = loss {
            self.damage.losses.insert((space_number, id), loss);
        }
        self.cache.remove(number);
        self.verified.forget(number);
        self.absent = None;
        if assessed.kept.is_empty() {
            self.recent.forget(space_number, &id);
        }
        if !assessed.orphans.is_empty() {
            self.damage.orphans.insert((space_number, id));
        }
        let orphans = assessed.orphans.len() as u64;
        Ok(Some(Mended { space, document: id, lost: assessed.lost, orphans }))
    }

    /// Writes the rows of an erased document again. It counts as it did.
    fn write_again(&mut self, number: u64, row: &DocumentRow) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        erase::put(&transaction, number, row)?;
        transaction.commit()?;
        self.cache.remove(number);
        Ok(())
    }

    /// The document's identity, by its own row, or else by the row of its last change.
    fn identify(
        &self,
        number: u64,
        row: Option<&DocumentRow>,
        stored: &Stored,
    ) -> Result<Option<Identity>, StoreError> {
        let transaction = self.database.begin_read()?;
        let latest = transaction.open_table(LATEST)?;
        let lasts = [row.map(|row| row.last), stored.last()];
        for entry in transaction.open_table(SPACES)?.iter()? {
            let (name, space) = entry?;
            let space = SpaceRow::decode(name.value(), space.value())?;
            // Only checked names were ever written.
            let Ok(name) = SpaceName::new(name.value()) else { continue };
            let mut found = None;
            for last in lasts.into_iter().flatten() {
                let stored = latest.get((space.number, last))?;
                let stored = stored.map(|stored| LatestRow::decode(stored.value()));
                found =
                    found.or_else(|| stored.filter(|it| it.number == number).map(|it| (last, it)));
            }
            if row.is_none() && stored.last().is_none() {
                // Nothing is left but that row, as of a document that was erased, and nothing says
                // where it is.
                found = last_of(&latest, space.number, number)?;
            }
            let identity = match (row, found) {
                (Some(row), _) if row.space == space.number => Identity {
                    counted: Some(row.heads),
                    ..Identity::new(name, space.number, row.id, row.collection)
                },
                (None, Some((_, it))) => {
                    Identity::new(name, space.number, it.document, it.collection)
                }
                _ => continue,
            };
            return Ok(Some(identity.was(row, found.as_ref().map(|(at, it)| (*at, it)))));
        }
        Ok(None)
    }

    fn write_mended(
        &self,
        number: u64,
        identity: &Identity,
        stored: &Stored,
        assessed: &Assessed<'_>,
        loss: Option<LossRow>,
    ) -> Result<Option<LossRow>, StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let row = document_row(identity, assessed);
        write_changes(&transaction, number, identity, stored, assessed)?;
        if let Some(at) = identity.latest {
            transaction.open_table(LATEST)?.remove((identity.space_number, at))?;
        }
        match &row {
            Some(row) => {
                let own = encode(row);
                transaction.open_table(DOCUMENTS)?.insert((number, OWN_ROW), own.as_slice())?;
                let latest = row.latest(number).encode();
                transaction.open_table(LATEST)?.insert((row.space, row.last), &latest)?;
            }
            None => forget(&transaction, number, identity)?,
        }
        count(&transaction, identity, row.as_ref())?;
        let Identity { space_number, id, .. } = identity;
        let loss = loss.map(|loss| losses::write(&transaction, *space_number, id, loss));
        let loss = loss.transpose()?;
        transaction.commit()?;
        Ok(loss)
    }
}

/// The row of the last change of a document, and where it is. It looks at all of a space, some
/// hundred nanoseconds each.
fn last_of(
    latest: &impl ReadableTable<(u32, u64), &'static [u8; LATEST_BYTES]>,
    space: u32,
    number: u64,
) -> Result<Option<(u64, LatestRow)>, StoreError> {
    for entry in latest.range((space, 0)..=(space, u64::MAX))? {
        let (key, row) = entry?;
        let row = LatestRow::decode(row.value());
        if row.number == number {
            return Ok(Some((key.value().1, row)));
        }
    }
    Ok(None)
}

/// The document's own row as it is now; `None` if nothing is left of it.
pub(super) fn document_row(identity: &Identity, assessed: &Assessed<'_>) -> Option<DocumentRow> {
    let Identity { space_number, id, collection, .. } = *identity;
    let (first, last) = (assessed.kept.first()?.position, assessed.kept.last()?.position);
    let covers = assessed.snapshot.as_ref().map_or(0, |snapshot| snapshot.covers);
    let tail = assessed.kept.iter().filter(|kept| kept.position > covers);
    let row = DocumentRow::new(space_number, id, collection, first);
    Some(DocumentRow {
        last,
        changes: assessed.kept.len() as u64,
        heads: assessed.graph.heads_hash(),
        tail_bytes: tail.map(|kept| kept.chunk.len()).sum(),
        snapshot: assessed.snapshot.clone(),
        ..row
    })
}

pub(super) fn write_changes(
    transaction: &WriteTransaction,
    number: u64,
    identity: &Identity,
    stored: &Stored,
    assessed: &Assessed<'_>,
) -> Result<(), StoreError> {
    let mut documents = transaction.open_table(DOCUMENTS)?;
    let mut chunks = transaction.open_table(CHUNKS)?;
    let mut log = transaction.open_table(LOG)?;
    documents.retain_in((number, 0)..(number, POSITIONS_END), |_, _| false)?;
    for position in stored.positions() {
        log.remove((identity.space_number, position))?;
    }
    for (rank, kept) in (0..).zip(&assessed.kept) {
        let graph = assessed.graph.encode_entry(rank);
        let row = ChangeRow { graph: &graph, chunk: kept.chunk }.encode();
        documents.insert((number, kept.position), row.as_slice())?;
        log.insert((identity.space_number, kept.position), (number, identity.collection))?;
        if !matches!(kept.chunk, Chunk::Apart(_)) {
            chunks.remove((number, kept.position))?;
        }
    }
    for position in assessed.removed() {
        chunks.remove((number, position))?;
    }
    if assessed.snapshot.is_none() {
        let mut parts = transaction.open_table(SNAPSHOTS)?;
        parts.retain_in((number, 0)..=(number, u64::MAX), |_, _| false)?;
    }
    let mut orphans = transaction.open_table(ORPHANS)?;
    for (position, chunk) in &assessed.orphans {
        orphans.insert((identity.space_number, &identity.id.0, *position), *chunk)?;
    }
    Ok(())
}

/// Takes out a document of which nothing is left, so that pushes to it make a new one.
fn forget(
    transaction: &WriteTransaction,
    number: u64,
    identity: &Identity,
) -> Result<(), StoreError> {
    transaction.open_table(DOCUMENTS)?.remove((number, OWN_ROW))?;
    transaction.open_table(INDEX)?.remove((identity.space_number, &identity.id.0))?;
    transaction.open_table(RECENT)?.remove(number)?;
    transaction.open_table(FIRST)?.remove((identity.space_number, number))?;
    Ok(())
}

/// Counts the document in the digest of its collection as it is now.
fn count(
    transaction: &WriteTransaction,
    identity: &Identity,
    row: Option<&DocumentRow>,
) -> Result<(), StoreError> {
    let key = (identity.space_number, identity.collection);
    let mut digests = transaction.open_table(DIGESTS)?;
    let counted = match &identity.counted {
        Some(counted) => {
            let stored = digests.get(key)?.map(|stored| DigestRow::decode(stored.value()));
            let mut counts = stored.unwrap_or_default();
            counts.digest.remove(&identity.id, counted);
            counts.documents = counts.documents.saturating_sub(1);
            if let Some(row) = row {
                counts.digest.insert(&row.id, &row.heads);
                counts.documents += 1;
            }
            counts
        }
        None => recount(transaction, identity)?,
    };
    digests.insert(key, &counted.encode())?;
    Ok(())
}

/// Adds up a collection from the rows of its documents, if it is not known by which heads one of
/// them was counted in. It takes some microseconds for each document of the space.
fn recount(transaction: &WriteTransaction, identity: &Identity) -> Result<DigestRow, StoreError> {
    let documents = transaction.open_table(DOCUMENTS)?;
    let latest = transaction.open_table(LATEST)?;
    let space = identity.space_number;
    let mut counts = DigestRow::default();
    for entry in latest.range((space, 0)..=(space, u64::MAX))? {
        let latest = LatestRow::decode(entry?.1.value());
        if latest.collection != identity.collection {
            continue;
        }
        let document = latest.number;
        let row = documents.get((document, OWN_ROW))?;
        let row = row.ok_or(StoreError::Absent { document, what: "row" })?;
        let row = DocumentRow::decode(document, row.value())?;
        counts.digest.insert(&row.id, &row.heads);
        counts.documents += u64::from(row.erased_ms.is_none());
    }
    Ok(counts)
}
