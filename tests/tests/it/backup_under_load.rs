//! A relay that takes 1,000 changes a second loses its disk, and all that its backups and the devices
//! hold is there again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rejoin::blocking::Replica;
use rejoin_tests::processes::{Rejoin, RelayProcess, Running};
use serde_json::{Map, json};

/// Devices that write.
const WRITERS: usize = 4;

/// Documents that each makes in one commit, and the time from one to the next.
const TOGETHER: u64 = 25;
const EVERY: Duration = Duration::from_millis(100);

/// Documents that are to be on the relay's disk before it is lost.
const LEAST: u64 = 5_000;

/// One of the devices.
#[derive(Default)]
struct Writer {
    made: AtomicU64,
    /// Those of them that the relay has on its disk.
    acknowledged: AtomicU64,
}

impl Writer {
    fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    fn write(&self, n: usize, file: &Path, url: &str, stop: &AtomicBool) {
        let replica = Replica::open(file).expect("a replica");
        let space = replica.space("main").expect("a name");
        let jobs = space.collection("jobs").expect("a name");
        replica.connect(url, &[&space]).expect("an address");
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let made = self.made();
            let row = |at| (key(n, at), Map::from_iter([("n".to_owned(), json!(at))]));
            let rows = (made..made + TOGETHER).map(row).collect();
            for edited in jobs.put_all(rows).expect("a commit") {
                edited.expect("an edit");
            }
            self.made.store(made + TOGETHER, Ordering::Relaxed);
            // People go on while the relay is away, and then nothing more is acknowledged.
            next += EVERY;
            thread::sleep(next.saturating_duration_since(Instant::now()));
            if replica.status().waiting == 0 {
                self.acknowledged.store(made + TOGETHER, Ordering::Relaxed);
            }
        }
        replica.close();
    }
}

#[test]
fn what_backups_and_devices_hold_is_there_after_the_disk_is_lost_under_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let rejoin = Rejoin::in_dir(folder.path());
    let (mut relay, url) = start(&rejoin, folder.path());
    let writers: [Writer; WRITERS] = Default::default();
    let stop = AtomicBool::new(false);
    let file = |n: usize| folder.path().join(format!("{n}.redb"));
    let (at_backup, at_increment) = thread::scope(|scope| {
        for (n, writer) in writers.iter().enumerate() {
            let (url, stop) = (&url, &stop);
            scope.spawn(move || writer.write(n, &file(n), url, stop));
        }
        let acknowledged = || -> u64 { writers.iter().map(Writer::acknowledged).sum() };
        until("enough documents", || (acknowledged() >= LEAST).then_some(()));
        let at_backup = acknowledged();
        rejoin.ok(["backup", "--data", "relay", "by-hand.backup"]);
        let at_increment: Vec<u64> = writers.iter().map(Writer::acknowledged).collect();
        // The next one may have begun before that, and the one after it has not.
        let more = increments(folder.path()) + 2;
        until("two more backups", || (increments(folder.path()) >= more).then_some(()));
        relay.kill9();
        std::fs::remove_dir_all(folder.path().join("relay")).expect("the disk is lost");
        stop.store(true, Ordering::Relaxed);
        (at_backup, at_increment)
    });
    let verified = rejoin.json(["backup", "verify", "by-hand.backup"]);
    assert_eq!(verified["findings"], json!([]));
    assert!(verified["documents"].as_u64() >= Some(at_backup), "{verified}, not {at_backup}");

    // A device is lost with it.
    let lost = WRITERS - 1;
    std::fs::remove_file(file(lost)).expect("its file");
    rejoin.ok(["backup", "restore", "kept", "--data", "other-machine"]);
    let relay = RelayProcess::start(folder.path().join("other-machine"));
    let sync = |file: &str| {
        rejoin.ok(["--replica", file, "sync", &relay.url(), "--once", "--timeout", "120s"]);
        rejoin.ok(["--replica", file, "digest"])
    };
    (0..lost).for_each(|n| _ = sync(&format!("{n}.redb")));
    let all = sync("fresh.redb");
    (0..lost).for_each(|n| assert_eq!(sync(&format!("{n}.redb")), all));
    let listed = rejoin.json(["--replica", "fresh.redb", "list", "jobs"]);
    let listed = listed.as_array().expect("a list").iter();
    let there: BTreeSet<&str> = listed.filter_map(|document| document["key"].as_str()).collect();
    for (n, writer) in writers.iter().enumerate() {
        let held = if n == lost { at_increment[n] } else { writer.made() };
        let missing: Vec<_> =
            (0..held).map(|at| key(n, at)).filter(|key| !there.contains(&**key)).collect();
        assert_eq!(missing, Vec::<String>::new(), "of {held} of device {n}");
    }
}

/// A relay that is backed up every second.
fn start(rejoin: &Rejoin, folder: &Path) -> (Running, String) {
    let settings = "listen = \"127.0.0.1:0\"\ndata = \"relay\"\n\
                    [backup]\nfolder = \"kept\"\nevery = \"1s\"\n";
    std::fs::write(folder.join("relay.toml"), settings).expect("a file");
    let mut relay = Running::start(rejoin.command(["relay", "--config", "relay.toml"]));
    let line = relay.line().expect("the relay listens");
    let url = line.strip_prefix("listening on ").expect("an address");
    let url = url.trim_end_matches("/sync").to_owned();
    (relay, url)
}

/// The number of incremental backups that are complete.
fn increments(folder: &Path) -> usize {
    let kept =
        std::fs::read_dir(folder.join("kept")).map_or_else(|_| Vec::new(), Iterator::collect);
    let names = kept.into_iter().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.contains("-more.")).count()
}

fn key(writer: usize, at: u64) -> String {
    format!("{writer}-{at}")
}

/// Polls until there is something.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_mins(2), "there never were {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
