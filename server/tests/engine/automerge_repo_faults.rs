//! What peers of automerge-repo must not be able to do, and what disks may.

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ROOT};
use rejoin_core::SpaceName;
use rejoin_core::automerge_repo::{Have, RepoFrame, SyncMessage};
use rejoin_relay::{CompactionError, RelayOptions};

use crate::disk::Disk;
use crate::harness::{Author, World, document, space};
use crate::repo_peer::{RepoPeer, drive};

/// Whatever one peer does, another goes on.
fn assert_lives(world: &mut World) {
    let n = world.relay.counters().changes_kept;
    let mut other = RepoPeer::join(world, &format!("another {n}"));
    other.put(document(99), "n", &n.to_string());
    drive(world, &mut [&mut other]);
    assert_eq!(other.told(document(99)), other.heads(document(99)));
    assert!(other.close.is_none());
    world.relay.handle_disconnected(other.id);
}

#[track_caller]
fn assert_closes(world: &mut World, peer: &mut RepoPeer, why: &str) {
    world.turn();
    peer.receive(world);
    let error = peer.error.take().unwrap_or_else(|| panic!("no error; it should say {why:?}"));
    assert!(error.contains(why), "{error:?} does not say {why:?}");
    assert!(peer.close.is_some());
    world.relay.handle_disconnected(peer.id);
    assert_lives(world);
}

#[test]
fn a_message_that_is_none_ends_its_connection_and_no_other() {
    let mut world = World::new();
    let join = RepoPeer::connect(&mut world, space(), "p").join_frame();
    let list = [0x9a, 0xff, 0xff, 0xff, 0xff];
    let deep = [vec![0xa1, 0x61, 0x78], vec![0x9f; 1 << 20]].concat();
    let cases: [(&[u8], &str); 7] = [
        (b"", "no CBOR map"),
        (b"hello", "no CBOR map"),
        (&join[..join.len() - 3], "no CBOR map"),
        (&[&join[..], &[0]].concat(), "bytes follow"),
        (&list, "no CBOR map"),
        (&deep, "lists in lists"),
        (b"\xa1\x64type\x63abc", "senderId"),
    ];
    for (message, why) in cases {
        let mut peer = RepoPeer::join(&mut world, "p");
        world.relay.handle_message(peer.id, message.to_vec());
        let why = if why == "senderId" { "no type of message" } else { why };
        assert_closes(&mut world, &mut peer, why);
    }
}

#[test]
fn the_handshake_comes_first_and_once() {
    let mut world = World::new();
    let mut peer = RepoPeer::connect(&mut world, space(), "p");
    world.relay.handle_message(peer.id, RepoFrame::Leave { sender: "p" }.encode());
    assert_closes(&mut world, &mut peer, "join");

    let mut peer = RepoPeer::join(&mut world, "p");
    world.relay.handle_message(peer.id, peer.join_frame());
    assert_closes(&mut world, &mut peer, "joined already");

    let mut peer = RepoPeer::connect(&mut world, space(), "p");
    let join =
        RepoFrame::Join { sender: "p", storage: None, is_ephemeral: true, speaks_version_1: false };
    world.relay.handle_message(peer.id, join.encode());
    assert_closes(&mut world, &mut peer, "version");

    let mut peer = RepoPeer::connect(&mut world, space(), "p");
    world.now += 20_000;
    world.relay.handle_timeout(world.now);
    assert_closes(&mut world, &mut peer, "no join within");
}

#[test]
fn nobody_speaks_for_another() {
    let mut world = World::new();
    let mut peer = RepoPeer::join(&mut world, "p");
    peer.name = "another".to_owned();
    peer.send_data(&mut world, document(1), true, &SyncMessage::default().encode());
    assert_closes(&mut world, &mut peer, "another sender");
    let mut peer = RepoPeer::join(&mut world, "p");
    peer.relay = "another".to_owned();
    peer.send_data(&mut world, document(1), true, &SyncMessage::default().encode());
    assert_closes(&mut world, &mut peer, "another sender");
}

