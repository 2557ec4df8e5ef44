//! Frames of `rejoin.v1`: what travels between a replica and a relay.
//!
//! One binary WebSocket message holds one frame, CBOR with integer keys: an array of the frame's
//! number and a map of its fields. Unknown fields are ignored, unknown frames are not: a new frame
//! is a new protocol version, negotiated as the WebSocket subprotocol [`PROTOCOL`]. The bytes of
//! every frame are frozen in `tests/wire_golden.rs`.
//!
//! Spaces are named once, in [`Hello`]; later frames say their place in that list.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::digest::SetDigest;
use crate::limits;
use crate::{
    ChangeHash, CollectionName, DeviceId, DocumentId, Epoch, PeerId, RelayId, ShortHash, SpaceName,
};

/// The WebSocket subprotocol that this crate speaks.
pub const PROTOCOL: &str = "rejoin.v1";

/// One message between a replica and a relay.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Frame {
    /// Opens a session.
    #[n(0)]
    Hello(#[n(0)] Hello),
    /// Answers a [`Hello`].
    #[n(1)]
    Welcome(#[n(0)] Welcome),
    /// Changes for the relay to keep.
    #[n(2)]
    Push(#[n(0)] Push),
    /// Pushes that are durable or were refused.
    #[n(3)]
    Ack(#[n(0)] Ack),
    /// A push that was not kept.
    #[n(4)]
    Refused(#[n(0)] Refused),
    /// Changes or a part of a snapshot for the replica.
    #[n(5)]
    Changes(#[n(0)] Changes),
    /// How far the replica has come.
    #[n(6)]
    Checkpoint(#[n(0)] Checkpoint),
    /// Coded symbols, asked for or given.
    #[n(7)]
    Repair(#[n(0)] Repair),
    /// Documents the sender lacks something of.
    #[n(8)]
    Want(#[n(0)] Want),
    /// What a peer is doing right now.
    #[n(9)]
    Presence(#[n(0)] Presence),
    /// A fresh token on the open connection.
    #[n(10)]
    Renew(#[n(0)] Renew),
    /// The last frame of a session.
    #[n(11)]
    Bye(#[n(0)] Bye),
}

/// First frame of a replica.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// Who the replica is; absent where the relay lets anyone in.
    #[n(0)]
    pub token: Option<ByteVec>,
    /// Which replica file this is.
    #[n(1)]
    pub device: DeviceId,
    /// What the replica wants to read and write. Later frames name a space by its place here.
    #[n(2)]
    pub spaces: Vec<SpaceWanted>,
    /// Push frames that follow without waiting for the [`Welcome`]. The relay answers them before
    /// it sends the first digest, so returning takes one round trip.
    #[n(3)]
    pub pushes: u32,
}

/// One space in a [`Hello`].
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct SpaceWanted {
    /// Its name.
    #[n(0)]
    pub name: SpaceName,
    /// How far the replica has come in it, if it ever has.
    #[n(1)]
    pub cursor: Option<Cursor>,
    /// Whether the replica holds documents of it. With documents but without a valid cursor it is
    /// repaired rather than sent everything again.
    #[n(2)]
    pub holds: bool,
}

/// Position in a space at one relay. Opaque to the replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Cursor {
    /// The lifetime of the relay's store that the position belongs to.
    #[n(0)]
    pub epoch: Epoch,
    /// Everything up to here has been received. Counts from 1; 0 is nothing.
    #[n(1)]
    pub position: u64,
}

/// First frame of a relay.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Welcome {
    /// Which relay this is.
    #[n(0)]
    pub relay: RelayId,
    /// One answer for each space of the [`Hello`], in its order.
    #[n(1)]
    pub spaces: Vec<SpaceGranted>,
    /// The relay's clock, in milliseconds since 1970, for a replica to notice a wrong one.
    #[n(2)]
    pub time_ms: u64,
    /// Bytes of the largest frame the relay takes.
    #[n(3)]
    pub frame_bytes_max: u32,
}

/// One space in a [`Welcome`].
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct SpaceGranted {
    /// The lifetime of the relay's store.
    #[n(0)]
    pub epoch: Epoch,
    /// Where the relay goes on from.
    #[n(1)]
    pub start: Start,
    /// What the replica may do.
    #[n(2)]
    pub access: Access,
}

/// Where a relay goes on from in a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Start {
    /// From the replica's cursor.
    #[n(0)]
    Cursor,
    /// From the beginning: the replica holds nothing.
    #[n(1)]
    Beginning,
    /// From now on: the cursor is not valid here, and the replica repairs what came before.
    #[n(2)]
    Now,
}

/// What a session may do with a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Access {
    /// Nothing; absent and forbidden look the same.
    #[n(0)]
    None,
    /// Receive changes.
    #[n(1)]
    Read,
    /// Receive and push changes.
    #[n(2)]
    Write,
}

/// Changes of one document for the relay to keep.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Push {
    /// Place of the space in the [`Hello`].
    #[n(0)]
    pub space: u32,
    /// Counts the pushes of a session from 1, without gaps.
    #[n(1)]
    pub n: u64,
    /// Which document.
    #[n(2)]
    pub document: DocumentId,
    /// The document's collection.
    #[n(3)]
    pub collection: CollectionName,
    /// Change chunks, dependencies first.
    #[n(4)]
    pub changes: Vec<ByteVec>,
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
    /// What the replica can do about it.
    #[n(1)]
    pub class: RefusedClass,
    /// The changes that were not kept.
    #[n(2)]
    pub hashes: Vec<ChangeHash>,
    /// With [`RefusedClass::Missing`]: the heads the relay holds, so that the replica can push all
    /// that is missing at once.
    #[n(3)]
    pub heads: Vec<ShortHash>,
    /// With [`RefusedClass::Later`]: milliseconds to wait before pushing again.
    #[n(4)]
    pub retry_after_ms: u32,
    /// Why, for a person.
    #[n(5)]
    pub reason: String,
}

/// What a replica can do about a refused push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum RefusedClass {
    /// Push what the changes depend on, then push them again.
    #[n(0)]
    Missing,
    /// Push again after a while.
    #[n(1)]
    Later,
    /// Set the changes aside: they will never be kept as they are.
    #[n(2)]
    Never,
    /// Set the changes aside and make them anew under a fresh actor: another change holds their
    /// place in the actor's sequence.
    #[n(3)]
    ActorReused,
}

/// Something of one document for the replica: changes, or a part of a snapshot and then changes.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Changes {
    /// Place of the space in the [`Hello`].
    #[n(0)]
    pub space: u32,
    /// Which document.
    #[n(1)]
    pub document: DocumentId,
    /// The document's collection.
    #[n(2)]
    pub collection: CollectionName,
    /// A part of a snapshot. Parts come in order, without another document's between them only by
    /// chance: live edits may pass.
    #[n(3)]
    pub snapshot: Option<SnapshotPart>,
    /// Change chunks, dependencies first; after the last part of a snapshot.
    #[n(4)]
    pub changes: Vec<ByteVec>,
    /// The relay's position of the last change, from which a replica tells what the relay held
    /// first.
    #[n(5)]
    pub position: Option<u64>,
}

/// A part of an Automerge document chunk.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct SnapshotPart {
    /// Where the part begins, in bytes.
    #[n(0)]
    pub offset: u64,
    /// The whole snapshot's bytes.
    #[n(1)]
    pub total: u64,
    /// The part.
    #[n(2)]
    pub bytes: ByteVec,
}

/// How far a replica has come in a space.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Checkpoint {
    /// Place of the space in the [`Hello`].
    #[n(0)]
    pub space: u32,
    /// Nothing up to here is unsent to this replica.
    #[n(1)]
    pub position: u64,
    /// The digest of each collection the replica may read, when nothing at all is unsent.
    #[n(2)]
    pub digests: Option<Vec<CollectionDigest>>,
}

/// Digest of one collection's documents.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct CollectionDigest {
    /// Which collection.
    #[n(0)]
    pub collection: CollectionName,
    /// Sum over its documents.
    #[n(1)]
    pub digest: SetDigest,
}

