//! What a returning replica is sent.

use rejoin_core::limits::{MARK_BYTES, PIECE_BYTES};
use rejoin_core::wire::{Backfill, Cursor, Frame, Start};
use rejoin_core::{DocumentId, Epoch};
use rejoin_relay::RelayOptions;

use crate::harness::{Author, PLENTY, Peer, World, document, noise};

#[test]
fn a_cursor_resumes_with_exactly_what_is_new() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.connect(None, false), world.connect(None, false));
    let mut authors: Vec<_> = (1..=20).map(Author::new).collect();
    for (n, author) in authors.iter_mut().enumerate() {
        alice.push(n as u64, document(n as u8), author.puts(3));
    }
    world.drive(&mut [&mut alice, &mut bob]);
    world.disconnect(&bob);
    let new = [authors[3].put("a", "new"), authors[7].put("a", "new")];
    alice.push(100, document(3), vec![new[0].clone()]);
    alice.push(101, document(7), vec![new[1].clone()]);
    world.drive(&mut [&mut alice]);
    let mut returned = world.connect(bob.cursor, true);
    returned.documents = std::mem::take(&mut bob.documents);
    world.drive(&mut [&mut alice, &mut returned]);
    assert_eq!(returned.received(), new);
    assert_eq!(started(&returned), Start::Cursor);
    assert!(returned.agrees());
    assert_eq!(returned.cursor, alice.cursor);
}

#[test]
fn returning_takes_one_round_trip() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    alice.push(1, document(1), Author::new(1).puts(1));
    world.drive(&mut [&mut alice]);
    world.disconnect(&alice);
    let mut returned = world.connect(alice.cursor, true);
    returned.push(1, document(2), Author::new(2).puts(1));
    world.send(&mut returned);
    world.turn();
    world.receive(&mut returned, PLENTY);
    let names: Vec<_> = returned.frames.iter().map(Frame::name).collect();
    assert_eq!(names, ["Welcome", "Ack", "Checkpoint"]);
    assert!(returned.digests.is_some());
}

#[test]
fn a_new_replica_is_sent_everything_once() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    for n in 0..30 {
        alice.push(u64::from(n), document(n), Author::new(n + 1).puts(4));
    }
    world.drive(&mut [&mut alice]);
    world.reopen(RelayOptions::default());
    let mut carol = world.connect(None, false);
    world.drive(&mut [&mut carol]);
    assert_eq!(started(&carol), Start::Beginning);
    assert_eq!(carol.received().len(), 120);
    assert!(carol.agrees());
    assert_eq!(carol.cursor, alice.cursor);
    assert_eq!(world.relay.counters().graphs_loaded, 0, "sending takes no change graph");
}

#[test]
fn a_cursor_of_another_store_is_not_believed() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    alice.push(1, document(1), Author::new(1).puts(1));
    world.drive(&mut [&mut alice]);
    let cursor = alice.cursor.unwrap();
    let elsewhere = Cursor { epoch: Epoch([99; 16]), ..cursor };
    let beyond = Cursor { position: cursor.position + 1, ..cursor };
    for wrong in [elsewhere, beyond] {
        let mut bob = world.connect(Some(wrong), true);
        world.drive(&mut [&mut bob]);
        assert_eq!(started(&bob), Start::Now);
        assert!(bob.digests.is_some());
    }
}

#[test]
fn a_slow_reader_costs_two_marks_and_gets_all_it_missed_in_order() {
    let mut world = World::new();
    let (mut alice, mut slow) = (world.connect(None, false), world.connect(None, false));
    world.drive(&mut [&mut alice, &mut slow]);
    let mut authors: Vec<_> = (1..=5).map(Author::new).collect();
    let mut chunks = Vec::new();
    for round in 0..200 {
        for (n, author) in authors.iter_mut().enumerate() {
            let chunk = author.puts(1);
            alice.push(round, document(n as u8), chunk.clone());
            chunks.extend(chunk);
        }
        world.drive(&mut [&mut alice]);
        assert!(world.relay.counters().queued <= 1, "{}", world.relay.counters().queued);
    }
    let frames = slow.frames.len();
    world.drive(&mut [&mut slow]);
    let catch_up = &slow.frames[frames..];
    let changes = catch_up.iter().filter(|frame| matches!(frame, Frame::Changes(_))).count();
    let bytes: usize = chunks.iter().map(Vec::len).sum();
    assert!(changes <= 5 * (bytes / (2 * MARK_BYTES) + 2), "{changes} frames, {bytes} bytes");
    let (mut received, mut sent) = (slow.received(), chunks);
    received.sort();
    sent.sort();
    assert_eq!(received, sent);
    assert!(slow.agrees());
}