/// Sync messages that make Automerge 0.12 divide by zero, compute for minutes or ask for gigabytes.
#[test]
fn bombs_end_their_connection() {
    let mut world = World::new();
    let cases: [(&[u8], &str); 7] = [
        // A Bloom filter with one entry and no bits.
        (&[0x42, 0, 0, 1, 0, 3, 1, 0, 7, 0], "Bloom"),
        // One with 4,294,967,295 probes.
        (&[0x42, 0, 0, 1, 0, 9, 1, 10, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0], "Bloom"),
        // One with no entries but bits.
        (&[0x42, 0, 0, 1, 0, 4, 0, 10, 7, 0, 0], "Bloom"),
        // A list of 2^62 hashes.
        (&[0x42, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40], "heads"),
        // 2^62 changes.
        (&[0x42, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40], "in changes"),
        (&[0x44, 0, 0, 0, 0], "0x44"),
        (&[], "damaged"),
    ];
    for (data, why) in cases {
        let mut peer = RepoPeer::join(&mut world, "p");
        peer.put(document(1), "n", "1");
        peer.send_data(&mut world, document(1), false, data);
        assert_closes(&mut world, &mut peer, why);
    }
}

/// Every byte of a real conversation damaged in turn: nothing panics, and others go on.
#[test]
fn damaged_messages_harm_nobody() {
    let mut world = World::new();
    let mut doc = AutoCommit::new();
    for n in 0..20 {
        doc.put(ROOT, "n", n).unwrap();
        doc.commit();
    }
    let chunks: Vec<_> =
        doc.get_changes(&[]).iter().map(|change| change.raw_bytes().to_vec()).collect();
    let message = SyncMessage {
        heads: doc.get_heads().iter().map(|it| rejoin_core::ChangeHash(it.0)).collect(),
        have: vec![Default::default()],
        changes: chunks.iter().map(Vec::as_slice).collect(),
        flags: Some(Default::default()),
        ..Default::default()
    };
    let data = message.encode();
    let mut peer = RepoPeer::join(&mut world, "p");
    for at in 0..data.len() {
        let mut damaged = data.clone();
        damaged[at] ^= 1 << (at % 8);
        peer.send_data(&mut world, document(2), false, &damaged);
        world.turn();
        while let Some(upload) = world.relay.poll_upload() {
            // A change that says it is a document is none to the worker either.
            world.relay.handle_taken_apart(upload.id, Err(CompactionError::Cancelled));
        }
        peer.receive(&mut world);
        if peer.close.is_some() {
            world.relay.handle_disconnected(peer.id);
            peer = RepoPeer::join(&mut world, "p");
        }
    }
    // The undamaged one is taken after all that.
    peer.send_data(&mut world, document(2), false, &data);
    drive(&mut world, &mut [&mut peer]);
    assert_eq!(peer.told(document(2)), message.heads);
    assert_lives(&mut world);
}

#[test]
fn changes_that_build_on_nothing_known_are_not_kept_without_end() {
    let mut world = World::new();
    let mut peer = RepoPeer::join(&mut world, "p");
    let mut author = Author::new(1);
    author.puts(1);
    for n in 0..80 {
        let change = author.put(&format!("photo {n}"), &noise(900_000, n));
        let message = SyncMessage { changes: vec![&change], ..Default::default() };
        peer.send_data(&mut world, document(1), false, &message.encode());
        world.turn();
    }
    assert_closes(&mut world, &mut peer, "remember");
}

/// Each keeps to what one connection may, but all of them together would fill the memory.
#[test]
fn many_peers_are_not_remembered_without_end_either() {
    let mut options = RelayOptions::default();
    options.peer_bytes_max = 2_000_000;
    let mut world = World::with(options);
    let mut peers: Vec<_> = (0..8).map(|n| RepoPeer::join(&mut world, &format!("p{n}"))).collect();
    let orphans = |world: &mut World, peer: &mut RepoPeer, actor: u8, bytes: usize| {
        let mut author = Author::new(actor);
        author.puts(1);
        let change = author.put("photo", &noise(bytes, actor.into()));
        let message = SyncMessage { changes: vec![&change], ..Default::default() };
        peer.send_data(world, document(actor), false, &message.encode());
        world.turn();
        peer.receive(world);
    };
    for (actor, peer) in (1..).zip(&mut peers) {
        orphans(&mut world, peer, actor, 200_000);
    }
    assert!(peers.iter().all(|peer| peer.close.is_none()));
    let mut greedy = RepoPeer::join(&mut world, "greedy");
    orphans(&mut world, &mut greedy, 20, 900_000);
    world.turn();
    greedy.receive(&mut world);
    assert!(greedy.error.take().is_some_and(|error| error.contains("come back later")));
    assert!(greedy.close.is_some(), "whose are most goes");
    assert!(peers.iter().all(|peer| peer.close.is_none()));
    // What it was charged is free again, before it is gone even, and whatever it still sends.
    orphans(&mut world, &mut greedy, 22, 900_000);
    let mut modest = RepoPeer::join(&mut world, "modest");
    orphans(&mut world, &mut modest, 21, 200_000);
    assert!(modest.close.is_none());
    for peer in &mut peers {
        peer.receive(&mut world);
    }
    assert!(peers.iter().all(|peer| peer.close.is_none()));
    assert_lives(&mut world);
}

