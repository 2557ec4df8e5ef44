//! One configuration, the example `examples/adapters.toml`: documents reach a database, a receiver of
//! webhooks, a message broker and calendars, whatever is killed, cut off, locked out or renamed meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, Stream};
use futures_util::StreamExt;
use rejoin::{Collection, Identity, Replica};
use rejoin_adapters::sink::icalendar;
use rejoin_tests::line::{Line, Quality};
use rejoin_tests::processes::{Rejoin, RelayProcess, Running};
use rejoin_tests::python;
use rejoin_tests::receiver::{Mood, Receiver};
use rejoin_tests::requests::request;
use rejoin_tests::services::free_port;
use rejoin_tests::services::nats::NatsServer;
use rejoin_tests::services::postgres::{PASSWORD, PostgresServer};
use rejoin_tests::sim::random::Random;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio_postgres::Client;

const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const CALENDAR_SECRET: &str = "canary of calendars, long enough";

/// What the phone numbers begin with, and nobody outside may see.
const CANARY: &str = "canary-";

/// How long servers and processes are killed.
const TROUBLE: Duration = Duration::from_mins(1);

/// How long a connection to the database lasts meanwhile.
const LIFETIME: Duration = Duration::from_secs(4);

const TECHNICIANS: [&str; 3] = ["Ada Ö.", "Ben", "Cem"];

struct City {
    folder: TempDir,
    rejoin: Rejoin,
    relay: RelayProcess,
    postgres: PostgresServer,
    /// What adapters reach the database over while there is trouble: no connection lasts.
    line: Option<Line>,
    nats: NatsServer,
    receiver: Receiver,
    calendars: u16,
    metrics: u16,
    desk: Replica,
    requests: Collection,
    log: PathBuf,
}

