//! Changes and documents that no honest author makes.

use std::num::NonZeroU64;

use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, Change, ExpandedChange, ObjType, ROOT};
use rejoin_core::ChangeHash;
use sha2::{Digest, Sha256};

/// A chunk with a right magic and a right checksum, whatever is in it.
pub(super) fn seal(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut head = vec![kind];
    let mut len = body.len();
    while len >= 0x80 {
        head.push(len as u8 | 0x80);
        len >>= 7;
    }
    head.push(len as u8);
    let hash = Sha256::new().chain_update(&head).chain_update(body).finalize();
    [&[0x85, 0x6f, 0x4a, 0x83], &hash[..4], &head, body].concat()
}

/// A first change of a document, which puts a value of so many random bytes.
pub(super) fn first(bytes: usize) -> Vec<u8> {
    history(1, bytes).remove(0)
}

/// So many changes of one author, each with a value of so many random bytes.
pub(super) fn history(changes: usize, bytes: usize) -> Vec<Vec<u8>> {
    let mut document = AutoCommit::new().with_actor(ActorId::random());
    let put = |_| {
        let noise: Vec<u8> = (0..bytes).map(|_| rand::random()).collect();
        document.put(ROOT, "noise", noise).expect("the root takes values");
        last(&mut document)
    };
    (0..changes).map(put).collect()
}

/// The same change by another actor, at another number.
pub(super) fn renumbered(chunk: &[u8], actor: u32, start_op: u64) -> Vec<u8> {
    let mut bytes = [5; 16];
    bytes[..4].copy_from_slice(&actor.to_le_bytes());
    let change = Change::from_bytes(chunk.to_vec()).expect("a sound change").decode();
    let (actor_id, seq) = (ActorId::from(bytes), 1);
    let start_op = NonZeroU64::new(start_op).expect("numbers begin at 1");
    let change = Change::from(ExpandedChange { actor_id, seq, start_op, hash: None, ..change });
    change.raw_bytes().to_vec()
}

/// A change that makes maps inside each other.
pub(super) fn nested(depth: usize) -> Vec<u8> {
    let mut document = AutoCommit::new().with_actor(ActorId::random());
    let mut around = ROOT;
    for _ in 0..depth {
        around = document.put_object(&around, "x", ObjType::Map).expect("a map takes maps");
    }
    last(&mut document)
}

/// A document that is small as it is saved, and large as changes.
#[derive(Debug)]
pub(super) struct Expanding {
    pub(super) saved: Vec<u8>,
    pub(super) heads: Vec<ChangeHash>,
    pub(super) all: Vec<ChangeHash>,
}

impl Expanding {
    /// Texts of one repeated character, so many times the same of so many.
    pub(super) fn new(changes: usize, characters: usize) -> Self {
        let mut document = AutoCommit::new().with_actor(ActorId::random());
        let text = document.put_object(ROOT, "text", ObjType::Text).expect("the root takes texts");
        for _ in 0..changes {
            let same = "x".repeat(characters);
            document.splice_text(&text, 0, 0, &same).expect("a text takes characters");
            document.commit();
        }
        let saved = document.save();
        let heads = document.get_heads().iter().map(|head| ChangeHash(head.0)).collect();
        let changes = document.get_changes(&[]);
        let all = changes.iter().map(|change| ChangeHash(change.hash().0)).collect();
        Self { saved, heads, all }
    }
}

fn last(document: &mut AutoCommit) -> Vec<u8> {
    document.commit();
    let change = document.get_last_local_change().expect("it was just made");
    change.raw_bytes().to_vec()
}
