//! Whatever is in documents, files and messages of others, a terminal is sent nothing that it acts
//! on, and JSON reads as the same values.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use redb::Database;
use rejoin::view::is_hidden;
use rejoin::{CollectionName, Op, SpaceName};
use rejoin_core::limits::TIME_S_MAX;
use rejoin_core::wire::{Bye, ByeCode, Frame, PROTOCOL};
use rejoin_engine::store::Store;
use rejoin_engine::{Content, Edit, Engine, EngineOptions, Target};
use rejoin_tests::processes::{Rejoin, RelayProcess};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// An escape that clears the screen, one of a single character, a bell, an override of direction, an
/// isolate, what has no width, and a line separator.
const NASTY: &str = "\u{1b}[2J\u{9b}31m\u{7}\u{202e}evil\u{2066}\u{200b}\u{feff}\u{2028}\r!";

/// The same without control characters, as names may hold it.
const NASTY_NAME: &str = "17\u{202e}42\u{200b}\u{2066}";

#[track_caller]
fn assert_printable(text: &str) {
    let found = text.chars().find(|char| is_hidden(*char) && !matches!(char, '\n' | '\t'));
    assert_eq!(found, None, "{text:?}");
}

/// JSON that shows nothing a terminal acts on.
#[track_caller]
fn assert_json(text: &str) -> Value {
    let lines = text.trim_end_matches('\n');
    assert!(!lines.contains(|char| is_hidden(char) && char != '\n'), "{text:?}");
    serde_json::from_str(lines).unwrap_or(Value::Null)
}

/// Two devices that disagree about a document full of what must not be shown.
struct Company {
    folder: tempfile::TempDir,
    rejoin: Rejoin,
    relay: RelayProcess,
}

impl Company {
    fn in_conflict() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rejoin = Rejoin::in_dir(folder.path());
        let relay = RelayProcess::start(folder.path().join("relay"));
        let company = Self { folder, rejoin, relay };
        let csv =
            format!("id,fi{NASTY_NAME}\u{1b}[31meld,notes\n{NASTY_NAME},\"{NASTY}\",\"a\n\tb\"\n");
        fs::write(company.folder.path().join("jobs.csv"), csv).expect("a file");
        company.ok("van", &["import", "jobs.csv", "--collection", "jobs", "--key", "id"]);
        for device in ["van", "desk"] {
            let who = format!("{device}{NASTY_NAME}");
            company.ok(device, &["whoami", "--user", &who, "--role", &who, "--device", &who]);
        }
        company.meet();
        for device in ["van", "desk"] {
            let phone = format!("phone={device}{NASTY}");
            company.ok(device, &["set", "jobs", NASTY_NAME, &phone]);
        }
        company.meet();
        company
    }

    /// What it prints for people, all of which may be shown.
    #[track_caller]
    fn ok(&self, device: &str, arguments: &[&str]) -> String {
        let ended = self.rejoin.run(["--replica", device].iter().chain(arguments));
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_printable(&ended.stdout);
        assert_printable(&ended.stderr);
        ended.stdout
    }

    /// What it prints for programs.
    #[track_caller]
    fn json(&self, device: &str, arguments: &[&str]) -> Value {
        let ended = self.rejoin.run(["--replica", device, "--json"].iter().chain(arguments));
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_json(&ended.stdout)
    }

    fn meet(&self) {
        for device in ["van", "desk", "van"] {
            self.ok(device, &["sync", &self.relay.url(), "--once"]);
        }
    }
}