impl City {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rejoin = Rejoin::in_dir(folder.path());
        let csv = recorded().unwrap_or_else(|| made_up(folder.path()));
        let import = ["--replica", "desk.redb", "import", csv.to_str().unwrap()];
        let to = ["--collection", "requests", "--key", "Unique Key"];
        rejoin.ok(import.iter().chain(&to));
        let relay = RelayProcess::start(folder.path().join("relay"));
        let postgres = PostgresServer::start().await;
        let made = "CREATE TABLE requests (key text PRIMARY KEY, agency text, complaint text, \
                    job_status text, phone text, starts_at timestamptz, source text, \
                    deleted_at timestamptz)";
        postgres.connect().await.batch_execute(made).await.unwrap();
        let nats = NatsServer::start(&[]);
        let receiver = Receiver::start(WEBHOOK_SECRET);
        let desk = Replica::open(folder.path().join("desk.redb")).await.unwrap();
        desk.act_as(Some(Identity::user("Dora").with_role("dispatch"))).await.unwrap();
        let space = desk.space("main").unwrap();
        let requests = space.collection("requests").unwrap();
        desk.connect(&relay.url(), &[&space]).await.unwrap();
        let log = folder.path().join("log");
        let (calendars, metrics) = (free_port(), free_port());
        let quality = Quality { lifetime: LIFETIME, ..Quality::GOOD };
        let line = Some(Line::to(&format!("127.0.0.1:{}", postgres.port()), quality));
        let city = Self {
            folder,
            rejoin,
            relay,
            postgres,
            line,
            nats,
            receiver,
            calendars,
            metrics,
            desk,
            requests,
            log,
        };
        city.stream().await;
        city.configure(|text| text);
        city
    }

    /// Writes the example's configuration, with the addresses of the servers that are here.
    fn configure(&self, change: impl FnOnce(String) -> String) {
        let retry = format!("retry = {{ schedule = [{}] }}", ["'1s'"; 100].join(", "));
        let hook = format!("http://{}/hooks", self.receiver.address());
        let over = |line: &Line| line.url().replace("ws://", "postgresql://rejoin@") + "/postgres";
        let database = self.line.as_ref().map_or_else(|| self.postgres.url(), over);
        let mut text = include_str!("../../../../examples/adapters.toml").to_owned();
        for (there, here) in [
            ("ws://127.0.0.1:4455", self.relay.url()),
            ("postgresql://rejoin@127.0.0.1:5432/postgres", database),
            (
                "https://crm.example/hooks/requests\"",
                format!("{hook}\", timeout_s = 1, allow_hosts = [\"127.0.0.1\"]"),
            ),
            ("nats://127.0.0.1:4222", self.nats.url()),
            (
                "space = \"main\"",
                format!("space = \"main\"\nmetrics = \"127.0.0.1:{}\"", self.metrics),
            ),
            ("127.0.0.1:4480", format!("127.0.0.1:{}", self.calendars)),
            ("collection = \"requests\"", format!("collection = \"requests\"\n{retry}")),
        ] {
            assert!(text.contains(there), "the example says no {there}");
            text = text.replace(there, &here);
        }
        std::fs::write(self.folder.path().join("adapters.toml"), change(text)).unwrap();
    }

    fn adapters(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.rejoin.command([&["adapters"], arguments].concat());
        command
            .env("REPORTS_PASSWORD", PASSWORD)
            .env("CRM_SECRET", WEBHOOK_SECRET)
            .env("CALENDAR_SECRET", CALENDAR_SECRET)
            .env("RUST_LOG", "debug");
        command
    }

    fn run(&self) -> Running {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = self.adapters(&["run"]);
        command.stderr(log);
        let mut running = Running::start(command);
        running.line().expect("it says that it runs");
        running
    }

    /// What a command answers.
    fn ask(&self, arguments: &[&str]) -> Value {
        let output = self.adapters(&[arguments, &["--json"]].concat()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn stream(&self) -> Stream {
        let client = async_nats::connect(self.nats.url()).await.unwrap();
        let subjects = vec!["city.>".to_owned()];
        let config = Config { name: "city".to_owned(), subjects, ..Config::default() };
        async_nats::jetstream::new(client).get_or_create_stream(config).await.unwrap()
    }

    /// The requests as they are, by key.
    async fn documents(&self) -> BTreeMap<String, Value> {
        let listed = self.requests.list().await.unwrap().into_iter();
        listed.map(|entry| (entry.key.expect("requests have keys"), entry.value)).collect()
    }

    /// Somebody at the desk does something to a request.
    async fn edit(&self, key: &str, random: &mut Random) {
        let hour = random.below(24);
        let (start, end) =
            (format!("2026-11-24T{hour:02}:00:00Z"), format!("2026-11-24T{hour:02}:45:00Z"));
        let fields = match random.below(4) {
            0 => json!({ "Status": *random.pick(&["Open", "In Progress", "Closed"]).unwrap() }),
            1 => json!({ "starts_at": start, "ends_at": end }),
            2 => json!({ "technician": *random.pick(&TECHNICIANS).unwrap() }),
            _ => json!({ "phone": format!("{CANARY}{:04}", random.below(10_000)) }),
        };
        let Value::Object(fields) = fields else { unreachable!("it was just made") };
        self.requests.put(key, fields).await.unwrap();
    }

    /// Changes something about the database for a moment, in which nobody is connected to it but
    /// the test.
    async fn while_it_is(&self, change: &str, meanwhile: impl AsyncFnOnce(&Self)) {
        let client = self.postgres.connect().await;
        client.batch_execute(change).await.unwrap();
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name LIKE 'rejoin-%'";
        client.batch_execute(cut).await.unwrap();
        meanwhile(self).await;
        let back = format!(
            "ALTER TABLE IF EXISTS asked RENAME TO requests; ALTER ROLE rejoin PASSWORD '{PASSWORD}'"
        );
        client.batch_execute(&back).await.unwrap();
    }

    /// One blow to a process, a server or the line, or another mood of the receiver. While the
    /// database is not as it was, somebody edits the request `standing`.
    async fn suffer(&mut self, running: &mut Running, standing: &str, random: &mut Random) {
        match random.below(9) {
            0 => {
                running.kill9();
                *running = self.run();
            }
            1 => {
                self.relay.kill9();
                self.relay.restart();
            }
            2 => {
                self.postgres.kill();
                self.postgres.restart().await;
            }
            3 => self.nats.restart(),
            blow @ (4 | 5) => {
                let change = match blow {
                    4 => "ALTER TABLE requests RENAME TO asked",
                    _ => "ALTER ROLE rejoin PASSWORD 'another'",
                };
                self.while_it_is(change, async |city| {
                    city.edit(standing, random).await;
                    city.desk.saved().await.unwrap();
                })
                .await;
            }
            _ => {
                let moods = [Mood::Calm, Mood::Failing, Mood::Forbidding, Mood::Busy, Mood::Silent];
                self.receiver.set_mood(*random.pick(&moods).unwrap());
            }
        }
    }

    /// Waits for something to be so.
    async fn until(&self, what: &str, mut is_so: impl AsyncFnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self).await {
            let status = || self.ask(&["status"]);
            assert!(
                began.elapsed() < Duration::from_secs(120),
                "{what} does not come: {}",
                status()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until every target has everything, but for what is no row.
    async fn settle(&self) {
        self.desk.saved().await.unwrap();
        self.until("the last row", async |city| {
            city.rows().await == wanted(&city.documents().await)
        })
        .await;
        self.until("what waits", async |city| {
            let status = city.ask(&["status"]);
            status.as_array().unwrap().iter().all(|adapter| adapter["waiting"] == 0)
        })
        .await;
    }

    /// The rows of the table that are not deleted.
    async fn rows(&self) -> BTreeMap<String, Value> {
        let sql = "SELECT key, (to_jsonb(requests) - 'key' - 'deleted_at')::text FROM requests \
                   WHERE deleted_at IS NULL";
        let client: Client = self.postgres.connect().await;
        client.batch_execute("SET TimeZone = 'UTC'").await.unwrap();
        let rows = client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), serde_json::from_str(row.get(1)).unwrap())).collect()
    }
}

