//! Commands about a replica that another process has open: that process carries them out.
#![cfg(unix)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use rejoin_tests::processes::{Desk, Ended, Rejoin, RelayProcess, Running};
use serde_json::{Value, json};

/// A desk whose replica `a.redb` is synced with a relay all the time.
struct Office {
    desk: Desk,
    relay: RelayProcess,
    sync: Running,
}

impl Office {
    fn new() -> Self {
        let desk = Desk::new();
        let relay = RelayProcess::start(desk.folder.path().join("relay"));
        let sync = syncing(&desk.rejoin, "a.redb", &relay.url());
        Self { desk, relay, sync }
    }

    /// Runs a command about the replica to its end, whatever that is.
    fn run(&self, line: &str) -> Ended {
        self.desk.rejoin.run(["--replica", "a.redb"].into_iter().chain(line.split(' ')))
    }

    fn start(&self, line: &str) -> Running {
        start(&self.desk.rejoin, line)
    }
}

/// A replica's synchronisation in the background, once both sides hold everything.
fn syncing(rejoin: &Rejoin, replica: &str, relay: &str) -> Running {
    let mut sync = start(rejoin, &format!("--replica {replica} sync {relay} --json"));
    until(&mut sync, |line| line["link"] == "safe");
    sync
}

fn start(rejoin: &Rejoin, line: &str) -> Running {
    let mut command = rejoin.command(line.split(' '));
    command.stdin(Stdio::piped());
    Running::start(command)
}

/// Reads lines of JSON until one is as wanted.
#[track_caller]
fn until(process: &mut Running, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let line = process.line().expect("the process goes on");
        let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if wanted(&line) {
            return line;
        }
    }
}

fn signal(name: &str, process: u32) {
    let sent = Command::new("kill").args([name, &process.to_string()]).status();
    assert!(sent.expect("there is kill").success(), "process {process} was gone already");
}

#[test]
fn edits_beside_a_sync_arrive_elsewhere_as_they_are_made() {
    let office = Office::new();
    let url = office.relay.url();
    let watch = format!("--replica b.redb watch jobs --connect {url} --json");
    let mut other = start(&office.desk.rejoin, &watch);
    until(&mut other, |line| line["event"] == "watching");

    let said = office.desk.text("set jobs 1 status=booked");
    assert!(said.starts_with("jobs 1: created"), "{said}");
    until(&mut other, |line| line["value"] == json!({ "status": "booked" }));
    office.desk.json("append jobs 1 notes hello");
    until(&mut other, |line| line["value"]["notes"] == "hello");
    assert_eq!(office.desk.json("get jobs 1")["value"]["notes"], "hello");

    // Of the other place, where another process has the file open too.
    office.desk.rejoin.ok("--replica b.redb set jobs 1 status=done".split(' '));
    until(&mut other, |line| line["value"]["status"] == "done");
    let synced = office.desk.json(&format!("sync {url} --once"));
    assert_eq!(synced["link"], "safe");
    office.desk.rejoin.ok(["--replica", "b.redb", "sync", &url, "--once"]);
    assert_eq!(office.desk.json("get jobs 1")["value"]["status"], "done");
}

#[test]
fn a_command_says_the_same_beside_another_as_alone() {
    let mut office = Office::new();
    let folder = office.desk.folder.path();
    std::fs::write(folder.join("good.csv"), "id,phone\n7,555\n").expect("a file");
    std::fs::write(folder.join("bad.csv"), "id,phone\n8,555\n8,556\n9\n").expect("a file");
    std::fs::write(folder.join("good.toml"), "[jobs.fields]\nnotes = { merge = \"text\" }\n")
        .expect("a file");
    std::fs::write(folder.join("bad.toml"), "[jobs.fields]\nnotes = { merge = \"no\" }\n")
        .expect("a file");
    office.desk.text("whoami --user Ann --role dispatch");
    office.desk.text("set jobs 1 status=booked phone=555 notes=hello");
    office.desk.text("import good.csv --collection jobs --key id");
    office.desk.text("schema apply good.toml");
    let said_by = |office: &Office| {
        let lines = [
            "list jobs",
            "list jobs --where status=booked",
            "list nothing",
            "get jobs 1",
            "get jobs 9",
            "history jobs 1",
            "blame jobs 1",
            "export jobs",
            "export jobs --format csv",
            "export jobs --for-spreadsheets",
            "reviews",
            "review 123",
            "settle 123 --dismiss no",
            "set jobs 1 status=booked",
            "set jobs 1 status[0]=booked",
            "import good.csv --collection jobs --key id",
            "import good.csv --collection jobs --key nothing",
            "import bad.csv --collection jobs --key id --dry-run",
            "import missing.csv --collection jobs --key id",
            "import . --collection jobs --key id",
            "schema show",
            "schema apply good.toml",
            "schema apply bad.toml",
            "schema diff .",
            "whoami",
            "digest",
            "list jobs --space no/space",
            "status --unsent",
        ];
        let mut said = Vec::new();
        for line in lines {
            for form in ["", " --json"] {
                let ended = office.run(&format!("{line}{form}"));
                said.push((format!("{line}{form}"), ended.code, ended.stdout, ended.stderr));
            }
        }
        let audit = office.run("audit");
        assert_eq!(audit.code, 0, "{audit:?}");
        said
    };
    office.desk.json(&format!("sync {} --once", office.relay.url()));
    let beside = said_by(&office);
    assert!(office.sync.lives());
    office.sync.kill9();
    for (beside, alone) in beside.into_iter().zip(said_by(&office)) {
        assert_eq!(beside, alone);
    }
}

