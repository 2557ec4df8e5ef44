//! Webhooks against receivers that behave as targets do, verified by the specification's own
//! library.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rejoin_adapters::delivery::{Action, Delivery, Fault, FaultClass, IdempotencyKey, Reach};
use rejoin_adapters::sink::Sink;
use rejoin_adapters::sink::webhook::{Options, Webhook};
use rejoin_tests::python;
use rejoin_tests::services::write_certificate;
use serde_json::{Map, Value, json};
use standardwebhooks::Webhook as Verifier;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// What a receiver was sent.
#[derive(Debug)]
struct Received {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        &found.unwrap_or_else(|| panic!("there is no {name}")).1
    }
}

/// How a receiver answers.
enum Answer {
    /// With these bytes.
    Bytes(Vec<u8>),
    /// Never.
    Nothing,
    /// With these bytes, and then one at a time for ever.
    Drip(&'static str),
}

/// A receiver of one request.
async fn receiver(answer: Answer) -> (u16, JoinHandle<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let received = receive(&mut stream).await;
        match answer {
            Answer::Bytes(bytes) => stream.write_all(&bytes).await.unwrap(),
            Answer::Nothing => _ = stream.read_u8().await,
            Answer::Drip(head) => {
                stream.write_all(head.as_bytes()).await.unwrap();
                while stream.write_all(b" ").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        received
    });
    (port, received)
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Received {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "the request breaks off");
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let headers: Vec<(String, String)> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut received = Received { headers, body: bytes[end + 4..].to_vec() };
    let length: usize = received.header("content-length").parse().unwrap();
    while received.body.len() < length {
        assert!(stream.read_buf(&mut received.body).await.unwrap() > 0, "the body breaks off");
    }
    received
}

fn answer(status: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
    Answer::Bytes(text.into_bytes())
}

fn delivery() -> Delivery {
    let action = Action::Put(Map::from_iter([("town".to_owned(), json!("Ülm"))]));
    let key = IdempotencyKey("abc".to_owned());
    Delivery { key, ..rejoin_tests::delivery::delivery("jobs", "W-1", 2, action) }
}

/// Options for a URL, with the old and the new key.
fn options(folder: &Path, url: &str) -> Value {
    for (name, secret) in [("old", OLD), ("new", NEW)] {
        std::fs::write(folder.join(name), secret).unwrap();
    }
    let secret = |name: &str| format!("file:{}", folder.join(name).display());
    json!({
        "url": url,
        "secrets": [secret("new"), secret("old")],
        "timeout_s": 1,
        "allow_hosts": ["127.0.0.1"],
    })
}

fn open(folder: &TempDir, options: Value) -> Webhook {
    let options: Options = serde_json::from_value(options).unwrap();
    Webhook::open(options, folder.path()).unwrap()
}

async fn apply(webhook: &Webhook) -> Result<(), Fault> {
    webhook.apply(&[delivery()]).await.remove(0)
}

/// What comes of a receiver that answers so.
const TROUBLE: FaultClass = FaultClass::Trouble(Reach::Target);

async fn comes_to(answer: Answer) -> Fault {
    comes_to_by(answer, json!([])).await
}

/// The same where these statuses are the row's own.
async fn comes_to_by(answer: Answer, permanent: Value) -> Fault {
    let folder = tempfile::tempdir().unwrap();
    let (port, _received) = receiver(answer).await;
    let mut options = options(folder.path(), &format!("http://127.0.0.1:{port}/hook"));
    options["error_field"] = json!("error");
    options["permanent"] = permanent;
    apply(&open(&folder, options)).await.expect_err("it is no success")
}

#[tokio::test]
async fn receivers_verify_it_with_any_of_the_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (port, received) = receiver(answer("204 No Content", "", "")).await;
    let url = format!("http://127.0.0.1:{port}/hook");
    assert_eq!(apply(&open(&folder, options(folder.path(), &url))).await, Ok(()));
    let received = received.await.unwrap();
    let mut headers = http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, received.header(name).parse().unwrap());
    }
    for secret in [OLD, NEW] {
        Verifier::new(secret).unwrap().verify(&received.body, &headers).unwrap();
    }
    let other = Verifier::new("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
    other.verify(&received.body, &headers).unwrap_err();
    assert_eq!(received.header("webhook-id"), "abc");
    assert_eq!(received.header("correlation-id"), "c0ffee");
    let event: Value = serde_json::from_slice(&received.body).unwrap();
    assert_eq!((&event["specversion"], &event["type"]), (&json!("1.0"), &json!("jobs.put")));
    assert_eq!((&event["subject"], &event["data"]), (&json!("W-1"), &json!({ "town": "Ülm" })));
    assert_eq!(event["time"], "2026-09-21T14:13:20.123Z");
}

