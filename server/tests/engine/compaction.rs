//! Folding changes into snapshots, and what readers are sent then.

use rejoin_core::wire::{Frame, PieceOf};
use rejoin_relay::{CompactionPolicy, RelayOptions, TailPolicy, compact_in_process};

use crate::catch_up::{pieces, until_pieces};
use crate::harness::{Author, Peer, World, document, noise};

const DAY_MS: u64 = 24 * 3_600_000;

/// Folds early, and keeps beside a snapshot what is younger than a day.
fn options() -> RelayOptions {
    let mut policy = CompactionPolicy::default();
    (policy.changes_min, policy.quiet_ms) = (10, 0);
    policy.tail = TailPolicy { away_ms_max: DAY_MS, bytes_max: 1 << 20 };
    let mut options = RelayOptions::default();
    options.compaction = Some(policy);
    options
}

/// Gives every document that is due to a worker.
fn fold(world: &mut World) -> usize {
    let mut folded = 0;
    while let Some(input) = world.relay.poll_compaction() {
        world.relay.handle_compacted(compact_in_process(&input));
        world.turn();
        folded += 1;
    }
    folded
}

fn snapshots(peer: &Peer) -> usize {
    let is_part = |frame: &&Frame| {
        let Frame::Changes(changes) = frame else { return false };
        changes.piece.as_ref().is_some_and(|piece| piece.kind == PieceOf::Snapshot)
    };
    peer.frames.iter().filter(is_part).count()
}

fn changes(peer: &Peer) -> usize {
    let count = |frame: &Frame| match frame {
        Frame::Changes(changes) => changes.changes.len(),
        _ => 0,
    };
    peer.frames.iter().map(count).sum()
}

#[test]
fn a_new_reader_gets_the_snapshot_and_what_is_after_it() {
    let mut world = World::with(options());
    let mut alice = world.connect(None, false);
    let mut author = Author::new(1);
    alice.push(1, document(1), author.puts(50));
    world.drive(&mut [&mut alice]);
    assert_eq!(fold(&mut world), 1);
    alice.push(2, document(1), author.puts(3));
    world.drive(&mut [&mut alice]);
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    assert_eq!((snapshots(&bob), changes(&bob)), (1, 3), "the raw tail is not sent on top");
    assert!(bob.agrees());
    assert_eq!(world.relay.counters().compactions, 1);
}

/// As [`options`], but waits a second for nobody to write.
fn patient() -> RelayOptions {
    let mut options = options();
    options.compaction.as_mut().unwrap().quiet_ms = 1000;
    options
}

#[test]
fn a_document_that_is_written_to_waits_for_more_to_fold() {
    let mut world = World::with(patient());
    let mut alice = world.connect(None, false);
    let mut author = Author::new(1);
    let mut folded_at = Vec::new();
    for n in 1..=12 {
        alice.push(n, document(1), author.puts(10));
        world.send(&mut alice);
        world.turn();
        while world.receive(&mut alice, 1 << 20) {}
        if fold(&mut world) > 0 {
            folded_at.push(n);
        }
        world.now += 900;
        world.relay.handle_timeout(world.now);
        assert_eq!(fold(&mut world), 0, "somebody wrote just now");
    }
    assert_eq!(folded_at, [9], "more than 8 times 10");
}

#[test]
fn a_document_that_was_just_folded_is_not_folded_for_a_last_change() {
    let mut world = World::with(patient());
    let mut alice = world.connect(None, false);
    let mut author = Author::new(1);
    let mut write = |world: &mut World, n: u64, changes: usize| {
        alice.push(n, document(1), author.puts(changes));
        world.send(&mut alice);
        world.turn();
    };
    write(&mut world, 1, 81);
    let input = world.relay.poll_compaction().expect("there is much to fold");
    write(&mut world, 2, 1);
    world.relay.handle_compacted(compact_in_process(&input));
    world.turn();
    for _ in 0..3 {
        world.now += 2000;
        world.relay.handle_timeout(world.now);
        world.turn();
        assert_eq!(fold(&mut world), 0);
    }
    assert_eq!(world.relay.counters().compactions, 1);
}

#[test]
fn a_document_to_which_nobody_writes_any_more_is_folded_soon() {
    let mut world = World::with(patient());
    let mut alice = world.connect(None, false);
    let (mut one, mut other) = (Author::new(1), Author::new(2));
    alice.push(1, document(1), one.puts(11));
    alice.push(2, document(2), other.puts(10));
    world.send(&mut alice);
    world.turn();
    assert_eq!(fold(&mut world), 0);
    let due = world.relay.poll_timeout().unwrap();
    assert_eq!(due, world.now + 1000);
    world.now = due;
    world.relay.handle_timeout(world.now);
    assert_eq!(fold(&mut world), 1, "the other has too little to fold");
    assert!(world.relay.poll_timeout().is_none_or(|at| at > due + 1000));
}