#[test]
fn standard_input_and_files_are_those_of_whoever_typed_the_command() {
    let office = Office::new();
    let csv = "id,task\n1,roof\n2,door\n";
    let import = "--replica a.redb import - --collection jobs --key id".split(' ');
    let ended = office.desk.rejoin.run_with_input(import, csv.as_bytes());
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert!(ended.stdout.contains("2 rows: 2 created"), "{ended:?}");

    let elsewhere = office.desk.folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a folder");
    std::fs::write(elsewhere.join("more.csv"), "id,task\n3,gate\n").expect("a file");
    let rejoin = Rejoin::in_dir(&elsewhere);
    rejoin.ok("--replica ../a.redb import more.csv --collection jobs --key id".split(' '));
    let schema = b"[jobs.fields]\ntask = { type = \"string\" }\n";
    let ended = rejoin.run_with_input("--replica ../a.redb schema apply -".split(' '), schema);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(office.desk.json("list jobs").as_array().map(Vec::len), Some(3));

    // What reads nothing leaves it to the next command.
    let mut shell = Command::new("sh");
    let mut get = office.desk.rejoin.command(["--replica", "a.redb", "get", "jobs", "1"]);
    shell.args(["-c", "\"$@\" >/dev/null && cat", "sh"]).arg(get.get_program());
    shell.args(get.get_args()).current_dir(office.desk.folder.path());
    get.stdin(Stdio::null());
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    shell.stdin.take().expect("a pipe").write_all(b"left").expect("room");
    assert_eq!(shell.wait_with_output().expect("an end").stdout, b"left");
}

#[test]
fn whoever_acts_in_one_command_does_not_act_in_others() {
    let desk = Desk::new();
    let relay = RelayProcess::start(desk.folder.path().join("relay"));
    desk.text("whoami --user Ann");
    let line = format!("--replica a.redb --as Dora sync {} --json", relay.url());
    let mut sync = start(&desk.rejoin, &line);
    until(&mut sync, |line| line["link"] == "safe");
    for (at, who) in
        ["", " --as Timo:technician", "", " --as Bo", " --as Bo", ""].iter().enumerate()
    {
        desk.json(&format!("set jobs 1 visit={at}{who}"));
    }
    let mut command = desk.rejoin.command("--replica a.redb set jobs 1 visit=9".split(' '));
    assert!(command.env("REJOIN_AS", "Cy").output().expect("rejoin starts").status.success());
    let history = desk.json("history jobs 1");
    let edits = history.as_array().expect("changes").iter().filter(|it| it["kind"] == "edit");
    let by: Vec<_> = edits.map(|it| it["author"]["user"].as_str().unwrap_or("-")).collect();
    assert_eq!(by, ["Ann", "Timo", "Ann", "Bo", "Bo", "Ann", "Cy"]);
    assert_eq!(desk.json("whoami")["user"], "Ann");
    assert_eq!(desk.json("whoami --as Timo")["user"], "Timo");
    desk.json("whoami --user Eve");
    desk.json("set jobs 1 visit=10");
    let history = desk.json("history jobs 1 --last 1");
    assert_eq!(history[0]["author"]["user"], "Eve");
}

