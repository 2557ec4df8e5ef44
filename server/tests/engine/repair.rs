//! Finding out what differs, after a cursor was lost.

use rejoin_core::DocumentId;
use rejoin_core::session::{Difference, ReplicaEvent};
use rejoin_core::wire::Wanted;
use rejoin_relay::RelayOptions;

use crate::harness::{Author, Peer, World, document};

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
    returned.session.start_repair(0, items);
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
    bob.session.start_repair(0, Vec::new());
    carol.session.start_repair(0, Vec::new());
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
