//! Long changes that are pushed in pieces.

use rejoin_core::limits::PIECE_BYTES;
use rejoin_core::session::ReplicaEvent;
use rejoin_core::wire::{ChangePiece, RefusedClass};
use rejoin_relay::RelayOptions;

use crate::harness::{Author, Peer, World, document, hash, noise};

/// A change of some two dozen pieces.
fn long() -> Vec<u8> {
    let chunk = Author::new(1).put("photo", &noise(1, 400_000));
    assert!(chunk.len() > 15 * PIECE_BYTES, "{} bytes", chunk.len());
    chunk
}

/// Pushes pieces from one on, each with its number as its ticket.
fn push(peer: &mut Peer, chunk: &[u8], numbers: impl Iterator<Item = usize>) {
    for number in numbers {
        let offset = number * PIECE_BYTES;
        let Some(rest) = chunk.get(offset..).filter(|rest| !rest.is_empty()) else { return };
        let bytes = rest[..rest.len().min(PIECE_BYTES)].to_vec().into();
        let (hash, total) = (hash(chunk), chunk.len() as u64);
        let piece = ChangePiece { hash, offset: offset as u64, total, bytes };
        peer.push_piece(number as u64, document(1), piece);
    }
}

fn uploaded(peer: &Peer) -> u64 {
    let welcomed = peer.events.iter().find_map(|event| match event {
        ReplicaEvent::Welcomed { uploaded, .. } => Some(*uploaded),
        _ => None,
    });
    welcomed.expect("a Welcome")
}

#[test]
fn pieces_become_a_change_with_the_last_of_them() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.connect(None, false), world.connect(None, false));
    let chunk = long();
    let pieces = chunk.len().div_ceil(PIECE_BYTES);
    push(&mut alice, &chunk, 0..pieces - 1);
    world.drive(&mut [&mut alice, &mut bob]);
    assert_eq!(alice.acked().len(), pieces - 1);
    assert!(bob.documents.is_empty());
    push(&mut alice, &chunk, pieces - 1..pieces);
    world.drive(&mut [&mut alice, &mut bob]);
    assert_eq!(alice.acked().len(), pieces);
    assert!(alice.refused().is_empty() && alice.received().is_empty());
    assert_eq!(bob.received(), [chunk]);
    assert!(bob.agrees());
    assert_eq!(world.relay.counters().changes_kept, 1);
}

#[test]
fn an_upload_goes_on_after_a_cut_and_after_a_restart() {
    let mut world = World::new();
    let chunk = long();
    let pieces = chunk.len().div_ceil(PIECE_BYTES);
    let mut alice = world.connect_uploading(hash(&chunk));
    push(&mut alice, &chunk, 0..5);
    world.drive(&mut [&mut alice]);
    assert_eq!((uploaded(&alice), alice.acked().len()), (0, 5));
    world.disconnect(&alice);

    let mut alice = world.connect_uploading(hash(&chunk));
    world.drive(&mut [&mut alice]);
    assert_eq!(uploaded(&alice), 5 * PIECE_BYTES as u64);
    push(&mut alice, &chunk, 5..9);
    world.drive(&mut [&mut alice]);

    world.reopen(RelayOptions::default());
    let mut alice = world.connect_uploading(hash(&chunk));
    world.drive(&mut [&mut alice]);
    assert_eq!(uploaded(&alice), 9 * PIECE_BYTES as u64);
    // Pieces that are there already are no harm.
    push(&mut alice, &chunk, 8..pieces);
    world.drive(&mut [&mut alice]);
    assert!(alice.refused().is_empty(), "{:?}", alice.refused());
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    assert_eq!(bob.received(), std::slice::from_ref(&chunk));
    assert!(bob.agrees());

    // Of what is kept, nothing has to be pushed again, though its answer may have been lost.
    let mut alice = world.connect_uploading(hash(&chunk));
    world.drive(&mut [&mut alice]);
    assert_eq!(uploaded(&alice), u64::MAX);
}

#[test]
fn what_was_not_committed_does_not_count_after_a_power_loss() {
    let mut world = World::new();
    let chunk = long();
    let mut alice = world.connect_uploading(hash(&chunk));
    push(&mut alice, &chunk, 0..2);
    world.drive(&mut [&mut alice]);
    push(&mut alice, &chunk, 2..4);
    world.send(&mut alice);
    let mut world = World::over(world.disk.after_power_loss(), RelayOptions::default());
    let mut alice = world.connect_uploading(hash(&chunk));
    world.drive(&mut [&mut alice]);
    assert_eq!(uploaded(&alice), 2 * PIECE_BYTES as u64);
}

#[test]
fn a_piece_that_does_not_go_on_is_to_be_pushed_again() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let chunk = long();
    push(&mut alice, &chunk, 0..2);
    push(&mut alice, &chunk, 3..4);
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.acked(), [0, 1, 3]);
    assert_eq!(alice.refusal(), (RefusedClass::Later, vec![hash(&chunk)]));
}

#[test]
fn pieces_that_are_no_change_end_the_session() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let mut chunk = long();
    let right = hash(&chunk);
    chunk[100] ^= 1;
    for (number, bytes) in chunk.chunks(PIECE_BYTES).enumerate() {
        let (offset, total) = ((number * PIECE_BYTES) as u64, chunk.len() as u64);
        let bytes = bytes.to_vec().into();
        let piece = ChangePiece { hash: right, offset, total, bytes };
        alice.push_piece(number as u64, document(1), piece);
    }
    world.drive(&mut [&mut alice]);
    assert!(alice.close.is_some());
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    assert!(bob.documents.is_empty());
}
