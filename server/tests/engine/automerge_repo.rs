//! Peers of automerge-repo and replicas in the same documents.

use automerge::AutoCommit;
use automerge::sync::MessageVersion;
use rejoin_core::automerge_repo::{Ephemeral, RepoFrame};
use rejoin_core::session::ReplicaEvent;
use rejoin_core::wire::Presence;
use rejoin_core::{CollectionName, PeerId, SpaceName};
use rejoin_relay::{CompactionPolicy, RelayOptions, TailPolicy, compact_in_process};

use crate::harness::{Author, Peer, World, document, space};
use crate::repo_peer::{RepoPeer, drive};

fn options() -> RelayOptions {
    let mut options = RelayOptions::default();
    options.automerge_collection = CollectionName::new("jobs").unwrap();
    options
}

#[test]
fn what_a_peer_makes_reaches_peers_and_replicas_and_comes_back_edited() {
    let mut world = World::with(options());
    let mut replica = world.connect(None, false);
    let mut anna = RepoPeer::join(&mut world, "anna");
    let mut ben = RepoPeer::join(&mut world, "ben");
    anna.put(document(1), "title", "a job");
    ben.doc(document(1));
    drive(&mut world, &mut [&mut anna, &mut ben]);
    world.drive(&mut [&mut replica]);
    assert_eq!(ben.get(document(1), "title").as_deref(), Some("a job"));
    assert_eq!(replica.heads(&document(1)), anna.heads(document(1)));
    assert!(replica.agrees(), "it is in the collection for peers' documents");

    let change = Author::of(&mut replica, document(1)).put("title", "the replica's");
    replica.documents.get_mut(&document(1)).unwrap().load_incremental(&change).unwrap();
    replica.push(1, document(1), vec![change]);
    ben.put(document(1), "note", "ben's");
    world.drive(&mut [&mut replica]);
    drive(&mut world, &mut [&mut anna, &mut ben]);
    world.drive(&mut [&mut replica]);
    assert_eq!(anna.get(document(1), "title").as_deref(), Some("the replica's"));
    assert_eq!(anna.get(document(1), "note").as_deref(), Some("ben's"));
    assert_eq!(replica.heads(&document(1)), anna.heads(document(1)));
    assert_eq!(anna.told(document(1)), anna.heads(document(1)), "the relay said what it keeps");
    assert_eq!(world.relay.counters().documents_loaded, 0);
}

#[test]
fn a_document_nobody_has_is_unavailable_until_somebody_has_it() {
    let mut world = World::new();
    let mut anna = RepoPeer::join(&mut world, "anna");
    let mut ben = RepoPeer::join(&mut world, "ben");
    ben.doc(document(1));
    drive(&mut world, &mut [&mut ben]);
    assert_eq!(ben.unavailable, [document(1)]);

    anna.put(document(1), "title", "a job");
    drive(&mut world, &mut [&mut anna, &mut ben]);
    assert_eq!(ben.get(document(1), "title").as_deref(), Some("a job"));
    assert_eq!(ben.unavailable, [document(1)], "said once");
}

#[test]
fn a_document_of_another_space_is_as_if_there_were_none() {
    let mut world = World::new();
    let mut anna = RepoPeer::join(&mut world, "anna");
    anna.put(document(1), "title", "a secret");
    drive(&mut world, &mut [&mut anna]);

    let other = SpaceName::new("others").unwrap();
    let mut eve = RepoPeer::join_to(&mut world, other.clone(), "eve");
    eve.doc(document(1));
    drive(&mut world, &mut [&mut eve]);
    assert_eq!(eve.unavailable, [document(1)]);
    // What she writes is a document of her own space.
    eve.put(document(1), "title", "hers");
    drive(&mut world, &mut [&mut eve, &mut anna]);
    assert_eq!(anna.get(document(1), "title").as_deref(), Some("a secret"));
    assert_eq!(eve.heads(document(1)).len(), 1, "and learns nothing of it");
    assert_ne!(eve.heads(document(1)), anna.heads(document(1)));
}

