//! The main job with real processes: import, edit apart, meet at a relay that is killed, and be
//! equal everywhere.

use std::path::{Path, PathBuf};

use rejoin_tests::processes::{Rejoin, RelayProcess};
use serde_json::Value;

/// A device: a replica in a file, and the commands on it.
struct Device {
    rejoin: Rejoin,
    file: &'static str,
}

impl Device {
    fn ok(&self, arguments: &[&str]) -> String {
        self.rejoin.ok(["--replica", self.file].iter().chain(arguments))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        self.rejoin.json(["--replica", self.file].iter().chain(arguments))
    }

    fn sync(&self, relay: &RelayProcess) {
        let synced = self.json(&["sync", &relay.url(), "--once"]);
        assert_eq!(synced["link"], "safe");
        assert_eq!(synced["waiting"], 0);
    }

    fn digest(&self) -> String {
        self.ok(&["digest"])
    }

    fn job(&self, key: &str) -> Value {
        self.json(&["get", "jobs", key])["value"].take()
    }

    fn count(&self) -> usize {
        self.json(&["list", "jobs"]).as_array().expect("an array of documents").len()
    }
}

/// Three jobs that the story is about: one that both edit, and one for each alone.
struct Jobs<'a> {
    both: &'a str,
    only_a: &'a str,
    only_b: &'a str,
}

#[test]
fn a_day_of_service_requests_survives_offline_edits_and_a_killed_relay() {
    let Some(csv) = service_requests() else { return };
    let keys = Jobs { both: "54049402", only_a: "54046813", only_b: "54045643" };
    story(&csv, "Unique Key", 924, &keys);
}

#[test]
fn a_few_jobs_survive_offline_edits_and_a_killed_relay() {
    let folder = tempfile::tempdir().expect("a folder");
    let csv = folder.path().join("jobs.csv");
    let rows = "id,Status,Descriptor\n1,booked,tap\n2,booked,boiler\n3,booked,pipe\n";
    std::fs::write(&csv, rows).expect("a file");
    story(&csv, "id", 3, &Jobs { both: "1", only_a: "2", only_b: "3" });
}

/// The recorded service requests of one day, if they are there.
fn service_requests() -> Option<PathBuf> {
    let csv = "../../shared/data/nyc-311-2022-05-01.csv";
    let csv = Path::new(env!("CARGO_MANIFEST_DIR")).join(csv);
    if !csv.exists() {
        println!("SKIPPED: {} is not there; a small file is imported instead", csv.display());
        return None;
    }
    Some(csv)
}

fn story(csv: &Path, key_column: &str, count: usize, jobs: &Jobs<'_>) {
    let folder = tempfile::tempdir().expect("a folder");
    let device = |file| Device { rejoin: Rejoin::in_dir(folder.path()), file };
    let (a, b) = (device("a.redb"), device("b.redb"));
    let csv = csv.to_str().expect("a path in UTF-8");
    a.ok(&["import", csv, "--collection", "jobs", "--key", key_column]);
    let mut relay = RelayProcess::start(folder.path().join("relay"));
    a.sync(&relay);
    b.sync(&relay);
    assert_eq!(b.count(), count);
    assert_eq!(a.digest(), b.digest());

    edit_apart(&a, &b, jobs);
    assert_ne!(a.digest(), b.digest());
    relay.kill9();
    relay.restart();
    for device in [&a, &b, &a, &b] {
        device.sync(&relay);
    }

    assert_eq!(a.digest(), b.digest());
    for device in [&a, &b] {
        assert_eq!(device.count(), count);
        everything_is_there(device, jobs);
    }
    assert_eq!(a.ok(&["export", "jobs"]), b.ok(&["export", "jobs"]));
}

/// Fields and notes of the same job and of different jobs, with no relay in reach.
fn edit_apart(a: &Device, b: &Device, jobs: &Jobs<'_>) {
    a.ok(&["set", "jobs", jobs.both, "Status=On the way"]);
    b.ok(&["set", "jobs", jobs.both, "Descriptor=Two taps"]);
    a.ok(&["append", "jobs", jobs.both, "notes", "Ring twice. "]);
    b.ok(&["append", "jobs", jobs.both, "notes", "Mind the dog. "]);
    a.ok(&["add", "jobs", jobs.both, "parts", "2"]);
    b.ok(&["add", "jobs", jobs.both, "parts", "-5"]);
    a.ok(&["set", "jobs", jobs.only_a, "Status=Nobody home"]);
    a.ok(&["append", "jobs", jobs.only_a, "notes", "Left a card."]);
    b.ok(&["set", "jobs", jobs.only_b, "Status=Waiting", "visit.floor:=3"]);
    b.ok(&["append", "jobs", jobs.only_b, "notes", "Key at the desk."]);
    assert_eq!(a.json(&["status"])["waiting"], 5);
    assert_eq!(b.json(&["status"])["waiting"], 5);
}

fn everything_is_there(device: &Device, jobs: &Jobs<'_>) {
    let both = device.job(jobs.both);
    assert_eq!(both["Status"], "On the way");
    assert_eq!(both["Descriptor"], "Two taps");
    assert_eq!(both["parts"], -3);
    let notes = both["notes"].as_str().expect("a text");
    assert!(
        ["Ring twice. Mind the dog. ", "Mind the dog. Ring twice. "].contains(&notes),
        "{notes}"
    );
    let only_a = device.job(jobs.only_a);
    assert_eq!(only_a["Status"], "Nobody home");
    assert_eq!(only_a["notes"], "Left a card.");
    let only_b = device.job(jobs.only_b);
    assert_eq!(only_b["Status"], "Waiting");
    assert_eq!(only_b["visit"]["floor"], 3);
    assert_eq!(only_b["notes"], "Key at the desk.");
}