#[test]
fn a_killed_process_leaves_the_file_to_the_next() {
    let mut office = Office::new();
    office.desk.text("set jobs 1 status=booked");
    office.sync.kill9();
    assert!(office.desk.folder.path().join("a.redb.sock").exists());
    office.desk.text("set jobs 1 status=done");
    assert!(!office.desk.folder.path().join("a.redb.sock").exists());
    office.sync = syncing(&office.desk.rejoin, "a.redb", &office.relay.url());
    office.desk.text("set jobs 1 status=paid");
    assert_eq!(office.desk.json("get jobs 1")["value"]["status"], "paid");
    signal("-INT", office.sync.id());
    while office.sync.line().is_some() {}
    assert!(!office.desk.folder.path().join("a.redb.sock").exists());
}

#[test]
fn who_goes_away_while_a_command_is_carried_out_harms_nobody() {
    let mut office = Office::new();
    let mut import = office.start("--replica a.redb import - --collection jobs --key id --json");
    let rows: String = (0..20_000).map(|row| format!("{row},roof\n")).collect();
    import.say(&format!("id,task\n{rows}"));
    // It waits for more, and some of it was taken.
    let some = || office.desk.json("status")["collections"]["jobs"].as_u64() > Some(500);
    while !some() {}
    import.kill9();
    let mut watch = office.start("--replica a.redb watch jobs --json");
    until(&mut watch, |line| line["event"] == "watching");
    watch.kill9();
    let mut export = office.start("--replica a.redb export jobs");
    assert_eq!(export.line().as_deref(), Some("["));
    assert_eq!(export.stop_reading(), Some(0));
    office.desk.text("set jobs 1 task=door");
    assert!(office.sync.lives());
    signal("-INT", office.sync.id());
    while office.sync.line().is_some() {}
    assert_eq!(office.desk.json("get jobs 1")["value"]["task"], "door");
}

#[test]
fn who_does_not_answer_is_named() {
    let office = Office::new();
    office.desk.text("set jobs 1 status=booked");
    let id = office.sync.id();
    signal("-STOP", id);
    for form in ["", " --json"] {
        let ended = office.run(&format!("list jobs{form}"));
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
        let said = format!("a.redb is open in process {id}, which does not answer");
        assert!(ended.stderr.contains(&said), "{ended:?}");
    }
    signal("-CONT", id);
    office.desk.text("list jobs");
    let said = office.desk.refused("doctor");
    assert!(said.contains(&format!("a.redb is open in process {id}")), "{said}");
    assert!(said.contains("doctor") && said.contains("alone"), "{said}");
}

#[test]
fn commands_that_go_on_go_on_when_the_process_ends_that_carried_them_out() {
    let desk = Desk::new();
    desk.text("set jobs 1 status=booked");
    let watch = || {
        let mut watch = start(&desk.rejoin, "--replica a.redb watch jobs --json");
        until(&mut watch, |line| line["event"] == "watching");
        watch
    };
    let (mut first, mut second) = (watch(), watch());
    desk.text("set jobs 1 status=done");
    for process in [&mut first, &mut second] {
        until(process, |line| line["value"]["status"] == "done" && line["local"] == true);
    }
    signal("-INT", first.id());
    until(&mut second, |line| line["event"] == "watching");
    desk.text("set jobs 1 status=paid");
    until(&mut second, |line| line["value"]["status"] == "paid");
    let mut third = watch();
    second.kill9();
    until(&mut third, |line| line["event"] == "watching");
    desk.text("set jobs 1 status=filed");
    until(&mut third, |line| line["value"]["status"] == "filed");
}

#[test]
fn one_relay_at_a_time_is_synced_with() {
    let office = Office::new();
    let said = office.desk.refused("sync ws://127.0.0.1:9 --once");
    let id = office.sync.id();
    assert!(
        said.contains(&format!("process {id} ")) && said.contains(&office.relay.url()),
        "{said}"
    );
    // The same one for another space, and for no longer than it takes.
    let url = office.relay.url();
    office.desk.json("set jobs 1 status=booked --space other");
    office.desk.json(&format!("sync {url} --once --space other"));
    office.desk.rejoin.ok(["--replica", "b.redb", "sync", &url, "--once", "--space", "other"]);
    let there = office.desk.rejoin.json("--replica b.redb get jobs 1 --space other".split(' '));
    assert_eq!(there["value"]["status"], "booked");
    assert_eq!(office.desk.json("status")["link"], "safe");
}

