//! What is written to standard error while a command runs: the log, and the texts of panics.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};

use crate::arguments::{Arguments, Command};
use crate::layout::one_line;
use crate::output;

/// Logs what `RUST_LOG` or else `-v` asks for; without either, what an operator would miss.
pub(crate) fn to_stderr(arguments: &Arguments) {
    let asked = match (&arguments.command, arguments.verbose) {
        (Command::Relay(_) | Command::Adapters(_), 0) => "info",
        (_, 0) => "error",
        (_, 1) => "info",
        (_, 2) => "debug",
        _ => "trace",
    };
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(asked));
    for client in CLIENTS_OF_TARGETS {
        let off = format!("{client}=off").parse().expect("a name and a level are a directive");
        filter = filter.add_directive(off);
    }
    tracing_subscriber::fmt()
        .fmt_fields(PrintableFields)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(console::colors_enabled_stderr())
        // Of a standard error that is gone it would complain there, and panic.
        .log_internal_errors(false)
        .init();
}

/// The fields of an event or span in one line of printable characters. Texts of relays, peers and
/// targets are among them, and a line break would let them write lines of their own.
struct PrintableFields;

impl<'writer> FormatFields<'writer> for PrintableFields {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut plain = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut plain), fields)?;
        writer.write_str(&one_line(&plain))
    }
}

/// Tells of a panic as of an error: its text may be of a document. Where it came from is told if
/// `RUST_BACKTRACE` asks for it.
///
/// The database panics on some damage of its file. That is caught where files are read, and said in
/// words that help; where in the database it was is for whoever looks closer.
pub(crate) fn panics_to_stderr() {
    std::panic::set_hook(Box::new(|panic| {
        if panic.location().is_some_and(|at| at.file().contains("/redb-")) {
            tracing::debug!(%panic, "the database panicked");
            return;
        }
        output::tell(&panic.to_string());
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            output::tell(&trace.to_string());
        }
    }));
}

/// What logs whole messages or what servers say, and at its finest how it signs in. Deliveries tell of
/// what happened.
const CLIENTS_OF_TARGETS: [&str; 3] = ["async_nats", "lapin", "tokio_postgres"];
