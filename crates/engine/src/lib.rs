//! The replica of Rejoin without I/O of its own but its store: edits and frames in, commits and
//! frames out.
//!
//! A driver owns an [`Engine`] over a [`Store`](store::Store), calls [`Engine::turn`] with edits
//! after it gave it the relay's messages, and carries the messages of [`Engine::poll_transmit`] to
//! the relay. The native driver is the `rejoin` crate, which applications use. This crate opens no
//! socket and no file, starts no thread, and reads neither a clock nor a source of randomness: all
//! of it is handed in, so that the same engine runs in a browser and in a simulation.
//!
//! The layers, from the outside in: [`Engine`] makes one commit of the edits and messages that
//! came; `write` carries out edits on Automerge documents; [`diff`](fn@diff) and `value` compare
//! and read the values of documents; [`store`] keeps all of it in one redb file.
#![warn(missing_docs)]

mod booking;
mod diff;
mod engine;
mod presence;
mod query;
pub mod reserved;
mod review;
mod status;
pub mod store;
mod unfit;
mod value;
mod view;
mod watch;
mod write;

pub use booking::{Booked, Booking, BookingState};
pub use diff::{Op, diff};
#[cfg(feature = "mutants")]
pub use engine::Mutant;
pub use engine::{
    Batch, Cell, Closing, Content, Counters, Decision, Edit, EditError, EditOutcome, Engine,
    EngineError, EngineOptions, Foreseen, HistoryEntry, Kind, MessageError, Read, ReadError, Row,
    RowOutcome, SettleError, SignOutError, Suspects, Target, Token, WriteError,
};
pub use engine::{FieldUndone, Kept, KeptWhy, UndoError, Undone, UndoneDocument, Way};
pub use query::{Condition, Difference, Found, Live, Look, Plan, Query, ScanReason, Sort};
pub use review::{Review, ReviewState};
pub use status::{Link, Progress, Status};
pub use unfit::Unfit;
pub use value::{Bytes, Counter, Text, Timestamp, shown, spreadsheet_safe};
pub use view::{FieldState, FieldView, View};
pub use watch::{DocumentChanged, WatchEvent, Watcher};
pub use write::ValueKind;

/// Checks whether a file is sound, and the means to save documents out of one that is not.
pub mod damage {
    pub use crate::engine::{Rebuilt, Unsound, check_document, is_whole, rebuild, recount_digests};
    pub use crate::store::{Remains, Unreadable};
}
