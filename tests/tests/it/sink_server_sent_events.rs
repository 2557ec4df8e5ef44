//! Events, read from the socket as pages and scripts do.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rejoin::{ChangeHash, DocumentId};
use rejoin_adapters::delivery::{Action, Delivery, IdempotencyKey, Record};
use rejoin_adapters::sink::Sink;
use rejoin_adapters::sink::server_sent_events::{Options, ServerSentEvents};
use rejoin_tests::requests::{Answer, begin, request};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const TOKEN: &str = "correct horse battery staple";

/// A sink that serves until it is dropped.
struct Served {
    sink: Arc<ServerSentEvents>,
    serving: JoinHandle<()>,
    address: SocketAddr,
}

impl Served {
    async fn new(folder: &Path, options: Value) -> Self {
        let began = Instant::now();
        // Of one that just ended, threads may still be at its file.
        let sink = loop {
            match open(folder, options.clone()) {
                Ok(sink) => break Arc::new(sink),
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
            }
            tokio::task::yield_now().await;
        };
        let other = Arc::clone(&sink);
        let serving = tokio::spawn(async move { other.serve().await.unwrap() });
        let address = sink.bound().await;
        Self { sink, serving, address }
    }

    async fn apply(&self, deliveries: &[Delivery]) {
        let outcomes = self.sink.apply(deliveries).await;
        assert_eq!(outcomes, vec![Ok(()); deliveries.len()]);
    }

    async fn reader(&self, headers: &[(&str, &str)]) -> Reader {
        let (stream, answer) = begin(self.address, "GET", "/events", headers).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "text/event-stream");
        Reader { stream, chunked: answer.body.clone(), text: Vec::new(), answer }
    }

    async fn reader_after(&self, last: &str) -> Reader {
        self.reader(&[("last-event-id", last)]).await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An open request.
struct Reader {
    stream: TcpStream,
    answer: Answer,
    /// What came and was not looked at yet.
    chunked: Vec<u8>,
    /// What was taken out of its chunks.
    text: Vec<u8>,
}

/// An event, as the standard tells to read it.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    name: String,
    id: Option<String>,
    data: Value,
}

impl Event {
    fn is(&self, name: &str, record: &str) -> bool {
        self.name == name && self.data["record"] == record
    }
}

impl Reader {
    /// The next event; nothing once the connection is closed.
    async fn try_next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let lines = String::from_utf8(self.text.drain(..end + 2).collect()).unwrap();
                if let Some(event) = event(&lines) {
                    return Some(event);
                }
            }
            while let Some((start, end)) = chunk(&self.chunked) {
                self.text.extend_from_slice(&self.chunked[start..end]);
                self.chunked.drain(..end + 2);
            }
            if self.text.windows(2).any(|two| two == b"\n\n") {
                continue;
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.chunked)).await;
            if !read.expect("something comes").is_ok_and(|read| read > 0) {
                return None;
            }
        }
    }

    async fn next(&mut self) -> Event {
        self.try_next().await.expect("the connection is open")
    }

    /// The rows it is told at first, and the id it is ready at.
    async fn snapshot(&mut self) -> (Vec<Event>, String) {
        let mut rows = Vec::new();
        loop {
            let event = self.next().await;
            if event.name == "ready" {
                return (rows, event.id.expect("who is ready can come back"));
            }
            assert_eq!((&*event.name, &event.id), ("put", &None), "rows have no ids");
            rows.push(event);
        }
    }
}

/// Where the first chunk is, once it is there as a whole.
fn chunk(bytes: &[u8]) -> Option<(usize, usize)> {
    let line = bytes.windows(2).position(|two| two == b"\r\n")?;
    let size = std::str::from_utf8(&bytes[..line]).unwrap();
    let end = line + 2 + usize::from_str_radix(size, 16).unwrap();
    (bytes.len() >= end + 2).then_some((line + 2, end))
}

