//! Rows in a real PostgreSQL.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rejoin_adapters::config::parse;
use rejoin_adapters::delivery::{Action, Delivery, Fault, FaultClass, Reach, Record};
use rejoin_adapters::mapping::Mapping;
use rejoin_adapters::sink::postgres::{Options, Postgres, ddl};
use rejoin_adapters::sink::{Held, Sink, inspect};
use rejoin_tests::delivery::{delivery, put};
use rejoin_tests::services::postgres::{PASSWORD, PostgresServer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::Client;

const JOBS: &str = "\
CREATE TABLE jobs (key text PRIMARY KEY, town text, parts int, price numeric(10,2), done boolean,
                   at timestamptz, tags jsonb, deleted_at timestamptz)";

struct Company {
    server: PostgresServer,
    client: Client,
    folder: TempDir,
}

impl Company {
    async fn new() -> Self {
        let server = PostgresServer::start().await;
        let client = server.connect().await;
        client.batch_execute(JOBS).await.unwrap();
        Self { server, client, folder: tempfile::tempdir().unwrap() }
    }

    fn sink(&self) -> Postgres {
        sink(self.folder.path(), &self.server.url(), json!({ "deleted_column": "deleted_at" }))
    }

    /// What a query of one column finds.
    async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect()
    }

    async fn text(&self, sql: &str) -> String {
        self.texts(sql).await.pop().unwrap()
    }
}

fn sink(folder: &Path, url: &str, more: Value) -> Postgres {
    std::fs::write(folder.join("password"), PASSWORD).unwrap();
    let password = format!("file:{}", folder.join("password").display());
    let mut options = json!({ "url": url, "password": password, "timeout_s": 1 });
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let options: Options = serde_json::from_value(options).unwrap();
    Postgres::open(options, folder).unwrap()
}

fn town(key: &str, seq: u64, town: &str) -> Delivery {
    delivery("jobs", key, seq, put(json!({ "town": town })))
}

async fn one(sink: &Postgres, delivery: &Delivery) -> Result<(), Fault> {
    sink.apply(std::slice::from_ref(delivery)).await.remove(0)
}

