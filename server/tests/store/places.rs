//! Which documents a space has, and that it is nobody else's business.

use redb::Database;
use redb::backends::InMemoryBackend;
use rejoin_core::change::Place;
use rejoin_core::session::Part;
use rejoin_core::{ActorId, ChangeHash, CollectionName, DocumentId, GraphEntry, SpaceName};
use rejoin_relay::store::ChangeStore;

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

/// Stages a change number `n` of one actor, and returns its position. The store does not look into
/// its bytes.
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
    let deps = if n == 1 { Vec::new() } else { vec![ChangeHash([n - 1; 32])] };
    let (hash, actor) = (ChangeHash([n; 32]), ActorId(vec![1; 16]));
    let entry = GraphEntry { hash, actor, seq, start_op: seq, max_op: seq, deps };
    store.stage(&place, entry, chunk).unwrap()
}

#[test]
fn the_same_id_in_two_spaces_is_two_documents() {
    let mut store = store();
    let id = DocumentId([7; 16]);
    assert_eq!(stage(&mut store, ("a", "jobs", 7), 1, b"one".to_vec()), 1);
    assert_eq!(stage(&mut store, ("a", "jobs", 7), 2, b"two".to_vec()), 2);
    store.commit(0).unwrap();
    assert_eq!(stage(&mut store, ("b", "notes", 7), 1, b"other".to_vec()), 1);
    store.commit(0).unwrap();
    assert_eq!(stage(&mut store, ("a", "jobs", 7), 3, b"three".to_vec()), 3);
    store.commit(0).unwrap();
    let mut chunks = |name: &str| {
        let part = store.part(&space(name), &id, 0, None, 1000).unwrap();
        let Some(Part::Changes { collection, changes, next: None }) = part else { panic!() };
        let chunks: Vec<_> = changes.into_iter().map(|(_, chunk)| chunk).collect();
        (collection.as_str().to_owned(), chunks)
    };
    let own = [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()].to_vec();
    assert_eq!(chunks("a"), ("jobs".to_owned(), own));
    assert_eq!(chunks("b"), ("notes".to_owned(), vec![b"other".to_vec()]));
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
    stage(&mut store, ("a", "jobs", 1), 1, vec![1]);
    stage(&mut store, ("a", "notes", 2), 1, vec![1]);
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
    stage(&mut store, ("a", "jobs", 1), 1, vec![1]);
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
