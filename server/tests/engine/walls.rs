//! A session sees nothing of a space that it did not open: not by asking, not by pushing, and not by
//! how it is refused. Whatever it says, a relay answers it in the same bytes whether the other space
//! holds what is named or something else.

use minicbor::bytes::ByteVec;
use proptest::prelude::*;
use rejoin_core::change::genesis;
use rejoin_core::wire::{
    Begun, ChangePiece, Cursor, Frame, Hello, Listed, Listing, Offer, Presence, Push, Repair,
    SpaceWanted, Want, Wanted,
};
use rejoin_core::{ChangeHash, DeviceId, DocumentId, Epoch, Genesis, PeerId, ShortHash, SpaceName};

use crate::harness::{Author, PLENTY, World, hash, jobs, noise};
use crate::repo_peer::RepoPeer;

/// What the other space holds: documents with random ids and one with a derived id, the bytes of
/// their changes, and a long change of which a part has come.
struct Secrets {
    documents: Vec<(DocumentId, Vec<Vec<u8>>)>,
    upload: (ChangeHash, Vec<u8>),
}

fn acme() -> SpaceName {
    SpaceName::new("acme").unwrap()
}

fn evil() -> SpaceName {
    SpaceName::new("evil").unwrap()
}

const DEVICE: DeviceId = DeviceId([1; 16]);

fn secrets(seed: u8) -> Secrets {
    let random = (1..4).map(|n| (DocumentId::from_random([seed ^ n; 16]), None));
    let key = Genesis::first(format!("customer {seed}")).unwrap();
    let derived = DocumentId::derive(&acme(), &jobs(), &key);
    let documents = random.chain([(derived, Some(key))]).map(|(document, key)| {
        let mut author = Author::new(seed);
        let mut changes = vec![genesis(&document, key.as_ref())];
        author.doc.load_incremental(&changes[0]).unwrap();
        changes.extend((0..3).map(|n| author.put("canary", &format!("{seed} {n}"))));
        (document, changes)
    });
    let long = Author::new(seed ^ 0x40).put("photo", &noise(seed.into(), 40_000));
    Secrets { documents: documents.collect(), upload: (hash(&long), long) }
}

/// A relay whose space `acme` holds these documents.
fn world(held: &Secrets) -> World {
    let mut world = World::new();
    let mut insider = world.connect_to(acme(), None, false);
    world.drive(&mut [&mut insider]);
    for (n, (document, changes)) in (1..).zip(&held.documents) {
        insider.push(n, *document, changes.clone());
    }
    let (hash, long) = &held.upload;
    let (offset, total) = (0, long.len() as u64);
    let piece = ChangePiece { hash: *hash, offset, total, bytes: long[..16_384].to_vec().into() };
    insider.push_piece(99, held.documents[0].0, piece);
    world.drive(&mut [&mut insider]);
    assert!(insider.refused().is_empty());
    world
}

/// One thing that a session says of what it guesses is in the other space.
#[derive(Debug, Clone)]
enum Said {
    Want { document: usize, true_heads: bool },
    Push { document: usize, changes: usize, from: usize },
    Piece { document: usize },
    Offer { document: usize, true_heads: bool },
    Listing,
    Repair,
    Presence { document: usize },
}

fn said() -> impl Strategy<Value = Said> {
    let document = 0..4_usize;
    prop_oneof![
        (document.clone(), any::<bool>())
            .prop_map(|(document, true_heads)| Said::Want { document, true_heads }),
        (document.clone(), 0..3_usize, 0..4_usize)
            .prop_map(|(document, changes, from)| Said::Push { document, changes, from }),
        document.clone().prop_map(|document| Said::Piece { document }),
        (document.clone(), any::<bool>())
            .prop_map(|(document, true_heads)| Said::Offer { document, true_heads }),
        Just(Said::Listing),
        Just(Said::Repair),
        document.prop_map(|document| Said::Presence { document }),
    ]
}