#[test]
fn a_reader_who_was_away_for_an_hour_gets_changes() {
    let mut world = World::with(options());
    let (mut alice, mut bob) = (world.connect(None, false), world.connect(None, false));
    let mut author = Author::new(1);
    alice.push(1, document(1), author.puts(5));
    world.drive(&mut [&mut alice, &mut bob]);
    world.disconnect(&bob);
    world.unix_ms += DAY_MS / 24;
    alice.push(2, document(1), author.puts(20));
    world.drive(&mut [&mut alice]);
    assert_eq!(fold(&mut world), 1);
    let mut returned = world.connect(bob.cursor, true);
    returned.documents = bob.documents;
    world.drive(&mut [&mut returned]);
    assert_eq!((snapshots(&returned), changes(&returned)), (0, 20));
    assert!(returned.agrees());
}

#[test]
fn a_reader_who_was_away_too_long_gets_the_snapshot() {
    let mut world = World::with(options());
    let (mut alice, mut bob) = (world.connect(None, false), world.connect(None, false));
    let mut author = Author::new(1);
    alice.push(1, document(1), author.puts(5));
    world.drive(&mut [&mut alice, &mut bob]);
    world.disconnect(&bob);
    alice.push(2, document(1), author.puts(2));
    world.drive(&mut [&mut alice]);
    world.unix_ms += 3 * DAY_MS;
    alice.push(3, document(1), author.puts(20));
    world.drive(&mut [&mut alice]);
    assert_eq!(fold(&mut world), 1);
    let mut returned = world.connect(bob.cursor, true);
    returned.documents = bob.documents;
    world.drive(&mut [&mut returned]);
    assert_eq!((snapshots(&returned), changes(&returned)), (1, 0));
    assert!(returned.agrees());
}

#[test]
fn folded_changes_are_still_known() {
    let mut options = options();
    options.compaction.as_mut().unwrap().tail = TailPolicy { away_ms_max: 0, bytes_max: 0 };
    let mut world = World::with(options);
    let mut alice = world.connect(None, false);
    let mut author = Author::new(1);
    let chunks = author.puts(40);
    alice.push(1, document(1), chunks.clone());
    world.drive(&mut [&mut alice]);
    assert_eq!(fold(&mut world), 1);
    world.reopen(RelayOptions::default());
    let mut bob = world.connect(None, false);
    bob.push(1, document(1), chunks);
    bob.push(2, document(1), author.puts(1));
    world.drive(&mut [&mut bob]);
    assert!(bob.refused().is_empty());
    assert_eq!(world.relay.counters().changes_known, 40);
    assert_eq!(world.relay.counters().changes_kept, 1);
}

#[test]
fn a_large_snapshot_comes_in_parts_and_starts_over_if_another_takes_its_place() {
    let mut world = World::with(options());
    let mut alice = world.connect(None, false);
    let mut author = Author::new(1);
    for n in 0..12 {
        alice.push(n, document(1), vec![author.put(&format!("blob {n}"), &noise(n, 90_000))]);
    }
    world.drive(&mut [&mut alice]);
    assert_eq!(fold(&mut world), 1);
    let mut bob = world.connect(None, false);
    world.send(&mut bob);
    world.turn();
    while snapshots(&bob) < 2 {
        assert!(world.receive_one(&mut bob));
    }
    for n in 20..32 {
        alice.push(n, document(1), vec![author.put(&format!("blob {n}"), &noise(n, 1000))]);
    }
    world.drive(&mut [&mut alice]);
    assert_eq!(fold(&mut world), 1);
    world.drive(&mut [&mut alice, &mut bob]);
    let offsets = pieces(&bob.frames);
    assert_eq!(offsets.iter().filter(|offset| **offset == 0).count(), 2, "{offsets:?}");
    assert!(offsets.len() >= 6, "{offsets:?}");
    assert!(bob.agrees());
}

#[test]
fn a_snapshot_that_is_cut_goes_on_where_it_was() {
    let mut world = World::with(options());
    let mut alice = world.connect(None, false);
    let mut author = Author::new(1);
    for n in 0..12 {
        alice.push(n, document(1), vec![author.put(&format!("blob {n}"), &noise(n, 15_000))]);
    }
    world.drive(&mut [&mut alice]);
    assert_eq!(fold(&mut world), 1);
    alice.push(20, document(1), author.puts(2));
    world.drive(&mut [&mut alice]);
    let mut bob = world.connect(None, false);
    let (mut came, mut sessions) = (Vec::new(), 1);
    while until_pieces(&mut world, &mut bob, 2) {
        came.extend(pieces(&bob.frames));
        bob = world.reconnect(bob);
        sessions += 1;
        if sessions == 3 {
            alice.push(21, document(1), author.puts(1));
            world.drive(&mut [&mut alice]);
        }
    }
    came.extend(pieces(&bob.frames));
    world.drive(&mut [&mut alice, &mut bob]);
    assert!(sessions > 3 && came.len() > 5, "{sessions} sessions, {came:?}");
    let step = rejoin_core::limits::PIECE_BYTES as u64;
    assert!(came.iter().copied().eq((0..came.len() as u64).map(|n| n * step)), "{came:?}");
    assert!(bob.agrees());
    assert_eq!(bob.cursor, alice.cursor);
}

