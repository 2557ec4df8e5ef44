//! The heads of documents in other peers' storages, told to the peers that asked for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rejoin_core::automerge_repo::{RemoteHeads, RepoFrame, StorageHeads};
use rejoin_core::limits::{REPO_HEADS_DUE_MAX, REPO_STORAGES_MAX, REPO_SUBSCRIBED_BYTES_MAX};
use rejoin_core::{ChangeHash, DocumentId, SpaceName};

use super::super::connections::Shared;
use super::super::{ConnectionId, Relay};
use super::{Peer, PeerError};

/// A document as a storage has it.
type Key = (SpaceName, String, DocumentId);

/// The last heads that were told of each storage that somebody in its space asked for.
#[derive(Debug, Default)]
pub(super) struct RemoteHeadsTable {
    heads: BTreeMap<Key, StorageHeads>,
    bytes: usize,
    subscribers: BTreeMap<(SpaceName, String), BTreeSet<ConnectionId>>,
}

impl RemoteHeadsTable {
    fn put(&mut self, key: &Key, heads: StorageHeads) {
        // Forgotten heads come again with the next message of their storage.
        if self.bytes > HEADS_BYTES_MAX {
            self.heads.clear();
            self.bytes = 0;
        }
        self.bytes += bytes(&heads);
        let before = self.heads.insert(key.clone(), heads);
        self.bytes -= before.as_ref().map_or(0, bytes);
    }

    pub(super) fn unsubscribe(&mut self, id: ConnectionId, key: &(SpaceName, String)) {
        if let Some(subscribers) = self.subscribers.get_mut(key) {
            subscribers.remove(&id);
            if subscribers.is_empty() {
                self.subscribers.remove(key);
            }
        }
    }
}

impl Peer {
    pub(super) fn change_subscriptions(
        &mut self,
        shared: &mut Shared,
        add: &[&str],
        remove: &[&str],
    ) -> Result<(), PeerError> {
        let table = &mut shared.peers.remote_heads;
        for storage in remove {
            self.subscriptions.remove(*storage);
            table.unsubscribe(self.id, &(self.space.clone(), (*storage).to_owned()));
        }
        for storage in add {
            if self.subscriptions.len() >= REPO_STORAGES_MAX {
                let what = "subscribed storages";
                return Err(PeerError::TooMuch { what, max: REPO_STORAGES_MAX });
            }
            let bytes: usize = self.subscriptions.iter().map(|storage| storage.len()).sum();
            if bytes + storage.len() > REPO_SUBSCRIBED_BYTES_MAX {
                let what = "bytes of subscribed storages";
                return Err(PeerError::TooMuch { what, max: REPO_SUBSCRIBED_BYTES_MAX });
            }
            let key = (self.space.clone(), (*storage).to_owned());
            let storage: Arc<str> = Arc::from(*storage);
            if !self.subscriptions.insert(Arc::clone(&storage)) {
                continue;
            }
            let first = (key.0.clone(), key.1.clone(), DocumentId([0; 16]));
            let last = (key.0.clone(), key.1.clone(), DocumentId([0xff; 16]));
            for (_, _, document) in table.heads.range(first..=last).map(|(key, _)| key) {
                if self.talks.contains_key(document) {
                    self.owe_heads(&mut shared.ready, *document, &storage);
                }
            }
            table.subscribers.entry(key).or_default().insert(self.id);
        }
        Ok(())
    }

    /// It opened a document: it is owed the known heads of the storages it subscribed to.
    pub(super) fn owe_heads_known(&mut self, shared: &mut Shared, document: DocumentId) {
        for storage in self.subscriptions.clone() {
            let key = (self.space.clone(), storage.to_string(), document);
            if shared.peers.remote_heads.heads.contains_key(&key) {
                self.owe_heads(&mut shared.ready, document, &storage);
            }
        }
    }

