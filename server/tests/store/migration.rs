//! Taking over a file of the version before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use redb::{Database, ReadableDatabase, TableDefinition, TableHandle};
use rejoin_core::change::Place;
use rejoin_core::session::Part;
use rejoin_core::wire::{BegunPiece, PieceOf};
use rejoin_core::{CollectionName, Collections, DocumentId, SetDigest, SpaceName};
use rejoin_relay::StoreError;
use rejoin_relay::store::{ChangeStore, LogChunk, LogPage};

use crate::before::{Contents, DOCUMENTS, Document, SPACES, database, file};

fn open(database: Database) -> ChangeStore {
    ChangeStore::open(database, 1 << 20, || panic!("who it is stays")).unwrap()
}

fn name(space: &str) -> SpaceName {
    SpaceName::new(space).unwrap()
}

fn all_changes(store: &mut ChangeStore, space: &str) -> LogPage {
    store.log_page(&name(space), 0, u64::MAX, usize::MAX, usize::MAX).unwrap()
}

#[test]
fn the_fixture_has_what_the_tests_are_about() {
    let before = Contents::read(&database());
    let any = |wanted: fn(&Document) -> bool| before.documents.values().any(wanted);
    assert!(any(|document| !document.snapshot.is_empty()), "a snapshot");
    assert!(any(|document| document.changes.values().any(Option::is_none)), "a folded change");
    assert!(any(|document| document.changes.len() > 100 && document.snapshot.is_empty()));
    assert!(any(|it| it.changes.values().flatten().any(|chunk| chunk.len() > 16 << 10)));
    assert!(any(|document| document.collection == "rejoin.schemas"));
    assert!(before.documents.len() > 50, "{}", before.documents.len());
}

#[test]
fn spaces_and_digests_are_what_they_were() {
    let before = Contents::read(&database());
    let mut store = open(database());
    assert_eq!(store.relay().0, before.relay);
    for (space, told) in SPACES {
        let state = store.space(&name(space)).unwrap();
        let last = before.of(space).map(|(_, document)| document.last).max().unwrap();
        assert_eq!(state.position, last);
        let mut sum = SetDigest::EMPTY;
        let contents = store.contents(&name(space)).unwrap();
        for content in &contents {
            sum.add(&content.digest);
            let collection = content.collection.as_str().to_owned();
            let of_collection = |it: &&Document| it.collection == collection;
            let documents = before.of(space).map(|(_, it)| it).filter(of_collection).count();
            assert_eq!(content.documents, documents as u64);
            let digest = before.digests[&(space.to_owned(), collection.clone())];
            assert_eq!(content.digest.to_bytes(), digest);
        }
        assert_eq!(sum.to_string(), told, "{space}");
        assert_eq!(store.documents_of(&name(space)).unwrap(), before.of(space).count() as u64);
        let of_space = before.digests.keys().filter(|(of, _)| of == space).count();
        assert_eq!(contents.len(), of_space);
    }
}

#[test]
fn every_document_is_what_it_was() {
    let before = Contents::read(&database());
    let mut store = open(database());
    for ((space, id), document) in &before.documents {
        let (space, id) = (name(space), DocumentId(*id));
        let collection = CollectionName::new(document.collection.as_str()).unwrap();
        let place = Place { space: &space, collection: &collection, document: &id };
        let known = store.known(&place).unwrap().unwrap();
        assert!(known.is_at_home);
        assert_eq!(known.graph.len(), document.changes.len());
        assert_eq!(known.graph.heads_hash().short().0, document.heads);
        for (position, chunk) in &document.changes {
            let Some(chunk) = chunk else { continue };
            let part = store.part(&space, &id, *position, None, 1).unwrap().unwrap();
            match part {
                Part::Erased { .. } => panic!("nothing was erased"),
                Part::Changes { changes, .. } => {
                    assert_eq!(changes, [(*position, chunk.clone())]);
                }
                Part::Piece { kind: PieceOf::Snapshot, .. } => {
                    assert!(!document.snapshot.is_empty());
                }
                Part::Piece { offset, total, bytes, .. } => {
                    assert_eq!((offset, total), (0, chunk.len() as u64));
                    assert_eq!(bytes, chunk[..1]);
                }
            }
        }
        assert_eq!(snapshot(&mut store, &space, &id), document.snapshot);
    }
}

/// The snapshot of a document in pieces of an odd size; nothing if it has none.
fn snapshot(store: &mut ChangeStore, space: &SpaceName, id: &DocumentId) -> Vec<u8> {
    let mut snapshot = Vec::new();
    let mut under_way = None;
    loop {
        let part = store.part(space, id, 0, under_way, 999).unwrap().unwrap();
        let Part::Piece { kind: PieceOf::Snapshot, position, offset, total, bytes, .. } = part
        else {
            return snapshot;
        };
        assert_eq!(offset, snapshot.len() as u64);
        assert!(bytes.len() <= 999);
        snapshot.extend(bytes);
        if snapshot.len() as u64 == total {
            return snapshot;
        }
        let (kind, bytes) = (PieceOf::Snapshot, snapshot.len() as u64);
        under_way = Some(BegunPiece { kind, position, bytes });
    }
}

