//! Limits that may change while the relay serves.

use tokio::sync::watch;

use super::Config;
use super::command::Command;
use super::engine::EngineHandle;

/// Limits that an operator may change while the relay serves. Those of a connection hold for
/// connections that come from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once from one address.
    pub connections_per_address: usize,
    /// Messages a second that one connection may send on the average; it is read more slowly when
    /// it sends more.
    pub messages_per_second: Option<u64>,
    /// The same of the bytes of messages.
    pub bytes_per_second: Option<u64>,
    /// Documents that one space may have; new ones beyond are refused until there is room.
    pub space_documents_max: Option<u64>,
    /// Bytes that the changes of one space may have; those beyond are refused until there is room.
    pub space_bytes_max: Option<u64>,
}

impl Limits {
    /// The limits that a relay begins with.
    pub fn of(config: &Config) -> Self {
        Self {
            connections_per_address: config.connections_per_address,
            messages_per_second: config.messages_per_second,
            bytes_per_second: config.bytes_per_second,
            space_documents_max: config.options.space_documents_max,
            space_bytes_max: config.options.space_bytes_max,
        }
    }
}

/// Tells the engine of each change, for as long as it is polled.
pub(super) async fn follow(mut limits: watch::Receiver<Limits>, engine: EngineHandle) {
    while limits.changed().await.is_ok() {
        let limits = limits.borrow_and_update().clone();
        engine.tell(Command::Limits(limits)).await;
    }
}
