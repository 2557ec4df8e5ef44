//! Frames of `rejoin.v2`, which travel between a replica and a relay.
//!
//! One binary WebSocket message holds one frame, CBOR with integer keys: an array of the frame's
//! number and a map of its fields. Unknown frames, fields and codes are passed over, so that a
//! later version may say more; a change that must be understood is another subprotocol, negotiated
//! as [`PROTOCOL`]. The bytes of every frame are frozen in `tests/wire_golden.rs`. The numbers 15
//! and 16 are kept for leaving a document and for wiping a replica.
//!
//! Spaces are named once, in [`Hello`]; later frames say their place in that list.

mod codes;
mod content;
mod opening;

use std::collections::BTreeSet;

use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};
use thiserror::Error;

pub use codes::{Access, ByeCode, PieceOf, RefusedClass, Start};
pub use content::{
    Ack, Bye, ChangePiece, Changes, Checkpoint, CollectionDigest, Erased, Listed, Listing, Nothing,
    Offer, Piece, Presence, Push, Refused, Renew, Repair, Want, Wanted,
};
pub use opening::{Backfill, Begun, BegunPiece, Cursor, Hello, SpaceGranted, SpaceWanted, Welcome};

use crate::limits;

/// The WebSocket subprotocol that this crate speaks.
pub const PROTOCOL: &str = "rejoin.v2";

/// The subprotocol before it. A replica that asks for it is told with [`old_bye`] to update.
pub const OLD_PROTOCOL: &str = "rejoin.v1";

/// The last frame of a session in `rejoin.v1`: code 3, the reason, and an hour to stay away.
pub fn old_bye() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes);
    let written = (|| {
        encoder.array(2)?.u32(11)?.array(1)?.map(3)?;
        encoder.u32(0)?.u32(3)?.u32(1)?.str(UPDATE)?.u32(2)?.u32(OLD_RETRY_MS)?;
        Ok::<(), minicbor::encode::Error<std::convert::Infallible>>(())
    })();
    written.expect("encoding into a Vec cannot fail");
    bytes
}

/// The text for replicas of the version before.
pub const UPDATE: &str =
    "this relay speaks rejoin.v2, and this program rejoin.v1: update the program";

/// Milliseconds a replica of the version before is asked to stay away.
const OLD_RETRY_MS: u32 = 3_600_000;

