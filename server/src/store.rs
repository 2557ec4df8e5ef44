//! The durable state of the relay: changes as bytes, and beside them all that answering a session
//! takes.
//!
//! Positions count per space from 1, one for each change, and cursors are made of them. A document
//! belongs to one collection in one space for good; another space may hold another document with
//! the same id. The store reads no document: its change graph says all that has to be known.
//!
//! Inside, spaces, collections and documents go by numbers that are given in the order of arrival;
//! see `tables` for why.

mod authors;
pub mod backup;
mod batch;
mod cache;
mod carried;
mod damage;
mod devices;
mod erase;
mod error;
pub(crate) mod file;
mod fold;
mod guard;
mod index;
mod losses;
mod mend;
mod migrate;
mod open;
mod pages;
mod parcel;
mod reads;
mod revoked;
mod salvage;
mod scrub;
mod spaces;
mod tables;
mod uploads;
mod verify;
mod write;

use std::sync::Arc;

use redb::{Database, Durability};
use rejoin_core::change::Place;
use rejoin_core::{ChangeGraph, CollectionName, DocumentId, RelayId, SpaceName};

pub use carried::{Carried, CarriedRow};
pub(crate) use damage::Orphaned;
pub use devices::{DeviceMark, DeviceRow};
pub use erase::Erasure;
pub use error::StoreError;
pub use fold::{FoldError, FoldInput, TailPolicy};
pub(crate) use fold::{Folded, Tail};
pub(crate) use guard::unpanicked;
pub use losses::Loss;
pub(crate) use mend::Mended;
pub use pages::{Latest, LogChunk, LogEntry, LogPage, Size};
pub use reads::{CollectionContent, SpaceState};
pub use revoked::Revoked;
pub use salvage::{Lost, SalvageError, Salvaged, salvage};
pub(crate) use scrub::Scrub;

use batch::Batch;
use cache::GraphCache;
use damage::Damage;
use devices::Devices;
use index::Recent;
use open::Numbers;
use revoked::RevokedTable;
use spaces::Spaces;
pub(crate) use tables::FIRST_COLLECTION;
use tables::IDENTITY;
use uploads::Uploads;
use verify::Verified;

/// The relay's store on one redb database.
///
/// Writing has two steps: [`stage`](Self::stage) changes that were admitted, then
/// [`commit`](Self::commit) them all at once. Nothing staged may be told to anyone before the
/// commit returned `Ok`; reads of parts, positions and digests see only committed changes.
///
/// After a failed commit nobody knows the state of the disk, so the store forgets all it had in
/// memory and refuses to go on. Open it again.
#[derive(Debug)]
pub struct ChangeStore {
    database: Database,
    relay: RelayId,
    /// The epoch of spaces that are new.
    epoch: [u8; 16],
    /// The last numbers given, staged ones included.
    numbers: Numbers,
    /// The newest documents.
    recent: Recent,
    /// A document that there is not: admission asks for each new one several times over.
    absent: Option<(u32, DocumentId)>,
    cache: GraphCache,
    spaces: Spaces,
    uploads: Uploads,
    devices: Devices,
    batch: Batch,
    verified: Verified,
    damage: Damage,
    revoked: RevokedTable,
    graphs_loaded: u64,
    failed: bool,
    /// Whether pages of the file may still hold something that was erased.
    is_overwrite_due: bool,
    /// Cloned for everybody who reads the store for longer than a call.
    reader: Reader,
}

/// Somebody who may see pages of the file that are not in use any more.
type Reader = Arc<()>;

/// A known document, as admission sees it.
#[derive(Debug)]
pub struct Known<'a> {
    /// Whether it belongs to the collection asked for.
    pub is_at_home: bool,
    /// Whether an operator erased it: then it has no changes, and takes none.
    pub is_erased: bool,
    /// Its changes, those staged included.
    pub graph: &'a ChangeGraph,
}

impl ChangeStore {
    /// The document if its space knows it, staged changes included.
    ///
    /// # Errors
    /// The database cannot be read, or this document is damaged.
    pub fn known(&mut self, place: &Place<'_>) -> Result<Option<Known<'_>>, StoreError> {
        let collection = self.cached_space(place.space)?.and_then(|it| it.number(place.collection));
        Ok(self.load(place.space, place.document)?.map(|cached| Known {
            is_at_home: Some(cached.row.collection) == collection,
            is_erased: cached.row.erased_ms.is_some(),
            graph: &cached.graph,
        }))
    }

    /// The collection of a document, and its changes, those staged included.
    pub(crate) fn document(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
    ) -> Result<Option<(&CollectionName, &ChangeGraph)>, StoreError> {
        let Some(number) = self.load(space, document)?.map(|cached| cached.number) else {
            return Ok(None);
        };
        let Self { cache, spaces, .. } = self;
        let cached = cache.get(number).ok_or(StoreError::Failed)?;
        let name = spaces.get(space).and_then(|space| space.name(cached.row.collection));
        let absent = StoreError::Absent { document: number, what: "collection" };
        Ok(Some((name.ok_or(absent)?, &cached.graph)))
    }

    /// Writes and commits something small, to see whether the disk still takes it.
    ///
    /// # Errors
    /// It does not. Reopen the store.
    pub fn probe(&mut self) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        let probed = self.write_probe();
        if probed.is_err() {
            self.fail();
        }
        probed
    }

    /// Moves what is in the file together, so that it becomes shorter. It takes seconds for each
    /// gigabyte, and nothing else is done meanwhile.
    ///
    /// # Errors
    /// A backup reads the store; or the database cannot be written, and is to be opened again.
    pub fn shrink(&mut self) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed);
        }
        match self.database.compact() {
            Ok(_) => Ok(()),
            Err(redb::CompactionError::Storage(error)) => {
                self.fail();
                Err(error.into())
            }
            Err(_) => Err(StoreError::Busy),
        }
    }

    /// Whether a backup, or the folding of a document, reads the store at this moment.
    pub(crate) fn is_read_elsewhere(&self) -> bool {
        Arc::strong_count(&self.reader) > 1
    }

    /// The id of the relay that this store belongs to.
    pub fn relay(&self) -> RelayId {
        self.relay
    }

    /// Change graphs read from the database since the store was opened.
    pub fn graphs_loaded(&self) -> u64 {
        self.graphs_loaded
    }

    /// Bytes of the change graphs in memory.
    pub fn graph_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Whether something failed, and the store is to be opened again.
    pub fn is_failed(&self) -> bool {
        self.failed
    }

    /// Forgets everything in memory, which may differ from the disk.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
        self.absent = None;
        self.cache.clear();
        self.spaces.clear();
        self.uploads = Uploads::default();
        self.devices = Devices::default();
        self.batch = Batch::default();
    }

    fn write_probe(&self) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.open_table(IDENTITY)?.insert("relay", &self.relay.0)?;
        transaction.commit()?;
        Ok(())
    }

    /// Keeps the memory within its budget, but never drops the document that was used last, or
    /// those that the batch is ahead of.
    fn evict(&mut self) {
        let batch = &self.batch;
        self.cache.evict(|document| batch.holds(document));
        self.shed_spaces();
    }
}