#[tokio::test]
async fn receivers_written_in_python_verify_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let (port, received) = receiver(answer("204 No Content", "", "")).await;
    let url = format!("http://127.0.0.1:{port}/hook");
    assert_eq!(apply(&open(&folder, options(folder.path(), &url))).await, Ok(()));
    let received = received.await.unwrap();
    let body = String::from_utf8(received.body.clone()).unwrap();
    let headers: Map<String, Value> =
        received.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let verify = |secret: &str, body: &str| -> Value {
        let asked = json!({ "secret": secret, "headers": headers, "body": body });
        let said = python::run("verify_webhook.py", asked.to_string().as_bytes());
        serde_json::from_slice(&said).unwrap()
    };
    for secret in [OLD, NEW] {
        assert_eq!(verify(secret, &body)["data"]["subject"], "W-1");
    }
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let wrong = json!({ "error": "No matching signature found" });
    assert_eq!(verify(other, &body), wrong);
    assert_eq!(verify(OLD, &body.replace("W-1", "W-2")), wrong);
}

#[tokio::test]
async fn answers_say_what_to_do() {
    let after = |seconds| FaultClass::Transient { after: Some(Duration::from_secs(seconds)) };
    let at_once = FaultClass::Transient { after: None };
    for (status, headers, body, class) in [
        ("500 Internal Server Error", "", "oops", at_once),
        ("503 Service Unavailable", "retry-after: 7\r\n", "", after(7)),
        ("429 Too Many Requests", "retry-after: 120\r\n", "", after(120)),
        ("408 Request Timeout", "", "", at_once),
        ("401 Unauthorized", "", "who?", at_once),
        ("404 Not Found", "", "no such hook", at_once),
        ("422 Unprocessable Content", "", "not like that", at_once),
        ("410 Gone", "", "", FaultClass::Gone),
        ("200 OK", "", r#"{ "error": "no such customer" }"#, FaultClass::Permanent),
        ("302 Found", "location: http://10.0.0.1/\r\n", "", TROUBLE),
    ] {
        let fault = comes_to(answer(status, headers, body)).await;
        assert_eq!(fault.class, class, "{status}: {fault}");
        assert_eq!(fault.answer.as_deref().unwrap_or_default(), body);
    }
    for (status, is_final) in [("422 Unprocessable Content", true), ("401 Unauthorized", false)] {
        let fault = comes_to_by(answer(status, "", ""), json!([422, 413])).await;
        assert_eq!(fault.class == FaultClass::Permanent, is_final, "{fault}");
    }
    let date =
        comes_to(answer("429 Too Many", "retry-after: Fri, 01 Jan 2100 00:00:00 GMT\r\n", ""));
    assert_eq!(date.await.class, after(24 * 3600), "nobody is left alone longer than a day");
    let fault = comes_to(answer("302 Found", "location: http://10.0.0.1/\r\n", "")).await;
    assert!(fault.to_string().contains("http://10.0.0.1 "), "{fault}");
    let large = "x".repeat(200_000);
    let fault = comes_to(answer("500 Internal Server Error", "", &large)).await;
    assert_eq!(fault.answer.map(|answer| answer.len()), Some(1024));
}

#[tokio::test]
async fn who_does_not_answer_is_tried_again() {
    for silent in [
        Answer::Nothing,
        Answer::Bytes(Vec::new()),
        Answer::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        Answer::Drip("HTTP/1.1 2"),
    ] {
        let fault = comes_to(silent).await;
        assert_eq!(fault.class, FaultClass::Transient { after: None }, "{fault}");
    }
    // An answer that never ends is one.
    let fault = comes_to(Answer::Drip("HTTP/1.1 500 Oops\r\ncontent-length: 9999\r\n\r\n")).await;
    assert_eq!(fault.class, FaultClass::Transient { after: None }, "{fault}");
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let nobody = open(&folder, options(folder.path(), &format!("http://127.0.0.1:{free}/")));
    let fault = apply(&nobody).await.unwrap_err();
    assert_eq!(fault.class, TROUBLE, "{fault}");
    let (port, _received) = receiver_of_anything().await;
    let no_tls = open(&folder, options(folder.path(), &format!("https://127.0.0.1:{port}/")));
    let fault = apply(&no_tls).await.unwrap_err();
    assert_eq!(fault.class, TROUBLE, "{fault}");
}

/// Answers any bytes as a server without TLS would.
async fn receiver_of_anything() -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    (port, answering)
}

