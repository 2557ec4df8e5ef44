//! The schemas of a space: applied, changed, read again, and left alone where they are not
//! understood.

use rejoin::blocking::{Replica, Space};
use rejoin::review::ReviewKind;
use rejoin::schema::{Field, Invariant, Kind, Rule, SCHEMAS, Schema, SchemaError};
use rejoin::{CollectionName, Op, Path};
use serde_json::{Value, json};

struct Desk {
    _folder: tempfile::TempDir,
    main: Space,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let replica = Replica::open(folder.path().join("desk.redb")).unwrap();
        Self { main: replica.space("main").unwrap(), _folder: folder }
    }

    /// The document that holds the schema of the jobs.
    fn document(&self) -> rejoin::blocking::Document {
        self.main.collection(SCHEMAS).unwrap().document("jobs").unwrap()
    }

    fn stored(&self) -> Value {
        self.document().read().unwrap().expect("a schema").value
    }
}

fn jobs() -> CollectionName {
    "jobs".parse().unwrap()
}

fn schema() -> Schema {
    Schema::new()
        .with("notes", Rule::Text)
        .with("status", Rule::order(["booked", "done"]))
        .with("who", Field::new(Rule::Review).writers(["dispatch"]))
        .with("from", Field::new(Rule::Review).kind(Kind::Time).required())
        .with("to", Field::new(Rule::latest()).default_to(5))
        .invariant(Invariant::no_overlap("who", "from", "to").unless("status", "done"))
        .invariant(Invariant::unique(["who", "from"]))
}

#[test]
fn a_schema_is_applied_once() {
    let desk = Desk::new();
    assert_eq!(desk.main.schema(&jobs()).unwrap(), None);
    let edited = desk.main.apply_schema(&jobs(), &schema()).unwrap();
    assert!(edited.created);
    assert_eq!(desk.main.schema(&jobs()).unwrap(), Some(schema()));
    assert_eq!(desk.main.schemas().unwrap(), [(jobs(), schema())].into());
    let digest = desk.main.digest().unwrap();
    assert!(!desk.main.apply_schema(&jobs(), &schema()).unwrap().changed());
    assert_eq!(desk.main.digest().unwrap(), digest);
}

#[test]
fn what_a_schema_does_not_name_any_more_is_removed_and_may_come_back() {
    let desk = Desk::new();
    desk.main.apply_schema(&jobs(), &schema()).unwrap();
    let less = Schema::new()
        .with("status", Rule::order(["booked", "on_site", "done"]))
        .with("who", Rule::Any)
        .invariant(Invariant::unique(["who"]));
    assert!(desk.main.apply_schema(&jobs(), &less).unwrap().changed());
    assert_eq!(desk.main.schema(&jobs()).unwrap(), Some(less));
    let again = schema().with("to", Rule::Max);
    desk.main.apply_schema(&jobs(), &again).unwrap();
    assert_eq!(desk.main.schema(&jobs()).unwrap(), Some(again));
    desk.main.apply_schema(&jobs(), &Schema::new()).unwrap();
    assert_eq!(desk.main.schema(&jobs()).unwrap(), Some(Schema::new()));
}

#[test]
fn an_edit_of_one_field_writes_that_field_only() {
    let desk = Desk::new();
    desk.main.apply_schema(&jobs(), &schema()).unwrap();
    let document = desk.document();
    let heads = document.read().unwrap().unwrap().heads;
    desk.main.apply_schema(&jobs(), &schema().with("notes", Rule::Any)).unwrap();
    // Somebody who saw the schema before that gives another field a type.
    let path = Path::from(["fields", "status", "type"]);
    let op = Op::Set { path, before: None, after: json!("string") };
    document.apply_at(Some(heads), vec![op]).unwrap();
    let merged = desk.main.schema(&jobs()).unwrap().unwrap();
    assert_eq!(merged.fields[&"notes".into()].merge, Rule::Any);
    assert_eq!(merged.fields[&"status".into()].kind, Some(Kind::String));
}

#[test]
fn a_schema_of_a_newer_version_survives_an_edit_by_this_one() {
    let desk = Desk::new();
    let newer = json!({
        "fields": { "status": { "merge": "vote", "quorum": 2 }, "notes": { "merge": "text" } },
        "invariants": { "exclusive who": { "exclusive": { "of": "who" } } },
        "version": 2,
    });
    let schemas = desk.main.collection(SCHEMAS).unwrap();
    schemas.create("jobs", &newer).unwrap();
    let read = desk.main.schema(&jobs()).unwrap().unwrap();
    assert_eq!(*read.rule(&"status".into()), Rule::Review);
    desk.main.apply_schema(&jobs(), &read.clone().with("color", Rule::Any)).unwrap();
    let mut expected = newer;
    expected["fields"]["color"] = json!({ "merge": "any" });
    assert_eq!(desk.stored(), expected);
    // Who replaces it as a whole means it.
    desk.main.apply_schema(&jobs(), &schema()).unwrap();
    assert_eq!(desk.stored(), schema().to_value());
}

#[test]
fn a_contradiction_is_not_applied() {
    let desk = Desk::new();
    desk.main.apply_schema(&jobs(), &schema()).unwrap();
    let wrong = Schema::new()
        .with("status", Rule::order(["a", "a"]))
        .invariant(Invariant::unique(["gone"]));
    let error = desk.main.apply_schema(&jobs(), &wrong).unwrap_err();
    assert!(matches!(&error, SchemaError::Contradictory { faults, .. } if faults.len() == 2));
    let said = error.to_string();
    assert!(said.contains("\"a\" is in it twice") && said.contains("\"gone\""), "{said}");
    assert_eq!(desk.main.schema(&jobs()).unwrap(), Some(schema()));
    let own: CollectionName = SCHEMAS.parse().unwrap();
    let error = desk.main.apply_schema(&own, &schema()).unwrap_err();
    assert!(matches!(error, SchemaError::Reserved { .. }));
}

#[test]
fn a_deleted_schema_is_none() {
    let desk = Desk::new();
    desk.main.apply_schema(&jobs(), &schema()).unwrap();
    desk.document().delete().unwrap();
    assert_eq!(desk.main.schema(&jobs()).unwrap(), None);
    assert!(desk.main.schemas().unwrap().is_empty());
    desk.main.apply_schema(&jobs(), &Schema::new().with("notes", Rule::Text)).unwrap();
    let back = desk.main.schema(&jobs()).unwrap().unwrap();
    assert_eq!(back, Schema::new().with("notes", Rule::Text));
}

#[test]
fn a_new_schema_decides_about_what_was_written_before_it() {
    let desk = Desk::new();
    let collection = desk.main.collection("jobs").unwrap();
    collection.create("1", &json!({ "who": "ana" })).unwrap();
    assert_eq!(desk.main.reviews().open().unwrap(), []);
    desk.main.apply_schema(&jobs(), &schema()).unwrap();
    let reviews = desk.main.reviews().open().unwrap();
    let kinds: Vec<_> = reviews.iter().map(|review| (review.kind, &*review.field)).collect();
    assert_eq!(kinds, [(ReviewKind::RefusedWrite, "who")]);
    desk.main.apply_schema(&jobs(), &Schema::new()).unwrap();
    assert_eq!(desk.main.reviews().open().unwrap(), []);
    let value: Value = collection.document("1").unwrap().get().unwrap().unwrap();
    assert_eq!(value, json!({ "who": "ana" }));
}
