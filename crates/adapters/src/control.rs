//! How commands reach adapters that run: one line of JSON each way, on a socket in the data folder
//! that only its owner can use. Where there are no such sockets, commands open the outboxes
//! themselves once nobody runs there.

#[cfg(unix)]
mod local;
#[cfg(not(unix))]
mod nowhere;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

#[cfg(unix)]
pub use local::{ask, serve};
#[cfg(not(unix))]
pub use nowhere::{ask, serve};

/// What was asked could not be done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No adapters run in this folder.
    #[error("no adapters run here")]
    NotRunning,
    /// They do not answer.
    #[error("the adapters that run do not answer: {0}; look at their log")]
    Silent(#[source] io::Error),
    /// They answer that it cannot be done.
    #[error("{0}")]
    Refused(String),
    /// What they answer is not what this program reads.
    #[error("another version answers; start the adapters again with this one")]
    AnotherVersion,
}

/// Where the socket of a data folder is.
pub fn socket(data: &Path) -> PathBuf {
    data.join("control.sock")
}
