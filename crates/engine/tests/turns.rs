//! Several edits in one commit.

use std::sync::Arc;

use redb::Database;
use redb::backends::InMemoryBackend;
use rejoin_core::{CollectionName, Identity, SpaceName};
use rejoin_engine::store::Store;
use rejoin_engine::{Content, Edit, EditOutcome, Engine, EngineOptions, Op, Target, WatchEvent};
use serde_json::{Value, json};

fn engine() -> Engine {
    let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
    let store = Arc::new(Store::open(database, [1; 16]).unwrap());
    let mut drawn = 0_u128;
    let random = move || {
        drawn += 1;
        drawn.to_le_bytes()
    };
    Engine::new(store, EngineOptions::default(), random).unwrap()
}

fn edit(content: Content) -> Edit {
    Edit {
        space: SpaceName::new("main").unwrap(),
        collection: CollectionName::new("jobs").unwrap(),
        target: Target::Key("1".to_owned()),
        create: true,
        author: None,
        batch: None,
        content,
    }
}

fn put(fields: Value) -> Edit {
    edit(Content::Fields(fields.as_object().unwrap().clone()))
}

fn apply(op: Op) -> Edit {
    edit(Content::Ops { base: None, ops: vec![op] })
}

fn turn(engine: &mut Engine, edits: Vec<Edit>) -> Vec<EditOutcome> {
    engine.turn(0, 0, edits).unwrap().into_iter().map(|edited| edited.unwrap()).collect()
}

fn value(engine: &Engine, of: &EditOutcome) -> Value {
    let row = engine.store().read().unwrap().value(&of.document).unwrap().unwrap();
    assert_eq!(row.heads, of.heads);
    serde_json::from_slice(&row.json).unwrap()
}

#[test]
fn edits_of_one_commit_see_each_other() {
    let mut engine = engine();
    let (booked, done) = (json!({ "status": "booked" }), json!({ "status": "done" }));
    let edits = vec![put(booked.clone()), put(booked.clone()), put(done.clone()), put(done)];
    let edited = turn(&mut engine, edits);
    let changed: Vec<_> = edited.iter().map(EditOutcome::changed).collect();
    assert_eq!(changed, [true, false, true, false]);
    assert_eq!(value(&engine, &edited[3]), json!({ "status": "done" }));
    assert!(turn(&mut engine, vec![put(booked)])[0].changed());
}

#[test]
fn watchers_hear_of_a_commit_once() {
    let mut engine = engine();
    let first = turn(&mut engine, vec![put(json!({ "status": "booked" }))]).remove(0);
    let jobs = CollectionName::new("jobs").unwrap();
    let mut watcher = engine.watch(SpaceName::new("main").unwrap(), jobs, None);
    let phone = Op::Set { path: "phone".into(), before: None, after: json!("555") };
    let text = Op::Append { path: "notes".into(), text: "Ring twice.".into() };
    let last = turn(&mut engine, vec![apply(phone), apply(text)]).remove(1);
    let Some(WatchEvent::Changed(change)) = watcher.try_next() else { panic!("nothing came") };
    assert_eq!(change.before, first.heads);
    assert_eq!(change.heads, last.heads);
    assert!(change.fields.iter().eq(["notes", "phone"]));
    assert!(change.local && !change.remote);
    assert_eq!(watcher.try_next(), None);
}

#[test]
fn an_edit_that_is_refused_takes_nothing_of_its_commit_along() {
    let mut engine = engine();
    let add = |by| apply(Op::Increment { path: "n".into(), by });
    let splice = Op::Splice { path: "n".into(), index: 0, delete: 1, insert: String::new() };
    let results = engine.turn(0, 0, vec![add(1), apply(splice), add(2)]).unwrap();
    assert!(results[1].is_err());
    assert_eq!(value(&engine, results[2].as_ref().unwrap()), json!({ "n": 3 }));
}

