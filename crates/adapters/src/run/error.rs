//! Why adapters cannot run, and why what people ask of them cannot be done.

use rejoin::{NameError, ReadError};
use thiserror::Error;

use super::follow::FollowError;
use crate::delivery::Fault;
use crate::outbox::OutboxError;
use crate::secret::SecretError;
use crate::sink::SinkError;

/// Adapters cannot run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// An outbox cannot be opened.
    #[error(
        "the outbox of {adapter} cannot be opened; if `rejoin adapters run` or a relay has it open, \
         end that first"
    )]
    Open {
        /// Which adapter.
        adapter: String,
        /// What is in the way.
        source: Box<redb::DatabaseError>,
    },
    /// An outbox cannot be used.
    #[error("the outbox of {adapter} cannot be used")]
    Outbox {
        /// Which adapter.
        adapter: String,
        /// What is in the way.
        source: OutboxError,
    },
    /// A sink cannot be made.
    #[error("{adapter} cannot use its target")]
    Sink {
        /// Which adapter.
        adapter: String,
        /// What is in the way.
        source: SinkError,
    },
    /// A secret is missing.
    #[error("{adapter} lacks a secret")]
    Secret {
        /// Which adapter.
        adapter: String,
        /// Which one.
        source: SecretError,
    },
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The folder cannot be used.
    #[error("{folder} cannot be used")]
    Folder {
        /// Which folder.
        folder: String,
        /// What is in the way.
        source: std::io::Error,
    },
}

/// Something could not be told or done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OperateError {
    /// There is no such adapter.
    #[error("there is no adapter {name:?}; the configuration has {}", known.join(", "))]
    NoAdapter {
        /// The name that was given.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// The adapter cannot begin.
    #[error("{adapter} is stopped: {why}")]
    Stopped {
        /// Which adapter.
        adapter: String,
        /// What is in the way.
        why: String,
    },
    /// The outbox cannot be used, or has no such dead letter.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The replica cannot be read.
    #[error(transparent)]
    Replica(ReadError),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no replica to look into.
    #[error("there are no documents to compare with yet; `rejoin adapters run` brings them")]
    NoReplica,
    /// The configuration is not sound.
    #[error("the configuration cannot be used: {0}; `rejoin adapters lint` tells it all")]
    Config(String),
    /// A secret is missing.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// An adapter could not begin as it is written.
    #[error("{adapter} cannot begin like that: {error}; nothing was changed")]
    Unusable {
        /// Which adapter.
        adapter: String,
        /// What is in the way.
        error: SinkError,
    },
    /// The target cannot be read.
    #[error("the target cannot be read: {0}")]
    Target(#[from] Fault),
    /// The target can never be read.
    #[error(
        "nobody can ask the target of {adapter} what it holds; `rejoin adapters backfill {adapter}` \
         sends everything anew"
    )]
    Unreadable {
        /// Which adapter.
        adapter: String,
    },
    /// No document became such a row.
    #[error("no document became {name} {key} in {adapter}")]
    NoRow {
        /// Which adapter.
        adapter: String,
        /// The row's kind.
        name: String,
        /// The row's key.
        key: String,
    },
}

impl From<FollowError> for OperateError {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Outbox(error) => Self::Outbox(error),
            FollowError::Replica(error) => Self::Replica(error),
        }
    }
}