/// The frame, by somebody who knows all secrets.
fn frame(said: &Said, secrets: &Secrets, n: &mut u64) -> Frame {
    let space = 0;
    let heads = |document: usize, true_heads| match true_heads {
        true => hash(secrets.documents[document].1.last().unwrap()).short(),
        false => ShortHash([0xee; 8]),
    };
    match said {
        Said::Want { document, true_heads } => {
            let heads = vec![heads(*document, *true_heads)];
            let documents = vec![Wanted { document: secrets.documents[*document].0, heads }];
            Frame::Want(Want { space, documents, answers: false })
        }
        Said::Push { document, changes, from } => {
            *n += 1;
            let (document, all) = &secrets.documents[*document];
            let changes = all.iter().skip(*from).take(changes + 1);
            let changes = changes.map(|chunk| ByteVec::from(chunk.clone())).collect();
            let (collection, piece) = (jobs(), None);
            Frame::Push(Push { space, n: *n, document: *document, collection, changes, piece })
        }
        Said::Piece { document } => {
            *n += 1;
            let (hash, long) = &secrets.upload;
            let (offset, total) = (16_384, long.len() as u64);
            let bytes = long[16_384..].to_vec().into();
            let piece = Some(ChangePiece { hash: *hash, offset, total, bytes });
            let (document, collection) = (secrets.documents[*document].0, jobs());
            Frame::Push(Push { space, n: *n, document, collection, changes: Vec::new(), piece })
        }
        Said::Offer { document, true_heads } => {
            let heads = heads(*document, *true_heads);
            let documents = vec![Listed { document: secrets.documents[*document].0, heads }];
            Frame::Offer(Offer { space, documents })
        }
        Said::Listing => Frame::Listing(Listing { space, backfill: None, documents: None }),
        Said::Repair => Frame::Repair(Repair { space, from: 0, count: 32, symbols: None }),
        Said::Presence { document } => Frame::Presence(Presence {
            space,
            document: secrets.documents[*document].0,
            peer: PeerId([1; 16]),
            value: Some(vec![6].into()),
            ttl_ms: 1000,
        }),
    }
}

/// Opens `evil`, naming everything it can of `acme`.
fn hello(secrets: &Secrets) -> Frame {
    let documents = secrets.documents.iter();
    let begun =
        documents.map(|(document, _)| Begun { document: *document, through: 3, piece: None });
    let cursor = Cursor { epoch: Epoch([2; 16]), position: 3, backfill: None, scope: None };
    let wanted = SpaceWanted {
        name: evil(),
        cursor: Some(cursor),
        holds: true,
        begun: Some(begun.collect()),
    };
    Frame::Hello(Hello {
        device: DEVICE,
        token: None,
        spaces: vec![wanted],
        app: None,
        identity: None,
        pushes: 0,
        upload: Some(secrets.upload.0),
        short: None,
        waiting: None,
    })
}

/// Everything that the relay says to a session that says all this.
fn answers(held: &Secrets, named: &Secrets, script: &[Said]) -> Vec<Vec<u8>> {
    let mut world = world(held);
    let id = world.next_connection();
    world.relay.handle_connected(world.now, id);
    let mut answers = Vec::new();
    let mut n = 0;
    let frames = script.iter().map(|said| frame(said, named, &mut n));
    for frame in std::iter::once(hello(named)).chain(frames.collect::<Vec<_>>()) {
        world.relay.handle_message(id, frame.encode());
        world.turn();
        answers.extend(world.relay.poll_transmit(world.now, id, PLENTY));
    }
    answers.extend(world.relay.poll_close(id).map(|close| close.message.into_bytes()));
    answers
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_session_cannot_tell_what_another_space_holds(
        script in prop::collection::vec(said(), 1..12),
    ) {
        let (named, others) = (secrets(0x21), secrets(0x11));
        let with = answers(&named, &named, &script);
        let without = answers(&others, &named, &script);
        prop_assert_eq!(with, without);
    }
}

/// The same for peers of automerge-repo.
#[test]
fn a_peer_cannot_tell_what_another_space_holds() {
    let (named, others) = (secrets(0x21), secrets(0x11));
    let asked = |held: &Secrets| {
        let mut world = world(held);
        let mut peer = RepoPeer::join_to(&mut world, evil(), "stranger");
        for (document, changes) in &named.documents {
            // It asks for what it lacks, and then shows that it knows some of it.
            peer.doc(*document);
            peer.send_about(&mut world, *document);
            world.turn();
            peer.receive(&mut world);
            peer.doc(*document).load_incremental(&changes[0]).unwrap();
            peer.send_about(&mut world, *document);
            world.turn();
            peer.receive(&mut world);
        }
        let told = peer.messages.iter().map(|message| message.clone().encode());
        (told.collect::<Vec<_>>(), peer.unavailable, peer.others)
    };
    assert_eq!(asked(&named), asked(&others));
}
