//! A relay as its operator sees it: settings, metrics, devices, backups, limits.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rejoin_tests::processes::{Rejoin, RelayProcess, Running};
use serde_json::Value;

/// A folder in which a relay runs by a file of settings, with its address.
struct Operated {
    folder: tempfile::TempDir,
    rejoin: Rejoin,
    relay: Option<Running>,
    url: String,
}

impl Operated {
    /// Starts a relay with these settings beside `listen` and `data`.
    fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rejoin = Rejoin::in_dir(folder.path());
        let mut operated = Self { folder, rejoin, relay: None, url: String::new() };
        operated.start_again(settings);
        operated
    }

    fn start_again(&mut self, settings: &str) {
        self.relay = None;
        let text = format!("listen = \"127.0.0.1:0\"\ndata = \"relay\"\n{settings}");
        std::fs::write(self.folder.path().join("relay.toml"), text).expect("a file");
        let log = std::fs::File::create(self.folder.path().join("relay.log")).expect("a file");
        let mut command = self.rejoin.command(["relay", "--config", "relay.toml"]);
        command.env("RUST_LOG", "info").stderr(Stdio::from(log));
        let mut relay = Running::start(command);
        let line = relay.line().expect("the relay listens");
        let url = line.strip_prefix("listening on ").expect("an address");
        self.url = url.trim_end_matches("/sync").to_owned();
        self.relay = Some(relay);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("relay.log")).expect("a log")
    }

    /// Waits until the log has a line with all these words, and returns it.
    fn logged(&self, words: &[&str]) -> String {
        until("a line in the log", || {
            let log = self.log();
            let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            line.map(str::to_owned)
        })
    }

    fn rejoin(&self, line: &str) -> String {
        self.rejoin.ok(line.split(' '))
    }

    fn json(&self, line: &str) -> Value {
        self.rejoin.json(line.split(' '))
    }

    fn sync(&self, replica: &str) {
        self.rejoin(&format!("--replica {replica} sync {} --once", self.url));
    }

    fn set(&self, replica: &str, key: &str, status: &str) {
        self.rejoin(&format!("--replica {replica} set jobs {key} status={status}"));
    }

    fn digest(&self, replica: &str) -> String {
        self.rejoin(&format!("--replica {replica} digest"))
    }
}

/// Polls until there is something.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "there never was {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that was free just now.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

/// What an address answers over HTTP: the status, and the body.
fn get(address: &str, path: &str) -> (u16, String) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).expect("somebody listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    (status.expect("a status"), body.to_owned())
}

#[test]
fn settings_are_checked_before_they_count() {
    let operated = Operated::start("");
    let write = |text: &str| {
        std::fs::write(operated.folder.path().join("other.toml"), text).expect("a file");
    };
    write("data = \"relay\"\ncache = \"4MiB\"\n[limits]\nconnections = 7\n");
    let told = operated.json("relay --config other.toml --check --cache 8MiB");
    assert_eq!(told["settings"]["cache"], "8MiB", "an option goes before the file");
    assert_eq!(told["settings"]["limits.connections"], 7);
    assert_eq!(told["settings"]["limits.unread"], "64MiB", "the default");
    write("dta = \"relay\"\n[limits]\nconections = 7\n");
    let said = operated.rejoin.refused(["relay", "--config", "other.toml", "--check"]);
    assert!(said.contains("line 1: there is no setting `dta`; did you mean \"data\"?"), "{said}");
    assert!(said.contains("line 3") && said.contains("\"connections\""), "{said}");
    let said = operated.rejoin.refused(["relay", "--check"]);
    assert!(said.contains("--data"), "{said}");
    write("data = \"relay\"\n[monitor]\nlisten = \"0.0.0.0:9465\"\n");
    let said = operated.rejoin.refused(["relay", "--config", "other.toml", "--check"]);
    assert!(said.contains("loopback"), "{said}");
}

#[test]
fn metrics_and_the_log_tell_who_was_here_and_how_much_came() {
    let address = free_address();
    let mut operated = Operated::start(&format!("[monitor]\nlisten = \"{address}\"\n"));
    operated.rejoin("--replica a.redb whoami --user ana --device van");
    operated.set("a.redb", "1", "booked");
    operated.sync("a.redb");
    let line = operated.logged(&["session ended", "user=\"ana\"", "spaces=\"main\""]);
    assert!(line.contains("changes=2") && line.contains("remote=127.0.0.1:"), "{line}");
    let (status, page) = get(&address, "/metrics");
    assert_eq!(status, 200);
    let value = |name: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).parse::<f64>().expect("a number")
    };
    assert_eq!(value("rejoin_relay_changes_kept_total"), 2.0);
    assert_eq!(value("rejoin_relay_store_open"), 1.0);
    assert!(value("rejoin_relay_commit_seconds_count") >= 1.0);
    assert!(value("rejoin_relay_message_seconds_count") >= 1.0);
    assert!(value("rejoin_relay_store_bytes") > 1000.0);
    assert_eq!(get(&address, "/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(get(&address, "/healthz").0, 200);
    assert_eq!(operated.relay.as_mut().and_then(Running::terminate), Some(0));
}

/// The folder with what Prometheus and Grafana read.
fn monitoring() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/monitoring")
}

