//! Deliveries to a real RabbitMQ. It starts slowly, so one test has it do everything.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::options::{
    BasicAckOptions, BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPUri, AMQPUserInfo};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use rejoin_adapters::delivery::{Action, Delivery, Fault, FaultClass, IdempotencyKey, Reach};
use rejoin_adapters::sink::{self, Sink};
use rejoin_tests::delivery::wrong_at;
use rejoin_tests::services::free_port;
use rejoin_tests::services::rabbitmq::{PASSWORD, RabbitServer, USER};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Deliveries around the end of a server.
const DELIVERIES: u32 = 3000;

const AGAIN: FaultClass = FaultClass::Transient { after: None };
const TROUBLE: FaultClass = FaultClass::Trouble(Reach::Target);
const OF_KIND: FaultClass = FaultClass::Trouble(Reach::Kind);

fn delivery(number: u32, name: &str, action: Action) -> Delivery {
    let key = IdempotencyKey(format!("key{number}"));
    Delivery { key, ..rejoin_tests::delivery::delivery(name, &format!("W.{number}"), 2, action) }
}

fn put(number: u32, name: &str) -> Delivery {
    delivery(number, name, Action::Put(Map::from_iter([("town".to_owned(), json!("Ülm"))])))
}

/// Opens sinks as a mapping would.
struct Opening(TempDir);

impl Opening {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
        std::fs::write(folder.path().join("wrong"), "battery-staple").unwrap();
        Self(folder)
    }

    fn open(&self, url: &str, password: &str, more: &str) -> Arc<dyn Sink> {
        let password = self.0.path().join(password);
        let options = format!(
            "kind = 'amqp'\nurl = '{url}'\nuser = '{USER}'\npassword = 'file:{}'\n{more}",
            password.display()
        );
        let options = toml::from_str(&options).unwrap();
        sink::open(&options, Path::new(".")).unwrap()
    }
}

async fn apply(sink: &dyn Sink, delivery: Delivery) -> Result<(), Fault> {
    sink.apply(&[delivery]).await.remove(0)
}

/// A receiver of the server.
struct Receiver {
    _connection: Connection,
    channel: Channel,
}

impl Receiver {
    async fn connect(server: &RabbitServer) -> Self {
        let mut uri: AMQPUri = server.url().parse().unwrap();
        let (username, password) = (USER.to_owned(), PASSWORD.to_owned());
        uri.authority.userinfo = AMQPUserInfo { username, password };
        let properties = ConnectionProperties::default();
        let connection = Connection::connect_uri(uri, properties).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        Self { _connection: connection, channel }
    }

    /// A queue that is there after a restart.
    async fn queue(&self, name: &str, arguments: FieldTable) {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(name.into(), options, arguments).await.unwrap();
    }

    /// Takes the next message out of a queue.
    async fn next(&self, queue: &str) -> Option<lapin::message::Delivery> {
        let got =
            self.channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap()?;
        got.ack(BasicAckOptions::default()).await.unwrap();
        Some(got.delivery)
    }

    /// Takes everything out of a queue; how often there was a message with each id.
    async fn ids(&self, queue: &str) -> BTreeMap<String, usize> {
        let mut ids = BTreeMap::new();
        while let Some(message) = self.next(queue).await {
            let id = message.properties.message_id().as_ref().expect("a message has an id");
            *ids.entry(id.to_string()).or_default() += 1;
        }
        ids
    }
}

#[tokio::test]
async fn a_server_has_what_it_confirmed() {
    let opening = Opening::new();
    let server = RabbitServer::start();
    let receiver = Receiver::connect(&server).await;
    messages_are_what_was_delivered(&opening, &server, &receiver).await;
    what_no_queue_takes_is_refused_alone(&opening, &server, &receiver).await;
    a_full_queue_is_tried_again(&opening, &server, &receiver).await;
    a_look_lists_what_is_missing(&opening, &server, &receiver).await;
    a_missing_exchange_is_said_and_then_used(&opening, &server, &receiver).await;
    only_who_is_vouched_for_is_told(&opening, &server, &receiver).await;
    who_may_not_is_told_without_secrets(&opening, &server).await;
    drop(receiver);
    what_was_confirmed_outlives_the_server(&opening, server).await;
}

