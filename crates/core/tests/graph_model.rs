//! The change graph against the long way round, the rows a store keeps of it, and what both cost.

use std::collections::BTreeSet;

use rejoin_core::{
    ActorId, ChangeGraph, ChangeHash, GraphEntry, GraphError, History, KnownChange, LastChange,
    ShortHash, Since,
};
use sha2::{Digest, Sha256};

#[test]
fn random_graphs_agree_with_the_long_way() {
    for seed in 0..200 {
        let mut random = Random(!seed);
        let entries = random_entries(seed, 1 + random.below(60));
        let graph = graph(&entries);
        let all: BTreeSet<_> = entries.iter().map(|entry| entry.hash).collect();
        let built_on: BTreeSet<_> = entries.iter().flat_map(|entry| &entry.deps).collect();
        let heads: Vec<_> = all.iter().filter(|hash| !built_on.contains(hash)).copied().collect();
        assert_eq!(graph.heads(), heads, "seed {seed}");
        for _ in 0..10 {
            let pick = |_| entries[random.below(entries.len())].hash;
            let have: Vec<ChangeHash> = (0..3).map(pick).collect();
            let held = ancestors(&entries, &have);
            let set = graph.ancestors(&have);
            assert_eq!(hashes(&graph, set.iter()), held, "seed {seed}");
            assert_eq!(set.count(), held.len(), "seed {seed}");
            let short: Vec<_> = have.iter().map(ChangeHash::short).collect();
            let since = graph.since(&short);
            assert!(since.ranks.is_sorted() && !since.unknown, "seed {seed}");
            assert_eq!(hashes(&graph, since.ranks), &all - &held, "seed {seed}");
        }
    }
}

#[test]
fn refused_changes_leave_no_trace() {
    let entries = chain(3);
    let mut graph = graph(&entries[..2]);
    let orphan = entry(9, b"bob", 1, 1, &[entries[0].hash, entries[2].hash]);
    let (hash, dep) = (orphan.hash, entries[2].hash);
    assert_eq!(graph.missing(&orphan.deps), [dep]);
    assert_eq!(graph.insert(orphan), Err(GraphError::UnknownDependency { hash, dep }));
    let known = GraphError::Known { hash: entries[1].hash };
    assert_eq!(graph.insert(entries[1].clone()), Err(known));
    let long = entry(9, &[0; 65], 1, 1, &[]);
    assert_eq!(graph.insert(long), Err(GraphError::ActorTooLong { len: 65 }));
    assert_eq!((graph.len(), graph.last(&ActorId(b"bob".to_vec()))), (2, None));
    assert_eq!(graph.insert(entries[2].clone()), Ok(2));
    assert_eq!(graph.heads(), [entries[2].hash]);
}

#[test]
fn since_knows_readers_with_nothing_with_everything_and_with_something_else() {
    let mut entries = chain(5);
    entries.push(entry(10, b"bob", 1, 2, &[entries[1].hash]));
    let graph = graph(&entries);
    let short = |n: usize| entries[n].hash.short();
    let since = |have: &[ShortHash]| {
        let since = graph.since(have);
        (since.ranks, since.unknown)
    };
    let stranger = ShortHash([9; 8]);
    assert_eq!(since(&[]), (vec![0, 1, 2, 3, 4, 5], false));
    assert_eq!(since(&[stranger]), (vec![0, 1, 2, 3, 4, 5], true));
    assert_eq!(since(&[short(4)]), (vec![5], false));
    assert_eq!(since(&[short(5)]), (vec![2, 3, 4], false));
    assert_eq!(since(&[short(4), stranger]), (vec![5], true));
    assert_eq!(since(&[short(4), short(5)]), (vec![], false));
    assert_eq!(ChangeGraph::new().since(&[]), Since { ranks: vec![], unknown: false });
}

#[test]
fn a_short_hash_of_two_changes_names_neither() {
    let mut twins = [entry(1, b"alice", 1, 1, &[]), entry(2, b"bob", 1, 1, &[])];
    let prefix = twins[0].hash.short().0;
    twins[1].hash.0[..8].copy_from_slice(&prefix);
    let graph = graph(&twins);
    assert_eq!((graph.rank(&twins[0].hash), graph.rank(&twins[1].hash)), (Some(0), Some(1)));
    let since = graph.since(&[twins[0].hash.short()]);
    assert_eq!(since, Since { ranks: vec![0, 1], unknown: true });
}