/// The recorded requests of one day, if they are there.
fn recorded() -> Option<PathBuf> {
    let path = "../../../shared/data/nyc-311-2022-05-01.csv";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    path.exists().then_some(path)
}

/// Some that look like them.
fn made_up(folder: &Path) -> PathBuf {
    println!("SKIPPED: the recorded requests are not there; a small file is imported instead");
    let path = folder.join("requests.csv");
    let row = |at: u32| format!("{at},Agency {},Noise,Open,BRONX,{at} Main Street\n", at % 3);
    let head = "Unique Key,Agency,Complaint Type,Status,Borough,Incident Address\n".to_owned();
    std::fs::write(&path, head + &(0..80).map(row).collect::<String>()).unwrap();
    path
}

/// The rows that requests should be, by hand.
fn wanted(documents: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let row = |document: &Value| {
        let status = match document["Status"].as_str().unwrap() {
            "Open" => "OPEN",
            "In Progress" => "WORKING",
            "Closed" => "DONE",
            _ => "LOST",
        };
        let phone = document["phone"].as_str().map(|phone| format!("*******{}", &phone[7..]));
        let start = document["starts_at"].as_str().map(|it| it.replace('Z', "+00:00"));
        json!({
            "agency": document["Agency"], "complaint": document["Complaint Type"],
            "job_status": status, "phone": phone, "starts_at": start, "source": "rejoin",
        })
    };
    documents.iter().map(|(key, document)| (key.clone(), row(document))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_reach_every_target_whatever_is_killed() {
    let mut city = City::new().await;
    let mut random = Random::new(20_261_121);
    let mut running = city.run();
    let keys: Vec<String> = city.documents().await.into_keys().collect();
    for key in &keys {
        city.edit(key, &mut random).await;
    }
    // One request has a state that the mapping does not know.
    let lost = keys[keys.len() / 2].clone();
    city.requests.put(&lost, Map::from_iter([("Status".to_owned(), json!("Lost"))])).await.unwrap();

    let began = Instant::now();
    let mut gone = BTreeSet::new();
    while began.elapsed() < TROUBLE {
        for _ in 0..random.between(5, 40) {
            let key = random.pick(&keys).unwrap();
            if *key == lost || gone.contains(key) {
                continue;
            }
            if random.chance(20) {
                city.requests.document(key).unwrap().delete().await.unwrap();
                gone.insert(key.clone());
            } else {
                city.edit(key, &mut random).await;
            }
        }
        let is_standing = |key: &&String| **key != lost && !gone.contains(*key);
        let standing = keys.iter().find(is_standing).expect("few are deleted");
        city.suffer(&mut running, standing, &mut random).await;
        tokio::time::sleep(Duration::from_millis(random.below(500))).await;
    }
    city.receiver.set_mood(Mood::Calm);
    the_lost_one_is_mended_in_the_mapping(&mut city, &mut running, &lost).await;

    for name in ["reports", "calendars"] {
        let report = city.ask(&["reconcile", name]);
        for what in ["stale", "missing", "extra", "differs", "waiting"] {
            assert_eq!(report[what], 0, "{report}");
        }
        assert_eq!(report["checked"], keys.len() - gone.len(), "{report}");
    }
    let documents = city.documents().await;
    assert_eq!(documents.len(), keys.len() - gone.len());
    webhooks_hold(&city.receiver.taken(), &documents, &gone);
    messages_hold(&city.stream().await, &documents, &gone).await;
    calendars_hold(&city, &documents).await;
    rows_tell_where_they_come_from(&city, &documents);
    what_the_table_lost_is_repaired(&city).await;
    nothing_masked_stands_anywhere(&city).await;
    assert_eq!(running.terminate(), Some(0));
}

/// The one row that no target takes is a dead letter, whatever happened to the targets, and reaches
/// them once the mapping has a word for it.
async fn the_lost_one_is_mended_in_the_mapping(
    city: &mut City,
    running: &mut Running,
    lost: &String,
) {
    city.until("the dead letter", async |city| {
        let letters = city.ask(&["dead-letters"]);
        letters
            .as_array()
            .unwrap()
            .iter()
            .any(|it| it["key"] == *lost && it["adapter"] == "reports")
    })
    .await;
    // No other row was judged for what happened to the targets.
    for letter in city.ask(&["dead-letters"]).as_array().unwrap() {
        assert_eq!(
            (&letter["class"], &letter["key"]),
            (&json!("misfit"), &json!(lost)),
            "{letter}"
        );
    }
    assert_eq!(running.terminate(), Some(0));
    city.line = None;
    city.configure(|text| text.replace("Closed = \"DONE\"", "Closed = \"DONE\", Lost = \"LOST\""));
    let plan = city.ask(&["plan", "reports"])[0].take();
    assert_eq!(plan["misfits"], 0, "{plan}");
    city.ask(&["apply"]);
    *running = city.run();
    city.settle().await;
    let letters = city.ask(&["dead-letters"]);
    assert_eq!(letters, json!([]), "nothing is left over");
}

/// Every event came, none twice with another content, and the last of each request is what it is.
fn webhooks_hold(taken: &[Value], documents: &BTreeMap<String, Value>, gone: &BTreeSet<String>) {
    let mut by_id = BTreeMap::<&str, &Value>::new();
    let mut last = BTreeMap::<&str, (u64, &Value)>::new();
    for event in taken {
        let id = event["id"].as_str().unwrap();
        assert_eq!(*by_id.entry(id).or_insert(event), event, "one key, two effects");
        let (subject, seq) = (event["subject"].as_str().unwrap(), &event["sequence"]);
        let seq: u64 = seq.as_str().unwrap().parse().unwrap();
        let newest = last.entry(subject).or_insert((seq, event));
        if newest.0 <= seq {
            *newest = (seq, event);
        }
    }
    for event in by_id.values() {
        let previous = event["previous"].as_str();
        assert!(
            previous.is_none_or(|id| by_id.contains_key(id)),
            "the event before {event} is lost"
        );
    }
    for (key, (_, event)) in &last {
        match documents.get(*key) {
            Some(document) => {
                assert_eq!(event["data"]["status"], document["Status"], "{event}");
                assert_eq!(event["data"]["technician"], document["technician"], "{event}");
            }
            None => assert!(gone.contains(*key) && event["type"] == "request.delete", "{event}"),
        }
    }
    assert!(documents.keys().all(|key| last.contains_key(&**key)), "a request is missing");
}

/// The same of the messages in the stream, where nothing stands twice.
async fn messages_hold(
    stream: &Stream,
    documents: &BTreeMap<String, Value>,
    gone: &BTreeSet<String>,
) {
    // Nobody acknowledges, and nothing shall be read twice for that.
    let ack_policy = AckPolicy::None;
    let consumer = pull::Config { ack_policy, ..pull::Config::default() };
    let consumer = stream.create_consumer(consumer).await.unwrap();
    let count = consumer.cached_info().num_pending;
    let mut messages = consumer.messages().await.unwrap().take(usize::try_from(count).unwrap());
    let (mut ids, mut last) = (BTreeSet::new(), BTreeMap::new());
    while let Some(message) = messages.next().await {
        let message = message.unwrap();
        let id = message.headers.as_ref().unwrap().get("Nats-Msg-Id").unwrap().to_string();
        assert!(ids.insert(id), "a message stands twice");
        let body: Value = serde_json::from_slice(&message.payload).unwrap();
        last.insert(body["record"].as_str().unwrap().to_owned(), body);
    }
    for (key, body) in &last {
        match documents.get(key) {
            Some(document) => assert_eq!(body["row"]["status"], document["Status"]),
            None => assert!(gone.contains(key) && body["op"] == "delete", "{body}"),
        }
    }
    assert!(documents.keys().all(|key| last.contains_key(key)), "a request is missing");
}

/// Calendars as a foreign program reads them.
async fn calendars_hold(city: &City, documents: &BTreeMap<String, Value>) {
    let address = format!("127.0.0.1:{}", city.calendars).parse().unwrap();
    for technician in TECHNICIANS {
        let path = icalendar::path(CALENDAR_SECRET, technician);
        let answer = request(address, "GET", &path, &[]).await;
        assert_eq!(answer.status, 200, "{technician}");
        let read: Value =
            serde_json::from_slice(&python::run("read_calendar.py", &answer.body)).unwrap();
        assert_eq!(read["errors"], json!([]));
        let events = read["events"].as_array().unwrap().iter();
        let mut found: Vec<_> = events
            .filter(|event| event["status"] != "CANCELLED")
            .map(|event| (event["start"].clone(), event["summary"].clone()))
            .collect();
        let own = documents.values().filter(|it| it["technician"] == technician);
        let mut own: Vec<_> = own
            .filter(|it| it["starts_at"].is_string())
            .map(|it| {
                let start = it["starts_at"].as_str().unwrap().replace('Z', "+00:00");
                (Value::from(start), it["Complaint Type"].clone())
            })
            .collect();
        let text = |it: &(Value, Value)| format!("{} {}", it.0, it.1);
        found.sort_by_key(text);
        own.sort_by_key(text);
        assert_eq!(found, own, "{technician}");
    }
}

fn rows_tell_where_they_come_from(city: &City, documents: &BTreeMap<String, Value>) {
    let edited = |it: &&Value| it["phone"].is_string();
    let (key, _) = documents.iter().find(|(_, it)| edited(it)).unwrap();
    let origin = city.ask(&["origin", "reports", "requests", key]);
    assert_eq!(origin["key"], **key);
    let fields = origin["fields"].as_array().unwrap();
    let phone = fields.iter().find(|field| field["field"] == "phone").unwrap();
    assert_eq!(
        (&phone["author"]["user"], &phone["author"]["role"]),
        (&json!("Dora"), &json!("dispatch"))
    );
    let agency = fields.iter().find(|field| field["field"] == "agency").unwrap();
    assert_ne!(agency["change"], phone["change"]);
    assert!(!origin["deliveries"].as_array().unwrap().is_empty());
}

/// Somebody changes the table behind everybody's back.
async fn what_the_table_lost_is_repaired(city: &City) {
    let rows = city.rows().await;
    let keys: Vec<_> = rows.keys().collect();
    let client = city.postgres.connect().await;
    let (first, second) = (keys[0].as_str(), keys[1].as_str());
    client.execute("DELETE FROM requests WHERE key = $1", &[&first]).await.unwrap();
    client.execute("UPDATE requests SET agency = 'X' WHERE key = $1", &[&second]).await.unwrap();
    client.batch_execute("INSERT INTO requests (key) VALUES ('stranger')").await.unwrap();
    let seen = city.ask(&["reconcile", "reports", "--dry-run"]);
    let found =
        |report: &Value| ["missing", "differs", "extra", "repaired"].map(|it| report[it].as_u64());
    assert_eq!(found(&seen), [Some(1), Some(1), Some(1), Some(0)], "{seen}");
    let fields = seen["rows"].as_array().unwrap().iter().find(|row| row["what"] == "differs");
    assert_eq!(fields.unwrap()["fields"], json!(["agency"]));
    assert_eq!(found(&city.ask(&["reconcile", "reports"])), [Some(1), Some(1), Some(1), Some(2)]);
    city.until("the repair", async |city| {
        let mut held = city.rows().await;
        held.remove("stranger");
        held == rows
    })
    .await;
    let strange = city.ask(&["reconcile", "reports", "--delete-extra"]);
    assert_eq!(found(&strange), [Some(0), Some(0), Some(1), Some(1)], "{strange}");
    city.until("the stranger's end", async |city| city.rows().await == rows).await;
    let again = city.ask(&["reconcile", "reports", "--delete-extra"]);
    assert_eq!(found(&again), [Some(0), Some(0), Some(0), Some(0)], "{again}");
    let rewound = city.ask(&["rewind", "reports", "--to", "1h"]);
    assert!(rewound["rows"].as_u64().unwrap() >= rows.len() as u64, "{rewound}");
    city.settle().await;
    let refused = city.adapters(&["reconcile", "crm"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("rejoin adapters backfill crm"), "{said}");
}

/// No phone number is in an outbox, a calendar, a log, a metric, or what went out.
async fn nothing_masked_stands_anywhere(city: &City) {
    let secrets = [CANARY, PASSWORD, &WEBHOOK_SECRET[6..], CALENDAR_SECRET];
    let mut files = vec![city.log.clone()];
    for folder in ["adapters", "calendars", "tickets"] {
        let entries = std::fs::read_dir(city.folder.path().join(folder)).unwrap();
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    // The replica itself holds the documents, whole.
    files.retain(|path| {
        let is_socket = path.extension().is_some_and(|end| end == "sock");
        !is_socket && path.file_name().is_some_and(|it| it != "replica.redb")
    });
    assert!(files.len() > 5, "{files:?}");
    let holds =
        |bytes: &[u8], secret: &str| bytes.windows(secret.len()).any(|it| it == secret.as_bytes());
    for path in files {
        let bytes = std::fs::read(&path).unwrap();
        let found = secrets.iter().find(|secret| holds(&bytes, secret));
        assert_eq!(found, None, "in {}", path.display());
    }
    let metrics = format!("127.0.0.1:{}", city.metrics).parse().unwrap();
    let metrics = request(metrics, "GET", "/metrics", &[]).await.body;
    assert!(holds(&metrics, "rejoin_adapter_"), "{}", String::from_utf8_lossy(&metrics));
    let sent = serde_json::to_vec(&city.receiver.taken()).unwrap();
    assert!(!secrets.iter().any(|secret| holds(&sent, secret) || holds(&metrics, secret)));
}
