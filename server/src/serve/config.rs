//! The options of a serving relay.

use std::path::PathBuf;
use std::time::Duration;

use rejoin_core::SpaceName;

use crate::compaction::WorkerProcess;
use crate::relay::RelayOptions;

/// The options for serving. [`Config::new`] has defaults for everything except the folder.
#[derive(Debug)]
#[non_exhaustive]
pub struct Config {
    /// The folder of the relay's files; it is made if it is not there.
    pub data: PathBuf,
    /// Limits and policies of the engine.
    pub options: RelayOptions,
    /// Bytes of database pages kept in memory.
    pub cache_bytes: usize,
    /// Bytes of messages that arrive or wait for the engine, of all connections together and beyond
    /// 32 KiB of each. When they are used up, connections that send more are not read from until a
    /// turn is over. The longest message of automerge-repo, 64 MiB, always fits.
    pub inbound_bytes_max: usize,
    /// Bytes given to a connection at once. It takes the next when these are written.
    pub batch_bytes: usize,
    /// The time that a connection may take to ask for its upgrade.
    pub handshake_limit: Duration,
    /// The time that a write may take, beside a second for every 4 KiB of it.
    pub write_limit: Duration,
    /// Between two pings, give or take a fifth. A connection that is silent for two of them is
    /// closed.
    pub ping_interval: Duration,
    /// The same for peers of automerge-repo, which have no pings of their own.
    pub peer_ping_interval: Duration,
    /// The space of peers of automerge-repo that name no space.
    pub automerge_space: SpaceName,
    /// The time that sessions may take to end when the relay stops.
    pub drain_limit: Duration,
    /// The worker that folds documents into snapshots; without it none are folded.
    pub compaction_worker: Option<WorkerProcess>,
}

impl Config {
    /// The defaults, over a folder.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            options: RelayOptions::default(),
            cache_bytes: 16 << 20,
            inbound_bytes_max: 68 << 20,
            batch_bytes: 256 << 10,
            handshake_limit: Duration::from_secs(10),
            write_limit: Duration::from_secs(10),
            ping_interval: Duration::from_secs(15),
            peer_ping_interval: Duration::from_secs(5),
            automerge_space: SpaceName::new("main")
                .expect("it is short and has no control character"),
            drain_limit: Duration::from_secs(5),
            compaction_worker: None,
        }
    }
}
