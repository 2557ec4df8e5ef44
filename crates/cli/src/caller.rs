//! The caller of a command is the person or program that typed it. This module knows the caller's
//! terminal, standard input and files, and whether the caller still waits. A caller is at this
//! process, or is a [`Guest`]: at another process, for which this one carries the command out on a
//! replica that it has open, see [`beside`](crate::beside).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rejoin::value::Zone;
use serde::{Deserialize, Serialize};
use tokio::signal::ctrl_c;

use crate::host::Host;

tokio::task_local! {
    /// The guest for whom the command of this task is carried out; none is set for a command of this
    /// process.
    static GUEST: Arc<Guest>;
}

/// A caller at another process, for whom this process carries a command out.
pub(crate) struct Guest {
    /// The terminal in which the guest's command was typed.
    pub(crate) terminal: Terminal,
    /// The replica that the command is about, which is open in this process.
    pub(crate) host: Arc<Host>,
    /// The connection to the guest's process.
    pub(crate) line: Box<dyn Line>,
    /// Whether the guest's standard output was found closed.
    pub(crate) nobody_reads: AtomicBool,
}

/// A connection to a guest's process.
pub(crate) trait Line: Send + Sync {
    /// Prints at the guest's process, and waits until the connection takes the bytes.
    fn print(&self, stream: Stream, bytes: &[u8]) -> io::Result<()>;
    /// Opens a file at the guest's process; `-` is the guest's standard input.
    fn open(&self, path: &Path) -> io::Result<Facts>;
    /// The next bytes of the file that was opened last; none at its end.
    fn read(&self) -> io::Result<Vec<u8>>;
}

/// The two streams on which a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
}

impl Guest {
    /// Carries work out for this guest: within it, [`guest`] is this one.
    pub(crate) async fn scope<T>(self: Arc<Self>, work: impl Future<Output = T>) -> T {
        GUEST.scope(self, work).await
    }

    /// Prints on the guest's standard output, unless it was found closed.
    pub(crate) fn print(&self, bytes: &[u8]) -> io::Result<()> {
        if self.nobody_reads.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.line.print(Stream::Output, bytes)
    }
}

/// The guest for whom the command of this task is carried out; `None` if it is a command of this
/// process.
pub(crate) fn guest() -> Option<Arc<Guest>> {
    GUEST.try_with(Arc::clone).ok()
}

/// Waits until the caller interrupts the command. A guest interrupts it by going away, and then the
/// command's future is dropped, so this one never ends.
pub(crate) async fn interrupted() -> io::Result<()> {
    match guest() {
        Some(_) => std::future::pending().await,
        None => ctrl_c().await,
    }
}

/// Whether standard error of this process is a terminal, where a person sees a progress bar move. A
/// guest is shown none.
pub(crate) fn sees_motion() -> bool {
    guest().is_none() && io::stderr().is_terminal()
}

/// The properties of the terminal in which a command was typed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Terminal {
    /// Columns of the standard output: the number in COLUMNS, or else the width of the terminal.
    pub(crate) columns: Option<usize>,
    /// Whether the standard output is a terminal.
    pub(crate) is_terminal: bool,
    /// Whether the standard input is a terminal, so that a person can be asked a question.
    pub(crate) is_typed: bool,
    /// Whether the standard output shows styles, and the caller has not switched them off.
    pub(crate) has_styles: bool,
    /// The name of the caller's time zone.
    zone: String,
    /// The replica that the caller's environment names.
    pub(crate) replica: Option<OsString>,
}

impl Terminal {
    /// The terminal in which the command of this task was typed.
    pub(crate) fn current() -> Self {
        guest().map_or_else(Self::own, |guest| guest.terminal.clone())
    }

    /// The caller's time zone.
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

/// The time zone that the environment or the system of this process names; UTC if neither does.
fn own_zone() -> Zone {
    let asked = std::env::var("TZ").ok().and_then(|name| {
        let name = name.trim_start_matches(':');
        name.strip_prefix("/usr/share/zoneinfo/").unwrap_or(name).parse().ok()
    });
    let of_system = || iana_time_zone::get_timezone().ok()?.parse().ok();
    asked.or_else(of_system).unwrap_or(Zone::UTC)
}

/// A file that the caller names, or the caller's standard input.
pub(crate) struct Input {
    pub(crate) facts: Facts,
    pub(crate) bytes: Box<dyn Read>,
}

/// The facts about a file that are known before it is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Bytes of the file, if it has a length.
    pub(crate) len: Option<u64>,
    pub(crate) is_folder: bool,
}

impl Input {
    /// Opens a file that the caller names; `-` is the caller's standard input.
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

/// The content of a file at a guest's process, which comes piece by piece.
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
