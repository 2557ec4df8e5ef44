//! The options of a relay's engine.

use rejoin_core::CollectionName;
use rejoin_core::wire::Access;

use crate::store::{Tail, TailPolicy};

/// Limits and policies of a [`Relay`](crate::Relay). The defaults suit a machine with 1 GB of
/// memory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RelayOptions {
    /// Sessions at once. A further one is told to come back later.
    pub sessions_max: usize,
    /// Bytes of change graphs kept in memory. A document that is not there costs a read of its
    /// graph rows at its next push. Those of less than a MiB share three eighths, the larger ones
    /// the rest; the last one used stays, even if it is larger.
    pub graph_bytes_max: usize,
    /// Bytes of repairs under way. Each takes some 56 bytes for every document of its space; the
    /// oldest is dropped, and its session begins anew.
    pub repair_bytes_max: usize,
    /// Bytes that automerge-repo's peers may make the relay remember, of all connections together:
    /// messages and uploads that wait, and changes whose dependencies are to come. The peer with
    /// the most is closed.
    pub peer_bytes_max: usize,
    /// Bytes that wait until replicas read, of all sessions together. The one for which most waits
    /// is closed.
    pub unread_bytes_max: usize,
    /// Documents that one space may have; new ones beyond are refused until there is room.
    pub space_documents_max: Option<u64>,
    /// Bytes that the changes of one space may have; those beyond are refused until there is room.
    pub space_bytes_max: Option<u64>,
    /// Milliseconds a replica is asked to wait before it pushes again what could not be taken now.
    pub retry_after_ms: u32,
    /// The access of everyone to every space, as long as no tokens are checked.
    pub access: Access,
    /// The collection of documents that automerge-repo's peers make.
    pub automerge_collection: CollectionName,
    /// Whether a peer's ephemeral messages must be its own. Those of peers behind it are then
    /// dropped.
    pub checks_ephemeral_sender: bool,
    /// The rules by which documents are folded into snapshots; `None` never folds.
    pub compaction: Option<CompactionPolicy>,
    /// A fault to be found by a simulation.
    #[cfg(feature = "mutants")]
    pub mutant: Option<Mutant>,
}

/// The rules for folding a document into a snapshot, and for the changes that stay beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionPolicy {
    /// Changes beyond the snapshot at which a document is folded. It also waits for an eighth of
    /// the changes that the snapshot covers, so that folding a document again and again stays
    /// cheap.
    pub changes_min: u64,
    /// Bytes beyond the snapshot, and beyond the snapshot's own, at which a document is folded.
    pub bytes_min: u64,
    /// Milliseconds without a change after which a document is folded; 0 does not wait. One that
    /// is written to all the time would be folded all the time, and is at [eight
    /// times](Self::BUSY_TIMES) these minima. The wait may be twice as long.
    pub quiet_ms: u64,
    /// The changes that stay beside the snapshot.
    pub tail: TailPolicy,
}

/// A deliberate fault.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutant {
    /// Commits without waiting for the disk, and tells everyone at once.
    AckBeforeCommit,
    /// Takes changes whose dependencies are unknown.
    DroppedDepCheck,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            sessions_max: 10_000,
            graph_bytes_max: 64 << 20,
            repair_bytes_max: 64 << 20,
            peer_bytes_max: 80 << 20,
            unread_bytes_max: 64 << 20,
            space_documents_max: None,
            space_bytes_max: None,
            retry_after_ms: 1000,
            access: Access::Write,
            automerge_collection: CollectionName::new("documents")
                .expect("it is short and has no control character"),
            checks_ephemeral_sender: false,
            compaction: Some(CompactionPolicy::default()),
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}

impl CompactionPolicy {
    /// The factor of these minima at which a document is folded although it is written to.
    pub const BUSY_TIMES: u64 = 8;

    /// Whether a document has enough to fold; one that is written to needs more.
    pub(super) fn is_due(&self, tail: &Tail, is_busy: bool) -> bool {
        let times = if is_busy { Self::BUSY_TIMES } else { 1 };
        let changes_max = self.changes_min.saturating_mul(times).max(tail.snapshot_changes / 8);
        let bytes_max = self.bytes_min.saturating_mul(times).saturating_add(tail.snapshot_bytes);
        tail.changes > changes_max || tail.bytes > bytes_max
    }
}

impl Default for CompactionPolicy {
    fn default() -> Self {
        let (changes_min, bytes_min, quiet_ms) = (512, 256 << 10, 2000);
        Self { changes_min, bytes_min, quiet_ms, tail: TailPolicy::default() }
    }
}

impl Default for TailPolicy {
    fn default() -> Self {
        Self { away_ms_max: 30 * 24 * 3_600_000, bytes_max: 64 << 10 }
    }
}

#[cfg(feature = "mutants")]
impl RelayOptions {
    pub(super) fn drops_dep_check(&self) -> bool {
        self.mutant == Some(Mutant::DroppedDepCheck)
    }
}
