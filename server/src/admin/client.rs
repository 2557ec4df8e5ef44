//! Asks a relay that runs in a folder, over its socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Answer, Ask, Reply};

/// The relay could not be asked, or could not answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AskError {
    /// No relay runs there.
    #[error("no relay runs in {}; start it, or name the folder of one that runs with --data", path.display())]
    NotRunning {
        /// The folder.
        path: PathBuf,
    },
    /// The socket's path is longer than the system takes.
    #[error("the path of {} is too long for a socket; give the relay a folder with a shorter one, or ask with a relative path", path.display())]
    LongPath {
        /// The folder.
        path: PathBuf,
    },
    /// Another user's relay.
    #[error("the relay in {} is another user's; ask as that user", path.display())]
    Forbidden {
        /// The folder.
        path: PathBuf,
    },
    /// It does not answer.
    #[error("the relay does not answer; look at its log")]
    Silent(#[source] io::Error),
    /// It answers that it cannot.
    #[error("{0}")]
    Refused(String),
    /// The answer makes no sense.
    #[error("a relay of another version answers; start it again with this one")]
    AnotherVersion,
    /// The relay ended while it sent a backup.
    #[error("the backup broke off after {bytes} bytes: the relay ended; take another one")]
    CutShort {
        /// The bytes that came.
        bytes: u64,
    },
    /// What came could not be written.
    #[error("the backup cannot be written")]
    Write(#[source] io::Error),
}

/// Asks the relay that runs in this folder.
///
/// # Errors
/// As [`AskError`].
pub fn ask(data: &Path, ask: &Ask) -> Result<Answer, AskError> {
    Ok(begin(data, ask)?.0)
}

/// Writes a whole backup of the relay that runs in this folder. `progress` is told the bytes that
/// came.
///
/// # Errors
/// As [`AskError`].
pub fn back_up(
    data: &Path,
    mut to: impl Write,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, AskError> {
    let (answer, mut bytes) = begin(data, &Ask::Backup)?;
    if answer != Answer::Backup {
        return Err(AskError::AnotherVersion);
    }
    let (mut block, mut sum) = (vec![0; BLOCK_BYTES], 0);
    // The last bytes are the checksum of those before.
    let (mut hash, mut last) = (Sha256::new(), Vec::new());
    loop {
        match bytes.read(&mut block).map_err(AskError::Silent)? {
            0 => break,
            read => {
                to.write_all(&block[..read]).map_err(AskError::Write)?;
                last.extend_from_slice(&block[..read]);
                let hashed = last.len().saturating_sub(CHECKSUM_BYTES);
                hash.update(&last[..hashed]);
                last.drain(..hashed);
                sum += read as u64;
                progress(sum);
            }
        }
    }
    to.flush().map_err(AskError::Write)?;
    match hash.finalize().as_slice() == last.as_slice() {
        true => Ok(sum),
        false => Err(AskError::CutShort { bytes: sum }),
    }
}

#[cfg(unix)]
fn begin(data: &Path, ask: &Ask) -> Result<(Answer, impl Read), AskError> {
    use std::os::unix::net::UnixStream;
    let path = || data.to_owned();
    let stream = UnixStream::connect(super::socket(data)).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => AskError::Forbidden { path: path() },
        io::ErrorKind::InvalidInput => AskError::LongPath { path: path() },
        _ => AskError::NotRunning { path: path() },
    })?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(AskError::Silent)?;
    let line = serde_json::to_string(ask).map_err(|_| AskError::AnotherVersion)?;
    (&stream).write_all(format!("{line}\n").as_bytes()).map_err(AskError::Silent)?;
    let mut reader = BufReader::new(stream);
    let mut reply = String::new();
    reader.read_line(&mut reply).map_err(AskError::Silent)?;
    if !reply.ends_with('\n') {
        return Err(AskError::Silent(io::ErrorKind::UnexpectedEof.into()));
    }
    match serde_json::from_str(&reply) {
        Ok(Reply::Ok(answer)) => Ok((answer, reader)),
        Ok(Reply::Error(error)) => Err(AskError::Refused(error)),
        Err(_) => Err(AskError::AnotherVersion),
    }
}

/// There are no such sockets, and so no relay answers.
#[cfg(not(unix))]
fn begin(data: &Path, _: &Ask) -> Result<(Answer, io::Empty), AskError> {
    Err(AskError::NotRunning { path: data.to_owned() })
}

/// The time that a relay may take for an answer: shrinking a large file takes minutes.
const PATIENCE: Duration = Duration::from_mins(30);

/// Bytes of the checksum at the end of a backup.
const CHECKSUM_BYTES: usize = 32;

/// Bytes of a backup that are read at once.
const BLOCK_BYTES: usize = 256 << 10;
