//! The texts that are written to standard error while a command runs: the log, and the texts of
//! panics.

#[cfg(feature = "opentelemetry")]
mod spans;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::layout::one_line;
use crate::output;
#[cfg(feature = "opentelemetry")]
use spans::Spans;

/// Logs the events that `RUST_LOG` chooses, or else the option -v, which was given `verbose` times.
/// Without either only errors are logged, and for a command that serves others also the events that
/// its operator has to know of. What is returned has to live as long as something is logged.
pub(crate) fn to_stderr(serves: bool, verbose: u8) -> Log {
    let asked = match (serves, verbose) {
        (true, 0) => "info",
        (false, 0) => "error",
        (_, 1) => "info",
        (_, 2) => "debug",
        _ => "trace",
    };
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(asked));
    for client in CLIENTS_OF_TARGETS {
        let off = format!("{client}=off").parse().expect("a name and a level are a directive");
        filter = filter.add_directive(off);
    }
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(PrintableFields)
        .with_writer(std::io::stderr)
        .with_ansi(console::colors_enabled_stderr())
        // If standard error is closed, the log would complain of that on standard error, and panic.
        .log_internal_errors(false);
    let log = tracing_subscriber::registry().with(filter).with(lines);
    #[cfg(not(feature = "opentelemetry"))]
    log.init();
    #[cfg(feature = "opentelemetry")]
    let spans = match Spans::of_environment().filter(|_| serves) {
        None => {
            log.init();
            None
        }
        Some(Ok(spans)) => {
            log.with(spans.layer()).init();
            Some(spans)
        }
        Some(Err(error)) => {
            log.init();
            tracing::error!(
                error,
                "no spans are sent to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names"
            );
            None
        }
    };
    Log {
        #[cfg(feature = "opentelemetry")]
        _spans: spans,
    }
}

/// What a log keeps until its end.
pub(crate) struct Log {
    #[cfg(feature = "opentelemetry")]
    _spans: Option<Spans>,
}

/// The fields of an event or span in one line of printable characters. They may hold texts of relays,
/// peers and targets, and with a line break such a text could write lines of its own.
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

/// Prints the text of a panic like that of an error, as it may quote a document. The place of the
/// panic is printed if `RUST_BACKTRACE` asks for it.
///
/// The database panics on some damage of its file. The functions that read files catch that, and
/// report it in words that help; the place in the database only goes to the log, for a developer.
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

/// Clients of targets whose logs contain whole messages and answers of servers, and at the finest
/// level how they sign in. The log of deliveries tells enough without them.
const CLIENTS_OF_TARGETS: [&str; 3] = ["async_nats", "lapin", "tokio_postgres"];