/// The event that lines tell of; nothing if they are comments.
fn event(lines: &str) -> Option<Event> {
    let field = |name: &str| {
        let mut values =
            lines.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let value = values.next().map(str::to_owned);
        assert_eq!(values.next(), None, "one {name} in {lines:?}");
        value
    };
    let data = serde_json::from_str(&field("data")?).unwrap();
    Some(Event { name: field("event").unwrap(), id: field("id"), data })
}

fn open(
    folder: &Path,
    options: Value,
) -> Result<ServerSentEvents, rejoin_adapters::sink::SinkError> {
    let mut all = json!({ "folder": "events", "listen": "127.0.0.1:0" });
    for (name, value) in options.as_object().unwrap() {
        all[name] = value.clone();
    }
    let options: Options = serde_json::from_value(all).unwrap();
    ServerSentEvents::open(options, folder)
}

/// The `seq`th delivery about a document that is one row.
fn delivery(document: u8, seq: u64, action: Action) -> Delivery {
    Delivery {
        key: IdempotencyKey(format!("{document}-{seq}")),
        adapter: "board".to_owned(),
        document: DocumentId([document; 16]),
        seq,
        previous: None,
        record: Record { name: "jobs".to_owned(), key: format!("W-{document:03}") },
        action,
        heads: vec![ChangeHash([7; 32])],
        mapping: "12ab".to_owned(),
        correlation: "c0ffee".to_owned(),
        enqueued_ms: 1_790_000_000_000 + seq,
        generation: 0,
    }
}

fn put(document: u8, seq: u64, town: &str) -> Delivery {
    let row = json!({ "town": town, "number": seq });
    delivery(document, seq, Action::Put(row.as_object().unwrap().clone()))
}

#[tokio::test]
async fn first_all_rows_and_then_what_changes() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path(), json!({})).await;
    let mut early = served.reader(&[]).await;
    assert_eq!(early.snapshot().await.0, []);
    // More than are read at once, and texts that would end an event.
    let rows: Vec<_> = (0..200).map(|it| put(it, 1, "Ülm\n\ndata: x\r\n\u{2028}")).collect();
    for some in rows.chunks(64) {
        served.apply(some).await;
    }
    for row in &rows {
        assert_eq!(early.next().await.data, row.to_json());
    }
    let mut late = served.reader(&[]).await;
    let (told, _) = late.snapshot().await;
    let told: Vec<_> = told.into_iter().map(|event| event.data).collect();
    assert_eq!(told, rows.iter().map(Delivery::to_json).collect::<Vec<_>>());

    let mut last = 0;
    served.apply(&[put(1, 2, "Ulm")]).await;
    served.apply(&[delivery(2, 2, Action::Mark { deleted_ms: 5 })]).await;
    served.apply(&[delivery(3, 2, Action::Delete), put(4, 2, "Rom")]).await;
    let expected = [("put", "W-001"), ("mark", "W-002"), ("delete", "W-003"), ("put", "W-004")];
    for (name, record) in expected {
        let event = late.next().await;
        assert!(event.is(name, record), "{event:?}");
        assert_eq!(event, early.next().await);
        let id = event.id.unwrap().parse::<u64>().unwrap();
        assert!(id > last, "{id} after {last}");
        last = id;
    }
    let (told, ready) = served.reader(&[]).await.snapshot().await;
    assert_eq!((told.len(), ready), (198, last.to_string()), "what is gone is no row any more");
    let held = served.sink.scan("jobs", Some("W-001"), 2).await.unwrap().unwrap();
    let held: Vec<_> = held.iter().map(|it| (&*it.record.key, it.row.is_some())).collect();
    assert_eq!(held, [("W-002", false), ("W-004", true)]);
}

