//! What adapters say of how they stand is true: without a relay, with targets that lack something, and
//! after options were applied.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use rejoin_tests::processes::{Rejoin, RelayProcess, Running};
use rejoin_tests::requests::{Answer, request};
use serde_json::{Value, json};
use tempfile::TempDir;

const WELL: &str = "every target has everything";

/// A relay, adapters beside it, and somebody who edits.
struct Company {
    folder: TempDir,
    relay: RelayProcess,
    rejoin: Rejoin,
    metrics: SocketAddr,
}

impl Company {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let relay = RelayProcess::start(folder.path().join("relay"));
        let rejoin = Rejoin::in_dir(folder.path());
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let company = Self { folder, relay, rejoin, metrics: free.expect("a free port") };
        company.map("jobs", "");
        company
    }

    /// Writes a configuration that carries a collection, with these options besides.
    fn map(&self, collection: &str, options: &str) {
        self.write(&self.board(collection, options));
    }

    fn board(&self, collection: &str, options: &str) -> String {
        format!(
            r#"
            [replica]
            data    = "adapters"
            relay   = "{}"
            space   = "main"
            metrics = "{}"
            {}"#,
            self.relay.url(),
            self.metrics,
            adapter("board", collection, options)
        )
    }

    fn write(&self, text: &str) {
        std::fs::write(self.folder.path().join("adapters.toml"), text).expect("a file");
    }

    fn run(&self) -> Running {
        let mut running = Running::start(self.rejoin.command(["adapters", "run"]));
        assert!(begins(&mut running).contains("board"));
        running
    }

    fn set(&self, key: &str, fields: &[&str]) {
        let command = ["--replica", "desk.redb", "set", "jobs", key];
        self.rejoin.ok(command.iter().chain(fields));
        self.rejoin.ok(["--replica", "desk.redb", "sync", &self.relay.url(), "--once"]);
    }

    fn id(&self, key: &str) -> String {
        let jobs = self.rejoin.json(["--replica", "desk.redb", "list", "jobs"]);
        let job = jobs.as_array().expect("a list").iter().find(|job| job["key"] == key);
        job.expect("the job")["id"].as_str().expect("an id").to_owned()
    }

    fn said(&self) -> String {
        self.rejoin.ok(["adapters", "status"]).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn status(&self) -> Value {
        self.rejoin.json(["adapters", "status"])[0].take()
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(request(self.metrics, "GET", path, headers))
    }

    fn deliveries(&self, document: &str) -> (u16, Value) {
        let answer = self.get(&format!("/deliveries?document={document}"), &[]);
        (answer.status, serde_json::from_slice(&answer.body).expect("JSON"))
    }

    #[track_caller]
    fn wait(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < Duration::from_secs(60), "{what} does not come");
            std::thread::yield_now();
        }
    }
}

fn adapter(name: &str, collection: &str, options: &str) -> String {
    format!(
        r#"
            [adapter.{name}]
            collection = "{collection}"
            sink       = {{ kind = "jsonl", folder = "{name}" }}
            {options}
            [[adapter.{name}.record]]
            name = "jobs"
            key  = "{{key}}"
            [adapter.{name}.record.fields]
            status = {{ from = "status", map = {{ booked = "BOOKED" }} }}
        "#
    )
}

/// What is said when adapters begin: their names. Where the metrics are is a second line.
fn begins(running: &mut Running) -> String {
    let names = running.line().expect("they say that they run");
    let metrics = running.line().expect("they say where their metrics are");
    assert!(metrics.starts_with("metrics at "), "{metrics}");
    names
}

fn has_lines(folder: &Path) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.into_iter().any(|file| file.metadata().is_ok_and(|file| file.len() > 0))
}