async fn messages_are_what_was_delivered(
    opening: &Opening,
    server: &RabbitServer,
    receiver: &Receiver,
) {
    receiver.queue("rejoin.jobs", FieldTable::default()).await;
    let sink = opening.open(&server.url(), "password", "");
    let deliveries = [
        put(1, "jobs"),
        delivery(2, "jobs", Action::Mark { deleted_ms: 1_790_000_000_000 }),
        delivery(3, "jobs", Action::Delete),
    ];
    assert_eq!(sink.apply(&deliveries).await, vec![Ok(()); 3]);
    for (delivery, kind) in deliveries.iter().zip(["jobs.put", "jobs.mark", "jobs.delete"]) {
        let message = receiver.next("rejoin.jobs").await.expect("it was confirmed");
        let properties = &message.properties;
        let text = |text: &Option<lapin::types::ShortString>| text.as_ref().unwrap().to_string();
        assert_eq!(text(properties.message_id()), delivery.key.0);
        assert_eq!(text(properties.correlation_id()), "c0ffee");
        assert_eq!(text(properties.content_type()), "application/json");
        assert_eq!(text(properties.kind()), kind);
        assert_eq!(*properties.delivery_mode(), Some(2), "it outlives the server");
        assert_eq!(*properties.timestamp(), Some(1_790_000_000));
        let body: Value = serde_json::from_slice(&message.data).unwrap();
        assert_eq!(body, delivery.to_json());
    }
    assert_eq!(receiver.ids("rejoin.jobs").await, BTreeMap::new(), "each was there once");
    assert_eq!(sink.scan("jobs", None, 10).await, Ok(None));
}

async fn what_no_queue_takes_is_refused_alone(
    opening: &Opening,
    server: &RabbitServer,
    receiver: &Receiver,
) {
    let sink = opening.open(&server.url(), "password", "");
    let names = ["jobs", "nobody", "jobs", "nobody", "nobody", "jobs", "jobs"];
    let deliveries: Vec<_> = (0..).zip(names).map(|(number, name)| put(number, name)).collect();
    // Which confirmation belongs to what came back depends on when the queue is synced.
    for _ in 0..20 {
        for (delivery, outcome) in deliveries.iter().zip(sink.apply(&deliveries).await) {
            if delivery.record.name == "jobs" {
                assert_eq!(outcome, Ok(()));
                continue;
            }
            let fault = outcome.unwrap_err();
            assert_eq!(fault.class, OF_KIND, "{fault}");
            assert!(fault.to_string().contains("\"rejoin.nobody\"; bind one"), "{fault}");
        }
    }
    assert_eq!(receiver.ids("rejoin.jobs").await.into_values().collect::<Vec<_>>(), [20; 4]);
    let long = put(1, &"j".repeat(300));
    let outcomes = sink.apply(&[put(1, "jobs"), long, put(2, "jobs")]).await;
    let [Ok(()), Err(fault), Ok(())] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(fault.class, FaultClass::Permanent, "{fault}");
    assert_eq!(receiver.ids("rejoin.jobs").await.len(), 2);
}

async fn a_full_queue_is_tried_again(
    opening: &Opening,
    server: &RabbitServer,
    receiver: &Receiver,
) {
    let mut full = FieldTable::default();
    full.insert("x-max-length".into(), AMQPValue::LongInt(1));
    full.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    receiver.queue("rejoin.full", full).await;
    let sink = opening.open(&server.url(), "password", "");
    assert_eq!(apply(&*sink, put(1, "full")).await, Ok(()));
    // The limit is looked at when the queue comes to it.
    let deadline = Instant::now() + Duration::from_secs(10);
    let fault = loop {
        if let Err(fault) = apply(&*sink, put(2, "full")).await {
            break fault;
        }
        assert!(Instant::now() < deadline, "a queue of one takes everything");
    };
    assert_eq!(fault.class, AGAIN, "{fault}");
    receiver.ids("rejoin.full").await;
    assert_eq!(apply(&*sink, put(2, "full")).await, Ok(()));
}