#[test]
fn the_same_id_in_two_spaces_is_two_documents() {
    let mut world = World::new();
    let other = SpaceName::new("others").unwrap();
    let mut anna = RepoPeer::join(&mut world, "anna");
    let mut ben = RepoPeer::join(&mut world, "ben");
    let mut eve = RepoPeer::join_to(&mut world, other.clone(), "eve");
    let mut finn = RepoPeer::join_to(&mut world, other, "finn");
    ben.doc(document(1));
    finn.doc(document(1));
    // Both histories look the same from outside, down to the number of changes.
    for (n, value) in ["one", "two", "three"].into_iter().enumerate() {
        anna.put(document(1), "title", value);
        eve.put(document(1), "title", &format!("{value} of hers, {n}"));
        drive(&mut world, &mut [&mut anna, &mut ben, &mut eve, &mut finn]);
        assert_eq!(ben.heads(document(1)), anna.heads(document(1)));
        assert_eq!(finn.heads(document(1)), eve.heads(document(1)));
        assert_eq!(anna.told(document(1)), anna.heads(document(1)));
        assert_eq!(eve.told(document(1)), eve.heads(document(1)));
    }
    assert_eq!(ben.get(document(1), "title").as_deref(), Some("three"));
}

#[test]
fn a_peer_that_comes_back_is_sent_what_it_lacks_and_no_more() {
    let mut world = World::new();
    let mut anna = RepoPeer::join(&mut world, "anna");
    let mut ben = RepoPeer::join(&mut world, "ben");
    ben.doc(document(1));
    for n in 0..200 {
        anna.put(document(1), "n", &n.to_string());
    }
    drive(&mut world, &mut [&mut anna, &mut ben]);
    world.relay.handle_disconnected(ben.id);
    for n in 0..7 {
        anna.put(document(1), "m", &n.to_string());
    }
    ben.put(document(1), "offline", "yes");
    drive(&mut world, &mut [&mut anna]);

    let mut ben = ben.rejoin(&mut world);
    drive(&mut world, &mut [&mut anna, &mut ben]);
    assert_eq!(anna.get(document(1), "offline").as_deref(), Some("yes"));
    assert_eq!(ben.get(document(1), "m").as_deref(), Some("6"));
    let sent: usize = ben.messages.iter().map(|message| message.changes.len()).sum();
    assert_eq!(sent, 7);
}

#[test]
fn a_slow_reader_costs_an_entry_and_gets_one_message() {
    let mut world = World::new();
    let mut anna = RepoPeer::join(&mut world, "anna");
    let mut slow = RepoPeer::join(&mut world, "slow");
    slow.doc(document(1));
    anna.put(document(1), "n", "first");
    drive(&mut world, &mut [&mut anna, &mut slow]);
    let before = slow.messages.len();
    for n in 0..500 {
        anna.put(document(1), "n", &n.to_string());
        drive(&mut world, &mut [&mut anna]);
        assert!(world.relay.counters().queued <= 2, "{}", world.relay.counters().queued);
    }
    slow.receive(&mut world);
    assert_eq!(slow.messages.len(), before + 1);
    assert_eq!(slow.get(document(1), "n").as_deref(), Some("499"));
}

#[test]
fn what_was_folded_goes_out_as_one_snapshot() {
    let mut policy = CompactionPolicy::default();
    (policy.changes_min, policy.quiet_ms) = (100, 0);
    policy.tail = TailPolicy { away_ms_max: 0, bytes_max: 0 };
    let mut options = options();
    options.compaction = Some(policy);
    let mut world = World::with(options);
    let mut anna = RepoPeer::join(&mut world, "anna");
    for n in 0..150 {
        anna.put(document(1), "n", &n.to_string());
    }
    drive(&mut world, &mut [&mut anna]);
    // An hour later nothing of it is young.
    world.unix_ms += 2 * 3_600_000;
    anna.put(document(1), "n", "later");
    drive(&mut world, &mut [&mut anna]);
    let input = world.relay.poll_compaction().expect("it is due");
    world.relay.handle_compacted(compact_in_process(&input));
    anna.put(document(1), "m", "after");
    drive(&mut world, &mut [&mut anna]);
    assert_eq!(world.relay.counters().compactions, 1);

    let mut ben = RepoPeer::join(&mut world, "ben");
    ben.doc(document(1));
    drive(&mut world, &mut [&mut ben]);
    assert_eq!(ben.heads(document(1)), anna.heads(document(1)));
    let big: Vec<_> = ben.messages.iter().filter(|message| !message.changes.is_empty()).collect();
    assert_eq!(big.len(), 1);
    assert_eq!(big[0].version, MessageVersion::V2);
    let bytes: usize = big[0].changes.iter().map(<[u8]>::len).sum();
    let changes = anna.doc(document(1)).get_changes(&[]);
    assert!(bytes < changes.iter().map(|change| change.raw_bytes().len()).sum::<usize>() / 4);
}

