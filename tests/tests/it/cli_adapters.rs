//! Adapters at the command line: documents reach files, whatever is killed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use rejoin_tests::processes::{Rejoin, RelayProcess, Running};
use rejoin_tests::requests::{begin, request};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A relay, adapters beside it, and somebody who edits.
struct Company {
    folder: TempDir,
    relay: RelayProcess,
    rejoin: Rejoin,
}

impl Company {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let relay = RelayProcess::start(folder.path().join("relay"));
        let rejoin = Rejoin::in_dir(folder.path());
        let company = Self { folder, relay, rejoin };
        company.map(r#"{ booked = "BOOKED", done = "CLOSED" }"#);
        company
    }

    /// Writes the configuration, with these names for the states of jobs.
    fn map(&self, states: &str) {
        let url = self.relay.url();
        let text = format!(
            r#"
            [replica]
            data  = "adapters"
            relay = "{url}"
            space = "main"
            [adapter.board]
            collection = "jobs"
            deletes    = "mark"
            sink       = {{ kind = "jsonl", folder = "out", bytes_max = 4000 }}
            [[adapter.board.record]]
            name = "jobs"
            key  = "{{key}}"
            [adapter.board.record.fields]
            status = {{ from = "status", map = {states}, required = true }}
            phone  = {{ from = "phone", mask = "last4" }}
            "#
        );
        self.write("adapters.toml", &text);
    }

    /// Adds options to the one adapter.
    fn add(&self, options: &str) {
        let text = std::fs::read_to_string(self.folder.path().join("adapters.toml"));
        let text = text.expect("a file");
        let adapter = "[adapter.board]\n";
        self.write("adapters.toml", &text.replace(adapter, &format!("{adapter}{options}\n")));
    }

