//! Deliveries as an outbox makes them, for tests of what takes them.

use rejoin::{ChangeHash, DocumentId};
use rejoin_adapters::config::parse;
use rejoin_adapters::delivery::{Action, Delivery, IdempotencyKey, Record};
use rejoin_adapters::mapping::Mapping;
use rejoin_adapters::sink::Sink;
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

/// A mapping whose rows are of these kinds.
fn mapping(kinds: &[&str]) -> Mapping {
    let record = |name: &&str| {
        format!(
            "[[adapter.a.record]]\nname = '{name}'\nkey = '{{key}}'\nfields = {{ a = {{ from = 'a' }} }}\n"
        )
    };
    let records: String = kinds.iter().map(record).collect();
    let text = format!(
        "[replica]\ndata = 'd'\nspace = 'main'\n[adapter.a]\ncollection = 'jobs'\n\
         sink = {{ kind = 'jsonl', folder = 'o' }}\n{records}"
    );
    parse(&text).config.and_then(|mut config| config.adapters.remove("a")).expect("a mapping")
}

/// What a sink finds wrong with its target for rows of these kinds, after it found that much as it
/// should be.
pub async fn wrong_at(sink: &dyn Sink, kinds: &[&str]) -> (usize, Vec<String>) {
    let found = sink.check(&mapping(kinds), false).await;
    let fine = found.iter().filter(|found| !found.is_wrong).count();
    let wrong = found.into_iter().filter(|found| found.is_wrong);
    (fine, wrong.map(|found| found.what).collect())
}
