//! What may follow a document's history, and what may not.

mod change_support;

use change_support::*;
use rejoin_core::change::{
    Admission, Birth, Change, ContainerKind, ObjectId, Refusal, genesis, genesis_actor,
    genesis_hash, parse,
};
use rejoin_core::{ChangeHash, DocumentId, Genesis};

fn sound(raw: &Raw) -> Change {
    parse(&raw.chunk()).unwrap()
}

/// A random document with one change by actor `aa..`, and that change.
fn started() -> (Memory, Change) {
    let mut memory = Memory::of(DocumentId::from_random([1; 16]));
    let first = sound(&Raw::default());
    assert_eq!(memory.admit(&first), Ok(Admission::New));
    (memory, first)
}

fn second(first: &Change) -> Raw {
    Raw { seq: 2, start_op: 2, deps: vec![first.hash().0], ..Raw::default() }
}

#[test]
fn a_change_is_new_and_then_known() {
    let (mut memory, first) = started();
    let second = sound(&second(&first));
    assert_eq!(memory.admit(&second), Ok(Admission::New));
    assert_eq!(memory.admit(&second), Ok(Admission::Known));
    assert_eq!(memory.admit(&first), Ok(Admission::Known));
}

#[test]
fn missing_dependencies_are_listed() {
    let (mut memory, first) = started();
    let deps = vec![[9; 32], first.hash().0, [8; 32]];
    let change = sound(&Raw { deps, ..second(&first) });
    let missing = vec![ChangeHash([8; 32]), ChangeHash([9; 32])];
    assert_eq!(memory.admit(&change), Err(Refusal::Missing(missing)));
}

#[test]
fn an_actor_counts_its_changes() {
    let (mut memory, first) = started();
    let reused = sound(&Raw { message: b"another".to_vec(), ..Raw::default() });
    let refusal = memory.admit(&reused).unwrap_err();
    assert!(matches!(refusal, Refusal::ActorReused { seq: 1, last_seq: 1, .. }));
    let gap = sound(&Raw { seq: 3, ..second(&first) });
    let refusal = memory.admit(&gap).unwrap_err();
    assert!(matches!(refusal, Refusal::SequenceGap { seq: 3, last_seq: 1, .. }));
    let late = sound(&Raw { seq: 2, actor: vec![0xbb; 16], ..Raw::default() });
    let refusal = memory.admit(&late).unwrap_err();
    assert!(matches!(refusal, Refusal::SequenceGap { seq: 2, last_seq: 0, .. }));
}

#[test]
fn operations_come_after_what_they_build_on() {
    let (mut memory, first) = started();
    let low = sound(&Raw { start_op: 1, ..second(&first) });
    assert_eq!(memory.admit(&low), Err(Refusal::StartOp { start_op: 1, max_op: 1 }));
    let low = sound(&Raw { seq: 1, actor: vec![0xbb; 16], start_op: 1, ..second(&first) });
    assert_eq!(memory.admit(&low), Err(Refusal::StartOp { start_op: 1, max_op: 1 }));
    let later = sound(&Raw { start_op: 9, ..second(&first) });
    assert_eq!(memory.admit(&later), Ok(Admission::New));
}

#[test]
fn an_actor_builds_on_its_own_changes() {
    let (mut memory, first) = started();
    let detached = sound(&Raw { deps: vec![], ..second(&first) });
    assert!(matches!(memory.admit(&detached), Err(Refusal::Detached { seq: 2, .. })));
}

#[test]
fn a_change_without_operations_takes_the_next_counter() {
    let (mut memory, first) = started();
    let empty = Raw { columns: vec![], ..second(&first) };
    let later = sound(&Raw { start_op: 5, ..empty.clone() });
    let refusal = Refusal::EmptyStartOp { start_op: 5, expected: 2 };
    assert_eq!(memory.admit(&later), Err(refusal));
    assert_eq!(memory.admit(&sound(&empty)), Ok(Admission::New));
}

#[test]
fn only_the_first_change_of_an_actor_names_an_author() {
    let (mut memory, first) = started();
    let extra = vec![1, 1, b'a'];
    let forged = sound(&Raw { extra: extra.clone(), ..second(&first) });
    assert!(matches!(memory.admit(&forged), Err(Refusal::AuthorNotFirst { seq: 2, .. })));
    let named = sound(&Raw { extra, actor: vec![0xbb; 16], ..Raw::default() });
    assert_eq!(memory.admit(&named), Ok(Admission::New));
}

fn with_genesis() -> (Memory, Genesis) {
    let (mut memory, key) = Memory::derived("2026-118");
    let first = parse(&genesis(&memory.document, Some(&key))).unwrap();
    assert_eq!(memory.admit(&first), Ok(Admission::New));
    (memory, key)
}

