//! Whoever typed a command: their terminal, their standard input and files, and whether they still
//! wait. That is this process, or a [`Guest`]: somebody for whom a process carries a command out on the
//! replica it has open, see [`beside`](crate::beside).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rejoin::Zone;
use serde::{Deserialize, Serialize};
use tokio::signal::ctrl_c;

use crate::beside::Host;
use crate::clock::own_zone;

tokio::task_local! {
    /// For whom the command of this task is carried out, if not for this process.
    static GUEST: Arc<Guest>;
}

/// Somebody else, for whom a command is carried out.
pub(crate) struct Guest {
    /// Where their command was typed.
    pub(crate) terminal: Terminal,
    /// The replica that is open here.
    pub(crate) host: Arc<Host>,
    /// How they are reached.
    pub(crate) line: Box<dyn Line>,
    /// Whether their standard output was found closed.
    pub(crate) nobody_reads: AtomicBool,
}

/// The way to a guest.
pub(crate) trait Line: Send + Sync {
    /// Prints there, and waits until the line takes it.
    fn print(&self, stream: Stream, bytes: &[u8]) -> io::Result<()>;
    /// Opens a file there; `-` is the standard input.
    fn open(&self, path: &Path) -> io::Result<Facts>;
    /// More of the file that was opened last; nothing at its end.
    fn read(&self) -> io::Result<Vec<u8>>;
}

/// Where something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
}

impl Guest {
    /// Carries something out for them.
    pub(crate) async fn scope<T>(self: Arc<Self>, work: impl Future<Output = T>) -> T {
        GUEST.scope(self, work).await
    }

    /// Prints on their standard output, if they did not close it.
    pub(crate) fn print(&self, bytes: &[u8]) -> io::Result<()> {
        if self.nobody_reads.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.line.print(Stream::Output, bytes)
    }
}

/// For whom the command is carried out, if not for this process.
pub(crate) fn guest() -> Option<Arc<Guest>> {
    GUEST.try_with(Arc::clone).ok()
}

/// Waits until whoever typed the command interrupts it. The command of a guest who goes is dropped.
pub(crate) async fn interrupted() -> io::Result<()> {
    match guest() {
        Some(_) => std::future::pending().await,
        None => ctrl_c().await,
    }
}

/// Whether somebody at a terminal of this process sees what moves there.
pub(crate) fn sees_motion() -> bool {
    guest().is_none() && io::stderr().is_terminal()
}

/// What a command is told of where it was typed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Terminal {
    /// Columns of the standard output: what COLUMNS says, or the terminal has.
    pub(crate) columns: Option<usize>,
    /// Whether the standard output is a terminal.
    pub(crate) is_terminal: bool,
    /// Whether somebody types the standard input, and so can be asked.
    pub(crate) is_typed: bool,
    /// Whether the standard output shows styles, and whoever looks wants them.
    pub(crate) has_styles: bool,
    /// The time zone of whoever typed it.
    zone: String,
    /// The replica that the environment names.
    pub(crate) replica: Option<OsString>,
}

impl Terminal {
    /// Where the command of this task was typed.
    pub(crate) fn current() -> Self {
        guest().map_or_else(Self::own, |guest| guest.terminal.clone())
    }

    /// The time zone of whoever typed it.
    pub(crate) fn zone(&self) -> Zone {
        self.zone.parse().unwrap_or(Zone::UTC)
    }

    fn own() -> Self {
        let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let known = || console::Term::stdout().size_checked().map(|(_, columns)| columns.into());
        Self {
            columns: asked.or_else(known),
            is_terminal: io::stdout().is_terminal(),
            is_typed: io::stdin().is_terminal(),
            has_styles: console::colors_enabled(),
            zone: own_zone().to_string(),
            replica: std::env::var_os("REJOIN_REPLICA"),
        }
    }
}

/// A file of whoever typed the command, or their standard input.
pub(crate) struct Input {
    pub(crate) facts: Facts,
    pub(crate) bytes: Box<dyn Read>,
}

/// What is known of a file before it is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// How long it is, if it has a length.
    pub(crate) len: Option<u64>,
    pub(crate) is_folder: bool,
}

impl Input {
    /// Opens a file as whoever typed the command names it; `-` is their standard input.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if let Some(guest) = guest() {
            let facts = guest.line.open(path)?;
            return Ok(Self {
                facts,
                bytes: Box::new(FromGuest { guest, chunk: Vec::new(), at: 0 }),
            });
        }
        Self::open_here(path)
    }

    /// Opens a file of this process.
    pub(crate) fn open_here(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self { facts: Facts::default(), bytes: Box::new(io::stdin()) });
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let len = metadata.is_file().then_some(metadata.len());
        let facts = Facts { len, is_folder: metadata.is_dir() };
        Ok(Self { facts, bytes: Box::new(file) })
    }
}

/// What a guest sends of a file, piece by piece.
struct FromGuest {
    guest: Arc<Guest>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for FromGuest {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() && !buffer.is_empty() {
            (self.chunk, self.at) = (self.guest.line.read()?, 0);
        }
        let read = (&self.chunk[self.at..]).read(buffer)?;
        self.at += read;
        Ok(read)
    }
}
