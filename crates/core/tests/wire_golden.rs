//! The bytes of every frame, frozen. Changing one means a new protocol version.

use minicbor::bytes::ByteVec;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use rejoin_core::wire::*;
use rejoin_core::{
    ChangeHash, CollectionName, DeviceId, DocumentId, Epoch, PeerId, RelayId, SetDigest, ShortHash,
    SpaceName, limits,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn document() -> DocumentId {
    DocumentId([0xd0; 16])
}

fn checkpoint(
    digests: Option<Vec<CollectionDigest>>,
    backfill: Option<Backfill>,
    lost: Option<u64>,
) -> Frame {
    Frame::Checkpoint(Checkpoint { space: 0, position: 301, digests, backfill, lost })
}

fn jobs() -> CollectionName {
    CollectionName::new("jobs").unwrap()
}

fn main_space() -> SpaceName {
    SpaceName::new("main").unwrap()
}

fn chunks() -> Vec<ByteVec> {
    vec![ByteVec::from(vec![1, 2]), ByteVec::from(vec![3])]
}

fn backfill() -> Option<Backfill> {
    Backfill::of(7, 300)
}

fn hello() -> Hello {
    let cursor =
        Cursor { epoch: Epoch([0xe0; 16]), position: 301, backfill: backfill(), scope: None };
    let piece = BegunPiece { kind: PieceOf::Change, position: 299, bytes: 16_384 };
    let begun = Begun { document: document(), through: 298, piece: Some(piece) };
    let wanted = SpaceWanted {
        name: main_space(),
        cursor: Some(cursor),
        holds: true,
        begun: Some(vec![begun]),
    };
    Hello {
        token: Some(ByteVec::from(vec![9])),
        device: DeviceId([0xa0; 16]),
        spaces: vec![wanted],
        pushes: 2,
        app: Some("crew 1".to_owned()),
        identity: Some(ByteVec::from(vec![8])),
        upload: Some(ChangeHash([0xc0; 32])),
        short: None,
        waiting: None,
    }
}

/// A Hello that says no more than it must.
fn first_hello() -> Hello {
    let wanted = SpaceWanted { name: main_space(), cursor: None, holds: false, begun: None };
    Hello {
        token: None,
        device: DeviceId([0xa0; 16]),
        spaces: vec![wanted],
        pushes: 0,
        app: None,
        identity: None,
        upload: None,
        short: None,
        waiting: None,
    }
}

fn welcome() -> Welcome {
    let granted = SpaceGranted {
        epoch: Epoch([0xe0; 16]),
        start: Start::Now,
        access: Access::Write,
        position: 301,
        backfill: backfill(),
        documents: 1000,
        usual: None,
        read: None,
        write: None,
        scope: None,
    };
    Welcome {
        relay: RelayId([0xb0; 16]),
        spaces: vec![granted],
        time_ms: 1_651_363_200_000,
        frame_bytes_max: 1 << 20,
        uploaded: 16_384,
        identity: None,
        carries: None,
    }
}

fn push() -> Push {
    let (space, n, collection) = (0, 1, jobs());
    Push { space, n, document: document(), collection, changes: chunks(), piece: None }
}

fn change_piece() -> ChangePiece {
    let bytes = ByteVec::from(vec![5; 4]);
    ChangePiece { hash: ChangeHash([0xc0; 32]), offset: 16_384, total: 16_388, bytes }
}

fn refused() -> Refused {
    Refused {
        n: 1,
        class: RefusedClass::Missing,
        hashes: vec![ChangeHash([0xc0; 32])],
        heads: vec![ShortHash([0xc1; 8])],
        retry_after_ms: 0,
        reason: "why".to_owned(),
    }
}

fn changes() -> Changes {
    Changes {
        space: 0,
        document: document(),
        collection: Some(jobs()),
        piece: None,
        changes: chunks(),
        position: Some(300),
        more: None,
        step: None,
    }
}

fn piece() -> Piece {
    let bytes = ByteVec::from(vec![5; 4]);
    Piece { kind: PieceOf::Snapshot, position: 300, offset: 0, total: 8, bytes }
}

fn listed() -> Listed {
    Listed { document: document(), heads: ShortHash([0xc1; 8]) }
}

fn want() -> Want {
    let documents = vec![Wanted { document: document(), heads: vec![ShortHash([0xc1; 8])] }];
    Want { space: 0, documents, answers: false }
}

fn presence() -> Presence {
    Presence {
        space: 0,
        document: document(),
        peer: PeerId([0xaa; 16]),
        value: Some(ByteVec::from(vec![6])),
        ttl_ms: 30_000,
    }
}

/// Every frame, with everything it may say and with as little as it may, and its bytes.
fn frames() -> Vec<(Frame, &'static str)> {
    let digest = SetDigest::from_bytes([0xf0; 32]);
    let digests = vec![CollectionDigest { collection: jobs(), digest, documents: 1000 }];
    let part = Changes { piece: Some(piece()), changes: Vec::new(), more: Some(true), ..changes() };
    let short = Changes { collection: None, position: None, step: Some(10), ..changes() };
    let mut short_welcome = welcome();
    short_welcome.spaces[0].usual = Some(jobs());
    let push_piece = Push { changes: Vec::new(), piece: Some(change_piece()), ..push() };
    let symbols = Some(ByteVec::from(vec![7, 8]));
    let bye = Bye { code: ByeCode::Version, message: "done".to_owned(), retry_after_ms: 500 };
    let left = Presence { value: None, ttl_ms: 0, ..presence() };
    vec![
        (Frame::Hello(hello()), HELLO),
        (Frame::Hello(first_hello()), FIRST_HELLO),
        (
            Frame::Hello(Hello { short: Some(true), waiting: Some(12), ..first_hello() }),
            SHORT_HELLO,
        ),
        (Frame::Welcome(welcome()), WELCOME),
        (Frame::Welcome(short_welcome), SHORT_WELCOME),
        (Frame::Push(push()), PUSH),
        (Frame::Push(push_piece), PUSH_PIECE),
        (Frame::Ack(Ack { n: 1 }), "8203a10001"),
        (Frame::Refused(refused()), REFUSED),
        (Frame::Changes(changes()), CHANGES),
        (Frame::Changes(part), CHANGES_PIECE),
        (Frame::Changes(short), CHANGES_SHORT),
        (checkpoint(Some(digests.clone()), None, None), DIGESTS),
        (checkpoint(Some(digests), None, Some(2)), DIGESTS_LOST),
        (checkpoint(None, backfill(), None), CHECKPOINT),
        (Frame::Repair(Repair { space: 0, from: 0, count: 32, symbols }), REPAIR),
        (Frame::Repair(Repair { space: 0, from: 32, count: 32, symbols: None }), REPAIR_QUESTION),
        (Frame::Want(want()), WANT),
        (Frame::Want(Want { documents: Vec::new(), answers: true, ..want() }), WANT_NOTHING),
        (Frame::Presence(presence()), PRESENCE),
        (Frame::Presence(left), PRESENCE_LEFT),
        (Frame::Renew(Renew { token: ByteVec::from(vec![9]) }), "820aa1004109"),
        (Frame::Bye(bye), "820ba300050164646f6e65021901f4"),
        (
            Frame::Listing(Listing { space: 0, backfill: backfill(), documents: None }),
            LISTING_QUESTION,
        ),
        (
            Frame::Listing(Listing { space: 0, backfill: None, documents: Some(vec![listed()]) }),
            LISTING,
        ),
        (Frame::Offer(Offer { space: 0, documents: vec![listed()] }), OFFER),
        (Frame::Nothing(Nothing { space: 0, document: document() }), NOTHING),
        (Frame::Erased(Erased { space: 0, document: document(), collection: jobs() }), ERASED),
    ]
}

const HELLO: &str = "8200a70041090150a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a00281a400646d61696e01a30050e0e0e0 \
    e0e0e0e0e0e0e0e0e0e0e0e0e00119012d02a200070119012c02f50381a30050d0d0d0d0d0d0d0d0 \
    d0d0d0d0d0d0d0d00119012a02a300010119012b0219400003020466637265772031054108065820 \
    c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0";
const FIRST_HELLO: &str = "8200a30150a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a00281a200646d61696e02f40300";
const SHORT_HELLO: &str =
    "8200a50150a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a00281a200646d61696e02f4030007f5080c";
const WELCOME: &str = "8201a50050b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b00181a60050e0e0e0e0e0e0e0e0e0e0e0e0e0e0 \
    e0e0010202020319012d04a200070119012c051903e8021b000001807ceabc00031a001000000419 \
    4000";
const SHORT_WELCOME: &str = "8201a50050b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b00181a70050e0e0e0e0e0e0e0e0e0e0e0e0e0e0 \
    e0e0010202020319012d04a200070119012c051903e806646a6f6273021b000001807ceabc00031a00100000 \
    04194000";
const PUSH: &str = "8202a5000001010250d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d003646a6f627304824201024103";
const PUSH_PIECE: &str = "8202a6000001010250d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d003646a6f6273048005a4005820c0c0 \
    c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c001194000021940040344 \
    05050505";
const REFUSED: &str = "8204a60001010002815820c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0 \
    c0c0c0038148c1c1c1c1c1c1c1c104000563776879";
const CHANGES: &str =
    "8205a500000150d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d002646a6f6273048242010241030519012c";
const CHANGES_PIECE: &str = "8205a700000150d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d002646a6f627303a500000119012c020003 \
    0804440505050504800519012c06f5";
const CHANGES_SHORT: &str = "8205a400000150d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d004824201024103070a";
const DIGESTS: &str = "8206a300000119012d028183646a6f62735820f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0 \
    f0f0f0f0f0f0f0f0f0f0f01903e8";
const DIGESTS_LOST: &str = "8206a400000119012d028183646a6f62735820f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0 \
    f0f0f0f0f0f0f0f0f0f0f01903e80402";
const CHECKPOINT: &str = "8206a300000119012d03a200070119012c";
const REPAIR: &str = "8207a40000010002182003420708";
const REPAIR_QUESTION: &str = "8207a30000011820021820";
const WANT: &str = "8208a3000001818250d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d08148c1c1c1c1c1c1c1c102f4";
const WANT_NOTHING: &str = "8208a30000018002f5";
const PRESENCE: &str = "8209a500000150d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d00250aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa \
    aa03410604197530";
const PRESENCE_LEFT: &str = "8209a400000150d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d00250aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa \
    aa0400";
const LISTING_QUESTION: &str = "820ca2000001a200070119012c";
const LISTING: &str = "820ca2000002818250d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d048c1c1c1c1c1c1c1c1";
const OFFER: &str = "820da2000001818250d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d048c1c1c1c1c1c1c1c1";
const ERASED: &str = "8211a300000150d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d002646a6f6273";
const NOTHING: &str = "820ea200000150d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0";

#[test]
fn frames_are_written_as_ever() {
    for (frame, expected) in frames() {
        let bytes = frame.encode();
        assert_eq!(hex(&bytes), expected.replace([' ', '\n'], ""), "{}", frame.name());
        assert_eq!(Frame::decode(&bytes).unwrap(), Some(frame));
    }
}

#[test]
fn every_frame_is_frozen() {
    let names: std::collections::BTreeSet<_> =
        frames().iter().map(|(frame, _)| frame.name()).collect();
    assert_eq!(names.len(), 16, "{names:?}");
}

/// What `rejoin.v1` said: [11, [{0: 3, 1: text, 2: 3600000}]].
#[test]
fn the_version_before_is_told_to_update_in_its_own_words() {
    let mut expected = hex(&[0x82, 0x0b, 0x81, 0xa3, 0x00, 0x03, 0x01, 0x78]);
    expected += &hex(&[UPDATE.len() as u8]);
    expected += &hex(UPDATE.as_bytes());
    expected += "021a0036ee80";
    assert_eq!(hex(&old_bye()), expected);
    assert_eq!(UPDATE.len(), 75);
    assert!(UPDATE.contains(PROTOCOL) && UPDATE.contains(OLD_PROTOCOL));
    // Golden of a Bye of that version, but for its code, text and time.
    let before = "820b81a300000164646f6e65021901f4";
    assert_eq!(hex(&old_bye())[..8], before[..8]);
    let text = before.replace("0164646f6e65", &format!("01784b{}", hex(UPDATE.as_bytes())));
    let told = text.replace("a30000", "a30003").replace("1901f4", "1a0036ee80");
    assert_eq!(hex(&old_bye()), told);
}

#[test]
fn frames_of_a_later_version_are_passed_over() {
    // 12 to 14 and 17 are taken, 15 and 16 are kept for what is planned.
    for number in [15_u32, 16, 18, 99, u32::MAX] {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes);
        encoder.array(2).unwrap().u32(number).unwrap().map(1).unwrap();
        encoder.u32(0).unwrap().array(2).unwrap().str("new").unwrap().null().unwrap();
        assert_eq!(Frame::decode(&bytes).unwrap(), None, "{number}");
        // Whatever its fields are in.
        let mut listed = Vec::new();
        Encoder::new(&mut listed).array(2).unwrap().u32(number).unwrap().array(0).unwrap();
        assert_eq!(Frame::decode(&listed).unwrap(), None, "{number}");
        // But it must be whole, and all there is.
        assert!(Frame::decode(&bytes[..bytes.len() - 1]).is_err());
        bytes.push(0);
        assert!(matches!(Frame::decode(&bytes), Err(FrameError::Trailing { len: 1 })));
    }
}