async fn a_look_lists_what_is_missing(
    opening: &Opening,
    server: &RabbitServer,
    receiver: &Receiver,
) {
    let sink = opening.open(&server.url(), "password", "");
    let (fine, wrong) = wrong_at(&*sink, &["jobs", "nobody"]).await;
    assert!(fine == 2 && wrong.len() == 1 && wrong[0].contains("nobody"), "{wrong:?}");
    let of_exchange = opening.open(&server.url(), "password", "exchange = 'board'");
    let (_, wrong) = wrong_at(&*of_exchange, &["jobs"]).await;
    assert!(wrong.len() == 1 && wrong[0].contains("the exchange \"board\""), "{wrong:?}");
    let stranger = opening.open(&server.url(), "wrong", "");
    let (fine, wrong) = wrong_at(&*stranger, &["jobs"]).await;
    assert!(fine == 0 && wrong.len() == 1, "{wrong:?}");
    assert_eq!(receiver.ids("rejoin.jobs").await, BTreeMap::new(), "nothing was published");
}

async fn a_missing_exchange_is_said_and_then_used(
    opening: &Opening,
    server: &RabbitServer,
    receiver: &Receiver,
) {
    let more = "exchange = 'board'\nrouting_key = '{name}.{key}'";
    let sink = opening.open(&format!("{}/%2f", server.url()), "password", more);
    for outcome in sink.apply(&[put(1, "jobs"), put(2, "jobs"), put(3, "jobs")]).await {
        let fault = outcome.unwrap_err();
        assert_eq!(fault.class, TROUBLE, "{fault}");
        assert!(fault.to_string().contains("no exchange \"board\"; declare it"), "{fault}");
    }
    let options = ExchangeDeclareOptions::default();
    let (exchange, topic) = ("board", ExchangeKind::Topic);
    let none = FieldTable::default;
    receiver.channel.exchange_declare(exchange.into(), topic, options, none()).await.unwrap();
    let options = QueueBindOptions::default();
    // Two words, whatever is in the key.
    let bind = receiver.channel.queue_bind(
        "rejoin.jobs".into(),
        exchange.into(),
        "jobs.*".into(),
        options,
        none(),
    );
    bind.await.unwrap();
    assert_eq!(apply(&*sink, put(1, "jobs")).await, Ok(()));
    assert_eq!(receiver.ids("rejoin.jobs").await, BTreeMap::from([("key1".to_owned(), 1)]));
}

async fn only_who_is_vouched_for_is_told(
    opening: &Opening,
    server: &RabbitServer,
    receiver: &Receiver,
) {
    let stranger = opening.open(&server.tls_url(), "password", "");
    let fault = apply(&*stranger, put(1, "jobs")).await.unwrap_err();
    assert_eq!(fault.class, TROUBLE, "{fault}");
    assert!(fault.to_string().contains("certificate"), "{fault}");
    assert_eq!(receiver.ids("rejoin.jobs").await, BTreeMap::new());
    let more = format!("root_certificate = '{}'", server.certificate().display());
    let sink = opening.open(&server.tls_url(), "password", &more);
    assert_eq!(apply(&*sink, put(1, "jobs")).await, Ok(()));
    assert_eq!(receiver.ids("rejoin.jobs").await.len(), 1);
}

