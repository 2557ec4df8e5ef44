//! The first frames of a session.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use super::{Access, PieceOf, Start};
use crate::{ChangeHash, DeviceId, DocumentId, Epoch, RelayId, SpaceName};

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
    /// The program and its version, for the relay's operator.
    #[n(4)]
    pub app: Option<String>,
    /// Who edits, as changes say it. A claim until a token says so.
    #[n(5)]
    pub identity: Option<ByteVec>,
    /// The long change that the replica is going to push next, perhaps not for the first time: the
    /// relay says how much of it has come.
    #[n(6)]
    pub upload: Option<ChangeHash>,
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
    /// Whether the replica holds documents of it. With documents but without a valid cursor it
    /// finds out what it lacks rather than being sent everything again.
    #[n(2)]
    pub holds: bool,
    /// Documents of which a part has come.
    #[n(3)]
    pub begun: Option<Vec<Begun>>,
}

/// How far a replica has come in a space at one relay. Opaque to the replica.
///
/// Two marks: everything that is new comes from `position` on, and what is older comes from the
/// most recently changed document to the oldest. A document whose last change up to `position` is
/// at a position that `backfill` does not name is whole up to `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Cursor {
    /// The lifetime of the relay's store that the positions belong to.
    #[n(0)]
    pub epoch: Epoch,
    /// Everything up to here has been received, but for the backfill. Counts from 1; 0 is nothing.
    #[n(1)]
    pub position: u64,
    /// What is still to come of what is older.
    #[n(2)]
    pub backfill: Option<Backfill>,
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
    /// The same as far as anything is to come.
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
    /// Which document.
    #[n(0)]
    pub document: DocumentId,
    /// Its changes up to this position are there.
    #[n(1)]
    pub through: u64,
    /// What is there of what comes next.
    #[n(2)]
    pub piece: Option<BegunPiece>,
}

/// The beginning of a snapshot or of a long change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BegunPiece {
    /// Of what.
    #[n(0)]
    pub kind: PieceOf,
    /// The position of the change, or the last one that the snapshot covers.
    #[n(1)]
    pub position: u64,
    /// How many bytes of it are there.
    #[n(2)]
    pub bytes: u64,
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
    /// Bytes of [`Hello::upload`] that the relay holds.
    #[n(4)]
    pub uploaded: u64,
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
    /// The position from which everything new is sent.
    #[n(3)]
    pub position: u64,
    /// What is sent of what is older.
    #[n(4)]
    pub backfill: Option<Backfill>,
    /// Documents that the space has and the replica may read.
    #[n(5)]
    pub documents: u64,
}
