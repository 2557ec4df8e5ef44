//! The relay.
#![warn(missing_docs)]
#![forbid(unsafe_code)]
mod compaction;
mod relay;
pub mod store;
pub use compaction::{
    Compacted, CompactionError, WORKER_ADDRESS_BYTES_MAX, WorkerError, WorkerProcess,
    compact_in_process, compact_worker, compact_worker_process,
};
pub use relay::{
    Close, CompactionPolicy, ConnectionId, Counters, Outgoing, RefusedCounters, Relay, RelayOptions,
};
#[cfg(feature = "mutants")]
pub use relay::{Mutant, Refuse};
pub use store::TailPolicy;
