//! The frames that a session exchanges once it is open.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::{Backfill, ByeCode, PieceOf, RefusedClass};
use crate::digest::SetDigest;
use crate::{ChangeHash, CollectionName, DocumentId, PeerId, ShortHash};

/// Changes of one document for the relay to keep.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Push {
    /// Place of the space in the [`Hello`](super::Hello).
    #[n(0)]
    pub space: u32,
    /// Counts the pushes of a session from 1, without gaps.
    #[n(1)]
    pub n: u64,
    /// The document.
    #[n(2)]
    pub document: DocumentId,
    /// The document's collection.
    #[n(3)]
    pub collection: CollectionName,
    /// Change chunks, dependencies first.
    #[n(4)]
    pub changes: Vec<ByteVec>,
    /// A piece of one long change, after those.
    #[n(5)]
    pub piece: Option<ChangePiece>,
}

/// A piece of a long change on its way to the relay, which keeps it until all have come.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct ChangePiece {
    /// The change.
    #[n(0)]
    pub hash: ChangeHash,
    /// The offset at which the piece begins, in bytes.
    #[n(1)]
    pub offset: u64,
    /// The whole change's bytes.
    #[n(2)]
    pub total: u64,
    /// The piece.
    #[n(3)]
    pub bytes: ByteVec,
}

/// Every push up to `n` is durable or was refused.
#[derive(Debug, Clone, Copy, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Ack {
    /// The push.
    #[n(0)]
    pub n: u64,
}

/// A push of which the relay did not keep everything.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Refused {
    /// The push.
    #[n(0)]
    pub n: u64,
    /// The way in which the replica can react.
    #[n(1)]
    pub class: RefusedClass,
    /// The changes that were not kept. With [`RefusedClass::Never`], only those with a fault of
    /// their own: changes that build on them were not kept either, but may be written anew without
    /// them. A relay of an earlier version names those, too.
    #[n(2)]
    pub hashes: Vec<ChangeHash>,
    /// With [`RefusedClass::Missing`]: the heads the relay holds, so that the replica can push all
    /// that is missing at once.
    #[n(3)]
    pub heads: Vec<ShortHash>,
    /// With [`RefusedClass::Later`]: milliseconds to wait before pushing again.
    #[n(4)]
    pub retry_after_ms: u32,
    /// The reason, for a person.
    #[n(5)]
    pub reason: String,
}

/// Something of one document for the replica: a piece of a snapshot or of a long change, or
/// changes.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Changes {
    /// Place of the space in the [`Hello`](super::Hello).
    #[n(0)]
    pub space: u32,
    /// The document.
    #[n(1)]
    pub document: DocumentId,
    /// The document's collection; absent if it is the [usual](super::SpaceGranted::usual) one.
    #[n(2)]
    pub collection: Option<CollectionName>,
    /// A piece of a snapshot or of a long change. Pieces come in order; other documents, and live
    /// edits of this one, may come between them.
    #[n(3)]
    pub piece: Option<Piece>,
    /// Change chunks, dependencies first.
    #[n(4)]
    pub changes: Vec<ByteVec>,
    /// The relay's position of the last change, from which a replica tells which of two changes the
    /// relay held first.
    #[n(5)]
    pub position: Option<u64>,
    /// For a document that is sent by itself: whether more of it follows.
    #[n(6)]
    pub more: Option<bool>,
    /// In place of a position, if there is a [usual](super::SpaceGranted::usual) collection: how far
    /// beyond the [position](super::SpaceGranted::position) at which the session began.
    #[n(7)]
    pub step: Option<u64>,
}

/// A piece of an Automerge document chunk, or of a long change.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Piece {
    /// The kind of whole that it is of.
    #[n(0)]
    pub kind: PieceOf,
    /// The position of the change, or the last one that the snapshot covers.
    #[n(1)]
    pub position: u64,
    /// The offset at which the piece begins, in bytes.
    #[n(2)]
    pub offset: u64,
    /// The bytes of the whole.
    #[n(3)]
    pub total: u64,
    /// The piece.
    #[n(4)]
    pub bytes: ByteVec,
}

/// The marks up to which a replica has a space.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Checkpoint {
    /// Place of the space in the [`Hello`](super::Hello).
    #[n(0)]
    pub space: u32,
    /// Everything up to here was sent to this replica, except the backfill.
    #[n(1)]
    pub position: u64,
    /// The digest of each collection the replica may read, when nothing at all is unsent.
    #[n(2)]
    pub digests: Option<Vec<CollectionDigest>>,
    /// The older documents that are still to come.
    #[n(3)]
    pub backfill: Option<Backfill>,
    /// Documents of which the relay lost changes to damage that nobody has brought back, with
    /// digests; `None` for none. Who holds all that the relay holds does not hold everything then.
    #[n(4)]
    pub lost: Option<u64>,
}

