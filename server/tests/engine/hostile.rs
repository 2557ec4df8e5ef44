//! What one bad peer can make the relay remember and do, counted.

use std::collections::BTreeSet;

use rejoin_core::limits::{
    FRAME_CHANGES_MAX, PRESENCES_BYTES_MAX, SESSION_UNREAD_BYTES_MAX, WANT_DOCUMENTS_MAX,
};
use rejoin_core::wire::{ByeCode, Frame, Presence, Wanted};
use rejoin_core::{DocumentId, PeerId, ShortHash, SpaceName};
use rejoin_relay::RelayOptions;

use crate::harness::{Author, PLENTY, World, document, noise};

fn numbered(n: usize) -> DocumentId {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
    DocumentId::from_random(bytes)
}

/// A page of documents that do not exist, each with many heads.
fn page(number: usize, heads: usize) -> Vec<Wanted> {
    let wanted = |n| Wanted {
        document: numbered(number * WANT_DOCUMENTS_MAX + n),
        heads: (0..heads).map(|head| ShortHash([head as u8; 8])).collect(),
    };
    (0..WANT_DOCUMENTS_MAX).map(wanted).collect()
}

#[test]
fn who_wants_and_never_reads_is_closed() {
    let mut world = World::new();
    let mut greedy = world.connect(None, false);
    world.drive(&mut [&mut greedy]);
    for number in 0..16 {
        greedy.session.want(0, page(number, 100));
        world.send(&mut greedy);
        assert!(world.relay.counters().unread_bytes <= SESSION_UNREAD_BYTES_MAX);
    }
    world.turn();
    world.receive(&mut greedy, PLENTY);
    let close = greedy.close.expect("it is closed");
    assert!(close.message.contains("does not read"), "{}", close.message);
    assert_eq!(world.relay.counters().unread_bytes, 0);
}

/// Honest replicas ask for one page and read.
#[test]
fn who_wants_and_reads_is_not_closed() {
    let mut world = World::new();
    let mut honest = world.connect(None, false);
    world.drive(&mut [&mut honest]);
    for number in 0..16 {
        honest.session.want(0, page(number, 100));
        world.drive(&mut [&mut honest]);
    }
    assert_eq!((honest.close.is_none(), world.relay.counters().unread_bytes), (true, 0));
}

#[test]
fn while_too_much_waits_for_all_who_has_most_is_closed() {
    let mut options = RelayOptions::default();
    options.unread_bytes_max = 1 << 20;
    let mut world = World::with(options);
    let mut peers: Vec<_> = (0..4).map(|_| world.connect(None, false)).collect();
    for peer in &mut peers {
        world.drive(&mut [peer]);
    }
    for (number, peer) in peers.iter_mut().enumerate() {
        // 64 + 8 x 30 bytes each, a quarter of the limit; the last asks for twice as much.
        let pages = if number == 3 { 2 } else { 1 };
        (0..pages).for_each(|page_of| peer.session.want(0, page(10 * number + page_of, 30)));
        world.send(peer);
    }
    assert!(world.relay.counters().unread_bytes <= 1 << 20);
    for peer in &mut peers {
        world.receive(peer, PLENTY);
    }
    let closed: Vec<_> = peers.iter().map(|peer| peer.close.as_ref().map(|it| it.code)).collect();
    assert_eq!(closed, [None, None, None, Some(ByeCode::Unavailable)]);
}

/// Answers name every change that was refused.
#[test]
fn who_is_refused_and_never_reads_is_closed() {
    let mut world = World::new();
    let mut rude = world.connect(None, false);
    world.drive(&mut [&mut rude]);
    let mut author = Author::new(1);
    author.put("n", "the change that is left out");
    let missing = author.puts(FRAME_CHANGES_MAX);
    for n in 1..=60 {
        rude.push(n, document(1), missing.clone());
        world.send(&mut rude);
        world.turn();
        assert!(world.relay.counters().unread_bytes <= SESSION_UNREAD_BYTES_MAX);
    }
    world.receive(&mut rude, PLENTY);
    assert!(rude.close.is_some());
}

