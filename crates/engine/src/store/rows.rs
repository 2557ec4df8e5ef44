//! Rows of the replica's tables, CBOR with integer keys: unknown keys are ignored, so a newer
//! program may add some.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use rejoin_core::wire::{Backfill, BegunPiece, Cursor};
use rejoin_core::{ChangeHash, CollectionName, DocumentId, Epoch, SetDigest, SpaceName};

use super::StoreError;

/// One document, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DocumentRow {
    /// Its space.
    #[n(0)]
    pub space: SpaceName,
    /// Its collection.
    #[n(1)]
    pub collection: CollectionName,
    /// Its natural key, if it has one.
    #[n(2)]
    pub key: Option<String>,
    /// Its heads, sorted, quarantined changes included.
    #[n(3)]
    pub heads: Vec<ChangeHash>,
    /// Changes below this place are in the snapshot.
    #[n(4)]
    pub covered: u64,
    /// The place of the next change.
    #[n(5)]
    pub next: u64,
    /// Bytes of the changes from `covered` on.
    #[n(6)]
    pub tail_bytes: u64,
    /// Bytes of the snapshot.
    #[n(7)]
    pub snapshot_bytes: u64,
    /// The number of changes that are quarantined.
    #[n(8)]
    pub quarantined: u32,
    /// Whether fields have several open values, so that the document does not read as Automerge
    /// shows it.
    #[n(9)]
    #[cbor(default)]
    pub uneasy: bool,
}

impl DocumentRow {
    /// The row of a document without changes.
    pub fn new(space: SpaceName, collection: CollectionName, key: Option<String>) -> Self {
        Self {
            space,
            collection,
            key,
            heads: Vec::new(),
            covered: 0,
            next: 0,
            tail_bytes: 0,
            snapshot_bytes: 0,
            quarantined: 0,
            uneasy: false,
        }
    }
}

/// The value of one document that people see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueRow {
    /// The natural key, if the document has one.
    pub key: Option<String>,
    /// The heads the value was read at.
    pub heads: Vec<ChangeHash>,
    /// Whether the document was deleted.
    pub deleted: bool,
    /// The value, as JSON.
    pub json: ByteVec,
    /// The value as far as it counts, as JSON, if that is another.
    pub agreed: Option<ByteVec>,
}

impl ValueRow {
    /// The value as far as it counts, as JSON.
    pub fn agreed(&self) -> &[u8] {
        self.agreed.as_ref().unwrap_or(&self.json)
    }
}

/// One local edit that waits for a relay: changes at consecutive places of a document.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct OutboxRow {
    /// The document.
    #[n(0)]
    pub document: DocumentId,
    /// The place of the first change.
    #[n(1)]
    pub from: u64,
    /// The number of changes.
    #[n(2)]
    pub count: u64,
    /// The time, in seconds since 1970 by the device's clock.
    #[n(3)]
    pub time_s: i64,
    /// The user who made it, if the changes name one. Versions before did not note it.
    #[n(4)]
    pub user: Option<String>,
}

/// Digest of one collection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DigestRow {
    /// Sum over the documents.
    #[n(0)]
    pub digest: SetDigest,
    /// The number of documents.
    #[n(1)]
    pub documents: u64,
}

/// A change that could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct QuarantineRow {
    /// Its bytes.
    #[n(0)]
    pub chunk: ByteVec,
    /// The reason why it could not be applied.
    #[n(1)]
    pub reason: String,
}

/// A local change that a relay will never take.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SetAsideRow {
    /// Its space.
    #[n(0)]
    pub space: SpaceName,
    /// Its collection.
    #[n(1)]
    pub collection: CollectionName,
    /// Its document.
    #[n(2)]
    pub document: DocumentId,
    /// The document's natural key, if it has one.
    #[n(3)]
    pub key: Option<String>,
    /// The change.
    #[n(4)]
    pub hash: ChangeHash,
    /// Its bytes.
    #[n(5)]
    pub chunk: ByteVec,
    /// The message of the relay.
    #[n(6)]
    pub reason: String,
    /// Whether the same edit was made anew under a fresh actor.
    #[n(7)]
    pub authored_anew: bool,
    /// The time at which it was set aside, in seconds since 1970 by the device's clock.
    #[n(8)]
    pub time_s: i64,
    /// The change that took its place, if it was made anew. A change that only deleted something
    /// that is gone needs none, and files of versions before did not note it.
    #[n(9)]
    pub anew: Option<ChangeHash>,
    /// The top-level fields it wrote.
    #[n(10)]
    #[cbor(default)]
    pub fields: Vec<String>,
    /// Whether somebody said that they know of it.
    #[n(11)]
    #[cbor(default)]
    pub acknowledged: bool,
}

