//! What the relay keeps, refuses, and when it says so.

use rejoin_core::change::{ACTOR_PREFIX, RESERVED_ACTOR_BYTES, genesis};
use rejoin_core::wire::{Access, ByeCode, Frame, RefusedClass};
use rejoin_core::{ChangeHash, CollectionName, DocumentId, Genesis, SpaceName};
use rejoin_relay::RelayOptions;

use crate::harness::{Author, PLENTY, World, document, hash, hashes, jobs, space};

#[test]
fn a_push_is_acknowledged_and_forwarded() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.connect(None, false), world.connect(None, false));
    world.drive(&mut [&mut alice, &mut bob]);
    let chunk = Author::new(1).put("status", "booked");
    alice.push(7, document(1), vec![chunk.clone()]);
    world.drive(&mut [&mut alice, &mut bob]);
    assert_eq!(alice.acked(), [7]);
    assert_eq!(bob.received(), [chunk]);
    assert!(alice.received().is_empty(), "an author is not sent its own changes");
    assert_eq!(alice.cursor, bob.cursor);
    assert!(bob.agrees());
}

#[test]
fn nothing_is_told_before_the_commit() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.connect(None, false), world.connect(None, false));
    world.drive(&mut [&mut alice, &mut bob]);
    alice.push(1, document(1), Author::new(1).puts(1));
    world.send(&mut alice);
    let syncs = world.disk.syncs();
    world.receive(&mut alice, PLENTY);
    world.receive(&mut bob, PLENTY);
    assert!(!alice.is_told() && !bob.is_told());
    world.turn();
    assert!(world.disk.syncs() > syncs);
    world.receive(&mut alice, PLENTY);
    world.receive(&mut bob, PLENTY);
    assert!(alice.is_told() && bob.is_told());
}

#[test]
fn nothing_is_told_of_a_failed_commit() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.connect(None, false), world.connect(None, false));
    world.drive(&mut [&mut alice, &mut bob]);
    alice.push(1, document(1), Author::new(1).puts(1));
    world.send(&mut alice);
    world.disk.fail_at(world.disk.calls() + 1, true);
    assert!(world.relay.turn(world.now, world.unix_ms).is_err());
    world.relay.stop(ByeCode::Unavailable, "the disk is full", |_| 500);
    for peer in [&mut alice, &mut bob] {
        world.receive(peer, PLENTY);
        assert!(!peer.is_told());
        assert!(matches!(peer.frames.last(), Some(Frame::Bye(bye)) if bye.retry_after_ms == 500));
        assert!(peer.close.is_some());
    }
    assert!(world.relay.turn(world.now, world.unix_ms).is_err(), "it stays failed");
}

#[test]
fn many_pushes_are_one_commit() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    world.drive(&mut [&mut alice]);
    let before = world.relay.counters().commits;
    for n in 0..50 {
        alice.push(u64::from(n), document(n), Author::new(n + 1).puts(3));
    }
    world.drive(&mut [&mut alice]);
    let counters = world.relay.counters();
    assert_eq!(counters.commits, before + 1);
    assert_eq!((counters.changes_kept, counters.pushes), (150, 50));
    assert_eq!(counters.documents_loaded, 0);
}

#[test]
fn a_push_that_is_known_changes_nothing() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.connect(None, false), world.connect(None, false));
    let chunks = Author::new(1).puts(2);
    alice.push(1, document(1), chunks.clone());
    world.drive(&mut [&mut alice, &mut bob]);
    let (cursor, commits) = (bob.cursor, world.relay.counters().commits);
    alice.push(2, document(1), chunks.clone());
    world.drive(&mut [&mut alice, &mut bob]);
    assert_eq!(alice.acked(), [1, 2]);
    assert_eq!(bob.received(), chunks);
    assert_eq!((bob.cursor, world.relay.counters().commits), (cursor, commits));
    assert_eq!(world.relay.counters().changes_known, 2);
}

#[test]
fn an_earlier_push_of_the_same_turn_counts() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let chunks = Author::new(1).puts(3);
    for (ticket, chunk) in chunks.into_iter().enumerate() {
        alice.push(ticket as u64, document(1), vec![chunk]);
    }
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.acked(), [0, 1, 2]);
    assert!(alice.refused().is_empty());
}

#[test]
fn missing_dependencies_are_refused_with_the_heads_held() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let chunks = Author::new(1).puts(4);
    alice.push(1, document(1), vec![chunks[0].clone()]);
    alice.push(2, document(1), chunks[2..].to_vec());
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.acked(), [1, 2]);
    assert_eq!(alice.refusal(), (RefusedClass::Missing, hashes(&chunks[2..])));
    assert_eq!(alice.refused()[0].heads, [hash(&chunks[0]).short()]);
    alice.push(3, document(1), chunks);
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.refused().len(), 1, "with what was missing, all of it is kept");
    assert_eq!(world.relay.counters().changes_kept, 4);
}