#[test]
fn edits_during_a_fold_are_not_lost() {
    let mut world = World::with(options());
    let mut alice = world.connect(None, false);
    let mut author = Author::new(1);
    alice.push(1, document(1), author.puts(30));
    world.drive(&mut [&mut alice]);
    let input = world.relay.poll_compaction().unwrap();
    alice.push(2, document(1), author.puts(7));
    world.drive(&mut [&mut alice]);
    world.relay.handle_compacted(compact_in_process(&input));
    alice.push(3, document(1), author.puts(2));
    world.drive(&mut [&mut alice]);
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    assert_eq!((snapshots(&bob), changes(&bob)), (1, 9));
    assert!(bob.agrees());
}

#[test]
fn a_snapshot_of_another_document_is_not_taken() {
    let mut world = World::with(options());
    let mut alice = world.connect(None, false);
    alice.push(1, document(1), Author::new(1).puts(20));
    alice.push(2, document(2), Author::new(2).puts(20));
    world.drive(&mut [&mut alice]);
    let first = world.relay.poll_compaction().unwrap();
    let wrong = compact_in_process(&first);
    world.relay.handle_compacted(Err(rejoin_relay::CompactionError::TimedOut { seconds: 1 }));
    world.relay.poll_compaction().unwrap();
    world.relay.handle_compacted(wrong);
    world.turn();
    let counters = world.relay.counters();
    assert_eq!((counters.compactions, counters.compactions_failed), (0, 2));
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    assert_eq!((snapshots(&bob), changes(&bob)), (0, 40));
}

/// Anything may happen between any two frames: edits of others and own ones, long ones, folding, a
/// cut. In the end everything is there.
#[test]
fn whenever_the_line_is_cut_everything_comes() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut options = options();
        options.compaction.as_mut().unwrap().tail.bytes_max = 0;
        options.compaction.as_mut().unwrap().tail.away_ms_max = 0;
        let mut world = World::with(options);
        let mut alice = world.connect(None, false);
        let mut authors: Vec<_> = (1..=9).map(Author::new).collect();
        let mut own = Author::new(100);
        let mut pushed: Vec<Vec<u8>> = Vec::new();
        for _ in 0..20 {
            write(&mut world, &mut alice, &mut authors, &mut random);
        }
        let mut bob = world.connect(None, false);
        world.send(&mut bob);
        world.turn();
        assert!(world.receive_one(&mut bob), "a Welcome");
        for _ in 0..80 {
            match random.below(10) {
                0 | 1 => write(&mut world, &mut alice, &mut authors, &mut random),
                2 => drop(fold(&mut world)),
                3 => {
                    let len = [10, 3_000, 40_000][random.below(3)];
                    let chunk = own.put("own", &noise(random.next(), len));
                    let doc = bob.documents.entry(document(100)).or_default();
                    doc.load_incremental(&chunk).unwrap();
                    pushed.push(chunk.clone());
                    bob.push(0, document(100), vec![chunk]);
                }
                4 => {
                    bob = world.reconnect(bob);
                    // What is not acknowledged is pushed again.
                    pushed.iter().for_each(|chunk| bob.push(0, document(100), vec![chunk.clone()]));
                }
                _ => {
                    world.send(&mut bob);
                    world.turn();
                    for _ in 0..random.below(4) {
                        world.receive_one(&mut bob);
                    }
                    world.now += random.next() % 150;
                }
            }
        }
        world.drive(&mut [&mut alice, &mut bob]);
        assert!(bob.refused().is_empty(), "seed {seed}");
        assert!(bob.agrees(), "seed {seed}");
        assert_eq!(bob.cursor.unwrap().backfill, None, "seed {seed}");
        let mut carol = world.connect(None, false);
        world.drive(&mut [&mut carol]);
        assert!(carol.agrees(), "seed {seed}");
        assert_eq!(bob.cursor, carol.cursor, "seed {seed}");
    }
}

fn write(world: &mut World, alice: &mut Peer, authors: &mut [Author], random: &mut Random) {
    let n = random.below(authors.len());
    let changes = match random.below(4) {
        0 => vec![authors[n].put("a", &noise(random.next(), 40_000))],
        1 => vec![authors[n].put("b", &noise(random.next(), 6_000))],
        _ => {
            let count = 1 + random.below(6);
            authors[n].puts(count)
        }
    };
    alice.push(0, document(n as u8), changes);
    world.send(alice);
    world.turn();
    while world.receive_one(alice) {}
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
