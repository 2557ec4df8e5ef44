//! The messages of a peer and the relay about one document.

use std::collections::BTreeSet;

use super::{Bloom, Flags, Have, Orphans, SyncMessage};
use crate::limits::HEADS_MAX;
use crate::{ChangeGraph, ChangeHash, RankSet};

/// One end of Automerge's sync protocol, answered from a change graph instead of a document.
///
/// The protocol is that of `automerge::sync`, which leaves much to each side. This side
/// - speaks only of documents that the peer has spoken of;
/// - trusts the connection to keep order: the peer has all that was sent, or the connection is
///   gone;
/// - asks a Bloom filter only if the peer has changes that are unknown here, because heads tell
///   everything else;
/// - names as its heads only changes that the peer has once it has read the message, so that a
///   large document may go in several messages without the peer asking for the rest;
/// - lets the peer send whole documents only if the history is long, as those have to be taken
///   apart before they can be kept.
///
/// Give [`receive`](Self::receive) every message, once its changes are in the graph. Whenever the
/// graph has changed and the peer can take more, send what [`owed`](Self::owed) says.
#[derive(Debug, Default)]
pub struct Conversation {
    /// Changes the peer has, with all they build on; it may have more.
    has: Vec<u32>,
    /// Its heads that are not in the graph.
    unknown: Vec<ChangeHash>,
    /// The filters of the changes it says it has, while some of those are unknown here and nothing
    /// was sent since.
    have: Vec<Have>,
    /// The changes it asked for and was not sent since.
    need: Vec<ChangeHash>,
    told: Option<Told>,
    was_heard: bool,
    /// It wants only what it asks for.
    withholds: bool,
    takes_documents: bool,
    is_read_only: bool,
}

/// The state of the document that the peer was last told.
#[derive(Debug)]
struct Told {
    /// The number of changes that the graph had then.
    changes: usize,
    need: Vec<ChangeHash>,
}

/// The kind of chunks that the relay takes from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// No changes: the peer may only read.
    Nothing,
    /// Changes one by one.
    Changes,
    /// Whole documents too.
    Documents,
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// The changes to send, ascending.
    pub ranks: Vec<u32>,
    /// Whether the peer takes a document in their place.
    pub takes_document: bool,
    need: Vec<ChangeHash>,
}

impl Conversation {
    /// Takes in a message. Its changes are in the graph by now, or never will be.
    pub fn receive(&mut self, message: &SyncMessage<'_>, graph: &ChangeGraph) {
        self.was_heard = true;
        if let Some(flags) = message.flags {
            self.takes_documents = true;
            // Automerge 0.12 forgets to set the flag when it begins anew.
            if message.heads.is_empty() || !message.is_anew() {
                self.is_read_only = flags.read_only;
            }
            if flags.sync_reset {
                self.has.clear();
            }
        }
        if message.is_anew() {
            // It has nothing, or lost the changes that it was sent.
            self.has.clear();
            self.told = None;
        }
        let (known, unknown) = message.heads.iter().partition(|head| graph.contains(head));
        self.unknown = unknown;
        self.add(graph, &known);
        message.have.iter().for_each(|have| self.add(graph, &have.last_sync));
        self.withholds = message.have.is_empty() && !self.unknown.is_empty();
        self.have = if self.unknown.is_empty() { Vec::new() } else { message.have.clone() };
        self.need = message.need.iter().filter(|hash| graph.contains(hash)).copied().collect();
    }

    /// The peer was told that there is no such document.
    pub fn set_unavailable(&mut self) {
        self.told = Some(Told { changes: 0, need: Vec::new() });
    }

    /// The message that the peer is owed, if any: changes it lacks, heads it has not been told, or
    /// questions it has not been asked.
    pub fn owed(&self, graph: &ChangeGraph, orphans: &Orphans) -> Option<Owed> {
        if !self.was_heard {
            return None;
        }
        let ranks = if self.is_read_only { Vec::new() } else { self.lacking(graph) };
        let need = self.needed(orphans);
        let is_told = self.told.as_ref().is_some_and(|told| {
            told.changes == graph.len() && (need.is_empty() || told.need == need)
        });
        let takes_document = self.takes_documents;
        (!is_told || !ranks.is_empty()).then_some(Owed { ranks, takes_document, need })
    }

    /// The changes the peer has, if these alone decide what it is owed: it was told of everything
    /// until then and asked for nothing since. Other peers that have the same are owed the same
    /// message.
    ///
    /// Comes with whether it takes a document.
    pub fn plain(&self, orphans: &Orphans) -> Option<(&[u32], bool)> {
        let is_plain = self.told.is_some()
            && self.unknown.is_empty()
            && self.need.is_empty()
            && orphans.is_empty()
            && !self.is_read_only;
        is_plain.then_some((&*self.has, self.takes_documents))
    }

    /// The peer was sent the message that was made for another peer in the same state.
    pub fn tell_all(&mut self, graph: &ChangeGraph) {
        self.has = graph.head_ranks().collect();
        self.told = Some(Told { changes: graph.len(), need: Vec::new() });
    }