#[test]
fn what_is_sound_of_a_push_is_kept() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.connect(None, false), world.connect(None, false));
    let kept = Author::new(1).puts(2);
    let orphans = Author::new(2).puts(3).split_off(1);
    let both = [kept.clone(), orphans.clone()].concat();
    alice.push(1, document(1), both);
    world.drive(&mut [&mut alice, &mut bob]);
    assert_eq!(alice.refusal(), (RefusedClass::Missing, hashes(&orphans)));
    assert_eq!(bob.received(), kept);
}

#[test]
fn a_place_in_an_actors_sequence_is_taken_once() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let first = Author::new(1).put("status", "booked");
    let mut restored = Author::new(1);
    let (again, after) = (restored.put("status", "done"), restored.put("status", "cancelled"));
    alice.push(1, document(1), vec![first]);
    alice.push(2, document(1), vec![again.clone(), after.clone()]);
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.refusal(), (RefusedClass::ActorReused, hashes(&[again, after])));
}

#[test]
fn a_gap_in_an_actors_sequence_is_refused_for_good() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let mut author = Author::new(1);
    let base = author.put("a", "1");
    let mut other = author.fork(2);
    // Change 3 of an actor, written to build on another actor's change and not on its own second.
    let skipped = forged(&mut other, "1", 1, 3);
    alice.push(1, document(1), vec![base]);
    alice.push(2, document(1), vec![skipped.clone()]);
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.refusal(), (RefusedClass::Never, hashes(&[skipped])));
}

#[test]
fn an_operation_counter_that_goes_back_is_refused_for_good() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let mut author = Author::new(1);
    let base = author.puts(3);
    // Sound by itself, but it begins to count anew on top of three operations.
    let mut late = automerge::ExpandedChange::from(&change_of(&Author::new(2).put("b", "1")));
    late.deps = vec![automerge::ChangeHash(hash(&base[2]).0)];
    late.hash = None;
    let late = automerge::Change::from(late).raw_bytes().to_vec();
    alice.push(1, document(1), base);
    alice.push(2, document(1), vec![late.clone()]);
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.refusal(), (RefusedClass::Never, hashes(&[late])));
}

#[test]
fn a_forged_genesis_is_refused_for_good() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let mut actor = ACTOR_PREFIX.to_vec();
    actor.resize(RESERVED_ACTOR_BYTES, 7);
    let mut author = Author::new(1);
    author.doc.set_actor(automerge::ActorId::from(actor));
    let forged = author.put("status", "mine");
    alice.push(1, document(1), vec![forged.clone()]);
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.refusal(), (RefusedClass::Never, hashes(&[forged])));
}

#[test]
fn a_derived_document_is_kept_only_where_its_key_belongs() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let key = Genesis::first("2026-118").unwrap();
    let id = DocumentId::derive(&space(), &jobs(), &key);
    let chunk = genesis(&id, Some(&key));
    let customers = CollectionName::new("customers").unwrap();
    alice.session.push(1, 0, id, customers, vec![chunk.clone()]);
    alice.push(2, id, vec![chunk.clone()]);
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.refusal(), (RefusedClass::Never, hashes(&[chunk])));
    assert_eq!(alice.refused()[0].n, 1);
    assert_eq!(alice.acked(), [1, 2]);
}

#[test]
fn a_document_stays_in_its_collection_and_another_space_does_not_know_it() {
    let mut world = World::new();
    let (mut alice, mut bob) = (
        world.connect(None, false),
        world.connect_to(SpaceName::new("globex").unwrap(), None, false),
    );
    let mut author = Author::new(1);
    let (first, second) = (author.put("a", "1"), author.put("a", "2"));
    alice.push(1, document(1), vec![first]);
    world.drive(&mut [&mut alice, &mut bob]);
    let customers = CollectionName::new("customers").unwrap();
    alice.session.push(2, 0, document(1), customers, vec![second.clone()]);
    bob.push(3, document(1), vec![second.clone()]);
    world.drive(&mut [&mut alice, &mut bob]);
    let named = hashes(&[second]);
    assert_eq!(alice.refusal(), (RefusedClass::Never, named.clone()));
    assert_eq!(bob.refusal(), (RefusedClass::Missing, named));
    assert!(bob.refused()[0].heads.is_empty());
    assert!(bob.received().is_empty());
}

#[test]
fn the_same_id_in_two_spaces_is_two_documents() {
    let mut world = World::new();
    let globex = || SpaceName::new("globex").unwrap();
    let (mut alice, mut bob) =
        (world.connect(None, false), world.connect_to(globex(), None, false));
    let (mut hers, mut his) = (Author::new(1), Author::new(2));
    alice.push(1, document(1), hers.puts(3));
    bob.push(1, document(1), his.puts(2));
    world.drive(&mut [&mut alice, &mut bob]);
    assert_eq!((alice.acked(), bob.acked()), (vec![1], vec![1]));
    assert!(alice.received().is_empty() && bob.received().is_empty());
    for (name, author) in [(space(), &mut hers), (globex(), &mut his)] {
        let mut reader = world.connect_to(name, None, false);
        world.drive(&mut [&mut reader]);
        let heads: Vec<_> = author.doc.get_heads().iter().map(|head| ChangeHash(head.0)).collect();
        assert_eq!(reader.heads(&document(1)), heads);
        assert!(reader.agrees());
    }
}

