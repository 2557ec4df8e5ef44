//! Which documents a space has, and that it is nobody else's business.

use redb::Database;
use redb::backends::InMemoryBackend;
use rejoin_core::change::{Place, hash_of};
use rejoin_core::session::Part;
use rejoin_core::{ActorId, CollectionName, DocumentId, GraphEntry, SpaceName};
use rejoin_relay::store::ChangeStore;
use sha2::{Digest, Sha256};

/// A store in memory.
pub(crate) fn store() -> ChangeStore {
    let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
    ChangeStore::open(database, 1 << 20, || [1; 16]).unwrap()
}

pub(crate) fn space(name: &str) -> SpaceName {
    SpaceName::new(name).unwrap()
}

pub(crate) fn collection(name: &str) -> CollectionName {
    CollectionName::new(name).unwrap()
}

/// The frame of a change around some bytes: the store looks whether they are still the same, and not
/// what they mean.
pub(crate) fn framed(content: &[u8]) -> Vec<u8> {
    let mut hashed = vec![1];
    let mut len = content.len();
    while len > 0x7f {
        hashed.push(len as u8 | 0x80);
        len >>= 7;
    }
    hashed.push(len as u8);
    hashed.extend_from_slice(content);
    let sum = Sha256::digest(&hashed);
    [&[0x85, 0x6f, 0x4a, 0x83][..], &sum[..4], &hashed].concat()
}

/// The same, of so many bytes in all.
pub(crate) fn framed_in(len: usize, byte: u8) -> Vec<u8> {
    let content = (0..len).rev().map(|len| framed(&vec![byte; len]));
    content.into_iter().find(|chunk| chunk.len() == len).unwrap()
}

/// Stages a change number `n` of one actor, and returns its position.
pub(crate) fn stage(
    store: &mut ChangeStore,
    (space, collection, document): (&str, &str, u8),
    n: u8,
    chunk: Vec<u8>,
) -> u64 {
    let (space, collection) = (self::space(space), self::collection(collection));
    let document = DocumentId([document; 16]);
    let place = Place { space: &space, collection: &collection, document: &document };
    let seq = u64::from(n);
    let known = store.known(&place).unwrap();
    let deps = known.map(|known| known.graph.heads()).unwrap_or_default();
    let (hash, actor) = (hash_of(&chunk).unwrap(), ActorId(vec![1; 16]));
    let entry = GraphEntry { hash, actor, seq, start_op: seq, max_op: seq, deps };
    store.stage(&place, entry, chunk).unwrap()
}

#[test]
fn the_same_id_in_two_spaces_is_two_documents() {
    let mut store = store();
    let id = DocumentId([7; 16]);
    assert_eq!(stage(&mut store, ("a", "jobs", 7), 1, framed(b"one")), 1);
    assert_eq!(stage(&mut store, ("a", "jobs", 7), 2, framed(b"two")), 2);
    store.commit(0).unwrap();
    assert_eq!(stage(&mut store, ("b", "notes", 7), 1, framed(b"other")), 1);
    store.commit(0).unwrap();
    assert_eq!(stage(&mut store, ("a", "jobs", 7), 3, framed(b"three")), 3);
    store.commit(0).unwrap();
    let mut chunks = |name: &str| {
        let part = store.part(&space(name), &id, 0, None, 1000).unwrap();
        let Some(Part::Changes { collection, changes, next: None }) = part else { panic!() };
        let chunks: Vec<_> = changes.into_iter().map(|(_, chunk)| chunk).collect();
        (collection.as_str().to_owned(), chunks)
    };
    let own = [framed(b"one"), framed(b"two"), framed(b"three")].to_vec();
    assert_eq!(chunks("a"), ("jobs".to_owned(), own));
    assert_eq!(chunks("b"), ("notes".to_owned(), vec![framed(b"other")]));
    assert_eq!(store.part(&space("c"), &id, 0, None, 1000).unwrap(), None);
    assert_eq!(store.documents_of(&space("a")).unwrap(), 1);
    assert_ne!(
        store.short_heads(&space("a"), &id).unwrap(),
        store.short_heads(&space("b"), &id).unwrap()
    );
    assert!(store.short_heads(&space("c"), &id).unwrap().is_empty());
}

#[test]
fn a_document_is_at_home_in_one_collection_of_its_space() {
    let mut store = store();
    stage(&mut store, ("a", "jobs", 1), 1, framed(&[1]));
    stage(&mut store, ("a", "notes", 2), 1, framed(&[1]));
    let mut is_at_home = |in_space: &str, in_collection: &str| {
        let (space, collection) = (space(in_space), collection(in_collection));
        let place =
            Place { space: &space, collection: &collection, document: &DocumentId([1; 16]) };
        store.known(&place).unwrap().map(|known| known.is_at_home)
    };
    assert_eq!(is_at_home("a", "jobs"), Some(true));
    assert_eq!(is_at_home("a", "notes"), Some(false));
    assert_eq!(is_at_home("a", "nothing"), Some(false));
    assert_eq!(is_at_home("b", "jobs"), None, "another space does not learn of it");
}

#[test]
fn what_is_staged_is_not_read_before_the_commit() {
    let mut store = store();
    stage(&mut store, ("a", "jobs", 1), 1, framed(&[1]));
    let a = space("a");
    assert_eq!(store.space(&a).unwrap().position, 0);
    assert_eq!(store.part(&a, &DocumentId([1; 16]), 0, None, 1000).unwrap(), None);
    assert!(store.digests(&a).unwrap().is_empty());
    assert_eq!(store.documents_of(&a).unwrap(), 0);
    let page = store.log_page(&a, 0, u64::MAX, 1000, 1000).unwrap();
    assert_eq!((page.entries.len(), page.through), (0, 0));
    store.commit(0).unwrap();
    assert_eq!(store.documents_of(&a).unwrap(), 1);
    assert_eq!(store.log_page(&a, 0, u64::MAX, 1000, 1000).unwrap().through, 1);
}
