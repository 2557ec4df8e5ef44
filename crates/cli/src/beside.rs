//! A replica is open in one process at a time. If a command is about a replica that another process
//! has open, that process carries the command out, and prints and reads where the command was typed.
//!
//! The process that opens a replica [listens](Holding) on a socket beside the file, which only the
//! owner of the file can use. A command that finds the socket [asks](ask) there before it opens the
//! file itself: it sends its command line, and from then on prints and reads as the other process
//! tells it. The process that has the file open works for such a guest with the same functions as for
//! a command of its own; these functions find the guest's terminal, standard input and files in
//! [`caller`](crate::caller). On systems without such sockets, the second command is refused.

#[cfg(unix)]
mod asking;
#[cfg(unix)]
mod frames;
#[cfg(not(unix))]
mod nowhere;
#[cfg(unix)]
mod serving;
#[cfg(unix)]
mod socket;

use std::ffi::OsString;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use rejoin::OpenError;
use tokio::time::sleep;

use crate::acting::Acting;
use crate::place::PlaceArguments;

#[cfg(unix)]
use asking::ask;
#[cfg(not(unix))]
use nowhere::ask;
#[cfg(not(unix))]
pub(crate) use nowhere::{Holding, serve_with};
#[cfg(unix)]
pub(crate) use serving::{Holding, serve_with};

/// A command about a replica, as far as this module has to know it to ask another process for it.
#[cfg_attr(not(unix), expect(dead_code, reason = "nobody is asked there"))]
pub(crate) struct Asked<'a> {
    pub(crate) place: &'a PlaceArguments,
    /// Whether the command goes on until it is interrupted.
    pub(crate) goes_on: bool,
    /// Whether the command may change the replica.
    pub(crate) edits: bool,
}

/// Reads the command line of a guest: its words, the replica and the user that the guest's command line
/// or environment names. The commands stand above this module, so `main` hands this over with
/// [`serve_with`].
pub(crate) type ReadGuest =
    fn(Vec<OsString>, Option<PathBuf>, Option<Acting>) -> Result<GuestCommand, clap::Error>;

/// The command of a guest, ready to be carried out.
#[cfg_attr(not(unix), expect(dead_code, reason = "there are no guests"))]
pub(crate) struct GuestCommand {
    /// Whether the command goes on until it is interrupted.
    pub(crate) goes_on: bool,
    /// Carries the command out, tells the guest of an error, and ends with the exit code.
    pub(crate) ending: Pin<Box<dyn Future<Output = ExitCode>>>,
}

/// The outcome of asking the process that has a replica open.
#[cfg_attr(not(unix), expect(dead_code, reason = "nobody is asked there"))]
enum Answer {
    /// No process listens.
    Nobody,
    /// The command was carried out.
    Ended(ExitCode),
    /// The process ended before the command did, and the command has to go on elsewhere.
    Over,
}

/// Carries out a command about a replica: in the process that has the replica open, or else in this
/// one.
pub(crate) async fn run(
    asked: &Asked<'_>,
    carry_out: impl AsyncFn() -> Result<ExitCode>,
) -> Result<ExitCode> {
    let file = asked.place.file()?;
    let mut since = Instant::now();
    loop {
        match ask(file, asked).await? {
            Answer::Ended(code) => return Ok(code),
            Answer::Over => since = Instant::now(),
            Answer::Nobody => {}
        }
        match carry_out().await {
            // Nothing was done yet. The process that has the replica open may be about to listen, or
            // to close it.
            Err(error) if is_held(&error) && since.elapsed() < PATIENCE => sleep(AGAIN).await,
            ended => return ended,
        }
    }
}

/// Whether a command failed because another process has the replica open.
pub(crate) fn is_held(error: &anyhow::Error) -> bool {
    let held = |error: &OpenError| matches!(error, OpenError::Locked { .. });
    error.downcast_ref::<OpenError>().is_some_and(held)
}

/// How long a process that has a replica open may take to answer, or to close the replica.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait before a replica that was open elsewhere is tried again.
const AGAIN: Duration = Duration::from_millis(30);
