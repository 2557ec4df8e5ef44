//! Messages of automerge-repo as bytes: what cbor-x writes, what we write, and what nobody should.

use automerge::sync::{Message, State, SyncDoc};
use automerge::transaction::Transactable;
use automerge::{AutoCommit, ROOT};
use rejoin_core::automerge_repo::{
    Bloom, Conversation, Ephemeral, Flags, Have, Orphans, RemoteHeads, RepoFrame, RepoFrameError,
    StorageHeads, SyncFrame, SyncMessage, SyncMessageError, Takes,
};
use rejoin_core::{ChangeGraph, ChangeHash, DocumentId};

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

const DOCUMENT: DocumentId = DocumentId([7; 16]);

fn frames() -> Vec<RepoFrame<'static>> {
    let heads = StorageHeads { heads: vec![ChangeHash([3; 32])], timestamp: 1_790_000_000_123 };
    let remote = RemoteHeads {
        sender: "peer-a",
        target: "rejoin-b",
        document: DOCUMENT,
        heads: [("storage", heads)].into(),
    };
    let sync = SyncFrame {
        sender: "peer-a",
        target: "rejoin-b",
        document: DOCUMENT,
        is_request: true,
        data: b"data",
    };
    let ephemeral = Ephemeral {
        sender: "peer-a",
        target: "rejoin-b",
        session: "s",
        count: 1 << 40,
        document: DOCUMENT,
        data: b"data",
    };
    vec![
        RepoFrame::Join {
            sender: "peer-a",
            storage: Some("storage"),
            is_ephemeral: false,
            speaks_version_1: true,
        },
        RepoFrame::Peer { sender: "rejoin-b", target: "peer-a", storage: "storage" },
        RepoFrame::Leave { sender: "peer-a" },
        RepoFrame::Error { sender: "rejoin-b", target: "peer-a", message: "why" },
        RepoFrame::Sync(sync),
        RepoFrame::Sync(SyncFrame { is_request: false, ..sync }),
        RepoFrame::DocUnavailable { sender: "rejoin-b", target: "peer-a", document: DOCUMENT },
        RepoFrame::Ephemeral(ephemeral),
        RepoFrame::RemoteSubscriptionChange {
            sender: "peer-a",
            add: vec!["storage"],
            remove: vec!["other"],
        },
        RepoFrame::RemoteHeadsChanged(remote),
    ]
}

#[test]
fn what_is_written_is_read_again() {
    for frame in frames() {
        assert_eq!(RepoFrame::decode(&frame.encode()).unwrap(), frame);
    }
}

/// A join as cbor-x 1.6 writes it: headers of three bytes, and a key whose value is undefined.
#[test]
fn a_join_of_javascript_is_read() {
    let mut bytes = b"\xb9\x00\x04\x64type\x64join\x68senderId\x62p1\x6cpeerMetadata".to_vec();
    bytes.extend_from_slice(b"\xb9\x00\x02\x69storageId\xf7\x6bisEphemeral\xf5");
    bytes.extend_from_slice(b"\x78\x19supportedProtocolVersions\x81\x611");
    let join =
        RepoFrame::Join { sender: "p1", storage: None, is_ephemeral: true, speaks_version_1: true };
    assert_eq!(RepoFrame::decode(&bytes).unwrap(), join);
}