#[test]
fn no_command_gives_a_terminal_what_documents_hold() {
    let company = Company::in_conflict();
    let id = company.json("desk", &["reviews"])[0]["id"].as_str().expect("a review").to_owned();
    let commands: [&[&str]; 11] = [
        &["get", "jobs", NASTY_NAME],
        &["list", "jobs"],
        &["list", "jobs", "--fields", "phone"],
        &["history", "jobs", NASTY_NAME],
        &["blame", "jobs", NASTY_NAME, "--all"],
        &["reviews"],
        &["review", &id],
        &["status"],
        &["whoami"],
        &["doctor"],
        &["audit"],
    ];
    let shown: String = commands.map(|command| company.ok("desk", command)).concat();
    for seen in ["\\u{1b}[2J", "\\u{9b}31m", "\\u{202e}evil", "17\\u{202e}42"] {
        assert!(shown.contains(seen), "{seen} is shown by its number in {shown}");
    }
    let review = company.json("desk", &["review", &id]);
    let change = review["candidates"][0]["change"].as_str().expect("a hash");
    company.ok("desk", &["settle", &id, "--take", change, "--because", NASTY]);
    for command in [&["reviews", "--all"][..], &["review", &id], &["history", "jobs", NASTY_NAME]] {
        company.ok("desk", command);
    }
    let ended = company.rejoin.run(["--replica", "desk", "settle", &id, "--dismiss", NASTY]);
    assert_eq!(ended.code, 1);
    assert_printable(&ended.stderr);
}

#[test]
fn layouts_of_many_lines_keep_their_lines() {
    let company = Company::in_conflict();
    let got = company.ok("desk", &["get", "jobs", NASTY_NAME]);
    assert!(got.lines().any(|line| line.trim_start().ends_with('a')), "{got}");
    assert!(got.lines().any(|line| line.ends_with("\tb")), "{got}");
    // A table has a line for each document, whatever that holds.
    let listed = company.ok("desk", &["list", "jobs"]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
}

#[test]
fn styles_are_ours_alone() {
    let company = Company::in_conflict();
    let mut command = company.rejoin.command(["--replica", "desk", "list", "jobs"]);
    command.env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1");
    let listed = command.output().expect("rejoin starts").stdout;
    let listed = String::from_utf8(listed).expect("text");
    let (before, rest) = listed.split_once("\u{1b}[1m").expect("a heading in bold");
    let (heading, rest) = rest.split_once("\u{1b}[0m").expect("which ends");
    [before, heading, rest].into_iter().for_each(assert_printable);
}

#[test]
fn json_reads_as_the_same_values() {
    let company = Company::in_conflict();
    let got = company.json("desk", &["get", "jobs", NASTY_NAME]);
    assert_eq!(got["key"], NASTY_NAME);
    assert_eq!(got["value"][format!("fi{NASTY_NAME}\u{1b}[31meld")], NASTY);
    for command in [&["list", "jobs"][..], &["reviews"], &["history", "jobs", NASTY_NAME]] {
        assert!(!company.json("desk", command).is_null());
    }
    let audit = company.ok("desk", &["audit"]);
    let lines: Vec<Value> = audit.lines().map(assert_json).collect();
    assert!(lines.iter().all(|line| line["key"] == NASTY_NAME || line["collection"] != "jobs"));
    let error = company.rejoin.run(["--replica", "desk", "get", "jobs", NASTY, "--json"]);
    assert_eq!(error.code, 1);
    assert!(assert_json(&error.stderr)["error"].is_string(), "{error:?}");
}

#[test]
fn an_export_to_a_file_comes_back_unchanged() {
    let company = Company::in_conflict();
    let exported = company.rejoin.ok(["--replica", "desk", "export", "jobs", "--format", "csv"]);
    assert!(exported.contains(NASTY) && exported.contains("\u{1b}[31meld"), "{exported:?}");
    fs::write(company.folder.path().join("again.csv"), exported).expect("a file");
    let arguments = ["import", "again.csv", "--collection", "jobs", "--key", "id"];
    let imported = company.ok("desk", &arguments);
    assert!(imported.contains("1 unchanged"), "{imported}");
    let exported = company.rejoin.ok(["--replica", "desk", "export", "jobs"]);
    assert_eq!(
        assert_json(&exported)[0]["value"],
        company.json("desk", &["list", "jobs"])[0]["value"]
    );
}

#[test]
fn files_that_cannot_be_taken_are_told_of_in_text_that_may_be_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let rejoin = Rejoin::in_dir(folder.path());
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    let refused = |arguments: &[&str]| {
        let ended = rejoin.run(["--replica", "a.redb"].iter().chain(arguments));
        assert_ne!(ended.code, 0, "{ended:?}");
        assert_printable(&ended.stdout);
        assert_printable(&ended.stderr);
        ended.stderr
    };
    let import = |key| refused(&["import", "jobs.csv", "--collection", "jobs", "--key", key]);
    write("jobs.csv", &format!("id,\"{NASTY}\nERROR forged\"\n1,\"{NASTY}\",x\n{NASTY},y\n"));
    assert!(!import(NASTY).contains("\nERROR"), "a column's name makes no lines of its own");
    assert!(import("id").contains("line 3"));
    refused(&["import", &format!("{NASTY}.csv"), "--collection", NASTY, "--key", "id"]);
    refused(&["get", NASTY, NASTY]);
    refused(&["--no-such-thing", NASTY]);
    refused(&["sync", NASTY]);
    write(
        "schema.toml",
        &format!("[jobs.fields]\n\"{NASTY_NAME}\" = {{ merge = \"{NASTY_NAME}\" }}\n"),
    );
    let linted = rejoin.run(["schema", "lint", "schema.toml"]);
    assert_eq!(linted.code, 1);
    assert_printable(&linted.stdout);
    write("adapters.toml", &format!("[adapter.\"{NASTY_NAME}\"]\n\"{NASTY_NAME}\" = 1\n"));
    let linted = rejoin.run(["adapters", "lint"]);
    assert_eq!(linted.code, 1);
    assert_printable(&(linted.stdout + &linted.stderr));
}