fn promtool(arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new("promtool");
    command.args(arguments).current_dir(monitoring());
    command
}

#[test]
fn prometheus_reads_the_metrics_and_the_rules_and_knows_what_they_name() {
    for arguments in [
        &["test", "rules", "alerts.test.yml"][..],
        &["check", "rules", "alerts.yml"],
        &["check", "config", "prometheus.yml"],
    ] {
        let ended = promtool(arguments).output().expect("promtool starts");
        assert!(
            ended.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&ended.stdout)
        );
    }
    let address = free_address();
    let operated = Operated::start(&format!("[monitor]\nlisten = \"{address}\"\n"));
    operated.set("a.redb", "1", "booked");
    operated.sync("a.redb");
    let (_, page) = get(&address, "/metrics");
    // What rules and dashboard name is there, by its name or by that of a histogram.
    let read = |name: &str| std::fs::read_to_string(monitoring().join(name)).expect("a file");
    let named = read("alerts.yml") + &read("dashboard.json");
    let names: std::collections::BTreeSet<_> = named
        .split(|char: char| !char.is_ascii_alphanumeric() && char != '_')
        .filter(|word| word.starts_with("rejoin_relay_"))
        .collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let is_there = page.lines().any(|line| line.starts_with(name));
        assert!(is_there, "{name} is not told");
    }
    let rules = read("alerts.yml");
    let docs = std::fs::read_to_string(monitoring().join("../../docs/operating.md"));
    let docs = docs.expect("a page");
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(docs.contains(&format!("| {alert} |")), "{alert} is not explained");
    }
}

#[test]
fn an_operator_sees_devices_spaces_and_connections() {
    let operated = Operated::start("");
    operated.rejoin("--replica a.redb whoami --user ana --device van");
    for key in ["1", "2", "3"] {
        operated.set("a.redb", key, "booked");
    }
    operated.sync("a.redb");
    operated.sync("b.redb");
    operated.logged(&["session ended", "changes=0"]);
    operated.set("a.redb", "4", "booked");
    operated.sync("a.redb");
    until("both as gone", || {
        let none =
            operated.json("admin --data relay connections")["connections"] == Value::Array(vec![]);
        none.then_some(())
    });
    let spaces = operated.json("admin --data relay spaces");
    assert_eq!(spaces["spaces"][0]["documents"], 4, "{spaces}");
    assert_eq!(spaces["spaces"][0]["collections"][0][0], "jobs");
    let documents = operated.json("admin --data relay documents --collection jobs --limit 2");
    assert_eq!(documents["documents"].as_array().map(Vec::len), Some(2));

    let devices = operated.json("admin --data relay devices");
    let of = |user: Option<&str>| {
        let devices = devices["devices"].as_array().expect("devices");
        devices.iter().find(|it| it["user"].as_str() == user).expect("the device").clone()
    };
    let (ana, other) = (of(Some("ana")), of(None));
    assert_eq!((&ana["name"], &ana["connected"]), (&"van".into(), &false.into()));
    assert_eq!(ana["waited_on_arrival"], 1);
    let lacks = |device: &Value| {
        let space = &device["spaces"][0];
        space["of"].as_u64().expect("a number") - space["position"].as_u64().expect("a number")
    };
    assert_eq!((lacks(&ana), lacks(&other)), (0, 2), "{devices}");
    let why = |device: &Value| {
        let id = device["device"].as_str().expect("an id");
        operated.rejoin(&format!("admin --data relay why {}", &id[..8]))
    };
    assert!(why(&other).contains("all but the last 2 changes"), "{}", why(&other));
    assert!(why(&ana).contains("everything new of main"), "{}", why(&ana));
    assert!(
        operated.rejoin.refused("admin --data relay why zz".split(' ')).contains("admin devices")
    );

    // A connected one is there as long as nobody ends it.
    let command = format!("--replica b.redb sync {}", operated.url);
    let mut syncing = Running::start(operated.rejoin.command(command.split(' ')));
    let connection = until("a connection", || {
        let told = operated.json("admin --data relay connections");
        let connection = told["connections"].as_array()?.first()?.clone();
        (connection["spaces"][0] == "main").then_some(connection)
    });
    assert_eq!(connection["device"], other["device"]);
    let number = connection["connection"].as_u64().expect("a number");
    operated.rejoin(&format!("admin --data relay kick {number}"));
    until("another connection of it", || {
        let told = operated.json("admin --data relay connections");
        let now = told["connections"].as_array()?.first()?["connection"].as_u64()?;
        (now != number).then_some(())
    });
    assert!(syncing.lives());
    let told = operated.rejoin("admin --data relay quarantined");
    assert_eq!(told, "nothing is lost, and nothing is beyond mending\n");
    operated.rejoin("admin --data relay compact");
    operated.rejoin("admin --data relay compact --file");
    let said = operated.rejoin.refused("admin --data elsewhere spaces".split(' '));
    assert!(said.contains("no relay runs in elsewhere"), "{said}");
}

