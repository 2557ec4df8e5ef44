//! The options of a serving relay.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use rejoin_core::SpaceName;
use rejoin_seal::Key;
use tokio::sync::watch;

use super::limits::Limits;
use super::tls::TlsFiles;
use crate::compaction::WorkerProcess;
use crate::relay::RelayOptions;

/// The options for serving. [`Config::new`] has defaults for everything except the folder.
#[derive(Debug)]
#[non_exhaustive]
pub struct Config {
    /// The folder of the relay's files; it is made if it is not there.
    pub data: PathBuf,
    /// The key that encrypts the relay's store. A store that is there is neither encrypted nor decrypted
    /// by it: it has to be the key that the store was made with.
    pub store_key: Option<Key>,
    /// Limits and policies of the engine.
    pub options: RelayOptions,
    /// Bytes of database pages kept in memory.
    pub cache_bytes: usize,
    /// Bytes of messages that arrive or wait for the engine, of all connections together and beyond
    /// 32 KiB of each. When they are used up, connections that send more are not read from until a
    /// turn is over. The longest message of automerge-repo, 64 MiB, always fits.
    pub inbound_bytes_max: usize,
    /// Connections at once from one address.
    pub connections_per_address: usize,
    /// Messages a second that one connection may send on the average; it is read more slowly when
    /// it sends more.
    pub messages_per_second: Option<u64>,
    /// The same of the bytes of messages.
    pub bytes_per_second: Option<u64>,
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
    /// The address at which metrics and the relay's state are told over HTTP.
    pub monitor: Option<SocketAddr>,
    /// Incremental backups.
    pub backup: BackupPolicy,
    /// The file that says who may come in, and what each may do there. Without it everybody may, and
    /// so the relay serves this machine only.
    pub access: Option<PathBuf>,
    /// The certificate by which the relay speaks TLS.
    pub tls: Option<TlsFiles>,
    /// The networks of a proxy that ends TLS before the relay: nobody else is served.
    pub behind_proxy: Vec<IpNet>,
    /// The names of the relay; one that is called by another name does not answer. Names of this machine
    /// always count.
    pub hosts: Vec<String>,
    /// The hosts of sites whose pages may connect, beside those of the relay's own names.
    pub origins: Vec<String>,
    /// Lets everybody do everything from anywhere, without a word of who they are.
    pub open: bool,
    /// Tells of limits that change while the relay serves; without it they stay.
    pub limits: Option<watch::Receiver<Limits>>,
}

/// Incremental backups: whole ones from time to time, and what was stored since in between.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupPolicy {
    /// The folder that they are written to; none are made without it.
    pub folder: Option<PathBuf>,
    /// The time between two of them.
    pub every: Duration,
    /// The time after which a whole one is made again.
    pub full_every: Duration,
    /// The time that they are kept.
    pub keep: Duration,
}

impl Config {
    /// The defaults, over a folder.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            store_key: None,
            options: RelayOptions::default(),
            cache_bytes: 16 << 20,
            inbound_bytes_max: 68 << 20,
            connections_per_address: 10_000,
            messages_per_second: None,
            bytes_per_second: None,
            batch_bytes: 256 << 10,
            handshake_limit: Duration::from_secs(10),
            write_limit: Duration::from_secs(10),
            ping_interval: Duration::from_secs(15),
            peer_ping_interval: Duration::from_secs(5),
            automerge_space: SpaceName::new("main")
                .expect("it is short and has no control character"),
            drain_limit: Duration::from_secs(5),
            compaction_worker: None,
            monitor: None,
            backup: BackupPolicy::default(),
            access: None,
            tls: None,
            behind_proxy: Vec::new(),
            hosts: Vec::new(),
            origins: Vec::new(),
            open: false,
            limits: None,
        }
    }
}

impl Default for BackupPolicy {
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self { folder: None, every: Duration::from_mins(1), full_every: DAY, keep: 30 * DAY }
    }
}
