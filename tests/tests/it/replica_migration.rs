//! A replica's file of the version before is taken over whole, or not at all: whatever happens to the
//! process, the machine or the disk at any operation.

use std::error::Error;

use redb::Database;
use rejoin::{DocumentId, Replica};
use rejoin_core::DeviceId;
use rejoin_engine::store::{DocumentRow, OutboxRow, Store, ValueRow};
use rejoin_engine::{Engine, EngineOptions};
use rejoin_tests::migration::Migration;
use serde_json::{Value, json};

/// What is in a file, through the store's own reads.
#[derive(Debug, PartialEq)]
struct Contents {
    device: DeviceId,
    documents: Vec<Kept>,
    outbox: Vec<(u64, OutboxRow)>,
    reviews: usize,
}

/// What is kept of one document.
#[derive(Debug, PartialEq)]
struct Kept {
    id: DocumentId,
    row: DocumentRow,
    snapshot: Option<Vec<u8>>,
    changes: Vec<(u64, Vec<u8>)>,
    value: Option<ValueRow>,
    waiting: Vec<u64>,
}

fn migration() -> Migration<Contents> {
    let file = include_bytes!("../../../client/tests/fixtures/replica-1.redb.deflate");
    Migration::new(file, contents)
}

fn contents(database: Database) -> Result<Contents, Box<dyn Error>> {
    let store = Store::open(database, [0; 16])?;
    let view = store.read()?;
    let mut rows = Vec::new();
    view.each_document(|id, row| rows.push((id, row)))?;
    let kept = rows.into_iter().map(|(id, row)| -> Result<Kept, Box<dyn Error>> {
        Ok(Kept {
            snapshot: view.snapshot(&id)?,
            changes: view.changes(&id, 0)?,
            value: view.value(&id)?,
            waiting: view.waiting(&id)?,
            id,
            row,
        })
    });
    let mut reviews = 0;
    for space in view.spaces()? {
        reviews += view.reviews(&space)?.len();
    }
    Ok(Contents {
        device: store.device(),
        documents: kept.collect::<Result<_, _>>()?,
        outbox: view.outbox(0, usize::MAX)?,
        reviews,
    })
}

#[test]
fn whatever_happens_at_any_operation_leaves_the_old_file_or_the_new_one() {
    migration().strike_everywhere();
}

#[test]
fn everything_of_the_file_is_there() {
    let Contents { device, documents, outbox, reviews } = migration().contents();
    assert_eq!(device.to_string(), "f018d7af7e7b584a51ea65a823e33f8c");
    assert_eq!((documents.len(), outbox.len(), reviews), (63, 4, 3));
    assert!(documents.iter().any(|kept| kept.snapshot.is_some()), "one was folded");
    for Kept { id, row, changes, value, waiting, .. } in &documents {
        let places: Vec<_> = changes.iter().map(|(at, _)| *at).collect();
        assert!((row.covered..row.next).all(|at| places.contains(&at)), "{id}: {places:?}");
        assert_eq!(value.as_ref().map(|value| &value.heads), Some(&row.heads), "{id}");
        let edits = outbox.iter().filter(|(_, edit)| edit.document == *id);
        assert_eq!(edits.map(|(key, _)| *key).collect::<Vec<_>>(), *waiting, "{id}");
    }
}

#[tokio::test]
async fn it_goes_on_as_a_replica() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("old.redb");
    std::fs::write(&file, migration().file).unwrap();
    let replica = Replica::open(&file).await.unwrap();
    let main = replica.space("main").unwrap();
    let jobs = main.collection("jobs").unwrap();
    assert_eq!(jobs.list().await.unwrap().len(), 59);
    assert_eq!(jobs.get::<Value>("007").await.unwrap().unwrap()["visits"], json!(2));
    let notes = jobs.get::<Value>("005").await.unwrap().unwrap()["notes"].clone();
    assert_eq!(notes.as_str().unwrap().matches("line ").count(), 60);
    assert_eq!(main.reviews().open().await.unwrap().len(), 3);
    assert_eq!(replica.identity().unwrap().unwrap().user, "ann");
    assert_eq!(replica.status().waiting, 4);
    // Documents of before and new ones are written to.
    jobs.document("005").unwrap().append("notes", "more").await.unwrap();
    jobs.create("new", &json!({ "name": "Anna" })).await.unwrap();
    assert_eq!(jobs.list().await.unwrap().len(), 60);
    assert_eq!(replica.status().waiting, 6);
    replica.close().await;
    let report = rejoin::doctor::check(&file, false).unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
}

/// Ids say nothing about numbers: a document that goes and comes again gets another one, and what was
/// kept of it is not seen.
#[test]
fn a_document_that_comes_again_begins_anew() {
    let database = Database::builder().create_with_backend(redb::backends::InMemoryBackend::new());
    let store = std::sync::Arc::new(Store::open(database.unwrap(), [1; 16]).unwrap());
    drop(Engine::new(store.clone(), EngineOptions::default(), || [2; 16]).unwrap());
    let id = DocumentId::from_random([7; 16]);
    let (space, collection) = ("main".parse().unwrap(), "jobs".parse().unwrap());
    let row = DocumentRow::new(space, collection, None);
    for _ in 0..2 {
        let txn = store.write().unwrap();
        assert!(txn.changes(&id, 0).unwrap().is_empty());
        txn.put_change(&id, 0, b"a change").unwrap();
        txn.put_document(&id, &row).unwrap();
        txn.commit().unwrap();
        assert_eq!(store.read().unwrap().changes(&id, 0).unwrap().len(), 1);
        let txn = store.write().unwrap();
        // Its changes are left behind, as by a row that says there are none.
        txn.remove_document(&id, &row).unwrap();
        txn.commit().unwrap();
        assert!(store.read().unwrap().document(&id).unwrap().is_none());
    }
}
