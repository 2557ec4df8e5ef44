//! A replica is open in one process at a time. A command about one that is open in another process is
//! carried out by that process, and reads and prints where it was typed.
//!
//! Whoever opens a replica [listens](Holding) on a socket beside the file, which only its owner can
//! use. Who finds the socket [asks](ask) there before it opens the file itself: it sends its command
//! line, and from then on does what it is told, which is to print and to read. Who holds the file works
//! with the same functions as for a command of its own; they find the other's terminal, standard input
//! and files in [`caller`](crate::caller). Where there are no such sockets, the second command is
//! refused.

#[cfg(unix)]
mod asking;
#[cfg(unix)]
mod frames;
mod host;
#[cfg(not(unix))]
mod nowhere;
#[cfg(unix)]
mod serving;
#[cfg(unix)]
mod socket;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use rejoin::OpenError;
use tokio::time::sleep;

use crate::arguments::Arguments;
use crate::local::file;
use crate::output::Output;

#[cfg(unix)]
use asking::ask;
pub(crate) use host::Host;
#[cfg(not(unix))]
pub(crate) use nowhere::Holding;
#[cfg(not(unix))]
use nowhere::ask;
#[cfg(unix)]
pub(crate) use serving::Holding;

/// What came of asking the process that has a replica open.
#[cfg_attr(not(unix), expect(dead_code, reason = "nobody is asked there"))]
enum Answer {
    /// Nobody is there to be asked.
    Nobody,
    /// The command was carried out.
    Ended(ExitCode),
    /// The process ended, and this command goes on.
    Over,
}

/// Carries out a command about a replica: in the process that has it open, or else here.
pub(crate) async fn run(arguments: &Arguments, output: Output) -> Result<ExitCode> {
    let file = file(&arguments.place)?;
    let mut asked = Instant::now();
    loop {
        match ask(file, arguments).await? {
            Answer::Ended(code) => return Ok(code),
            Answer::Over => asked = Instant::now(),
            Answer::Nobody => {}
        }
        match arguments.carry_out(output).await {
            // Nothing was done yet. Whoever has it may begin to listen, or be about to close it.
            Err(error) if is_held(&error) && asked.elapsed() < PATIENCE => sleep(AGAIN).await,
            ended => return ended,
        }
    }
}

/// Whether a command failed because another process has the replica open.
pub(crate) fn is_held(error: &anyhow::Error) -> bool {
    let held = |error: &OpenError| matches!(error, OpenError::Locked { .. });
    error.downcast_ref::<OpenError>().is_some_and(held)
}

/// How long who has a replica open may take to answer, or to close it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long until it is tried again.
const AGAIN: Duration = Duration::from_millis(30);
