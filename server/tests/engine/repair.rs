//! Finding out what differs, after a cursor was lost.

use rejoin_core::session::{Difference, ReplicaEvent};
use rejoin_core::wire::{Backfill, Frame, Listed, Wanted};
use rejoin_core::{DocumentId, ShortHash, heads_hash};
use rejoin_relay::RelayOptions;

use crate::harness::{Author, PLENTY, Peer, World, document, hash, hashes};

#[test]
fn a_lost_cursor_is_repaired_in_both_directions() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let mut authors: Vec<_> = (0..60).map(|n| Author::new(n + 1)).collect();
    for (n, author) in authors.iter_mut().enumerate() {
        alice.push(n as u64, document(n as u8), author.puts(2));
    }
    world.drive(&mut [&mut alice]);
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    world.disconnect(&bob);

    // While bob is away: one document goes on, one is new; bob himself makes one and edits one.
    alice.push(100, document(5), vec![authors[5].put("a", "new")]);
    alice.push(101, document(200), Author::new(200).puts(1));
    world.drive(&mut [&mut alice]);
    let mine = Author::new(201).puts(1);
    bob.documents.entry(document(201)).or_default().load_incremental(&mine[0]).unwrap();
    let edit = authors[9].put("b", "from bob");
    bob.documents.get_mut(&document(9)).unwrap().load_incremental(&edit).unwrap();

    let mut returned = world.connect(None, true);
    returned.documents = std::mem::take(&mut bob.documents);
    world.drive(&mut [&mut alice, &mut returned]);
    assert!(!returned.agrees());
    let items = returned.items();
    returned.session.start_repair(0, items, 4096);
    world.drive(&mut [&mut alice, &mut returned]);

    let difference = difference(&returned);
    assert_eq!(difference.missing_here, [document(200)]);
    assert_eq!(difference.missing_there, [document(201)]);
    let mut differing = difference.differing.clone();
    differing.sort();
    assert_eq!(differing, sorted([document(5), document(9)]));

    let wanted = [document(5), document(9), document(200)].map(|id| wanted(&mut returned, id));
    returned.session.want(0, wanted.to_vec());
    returned.push(1, document(201), mine);
    world.drive(&mut [&mut alice, &mut returned]);
    assert_eq!(asked_of(&returned), [document(9)], "the relay asks for what it lacks");
    returned.push(2, document(9), vec![edit]);
    world.drive(&mut [&mut alice, &mut returned]);
    assert!(returned.agrees());
    assert_eq!(alice.cursor, returned.cursor);
}

#[test]
fn equal_sets_need_no_documents() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    alice.push(1, document(1), Author::new(1).puts(1));
    world.drive(&mut [&mut alice]);
    let mut bob = world.connect(None, false);
    world.drive(&mut [&mut bob]);
    let mut returned = world.connect(None, true);
    returned.documents = bob.documents;
    world.drive(&mut [&mut returned]);
    assert!(returned.agrees());
    assert!(returned.received().is_empty());
}

#[test]
fn documents_are_listed_from_the_one_changed_last_and_offers_are_compared() {
    let id = |n: u16| {
        DocumentId::from_random([(n >> 8) as u8 + 1, n as u8].repeat(8).try_into().unwrap())
    };
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let mut first = Author::new(1);
    let chunks = first.puts(1);
    let heads = heads_hash(&hashes(&chunks)).short();
    for n in 0..600 {
        alice.push(u64::from(n), id(n), chunks.clone());
        if n % 200 == 199 {
            world.drive(&mut [&mut alice]);
        }
    }
    world.drive(&mut [&mut alice]);
    alice.push(600, id(0), first.puts(1));
    world.drive(&mut [&mut alice]);

    let mut bob = world.connect(None, true);
    world.drive(&mut [&mut bob]);
    let pages = listed_pages(&mut world, &mut bob);
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [512, 88]);
    let listed = pages.concat();
    assert_eq!(listed[0].document, id(0));
    assert_ne!(listed[0].heads, heads);
    let others = (1..600).rev().map(|n| Listed { document: id(n), heads });
    assert!(listed[1..].iter().copied().eq(others));

    // The relay wants what it has otherwise, with the heads it has, and what it does not have.
    let unknown = Listed { document: document(250), heads };
    let other = Listed { heads: ShortHash([0; 8]), ..listed[1] };
    bob.events.clear();
    bob.session.offer(0, vec![listed[0], other, unknown]);
    bob.session.offer(0, Vec::new());
    world.send(&mut bob);
    assert!(world.receive(&mut bob, PLENTY));
    assert!(bob.close.is_some(), "one offer at a time");

    let mut bob = world.connect(None, true);
    world.drive(&mut [&mut bob]);
    for (offered, wanted) in [
        (vec![listed[0]], Vec::new()),
        (
            vec![listed[0], other, unknown],
            vec![
                Wanted { document: other.document, heads: vec![hash(&chunks[0]).short()] },
                Wanted { document: unknown.document, heads: Vec::new() },
            ],
        ),
    ] {
        bob.events.clear();
        bob.session.offer(0, offered);
        world.drive(&mut [&mut bob]);
        let event = ReplicaEvent::Wanted { space: 0, documents: wanted, answers: true };
        assert_eq!(bob.events.first(), Some(&event));
        // And then tells what all of it comes to.
        assert!(matches!(bob.frames.last(), Some(Frame::Checkpoint(it)) if it.digests.is_some()));
    }
}

