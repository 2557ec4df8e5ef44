//! Nobody speaks in another's name, or keeps another from speaking.

use rejoin_core::PeerId;
use rejoin_core::automerge_repo::{Ephemeral, RepoFrame};
use rejoin_core::limits::{EPHEMERAL_BYTES_MAX, EPHEMERAL_SESSIONS_MAX, PRESENCE_PEERS_MAX};
use rejoin_core::session::ReplicaEvent;
use rejoin_core::wire::Presence;
use rejoin_relay::{Breach, RelayOptions};

use crate::harness::{Peer, World, document};
use crate::repo_peer::{RepoPeer, drive};

fn present(peer: &mut Peer, id: PeerId, value: Option<&str>) {
    let value = value.map(|value| value.as_bytes().to_vec().into());
    let presence = Presence { space: 0, document: document(1), peer: id, value, ttl_ms: 1000 };
    peer.session.present(presence);
}

/// What a replica has heard since it was asked last: who, and what.
fn heard(peer: &mut Peer) -> Vec<(PeerId, Option<String>)> {
    let events = std::mem::take(&mut peer.events);
    let presences = events.into_iter().filter_map(|event| match event {
        ReplicaEvent::Presence(Presence { peer, value, .. }) => {
            Some((peer, value.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())))
        }
        _ => None,
    });
    presences.collect()
}

fn said(id: PeerId, value: &str) -> Vec<(PeerId, Option<String>)> {
    vec![(id, Some(value.to_owned()))]
}

#[test]
fn presence_belongs_to_the_connection_that_used_the_peer_first() {
    let mut world = World::new();
    let [mut anna, mut ben, mut eve] = [1, 2, 3].map(|device| world.connect_device(device));
    world.drive(&mut [&mut anna, &mut ben, &mut eve]);
    let of_anna = PeerId([5; 16]);
    present(&mut anna, of_anna, Some("typing"));
    world.drive(&mut [&mut anna, &mut ben, &mut eve]);
    assert_eq!(heard(&mut ben), said(of_anna, "typing"));
    for value in [Some("gone home"), None, Some("again")] {
        present(&mut eve, of_anna, value);
        world.drive(&mut [&mut anna, &mut ben, &mut eve]);
        assert_eq!((heard(&mut anna), heard(&mut ben)), (vec![], vec![]));
    }
    let notice = world.relay.poll_notice().expect("it is told of");
    assert_eq!((notice.connection, notice.breach), (Some(eve.id), Breach::Presence));
    assert_eq!(notice.device.unwrap().0, [3; 16]);
    // She may say what she herself does, and Anna goes on.
    let of_eve = PeerId([6; 16]);
    present(&mut eve, of_eve, Some("here"));
    present(&mut anna, of_anna, Some("typing on"));
    world.drive(&mut [&mut anna, &mut ben, &mut eve]);
    let told = heard(&mut ben);
    assert_eq!(told, [said(of_anna, "typing on"), said(of_eve, "here")].concat());
    assert!(eve.close.is_none());
    // What is released is anybody's.
    world.disconnect(&anna);
    present(&mut eve, of_anna, Some("mine now"));
    world.drive(&mut [&mut ben, &mut eve]);
    assert_eq!(heard(&mut ben), said(of_anna, "mine now"));
}

#[test]
fn a_device_that_dialled_anew_speaks_for_itself_before_its_old_connection_is_gone() {
    let mut world = World::new();
    let [mut before, mut ben, mut eve] = [1, 2, 3].map(|device| world.connect_device(device));
    world.drive(&mut [&mut before, &mut ben, &mut eve]);
    let id = PeerId([5; 16]);
    present(&mut before, id, Some("before"));
    world.drive(&mut [&mut before, &mut ben]);
    let mut after = world.connect_device(1);
    world.drive(&mut [&mut after, &mut ben]);
    heard(&mut ben);
    present(&mut after, id, Some("after"));
    world.drive(&mut [&mut after, &mut ben]);
    assert_eq!(heard(&mut ben), said(id, "after"));
    // The end of the old connection does not release what is the new one's.
    world.disconnect(&before);
    present(&mut eve, id, Some("mine"));
    present(&mut after, id, Some("still here"));
    world.drive(&mut [&mut after, &mut ben, &mut eve]);
    assert_eq!(heard(&mut ben), said(id, "still here"));
}

