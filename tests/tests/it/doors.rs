//! Who gets in at a relay, and what each may do there: real processes, real TLS.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rejoin_tests::processes::{Ended, Rejoin, Running};
use serde_json::Value;

/// A company with rules, a key that signs tokens, and a certificate of its own.
struct Company {
    folder: tempfile::TempDir,
    rejoin: Rejoin,
    relay: Option<Running>,
    url: String,
}

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
    read  = ["jobs", "customers", "rejoin.schemas"]
    write = ["jobs"]
"#;

impl Company {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rejoin = Rejoin::in_dir(folder.path());
        rejoin.ok(["token", "keygen"]);
        let company = Self { folder, rejoin, relay: None, url: String::new() };
        company.write("access.toml", RULES);
        company.certify("localhost");
        company
    }

    /// A relay that speaks TLS and knows its people.
    fn open() -> Self {
        let mut company = Self::new();
        company.start("127.0.0.1:0");
        company
    }

    fn start(&mut self, listen: &str) {
        self.relay = None;
        let arguments = ["--listen", listen, "--data", "relay", "--access", "access.toml"];
        let tls = ["--tls-certificate", "cert.pem", "--tls-key", "cert-key.pem"];
        let log = std::fs::File::create(self.folder.path().join("relay.log")).expect("a file");
        let mut command = self.rejoin.command(["relay"].into_iter().chain(arguments).chain(tls));
        command.env("RUST_LOG", "info,rejoin_relay=debug").stderr(Stdio::from(log));
        let mut relay = Running::start(command);
        let line = relay.line().unwrap_or_else(|| panic!("the relay listens: {}", self.log()));
        let port = line.trim_end_matches("/sync").rsplit(':').next().expect("a port");
        assert!(line.starts_with("listening on wss://"), "{line}");
        self.url = format!("wss://localhost:{port}");
        self.relay = Some(relay);
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("a file");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("relay.log")).unwrap_or_default()
    }

    /// Makes a certificate for a name, which its holder vouches for.
    fn certify(&self, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        self.write("cert.pem", &made.cert.pem());
        self.write("cert-key.pem", &made.signing_key.serialize_pem());
    }

    fn token(&self, user: &str, role: &str, expires: &str) -> String {
        let arguments = ["token", "mint", user, "--role", role, "--expires", expires];
        self.rejoin.ok(arguments).trim().to_owned()
    }

    fn sync(&self, replica: &str, token: &str) -> Ended {
        let arguments = ["--replica", replica, "sync", &self.url, "--once", "--timeout", "10s"];
        // One that is larger than the environment bears.
        self.write("of-file", token);
        let by_file = ["--ca", "cert.pem", "--token-file", "of-file"];
        let by_environment = ["--ca", "cert.pem"];
        let more = if token.len() > 8 << 10 { &by_file[..] } else { &by_environment };
        let mut command = self.rejoin.command(arguments.iter().chain(more));
        if token.len() <= 8 << 10 {
            command.env("REJOIN_TOKEN", token);
        }
        let output = command.output().expect("rejoin starts");
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    fn synced(&self, replica: &str, token: &str) {
        let ended = self.sync(replica, token);
        assert_eq!(ended.code, 0, "{ended:?}\n{}", self.log());
    }

    fn set(&self, replica: &str, collection: &str, key: &str, field: &str) {
        self.rejoin.ok(["--replica", replica, "set", collection, key, field]);
    }

    fn keys(&self, replica: &str, collection: &str) -> Vec<String> {
        let listed = self.rejoin.run(["--replica", replica, "list", collection, "--json"]);
        // There is no such collection as long as no document of it is here.
        if listed.stderr.contains("there is no collection") {
            return Vec::new();
        }
        let listed: Value = serde_json::from_str(&listed.stdout).expect("a list");
        let listed = listed.as_array().cloned().unwrap_or_default();
        listed.iter().filter_map(|it| it["key"].as_str().map(str::to_owned)).collect()
    }

    fn status(&self, replica: &str) -> Value {
        self.rejoin.json(["--replica", replica, "status"])
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "there never was {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn each_role_reads_and_writes_what_the_rules_allow() {
    let company = Company::open();
    let (dana, tom) =
        (company.token("dana", "dispatch", "1h"), company.token("tom", "technician", "1h"));
    for (collection, key) in [("jobs", "1"), ("customers", "acme"), ("wages", "tom")] {
        company.set("dana.redb", collection, key, "name=of Dana");
    }
    company.synced("dana.redb", &dana);
    company.set("tom.redb", "jobs", "2", "name=of Tom");
    company.synced("tom.redb", &tom);
    assert_eq!(company.keys("tom.redb", "jobs"), ["1", "2"]);
    assert_eq!(company.keys("tom.redb", "customers"), ["acme"]);
    assert!(company.keys("tom.redb", "wages").is_empty());
    // What he may only read he keeps to himself, and it waits; both still agree on the rest.
    company.set("tom.redb", "customers", "acme", "name=of nobody");
    let ended = company.sync("tom.redb", &tom);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("may be read, but not written to"), "{ended:?}");
    assert_eq!(company.status("tom.redb")["waiting"], 1);
    company.set("tom.redb", "wages", "ann", "name=curious");
    company.sync("tom.redb", &tom);
    company.synced("dana.redb", &dana);
    assert_eq!(company.keys("dana.redb", "jobs"), ["1", "2"]);
    assert_eq!(company.keys("dana.redb", "wages"), ["tom"]);
    let acme = company.rejoin.json(["--replica", "dana.redb", "get", "customers", "acme"]);
    assert_eq!(acme["value"]["name"], "of Dana");
}

