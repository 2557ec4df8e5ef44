//! Presence of replicas, and the connections that speak for each peer.

use std::collections::{BTreeMap, VecDeque};

use rejoin_core::limits::PRESENCE_PEERS_MAX;
use rejoin_core::wire::Presence;
use rejoin_core::{PeerId, SpaceName};

use super::breaches::Breach;
use super::{ConnectionId, Relay};

/// The connection that speaks for each peer of each space: the one that did so first, until it
/// closes. Otherwise anybody could tell activities of others, or that they left.
#[derive(Debug, Default)]
pub(super) struct Speakers {
    holders: BTreeMap<Peer, ConnectionId>,
    /// The peers for which each connection began to speak, in that order. Others may speak for some
    /// of them by now.
    spoke_for: BTreeMap<ConnectionId, VecDeque<Peer>>,
}

type Peer = (SpaceName, PeerId);

impl Speakers {
    pub(super) fn holder(&self, peer: &Peer) -> Option<ConnectionId> {
        self.holders.get(peer).copied()
    }

    /// From now on this connection speaks for the peer. One that speaks for many others forgets the
    /// oldest of them.
    pub(super) fn hold(&mut self, peer: Peer, id: ConnectionId) {
        if self.holder(&peer) == Some(id) {
            return;
        }
        let spoke_for = self.spoke_for.entry(id).or_default();
        spoke_for.push_back(peer.clone());
        let is_too_many = spoke_for.len() > PRESENCE_PEERS_MAX;
        let forgotten = if is_too_many { spoke_for.pop_front() } else { None };
        self.holders.insert(peer, id);
        if let Some(peer) = forgotten {
            self.release(&peer, id);
        }
    }

    /// The connection is gone.
    pub(super) fn end(&mut self, id: ConnectionId) {
        let spoke_for = self.spoke_for.remove(&id).unwrap_or_default();
        spoke_for.iter().for_each(|peer| self.release(peer, id));
    }

    fn release(&mut self, peer: &Peer, id: ConnectionId) {
        if self.holder(peer) == Some(id) {
            self.holders.remove(peer);
        }
    }
}

impl Relay {
    /// Passes on the activity of a replica to everybody else of the space, if it speaks for itself.
    pub(super) fn forward_presence(
        &mut self,
        from: ConnectionId,
        presence: Presence,
        unix_ms: u64,
    ) {
        let Some(name) = self.space_of(from, presence.space) else { return };
        // Nobody tells of a document that they may not read.
        let rights = self.rights_of(from, presence.space);
        let is_hidden = rights.is_none_or(|rights| {
            self.is_hidden(&name, &presence.document, &rights.read).unwrap_or(true)
        });
        if is_hidden {
            return;
        }
        let peer = (name.clone(), presence.peer);
        if !self.may_speak_for(from, &peer) {
            let what = || format!("presence of {}, for whom another connection speaks", peer.1);
            self.breach(from, Breach::Presence, 1, what);
            return;
        }
        self.speakers.hold(peer, from);
        self.give_to_peers(&name, &presence, unix_ms);
        self.give_to_replicas(&name, Some(from), &presence);
    }

    /// Gives presence to the replicas of a space, each by its own number of it.
    pub(super) fn give_to_replicas(
        &mut self,
        name: &SpaceName,
        from: Option<ConnectionId>,
        presence: &Presence,
    ) {
        let listeners = self.listeners.get(name).cloned().unwrap_or_default();
        for (id, space) in listeners.into_iter().filter(|(id, _)| Some(*id) != from) {
            let Some(rights) = self.rights_of(id, space) else { continue };
            // Nobody is told of a document that they may not read; what cannot be read is hidden.
            if self.is_hidden(name, &presence.document, &rights.read).unwrap_or(true) {
                continue;
            }
            let Some(replica) = self.connections.replica_mut(id) else { continue };
            if replica.closing.is_some() {
                continue;
            }
            replica.session.handle_presence(Presence { space, ..presence.clone() });
            self.shared.ready.insert(id);
            self.weigh(id);
        }
    }

    /// Whether nobody else speaks for the peer. A device that dialled anew does so although its old
    /// connection, which is dead, is still there.
    fn may_speak_for(&self, id: ConnectionId, peer: &Peer) -> bool {
        let Some(holder) = self.speakers.holder(peer) else { return true };
        let device = |id| self.connections.replica(id).map(|replica| replica.device);
        holder == id || device(holder).is_some_and(|before| device(id) == Some(before))
    }
}