    /// Adds an adapter that writes calendars, and one that sends events to pages.
    fn add_calendars_and_events(&self) {
        self.write("secret", "correct horse battery staple");
        let secret = self.folder.path().join("secret");
        let adapter = |name: &str, sink: &str| {
            format!(
                r#"
            [adapter.{name}]
            collection = "jobs"
            sink = {{ {sink}, folder = "{name}", listen = "127.0.0.1:0" }}
            [[adapter.{name}.record]]
            name = "jobs"
            key  = "{{key}}"
            [adapter.{name}.record.fields]
            technician = {{ from = "technician" }}
            start      = {{ from = "start" }}
            "#
            )
        };
        let board =
            std::fs::read_to_string(self.folder.path().join("adapters.toml")).expect("text");
        let calendars = format!(r#"kind = "icalendar", secret = "file:{}""#, secret.display());
        let (calendars, page) =
            (adapter("visits", &calendars), adapter("page", r#"kind = "server_sent_events""#));
        self.write("adapters.toml", &format!("{board}{calendars}{page}"));
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("a file");
    }

    fn run(&self) -> Running {
        let mut running = Running::start(self.rejoin.command(["adapters", "run"]));
        let said = running.line().expect("it says that it runs");
        assert!(said.contains("board"), "{said}");
        running
    }

    fn set(&self, key: &str, fields: &[&str]) {
        let command = ["--replica", "desk.redb", "set", "jobs", key];
        self.rejoin.ok(command.iter().chain(fields));
    }

    fn sync(&self) {
        self.rejoin.ok(["--replica", "desk.redb", "sync", &self.relay.url(), "--once"]);
    }

    fn status(&self) -> Value {
        self.rejoin.json(["adapters", "status"])[0].take()
    }

    fn dead_letters(&self) -> Vec<Value> {
        self.rejoin.json(["adapters", "dead-letters"]).as_array().expect("a list").clone()
    }

    /// Everything that was delivered, in the order it was written.
    fn delivered(&self) -> Vec<Value> {
        self.delivered_to("out")
    }

    fn delivered_to(&self, folder: &str) -> Vec<Value> {
        let folder = self.folder.path().join(folder);
        let number = |path: &Path| -> u64 {
            let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
            name.parse().expect("a number")
        };
        let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        files.sort_by_key(|path| number(path));
        let text: String =
            files.iter().map(|path| std::fs::read_to_string(path).expect("text")).collect();
        // A line that is being written has no end yet.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The rows that are held outside.
    fn rows(&self) -> BTreeMap<String, Value> {
        let told = self.delivered().into_iter();
        told.map(|it| (it["record"].as_str().expect("a key").to_owned(), it["row"].clone()))
            .collect()
    }

    /// Waits for something to be so.
    fn wait(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < Duration::from_secs(60), "{what} does not come");
            std::thread::yield_now();
        }
    }
}

#[test]
fn documents_reach_the_target_once_whatever_is_killed() {
    let company = Company::new();
    let mut running = company.run();
    let mut wanted = BTreeMap::new();
    for round in 0..4 {
        for job in 0..6 {
            let (key, status) = (format!("W-{job}"), ["booked", "done"][(round + job) % 2]);
            let phone = format!("canary-34{round}{job}");
            company.set(&key, &[&format!("status={status}"), &format!("phone={phone}")]);
            let status = if status == "booked" { "BOOKED" } else { "CLOSED" };
            let phone = format!("*******34{round}{job}");
            wanted.insert(key, json!({ "status": status, "phone": phone }));
        }
        company.sync();
        // Some of it may be on its way.
        running.kill9();
        running = company.run();
    }
    company.wait("the last row", |company| company.rows() == wanted);
    company.rejoin.ok(["--replica", "desk.redb", "delete", "jobs", "W-0"]);
    company.sync();
    wanted.insert("W-0".to_owned(), Value::Null);
    company.wait("the deletion", |company| company.rows() == wanted);

    let delivered = company.delivered();
    let keys: BTreeSet<_> = delivered.iter().map(|it| it["key"].to_string()).collect();
    assert_eq!(keys.len(), delivered.len(), "nothing was written twice");
    let mut last = BTreeMap::<String, u64>::new();
    for it in &delivered {
        let seq = it["seq"].as_u64().expect("a number");
        let before = last.insert(it["document"].to_string(), seq).unwrap_or_default();
        assert!(before < seq, "{it} after {before}");
    }
    assert_eq!(delivered.last().expect("the deletion")["op"], "mark");
    let secret = "canary";
    for file in ["out", "adapters"] {
        for entry in std::fs::read_dir(company.folder.path().join(file)).expect("a folder") {
            let path = entry.expect("a file").path();
            let is_socket = path.extension().is_some_and(|end| end == "sock");
            if is_socket || path.file_name().is_some_and(|name| name == "replica.redb") {
                continue;
            }
            let bytes = std::fs::read(&path).expect("bytes");
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "a masked value stands in {}", path.display());
        }
    }
    company.wait("rest", |company| company.status()["waiting"] == 0);
    assert_eq!(running.terminate(), Some(0));
    assert_eq!(company.status()["documents"], 6, "it can be looked at without running");
}

/// A rule that comes late takes nothing out of sight, and nothing that does not count goes out.
#[test]
fn what_only_somebody_wrote_who_may_not_is_not_delivered() {
    let company = Company::new();
    company.set("1", &["status=done", "phone=0731 999999"]);
    let rule = "[jobs.fields]\nphone = { writers = [\"dispatch\"] }\n";
    company.write("rule.toml", rule);
    company.rejoin.ok(["--replica", "desk.redb", "schema", "apply", "rule.toml", "--yes"]);
    company.sync();
    let mut running = company.run();
    company.wait("the row", |company| company.rows().contains_key("1"));
    assert_eq!(company.rows()["1"], json!({ "status": "CLOSED", "phone": null }));
    let command = ["--replica", "desk.redb", "--as", "bea:dispatch", "set", "jobs", "1"];
    company.rejoin.ok(command.iter().chain(&["phone=0731 999999"]));
    company.sync();
    let phone = json!("*******9999");
    company.wait("what counts now", |company| company.rows()["1"]["phone"] == phone);
    assert_eq!(running.terminate(), Some(0));
}

#[test]
fn what_is_no_row_waits_for_the_mapping_and_stops_nothing_else() {
    let company = Company::new();
    let mut running = company.run();
    company.set("1", &["status=lost", "phone=0731 999999"]);
    company.set("2", &["status=done"]);
    company.sync();
    company.wait("the other row", |company| company.rows().contains_key("2"));
    company.wait("the dead letter", |company| !company.dead_letters().is_empty());
    let [letter] = &company.dead_letters()[..] else { panic!("one dead letter") };
    assert_eq!((&letter["class"], &letter["key"]), (&json!("misfit"), &json!("1")));
    assert!(letter["fault"].as_str().is_some_and(|fault| fault.contains("status")), "{letter}");
    let number = letter["number"].to_string();
    let shown = company.rejoin.ok(["adapters", "show", "board", &number]);
    assert!(shown.contains(&format!("rejoin adapters replay board {number}")), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    // The mapping is corrected: what that changes is seen before it happens, also by who runs.
    company.map(r#"{ booked = "BOOKED", done = "DONE", lost = "LOST" }"#);
    let plan = company.rejoin.json(["adapters", "plan"])[0].take();
    assert_eq!(
        (&plan["add"], &plan["change"], &plan["misfits"]),
        (&json!(1), &json!(1), &json!(0))
    );
    assert_eq!(plan["fields"], json!({ "jobs.status": 1 }));
    assert_eq!(plan["is_applied"], false);
    let shown = company.rejoin.ok(["adapters", "plan"]);
    assert!(shown.contains("CLOSED") && shown.contains("rejoin adapters apply"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert_eq!(running.terminate(), Some(0));
    let _running = company.run();
    company.set("3", &["status=booked"]);
    company.sync();
    company.wait("the doubt", |company| company.status()["state"] == "changed");
    let applied = company.rejoin.json(["adapters", "apply", "board"])[0].take();
    assert_eq!(applied["options"], json!([]), "it runs with that file: {applied}");
    company.wait("the rows", |company| company.rows().len() == 3);
    assert_eq!(company.rows()["1"]["status"], "LOST");
    assert_eq!(company.rows()["2"]["status"], "DONE");
    let delivered = company.delivered();
    let third: Vec<_> = delivered.iter().filter(|it| it["record"] == "3").collect();
    assert_eq!(third.len(), 1, "nothing was sent by the mapping before");
    company.wait("no dead letter", |company| company.dead_letters().is_empty());
}

#[test]
fn a_paused_target_gets_what_changed_afterwards_and_everything_again_on_request() {
    let company = Company::new();
    let _running = company.run();
    company.rejoin.ok(["adapters", "pause", "board"]);
    for status in ["booked", "done"] {
        company.set("1", &[&format!("status={status}")]);
        company.sync();
    }
    company.wait("what waits", |company| company.status()["waiting"] == 1);
    let status = company.rejoin.ok(["adapters", "status"]);
    assert!(status.contains("paused") && status.contains("it is paused"), "{status}");
    assert!(company.delivered().is_empty());
    company.rejoin.ok(["adapters", "resume", "board"]);
    company.wait("the row", |company| company.rows().contains_key("1"));
    assert_eq!(company.rows()["1"]["status"], "CLOSED");
    let before = company.delivered().len();
    company.rejoin.ok(["adapters", "backfill", "board"]);
    company.wait("the row again", |company| company.delivered().len() > before);
    let delivered = company.delivered();
    assert_ne!(delivered[before]["key"], delivered[before - 1]["key"], "asked for, so it is new");
    let none = company.rejoin.refused(["adapters", "resume", "nobody"]);
    assert!(none.contains("board"), "{none}");
}

#[test]
fn a_target_is_told_no_faster_than_it_wants_and_no_more_waits_than_may() {
    let company = Company::new();
    company.add("rate = 2\nwaiting_max = 2\nlate_after = '1ms'");
    let _running = company.run();
    company.rejoin.ok(["adapters", "pause", "board"]);
    for job in 1..=5 {
        company.set(&job.to_string(), &["status=booked"]);
        company.sync();
        company.wait("what may wait", |company| company.status()["waiting"] == job.min(2));
    }
    let status = company.rejoin.ok(["adapters", "status"]);
    assert!(status.contains("paused, late"), "{status}");
    company.rejoin.ok(["adapters", "resume", "board"]);
    company.wait("every row", |company| company.rows().len() == 5);
    company.wait("rest", |company| company.status()["waiting"] == 0);
    let taken = |job: u64| {
        let origin = company.rejoin.json(["adapters", "origin", "board", "jobs", &job.to_string()]);
        origin["deliveries"][0]["at_ms"].as_u64().expect("a time")
    };
    let mut taken: Vec<_> = (1..=5).map(taken).collect();
    taken.sort_unstable();
    // Two at once after a rest, and one every half second then.
    assert!(taken[4] - taken[0] >= 1400, "{taken:?}");
}

#[test]
fn what_a_target_lost_is_found_at_its_time_and_sent_again() {
    let company = Company::new();
    company.add("reconcile = '* * * * * *'");
    let _running = company.run();
    company.set("1", &["status=booked"]);
    company.sync();
    company.wait("the row", |company| company.rows().contains_key("1"));
    let first = company.delivered().remove(0);
    // Somebody deletes it there.
    let file =
        std::fs::File::options().append(true).open(company.folder.path().join("out/1.jsonl"));
    let line = json!({ "name": "jobs", "record": "1", "op": "delete", "row": null });
    writeln!(file.expect("the file"), "{line}").expect("it is written");
    company.wait("the row again", |company| company.rows()["1"]["status"] == "BOOKED");
    let again = company.delivered().pop().expect("a delivery");
    assert_eq!(again["row"], first["row"]);
    assert_ne!(again["key"], first["key"], "it is asked for");
    company.wait("the report", |company| company.status()["reconciled"]["differs"] == 0);
}

#[test]
fn what_people_have_to_decide_is_a_ticket_and_holds_its_row_until_they_did() {
    let company = Company::new();
    let url = company.relay.url();
    let replica = format!("[replica]\ndata = 'adapters'\nrelay = '{url}'\nspace = 'main'\n");
    let board = "[adapter.board]\ncollection = 'jobs'\nsink = { kind = 'jsonl', folder = 'out' }\n\
                 [[adapter.board.record]]\nname = 'jobs'\nkey = '{key}'\n\
                 fields = { status = { from = 'status' }, phone = { from = 'phone', held = 'omit' } }\n";
    let tickets = "[adapter.tickets]\ncollection = 'jobs'\nsource = 'reviews'\ndeletes = 'mark'\n\
                   sink = { kind = 'jsonl', folder = 'tickets' }\n\
                   [[adapter.tickets.record]]\nname = 'tickets'\nkey = '{key}'\n\
                   fields = { field = { from = 'field' }, state = { from = 'state' }, \
                   standing = { from = 'standing', mask = 'hash' }, whose = { from = 'assignee' } }\n";
    let tickets = tickets.replace("deletes = 'mark'", "deletes = 'mark'\nsalt = 'file:salt'");
    company.write("salt", "pepper");
    company.write("adapters.toml", &format!("{replica}{board}{tickets}"));
    company.write(
        "schema.toml",
        "[jobs.fields]\nstatus = { merge = 'review' }\nphone = { merge = 'review' }\n",
    );
    company.set("1", &["status=booked", "phone=1"]);
    company.rejoin.ok(["--replica", "desk.redb", "schema", "apply", "schema.toml"]);
    company.sync();
    let van =
        |arguments: &[&str]| company.rejoin.ok([&["--replica", "van.redb"], arguments].concat());
    van(&["sync", &url, "--once"]);
    let _running = company.run();
    company.wait("the row", |company| company.rows().contains_key("1"));

    company.set("1", &["status=done", "phone=2"]);
    van(&["set", "jobs", "1", "status=cancelled", "phone=3"]);
    company.sync();
    van(&["sync", &url, "--once"]);
    company.sync();
    let told = |company: &Company| company.delivered_to("tickets");
    let open =
        |company: &Company| told(company).iter().filter(|it| it["row"]["state"] == "open").count();
    company.wait("two tickets", |company| open(company) == 2);
    let ticket = told(&company).into_iter().find(|it| it["row"]["field"] == "status").expect("one");
    assert_eq!(ticket["row"]["standing"].as_str().map(str::len), Some(64), "a hash: {ticket}");
    company.wait("the phone's absence", |company| {
        company.rows()["1"] == json!({ "status": "booked" })
    });

    let review = ticket["record"].as_str().expect("an id");
    company.rejoin.ok(["--replica", "desk.redb", "assign", review, "Ann"]);
    company.sync();
    let last = |company: &Company| {
        told(company).into_iter().rfind(|it| it["record"] == review).expect("a ticket")
    };
    company.wait("whose it is", |company| last(company)["row"]["whose"] == "Ann");
    company.rejoin.ok(["--replica", "desk.redb", "settle", review, "--value", "done"]);
    company.sync();
    company.wait("its end", |company| last(company)["row"]["state"] == "settled");
    company.wait("the row", |company| company.rows()["1"] == json!({ "status": "done" }));
    let keys: BTreeSet<_> = told(&company).iter().map(|it| it["key"].to_string()).collect();
    assert_eq!(keys.len(), told(&company).len(), "nothing twice");
}

#[test]
fn calendars_are_had_from_the_addresses_that_are_told() {
    let company = Company::new();
    let (none, said) =
        (company.rejoin.json(["adapters", "feeds"]), company.rejoin.ok(["adapters", "feeds"]));
    assert_eq!(none, json!([]));
    assert!(said.contains("nothing is to be had"), "{said}");
    company.add_calendars_and_events();
    let _running = company.run();
    let start = "start=2026-09-21T08:00:00Z";
    for (key, who) in [("W-1", "technician=Anna Beck"), ("W-2", "technician=Ben")] {
        company.set(key, &["status=booked", who, start]);
    }
    company.sync();
    let feeds = |of: &[&str]| -> Vec<Value> {
        let told = company.rejoin.json(["adapters", "feeds"].iter().chain(of));
        told.as_array().expect("a list").clone()
    };
    company.wait("two calendars", |_| feeds(&["visits"]).len() == 2);
    let [events, anna, ben] = &feeds(&[])[..] else { panic!("two calendars and the events") };
    assert_eq!((&events["adapter"], &events["name"]), (&json!("page"), &json!("events")));
    assert_eq!((&anna["adapter"], &anna["name"]), (&json!("visits"), &json!("Anna Beck")));
    assert_eq!((&ben["secret"], &events["secret"]), (&json!(true), &json!(false)));

    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let url = |feed: &Value| feed["url"].as_str().expect("an address").to_owned();
    let parts = |url: &str| -> (SocketAddr, String) {
        let rest = url.strip_prefix("http://").expect("a web address");
        let (at, path) = rest.split_once('/').expect("a path");
        (at.parse().expect("an address"), format!("/{path}"))
    };
    let get = |url: &str| {
        let (at, path) = parts(url);
        runtime.block_on(begin(at, "GET", &path, &[])).1
    };
    for (feed, key) in [(anna, "W-1"), (ben, "W-2")] {
        let (at, path) = parts(&url(feed));
        let answer = runtime.block_on(request(at, "GET", &path, &[]));
        let text = String::from_utf8(answer.body).expect("text");
        assert_eq!(answer.status, 200);
        assert!(
            text.starts_with("BEGIN:VCALENDAR") && text.contains(&format!("UID:{key}")),
            "{text}"
        );
    }
    assert_eq!(get(&url(events)).header("content-type"), "text/event-stream");
    // One calendar's address says nothing of another's.
    assert_eq!(get(&url(anna).replace("Anna%20Beck", "Ben")).status, 404);

    let told = company.rejoin.ok(["adapters", "feeds"]);
    assert!(told.lines().any(|line| line.trim() == url(anna)), "{told}");
    assert!(told.contains("can read it"), "{told}");
    let none = company.rejoin.refused(["adapters", "feeds", "nobody"]);
    assert!(none.contains("visits"), "{none}");
}

#[test]
fn everything_wrong_with_a_mapping_is_said_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let rejoin = Rejoin::in_dir(folder.path());
    let lint = |adapter: &str| {
        let replica = "data = 'd'\nrelay = 'ws://127.0.0.1:1'\nspace = 'main'";
        let text = format!("[replica]\n{replica}\n[adapter.board]\n{adapter}");
        std::fs::write(folder.path().join("adapters.toml"), text).expect("a file");
        rejoin.run(["adapters", "lint"])
    };
    for (wrong, said) in wrong_adapters() {
        let ended = lint(&wrong);
        let all = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, 1, "{all}");
        assert!(all.contains(said), "{said:?} is missing in: {all}");
    }
    let schema = "[jobs.fields]\nstatus = { merge = 'review' }\n";
    std::fs::write(folder.path().join("schema.toml"), schema).expect("a file");
    let fields = "status = { from = 'status' }, phone = { from = 'fone' }";
    let ended = lint(&board("", "{key}", fields));
    assert_eq!(ended.code, 0, "{}", ended.stdout);
    let doubts = rejoin.ok(["adapters", "lint", "--schema", "schema.toml"]);
    assert!(doubts.contains("fone") && !doubts.contains("jobs.status"), "{doubts}");
}

/// Adapters with something wrong, each with what is said of it.
fn wrong_adapters() -> Vec<(String, &'static str)> {
    let fields = "a = { from = 'a' }";
    let colour = format!("{}colour = 3\n", without_fields("", "{key}"));
    let later = "class = 'later'\ncron = '0 3 * * 1'\ndeletes = 'mark'\nttl = '7d'\n";
    let reviews = board("source = 'reviews'\n", "{id}", "a = { from = 'state' }");
    vec![
        ("collection = 'jobs'\n".to_owned(), "sink"),
        (board("class = 'later'\n", "{key}", fields), "when is later"),
        (board("", "{key}", fields).replace("'jsonl', folder = 'o'", "'paper'"), "no sink of kind"),
        (board("salt = 'pepper'\n", "{key}", fields), "env:NAME"),
        (board("", "{key", fields), "adapters.toml:10:7: error: the brace"),
        (board("", "{key}", "a = { from = 'a', constant = 1 }"), "not both"),
        (board("", "{key}", "a = { from = 'a', mask = 'hash' }"), "needs a salt"),
        (board(later, "{key}", fields), "make ttl at least a day longer"),
        (reviews, "its own id is {key}"),
        (colour, "colour"),
    ]
}

/// The options of an adapter to files, with some more of them, and one kind of records.
fn board(options: &str, key: &str, fields: &str) -> String {
    format!("{}fields = {{ {fields} }}\n", without_fields(options, key))
}

fn without_fields(options: &str, key: &str) -> String {
    let sink = "{ kind = 'jsonl', folder = 'o' }";
    let record = format!("[[adapter.board.record]]\nname = 'jobs'\nkey = '{key}'\n");
    format!("collection = 'jobs'\nsink = {sink}\n{options}{record}")
}

/// What an operator erases at the relay leaves the target although rows are only marked there, and the
/// files of the adapters.
#[test]
fn the_rows_of_an_erased_document_are_deleted_and_nothing_of_it_is_kept() {
    let company = Company::new();
    let mut running = company.run();
    // The target refuses what it has no name for: a dead letter has what was written, too.
    let canary = "canary-4711";
    company.set("canary-key", &["status=booked", "phone=canary-4711"]);
    company.set("other", &["status=booked", "phone=0731"]);
    company.sync();
    company.wait("the rows", |company| company.rows().len() == 2);
    company.set("canary-key", &["status=unheard-of"]);
    company.sync();
    company.wait("the dead letter", |company| company.dead_letters().len() == 1);

    company.rejoin.ok(["admin", "--data", "relay", "erase", "jobs/canary-key", "--yes"]);
    company.wait("the deletion", |company| company.rows()["canary-key"] == Value::Null);
    let last = company.delivered().pop().expect("the deletion");
    assert_eq!((&last["op"], &last["record"]), (&json!("delete"), &json!("canary-key")));
    assert_eq!(company.dead_letters(), Vec::<Value>::new());
    company.set("other", &["phone=555"]);
    company.sync();
    let has = |company: &Company, file: &str, text: &str| {
        let bytes = std::fs::read(company.folder.path().join(file)).expect("bytes");
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    };
    for text in [canary, "canary-key", "unheard-of"] {
        company.wait("the end of it in the adapters' files", |company| {
            !has(company, "adapters/replica.redb", text)
                && !has(company, "adapters/board.outbox.redb", text)
        });
    }
    company.wait("rest", |company| company.status()["waiting"] == 0);
    assert_eq!(running.terminate(), Some(0));
}
