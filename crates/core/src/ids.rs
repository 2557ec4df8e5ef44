//! Names of things: documents, actors, changes, spaces and collections, devices.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};
use thiserror::Error;
use uuid::Uuid;

use crate::limits;

/// One document: 16 bytes, written as automerge-repo writes them
/// (`automerge:` and base58check), so one id serves both worlds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct DocumentId(#[cbor(with = "minicbor::bytes")] pub [u8; 16]);

impl DocumentId {
    /// The document that `genesis` names in a collection of a space: a UUIDv5, so every device
    /// that creates the same record creates the same document.
    pub fn derive(space: &SpaceName, collection: &CollectionName, genesis: &Genesis) -> Self {
        let mut name = Vec::new();
        for part in [space.as_str(), collection.as_str(), &genesis.to_string()] {
            name.extend_from_slice(&(part.len() as u32).to_be_bytes());
            name.extend_from_slice(part.as_bytes());
        }
        Self(*Uuid::new_v5(&NAMESPACE, &name).as_bytes())
    }

    /// A document without a natural key, from 16 random bytes; the version bits of a UUIDv4 are
    /// set, so that it is never taken for a derived one.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(*uuid::Builder::from_random_bytes(bytes).into_uuid().as_bytes())
    }

    /// Whether the id was derived from a natural key, rather than drawn at random.
    pub fn is_derived(&self) -> bool {
        Uuid::from_bytes(self.0).get_version_num() == 5
    }
}

/// The message of a derived document's genesis change: its natural key, and how often that key was
/// erased before. Written `incarnation:key`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Genesis {
    /// Counts from 0; raised by an operator's `erase`, so an erased record can be made anew.
    pub incarnation: u32,
    /// The natural key, not empty, at most [`limits::KEY_BYTES_MAX`] bytes.
    pub key: String,
}

impl Genesis {
    /// The first incarnation of `key`.
    ///
    /// # Errors
    /// The key is empty or longer than [`limits::KEY_BYTES_MAX`].
    pub fn first(key: impl Into<String>) -> Result<Self, NameError> {
        let key = key.into();
        check_name("key", &key, limits::KEY_BYTES_MAX)?;
        Ok(Self { incarnation: 0, key })
    }
}

impl fmt::Display for Genesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.incarnation, self.key)
    }
}

impl FromStr for Genesis {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::Genesis { text: text.chars().take(80).collect() };
        let (incarnation, key) = text.split_once(':').ok_or_else(wrong)?;
        let parsed =
            Self { incarnation: incarnation.parse().map_err(|_| wrong())?, ..Self::first(key)? };
        // `+1` and `01` parse as numbers too, but one genesis has one spelling.
        if parsed.to_string() == text { Ok(parsed) } else { Err(wrong()) }
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "automerge:{}", bs58::encode(self.0).with_check().into_string())
    }
}

impl fmt::Debug for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DocumentId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::Document { text: text.chars().take(80).collect() };
        let encoded = text.strip_prefix("automerge:").unwrap_or(text);
        let bytes = bs58::decode(encoded).with_check(None).into_vec().map_err(|_| wrong())?;
        Ok(Self(bytes.try_into().map_err(|_| wrong())?))
    }
}

/// SHA-256 of an Automerge change: its identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct ChangeHash(#[cbor(with = "minicbor::bytes")] pub [u8; 32]);

impl ChangeHash {
    /// The first 8 bytes, enough to name a head of a known document on the wire.
    pub fn short(&self) -> ShortHash {
        let mut short = [0; 8];
        short.copy_from_slice(&self.0[..8]);
        ShortHash(short)
    }
}

impl fmt::Display for ChangeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for ChangeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0[..6])
    }
}

/// The first 8 bytes of a [`ChangeHash`], or of a document's heads hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct ShortHash(#[cbor(with = "minicbor::bytes")] pub [u8; 8]);

impl fmt::Display for ShortHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for ShortHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// The maker of a change in Automerge's sense: one writer that counts its changes. At most
/// [`limits::ACTOR_BYTES_MAX`] bytes; a new one per document and process start.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId(pub Vec<u8>);

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

macro_rules! sixteen_bytes {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(with = "minicbor::bytes")] pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0[..4])
            }
        }
    };
}

sixteen_bytes! {
    /// One replica file, drawn at random when it is created.
    DeviceId
}
sixteen_bytes! {
    /// One relay, drawn at random when its store is created.
    RelayId
}
sixteen_bytes! {
    /// One lifetime of a space in a relay's store. A new or restored store has another epoch, so
    /// cursors of the old one are recognised.
    Epoch
}
sixteen_bytes! {
    /// One question for a person: half a SHA-256 of what it is about, so every replica gives it
    /// the same id.
    ReviewId
}

/// Reads the 32 hex digits that [`Display`](fmt::Display) writes.
impl FromStr for ReviewId {
    type Err = ReviewIdError;
    fn from_str(text: &str) -> Result<Self, ReviewIdError> {
        let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
        Ok(Self(number.ok_or(ReviewIdError)?.to_be_bytes()))
    }
}

/// A text is not the id of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not the id of a review: give the 32 hex digits that `reviews` shows")]
pub struct ReviewIdError;

sixteen_bytes! {
    /// One present peer: a session's own choice, as a rule [of its device](Self::of_device).
    PeerId
}

impl PeerId {
    /// The id by which others know a device while it is present: half a SHA-256 of the device's id.
    /// They do not learn the device's id itself, by which a relay knows it again.
    pub fn of_device(device: &DeviceId) -> Self {
        let mut hash = Sha256::new();
        hash.update("rejoin present ");
        hash.update(device.0);
        let hash: [u8; 32] = hash.finalize().into();
        Self(hash[..16].try_into().expect("half of 32 bytes are 16"))
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
        #[cbor(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks and takes a name.
            ///
            /// # Errors
            /// It is empty, longer than [`limits::NAME_BYTES_MAX`] or holds a control character.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                check_name($what, &name, limits::NAME_BYTES_MAX)?;
                Ok(Self(name))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                Self::new(d.str()?).map_err(minicbor::decode::Error::custom)
            }
        }
    };
}

name! {
    /// The name of a space: a set of documents that are shared, authorised and replicated together.
    SpaceName, "space"
}
name! {
    /// The name of a collection: a kind of document in a space.
    CollectionName, "collection"
}

/// A name or id from outside that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// A space, collection or key without a character.
    #[error("the {what} is empty; give it a name")]
    Empty {
        /// The name.
        what: &'static str,
    },
    /// A space, collection or key over its limit.
    #[error("the {what} has {len} bytes; use at most {max}")]
    TooLong {
        /// The name.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A control character in a name would break tables and logs.
    #[error("the {what} holds a control character; remove it")]
    Control {
        /// The name.
        what: &'static str,
    },
    /// Not a document id.
    #[error("{text:?} is not a document id; it reads automerge: and base58check of 16 bytes")]
    Document {
        /// The text that was given, shortened.
        text: String,
    },
    /// Not the message of a genesis change.
    #[error("{text:?} is not a genesis; it reads incarnation:key")]
    Genesis {
        /// The text that was given, shortened.
        text: String,
    },
}

fn check_name(what: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > max {
        return Err(NameError::TooLong { what, len: name.len(), max });
    }
    if name.chars().any(char::is_control) {
        return Err(NameError::Control { what });
    }
    Ok(())
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Namespace of derived document ids: the UUIDv5 of "rejoin" in the nil namespace, frozen.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d1a_f6b4_8c0e_5a0d_9c6f_2b6e_7265_6a6f);