#[test]
fn a_derived_document_begins_with_its_genesis() {
    let (mut memory, key) = Memory::derived("2026-118");
    let other = sound(&Raw::default());
    let refusal = Refusal::NoGenesis { document: memory.document };
    assert_eq!(memory.admit(&other), Err(refusal.clone()));
    let first = parse(&genesis(&memory.document, Some(&key))).unwrap();
    assert_eq!(first.genesis_key(), Some(key));
    assert_eq!(memory.admit(&first), Ok(Admission::New));
    assert_eq!(memory.admit(&other), Err(refusal), "a second root");
}

#[test]
fn a_genesis_with_another_key_is_refused() {
    let (mut memory, key) = Memory::derived("2026-118");
    let document = memory.document;
    let erased = Genesis { incarnation: 1, ..key.clone() };
    for wrong in [Some(&Genesis::first("2026-119").unwrap()), Some(&erased), None] {
        let change = parse(&genesis(&document, wrong)).unwrap();
        assert_eq!(memory.admit(&change), Err(Refusal::GenesisKey { document }));
    }
    memory.collection = "customers".parse().unwrap();
    let change = parse(&genesis(&document, Some(&key))).unwrap();
    assert_eq!(memory.admit(&change), Err(Refusal::GenesisKey { document }));
}

#[test]
fn a_random_document_has_a_genesis_without_key() {
    let document = DocumentId::from_random([1; 16]);
    let mut memory = Memory::of(document);
    let keyed = parse(&genesis(&document, Some(&Genesis::first("x").unwrap()))).unwrap();
    assert_eq!(memory.admit(&keyed), Err(Refusal::Genesis { document }));
    let elsewhere = parse(&genesis(&DocumentId::from_random([2; 16]), None)).unwrap();
    assert_eq!(memory.admit(&elsewhere), Err(Refusal::Genesis { document }));
    let own = parse(&genesis(&document, None)).unwrap();
    assert_eq!(memory.admit(&own), Ok(Admission::New));
}

#[test]
fn a_forged_genesis_is_refused() {
    let (mut memory, key) = Memory::derived("2026-118");
    let document = memory.document;
    let real = Raw {
        actor: genesis_actor(&document).0,
        message: key.to_string().into_bytes(),
        columns: vec![],
        ..Raw::default()
    };
    assert_eq!(real.chunk(), genesis(&document, Some(&key)));
    let forged = [
        Raw { start_op: 2, ..real.clone() },
        Raw { seq: 2, ..real.clone() },
        Raw { extra: vec![1, 1, b'a'], ..real.clone() },
    ];
    for raw in forged {
        assert_eq!(memory.admit(&sound(&raw)), Err(Refusal::Genesis { document }));
    }
    let with_operation = Raw { columns: Raw::default().columns, ..real };
    assert_eq!(memory.admit(&sound(&with_operation)), Err(Refusal::GenesisKey { document }));
}

fn notes(memory: &Memory, key: &Genesis) -> Birth {
    Birth {
        document: memory.document,
        parent: ObjectId::Root,
        key: "notes".into(),
        kind: ContainerKind::Map,
        maker: genesis_hash(&memory.document, Some(key)),
        maker_max_op: 0,
    }
}

fn inner(parent: &Birth) -> Birth {
    Birth {
        parent: parent.object(),
        key: "inner".into(),
        maker: parent.hash(),
        maker_max_op: parent.start_op(),
        ..parent.clone()
    }
}

#[test]
fn births_are_admitted_level_by_level() {
    let (mut memory, key) = with_genesis();
    let outer = notes(&memory, &key);
    let (outer_change, inner_change) =
        (parse(&outer.encode()).unwrap(), parse(&inner(&outer).encode()).unwrap());
    assert_eq!(memory.admit(&inner_change), Err(Refusal::Missing(vec![outer.hash()])));
    for change in [outer_change, inner_change] {
        assert_eq!(memory.admit(&change), Ok(Admission::New));
        assert_eq!(memory.admit(&change), Ok(Admission::Known));
    }
}