#[test]
fn who_gets_another_right_gets_what_was_there_before() {
    let company = Company::open();
    let (dana, tom) =
        (company.token("dana", "dispatch", "1h"), company.token("tom", "technician", "1h"));
    for n in 0..40 {
        company.set("dana.redb", "wages", &format!("{n}"), "name=of Dana");
        if n % 4 == 0 {
            company.set("dana.redb", "jobs", &format!("{n}"), "name=of Dana");
        }
    }
    company.synced("dana.redb", &dana);
    company.synced("tom.redb", &tom);
    assert!(company.keys("tom.redb", "wages").is_empty());
    company.write("access.toml", &RULES.replace("\"customers\",", "\"customers\", \"wages\","));
    until("the new rules", || company.log().contains("rules of access were read again"));
    company.synced("tom.redb", &tom);
    assert_eq!(company.keys("tom.redb", "wages").len(), 40);
    // And who loses one keeps what came, and gets no more.
    company.write("access.toml", RULES);
    until("the old rules", || company.log().matches("were read again").count() == 2);
    company.set("dana.redb", "wages", "new", "name=of Dana");
    company.synced("dana.redb", &dana);
    company.synced("tom.redb", &tom);
    assert_eq!(company.keys("tom.redb", "wages").len(), 40);
}

#[test]
fn no_token_that_is_not_right_gets_in_and_nothing_that_waits_is_lost() {
    let company = Company::open();
    let good = company.token("dana", "dispatch", "1h");
    company.set("dana.redb", "jobs", "1", "name=words-of-dana");
    let other = Company::new();
    let foreign = other.token("dana", "dispatch", "1h");
    let (payload, signature) = good.rsplit_once('.').expect("three parts");
    let (header, claims) = payload.split_once('.').expect("three parts");
    let unsigned = format!("eyJhbGciOiJub25lIn0.{claims}.");
    let altered = format!("{header}.{}A.{signature}", &claims[..claims.len() - 1]);
    let huge = format!("{header}.{}.{signature}", "A".repeat(1 << 20));
    for (token, why) in [
        ("", "this relay lets in who has a token"),
        ("no token at all", "no JSON Web Token"),
        (foreign.as_str(), "signature of the token is not right"),
        (altered.as_str(), "is not right"),
        (unsigned.as_str(), "no JSON Web Token"),
        (huge.as_str(), "token"),
    ] {
        let ended = company.sync("dana.redb", token);
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stderr.contains(why), "{why}: {}", ended.stderr);
        assert_eq!(company.status("dana.redb")["waiting"], 1, "{why}");
        assert!(!company.log().contains("words-of-dana"), "{why}");
    }
    company.synced("dana.redb", &good);
    assert_eq!(company.status("dana.redb")["waiting"], 0);
    for secret in [good.as_str(), foreign.as_str(), signature] {
        assert!(!company.log().contains(secret), "a token is in the log");
    }
}

