//! Deliveries to a real NATS server with JetStream.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::{Config, Stream};
use rejoin_adapters::delivery::{Action, Delivery, Fault, FaultClass, IdempotencyKey, Reach};
use rejoin_adapters::sink::{self, Sink};
use rejoin_tests::delivery::wrong_at;
use rejoin_tests::services::nats::NatsServer;
use rejoin_tests::services::{free_port, write_certificate};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Deliveries around the end of a server.
const DELIVERIES: u32 = 3000;

const TROUBLE: FaultClass = FaultClass::Trouble(Reach::Target);
const OF_KIND: FaultClass = FaultClass::Trouble(Reach::Kind);

fn delivery(number: u32, action: Action) -> Delivery {
    let key = IdempotencyKey(format!("key{number}"));
    Delivery { key, ..rejoin_tests::delivery::delivery("jobs", &format!("W.{number}"), 2, action) }
}

fn put(number: u32) -> Delivery {
    delivery(number, Action::Put(Map::from_iter([("town".to_owned(), json!("Ülm"))])))
}

/// The sink that a mapping would have.
fn open(url: &str, more: &str) -> Arc<dyn Sink> {
    let options = format!("kind = 'nats'\nurl = '{url}'\n{more}");
    let options = toml::from_str(&options).unwrap();
    sink::open(&options, Path::new(".")).unwrap()
}

async fn apply(sink: &dyn Sink, delivery: Delivery) -> Result<(), Fault> {
    sink.apply(&[delivery]).await.remove(0)
}

/// A stream that takes what is sent in the tests.
async fn stream(server: &NatsServer) -> Stream {
    let client = async_nats::connect(server.url()).await.unwrap();
    let config = Config {
        name: "rejoin".to_owned(),
        subjects: vec!["rejoin.>".to_owned()],
        ..Config::default()
    };
    async_nats::jetstream::new(client).get_or_create_stream(config).await.unwrap()
}

/// How often the stream holds a message with each id.
async fn ids(stream: &Stream) -> BTreeMap<String, usize> {
    let state = stream.get_info().await.unwrap().state;
    let mut ids = BTreeMap::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let id = message.headers.get("Nats-Msg-Id").expect("a message has an id").to_string();
        *ids.entry(id).or_default() += 1;
    }
    ids
}

#[tokio::test]
async fn each_message_is_in_the_stream_once() {
    let server = NatsServer::start(&[]);
    let stream = stream(&server).await;
    let sink = open(&server.url(), "subject = 'rejoin.{name}.{key}'");
    let deliveries = [
        put(1),
        delivery(2, Action::Mark { deleted_ms: 1_790_000_000_000 }),
        delivery(3, Action::Delete),
    ];
    assert_eq!(sink.apply(&deliveries).await, vec![Ok(()); 3]);
    // The same again, as after a crash, from a sink that knows nothing of the first time.
    assert_eq!(sink.apply(&deliveries).await, vec![Ok(()); 3]);
    let another = open(&server.url(), "subject = 'rejoin.{name}.{key}'");
    assert_eq!(another.apply(&deliveries).await, vec![Ok(()); 3]);
    assert_eq!(stream.get_info().await.unwrap().state.messages, 3);
    for (sequence, delivery) in (1..).zip(&deliveries) {
        let message = stream.get_raw_message(sequence).await.unwrap();
        assert_eq!(message.subject.as_str(), format!("rejoin.jobs.W%2E{sequence}"));
        let header = |name: &str| message.headers.get(name).unwrap().as_str();
        assert_eq!(header("Nats-Msg-Id"), delivery.key.0);
        assert_eq!(header("correlation-id"), "c0ffee");
        assert_eq!(header("content-type"), "application/json");
        let body: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(body, delivery.to_json());
    }
    assert_eq!(sink.scan("jobs", None, 10).await, Ok(None));
}

