//! Whose fault it is: what the target or the configuration is in the way of waits, costs no row
//! anything, is told of in one line, and goes on by itself.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rejoin_tests::processes::{Rejoin, RelayProcess, Running};
use rejoin_tests::receiver::{Mood, Receiver};
use rejoin_tests::services::postgres::{PASSWORD, PostgresServer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const JOBS: &str = "CREATE TABLE jobs (key text PRIMARY KEY, town text, qty integer)";

const WELL: &str = "every target has everything";

/// A relay, a database, adapters and somebody who edits.
struct Company {
    folder: TempDir,
    relay: RelayProcess,
    rejoin: Rejoin,
    postgres: PostgresServer,
    runtime: Runtime,
}

impl Company {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let relay = RelayProcess::start(folder.path().join("relay"));
        let rejoin = Rejoin::in_dir(folder.path());
        let runtime = Runtime::new().unwrap();
        let postgres = runtime.block_on(PostgresServer::start());
        let company = Self { folder, relay, rejoin, postgres, runtime };
        company.write("password", PASSWORD);
        company.configure(&company.sink());
        company
    }

    fn sink(&self) -> String {
        let password = self.path("password");
        let (url, password) = (self.postgres.url(), password.display());
        format!(r#"{{ kind = "postgres", url = "{url}", password = "file:{password}" }}"#)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn configure(&self, sink: &str) {
        let text = format!(
            r#"
            [replica]
            data    = "adapters"
            relay   = "{}"
            space   = "main"
            [adapter.board]
            collection = "jobs"
            sink       = {sink}
            retry      = {{ schedule = ["1s", "1s", "1s"], jitter = 0.0 }}
            [[adapter.board.record]]
            name   = "jobs"
            key    = "{{key}}"
            fields = {{ town = {{ from = "town", mask = "last4" }}, qty = {{ from = "qty" }} }}
            "#,
            self.relay.url(),
        );
        self.write("adapters.toml", &text);
    }

    fn run(&self) -> Running {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.rejoin.command(["adapters", "run"]);
        command.stderr(log);
        let mut running = Running::start(command);
        assert!(running.line().expect("it says that it runs").contains("board"));
        running
    }

    /// The lines of the log that say something.
    fn logged(&self, what: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.path("log")).unwrap();
        log.lines().filter(|line| line.contains(what)).map(ToOwned::to_owned).collect()
    }

    /// Makes jobs, each of so many parts.
    fn import(&self, jobs: impl Iterator<Item = (u32, &'static str)>) {
        let rows = jobs.map(|(key, qty)| format!("{key},Kassel,{qty}\n"));
        self.write("jobs.csv", &("key,town,qty\n".to_owned() + &rows.collect::<String>()));
        let import = ["--replica", "desk.redb", "import", "jobs.csv", "--collection", "jobs"];
        self.rejoin.ok(import.iter().chain(&["--key", "key"]));
        self.rejoin.ok(["--replica", "desk.redb", "sync", &self.relay.url(), "--once"]);
    }

    fn status(&self) -> Value {
        self.rejoin.json(["adapters", "status"])[0].take()
    }

    fn said(&self) -> String {
        self.rejoin.ok(["adapters", "status"]).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn letters(&self, which: &[&str]) -> Vec<Value> {
        let letters = self.rejoin.json([&["adapters", "dead-letters"], which].concat());
        letters.as_array().unwrap().clone()
    }

    fn sql(&self, sql: &str) {
        self.runtime.block_on(async {
            self.postgres.connect().await.batch_execute(sql).await.unwrap();
        });
    }

    fn rows(&self) -> usize {
        self.runtime.block_on(async {
            let client = self.postgres.connect().await;
            client.query("SELECT key FROM jobs", &[]).await.map_or(0, |rows| rows.len())
        })
    }

    #[track_caller]
    fn wait(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            let status = || format!("{}\n{:?}", self.status(), self.logged("").last());
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{what} does not come: {}",
                status()
            );
            std::thread::yield_now();
        }
    }
}

fn trouble(status: &Value) -> &Value {
    let troubles = status["troubles"].as_array().unwrap();
    assert!(troubles.len() <= 1, "one trouble, one line: {status}");
    troubles.first().unwrap_or(&Value::Null)
}

#[test]
fn sixty_rows_of_a_missing_table_are_one_line_and_come_when_it_is_made() {
    let company = Company::new();
    let mut running = company.run();
    company.import((0..60).map(|key| (key, "1")));
    company.wait("the trouble", |company| trouble(&company.status())["rows"] == 60);
    let status = company.status();
    let it = trouble(&status);
    assert_eq!((&it["reach"], &it["kind"]), (&json!("kind"), &json!("jobs")), "{status}");
    assert!(it["what"].as_str().unwrap().contains("create the table"), "{status}");
    assert!(it["next_ms"].as_u64() > it["since_ms"].as_u64(), "{status}");
    let said = company.said();
    assert!(said.contains("board delivers no jobs since 20"), "{said}");
    assert!(said.contains("60 rows waiting, tried next at 20"), "{said}");
    assert_eq!(said.matches("create the table").count(), 1, "{said}");
    assert!(said.contains("`rejoin adapters retry board`") && !said.contains(WELL), "{said}");
    let lines = company.logged("create the table");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("adapter{name=board") && lines[0].contains("ERROR"), "{lines:?}");
    company.sql(JOBS);
    company.wait("the rows", |company| company.rows() == 60);
    company.wait("that all is well", |company| company.said().contains(WELL));
    assert_eq!(company.logged("goes on").iter().filter(|line| line.contains("jobs")).count(), 1);
    assert_eq!(company.letters(&[]), [] as [Value; 0]);
    assert_eq!(running.terminate(), Some(0));
}

