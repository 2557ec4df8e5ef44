//! Deliveries to the cluster that librdkafka brings for tests: real brokers as far as the protocol
//! goes, in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use rejoin_adapters::delivery::{Action, Delivery, Fault, FaultClass, IdempotencyKey, Reach};
use rejoin_adapters::sink::{self, KINDS, Sink};
use rejoin_tests::services::free_port;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

const AGAIN: FaultClass = FaultClass::Transient { after: None };
const OF_KIND: FaultClass = FaultClass::Trouble(Reach::Kind);

/// Partitions of a topic that nobody created.
const PARTITIONS: i32 = 4;

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn delivery(number: u32, name: &str, action: Action) -> Delivery {
    let key = IdempotencyKey(format!("key{number}"));
    Delivery { key, ..rejoin_tests::delivery::delivery(name, &format!("W.{number}"), 2, action) }
}

fn put(number: u32) -> Delivery {
    delivery(number, "jobs", Action::Put(Map::from_iter([("town".to_owned(), json!("Ülm"))])))
}

/// The sink that a mapping would have.
fn open(brokers: &str, more: &str) -> Arc<dyn Sink> {
    let options = toml::from_str(&format!("kind = 'kafka'\nbrokers = '{brokers}'\n{more}"));
    let options = options.unwrap();
    sink::open(&options, Path::new(".")).unwrap()
}

async fn apply(sink: &dyn Sink, delivery: Delivery) -> Result<(), Fault> {
    sink.apply(&[delivery]).await.remove(0)
}

/// What a consumer sees of a message.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    key: String,
    headers: BTreeMap<String, String>,
    /// Nothing if the message is without a value.
    body: Option<Value>,
}

impl Seen {
    fn new(message: &BorrowedMessage<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let headers = message.headers().expect("a message has headers").iter();
        Self {
            key: text(message.key().expect("a message has a key")),
            headers: headers.map(|it| (it.key.to_owned(), text(it.value.unwrap()))).collect(),
            body: message.payload().map(|body| serde_json::from_slice(body).unwrap()),
        }
    }
}

/// Everything that is in a topic, by partition.
fn messages(brokers: &str, topic: &str) -> Vec<Seen> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "tests")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    let mut waiting = 0;
    for partition in 0..PARTITIONS {
        let limit = Duration::from_secs(30);
        let (low, high) = consumer.fetch_watermarks(topic, partition, limit).unwrap();
        from.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        waiting += high - low;
    }
    consumer.assign(&from).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut seen = Vec::new();
    while waiting > 0 {
        assert!(Instant::now() < deadline, "{waiting} messages do not come");
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            seen.push(Seen::new(&message.unwrap()));
            waiting -= 1;
        }
    }
    seen
}

#[tokio::test]
async fn messages_are_what_was_delivered() {
    let cluster = Cluster::new(3).unwrap();
    let brokers = cluster.bootstrap_servers();
    let sink = open(&brokers, "topic = 'board.{name}'");
    let deliveries = [
        delivery(1, "jobs äö", put(1).action),
        delivery(2, "jobs äö", Action::Mark { deleted_ms: 1_790_000_000_000 }),
        delivery(3, "jobs äö", Action::Delete),
    ];
    assert_eq!(sink.apply(&deliveries).await, vec![Ok(()); 3]);
    let mut seen = messages(&brokers, "board.jobs___");
    seen.sort_by(|one, other| one.key.cmp(&other.key));
    assert_eq!(seen.len(), 3);
    for (seen, delivery) in seen.iter().zip(&deliveries) {
        assert_eq!(seen.key, delivery.record.key);
        let header = |name: &str| seen.headers[name].as_str();
        assert_eq!(header("idempotency-key"), delivery.key.0);
        assert_eq!(header("correlation-id"), "c0ffee");
        let is_gone = delivery.action == Action::Delete;
        assert_eq!(seen.body, (!is_gone).then(|| delivery.to_json()));
    }
    assert_eq!(sink.scan("jobs", None, 10).await, Ok(None));
    assert!(KINDS.contains(&"kafka"));
}

