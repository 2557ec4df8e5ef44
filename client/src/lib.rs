//! Rejoin's client: documents that are edited offline and meet again.
//!
//! Open a [`Replica`] in a file, take a [`Space`] and a [`Collection`], and create, read, edit and
//! watch [`Document`]s through your own serde types. [`Replica::connect`] keeps them in sync with a
//! relay whenever there is one. [`blocking`] has the same without `async`.
//!
//! The layers, from the outside in: handles ([`Replica`], [`Collection`], [`Document`]), the thread
//! that drives (`driver`, `dial`), the [engine](rejoin_engine::Engine) without I/O of its own, and
//! the [store](rejoin_engine::store).
#![warn(missing_docs)]

mod applying;
pub mod blocking;
mod booking;
mod collection;
mod dial;
pub mod doctor;
mod document;
mod driver;
mod file;
mod query;
mod replica;
mod review;
pub mod salvage;
mod saved;
pub mod schema;
mod undo;
mod unfit;
mod unsent;

pub use collection::{Collection, Entry, RowKey};
pub use dial::AddressError;
pub use document::Document;
pub use file::{Holder, OpenError};
pub use query::{Item, LiveQuery, Query};
pub use rejoin_core::Misfit;
pub use rejoin_core::invariant::look_up;
pub use rejoin_core::lineage::{
    Blame, BlamedWrite, Candidate, DERIVATION, FieldPath, Question, Step, Written, Wrote,
};
pub use rejoin_core::number::{self, InexactNumber, JsonError, exact_json};
pub use rejoin_core::time::{NoZone, Zone, time_ms};
pub use rejoin_core::{
    ActorId, ChangeHash, CollectionName, DeviceId, DocumentId, Identity, NameError, Path, PeerId,
    ReviewId, Segment, SetDigest, Settlement, SpaceName, is_hidden, printable,
};
pub use rejoin_engine::reserved::REVIEWS;
pub use rejoin_engine::store::{ReviewKind, ReviewedDocument, StoreError};
pub use rejoin_engine::{
    Booked, Booking, BookingState, Bytes, Cell, Condition, Counter, Counters, Decision, Difference,
    DocumentChanged, EditError, EditOutcome, EngineOptions, FieldState, FieldUndone, FieldView,
    Foreseen, HistoryEntry, Kept, KeptWhy, Kind, Link, Op, Plan, Progress, Review, ReviewState,
    Row, RowOutcome, Status, Text, Timestamp, UndoError, Undone, UndoneDocument, Unfit, ValueKind,
    View, WatchEvent, Watcher, Way, WriteError, diff, shown, spreadsheet_safe,
};
pub use replica::{ConnectError, Listed, Replica, Space};
pub use review::Reviews;
pub use saved::{Edited, SaveError, SetAside};
pub use undo::Batch;
pub use unsent::Unsent;