#[test]
fn a_whole_document_is_taken_apart_while_others_go_on() {
    let mut world = World::new();
    let mut anna = RepoPeer::join(&mut world, "anna");
    for n in 0..2000 {
        anna.put(document(1), "n", &n.to_string());
    }
    drive(&mut world, &mut [&mut anna]);
    // Other edits and another document while it is at the worker. Automerge sends the whole document
    // with each, until it hears that something came.
    for n in 0..10 {
        anna.put(document(1), "m", &n.to_string());
        drive(&mut world, &mut [&mut anna]);
    }
    anna.put(document(2), "title", "small");
    drive(&mut world, &mut [&mut anna]);
    assert_eq!(anna.told(document(1)), [], "nothing is acknowledged before it is kept");
    assert_eq!(anna.told(document(2)), anna.heads(document(2)));

    for count in [2000, 2010] {
        let upload = world.relay.poll_upload().expect("the peer sent a document");
        let mut loaded = AutoCommit::load(&upload.bytes).unwrap();
        let changes = loaded.get_changes(&[]);
        let changes: Vec<_> = changes.iter().map(|change| change.raw_bytes().to_vec()).collect();
        assert_eq!(changes.len(), count);
        world.relay.handle_taken_apart(upload.id, Ok(changes));
        drive(&mut world, &mut [&mut anna]);
    }
    assert!(world.relay.poll_upload().is_none(), "the last one has all of those between");
    assert_eq!(anna.told(document(1)), anna.heads(document(1)));

    let mut ben = RepoPeer::join(&mut world, "ben");
    ben.doc(document(1));
    drive(&mut world, &mut [&mut ben]);
    assert_eq!(ben.get(document(1), "m").as_deref(), Some("9"));
    assert_eq!(world.relay.counters().documents_loaded, 0);
}

#[test]
fn who_sends_a_long_history_hears_one_answer_and_others_get_it_at_once() {
    let mut world = World::new();
    let mut anna = RepoPeer::join(&mut world, "anna");
    let mut ben = RepoPeer::join(&mut world, "ben");
    ben.doc(document(1));
    for n in 0..9000 {
        anna.put(document(1), "n", &n.to_string());
    }
    drive(&mut world, &mut [&mut anna, &mut ben]);
    let upload = world.relay.poll_upload().expect("the peer sent a document");
    let changes = AutoCommit::load(&upload.bytes).unwrap().get_changes(&[]);
    let before = anna.messages.len();
    let changes = changes.iter().map(|change| change.raw_bytes().to_vec());
    world.relay.handle_taken_apart(upload.id, Ok(changes.collect()));
    drive(&mut world, &mut [&mut anna, &mut ben]);
    assert_eq!(ben.heads(document(1)), anna.heads(document(1)));
    assert_eq!(anna.messages.len(), before + 1);
    assert!(anna.messages.iter().all(|message| message.changes.is_empty()));
    let got: Vec<_> = ben.messages.iter().filter(|it| !it.changes.is_empty()).collect();
    assert_eq!(got.len(), 1);
    // What came whole goes out as it came, and was not folded.
    assert_eq!(got[0].changes.iter().next(), Some(&*upload.bytes));
    assert!(world.relay.poll_compaction().is_none());
}

#[test]
fn small_documents_come_as_changes() {
    let mut world = World::new();
    let mut anna = RepoPeer::join(&mut world, "anna");
    for n in 0..500 {
        anna.put(document(1), "n", &n.to_string());
    }
    drive(&mut world, &mut [&mut anna]);
    assert_eq!(anna.told(document(1)), anna.heads(document(1)));
    assert!(world.relay.poll_upload().is_none());
}

