//! What a desk asks all day: what waits to be sent, what was deleted and by whom, and the way back.

use rejoin_tests::processes::{Desk, RelayProcess};
use serde_json::{Value, json};

/// The row of the document with this key.
#[track_caller]
fn row<'a>(rows: &'a Value, key: &str) -> &'a Value {
    let mut rows = rows.as_array().expect("rows").iter();
    rows.find(|row| row["key"] == key).unwrap_or_else(|| panic!("{key} is not there"))
}

#[test]
fn what_waits_is_listed_until_a_relay_has_it() {
    let desk = Desk::new();
    let relay = RelayProcess::start(desk.folder.path().join("relay"));
    let sync = format!("sync {} --once", relay.url());
    for key in ["1", "2", "3", "4"] {
        desk.json(&format!("set jobs {key} status=booked phone=555"));
    }
    desk.json("delete jobs 3");
    desk.json(&sync);
    assert_eq!(desk.json("status --unsent"), json!([]));
    assert!(desk.text("status --unsent").contains("nothing waits"));

    desk.json("set jobs 1 status=done --as Timo:technician");
    desk.json("append jobs 1 notes hello --as Dora:dispatch");
    desk.json("delete jobs 2 --as Dora:dispatch");
    desk.json("restore jobs 3");
    desk.json("set customers 9 name=Ann");
    desk.json("set jobs 5 status=booked --space other");
    assert!(desk.text("status").contains("--unsent"));

    let unsent = desk.json("status --unsent");
    assert_eq!(unsent.as_array().map(Vec::len), Some(5), "{unsent}");
    // What was edited last comes first.
    assert_eq!((&unsent[0]["space"], &unsent[0]["key"]), (&json!("other"), &json!("5")));
    let edited = row(&unsent, "1");
    assert_eq!((&edited["collection"], &edited["edits"]), (&json!("jobs"), &json!(2)));
    assert_eq!(edited["fields"], json!(["notes", "status"]));
    assert_eq!((&edited["created"], &edited["deleted"]), (&json!(false), &json!(false)));
    let changes = edited["changes"].as_array().expect("changes");
    let by: Vec<_> = changes.iter().map(|it| (&it["author"]["user"], &it["fields"])).collect();
    let (status, notes) = (json!(["status"]), json!(["notes"]));
    assert_eq!(by, [(&json!("Timo"), &status), (&json!("Dora"), &notes)]);
    assert!(changes.iter().all(|change| change["time_s"].as_u64() > Some(0)), "{edited}");
    assert_eq!((&row(&unsent, "2")["deleted"]), &json!(true));
    assert_eq!((&row(&unsent, "9")["created"]), &json!(true));

    let table = desk.text("status --unsent");
    let line = |key: &str| {
        let found = table.lines().find(|line| line.split_whitespace().nth(1) == Some(key));
        found.unwrap_or_else(|| panic!("{key} is not in {table}"))
    };
    assert!(line("1").contains("notes, status") && line("1").contains("Dora (dispatch), T"));
    assert!(line("2").contains("deleted") && line("2").ends_with("Dora (dispatch)"), "{table}");
    assert!(line("3").contains("restored") && line("9").contains("created"), "{table}");
    assert!(line("5").starts_with("other/jobs"), "{table}");
    assert!(table.contains("6 edits of 5 documents"), "{table}");

    desk.json(&sync);
    assert_eq!(desk.json("status --unsent"), json!([]));
}

#[test]
fn of_much_that_waits_people_see_the_last_and_programs_all() {
    let desk = Desk::new();
    let csv: String = (0..80).map(|row| format!("{row:03},a job\n")).collect();
    let import = "--replica a.redb import - --collection jobs --key id".split(' ');
    let ended = desk.rejoin.run_with_input(import, format!("id,task\n{csv}").as_bytes());
    assert_eq!(ended.code, 0, "{ended:?}");
    let table = desk.text("status --unsent");
    assert!(table.contains("... and 30 more; --json lists them all"), "{table}");
    assert!(table.contains("80 edits of 80 documents to send"), "{table}");
    assert_eq!(table.lines().count(), 1 + 50 + 2, "{table}");
    assert_eq!(desk.json("status --unsent").as_array().map(Vec::len), Some(80));
}

