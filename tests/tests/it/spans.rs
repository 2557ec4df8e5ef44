//! Spans that a relay with adapters sends to an OpenTelemetry collector.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use rejoin_tests::processes::{Rejoin, Running};

/// The requests for spans that came.
type Requests = Arc<Mutex<Vec<Bytes>>>;

/// Takes spans for as long as the runtime lives, and returns its address.
async fn collect(requests: Requests) -> String {
    let take = async |State(requests): State<Requests>, body: Bytes| {
        requests.lock().expect("no test panicked while it held the list").push(body);
    };
    let router = Router::new().route("/v1/traces", post(take)).with_state(requests);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// Whether a request contains all of these texts. Protobuf has texts as they are.
fn has(request: &[u8], texts: &[&str]) -> bool {
    texts.iter().all(|text| request.windows(text.len()).any(|some| some == text.as_bytes()))
}

fn adapters(folder: &Path) {
    let text = r#"
        [replica]
        data  = "adapters"
        space = "main"
        [adapter.board]
        collection = "jobs"
        sink       = { kind = "jsonl", folder = "out" }
        [[adapter.board.record]]
        name = "jobs"
        key  = "{key}"
        [adapter.board.record.fields]
        status = { from = "status" }
    "#;
    std::fs::write(folder.join("adapters.toml"), text).expect("a file");
}

fn start(rejoin: &Rejoin, collector: &str) -> (Running, String) {
    let arguments = ["--listen", "127.0.0.1:0", "--data", "relay", "--adapters", "adapters.toml"];
    let mut command = rejoin.command(["relay"].into_iter().chain(arguments));
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
        // All is sent at the end, or when this many milliseconds passed.
        .env("OTEL_BSP_SCHEDULE_DELAY", "600000")
        .env("RUST_LOG", "info,rejoin_relay=debug")
        .stderr(Stdio::inherit());
    let mut relay = Running::start(command);
    let line = relay.line().expect("the relay listens; what it said is above");
    let address = line.strip_prefix("listening on ").expect("an address").to_owned();
    (relay, address.trim_end_matches("/sync").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_turns_and_deliveries_reach_a_collector_when_the_relay_ends() {
    let requests = Requests::default();
    let collector = collect(Arc::clone(&requests)).await;
    let desk = tempfile::tempdir().expect("a folder");
    let rejoin = Rejoin::in_dir(desk.path());
    adapters(desk.path());
    let (mut relay, url) = start(&rejoin, &collector);
    rejoin.ok(["--replica", "a.redb", "set", "jobs", "1042", "status=kept-to-ourselves"]);
    rejoin.ok(["--replica", "a.redb", "sync", &url, "--once"]);
    let begun = Instant::now();
    while std::fs::read(desk.path().join("out/1.jsonl")).unwrap_or_default().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing was delivered");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(relay.terminate(), Some(0));
    let requests = requests.lock().expect("the collector did not panic");
    let all = requests.concat();
    for span in [&["connection", "conn", "remote"], &["turn", "changes", "commit_ms"]] {
        assert!(has(&all, span), "{span:?}");
    }
    assert!(has(&all, &["delivery", "board", "service.name", "rejoin"]));
    assert!(!has(&all, &["kept-to-ourselves"]));
}

#[test]
fn an_address_that_is_none_costs_the_spans_and_nothing_else() {
    let desk = tempfile::tempdir().expect("a folder");
    let rejoin = Rejoin::in_dir(desk.path());
    adapters(desk.path());
    let (mut relay, url) = start(&rejoin, "no address at all");
    rejoin.ok(["--replica", "a.redb", "set", "jobs", "1042", "status=done"]);
    rejoin.ok(["--replica", "a.redb", "sync", &url, "--once"]);
    assert_eq!(relay.terminate(), Some(0));
}
