//! Adapters in the process of a relay: one program to start, which loses nothing when it is killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rejoin_tests::processes::{Rejoin, Running};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A relay that runs adapters, and somebody who edits.
struct Company {
    folder: TempDir,
    rejoin: Rejoin,
    /// What the relay's replicas connect to.
    url: String,
    relay: Running,
}

impl Company {
    /// Starts it all, and waits until the adapters run.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write_adapters(folder.path(), "out");
        let rejoin = Rejoin::in_dir(folder.path());
        let (relay, url) = start(&rejoin, "127.0.0.1:0");
        let mut company = Self { folder, rejoin, url, relay };
        company.adapters_run();
        company
    }

    fn adapters_run(&mut self) {
        assert_eq!(self.relay.line().as_deref(), Some("running board; Ctrl-C ends it"));
    }

    /// Kills the relay with its adapters, and starts both again at the same address.
    fn kill9_and_restart(&mut self) {
        self.relay.kill9();
        let (relay, url) = start(&self.rejoin, self.url.trim_start_matches("ws://"));
        assert_eq!(url, self.url);
        self.relay = relay;
        self.adapters_run();
    }

    fn set(&self, key: &str, field: &str) {
        self.rejoin.ok(["--replica", "desk.redb", "set", "jobs", key, field]);
    }

    fn sync(&self) {
        self.rejoin.ok(["--replica", "desk.redb", "sync", &self.url, "--once"]);
    }

    fn status(&self) -> Value {
        self.rejoin.json(["adapters", "status"])[0].take()
    }

    fn delivered(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("out").join("1.jsonl"));
        let text = text.unwrap_or_default();
        // A line that is being written has no end yet.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn rows(&self) -> BTreeMap<String, Value> {
        let told = self.delivered().into_iter();
        told.map(|it| (it["record"].as_str().expect("a key").to_owned(), it["row"].clone()))
            .collect()
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < Duration::from_secs(60), "{what} does not come");
            std::thread::yield_now();
        }
    }
}

/// A file that names no relay.
fn write_adapters(folder: &Path, out: &str) {
    let text = format!(
        r#"
        [replica]
        data  = "adapters"
        space = "main"
        [adapter.board]
        collection = "jobs"
        sink       = {{ kind = "jsonl", folder = "{out}" }}
        [[adapter.board.record]]
        name = "jobs"
        key  = "{{key}}"
        [adapter.board.record.fields]
        status = {{ from = "status" }}
        "#
    );
    std::fs::write(folder.join("adapters.toml"), text).expect("a file");
}

/// A relay with adapters, as soon as it listens, and its address.
fn start(rejoin: &Rejoin, listen: &str) -> (Running, String) {
    let arguments = ["relay", "--listen", listen, "--data", "relay", "--adapters", "adapters.toml"];
    let mut relay = Running::start(rejoin.command(arguments));
    let line = relay.line().expect("the relay listens");
    let url = line.strip_prefix("listening on ").and_then(|it| it.strip_suffix("/sync"));
    let url = url.unwrap_or_else(|| panic!("the relay says {line}")).to_owned();
    assert_eq!(relay.line(), Some(format!("for automerge-repo on {url}/automerge")));
    (relay, url)
}

#[test]
fn documents_reach_the_target_whatever_is_killed() {
    let mut company = Company::new();
    let mut wanted = BTreeMap::new();
    for round in 0..4 {
        for job in 0..6 {
            let (key, status) = (format!("W-{job}"), format!("{round}"));
            company.set(&key, &format!("status=round {status}"));
            wanted.insert(key, json!({ "status": format!("round {status}") }));
        }
        company.sync();
        // The relay has it all; some of it may be on its way to the target.
        company.kill9_and_restart();
    }
    company.wait("the last row", |company| company.rows() == wanted);
    let delivered = company.delivered();
    let keys: std::collections::BTreeSet<_> =
        delivered.iter().map(|it| it["key"].to_string()).collect();
    assert_eq!(keys.len(), delivered.len(), "nothing was written twice");
}

#[test]
fn commands_reach_them_and_both_end_in_order() {
    let mut company = Company::new();
    company.rejoin.ok(["adapters", "pause", "board"]);
    company.set("W-1", "status=booked");
    company.sync();
    company.wait("what waits", |company| company.status()["waiting"] == 1);
    assert_eq!(company.status()["unsent"][0]["key"], "W-1");
    company.rejoin.ok(["adapters", "resume", "board"]);
    company.wait("the row", |company| company.rows().contains_key("W-1"));
    let socket = company.folder.path().join("adapters").join("control.sock");
    assert!(socket.exists());
    assert_eq!(company.relay.terminate(), Some(0));
    assert!(!socket.exists(), "the adapters did not end in order");
    assert_eq!(company.status()["documents"], 1, "it can be looked at without running");

    // Beside a relay the file need not name one, but by themselves adapters need it.
    let said = company.rejoin.refused(["adapters", "run"]);
    assert!(said.contains("relay = ") && said.contains("--adapters"), "{said}");
}

#[test]
fn adapters_that_cannot_run_do_not_stop_the_relay() {
    let folder = tempfile::tempdir().expect("a folder");
    // A file stands where the target's folder should be.
    write_adapters(folder.path(), "taken");
    std::fs::write(folder.path().join("taken"), "").expect("a file");
    let rejoin = Rejoin::in_dir(folder.path());
    let (mut relay, url) = start(&rejoin, "127.0.0.1:0");
    rejoin.ok(["--replica", "desk.redb", "set", "jobs", "W-1", "status=booked"]);
    rejoin.ok(["--replica", "desk.redb", "sync", &url, "--once"]);
    // Somebody looks into it, and the adapters try again.
    std::fs::remove_file(folder.path().join("taken")).expect("it is there");
    assert!(relay.line().expect("they run").contains("board"));
    let (lines, began) = (folder.path().join("taken").join("1.jsonl"), Instant::now());
    while !std::fs::read_to_string(&lines).is_ok_and(|lines| lines.contains("W-1")) {
        assert!(began.elapsed() < Duration::from_secs(60), "the row does not come");
        std::thread::yield_now();
    }
    assert_eq!(relay.terminate(), Some(0));
}

#[test]
fn a_file_that_is_wrong_is_told_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("adapters.toml"), "[replica]\ndata = 3\n").expect("a file");
    let rejoin = Rejoin::in_dir(folder.path());
    let said = rejoin.refused(["relay", "--data", "relay", "--adapters", "adapters.toml"]);
    assert!(said.contains("adapters.toml:2:8"), "{said}");
    assert!(!folder.path().join("relay").exists());
}
