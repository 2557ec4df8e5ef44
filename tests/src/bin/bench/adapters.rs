//! Documents to rows of a private PostgreSQL, with relays, replicas and adapters as they run
//! everywhere; beside the database written directly.

mod bulk;
mod edits;
mod hanging;
mod offline;
mod seen;

use std::path::{Path, PathBuf};

use rejoin::Replica;
use rejoin_adapters::config::parse;
use rejoin_adapters::run::Adapters;
use rejoin_tests::live::LiveRelay;
use rejoin_tests::services::postgres::{PASSWORD, PostgresServer};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::Figure;

/// Many documents to rows.
pub(crate) fn rows() -> Vec<Figure> {
    measure(async |target| bulk::delivered(target).await)
}

/// Ever more documents, and the memory they need.
pub(crate) fn backfill() -> Vec<Figure> {
    measure(async |target| offline::backfilled(target).await)
}

/// One edit after the other.
pub(crate) fn visible() -> Vec<Figure> {
    measure(async |target| edits::visible(target).await)
}

/// Edits while another target hangs.
pub(crate) fn hanging() -> Vec<Figure> {
    measure(async |target| hanging::beside(target).await)
}

fn measure(figures: impl AsyncFnOnce(&Target) -> Vec<Figure>) -> Vec<Figure> {
    if !PostgresServer::is_installed() {
        eprintln!("skipped: Debian's postgresql is not installed");
        return Vec::new();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let figures = runtime.block_on(async { figures(&Target::start().await).await });
    // What hangs is not waited for.
    runtime.shutdown_background();
    figures
}

/// The database, and a connection to look into it.
struct Target {
    server: PostgresServer,
    client: Client,
    folder: TempDir,
}

impl Target {
    async fn start() -> Self {
        let server = PostgresServer::start().await;
        let client = server.connect().await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("password"), PASSWORD).expect("a file");
        Self { server, client, folder }
    }

    /// Makes a table for jobs.
    async fn create(&self, table: &str) {
        let sql = format!(
            "CREATE TABLE {table} (key text PRIMARY KEY, status text, phone text, address text, \
             notes text, starts_at timestamptz, ends_at timestamptz)"
        );
        self.client.batch_execute(&sql).await.expect("a new table");
    }

    async fn rows(&self, table: &str) -> usize {
        let row = self.client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await;
        let rows: i64 = row.expect("a table").get(0);
        usize::try_from(rows).expect("a count")
    }

    /// The adapter that keeps a table; its name is the table's.
    fn adapter(&self, table: &str) -> String {
        let sink = format!(
            "{{ kind = \"postgres\", url = \"{}\", password = \"file:{}\" }}",
            self.server.url(),
            self.folder.path().join("password").display()
        );
        adapter(table, &sink)
    }
}

/// An adapter that makes one row of each job.
fn adapter(name: &str, sink: &str) -> String {
    format!(
        r#"
        [adapter.{name}]
        collection = "jobs"
        sink       = {sink}
        [[adapter.{name}.record]]
        name = "{name}"
        key  = "{{key}}"
        [adapter.{name}.record.fields]
        status    = {{ from = "status", required = true }}
        phone     = {{ from = "phone" }}
        address   = {{ from = "address" }}
        notes     = {{ from = "notes" }}
        starts_at = {{ from = "starts_at", type = "time" }}
        ends_at   = {{ from = "ends_at", type = "time" }}
        "#
    )
}

/// The configuration of adapters, as text.
fn config(relay: &str, adapters: &[String]) -> String {
    let replica = format!("[replica]\ndata = \".\"\nrelay = \"{relay}\"\nspace = \"main\"\n");
    replica + &adapters.concat()
}

/// A job as dispatchers write them.
fn job(n: usize) -> (String, Map<String, Value>) {
    let (day, hour) = (1 + n % 28, 7 + n % 9);
    let fields = json!({
        "status": STATUSES[n % STATUSES.len()],
        "phone": format!("+49 731 555 {:05}", n % 100_000),
        "address": format!("Hafenstrasse {}, {:05} Ulm", n % 200, 89_000 + n % 100),
        "notes": format!("Boiler {n} loses pressure; the key is with the neighbour in flat {}", n % 30),
        "starts_at": format!("2026-11-{day:02}T{hour:02}:00:00Z"),
        "ends_at": format!("2026-11-{day:02}T{:02}:30:00Z", hour + 1),
    });
    let Value::Object(fields) = fields else { unreachable!("it is written as one") };
    (format!("W-{n:06}"), fields)
}

/// Writes jobs into a replica's file of its own, and closes it.
async fn write_jobs(file: &Path, count: usize) {
    let replica = Replica::open(file).await.expect("a new replica");
    let jobs = replica.space("main").and_then(|main| main.collection("jobs")).expect("names");
    for first in (0..count).step_by(JOBS_AT_ONCE) {
        let rows = (first..count.min(first + JOBS_AT_ONCE)).map(job).collect();
        let results = jobs.put_all(rows).await.expect("open");
        assert!(results.iter().all(Result::is_ok), "every edit is kept");
    }
    replica.close().await;
}

/// Adapters at work in this process, on a replica of their own.
struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    replica: Replica,
}

impl Running {
    /// Starts adapters in a folder, as `rejoin adapters run` does.
    async fn start(folder: PathBuf, relay: &LiveRelay, adapters: &[String]) -> Self {
        let parsed = parse(&config(&relay.url(), adapters));
        let config = parsed.config.unwrap_or_else(|| panic!("{:?}", parsed.findings));
        let adapters = Adapters::open(&config, &folder).expect("new outboxes");
        let replica = Replica::open(folder.join("replica.redb")).await.expect("a replica");
        let main = replica.space("main").expect("a name");
        replica.connect(&relay.url(), &[&main]).await.expect("an address");
        let (stop, stopping) = watch::channel(false);
        let run = async move { adapters.run(&main, stopping).await.expect("names") };
        Self { stop, task: tokio::spawn(run), replica }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.expect("adapters end");
        self.replica.close().await;
    }
}

/// Jobs written in one commit.
const JOBS_AT_ONCE: usize = 1_000;

/// Jobs that are edited in turn.
const JOBS_EDITED: usize = 50;

const STATUSES: [&str; 4] = ["booked", "en_route", "on_site", "done"];
