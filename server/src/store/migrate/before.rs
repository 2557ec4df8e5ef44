//! The layout of the version before, as far as taking it over needs it: there, the random ids of
//! documents were the keys, and a document was in one space only.

use minicbor::{Decode, Encode};
use redb::TableDefinition;
use rejoin_core::{CollectionName, DocumentId, Epoch, HeadsHash, ShortHash, SpaceName};

use crate::store::tables::SnapshotRow;

/// Table: who this store is
/// Key:   `&str`      # "relay", or "epoch" of spaces that are new
/// Value: `&[u8; 16]`
pub(super) const IDENTITY: TableDefinition<'_, &str, &[u8; 16]> =
    TableDefinition::new("identity-1");

/// Table: spaces that hold something
/// Key:   `&str`  # name
/// Value: `&[u8]` # [`SpaceRow`], CBOR
pub(super) const SPACES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("spaces-1");

/// Table: documents and their changes
/// Key:   `(&[u8; 16], u64)` # (document, position in its space); `u64::MAX` for its own row
/// Value: `&[u8]`            # as now; [`DocumentRow`], CBOR, in its own row
pub(super) const DOCUMENTS: ById = TableDefinition::new("documents-1");

/// Table: large changes
/// Key:   `(&[u8; 16], u64)` # (document, position in its space)
/// Value: `&[u8]`            # as now
pub(super) const CHUNKS: ById = TableDefinition::new("chunks-1");

/// Table: snapshots, in parts
/// Key:   `(&[u8; 16], u64)` # (document, where the part begins in bytes)
/// Value: `&[u8]`            # as now
pub(super) const SNAPSHOTS: ById = TableDefinition::new("snapshots-1");

/// Table: the last write of each document, in the order they happened
/// Key:   `(&str, u64)` # (space, position)
/// Value: `&[u8; 32]`   # [`LogRow`]
pub(super) const LOG: TableDefinition<'_, (&str, u64), &[u8; 32]> = TableDefinition::new("log-1");

/// Table: digests of what collections hold
/// Key:   `(&str, &str)` # (space, collection)
/// Value: `&[u8; 32]`    # as now, without a number of documents
pub(super) const DIGESTS: TableDefinition<'_, (&str, &str), &[u8; 32]> =
    TableDefinition::new("digests-1");

/// Table: how old positions are
/// Key:   `(&str, u64)` # (space, hours since 1970)
/// Value: `u64`         # the first position taken in that hour
pub(super) const HOURS: TableDefinition<'_, (&str, u64), u64> = TableDefinition::new("hours-1");

type ById = TableDefinition<'static, (&'static [u8; 16], u64), &'static [u8]>;

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct SpaceRow {
    #[n(0)]
    pub(super) epoch: Epoch,
    #[n(1)]
    pub(super) position: u64,
    #[n(2)]
    pub(super) hour: u64,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct DocumentRow {
    #[n(0)]
    pub(super) space: SpaceName,
    #[n(1)]
    pub(super) collection: CollectionName,
    #[n(2)]
    pub(super) first: u64,
    #[n(3)]
    pub(super) last: u64,
    #[n(4)]
    pub(super) changes: u64,
    #[n(5)]
    pub(super) heads: HeadsHash,
    #[n(6)]
    pub(super) tail_bytes: u64,
    #[n(7)]
    pub(super) snapshot: Option<SnapshotRow>,
}

/// A document at the position of its last change.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogRow {
    pub(super) document: DocumentId,
    pub(super) heads: ShortHash,
    /// Position of its first change.
    pub(super) first: u64,
}

impl LogRow {
    pub(super) fn decode(row: &[u8; 32]) -> Self {
        let (mut document, mut heads, mut first) = ([0; 16], [0; 8], [0; 8]);
        document.copy_from_slice(&row[..16]);
        heads.copy_from_slice(&row[16..24]);
        first.copy_from_slice(&row[24..]);
        let first = u64::from_le_bytes(first);
        Self { document: DocumentId(document), heads: ShortHash(heads), first }
    }
}
