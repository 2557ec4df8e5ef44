//! Every command speaks JSON to programs.

use rejoin_tests::processes::{Desk, RelayProcess, Running};
use serde_json::{Value, json};

#[track_caller]
fn next(running: &mut Running) -> Value {
    let line = running.line().expect("a further line");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
}

#[test]
fn edits_and_looks_are_one_document_each() {
    let desk = Desk::new();
    let set = desk.json("set jobs 1 status=booked visit.floor:=3");
    assert_eq!((&set["created"], &set["waiting"]), (&json!(true), &json!(1)));
    assert_eq!(desk.json("set jobs 1 status=booked")["changed"], false);
    assert_eq!(desk.json("append jobs 1 notes hello")["changed"], true);
    assert_eq!(desk.json("add jobs 1 parts -2")["waiting"], 3);
    let value =
        json!({ "status": "booked", "visit": { "floor": 3 }, "notes": "hello", "parts": -2 });
    assert_eq!(desk.json("get jobs 1")["value"], value);
    let listed = desk.json("list jobs --where visit.floor=3 --where status=booked");
    assert_eq!(listed[0]["value"], value);
    assert_eq!(desk.json("list jobs --where visit.floor=4"), json!([]));
    assert_eq!(desk.json("export jobs"), listed);
    let status = desk.json("status");
    assert_eq!(
        (&status["link"], &status["collections"]),
        (&json!("offline"), &json!({ "jobs": 1 }))
    );
    assert_eq!(desk.json("digest")["space"], "main");
    let doctor = desk.json("doctor");
    assert_eq!((&doctor["sound"], &doctor["documents"]), (&json!(true), &json!(1)));
    assert_eq!(desk.json("doctor --repair")["findings"], json!([]));
}

#[test]
fn a_deleted_document_leaves_lists_and_comes_back() {
    let desk = Desk::new();
    desk.json("set jobs 1 status=booked");
    desk.json("set jobs 2 status=booked");
    assert_eq!(desk.json("delete jobs 1")["changed"], true);
    assert_eq!(desk.json("list jobs").as_array().map(Vec::len), Some(1));
    let gone = desk.rejoin.refused("--replica a.redb get jobs 1".split(' '));
    assert!(gone.contains("jobs \"1\" is deleted"), "{gone}");
    desk.json("set jobs 1 note=again");
    let value = json!({ "status": "booked", "note": "again" });
    assert_eq!(desk.json("get jobs 1")["value"], value);
}

#[test]
fn fields_are_removed_by_setting_nothing() {
    let desk = Desk::new();
    desk.json("set jobs 1 status=booked phone=555 tags:=[\"a\"]");
    desk.json("set jobs 1 phone= tags:=[] status:=\"\"");
    assert_eq!(desk.json("get jobs 1")["value"], json!({ "status": "", "tags": [] }));
}

#[test]
fn a_set_is_all_or_nothing() {
    let desk = Desk::new();
    desk.json("set jobs 1 status=booked");
    for line in ["set jobs 1 status=done parts[0]=x", "set jobs 2 status=done parts[0]=x"] {
        desk.rejoin.refused(["--replica", "a.redb"].into_iter().chain(line.split(' ')));
    }
    desk.json("delete jobs 1");
    desk.rejoin.refused("--replica a.redb set jobs 1 parts[0]=x".split(' '));
    assert_eq!(desk.json("list jobs"), json!([]));
}

#[test]
fn history_shows_every_change_and_the_value_at_each() {
    let desk = Desk::new();
    desk.json("set jobs 1 status=booked");
    desk.json("set jobs 1 status=done");
    let history = desk.json("history jobs 1");
    let kinds: Vec<_> = history.as_array().expect("changes").iter().map(|it| &it["kind"]).collect();
    assert_eq!(kinds, ["genesis", "edit", "edit"]);
    let hash = history[1]["hash"].as_str().expect("a hash");
    let then = desk.json(&format!("history jobs 1 --at {}", &hash[..10]));
    assert_eq!(then, json!({ "at": hash, "value": { "status": "booked" } }));
    assert_eq!(desk.json("history jobs 1 --last 1"), json!([history[2]]));
}

#[test]
fn streams_are_a_document_a_line() {
    let desk = Desk::new();
    let relay = RelayProcess::start(desk.folder.path().join("relay"));
    let url = relay.url();
    let watch = format!("--replica b.redb watch jobs --json --connect {url}");
    let mut watching = Running::start(desk.rejoin.command(watch.split(' ')));
    assert_eq!(next(&mut watching)["event"], "watching");
    desk.json("set jobs 1 status=booked");
    let synced = desk.json(&format!("sync {url} --once"));
    assert_eq!((&synced["link"], &synced["documents"]), (&json!("safe"), &json!(1)));
    let change = std::iter::repeat_with(|| next(&mut watching))
        .find(|event| event["event"] == "changed")
        .expect("a change");
    assert_eq!((&change["key"], &change["fields"]), (&json!("1"), &json!(["status"])));
    assert_eq!(
        (&change["remote"], &change["value"]),
        (&json!(true), &json!({ "status": "booked" }))
    );

    let sync = format!("--replica a.redb sync {url} --json");
    let mut syncing = Running::start(desk.rejoin.command(sync.split(' ')));
    let safe = std::iter::repeat_with(|| next(&mut syncing)).find(|it| it["link"] == "safe");
    assert!(safe.is_some());
}

#[test]
#[cfg(unix)]
fn a_relay_says_where_it_listens_and_ends_when_asked() {
    let desk = Desk::new();
    let line = "relay --listen 127.0.0.1:0 --data relay --json".split(' ');
    let mut relay = Running::start(desk.rejoin.command(line));
    let listening = next(&mut relay);
    assert_eq!(listening["event"], "listening");
    let url = listening["url"].as_str().expect("an address");
    assert!(url.starts_with("ws://127.0.0.1:") && url.ends_with("/sync"), "{url}");
    assert_eq!(listening["automerge"], url.replace("/sync", "/automerge"));
    desk.json("set jobs 1 status=booked");
    desk.json(&format!("sync {url} --once"));
    assert_eq!(relay.terminate(), Some(0));
}

#[test]
fn errors_are_documents_too() {
    let desk = Desk::new();
    for (line, code) in [("--replica new.redb list jobs --json", 1), ("set jobs --json", 2)] {
        let ended = desk.rejoin.run(line.split(' '));
        assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{line}");
        let error: Value = serde_json::from_str(&ended.stderr).expect(&ended.stderr);
        assert!(error["error"].is_string() && error["causes"].is_array(), "{error}");
    }
}

#[test]
fn nobody_minds_a_reader_that_has_seen_enough() {
    let desk = Desk::new();
    let csv: String = (0..5000).map(|row| format!("{row},a job\n")).collect();
    let import = "--replica a.redb import - --collection jobs --key id".split(' ');
    let ended = desk.rejoin.run_with_input(import, format!("id,task\n{csv}").as_bytes());
    assert_eq!(ended.code, 0, "{ended:?}");
    let export = "--replica a.redb export jobs".split(' ');
    let mut running = Running::start(desk.rejoin.command(export));
    assert_eq!(running.line().as_deref(), Some("["));
    assert_eq!(running.stop_reading(), Some(0));
}