#[test]
fn history_answers_with_the_latest_of_an_actor() {
    let entries = chain(4);
    let graph = graph(&entries);
    let GraphEntry { hash, actor, seq, start_op, max_op, .. } = entries[3].clone();
    assert_eq!(graph.last(&actor), Some(LastChange { seq, max_op }));
    assert_eq!(graph.change(&hash), Some(KnownChange { actor, seq, start_op, max_op }));
    assert_eq!(graph.change(&ChangeHash([0; 32])), None);
}

#[test]
fn rows_rebuild_the_same_graph() {
    for seed in 0..100 {
        let entries = random_entries(seed, 60);
        let original = graph(&entries);
        let mut copy = ChangeGraph::new();
        for (rank, entry) in (0..).zip(&entries) {
            let row = original.encode_entry(rank);
            assert_eq!(copy.push_encoded(&row), Ok(rank));
            assert_eq!(copy.encode_entry(rank), row);
            let before =
                |graph: &ChangeGraph| graph.ancestors(&[entry.hash]).iter().collect::<Vec<_>>();
            assert_eq!(before(&copy), before(&original));
            assert_eq!(copy.change(&entry.hash), original.change(&entry.hash));
            assert_eq!(copy.last(&entry.actor).is_some(), original.contains(&entry.hash));
        }
        assert_eq!(copy.heads_hash(), original.heads_hash());
    }
}

#[test]
fn a_row_of_a_long_chain_is_small_and_its_format_frozen() {
    let graph = graph(&chain(20_000));
    let longest = (1..20_000).map(|rank| graph.encode_entry(rank).len()).max();
    assert_eq!(longest, Some(45));
    let row = graph.encode_entry(300);
    let hash = Sha256::digest(300_u64.to_le_bytes());
    assert_eq!(row[1..33], hash[..]);
    assert_eq!((row[0], &row[33..40]), (1, &[0, 0xad, 2, 1, 1, 0, 1][..]));
    assert_eq!(row[40..], [73, 6, 174, 190]);
}

#[test]
fn damaged_rows_are_errors_and_leave_the_graph_as_it_was() {
    let entries = random_entries(5, 12);
    let original = graph(&entries);
    let mut copy = ChangeGraph::new();
    for rank in 0..12 {
        let row = original.encode_entry(rank);
        for at in 0..row.len() {
            assert!(copy.push_encoded(&row[..at]).is_err());
            for flip in 1..=255 {
                let mut damaged = row.clone();
                damaged[at] ^= flip;
                assert!(copy.push_encoded(&damaged).is_err());
            }
        }
        let elsewhere = original.encode_entry((rank + 1) % 12);
        assert_eq!(copy.push_encoded(&elsewhere), Err(GraphError::RowDamaged { rank }));
        assert_eq!((copy.len(), copy.push_encoded(&row)), (rank as usize, Ok(rank)));
    }
}

#[test]
fn rows_with_a_right_checksum_and_wrong_content_never_panic() {
    let original = graph(&random_entries(6, 8));
    for rank in 0..8 {
        let mut before = ChangeGraph::new();
        for earlier in 0..rank {
            before.push_encoded(&original.encode_entry(earlier)).unwrap();
        }
        let row = original.encode_entry(rank);
        let body = &row[..row.len() - 4];
        for (at, flip) in (1..body.len()).flat_map(|at| (1..=255).map(move |flip| (at, flip))) {
            let mut forged = body.to_vec();
            forged[at] ^= flip;
            forged.extend(checksum(rank, &forged));
            let mut graph = before.clone();
            if graph.push_encoded(&forged).is_ok() {
                assert_eq!(graph.since(&[]).ranks.len(), rank as usize + 1);
                assert_eq!(graph.push_encoded(&graph.clone().encode_entry(rank)).ok(), None);
            }
        }
    }
}