#[test]
fn a_relay_that_others_reach_wants_rules_and_a_certificate() {
    let company = Company::new();
    let listen = ["relay", "--data", "relay", "--listen", "0.0.0.0:0"];
    for more in [&[][..], &["--access", "access.toml"]] {
        let said = company.rejoin.refused(listen.iter().chain(more));
        assert!(said.contains("can be reached from other machines"), "{said}");
        assert!(said.contains("--tls-certificate") && said.contains("--open"), "{said}");
    }
    let said = company.rejoin.refused([&listen[..], &["--behind-proxy", "10.0.0.0/8"]].concat());
    assert!(said.contains("--host"), "{said}");
}

#[test]
fn a_certificate_is_replaced_while_somebody_is_connected() {
    let company = Company::open();
    let token = company.token("dana", "dispatch", "1h");
    company.synced("dana.redb", &token);
    let arguments = ["--replica", "tom.redb", "sync", &company.url, "--ca", "cert.pem"];
    let mut command = company.rejoin.command(arguments);
    let mut syncing = Running::start({
        command.env("REJOIN_TOKEN", &token);
        command
    });
    assert!(syncing.line().is_some());
    // Until the new one counts, who trusts only that one is not served.
    company.certify("localhost");
    until("the new certificate", || company.log().contains("certificate was read again"));
    company.set("dana.redb", "jobs", "1", "name=new");
    company.synced("dana.redb", &token);
    until("the edit at the open connection", || {
        company.rejoin.json(["--replica", "tom.redb", "list", "jobs"])[0]["key"] == "1"
    });
    assert!(syncing.lives());
    company.certify("another.example");
    until("the wrong certificate", || company.log().matches("was read again").count() == 2);
    let ended = company.sync("dana.redb", &token);
    assert!(ended.stderr.contains("not trusted"), "{ended:?}");
}

#[test]
fn no_certificate_that_is_not_right_is_trusted() {
    let mut company = Company::new();
    let token = company.token("dana", "dispatch", "1h");
    company.set("dana.redb", "jobs", "1", "name=of Dana");
    company.certify("other.example");
    company.start("127.0.0.1:0");
    let ended = company.sync("dana.redb", &token);
    assert!(ended.code == 1 && ended.stderr.contains("not trusted"), "{ended:?}");
    let mut expired =
        rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a certificate");
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let made = expired.self_signed(&key).expect("a certificate");
    company.write("cert.pem", &made.pem());
    company.write("cert-key.pem", &key.serialize_pem());
    company.start("127.0.0.1:0");
    let ended = company.sync("dana.redb", &token);
    assert!(ended.code == 1 && ended.stderr.contains("not trusted"), "{ended:?}");
    assert_eq!(company.status("dana.redb")["waiting"], 1);
    // The token went to neither.
    assert!(!company.log().contains("user="), "{}", company.log());
    company.certify("localhost");
    company.start("127.0.0.1:0");
    company.synced("dana.redb", &token);
}

#[test]
fn only_tls_of_today_is_spoken_where_there_is_a_certificate() {
    let company = Company::open();
    let address = company.url.trim_start_matches("wss://").replace("localhost", "127.0.0.1");
    let speaks = |version: &str| {
        let mut openssl = std::process::Command::new("openssl");
        openssl.args(["s_client", "-connect", &address, version]);
        // What the system would not even ask for is asked for.
        openssl.args(["-cipher", "DEFAULT@SECLEVEL=0"]).stdin(Stdio::null());
        let output = openssl.output().expect("openssl, which `cargo xtask test` installs");
        output.status.success()
    };
    assert!(speaks("-tls1_3") && speaks("-tls1_2"));
    assert!(!speaks("-tls1_1") && !speaks("-tls1"));
    // Who speaks in the clear hears nothing of use, and holds up nobody.
    let mut plain = std::net::TcpStream::connect(&address).expect("the relay listens");
    plain.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
    plain.write_all(b"GET /sync HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is sent");
    let mut answer = Vec::new();
    // The relay closes, with or without a reset.
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    let replica = ["--replica", "dana.redb", "sync"];
    let url = format!("ws://{address}");
    let ended = company.rejoin.run([&replica[..], &[&url, "--once", "--timeout", "2s"]].concat());
    assert_eq!(ended.code, 1, "{ended:?}");
    company.synced("dana.redb", &company.token("dana", "dispatch", "1h"));
}