#[test]
fn a_full_space_lets_edits_wait_and_says_why() {
    let mut operated = Operated::start("[limits]\nspace_documents = 2\n");
    for key in ["1", "2", "3"] {
        operated.set("a.redb", key, "booked");
    }
    let command = format!("--replica a.redb sync {}", operated.url);
    let mut syncing = Running::start(operated.rejoin.command(command.split(' ')));
    let told = std::iter::from_fn(|| syncing.line()).find(|line| line.contains("space_documents"));
    drop(syncing);
    let told = told.expect("the reason");
    assert!(told.contains("space main has 2 documents"), "{told}");
    assert_eq!(operated.json("--replica a.redb status")["waiting"], 1);
    assert_eq!(operated.json("admin --data relay spaces")["spaces"][0]["documents"], 2);
    let spaces = operated.rejoin("admin --data relay spaces");
    assert!(spaces.contains("limits.space_documents of the relay allows 2"), "{spaces}");
    let devices = operated.json("admin --data relay devices");
    let device = devices["devices"][0]["device"].as_str().expect("an id");
    let why = operated.rejoin(&format!("admin --data relay why {device}"));
    assert!(why.contains("some may have to wait: space main has 2 documents"), "{why}");
    // A device that has something of its own gets what others wrote all the same.
    operated.set("c.redb", "9", "booked");
    let command = format!("--replica c.redb sync {}", operated.url);
    let syncing = Running::start(operated.rejoin.command(command.split(' ')));
    until("what others wrote", || {
        let listed = operated.json("--replica c.redb list jobs");
        (listed.as_array().map(Vec::len) == Some(3)).then_some(())
    });
    drop(syncing);
    // What is there already can be edited.
    operated.sync("b.redb");
    operated.set("b.redb", "1", "done");
    operated.sync("b.redb");
    operated.start_again("");
    operated.sync("a.redb");
    operated.sync("b.redb");
    assert_eq!(operated.digest("a.redb"), operated.digest("b.redb"));
}

#[test]
fn a_quota_is_raised_while_the_relay_serves() {
    let operated = Operated::start("cache = \"8MiB\"\n[limits]\nspace_documents = 1\n");
    operated.set("a.redb", "1", "booked");
    operated.set("a.redb", "2", "booked");
    let sync = format!("--replica a.redb sync {} --once --timeout 5s", operated.url);
    operated.rejoin.run(sync.split(' '));
    assert_eq!(operated.json("--replica a.redb status")["waiting"], 1);
    let relay = operated.relay.as_ref().expect("it runs");
    let write = |settings: &str| {
        let text = format!("listen = \"127.0.0.1:0\"\ndata = \"relay\"\n{settings}");
        std::fs::write(operated.folder.path().join("relay.toml"), text).expect("a file");
        relay.hang_up();
    };
    write("[limits]\nspace_documents = 2\nspace_document = 3\n");
    let said = operated.logged(&["the settings stay as they are"]);
    assert!(said.contains("line 5: there is no setting `space_document`"), "{said}");
    operated.rejoin.run(sync.split(' '));
    assert_eq!(operated.json("--replica a.redb status")["waiting"], 1);
    write("cache = \"9MiB\"\n[limits]\nspace_documents = 2\n");
    operated.logged(&["the settings were read again"]);
    let said = operated.logged(&["take effect when the relay is started again"]);
    assert!(said.contains("cache") && !said.contains("space_documents"), "{said}");
    operated.rejoin(&sync);
    assert_eq!(operated.json("--replica a.redb status")["waiting"], 0);
}

#[test]
fn one_address_has_so_many_connections() {
    let operated = Operated::start("[limits]\nconnections_per_address = 1\n");
    let command = format!("--replica a.redb sync {}", operated.url);
    let _syncing = Running::start(operated.rejoin.command(command.split(' ')));
    until("a connection", || {
        let told = operated.json("admin --data relay connections");
        told["connections"].as_array()?.first().map(|_| ())
    });
    let mut command = operated
        .rejoin
        .command(format!("--replica b.redb sync {} --once", operated.url).split(' '));
    command.stderr(Stdio::piped());
    let mut child = command.stdout(Stdio::null()).spawn().expect("rejoin starts");
    let stderr = child.stderr.take().expect("a pipe");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    let told = lines.find_map(|line| line.ok().filter(|line| line.contains("503")));
    child.kill().expect("a process of ours");
    child.wait().expect("it ends");
    assert!(told.is_some());
}