#[track_caller]
fn is_transient(outcome: &Result<(), Fault>) -> &str {
    match outcome {
        Err(fault) if fault.is_transient() => &fault.what,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_trouble(outcome: &Result<(), Fault>, reach: Reach) -> &str {
    match outcome {
        Err(fault) if fault.class == FaultClass::Trouble(reach) => &fault.what,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_permanent(outcome: &Result<(), Fault>) -> &str {
    match outcome {
        Err(Fault { class: FaultClass::Permanent, what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn rows_have_the_types_of_their_columns() {
    let company = Company::new().await;
    let row = json!({
        "town": "Ülm \"'; DROP TABLE jobs; --", "parts": 3, "price": 12.5, "done": true,
        "at": "2026-11-20T10:00:00.250Z", "tags": ["a", { "b": null }],
    });
    let delivery = delivery("jobs", "W-1", 1, put(row));
    let sink = company.sink();
    one(&sink, &delivery).await.unwrap();
    let found = company.text("SELECT to_jsonb(jobs)::text FROM jobs").await;
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["town"], "Ülm \"'; DROP TABLE jobs; --");
    assert_eq!(found["tags"], json!(["a", { "b": null }]));
    let told =
        company.text("SELECT concat_ws(' ', parts, price, done, extract(epoch FROM at)) FROM jobs");
    assert_eq!(told.await, "3 12.50 t 1795168800.250000");
    let application = company.text(
        "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'rejoin-%'",
    );
    assert_eq!(application.await, "rejoin-board");
    drop(sink);
}

#[tokio::test]
async fn what_is_handed_over_again_changes_nothing_and_older_never_undoes_newer() {
    let company = Company::new().await;
    let sink = company.sink();
    let (first, second) = (town("W-1", 1, "Ulm"), town("W-1", 2, "Bonn"));
    one(&sink, &first).await.unwrap();
    let written = "SELECT xmin::text || town FROM jobs";
    let before = company.text(written).await;
    one(&sink, &first).await.unwrap();
    // Another process that knows nothing, as after a crash between sending and noting.
    one(&company.sink(), &first).await.unwrap();
    assert_eq!(company.text(written).await, before, "not even written again");

    one(&sink, &second).await.unwrap();
    assert!(is_permanent(&one(&sink, &first).await).contains("newer"));
    assert_eq!(company.text("SELECT town FROM jobs").await, "Bonn");
    // An outbox that somebody restored and asked for everything again.
    let anew = Delivery { generation: 1_790_000_000_000, ..town("W-1", 1, "Kiel") };
    one(&sink, &anew).await.unwrap();
    assert_eq!(company.text("SELECT town FROM jobs").await, "Kiel");
}

#[tokio::test]
async fn one_bad_row_stops_no_other() {
    let company = Company::new().await;
    let bad = [7_u64, 100, 255];
    let deliveries: Vec<_> = (0..256)
        .map(|at| {
            let parts = if bad.contains(&at) { json!("canary") } else { json!(at) };
            delivery("jobs", &format!("W-{at:03}"), 1, put(json!({ "parts": parts })))
        })
        .collect();
    let outcomes = company.sink().apply(&deliveries).await;
    for (at, outcome) in (0..).zip(&outcomes) {
        match bad.contains(&at) {
            true => {
                let what = is_permanent(outcome);
                assert!(what.contains("parts: the value is no whole number"), "{what}");
                assert!(what.contains("column is integer") && !what.contains("canary"), "{what}");
                let field = outcome.as_ref().unwrap_err().field.as_deref();
                assert_eq!(field, Some("parts"), "{what}");
            }
            false => assert_eq!(outcome, &Ok(())),
        }
    }
    let sum: u64 = (0..256).filter(|at| !bad.contains(at)).sum();
    assert_eq!(company.text("SELECT sum(parts)::text FROM jobs").await, sum.to_string());
    assert_eq!(company.text("SELECT count(*)::text FROM rejoin_deliveries").await, "253");
}

#[tokio::test]
async fn columns_that_are_not_mapped_take_their_defaults() {
    let company = Company::new().await;
    let made = "CREATE DOMAIN source AS text NOT NULL DEFAULT 'crm'; \
                CREATE DOMAIN small AS numeric(4,1); CREATE DOMAIN smaller AS small; \
                CREATE TABLE visits (key text PRIMARY KEY, town text, weight smaller, \
                source source, made int NOT NULL DEFAULT 7)";
    company.client.batch_execute(made).await.unwrap();
    let sink = plain_sink(&company, &company.server.url());
    let visit = |seq, row| delivery("visits", "V-1", seq, put(row));
    let row = json!({ "town": "Ulm", "weight": "120.5" });
    one(&sink, &visit(1, row.clone())).await.unwrap();
    let told = "SELECT concat_ws(' ', town, weight, source, made) FROM visits";
    assert_eq!(company.text(told).await, "Ulm 120.5 crm 7");
    company.client.batch_execute("UPDATE visits SET source = 'desk'").await.unwrap();
    one(&sink, &visit(2, json!({ "town": "Bonn", "weight": 1 }))).await.unwrap();
    assert_eq!(company.text(told).await, "Bonn 1.0 desk 7", "an update leaves them alone");
    let unfit = one(&sink, &visit(3, json!({ "weight": 0.25 }))).await;
    assert!(is_permanent(&unfit).contains("weight: the number would be rounded"), "{unfit:?}");
    one(&sink, &visit(4, json!({}))).await.unwrap();
    let (record, wanted) = (visit(5, json!({})).record, row.as_object().cloned());
    let held = vec![Held { record, row: wanted }];
    let held = sink.as_held("visits", held).await.unwrap().remove(0).row.unwrap();
    assert_eq!(Value::from(held), json!({ "town": "Ulm", "weight": 120.5 }));
}

#[tokio::test]
async fn values_are_what_they_mean_and_never_rounded_without_a_word() {
    let company = Company::new().await;
    let made = "CREATE TABLE sums (key text PRIMARY KEY, whole int, flag boolean, price numeric(6,2), \
                exact numeric, single real, name varchar(4), at timestamptz, clock timestamp, day date)";
    company.client.batch_execute(made).await.unwrap();
    let sink = plain_sink(&company, &company.server.url());
    let exact = "12345678901234567890.123456789012345678";
    let row = json!({
        "whole": "5.0", "flag": "TRUE", "price": "007.10", "exact": exact, "single": 0.1,
        "name": "Köln", "at": "2026-08-20T16:00:00+02:00", "clock": "2026-08-20T16:00:00+02:00",
        "day": "2026-08-20T00:30:00+02:00",
    });
    one(&sink, &delivery("sums", "S-1", 1, put(row))).await.unwrap();
    let told = "SELECT concat_ws(' ', whole, flag, price, exact, single, name, \
                extract(epoch FROM at)::bigint, clock, day) FROM sums";
    let wanted = format!("5 t 7.10 {exact} 0.1 Köln 1787234400 2026-08-20 16:00:00 2026-08-20");
    assert_eq!(company.text(told).await, wanted);
    for (at, (field, value, why)) in [
        ("whole", json!(5.5), "no whole number"),
        ("whole", json!(3_000_000_000_u64), "too large"),
        ("flag", json!("maybe"), "neither true nor false"),
        ("price", json!(0.1234), "rounded"),
        ("price", json!("12345.6"), "too large"),
        ("single", json!(16_777_217), "rounded"),
        ("name", json!("Leipzig"), "too long"),
        ("at", json!("2026-08-20T16:00"), "no zone"),
        ("at", json!("2026-08-20"), "type = \"time\""),
    ]
    .into_iter()
    .enumerate()
    {
        let row = put(json!({ field: value }));
        let outcome = one(&sink, &delivery("sums", &format!("T-{at}"), 1, row)).await;
        let what = is_permanent(&outcome);
        assert!(what.starts_with(&format!("{field}: ")) && what.contains(why), "{what}");
    }
    // What did not fit does once the column is another.
    company.client.batch_execute("ALTER TABLE sums ALTER whole TYPE numeric").await.unwrap();
    one(&sink, &delivery("sums", "T-0", 1, put(json!({ "whole": 5.5 })))).await.unwrap();
    assert_eq!(company.text("SELECT whole::text FROM sums WHERE key = 'T-0'").await, "5.5");
}

#[tokio::test]
async fn what_the_tables_lack_waits_and_the_rest_goes_on() {
    let company = Company::new().await;
    let sink = company.sink();
    let parts = |seq| delivery("parts", "P-1", seq, put(json!({ "count": 3 })));
    let outcomes = sink.apply(&[town("W-1", 1, "Ulm"), parts(1), town("W-2", 1, "Bonn")]).await;
    assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(()), &Ok(())));
    assert!(is_trouble(&outcomes[1], Reach::NoPlace).contains("create the table"), "{outcomes:?}");

    company
        .client
        .batch_execute("CREATE TABLE parts (key text, deleted_at timestamptz)")
        .await
        .unwrap();
    let missing = one(&sink, &parts(1)).await;
    assert!(is_trouble(&missing, Reach::Kind).contains("add the column"), "{missing:?}");
    company.client.batch_execute("ALTER TABLE parts ADD count text").await.unwrap();
    let loose = one(&sink, &parts(1)).await;
    assert!(is_trouble(&loose, Reach::Kind).contains("make the key column unique"), "{loose:?}");
    company.client.batch_execute("ALTER TABLE parts ADD PRIMARY KEY (key)").await.unwrap();
    one(&sink, &parts(1)).await.unwrap();

    // A migration while statements are prepared: another type, then another name and back.
    company.client.batch_execute("ALTER TABLE parts ALTER count TYPE int USING 1").await.unwrap();
    one(&sink, &parts(2)).await.unwrap();
    company.client.batch_execute("ALTER TABLE parts RENAME count TO number").await.unwrap();
    is_trouble(&one(&sink, &parts(3)).await, Reach::Kind);
    company.client.batch_execute("ALTER TABLE parts RENAME number TO count").await.unwrap();
    one(&sink, &parts(3)).await.unwrap();
    assert_eq!(company.text("SELECT count::text FROM parts").await, "3");
}

#[tokio::test]
async fn a_column_that_the_mapping_does_not_give_is_no_rows_fault() {
    let company = Company::new().await;
    let sink = company.sink();
    let table = "CREATE TABLE parts (key text PRIMARY KEY, count int NOT NULL, maker text NOT NULL, deleted_at timestamptz)";
    company.client.batch_execute(table).await.unwrap();
    let part = |count: Value| delivery("parts", "P-1", 1, put(json!({ "count": count })));
    let unmapped = one(&sink, &part(json!(3))).await;
    let what = is_trouble(&unmapped, Reach::Kind);
    assert!(what.contains("without maker") && what.contains("map a field to it"), "{what}");
    company.client.batch_execute("ALTER TABLE parts ALTER maker SET DEFAULT 'us'").await.unwrap();
    let empty = one(&sink, &part(Value::Null)).await;
    let what = is_permanent(&empty);
    assert!(what.contains("count of parts without a value"), "{what}");
    one(&sink, &part(json!(3))).await.unwrap();
}

#[tokio::test]
async fn what_a_table_lacks_is_asked_once_for_all_its_rows() {
    let company = Company::new().await;
    let sink = company.sink();
    one(&sink, &town("W-0", 1, "Ulm")).await.unwrap();
    let deliveries: Vec<_> = (0..256)
        .map(|at| match at % 2 {
            0 => town(&format!("W-{at}"), 2, "Ulm"),
            _ => delivery("parts", &format!("P-{at}"), 1, put(json!({ "count": at }))),
        })
        .collect();
    let failed = "SELECT sum(xact_rollback)::text FROM pg_stat_database";
    let flushed = async || {
        // What a connection did is counted at the latest when it ends.
        company.client.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
        company.text(failed).await.parse::<u64>().unwrap()
    };
    let before = flushed().await;
    let outcomes = sink.apply(&deliveries).await;
    for (delivery, outcome) in deliveries.iter().zip(&outcomes) {
        match &*delivery.record.name {
            "parts" => assert!(is_trouble(outcome, Reach::NoPlace).contains("create the table")),
            _ => assert_eq!(outcome, &Ok(())),
        }
    }
    drop(sink);
    let ended =
        "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'rejoin-%'";
    while company.text(ended).await != "0" {
        tokio::task::yield_now().await;
    }
    assert!(flushed().await - before <= 2, "{before} and {}", flushed().await);
}

#[tokio::test]
async fn a_row_that_the_table_has_no_place_for_is_compared_alone() {
    let company = Company::new().await;
    let held = |key: &str, row: Value| Held {
        record: Record { name: "jobs".to_owned(), key: key.to_owned() },
        row: row.as_object().cloned(),
    };
    let rows: Vec<_> = (0..9)
        .map(|at| match at {
            4 => held("4", json!({ "parts": "many", "at": "2026-11-20T12:00+02:00" })),
            at => held(&at.to_string(), json!({ "parts": at, "at": "2026-11-20T12:00+02:00" })),
        })
        .collect();
    let converted = company.sink().as_held("jobs", rows.clone()).await.unwrap();
    for (at, (before, after)) in rows.iter().zip(&converted).enumerate() {
        let row = after.row.as_ref().unwrap();
        match at {
            4 => assert_eq!(before, after),
            _ => assert_eq!(row["at"], "2026-11-20T10:00:00+00:00"),
        }
    }
}

#[tokio::test]
async fn rows_that_are_gone_are_marked_or_deleted() {
    let company = Company::new().await;
    let sink = company.sink();
    let told = |seq, action| delivery("jobs", "W-1", seq, action);
    one(&sink, &town("W-1", 1, "Ulm")).await.unwrap();
    one(&sink, &told(2, Action::Mark { deleted_ms: 1_790_000_000_000 })).await.unwrap();
    let at = "SELECT town || ' ' || extract(epoch FROM deleted_at)::bigint FROM jobs";
    assert_eq!(company.text(at).await, "Ulm 1790000000");
    one(&sink, &town("W-1", 3, "Bonn")).await.unwrap();
    assert_eq!(company.texts("SELECT town FROM jobs WHERE deleted_at IS NULL").await, ["Bonn"]);
    one(&sink, &told(4, Action::Delete)).await.unwrap();
    assert_eq!(company.text("SELECT count(*)::text FROM jobs").await, "0");
    one(&sink, &town("W-1", 5, "Kiel")).await.unwrap();
    assert_eq!(company.text("SELECT town FROM jobs").await, "Kiel");
}

#[tokio::test]
async fn everything_is_in_the_schema_that_the_options_name() {
    let company = Company::new().await;
    let made = "CREATE SCHEMA \"Field Service\"; \
                CREATE TABLE \"Field Service\".\"jobs \"\"now\"\"\" (id uuid PRIMARY KEY, \"né\" text)";
    company.client.batch_execute(made).await.unwrap();
    let options = json!({ "schema": "Field Service", "key_column": "id" });
    let sink = sink(company.folder.path(), &company.server.url(), options);
    let key = "6f0e2c5e-1111-4222-8333-444455556666";
    let told = |seq, action| delivery("jobs \"now\"", key, seq, action);
    one(&sink, &told(1, put(json!({ "né": "à" })))).await.unwrap();
    let found = "SELECT id || \"né\" FROM \"Field Service\".\"jobs \"\"now\"\"\"";
    assert_eq!(company.text(found).await, format!("{key}à"));
    let noted = "SELECT count(*)::text FROM \"Field Service\".rejoin_deliveries";
    assert_eq!(company.text(noted).await, "1");
    let nul = one(&sink, &told(2, put(json!({ "né": "\0" })))).await;
    is_permanent(&nul);
    let no_key = delivery("jobs \"now\"", "W-1", 1, put(json!({ "né": "x" })));
    is_permanent(&one(&sink, &no_key).await);
    one(&sink, &told(3, Action::Delete)).await.unwrap();
    assert!(company.texts(found).await.is_empty());
}

#[tokio::test]
async fn a_database_that_is_away_is_asked_again() {
    let mut company = Company::new().await;
    let sink = company.sink();
    one(&sink, &town("W-1", 1, "Ulm")).await.unwrap();
    company.server.kill();
    let cut = one(&sink, &town("W-2", 1, "Bonn")).await;
    is_trouble(&cut, Reach::Target);
    is_trouble(&one(&sink, &town("W-2", 1, "Bonn")).await, Reach::Target);
    company.server.restart().await;
    one(&sink, &town("W-2", 1, "Bonn")).await.unwrap();
    company.client = company.server.connect().await;
    assert_eq!(company.texts("SELECT town FROM jobs ORDER BY key").await, ["Ulm", "Bonn"]);
}

#[tokio::test]
async fn a_database_that_hangs_holds_up_nobody_for_long() {
    let company = Company::new().await;
    let sink = company.sink();
    one(&sink, &town("W-1", 1, "Ulm")).await.unwrap();
    company.client.batch_execute("BEGIN; LOCK TABLE jobs").await.unwrap();
    let (locked, began) = (one(&sink, &town("W-1", 2, "Bonn")).await, Instant::now());
    is_transient(&locked);
    company.client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(company.text("SELECT town FROM jobs").await, "Ulm", "it is not written later");
    one(&sink, &town("W-1", 2, "Bonn")).await.unwrap();

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgresql://rejoin@{}/postgres", silent.local_addr().unwrap());
    let silent = plain_sink(&company, &url);
    assert!(
        is_trouble(&one(&silent, &town("W-1", 3, "Kiel")).await, Reach::Target).contains("1 s")
    );
    assert!(began.elapsed() < Duration::from_secs(60), "the test itself hangs");
}

fn plain_sink(company: &Company, url: &str) -> Postgres {
    sink(company.folder.path(), url, json!({}))
}

#[tokio::test]
async fn a_wrong_password_is_said_and_never_shown() {
    let company = Company::new().await;
    let secret = "canary-wrong";
    std::fs::write(company.folder.path().join("wrong"), secret).unwrap();
    let password = format!("file:{}", company.folder.path().join("wrong").display());
    let refused =
        sink(company.folder.path(), &company.server.url(), json!({ "password": password }));
    let outcome = one(&refused, &town("W-1", 1, "Ulm")).await;
    assert!(is_trouble(&outcome, Reach::Target).contains("see to `password`"), "{outcome:?}");
    assert!(!format!("{outcome:?} {refused:?}").contains(secret));

    let options = json!({ "url": "postgresql://a:b@127.0.0.1/x" });
    let options: Options = serde_json::from_value(options).unwrap();
    let error = Postgres::open(options, company.folder.path()).unwrap_err();
    assert!(error.to_string().contains("not written in the url"), "{error}");
}

#[tokio::test]
async fn connections_are_encrypted_and_only_with_whom_is_vouched_for() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let server = PostgresServer::start_encrypted(&certificate, &key).await;
    let client = server.connect().await;
    client.batch_execute(JOBS).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("root.pem"), &certificate).unwrap();
    let url = format!("postgresql://rejoin@localhost:{}/postgres?sslmode=require", server.port());
    let stranger = sink(folder.path(), &url, json!({}));
    is_trouble(&one(&stranger, &town("W-1", 1, "Ulm")).await, Reach::Target);
    let known = sink(folder.path(), &url, json!({ "root_certificate": "root.pem" }));
    one(&known, &town("W-1", 1, "Ulm")).await.unwrap();
    let sql = "SELECT version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
               WHERE application_name = 'rejoin-board'";
    let version: String = client.query_one(sql, &[]).await.unwrap().get(0);
    assert!(version.starts_with("TLSv1."), "{version}");
}

#[tokio::test]
async fn rows_are_read_back_in_the_order_of_their_keys_as_they_would_be_written() {
    let company = Company::new().await;
    let sink = company.sink();
    let mut keys = ["b", "B", "ä", "z", "a-1", "a1", "Z 9"];
    let row = json!({ "at": "2026-11-20T10:00:00Z", "price": 7, "town": null });
    let deliveries: Vec<_> =
        keys.iter().map(|key| delivery("jobs", key, 1, put(row.clone()))).collect();
    assert!(sink.apply(&deliveries).await.iter().all(Result::is_ok));
    one(&sink, &delivery("jobs", "z", 2, Action::Mark { deleted_ms: 5 })).await.unwrap();
    keys.sort_unstable();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = sink.scan("jobs", after.as_deref(), 2).await.unwrap().unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.record.key.clone());
        found.extend(page);
    }
    assert_eq!(found.iter().map(|held| &*held.record.key).collect::<Vec<_>>(), keys);
    let row = row.as_object().unwrap().clone();
    for held in found {
        let record = Record { name: "jobs".to_owned(), key: held.record.key.clone() };
        assert_eq!(held.row.is_none(), held.record.key == "z");
        let Some(found) = held.row else { continue };
        let wanted = vec![Held { record, row: Some(row.clone()) }];
        let wanted = sink.as_held("jobs", wanted).await.unwrap().remove(0).row.unwrap();
        for field in row.keys() {
            assert_eq!(found[field], wanted[field], "{field}");
        }
        assert_eq!(found["at"], "2026-11-20T10:00:00+00:00");
    }
}

/// An adapter that fills tables as a user of few rights, `reports`.
fn mapping(server: &PostgresServer, folder: &Path) -> Mapping {
    std::fs::write(folder.join("password"), PASSWORD).unwrap();
    let text = format!(
        r#"
        [replica]
        data = "d"
        space = "main"
        [adapter.reports]
        collection = "jobs"
        [adapter.reports.sink]
        kind = "postgres"
        url = "postgresql://reports@127.0.0.1:{}/postgres"
        password = "file:{}"
        [[adapter.reports.record]]
        name = "visits"
        key = "{{key}}"
        [adapter.reports.record.fields]
        town = {{ from = "town" }}
        parts = {{ from = "parts", type = "integer" }}
        price = {{ from = "price", type = "number" }}
        at = {{ from = "at", type = "time" }}
        tags = {{ from = "tags", type = "json" }}
        phone = {{ from = "phone", mask = "last4" }}
        state = {{ from = "state", map = {{ open = 1, done = 2 }} }}
        "#,
        server.port(),
        folder.join("password").display()
    );
    parse(&text).config.unwrap().adapters.remove("reports").unwrap()
}

#[tokio::test]
async fn what_the_script_makes_takes_the_rows_of_a_user_with_no_other_rights() {
    let company = Company::new().await;
    let folder = company.folder.path();
    let mapping = mapping(&company.server, folder);
    let role = format!("CREATE ROLE reports LOGIN PASSWORD '{PASSWORD}'");
    company.client.batch_execute(&role).await.unwrap();
    let script = ddl(&mapping, None).unwrap();
    company.client.batch_execute(&script).await.unwrap();
    company.client.batch_execute(&script).await.unwrap();
    let found = inspect(&mapping, folder, false).await;
    assert!(found.iter().all(|found| !found.is_wrong), "{found:?}");

    let sink = rejoin_adapters::sink::open(&mapping.sink, folder).unwrap();
    let row = json!({
        "town": "Ulm", "parts": 3, "price": 12.5, "at": "2026-08-20T16:00:00Z", "tags": ["a"],
        "phone": "***1234", "state": 2,
    });
    let visit = |seq, action| [delivery("visits", "V-1", seq, action)];
    assert_eq!(sink.apply(&visit(1, put(row))).await, [Ok(())]);
    let told = "SELECT concat_ws(' ', key, town, parts, price, extract(epoch FROM at)::bigint, tags, \
                phone, state) FROM visits";
    assert_eq!(company.text(told).await, "V-1 Ulm 3 12.5 1787241600 [\"a\"] ***1234 2");
    assert_eq!(sink.scan("visits", None, 9).await.unwrap().unwrap().len(), 1);
    assert_eq!(sink.apply(&visit(2, Action::Delete)).await, [Ok(())]);
}

#[tokio::test]
async fn a_look_at_the_database_lists_all_that_is_wrong_and_changes_nothing() {
    let company = Company::new().await;
    let folder = company.folder.path();
    let mapping = mapping(&company.server, folder);
    let wrong = async || {
        let found = inspect(&mapping, folder, false).await;
        let wrong = found.into_iter().filter(|found| found.is_wrong);
        wrong.map(|found| found.what).collect::<Vec<_>>()
    };
    let nobody = wrong().await;
    assert!(nobody.len() == 1 && nobody[0].contains("`password`"), "{nobody:?}");

    let made = format!(
        "CREATE ROLE reports LOGIN PASSWORD '{PASSWORD}'; \
         CREATE TABLE visits (key text, twon text, parts boolean, price numeric, at integer, \
         tags jsonb, phone text, state integer, office text NOT NULL)"
    );
    company.client.batch_execute(&made).await.unwrap();
    let all = wrong().await;
    for what in [
        "no table rejoin_deliveries",
        "may not SELECT, INSERT, UPDATE, DELETE visits",
        "visits.key is not unique",
        "visits has no column town; did you mean \"twon\"?",
        "visits.parts is boolean",
        "visits.at is integer",
        "visits.office may not be NULL",
    ] {
        assert!(all.iter().any(|found| found.contains(what)), "{what} is missing in {all:#?}");
    }
    assert_eq!(all.len(), 7, "{all:#?}");
    let tables = "SELECT count(*)::text FROM pg_tables WHERE tablename = 'rejoin_deliveries'";
    assert_eq!(company.text(tables).await, "0");
}
