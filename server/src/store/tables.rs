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

/// Table: documents and their changes; all of one document side by side, so that a push to it
/// writes one page and not one in each of several tables
/// Key:   `(&[u8; 16], u64)` # (document, position in its space); [`OWN_ROW`] for its own row
/// Value: `&[u8]`            # [`ChangeRow`]; [`DocumentRow`], CBOR, in its own row
pub(super) const DOCUMENTS: TableDefinition<'_, (&[u8; 16], u64), &[u8]> =
    TableDefinition::new("documents-1");

/// Table: large changes, so that a change graph is read without them
/// Key:   `(&[u8; 16], u64)` # (document, position in its space)
/// Value: `&[u8]`            # an Automerge change chunk of more than [`INLINE_BYTES_MAX`]
pub(super) const CHUNKS: TableDefinition<'_, (&[u8; 16], u64), &[u8]> =
    TableDefinition::new("chunks-1");

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

/// The place of a document's own row, after those of its changes: a push writes the last of them.
pub(super) const OWN_ROW: u64 = u64::MAX;

/// Bytes of a change that stands in the row of its document.
pub(super) const INLINE_BYTES_MAX: usize = 1024;

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
pub(crate) struct DocumentRow {
    #[n(0)]
    pub(crate) space: SpaceName,
    #[n(1)]
    pub(crate) collection: CollectionName,
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
pub(crate) struct SnapshotRow {
    /// The last position it covers.
    #[n(0)]
    pub(super) covers: u64,
    /// How many changes it covers.
    #[n(1)]
    pub(super) changes: u64,
    /// Its bytes.
    #[n(2)]
    pub(super) bytes: u64,
    /// The chunks of changes up to this position are gone; 0 if none are.
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

/// One change.
///
/// | bytes | what |
/// |---|---|
/// | 1 | where the chunk is: 0 nowhere, 1 here, 2 in [`CHUNKS`] |
/// | 2 | bytes of the graph row, little endian |
/// | | the graph row: `ChangeGraph::encode_entry`, ranks in the order of positions |
/// | | the chunk, if it is here; its length in 4 bytes, little endian, if it is apart |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChangeRow<'a> {
    pub(super) graph: &'a [u8],
    pub(super) chunk: Chunk<'a>,
}

/// Where a change's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk<'a> {
    /// In a snapshot only.
    Folded,
    Inline(&'a [u8]),
    /// In [`CHUNKS`], with so many bytes.
    Apart(u32),
}

impl<'a> ChangeRow<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, rest) = match self.chunk {
            Chunk::Folded => (0, Vec::new()),
            Chunk::Inline(chunk) => (1, chunk.to_vec()),
            Chunk::Apart(len) => (2, len.to_le_bytes().to_vec()),
        };
        // An actor and 256 dependencies: some 1,500 bytes at most.
        let graph_len = self.graph.len() as u16;
        [&[kind][..], &graph_len.to_le_bytes(), self.graph, &rest].concat()
    }

    /// Reads the row of a change of `document`.
    pub(super) fn decode(document: &DocumentId, row: &'a [u8]) -> Result<Self, StoreError> {
        Self::parse(row)
            .ok_or(StoreError::Absent { document: *document, what: "end of a change's row" })
    }

    fn parse(row: &'a [u8]) -> Option<Self> {
        let (&[kind, low, high], rest) = row.split_first_chunk::<3>()?;
        let (graph, rest) = rest.split_at_checked(u16::from_le_bytes([low, high]).into())?;
        let chunk = match kind {
            0 => Chunk::Folded,
            1 => Chunk::Inline(rest),
            2 => Chunk::Apart(u32::from_le_bytes(*rest.first_chunk()?)),
            _ => return None,
        };
        Some(Self { graph, chunk })
    }
}

impl Chunk<'_> {
    /// Bytes of the chunk, wherever it is; 0 if it was folded.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Folded => 0,
            Self::Inline(chunk) => chunk.len() as u64,
            Self::Apart(len) => u64::from(*len),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_rows_round_trip() {
        for chunk in [Chunk::Folded, Chunk::Inline(b"chunk"), Chunk::Apart(70_000)] {
            let row = ChangeRow { graph: &[7; 300], chunk };
            let encoded = row.encode();
            assert_eq!(ChangeRow::parse(&encoded), Some(row));
            for len in 0..encoded.len().min(303) {
                assert_eq!(ChangeRow::parse(&encoded[..len]), None);
            }
        }
        assert_eq!(ChangeRow::parse(&[9, 0, 0]), None);
    }

    #[test]
    fn log_rows_round_trip() {
        let row = LogRow { document: DocumentId([3; 16]), heads: ShortHash([5; 8]), first: 70_000 };
        assert_eq!(LogRow::decode(&row.encode()), row);
    }
}