/// Declares the frames with their numbers, and how each is read and written.
macro_rules! frames {
    ($($(#[$doc:meta])* $number:literal $name:ident),+ $(,)?) => {
        /// One message between a replica and a relay.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Frame {
            $($(#[$doc])* $name($name),)+
        }

        impl Frame {
            fn encode_to<W: Write>(
                &self,
                encoder: &mut Encoder<W>,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                encoder.array(2)?;
                match self {
                    $(Self::$name(fields) => fields.encode(encoder.u32($number)?, &mut ()),)+
                }
            }

            fn decode_from(
                decoder: &mut Decoder<'_>,
            ) -> Result<Option<Self>, minicbor::decode::Error> {
                if decoder.array()? != Some(2) {
                    return Err(minicbor::decode::Error::message("a frame is an array of two"));
                }
                match decoder.u32()? {
                    $($number => $name::decode(decoder, &mut ()).map(|it| Some(Self::$name(it))),)+
                    _ => decoder.skip().map(|()| None),
                }
            }

            /// The frame's name, for logs and errors.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)+
                }
            }
        }
    };
}

frames! {
    /// Opens a session.
    0 Hello,
    /// Answers a [`Hello`].
    1 Welcome,
    /// Changes for the relay to keep.
    2 Push,
    /// Pushes that are durable or were refused.
    3 Ack,
    /// A push that was not kept.
    4 Refused,
    /// Changes, or a piece of a snapshot or long change, for the replica.
    5 Changes,
    /// The marks up to which the replica has a space.
    6 Checkpoint,
    /// Coded symbols, asked for or given.
    7 Repair,
    /// Documents the sender lacks something of.
    8 Want,
    /// The present activity of a peer.
    9 Presence,
    /// A fresh token on the open connection.
    10 Renew,
    /// The last frame of a session.
    11 Bye,
    /// Documents of the relay, asked for or given.
    12 Listing,
    /// Documents of the replica.
    13 Offer,
    /// The relay has no more of a document that was wanted.
    14 Nothing,
    /// A document that was erased.
    17 Erased,
}

impl Frame {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode_to(&mut Encoder::new(&mut bytes)).expect("encoding into a Vec cannot fail");
        bytes
    }

    /// Reads one frame; `None` if it is one of a later version, to be passed over.
    ///
    /// # Errors
    /// The message is larger than a frame may be, is not a frame, or has bytes after its end. The
    /// session is to be closed.
    pub fn decode(message: &[u8]) -> Result<Option<Self>, FrameError> {
        if message.len() > limits::FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge { len: message.len() });
        }
        let mut decoder = Decoder::new(message);
        let frame = Self::decode_from(&mut decoder).map_err(FrameError::Malformed)?;
        if decoder.position() != message.len() {
            return Err(FrameError::Trailing { len: message.len() - decoder.position() });
        }
        if let Some(frame) = &frame {
            frame.check()?;
        }
        Ok(frame)
    }

    /// Checks that counts and lengths are within their limits. The memory that CBOR took until here
    /// is bounded by the message's own length.
    fn check(&self) -> Result<(), FrameError> {
        let within = |what, len: usize, max: usize| {
            if len > max { Err(FrameError::Limit { what, len, max }) } else { Ok(()) }
        };
        match self {
            Self::Hello(hello) => {
                once("a space", hello.spaces.iter().map(|space| &space.name))?;
                within("spaces", hello.spaces.len(), limits::SESSION_SPACES_MAX)?;
                let token = hello.token.as_ref().map_or(0, |token| token.len());
                within("token bytes", token, limits::TOKEN_BYTES_MAX)?;
                let app = hello.app.as_ref().map_or(0, String::len);
                within("app bytes", app, limits::REASON_BYTES_MAX)?;
                let identity = hello.identity.as_ref().map_or(0, |identity| identity.len());
                within("identity bytes", identity, limits::MESSAGE_BYTES_MAX)?;
                hello.spaces.iter().filter_map(|space| space.begun.as_ref()).try_for_each(|begun| {
                    within("documents begun", begun.len(), limits::BEGUN_MAX)?;
                    once("a document", begun.iter().map(|begun| begun.document))
                })
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
            Self::Checkpoint(_) | Self::Nothing(_) | Self::Erased(_) => Ok(()),
            Self::Repair(repair) => {
                within("symbols", repair.count as usize, limits::REPAIR_SYMBOLS_MAX as usize)
            }
            Self::Want(want) => {
                within("documents", want.documents.len(), limits::WANT_DOCUMENTS_MAX)?;
                once("a document", want.documents.iter().map(|wanted| wanted.document))?;
                want.documents
                    .iter()
                    .try_for_each(|wanted| within("heads", wanted.heads.len(), limits::HEADS_MAX))
            }
            Self::Listing(listing) => {
                let documents = listing.documents.as_ref().map_or(0, Vec::len);
                within("documents", documents, limits::WANT_DOCUMENTS_MAX)
            }
            Self::Offer(offer) => {
                within("documents", offer.documents.len(), limits::WANT_DOCUMENTS_MAX)?;
                once("a document", offer.documents.iter().map(|listed| listed.document))
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

/// Checks that nothing is named twice, which would cost the receiver the same work twice for no
/// gain.
fn once<T: Ord>(what: &'static str, named: impl Iterator<Item = T>) -> Result<(), FrameError> {
    let mut seen = BTreeSet::new();
    named.into_iter().try_for_each(|name| match seen.insert(name) {
        true => Ok(()),
        false => Err(FrameError::Repeated { what }),
    })
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
    /// Bytes after the end of a frame.
    #[error("{len} bytes follow the frame")]
    Trailing {
        /// Bytes after the end.
        len: usize,
    },
    /// The same thing twice.
    #[error("{what} is named twice in one frame; name it once")]
    Repeated {
        /// The thing that is there twice.
        what: &'static str,
    },
    /// A count or length over its limit.
    #[error("{len} {what} in one frame; at most {max} are allowed")]
    Limit {
        /// The thing of which there is too much.
        what: &'static str,
        /// The amount there is.
        len: usize,
        /// The limit.
        max: usize,
    },
}

/// Cuts a text for people to the length that a frame may carry.
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
