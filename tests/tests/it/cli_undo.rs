//! `rejoin undo`, `redo` and `restore --at`, as a person types them.

use rejoin_tests::processes::Desk;
use serde_json::json;

#[test]
fn the_last_edit_is_taken_back_and_made_again_and_said_before() {
    let desk = Desk::new();
    desk.text("set jobs 1 status=booked phone=1");
    desk.text("set jobs 1 status=done");
    desk.text("append jobs 1 notes Gate");

    let planned = desk.text("undo --dry-run");
    assert!(planned.starts_with("would be undone: 1 edit made "), "{planned}");
    assert!(planned.contains("  jobs 1\n    notes: Gate → (empty)"), "{planned}");
    assert_eq!(desk.json("get jobs 1")["value"]["notes"], "Gate", "nothing was done");

    let undone = desk.text("undo");
    assert!(undone.starts_with("undo: 1 edit made "), "{undone}");
    assert!(undone.ends_with("undone; on this device, 4 edits to send to a relay\n"), "{undone}");
    let undone = desk.json("undo");
    let fields = json!([{ "field": "status", "before": "done", "after": "booked" }]);
    assert_eq!(undone["documents"][0]["fields"], fields);
    assert_eq!(desk.json("get jobs 1")["value"]["status"], "booked");

    let redone = desk.text("redo");
    assert!(redone.contains("    status: booked → done\n"), "{redone}");
    let history = desk.text("history jobs 1");
    assert_eq!(history.matches(" undo ").count(), 2, "{history}");
    assert_eq!(history.matches(" redo ").count(), 1, "{history}");

    desk.text("set jobs 1 phone=2");
    let nothing = desk.refused("redo");
    assert!(nothing.contains("there is nothing to redo"), "{nothing}");
    for _ in 0..3 {
        desk.text("undo");
    }
    assert_eq!(desk.json("list jobs"), json!([]), "the document is as if it was never made");
    let nothing = desk.refused("undo");
    assert!(nothing.contains("there is nothing to undo"), "{nothing}");
}

#[test]
fn an_import_is_one_batch_that_is_asked_about() {
    let desk = Desk::new();
    desk.text("set jobs own phone=1");
    let rows: String = (0..1200).map(|row| format!("{row},555-{row}\n")).collect();
    desk.write("jobs.csv", &format!("id,phone\n{rows}"));
    desk.text("import jobs.csv --collection jobs --key id");
    let asked = desk.refused("undo");
    assert!(asked.contains("a batch of 1200 edits"), "{asked}");
    assert!(asked.contains("rejoin undo --batch"), "{asked}");
    assert_eq!(desk.json("list jobs").as_array().unwrap().len(), 1201);
    let undone = desk.text("undo --batch");
    assert!(undone.contains("1180 documents more"), "{undone}");
    assert_eq!(desk.json("list jobs").as_array().unwrap().len(), 1);
    desk.text("redo --batch");
    assert_eq!(desk.json("list jobs").as_array().unwrap().len(), 1201);
}

#[test]
fn a_document_gets_the_value_it_had_at_a_change() {
    let desk = Desk::new();
    desk.text("set jobs 1 status=booked");
    desk.text("set jobs 1 status=done phone=1");
    desk.text("delete jobs 1");
    let history = desk.json("history jobs 1");
    let first = history[1]["hash"].as_str().unwrap();
    desk.text(&format!("restore jobs 1 --at {}", &first[..8]));
    assert_eq!(desk.json("get jobs 1")["value"], json!({ "status": "booked" }));
    let refused = desk.refused("restore jobs 1 --at ffffffff");
    assert!(refused.contains("no change of this document begins with"), "{refused}");
}

#[test]
fn a_step_that_cannot_be_taken_back_is_passed_over() {
    let desk = Desk::new();
    desk.text("set jobs 1 phone=1");
    desk.text("set jobs 2 phone=1");
    desk.text("--as Bo set jobs 2 status=done");
    let stays = desk.refused("undo --dry-run");
    assert!(stays.contains("Bo has written there since"), "{stays}");
    let stays = desk.refused("undo");
    assert!(stays.contains("the next undo is of the edit before"), "{stays}");
    assert!(desk.text("undo").contains("jobs 1: is deleted"));
}

#[test]
fn a_file_that_was_taken_back_can_be_imported_again() {
    let desk = Desk::new();
    desk.write("jobs.csv", "id,phone\na,1\n");
    desk.text("import jobs.csv --collection jobs --key id");
    desk.write("jobs.csv", "id,phone\na,2\n");
    for _ in 0..2 {
        desk.text("import jobs.csv --collection jobs --key id");
        assert_eq!(desk.json("get jobs a")["value"]["phone"], "2");
        desk.text("undo");
        assert_eq!(desk.json("get jobs a")["value"]["phone"], "1");
    }
}