/// A receiver called `localhost`, which vouches for itself, of as many requests as come.
async fn encrypted_receiver(folder: &Path) -> (u16, JoinHandle<()>) {
    write_certificate(folder);
    let certificate = CertificateDer::from_pem_file(folder.join("certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let receiving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Who does not trust it hangs up.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            receive(&mut stream).await;
            let taken = b"HTTP/1.1 204 No Content\r\n\r\n";
            stream.write_all(taken).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (port, receiving)
}

#[tokio::test]
async fn only_who_is_vouched_for_gets_anything() {
    let folder = tempfile::tempdir().unwrap();
    let (port, _receiving) = encrypted_receiver(folder.path()).await;
    let options = |host: &str, root: Value| {
        let mut options = options(folder.path(), &format!("https://{host}:{port}/"));
        options["allow_hosts"] = json!(["localhost", "127.0.0.1"]);
        options["root_certificate"] = root;
        options
    };
    let stranger = open(&folder, options("localhost", Value::Null));
    let fault = apply(&stranger).await.unwrap_err();
    assert_eq!(fault.class, TROUBLE, "{fault}");
    assert!(fault.to_string().contains("certificate"), "{fault}");
    let root = json!("certificate.pem");
    let other_name = open(&folder, options("127.0.0.1", root.clone()));
    let fault = apply(&other_name).await.unwrap_err();
    assert!(fault.to_string().contains("certificate"), "{fault}");
    apply(&open(&folder, options("localhost", root))).await.unwrap();
}

#[tokio::test]
async fn nothing_goes_where_it_must_not() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"] {
        let mut options = options(folder.path(), &format!("http://{host}:{port}/"));
        options["allow_hosts"] = json!([]);
        let fault = apply(&open(&folder, options)).await.unwrap_err();
        assert_eq!(fault.class, TROUBLE, "{host}: {fault}");
        assert!(fault.to_string().contains("allow_hosts"), "{fault}");
    }
    let mut options = options(folder.path(), &format!("http://localhost:{port}/"));
    options["allow_hosts"] = json!(["localhost"]);
    let webhook = open(&folder, options);
    let (accepted, _) = tokio::join!(listener.accept(), apply(&webhook));
    accepted.expect("the first that came is the one that was allowed");
}

#[test]
fn what_is_no_webhook_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut options = options(folder.path(), "https://example.com/hook");
        change(&mut options);
        let options: Options = serde_json::from_value(options).unwrap();
        Webhook::open(options, folder.path()).unwrap_err().to_string()
    };
    assert!(wrong(&|it| it["url"] = json!("ftp://example.com")).contains("no web address"));
    assert!(wrong(&|it| it["url"] = json!("example")).contains("no address"));
    assert!(wrong(&|it| it["secrets"] = json!([])).contains("signed with nothing"));
    assert!(wrong(&|it| it["secrets"] = json!(["file:/nowhere"])).contains("no secret"));
    std::fs::write(folder.path().join("short"), "whsec_AAAA").unwrap();
    let short = format!("file:{}", folder.path().join("short").display());
    let said = wrong(&|it| it["secrets"] = json!([short]));
    assert!(said.contains("24 bytes") && !said.contains("AAAA"), "{said}");
    assert!(wrong(&|it| it["root_certificate"] = json!("short")).contains("certificate"));
}