#[tokio::test]
async fn a_server_that_is_killed_loses_nothing_and_gets_nothing_twice() {
    let mut server = NatsServer::start(&[]);
    stream(&server).await;
    let sink = open(&server.url(), "timeout_s = 5");
    let (tell, mut told) = mpsc::channel(64);
    let delivering = async move {
        let mut waiting: Vec<Delivery> = (0..DELIVERIES).map(put).collect();
        while !waiting.is_empty() {
            let some: Vec<_> = waiting.drain(..waiting.len().min(sink.batch())).collect();
            let outcomes = sink.apply(&some).await;
            assert_eq!(outcomes.len(), some.len());
            for (delivery, outcome) in some.into_iter().zip(outcomes) {
                if outcome.is_err() {
                    waiting.push(delivery);
                }
                tell.send(outcome).await.unwrap();
            }
        }
    };
    let killing = async move {
        let mut faults = 0;
        let mut confirmed = 0;
        while let Some(outcome) = told.recv().await {
            match outcome {
                Ok(()) => {
                    confirmed += 1;
                    if confirmed == DELIVERIES / 3 {
                        server.kill9();
                    }
                }
                Err(fault) => {
                    assert!(fault.is_trouble() || fault.is_transient(), "{fault}");
                    faults += 1;
                    // Some are told while it is down.
                    if faults == 100 {
                        server.restart();
                    }
                }
            }
        }
        assert!(faults >= 100, "it was not killed in the middle: {faults}");
        server
    };
    let ((), server) = tokio::join!(delivering, killing);
    let expected = (0..DELIVERIES).map(|number| (format!("key{number}"), 1)).collect();
    assert_eq!(ids(&stream(&server).await).await, expected);
}

#[tokio::test]
async fn who_may_not_is_told_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("right"), "correct-horse").unwrap();
    std::fs::write(folder.path().join("wrong"), "battery-staple").unwrap();
    let secret = |name: &str| format!("'file:{}'", folder.path().join(name).display());
    let server = NatsServer::start(&["--user", "me", "--pass", "correct-horse"]);
    let user = |password: &str| format!("user = 'me'\npassword = {}", secret(password));
    let fault = apply(&*open(&server.url(), &user("wrong")), put(1)).await.unwrap_err();
    assert_eq!(fault.class, TROUBLE, "{fault}");
    assert!(fault.to_string().contains("`password`"), "{fault}");
    assert!(!format!("{fault:?}").contains("battery"), "{fault:?}");
    let sink = open(&server.url(), &user("right"));
    // Signed in; there is no stream yet.
    let fault = apply(&*sink, put(1)).await.unwrap_err();
    assert!(fault.to_string().contains("stream"), "{fault}");
    // A password that is corrected is used without a new start.
    let sink = open(&server.url(), &user("wrong"));
    apply(&*sink, put(1)).await.unwrap_err();
    std::fs::write(folder.path().join("wrong"), "correct-horse").unwrap();
    let fault = apply(&*sink, put(1)).await.unwrap_err();
    assert!(fault.to_string().contains("stream"), "{fault}");

    std::fs::write(folder.path().join("wrong"), "battery-staple").unwrap();
    let server = NatsServer::start(&["--auth", "correct-horse"]);
    let token = |name: &str| format!("token = {}", secret(name));
    let fault = apply(&*open(&server.url(), &token("wrong")), put(1)).await.unwrap_err();
    assert!(fault.to_string().contains("`token`"), "{fault}");
    let fault = apply(&*open(&server.url(), &token("right")), put(1)).await.unwrap_err();
    assert!(fault.to_string().contains("stream"), "{fault}");
}

#[tokio::test]
async fn what_a_user_may_not_publish_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.conf");
    let users = "authorization { users = [
        { user: me, password: hush, permissions: { publish: { deny: 'rejoin.>' } } } ] }";
    std::fs::write(&file, users.replace('\'', "\"")).unwrap();
    std::fs::write(folder.path().join("password"), "hush").unwrap();
    let server = NatsServer::start(&["-c", file.to_str().unwrap()]);
    let password = folder.path().join("password");
    let more = format!("user = 'me'\npassword = 'file:{}'\ntimeout_s = 1", password.display());
    let fault = apply(&*open(&server.url(), &more), put(1)).await.unwrap_err();
    assert_eq!(fault.class, OF_KIND, "{fault}");
    assert!(fault.to_string().contains("permit"), "{fault}");
}