#[test]
fn an_open_session_goes_on_with_the_next_token() {
    let company = Company::open();
    let first = company.token("dana", "dispatch", "2s");
    company.write("token", &first);
    let arguments = ["--replica", "dana.redb", "sync", &company.url, "--ca", "cert.pem"];
    let command = company.rejoin.command(arguments.into_iter().chain(["--token-file", "token"]));
    let mut syncing = Running::start(command);
    assert!(syncing.line().is_some());
    company.write("token", &company.token("dana", "dispatch", "1h"));
    until("the next token", || company.log().contains("token renewed"));
    // The first token counts no more, and the session does not end with it.
    let inspected = company.rejoin.json(["token", "inspect", &first]);
    let id = inspected["claims"]["jti"].as_str().expect("an id");
    company.rejoin.ok(["admin", "--data", "relay", "revoke", "--token", id]);
    company.set("dana.redb", "jobs", "1", "name=kept");
    let other = company.token("tom", "technician", "1h");
    until("the edit", || {
        company.synced("tom.redb", &other);
        company.keys("tom.redb", "jobs") == ["1"]
    });
    let ended = company.log();
    let ended = ended.lines().filter(|line| line.contains("session ended"));
    assert_eq!(ended.filter(|line| line.contains("user=\"dana\"")).count(), 0);
    assert!(syncing.lives());
}

#[test]
fn who_is_shut_out_is_gone_at_once_and_keeps_what_waits() {
    let company = Company::open();
    let token = company.token("tom", "technician", "1h");
    let arguments = ["--replica", "tom.redb", "sync", &company.url, "--ca", "cert.pem"];
    let mut command = company.rejoin.command(arguments);
    command.env("REJOIN_TOKEN", &token).stderr(Stdio::null());
    let mut syncing = Running::start(command);
    until("a session", || {
        company.rejoin.json(["admin", "--data", "relay", "connections"])["connections"][0]["user"]
            == "tom"
    });
    company.rejoin.ok(["admin", "--data", "relay", "revoke", "--user", "tom"]);
    let told = std::iter::from_fn(|| syncing.line()).find(|line| line.contains("signed out"));
    assert!(told.expect("the status").contains("revoked"));
    company.set("tom.redb", "jobs", "1", "name=of Tom");
    drop(syncing);
    let listed = company.rejoin.ok(["admin", "--data", "relay", "revoked"]);
    assert!(listed.contains("tom"), "{listed}");
    // It is remembered across a restart of the relay.
    let mut company = company;
    company.start("127.0.0.1:0");
    let ended = company.sync("tom.redb", &token);
    assert!(ended.code == 1 && ended.stderr.contains("revoked"), "{ended:?}");
    assert_eq!(company.status("tom.redb")["waiting"], 1);
    // Let in again, he brings what waited.
    company.rejoin.ok(["admin", "--data", "relay", "revoke", "--user", "tom", "--lift"]);
    company.synced("tom.redb", &token);
    // One of his devices is lost; the other goes on.
    company.set("lost.redb", "jobs", "9", "name=of a thief");
    company.synced("lost.redb", &token);
    let devices = company.rejoin.json(["admin", "--data", "relay", "devices"]);
    let lost = devices["devices"][0]["device"].as_str().expect("the last that was here");
    company.rejoin.ok(["admin", "--data", "relay", "revoke", "--device", &lost[..8]]);
    assert_eq!(company.sync("lost.redb", &token).code, 1);
    company.synced("tom.redb", &token);
    let inspected = company.rejoin.json(["token", "inspect", &token]);
    let id = inspected["claims"]["jti"].as_str().expect("an id");
    company.rejoin.ok(["admin", "--data", "relay", "revoke", "--token", id]);
    assert_eq!(company.sync("tom.redb", &token).code, 1);
    company.synced("tom.redb", &company.token("tom", "technician", "1h"));
}