fn ephemeral(peer: &RepoPeer, session: &str, count: u64) -> Vec<u8> {
    RepoFrame::Ephemeral(Ephemeral {
        sender: "the author",
        target: &peer.relay,
        session,
        count,
        document: document(1),
        data: b"\x63abc",
    })
    .encode()
}

#[test]
fn ephemeral_messages_reach_each_peer_once_with_their_author() {
    let mut world = World::new();
    let mut replica = world.connect(None, false);
    world.drive(&mut [&mut replica]);
    let mut anna = RepoPeer::join(&mut world, "anna");
    let mut ben = RepoPeer::join(&mut world, "ben");
    let mut carl = RepoPeer::join(&mut world, "carl");
    anna.put(document(1), "title", "a job");
    ben.doc(document(1));
    drive(&mut world, &mut [&mut anna, &mut ben, &mut carl]);
    for (session, count) in [("s", 1), ("s", 1), ("s", 3), ("s", 2), ("t", 1)] {
        let frame = ephemeral(&anna, session, count);
        world.relay.handle_message(anna.id, frame);
    }
    drive(&mut world, &mut [&mut anna, &mut ben, &mut carl]);
    let heard: Vec<_> = ben
        .others
        .iter()
        .map(|frame| match RepoFrame::decode(frame).unwrap() {
            RepoFrame::Ephemeral(it) => {
                assert_eq!((it.sender, it.target, it.data), ("the author", "ben", &b"\x63abc"[..]));
                (it.session.to_owned(), it.count)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(heard, [("s".to_owned(), 1), ("s".to_owned(), 3), ("t".to_owned(), 1)]);
    assert!(anna.others.is_empty() && carl.others.is_empty());

    world.drive(&mut [&mut replica]);
    let told = presences(&replica);
    assert_eq!(told, 2, "the last value of each of two sessions");
    // And back.
    let value = Some(b"\x63def".to_vec().into());
    let ttl_ms = 1000;
    let presence =
        Presence { space: 0, document: document(1), peer: PeerId([5; 16]), value, ttl_ms };
    replica.session.present(presence);
    world.drive(&mut [&mut replica]);
    ben.receive(&mut world);
    let last = RepoFrame::decode(ben.others.last().unwrap()).unwrap();
    let RepoFrame::Ephemeral(heard) = last else { panic!("{last:?}") };
    assert_eq!(heard.data, b"\x63def");
    // JavaScript passes on what it hears to all its peers, and so to where it came from.
    let passed_on = Ephemeral { target: &ben.relay, ..heard };
    world.relay.handle_message(ben.id, RepoFrame::Ephemeral(passed_on).encode());
    let heard = anna.others.len();
    drive(&mut world, &mut [&mut anna, &mut ben]);
    world.drive(&mut [&mut replica]);
    assert_eq!(presences(&replica), told, "its own value does not come back to a replica");
    assert_eq!(anna.others.len(), heard + 1, "nor a second time to others");
}

fn presences(replica: &Peer) -> usize {
    replica.events.iter().filter(|it| matches!(it, ReplicaEvent::Presence(_))).count()
}

#[test]
fn a_peer_that_takes_nothing_is_sent_nothing_and_heard() {
    let mut world = World::new();
    let mut anna = RepoPeer::join(&mut world, "anna");
    let mut ben = RepoPeer::join(&mut world, "ben");
    anna.put(document(1), "title", "a job");
    ben.doc(document(1));
    ben.documents.get_mut(&document(1)).unwrap().state.set_read_only(true);
    drive(&mut world, &mut [&mut anna, &mut ben]);
    assert_eq!(ben.heads(document(1)), []);
    // It changes its mind while a message is on its way to it, and back.
    ben.documents.get_mut(&document(1)).unwrap().state.set_read_only(false);
    drive(&mut world, &mut [&mut anna, &mut ben]);
    assert_eq!(ben.get(document(1), "title").as_deref(), Some("a job"));
    ben.documents.get_mut(&document(1)).unwrap().state.set_read_only(true);
    anna.put(document(1), "title", "another");
    anna.send(&mut world);
    world.turn();
    ben.send(&mut world);
    drive(&mut world, &mut [&mut anna, &mut ben]);
    ben.put(document(1), "note", "published");
    drive(&mut world, &mut [&mut anna, &mut ben]);
    assert_eq!(anna.get(document(1), "note").as_deref(), Some("published"));
    assert!(ben.messages.len() < 20, "{} messages", ben.messages.len());
}

#[test]
fn edits_during_an_upload_are_not_lost_to_it() {
    let mut world = World::new();
    let mut anna = RepoPeer::join(&mut world, "anna");
    anna.put(document(1), "n", "here before");
    drive(&mut world, &mut [&mut anna]);
    world.relay.handle_disconnected(anna.id);
    for n in 0..2000 {
        anna.put(document(1), "n", &n.to_string());
    }
    let mut anna = anna.rejoin(&mut world);
    drive(&mut world, &mut [&mut anna]);
    let upload = world.relay.poll_upload().expect("the history is long");
    // The relay has something, so each of these is sent alone.
    for n in 0..5 {
        anna.put(document(1), "m", &n.to_string());
        drive(&mut world, &mut [&mut anna]);
    }
    let changes = AutoCommit::load(&upload.bytes).unwrap().get_changes(&[]);
    let changes = changes.iter().map(|change| change.raw_bytes().to_vec()).collect();
    world.relay.handle_taken_apart(upload.id, Ok(changes));
    drive(&mut world, &mut [&mut anna]);
    assert_eq!(anna.told(document(1)), anna.heads(document(1)));
}

#[test]
fn authors_are_checked_if_asked() {
    let mut options = RelayOptions::default();
    options.checks_ephemeral_sender = true;
    let mut world = World::with(options);
    let mut anna = RepoPeer::join(&mut world, "anna");
    let mut ben = RepoPeer::join(&mut world, "ben");
    anna.put(document(1), "title", "a job");
    ben.doc(document(1));
    drive(&mut world, &mut [&mut anna, &mut ben]);
    world.relay.handle_message(anna.id, ephemeral(&anna, "s", 1));
    drive(&mut world, &mut [&mut anna, &mut ben]);
    assert!(ben.others.is_empty());
    assert!(anna.close.is_none());
}

#[test]
fn who_subscribes_to_a_storage_is_told_how_far_it_has_come() {
    let mut world = World::new();
    let mut anna = RepoPeer::join(&mut world, "anna");
    let mut ben = RepoPeer::join(&mut world, "ben");
    ben.doc(document(1));
    let change = RepoFrame::RemoteSubscriptionChange {
        sender: "ben",
        add: vec!["storage of anna"],
        remove: vec![],
    };
    world.relay.handle_message(ben.id, change.encode());
    anna.put(document(1), "title", "a job");
    drive(&mut world, &mut [&mut anna, &mut ben]);
    let heads = anna.heads(document(1));
    match RepoFrame::decode(ben.others.last().expect("heads were told")).unwrap() {
        RepoFrame::RemoteHeadsChanged(remote) => {
            assert_eq!((remote.sender, remote.document), (&*ben.relay, document(1)));
            assert_eq!(remote.heads["storage of anna"].heads, heads);
            assert!(remote.heads["storage of anna"].timestamp >= world.unix_ms);
        }
        other => panic!("{other:?}"),
    }
    let told = ben.others.len();
    let remove = vec!["storage of anna"];
    let change = RepoFrame::RemoteSubscriptionChange { sender: "ben", add: vec![], remove };
    world.relay.handle_message(ben.id, change.encode());
    world.unix_ms += 1;
    anna.put(document(1), "title", "another");
    drive(&mut world, &mut [&mut anna, &mut ben]);
    assert_eq!(ben.others.len(), told);
}

#[test]
fn a_replica_s_document_is_found_by_peers() {
    let mut world = World::new();
    let mut replica = world.connect(None, false);
    replica.push(1, document(3), Author::new(1).puts(3));
    world.drive(&mut [&mut replica]);
    let mut anna = RepoPeer::join(&mut world, "anna");
    anna.doc(document(3));
    drive(&mut world, &mut [&mut anna]);
    assert_eq!(anna.get(document(3), "n").as_deref(), Some("2"));
    assert_eq!(space().as_str(), "acme");
}
