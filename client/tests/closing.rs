//! A replica that is closed answers everybody.

use rejoin::Replica;

/// Who speaks to a replica in the moment in which it closes is answered, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_waits_for_a_replica_that_closed() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..100 {
        let replica = Replica::open(folder.path().join(format!("{round}.redb"))).await.unwrap();
        let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
        let speak = (0..64).map(|at| {
            let (replica, jobs) = (replica.clone(), jobs.clone());
            tokio::spawn(async move {
                if at % 2 == 0 {
                    replica.close().await;
                    replica.close().await;
                } else {
                    // It is written, or the replica was closed.
                    let _ = jobs.put(&at.to_string(), Default::default()).await;
                }
            })
        });
        for spoken in speak.collect::<Vec<_>>() {
            spoken.await.unwrap();
        }
    }
}