#[tokio::test]
async fn a_cluster_that_goes_down_gets_each_once_when_it_is_back() {
    let cluster = Cluster::new(1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let sink = open(&brokers, "timeout_s = 2");
    let deliveries: Vec<_> = (0..500).map(put).collect();
    for some in deliveries[..250].chunks(sink.batch()) {
        assert_eq!(sink.apply(some).await, vec![Ok(()); some.len()]);
    }
    cluster.broker_down(1).unwrap();
    let begun = Instant::now();
    for outcome in sink.apply(&deliveries[250..300]).await {
        let fault = outcome.unwrap_err();
        assert_eq!(fault.class, AGAIN, "{fault}");
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    cluster.broker_up(1).unwrap();
    for some in deliveries[250..].chunks(sink.batch()) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut waiting = some.to_vec();
        while !waiting.is_empty() {
            assert!(Instant::now() < deadline, "it does not go on");
            let outcomes = sink.apply(&waiting).await;
            let mut failed = Vec::new();
            for (delivery, outcome) in waiting.into_iter().zip(outcomes) {
                failed.extend(outcome.is_err().then_some(delivery));
            }
            waiting = failed;
        }
    }
    let mut ids: Vec<_> = messages(&brokers, "rejoin.jobs")
        .into_iter()
        .map(|it| it.headers["idempotency-key"].clone())
        .collect();
    ids.sort();
    let mut expected: Vec<_> = deliveries.iter().map(|it| it.key.0.clone()).collect();
    expected.sort();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn what_a_cluster_says_is_understood() {
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_INVALID_RECORD as INVALID,
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as FORBIDDEN,
        RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION as BADLY_CALLED,
        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART as UNKNOWN,
    };
    let cluster = Cluster::new(1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let sink = open(&brokers, "timeout_s = 5");
    for (name, error, class, says) in [
        ("unknown", UNKNOWN, OF_KIND, "create it"),
        ("forbidden", FORBIDDEN, OF_KIND, "permit it"),
        ("badly-called", BADLY_CALLED, OF_KIND, "cannot be called"),
    ] {
        let topic = format!("rejoin.{name}");
        cluster.create_topic(&topic, PARTITIONS, 1).unwrap();
        cluster.topic_error(&topic, error).unwrap();
        let fault = apply(&*sink, delivery(1, name, Action::Delete)).await.unwrap_err();
        assert_eq!(fault.class, class, "{fault}");
        assert!(fault.to_string().contains(says) && fault.to_string().contains(&topic), "{fault}");
    }
    // As a server answers whose topic has rules.
    cluster.request_errors(RDKafkaApiKey::Produce, &[INVALID]);
    let fault = apply(&*sink, put(1)).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Permanent, "{fault}");
    assert!(fault.to_string().contains("\"rejoin.jobs\" does not take it"), "{fault}");
    assert_eq!(apply(&*sink, put(2)).await, Ok(()));
    let large = Action::Put(Map::from_iter([("text".to_owned(), json!("x".repeat(2 << 20)))]));
    let outcomes = sink.apply(&[put(1), delivery(2, "jobs", large), put(3)]).await;
    let [Ok(()), Err(fault), Ok(())] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(fault.class, FaultClass::Permanent, "{fault}");
}

#[tokio::test]
async fn a_producer_that_gave_itself_up_is_made_anew() {
    let cluster = Cluster::new(1).unwrap();
    let forbidden = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &[forbidden]);
    let sink = open(&cluster.bootstrap_servers(), "timeout_s = 5");
    let fault = apply(&*sink, put(1)).await.unwrap_err();
    assert!(fault.is_trouble() || fault.is_transient(), "{fault}");
    assert_eq!(apply(&*sink, put(1)).await, Ok(()));
}

#[tokio::test]
async fn who_does_not_answer_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap().to_string();
    let nobody = format!("127.0.0.1:{}", free_port());
    for brokers in [silent, nobody] {
        let sink = open(&brokers, "timeout_s = 1");
        let begun = Instant::now();
        let fault = apply(&*sink, put(1)).await.unwrap_err();
        assert_eq!(fault.class, AGAIN, "{fault}");
        assert!(fault.to_string().contains("in time"), "{fault}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

#[test]
fn what_is_no_sink_is_said() {
    let wrong = |options: &str| {
        let options = toml::from_str(&format!("kind = 'kafka'\n{options}")).unwrap();
        sink::open(&options, Path::new(".")).err().expect("it is none").to_string()
    };
    for brokers in ["", "localhost", "localhost:9092,", "kafka://localhost:9092", ":9092"] {
        assert!(wrong(&format!("brokers = '{brokers}'")).contains("HOST:PORT"), "{brokers:?}");
    }
    let said = wrong("brokers = 'me:hush@localhost:9092'");
    assert!(said.contains("HOST:PORT") && !said.contains("hush"), "{said}");
    let brokers = "brokers = 'localhost:9092'";
    assert!(wrong(&format!("{brokers}\ntopic = '{{key}}'")).contains("{name}"));
    assert!(wrong(&format!("{brokers}\nacks = 'none'")).contains("acks"));
}

#[tokio::test]
async fn a_look_at_the_cluster_lists_the_topics_that_are_missing() {
    let cluster = Cluster::new(1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let sink = open(&brokers, "topic = 'board.{name}'\ntimeout_s = 5");
    assert_eq!(apply(&*sink, put(1)).await, Ok(()));
    let (fine, wrong) = rejoin_tests::delivery::wrong_at(&*sink, &["jobs", "parts"]).await;
    assert!(fine == 1 && wrong.len() == 1 && wrong[0].contains("board.parts"), "{wrong:?}");
}
