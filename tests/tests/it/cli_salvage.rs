//! Damaged files through the real binary: what is said, and what is saved.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rejoin_tests::processes::{Rejoin, Running};
use serde_json::{Value, json};

/// A folder with a relay, and two devices that meet there.
struct Company {
    folder: tempfile::TempDir,
    rejoin: Rejoin,
}

impl Company {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rejoin = Rejoin::in_dir(folder.path());
        Self { folder, rejoin }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a relay over a folder, which logs to a file; its address, if it started.
    fn relay(&self, data: &str) -> (Running, Option<String>) {
        let line = ["relay", "--listen", "127.0.0.1:0", "--data", data];
        let mut command = self.rejoin.command(line);
        command.stderr(File::create(self.path("relay.log")).expect("a log"));
        let mut running = Running::start(command);
        let line = running.line();
        let url = line.map(|line| line.trim_start_matches("listening on ").to_owned());
        (running, url)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("relay.log")).expect("the log")
    }

    fn sync(&self, device: &str, url: &str) {
        self.rejoin.ok(["--replica", device, "sync", url, "--once"]);
    }

    fn set(&self, key: &str, note: &str) {
        let note = format!("note={note}");
        self.rejoin.ok(["--replica", "van.redb", "set", "jobs", key, &note]);
    }

    fn digest(&self, device: &str) -> Value {
        self.rejoin.json(["--replica", device, "digest"])["digest"].clone()
    }

    fn jobs(&self, device: &str) -> Vec<Value> {
        let listed = self.rejoin.json(["--replica", device, "list", "jobs"]);
        listed.as_array().expect("jobs").clone()
    }
}

/// Flips a bit of a text wherever it stands in a file.
fn rot(file: &Path, text: &str) {
    let mut bytes = fs::read(file).expect("the file");
    let places: Vec<usize> = bytes
        .windows(text.len())
        .enumerate()
        .filter(|(_, it)| *it == text.as_bytes())
        .map(|it| it.0)
        .collect();
    assert!(!places.is_empty(), "{text} is in the file");
    places.iter().for_each(|at| bytes[*at] ^= 1);
    fs::write(file, bytes).expect("the file");
}

#[test]
#[cfg(unix)]
fn a_relay_whose_disk_rots_names_the_document_and_is_mended_by_who_holds_it() {
    let company = Company::new();
    let (mut relay, url) = company.relay("relay");
    let url = url.expect("the relay listens");
    for n in 0..5 {
        company.set(&n.to_string(), &format!("marked-{n}-text"));
    }
    company.sync("van.redb", &url);
    assert_eq!(relay.terminate(), Some(0));
    rot(&company.path("relay/relay.redb"), "marked-3-text");

    let (mut relay, url) = company.relay("relay");
    let url = url.expect("the relay listens");
    // It gets what is sound, and is told that something is lost.
    let sync = format!("--replica desk.redb sync {url} --once --timeout 3s");
    let said = company.rejoin.refused(sync.split(' '));
    assert!(said.contains("the relay lost changes of 1 document to damage"), "{said}");
    assert_ne!(company.digest("desk.redb"), company.digest("van.redb"));
    assert_eq!(company.jobs("desk.redb").len(), 5);
    let document = company.rejoin.json("--replica van.redb list jobs".split(' '));
    let document = document.as_array().expect("jobs").iter().find(|job| job["key"] == "3");
    let id = document.expect("the job")["id"].as_str().expect("an id").to_owned();
    let told = company.log();
    let named = told.lines().filter(|line| line.contains(&id)).count();
    assert_eq!(named, 1, "{told}");
    assert!(!told.contains("panicked"), "{told}");

    company.sync("van.redb", &url);
    company.sync("desk.redb", &url);
    assert_eq!(company.digest("desk.redb"), company.digest("van.redb"));
    assert_eq!(company.jobs("desk.redb").len(), 5);
    assert_eq!(relay.terminate(), Some(0));
}