#[test]
fn deleted_documents_are_listed_and_come_back() {
    let desk = Desk::new();
    desk.json("set jobs 1 status=booked phone=555");
    desk.json("set jobs 2 status=done phone=556");
    desk.json("set jobs 3 status=booked phone=557");
    assert_eq!(desk.json("list jobs --deleted"), json!([]));
    assert!(desk.text("list jobs --deleted").contains("no deleted documents"));
    desk.json("delete jobs 1 --as Dora:dispatch");
    desk.json("delete jobs 2");

    let deleted = desk.json("list jobs --deleted");
    assert_eq!(deleted.as_array().map(Vec::len), Some(2), "{deleted}");
    assert_eq!(deleted[0]["value"]["phone"], "555");
    assert_eq!(deleted[0]["deleted"]["author"]["role"], "dispatch");
    assert!(deleted[0]["deleted"]["time_s"].as_u64() > Some(0), "{deleted}");
    assert_eq!(deleted[1]["deleted"]["author"], Value::Null);
    let done = desk.json("list jobs --deleted --where status=done");
    assert_eq!((done.as_array().map(Vec::len), &done[0]["key"]), (Some(1), &json!("2")));
    let table = desk.text("list jobs --deleted --fields phone");
    let first = table.lines().nth(1).expect("a row");
    assert!(first.starts_with("1 ") && first.contains("Dora (dispatch)"), "{table}");
    assert!(first.ends_with("555") && table.contains("2 deleted documents"), "{table}");

    let gone = desk.refused("get jobs 1");
    assert!(gone.contains("rejoin restore"), "{gone}");
    let restored = desk.json("restore jobs 1 --as Timo:technician");
    assert_eq!((&restored["changed"], &restored["created"]), (&json!(true), &json!(false)));
    let value = json!({ "status": "booked", "phone": "555" });
    assert_eq!(desk.json("get jobs 1")["value"], value);
    assert_eq!(desk.json("list jobs --deleted")[0]["key"], "2");
    assert_eq!(desk.json("list jobs").as_array().map(Vec::len), Some(2));
    let history = desk.json("history jobs 1 --last 1");
    assert_eq!(history[0]["author"]["user"], "Timo");
    assert_eq!(history[0]["fields"], json!(["deleted"]));
    // Deleted again, it is whoever did it last.
    desk.json("delete jobs 1 --as Cy");
    assert_eq!(desk.json("list jobs --deleted")[0]["deleted"]["author"]["user"], "Cy");
}

#[test]
fn what_is_not_deleted_is_not_brought_back() {
    let desk = Desk::new();
    desk.json("set jobs 1 status=booked");
    let said = desk.refused("restore jobs 1");
    assert!(said.contains("is not deleted") && said.contains("rejoin get jobs 1"), "{said}");
    let said = desk.refused("restore jobs 2");
    assert!(said.contains("there is no document") && said.contains("--deleted"), "{said}");
    let said = desk.refused("restore nothing 1");
    assert!(said.contains("there is no collection"), "{said}");
    assert_eq!(desk.json("status")["waiting"], 1);
}

#[test]
fn a_deletion_that_somebody_wrote_into_is_for_a_person() {
    let desk = Desk::new();
    let relay = RelayProcess::start(desk.folder.path().join("relay"));
    let sync = |replica: &str| {
        desk.rejoin.ok(["--replica", replica, "sync", &relay.url(), "--once"]);
    };
    desk.json("set jobs 1 status=booked");
    sync("a.redb");
    sync("b.redb");
    desk.json("delete jobs 1");
    desk.rejoin.ok("--replica b.redb set jobs 1 status=done".split(' '));
    for replica in ["a.redb", "b.redb", "a.redb"] {
        sync(replica);
    }
    let review = desk.json("reviews")[0]["id"].as_str().expect("a review").to_owned();
    let said = desk.refused("restore jobs 1");
    assert!(said.contains("not agreed") && said.contains(&review[..8]), "{said}");
}

#[test]
fn a_field_that_counts_begins_as_a_counter_and_words_are_refused() {
    let desk = Desk::new();
    desk.write("schema.toml", "[jobs.fields]\nused = { merge = \"counter\" }\n");
    desk.text("schema apply schema.toml");
    desk.text("set jobs 1 used:=2");
    desk.text("set jobs 2 phone=1");
    desk.text("set jobs 2 used:=0");
    for (key, count) in [("1", 5), ("2", 3)] {
        desk.text(&format!("add jobs {key} used 3"));
        assert_eq!(desk.json(&format!("get jobs {key}"))["value"]["used"], count);
    }
    let why = desk.refused("set jobs 2 used=4");
    assert!(why.contains("`used:=NUMBER`") && why.contains("rejoin add"), "{why}");
}

#[test]
fn who_sets_a_field_of_a_deleted_document_is_told_that_it_is_back() {
    let desk = Desk::new();
    desk.text("set jobs 1 phone=1");
    desk.text("delete jobs 1");
    let told = desk.text("set jobs 1 phone=2");
    assert!(told.starts_with("jobs 1: brought back, and set;"), "{told}");
}

#[test]
fn a_bundle_for_who_helps_has_no_contents_no_keys_and_no_people() {
    let desk = Desk::new();
    let relay = RelayProcess::start(desk.folder.path().join("relay"));
    desk.text("whoami --user CANARY-user --device CANARY-device");
    desk.text("set jobs CANARY-key status=CANARY-value");
    desk.text(&format!("sync {} --once", relay.url()));
    desk.text("set jobs CANARY-other CANARY-field=2");
    desk.text("doctor --bundle bundle.json");
    let text = std::fs::read_to_string(desk.folder.path().join("bundle.json")).expect("a file");
    assert!(!text.contains("CANARY"), "{text}");
    let bundle: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(bundle["waiting"], 1, "{text}");
    assert_eq!(bundle["spaces"][0]["collections"]["jobs"], 2);
    assert_eq!(bundle["spaces"][0]["relays"][0]["position"], 2);
    assert_eq!(bundle["findings"].as_array().map(Vec::len), Some(0));
    let said = desk.refused("doctor --bundle nowhere/bundle.json");
    assert!(said.contains("cannot be written"), "{said}");
}