#[test]
fn what_waits_for_a_relay_outlives_folding() {
    let mut engine = engine();
    let append = |n| apply(Op::Append { path: "notes".into(), text: format!("{n:0>100} ") });
    let mut last = None;
    for turns in 0..20 {
        let edits = (0..100).map(|n| append(turns * 100 + n)).collect();
        last = turn(&mut engine, edits).pop();
    }
    let id = last.unwrap().document;
    let view = engine.store().read().unwrap();
    let row = view.document(&id).unwrap().unwrap();
    assert!(row.covered > 0, "the document was folded");
    assert!(row.next > 2_000);
    let kept: Vec<_> = view.changes(&id, 0).unwrap().into_iter().map(|(at, _)| at).collect();
    assert!(kept.into_iter().eq(0..row.next), "every change is still there");
}

/// A list does not wait until all of so many documents are derived anew.
#[test]
fn documents_that_a_schema_left_behind_are_counted_while_they_are_derived() {
    let mut engine = engine();
    let of = |collection: &str, key: String, fields: Value| Edit {
        collection: CollectionName::new(collection).unwrap(),
        target: Target::Key(key),
        ..put(fields)
    };
    let jobs = (0..600).map(|n| of("jobs", n.to_string(), json!({ "status": "booked" })));
    turn(&mut engine, jobs.collect());
    let schema = |default| {
        let fields = json!({ "visits": { "merge": "review", "default": default } });
        of("rejoin.schemas", "jobs".to_owned(), json!({ "fields": fields }))
    };
    turn(&mut engine, vec![schema(3)]);
    // What leaves the memory with the turn is derived on its way out.
    let behind = engine.status().behind as usize;
    assert!((500..=600).contains(&behind), "{behind}");

    let with_default = |engine: &Engine| {
        let (space, jobs) = ("main".parse().unwrap(), "jobs".parse().unwrap());
        let mut count = 0;
        let view = engine.store().read().unwrap();
        view.each_value(&space, &jobs, |_, row| {
            count += usize::from(row.json.ends_with(br#""visits":3}"#));
            true
        })
        .unwrap();
        count
    };
    engine.refresh_listed(0).unwrap();
    assert_eq!(engine.status().behind as usize, behind);
    assert_eq!(with_default(&engine), 600 - behind);
    engine.catch_up(0).unwrap();
    let left = engine.status().behind as usize;
    assert!((1..behind).contains(&left), "{left}");
    assert_eq!(with_default(&engine), 600 - left);
    while engine.is_behind() {
        engine.catch_up(0).unwrap();
    }
    assert_eq!((engine.status().behind, with_default(&engine)), (0, 600));

    // Written anew, the same schema leaves nothing behind.
    turn(&mut engine, vec![schema(4), schema(3)]);
    assert_eq!(engine.status().behind, 0);
}

#[test]
fn the_latest_edit_that_waits_is_known_after_a_restart() {
    let mut engine = engine();
    engine.turn(0, 100, vec![put(json!({ "status": "booked" }))]).unwrap();
    engine.turn(0, 200, vec![put(json!({ "status": "done" }))]).unwrap();
    assert_eq!(engine.status().edited_at_s, Some(200));
    let store = engine.store().clone();
    let engine = Engine::new(store, EngineOptions::default(), || [9; 16]).unwrap();
    assert_eq!((engine.status().waiting, engine.status().edited_at_s), (2, Some(200)));
}

#[test]
fn the_author_of_one_edit_is_not_that_of_others() {
    let mut engine = engine();
    engine.act_as(Some(Identity::user("Ann"))).unwrap();
    let value = |status: &str| put(json!({ "status": status }));
    let by_bo = Edit { author: Some(Identity::user("Bo")), ..value("done") };
    engine.turn(0, 1, vec![value("booked"), by_bo, value("paid")]).unwrap();
    assert_eq!(engine.identity().map(|acting| &*acting.user), Some("Ann"));
    let document = turn(&mut engine, vec![value("paid")])[0].document;
    let history = engine.history(0, &document, 10).unwrap();
    let authors = history.iter().filter_map(|change| change.author.as_ref());
    assert_eq!(authors.map(|it| &*it.user).collect::<Vec<_>>(), ["Ann", "Bo", "Ann"]);
    let reopened = Engine::new(engine.store().clone(), EngineOptions::default(), || [9; 16]);
    assert_eq!(reopened.unwrap().identity().map(|kept| &*kept.user), Some("Ann"));
}
