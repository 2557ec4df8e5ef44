//! Deliveries as an outbox makes them, for tests of what takes them.

use rejoin::{ChangeHash, DocumentId};
use rejoin_adapters::delivery::{Action, Delivery, IdempotencyKey, Record};
use serde_json::Value;

/// A delivery about a row, from a document of its own. Those that differ have different keys.
pub fn delivery(name: &str, key: &str, seq: u64, action: Action) -> Delivery {
    let mut document = [0; 16];
    key.bytes().enumerate().for_each(|(at, byte)| document[at % 16] ^= byte.rotate_left(at as u32));
    Delivery {
        key: IdempotencyKey(format!("{name}-{key}-{seq}")),
        adapter: "board".to_owned(),
        document: DocumentId(document),
        seq,
        previous: None,
        record: Record { name: name.to_owned(), key: key.to_owned() },
        action,
        heads: vec![ChangeHash([seq as u8; 32])],
        mapping: "12ab".to_owned(),
        correlation: "c0ffee".to_owned(),
        enqueued_ms: 1_790_000_000_123,
        generation: 0,
    }
}

/// The row with these fields.
pub fn put(row: Value) -> Action {
    let Value::Object(row) = row else { panic!("{row} is no row") };
    Action::Put(row)
}