#[test]
fn positions_are_what_they_were_and_every_one_is_in_the_log() {
    let before = Contents::read(&database());
    let mut store = open(database());
    for (space, _) in SPACES {
        let mut by_position = BTreeMap::new();
        let mut latest = BTreeMap::new();
        for (id, document) in before.of(space) {
            by_position.extend(document.changes.iter().map(|(at, chunk)| (*at, (id, chunk))));
            latest.insert(document.last, (id, document));
        }
        let page = all_changes(&mut store, space);
        assert_eq!(page.entries.len(), by_position.len());
        for (entry, (position, (id, chunk))) in page.entries.iter().zip(&by_position) {
            assert_eq!((entry.position, &entry.document.0), (*position, *id));
            let expected = match chunk {
                None => LogChunk::Folded,
                Some(it) if it.len() > 16 << 10 => LogChunk::Long { len: it.len() as u64 },
                Some(chunk) => LogChunk::Inline(chunk.clone()),
            };
            assert_eq!(entry.chunk, expected);
            let piece = store.chunk_piece(entry.number, *position, 0, usize::MAX).unwrap();
            assert_eq!(piece.as_ref(), chunk.as_ref());
        }
        let walked = store.latest_page(&name(space), u64::MAX, 0, usize::MAX).unwrap();
        assert_eq!(walked.len(), latest.len());
        for (walked, (position, (id, document))) in walked.iter().zip(latest.iter().rev()) {
            assert_eq!((walked.position, &walked.document.0), (*position, *id));
            assert_eq!((walked.first, walked.heads.0), (document.first(), document.heads));
            assert_eq!(walked.collection.as_str(), document.collection);
        }
        for position in [0, 7, 20, page.through / 2, page.through - 1, page.through] {
            let after = |document: &Document| {
                document.changes.range(position + 1..).next().map(|(first, _)| *first)
            };
            for (walked, (_, document)) in walked.iter().zip(latest.values().rev()) {
                let first = store.first_after(walked.number, position).unwrap();
                assert_eq!(first, after(document));
            }
        }
        let schemas: Vec<_> = before
            .of(space)
            .filter(|(_, document)| document.collection == "rejoin.schemas")
            .collect();
        let first = store.first_documents(&name(space)).unwrap();
        assert_eq!(first.len(), schemas.len());
        assert!(first.iter().zip(schemas).all(|((_, id), (before, _))| id.0 == *before));
    }
}

#[test]
fn documents_are_numbered_by_their_first_change() {
    let mut store = open(database());
    let mut next = 1;
    for (space, _) in SPACES {
        for entry in all_changes(&mut store, space).entries {
            assert!(entry.number <= next, "document {} before {next}", entry.number);
            next = next.max(entry.number + 1);
        }
    }
}

const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("identity-1");

#[test]
fn a_second_opening_finds_nothing_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.redb");
    fs::write(&path, file()).unwrap();
    let page = all_changes(&mut open(Database::open(&path).unwrap()), "acme");
    let tables = tables(&Database::open(&path).unwrap());
    let mut again = open(Database::open(&path).unwrap());
    assert_eq!(all_changes(&mut again, "acme"), page);
    drop(again);
    let database = Database::open(&path).unwrap();
    assert_eq!(self::tables(&database), tables);
    let of_before: Vec<_> = tables.iter().filter(|table| table.ends_with("-1")).collect();
    assert_eq!(of_before, ["identity-1"], "the one that turns the version before away");
}

fn tables(database: &Database) -> BTreeSet<String> {
    let transaction = database.begin_read().unwrap();
    let tables = transaction.list_tables().unwrap();
    tables.map(|table| table.name().to_owned()).collect()
}

#[test]
fn a_file_of_a_later_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.redb");
    drop(ChangeStore::open(Database::create(&path).unwrap(), 1 << 20, || [1; 16]).unwrap());
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(NUMBERS).unwrap().insert("format", 3).unwrap();
    transaction.commit().unwrap();
    let refused = ChangeStore::open(database, 1 << 20, || [1; 16]).unwrap_err();
    assert!(matches!(refused, StoreError::Format { found: 3, known: 2 }), "{refused:?}");
    assert!(refused.to_string().contains("run the version of rejoin that wrote it"), "{refused}");
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_read().unwrap();
    let numbers = transaction.open_table(NUMBERS).unwrap();
    assert_eq!(numbers.get("format").unwrap().unwrap().value(), 3);
}

#[test]
fn a_document_that_was_damaged_before_stops_no_other() {
    let database = database();
    let before = Contents::read(&database);
    let ((_, id), _) = before.documents.first_key_value().unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(DOCUMENTS).unwrap().insert((id, u64::MAX), [0xff].as_slice()).unwrap();
    transaction.commit().unwrap();
    let mut store = open(database);
    let (acme, damaged) = (name("acme"), DocumentId(*id));
    let error = store.part(&acme, &damaged, 0, None, 1000).unwrap_err();
    assert!(error.is_confined(), "{error}");
    let page = all_changes(&mut store, "acme");
    assert_eq!(page.through, store.space(&acme).unwrap().position);
    assert!(page.entries.iter().all(|entry| entry.document != damaged));
    let walked = store.latest_page(&acme, u64::MAX, 0, usize::MAX).unwrap();
    assert_eq!(walked.len(), before.of("acme").count() - 1);
    assert_eq!(
        store.repair_items(&acme, &Collections::All).unwrap().len(),
        before.of("acme").count()
    );
}

#[test]
fn rows_that_nothing_accounts_for_are_not_thrown_away() {
    let database = database();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(DOCUMENTS).unwrap().insert((&[9; 16], 1), [1].as_slice()).unwrap();
    transaction.commit().unwrap();
    let refused = ChangeStore::open(database, 1 << 20, || [1; 16]).unwrap_err();
    let is_it = matches!(refused, StoreError::Unaccounted { table: "documents-1", rows: 1 });
    assert!(is_it, "{refused}");
}