/// Messages that are worked off, and of which much has to be remembered.
#[test]
fn what_a_peer_says_to_have_synced_is_remembered_within_limits() {
    let mut options = RelayOptions::default();
    options.peer_bytes_max = 20_000_000;
    let mut world = World::with(options);
    let mut peer = RepoPeer::join(&mut world, "p");
    peer.put(document(1), "n", "1");
    drive(&mut world, &mut [&mut peer]);
    // Heads nobody knows: the relay waits for what they are of.
    let last_sync: Vec<_> = (0..100_000_u32)
        .map(|n| {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&n.to_be_bytes());
            rejoin_core::ChangeHash(hash)
        })
        .collect();
    for n in 2..20 {
        let have = vec![Have { last_sync: last_sync.clone(), ..Have::default() }];
        let heads = vec![rejoin_core::ChangeHash([n; 32])];
        let message = SyncMessage { heads, have, ..SyncMessage::default() };
        peer.send_data(&mut world, document(n), false, &message.encode());
        world.turn();
    }
    assert_closes(&mut world, &mut peer, "come back later");
}

#[test]
fn what_can_never_be_kept_is_left_out_and_the_document_goes_on() {
    let mut world = World::new();
    let mut anna = RepoPeer::join(&mut world, "anna");
    let mut ben = RepoPeer::join(&mut world, "ben");
    ben.doc(document(1));
    anna.put(document(1), "title", "a job");
    drive(&mut world, &mut [&mut anna, &mut ben]);
    // A change of 2 MB, which does not fit into a frame for replicas.
    let noise: String =
        (0..2_000_000_u32).map(|n| char::from(32 + (n.wrapping_mul(n) % 90) as u8)).collect();
    anna.put(document(1), "photo", &noise);
    anna.put(document(2), "title", "another");
    drive(&mut world, &mut [&mut anna, &mut ben]);
    assert_eq!(anna.told(document(2)), anna.heads(document(2)));
    assert_ne!(anna.told(document(1)), anna.heads(document(1)));
    assert!(anna.close.is_none());
    assert_eq!(world.relay.counters().refused.never, 1);

    // What builds on it cannot be kept either; however much that is, nothing else suffers.
    for n in 0..1500 {
        anna.put(document(1), "n", &n.to_string());
    }
    ben.put(document(1), "note", "goes on");
    anna.put(document(2), "title", "a third");
    drive(&mut world, &mut [&mut anna, &mut ben]);
    assert_eq!(anna.get(document(1), "note").as_deref(), Some("goes on"));
    assert_eq!(anna.told(document(2)), anna.heads(document(2)));
    assert!(anna.close.is_none());
}

/// Text that does not deflate.
fn noise(len: usize, seed: u32) -> String {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let characters = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        char::from(32 + (state >> 8) as u8 % 90)
    });
    characters.take(len).collect()
}

/// A peer with more history than it is asked to send change by change.
fn long_history(world: &mut World, name: &str, documents: &[u8]) -> RepoPeer {
    let mut peer = RepoPeer::join(world, name);
    for n in 0..1500 {
        for number in documents {
            peer.put(document(*number), "n", &n.to_string());
        }
    }
    drive(world, &mut [&mut peer]);
    peer
}

