//! The parts of a change that several commands print in the same way.

use rejoin::history::{HistoryEntry, Kind};

use crate::values::field;

/// The fields that a change wrote, by the names that commands take.
pub(crate) fn fields(change: &HistoryEntry) -> Vec<String> {
    change.fields.iter().map(|name| field(name)).collect()
}

/// The name of a kind of change.
pub(crate) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Genesis => "genesis",
        Kind::Birth => "birth",
        Kind::Edit => "edit",
    }
}