#[test]
fn a_relay_that_was_cut_off_and_damaged_is_salvaged() {
    let company = Company::new();
    let (mut relay, url) = company.relay("relay");
    let url = url.expect("the relay listens");
    for n in 0..20 {
        company.set(&n.to_string(), &format!("marked-{n}-text"));
    }
    company.sync("van.redb", &url);
    relay.kill9();
    rot(&company.path("relay/relay.redb"), "marked-3-text");
    let damaged = fs::read(company.path("relay/relay.redb")).expect("the file");
    let salvaged = company.rejoin.run("doctor --salvage relay fresh --json".split(' '));
    let told: Value = serde_json::from_str(&salvaged.stdout).expect("JSON");
    // Of a file that was not closed redb reads the commit before, if the last one is damaged.
    assert_eq!((&told["kind"], &told["everything"]), (&json!("relay"), &json!(false)), "{told}");
    assert_eq!(salvaged.code, 1, "something is lost: {salvaged:?}");
    assert_eq!(fs::read(company.path("relay/relay.redb")).expect("the file"), damaged);
    let left = fs::read_dir(company.path("fresh")).expect("a folder").count();
    assert_eq!(left, 1, "nothing but the new file");
    let (_relay, url) = company.relay("fresh");
    let url = url.expect("the relay listens");
    company.sync("van.redb", &url);
    company.sync("desk.redb", &url);
    assert_eq!(company.digest("desk.redb"), company.digest("van.redb"));
    assert_eq!(company.jobs("desk.redb").len(), 20);
}

#[test]
fn a_damaged_replica_is_salvaged_with_its_unsent_edits_and_meets_the_relay_again() {
    let company = Company::new();
    let (_relay, url) = company.relay("relay");
    let url = url.expect("the relay listens");
    company.set("1", "marked-1-text");
    company.set("2", "marked-2-text");
    company.sync("van.redb", &url);
    company.set("2", "unsent-2-text");
    company.set("4", "unsent-4-text");
    let van = company.path("van.redb");
    rot(&van, "marked-1-text");
    // Nothing wrong is shown, and it is said what to do.
    let said = company.rejoin.refused("--replica van.redb get jobs 1".split(' '));
    assert!(said.contains("rejoin doctor"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let other = company.rejoin.json("--replica van.redb get jobs 4".split(' '));
    assert_eq!(other["value"]["note"], "unsent-4-text", "{other}");
    let damaged = fs::read(&van).expect("the file");
    let fresh = company.path("fresh.redb");
    let said = company.rejoin.run(["doctor", "--salvage", "van.redb", "fresh.redb", "--json"]);
    let told: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(
        (&told["kind"], &told["edits"], &told["edits_lost"]),
        (&json!("replica"), &json!(2), &json!(0)),
        "{told}"
    );
    assert_eq!(told["whole"], 2, "{told}");
    let saved = told["partly"]
        .as_array()
        .expect("names")
        .iter()
        .chain(told["lost"].as_array().expect("names"));
    assert_eq!(saved.map(|it| &it["key"]).collect::<Vec<_>>(), ["1"], "{told}");
    assert_eq!(said.code, 1);
    assert!(fresh.exists());
    assert_eq!(fs::read(&van).expect("the file"), damaged, "it is only read");
    let status = company.rejoin.json("--replica fresh.redb status".split(' '));
    assert_eq!(status["waiting"], 2, "{status}");

    company.sync("fresh.redb", &url);
    company.sync("desk.redb", &url);
    assert_eq!(company.digest("fresh.redb"), company.digest("desk.redb"));
    let jobs = company.jobs("fresh.redb");
    let note = |key: &str| {
        jobs.iter().find(|job| job["key"] == key).expect("the job")["value"]["note"].clone()
    };
    assert_eq!(
        [note("1"), note("2"), note("4")],
        ["marked-1-text", "unsent-2-text", "unsent-4-text"]
    );
    // Another time there is something in the way.
    let said = company.rejoin.refused(["doctor", "--salvage", "van.redb", "fresh.redb"]);
    assert!(said.contains("exists already"), "{said}");
    let said = company.rejoin.refused(["doctor", "--salvage", "gone.redb", "other.redb"]);
    assert!(said.contains("there is no file at gone.redb"), "{said}");
}

#[test]
fn what_is_no_file_of_rejoin_is_not_salvaged() {
    let company = Company::new();
    fs::write(company.path("notes.txt"), "This is not a replica. ".repeat(500)).expect("a file");
    let said = company.rejoin.refused(["doctor", "--salvage", "notes.txt", "fresh.redb"]);
    assert!(said.contains("nothing can be read of notes.txt"), "{said}");
    let left: Vec<_> = fs::read_dir(company.folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
