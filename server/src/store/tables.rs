//! The tables of the relay's database.
//!
//! Of the tables that every document is in only [`INDEX`] has random keys, and it is written in their
//! order; uploads and changes that are held back after damage have such keys, too, and are few.
//! Everything else is keyed by small numbers in the order of arrival, so that new rows stand at the end of each table, beside
//! those that were just written: a commit of many documents touches few pages, even in a large
//! store.
//!
//! A table whose layout changes gets the next number in its name, and a migration that can run
//! twice.

use minicbor::{Decode, Encode};
use redb::TableDefinition;
use rejoin_core::change;
use rejoin_core::limits::FRAME_PAYLOAD_BYTES;
use rejoin_core::{ChangeGraph, DocumentId, Epoch, HeadsHash, SetDigest, ShortHash};

use super::StoreError;

/// Table: numbers of the whole store. Programs of the version before know a table of this name with
/// another type, and so refuse the file instead of taking it for an empty one
/// Key:   `&str` # "format" of the file; the last number given in "documents" and in "spaces";
///               # and up to which document all are in [`INDEX`] when the present "round" ends
/// Value: `u64`
pub(super) const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("identity-1");

/// Table: the identity of this store
/// Key:   `&str`      # "relay", or "epoch" of spaces that are new
/// Value: `&[u8; 16]` # drawn when the store was made
pub(super) const IDENTITY: TableDefinition<'_, &str, &[u8; 16]> =
    TableDefinition::new("identity-2");

/// Table: spaces that hold something
/// Key:   `&str`  # name
/// Value: `&[u8]` # [`SpaceRow`], CBOR
pub(super) const SPACES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("spaces-2");

/// Table: collections that hold something
/// Key:   `(u32, &str)` # (space, name)
/// Value: `u32`         # its number in the space, from 1 in the order of arrival
pub(super) const COLLECTIONS: TableDefinition<'_, (u32, &str), u32> =
    TableDefinition::new("collections-2");

/// Table: all documents, except those in [`RECENT`]. The same id may be in two spaces, and is two
/// documents then
/// Key:   `(u32, &[u8; 16])` # (space, document id)
/// Value: `u64`              # its number in the store, from 1 in the order of arrival. Numbers are
///                           # below 2^63: the highest bit is kept free to say that the document was
///                           # erased and its id must not come back
pub(super) const INDEX: TableDefinition<'_, (u32, &[u8; 16]), u64> =
    TableDefinition::new("index-2");

/// Table: the newest documents, in the order they came: those that [`INDEX`] may not have
/// Key:   `u64`              # document; 0 for the one that was last filed into the index
/// Value: `(u32, &[u8; 16])` # (space, document id)
pub(super) const RECENT: TableDefinition<'_, u64, (u32, &[u8; 16])> =
    TableDefinition::new("recent-2");

/// Table: documents and their changes; all of one document side by side, so that a push to it
/// writes one page and not one in each of several tables
/// Key:   `(u64, u64)` # (document, position in its space); [`OWN_ROW`] for its own row. Between
///                     # [`POSITIONS_END`] and that is room for what a document has beside its
///                     # changes, as the principal of each of its actors
/// Value: `&[u8]`      # [`ChangeRow`]; [`DocumentRow`], CBOR, in its own row
pub(super) const DOCUMENTS: TableDefinition<'_, (u64, u64), &[u8]> =
    TableDefinition::new("documents-2");

/// Table: large changes, so that a change graph is read without them
/// Key:   `(u64, u64)` # (document, position in its space)
/// Value: `&[u8]`      # an Automerge change chunk of more than [`INLINE_BYTES_MAX`]
pub(super) const CHUNKS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("chunks-2");

/// Table: snapshots, in parts
/// Key:   `(u64, u64)` # (document, where the part begins in bytes)
/// Value: `&[u8]`      # [`SNAPSHOT_PART_BYTES`] of an Automerge document chunk, or the rest
pub(super) const SNAPSHOTS: TableDefinition<'_, (u64, u64), &[u8]> =
    TableDefinition::new("snapshots-2");

