//! The first minutes with adapters at the command line: a file to begin with, and all that is wrong in it.

use rejoin_tests::processes::{Rejoin, RelayProcess, Running};
use serde_json::{Value, json};

const HEAD: &str = "[replica]\ndata = 'd'\nrelay = 'ws://127.0.0.1:1'\nspace = 'main'\n";

fn in_folder() -> (tempfile::TempDir, Rejoin) {
    let folder = tempfile::tempdir().expect("a folder");
    let rejoin = Rejoin::in_dir(folder.path());
    (folder, rejoin)
}

/// What `lint` says, errors and warnings.
fn lint(folder: &tempfile::TempDir, rejoin: &Rejoin, text: &str) -> (i32, Vec<String>) {
    std::fs::write(folder.path().join("adapters.toml"), text).expect("a file");
    let ended = rejoin.run(["--json", "adapters", "lint"]);
    let said: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let said = said["findings"].as_array().expect("a list").iter();
    (ended.code, said.map(|it| it["message"].as_str().expect("text").to_owned()).collect())
}

#[test]
fn a_section_of_every_kind_is_sound_and_knows_what_the_replica_holds() {
    let (folder, rejoin) = in_folder();
    let desk = |arguments: &[&str]| rejoin.ok([&["--replica", "desk.redb"], arguments].concat());
    desk(&["set", "visits", "V-1", "status=open", "Job type=boiler", "starts=2026-05-04T09:00"]);
    desk(&["set", "visits", "V-2", "tags:=[\"a\"]"]);
    desk(&["set", "parts", "P-1", "count:=3"]);
    std::fs::write(folder.path().join("s.toml"), "[visits.fields]\nstarts = { type = \"time\" }\n")
        .expect("a file");
    desk(&["schema", "apply", "s.toml", "--yes"]);
    let kinds = [
        "postgres",
        "webhook",
        "nats",
        "amqp",
        "icalendar",
        "server_sent_events",
        "jsonl",
        "jsonl",
    ];
    for kind in kinds {
        desk(&["adapters", "init", kind]);
    }
    let text = std::fs::read_to_string(folder.path().join("adapters.toml")).expect("the file");
    for line in [
        "[adapter.jsonl-2]",
        "collection = \"visits\"",
        "\"Job type\" = { from = \"Job type\" }",
        "starts = { from = \"starts\", type = \"time\" }",
        "tags = { from = \"tags\", type = \"json\" }",
        "# deleted_column = \"deleted_at\"",
    ] {
        assert!(text.contains(line), "{line} is missing in {text}");
    }
    let linted = desk(&["adapters", "lint"]);
    assert!(linted.contains("8 adapters"), "{linted}");
    let again =
        rejoin.refused(["--replica", "desk.redb", "adapters", "init", "nats", "--name", "nats"]);
    assert!(again.contains("another --name"), "{again}");
    assert!(
        rejoin.refused(["adapters", "init", "paper"]).contains("postgres"),
        "the kinds are told"
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let (folder, rejoin) = in_folder();
    let record = |name: &str| {
        format!(
            "[[adapter.{name}.record]]\nname = 'jobs'\nkey = '{{key}}'\nfields = {{ a = {{ from = 'a' }} }}\n"
        )
    };
    let adapter = |name: &str, options: &str| {
        format!("[adapter.{name}]\ncollection = 'jobs'\n{options}\n{}", record(name))
    };
    let jsonl = "sink = { kind = 'jsonl', folder = 'o' }";
    let file = [
        HEAD.to_owned(),
        adapter("a", &format!("concurency = 3\nmoed = 'event'\n{jsonl}")),
        adapter("b", &format!("class = 'later'\nevery = '0s'\n{jsonl}")),
        adapter("c", &format!("class = 'later'\ncron = '0 0 30 2 *'\n{jsonl}")),
        adapter("d", "sink = { kind = 'nats', url = 'nats://h:1', subject = 'x.{row}' }"),
        adapter(
            "e",
            "sink = { kind = 'webhook', url = 'ftp://h/', secrets = ['env:X'], timeout_s = 20 }",
        ),
        adapter("f", "sink = { kind = 'jsonl', foldr = 'o' }"),
        adapter("g", &format!("late_after = '0s'\n{jsonl}")),
        adapter("h", "sink = { kind = 'kafka', brokers = 3 }"),
        adapter("i", "mode = 'sideways'\nsink = { kind = 'jsonl', folder = 'o' }"),
        adapter("j", "sink = { kind = 'postgres', url = 'postgresql://a@h/x', timeout_s = 90000 }"),
    ];
    let (code, said) = lint(&folder, &rejoin, &file.concat());
    assert_eq!(code, 1);
    for wanted in [
        "no option `concurency`; did you mean \"concurrency\"?",
        "no option `moed`; did you mean \"mode\"?",
        "every is at least 1 s",
        "never comes",
        "\"x.{row}\" has a place that nothing is known for",
        "no web address",
        "no option `foldr`; did you mean \"folder\"?",
        "late_after is no time at all",
        "sideways",
        "timeout_s is from 1 to 600",
    ] {
        assert!(said.iter().any(|it| it.contains(wanted)), "{wanted} is missing in {said:#?}");
    }
}

#[test]
fn fields_and_addresses_that_nothing_bears_out_are_told_with_the_nearest() {
    let (folder, rejoin) = in_folder();
    std::fs::create_dir(folder.path().join("d")).expect("a folder");
    rejoin.ok(["--replica", "d/replica.redb", "set", "jobs", "W-1", "status=open", "phone=1"]);
    let adapter = |collection: &str| {
        format!(
            "[adapter.a]\ncollection = '{collection}'\nsink = {{ kind = 'jsonl', folder = 'o' }}\n\
             [[adapter.a.record]]\nname = 'jobs'\nkey = '{{key}}'\n\
             fields = {{ status = {{ from = 'statsu' }}, phone = {{ from = 'phone' }} }}\n"
        )
    };
    let said = |text: &str| {
        let (code, said) = lint(&folder, &rejoin, text);
        assert_eq!(code, 0, "{said:?}");
        said.join("\n")
    };
    let fields = said(&format!("{HEAD}{}", adapter("jobs")));
    assert!(fields.contains("has statsu; did you mean \"status\"?"), "{fields}");
    assert!(!fields.contains("phone"), "{fields}");
    let collection = said(&format!("{HEAD}{}", adapter("jbos")));
    assert!(
        collection.contains("no document of jbos here; did you mean \"jobs\"?"),
        "{collection}"
    );
    let away = HEAD.replace("127.0.0.1:1", "relay.example:4455");
    let away = away.replace("space", "metrics = '0.0.0.0:9464'\nspace");
    let addresses = said(&format!("{away}{}", adapter("jobs")));
    assert!(addresses.contains("write wss://relay.example for TLS"), "{addresses}");
    assert!(addresses.contains("127.0.0.1:9464 is for this machine"), "{addresses}");
    let (code, tls) =
        lint(&folder, &rejoin, &format!("{}{}", HEAD.replace("ws:", "wss:"), adapter("jobs")));
    assert!(!tls.iter().any(|line| line.contains("TLS")), "{code} {tls:?}");
}

#[test]
fn what_one_adapter_lacks_stops_that_one_alone() {
    let (folder, rejoin) = in_folder();
    let relay = RelayProcess::start(folder.path().join("relay"));
    let write = |with_good: bool| {
        let record = |name: &str| {
            format!(
                "[[adapter.{name}.record]]\nname = 'jobs'\nkey = '{{key}}'\nfields = {{ a = {{ from = 'a' }} }}\n"
            )
        };
        let bad = format!(
            "[adapter.bad]\ncollection = 'jobs'\n\
             sink = {{ kind = 'webhook', url = 'http://127.0.0.1:9/', secrets = ['env:NO_SUCH_SECRET'] }}\n{}",
            record("bad")
        );
        let good = format!(
            "[adapter.good]\ncollection = 'jobs'\nsink = {{ kind = 'jsonl', folder = 'out' }}\n{}",
            record("good")
        );
        let head = HEAD.replace("ws://127.0.0.1:1", &relay.url());
        let good = if with_good { good } else { String::new() };
        std::fs::write(folder.path().join("adapters.toml"), format!("{head}{bad}{good}"))
            .expect("a file");
    };
    write(true);
    let mut running = Running::start(rejoin.command(["adapters", "run"]));
    let said = running.line().expect("it says that it runs");
    assert!(said.contains("good") && !said.contains("bad"), "{said}");
    rejoin.ok(["--replica", "desk.redb", "set", "jobs", "W-1", "a=1"]);
    rejoin.ok(["--replica", "desk.redb", "sync", &relay.url(), "--once"]);
    let began = std::time::Instant::now();
    let of = |name: &str| -> Value {
        let status = rejoin.json(["adapters", "status"]);
        let mut all = status.as_array().expect("a list").iter();
        all.find(|it| it["adapter"] == name).expect("the adapter").clone()
    };
    while of("good")["taken"] != json!(1) {
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "{}", of("good"));
    }
    let bad = of("bad");
    assert_eq!(bad["state"], "stopped");
    assert!(bad["stopped"].as_str().is_some_and(|why| why.contains("env:NO_SUCH_SECRET")), "{bad}");
    let status = rejoin.ok(["adapters", "status"]);
    assert!(status.contains("bad is stopped") && !status.contains("has everything"), "{status}");
    assert!(rejoin.refused(["adapters", "pause", "bad"]).contains("NO_SUCH_SECRET"));
    let checked = rejoin.run(["adapters", "check"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    assert!(
        checked.stdout.contains("wrong bad: there is no secret at env:NO_SUCH_SECRET"),
        "{checked:?}"
    );
    assert!(checked.stdout.contains("fine  good: out can be written to"), "{checked:?}");
    assert!(rejoin.ok(["adapters", "lint"]).contains("NO_SUCH_SECRET"));
    running.terminate();
    write(false);
    let none = rejoin.run(["adapters", "run"]);
    assert!(none.code != 0 && none.stderr.contains("NO_SUCH_SECRET"), "{none:?}");
}
