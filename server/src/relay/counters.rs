//! The counts of a relay.

use rejoin_core::wire::RefusedClass;

/// Counts since the relay was opened, and its present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Pushes answered.
    pub pushes: u64,
    /// Changes stored.
    pub changes_kept: u64,
    /// Their bytes.
    pub bytes_kept: u64,
    /// Changes pushed that were stored before.
    pub changes_known: u64,
    /// Changes refused, by the way in which the replica can react.
    pub refused: RefusedCounters,
    /// Those of them that wait because their space is full.
    pub refused_full: u64,
    /// Group commits.
    pub commits: u64,
    /// Frames received.
    pub frames_in: u64,
    /// Frames given to the driver to send.
    pub frames_out: u64,
    /// Bytes of frames received.
    pub bytes_in: u64,
    /// Bytes of frames given to the driver to send.
    pub bytes_out: u64,
    /// Sessions closed because the replica broke the protocol.
    pub protocol_errors: u64,
    /// Change graphs read from the store because they were not in memory.
    pub graphs_loaded: u64,
    /// Automerge documents loaded in this process. Stays 0 where compaction has a process of its
    /// own.
    pub documents_loaded: u64,
    /// Documents folded into a snapshot.
    pub compactions: u64,
    /// Documents that could not be folded.
    pub compactions_failed: u64,
    /// Whole documents of automerge-repo's peers that could not be taken apart.
    pub uploads_failed: u64,
    /// Documents that were damaged in the store.
    pub documents_damaged: u64,
    /// Changes that were lost with them, until a replica pushes them again.
    pub changes_damaged: u64,
    /// Documents of which changes are lost now, because no replica has brought them back.
    pub documents_lost: usize,
    /// Whether bytes of an erased document may still be in the file, as writing over them failed or is
    /// still to come.
    pub overwrite_due: bool,
    /// Documents that were looked at for damage, beside those that somebody reads.
    pub documents_scrubbed: u64,
    /// Sessions now.
    pub sessions: usize,
    /// Entries kept now for all sessions: dirty documents, answers, events.
    pub queued: usize,
    /// Bytes that wait now for replicas that have not read them.
    pub unread_bytes: usize,
    /// Bytes that automerge-repo's peers make the relay remember now.
    pub peer_bytes: usize,
    /// Bytes of change graphs in memory now.
    pub graph_bytes: usize,
}

/// Changes refused, by class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RefusedCounters {
    /// They build on something unknown here.
    pub missing: u64,
    /// They could not be taken just then.
    pub later: u64,
    /// They can never be taken.
    pub never: u64,
    /// Their place in the actor's sequence is taken.
    pub actor_reused: u64,
}

impl RefusedCounters {
    pub(super) fn count(&mut self, class: RefusedClass) {
        let counter = match class {
            RefusedClass::Missing => &mut self.missing,
            RefusedClass::Later => &mut self.later,
            RefusedClass::Never => &mut self.never,
            RefusedClass::ActorReused => &mut self.actor_reused,
        };
        *counter += 1;
    }
}