/// Table: every change, in the order they came
/// Key:   `(u32, u64)` # (space, position)
/// Value: `(u64, u32)` # (document, collection)
pub(super) const LOG: TableDefinition<'_, (u32, u64), (u64, u32)> = TableDefinition::new("log-2");

/// Table: the last change of each document, in the order they came
/// Key:   `(u32, u64)`             # (space, position)
/// Value: `&[u8; LATEST_BYTES]`    # [`LatestRow`]: enough for a cursor and a repair, without the
///                                 # document's row
pub(super) const LATEST: TableDefinition<'_, (u32, u64), &[u8; LATEST_BYTES]> =
    TableDefinition::new("latest-2");

/// Table: the digests of collections
/// Key:   `(u32, u32)`   # (space, collection)
/// Value: `&[u8; 40]`    # [`DigestRow`]
pub(super) const DIGESTS: TableDefinition<'_, (u32, u32), &[u8; 40]> =
    TableDefinition::new("digests-2");

/// Table: documents that a new replica needs before all others: those of [`FIRST_COLLECTION`]
/// Key:   `(u32, u64)` # (space, document)
/// Value: `&[u8; 16]`  # document id
pub(super) const FIRST: TableDefinition<'_, (u32, u64), &[u8; 16]> =
    TableDefinition::new("first-2");

/// Table: how old positions are
/// Key:   `(u32, u64)` # (space, hours since 1970)
/// Value: `u64`        # the first position taken in that hour
pub(super) const HOURS: TableDefinition<'_, (u32, u64), u64> = TableDefinition::new("hours-2");

/// Table: long changes that replicas push in parts
/// Key:   `(&[u8; 16], &[u8; 32])` # (device, change hash)
/// Value: `&[u8]`                  # [`UploadRow`], CBOR
pub(super) const UPLOADS: TableDefinition<'_, (&[u8; 16], &[u8; 32]), &[u8]> =
    TableDefinition::new("uploads-2");

/// Table: the parts of those that have come
/// Key:   `(&[u8; 16], &[u8; 32], u64)` # (device, change hash, where the part begins in bytes)
/// Value: `&[u8]`                       # the part
pub(super) const UPLOAD_PARTS: TableDefinition<'_, UploadPart, &[u8]> =
    TableDefinition::new("upload-parts-2");

/// Table: changes that build on one that was damaged and taken out: they are taken in again when that
/// one is pushed again
/// Key:   `(u32, &[u8; 16], u64)` # (space, document id, the position it had)
/// Value: `&[u8]`                 # an Automerge change chunk
pub(super) const ORPHANS: TableDefinition<'_, OrphanKey, &[u8]> =
    TableDefinition::new("held-back-2");

/// Table: documents of which changes were lost to damage and not brought back
/// Key:   `(u32, &[u8; 16])` # (space, document id)
/// Value: `&[u8]`            # [`LossRow`](super::losses::LossRow), CBOR
pub(super) const LOSSES: TableDefinition<'_, (u32, &[u8; 16]), &[u8]> =
    TableDefinition::new("lost-2");

/// Table: documents that were erased, of which something may still be in pages of the file
/// Key:   `u64` # document
/// Value: `()`
pub(super) const OVERWRITE: TableDefinition<'_, u64, ()> = TableDefinition::new("overwrite-2");

/// Table: the authors of actors, where the relay knows who brought their first change
/// Key:   `(u64, &[u8])` # (document, actor)
/// Value: `&[u8]`        # the author as that change carries it; empty for nobody
pub(super) const AUTHORS: TableDefinition<'_, (u64, &[u8]), &[u8]> =
    TableDefinition::new("authors-2");

/// Table: changes that were taken from somebody else than their author
/// Key:   `(u64, &[u8; 32])` # (document, change hash)
/// Value: `&[u8]`            # [`CarriedRow`](super::CarriedRow), CBOR
pub(super) const CARRIED: TableDefinition<'_, (u64, &[u8; 32]), &[u8]> =
    TableDefinition::new("carried-2");

/// Table: whom an operator shut out
/// Key:   `&str` # `user:NAME`, `device:ID` or `token:ID`
/// Value: `u64`  # since when, in seconds since 1970
pub(super) const REVOKED: TableDefinition<'_, &str, u64> = TableDefinition::new("revoked-2");