#[test]
fn without_its_relay_nothing_is_called_delivered() {
    let mut company = Company::new();
    let said = company.said();
    assert!(said.contains("nobody runs these adapters") && !said.contains(WELL), "{said}");
    let mut running = company.run();
    company.set("1", &["status=booked"]);
    company.wait("that all is well", |company| company.said().contains(WELL));
    assert_eq!(company.status()["link"]["state"], "connected");
    let connected = |company: &Company| {
        let page = String::from_utf8(company.get("/metrics", &[]).body).expect("text");
        let line =
            page.lines().find_map(|line| line.strip_prefix("rejoin_adapter_relay_connected "));
        line.expect("the metric").to_owned()
    };
    assert_eq!(connected(&company), "1");
    company.relay.kill9();
    company.wait("that the relay is away", |company| company.status()["link"]["state"] == "away");
    let said = company.said();
    assert!(said.contains("not connected to the relay since 20") && !said.contains(WELL), "{said}");
    assert!(said.contains("is not known here"), "{said}");
    assert_eq!(connected(&company), "0");
    assert_eq!(company.deliveries(&company.id("1")).1["link"]["state"], "away");
    // Begun anew without it, they know of no time.
    assert_eq!(running.terminate(), Some(0));
    let running = company.run();
    let said = company.said();
    assert!(said.contains("since the adapters began") && !said.contains(WELL), "{said}");
    company.relay.restart();
    company.wait("that all is well again", |company| company.said().contains(WELL));
    drop(running);
}

#[test]
fn all_is_well_only_where_it_is() {
    let company = Company::new();
    company.map("jbos", "");
    let mut running = company.run();
    company.set("1", &["status=booked"]);
    company.wait("the name", |company| company.said().contains("there are documents of jobs"));
    assert!(!company.said().contains(WELL));
    company.map("jobs", "");
    company.rejoin.ok(["adapters", "apply"]);
    assert!(begins(&mut running).contains("board"));
    company.wait("that all is well", |company| company.said().contains(WELL));
    company.set("2", &["status=lost"]);
    company.wait("the dead letter", |company| company.said().contains("board has 1 dead letter;"));
    assert!(!company.said().contains(WELL));
    company.rejoin.ok(["adapters", "pause", "board"]);
    assert!(company.said().contains("board is paused"));
    company.rejoin.ok(["adapters", "resume", "board"]);
    assert_eq!(running.terminate(), Some(0));
    company.map("jobs", "salt = 'file:salt'");
    std::fs::write(company.folder.path().join("salt"), "x").expect("a file");
    let text = company.board("jobs", "").replace("BOOKED", "TAKEN");
    company.write(&text);
    let _running = company.run();
    company
        .wait("the mapping", |company| company.said().contains("is not the one that was applied"));
    assert!(!company.said().contains(WELL));
}

#[test]
fn pages_ask_where_one_document_is_delivered() {
    let company = Company::new();
    let _running = company.run();
    company.set("1", &["status=booked"]);
    let first = company.id("1");
    company.wait("the first", |company| {
        company.deliveries(&first).1["adapters"][0]["rows"][0]["state"] == "delivered"
    });
    company.set("2", &["status=lost"]);
    let second = company.id("2");
    company.wait("the second", |company| company.deliveries(&second).0 == 200);
    let dead = company.deliveries(&second).1["adapters"][0]["rows"][0].take();
    assert_eq!((&dead["state"], &dead["record"]), (&json!("dead_letter"), &json!("2")));
    assert!(dead["fault"].as_str().is_some_and(|fault| fault.contains("status")), "{dead}");
    company.rejoin.ok(["adapters", "pause", "board"]);
    company.set("1", &["status=booked", "phone=1"]);
    company.set("3", &["status=booked"]);
    let third = company.id("3");
    company.wait("the third", |company| company.deliveries(&third).0 == 200);
    let (_, waiting) = company.deliveries(&third);
    let row = &waiting["adapters"][0]["rows"][0];
    assert_eq!((&row["state"], &row["is_late"]), (&json!("waiting"), &json!(false)), "{waiting}");
    assert_eq!((&waiting["key"], &waiting["document"]), (&json!("3"), &json!(third)));

    let path = format!("/deliveries?document={first}");
    assert_eq!(company.get(&path, &[("host", "evil.example")]).status, 403);
    assert_eq!(company.get(&path, &[("host", "localhost:1")]).status, 200);
    assert_eq!(company.get("/deliveries", &[]).status, 400);
    assert_eq!(company.deliveries("nonsense").0, 400);
    company.rejoin.ok(["--replica", "desk.redb", "set", "jobs", "4", "status=booked"]);
    assert_eq!(company.deliveries(&company.id("4")).0, 404, "nobody has heard of it");
}