/// Takes frames one by one until the next checkpoint, which is all that a replica keeps.
fn until_checkpoint(world: &mut World, peer: &mut Peer) {
    world.send(peer);
    world.turn();
    let frames = peer.frames.len();
    while world.receive_one(peer) {
        let told = |frame: &Frame| matches!(frame, Frame::Checkpoint(_));
        if peer.frames[frames..].iter().any(told) {
            return;
        }
    }
    panic!("no checkpoint came");
}

/// Takes frames one by one until so many pieces came in this session; says whether they did.
pub(crate) fn until_pieces(world: &mut World, peer: &mut Peer, count: usize) -> bool {
    world.send(peer);
    world.turn();
    while pieces(&peer.frames).len() < count {
        if !world.receive_one(peer) {
            return false;
        }
    }
    true
}

fn documents(peer: &Peer) -> Vec<DocumentId> {
    let changes = peer.frames.iter().filter_map(|frame| match frame {
        Frame::Changes(changes) => Some(changes.document),
        _ => None,
    });
    changes.collect()
}

#[test]
fn a_backfill_that_is_cut_again_and_again_goes_on_from_the_newest_to_the_oldest() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let mut authors: Vec<_> = (0..100).map(|n| Author::new(n + 1)).collect();
    for (n, author) in authors.iter_mut().enumerate() {
        let changes = vec![author.put("a", &noise(n as u64, 2000)), author.put("b", "1")];
        alice.push(n as u64, document(n as u8), changes);
    }
    world.drive(&mut [&mut alice]);
    let mut bob = world.connect(None, false);
    let (mut order, mut sessions) = (Vec::new(), 0);
    loop {
        until_checkpoint(&mut world, &mut bob);
        order.extend(documents(&bob));
        sessions += 1;
        if bob.cursor.unwrap().backfill.is_none() {
            break;
        }
        bob = world.reconnect(bob);
        // Somebody writes to one that is here, while nobody reads.
        if sessions == 3 {
            alice.push(1000, document(99), vec![authors[99].put("c", "new")]);
            world.drive(&mut [&mut alice]);
        }
    }
    assert!(sessions > 10, "{sessions} sessions");
    let new = order.iter().rposition(|it| *it == document(99)).unwrap();
    assert!(new > 0, "what was written meanwhile came, by itself");
    order.remove(new);
    let newest_first: Vec<_> = (0..100).rev().map(document).collect();
    assert_eq!(order, newest_first, "each once");
    world.drive(&mut [&mut alice, &mut bob]);
    assert!(bob.agrees());
    assert_eq!(bob.cursor, alice.cursor);
}

#[test]
fn a_long_change_that_is_cut_goes_on_where_it_was() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let mut author = Author::new(1);
    let mut chunks = author.puts(2);
    chunks.push(author.put("photo", &noise(1, 200_000)));
    chunks.extend(author.puts(1));
    assert!(chunks[2].len() > 5 * PIECE_BYTES, "{} bytes", chunks[2].len());
    alice.push(1, document(1), chunks);
    alice.push(2, document(2), Author::new(2).puts(1));
    world.drive(&mut [&mut alice]);
    let mut bob = world.connect(None, false);
    let (mut offsets, mut sessions) = (Vec::new(), 1);
    while until_pieces(&mut world, &mut bob, 2) {
        offsets.extend(pieces(&bob.frames));
        bob = world.reconnect(bob);
        sessions += 1;
    }
    offsets.extend(pieces(&bob.frames));
    world.drive(&mut [&mut bob]);
    assert!(sessions > 4 && offsets.len() > 8, "{sessions} sessions, {offsets:?}");
    let each: Vec<_> = (0..offsets.len() as u64).map(|n| n * PIECE_BYTES as u64).collect();
    assert_eq!(offsets, each, "each piece once");
    assert!(bob.agrees());
    assert_eq!(bob.cursor, alice.cursor);
}

#[test]
fn live_edits_pass_a_document_that_comes_in_parts() {
    let mut world = World::new();
    let (mut alice, mut carol) = (world.connect(None, false), world.connect(None, false));
    alice.push(1, document(1), vec![Author::new(1).put("photo", &noise(1, 300_000))]);
    world.drive(&mut [&mut alice, &mut carol]);
    let mut bob = world.connect(None, false);
    world.send(&mut bob);
    world.turn();
    while pieces(&bob.frames).len() < 3 {
        assert!(world.receive_one(&mut bob));
    }
    carol.push(1, document(2), Author::new(2).puts(1));
    world.send(&mut carol);
    world.turn();
    for _ in 0..3 {
        world.receive_one(&mut bob);
    }
    assert!(bob.documents.contains_key(&document(2)));
    assert!(pieces(&bob.frames).len() < 6);
    world.drive(&mut [&mut alice, &mut bob, &mut carol]);
    assert!(bob.agrees());
}