    /// It is to be told the heads that a storage has of a document, unless it does not read: then
    /// they come again with the next change.
    fn owe_heads(
        &mut self,
        ready: &mut BTreeSet<ConnectionId>,
        document: DocumentId,
        storage: &Arc<str>,
    ) {
        if self.heads_due.len() < REPO_HEADS_DUE_MAX {
            self.heads_due.insert((document, Arc::clone(storage)));
        }
        ready.insert(self.id);
    }

    /// The next heads that it is owed.
    pub(super) fn heads_frame(&mut self, shared: &Shared) -> Option<Vec<u8>> {
        loop {
            let (document, storage) = self.heads_due.pop_first()?;
            if !self.is_in(&document) {
                continue;
            }
            let key = (self.space.clone(), storage.to_string(), document);
            let Some(known) = shared.peers.remote_heads.heads.get(&key) else { continue };
            let heads = BTreeMap::from([(key.1.as_str(), known.clone())]);
            let (sender, target) = (&*shared.repo_name, self.name());
            let remote = RemoteHeads { sender, target, document, heads };
            return Some(RepoFrame::RemoteHeadsChanged(remote).encode());
        }
    }
}

impl Relay {
    /// A peer told the heads of its own storage.
    pub(super) fn note_heads(
        &mut self,
        id: ConnectionId,
        document: DocumentId,
        heads: &[ChangeHash],
        unix_ms: u64,
    ) {
        self.shared.peers.unix_ms = unix_ms;
        let Some(peer) = self.connections.peer(id) else { return };
        let Some(storage) = peer.joined.as_ref().and_then(|joined| joined.storage.clone()) else {
            return;
        };
        let key = (peer.space.clone(), storage, document);
        // Two messages in one millisecond are still one after the other.
        let known = self.shared.peers.remote_heads.heads.get(&key);
        let timestamp = known.map_or(unix_ms, |known| unix_ms.max(known.timestamp + 1));
        self.put_heads(id, &key, StorageHeads { heads: heads.to_vec(), timestamp });
    }

    /// A peer passes on heads of others' storages.
    pub(super) fn take_remote_heads(&mut self, id: ConnectionId, remote: &RemoteHeads<'_>) {
        let Some(peer) = self.connections.peer(id) else { return };
        if !peer.talks.contains_key(&remote.document) || !peer.is_in(&remote.document) {
            return;
        }
        let space = peer.space.clone();
        for (storage, heads) in &remote.heads {
            let key = (space.clone(), (*storage).to_owned(), remote.document);
            let known = self.shared.peers.remote_heads.heads.get(&key);
            // Nobody silences a storage with news from the far future.
            let is_news = known.is_none_or(|known| known.timestamp < heads.timestamp);
            if is_news && heads.timestamp <= self.shared.peers.unix_ms.saturating_add(CLOCK_MS) {
                self.put_heads(id, &key, heads.clone());
            }
        }
    }

    fn put_heads(&mut self, from: ConnectionId, key: &Key, heads: StorageHeads) {
        let (space, storage, document) = key;
        let subscribed = (space.clone(), storage.clone());
        let table = &mut self.shared.peers.remote_heads;
        // Nobody asks, as a rule.
        let Some(subscribers) = table.subscribers.get(&subscribed).cloned() else { return };
        table.put(key, heads);
        for id in subscribers.iter().filter(|id| **id != from) {
            let Some(peer) = self.connections.peer_mut(*id) else { continue };
            let Some(storage) = peer.subscriptions.get(storage.as_str()).cloned() else { continue };
            if peer.talks.contains_key(document) {
                peer.owe_heads(&mut self.shared.ready, *document, &storage);
            }
        }
    }
}

fn bytes(heads: &StorageHeads) -> usize {
    256 + 32 * heads.heads.len()
}

/// Bytes of heads kept of all storages and documents.
const HEADS_BYTES_MAX: usize = 32 << 20;

/// Milliseconds by which another clock may be ahead.
const CLOCK_MS: u64 = 300_000;
