//! Plain values that become texts: by one change that every device makes alike, so that nobody's words
//! are there twice or out of sight.

use rejoin::value::WriteError;
use rejoin::{CollectionName, DocumentId, EditError, Op, SpaceName};
use rejoin_core::Genesis;
use rejoin_core::change::{Conversion, ObjectId};
use rejoin_core::schema::{Rule, Schema};
use rejoin_core::wire::{Changes, Frame};
use rejoin_engine::store::ReviewKind;
use rejoin_engine::{Content, Edit, EngineOptions, Target};
use rejoin_tests::meeting::Meeting;
use rejoin_tests::processes::Desk;
use serde_json::{Value, json};

fn edit(collection: &str, key: &str, content: Content) -> Edit {
    Edit {
        space: SpaceName::new("main").unwrap(),
        collection: CollectionName::new(collection).unwrap(),
        target: Target::Key(key.to_owned()),
        create: true,
        author: None,
        batch: None,
        content,
    }
}

fn op(op: Op) -> Edit {
    edit("jobs", "1", Content::Ops { base: None, ops: vec![op] })
}

fn set(value: Value) -> Edit {
    op(Op::Set { path: "notes".into(), before: None, after: value })
}

fn append(text: &str) -> Edit {
    op(Op::Append { path: "notes".into(), text: text.to_owned() })
}

fn id() -> DocumentId {
    let (space, jobs) = (SpaceName::new("main").unwrap(), CollectionName::new("jobs").unwrap());
    DocumentId::derive(&space, &jobs, &Genesis::first("1").unwrap())
}

/// Two replicas and a relay that all hold a job with these notes.
fn with_notes(notes: Value) -> Meeting {
    let mut meeting = Meeting::new(7);
    for _ in 0..2 {
        meeting.join(EngineOptions::default());
    }
    meeting.edit(0, vec![set(notes)]);
    sync(&mut meeting);
    meeting
}

fn sync(meeting: &mut Meeting) {
    (0..2).for_each(|replica| meeting.connect(replica));
    meeting.settle(0);
    (0..2).for_each(|replica| meeting.disconnect(replica));
}

fn notes(meeting: &mut Meeting, replica: usize) -> Value {
    meeting.replicas[replica].view(0, &id()).unwrap().value["notes"].take()
}

fn asked(meeting: &Meeting, replica: usize) -> Vec<ReviewKind> {
    let view = meeting.replicas[replica].store().read().unwrap();
    let reviews = view.reviews(&SpaceName::new("main").unwrap()).unwrap();
    reviews.into_iter().map(|(_, row)| row.kind).collect()
}

#[test]
fn two_who_append_to_one_plain_value_offline_have_it_once() {
    let mut meeting = with_notes(json!("Gate code 4711. "));
    meeting.edit(0, vec![append("Ring twice. ")]);
    meeting.edit(1, vec![append("Größe 11 🛠️. ")]);
    assert_eq!(notes(&mut meeting, 0), "Gate code 4711. Ring twice. ");
    sync(&mut meeting);
    let both = notes(&mut meeting, 0);
    let text = both.as_str().unwrap();
    for part in ["Gate code 4711. ", "Ring twice. ", "Größe 11 🛠️. "] {
        assert_eq!(text.matches(part).count(), 1, "{text}");
    }
    assert!(text.starts_with("Gate code 4711. "), "{text}");
    assert_eq!(notes(&mut meeting, 1), both);
    assert_eq!(asked(&meeting, 0), []);
    assert_eq!(asked(&meeting, 1), []);
    // It is a text from now on, and the relay folds it as any other.
    meeting.edit(1, vec![append("Bye.")]);
    sync(&mut meeting);
    meeting.compact();
    meeting.join(EngineOptions::default());
    meeting.connect(2);
    meeting.settle(2);
    let late = meeting.replicas[2].view(0, &id()).unwrap().value["notes"].take();
    assert_eq!(late, json!(format!("{text}Bye.")));
}