/// Table: devices that were here
/// Key:   `&[u8; 16]` # device id
/// Value: `&[u8]`     # [`DeviceRow`](super::DeviceRow), CBOR
pub(super) const DEVICES: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("devices-2");

type OrphanKey = (u32, &'static [u8; 16], u64);

type UploadPart = (&'static [u8; 16], &'static [u8; 32], u64);

/// The layout of the file that this program reads and writes.
pub(super) const FORMAT: u64 = 2;

/// The collection whose documents say how others merge.
pub(crate) const FIRST_COLLECTION: &str = "rejoin.schemas";

/// Positions are below.
pub(super) const POSITIONS_END: u64 = 1 << 63;

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
    /// Its number in the store, from 1 in the order of arrival.
    #[n(0)]
    pub(super) number: u32,
    #[n(1)]
    pub(super) epoch: Epoch,
    /// The last position taken; positions count from 1.
    #[n(2)]
    pub(super) position: u64,
    /// The last hour in [`HOURS`].
    #[n(3)]
    pub(super) hour: u64,
    /// Bytes of its changes as they came; not known in a file of before until somebody asks.
    #[n(4)]
    pub(super) bytes: Option<u64>,
}

/// One document.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct DocumentRow {
    /// The number of its space.
    #[n(0)]
    pub(super) space: u32,
    #[n(1)]
    pub(super) id: DocumentId,
    /// The number of its collection in the space.
    #[n(2)]
    pub(super) collection: u32,
    /// Position of its first change.
    #[n(3)]
    pub(super) first: u64,
    /// Position of its last change.
    #[n(4)]
    pub(super) last: u64,
    /// The number of its changes.
    #[n(5)]
    pub(super) changes: u64,
    /// Over all of its heads.
    #[n(6)]
    pub(super) heads: HeadsHash,
    /// Bytes of the changes that no snapshot covers.
    #[n(7)]
    pub(super) tail_bytes: u64,
    #[n(8)]
    pub(super) snapshot: Option<SnapshotRow>,
    /// The time at which an operator erased it, in milliseconds since 1970. It has no changes then,
    /// and its first and last positions are that of the erasure.
    #[n(9)]
    pub(super) erased_ms: Option<u64>,
}