async fn who_may_not_is_told_without_secrets(opening: &Opening, server: &RabbitServer) {
    let sink = opening.open(&server.url(), "wrong", "");
    let fault = apply(&*sink, put(1, "jobs")).await.unwrap_err();
    assert_eq!(fault.class, TROUBLE, "{fault}");
    assert!(fault.to_string().contains("`password`"), "{fault}");
    assert!(!format!("{fault:?}").contains("battery"), "{fault:?}");
    let nowhere = opening.open(&format!("{}/nowhere", server.url()), "password", "");
    let fault = apply(&*nowhere, put(1, "jobs")).await.unwrap_err();
    assert_eq!(fault.class, TROUBLE, "{fault}");
    assert!(fault.to_string().contains("nowhere"), "{fault}");
    // A password that is corrected is used without a new start.
    std::fs::write(opening.0.path().join("wrong"), PASSWORD).unwrap();
    let fault = apply(&*sink, put(1, "nobody")).await.unwrap_err();
    assert!(fault.to_string().contains("no queue takes"), "{fault}");
}

async fn what_was_confirmed_outlives_the_server(opening: &Opening, mut server: RabbitServer) {
    let sink = opening.open(&server.url(), "password", "timeout_s = 5");
    let (tell, mut told) = mpsc::channel(64);
    let delivering = async move {
        let mut waiting: Vec<Delivery> = (0..DELIVERIES).map(|it| put(it, "jobs")).collect();
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
    let ids = Receiver::connect(&server).await.ids("rejoin.jobs").await;
    // A lost confirmation is a message that is there twice.
    let expected: Vec<_> = (0..DELIVERIES).map(|number| format!("key{number}")).collect();
    assert!(expected.iter().all(|id| ids.contains_key(id)), "{} of {DELIVERIES}", ids.len());
    assert!(ids.values().all(|times| *times <= 2), "{ids:?}");
}

#[tokio::test]
async fn who_does_not_answer_is_tried_again() {
    let opening = Opening::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("amqp://{}", listener.local_addr().unwrap());
    let sink = opening.open(&silent, "password", "timeout_s = 1");
    for _ in 0..2 {
        let begun = Instant::now();
        let fault = apply(&*sink, put(1, "jobs")).await.unwrap_err();
        assert_eq!(fault.class, TROUBLE, "{fault}");
        assert!(fault.to_string().contains("in time"), "{fault}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        // It lets go of what does not answer.
        let (mut given_up, _) = listener.accept().await.unwrap();
        let mut said = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut given_up, &mut said);
        tokio::time::timeout(Duration::from_secs(5), read).await.expect("it hangs up").unwrap();
        assert_eq!(said, b"AMQP\x00\x00\x09\x01");
    }
    let nobody = opening.open(&format!("amqp://127.0.0.1:{}", free_port()), "password", "");
    let fault = apply(&*nobody, put(1, "jobs")).await.unwrap_err();
    assert_eq!(fault.class, TROUBLE, "{fault}");
}

#[test]
fn what_is_no_sink_is_said() {
    let wrong = |options: &str| {
        let options = toml::from_str(&format!("kind = 'amqp'\n{options}")).unwrap();
        sink::open(&options, Path::new(".")).err().expect("it is none").to_string()
    };
    let user = "user = 'me'\npassword = 'env:PATH'";
    let url = "url = 'amqp://localhost:5672'";
    assert!(wrong(&format!("{user}\nurl = 'http://localhost'")).contains("amqp://HOST:PORT"));
    let said = wrong(&format!("{user}\nurl = 'amqp://me:hush@localhost'"));
    assert!(said.contains("`password`") && !said.contains("hush"), "{said}");
    assert!(wrong(url).contains("user"));
    assert!(wrong(&format!("{url}\nuser = 'me'\npassword = 'hush'")).contains("env:NAME"));
    assert!(
        wrong(&format!("{url}\nuser = 'me'\npassword = 'file:/nowhere'")).contains("no secret")
    );
    assert!(wrong(&format!("{url}\n{user}\nrouting_key = '{{id}}'")).contains("{name}"));
    assert!(wrong(&format!("{url}\n{user}\nqueue = 'x'")).contains("queue"));
    let long = "x".repeat(256);
    assert!(wrong(&format!("{url}\n{user}\nexchange = '{long}'")).contains("255"));
}
