//! The first frames of a session.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::{Access, PieceOf, Start};
use crate::{ChangeHash, CollectionName, DeviceId, DocumentId, Epoch, RelayId, SpaceName};

/// First frame of a replica.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// Proof of who the replica is; absent if the relay lets anyone in.
    #[n(0)]
    pub token: Option<ByteVec>,
    /// The id of the replica file.
    #[n(1)]
    pub device: DeviceId,
    /// The spaces that the replica wants to read and write. Later frames name a space by its place
    /// here.
    #[n(2)]
    pub spaces: Vec<SpaceWanted>,
    /// Push frames that follow without waiting for the [`Welcome`]. The relay answers them before
    /// it sends the first digest, so returning takes one round trip.
    #[n(3)]
    pub pushes: u32,
    /// The program and its version, for the relay's operator.
    #[n(4)]
    pub app: Option<String>,
    /// The identity of the person who edits, in the bytes that changes carry. It is a claim until a
    /// token proves it.
    #[n(5)]
    pub identity: Option<ByteVec>,
    /// The long change that the replica is going to push next, perhaps not for the first time: the
    /// relay answers how many bytes of it have come.
    #[n(6)]
    pub upload: Option<ChangeHash>,
    /// Whether the relay may leave out of [`Changes`](super::Changes) what its [`Welcome`] told.
    #[n(7)]
    pub short: Option<bool>,
    /// Edits that wait at the replica for a relay, for the relay's operator.
    #[n(8)]
    pub waiting: Option<u64>,
}

/// One space in a [`Hello`].
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct SpaceWanted {
    /// Its name.
    #[n(0)]
    pub name: SpaceName,
    /// The marks up to which the replica has it, if it has any.
    #[n(1)]
    pub cursor: Option<Cursor>,
    /// Whether the replica holds documents of it. A replica with documents but without a valid
    /// cursor finds out which changes it lacks, rather than being sent everything again.
    #[n(2)]
    pub holds: bool,
    /// Documents of which a part has come.
    #[n(3)]
    pub begun: Option<Vec<Begun>>,
}

/// The marks up to which a replica has a space of one relay. They are opaque to the replica.
///
/// There are two marks: new changes come from `position` on, and older documents come from the most
/// recently changed one to the oldest. A document whose last change up to `position` is at a
/// position that `backfill` does not name is whole up to `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Cursor {
    /// The lifetime of the relay's store that the positions belong to.
    #[n(0)]
    pub epoch: Epoch,
    /// Everything up to here has been received, except the backfill. Positions count from 1; 0
    /// means that nothing has come.
    #[n(1)]
    pub position: u64,
    /// The older documents that are still to come.
    #[n(2)]
    pub backfill: Option<Backfill>,
    /// What the replica might read when it came that far, as the relay [says](SpaceGranted::scope);
    /// `None` for everything.
    #[n(3)]
    pub scope: Option<u64>,
}

/// Documents whose last change up to a cursor is at one of these positions, and which may lack
/// anything after the first of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Backfill {
    /// The position before the first.
    #[n(0)]
    pub after: u64,
    /// The last position.
    #[n(1)]
    pub through: u64,
}

impl Backfill {
    /// The positions after `after` up to `through`; `None` if there are none.
    pub fn of(after: u64, through: u64) -> Option<Self> {
        (after < through).then_some(Self { after, through })
    }

    /// Whether a position is among them.
    pub fn contains(&self, position: u64) -> bool {
        self.after < position && position <= self.through
    }
}

/// A document of which a replica has received a part.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Begun {
    /// The document.
    #[n(0)]
    pub document: DocumentId,
    /// Its changes up to this position are there.
    #[n(1)]
    pub through: u64,
    /// The beginning of the snapshot or long change that comes next, as far as it is there.
    #[n(2)]
    pub piece: Option<BegunPiece>,
}

/// The beginning of a snapshot or of a long change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BegunPiece {
    /// The kind of whole that it is of.
    #[n(0)]
    pub kind: PieceOf,
    /// The position of the change, or the last one that the snapshot covers.
    #[n(1)]
    pub position: u64,
    /// The number of its bytes that are there.
    #[n(2)]
    pub bytes: u64,
}

/// First frame of a relay.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Welcome {
    /// The id of this relay.
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
    /// Bytes of [`Hello::upload`] that the relay holds.
    #[n(4)]
    pub uploaded: u64,
    /// The identity that the token proved, in the bytes that changes carry; absent where the relay
    /// takes no tokens. It names no role: a person may have several.
    #[n(5)]
    pub identity: Option<ByteVec>,
    /// Whether the relay takes from whoever is signed in what other people wrote, for a while: an
    /// operator said so after a restore.
    #[n(6)]
    pub carries: Option<bool>,
}

/// One space in a [`Welcome`].
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct SpaceGranted {
    /// The lifetime of the relay's store.
    #[n(0)]
    pub epoch: Epoch,
    /// The point from which the relay goes on.
    #[n(1)]
    pub start: Start,
    /// The access that the replica has.
    #[n(2)]
    pub access: Access,
    /// The position from which everything new is sent.
    #[n(3)]
    pub position: u64,
    /// The older documents that are sent.
    #[n(4)]
    pub backfill: Option<Backfill>,
    /// Documents that the space has and the replica may read.
    #[n(5)]
    pub documents: u64,
    /// The collection that most documents are in, for a replica that is [`short`](Hello::short):
    /// frames of changes leave it out.
    #[n(6)]
    pub usual: Option<CollectionName>,
    /// The collections that the replica may read; `None` for all.
    #[n(7)]
    pub read: Option<Vec<CollectionName>>,
    /// The collections that it may write to; `None` for all.
    #[n(8)]
    pub write: Option<Vec<CollectionName>>,
    /// A name for what it may read, for its [`Cursor`]: if that is another one when it comes again,
    /// its marks say nothing of what it might not read before.
    #[n(9)]
    pub scope: Option<u64>,
}