/// A document's snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct SnapshotRow {
    /// The last position it covers.
    #[n(0)]
    pub(super) covers: u64,
    /// The number of changes it covers.
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
    pub(super) fn new(space: u32, id: DocumentId, collection: u32, first: u64) -> Self {
        let heads = rejoin_core::heads_hash(&[]);
        let (last, changes, tail_bytes, snapshot, erased_ms) = (0, 0, 0, None, None);
        Self { space, id, collection, first, last, changes, heads, tail_bytes, snapshot, erased_ms }
    }

    /// A row of a document that was erased at a position of the log.
    pub(super) fn erased(
        space: u32,
        id: DocumentId,
        collection: u32,
        position: u64,
        erased_ms: u64,
    ) -> Self {
        let (heads, erased_ms) = (HeadsHash::ERASED, Some(erased_ms));
        Self { last: position, heads, erased_ms, ..Self::new(space, id, collection, position) }
    }

    /// The number of changes that no snapshot covers.
    pub(super) fn tail_changes(&self) -> u64 {
        self.changes - self.snapshot.as_ref().map_or(0, |snapshot| snapshot.changes)
    }

    /// Its row in [`LATEST`].
    pub(super) fn latest(&self, number: u64) -> LatestRow {
        let Self { id, collection, heads, first, .. } = *self;
        LatestRow { number, collection, document: id, heads: heads.short(), first }
    }

    /// Reads the row of the document with this number.
    pub(super) fn decode(number: u64, row: &[u8]) -> Result<Self, StoreError> {
        minicbor::decode(row).map_err(|source| StoreError::DocumentRow { document: number, source })
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

/// The place of a change's bytes.
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

    /// Reads the row of a change of the document with this number.
    pub(super) fn decode(number: u64, row: &'a [u8]) -> Result<Self, StoreError> {
        Self::parse(row)
            .ok_or(StoreError::Absent { document: number, what: "end of a change's row" })
    }

    /// Whether `chunk` is the change that this row is of, bit by bit.
    pub(super) fn is_of(&self, chunk: &[u8]) -> bool {
        let hash = change::hash_of(chunk).ok();
        hash.is_some() && hash == ChangeGraph::hash_in_row(self.graph)
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
    /// The length of the chunk in bytes; 0 if it was folded.
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

/// The last change of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LatestRow {
    pub(super) number: u64,
    /// The number of its collection in the space.
    pub(super) collection: u32,
    pub(super) document: DocumentId,
    /// Over all of its heads, as a repair compares them.
    pub(super) heads: ShortHash,
    /// Position of its first change.
    pub(super) first: u64,
}

/// Bytes of a [`LatestRow`].
pub(super) const LATEST_BYTES: usize = 44;

impl LatestRow {
    /// Numbers are little endian.
    pub(super) fn encode(&self) -> [u8; LATEST_BYTES] {
        let mut row = [0; LATEST_BYTES];
        row[..8].copy_from_slice(&self.number.to_le_bytes());
        row[8..12].copy_from_slice(&self.collection.to_le_bytes());
        row[12..28].copy_from_slice(&self.document.0);
        row[28..36].copy_from_slice(&self.heads.0);
        row[36..].copy_from_slice(&self.first.to_le_bytes());
        row
    }

    pub(super) fn decode(row: &[u8; LATEST_BYTES]) -> Self {
        let (mut number, mut collection, mut first) = ([0; 8], [0; 4], [0; 8]);
        let (mut document, mut heads) = ([0; 16], [0; 8]);
        number.copy_from_slice(&row[..8]);
        collection.copy_from_slice(&row[8..12]);
        document.copy_from_slice(&row[12..28]);
        heads.copy_from_slice(&row[28..36]);
        first.copy_from_slice(&row[36..]);
        Self {
            number: u64::from_le_bytes(number),
            collection: u32::from_le_bytes(collection),
            document: DocumentId(document),
            heads: ShortHash(heads),
            first: u64::from_le_bytes(first),
        }
    }
}

/// The digest of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct DigestRow {
    pub(super) digest: SetDigest,
    /// The number of documents.
    pub(super) documents: u64,
}

impl DigestRow {
    /// `SetDigest::to_bytes`, and the number of documents, little endian.
    pub(super) fn encode(&self) -> [u8; 40] {
        let mut row = [0; 40];
        row[..32].copy_from_slice(&self.digest.to_bytes());
        row[32..].copy_from_slice(&self.documents.to_le_bytes());
        row
    }

    pub(super) fn decode(row: &[u8; 40]) -> Self {
        let (mut digest, mut documents) = ([0; 32], [0; 8]);
        digest.copy_from_slice(&row[..32]);
        documents.copy_from_slice(&row[32..]);
        let documents = u64::from_le_bytes(documents);
        Self { digest: SetDigest::from_bytes(digest), documents }
    }
}

/// A long change that comes in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct UploadRow {
    /// Bytes of the whole change.
    #[n(0)]
    pub(super) total: u64,
    /// Bytes that have come, from the beginning.
    #[n(1)]
    pub(super) uploaded: u64,
    /// The bytes that its device is charged for it.
    #[n(2)]
    pub(super) charge: u64,
    /// Rises with every part of any upload: the one with the lowest has waited longest.
    #[n(3)]
    pub(super) turn: u64,
    /// The time at which its last part came, in milliseconds since 1970.
    #[n(4)]
    pub(super) unix_ms: u64,
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
    fn rows_of_fixed_width_round_trip() {
        let row = LatestRow {
            number: 1 << 40,
            collection: 70_000,
            document: DocumentId([3; 16]),
            heads: ShortHash([5; 8]),
            first: 70_001,
        };
        assert_eq!(LatestRow::decode(&row.encode()), row);
        let row = DigestRow { digest: SetDigest::from_bytes([7; 32]), documents: 70_000 };
        assert_eq!(DigestRow::decode(&row.encode()), row);
    }
}
