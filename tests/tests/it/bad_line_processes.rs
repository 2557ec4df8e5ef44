//! Real processes on a line that is slow and cut again and again: they arrive, and the line carries
//! little more than one that is good.

use std::path::Path;
use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use rejoin::Replica;
use rejoin_tests::line::{Line, Quality};
use rejoin_tests::processes::{Rejoin, RelayProcess};
use serde_json::json;
use tempfile::TempDir;

/// A folder with a relay, and a replica `desk.redb` with so many jobs.
fn filled(jobs: usize) -> (TempDir, RelayProcess, Rejoin) {
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(folder.path().join("relay"));
    let rejoin = Rejoin::in_dir(folder.path());
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let rows: String = (0..jobs).map(|n| format!("{n:05},{}\n", noise(&mut rng, 40))).collect();
    std::fs::write(folder.path().join("in.csv"), format!("id,note\n{rows}")).unwrap();
    let import = "--replica desk.redb import in.csv --collection jobs --key id";
    rejoin.ok(import.split(' '));
    (folder, relay, rejoin)
}

fn noise(rng: &mut ChaCha8Rng, len: usize) -> String {
    (0..len).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect()
}

/// Syncs over a line of this quality until both sides hold everything, and gives the bytes that the
/// line carried, to the relay and from it.
fn sync(rejoin: &Rejoin, relay: &RelayProcess, replica: &str, quality: Quality) -> (u64, u64) {
    let line = Line::to(&relay.url(), quality);
    let url = line.url();
    rejoin.ok(["--replica", replica, "sync", &url, "--once", "--timeout", "120s"]);
    line.carried()
}

/// A line that carries so many bytes until it is cut.
fn bad(bytes_per_s: u64, lifetime_ms: u64) -> Quality {
    Quality { bytes_per_s, lifetime: Duration::from_millis(lifetime_ms) }
}

/// So much may come again with each cut: what a mark was not told of, and the opening.
fn little_more(than: u64, bytes_a_session: u64) -> u64 {
    let sessions = than / bytes_a_session + 3;
    than * 12 / 10 + sessions * 2048
}

fn digests_agree(rejoin: &Rejoin, one: &str, other: &str) {
    let digest = |replica| rejoin.json(["--replica", replica, "digest"]);
    assert_eq!(digest(one), digest(other));
}

#[test]
fn a_first_upload_and_a_first_sync_arrive() {
    let (_folder, relay, rejoin) = filled(1500);
    let (up, _) = sync(&rejoin, &relay, "desk.redb", bad(100_000, 800));
    // Another relay takes the same over a good line.
    let apart = tempfile::tempdir().unwrap();
    let other = RelayProcess::start(apart.path().join("relay"));
    let (whole, _) = sync(&rejoin, &other, "desk.redb", Quality::GOOD);
    assert!(up <= little_more(whole, 80_000), "{up} bytes went up, and {whole} on a good line");

    let (_, down) = sync(&rejoin, &relay, "van.redb", bad(100_000, 800));
    let (_, whole) = sync(&rejoin, &relay, "bike.redb", Quality::GOOD);
    assert!(down <= little_more(whole, 80_000), "{down} bytes came, and {whole} on a good line");
    digests_agree(&rejoin, "desk.redb", "van.redb");
    digests_agree(&rejoin, "bike.redb", "van.redb");
}

#[test]
fn a_document_of_five_megabytes_arrives() {
    let (folder, relay, rejoin) = filled(1);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let pages: Vec<_> = (0..10).map(|_| noise(&mut rng, 500_000)).collect();
    write(&folder.path().join("desk.redb"), &pages);
    let (up, _) = sync(&rejoin, &relay, "desk.redb", bad(2_000_000, 700));
    let (_, down) = sync(&rejoin, &relay, "van.redb", bad(2_000_000, 700));
    let (_, whole) = sync(&rejoin, &relay, "bike.redb", Quality::GOOD);
    assert!(up <= little_more(5_000_000, 1_400_000), "{up} bytes went up");
    assert!(down <= little_more(whole, 1_400_000), "{down} bytes came, and {whole} on a good line");
    let read = rejoin.json(["--replica", "van.redb", "get", "jobs", "scan"]).to_string();
    assert!(pages.iter().all(|page| read.contains(page)), "other pages came");
}

#[tokio::main(flavor = "current_thread")]
async fn write(replica: &Path, pages: &[String]) {
    let replica = Replica::open(replica).await.unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let scan = jobs.create("scan", &json!({ "name": "Boiler" })).await.unwrap();
    for (n, page) in pages.iter().enumerate() {
        scan.set(format!("page{n}").as_str(), page).await.unwrap();
    }
    replica.close().await;
}

#[test]
fn a_device_that_was_away_arrives() {
    let (_folder, relay, rejoin) = filled(1000);
    sync(&rejoin, &relay, "desk.redb", Quality::GOOD);
    for replica in ["van.redb", "bike.redb"] {
        sync(&rejoin, &relay, replica, Quality::GOOD);
        rejoin.ok(["--replica", replica, "set", "jobs", "00007", &format!("by={replica}")]);
    }
    let rows: String = (0..600).map(|n| format!("{n:05},done {n}\n")).collect();
    rejoin.run_with_input(
        ["--replica", "desk.redb", "import", "-", "--collection", "jobs", "--key", "id"],
        format!("id,status\n{rows}").as_bytes(),
    );
    sync(&rejoin, &relay, "desk.redb", Quality::GOOD);
    let (_, whole) = sync(&rejoin, &relay, "bike.redb", Quality::GOOD);
    let (_, down) = sync(&rejoin, &relay, "van.redb", bad(40_000, 700));
    assert!(down <= little_more(whole, 28_000), "{down} bytes came, and {whole} on a good line");
    sync(&rejoin, &relay, "bike.redb", Quality::GOOD);
    digests_agree(&rejoin, "bike.redb", "van.redb");
}