#[tokio::test]
async fn who_comes_back_misses_nothing_and_has_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path(), json!({})).await;
    let mut reader = served.reader(&[]).await;
    // Ready at nothing yet is something to come back to, too.
    let (_, mut last) = reader.snapshot().await;
    drop(reader);
    let mut told = Vec::new();
    let mut applied = Vec::new();
    let mut served = Some(served);
    for round in 1..=6 {
        // The sink is another one each time, and more is delivered while nobody listens.
        drop(served.take());
        let now = Served::new(folder.path(), json!({})).await;
        for document in 0..3 {
            let one = put(document, round, "Ulm");
            now.apply(std::slice::from_ref(&one)).await;
            now.apply(std::slice::from_ref(&one)).await;
            applied.push(one.to_json());
        }
        // Of the three, the last is read after the next restart.
        let mut reader = now.reader_after(&last).await;
        for _ in 0..(3 * round - 1) as usize - told.len() {
            let event = reader.next().await;
            last = event.id.unwrap();
            told.push(event.data);
        }
        served = Some(now);
    }
    let mut reader = served.as_ref().unwrap().reader_after(&last).await;
    told.push(reader.next().await.data);
    assert_eq!(told, applied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_comes_in_the_middle_sees_no_row_go_back() {
    const ROWS: u8 = 150;
    let folder = tempfile::tempdir().unwrap();
    let served = Arc::new(Served::new(folder.path(), json!({})).await);
    let all = |seq| (0..ROWS).map(|document| put(document, seq, "Ulm")).collect::<Vec<_>>();
    served.apply(&all(1)).await;
    let mut readers = Vec::new();
    for seq in 2..=20 {
        let served_too = Arc::clone(&served);
        readers.push(tokio::spawn(async move {
            let mut reader = served_too.reader(&[]).await;
            let mut seen = std::collections::BTreeMap::new();
            let mut is_ready = false;
            while !is_ready || seen.values().any(|seq| *seq < 20) {
                let event = reader.next().await;
                if event.name == "ready" {
                    assert_eq!(seen.len(), usize::from(ROWS), "a row is missing");
                    is_ready = true;
                    continue;
                }
                let seq = event.data["seq"].as_u64().unwrap();
                let before = seen.insert(event.data["record"].to_string(), seq);
                assert!(before < Some(seq), "{before:?} and then {seq}");
            }
        }));
        for some in all(seq).chunks(10) {
            served.apply(some).await;
        }
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn who_was_away_too_long_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path(), json!({ "log_max": 10 })).await;
    served.apply(&[put(1, 1, "Ulm")]).await;
    let (_, last) = served.reader(&[]).await.snapshot().await;
    for seq in 2..=10 {
        served.apply(&[put(1, seq, "Ulm")]).await;
    }
    assert_eq!(served.reader_after(&last).await.next().await.data["seq"], 2, "just kept");
    served.apply(&[put(2, 1, "Rom"), put(3, 1, "Bari")]).await;
    // So it is with what never was an event: it may be of a file that was lost.
    for unknown in [&last, "1", "99999999999999", "anything"] {
        let mut reader = served.reader_after(unknown).await;
        let reset = reader.next().await;
        assert_eq!((&*reset.name, &reset.id), ("reset", &None), "after {unknown}");
        let (rows, ready) = reader.snapshot().await;
        let rows: Vec<_> = rows.iter().map(|it| it.data["record"].as_str().unwrap()).collect();
        assert_eq!(rows, ["W-001", "W-002", "W-003"]);
        served.apply(&[]).await;
        assert_ne!(ready, last);
    }
}

#[tokio::test]
async fn what_is_delivered_again_or_too_late_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path(), json!({})).await;
    let mut reader = served.reader(&[]).await;
    reader.snapshot().await;
    for seq in [2, 2, 1, 2, 3] {
        served.apply(&[put(1, seq, "Ulm")]).await;
    }
    assert_eq!(reader.next().await.data["seq"], 2);
    assert_eq!(reader.next().await.data["seq"], 3);
    let (rows, _) = served.reader(&[]).await.snapshot().await;
    assert_eq!((rows.len(), &rows[0].data["seq"]), (1, &json!(3)));
}

