//! The present activity of peers. The last value wins, none is stored, and all expire.

use std::collections::BTreeMap;

use rejoin_core::{DocumentId, PeerId, SpaceName, limits};

/// The presence values of all spaces.
#[derive(Debug, Default)]
pub(crate) struct Presences {
    values: BTreeMap<(DocumentId, PeerId), Value>,
}

#[derive(Debug)]
struct Value {
    space: SpaceName,
    bytes: Vec<u8>,
    expires_at: u64,
}

impl Presences {
    /// Takes a value, or with `None` forgets the peer.
    pub(crate) fn put(
        &mut self,
        space: &SpaceName,
        document: DocumentId,
        peer: PeerId,
        bytes: Option<Vec<u8>>,
        expires_at: u64,
    ) {
        let key = (document, peer);
        match bytes {
            None => drop(self.values.remove(&key)),
            Some(bytes) => {
                let room = self.values.len() < limits::PRESENCES_MAX;
                if room || self.values.contains_key(&key) {
                    self.values.insert(key, Value { space: space.clone(), bytes, expires_at });
                }
            }
        }
    }

    /// The values of a document that have not expired.
    pub(crate) fn of(&self, now: u64, document: &DocumentId) -> Vec<(PeerId, Vec<u8>)> {
        let first = (*document, PeerId([0; 16]));
        let last = (*document, PeerId([0xff; 16]));
        let values = self.values.range(first..=last);
        let live = values.filter(|(_, value)| value.expires_at > now);
        live.map(|((_, peer), value)| (*peer, value.bytes.clone())).collect()
    }

    /// Forgets the values that have expired, and names their documents.
    pub(crate) fn expire(&mut self, now: u64) -> Vec<(SpaceName, DocumentId)> {
        let gone = self.values.extract_if(.., |_, value| value.expires_at <= now);
        gone.map(|((document, _), value)| (value.space, document)).collect()
    }
}