#[test]
fn other_encoders_are_read_too() {
    // A map without a length, metadata under its other name and empty, versions left out.
    let bytes =
        b"\xbf\x68senderId\x62p1\x68metadata\xa0\x64type\x64join\x61x\x82\x01\xa1\x01\x02\xff";
    let join = RepoFrame::Join {
        sender: "p1",
        storage: None,
        is_ephemeral: false,
        speaks_version_1: true,
    };
    assert_eq!(RepoFrame::decode(bytes).unwrap(), join);
    // A count that is a float, and bytes marked as a typed array.
    let document = DOCUMENT.to_string();
    let document = document.trim_start_matches("automerge:");
    let mut bytes = b"\xa7\x64type\x69ephemeral\x68senderId\x61a\x68targetId\x61b".to_vec();
    bytes.extend_from_slice(b"\x69sessionId\x61s\x65count\xfb\x42\x70\x00\x00\x00\x00\x00\x00");
    bytes.extend_from_slice(b"\x64data\xd8\x40\x41\x01\x6adocumentId\x78");
    bytes.push(document.len() as u8);
    bytes.extend_from_slice(document.as_bytes());
    match RepoFrame::decode(&bytes).unwrap() {
        RepoFrame::Ephemeral(it) => assert_eq!((it.count, it.data), (1 << 40, &[1][..])),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_missing_or_too_much_is_named() {
    let error = |bytes: &[u8]| RepoFrame::decode(bytes).unwrap_err();
    assert!(matches!(
        error(b"\xa2\x64type\x64sync\x68senderId\x61a"),
        RepoFrameError::Absent { field: "documentId", .. }
    ));
    assert!(matches!(error(b"\xa1\x64type\x63abc"), RepoFrameError::Kind { .. }));
    let join = b"\xa2\x64type\x64join\x63add\x9a\xff\xff\xff\xff";
    assert!(matches!(error(join), RepoFrameError::Limit { .. }));
    let mut long = b"\xa2\x64type\x64join\x68senderId\x79\x10\x00".to_vec();
    long.extend(std::iter::repeat_n(b'a', 4096));
    assert!(matches!(error(&long), RepoFrameError::Limit { len: 4096, .. }));
    let id = b"\xa4\x64type\x64sync\x68senderId\x61a\x6adocumentId\x61z\x64data\x40";
    assert!(matches!(error(id), RepoFrameError::Id { .. }));
    assert!(matches!(error(&vec![0; (64 << 20) + 1]), RepoFrameError::TooLarge { .. }));
}

/// Messages of Automerge itself, from two documents that sync.
fn messages() -> Vec<Vec<u8>> {
    let mut left = AutoCommit::new();
    for n in 0..40 {
        left.put(ROOT, "n", n).unwrap();
        left.commit();
    }
    let mut right = left.fork();
    left.put(ROOT, "left", true).unwrap();
    left.commit();
    right.put(ROOT, "right", true).unwrap();
    right.commit();
    let (mut of_left, mut of_right) = (State::new(), State::new());
    let mut messages = Vec::new();
    for _ in 0..4 {
        if let Some(message) = left.sync().generate_sync_message(&mut of_left) {
            messages.push(message.clone().encode());
            right.sync().receive_sync_message(&mut of_right, message).unwrap();
        }
        if let Some(message) = right.sync().generate_sync_message(&mut of_right) {
            messages.push(message.clone().encode());
            left.sync().receive_sync_message(&mut of_left, message).unwrap();
        }
    }
    assert_eq!(left.get_heads(), right.get_heads());
    messages
}

#[test]
fn messages_of_automerge_are_read_and_written_as_it_does() {
    for bytes in messages() {
        let message = SyncMessage::decode(&bytes).unwrap();
        let again = message.encode();
        // It says more of what it can do than we say of what we can.
        assert_eq!(again[..again.len() - 1], bytes[..bytes.len() - 1]);
        assert!(Message::decode(&again).is_ok());
    }
}

/// Bytes as they have been since they were first sent.
#[test]
fn the_form_of_a_message_stays() {
    let have = Have {
        last_sync: vec![ChangeHash([2; 32])],
        bloom: Bloom::of([ChangeHash([3; 32])].into_iter()),
    };
    let message = SyncMessage {
        is_v2: true,
        heads: vec![ChangeHash([1; 32])],
        need: vec![],
        have: vec![have],
        changes: vec![b"abc"],
        flags: Some(Flags { sync_reset: false, read_only: true }),
    };
    let mut bytes = vec![0x43, 1];
    bytes.extend([1; 32]);
    bytes.extend([0, 1, 1]);
    bytes.extend([2; 32]);
    // One entry, 10 bits and 7 probes for each: 2 bytes, in which the probes fall on 4 places.
    bytes.extend([5, 1, 10, 7]);
    let bloom = message.encode()[bytes.len()..][..2].to_vec();
    bytes.extend(&bloom);
    bytes.extend([1, 3]);
    bytes.extend(b"abc");
    bytes.extend([2, 2, 0x82]);
    assert_eq!(message.encode(), bytes);
    assert_eq!(Message::decode(&bytes).unwrap().encode(), bytes, "Automerge reads the same");
    assert_eq!(SyncMessage::decode(&bytes).unwrap(), message);
}

#[test]
fn filters_find_all_that_went_in_and_little_else() {
    let hash = |n: u32| {
        let mut hash = [0; 32];
        let mut dice = Dice(u64::from(n) + 1);
        hash.iter_mut().for_each(|byte| *byte = dice.below(256) as u8);
        ChangeHash(hash)
    };
    let bloom = Bloom::of((0..1000).map(hash).collect::<Vec<_>>().into_iter());
    assert!((0..1000).all(|n| bloom.contains(&hash(n))));
    let wrong = (1000..11_000).filter(|n| bloom.contains(&hash(*n))).count();
    assert!((20..250).contains(&wrong), "{wrong} of 10,000");
    assert!(!Bloom::default().contains(&hash(1)));
}

#[test]
fn filters_with_other_parameters_are_refused() {
    for bloom in [&[3, 1, 0, 7][..], &[4, 1, 10, 7, 0], &[5, 1, 10, 8, 0, 0], &[5, 0, 10, 7, 0, 0]]
    {
        let bytes = [&[0x42, 0, 0, 1, 0], bloom, &[0]].concat();
        assert_eq!(SyncMessage::decode(&bytes), Err(SyncMessageError::Bloom), "{bloom:?}");
    }
}

/// Damaged frames and messages, in every place and at random: whatever comes is an error or a
/// message, and a message can be answered.
#[test]
fn no_damage_panics() {
    let runs = 60_000;
    let mut dice = Dice(5);
    let frames: Vec<_> = frames().iter().map(RepoFrame::encode).collect();
    let messages = messages();
    let mut read = 0;
    for run in 0..runs {
        let kinds = if run % 2 == 0 { &frames } else { &messages };
        let mut bytes = kinds[dice.below(kinds.len() as u64) as usize].clone();
        for _ in 0..=dice.below(3) {
            damage(&mut bytes, &mut dice);
        }
        if run % 2 == 0 {
            read += usize::from(RepoFrame::decode(&bytes).is_ok());
        } else if let Ok(message) = SyncMessage::decode(&bytes) {
            read += 1;
            let (graph, orphans) = (ChangeGraph::new(), Orphans::default());
            let mut conversation = Conversation::default();
            conversation.receive(&message, &graph);
            if let Some(owed) = conversation.owed(&graph, &orphans) {
                let answer = conversation.tell(&graph, owed, 0, Vec::new(), false, Takes::Changes);
                assert!(SyncMessage::decode(&answer.encode()).is_ok());
            }
        }
    }
    assert!(read > runs / 12, "only {read} were still messages");
}

fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    if bytes.is_empty() {
        return;
    }
    let at = dice.below(bytes.len() as u64) as usize;
    match dice.below(5) {
        0 => bytes[at] ^= 1 << dice.below(8),
        1 => bytes[at] = dice.below(256) as u8,
        2 => bytes.truncate(at),
        3 => bytes.insert(at, dice.below(256) as u8),
        _ => drop(bytes.remove(at)),
    }
}

/// A count beyond what JavaScript counts would be told to others as a number that they refuse.
#[test]
fn a_count_that_no_float_tells_is_refused() {
    let with_count = |count: u64| {
        let mut bytes =
            b"\xa7\x64type\x69ephemeral\x68senderId\x66peer-a\x68targetId\x66peer-b".to_vec();
        bytes.extend_from_slice(b"\x65count\x1b");
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(
            b"\x69sessionId\x61s\x6adocumentId\x78\x1b6gMHXjsZ5cxdn4qSbgGYYY8CnKK",
        );
        bytes.extend_from_slice(b"\x64data\x44data");
        bytes
    };
    let exact = with_count((1 << 53) - 1);
    let frame = RepoFrame::decode(&exact).unwrap();
    assert_eq!(RepoFrame::decode(&frame.encode()).unwrap(), frame);
    assert!(RepoFrame::decode(&with_count(1 << 53)).is_err());
    assert!(RepoFrame::decode(&with_count(u64::MAX)).is_err());
}