/// Accepts whoever dials, says goodbye to each, and closes with the same words.
async fn say_goodbye(listener: TcpListener, message: String) {
    while let Ok((socket, _)) = listener.accept().await {
        #[expect(
            clippy::result_large_err,
            reason = "tungstenite wants a whole response as the error"
        )]
        let protocol = |_: &Request, mut response: Response| {
            let spoken = HeaderValue::from_static(PROTOCOL);
            response.headers_mut().insert("sec-websocket-protocol", spoken);
            Ok(response)
        };
        let accepted = tokio_tungstenite::accept_hdr_async(socket, protocol).await;
        let mut socket = accepted.expect("a client that speaks WebSocket");
        let bye =
            Bye { code: ByeCode::Forbidden, message: message.clone(), retry_after_ms: 60_000 };
        let bye = Message::Binary(Frame::Bye(bye).encode().into());
        // Whoever hung up knows enough.
        let _ = socket.send(bye).await;
        while let Some(Ok(_)) = socket.next().await {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_says_does_nothing_to_a_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    tokio::spawn(say_goodbye(listener, format!("{NASTY}\nERROR forged")));
    let rejoin = Rejoin::in_dir(folder.path());
    let ended = tokio::task::spawn_blocking(move || {
        let sync = |more: &[&str]| {
            let arguments = ["--replica", "a.redb", "sync", &url, "--once", "--timeout", "1s"];
            let mut command = rejoin.command(arguments.iter().chain(more));
            // With everything that may be logged about it.
            command.env("RUST_LOG", "debug").stdout(Stdio::piped()).stderr(Stdio::piped());
            let output = command.output().expect("rejoin starts");
            assert_eq!(output.status.code(), Some(1));
            String::from_utf8(output.stderr).expect("text")
        };
        [sync(&[]), sync(&["--json"])]
    });
    let [text, json] = ended.await.expect("rejoin ends");
    for said in [&text, &json] {
        assert_printable(said);
        assert!(!said.contains("\nERROR forged"), "{said}");
    }
    assert!(text.contains("\\u{1b}[2J\\u{9b}31m"), "{text}");
    // Beside what was logged.
    let error = json.lines().find(|line| line.starts_with('{')).map(assert_json);
    let error = error.expect("an error");
    assert!(error["error"].as_str().is_some_and(|error| error.contains("in sync")), "{json}");
}