#[test]
fn a_reader_cannot_write() {
    let mut options = RelayOptions::default();
    options.access = Access::Read;
    let mut world = World::with(options);
    let mut alice = world.connect(None, false);
    let chunks = Author::new(1).puts(2);
    alice.push(1, document(1), chunks.clone());
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.refusal(), (RefusedClass::Never, hashes(&chunks)));
    assert_eq!(world.relay.counters().commits, 0);
}

#[test]
fn a_change_over_a_limit_of_the_guard_is_refused_by_its_hash() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let mut author = Author::new(1);
    let message = "x".repeat(rejoin_core::limits::MESSAGE_BYTES_MAX + 1);
    automerge::transaction::Transactable::put(&mut author.doc, automerge::ROOT, "a", 1).unwrap();
    let long = automerge::transaction::CommitOptions::default().with_message(message);
    author.doc.commit_with(long);
    let change = author.doc.get_last_local_change().unwrap();
    alice.push(1, document(1), vec![change.raw_bytes().to_vec()]);
    world.drive(&mut [&mut alice]);
    let named = vec![ChangeHash(change.hash().0)];
    assert_eq!(alice.refusal(), (RefusedClass::Never, named));
    assert_eq!(alice.acked(), [1]);
}

#[test]
fn bytes_that_are_no_change_end_the_session() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.connect(None, false), world.connect(None, false));
    let mut damaged = Author::new(1).put("a", "1");
    *damaged.last_mut().unwrap() ^= 1;
    alice.push(1, document(1), vec![damaged]);
    bob.push(1, document(2), Author::new(2).puts(1));
    world.drive(&mut [&mut alice, &mut bob]);
    let close = alice.close.unwrap();
    assert_eq!(close.code, ByeCode::Protocol);
    assert!(close.message.contains("push 1"), "{}", close.message);
    assert_eq!(bob.acked(), [1]);
}

#[test]
fn what_came_before_bytes_that_are_no_change_is_kept_and_forwarded() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.connect(None, false), world.connect(None, false));
    world.drive(&mut [&mut bob]);
    let kept = Author::new(1).puts(2);
    let no_change = b"no change at all".to_vec();
    alice.push(1, document(1), [kept.clone(), vec![no_change]].concat());
    world.drive(&mut [&mut alice, &mut bob]);
    assert!(alice.close.is_some());
    assert!(alice.acked().is_empty());
    assert_eq!(bob.received(), kept);
    assert!(bob.agrees());
}

#[test]
fn a_relay_that_is_full_says_so() {
    let mut options = RelayOptions::default();
    options.sessions_max = 1;
    let mut world = World::with(options);
    let (mut alice, mut bob) = (world.connect(None, false), world.connect(None, false));
    world.drive(&mut [&mut alice, &mut bob]);
    assert!(alice.close.is_none());
    assert_eq!(bob.close.unwrap().code, ByeCode::Unavailable);
}

#[test]
fn a_silent_connection_is_closed() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    world.now = world.relay.poll_timeout().unwrap();
    world.relay.handle_timeout(world.now);
    world.receive(&mut alice, PLENTY);
    assert_eq!(alice.close.unwrap().code, ByeCode::Timeout);
}

#[test]
fn presence_goes_to_the_others_of_the_space() {
    let mut world = World::new();
    let globex = SpaceName::new("globex").unwrap();
    let (mut alice, mut bob, mut carol) = (
        world.connect(None, false),
        world.connect(None, false),
        world.connect_to(globex, None, false),
    );
    world.drive(&mut [&mut alice, &mut bob, &mut carol]);
    alice.session.present(rejoin_core::wire::Presence {
        space: 0,
        document: document(1),
        peer: rejoin_core::PeerId([5; 16]),
        value: Some(b"typing".to_vec().into()),
        ttl_ms: u32::MAX,
    });
    let syncs = world.disk.syncs();
    world.drive(&mut [&mut alice, &mut bob, &mut carol]);
    let presences = |peer: &crate::harness::Peer| {
        peer.frames.iter().filter(|frame| matches!(frame, Frame::Presence(_))).count()
    };
    assert_eq!((presences(&alice), presences(&bob), presences(&carol)), (0, 1, 0));
    assert_eq!(world.disk.syncs(), syncs, "presence is never stored");
}

fn change_of(chunk: &[u8]) -> automerge::Change {
    automerge::Change::from_bytes(chunk.to_vec()).unwrap()
}

/// The author's next change, said to be by another actor and of another number.
pub(crate) fn forged(author: &mut Author, value: &str, actor: u8, seq: u64) -> Vec<u8> {
    let change = change_of(&author.put("forged", value));
    let mut expanded = automerge::ExpandedChange::from(&change);
    expanded.actor_id = automerge::ActorId::from([actor; 16]);
    expanded.seq = seq;
    expanded.hash = None;
    automerge::Change::from(expanded).raw_bytes().to_vec()
}