/// Digest of one collection's documents.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct CollectionDigest {
    /// The collection.
    #[n(0)]
    pub collection: CollectionName,
    /// Sum over its documents.
    #[n(1)]
    pub digest: SetDigest,
    /// The number of its documents.
    #[n(2)]
    pub documents: u64,
}

/// Coded symbols over (document, heads) of a space: a replica asks, the relay gives.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Repair {
    /// Place of the space in the [`Hello`](super::Hello).
    #[n(0)]
    pub space: u32,
    /// The first symbol; 0 starts anew from the relay's present set.
    #[n(1)]
    pub from: u32,
    /// The number of symbols.
    #[n(2)]
    pub count: u32,
    /// The packed symbols, in the relay's answer.
    #[n(3)]
    pub symbols: Option<ByteVec>,
}

/// Documents of a space by the position of their last change, the latest first: a replica without a
/// valid cursor asks, the relay gives, and the replica wants those it lacks or has with other
/// heads.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Listing {
    /// Place of the space in the [`Hello`](super::Hello).
    #[n(0)]
    pub space: u32,
    /// The documents to list; in the answer, those that are left.
    #[n(1)]
    pub backfill: Option<Backfill>,
    /// The documents, in the relay's answer.
    #[n(2)]
    pub documents: Option<Vec<Listed>>,
}

/// Documents that a replica holds, in the order of their ids. The relay answers with a [`Want`] of
/// those it lacks something of, perhaps of none.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Offer {
    /// Place of the space in the [`Hello`](super::Hello).
    #[n(0)]
    pub space: u32,
    /// The documents.
    #[n(1)]
    pub documents: Vec<Listed>,
}

/// The relay has nothing of a document beyond the heads that a replica [`Want`]ed it with.
#[derive(Debug, Clone, Copy, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Nothing {
    /// Place of the space in the [`Hello`](super::Hello).
    #[n(0)]
    pub space: u32,
    /// The document.
    #[n(1)]
    pub document: DocumentId,
}

/// An operator erased a document: the relay has nothing of it any more, and the replica is to keep
/// nothing of it either. It counts in digests as
/// [`HeadsHash::ERASED`](crate::HeadsHash::ERASED).
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Erased {
    /// Place of the space in the [`Hello`](super::Hello).
    #[n(0)]
    pub space: u32,
    /// The document.
    #[n(1)]
    pub document: DocumentId,
    /// The collection that it was in.
    #[n(2)]
    pub collection: CollectionName,
}

/// One document of a [`Listing`] or an [`Offer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Listed {
    /// The document.
    #[n(0)]
    pub document: DocumentId,
    /// The first bytes of the hash over its heads.
    #[n(1)]
    pub heads: ShortHash,
}

/// Documents the sender lacks something of.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Want {
    /// Place of the space in the [`Hello`](super::Hello).
    #[n(0)]
    pub space: u32,
    /// The documents.
    #[n(1)]
    pub documents: Vec<Wanted>,
    /// Whether it answers an [`Offer`].
    #[n(2)]
    pub answers: bool,
}

/// One document in a [`Want`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Wanted {
    /// The document.
    #[n(0)]
    pub document: DocumentId,
    /// The heads the sender holds; none if it holds nothing.
    #[n(1)]
    pub heads: Vec<ShortHash>,
}

/// The present activity of a peer in a document. It is never stored.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Presence {
    /// Place of the space in the [`Hello`](super::Hello).
    #[n(0)]
    pub space: u32,
    /// The document.
    #[n(1)]
    pub document: DocumentId,
    /// The peer.
    #[n(2)]
    pub peer: PeerId,
    /// The activity, in bytes of the application's own; absent when the peer left.
    #[n(3)]
    pub value: Option<ByteVec>,
    /// Milliseconds until the value is forgotten.
    #[n(4)]
    pub ttl_ms: u32,
}

/// A fresh token.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Renew {
    /// The token.
    #[n(0)]
    pub token: ByteVec,
}

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Bye {
    /// The reason, for a machine.
    #[n(0)]
    pub code: ByeCode,
    /// The reason, for a person.
    #[n(1)]
    pub message: String,
    /// Milliseconds to stay away; 0 leaves it to the replica.
    #[n(2)]
    pub retry_after_ms: u32,
}