#[test]
fn who_speaks_for_many_forgets_the_oldest_and_keeps_nobody_else_out() {
    let mut world = World::new();
    let [mut anna, mut ben, mut eve] = [1, 2, 3].map(|device| world.connect_device(device));
    world.drive(&mut [&mut anna, &mut ben, &mut eve]);
    let peer = |n: usize| PeerId((n as u128).to_be_bytes());
    for n in 0..=PRESENCE_PEERS_MAX {
        present(&mut eve, peer(n), Some("squatting"));
        world.drive(&mut [&mut eve, &mut anna, &mut ben]);
    }
    heard(&mut ben);
    for (n, is_heard) in [(0, true), (1, false), (PRESENCE_PEERS_MAX, false)] {
        present(&mut anna, peer(n), Some("it is me"));
        world.drive(&mut [&mut anna, &mut ben]);
        assert_eq!(heard(&mut ben).len(), usize::from(is_heard), "{n}");
    }
}

/// A message about the document, in a name.
fn message(peer: &RepoPeer, (sender, session, count): (&str, &str, u64), data: &[u8]) -> Vec<u8> {
    let (target, document) = (&*peer.relay, document(1));
    RepoFrame::Ephemeral(Ephemeral { sender, target, session, count, document, data }).encode()
}

/// Peers that all have the document open.
fn peers<const N: usize>(world: &mut World, names: [&str; N]) -> [RepoPeer; N] {
    let mut peers = names.map(|name| RepoPeer::join(world, name));
    peers[0].put(document(1), "title", "a job");
    peers.iter_mut().for_each(|peer| _ = peer.doc(document(1)));
    drive(world, &mut peers.iter_mut().collect::<Vec<_>>());
    peers
}

/// Author and count of each message that came since it was asked last.
fn listened(world: &mut World, peer: &mut RepoPeer) -> Vec<(String, u64)> {
    peer.receive(world);
    let frames = std::mem::take(&mut peer.others);
    let messages = frames.iter().map(|frame| match RepoFrame::decode(frame).unwrap() {
        RepoFrame::Ephemeral(it) => (it.sender.to_owned(), it.count),
        other => panic!("{other:?}"),
    });
    messages.collect()
}

#[test]
fn nobody_is_silenced_by_messages_in_its_name() {
    let mut world = World::new();
    let [anna, mut ben, eve] = peers(&mut world, ["anna", "ben", "eve"]);
    world.relay.handle_message(anna.id, message(&anna, ("anna", "s", 1), b"\x61a"));
    assert_eq!(listened(&mut world, &mut ben), [("anna".to_owned(), 1)]);
    for (session, count) in [("s", u64::MAX), ("s", 2), ("t", u64::MAX), ("", 0)] {
        world.relay.handle_message(eve.id, message(&eve, ("anna", session, count), b"\x61e"));
        assert_eq!(listened(&mut world, &mut ben), []);
    }
    for count in 2..5 {
        world.relay.handle_message(anna.id, message(&anna, ("anna", "s", count), b"\x61a"));
        assert_eq!(listened(&mut world, &mut ben), [("anna".to_owned(), count)]);
    }
    // Nor is the relay itself, which tells of replicas.
    let mut replica = world.connect(None, false);
    world.drive(&mut [&mut replica]);
    let id = PeerId([5; 16]);
    present(&mut replica, id, Some("1"));
    world.drive(&mut [&mut replica]);
    ben.receive(&mut world);
    let frame = ben.others.last().expect("presence is told").clone();
    let RepoFrame::Ephemeral(told) = RepoFrame::decode(&frame).unwrap() else { panic!() };
    let forged = Ephemeral { target: &eve.relay, count: u64::MAX, ..told };
    world.relay.handle_message(eve.id, RepoFrame::Ephemeral(forged).encode());
    listened(&mut world, &mut ben);
    present(&mut replica, id, Some("2"));
    world.drive(&mut [&mut replica]);
    assert_eq!(listened(&mut world, &mut ben).len(), 1);
    assert!(world.relay.poll_close(anna.id).is_none() && world.relay.poll_close(ben.id).is_none());
}