#[test]
fn presence_for_who_does_not_read_is_bounded() {
    let mut world = World::new();
    let (mut loud, mut deaf) = (world.connect(None, false), world.connect(None, false));
    world.drive(&mut [&mut loud, &mut deaf]);
    for n in 0..200 {
        let peer = PeerId([n; 16]);
        let value = Some(vec![n; 4096].into());
        let document = document(1);
        loud.session.present(Presence { space: 0, document, peer, value, ttl_ms: 30_000 });
    }
    world.send(&mut loud);
    world.turn();
    let unread = world.relay.counters().unread_bytes;
    assert!(unread > PRESENCES_BYTES_MAX / 2, "{unread}");
    assert!(unread <= PRESENCES_BYTES_MAX, "{unread}");
    world.receive(&mut deaf, PLENTY);
    assert_eq!((deaf.close.is_none(), world.relay.counters().unread_bytes), (true, 0));
}

/// One fills its window with work; another says one word, and is answered in the same turn.
#[test]
fn a_turn_gives_each_its_share() {
    let mut world = World::new();
    let mut busy: Vec<_> = (0..16).map(|_| world.connect(None, false)).collect();
    let mut honest = world.connect(None, false);
    for peer in busy.iter_mut().chain([&mut honest]) {
        world.drive(&mut [peer]);
    }
    for (number, peer) in busy.iter_mut().enumerate() {
        let mut author = Author::new(number as u8 + 1);
        for n in 1..=16 {
            let chunk = author.put("photo", &noise(n, 200_000));
            peer.push(n, numbered(number), vec![chunk]);
        }
        world.send(peer);
    }
    honest.push(1, document(1), Author::new(99).puts(1));
    world.send(&mut honest);
    world.turn();
    let in_one_turn = world.relay.counters().pushes;
    world.receive(&mut honest, PLENTY);
    assert_eq!(honest.acked(), [1]);
    assert!(in_one_turn < 16 * 16 / 2, "{in_one_turn} pushes in one turn");
    assert!(world.relay.has_ready(), "the next turn is due at once");
    while world.relay.counters().pushes < 16 * 16 + 1 {
        let before = world.relay.counters().pushes;
        world.turn();
        assert!(world.relay.counters().pushes > before, "every turn gets on");
    }
}

/// Whoever is closed in the middle of its work leaves nothing that is due for ever.
#[test]
fn nothing_is_due_of_who_is_closed() {
    let mut world = World::new();
    let (mut rude, mut honest) = (world.connect(None, false), world.connect(None, false));
    world.drive(&mut [&mut rude, &mut honest]);
    let mut author = Author::new(1);
    for n in 1..=3 {
        rude.push(n, document(1), author.puts(1));
    }
    world.send(&mut rude);
    // Not even a frame, while pushes wait.
    world.relay.handle_message(rude.id, vec![0xff]);
    honest.push(1, document(2), Author::new(2).puts(1));
    world.send(&mut honest);
    world.turn();
    world.receive(&mut honest, PLENTY);
    world.receive(&mut rude, PLENTY);
    assert!(rude.close.is_some());
    while world.relay.poll_ready().is_some() {}
    assert!(!world.relay.has_ready());
}

/// A repair begins with a look at every document of a space. One poll begins no more than one of a
/// large space, so that others are served between them.
#[test]
fn one_poll_begins_one_large_repair() {
    let mut world = World::new();
    let mut author = world.connect(None, false);
    world.drive(&mut [&mut author]);
    let names: Vec<_> = (0..8).map(|n| SpaceName::new(format!("space-{n}")).unwrap()).collect();
    for name in &names {
        let mut author = world.connect_to(name.clone(), None, false);
        for n in 0..200 {
            author.push(n as u64 + 1, numbered(n), Author::new(1).puts(1));
        }
        world.drive(&mut [&mut author]);
        assert_eq!(author.acked().last(), Some(&200));
    }
    let mut asker = world.connect_to_all(&names);
    world.drive(&mut [&mut asker]);
    for space in 0..8 {
        asker.session.start_repair(space, Vec::new(), 4096);
    }
    world.send(&mut asker);
    world.turn();
    let frames = asker.frames.len();
    world.receive(&mut asker, 16 << 10);
    assert_eq!(asker.frames.len() - frames, 1);
    world.drive(&mut [&mut asker]);
    let repaired = asker.frames.iter().filter_map(|frame| match frame {
        Frame::Repair(repair) => Some(repair.space),
        _ => None,
    });
    assert_eq!(repaired.collect::<BTreeSet<_>>().len(), 8);
}
