//! What the relay does for every change, beside what Automerge does to read one.

use automerge::transaction::Transactable;
use automerge::{Automerge, Change, ROOT};
use criterion::{Criterion, criterion_group, criterion_main};
use rejoin_core::change::{genesis, parse};
use rejoin_core::repair::{RepairDecoder, RepairEncoder, RepairItem};
use rejoin_core::{ChangeHash, DocumentId, SetDigest, ShortHash, heads_hash};
use std::hint::black_box;

/// An ordinary edit of one field, about 150 bytes.
fn typical_change() -> Vec<u8> {
    let mut doc = Automerge::new();
    for value in ["booked", "on the way, delayed by the bridge", "done"] {
        let mut tx = doc.transaction();
        tx.put(ROOT, "status", value).expect("the root is a map");
        tx.commit();
    }
    let mut last = doc.get_last_local_change().expect("three were made");
    last.bytes().into_owned()
}

fn guard(criterion: &mut Criterion) {
    let chunk = typical_change();
    let mut group = criterion.benchmark_group(format!("change of {} bytes", chunk.len()));
    group.bench_function("guard and hash", |bencher| bencher.iter(|| parse(black_box(&chunk))));
    group.bench_function("Automerge reads it", |bencher| {
        bencher.iter(|| Change::from_bytes(black_box(chunk.clone())))
    });
    group.finish();
}

fn sets(criterion: &mut Criterion) {
    let heads = heads_hash(&[ChangeHash([1; 32])]);
    criterion.bench_function("digest: insert a document", |bencher| {
        let mut digest = SetDigest::default();
        bencher.iter(|| digest.insert(black_box(&DocumentId([2; 16])), &heads));
    });
    criterion.bench_function("genesis: encode", |bencher| {
        bencher.iter(|| genesis(black_box(&DocumentId([2; 16])), None))
    });
    let items = |changed: u8| {
        (0..5_000_u32).map(move |n| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&n.to_be_bytes());
            let heads = if n < 50 { changed } else { 0 };
            RepairItem { document: DocumentId(id), heads: ShortHash([heads; 8]) }
        })
    };
    criterion.bench_function("repair: 50 of 5,000 documents differ", |bencher| {
        bencher.iter(|| {
            let mut encoder = RepairEncoder::new(items(1));
            let mut decoder = RepairDecoder::new(items(2));
            while !decoder.is_decoded() {
                let from = encoder.produced();
                let symbols = encoder.symbols(from, 32).expect("in order");
                decoder.add(&symbols).expect("sound symbols");
            }
            decoder.difference()
        })
    });
}

criterion_group!(benches, guard, sets);
criterion_main!(benches);