/// Adds a field to the outermost map of a frame.
fn with_a_field(frame: &[u8]) -> Vec<u8> {
    let mut decoder = Decoder::new(frame);
    decoder.array().unwrap();
    decoder.u32().unwrap();
    let before = decoder.position();
    let fields = decoder.map().unwrap().unwrap();
    let mut bytes = frame[..before].to_vec();
    let mut encoder = Encoder::new(&mut bytes);
    encoder.map(fields + 1).unwrap();
    let rest = &frame[decoder.position()..];
    bytes.extend_from_slice(rest);
    // Keys of a later version are higher.
    Encoder::new(&mut bytes).u32(77).unwrap().array(1).unwrap().map(1).unwrap().u32(0).unwrap();
    Encoder::new(&mut bytes).str("new").unwrap();
    bytes
}

#[test]
fn fields_of_a_later_version_are_passed_over() {
    for (frame, _) in frames() {
        let later = with_a_field(&frame.encode());
        assert_eq!(Frame::decode(&later).unwrap(), Some(frame));
    }
}

/// Keys are integers from 0 in order, and no field is written that says nothing.
#[test]
fn maps_have_integer_keys_and_no_null() {
    for (frame, _) in frames() {
        let bytes = frame.encode();
        let mut decoder = Decoder::new(&bytes);
        let array = decoder.datatype().unwrap();
        assert_eq!(array, Type::Array);
        walk(&mut decoder, frame.name());
        assert_eq!(decoder.position(), bytes.len());
    }
}

