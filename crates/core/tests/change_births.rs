//! Genesis and birth changes: frozen bytes, which Automerge would write too, and one container for
//! all who make it.

mod change_support;

use std::num::NonZeroU64;

use automerge::legacy::{self, Key, Op, OpType};
use automerge::transaction::{CommitOptions, Transactable};
use automerge::{
    ActorId as AmActor, AutoCommit, Automerge, Change as AmChange, ExpandedChange, ObjId, ObjType,
    ReadDoc, ScalarValue,
};
use change_support::*;
use rejoin_core::change::{
    ACTOR_PREFIX, Birth, ContainerKind, Conversion, ObjectId, RESERVED_ACTOR_BYTES, genesis,
    genesis_actor, genesis_hash, parse,
};
use rejoin_core::{ActorId, DocumentId, Genesis};

const KINDS: [ContainerKind; 4] =
    [ContainerKind::Text, ContainerKind::List, ContainerKind::Map, ContainerKind::Counter];

fn random_document() -> DocumentId {
    DocumentId::from_random([7; 16])
}

/// A birth in the root of a document that has only its genesis.
fn first_birth(document: DocumentId, from: Option<&Genesis>, kind: ContainerKind) -> Birth {
    Birth {
        document,
        parent: ObjectId::Root,
        key: "notes".into(),
        kind,
        maker: genesis_hash(&document, from),
        maker_max_op: 0,
    }
}

/// A birth in what another birth made.
fn born_in(parent: &Birth, key: &str, kind: ContainerKind) -> Birth {
    Birth {
        document: parent.document,
        parent: parent.object(),
        key: key.into(),
        kind,
        maker: parent.hash(),
        maker_max_op: parent.start_op(),
    }
}

/// The same birth by way of Automerge.
fn as_automerge_writes(birth: &Birth) -> AmChange {
    let action = match birth.kind {
        ContainerKind::Text => OpType::Make(ObjType::Text),
        ContainerKind::List => OpType::Make(ObjType::List),
        ContainerKind::Map => OpType::Make(ObjType::Map),
        ContainerKind::Counter => OpType::Put(ScalarValue::counter(0)),
    };
    let obj = match &birth.parent {
        ObjectId::Root => legacy::ObjectId::Root,
        ObjectId::Op { counter, actor } => {
            legacy::ObjectId::Id(legacy::OpId::new(*counter, &AmActor::from(actor.0.clone())))
        }
    };
    let key = Key::Map(birth.key.as_str().into());
    let op = Op { action, obj, key, pred: Vec::new().into(), insert: false };
    expanded(&birth.actor(), birth.start_op(), vec![am(birth.maker)], None, vec![op])
}