impl SetAsideRow {
    /// Whether the work is lost to others and nobody has acknowledged it.
    pub fn is_open(&self) -> bool {
        !self.authored_anew && !self.acknowledged
    }
}

impl std::fmt::Debug for SetAsideRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The content of documents does not belong into a log.
        f.debug_struct("SetAsideRow")
            .field("document", &self.document)
            .field("hash", &self.hash)
            .field("reason", &self.reason)
            .field("authored_anew", &self.authored_anew)
            .finish_non_exhaustive()
    }
}

/// The progress of the replica in a space at a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CursorRow {
    /// The lifetime of the relay's store that the positions belong to.
    #[n(0)]
    pub epoch: Epoch,
    /// Everything up to here has come, except the documents named by the fields below.
    #[n(1)]
    pub position: u64,
    /// Documents that the relay is still sending.
    #[n(2)]
    pub backfill: Option<Backfill>,
    /// Documents about which the relay is still to be asked: the replica held some before it had a
    /// cursor.
    #[n(3)]
    pub listing: Option<Backfill>,
    /// The document up to which the relay was told of the documents held here, while that is not
    /// done.
    #[n(4)]
    pub offered: Option<DocumentId>,
    /// What the replica might read there.
    #[n(5)]
    pub scope: Option<u64>,
}

impl CursorRow {
    /// As the relay knows it.
    pub fn cursor(&self) -> Cursor {
        let Self { epoch, position, backfill, scope, .. } = *self;
        Cursor { epoch, position, backfill, scope }
    }

    /// The row with other marks of the relay.
    pub(crate) fn at(self, cursor: Cursor) -> Self {
        let Cursor { epoch, position, backfill, scope } = cursor;
        Self { epoch, position, backfill, scope, ..self }
    }

    /// Whether no older document is still to come or to go.
    pub fn is_whole(&self) -> bool {
        self.backfill.is_none() && self.listing.is_none() && self.offered.is_none()
    }
}

impl From<Cursor> for CursorRow {
    fn from(cursor: Cursor) -> Self {
        let Cursor { epoch, position, backfill, scope } = cursor;
        Self { epoch, position, backfill, listing: None, offered: None, scope }
    }
}

/// A document of which a part has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct BegunRow {
    /// Its changes up to this position of the relay are here.
    #[n(0)]
    pub through: u64,
    /// The beginning of the snapshot or long change that comes next, as far as it is here.
    #[n(1)]
    pub piece: Option<BegunPiece>,
}

/// A row that can be read back by name.
pub(super) trait Row: for<'b> Decode<'b, ()> + Encode<()> {
    const TABLE: &'static str;
}

impl Row for DocumentRow {
    const TABLE: &'static str = "documents";
}
impl Row for OutboxRow {
    const TABLE: &'static str = "outbox";
}
impl Row for DigestRow {
    const TABLE: &'static str = "digests";
}
impl Row for CursorRow {
    const TABLE: &'static str = "cursors";
}
impl Row for BegunRow {
    const TABLE: &'static str = "begun";
}
impl Row for QuarantineRow {
    const TABLE: &'static str = "quarantine";
}
impl Row for SetAsideRow {
    const TABLE: &'static str = "set-aside";
}

pub(super) fn encode<R: Row>(row: &R) -> Vec<u8> {
    minicbor::to_vec(row).expect("encoding into a Vec cannot fail")
}

pub(super) fn decode<R: Row>(bytes: &[u8]) -> Result<R, StoreError> {
    minicbor::decode(bytes).map_err(|source| StoreError::Row { table: R::TABLE, source })
}
