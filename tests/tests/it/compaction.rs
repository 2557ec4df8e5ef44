//! A real relay folds a long history in a worker process of its own, and a new reader gets the
//! snapshot.

use rejoin::{Link, Op, Replica};
use rejoin_engine::store::Store;
use rejoin_tests::processes::RelayProcess;
use serde_json::{Value, json};
use tempfile::TempDir;

const EDITS: usize = 700;

/// Syncs a new replica, and tells how many bytes of the document came as a snapshot.
async fn snapshot_bytes(folder: &TempDir, relay: &RelayProcess, attempt: usize) -> u64 {
    let path = folder.path().join(format!("late-{attempt}.redb"));
    let late = Replica::open(&path).await.unwrap();
    let main = late.space("main").unwrap();
    late.connect(&relay.url(), &[&main]).await.unwrap();
    late.status_when(|status| status.link == Link::Safe).await.unwrap();
    let job = main.collection("jobs").unwrap().document("1").unwrap();
    let value: Value = job.get().await.unwrap().unwrap();
    assert_eq!(value["notes"].as_str().unwrap().len(), EDITS);
    late.close().await;
    let store = Store::open(redb::Database::create(&path).unwrap(), [0; 16]).unwrap();
    store.read().unwrap().document(&job.id()).unwrap().unwrap().snapshot_bytes
}

#[tokio::test]
async fn a_new_reader_gets_the_snapshot_a_worker_made() {
    let folder = TempDir::new().unwrap();
    let relay = RelayProcess::start(folder.path().join("relay"));
    let desk = Replica::open(folder.path().join("desk.redb")).await.unwrap();
    let main = desk.space("main").unwrap();
    desk.connect(&relay.url(), &[&main]).await.unwrap();
    let jobs = main.collection("jobs").unwrap();
    let job = jobs.create("1", &json!({ "status": "booked" })).await.unwrap();
    for _ in 0..EDITS {
        let op = Op::Append { path: "notes".into(), text: "x".to_owned() };
        job.apply(vec![op]).await.unwrap();
    }
    job.saved().await.unwrap();
    // The worker runs beside the relay; some reader is the first to find its work.
    for attempt in 0..100 {
        if snapshot_bytes(&folder, &relay, attempt).await > 0 {
            return;
        }
    }
    panic!("no snapshot was made");
}