/// Where the pieces begin that came.
pub(crate) fn pieces(frames: &[Frame]) -> Vec<u64> {
    let pieces = frames.iter().filter_map(|frame| match frame {
        Frame::Changes(changes) => changes.piece.as_ref().map(|piece| piece.offset),
        _ => None,
    });
    pieces.collect()
}

#[test]
fn a_replica_far_behind_gets_the_newest_first() {
    for (missed, far) in [(1024, false), (1025, true)] {
        let mut world = World::new();
        let mut alice = world.connect(None, false);
        let mut authors: Vec<_> = (0..25).map(|n| Author::new(n + 1)).collect();
        alice.push(0, document(0), authors[0].puts(3));
        world.drive(&mut [&mut alice]);
        let mut bob = world.connect(None, false);
        world.drive(&mut [&mut bob]);
        let cursor = bob.cursor.unwrap();
        let mut written = Vec::new();
        while written.len() < missed {
            let n = written.len() % 25;
            let chunk = authors[n].puts(1);
            alice.push(written.len() as u64, document(n as u8), chunk.clone());
            world.drive(&mut [&mut alice]);
            written.extend(chunk);
        }
        let mut back = world.reconnect(bob);
        world.drive(&mut [&mut alice, &mut back]);
        assert_eq!(started(&back), Start::Cursor);
        let first = documents(&back)[0];
        let last = document(((written.len() - 1) % 25) as u8);
        assert_eq!(first, if far { last } else { document(0) });
        let Some(Frame::Welcome(welcome)) = back.frames.first() else { panic!("a Welcome") };
        let backfill = Backfill::of(cursor.position, cursor.position + missed as u64);
        assert_eq!(welcome.spaces[0].backfill, backfill.filter(|_| far));
        let mut received = back.received();
        received.sort();
        written.sort();
        assert_eq!(received, written, "what is new, once");
        assert!(back.agrees());
        assert_eq!(back.cursor, alice.cursor);
    }
}

#[test]
fn a_budget_cuts_what_is_sent_and_loses_nothing() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let mut author = Author::new(1);
    let chunks: Vec<_> =
        (10..50).map(|n| author.put("blob", &n.to_string().repeat(10_000))).collect();
    for (n, chunk) in chunks.iter().enumerate() {
        alice.push(n as u64, document(1), vec![chunk.clone()]);
    }
    world.drive(&mut [&mut alice]);
    let mut bob = world.connect(None, false);
    world.send(&mut bob);
    world.turn();
    let mut polls = 0;
    while world.receive_one(&mut bob) {
        polls += 1;
    }
    assert!(polls >= 4, "{polls} polls");
    assert_eq!(bob.received(), chunks);
}

#[test]
fn own_changes_are_not_echoed_beside_anothers() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.connect(None, false), world.connect(None, false));
    world.drive(&mut [&mut alice, &mut bob]);
    let mut author = Author::new(1);
    let base = author.put("a", "0");
    let mut other = author.fork(2);
    let (mine, theirs) = (author.put("a", "1"), other.put("b", "1"));
    alice.push(1, document(1), vec![base]);
    world.drive(&mut [&mut alice, &mut bob]);
    bob.push(2, document(1), vec![theirs.clone()]);
    alice.push(3, document(1), vec![mine]);
    world.send(&mut bob);
    world.send(&mut alice);
    world.drive(&mut [&mut alice, &mut bob]);
    assert_eq!(alice.received(), [theirs]);
}

#[test]
fn memory_for_graphs_keeps_its_budget() {
    let mut options = RelayOptions::default();
    options.graph_bytes_max = 40_000;
    let mut world = World::with(options);
    let mut alice = world.connect(None, false);
    let mut authors: Vec<_> = (0..100).map(|n| Author::new(n + 1)).collect();
    for round in 0..3 {
        for (n, author) in authors.iter_mut().enumerate() {
            alice.push(round, document(n as u8), author.puts(1));
        }
        world.drive(&mut [&mut alice]);
    }
    let counters = world.relay.counters();
    assert!(counters.graph_bytes <= 40_000, "{}", counters.graph_bytes);
    // What is full is no reason to commit every document alone.
    let commits = world.relay.counters().commits;
    assert!(commits < 60, "{commits} commits of 300 pushes");
    assert!(counters.graphs_loaded > 0);
    assert_eq!(counters.changes_kept, 300);
    assert!(alice.refused().is_empty());
}

fn started(peer: &Peer) -> Start {
    let welcome = peer.frames.iter().find_map(|frame| match frame {
        Frame::Welcome(welcome) => Some(welcome.spaces[0].start),
        _ => None,
    });
    welcome.unwrap()
}