fn walk(decoder: &mut Decoder<'_>, name: &str) {
    match decoder.datatype().unwrap() {
        Type::Array => {
            for _ in 0..decoder.array().unwrap().expect("of a known length") {
                walk(decoder, name);
            }
        }
        Type::Map => {
            let mut last = None;
            for _ in 0..decoder.map().unwrap().expect("of a known length") {
                let key = Some(decoder.u32().expect("an integer key"));
                assert!(last < key, "{name}: {key:?} after {last:?}");
                last = key;
                walk(decoder, name);
            }
        }
        Type::Null | Type::Undefined => panic!("{name} has a field that says nothing"),
        _ => decoder.skip().unwrap(),
    }
}

#[test]
fn codes_of_a_later_version_read_as_what_asks_least() {
    let later = |frame: Frame, from: &str, to: &str| {
        let text = hex(&frame.encode());
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        let text = text.replace(from, to);
        let bytes: Vec<u8> = (0..text.len() / 2)
            .map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap())
            .collect();
        Frame::decode(&bytes).unwrap().expect("a frame that is known")
    };
    // Start and access, which are keys 1 and 2 of a space.
    let Frame::Welcome(told) = later(Frame::Welcome(welcome()), "01020202", "0118630218c8") else {
        panic!("a Welcome")
    };
    assert_eq!((told.spaces[0].start, told.spaces[0].access), (Start::Now, Access::None));
    let Frame::Refused(told) = later(Frame::Refused(refused()), "00010100", "0001011863") else {
        panic!("a refusal")
    };
    assert_eq!(told.class, RefusedClass::Later);
    let bye = Bye { code: ByeCode::Version, message: String::new(), retry_after_ms: 500 };
    let Frame::Bye(told) = later(Frame::Bye(bye), "a30005", "a3001863") else { panic!("a Bye") };
    assert_eq!((told.code, told.retry_after_ms), (ByeCode::Stopping, 500));
    let part = Changes { piece: Some(piece()), ..changes() };
    let Frame::Changes(told) = later(Frame::Changes(part), "a5000001", "a500186301") else {
        panic!("changes")
    };
    let told = told.piece.unwrap();
    assert_eq!((told.kind, told.position, told.total), (PieceOf::Unknown, 300, 8));
}

