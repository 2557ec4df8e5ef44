//! One row's journey to a target.

mod fault;
mod message;

use data_encoding::BASE32_NOPAD;
use minicbor::{Decode, Encode};
use rejoin::{ChangeHash, DocumentId};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

pub use fault::{Fault, FaultClass, Reach};
pub use message::{Message, Op};

/// The document of rows that come from none.
pub const NO_DOCUMENT: DocumentId = DocumentId([0; 16]);

/// The fields of one outside row, by their outside names, masked already.
pub type Row = Map<String, Value>;

/// What is to be told to a target about one row. It never changes once it is in the outbox, so every
/// attempt sends the same.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Delivery {
    /// The same on every attempt and after every crash; another one for anything else.
    #[n(0)]
    pub key: IdempotencyKey,
    /// The adapter's name.
    #[n(1)]
    pub adapter: String,
    /// The document the row comes from.
    #[n(2)]
    pub document: DocumentId,
    /// Rises by one with every delivery of this adapter about this document, from 1.
    #[n(3)]
    pub seq: u64,
    /// The key of the delivery before, so that a receiver sees gaps.
    #[n(4)]
    pub previous: Option<IdempotencyKey>,
    /// Which row.
    #[n(5)]
    pub record: Record,
    /// What becomes of it.
    #[n(6)]
    pub action: Action,
    /// The document's heads that the row was projected from, in ascending order.
    #[n(7)]
    pub heads: Vec<ChangeHash>,
    /// Which mapping made the row: the hash of the mapping as it was then, in hex.
    #[n(8)]
    pub mapping: String,
    /// Goes with the change from its author to the target and back: the last head, in hex.
    #[n(9)]
    pub correlation: String,
    /// When it was enqueued, in milliseconds since 1970.
    #[n(10)]
    pub enqueued_ms: u64,
    /// Rises when somebody asks for everything anew: what has a higher one is newer, whatever its
    /// number.
    #[n(11)]
    #[cbor(default)]
    pub generation: u64,
}

/// The name of one effect, for receivers to see that they had it already: base32 of a SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct IdempotencyKey(#[n(0)] pub String);

/// Names one outside row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Record {
    /// The kind of row: a table, a subject, an event type.
    #[n(0)]
    pub name: String,
    /// Its key among its kind.
    #[n(1)]
    pub key: String,
}

/// What becomes of a row.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Action {
    /// The target shall hold exactly this row.
    #[n(0)]
    Put(
        #[n(0)]
        #[cbor(with = "row")]
        Row,
    ),
    /// The row is gone: the target marks it as deleted, but keeps it.
    #[n(1)]
    Mark {
        /// When that was found, in milliseconds since 1970.
        #[n(0)]
        deleted_ms: u64,
    },
    /// The row is gone: the target deletes it.
    #[n(2)]
    Delete,
}

impl Action {
    /// What the target shall hold; `None` if the row is gone.
    pub fn row(&self) -> Option<&Row> {
        match self {
            Self::Put(row) => Some(row),
            Self::Mark { .. } | Self::Delete => None,
        }
    }
}

impl Delivery {
    /// As receivers read it.
    pub fn to_json(&self) -> Value {
        json!(Message::from(self))
    }
}

/// What an idempotency key is made of, beside the record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) adapter: &'a str,
    pub(crate) document: &'a DocumentId,
    /// In ascending order.
    pub(crate) heads: &'a [ChangeHash],
    /// The heads of the schema, in ascending order.
    pub(crate) schema: &'a [ChangeHash],
    pub(crate) mapping: &'a str,
    /// Rises when somebody asks for what was delivered already.
    pub(crate) generation: u64,
    /// Rises when another mapping is applied.
    pub(crate) epoch: u64,
    /// Tells deliveries apart that come from the same heads: the time, for those that somebody asks
    /// for and those that no heads stand for, otherwise 0.
    pub(crate) again: u64,
    /// The number of the delivery. It tells two apart that are enqueued in the same millisecond, and
    /// the time tells two apart that have the same number, as after an older copy of the outbox was
    /// put back. Deliveries that heads stand for keep their key without it.
    pub(crate) seq: u64,
}

impl IdempotencyKey {
    pub(crate) fn new(origin: &Origin<'_>, record: &Record) -> Self {
        let mut hash = Sha256::new();
        let mut text = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        text("rejoin delivery 1");
        text(origin.adapter);
        text(&origin.document.to_string());
        text(&record.name);
        text(&record.key);
        text(origin.mapping);
        hash.update(origin.generation.to_be_bytes());
        hash.update(origin.epoch.to_be_bytes());
        hash.update(origin.again.to_be_bytes());
        if origin.again != 0 {
            hash.update(origin.seq.to_be_bytes());
        }
        for heads in [origin.heads, origin.schema] {
            hash.update((heads.len() as u64).to_be_bytes());
            heads.iter().for_each(|head| hash.update(head.0));
        }
        Self(BASE32_NOPAD.encode(&hash.finalize()).to_lowercase())
    }
}

/// A row in CBOR: its JSON as bytes.
pub(crate) mod row {
    use minicbor::encode::Write;
    use minicbor::{Decoder, Encoder};

    use super::Row;

    pub(crate) fn encode<C, W: Write>(
        row: &Row,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let json = serde_json::to_vec(row).expect("JSON is written into memory");
        e.bytes(&json)?.ok()
    }

    pub(crate) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<Row, minicbor::decode::Error> {
        serde_json::from_slice(d.bytes()?).map_err(minicbor::decode::Error::custom)
    }
}