#[test]
fn what_is_applied_is_in_effect_at_once() {
    let company = Company::new();
    let mut running = company.run();
    company.set("1", &["status=booked"]);
    company.wait("the first", |company| has_lines(&company.folder.path().join("board")));
    let more =
        adapter("second", "jobs", "").replace("folder = \"second\"", "folder = \"elsewhere\"");
    let text = company.board("jobs", "rate = 7") + &more;
    company.write(&text.replace("folder = \"board\"", "folder = \"moved\""));
    let applied = company.rejoin.json(["adapters", "apply"]);
    assert_eq!(applied[0]["options"], json!(["rate", "sink.folder"]), "{applied}");
    assert_eq!(applied[1]["is_new"], true, "{applied}");
    assert!(begins(&mut running).contains("board, second"));
    company.wait("the new one", |company| has_lines(&company.folder.path().join("elsewhere")));
    company.set("2", &["status=booked"]);
    company.wait("the new place", |company| has_lines(&company.folder.path().join("moved")));
    // What cannot begin changes nothing.
    company.map("jobs", "salt = 'env:NOBODY_HAS_SET_THIS'");
    let refused = company.rejoin.refused(["adapters", "apply", "board"]);
    assert!(refused.contains("NOBODY_HAS_SET_THIS") && refused.contains("nothing was changed"));
    assert_eq!(company.status()["state"], "up");
    // With a name, the others stay as they are.
    company.map("jobs", "rate = 8");
    let applied = company.rejoin.json(["adapters", "apply", "board"]);
    assert_eq!(applied[0]["options"], json!(["rate", "sink.folder"]), "{applied}");
    assert!(begins(&mut running).contains("board, second"));
    let applied = company.rejoin.json(["adapters", "apply"]);
    assert_eq!(applied[1], json!({ "adapter": "second", "is_removed": true }));
    assert!(!begins(&mut running).contains("second"));
    assert_eq!(running.terminate(), Some(0));
}

#[test]
fn a_file_that_says_otherwise_is_told_of_while_adapters_run() {
    let company = Company::new();
    let mut running = company.run();
    company.set("1", &["status=booked"]);
    company.wait("that all is well", |company| company.said().contains(WELL));
    let board = company.board("jobs", "rate = 7");
    company.write(&format!("{board}{}", adapter("second", "jobs", "")));
    let said = company.said();
    assert!(said.contains("board runs as before: the file says otherwise by now"), "{said}");
    assert!(said.contains("second is in the file and does not run"), "{said}");
    assert!(!said.contains(WELL), "{said}");
    let status = company.rejoin.json(["adapters", "status"]);
    assert_eq!((&status[0]["in_file"], &status[0]["state"]), (&json!("changed"), &json!("up")));
    assert_eq!((&status[1]["in_file"], &status[1]["state"]), (&json!("new"), &json!("new")));
    let planned = company.rejoin.ok(["adapters", "plan"]);
    let new = "second is new, with 1 document of jobs; `apply` begins it";
    assert!(planned.contains(new), "{planned}");
    company.rejoin.ok(["adapters", "apply"]);
    // Whoever asks while they begin anew waits for the answer.
    assert!(company.status()["adapter"] == "board");
    assert!(begins(&mut running).contains("board, second"));
    company.wait("that all is well", |company| company.said().contains(WELL));
    company.write(&board);
    let said = company.said();
    assert!(said.contains("second is not in the file any more and runs on"), "{said}");
}