#[test]
fn what_cannot_be_taken_apart_comes_change_by_change_over_the_next_connection() {
    let mut world = World::new();
    let mut anna = long_history(&mut world, "anna", &[1]);
    let upload = world.relay.poll_upload().expect("the history is long");
    world.relay.handle_taken_apart(upload.id, Err(CompactionError::TimedOut { seconds: 60 }));
    assert_eq!(world.relay.counters().uploads_failed, 1);
    assert_closes(&mut world, &mut anna, "taken apart");
    let mut anna = anna.rejoin(&mut world);
    drive(&mut world, &mut [&mut anna]);
    assert!(world.relay.poll_upload().is_none());
    assert_eq!(anna.told(document(1)), anna.heads(document(1)));
}

#[test]
fn a_document_too_large_beside_its_changes_comes_as_changes_over_the_next_connection() {
    let mut options = RelayOptions::default();
    options.peer_bytes_max = 800_000;
    let mut world = World::with(options);
    let mut anna = RepoPeer::join(&mut world, "anna");
    // What cannot be compressed is as long in the document as in its changes.
    let mut state = 1_u32;
    let noise: String = (0..400_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b' ' + (state >> 24) as u8 % 90)
        })
        .collect();
    anna.put(document(1), "photo", &noise);
    (0..1500).for_each(|n| anna.put(document(1), "n", &n.to_string()));
    drive(&mut world, &mut [&mut anna]);
    let upload = world.relay.poll_upload().expect("the history is long");
    let changes = AutoCommit::load(&upload.bytes).unwrap().get_changes(&[]);
    let changes = changes.iter().map(|change| change.raw_bytes().to_vec()).collect();
    world.relay.handle_taken_apart(upload.id, Ok(changes));
    assert_closes(&mut world, &mut anna, "taken apart");
    let mut anna = anna.rejoin(&mut world);
    drive(&mut world, &mut [&mut anna]);
    assert!(world.relay.poll_upload().is_none());
    assert_eq!(anna.told(document(1)), anna.heads(document(1)));
}

#[test]
fn a_peer_that_goes_takes_its_uploads_with_it() {
    let mut world = World::new();
    let anna = long_history(&mut world, "anna", &[1, 2]);
    let upload = world.relay.poll_upload().expect("the history is long");
    world.relay.handle_disconnected(anna.id);
    world.relay.handle_taken_apart(upload.id, Ok(Vec::new()));
    world.turn();
    assert!(world.relay.poll_upload().is_none());
    assert_lives(&mut world);
}

#[test]
fn uploads_that_wait_are_remembered_within_limits() {
    let mut options = RelayOptions::default();
    options.peer_bytes_max = 30_000;
    let mut world = World::with(options);
    let mut anna = RepoPeer::join(&mut world, "anna");
    // Each is more than 3 KB as a whole document, and nobody takes them apart.
    for number in 0..12 {
        for n in 0..1500 {
            anna.put(document(number), &n.to_string(), "1");
        }
    }
    drive(&mut world, &mut [&mut anna]);
    assert!(world.relay.poll_upload().is_none(), "they went with their connection");
    assert_closes(&mut world, &mut anna, "come back later");
}

#[test]
fn who_dials_anew_in_the_middle_of_an_upload_hears_of_the_document() {
    let mut world = World::new();
    let before = long_history(&mut world, "anna", &[1]);
    let upload = world.relay.poll_upload().expect("the history is long");
    // The old connection is still there, and reads nothing.
    let mut after = RepoPeer::join(&mut world, "anna");
    after.documents = before.documents;
    after.documents.values_mut().for_each(|held| held.state = Default::default());
    drive(&mut world, &mut [&mut after]);
    world.relay.handle_disconnected(before.id);
    drive(&mut world, &mut [&mut after]);
    world.relay.handle_taken_apart(upload.id, Ok(Vec::new()));
    let upload = world.relay.poll_upload().expect("it is sent again");
    let changes = AutoCommit::load(&upload.bytes).unwrap().get_changes(&[]);
    let changes = changes.iter().map(|change| change.raw_bytes().to_vec()).collect();
    world.relay.handle_taken_apart(upload.id, Ok(changes));
    drive(&mut world, &mut [&mut after]);
    assert_eq!(after.told(document(1)), after.heads(document(1)));
}