/// `cargo test --release -p rejoin-core --test graph_model -- --ignored --nocapture`
#[test]
#[ignore = "prints figures"]
fn graph_cost() {
    let time = |what: &str, work: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        work();
        println!("{what}: {:?}", start.elapsed());
    };
    let entries = chain(260_000);
    let wide: Vec<_> = entries.iter().cloned().map(|e| GraphEntry { deps: vec![], ..e }).collect();
    let (mut linear, mut loaded) = (ChangeGraph::new(), ChangeGraph::new());
    time("insert", &mut || linear = graph(&entries));
    println!("{} bytes a change", linear.memory_bytes() / entries.len());
    let mut rows = Vec::new();
    time("encode", &mut || rows = (0..260_000).map(|r| linear.encode_entry(r)).collect());
    println!("{} bytes a row", rows.iter().map(Vec::len).sum::<usize>() / rows.len());
    time("load", &mut || rows.iter().for_each(|row| drop(loaded.push_encoded(row))));
    assert_eq!(loaded.heads(), linear.heads());
    let mut count = 0;
    time("since 50 back", &mut || {
        count = linear.since(&[entries[259_949].hash.short()]).ranks.len();
    });
    time("since the first", &mut || count += linear.since(&[entries[0].hash.short()]).ranks.len());
    assert_eq!(count, 50 + 259_999);
    let mut concurrent = ChangeGraph::new();
    time("insert concurrent", &mut || concurrent = graph(&wide));
    time("since, concurrent", &mut || drop(concurrent.since(&[entries[5].hash.short()])));
    time("heads, concurrent", &mut || drop(concurrent.heads()));
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// A number less than `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) as usize % bound
    }
}

/// A change whose hash and number of operations come from `n`.
fn entry(n: u64, actor: &[u8], seq: u64, start_op: u64, deps: &[ChangeHash]) -> GraphEntry {
    let hash = ChangeHash(Sha256::digest(n.to_le_bytes()).into());
    let (actor, deps) = (ActorId(actor.to_vec()), deps.to_vec());
    GraphEntry { hash, actor, seq, start_op, max_op: start_op + n % 3, deps }
}

/// One change after the other by one actor.
fn chain(len: u64) -> Vec<GraphEntry> {
    let mut entries: Vec<GraphEntry> = Vec::new();
    for n in 0..len {
        let (start_op, deps) = match entries.last() {
            Some(last) => (last.max_op + 1, vec![last.hash]),
            None => (1, vec![]),
        };
        entries.push(entry(n, &[7; 16], n + 1, start_op, &deps));
    }
    entries
}

/// Up to 5 actors, up to 4 deps anywhere in the past, counters that follow no rule.
fn random_entries(seed: u64, len: usize) -> Vec<GraphEntry> {
    let mut random = Random(seed);
    let mut entries: Vec<GraphEntry> = Vec::new();
    for n in 0..len {
        let recent = if random.below(3) == 0 { n } else { n.min(4) };
        let deps: Vec<ChangeHash> = (0..random.below(5).min(recent))
            .map(|_| entries[n - 1 - random.below(recent)].hash)
            .collect();
        let actor = [random.below(5) as u8; 16];
        let (seq, start_op) = (random.below(300) as u64, random.below(70_000) as u64);
        entries.push(entry(seed << 32 | n as u64, &actor, seq, start_op, &deps));
    }
    entries
}

/// The graph of these changes.
fn graph(entries: &[GraphEntry]) -> ChangeGraph {
    let mut graph = ChangeGraph::new();
    for entry in entries {
        graph.insert(entry.clone()).unwrap();
    }
    graph
}

/// Ancestors, themselves included, of some changes: the long way.
fn ancestors(entries: &[GraphEntry], of: &[ChangeHash]) -> BTreeSet<ChangeHash> {
    let mut found: BTreeSet<_> = of.iter().copied().collect();
    for entry in entries.iter().rev() {
        if found.contains(&entry.hash) {
            found.extend(&entry.deps);
        }
    }
    found.retain(|hash| entries.iter().any(|entry| entry.hash == *hash));
    found
}

fn hashes(graph: &ChangeGraph, ranks: impl IntoIterator<Item = u32>) -> BTreeSet<ChangeHash> {
    ranks.into_iter().map(|rank| graph.hash(rank)).collect()
}

fn checksum(rank: u32, body: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(&rank.to_le_bytes());
    crc.update(body);
    crc.sum().to_le_bytes()
}