#[test]
fn rows_go_at_a_target_only_where_somebody_says_so() {
    let company = Company::new();
    let mut running = company.run();
    company.set("1", &["status=booked"]);
    company.wait("that all is well", |company| company.said().contains(WELL));
    company.map("jbos", "");
    let planned = company.rejoin.ok(["adapters", "plan"]);
    let planned = planned.split_whitespace().collect::<Vec<_>>().join(" ");
    let why = "it carried jobs, and is to carry jbos in its place; there is no document of jbos, only of jobs";
    assert!(planned.contains(why), "{planned}");
    let refused = company.rejoin.refused(["adapters", "apply"]);
    assert!(refused.contains("1 row would be removed at the target") && refused.contains(why));
    assert!(refused.contains("Nothing was applied") && refused.contains("--yes"), "{refused}");
    assert_eq!(company.status()["collection"], "jobs", "they run as before");
    company.rejoin.ok(["adapters", "apply", "--yes"]);
    assert!(begins(&mut running).contains("board"));
    company.wait("the deletion", |company| lines(company) == 2);
}

/// How many deliveries the board has.
fn lines(company: &Company) -> usize {
    let files = std::fs::read_dir(company.folder.path().join("board")).expect("a folder");
    let texts = files.flatten().map(|file| std::fs::read_to_string(file.path()));
    texts.map(|text| text.expect("text").lines().count()).sum()
}

#[test]
fn adapters_that_lost_their_replica_take_nothing_from_the_target() {
    let company = Company::new();
    let mut running = company.run();
    for key in ["1", "2", "3"] {
        company.set(key, &["status=booked"]);
    }
    company
        .wait("that all is well", |company| lines(company) == 3 && company.said().contains(WELL));
    assert_eq!(running.terminate(), Some(0));
    std::fs::remove_file(company.folder.path().join("adapters/replica.redb")).expect("a replica");
    company.map("jbos", "");
    let refused = company.rejoin.refused(["adapters", "apply"]);
    assert!(
        refused.contains("board delivered rows before") && refused.contains("--yes"),
        "{refused}"
    );
    company.map("jobs", "");
    let _running = company.run();
    company.set("4", &["status=booked"]);
    company.wait("the fourth", |company| lines(company) == 4);
    company.wait("that all is well", |company| company.said().contains(WELL));
    assert_eq!(lines(&company), 4, "what was there was neither deleted nor sent again");
}

#[test]
fn a_check_fails_where_the_adapter_itself_lets_nothing_through() {
    let company = Company::new();
    let check = |company: &Company| {
        let ended = company.rejoin.run(["adapters", "check"]);
        (ended.code, ended.stdout.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let (code, said) = check(&company);
    assert!(code == 0 && said.contains("`rejoin adapters run` begins"), "{said}");
    let _running = company.run();
    company.set("1", &["status=booked"]);
    company.wait("that all is well", |company| company.said().contains(WELL));
    let (code, said) = check(&company);
    assert!(code == 0 && said.ends_with("nothing is in the way of deliveries"), "{said}");
    company.rejoin.ok(["adapters", "pause", "board"]);
    let (code, said) = check(&company);
    assert!(code == 1 && said.contains("wrong board: board is paused"), "{said}");
    company.set("2", &["status=booked"]);
    company.wait("the second", |company| company.said().contains("it is paused"));
    company.rejoin.ok(["adapters", "resume", "board"]);
    company.map("jobs", "rate = 7");
    let (code, said) = check(&company);
    assert!(code == 1 && said.contains("the file says otherwise"), "{said}");
}

#[test]
fn documents_are_known_to_lint_while_adapters_run() {
    let company = Company::new();
    let _running = company.run();
    company.set("1", &["status=booked", "phone=1"]);
    company.wait("that all is well", |company| company.said().contains(WELL));
    company.write(&company.board("jobs", "").replace("from = \"status\"", "from = \"statsu\""));
    let said = company.rejoin.ok(["adapters", "lint"]);
    assert!(said.contains("has statsu; did you mean \"status\"?"), "{said}");
}
