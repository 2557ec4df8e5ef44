//! Printing: text for people, or JSON for programs. Neither does anything to a terminal.

mod json;
mod text;

use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use json::to_json;
pub(crate) use json::write_json;
pub(crate) use text::Text;

/// Where a command prints, and in which of the two forms. Results go to standard output; notes and
/// errors to standard error.
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

    /// Prints one line of JSON, and lets whoever reads see it at once.
    pub(crate) fn event(self, json: &impl Serialize) -> Result<()> {
        print(&to_json(json)?)
    }

    /// Prints text, and lets whoever reads see it at once.
    pub(crate) fn line(self, text: impl Into<Text>) -> Result<()> {
        print(text.into().as_str())
    }

    /// Standard output, for long results: of [`write_json`], or of data that a file is to hold as
    /// they are. Flush it at the end.
    pub(crate) fn stream(self) -> BufWriter<StdoutLock<'static>> {
        BufWriter::with_capacity(64 << 10, io::stdout().lock())
    }

    /// Tells a person something beside the result. Programs are not told.
    pub(crate) fn note(self, text: &str) {
        if !self.json {
            tell(text);
        }
    }

    /// Prints an error and what led to it.
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

/// Writes a line to standard error, if anybody still reads it.
fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes a line to standard output, and lets whoever reads see it at once.
fn print(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// An error and what led to it, each only if that was not said already.
fn whole(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| match cause.to_string() {
        cause if said.is_empty() => cause,
        cause if said.contains(&cause) => said,
        cause => format!("{said}: {cause}"),
    })
}

/// Whether the error is that nobody reads any more, as after `| head`.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        let json =
            cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.map(io::Error::kind).or(json) == Some(ErrorKind::BrokenPipe)
    })
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