#[test]
fn who_joins_under_a_name_that_is_taken_ends_nobody() {
    let mut world = World::new();
    let [mut anna, mut ben] = peers(&mut world, ["anna", "ben"]);
    let mut same = RepoPeer::join(&mut world, "anna");
    same.doc(document(1));
    drive(&mut world, &mut [&mut anna, &mut ben, &mut same]);
    assert!(world.relay.poll_close(anna.id).is_none() && world.relay.poll_close(same.id).is_none());
    assert_eq!(same.get(document(1), "title").as_deref(), Some("a job"));
    anna.put(document(1), "title", "still here");
    drive(&mut world, &mut [&mut anna, &mut ben, &mut same]);
    for peer in [&mut ben, &mut same] {
        assert_eq!(peer.get(document(1), "title").as_deref(), Some("still here"));
    }
    // She is heard before and after the other is gone, and nobody else speaks for her.
    for count in [1, 2] {
        world.relay.handle_message(anna.id, message(&anna, ("anna", "s", count), b"\x61a"));
        assert_eq!(listened(&mut world, &mut ben), [("anna".to_owned(), count)]);
        world.relay.handle_disconnected(same.id);
    }
    world.relay.handle_message(ben.id, message(&ben, ("anna", "t", 1), b"\x61b"));
    assert_eq!(listened(&mut world, &mut anna), []);
}

#[test]
fn who_is_behind_a_peer_is_not_silenced_by_another_peer() {
    let mut world = World::new();
    let [ben, mut carl, eve] = peers(&mut world, ["ben", "carl", "eve"]);
    let zoe = |count| ("zoe", "s", count);
    world.relay.handle_message(ben.id, message(&ben, zoe(1), b"\x61z"));
    world.relay.handle_message(eve.id, message(&eve, zoe(u64::MAX), b"\x61e"));
    for n in 0..=EPHEMERAL_SESSIONS_MAX {
        let session = format!("made up {n}");
        world.relay.handle_message(eve.id, message(&eve, ("zoe", &session, 1), b"\x61e"));
    }
    listened(&mut world, &mut carl);
    for count in 2..5 {
        for _ in 0..2 {
            world.relay.handle_message(ben.id, message(&ben, zoe(count), b"\x61z"));
        }
        assert_eq!(listened(&mut world, &mut carl), [("zoe".to_owned(), count)], "each once");
    }
}

#[test]
fn presence_of_peers_is_not_said_or_cleared_by_others() {
    let mut world = World::new();
    let [anna, _ben, eve] = peers(&mut world, ["anna", "ben", "eve"]);
    let [mut desk, mut mallory] = [1, 2].map(|device| world.connect_device(device));
    world.drive(&mut [&mut desk, &mut mallory]);
    let speak = |world: &mut World, peer: &RepoPeer, name: &str, count| {
        world.relay.handle_message(peer.id, message(peer, (name, "s", count), b"\x61a"));
    };
    speak(&mut world, &anna, "anna", 1);
    world.drive(&mut [&mut desk, &mut mallory]);
    let (of_anna, _) = heard(&mut desk).remove(0);
    speak(&mut world, &eve, "anna", 9);
    present(&mut mallory, of_anna, None);
    world.drive(&mut [&mut desk, &mut mallory]);
    assert_eq!(heard(&mut desk), []);
    // Who held the id while she was away does not keep it from her, nor does her old connection.
    world.relay.handle_disconnected(anna.id);
    present(&mut mallory, of_anna, Some("squatting"));
    world.drive(&mut [&mut desk, &mut mallory]);
    heard(&mut desk);
    for count in [2, 3] {
        let anna = RepoPeer::join(&mut world, "anna");
        speak(&mut world, &anna, "anna", count);
        world.drive(&mut [&mut desk, &mut mallory]);
        assert_eq!(heard(&mut desk), said(of_anna, "aa"));
    }
    // Of those behind others the first who tells is believed.
    speak(&mut world, &eve, "zoe", 1);
    world.drive(&mut [&mut desk]);
    assert_eq!(heard(&mut desk).len(), 1);
    let ben = RepoPeer::join(&mut world, "ben");
    speak(&mut world, &ben, "zoe", 2);
    world.drive(&mut [&mut desk]);
    assert_eq!(heard(&mut desk), []);
}

#[test]
fn a_message_that_is_too_long_is_told_of_once() {
    let mut world = World::with(RelayOptions::default());
    let [anna, mut ben] = peers(&mut world, ["anna", "ben"]);
    let long = vec![0; EPHEMERAL_BYTES_MAX + 1];
    for count in 0..100 {
        world.relay.handle_message(anna.id, message(&anna, ("anna", "s", count), &long));
    }
    assert_eq!(listened(&mut world, &mut ben), []);
    let notice = world.relay.poll_notice().expect("it is told of");
    assert_eq!((notice.breach, notice.count), (Breach::Ephemeral, 100));
    assert_eq!(notice.peer.as_deref(), Some("anna"));
    assert_eq!(world.relay.poll_notice(), None);
}
