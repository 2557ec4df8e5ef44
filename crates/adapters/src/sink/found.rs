//! What a look at a target finds.

use std::fs::OpenOptions;
use std::path::Path;

use super::SinkError;
use crate::mapping::Mapping;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whether deliveries would fail by it.
    pub is_wrong: bool,
    /// What was found, and what to do about it if it is wrong.
    pub what: String,
}

impl Found {
    /// Something that is as it should be.
    pub fn fine(what: impl Into<String>) -> Self {
        Self { is_wrong: false, what: what.into() }
    }

    /// Something in the way of deliveries.
    pub fn wrong(what: impl Into<String>) -> Self {
        Self { is_wrong: true, what: what.into() }
    }
}

/// Looks at the target of a mapping: whether deliveries would arrive, and all that is in their way. It
/// changes nothing there. With `send`, a webhook gets one signed event, of the type `rejoin.check.put`.
/// Relative files are in `folder`.
pub async fn inspect(mapping: &Mapping, folder: &Path, send: bool) -> Vec<Found> {
    let faults = super::faults(mapping, folder);
    if !faults.is_empty() {
        return faults.iter().map(|fault: &SinkError| Found::wrong(fault.to_string())).collect();
    }
    let (kind, rest) = super::parts(&mapping.sink);
    match kind {
        "icalendar" | "jsonl" | "server_sent_events" => local(&rest, folder).await,
        _ => match super::open(&mapping.sink, folder) {
            Ok(sink) => sink.check(mapping, send).await,
            Err(error) => vec![Found::wrong(error.to_string())],
        },
    }
}

/// Looks at the folder and the address of a sink that keeps everything here.
async fn local(options: &toml::Table, folder: &Path) -> Vec<Found> {
    let text = |name: &str| options.get(name).and_then(toml::Value::as_str);
    let mut found = Vec::new();
    if let Some(own) = text("folder") {
        found.push(writable(&folder.join(own)));
    }
    if let Some(listen) = text("listen") {
        found.push(match tokio::net::TcpListener::bind(listen).await {
            Ok(_) => Found::fine(format!("{listen} can be listened on")),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                Found::fine(format!("{listen} is listened on, by these adapters if they run"))
            }
            Err(error) => Found::wrong(format!(
                "{listen} cannot be listened on: {error}; write another address in `listen`"
            )),
        });
    }
    found
}

/// Whether a folder can be written to, or made. Nothing of it stays.
fn writable(folder: &Path) -> Found {
    let (name, is_there) = (folder.display(), folder.is_dir());
    let place = match folder.parent().filter(|_| !is_there) {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => folder,
    };
    let probe = place.join(format!(".rejoin-check-{}", std::process::id()));
    let tried = OpenOptions::new().write(true).create_new(true).open(&probe);
    match tried.and_then(|_| std::fs::remove_file(&probe)) {
        Ok(()) if is_there => Found::fine(format!("{name} can be written to")),
        Ok(()) => Found::fine(format!("{name} can be made")),
        Err(error) => Found::wrong(format!(
            "{name} cannot be written to: {error}; make {}, and let this user write there",
            place.display()
        )),
    }
}
