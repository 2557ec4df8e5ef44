//! Printing: text for people, or JSON for programs. In neither form does text from outside command a
//! terminal.

mod json;
mod text;

use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use json::to_json;
pub(crate) use json::write_json;
pub(crate) use text::Text;

use crate::caller::{Guest, Stream, guest};

/// The form in which a command prints. Results go to the caller's standard output; notes and errors
/// go to the caller's standard error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result, as JSON or as text with a line break at its end.
    pub(crate) fn result<T: Into<Text>>(
        self,
        json: &impl Serialize,
        text: impl FnOnce() -> T,
    ) -> Result<()> {
        if self.json {
            return self.event(json);
        }
        self.line(text())
    }

    /// Prints one line of JSON, and flushes it so that a reader sees it at once.
    pub(crate) fn event(self, json: &impl Serialize) -> Result<()> {
        print(&to_json(json)?)
    }

    /// Prints text, and flushes it so that a reader sees it at once.
    pub(crate) fn line(self, text: impl Into<Text>) -> Result<()> {
        print(text.into().as_str())
    }

    /// Standard output, for long results: for JSON by [`write_json`], or for data that a file is to
    /// hold unchanged. Flush it at the end.
    pub(crate) fn stream(self) -> BufWriter<Standard> {
        BufWriter::with_capacity(64 << 10, Standard::output())
    }

    /// Tells a person something beside the result. In the form for programs this prints nothing.
    pub(crate) fn note(self, text: &str) {
        if !self.json {
            tell(text);
        }
    }

    /// Prints an error and its causes.
    pub(crate) fn error(self, error: &anyhow::Error) {
        if self.json {
            let causes: Vec<_> = error.chain().skip(1).map(ToString::to_string).collect();
            let json = json!({ "error": error.to_string(), "causes": causes });
            complain(&to_json(&json).unwrap_or_default());
        } else {
            tell(&format!("error: {}", whole(error)));
        }
    }
}

/// Tells a person something on standard error.
pub(crate) fn tell(text: &str) {
    complain(Text::from(text).as_str());
}

/// Writes a line to standard error. That it is closed is no reason to end, so an error is ignored.
fn complain(line: &str) {
    let line = format!("{line}\n");
    let _ = match guest() {
        Some(guest) => guest.line.print(Stream::Error, line.as_bytes()),
        None => io::stderr().lock().write_all(line.as_bytes()),
    };
}

/// Standard output, which remembers that it was found closed.
pub(crate) enum Standard {
    Own(StdoutLock<'static>),
    Guest(Arc<Guest>),
}

impl Standard {
    fn output() -> Self {
        guest().map_or_else(|| Self::Own(io::stdout().lock()), Self::Guest)
    }
}

impl Write for Standard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Own(out) => out.write(bytes).inspect_err(note_closed),
            Self::Guest(guest) => {
                let printed = guest.print(bytes).map(|()| bytes.len());
                printed.inspect_err(|_| guest.nobody_reads.store(true, Ordering::Relaxed))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Own(out) => out.flush().inspect_err(note_closed),
            Self::Guest(_) => Ok(()),
        }
    }
}

fn note_closed(error: &io::Error) {
    if error.kind() == ErrorKind::BrokenPipe {
        NOBODY_READS.store(true, Ordering::Relaxed);
    }
}

/// Whether standard output of this process was found closed.
static NOBODY_READS: AtomicBool = AtomicBool::new(false);

/// Whether the caller's standard output was found closed.
fn nobody_reads() -> bool {
    let own = || NOBODY_READS.load(Ordering::Relaxed);
    guest().map_or_else(own, |guest| guest.nobody_reads.load(Ordering::Relaxed))
}

/// Writes a line to standard output, and flushes it so that a reader sees it at once.
fn print(line: &str) -> Result<()> {
    let mut out = Standard::output();
    out.write_all(format!("{line}\n").as_bytes())?;
    Ok(out.flush()?)
}

/// An error and its causes, without the causes that the text before them has told already.
fn whole(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| match cause.to_string() {
        cause if said.is_empty() => cause,
        cause if said.contains(&cause) => said,
        cause => format!("{said}: {cause}"),
    })
}

/// Whether the error is a closed standard output, as after `| head`, and not some other connection
/// that broke. The writers of JSON and CSV wrap the error of the closed pipe in one of their own, and
/// do not always name it as the cause.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        if let Some(json) = cause.downcast_ref::<serde_json::Error>() {
            return json.io_error_kind();
        }
        match cause.downcast_ref::<csv::Error>().map(csv::Error::kind) {
            Some(csv::ErrorKind::Io(io)) => Some(io.kind()),
            Some(_) => None,
            None => cause.downcast_ref::<io::Error>().map(io::Error::kind),
        }
    };
    let is_broken = error.chain().any(|cause| kind(cause) == Some(ErrorKind::BrokenPipe));
    is_broken && nobody_reads()
}

/// A number with the right form of a noun: `1 edit`, `2 edits`.
pub(crate) fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    match noun.strip_suffix('y') {
        _ if number == 1 => format!("{number} {noun}"),
        Some(stem) => format!("{number} {stem}ies"),
        None => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let cause = anyhow::anyhow!("no space left").context("crm: no space left");
        assert_eq!(whole(&cause.context("it does not run")), "it does not run: crm: no space left");
    }
}