#[test]
fn what_is_not_a_frame_is_an_error() {
    for (frame, _) in frames() {
        let bytes = frame.encode();
        for end in 0..bytes.len() {
            assert!(Frame::decode(&bytes[..end]).is_err(), "{} cut at {end}", frame.name());
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(matches!(Frame::decode(&longer), Err(FrameError::Trailing { len: 1 })));
    }
    let large = vec![0; limits::FRAME_BYTES_MAX + 1];
    assert!(matches!(Frame::decode(&large), Err(FrameError::TooLarge { .. })));
    // An array that claims 2^32 - 1 entries, where a push has its changes.
    let mut bomb = vec![0x82, 0x02, 0xa1, 0x04, 0x9a];
    bomb.extend([0xff; 4]);
    assert!(Frame::decode(&bomb).is_err());
    let deep = [0x81; 5_000];
    assert!(Frame::decode(&deep).is_err());
    // Deep in what would be passed over.
    let deep = [&[0x82, 0x18, 0x63][..], &[0x81; 100_000]].concat();
    assert!(Frame::decode(&deep).is_err());
    assert!(Frame::decode(b"GET / HTTP/1.1").is_err());
    // A frame of the version before.
    assert!(matches!(Frame::decode(&old_bye()), Err(FrameError::Malformed(_))));
    assert!(Frame::decode(&[0x82, 0x03, 0x81, 0xa1, 0x00, 0x01]).is_err());
}

fn over(frame: Frame) -> &'static str {
    match Frame::decode(&frame.encode()) {
        Err(FrameError::Limit { what, len, max }) => {
            assert_eq!(len, max + 1, "{what}");
            what
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn counts_over_their_limits_are_refused() {
    let spaces = |count: usize| -> Vec<_> {
        let named = (0..count).map(|n| SpaceName::new(format!("space-{n}")).unwrap());
        named.map(|name| SpaceWanted { name, cursor: None, holds: false, begun: None }).collect()
    };
    let bytes = |len: usize| ByteVec::from(vec![0; len]);
    let text = |len: usize| "x".repeat(len);
    let many = spaces(limits::SESSION_SPACES_MAX + 1);
    assert_eq!(over(Frame::Hello(Hello { spaces: many, ..first_hello() })), "spaces");
    let token = Some(bytes(limits::TOKEN_BYTES_MAX + 1));
    assert_eq!(over(Frame::Hello(Hello { token, ..first_hello() })), "token bytes");
    let app = Some(text(limits::REASON_BYTES_MAX + 1));
    assert_eq!(over(Frame::Hello(Hello { app, ..first_hello() })), "app bytes");
    let identity = Some(bytes(limits::MESSAGE_BYTES_MAX + 1));
    assert_eq!(over(Frame::Hello(Hello { identity, ..first_hello() })), "identity bytes");
    let begun = Begun { document: document(), through: 0, piece: None };
    let mut spaces = spaces(2);
    spaces[1].begun = Some(vec![begun; limits::BEGUN_MAX + 1]);
    assert_eq!(over(Frame::Hello(Hello { spaces, ..first_hello() })), "documents begun");

    let spaces = vec![welcome().spaces.remove(0); limits::SESSION_SPACES_MAX + 1];
    assert_eq!(over(Frame::Welcome(Welcome { spaces, ..welcome() })), "spaces");
    let chunks = vec![bytes(0); limits::FRAME_CHANGES_MAX + 1];
    assert_eq!(over(Frame::Push(Push { changes: chunks.clone(), ..push() })), "changes");
    assert_eq!(over(Frame::Changes(Changes { changes: chunks, ..changes() })), "changes");
    let hashes = vec![ChangeHash([0; 32]); limits::FRAME_CHANGES_MAX + 1];
    assert_eq!(over(Frame::Refused(Refused { hashes, ..refused() })), "hashes");
    let heads = vec![ShortHash([0; 8]); limits::HEADS_MAX + 1];
    assert_eq!(over(Frame::Refused(Refused { heads: heads.clone(), ..refused() })), "heads");
    let reason = text(limits::REASON_BYTES_MAX + 1);
    assert_eq!(over(Frame::Refused(Refused { reason, ..refused() })), "reason bytes");
    let count = limits::REPAIR_SYMBOLS_MAX + 1;
    assert_eq!(over(Frame::Repair(Repair { space: 0, from: 0, count, symbols: None })), "symbols");
    let documents = vec![Wanted { document: document(), heads }];
    assert_eq!(over(Frame::Want(Want { documents, ..want() })), "heads");
    let wanted = Wanted { document: document(), heads: Vec::new() };
    let documents = vec![wanted; limits::WANT_DOCUMENTS_MAX + 1];
    assert_eq!(over(Frame::Want(Want { documents, ..want() })), "documents");
    let documents = vec![listed(); limits::WANT_DOCUMENTS_MAX + 1];
    let offer = Offer { space: 0, documents: documents.clone() };
    assert_eq!(over(Frame::Offer(offer)), "documents");
    let listing = Listing { space: 0, backfill: None, documents: Some(documents) };
    assert_eq!(over(Frame::Listing(listing)), "documents");
    let value = Some(bytes(limits::PRESENCE_BYTES_MAX + 1));
    assert_eq!(over(Frame::Presence(Presence { value, ..presence() })), "presence bytes");
    let token = bytes(limits::TOKEN_BYTES_MAX + 1);
    assert_eq!(over(Frame::Renew(Renew { token })), "token bytes");
    let message = text(limits::REASON_BYTES_MAX + 1);
    let bye = Bye { code: ByeCode::Stopping, message, retry_after_ms: 0 };
    assert_eq!(over(Frame::Bye(bye)), "reason bytes");
}

#[test]
fn nothing_is_named_twice_in_one_frame() {
    let twice = |frame: Frame| match Frame::decode(&frame.encode()) {
        Err(FrameError::Repeated { what }) => what,
        other => panic!("{other:?}"),
    };
    let wanted = want().documents;
    let documents = [wanted.clone(), wanted].concat();
    assert_eq!(twice(Frame::Want(Want { documents, ..want() })), "a document");
    let documents = vec![listed(), listed()];
    assert_eq!(twice(Frame::Offer(Offer { space: 0, documents })), "a document");
    let space = hello().spaces.remove(0);
    let spaces = vec![space.clone(), space.clone()];
    assert_eq!(twice(Frame::Hello(Hello { spaces, ..hello() })), "a space");
    let begun = space.begun.clone().map(|begun| [begun.clone(), begun].concat());
    let spaces = vec![SpaceWanted { begun, ..space }];
    assert_eq!(twice(Frame::Hello(Hello { spaces, ..hello() })), "a document");
}

#[test]
fn a_backfill_of_nothing_is_none() {
    assert_eq!(Backfill::of(3, 3), None);
    assert_eq!(Backfill::of(4, 3), None);
    let one = Backfill::of(3, 4).unwrap();
    assert!(!one.contains(3) && one.contains(4) && !one.contains(5));
}

/// One frame per file, from which fuzzing starts.
#[test]
fn the_seeds_of_fuzzing_are_frames_of_this_version() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/seeds/frame");
    let mut names = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        let frame = Frame::decode(&std::fs::read(file.path()).unwrap()).unwrap();
        let frame = frame.unwrap_or_else(|| panic!("{:?} is not known", file.path()));
        assert!(file.file_name().to_string_lossy().starts_with(frame.name()));
        names.insert(frame.name());
    }
    assert_eq!(names.len(), 16, "{names:?}");
}