/// A replica whose device had a clock that was far off whenever it edited.
fn with_clocks_far_off(file: &Path, times_s: &[i64]) {
    let database = Database::create(file).expect("a new file");
    let store = Arc::new(Store::open(database, [1; 16]).expect("an empty store"));
    let mut next = 0;
    let ids = move || {
        next += 1;
        [next; 16]
    };
    let mut engine = Engine::new(store, EngineOptions::default(), ids).expect("an engine");
    for (n, time_s) in times_s.iter().enumerate() {
        let op = Op::Set { path: "n".into(), before: None, after: json!(n) };
        let edit = Edit {
            space: SpaceName::new("main").expect("a name"),
            collection: CollectionName::new("jobs").expect("a name"),
            target: Target::Key("1".to_owned()),
            create: true,
            author: None,
            batch: None,
            content: Content::Ops { base: None, ops: vec![op] },
        };
        let edited = engine.turn(0, *time_s, vec![edit]).expect("a commit");
        edited.into_iter().for_each(|edited| drop(edited.expect("an edit")));
    }
    engine.flush(0).expect("a commit");
}

#[test]
fn times_that_no_clock_shows_are_told_as_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let times = [1, -1, TIME_S_MAX, 1 - TIME_S_MAX, 1 << 50, 9_224_318_015_999];
    with_clocks_far_off(&folder.path().join("a.redb"), &times);
    let rejoin = Rejoin::in_dir(folder.path());
    let mut wide = rejoin.command(["--replica", "a.redb", "history", "jobs", "1"]);
    let history = wide.env("COLUMNS", "200").output().expect("rejoin starts").stdout;
    let history = String::from_utf8(history).expect("text");
    let told = |time: &i64| format!("{time} s, which no clock shows");
    for time in &times[1..] {
        assert!(history.contains(&told(time)), "{time} in {history}");
    }
    assert!(history.contains("1970-01-01 00:00:01Z"), "{history}");
    let all = "--replica a.redb blame jobs 1 --all".split(' ');
    let blame = rejoin.ok(all).replace(['\n', ' '], "");
    for time in &times[1..] {
        assert!(blame.contains(&told(time).replace(' ', "")), "{time} in {blame}");
    }
    let audit = rejoin.ok(["--replica", "a.redb", "audit"]);
    let lines: Vec<Value> = audit.lines().map(assert_json).collect();
    for time in &times[1..] {
        let line = lines.iter().find(|line| line["time_s"] == *time).expect("a line");
        assert_eq!(line["time"], Value::Null);
    }
    let status = rejoin.ok(["--replica", "a.redb", "status"]);
    assert!(status.contains("which no clock shows"), "{status}");
}

#[test]
fn bookings_at_times_that_no_clock_shows_are_told_as_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let rejoin = Rejoin::in_dir(folder.path());
    let schema = "[jobs.fields]\nt = {}\na = { type = \"time\" }\nb = { type = \"time\" }\n\
                  [[jobs.invariants]]\nno_overlap = { key = \"t\", start = \"a\", end = \"b\" }\n";
    fs::write(folder.path().join("schema.toml"), schema).expect("a file");
    rejoin.ok("--replica a.redb schema apply schema.toml".split(' '));
    let (from, until) = (1_i64 << 61, 1_i64 << 62);
    for key in ["1", "2"] {
        let line = format!("--replica a.redb set jobs {key} t=Ana a:={from} b:={until}");
        rejoin.ok(line.split(' '));
    }
    let mut wide = rejoin.command("--replica a.redb reviews".split(' '));
    let reviews = wide.env("COLUMNS", "200").output().expect("rejoin starts").stdout;
    let reviews = String::from_utf8(reviews).expect("text");
    let told = |time: i64| format!("{time} ms, which no clock shows");
    assert!(reviews.contains(&format!("twice at {} to {}", told(from), told(until))), "{reviews}");
    let id = rejoin.json("--replica a.redb reviews".split(' '))[0]["id"].clone();
    let mut wide = rejoin.command(["--replica", "a.redb", "review", id.as_str().expect("an id")]);
    let review = wide.env("COLUMNS", "200").output().expect("rejoin starts").stdout;
    let review = String::from_utf8(review).expect("text");
    assert!(review.contains(&told(from)) && review.contains(&told(until)), "{review}");
}

