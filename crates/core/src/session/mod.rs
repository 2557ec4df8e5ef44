//! The two ends of a session as state machines without I/O.
//!
//! Methods come in three kinds, as in `quinn_proto::Connection`: `handle_*` takes an event,
//! `poll_*` gives the next thing to do, and the others are getters. Time is an argument, in
//! milliseconds of any clock that does not run backwards. No method waits.
//!
//! Neither end reads or writes a store. The driver does, and tells the session **after** the
//! commit: a push is given to the [`ReplicaSession`] only when its changes are committed locally,
//! and [`RelaySession::handle_stored`] and [`RelaySession::handle_committed`] are called only for
//! changes that the relay's commit holds. So no frame makes a promise that a crash could take back.
//!
//! Any error ends the session. Both ends start the next one from durable state.

mod relay;
mod replica;
mod short;

pub use relay::{
    BackfillPage, Batch, Large, Located, LogPage, Opened, Part, Read, ReadAnswer, RelayEvent,
    RelaySession, StoreOutcome, Transmit,
};
pub use replica::{Difference, Granted, Opening, ReplicaEvent, ReplicaSession, SpaceStart};

use thiserror::Error;

use crate::repair::RepairError;

/// The other end broke the protocol. Send [`Bye`](crate::wire::Bye) with the message and close.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A frame that does not belong here.
    #[error("{frame} frame is not expected {when}")]
    Unexpected {
        /// The frame's name.
        frame: &'static str,
        /// The state of the session.
        when: &'static str,
    },
    /// A space that the Hello did not name, or that was not granted.
    #[error("space number {space} is not open in this session")]
    Space {
        /// Its number.
        space: u32,
    },
    /// Pushes count from 1 without gaps.
    #[error("push {got} came where push {expected} was due")]
    PushOrder {
        /// The number that came.
        got: u64,
        /// The number that was due.
        expected: u64,
    },
    /// More pushes without an answer than allowed.
    #[error("more than {max} pushes wait for an answer")]
    TooManyPushes {
        /// The limit.
        max: usize,
    },
    /// More documents wanted at once than allowed.
    #[error("more than {max} documents are wanted at once")]
    TooManyWanted {
        /// The limit.
        max: usize,
    },
    /// A piece of a snapshot or of a long change that is empty, or beyond its end or the limit.
    #[error("a piece at {offset} of {total} bytes cannot be")]
    Piece {
        /// The offset at which the piece begins, in bytes.
        offset: u64,
        /// The bytes of the whole.
        total: u64,
    },
    /// Symbols that are not those of a set.
    #[error("repair failed")]
    Repair(#[from] RepairError),
    /// The other end is silent.
    #[error("no {awaited} within {seconds} s")]
    Timeout {
        /// The frame that did not come.
        awaited: &'static str,
        /// The seconds it was waited for.
        seconds: u64,
    },
}

/// Milliseconds either end waits for the other's first frame.
pub const HANDSHAKE_MS_MAX: u64 = 10_000;
