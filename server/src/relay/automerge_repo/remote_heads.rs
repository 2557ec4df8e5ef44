//! How far the storages of others have come: told to whoever asked for it.

use std::collections::{BTreeMap, BTreeSet};

use rejoin_core::automerge_repo::{RemoteHeads, RepoFrame, StorageHeads};
use rejoin_core::limits::REPO_STORAGES_MAX;
use rejoin_core::{ChangeHash, DocumentId};

use super::super::{ConnectionId, Relay};
use super::PeerError;

/// The last heads that were told of each storage.
#[derive(Debug, Default)]
pub(super) struct RemoteHeadsTable {
    heads: BTreeMap<(DocumentId, String), StorageHeads>,
    subscribers: BTreeMap<String, BTreeSet<ConnectionId>>,
}

impl RemoteHeadsTable {
    /// Whether it is news.
    fn put(&mut self, key: &(DocumentId, String), heads: StorageHeads) -> bool {
        if self.heads.get(key).is_some_and(|known| known.timestamp >= heads.timestamp) {
            return false;
        }
        // What is forgotten comes again with the next message of that storage.
        if self.heads.len() >= HEADS_KEPT_MAX && !self.heads.contains_key(key) {
            self.heads.clear();
        }
        self.heads.insert(key.clone(), heads);
        true
    }

    fn unsubscribe(&mut self, id: ConnectionId, storage: &str) {
        if let Some(subscribers) = self.subscribers.get_mut(storage) {
            subscribers.remove(&id);
            if subscribers.is_empty() {
                self.subscribers.remove(storage);
            }
        }
    }
}

impl Relay {
    pub(super) fn change_subscriptions(
        &mut self,
        id: ConnectionId,
        add: &[&str],
        remove: &[&str],
    ) -> Result<(), PeerError> {
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return Ok(()) };
        for storage in remove {
            peer.subscriptions.remove(*storage);
            self.peers.remote_heads.unsubscribe(id, storage);
        }
        for storage in add {
            if peer.subscriptions.len() >= REPO_STORAGES_MAX {
                let what = "subscribed storages";
                return Err(PeerError::TooMuch { what, max: REPO_STORAGES_MAX });
            }
            peer.subscriptions.insert((*storage).to_owned());
            let subscribers = &mut self.peers.remote_heads.subscribers;
            subscribers.entry((*storage).to_owned()).or_default().insert(id);
        }
        let documents: Vec<_> = peer.talks.keys().copied().collect();
        documents.iter().for_each(|document| self.tell_heads_known(id, document));
        Ok(())
    }

    /// A peer opened a document: it is owed what is known of the storages it subscribed to.
    pub(super) fn tell_heads_known(&mut self, id: ConnectionId, document: &DocumentId) {
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return };
        for storage in &peer.subscriptions {
            let key = (*document, storage.clone());
            if self.peers.remote_heads.heads.contains_key(&key) {
                peer.heads_due.insert(key);
                self.ready.insert(id);
            }
        }
    }

    /// A peer said what its own storage has.
    pub(super) fn note_heads(
        &mut self,
        id: ConnectionId,
        document: &DocumentId,
        heads: &[ChangeHash],
        unix_ms: u64,
    ) {
        let Some(peer) = self.peers.by_connection.get(&id) else { return };
        let Some(storage) = peer.joined.as_ref().and_then(|joined| joined.storage.clone()) else {
            return;
        };
        // Nobody asks, as a rule.
        if self.peers.remote_heads.subscribers.contains_key(&storage) {
            let heads = StorageHeads { heads: heads.to_vec(), timestamp: unix_ms };
            self.put_heads(id, (*document, storage), heads);
        }
    }

    /// A peer passes on what others' storages have.
    pub(super) fn take_remote_heads(&mut self, id: ConnectionId, remote: &RemoteHeads<'_>) {
        for (storage, heads) in &remote.heads {
            self.put_heads(id, (remote.document, (*storage).to_owned()), heads.clone());
        }
    }

    fn put_heads(&mut self, from: ConnectionId, key: (DocumentId, String), heads: StorageHeads) {
        if !self.peers.remote_heads.put(&key, heads) {
            return;
        }
        let Some(space) = self.peers.by_connection.get(&from).map(|peer| peer.space.clone()) else {
            return;
        };
        let subscribers = self.peers.remote_heads.subscribers.get(&key.1);
        for id in subscribers.into_iter().flatten().filter(|id| **id != from) {
            let Some(peer) = self.peers.by_connection.get_mut(id) else { continue };
            if peer.space == space && peer.talks.contains_key(&key.0) {
                peer.heads_due.insert(key.clone());
                self.ready.insert(*id);
            }
        }
    }

    /// The next heads that a peer is owed.
    pub(super) fn heads_frame(&mut self, id: ConnectionId) -> Option<Vec<u8>> {
        let sender = self.repo_name();
        let peer = self.peers.by_connection.get_mut(&id)?;
        loop {
            let key = peer.heads_due.pop_first()?;
            let Some(known) = self.peers.remote_heads.heads.get(&key) else { continue };
            let (document, storage) = &key;
            let heads = BTreeMap::from([(storage.as_str(), known.clone())]);
            let (sender, target) = (&*sender, peer.name());
            let remote = RemoteHeads { sender, target, document: *document, heads };
            return Some(RepoFrame::RemoteHeadsChanged(remote).encode());
        }
    }

    pub(super) fn end_subscriptions(&mut self, id: ConnectionId, subscriptions: &BTreeSet<String>) {
        let table = &mut self.peers.remote_heads;
        subscriptions.iter().for_each(|storage| table.unsubscribe(id, storage));
    }
}

/// Heads kept of all storages and documents.
const HEADS_KEPT_MAX: usize = 100_000;