#[test]
fn a_backup_of_a_relay_that_is_written_to_is_of_one_moment() {
    let operated = Operated::start("");
    for n in 0..40 {
        operated.set("a.redb", &n.to_string(), "booked");
    }
    operated.sync("a.redb");
    let command = format!("--replica a.redb sync {}", operated.url);
    let syncing = Running::start(operated.rejoin.command(command.split(' ')));
    // One of many edits while it is taken.
    let edits = std::thread::scope(|scope| {
        let edits = scope.spawn(|| {
            for n in 40..60 {
                operated.set("a.redb", &n.to_string(), "booked");
            }
        });
        for n in 0..5 {
            operated.rejoin(&format!("backup --data relay {n}.backup"));
            let verified = operated.json(&format!("backup verify {n}.backup"));
            assert_eq!(verified["findings"], Value::Array(vec![]));
        }
        edits.join()
    });
    edits.expect("every edit is taken");
    drop(syncing);
    operated.sync("a.redb");
    // The disk is lost.
    let Operated { folder, rejoin, relay, .. } = operated;
    drop(relay);
    std::fs::remove_dir_all(folder.path().join("relay")).expect("the folder");
    let restored = rejoin.json("backup restore 2.backup --data relay".split(' '));
    assert!(restored["documents"].as_u64() >= Some(40), "{restored}");
    let said = rejoin.refused("backup restore 2.backup --data relay".split(' '));
    assert!(said.contains("exists already"), "{said}");
    let relay = RelayProcess::start(folder.path().join("relay"));
    let sync = |replica: &str| {
        rejoin.ok(format!("--replica {replica} sync {} --once", relay.url()).split(' '));
        rejoin.ok(format!("--replica {replica} digest").split(' '))
    };
    // A replica that has more brings it back.
    let (all, fresh) = (sync("a.redb"), sync("fresh.redb"));
    assert_eq!(all, fresh);
    let listed = rejoin.json("--replica fresh.redb list jobs".split(' '));
    assert_eq!(listed.as_array().map(Vec::len), Some(60));
    // Through a pipe, and of a relay that does not run.
    drop(relay);
    let mut command = rejoin.command("backup --data relay -".split(' '));
    let piped = std::fs::File::create(folder.path().join("piped.backup")).expect("a file");
    let status = command.stdout(Stdio::from(piped)).status().expect("rejoin runs");
    assert!(status.success());
    let verified = rejoin.json("backup verify piped.backup".split(' '));
    assert_eq!(verified["documents"], 60);
}

#[test]
fn a_lost_disk_costs_no_more_than_the_time_between_two_backups() {
    let settings = "[backup]\nfolder = \"kept\"\nevery = \"1s\"\n";
    let mut operated = Operated::start(settings);
    let mut rounds = 0;
    for n in 0..6 {
        operated.set("a.redb", &n.to_string(), "booked");
        operated.sync("a.redb");
        // Until a backup has it.
        let of = |operated: &Operated| {
            let verified = operated.rejoin.run(["backup", "verify", "kept", "--json"]);
            let verified: Option<Value> = serde_json::from_str(&verified.stdout).ok();
            verified.and_then(|verified| verified["documents"].as_u64())
        };
        until("a backup of it", || (of(&operated)? > n).then_some(()));
        if n == 3 {
            // A relay that begins anew goes on with the same chain.
            operated.relay.as_mut().expect("it runs").kill9();
            operated.start_again(settings);
            rounds += 1;
        }
    }
    assert_eq!(rounds, 1);
    let wholes = std::fs::read_dir(operated.folder.path().join("kept")).expect("a folder");
    let names = wholes.map(|it| it.expect("an entry").file_name().into_string().expect("a name"));
    let names: Vec<_> = names.collect();
    assert_eq!(names.iter().filter(|name| name.contains("-whole")).count(), 1, "{names:?}");
    operated.relay.as_mut().expect("it runs").kill9();
    std::fs::remove_dir_all(operated.folder.path().join("relay")).expect("the folder");
    operated.rejoin("backup restore kept --data relay");
    operated.start_again(settings);
    operated.sync("fresh.redb");
    assert_eq!(operated.digest("a.redb"), operated.digest("fresh.redb"));
    // Another lifetime is another chain.
    until("another whole backup", || {
        let names = std::fs::read_dir(operated.folder.path().join("kept")).ok()?;
        let wholes = names.filter_map(|it| it.ok()?.file_name().into_string().ok());
        (wholes.filter(|name| name.contains("-whole")).count() == 2).then_some(())
    });
}
