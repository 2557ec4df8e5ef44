//! Rows of the outbox's tables, CBOR with integer keys: unknown keys are ignored, so a newer program
//! may add some.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use rejoin::{ChangeHash, DocumentId};
use serde::{Deserialize, Serialize};

use crate::delivery::{Delivery, IdempotencyKey, Record, Row, row};

/// What was enqueued of a document so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Checkpoint {
    /// The heads, in ascending order.
    #[n(0)]
    pub heads: Vec<ChangeHash>,
    /// The heads of the schema.
    #[n(1)]
    pub schema: Vec<ChangeHash>,
    /// The mapping's version.
    #[n(2)]
    pub mapping: String,
    /// The number of the last delivery.
    #[n(3)]
    pub seq: u64,
    /// The key of the last delivery.
    #[n(4)]
    pub last: Option<IdempotencyKey>,
    /// How often somebody had asked for everything again.
    #[n(5)]
    pub generation: u64,
    /// The documents that it is about, if it is a review.
    #[n(6)]
    #[cbor(default)]
    pub about: Vec<DocumentId>,
    /// Whether it, or a document that it is about, was erased, and its rows were told to go.
    #[n(7)]
    #[cbor(default)]
    pub erased: bool,
}

/// A row as it was enqueued last, and as the target is known to hold it.
#[derive(Debug, Clone, PartialEq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Shadow {
    /// As it was enqueued last; `None` if it is gone.
    #[n(0)]
    pub wanted: Option<RowBytes>,
    /// As the target took it; `None` if it took none, or it is gone there.
    #[n(1)]
    pub held: Option<RowBytes>,
    /// The deliveries the target took, the last one last.
    #[n(2)]
    pub taken: Vec<Taken>,
    /// When it was found gone, in milliseconds since 1970.
    #[n(3)]
    pub deleted_ms: Option<u64>,
    /// Whether its document was erased: it is deleted at the target, whatever happens to others.
    #[n(4)]
    #[cbor(default)]
    pub erased: bool,
}

/// A delivery that the target took.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Taken {
    /// Its key.
    #[n(0)]
    pub key: IdempotencyKey,
    /// The document's heads it came from.
    #[n(1)]
    pub heads: Vec<ChangeHash>,
    /// When, in milliseconds since 1970.
    #[n(2)]
    pub at_ms: u64,
}

/// A row, for CBOR.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
#[cbor(transparent)]
pub struct RowBytes(
    #[n(0)]
    #[cbor(with = "row")]
    pub Row,
);

/// A delivery that waits, and what came of it so far.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Waiting {
    /// What waits.
    #[n(0)]
    pub delivery: Delivery,
    /// Attempts that failed.
    #[n(1)]
    pub attempts: u32,
    /// What the last of them came to.
    #[n(2)]
    pub fault: Option<String>,
    /// When the first of them failed, in milliseconds since 1970.
    #[n(3)]
    pub failed_since_ms: Option<u64>,
}

impl Waiting {
    /// What was not tried yet.
    pub fn new(delivery: Delivery) -> Self {
        Self { delivery, attempts: 0, fault: None, failed_since_ms: None }
    }
}

/// What people ask of something that waits, read without its row.
#[derive(Debug, Decode)]
#[cbor(map)]
pub(super) struct WaitingAbout {
    #[n(0)]
    pub(super) delivery: About,
    #[n(2)]
    pub(super) fault: Option<String>,
    #[n(3)]
    pub(super) failed_since_ms: Option<u64>,
}

/// The part of a [`Delivery`] that says what it is about.
#[derive(Debug, Decode)]
#[cbor(map)]
pub(super) struct About {
    #[n(5)]
    pub(super) record: Record,
}

/// Since when something waits, read without the rest of it.
#[derive(Debug, Decode)]
#[cbor(map)]
pub(super) struct WaitingSince {
    #[n(0)]
    pub(super) delivery: EnqueuedAt,
}

/// The part of a [`Delivery`] that says when it was enqueued.
#[derive(Debug, Decode)]
#[cbor(map)]
pub(super) struct EnqueuedAt {
    #[n(10)]
    pub(super) enqueued_ms: u64,
}

/// Something that will not be delivered unless somebody does something about it.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct DeadLetter {
    /// What was to be delivered; `None` if it was no row at all.
    #[n(0)]
    pub delivery: Option<Delivery>,
    /// The document.
    #[n(1)]
    pub document: DocumentId,
    /// The row.
    #[n(2)]
    pub record: Record,
    /// Why it is here.
    #[n(3)]
    pub class: DeadClass,
    /// What happened, for people.
    #[n(4)]
    pub fault: String,
    /// The beginning of what the target answered, if it did.
    #[n(5)]
    pub answer: Option<String>,
    /// Attempts that were made.
    #[n(6)]
    pub attempts: u32,
    /// The document's heads.
    #[n(7)]
    pub heads: Vec<ChangeHash>,
    /// When, in milliseconds since 1970.
    #[n(8)]
    pub at_ms: u64,
    /// The field that is at fault, if it is known.
    #[n(9)]
    pub field: Option<String>,
}

/// Why something is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum DeadClass {
    /// The document does not become a row.
    #[n(0)]
    Misfit,
    /// The target will never take it.
    #[n(1)]
    #[serde(rename = "refused")]
    Permanent,
    /// The target did not take it as often as it was tried.
    #[n(2)]
    Exhausted,
}

impl DeadClass {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Misfit, Self::Permanent, Self::Exhausted];

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Misfit => "misfit",
            Self::Permanent => "refused",
            Self::Exhausted => "exhausted",
        }
    }
}

/// How it stands with the target.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Endpoint {
    /// Somebody said that nothing is to be sent.
    #[n(0)]
    pub paused: bool,
    /// Why it was given up.
    #[n(1)]
    pub disabled: Option<String>,
    /// Since when nothing but failures was answered, in milliseconds since 1970.
    #[n(2)]
    pub failing_since_ms: Option<u64>,
    /// How often in a row nothing of what was handed over was taken, and nothing told why.
    #[n(3)]
    pub failures: u32,
    /// Rises when somebody asks for what was delivered already.
    #[n(4)]
    pub generation: u64,
    /// The version of the mapping that somebody wants rows to be made by.
    #[n(5)]
    pub mapping: Option<String>,
    /// Rises with every mapping that is applied: an old one that is applied again makes rows whose
    /// keys are new.
    #[n(6)]
    #[cbor(default)]
    pub epoch: u64,
    /// What lets nothing be delivered that it reaches: by the kind of row, or [`TARGET`] for all.
    #[n(7)]
    #[cbor(default)]
    pub troubles: BTreeMap<String, Trouble>,
    /// When a row of each kind was taken last, in milliseconds since 1970.
    #[n(8)]
    #[cbor(default)]
    pub taken_ms: BTreeMap<String, u64>,
}

/// What a trouble reaches that is the whole target's.
pub const TARGET: &str = "";

/// Something that lets nothing be delivered, and is no row's fault.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Trouble {
    /// What it is, for people.
    #[n(0)]
    pub what: String,
    /// Since when it lasts, in milliseconds since 1970.
    #[n(1)]
    pub since_ms: u64,
}