/// Coded symbols over (document, heads) of a space: a replica asks, the relay gives.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Repair {
    /// Place of the space in the [`Hello`].
    #[n(0)]
    pub space: u32,
    /// The first symbol; 0 starts anew from the relay's present set.
    #[n(1)]
    pub from: u32,
    /// How many symbols.
    #[n(2)]
    pub count: u32,
    /// The packed symbols, in the relay's answer.
    #[n(3)]
    pub symbols: Option<ByteVec>,
}

/// Documents the sender lacks something of.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Want {
    /// Place of the space in the [`Hello`].
    #[n(0)]
    pub space: u32,
    /// Which documents.
    #[n(1)]
    pub documents: Vec<Wanted>,
}

/// One document in a [`Want`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Wanted {
    /// Which document.
    #[n(0)]
    pub document: DocumentId,
    /// The heads the sender holds; none if it holds nothing.
    #[n(1)]
    pub heads: Vec<ShortHash>,
}

/// What a peer is doing right now in a document. Never stored.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Presence {
    /// Place of the space in the [`Hello`].
    #[n(0)]
    pub space: u32,
    /// Which document.
    #[n(1)]
    pub document: DocumentId,
    /// Who.
    #[n(2)]
    pub peer: PeerId,
    /// What; absent when the peer left.
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
    /// Why, for a machine.
    #[n(0)]
    pub code: ByeCode,
    /// Why, for a person.
    #[n(1)]
    pub message: String,
    /// Milliseconds to stay away; 0 leaves it to the replica.
    #[n(2)]
    pub retry_after_ms: u32,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ByeCode {
    /// The sender stops.
    #[n(0)]
    Stopping,
    /// The other side broke the protocol.
    #[n(1)]
    Protocol,
    /// The other side may not do this.
    #[n(2)]
    Forbidden,
    /// The sender cannot store at present.
    #[n(3)]
    Unavailable,
    /// The other side was too slow or silent.
    #[n(4)]
    Timeout,
}

