//! Repairs under way.

use std::collections::{BTreeMap, VecDeque};

use rejoin_core::repair::{RepairEncoder, RepairError, RepairItem};

use super::ConnectionId;

/// A session's repair of one of its spaces.
type Key = (ConnectionId, u32);

/// The sets that sessions are being repaired against, each as it was when its repair began. The
/// oldest leave when together they take more than a budget.
#[derive(Debug)]
pub(super) struct Repairs {
    encoders: BTreeMap<Key, (RepairEncoder, usize)>,
    order: VecDeque<Key>,
    bytes: usize,
    bytes_max: usize,
}

impl Repairs {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { encoders: BTreeMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Begins a repair over `items`, in place of one that the session had in this space.
    pub(super) fn begin(&mut self, key: Key, items: Vec<RepairItem>) {
        self.end(&key);
        let bytes = items.len() * ITEM_BYTES;
        while self.bytes + bytes > self.bytes_max
            && let Some(oldest) = self.order.front().copied()
        {
            self.end(&oldest);
        }
        self.bytes += bytes;
        self.encoders.insert(key, (RepairEncoder::new(items.into_iter()), bytes));
        self.order.push_back(key);
    }

    /// The next symbols; `None` if no repair is under way, or no more.
    pub(super) fn symbols(
        &mut self,
        key: Key,
        from: u32,
        count: u32,
    ) -> Option<Result<Vec<u8>, RepairError>> {
        let (encoder, _) = self.encoders.get_mut(&key)?;
        Some(encoder.symbols(from, count))
    }

    pub(super) fn end(&mut self, key: &Key) {
        if let Some((_, bytes)) = self.encoders.remove(key) {
            self.bytes -= bytes;
            self.order.retain(|other| other != key);
        }
    }

    pub(super) fn end_all_of(&mut self, connection: ConnectionId) {
        let of_connection = (connection, 0)..=(connection, u32::MAX);
        let keys: Vec<Key> = self.encoders.range(of_connection).map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| self.end(key));
    }
}

/// Bytes of a document in an encoder.
const ITEM_BYTES: usize = 56;