#[test]
fn who_writes_another_value_meanwhile_is_asked_about() {
    let mut meeting = with_notes(json!("Gate code 4711. "));
    meeting.edit(0, vec![append("Ring twice. ")]);
    meeting.edit(1, vec![set(json!("Gate code 1147."))]);
    sync(&mut meeting);
    for replica in 0..2 {
        assert_eq!(notes(&mut meeting, replica), "Gate code 4711. Ring twice. ");
        assert_eq!(asked(&meeting, replica), [ReviewKind::Hidden]);
    }
}

#[test]
fn two_texts_of_two_values_are_both_asked_about() {
    let mut meeting = with_notes(json!("Gate code 4711. "));
    meeting.edit(0, vec![append("Ring twice. ")]);
    // Another value, and a text of that.
    meeting.edit(1, vec![set(json!("Gate code 1147. "))]);
    meeting.edit(1, vec![append("Dog! ")]);
    sync(&mut meeting);
    let shown = notes(&mut meeting, 0);
    assert_eq!(notes(&mut meeting, 1), shown);
    assert_eq!(asked(&meeting, 0), [ReviewKind::Containers]);
    assert_eq!(asked(&meeting, 1), [ReviewKind::Containers]);
}

#[test]
fn of_values_that_people_have_to_decide_between_none_becomes_a_text() {
    let mut meeting = with_notes(json!("free"));
    meeting.edit(0, vec![set(json!("booked"))]);
    meeting.edit(1, vec![set(json!("taken"))]);
    sync(&mut meeting);
    let refused = meeting.replicas[0].turn(0, 0, vec![append("!")]).unwrap().remove(0);
    let Err(EditError::Write(error @ WriteError::Several { .. })) = refused else {
        panic!("it was taken: {refused:?}")
    };
    assert!(error.to_string().contains("settle its review"), "{error}");
    assert_eq!(asked(&meeting, 0), [ReviewKind::FieldConflict]);
    // What is no text, and what is in a list, stays what it is.
    let mut meeting = with_notes(json!(5));
    let refused = meeting.replicas[0].turn(0, 0, vec![append("!")]).unwrap().remove(0);
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("holds a plain value where a text is wanted"), "{error}");
    assert!(!error.contains("remove"), "no advice that loses what is there: {error}");
}

#[test]
fn equal_values_become_one_text() {
    let mut meeting = with_notes(json!("free"));
    // As where two import one file.
    meeting.edit(0, vec![set(json!("Gate code 4711. "))]);
    meeting.edit(1, vec![set(json!("Gate code 4711. "))]);
    sync(&mut meeting);
    assert_eq!(asked(&meeting, 0), []);
    meeting.edit(0, vec![append("Ring twice.")]);
    sync(&mut meeting);
    for replica in 0..2 {
        assert_eq!(notes(&mut meeting, replica), "Gate code 4711. Ring twice.");
        assert_eq!(asked(&meeting, replica), []);
    }
}

/// Nobody's name stands beside a conversion, so one that is of another value than it says is not seen.
#[test]
fn a_text_that_is_of_another_value_than_it_says_is_seen_by_nobody() {
    let mut meeting = with_notes(json!("paid: no"));
    let view = meeting.replicas[0].store().read().unwrap();
    let row = view.document(&id()).unwrap().unwrap();
    let chunks = view.changes(&id(), 0).unwrap();
    let change = rejoin_core::change::parse(&chunks.last().unwrap().1).unwrap();
    assert_eq!(row.heads, [change.hash()]);
    let forged = Conversion {
        document: id(),
        parent: ObjectId::Root,
        key: "notes".to_owned(),
        replaces: (change.start_op(), change.actor().clone()),
        value: "paid: yes".to_owned(),
        maker: change.hash(),
        maker_max_op: change.max_op(),
    };
    drop(view);
    meeting.connect(0);
    meeting.settle(0);
    let changes = Changes {
        space: 0,
        document: id(),
        collection: Some(CollectionName::new("jobs").unwrap()),
        piece: None,
        changes: vec![forged.encode().into()],
        position: None,
        more: None,
        step: None,
    };
    meeting.replicas[0].handle_message(&Frame::Changes(changes).encode()).unwrap();
    meeting.replicas[0].turn(1, 1, Vec::new()).unwrap();
    assert_eq!(notes(&mut meeting, 0), "paid: no");
    let view = meeting.replicas[0].store().read().unwrap();
    let stored: Value = serde_json::from_slice(&view.value(&id()).unwrap().unwrap().json).unwrap();
    assert_eq!(stored["notes"], "paid: no");
    assert_eq!(view.document(&id()).unwrap().unwrap().heads, [forged.hash()], "it did come");
}