#[tokio::test]
async fn who_takes_nothing_is_disconnected_and_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path(), json!({ "timeout_s": 1 })).await;
    let mut slow = served.reader(&[]).await;
    let (_, mut last) = slow.snapshot().await;
    let mut quick = served.reader(&[]).await;
    quick.snapshot().await;
    // More than sockets take by themselves.
    let town = "x".repeat(256 << 10);
    let count = 100;
    for seq in 1..=count {
        served.apply(&[put(1, seq, &town)]).await;
        assert_eq!(quick.next().await.data["seq"], seq, "others do not wait");
    }
    // Nothing is read until the other side gave up.
    let began = Instant::now();
    while !is_closed(&slow.stream).await {
        assert!(began.elapsed() < PATIENCE, "it is not disconnected");
    }
    let mut seen = 0;
    while let Some(event) = slow.try_next().await {
        seen += 1;
        assert_eq!(event.data["seq"], seen);
        last = event.id.unwrap();
    }
    assert!(seen < count, "the slow one had everything");
    let mut again = served.reader_after(&last).await;
    for seq in seen + 1..=count {
        assert_eq!(again.next().await.data["seq"], seq);
    }
}

/// Whether the other side has closed a connection, as far as can be seen without reading from it.
async fn is_closed(stream: &TcpStream) -> bool {
    let ready = stream.ready(tokio::io::Interest::READABLE | tokio::io::Interest::ERROR).await;
    tokio::task::yield_now().await;
    ready.is_ok_and(|ready| ready.is_read_closed() || ready.is_error())
}

#[tokio::test]
async fn who_may_not_read_does_not() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    let token = format!("file:{}", folder.path().join("token").display());
    let site = "https://board.example";
    let options = json!({ "token": token, "allow_origin": site });
    let served = Served::new(folder.path(), options).await;
    let bearer = |token: &str| format!("Bearer {token}");
    for wrong in ["", "x", &TOKEN[1..], &TOKEN.to_uppercase()] {
        let headers = [("authorization", &*bearer(wrong))];
        let answer = request(served.address, "GET", "/events", &headers).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"), "{wrong}");
    }
    let in_address = format!("/events?token={}", TOKEN.replace(' ', "%20"));
    for path in ["/events", &in_address] {
        assert_eq!(request(served.address, "GET", path, &[]).await.status, 401);
    }
    // A page of the site asks first whether it may, without a token.
    let ask = [("origin", site), ("access-control-request-headers", "authorization")];
    let answer = request(served.address, "OPTIONS", "/events", &ask).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), site);
    assert!(answer.header("access-control-allow-headers").contains("authorization"));
    let headers = [("authorization", &*bearer(TOKEN)), ("host", "anything.example")];
    let mut reader = served.reader(&headers).await;
    assert_eq!(reader.answer.header("access-control-allow-origin"), site);
    reader.snapshot().await;
    assert!(!format!("{:?}", served.sink).contains(TOKEN));
}

#[tokio::test]
async fn without_a_token_only_this_machine_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(folder.path(), json!({})).await;
    for (host, status) in [("evil.example", 403), ("127.0.0.1.evil.example:80", 403), ("", 403)] {
        let answer = request(served.address, "GET", "/events", &[("host", host)]).await;
        assert_eq!(answer.status, status, "{host}");
    }
    for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:80"] {
        let mut reader = served.reader(&[("host", host)]).await;
        assert!(!reader.answer.headers.iter().any(|(name, _)| name.starts_with("access-control")));
        reader.snapshot().await;
    }
    assert_eq!(request(served.address, "GET", "/", &[]).await.status, 404);
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("short"), "hunter2").unwrap();
    let short = format!("file:{}", other.path().join("short").display());
    let wrong = |options: Value| open(other.path(), options).unwrap_err().to_string();
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        assert!(wrong(json!({ "listen": listen })).contains("token"));
    }
    let said = wrong(json!({ "token": short }));
    assert!(said.contains("24 characters") && !said.contains("hunter2"), "{said}");
    for origin in ["*", "null", "board.example", "https://board.example/", "https://a/b"] {
        assert!(wrong(json!({ "allow_origin": origin })).contains("allow_origin"), "{origin}");
    }
}

/// How long something may take that must happen.
const PATIENCE: Duration = Duration::from_secs(30);