/// All that the relay lists to a replica, page by page.
fn listed_pages(world: &mut World, replica: &mut Peer) -> Vec<Vec<Listed>> {
    let mut left = Backfill::of(0, replica.cursor.unwrap().position);
    let mut pages = Vec::new();
    while let Some(asked) = left {
        replica.events.clear();
        replica.session.list(0, asked);
        world.drive(&mut [replica]);
        let Some(ReplicaEvent::Listed { documents, left: more, .. }) = replica.events.first()
        else {
            panic!("{:?}", replica.events)
        };
        pages.push(documents.clone());
        left = *more;
    }
    pages
}

#[test]
fn a_document_that_is_wanted_comes_or_there_is_nothing() {
    let mut world = World::new();
    let mut alice = world.connect(None, false);
    let chunks = Author::new(1).puts(3);
    alice.push(1, document(1), chunks.clone());
    world.drive(&mut [&mut alice]);
    let mut bob = world.connect(None, true);
    world.drive(&mut [&mut bob]);
    let want = |document, held: &[Vec<u8>]| {
        let heads = held.last().map(|chunk| hash(chunk).short());
        vec![Wanted { document, heads: heads.into_iter().collect() }]
    };
    bob.session.want(0, want(document(1), &chunks[..1]));
    world.drive(&mut [&mut bob]);
    assert_eq!(bob.received(), chunks[1..]);
    bob.session.want(0, want(document(1), &chunks));
    bob.session.want(0, want(document(9), &[]));
    world.drive(&mut [&mut bob]);
    let nothing = bob.events.iter().filter_map(|event| match event {
        ReplicaEvent::Nothing { document, .. } => Some(*document),
        _ => None,
    });
    assert_eq!(nothing.collect::<Vec<_>>(), [document(1), document(9)]);
    assert_eq!(bob.received(), chunks[1..], "and nothing else");
}

#[test]
fn a_repair_dropped_for_others_begins_anew() {
    let mut options = RelayOptions::default();
    options.repair_bytes_max = 0;
    let mut world = World::with(options);
    let mut alice = world.connect(None, false);
    for n in 0..250 {
        alice.push(u64::from(n), document(n), Author::new(1).puts(1));
    }
    world.drive(&mut [&mut alice]);
    let (mut bob, mut carol) = (world.connect(None, true), world.connect(None, true));
    world.drive(&mut [&mut bob, &mut carol]);
    bob.session.start_repair(0, Vec::new(), 4096);
    carol.session.start_repair(0, Vec::new(), 4096);
    world.drive(&mut [&mut bob, &mut carol]);
    assert_eq!([&bob, &carol].iter().filter(|peer| peer.close.is_some()).count(), 1);
}

fn difference(peer: &Peer) -> Difference {
    let found = peer.events.iter().find_map(|event| match event {
        ReplicaEvent::Difference(difference) => Some(difference.clone()),
        _ => None,
    });
    found.unwrap()
}

fn asked_of(peer: &Peer) -> Vec<DocumentId> {
    let asked = peer.events.iter().filter_map(|event| match event {
        ReplicaEvent::Wanted { documents, .. } => Some(documents.iter().map(|it| it.document)),
        _ => None,
    });
    asked.flatten().collect()
}

fn wanted(peer: &mut Peer, document: DocumentId) -> Wanted {
    let held = peer.documents.contains_key(&document);
    let heads = if held { peer.heads(&document) } else { Vec::new() };
    Wanted { document, heads: heads.iter().map(|head| head.short()).collect() }
}

fn sorted<const N: usize>(mut documents: [DocumentId; N]) -> [DocumentId; N] {
    documents.sort();
    documents
}
