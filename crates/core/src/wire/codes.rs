//! The codes of frames: words that are sent as numbers. A word of a later version reads as the one
//! that asks least.

use minicbor::{Decode, Decoder, Encode};

/// Reads a code by its number; an unknown number is the last of the list.
macro_rules! codes {
    ($name:ident: $($number:literal => $code:ident),+; otherwise $other:ident) => {
        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                Ok(match d.u32()? {
                    $($number => Self::$code,)+
                    _ => Self::$other,
                })
            }
        }
    };
}

/// The point from which a relay goes on in a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
#[cbor(index_only)]
pub enum Start {
    /// From the replica's cursor.
    #[n(0)]
    Cursor,
    /// From the beginning: the replica holds nothing.
    #[n(1)]
    Beginning,
    /// From now on: the cursor is not valid here, and the replica finds out what it lacks.
    #[n(2)]
    Now,
}

codes!(Start: 0 => Cursor, 1 => Beginning, 2 => Now; otherwise Now);

/// The access of a session to a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
#[cbor(index_only)]
pub enum Access {
    /// No access; absent and forbidden look the same.
    #[n(0)]
    None,
    /// Receive changes.
    #[n(1)]
    Read,
    /// Receive and push changes.
    #[n(2)]
    Write,
}

codes!(Access: 0 => None, 1 => Read, 2 => Write; otherwise None);

/// The way in which a replica can react to a refused push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode)]
#[cbor(index_only)]
pub enum RefusedClass {
    /// Push the changes they depend on, then push them again.
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

codes!(RefusedClass: 0 => Missing, 1 => Later, 2 => Never, 3 => ActorReused; otherwise Later);

/// The reason why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
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
    /// The other side speaks an older protocol, or a later one.
    #[n(5)]
    Version,
    /// The other side has no token that counts: it may come back with another one.
    #[n(6)]
    SignIn,
    /// The rights of the other side changed: it may come back at once.
    #[n(7)]
    Rights,
}

codes!(
    ByeCode: 0 => Stopping, 1 => Protocol, 2 => Forbidden, 3 => Unavailable, 4 => Timeout,
        5 => Version, 6 => SignIn, 7 => Rights;
    otherwise Stopping
);

/// The kind of whole that a piece is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
#[cbor(index_only)]
pub enum PieceOf {
    /// An Automerge document chunk with everything up to a position.
    #[n(0)]
    Snapshot,
    /// The change at a position.
    #[n(1)]
    Change,
    /// A kind of a later version, to be passed over.
    #[n(2)]
    Unknown,
}

codes!(PieceOf: 0 => Snapshot, 1 => Change; otherwise Unknown);