fn expanded(
    actor: &ActorId,
    start_op: u64,
    deps: Vec<automerge::ChangeHash>,
    message: Option<String>,
    operations: Vec<Op>,
) -> AmChange {
    AmChange::from(ExpandedChange {
        operations,
        actor_id: AmActor::from(actor.0.clone()),
        author: None,
        hash: None,
        seq: 1,
        start_op: NonZeroU64::new(start_op).unwrap(),
        time: 0,
        message,
        deps,
        extra_bytes: vec![],
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_genesis_is_what_automerge_writes() {
    let (memory, key) = Memory::derived("2026-118");
    for (document, from) in [(memory.document, Some(&key)), (random_document(), None)] {
        let message = from.map(Genesis::to_string);
        let theirs = expanded(&genesis_actor(&document), 1, vec![], message, vec![]);
        assert_eq!(genesis(&document, from), theirs.raw_bytes());
        assert_eq!(genesis_hash(&document, from).0, theirs.hash().0);
    }
}

#[test]
fn a_birth_is_what_automerge_writes() {
    for kind in KINDS {
        let mut birth = first_birth(random_document(), None, kind);
        for key in ["", "ümläut", &"long ".repeat(200)] {
            birth.key = key.into();
            assert_written_alike(&birth);
        }
        let map = first_birth(random_document(), None, ContainerKind::Map);
        assert_written_alike(&born_in(&map, "inner", kind));
        let actor = ActorId(vec![3; 64]);
        let parent = ObjectId::Op { counter: 70_000, actor };
        assert_written_alike(&Birth { parent, maker_max_op: 80_000, ..birth });
    }
}

fn assert_written_alike(birth: &Birth) {
    let theirs = as_automerge_writes(birth);
    assert_eq!(hex(&birth.encode()), hex(theirs.raw_bytes()));
    assert_eq!(birth.hash().0, theirs.hash().0);
    assert!(parse(&birth.encode()).unwrap().is_birth());
    assert_eq!(parse(&birth.encode()).unwrap().max_op(), birth.start_op());
}

/// Frozen: another byte here is another document on every device already out there.
#[test]
fn the_bytes_are_golden() {
    let (memory, key) = Memory::derived("2026-118");
    let birth = |kind| first_birth(memory.document, Some(&key), kind);
    let map = birth(ContainerKind::Map);
    let golden = [
        ("genesis", genesis(&memory.document, Some(&key))),
        ("genesis, random id", genesis(&random_document(), None)),
        ("text", birth(ContainerKind::Text).encode()),
        ("list", birth(ContainerKind::List).encode()),
        ("map", map.encode()),
        ("counter", birth(ContainerKind::Counter).encode()),
        ("text in map", born_in(&map, "inner", ContainerKind::Text).encode()),
    ];
    let written: String =
        golden.iter().map(|(name, bytes)| format!("{name}: {}\n", hex(bytes))).collect();
    assert_eq!(written, include_str!("change_support/births.golden"));
}

#[test]
fn actors_are_reserved_and_differ() {
    let document = random_document();
    let mut actors = vec![genesis_actor(&document), genesis_actor(&DocumentId([0; 16]))];
    for kind in KINDS {
        let birth = first_birth(document, None, kind);
        actors.push(Birth { key: "note".into(), ..birth.clone() }.actor());
        actors.push(Birth { document: DocumentId([0; 16]), ..birth.clone() }.actor());
        actors.push(born_in(&birth, "notes", kind).actor());
        actors.push(birth.actor());
    }
    let count = actors.len();
    actors.sort();
    actors.dedup();
    assert_eq!(actors.len(), count);
    for actor in actors {
        assert_eq!(actor.0.len(), RESERVED_ACTOR_BYTES);
        assert!(actor.0.starts_with(&ACTOR_PREFIX));
    }
}

#[test]
fn automerge_keeps_a_change_without_operations() {
    let (memory, key) = Memory::derived("2026-118");
    let mut doc = Automerge::new();
    doc.apply_changes([automerge_change(&genesis(&memory.document, Some(&key)))]).unwrap();
    let doc = reloaded(&doc);
    assert_eq!(doc.get_heads(), [am(genesis_hash(&memory.document, Some(&key)))]);
    let kept = doc.get_changes(&[]);
    assert_eq!(kept[0].raw_bytes(), genesis(&memory.document, Some(&key)));
}

fn automerge_change(chunk: &[u8]) -> AmChange {
    AmChange::from_bytes(chunk.to_vec()).unwrap()
}

fn reloaded(doc: &Automerge) -> Automerge {
    let loaded = Automerge::load(&doc.save()).unwrap();
    assert_eq!(loaded.get_heads(), doc.get_heads());
    loaded
}

/// A device, offline from the first moment, that makes what it needs.
struct Device {
    doc: AutoCommit,
    document: DocumentId,
    genesis: Genesis,
}

impl Device {
    fn new(name: u8) -> Self {
        let (memory, from) = Memory::derived("2026-118");
        let mut device = Self { doc: device(name), document: memory.document, genesis: from };
        device.apply(&genesis(&device.document, Some(&device.genesis)));
        device
    }

    fn birth(&self, key: &str, kind: ContainerKind) -> Birth {
        Birth { key: key.into(), ..first_birth(self.document, Some(&self.genesis), kind) }
    }

    fn apply(&mut self, chunk: &[u8]) {
        self.doc.apply_changes([automerge_change(chunk)]).unwrap();
    }

    fn make(&mut self, birth: &Birth) -> ObjId {
        self.apply(&birth.encode());
        let ObjectId::Op { counter, actor } = birth.object() else { panic!("a birth is an op") };
        self.doc.import(&format!("{counter}@{actor}")).unwrap().0
    }

    /// Unrelated edits, so that devices are at different counters.
    fn edit(&mut self, edits: usize) {
        for n in 0..edits {
            self.doc.put(automerge::ROOT, format!("key {n}"), n as i64).unwrap();
            self.doc.commit();
        }
    }

    /// First use of a text, a counter and a text three maps down.
    fn use_everything(&mut self, name: &str, count: i64) {
        let notes = self.make(&self.birth("notes", ContainerKind::Text));
        self.doc.splice_text(&notes, 0, 0, name).unwrap();
        self.apply(&self.birth("visits", ContainerKind::Counter).encode());
        self.doc.increment(automerge::ROOT, "visits", count).unwrap();
        let site = self.birth("site", ContainerKind::Map);
        let boiler = born_in(&site, "boiler", ContainerKind::Map);
        let parts = born_in(&boiler, "parts", ContainerKind::Map);
        let remarks = born_in(&parts, "remarks", ContainerKind::Text);
        for map in [&site, &boiler, &parts] {
            self.make(map);
        }
        let remarks = self.make(&remarks);
        self.doc.splice_text(&remarks, 0, 0, name).unwrap();
        self.doc.put(automerge::ROOT, name, true).unwrap();
        self.doc.commit_with(CommitOptions::default().with_message(name));
    }
}

#[test]
fn what_two_devices_make_offline_is_one_container() {
    let (mut alice, mut bob) = (Device::new(1), Device::new(2));
    alice.edit(5);
    bob.edit(17);
    alice.use_everything("alice", 2);
    bob.use_everything("bob", 3);
    let mut one = alice.doc.fork();
    one.merge(&mut bob.doc).unwrap();
    bob.doc.merge(&mut alice.doc).unwrap();
    let mut loaded = AutoCommit::load(&one.save()).unwrap();
    for doc in [&mut one, &mut bob.doc, &mut loaded] {
        assert_holds_both(doc);
    }
}

fn assert_holds_both(doc: &mut AutoCommit) {
    assert_eq!(doc.get_all(automerge::ROOT, "notes").unwrap().len(), 1);
    assert_eq!(doc.get_all(automerge::ROOT, "visits").unwrap().len(), 1);
    let visits = doc.get(automerge::ROOT, "visits").unwrap().unwrap().0;
    assert_eq!(visits.as_i64(), Some(5));
    let mut map = automerge::ROOT;
    for key in ["site", "boiler", "parts"] {
        assert_eq!(doc.get_all(&map, key).unwrap().len(), 1);
        map = doc.get(&map, key).unwrap().unwrap().1;
    }
    for (map, key) in [(automerge::ROOT, "notes"), (map, "remarks")] {
        let text = doc.text(doc.get(&map, key).unwrap().unwrap().1).unwrap();
        assert!(text.contains("alice") && text.contains("bob"), "{text}");
    }
}

#[test]
fn making_it_again_changes_nothing() {
    let mut device = Device::new(1);
    device.use_everything("alice", 1);
    let heads = device.doc.get_heads();
    device.apply(&genesis(&device.document, Some(&device.genesis)));
    device.apply(&device.birth("notes", ContainerKind::Text).encode());
    device.apply(&device.birth("visits", ContainerKind::Counter).encode());
    assert_eq!(device.doc.get_heads(), heads);
}

/// Different kinds at one key are a conflict that can be seen, not changes that cannot be merged.
#[test]
fn devices_that_disagree_about_the_kind_still_merge() {
    let (mut alice, mut bob) = (Device::new(1), Device::new(2));
    alice.make(&alice.birth("notes", ContainerKind::Text));
    bob.make(&bob.birth("notes", ContainerKind::List));
    alice.doc.merge(&mut bob.doc).unwrap();
    assert_eq!(alice.doc.get_all(automerge::ROOT, "notes").unwrap().len(), 2);
    reloaded(alice.doc.document());
}

/// A value that somebody wrote as the first thing in a document, and what becomes of it.
fn conversion(parent: ObjectId, value: &str) -> (Automerge, Conversion) {
    let document = random_document();
    let mut doc = Automerge::new();
    let first = AmChange::from_bytes(genesis(&document, None)).unwrap();
    doc.apply_changes([first]).unwrap();
    let parent_id = match &parent {
        ObjectId::Root => ObjId::Root,
        ObjectId::Op { .. } => {
            let maker = genesis_hash(&document, None);
            let birth = Birth {
                document,
                parent: ObjectId::Root,
                key: "address".into(),
                kind: ContainerKind::Map,
                maker,
                maker_max_op: 0,
            };
            doc.apply_changes([AmChange::from_bytes(birth.encode()).unwrap()]).unwrap();
            let (_, id) = doc.get(automerge::ROOT, "address").unwrap().unwrap();
            id
        }
    };
    let parent = match &parent_id {
        ObjId::Root => ObjectId::Root,
        ObjId::Id(counter, actor, _) => {
            ObjectId::Op { counter: *counter, actor: ActorId(actor.to_bytes().to_vec()) }
        }
    };
    doc.set_actor(AmActor::from(&[9; 16][..]));
    let mut transaction = doc.transaction();
    transaction.put(automerge::ROOT, "before", 1).unwrap();
    transaction.put(&parent_id, "notes", value).unwrap();
    transaction.commit_with(CommitOptions::default().with_time(7));
    let (_, op) = doc.get(&parent_id, "notes").unwrap().unwrap();
    let ObjId::Id(counter, actor, _) = &op else { panic!("an operation: {op}") };
    let maker = doc.hash_for_opid(&op).unwrap();
    let maker_max_op = doc.get_change_meta_by_hash(&maker).unwrap().max_op;
    let conversion = Conversion {
        document,
        parent,
        key: "notes".into(),
        replaces: (*counter, ActorId(actor.to_bytes().to_vec())),
        value: value.into(),
        maker: rejoin_core::ChangeHash(maker.0),
        maker_max_op,
    };
    (doc, conversion)
}

/// What conversions are tried on: nothing, runs of one byte, and characters of every length.
const VALUES: [&str; 6] = ["", "a", "aab", "Gate code 4711. ", "Größe 水🛠️ e\u{301}", "ÄÄÄa"];

#[test]
fn conversions_are_what_automerge_would_write() {
    let somewhere = ObjectId::Op { counter: 0, actor: ActorId(Vec::new()) };
    for (parent, value) in
        [ObjectId::Root, somewhere].iter().flat_map(|at| VALUES.map(|it| (at, it)))
    {
        let (doc, conversion) = conversion(parent.clone(), value);
        let mut other = doc.fork();
        other.set_actor(AmActor::from(conversion.actor().0.as_slice()));
        let (_, map) = match &conversion.parent {
            ObjectId::Root => (None, ObjId::Root),
            ObjectId::Op { .. } => {
                let (found, id) = other.get(automerge::ROOT, "address").unwrap().unwrap();
                (Some(found), id)
            }
        };
        let mut transaction = other.transaction();
        let text = transaction.put_object(&map, "notes", ObjType::Text).unwrap();
        transaction.splice_text(&text, 0, 0, value).unwrap();
        let (hash, _) = transaction.commit_with(CommitOptions::default().with_time(0));
        let written = other.get_change_by_hash(&hash.unwrap()).unwrap();
        assert_eq!(written.raw_bytes(), conversion.encode(), "{value:?}");
        assert_eq!(written.hash().0, conversion.hash().0);
        // What it says passes the guard, and is read by anybody as the value it was.
        let parsed = parse(&conversion.encode()).unwrap();
        assert!(parsed.is_conversion() && !parsed.is_birth());
        assert_eq!(parsed.ops(), conversion.ops());
        let mut here = doc.fork();
        here.apply_changes([AmChange::from_bytes(conversion.encode()).unwrap()]).unwrap();
        let (_, text) = here.get(&map, "notes").unwrap().unwrap();
        assert_eq!(here.text(&text).unwrap(), value);
        Automerge::load(&here.save()).unwrap();
    }
}

/// Frozen: other bytes would be another change, and devices of two versions would part.
#[test]
fn conversions_have_these_bytes_for_ever() {
    let conversion = Conversion {
        document: DocumentId([1; 16]),
        parent: ObjectId::Op { counter: 3, actor: ActorId(vec![2; 16]) },
        key: "notes".into(),
        replaces: (5, ActorId(vec![1; 16])),
        value: "Größe 11".into(),
        maker: rejoin_core::ChangeHash([3; 32]),
        maker_max_op: 6,
    };
    let hex: String = conversion.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, CONVERSION);
}

const CONVERSION: &str = "856f4a83a8be512b01b2010103030303030303030303030303030303030303030303030303030303\
     030303031400726a014f94c5934ce78d45b958c29b48f9b665010700000210010101010101010101\
     0101010101010110020202020202020202020202020202020c010402041104130715093402420456\
     08570a7004710273027f0208007f0308070002070000017e000806017f056e6f746573000801087f\
     0408017f000216022604164772c3b6c39f652031317f0108007f017f05";
