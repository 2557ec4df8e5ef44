//! What the relay's database holds.
//!
//! A table whose layout changes gets the next number in its name, and a migration that can run twice.

use minicbor::{Decode, Encode};
use redb::TableDefinition;
use rejoin_core::limits::FRAME_PAYLOAD_BYTES;
use rejoin_core::{CollectionName, DocumentId, Epoch, HeadsHash, ShortHash, SpaceName};

use super::StoreError;

/// Table: who this store is
/// Key:   `&str`      # "relay", or "epoch" of spaces that are new
/// Value: `&[u8; 16]` # drawn when the store was made
pub(super) const IDENTITY: TableDefinition<'_, &str, &[u8; 16]> =
    TableDefinition::new("identity-1");

/// Table: spaces that hold something
/// Key:   `&str`  # name
/// Value: `&[u8]` # [`SpaceRow`], CBOR
pub(super) const SPACES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("spaces-1");

/// Table: documents
/// Key:   `&[u8; 16]` # document
/// Value: `&[u8]`     # [`DocumentRow`], CBOR
pub(super) const DOCUMENTS: TableDefinition<'_, &[u8; 16], &[u8]> =
    TableDefinition::new("documents-1");

/// Table: changes as they came, less those that were folded into a snapshot
/// Key:   `(&[u8; 16], u64)` # (document, position in its space)
/// Value: `&[u8]`            # an Automerge change chunk
pub(super) const CHANGES: TableDefinition<'_, (&[u8; 16], u64), &[u8]> =
    TableDefinition::new("changes-1");

/// Table: change graphs; a row stays when its change is folded
/// Key:   `(&[u8; 16], u64)` # (document, position in its space)
/// Value: `&[u8]`            # `ChangeGraph::encode_entry`, ranks in the order of positions
pub(super) const GRAPH: TableDefinition<'_, (&[u8; 16], u64), &[u8]> =
    TableDefinition::new("graph-1");

/// Table: the last write of each document, in the order they happened
/// Key:   `(&str, u64)` # (space, position)
/// Value: `&[u8; 32]`   # [`LogRow`]: enough for a cursor and a repair, without the document's row
pub(super) const LOG: TableDefinition<'_, (&str, u64), &[u8; 32]> = TableDefinition::new("log-1");

/// Table: digests of what collections hold
/// Key:   `(&str, &str)` # (space, collection)
/// Value: `&[u8; 32]`    # `SetDigest::to_bytes`
pub(super) const DIGESTS: TableDefinition<'_, (&str, &str), &[u8; 32]> =
    TableDefinition::new("digests-1");

/// Table: snapshots, in parts
/// Key:   `(&[u8; 16], u64)` # (document, where the part begins in bytes)
/// Value: `&[u8]`            # [`SNAPSHOT_PART_BYTES`] of an Automerge document chunk, or the rest
pub(super) const SNAPSHOTS: TableDefinition<'_, (&[u8; 16], u64), &[u8]> =
    TableDefinition::new("snapshots-1");

/// Table: how old positions are
/// Key:   `(&str, u64)` # (space, hours since 1970)
/// Value: `u64`         # the first position taken in that hour
pub(super) const HOURS: TableDefinition<'_, (&str, u64), u64> = TableDefinition::new("hours-1");

/// Bytes of a snapshot in one row. A little under a power of two, because the database rounds
/// a large row up to one.
pub(super) const SNAPSHOT_PART_BYTES: usize = FRAME_PAYLOAD_BYTES - 1024;

/// One space.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct SpaceRow {
    #[n(0)]
    pub(super) epoch: Epoch,
    /// The last position taken; positions count from 1.
    #[n(1)]
    pub(super) position: u64,
    /// The last hour in [`HOURS`].
    #[n(2)]
    pub(super) hour: u64,
}

/// One document.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct DocumentRow {
    #[n(0)]
    pub(super) space: SpaceName,
    #[n(1)]
    pub(super) collection: CollectionName,
    /// Position of its first change.
    #[n(2)]
    pub(super) first: u64,
    /// Position of its last change.
    #[n(3)]
    pub(super) last: u64,
    /// How many changes it has.
    #[n(4)]
    pub(super) changes: u64,
    /// Over all of its heads.
    #[n(5)]
    pub(super) heads: HeadsHash,
    /// Bytes of the changes that no snapshot covers.
    #[n(6)]
    pub(super) tail_bytes: u64,
    #[n(7)]
    pub(super) snapshot: Option<SnapshotRow>,
}

/// A document's snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct SnapshotRow {
    /// The last position it covers.
    #[n(0)]
    pub(super) covers: u64,
    /// How many changes it covers.
    #[n(1)]
    pub(super) changes: u64,
    /// Its bytes.
    #[n(2)]
    pub(super) bytes: u64,
    /// Changes up to this position are gone from [`CHANGES`]; 0 if none are.
    #[n(3)]
    pub(super) folded: u64,
}

impl DocumentRow {
    /// A row of a document without a change yet.
    pub(super) fn new(space: SpaceName, collection: CollectionName, first: u64) -> Self {
        let heads = rejoin_core::heads_hash(&[]);
        Self { space, collection, first, last: 0, changes: 0, heads, tail_bytes: 0, snapshot: None }
    }

    /// How many changes no snapshot covers.
    pub(super) fn tail_changes(&self) -> u64 {
        self.changes - self.snapshot.as_ref().map_or(0, |snapshot| snapshot.changes)
    }

    /// Reads the row of `document`.
    pub(super) fn decode(document: &DocumentId, row: &[u8]) -> Result<Self, StoreError> {
        minicbor::decode(row)
            .map_err(|source| StoreError::DocumentRow { document: *document, source })
    }
}

impl SpaceRow {
    /// Reads the row of `space`.
    pub(super) fn decode(space: &str, row: &[u8]) -> Result<Self, StoreError> {
        minicbor::decode(row)
            .map_err(|source| StoreError::SpaceRow { space: space.to_owned(), source })
    }
}

/// Encodes a row.
pub(super) fn encode<T: Encode<()>>(row: &T) -> Vec<u8> {
    minicbor::to_vec(row).expect("encoding into a Vec cannot fail")
}

/// The last write of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogRow {
    pub(super) document: DocumentId,
    /// Over all of its heads, as a repair compares them.
    pub(super) heads: ShortHash,
    /// Position of its first change.
    pub(super) first: u64,
}

impl LogRow {
    pub(super) fn encode(&self) -> [u8; 32] {
        let mut row = [0; 32];
        row[..16].copy_from_slice(&self.document.0);
        row[16..24].copy_from_slice(&self.heads.0);
        row[24..].copy_from_slice(&self.first.to_le_bytes());
        row
    }

    pub(super) fn decode(row: &[u8; 32]) -> Self {
        let (mut document, mut heads, mut first) = ([0; 16], [0; 8], [0; 8]);
        document.copy_from_slice(&row[..16]);
        heads.copy_from_slice(&row[16..24]);
        first.copy_from_slice(&row[24..]);
        Self {
            document: DocumentId(document),
            heads: ShortHash(heads),
            first: u64::from_le_bytes(first),
        }
    }
}
