//! Breaches of the protocol are told of once, and then counted.

use rejoin_core::automerge_repo::SyncMessage;
use rejoin_core::limits::BREACH_TOLD_EVERY_MS;
use rejoin_relay::{Breach, Notice};

use crate::harness::{Author, World, document};
use crate::pushes::forged;
use crate::repo_peer::RepoPeer;

fn notices(world: &mut World) -> Vec<Notice> {
    std::iter::from_fn(|| world.relay.poll_notice()).collect()
}

/// Changes that build on one that the relay has, and of which none may ever be kept: their author
/// has left one out.
fn never_kept(author: &mut Author, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| forged(&mut author.fork(2), &n.to_string(), 2, 2)).collect()
}

#[test]
fn thousands_of_refused_changes_are_one_line_a_minute() {
    let mut world = World::new();
    let peer = RepoPeer::join(&mut world, "mal\u{1b}lory\u{202e}");
    let mut author = Author::new(1);
    let good = author.puts(1).remove(0);
    let bad = never_kept(&mut author, 200);
    let send = |world: &mut World| {
        let changes = bad.iter().map(Vec::as_slice).collect();
        let message = SyncMessage { changes, ..Default::default() };
        peer.send_data(world, document(1), false, &message.encode());
        for _ in 0..10 {
            world.turn();
        }
    };
    let message = SyncMessage { changes: vec![&good], ..Default::default() };
    peer.send_data(&mut world, document(1), false, &message.encode());
    world.turn();
    assert_eq!(notices(&mut world), []);
    for _ in 0..5 {
        send(&mut world);
    }
    let first = notices(&mut world);
    assert_eq!(first.len(), 1, "{first:?}");
    let notice = &first[0];
    assert_eq!((notice.connection, notice.breach), (Some(peer.id), Breach::Change));
    assert_eq!(notice.peer.as_deref(), Some("mal\\u{1b}lory\\u{202e}"));
    assert!(notice.is_first && notice.count >= 200, "{notice:?}");
    send(&mut world);
    assert_eq!(notices(&mut world), []);
    let told_at = world.now;
    let again = loop {
        world.now = world.relay.poll_timeout().expect("the count is due");
        world.relay.handle_timeout(world.now);
        world.turn();
        let told = notices(&mut world);
        if !told.is_empty() {
            break told;
        }
    };
    assert_eq!(world.now, told_at + BREACH_TOLD_EVERY_MS);
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!((again[0].is_first, again[0].since_ms), (false, BREACH_TOLD_EVERY_MS));
    assert!(again[0].count > notice.count);
    send(&mut world);
    world.relay.handle_disconnected(peer.id);
    let last = notices(&mut world);
    assert_eq!(last.len(), 1, "{last:?}");
    assert!(last[0].count > again[0].count && last[0].peer == notice.peer);
}

#[test]
fn what_a_replica_breaks_is_told_with_its_device() {
    let mut world = World::new();
    let mut alice = world.connect_device(7);
    world.drive(&mut [&mut alice]);
    world.relay.handle_message(alice.id, &b"no frame"[..]);
    let told = notices(&mut world);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].connection, told[0].breach), (Some(alice.id), Breach::Protocol));
    assert_eq!(told[0].device.unwrap().0, [7; 16]);
    assert!(!told[0].what.is_empty());
    world.disconnect(&alice);
    assert_eq!(notices(&mut world), []);
}

#[test]
fn a_change_that_a_replica_may_never_push_is_told_of() {
    let mut world = World::new();
    let mut alice = world.connect_device(7);
    let bad = forged(&mut Author::new(1), "1", 1, 2);
    alice.push(1, document(1), vec![bad]);
    world.drive(&mut [&mut alice]);
    assert_eq!(alice.refused().len(), 1);
    let told = notices(&mut world);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].breach, told[0].count), (Breach::Change, 1));
    assert!(alice.close.is_none());
}