#[test]
fn a_result_from_before_the_store_failed_is_nobody_s() {
    let mut world = World::new();
    let _anna = long_history(&mut world, "anna", &[1]);
    let before = world.relay.poll_upload().expect("the history is long");
    world.reopen(RelayOptions::default());
    let mut ben = long_history(&mut world, "ben", &[2]);
    let after = world.relay.poll_upload().expect("the history is long");
    let changes = |bytes: &[u8]| -> Vec<Vec<u8>> {
        let changes = AutoCommit::load(bytes).unwrap().get_changes(&[]);
        changes.iter().map(|change| change.raw_bytes().to_vec()).collect()
    };
    world.relay.handle_taken_apart(before.id, Ok(changes(&before.bytes)));
    world.relay.handle_taken_apart(after.id, Ok(changes(&after.bytes)));
    drive(&mut world, &mut [&mut ben]);
    assert_eq!(ben.told(document(2)), ben.heads(document(2)));
}

#[test]
fn nobody_holds_up_or_hears_of_a_document_of_another_space() {
    let mut world = World::new();
    let mut anna = RepoPeer::join(&mut world, "anna");
    let other = SpaceName::new("others").unwrap();
    // Eve writes to it before it exists anywhere, and goes on when it is Anna's.
    let mut eve = RepoPeer::join_to(&mut world, other.clone(), "eve");
    eve.put(document(1), "n", "eve's");
    let message = SyncMessage { heads: eve.heads(document(1)), ..Default::default() };
    eve.send_data(&mut world, document(1), false, &message.encode());
    world.turn();
    anna.put(document(1), "title", "a job");
    drive(&mut world, &mut [&mut anna]);
    let whole = anna.doc(document(1)).save();
    let document_of_hers =
        SyncMessage { is_v2: true, changes: vec![&whole], ..Default::default() }.encode();
    eve.send_data(&mut world, document(1), false, &document_of_hers);
    world.turn();
    // It is at the worker for her own space, and never comes back.
    assert!(world.relay.poll_upload().is_some());
    anna.put(document(1), "title", "goes on");
    drive(&mut world, &mut [&mut anna]);
    assert_eq!(anna.told(document(1)), anna.heads(document(1)));
    eve.receive(&mut world);
    let heads = anna.heads(document(1));
    let told = |message: &automerge::sync::Message| -> Vec<rejoin_core::ChangeHash> {
        message.heads.iter().map(|head| rejoin_core::ChangeHash(head.0)).collect()
    };
    assert!(eve.messages.iter().all(|message| told(message) != heads));
}

/// The disk fails at every call of a short day: whatever heads the relay told, it has after a power
/// loss right then.
#[test]
fn what_was_acknowledged_survives_whatever_the_disk_does() {
    let calls = day(&Disk::default()).1;
    let mut acknowledged = 0;
    for at in 1..=calls {
        let disk = Disk::default();
        disk.fail_at(at, true);
        let (told, _) = day(&disk);
        acknowledged += told.len();
        let left = disk.after_power_loss();
        if told.is_empty() && left.database().is_err() {
            // It failed before there was a database.
            continue;
        }
        let mut world = World::over(left, RelayOptions::default());
        let mut reader = RepoPeer::join(&mut world, "reader");
        reader.doc(document(1));
        drive(&mut world, &mut [&mut reader]);
        for head in told {
            let head = automerge::ChangeHash(head.0);
            assert!(reader.doc(document(1)).get_change_by_hash(&head).is_some(), "call {at}");
        }
    }
    assert!(acknowledged > 0, "no run came as far as an acknowledgement");
}

/// Edits until the disk fails; the heads that were told, and how often the disk was called.
fn day(disk: &Disk) -> (Vec<rejoin_core::ChangeHash>, u64) {
    let Ok(database) = disk.database() else { return (Vec::new(), disk.calls()) };
    let mut next = 0;
    let ids = || {
        next += 1;
        [next; 16]
    };
    let opened = rejoin_relay::Relay::open(database, RelayOptions::default(), ids);
    let Ok(relay) = opened else { return (Vec::new(), disk.calls()) };
    let mut world = World::of(relay);
    let mut told = Vec::new();
    let mut anna = RepoPeer::join(&mut world, "anna");
    for n in 0..4 {
        anna.put(document(1), "n", &n.to_string());
        for _ in 0..3 {
            anna.send(&mut world);
            if world.relay.turn(world.now, world.unix_ms).is_err() {
                return (told, disk.calls());
            }
            anna.receive(&mut world);
            told.extend(anna.told(document(1)));
        }
    }
    (told, disk.calls())
}
