//! The change that a stored row or a rank stands for, for a store that looks whether its rows are
//! sound.

use super::{ChangeGraph, ROW_VERSION, row_checksum};
use crate::{ChangeHash, GraphEntry};

impl ChangeGraph {
    /// The change of this rank as it entered the graph, to enter another.
    ///
    /// # Panics
    /// No change has this rank.
    pub fn entry(&self, rank: u32) -> GraphEntry {
        let node = self.node(rank);
        GraphEntry {
            hash: node.hash,
            actor: self.actors[node.actor as usize].id.clone(),
            seq: node.seq,
            start_op: node.start_op,
            max_op: node.max_op,
            deps: self.deps_of(rank).iter().map(|dep| self.hash(*dep)).collect(),
        }
    }

    /// The hash of the change that a row is of. The row is not checked: a wrong hash is one that
    /// the change's bytes do not have.
    pub fn hash_in_row(row: &[u8]) -> Option<ChangeHash> {
        row.get(1..)?.first_chunk().copied().map(ChangeHash)
    }

    /// Whether a row is as [`encode_entry`](Self::encode_entry) wrote it for this rank.
    pub fn is_row_sound(rank: u32, row: &[u8]) -> bool {
        row.split_last_chunk::<4>().is_some_and(|(body, sum)| {
            body.first() == Some(&ROW_VERSION) && row_checksum(rank, body) == *sum
        })
    }
}