#[test]
fn a_birth_may_follow_any_change_that_made_its_parent() {
    let (mut memory, _) = with_genesis();
    let deps = memory.changes.keys().map(|hash| hash.0).collect();
    let make_maps = Raw { deps, ..Raw::default() }
        .column(KEY_TEXT, &[0x7d, 1, b'a', 1, b'b', 1, b'c'])
        .column(INSERT, &[3])
        .column(ACTION, &[3, 0])
        .column(VALUE_META, &[3, 0])
        .column(PRED_COUNT, &[3, 0]);
    let maker = sound(&make_maps);
    assert_eq!(memory.admit(&maker), Ok(Admission::New));
    let parent = |counter| ObjectId::Op { counter, actor: maker.actor().clone() };
    let birth = |counter| Birth {
        document: memory.document,
        parent: parent(counter),
        key: "notes".into(),
        kind: ContainerKind::Text,
        maker: maker.hash(),
        maker_max_op: maker.max_op(),
    };
    let (middle, beyond) = (birth(2), Birth { maker_max_op: 4, ..birth(4) });
    assert_eq!(memory.admit(&parse(&middle.encode()).unwrap()), Ok(Admission::New));
    let refusal = memory.admit(&parse(&beyond.encode()).unwrap()).unwrap_err();
    assert!(matches!(refusal, Refusal::BirthParent { .. }));
}

/// The real birth of a text at "notes" as bytes that can be spoilt.
fn raw_birth(birth: &Birth) -> Raw {
    Raw {
        deps: vec![birth.maker.0],
        actor: birth.actor().0,
        start_op: birth.start_op(),
        ..Raw::default()
    }
    .column(KEY_TEXT, b"\x7f\x05notes")
    .column(ACTION, &[0x7f, 0])
    .column(VALUE_META, &[0x7f, 0])
}

#[test]
fn a_forged_birth_is_refused() {
    let (mut memory, key) = with_genesis();
    let birth = notes(&memory, &key);
    let real = raw_birth(&birth);
    assert_eq!(real.chunk(), birth.encode());
    let forged = [
        Raw { start_op: 2, ..real.clone() },
        Raw { seq: 2, ..real.clone() },
        Raw { message: b"hello".to_vec(), ..real.clone() },
        Raw { extra: vec![1, 1, b'a'], ..real.clone() },
        real.clone().column(ACTION, &[0x7f, 4]),
        real.clone().column(KEY_TEXT, b"\x7f\x05photo"),
    ];
    for (index, raw) in forged.iter().enumerate() {
        let refusal = memory.admit(&sound(raw)).unwrap_err();
        assert!(matches!(refusal, Refusal::Birth { .. }), "{index}: {refusal}");
    }
    assert_eq!(memory.admit(&sound(&real)), Ok(Admission::New));
}

#[test]
fn a_birth_of_something_else_is_refused() {
    let (mut memory, key) = with_genesis();
    let real = raw_birth(&notes(&memory, &key));
    let two_operations = real
        .clone()
        .column(KEY_TEXT, b"\x02\x05notes")
        .column(INSERT, &[2])
        .column(ACTION, &[2, 0])
        .column(VALUE_META, &[2, 0])
        .column(PRED_COUNT, &[2, 0]);
    let scalar = real.clone().column(ACTION, &[0x7f, 1]);
    let counter = real.clone().column(ACTION, &[0x7f, 1]).column(VALUE_META, &[0x7f, 0x18]);
    let at_seven = counter.column(VALUE, &[7]);
    for raw in [two_operations, scalar, at_seven] {
        let change = sound(&raw);
        assert!(!change.is_birth());
        assert!(matches!(memory.admit(&change), Err(Refusal::GenesisKey { .. })));
    }
}

#[test]
fn a_birth_builds_on_the_maker_of_its_parent_alone() {
    let (mut memory, key) = with_genesis();
    let birth = notes(&memory, &key);
    let edit = Raw { deps: vec![birth.maker.0], ..Raw::default() };
    let edit = sound(&edit);
    memory.admit(&edit).unwrap();
    let later = Birth { maker: edit.hash(), maker_max_op: edit.max_op(), ..birth.clone() };
    let both = Raw { deps: vec![birth.maker.0, edit.hash().0], start_op: 2, ..raw_birth(&birth) };
    let none = Raw { deps: vec![], ..raw_birth(&birth) };
    for chunk in [later.encode(), both.chunk(), none.chunk()] {
        let refusal = memory.admit(&parse(&chunk).unwrap()).unwrap_err();
        assert!(matches!(refusal, Refusal::BirthParent { .. }));
    }
}

#[test]
fn a_deflated_birth_is_the_same_change() {
    let (mut memory, key) = with_genesis();
    let birth = Birth { key: "long ".repeat(100), ..notes(&memory, &key) };
    let raw = birth.encode();
    let body = &raw[11..];
    let change = parse(&seal_deflated(body, &deflate(body))).unwrap();
    assert_eq!(change.hash(), birth.hash());
    assert_eq!(memory.admit(&change), Ok(Admission::New));
}