#[test]
fn nobody_writes_under_the_name_or_role_of_another() {
    let company = Company::open();
    let (dana, tom) =
        (company.token("dana", "dispatch", "1h"), company.token("tom", "technician", "1h"));
    company.set("tom.redb", "jobs", "1", "name=of Tom");
    company.synced("tom.redb", &tom);
    // Tom edits as Tom once he is signed in, and as nobody else.
    let forge =
        ["--replica", "tom.redb", "--as", "dana:dispatch", "set", "jobs", "1", "name=forged"];
    let forged = company.rejoin.run(forge);
    assert!(forged.stderr.contains("tom is signed in on this device"), "{forged:?}");
    assert_eq!(company.status("tom.redb")["waiting"], 0);
    // An edit in the name of Dana from before does not come in with his token; it waits and is not lost.
    company.rejoin.ok([
        "--replica",
        "eve.redb",
        "--as",
        "dana:dispatch",
        "set",
        "jobs",
        "1",
        "a=b",
    ]);
    let ended = company.sync("eve.redb", &tom);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("waits for dana to sign in here"), "{ended:?}");
    assert!(!company.log().contains("is not taken from"), "it was not even sent");
    company.synced("dana.redb", &dana);
    let job = company.rejoin.json(["--replica", "dana.redb", "get", "jobs", "1"]);
    assert_eq!(job["value"]["name"], "of Tom");
    // A role that he has not is refused for good, and made anew by nobody.
    company.synced("ben.redb", &tom);
    let boast =
        ["--replica", "ben.redb", "--as", "tom:dispatch", "set", "jobs", "1", "name=boasted"];
    company.rejoin.ok(boast);
    let ended = company.sync("ben.redb", &tom);
    assert!(ended.stderr.contains("has not the role dispatch"), "{ended:?}");
    let own = ["--replica", "ben.redb", "--as", "tom:technician", "set", "jobs", "1", "name=own"];
    company.rejoin.ok(own);
    company.sync("ben.redb", &tom);
    company.synced("dana.redb", &dana);
    let job = company.rejoin.json(["--replica", "dana.redb", "get", "jobs", "1"]);
    assert_eq!(job["value"]["name"], "own");
}