    /// Bytes it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        let hashes = self.unknown.len()
            + self.need.len()
            + self.have.iter().map(|have| have.last_sync.len()).sum::<usize>()
            + self.told.as_ref().map_or(0, |told| told.need.len());
        let filters: usize = self.have.iter().map(|have| have.bloom.memory_bytes()).sum();
        size_of::<Self>() + self.has.len() * 4 + hashes * 32 + filters
    }

    /// The message for what is owed. `chunks` holds the first `taken` of its changes, and
    /// `is_document` says whether they are in a document.
    pub fn tell<'c>(
        &mut self,
        graph: &ChangeGraph,
        owed: Owed,
        taken: usize,
        chunks: Vec<&'c [u8]>,
        is_document: bool,
        takes: Takes,
    ) -> SyncMessage<'c> {
        let Owed { ranks, mut need, .. } = owed;
        if takes == Takes::Nothing {
            need.clear();
        }
        let is_all = taken == ranks.len();
        let will_have = self.will_have(graph, &ranks[..taken], is_all && !self.withholds);
        let heads = hashes(graph, &will_have);
        let have = self.own_have(graph, &need, &heads);
        let flags = match takes {
            Takes::Nothing => Some(Flags { read_only: true, sync_reset: false }),
            Takes::Documents if self.has_long_history() => Some(Flags::default()),
            _ => None,
        };
        if !self.is_read_only {
            self.has = will_have;
        }
        self.have.clear();
        self.need.clear();
        let changes = if is_all { graph.len() } else { usize::MAX };
        self.told = Some(Told { changes, need: need.clone() });
        SyncMessage { is_v2: is_document, heads, need, have, changes: chunks, flags }
    }

    fn add(&mut self, graph: &ChangeGraph, hashes: &[ChangeHash]) {
        self.has.extend(hashes.iter().filter_map(|hash| graph.rank(hash)));
        self.has.sort_unstable();
        self.has.dedup();
        if self.has.len() > HAS_MAX {
            self.has = graph.maximal(&self.has);
        }
    }

    fn lacking(&self, graph: &ChangeGraph) -> Vec<u32> {
        let mut ranks = if self.withholds { Vec::new() } else { graph.lacking(&self.has) };
        if !self.have.is_empty() {
            ranks = self.not_in_filters(graph, ranks);
        }
        let asked = self.need.iter().filter_map(|hash| graph.rank(hash));
        ranks.extend(asked);
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    }

    /// The changes that the peer does not claim to have, and all that build on them: a peer that
    /// lacks a change cannot have those, even if a filter claims so.
    fn not_in_filters(&self, graph: &ChangeGraph, ranks: Vec<u32>) -> Vec<u32> {
        let mut lacking = RankSet::of(graph.len());
        for rank in ranks {
            let hash = graph.hash(rank);
            let is_had = self.have.iter().any(|have| have.bloom.contains(&hash));
            if !is_had || graph.deps_of(rank).iter().any(|dep| lacking.contains(*dep)) {
                lacking.insert(rank);
            }
        }
        lacking.iter().collect()
    }

    fn needed(&self, orphans: &Orphans) -> Vec<ChangeHash> {
        let heads = self.unknown.iter().filter(|head| !orphans.contains(head)).copied();
        let mut need: Vec<_> = heads.chain(orphans.missing()).take(HEADS_MAX).collect();
        need.sort_unstable();
        need.dedup();
        need
    }

    /// The latest changes the peer has when it has read the message, ascending.
    fn will_have(&self, graph: &ChangeGraph, taken: &[u32], is_all: bool) -> Vec<u32> {
        if is_all {
            return graph.head_ranks().collect();
        }
        let mut latest: BTreeSet<u32> = self.has.iter().copied().collect();
        for rank in taken {
            graph.deps_of(*rank).iter().for_each(|dep| {
                latest.remove(dep);
            });
            latest.insert(*rank);
        }
        latest.into_iter().collect()
    }

    /// The relay's own heads, from which the peer can tell which changes the relay lacks. Empty if
    /// the peer is to send first the changes that are asked for.
    fn own_have(
        &self,
        graph: &ChangeGraph,
        need: &[ChangeHash],
        heads: &[ChangeHash],
    ) -> Vec<Have> {
        if need.iter().any(|hash| !self.unknown.contains(hash)) {
            return Vec::new();
        }
        if need.is_empty() {
            let last_sync =
                if self.is_read_only { hashes(graph, &self.has) } else { heads.to_vec() };
            return vec![Have { last_sync, bloom: Bloom::default() }];
        }
        let beyond = graph.lacking(&self.has);
        let bloom = Bloom::of(beyond.iter().map(|rank| graph.hash(*rank)));
        vec![Have { last_sync: hashes(graph, &self.has), bloom }]
    }

    /// Whether the history is long. A message with any flags lets the peer send a document instead
    /// of its changes, which is worth the trouble only for a long history.
    fn has_long_history(&self) -> bool {
        let beyond: u64 = self.have.iter().map(|have| u64::from(have.bloom.entries())).sum();
        beyond > SINGLE_CHANGES_MAX
    }
}

fn hashes(graph: &ChangeGraph, ranks: &[u32]) -> Vec<ChangeHash> {
    let mut hashes: Vec<_> = ranks.iter().map(|rank| graph.hash(*rank)).collect();
    hashes.sort_unstable();
    hashes
}

/// Places kept of what a peer has before they are looked through.
const HAS_MAX: usize = 64;

/// Changes that a peer is left to send one by one. So many take a hundred kilobytes, and some
/// milliseconds.
const SINGLE_CHANGES_MAX: u64 = 1024;
