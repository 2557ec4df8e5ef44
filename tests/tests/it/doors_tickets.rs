//! Apps of automerge-repo at a relay that lets in who has a token: tickets, and what they open.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rejoin_tests::node::{Found, Node, Version, set};
use rejoin_tests::processes::{Rejoin, RelayProcess};
use serde_json::{Value, json};
use tempfile::TempDir;

const RULES: &str = r#"
    [token]
    issuer   = "https://login.example"
    audience = "acme"
    keys     = ["key.pub"]
    [[allow]]
    roles = ["dispatch"]
    space = "main"
    read  = ["*"]
    write = ["*"]
    [[allow]]
    roles = ["technician"]
    space = "main"
    read  = ["documents", "jobs", "rejoin.schemas"]
    write = ["documents"]
    [[allow]]
    roles = ["visitor"]
    space = "main"
    read  = ["rejoin.schemas"]
"#;

struct Company {
    _folder: TempDir,
    rejoin: Rejoin,
    relay: RelayProcess,
}

impl Company {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rejoin = Rejoin::in_dir(folder.path());
        rejoin.ok(["token", "keygen"]);
        std::fs::write(folder.path().join("access.toml"), RULES).expect("a file");
        let more = ["--access", "access.toml"];
        let relay = RelayProcess::start_as(folder.path().join("relay"), &more);
        Self { _folder: folder, rejoin, relay }
    }

    fn token(&self, user: &str, role: &str) -> String {
        self.rejoin.ok(["token", "mint", user, "--role", role]).trim().to_owned()
    }

    /// What the relay answers to `POST /ticket`.
    fn ask(&self, token: &str, origin: Option<&str>) -> String {
        let host = self.relay.url().replace("ws://", "");
        let mut socket = TcpStream::connect(&host).expect("the relay listens");
        let origin = origin.map(|it| format!("Origin: {it}\r\n")).unwrap_or_default();
        let request = format!(
            "POST /ticket HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{origin}\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("it answers");
        answer
    }

    /// The address for an app that shows this token.
    fn url(&self, token: &str) -> String {
        let answer = self.ask(token, None);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        let body: Value = serde_json::from_str(body).expect("JSON");
        let ticket = body["ticket"].as_str().expect("a ticket");
        format!("{}/automerge?ticket={ticket}", self.relay.url())
    }

    fn app(&self, user: &str, role: &str) -> Node {
        Node::start(Version::Current, &self.url(&self.token(user, role)))
    }
}

#[test]
fn an_app_comes_in_with_a_ticket_and_comes_back_with_it_after_a_restart() {
    let mut company = Company::new();
    let mut dana = company.app("dana", "dispatch");
    let mut tom = company.app("tom", "technician");
    let document = dana.create(json!({ "title": "first" }));
    dana.saved(&document);
    tom.find(&document);
    assert_eq!(tom.value(&document)["title"], "first");
    company.relay.kill9();
    company.relay.restart();
    let _ = tom.change(&document, &[set("title", "after the restart")]);
    dana.value_is(&document, "title", "after the restart");
}

#[test]
fn what_may_not_be_read_is_unavailable_and_nobody_comes_in_without_a_ticket() {
    let company = Company::new();
    let mut dana = company.app("dana", "dispatch");
    let document = dana.create(json!({ "title": "of Dana" }));
    dana.saved(&document);
    let mut visitor = company.app("eve", "visitor");
    assert_eq!(visitor.seek(&document), Found::Unavailable);
    // One that dials without a ticket, or with a wrong one, hears nothing.
    let nobody = format!("{}/automerge", company.relay.url());
    let forged = format!("{nobody}?ticket=e30.AAAA");
    for url in [nobody, forged] {
        let mut app = Node::start(Version::Current, &url);
        assert_eq!(app.seek(&document), Found::Unavailable, "{url}");
    }
}

#[test]
fn a_ticket_is_for_its_origin_and_ends_with_its_user() {
    let company = Company::new();
    let token = company.token("tom", "technician");
    let refused = company.ask("no token", None);
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let foreign = company.ask(&token, Some("https://evil.example"));
    assert!(foreign.starts_with("HTTP/1.1 403"), "{foreign}");
    assert!(!foreign.to_lowercase().contains("access-control-allow-origin"), "{foreign}");
    let own = company.ask(&token, Some("http://localhost:3000"));
    let allowed = "access-control-allow-origin: http://localhost:3000";
    assert!(own.starts_with("HTTP/1.1 200") && own.to_lowercase().contains(allowed), "{own}");
    let mut tom = company.app("tom", "technician");
    let mut dana = company.app("dana", "dispatch");
    let document = tom.create(json!({ "title": "of Tom" }));
    tom.saved(&document);
    dana.find(&document);
    company.rejoin.ok(["admin", "--data", "relay", "revoke", "--user", "tom"]);
    let begun = Instant::now();
    let connected = || {
        let told = company.rejoin.json(["admin", "--data", "relay", "connections"]);
        told["connections"].as_array().cloned().unwrap_or_default()
    };
    while connected().iter().any(|it| it["user"] == "tom") {
        assert!(begun.elapsed() < Duration::from_secs(5), "he is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = tom.change(&document, &[set("note", "after all")]);
    let _ = dana.change(&document, &[set("title", "of Dana")]);
    dana.saved(&document);
    let value = dana.value(&document);
    assert_eq!((&value["title"], &value["note"]), (&json!("of Dana"), &Value::Null));
}