#[tokio::test]
async fn only_who_is_vouched_for_is_told() {
    let folder = tempfile::tempdir().unwrap();
    write_certificate(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let certificate = file("certificate.pem");
    let tls = ["--tls", "--tlscert", &certificate, "--tlskey", &file("key.pem")];
    let server = NatsServer::start(&tls);
    let url = server.url().replace("nats://127.0.0.1", "tls://localhost");
    let fault = apply(&*open(&url, ""), put(1)).await.unwrap_err();
    assert_eq!(fault.class, TROUBLE, "{fault}");
    assert!(fault.to_string().contains("certificate"), "{fault}");
    let sink = open(&url, &format!("root_certificate = '{certificate}'"));
    let fault = apply(&*sink, put(1)).await.unwrap_err();
    assert!(fault.to_string().contains("no stream"), "{fault}");
    // Who asks for TLS does not do without.
    let plain = NatsServer::start(&[]);
    let url = plain.url().replace("nats://127.0.0.1", "tls://localhost");
    let fault = apply(&*open(&url, "timeout_s = 2"), put(1)).await.unwrap_err();
    assert_eq!(fault.class, TROUBLE, "{fault}");
    assert!(!fault.to_string().contains("stream"), "{fault}");
}

#[tokio::test]
async fn without_a_stream_it_is_asked_for_and_then_used() {
    let server = NatsServer::start(&[]);
    let sink = open(&server.url(), "subject = 'rejoin.{name}.{key}'");
    let fault = apply(&*sink, put(1)).await.unwrap_err();
    assert_eq!(fault.class, OF_KIND, "{fault}");
    assert!(fault.to_string().contains("\"rejoin.jobs.*\"; create one"), "{fault}");
    let stream = stream(&server).await;
    assert_eq!(apply(&*sink, put(1)).await, Ok(()));
    assert_eq!(ids(&stream).await, BTreeMap::from([("key1".to_owned(), 1)]));
}

#[tokio::test]
async fn one_that_is_too_large_is_refused_alone() {
    let server = NatsServer::start(&[]);
    let stream = stream(&server).await;
    let large = Action::Put(Map::from_iter([("text".to_owned(), json!("x".repeat(2 << 20)))]));
    let outcomes = open(&server.url(), "").apply(&[put(1), delivery(2, large), put(3)]).await;
    let [Ok(()), Err(fault), Ok(())] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(fault.class, FaultClass::Permanent, "{fault}");
    assert!(fault.to_string().contains("max_payload"), "{fault}");
    assert_eq!(ids(&stream).await.len(), 2);
}

#[tokio::test]
async fn who_does_not_answer_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("nats://{}", listener.local_addr().unwrap());
    let sink = open(&silent, "timeout_s = 1");
    for _ in 0..2 {
        let begun = Instant::now();
        let fault = apply(&*sink, put(1)).await.unwrap_err();
        assert_eq!(fault.class, TROUBLE, "{fault}");
        assert!(fault.to_string().contains("in time"), "{fault}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    let nobody = open(&format!("nats://127.0.0.1:{}", free_port()), "");
    let fault = apply(&*nobody, put(1)).await.unwrap_err();
    assert_eq!(fault.class, TROUBLE, "{fault}");
}

#[test]
fn what_is_no_sink_is_said() {
    let wrong = |options: &str| {
        let options = toml::from_str(&format!("kind = 'nats'\n{options}")).unwrap();
        sink::open(&options, Path::new(".")).err().expect("it is none").to_string()
    };
    let url = "url = 'nats://localhost:4222'";
    assert!(wrong("url = 'http://localhost'").contains("nats://HOST:PORT"));
    let said = wrong("url = 'nats://me:hush@localhost'");
    assert!(said.contains("`password`") && !said.contains("hush"), "{said}");
    assert!(wrong(&format!("{url}\nuser = 'me'")).contains("`token`"));
    assert!(wrong(&format!("{url}\ntoken = 'hush'")).contains("env:NAME"));
    assert!(wrong(&format!("{url}\ntoken = 'file:/nowhere'")).contains("no secret"));
    assert!(wrong(&format!("{url}\nsubject = 'a.{{row}}'")).contains("{name}"));
    assert!(wrong(&format!("{url}\nstream = 'x'")).contains("stream"));
    assert!(wrong(&format!("{url}\nroot_certificate = 'none.pem'")).contains("certificate"));
}

#[tokio::test]
async fn a_look_at_the_server_lists_all_that_is_wrong_and_publishes_nothing() {
    let nobody = open(&format!("nats://127.0.0.1:{}", free_port()), "timeout_s = 2");
    let (fine, wrong) = wrong_at(&*nobody, &["jobs"]).await;
    assert!(fine == 0 && wrong.len() == 1, "{wrong:?}");
    let server = NatsServer::start(&[]);
    let sink = open(&server.url(), "subject = '{name}.changes.{key}'");
    let (fine, wrong) = wrong_at(&*sink, &["rejoin", "parts"]).await;
    assert!(fine == 1 && wrong.len() == 2, "{wrong:?}");
    let stream = stream(&server).await;
    let (fine, wrong) = wrong_at(&*sink, &["rejoin", "parts"]).await;
    assert!(fine == 2 && wrong.len() == 1, "{wrong:?}");
    assert!(wrong[0].contains("parts.changes") && wrong[0].contains("create one"), "{wrong:?}");
    assert_eq!(stream.get_info().await.unwrap().state.messages, 0);
}