impl Frame {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("encoding into a Vec cannot fail")
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// The message is larger than a frame may be, is not a frame, or has bytes after its end. The
    /// session is to be closed.
    pub fn decode(message: &[u8]) -> Result<Self, FrameError> {
        if message.len() > limits::FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge { len: message.len() });
        }
        let mut decoder = minicbor::Decoder::new(message);
        let frame = decoder.decode::<Self>().map_err(FrameError::Malformed)?;
        if decoder.position() != message.len() {
            return Err(FrameError::Trailing { len: message.len() - decoder.position() });
        }
        frame.check()?;
        Ok(frame)
    }

    /// The frame's name, for logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Welcome(_) => "Welcome",
            Self::Push(_) => "Push",
            Self::Ack(_) => "Ack",
            Self::Refused(_) => "Refused",
            Self::Changes(_) => "Changes",
            Self::Checkpoint(_) => "Checkpoint",
            Self::Repair(_) => "Repair",
            Self::Want(_) => "Want",
            Self::Presence(_) => "Presence",
            Self::Renew(_) => "Renew",
            Self::Bye(_) => "Bye",
        }
    }

    /// Counts and lengths within their limits. What CBOR allocated until here is bounded by the
    /// message's own length.
    fn check(&self) -> Result<(), FrameError> {
        let within = |what, len: usize, max: usize| {
            if len > max { Err(FrameError::Limit { what, len, max }) } else { Ok(()) }
        };
        match self {
            Self::Hello(hello) => {
                within("spaces", hello.spaces.len(), limits::SESSION_SPACES_MAX)?;
                let token = hello.token.as_ref().map_or(0, |token| token.len());
                within("token bytes", token, limits::TOKEN_BYTES_MAX)
            }
            Self::Welcome(welcome) => {
                within("spaces", welcome.spaces.len(), limits::SESSION_SPACES_MAX)
            }
            Self::Push(push) => within("changes", push.changes.len(), limits::FRAME_CHANGES_MAX),
            Self::Ack(_) => Ok(()),
            Self::Refused(refused) => {
                within("hashes", refused.hashes.len(), limits::FRAME_CHANGES_MAX)?;
                within("heads", refused.heads.len(), limits::HEADS_MAX)?;
                within("reason bytes", refused.reason.len(), limits::REASON_BYTES_MAX)
            }
            Self::Changes(changes) => {
                within("changes", changes.changes.len(), limits::FRAME_CHANGES_MAX)
            }
            Self::Checkpoint(_) => Ok(()),
            Self::Repair(repair) => {
                within("symbols", repair.count as usize, limits::REPAIR_SYMBOLS_MAX as usize)
            }
            Self::Want(want) => {
                within("documents", want.documents.len(), limits::WANT_DOCUMENTS_MAX)?;
                want.documents
                    .iter()
                    .try_for_each(|wanted| within("heads", wanted.heads.len(), limits::HEADS_MAX))
            }
            Self::Presence(presence) => {
                let value = presence.value.as_ref().map_or(0, |value| value.len());
                within("presence bytes", value, limits::PRESENCE_BYTES_MAX)
            }
            Self::Renew(renew) => within("token bytes", renew.token.len(), limits::TOKEN_BYTES_MAX),
            Self::Bye(bye) => within("reason bytes", bye.message.len(), limits::REASON_BYTES_MAX),
        }
    }
}

/// A message that is not a frame. Close the session; both sides start the next from durable state.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Over [`limits::FRAME_BYTES_MAX`].
    #[error("message of {len} bytes is over the frame limit of {}", limits::FRAME_BYTES_MAX)]
    TooLarge {
        /// Its bytes.
        len: usize,
    },
    /// Not CBOR, not a known frame, or a field of another type.
    #[error("message is not a {PROTOCOL} frame")]
    Malformed(#[source] minicbor::decode::Error),
    /// More than a frame.
    #[error("{len} bytes follow the frame")]
    Trailing {
        /// Bytes after the end.
        len: usize,
    },
    /// A count or length over its limit.
    #[error("{len} {what} in one frame; at most {max} are allowed")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        len: usize,
        /// How much there may be.
        max: usize,
    },
}

/// Cuts a text for people to what a frame may carry.
pub fn reason(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > limits::REASON_BYTES_MAX {
        let end = (0..=limits::REASON_BYTES_MAX)
            .rev()
            .find(|&end| text.is_char_boundary(end))
            .unwrap_or_default();
        text.truncate(end);
    }
    text
}
