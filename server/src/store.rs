//! What the relay keeps: changes as bytes, and beside them what answering a session takes.
//!
//! Positions count per space from 1, one for each change, and are what a cursor means. A document
//! belongs to one collection in one space for good. Nothing in here reads a document: its change
//! graph says all that has to be known.

mod batch;
mod cache;
mod error;
mod fold;
mod parcel;
mod reads;
mod tables;

use std::collections::BTreeMap;

use redb::{Database, Durability, ReadableTable};
use rejoin_core::change::Place;
use rejoin_core::{ChangeGraph, DocumentId, RelayId, SpaceName};

pub use error::StoreError;
pub use fold::{FoldError, FoldInput, TailPolicy};
pub(crate) use fold::{Folded, Tail};
pub use reads::SpaceState;

use batch::Batch;
use cache::GraphCache;
pub(crate) use tables::DocumentRow;
use tables::{CHUNKS, DIGESTS, DOCUMENTS, HOURS, IDENTITY, LOG, SNAPSHOTS, SPACES, SpaceRow};

/// The relay's store on one redb database.
///
/// Writing has two steps: [`stage`](Self::stage) what was admitted, then
/// [`commit`](Self::commit) it all at once. Nothing staged may be told to anyone before the commit
/// returned `Ok`; reads of parts, positions and digests see only what is committed.
///
/// After a failed commit nobody knows what the disk holds, so the store forgets what it had in
/// memory and refuses to go on. Open it again.
#[derive(Debug)]
pub struct ChangeStore {
    database: Database,
    relay: RelayId,
    /// The epoch of spaces that are new.
    epoch: [u8; 16],
    cache: GraphCache,
    spaces: BTreeMap<SpaceName, SpaceRow>,
    batch: Batch,
    graphs_loaded: u64,
    failed: bool,
}

/// A known document, as admission sees it.
#[derive(Debug)]
pub struct Known<'a> {
    /// Whether it belongs to the space and the collection asked for.
    pub is_at_home: bool,
    /// Its changes, those staged included.
    pub graph: &'a ChangeGraph,
}

impl ChangeStore {
    /// Opens a store, or makes one in an empty database. `fresh_ids` is asked for random bytes only
    /// when one is made; `graph_bytes_max` bounds the change graphs kept in memory.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub fn open(
        database: Database,
        graph_bytes_max: usize,
        mut fresh_ids: impl FnMut() -> [u8; 16],
    ) -> Result<Self, StoreError> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let (relay, epoch) = {
            let mut identity = transaction.open_table(IDENTITY)?;
            let mut stored_or_fresh = |name: &str| -> Result<[u8; 16], StoreError> {
                if let Some(stored) = identity.get(name)? {
                    return Ok(*stored.value());
                }
                let fresh = fresh_ids();
                identity.insert(name, &fresh)?;
                Ok(fresh)
            };
            (stored_or_fresh("relay")?, stored_or_fresh("epoch")?)
        };
        create_tables(&transaction)?;
        transaction.commit()?;
        Ok(Self {
            database,
            relay: RelayId(relay),
            epoch,
            cache: GraphCache::new(graph_bytes_max),
            spaces: BTreeMap::new(),
            batch: Batch::default(),
            graphs_loaded: 0,
            failed: false,
        })
    }

    /// The document if it is known, staged changes included.
    pub fn known(&mut self, place: &Place<'_>) -> Result<Option<Known<'_>>, StoreError> {
        Ok(self.load(place.document)?.map(|held| Known {
            is_at_home: held.row.space == *place.space && held.row.collection == *place.collection,
            graph: &held.graph,
        }))
    }

    /// Where a document belongs, and its changes, those staged included.
    pub(crate) fn document(
        &mut self,
        document: &DocumentId,
    ) -> Result<Option<(&DocumentRow, &ChangeGraph)>, StoreError> {
        Ok(self.load(document)?.map(|held| (&held.row, &held.graph)))
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

    /// Who this store is.
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

    /// Forgets everything in memory: it may not be what the disk holds.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
        self.cache.clear();
        self.spaces.clear();
        self.batch = Batch::default();
    }

    fn write_probe(&self) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.open_table(IDENTITY)?.insert("relay", &self.relay.0)?;
        transaction.commit()?;
        Ok(())
    }

    /// Keeps the memory within its budget, but never drops what was used last or what the batch is
    /// ahead of.
    fn evict(&mut self) {
        let batch = &self.batch;
        self.cache.evict(|document| batch.holds(document));
        if batch.is_empty() && self.spaces.len() > SPACES_MAX {
            self.spaces.clear();
        }
    }
}

/// So that no read has to ask whether a table is there.
fn create_tables(transaction: &redb::WriteTransaction) -> Result<(), StoreError> {
    transaction.open_table(SPACES)?;
    transaction.open_table(DOCUMENTS)?;
    transaction.open_table(CHUNKS)?;
    transaction.open_table(LOG)?;
    transaction.open_table(DIGESTS)?;
    transaction.open_table(SNAPSHOTS)?;
    transaction.open_table(HOURS)?;
    Ok(())
}

/// Rows of spaces kept in memory.
const SPACES_MAX: usize = 1024;
