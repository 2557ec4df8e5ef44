//! Whose changes are taken from whom, and who goes on where somebody began.

use std::sync::Arc;

use rejoin_core::Identity;
use rejoin_core::wire::{ByeCode, Frame, RefusedClass};
use rejoin_relay::access::Rules;

use crate::harness::{Author, Peer, World, document, hash};

const RULES: &str = r#"
    [token]
    issuer   = "https://login.example"
    audience = "acme"
    keys     = ["key.pub"]

    [[allow]]
    roles = ["staff"]
    space = "acme"
    read  = ["*"]
    write = ["*"]

    [[allow]]
    roles = ["visitor"]
    space = "acme"
    read  = ["*"]
"#;

fn guarded() -> World {
    let mut world = World::new();
    world.relay.handle_rules(Arc::new(Rules::read(RULES).unwrap()), false);
    world
}

fn enter(world: &mut World, device: u8, token: &str) -> Peer {
    let mut peer = world.connect_as(device, token);
    world.drive(&mut [&mut peer]);
    assert!(peer.session.is_welcomed(), "{:?}", peer.close);
    peer
}

/// What became of a change that somebody pushed.
fn pushed(world: &mut World, peer: &mut Peer, chunk: &[u8]) -> Option<RefusedClass> {
    let before = (peer.acked().len(), peer.refused().len());
    peer.push(before.0 as u64 + 1, document(1), vec![chunk.to_vec()]);
    world.drive(&mut [peer]);
    match peer.refused().get(before.1) {
        Some(refused) => {
            assert_eq!(refused.hashes, [hash(chunk)]);
            Some(refused.class)
        }
        None => {
            assert_eq!(peer.acked().len(), before.0 + 1, "{:?}", peer.close);
            None
        }
    }
}

#[test]
fn a_change_is_taken_from_its_author_only() {
    let mut world = guarded();
    let (mut ann, mut bo) = (enter(&mut world, 1, "ann staff"), enter(&mut world, 2, "bo staff"));
    let mut by_ann = Author::named(7, &Identity::user("ann"));
    let first = by_ann.put("status", "booked");
    assert_eq!(pushed(&mut world, &mut bo, &first), Some(RefusedClass::Later));
    assert!(ann.received().is_empty() && world.relay.store().carried(9).unwrap().1 == 0);
    assert_eq!(pushed(&mut world, &mut ann, &first), None);
    // In the middle of a chain no author is named, and the one who began it goes on.
    let second = by_ann.put("status", "moved");
    assert_eq!(pushed(&mut world, &mut bo, &second), Some(RefusedClass::Later));
    assert_eq!(pushed(&mut world, &mut ann, &second), None);
    // Who names nobody takes nobody's name.
    let unnamed = Author::new(8).put("note", "call first");
    assert_eq!(pushed(&mut world, &mut bo, &unnamed), None);
}

#[test]
fn a_role_is_claimed_only_by_who_has_it() {
    let mut world = guarded();
    let mut ann = enter(&mut world, 1, "ann staff");
    let mut boasting = Author::named(7, &Identity::user("ann").with_role("chief"));
    let chunk = boasting.put("status", "booked");
    assert_eq!(pushed(&mut world, &mut ann, &chunk), Some(RefusedClass::Never));
    world.disconnect(&ann);
    let mut chief = enter(&mut world, 1, "ann staff,chief");
    assert_eq!(pushed(&mut world, &mut chief, &chunk), None);
}

#[test]
fn others_carry_what_somebody_wrote_only_while_an_operator_lets_them() {
    let mut world = guarded();
    let mut bo = enter(&mut world, 2, "bo staff");
    let mut by_ann = Author::named(7, &Identity::user("ann"));
    let (first, second) = (by_ann.put("status", "booked"), by_ann.put("status", "moved"));
    assert_eq!(pushed(&mut world, &mut bo, &first), Some(RefusedClass::Later));
    world.relay.carry_until(Some(world.unix_ms + 60_000));
    // Who is connected hears of it by coming back.
    world.drive(&mut [&mut bo]);
    assert_eq!(bo.close.as_ref().unwrap().code, ByeCode::Rights);
    world.disconnect(&bo);
    let mut bo = enter(&mut world, 2, "bo staff");
    let carries = |peer: &Peer| match &peer.frames[0] {
        Frame::Welcome(welcome) => welcome.carries,
        other => panic!("{other:?}"),
    };
    assert_eq!(carries(&bo), Some(true));
    for chunk in [&first, &second] {
        assert_eq!(pushed(&mut world, &mut bo, chunk), None);
    }
    let (carried, all) = world.relay.store().carried(1).unwrap();
    assert_eq!((carried.len(), all), (1, 2), "both are noted, and one was asked for");
    let (row, place) = (&carried[0].row, carried[0].document);
    assert_eq!((&*row.author, &*row.carrier, place), ("ann", "bo", document(1)));
    // Who is over brings no more, and goes on nowhere where somebody else is said to have begun.
    world.unix_ms += 60_000;
    world.drive(&mut [&mut bo]);
    assert_eq!(bo.close.as_ref().unwrap().code, ByeCode::Rights);
    world.disconnect(&bo);
    let mut bo = enter(&mut world, 2, "bo staff");
    assert_eq!(carries(&bo), None);
    let third = by_ann.put("status", "cancelled");
    assert_eq!(pushed(&mut world, &mut bo, &third), Some(RefusedClass::Later));
    let mut ann = enter(&mut world, 1, "ann staff");
    assert_eq!(pushed(&mut world, &mut ann, &third), None);
    assert_eq!(world.relay.store().carried(9).unwrap().1, 2, "she brought her own");
    // It is kept across a restart, and the window is not.
    world.relay.carry_until(Some(world.unix_ms + 60_000));
    world.reopen(rejoin_relay::RelayOptions::default());
    assert_eq!(world.relay.store().carried(9).unwrap().1, 2);
    assert_eq!(world.relay.carries_until(), None);
}

#[test]
fn nobody_carries_where_they_may_not_write() {
    let mut world = guarded();
    world.relay.carry_until(Some(world.unix_ms + 60_000));
    let mut bo = enter(&mut world, 2, "bo visitor");
    let chunk = Author::named(7, &Identity::user("ann")).put("status", "booked");
    bo.push(1, document(1), vec![chunk.clone()]);
    world.drive(&mut [&mut bo]);
    assert_eq!(bo.refusal(), (RefusedClass::Later, vec![hash(&chunk)]));
}