#[test]
fn people_who_share_a_device_send_their_own_edits_only() {
    let company = Company::open();
    let (dana, tom) =
        (company.token("dana", "dispatch", "1h"), company.token("tom", "technician", "1h"));
    company.set("van.redb", "jobs", "1", "name=of nobody");
    company.synced("van.redb", &dana);
    company.set("van.redb", "jobs", "1", "name=of Dana");
    company.set("van.redb", "jobs", "2", "name=of Dana");
    assert_eq!(company.status("van.redb")["signed_in"], "dana");
    // She cannot leave without a word about what waits.
    let refused = company.rejoin.run(["--replica", "van.redb", "sign-out"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("2 edits of dana that no relay holds"), "{refused:?}");
    assert_eq!(company.status("van.redb")["signed_in"], "dana");
    // Tom signs in all the same. His edit of what she changed waits with hers, and his other one goes.
    let ended = company.sync("van.redb", &tom);
    assert!(ended.code == 1 && ended.stderr.contains("2 wait for dana"), "{ended:?}");
    company.set("van.redb", "jobs", "1", "name=of Tom");
    company.set("van.redb", "jobs", "3", "name=of Tom");
    company.sync("van.redb", &tom);
    let status = company.status("van.redb");
    assert_eq!((&status["waiting"], &status["waiting_for"]["dana"]), (&3.into(), &2.into()));
    let text = company.rejoin.ok(["--replica", "van.redb", "status"]);
    assert!(text.contains("of which 2 wait for dana to sign in here"), "{text}");
    let unsent = company.rejoin.ok(["--replica", "van.redb", "status", "--unsent"]);
    assert!(unsent.contains("(waits for dana)"), "{unsent}");
    company.synced("desk.redb", &dana);
    assert_eq!(company.keys("desk.redb", "jobs"), ["1", "3"]);
    // She comes back, and then he; nothing was lost, and each edit bears the right name.
    company.sync("van.redb", &dana);
    company.synced("van.redb", &tom);
    company.synced("desk.redb", &dana);
    let job = company.rejoin.json(["--replica", "desk.redb", "get", "jobs", "1"]);
    assert_eq!(job["value"]["name"], "of Tom");
    let history = company.rejoin.json(["--replica", "desk.redb", "history", "jobs", "2"]);
    assert!(history.to_string().contains("\"user\":\"dana\""), "{history}");
    // Who discards what waits can leave; it is set aside, and the document is as it was.
    company.set("van.redb", "jobs", "1", "name=of Tom again");
    company.rejoin.ok(["--replica", "van.redb", "sign-out", "--discard"]);
    let status = company.status("van.redb");
    assert_eq!((&status["signed_in"], &status["waiting"]), (&Value::Null, &0.into()));
    assert!(status["set_aside"].to_string().contains("tom discarded it"), "{status}");
    let job = company.rejoin.json(["--replica", "van.redb", "get", "jobs", "1"]);
    assert_eq!(job["value"]["name"], "of Tom");
    company.synced("van.redb", &dana);
}

#[test]
fn what_others_wrote_is_carried_after_a_restore_while_an_operator_lets_it() {
    let mut company = Company::open();
    let (dana, tom) =
        (company.token("dana", "dispatch", "1h"), company.token("tom", "technician", "1h"));
    company.set("dana.redb", "jobs", "1", "name=of Dana");
    company.synced("dana.redb", &dana);
    company.rejoin.ok(["backup", "--data", "relay", "backup"]);
    company.set("dana.redb", "jobs", "1", "name=of Dana later");
    company.synced("dana.redb", &dana);
    company.synced("tom.redb", &tom);
    // The disk dies, and Dana is away.
    company.relay = None;
    std::fs::remove_dir_all(company.folder.path().join("relay")).expect("the relay's folder");
    company.rejoin.ok(["backup", "restore", "backup", "--data", "relay"]);
    company.start("127.0.0.1:0");
    assert_eq!(company.sync("tom.redb", &tom).code, 1);
    let opened = company.rejoin.ok(["admin", "--data", "relay", "carried", "--open", "1h"]);
    assert!(opened.starts_with("changes are taken from others"), "{opened}");
    company.synced("tom.redb", &tom);
    let carried = company.rejoin.json(["admin", "--data", "relay", "carried"]);
    assert_eq!(carried["all"], 1, "{carried}");
    let change = &carried["changes"][0];
    assert_eq!((&change["author"], &change["carrier"]), (&"dana".into(), &"tom".into()));
    company.rejoin.ok(["admin", "--data", "relay", "carried", "--close"]);
    company.synced("desk.redb", &dana);
    let job = company.rejoin.json(["--replica", "desk.redb", "get", "jobs", "1"]);
    assert_eq!(job["value"]["name"], "of Dana later");
}

#[test]
fn rules_are_explained_and_doubted() {
    let company = Company::new();
    let explain =
        |arguments: &[&str]| company.rejoin.ok([&["access", "explain"], arguments].concat());
    let told = explain(&["tom", "jobs", "--role", "technician"]);
    assert!(told.contains("may read jobs, by line 13") && told.contains("may write to"), "{told}");
    let told = explain(&["tom", "wages", "--role", "technician"]);
    assert!(told.contains("may not read wages: no line allows it"), "{told}");
    assert!(company.rejoin.ok(["access", "check"]).contains("nothing is wrong"));
    company.write("access.toml", &RULES.replace("write =", "wirte ="));
    let said = company.rejoin.refused(["access", "check"]);
    assert!(said.contains("line 11") && said.contains("wirte"), "{said}");
    let said =
        company.rejoin.refused(["relay", "--data", "x", "--access", "access.toml", "--check"]);
    assert!(said.contains("wirte"), "{said}");
    let said = company.rejoin.refused(["token", "keygen"]);
    assert!(said.contains("is there one already?"), "{said}");
}