#[test]
fn a_database_that_was_away_has_its_rows_without_any_command() {
    let mut company = Company::new();
    company.sql(JOBS);
    let mut running = company.run();
    company.import((0..3).map(|key| (key, "1")));
    company.wait("the first rows", |company| company.rows() == 3);
    company.postgres.kill();
    company.import((3..60).map(|key| (key, "1")));
    company.wait("the trouble", |company| trouble(&company.status())["rows"] == 57);
    assert_eq!(
        (&company.status()["state"], &company.status()["why"]),
        (&json!("down"), &Value::Null)
    );
    assert!(company.said().contains("board is down since 20"), "{}", company.said());
    let postgres = &mut company.postgres;
    company.runtime.block_on(postgres.restart());
    company.wait("the rows", |company| company.rows() == 60);
    company.wait("that all is well", |company| company.said().contains(WELL));
    assert_eq!(company.letters(&[]), [] as [Value; 0]);
    assert_eq!(running.terminate(), Some(0));
}

#[test]
fn a_wrong_password_is_waited_out_and_a_right_one_used_at_once() {
    let company = Company::new();
    company.sql(JOBS);
    company.write("password", "not this one");
    let mut running = company.run();
    company.import((0..20).map(|key| (key, "1")));
    company.wait("the trouble", |company| trouble(&company.status())["rows"] == 20);
    assert!(company.said().contains("see to `password`"), "{}", company.said());
    company.write("password", PASSWORD);
    let retried = company.rejoin.ok(["adapters", "retry", "board"]);
    assert!(retried.contains("board tries again at once"), "{retried}");
    company.wait("the rows", |company| company.rows() == 20);
    assert_eq!(company.letters(&[]), [] as [Value; 0]);
    assert_eq!(running.terminate(), Some(0));
}

#[test]
fn who_lets_nobody_in_is_waited_out() {
    let company = Company::new();
    let receiver = Receiver::start(WEBHOOK_SECRET);
    receiver.set_mood(Mood::Forbidding);
    company.write("secret", WEBHOOK_SECRET);
    company.configure(&format!(
        r#"{{ kind = "webhook", url = "http://{}/", secrets = ["file:{}"], allow_hosts = ["127.0.0.1"] }}"#,
        receiver.address(),
        company.path("secret").display(),
    ));
    let mut running = company.run();
    company.import((0..20).map(|key| (key, "1")));
    // Each was refused, and some more often than that.
    company.wait("many refusals", |_| receiver.refused() > 22);
    let status = company.status();
    assert_eq!((&status["state"], &trouble(&status)["rows"]), (&json!("down"), &json!(20)));
    assert!(company.said().contains("401"), "{}", company.said());
    receiver.set_mood(Mood::Calm);
    company.wait("what was refused", |_| receiver.taken().len() >= 20);
    company.wait("that all is well", |company| company.said().contains(WELL));
    assert_eq!(company.letters(&[]), [] as [Value; 0]);
    assert_eq!(running.terminate(), Some(0));
}

#[test]
fn letters_are_seen_to_together_and_show_what_is_at_fault() {
    let company = Company::new();
    company.sql(JOBS);
    let mut running = company.run();
    company.import((0..30).map(|key| (key, if key % 3 == 0 { "many" } else { "1" })));
    company.wait("the letters", |company| company.letters(&[]).len() == 10);
    company.wait("the rows", |company| company.rows() == 20);
    let letters = company.letters(&["board", "--class", "refused", "--since", "1h"]);
    assert_eq!(letters.len(), 10);
    assert!(letters.iter().all(|it| it["field"] == "qty" && it["value"] == "many"), "{letters:?}");
    assert!(company.letters(&["--class", "misfit"]).is_empty());
    let shown = ["adapters", "show", "board", &letters[0]["number"].to_string()];
    let shown = company.rejoin.ok(shown);
    assert!(shown.contains("qty = many") && !shown.contains("Kassel"), "{shown}");

    // Beside them the others are compared, as often as somebody wants.
    for _ in 0..2 {
        let report = company.rejoin.json(["adapters", "reconcile", "board"]);
        let counts = ["checked", "differs", "missing", "repaired", "refused"];
        assert_eq!(counts.map(|it| report[it].as_u64().unwrap()), [30, 0, 0, 0, 10], "{report}");
    }
    assert_eq!(company.letters(&[]).len(), 10);

    let first = letters[0]["number"].to_string();
    for unclear in [&["board", &first, "--all"][..], &["board"]] {
        let ended = company.rejoin.run([&["adapters", "discard"], unclear].concat());
        assert_eq!(ended.code, 2, "{ended:?}");
    }
    company.rejoin.ok(["adapters", "discard", "board", &first]);
    // What the table takes by now is made good by replaying, and the rest by asking for everything.
    company.sql("ALTER TABLE jobs ALTER qty TYPE text");
    let replayed = company.rejoin.json(["adapters", "replay", "board", "--class", "refused"]);
    assert_eq!(replayed["replayed"], 9, "{replayed}");
    company.wait("the replayed rows", |company| company.rows() == 29);
    company.rejoin.ok(["adapters", "backfill", "board"]);
    company.wait("all rows", |company| company.rows() == 30);
    company.wait("that all is well", |company| company.said().contains(WELL));
    let none = company.rejoin.ok(["adapters", "discard", "board", "--all"]);
    assert!(none.contains("board: 0 dead letters let be"), "{none}");
    assert_eq!(running.terminate(), Some(0));
}
