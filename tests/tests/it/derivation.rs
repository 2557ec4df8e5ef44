//! What documents come to is numbered: a replica that stored it by other rules derives it anew, and
//! worlds that are kept tell when the rules became other ones.

use std::path::Path;

use redb::{Database, TableDefinition};
use rejoin::Replica;
use rejoin::schema::DERIVATION;
use rejoin_engine::store::{Store, ValueRow};
use rejoin_tests::merge::golden::{Kept, pack, unpack};
use serde_json::{Value, json};

/// Documents of histories, kept for ever.
const WORLDS: &[u8] = include_bytes!("../../golden/worlds.deflate");

/// What they come to, by the version that it says.
const DERIVED: &str = include_str!("../../golden/derived.json");

#[test]
fn kept_worlds_come_to_what_this_version_says() {
    let worlds = unpack(WORLDS);
    assert!(worlds.len() >= 20, "only {} worlds", worlds.len());
    let now = json!({
        "derivation": DERIVATION,
        "worlds": worlds.iter().map(Kept::derived).collect::<Value>(),
    });
    let kept: Value = serde_json::from_str(DERIVED).expect("it is JSON");
    if now == kept {
        return;
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("derived.json");
    // A line for each world, so that a difference shows which became others.
    let of_it = now["worlds"].as_array().expect("it is a list").iter();
    let of_it: Vec<_> = of_it.map(ToString::to_string).collect();
    let text = format!("{{\"derivation\":{DERIVATION},\"worlds\":[\n{}\n]}}\n", of_it.join(",\n"));
    std::fs::write(&path, text).expect("the folder is there");
    panic!(
        "documents come to something else than version {} says; if that is meant, raise \
         `lineage::DERIVATION` to more than that, and put {} in place of tests/golden/derived.json",
        kept["derivation"],
        path.display()
    );
}

/// The kept worlds are full of what is hard.
#[test]
fn kept_worlds_hold_every_question_and_values_that_do_not_count() {
    let kept: Value = serde_json::from_str(DERIVED).expect("it is JSON");
    let worlds = kept["worlds"].as_array().expect("there are some");
    let reviews = || worlds.iter().filter_map(|world| world["reviews"].as_object());
    let asks = |kind| reviews().flat_map(|of| of.values()).any(|review| review["asks"] == kind);
    for kind in ["FieldConflict", "Disagreement", "RefusedWrite", "Removal", "Hidden", "Containers"]
    {
        assert!(asks(kind), "no world asks {kind}");
    }
    assert!(reviews().flat_map(|of| of.values()).any(|review| !review["settled"].is_null()));
    assert!(worlds.iter().any(|world| !world["counts"].is_null()));
}

/// Makes the worlds anew, where histories should hold more than they did. What they came to before is
/// lost, so this is for a time at which the rules have not changed.
#[test]
#[ignore = "writes tests/golden/worlds.deflate"]
fn make_worlds_anew() {
    let worlds: Vec<_> = (1..=WORLDS_MADE).map(Kept::of).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/worlds.deflate");
    std::fs::write(path, pack(&worlds)).expect("the folder is there");
}

/// The row of a replica's file that says by which version its values were derived.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta-2");

/// Leaves a replica's file as another version would have: with other values, and its number.
fn derive_otherwise(path: &Path) {
    let store = Store::open(Database::open(path).unwrap(), [0; 16]).unwrap();
    let view = store.read().unwrap();
    let mut documents = Vec::new();
    view.each_document(|id, row| documents.push((id, row))).unwrap();
    let txn = store.write().unwrap();
    for (id, row) in &documents {
        let was = view.value(id).unwrap().unwrap();
        let json = json!({ "old": true }).to_string().into_bytes().into();
        txn.put_value(id, row, &ValueRow { json, ..was }).unwrap();
    }
    txn.commit().unwrap();
    drop((view, store));
    let database = Database::open(path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(META).unwrap().insert("derived", 1u32.to_be_bytes().as_slice()).unwrap();
    txn.commit().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn values_by_other_rules_are_derived_anew_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("van.redb");
    let replica = Replica::open(&path).await.unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let rows = (0..DOCUMENTS).map(|at| {
        let fields = json!({ "at": at }).as_object().unwrap().clone();
        (format!("J-{at}"), fields)
    });
    for edited in jobs.put_all(rows.collect()).await.unwrap() {
        edited.unwrap();
    }
    replica.close().await;
    drop((jobs, replica));
    derive_otherwise(&path);

    let report = rejoin::doctor::check(&path, false).unwrap();
    assert!(report.findings.is_empty(), "what is derived anew is no damage: {:?}", report.findings);
    let replica = Replica::open(&path).await.unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let one: Value = jobs.get("J-7").await.unwrap().unwrap();
    assert_eq!(one, json!({ "at": 7 }), "who asks for one is not told what was stored");
    replica.caught_up().await.unwrap();
    let right = |entry: &rejoin::Entry| entry.value["at"].is_number();
    assert_eq!(jobs.filter(right).await.unwrap().len(), DOCUMENTS);
    replica.close().await;
    drop((jobs, replica));

    let replica = Replica::open(&path).await.unwrap();
    assert_eq!(replica.status().behind, 0, "it is done once");
}

/// Worlds that are kept.
const WORLDS_MADE: u64 = 24;

/// More than are looked at in one step.
const DOCUMENTS: usize = 300;
