//! How far the storages of others have come: told to whoever asked for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rejoin_core::automerge_repo::{RemoteHeads, RepoFrame, StorageHeads};
use rejoin_core::limits::{REPO_HEADS_DUE_MAX, REPO_STORAGES_MAX, REPO_SUBSCRIBED_BYTES_MAX};
use rejoin_core::{ChangeHash, DocumentId, SpaceName};

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
        // What is forgotten comes again with the next message of that storage.
        if self.bytes > HEADS_BYTES_MAX {
            self.heads.clear();
            self.bytes = 0;
        }
        self.bytes += bytes(&heads);
        let before = self.heads.insert(key.clone(), heads);
        self.bytes -= before.as_ref().map_or(0, bytes);
    }

    fn unsubscribe(&mut self, id: ConnectionId, key: &(SpaceName, String)) {
        if let Some(subscribers) = self.subscribers.get_mut(key) {
            subscribers.remove(&id);
            if subscribers.is_empty() {
                self.subscribers.remove(key);
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
        let table = &mut self.peers.remote_heads;
        for storage in remove {
            peer.subscriptions.remove(*storage);
            table.unsubscribe(id, &(peer.space.clone(), (*storage).to_owned()));
        }
        for storage in add {
            if peer.subscriptions.len() >= REPO_STORAGES_MAX {
                let what = "subscribed storages";
                return Err(PeerError::TooMuch { what, max: REPO_STORAGES_MAX });
            }
            let bytes: usize = peer.subscriptions.iter().map(|storage| storage.len()).sum();
            if bytes + storage.len() > REPO_SUBSCRIBED_BYTES_MAX {
                let what = "bytes of subscribed storages";
                return Err(PeerError::TooMuch { what, max: REPO_SUBSCRIBED_BYTES_MAX });
            }
            let key = (peer.space.clone(), (*storage).to_owned());
            let storage: Arc<str> = Arc::from(*storage);
            if !peer.subscriptions.insert(Arc::clone(&storage)) {
                continue;
            }
            let first = (key.0.clone(), key.1.clone(), DocumentId([0; 16]));
            let last = (key.0.clone(), key.1.clone(), DocumentId([0xff; 16]));
            for (_, _, document) in table.heads.range(first..=last).map(|(key, _)| key) {
                if peer.talks.contains_key(document) {
                    peer.owe_heads(*document, &storage);
                    self.ready.insert(id);
                }
            }
            table.subscribers.entry(key).or_default().insert(id);
        }
        Ok(())
    }

    /// A peer opened a document: it is owed what is known of the storages it subscribed to.
    pub(super) fn tell_heads_known(&mut self, id: ConnectionId, document: &DocumentId) {
        let Some(peer) = self.peers.by_connection.get_mut(&id) else { return };
        for storage in peer.subscriptions.clone() {
            let key = (peer.space.clone(), storage.to_string(), *document);
            if self.peers.remote_heads.heads.contains_key(&key) {
                peer.owe_heads(*document, &storage);
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
        self.peers.unix_ms = unix_ms;
        let Some(peer) = self.peers.by_connection.get(&id) else { return };
        let Some(storage) = peer.joined.as_ref().and_then(|joined| joined.storage.clone()) else {
            return;
        };
        let key = (peer.space.clone(), storage, *document);
        // Two messages in one millisecond are still one after the other.
        let known = self.peers.remote_heads.heads.get(&key);
        let timestamp = known.map_or(unix_ms, |known| unix_ms.max(known.timestamp + 1));
        self.put_heads(id, &key, StorageHeads { heads: heads.to_vec(), timestamp });
    }

    /// A peer passes on what others' storages have.
    pub(super) fn take_remote_heads(&mut self, id: ConnectionId, remote: &RemoteHeads<'_>) {
        let Some(peer) = self.peers.by_connection.get(&id) else { return };
        if !peer.talks.contains_key(&remote.document) {
            return;
        }
        let space = peer.space.clone();
        for (storage, heads) in &remote.heads {
            let key = (space.clone(), (*storage).to_owned(), remote.document);
            let known = self.peers.remote_heads.heads.get(&key);
            // Nobody silences a storage with news from the far future.
            let is_news = known.is_none_or(|known| known.timestamp < heads.timestamp);
            if is_news && heads.timestamp <= self.peers.unix_ms.saturating_add(CLOCK_MS) {
                self.put_heads(id, &key, heads.clone());
            }
        }
    }

    fn put_heads(&mut self, from: ConnectionId, key: &Key, heads: StorageHeads) {
        let (space, storage, document) = key;
        let subscribed = (space.clone(), storage.clone());
        let table = &mut self.peers.remote_heads;
        // Nobody asks, as a rule.
        let Some(subscribers) = table.subscribers.get(&subscribed).cloned() else { return };
        table.put(key, heads);
        for id in subscribers.iter().filter(|id| **id != from) {
            let Some(peer) = self.peers.by_connection.get_mut(id) else { continue };
            let Some(storage) = peer.subscriptions.get(storage.as_str()).cloned() else { continue };
            if peer.talks.contains_key(document) {
                peer.owe_heads(*document, &storage);
                self.ready.insert(*id);
            }
        }
    }

    /// The next heads that a peer is owed.
    pub(super) fn heads_frame(&mut self, id: ConnectionId) -> Option<Vec<u8>> {
        let sender = Arc::clone(&self.repo_name);
        let peer = self.peers.by_connection.get_mut(&id)?;
        loop {
            let (document, storage) = peer.heads_due.pop_first()?;
            let key = (peer.space.clone(), storage.to_string(), document);
            let Some(known) = self.peers.remote_heads.heads.get(&key) else { continue };
            let heads = BTreeMap::from([(key.1.as_str(), known.clone())]);
            let (sender, target) = (&*sender, peer.name());
            return Some(
                RepoFrame::RemoteHeadsChanged(RemoteHeads { sender, target, document, heads })
                    .encode(),
            );
        }
    }

    pub(super) fn end_subscriptions(
        &mut self,
        id: ConnectionId,
        space: &SpaceName,
        subscriptions: &BTreeSet<Arc<str>>,
    ) {
        let table = &mut self.peers.remote_heads;
        for storage in subscriptions {
            table.unsubscribe(id, &(space.clone(), storage.to_string()));
        }
    }
}

impl Peer {
    /// It is to be told the heads that a storage has of a document, unless it does not read: then they
    /// come again with the next change.
    fn owe_heads(&mut self, document: DocumentId, storage: &Arc<str>) {
        if self.heads_due.len() < REPO_HEADS_DUE_MAX {
            self.heads_due.insert((document, Arc::clone(storage)));
        }
    }
}

fn bytes(heads: &StorageHeads) -> usize {
    256 + 32 * heads.heads.len()
}

/// Bytes of heads kept of all storages and documents.
const HEADS_BYTES_MAX: usize = 32 << 20;

/// How far another's clock may be ahead.
const CLOCK_MS: u64 = 300_000;
