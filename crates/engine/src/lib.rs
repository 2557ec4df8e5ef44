//! The replica of Rejoin without I/O of its own but its store: edits and frames in, commits and frames
//! out.
//!
//! A driver owns an [`Engine`] over a [`Store`](store::Store), calls [`Engine::turn`] with what
//! happened, and carries to the relay what [`Engine::poll_transmit`] gives. The native driver is the
//! `rejoin` crate, which is what applications use. Nothing in here opens a socket or a file, starts a
//! thread, or reads a clock or a source of randomness: all of it is handed in, so that the same engine
//! runs in a browser and in a simulation.
//!
//! The layers, from the outside in: [`Engine`] makes one commit of what came; `write` carries out
//! edits on Automerge documents; [`diff`](fn@diff) and `value` tell what documents hold; [`store`] keeps
//! all of it in one redb file.
#![warn(missing_docs)]

mod diff;
mod engine;
mod presence;
pub mod reserved;
mod review;
mod status;
pub mod store;
mod unfit;
mod value;
mod view;
mod watch;
mod write;

pub use diff::{Op, diff};
#[cfg(feature = "mutants")]
pub use engine::Mutant;
pub use engine::{
    Cell, Closing, Content, Counters, Decision, Edit, EditError, EditOutcome, Engine, EngineError,
    EngineOptions, Foreseen, HistoryEntry, Kind, MessageError, Row, RowOutcome, Suspects, Target,
    WriteError,
};
pub use review::{Review, ReviewState, is_double_booked};
pub use status::{Link, Progress, Status};
pub use unfit::Unfit;
pub use value::{Bytes, Counter, Text, Timestamp, shown, spreadsheet_safe};
pub use view::{FieldState, FieldView, View};
pub use watch::{DocumentChanged, WatchEvent, Watcher};
pub use write::ValueKind;

/// Telling whether a file is sound, and getting what can be got from one that is not.
pub mod damage {
    pub use crate::engine::{Rebuilt, Unsound, check_document, is_whole, rebuild, recount_digests};
    pub use crate::store::{Remains, Unreadable};
}
