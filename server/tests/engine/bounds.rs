//! Sound changes that would use up a document for everybody.

use std::num::NonZeroU64;

use automerge::transaction::Transactable;
use automerge::{ActorId, Change, ExpandedChange, ObjType, ROOT};
use rejoin_core::limits::{
    DEPTH_MAX, HEADS_ADDED_MAX, HEADS_EASY_MAX, OP_COUNTER_JUMP_MAX, OP_START_MAX, TIME_S_MAX,
};
use rejoin_core::session::ReplicaEvent;
use rejoin_core::wire::RefusedClass;
use rejoin_relay::RelayOptions;

use crate::harness::{Author, World, document, hash};

/// The same change by another actor, at another number.
fn renumbered(chunk: &[u8], actor: u32, start_op: u64) -> Vec<u8> {
    let mut bytes = [5; 16];
    bytes[..4].copy_from_slice(&actor.to_le_bytes());
    let change = Change::from_bytes(chunk.to_vec()).unwrap().decode();
    let (actor_id, seq) = (ActorId::from(bytes), 1);
    let start_op = NonZeroU64::new(start_op).unwrap();
    let change = Change::from(ExpandedChange { actor_id, seq, start_op, hash: None, ..change });
    change.raw_bytes().to_vec()
}

#[test]
fn a_change_that_leaves_out_too_many_numbers_is_to_be_made_anew() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    world.drive(&mut [&mut alice]);
    let mut author = Author::new(1);
    let first = author.put("status", "booked");
    let second = author.put("status", "done");
    // The document has one operation.
    let (near, far) = (2 + OP_COUNTER_JUMP_MAX, 3 + OP_COUNTER_JUMP_MAX);
    let far = [far, OP_START_MAX + 1, (1 << 32) - 6, (1 << 32) - 1];
    let far = far.map(|start_op| renumbered(&second, 7, start_op));
    alice.push(1, document(1), vec![first]);
    for (n, chunk) in (2..).zip(&far) {
        alice.push(n, document(1), vec![chunk.clone()]);
    }
    world.drive(&mut [&mut alice]);
    let refused = alice.refused();
    assert_eq!(refused.len(), far.len());
    for (refused, chunk) in refused.iter().zip(&far) {
        assert_eq!(refused.class, RefusedClass::ActorReused, "{}", refused.reason);
        assert_eq!(refused.hashes, [hash(chunk)]);
    }
    let n = 2 + far.len() as u64;
    alice.push(n, document(1), vec![renumbered(&second, 7, near), second]);
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.refused().len(), far.len(), "what an honest author may write is kept");
    assert_eq!(alice.acked().last(), Some(&n));
}

#[test]
fn a_change_that_nests_too_deep_is_refused() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    world.drive(&mut [&mut alice]);
    let mut last = Vec::new();
    for (n, depth) in [(1, DEPTH_MAX), (2, DEPTH_MAX + 1)] {
        let mut author = Author::new(n as u8);
        let mut around = ROOT;
        for _ in 0..depth {
            around = author.doc.put_object(&around, "x", ObjType::Map).unwrap();
        }
        author.doc.commit();
        last = author.doc.get_last_local_change().unwrap().raw_bytes().to_vec();
        alice.push(n, document(n as u8), vec![last.clone()]);
    }
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.refusal(), (RefusedClass::Never, vec![hash(&last)]));
}

#[test]
fn a_change_of_a_time_that_cannot_be_stored_is_refused() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    world.drive(&mut [&mut alice]);
    let change = Change::from_bytes(Author::new(1).put("status", "booked")).unwrap().decode();
    for (n, time) in (1..).zip([i64::MIN, -TIME_S_MAX, 1 - TIME_S_MAX, TIME_S_MAX, i64::MAX]) {
        let change = Change::from(ExpandedChange { time, hash: None, ..change.clone() });
        alice.push(n, document(n as u8), vec![change.raw_bytes().to_vec()]);
    }
    world.drive(&mut [&mut alice]);
    let refused: Vec<_> = alice.refused().iter().map(|it| (it.n, it.class)).collect();
    let never = RefusedClass::Never;
    assert_eq!(refused, [(1, never), (2, never), (5, never)]);
}

/// Whoever floods a document with heads is stopped; who comes with an edit of long ago is not, and
/// who brings the heads together makes room again.
#[test]
fn one_connection_adds_few_heads_to_a_document_that_has_many() {
    let mut world = World::new();
    let (mut flood, mut honest) = (world.connect(None, false), world.connect(None, false));
    world.drive(&mut [&mut flood, &mut honest]);
    let mut author = Author::new(1);
    let first = author.put("status", "booked");
    let second = author.put("status", "done");
    let many = (HEADS_EASY_MAX as u32) + HEADS_ADDED_MAX;
    let concurrent: Vec<_> = (0..many + 10).map(|n| renumbered(&second, n, 2)).collect();
    flood.push(1, document(1), vec![first]);
    flood.push(2, document(1), concurrent);
    world.drive(&mut [&mut flood, &mut honest]);
    let (class, hashes) = flood.refusal();
    assert_eq!((class, hashes.len()), (RefusedClass::Later, 10));

    honest.push(1, document(1), vec![second.clone()]);
    world.drive(&mut [&mut flood, &mut honest]);
    assert_eq!((honest.acked().last(), honest.refused().len()), (Some(&1), 0));
    let mut everything = Author::of(&mut honest, document(1));
    let merged = everything.put("status", "everything heard");
    honest.push(2, document(1), vec![merged]);
    world.drive(&mut [&mut honest]);
    flood.push(3, document(1), vec![renumbered(&second, many + 1, 2)]);
    world.drive(&mut [&mut flood, &mut honest]);
    assert!(honest.refused().is_empty());
    assert_eq!(flood.refused().len(), 1, "there is room again");
}

#[test]
fn what_builds_on_what_waits_in_a_full_space_waits_too() {
    let mut options = RelayOptions::default();
    options.space_bytes_max = Some(10);
    let mut world = World::with(options);
    let mut alice = world.connect(None, false);
    let mut author = Author::new(1);
    alice.push(1, document(1), author.puts(1));
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.acked(), [1], "the space was empty");
    for ticket in 2..=4 {
        alice.push(ticket, document(1), author.puts(1));
        world.drive(&mut [&mut alice]);
    }
    let classes = alice.events.iter().filter_map(|event| match event {
        ReplicaEvent::Refused { refused, .. } => Some((refused.class, refused.retry_after_ms)),
        _ => None,
    });
    let classes: Vec<_> = classes.collect();
    assert_eq!(classes, [(RefusedClass::Later, 60_000); 3], "it is not asked for what it lacks");
}