#[test]
fn what_the_schema_says_is_a_text_is_written_as_one() {
    let mut meeting = with_notes(json!("Gate code 4711. "));
    let Value::Object(schema) = Schema::new().with("notes", Rule::Text).to_value() else {
        panic!()
    };
    meeting.edit(0, vec![edit("rejoin.schemas", "jobs", Content::Fields(schema))]);
    sync(&mut meeting);
    for replica in 0..2 {
        meeting.replicas[replica].catch_up(0).unwrap();
    }
    // Each sets the whole, and what each changed of it merges.
    meeting.edit(0, vec![set(json!("Gate code 4711. Ring twice. "))]);
    meeting.edit(1, vec![set(json!("New gate code 4711. "))]);
    sync(&mut meeting);
    assert_eq!(notes(&mut meeting, 0), "New gate code 4711. Ring twice. ");
    assert_eq!(notes(&mut meeting, 1), "New gate code 4711. Ring twice. ");
    assert_eq!(asked(&meeting, 0), []);
    // The same first words are there once, and different ones are asked about.
    let first = |key: &str, words: &str| {
        let ops = vec![Op::Set { path: "notes".into(), before: None, after: json!(words) }];
        edit("jobs", key, Content::Ops { base: None, ops })
    };
    meeting.edit(0, vec![first("2", "Dog!"), first("3", "Dog!")]);
    meeting.edit(1, vec![first("2", "Dog!"), first("3", "Cat!")]);
    sync(&mut meeting);
    assert_eq!(asked(&meeting, 1), [ReviewKind::FieldConflict]);
}

#[test]
fn at_a_desk_imported_notes_are_appended_to_and_imported_again() {
    let desk = Desk::new();
    desk.write("a.csv", "id,notes,floor\n1,Gate code 4711.,3\n2,,4\n");
    desk.text("import a.csv --collection jobs --key id");
    desk.rejoin.ok(["--replica", "a.redb", "append", "jobs", "1", "notes", " Ring twice."]);
    assert_eq!(desk.json("get jobs 1")["value"]["notes"], "Gate code 4711. Ring twice.");
    desk.write("schema.toml", "[jobs.fields]\nnotes = { merge = \"text\" }\n");
    desk.text("schema apply schema.toml");
    desk.text("set jobs 2 notes=Dog");
    desk.rejoin.ok(["--replica", "a.redb", "append", "jobs", "2", "notes", " and cat"]);
    assert_eq!(desk.json("get jobs 2")["value"]["notes"], "Dog and cat");
    // What the file says anew is written into the text.
    desk.write("b.csv", "id,notes,floor\n1,Gate code 4712. Ring twice.,3\n2,Dog and cat,4\n");
    let again = desk.json("import b.csv --collection jobs --key id");
    assert_eq!((&again["changed"], &again["unchanged"]), (&json!(1), &json!(1)), "{again}");
    assert_eq!(desk.json("get jobs 1")["value"]["notes"], "Gate code 4712. Ring twice.");
    assert_eq!(desk.json("reviews"), json!([]));
}
