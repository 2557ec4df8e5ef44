//! Folding a document's changes into one snapshot, and taking one apart, away from the relay.
//!
//! This is the one place where the relay's bytes meet Automerge, and Automerge can panic, abort and
//! run out of memory on bytes that were made for it. So it happens in a child process with limits
//! of its own: the relay hands over a snapshot and changes, and takes back a snapshot only if its
//! heads and its number of changes are those of the change graph. Heads are hashes over everything
//! before them, so then no change is missing and none was added.

mod process;
mod worker;

use rejoin_core::ChangeHash;
use thiserror::Error;

pub use process::WorkerProcess;
pub use worker::{
    WORKER_ADDRESS_BYTES_MAX, WorkerError, compact_in_process, compact_worker,
    compact_worker_process, take_apart_in_process,
};

use crate::store::FoldError;

/// The result that a worker made of a [`FoldInput`](crate::store::FoldInput).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compacted {
    /// The heads of the document it loaded, sorted.
    pub(crate) heads: Vec<ChangeHash>,
    /// The number of changes it loaded.
    pub(crate) changes: u64,
    pub(crate) snapshot: Vec<u8>,
    /// Whether this very process loaded the document.
    pub(crate) in_process: bool,
}

impl Compacted {
    /// The number of changes in the snapshot.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The snapshot: an Automerge document chunk.
    pub fn snapshot(&self) -> &[u8] {
        &self.snapshot
    }
}

/// A document was not folded. It is served from its changes as before.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompactionError {
    /// The worker could not be started.
    #[error("cannot start the compaction worker {program:?}; check `compaction_worker`")]
    Start {
        /// The program that was to be started.
        program: std::ffi::OsString,
        /// The reason why it was not.
        source: std::io::Error,
    },
    /// The worker took too long and was killed.
    #[error("the compaction worker was killed after {seconds} s; raise its time limit")]
    TimedOut {
        /// The seconds it had.
        seconds: u64,
    },
    /// The relay stopped meanwhile.
    #[error("the relay stops; the document is folded some other time")]
    Cancelled,
    /// There is no worker to do it.
    #[error("no worker is configured or free, and documents are taken apart by one only")]
    NoWorker,
    /// A document and its changes take more memory than the relay gives to all uploads together.
    #[error(
        "the document and its changes come to {bytes} bytes, of at most {max}; send it as changes"
    )]
    TooLarge {
        /// The bytes they come to.
        bytes: usize,
        /// The limit, `RelayOptions::peer_bytes_max`.
        max: usize,
    },
    /// The worker ended without a result.
    #[error("the compaction worker failed ({status}); at the level debug the log has what it said")]
    Failed {
        /// The way in which it ended.
        status: String,
        /// The text it wrote to its standard error. It may quote the document, so it is no part of
        /// this error's message.
        message: String,
    },
    /// The worker, in this process, refused the document.
    #[error("the document could not be folded")]
    Worker(#[from] WorkerError),
    /// The bytes that the worker wrote are no result.
    #[error("the compaction worker's answer cannot be read; is it of the same version?")]
    Answer(#[source] std::io::Error),
    /// The document that came back is not the one that went out.
    #[error(
        "the snapshot has {found} changes where {expected} went in, or other heads; keep the changes and report this"
    )]
    Differs {
        /// Changes in the snapshot.
        found: u64,
        /// Changes it should have.
        expected: u64,
    },
    /// The document could not be read.
    #[error("the document could not be read for folding")]
    Read(#[from] FoldError),
}
