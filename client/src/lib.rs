//! Rejoin's client: documents that are edited offline and meet again.
//!
//! Open a [`Replica`] in a file, take a [`Space`] and a [`Collection`], and create, read, edit and
//! watch [`Document`]s through your own serde types. [`Replica::connect`] keeps them in sync with a
//! relay whenever there is one. [`blocking`] has the same without `async`.
//!
//! The layers, from the outside in: handles ([`Replica`], [`Collection`], [`Document`]), the thread
//! that drives (`driver`, `dial`), the [`engine`] without I/O of its own, and the [`store`].
#![warn(missing_docs)]

mod applying;
pub mod blocking;
mod booking;
mod collection;
mod dial;
mod diff;
pub mod doctor;
mod document;
mod driver;
pub mod engine;
mod file;
mod presence;
mod replica;
mod review;
pub mod salvage;
mod saved;
pub mod schema;
mod status;
pub mod store;
mod unfit;
mod unsent;
mod value;
mod view;
mod watch;
mod write;

pub use booking::{Booked, Booking, BookingState};
pub use collection::{Collection, Entry, RowKey};
pub use dial::AddressError;
pub use diff::{Op, diff};
pub use document::Document;
pub use engine::{
    Cell, Counters, Decision, EditError, EngineOptions, Foreseen, HistoryEntry, Kind, Row,
    RowOutcome, WriteError,
};
pub use file::{Holder, OpenError};
pub use rejoin_core::invariant::look_up;
pub use rejoin_core::lineage::{
    Blame, BlamedWrite, Candidate, DERIVATION, FieldPath, Question, Step, Written, Wrote,
};
pub use rejoin_core::number::{self, InexactNumber, JsonError, exact_json};
pub use rejoin_core::schema::Misfit;
pub use rejoin_core::time::{NoZone, Zone, time_ms};
pub use rejoin_core::{
    ActorId, ChangeHash, CollectionName, DeviceId, DocumentId, Identity, NameError, Path, PeerId,
    ReviewId, Segment, SetDigest, Settlement, SpaceName, is_hidden, printable,
};
pub use replica::{ConnectError, Listed, Replica, Space};
pub use review::{REVIEWS, Review, ReviewCandidate, ReviewState, Reviews};
pub use saved::{Edited, SaveError, SetAside};
pub use status::{Link, Progress, Status};
pub use store::{ReviewKind, ReviewedDocument};
pub use unfit::Unfit;
pub use unsent::Unsent;
pub use value::{Bytes, Counter, Text, Timestamp, shown, spreadsheet_safe};
pub use view::{FieldState, FieldView, View};
pub use watch::{Change, WatchEvent, Watcher};
pub use write::ValueKind;