#[test]
fn a_time_that_no_clock_shows_is_no_row_for_another_system() {
    let folder = tempfile::tempdir().expect("a folder");
    let rejoin = Rejoin::in_dir(folder.path());
    let adapters = "[replica]\ndata = \"adapters\"\nspace = \"main\"\n[adapter.a]\ncollection = \"jobs\"\n\
                    sink = { kind = \"jsonl\", folder = \"out\" }\n[[adapter.a.record]]\n\
                    name = \"jobs\"\nkey = \"{key}\"\n\
                    fields = { at = { from = \"at\", type = \"time\" } }\n";
    fs::write(folder.path().join("adapters.toml"), adapters).expect("a file");
    let last_ms = 253_402_300_799_000_i64;
    let rows = |at: i64| {
        let sample = json!({ "key": "1", "value": { "at": at } }).to_string();
        fs::write(folder.path().join("job.json"), sample).expect("a file");
        rejoin.json(["adapters", "lint", "--sample", "job.json"])["rows"][0].clone()
    };
    assert_eq!(rows(last_ms)["row"]["at"], "9999-12-31T23:59:59Z");
    for at in [last_ms + 1000, 1 << 62, -(1 << 62), i64::MAX, i64::MIN] {
        let row = rows(at);
        assert!(row["row"].is_null() && row["fault"].is_string(), "{at}: {row}");
    }
}

/// Sends a relay something over a connection of its own, and waits until it hangs up.
async fn send(url: &str, message: &[u8]) -> SocketAddr {
    let mut request = format!("{url}/sync").into_client_request().expect("an address");
    let protocol = HeaderValue::from_static(PROTOCOL);
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let address = url.strip_prefix("ws://").expect("an address");
    let socket = tokio::net::TcpStream::connect(address).await.expect("a relay");
    let from = socket.local_addr().expect("an address");
    let connected = tokio_tungstenite::client_async(request, socket).await;
    let (mut socket, _) = connected.expect("a relay that speaks WebSocket");
    socket.send(Message::Binary(message.to_vec().into())).await.expect("an open socket");
    while let Some(Ok(_)) = socket.next().await {}
    from
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_logs_who_broke_the_protocol_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = fs::File::create(folder.path().join("log")).expect("a file");
    let rejoin = Rejoin::in_dir(folder.path());
    let mut command = rejoin.command(["relay", "--listen", "127.0.0.1:0", "--data", "relay"]);
    command.stderr(log);
    let mut relay = rejoin_tests::processes::Running::start(command);
    let line = relay.line().expect("the relay listens");
    let url = line.strip_prefix("listening on ").and_then(|url| url.strip_suffix("/sync"));
    let from = send(url.expect("its address"), b"no frame\x1b[2J").await;
    #[cfg(unix)]
    assert_eq!(relay.terminate(), Some(0));
    let log = fs::read_to_string(folder.path().join("log")).expect("a file");
    assert_printable(&log);
    let told: Vec<_> = log.lines().filter(|line| line.contains("breach of the protocol")).collect();
    assert_eq!(told.len(), 1, "{log}");
    assert!(told[0].contains(&from.to_string()) && told[0].contains("WARN"), "{log}");
}
