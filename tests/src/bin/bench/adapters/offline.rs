//! What a process that runs adapters needs for many documents.

use std::path::Path;
use std::time::{Duration, Instant};

use rejoin_tests::processes::{Rejoin, RelayProcess, Running};
use tokio::time::sleep;

use super::bulk::per_second_of;
use super::{Target, config, write_jobs};
use crate::{Amount, Figure};

const SIZES: [usize; 2] = [10_000, 100_000];

/// Documents that were made offline are in the replica's file when `rejoin adapters run` starts;
/// while it delivers them it also hands them to the relay, which has none.
pub(super) async fn backfilled(target: &Target) -> Vec<Figure> {
    let mut runs = Vec::new();
    for size in SIZES {
        runs.push(run(target, size).await);
    }
    let [few, many] = SIZES;
    let [(least, least_bytes), (most, most_bytes)] = runs[..] else { unreachable!("two sizes") };
    let rate = |size, took| format!("{} a second", per_second_of(size, took));
    let ten = u32::try_from(many / few).expect("a small number");
    vec![
        Figure::new(
            format!("{many} documents backfilled, {}", rate(many, most)),
            most,
            &format!("{ten} x {few} documents, {}", rate(few, least)),
            ten * least,
        ),
        Figure::new(
            format!("peak memory of the process, {many}"),
            Amount::Bytes(most_bytes),
            &format!("the same with {few} documents"),
            Amount::Bytes(least_bytes),
        ),
    ]
}

/// How long it takes until the table has all, and the peak of the process's memory, in bytes.
async fn run(target: &Target, size: usize) -> (Duration, u64) {
    let table = format!("backfilled_{size}");
    target.create(&table).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_jobs(&folder.path().join("replica.redb"), size).await;
    let relay = RelayProcess::start(folder.path().join("relay"));
    let text = config(&relay.url(), &[target.adapter(&table)]);
    std::fs::write(folder.path().join("adapters.toml"), text).expect("a file");

    let started = Instant::now();
    let mut running = Running::start(Rejoin::in_dir(folder.path()).command(["adapters", "run"]));
    running.line().expect("it says that it runs");
    while target.rows(&table).await < size {
        sleep(LOOK_AGAIN).await;
    }
    let took = started.elapsed();
    let peak = peak_bytes(running.id());
    // What is left for the relay is nothing to wait for.
    running.kill9();
    (took, peak)
}

/// The most memory that a process had so far.
fn peak_bytes(id: u32) -> u64 {
    let status = Path::new("/proc").join(id.to_string()).join("status");
    let status = std::fs::read_to_string(status).expect("the process runs, on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

/// How often the table is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