#[test]
fn an_application_that_has_the_file_open_is_named() {
    let desk = Desk::new();
    desk.text("set jobs 1 status=booked");
    let replica = rejoin::blocking::Replica::open(desk.folder.path().join("a.redb"));
    let replica = replica.expect("a replica");
    let said = desk.refused("list jobs");
    assert!(said.contains(&format!("a.redb is open in process {}", std::process::id())), "{said}");
    replica.close();
    desk.text("list jobs");
}

#[test]
fn a_file_whose_path_is_long_is_shared_too() {
    let desk = Desk::new();
    let relay = RelayProcess::start(desk.folder.path().join("relay"));
    let folder = desk.folder.path().join("a long name of a folder ".repeat(8).trim_end());
    std::fs::create_dir(&folder).expect("a folder");
    let rejoin = Rejoin::in_dir(&folder);
    let _sync = syncing(&rejoin, "a.redb", &relay.url());
    if cfg!(target_os = "linux") {
        rejoin.ok("--replica a.redb set jobs 1 status=booked".split(' '));
        rejoin.ok("--replica a.redb get jobs 1".split(' '));
    }
}

#[test]
fn only_the_owner_may_use_the_socket() {
    use std::os::unix::fs::PermissionsExt;

    let office = Office::new();
    let socket = office.desk.folder.path().join("a.redb.sock");
    let mode = socket.metadata().expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// A frame of the socket, as both sides write it.
fn frame(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).expect("a short frame");
    [&[kind][..], &len.to_be_bytes(), bytes].concat()
}

const VERSION: u8 = 1;

#[test]
fn a_program_of_another_version_is_told_from_ours() {
    let office = Office::new();
    let socket = office.desk.folder.path().join("a.redb.sock");
    let mut other = UnixStream::connect(&socket).expect("a socket");
    other.write_all(&frame(0, br#"{"version":"0.0.0","arguments":1}"#)).expect("room");
    let mut answer = Vec::new();
    other.read_to_end(&mut answer).expect("an end");
    assert_eq!(answer, frame(VERSION, env!("CARGO_PKG_VERSION").as_bytes()));
    // Nonsense ends its connection and nothing else.
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &frame(0, b"[]"), &frame(0, b""), &[0xff; 64]]
    {
        let mut other = UnixStream::connect(&socket).expect("a socket");
        let _ = other.write_all(nonsense);
        let mut answer = Vec::new();
        let _ = other.read_to_end(&mut answer);
    }
    office.desk.text("set jobs 1 status=booked");
}

/// Answers one command at a socket: with these frames and no more.
fn answered(desk: &Desk, frames: Vec<u8>, line: &str) -> Ended {
    let socket = desk.folder.path().join("a.redb.sock");
    let listener = UnixListener::bind(&socket).expect("a folder");
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a command");
        let mut head = [0; 5];
        stream.read_exact(&mut head).expect("a frame");
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut ask = vec![0; len as usize];
        stream.read_exact(&mut ask).expect("a frame");
        stream.write_all(&frames).expect("room");
    });
    let ended = desk.rejoin.run(["--replica", "a.redb"].into_iter().chain(line.split(' ')));
    answering.join().expect("an answer");
    // A command that opens the file itself takes the socket away.
    let _ = std::fs::remove_file(socket);
    ended
}

#[test]
fn who_asks_is_told_what_became_of_the_command() {
    let desk = Desk::new();
    desk.text("set jobs 1 status=booked");
    let ended = answered(&desk, frame(VERSION, b"0.0.0"), "list jobs");
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("runs rejoin 0.0.0") && ended.stderr.contains("start it again"));

    let version = frame(VERSION, env!("CARGO_PKG_VERSION").as_bytes());
    let ended = answered(&desk, version.clone(), "set jobs 1 status=done");
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("whether it was done is not known"), "{ended:?}");
    let ended = answered(&desk, version, "list jobs --json");
    assert_eq!(ended.code, 1, "{ended:?}");
    let said: Value = serde_json::from_str(&ended.stderr).expect("JSON");
    assert!(said["error"].as_str().is_some_and(|it| it.contains("nothing was changed")), "{said}");
    // Who ends before they begin has done nothing.
    let ended = answered(&desk, Vec::new(), "list jobs");
    assert_eq!(ended.code, 0, "{ended:?}");
}
