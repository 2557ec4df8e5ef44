//! What a returning replica is sent.

use rejoin_core::Epoch;
use rejoin_core::wire::{Cursor, Frame, Start};
use rejoin_relay::RelayOptions;

use crate::harness::{Author, PLENTY, World, document};

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
fn a_slow_reader_costs_an_entry_per_document_and_gets_one_catch_up() {
    let mut world = World::new();
    let (mut alice, mut slow) = (world.connect(None, false), world.connect(None, false));
    world.drive(&mut [&mut alice, &mut slow]);
    let mut authors: Vec<_> = (1..=5).map(Author::new).collect();
    for round in 0..200 {
        for (n, author) in authors.iter_mut().enumerate() {
            alice.push(round, document(n as u8), author.puts(1));
        }
        world.drive(&mut [&mut alice]);
        assert!(world.relay.counters().queued <= 5 + 1, "{}", world.relay.counters().queued);
    }
    let frames = slow.frames.len();
    world.drive(&mut [&mut slow]);
    let catch_up = &slow.frames[frames..];
    let changes = catch_up.iter().filter(|frame| matches!(frame, Frame::Changes(_))).count();
    assert_eq!(changes, 5, "one frame for each document");
    assert_eq!(slow.received().len(), 1000);
    assert!(slow.agrees());
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
    while world.receive(&mut bob, 1) {
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
    assert!(counters.graphs_loaded > 0);
    assert_eq!(counters.changes_kept, 300);
    assert!(alice.refused().is_empty());
}

fn started(peer: &crate::harness::Peer) -> Start {
    let welcome = peer.frames.iter().find_map(|frame| match frame {
        Frame::Welcome(welcome) => Some(welcome.spaces[0].start),
        _ => None,
    });
    welcome.unwrap()
}
