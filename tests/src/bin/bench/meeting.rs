//! What happens between devices.

use std::time::{Duration, Instant};

use automerge::Automerge;
use rejoin::{Link, Replica};
use rejoin_engine::EngineOptions;
use rejoin_tests::live::LiveRelay;
use rejoin_tests::meeting::Meeting;
use rejoin_tests::replay::push_document;
use rejoin_tests::traces;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::local::bare_commits;
use crate::{Figure, quantile, timed};

const LIVE_EDITS: usize = 500;
const WRITERS: usize = 10;
const WRITER_BATCHES: usize = 20;
const BATCH: usize = 64;

/// A document of 260,000 changes comes to a new replica.
pub(crate) fn first_sync() -> Vec<Figure> {
    let Some(saved) = traces::read("automerge-paper.am") else { return Vec::new() };
    let document = Automerge::load(&saved).expect("a sound file");
    let mut meeting = Meeting::new(1);
    push_document(&mut meeting, &document);
    meeting.compact();
    let late = meeting.join(EngineOptions::default());
    let (_, ours) = timed(|| {
        meeting.connect(late);
        meeting.round_trip(late)
    });
    let (_, theirs) = timed(|| Automerge::load(&document.save()).expect("its own save"));
    vec![Figure::new("first sync of 260,000 changes", ours, "Automerge loads its save", theirs)]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// From an edit until the other client's watcher is told, over real sockets and files.
pub(crate) fn latency() -> Vec<Figure> {
    let folder = TempDir::new().expect("a temporary folder");
    let mut took = runtime().block_on(live_edits(&folder));
    let mut bare = bare_commits(&folder.path().join("bare.redb"), LIVE_EDITS, 150);
    let three = |part: f64, bare: &mut [Duration]| 3 * quantile(bare, part);
    let beside = "three bare redb commits, as on the way";
    vec![
        Figure::new(
            "edit to other watcher, p50",
            quantile(&mut took, 0.5),
            beside,
            three(0.5, &mut bare),
        ),
        Figure::new(
            "edit to other watcher, p99",
            quantile(&mut took, 0.99),
            beside,
            three(0.99, &mut bare),
        ),
    ]
}

async fn live_edits(folder: &TempDir) -> Vec<Duration> {
    let relay = LiveRelay::start(folder.path().join("relay")).await;
    let desk = connected(folder, "desk", &relay).await;
    let van = connected(folder, "van", &relay).await;
    let jobs = |replica: &Replica| replica.space("main").and_then(|main| main.collection("jobs"));
    let (here, there) = (jobs(&desk).expect("names"), jobs(&van).expect("names"));
    let mut watcher = there.watch().await.expect("open");
    let job = here.create("1", &json!({ "n": 0 })).await.expect("a new document");
    watcher.next().await.expect("open");
    let mut took = Vec::new();
    for n in 1..=LIVE_EDITS {
        let started = Instant::now();
        job.set("n", n).await.expect("an edit");
        watcher.next().await.expect("open");
        took.push(started.elapsed());
    }
    relay.stop().await;
    took
}

/// Ten devices write at once, until the relay has it all on disk.
pub(crate) fn throughput() -> Vec<Figure> {
    let folder = TempDir::new().expect("a temporary folder");
    let ours = runtime().block_on(writers(&folder));
    let bare =
        bare_commits(&folder.path().join("bare.redb"), WRITERS * WRITER_BATCHES, BATCH * 150);
    let changes = WRITERS * WRITER_BATCHES * BATCH;
    let what = format!("{changes} documents from {WRITERS} writers, acknowledged");
    let beside = format!("bare redb commits of {BATCH} x 150 bytes");
    vec![Figure::new(what, ours, &beside, bare.iter().sum())]
}

async fn writers(folder: &TempDir) -> Duration {
    let relay = LiveRelay::start(folder.path().join("relay")).await;
    let mut replicas = Vec::new();
    for n in 0..WRITERS {
        replicas.push(connected(folder, &format!("writer-{n}"), &relay).await);
    }
    let started = Instant::now();
    let writers =
        replicas.into_iter().enumerate().map(|(n, replica)| tokio::spawn(write(n, replica)));
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("a writer");
    }
    let took = started.elapsed();
    relay.stop().await;
    took
}

async fn write(writer: usize, replica: Replica) {
    let jobs = replica.space("main").and_then(|main| main.collection("jobs")).expect("names");
    for batch in 0..WRITER_BATCHES {
        let row = |n: usize| {
            let fields = Map::from_iter([("status".to_owned(), Value::from("booked"))]);
            (format!("{writer}-{batch}-{n}"), fields)
        };
        let results = jobs.put_all((0..BATCH).map(row).collect()).await.expect("open");
        assert!(results.iter().all(Result::is_ok), "every edit is kept");
    }
    replica.saved().await.expect("the relay takes it");
}

async fn connected(folder: &TempDir, name: &str, relay: &LiveRelay) -> Replica {
    let replica = Replica::open(folder.path().join(name)).await.expect("a new replica");
    let main = replica.space("main").expect("a name");
    replica.connect(&relay.url(), &[&main]).await.expect("an address");
    replica.status_when(|status| status.link == Link::Safe).await.expect("open");
    replica
}
