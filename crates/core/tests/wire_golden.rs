//! The bytes of every frame, frozen. Changing one means a new protocol version.

use minicbor::bytes::ByteVec;
use rejoin_core::wire::*;
use rejoin_core::{
    ChangeHash, CollectionName, DeviceId, DocumentId, Epoch, PeerId, RelayId, SetDigest, ShortHash,
    SpaceName, limits,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn golden(frame: Frame, expected: &str) {
    let bytes = frame.encode();
    assert_eq!(hex(&bytes), expected.replace([' ', '\n'], ""), "{}", frame.name());
    assert_eq!(Frame::decode(&bytes).unwrap(), frame);
}

fn document() -> DocumentId {
    DocumentId([0xd0; 16])
}

fn jobs() -> CollectionName {
    CollectionName::new("jobs").unwrap()
}

fn chunks() -> Vec<ByteVec> {
    vec![ByteVec::from(vec![1, 2]), ByteVec::from(vec![3])]
}

#[test]
fn frames_are_written_as_ever() {
    let cursor = Cursor { epoch: Epoch([0xe0; 16]), position: 300 };
    let main = SpaceName::new("main").unwrap();
    let wanted = SpaceWanted { name: main, cursor: Some(cursor), holds: true };
    let hello = Hello {
        token: Some(ByteVec::from(vec![9])),
        device: DeviceId([0xa0; 16]),
        spaces: vec![wanted],
        pushes: 2,
    };
    golden(Frame::Hello(hello), GOLDEN[0]);
    let granted =
        SpaceGranted { epoch: Epoch([0xe0; 16]), start: Start::Now, access: Access::Write };
    let welcome = Welcome {
        relay: RelayId([0xb0; 16]),
        spaces: vec![granted],
        time_ms: 1_651_363_200_000,
        frame_bytes_max: 1 << 20,
    };
    golden(Frame::Welcome(welcome), GOLDEN[1]);
    let push = Push { space: 0, n: 1, document: document(), collection: jobs(), changes: chunks() };
    golden(Frame::Push(push), GOLDEN[2]);
    golden(Frame::Ack(Ack { n: 1 }), GOLDEN[3]);
    let refused = Refused {
        n: 1,
        class: RefusedClass::Missing,
        hashes: vec![ChangeHash([0xc0; 32])],
        heads: vec![ShortHash([0xc1; 8])],
        retry_after_ms: 0,
        reason: "why".to_owned(),
    };
    golden(Frame::Refused(refused), GOLDEN[4]);
    let part = SnapshotPart { offset: 0, total: 4, bytes: ByteVec::from(vec![5; 4]) };
    let changes = Changes {
        space: 0,
        document: document(),
        collection: jobs(),
        snapshot: Some(part),
        changes: chunks(),
        position: None,
    };
    golden(Frame::Changes(changes.clone()), GOLDEN[5]);
    let told = Changes { position: Some(300), ..changes };
    let bytes = Frame::Changes(told.clone()).encode();
    assert_eq!(bytes[bytes.len() - 4..], [0x05, 0x19, 0x01, 0x2c], "position is key 5");
    assert_eq!(Frame::decode(&bytes).unwrap(), Frame::Changes(told));
    let digest = SetDigest::from_bytes([0xf0; 32]);
    let digests = Some(vec![CollectionDigest { collection: jobs(), digest }]);
    golden(Frame::Checkpoint(Checkpoint { space: 0, position: 301, digests }), GOLDEN[6]);
    let symbols = Some(ByteVec::from(vec![7, 8]));
    golden(Frame::Repair(Repair { space: 0, from: 0, count: 32, symbols }), GOLDEN[7]);
    let documents = vec![Wanted { document: document(), heads: vec![ShortHash([0xc1; 8])] }];
    golden(Frame::Want(Want { space: 0, documents }), GOLDEN[8]);
    let presence = Presence {
        space: 0,
        document: document(),
        peer: PeerId([0xaa; 16]),
        value: Some(ByteVec::from(vec![6])),
        ttl_ms: 30_000,
    };
    golden(Frame::Presence(presence), GOLDEN[9]);
    golden(Frame::Renew(Renew { token: ByteVec::from(vec![9]) }), GOLDEN[10]);
    let bye = Bye { code: ByeCode::Stopping, message: "done".to_owned(), retry_after_ms: 500 };
    golden(Frame::Bye(bye), GOLDEN[11]);
}

const GOLDEN: [&str; 12] = [
    // Hello
    "820081a40041090150a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a00281a300646d61696e01a20050e0e0e0e0 \
     e0e0e0e0e0e0e0e0e0e0e0e00119012c02f50302",
    // Welcome
    "820181a40050b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b00181a30050e0e0e0e0e0e0e0e0e0e0e0e0e0e0e0 \
     e001020202021b000001807ceabc00031a00100000",
    // Push
    "820281a5000001010250d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d003646a6f627304824201024103",
    // Ack
    "820381a10001",
    // Refused
    "820481a60001010002815820c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0 \
     c0c0038148c1c1c1c1c1c1c1c104000563776879",
    // Changes
    "820581a500000150d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d002646a6f627303a300000104024405050505 \
     04824201024103",
    // Checkpoint
    "820681a300000119012d028182646a6f62735820f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0 \
     f0f0f0f0f0f0f0f0f0f0",
    // Repair
    "820781a40000010002182003420708",
    // Want
    "820881a2000001818250d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d08148c1c1c1c1c1c1c1c1",
    // Presence
    "820981a500000150d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d00250aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa \
     03410604197530",
    // Renew
    "820a81a1004109",
    // Bye
    "820b81a300000164646f6e65021901f4",
];

#[test]
fn unknown_fields_are_ignored_and_unknown_frames_are_not() {
    // [3, [{0: 1, 9: "new"}]]
    let newer = [0x82, 0x03, 0x81, 0xa2, 0x00, 0x01, 0x09, 0x63, b'n', b'e', b'w'];
    assert_eq!(Frame::decode(&newer).unwrap(), Frame::Ack(Ack { n: 1 }));
    let unknown = [0x82, 0x18, 0x63, 0x81, 0xa0];
    assert!(matches!(Frame::decode(&unknown), Err(FrameError::Malformed(_))));
}

#[test]
fn what_is_not_a_frame_is_an_error() {
    let ack = Frame::Ack(Ack { n: 1 }).encode();
    for end in 0..ack.len() {
        assert!(Frame::decode(&ack[..end]).is_err(), "cut at {end}");
    }
    let longer = [ack.as_slice(), &[0]].concat();
    assert!(matches!(Frame::decode(&longer), Err(FrameError::Trailing { len: 1 })));
    let large = vec![0; limits::FRAME_BYTES_MAX + 1];
    assert!(matches!(Frame::decode(&large), Err(FrameError::TooLarge { .. })));
    // An array that claims 2^32 - 1 entries, where a push has its changes.
    let mut bomb = vec![0x82, 0x02, 0x81, 0xa1, 0x04, 0x9a];
    bomb.extend([0xff; 4]);
    assert!(Frame::decode(&bomb).is_err());
    let deep = [0x81; 5_000];
    assert!(Frame::decode(&deep).is_err());
    assert!(Frame::decode(b"GET / HTTP/1.1").is_err());
}

#[test]
fn counts_over_their_limits_are_refused() {
    let hello = Hello {
        token: None,
        device: DeviceId([0; 16]),
        spaces: (0..=limits::SESSION_SPACES_MAX)
            .map(|n| SpaceWanted {
                name: SpaceName::new(format!("space-{n}")).unwrap(),
                cursor: None,
                holds: false,
            })
            .collect(),
        pushes: 0,
    };
    let error = Frame::decode(&Frame::Hello(hello).encode()).unwrap_err();
    assert!(matches!(error, FrameError::Limit { what: "spaces", .. }), "{error}");
}
