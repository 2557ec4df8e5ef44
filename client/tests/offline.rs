//! A replica without a relay: what a technician in a basement relies on.

use std::collections::BTreeSet;
use std::future::Future;
use std::task::{Context, Poll, Waker};

use rejoin::blocking::Replica;
use rejoin::sync::EngineOptions;
use rejoin::{Counter, EditError, OpenError, Text, WatchEvent};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Job {
    phone: String,
    status: String,
    #[serde(default)]
    notes: Text,
    #[serde(default)]
    parts_used: Counter,
    #[serde(default)]
    tags: Vec<String>,
}

fn job() -> Job {
    Job { phone: "555-0100".into(), status: "booked".into(), ..Job::default() }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn an_edit_survives_closing_and_opening() {
    let folder = folder();
    let path = folder.path().join("a.redb");
    let replica = Replica::open(&path).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let document = jobs.create("2026-118", &job()).unwrap();
    document
        .edit(|job: &mut Job| {
            job.notes.push_str("Gate code 4711. ");
            job.parts_used.0 += 2;
            job.tags.push("urgent".to_owned());
        })
        .unwrap();
    let before = replica.space("main").unwrap().digest().unwrap();
    replica.close();

    let replica = Replica::open(&path).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let found: Job = jobs.get("2026-118").unwrap().unwrap();
    assert_eq!(found.notes.as_str(), "Gate code 4711. ");
    assert_eq!(found.parts_used.0, 2);
    assert_eq!(found.tags, ["urgent"]);
    assert_eq!(replica.space("main").unwrap().digest().unwrap(), before);
    assert_eq!(replica.status().waiting, 2);
}

#[test]
fn every_command_is_answered_however_many_wait() {
    let folder = folder();
    let replica = Replica::open(folder.path().join("a.redb")).unwrap();
    let replica = replica.as_async();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let mut context = Context::from_waker(Waker::noop());
    for round in 0..8 {
        // While the edit is written the others gather behind it.
        let (key, job) = (round.to_string(), job());
        let mut edit = Box::pin(jobs.create(&key, &job));
        assert!(edit.as_mut().poll(&mut context).is_pending());
        let mut asked: Vec<_> = (0..1000).map(|_| Box::pin(replica.counters())).collect();
        asked.retain_mut(|question| match question.as_mut().poll(&mut context) {
            Poll::Ready(answer) => answer.map(|_| false).unwrap(),
            Poll::Pending => true,
        });
        futures_executor::block_on(edit).unwrap();
        for question in asked {
            futures_executor::block_on(question).unwrap();
        }
    }
}

#[test]
fn an_edit_made_against_an_older_value_writes_only_what_it_touched() {
    let folder = folder();
    let replica = Replica::open(folder.path().join("a.redb")).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let document = jobs.create("1", &job()).unwrap();
    document
        .edit(|job: &mut Job| {
            // Somebody else edits the same document while this closure runs.
            document.set("phone", "555-0199").unwrap();
            document.append("notes", "From the desk. ").unwrap();
            job.status = "done".to_owned();
            job.notes.push_str("From the van. ");
        })
        .unwrap();
    let found: Job = document.get().unwrap().unwrap();
    assert_eq!(found.phone, "555-0199");
    assert_eq!(found.status, "done");
    assert!(found.notes.contains("From the desk. "), "{}", found.notes.as_str());
    assert!(found.notes.contains("From the van. "), "{}", found.notes.as_str());
}

#[test]
fn putting_the_same_fields_again_changes_nothing() {
    let folder = folder();
    let replica = Replica::open(folder.path().join("a.redb")).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let fields = json!({ "phone": "1", "city": "Bronx" }).as_object().unwrap().clone();
    assert!(jobs.put("1", fields.clone()).unwrap().changed());
    assert!(!jobs.put("1", fields).unwrap().changed());
    let other = json!({ "city": null }).as_object().unwrap().clone();
    assert!(jobs.put("1", other).unwrap().changed());
    assert_eq!(jobs.get::<Value>("1").unwrap().unwrap(), json!({ "phone": "1" }));
}

#[test]
fn a_deleted_document_leaves_lists_and_comes_back_when_its_key_is_created() {
    let folder = folder();
    let replica = Replica::open(folder.path().join("a.redb")).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let document = jobs.create("1", &job()).unwrap();
    document.delete().unwrap();
    assert!(jobs.list().unwrap().is_empty());
    assert_eq!(jobs.get::<Value>("1").unwrap(), None);
    jobs.create("1", &json!({ "phone": "2" })).unwrap();
    assert_eq!(jobs.list().unwrap().len(), 1);
    assert_eq!(jobs.get::<Job>("1").unwrap().unwrap().phone, "2");
}

#[test]
fn listing_and_filtering_five_thousand_documents_loads_none() {
    let folder = folder();
    let path = folder.path().join("a.redb");
    let replica = Replica::open(&path).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let rows = (0..5_000).map(|n| {
        let fields = json!({ "number": n, "odd": n % 2 == 1 }).as_object().unwrap().clone();
        (format!("job-{n}"), fields)
    });
    let results = futures_executor::block_on(async {
        let jobs = replica.as_async().space("main").unwrap().collection("jobs").unwrap();
        jobs.put_all(rows.collect()).await.unwrap()
    });
    assert!(results.iter().all(Result::is_ok));
    drop(jobs);
    replica.close();

    let replica = Replica::open(&path).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    assert_eq!(jobs.list().unwrap().len(), 5_000);
    assert_eq!(jobs.filter(|job| job.value["odd"] == json!(true)).unwrap().len(), 2_500);
    replica.space("main").unwrap().digest().unwrap();
    assert_eq!(replica.counters().unwrap().documents_loaded, 0);
    jobs.document("job-7").unwrap().append("notes", "x").unwrap();
    assert_eq!(replica.counters().unwrap().documents_loaded, 1);
}

#[test]
fn documents_leave_memory_when_others_are_used() {
    let folder = folder();
    let options = EngineOptions { documents_loaded_max: 4, ..EngineOptions::default() };
    let path = folder.path().join("a.redb");
    let in_memory = futures_executor::block_on(async {
        let replica = rejoin::Replica::open_with(path, options).await.unwrap();
        let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
        for n in 0..20 {
            jobs.create(&n.to_string(), &job()).await.unwrap();
        }
        // Every edit is there, whether its document was in memory or not.
        for n in 0..20 {
            let document = jobs.document(&n.to_string()).unwrap();
            document.append("notes", "again").await.unwrap();
        }
        replica.documents_in_memory().await.unwrap()
    });
    assert!(in_memory <= 4, "{in_memory}");
}

#[test]
fn a_large_value_is_read_back_as_it_was_written() {
    let folder = folder();
    let path = folder.path().join("a.redb");
    let replica = Replica::open(&path).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let document = jobs.create("1", &job()).unwrap();
    let page = "All quiet on the upper floors. ".repeat(4_000);
    document.append("notes", &page).unwrap();
    for _ in 0..20 {
        document.append("notes", "And below. ").unwrap();
    }
    let expected = format!("{page}{}", "And below. ".repeat(20));
    assert_eq!(document.get::<Job>().unwrap().unwrap().notes.as_str(), expected);
    assert_eq!(jobs.list().unwrap()[0].value["notes"], json!(expected));
    document.append("notes", "End.").unwrap();
    replica.close();
    let replica = Replica::open(&path).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    assert_eq!(jobs.list().unwrap()[0].value["notes"], json!(expected + "End."));
}

#[test]
fn a_slow_watcher_gets_one_wider_change() {
    let folder = folder();
    let replica = Replica::open(folder.path().join("a.redb")).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let document = jobs.create("1", &job()).unwrap();
    let mut watcher = jobs.watch().unwrap();
    document.set("phone", "2").unwrap();
    document.set("status", "done").unwrap();
    document.set("phone", "3").unwrap();
    let Some(WatchEvent::Changed(change)) = watcher.next() else { panic!("a change") };
    let both = BTreeSet::from(["phone".to_owned(), "status".to_owned()]);
    assert_eq!(change.fields, both);
    assert_eq!(change.key.as_deref(), Some("1"));
    assert!(change.local && !change.remote);
    assert_eq!(watcher.try_next(), None);
    replica.close();
    drop(document);
    assert_eq!(watcher.next(), None);
}

#[test]
fn history_tells_what_was_and_when() {
    let folder = folder();
    let replica = Replica::open(folder.path().join("a.redb")).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let document = jobs.create("1", &json!({ "status": "booked" })).unwrap();
    document.set("status", "done").unwrap();
    let history = document.history(100).unwrap();
    assert_eq!(history.len(), 3);
    assert_eq!(history[0].kind, rejoin::history::Kind::Genesis);
    assert_eq!(history[2].fields, BTreeSet::from(["status".to_owned()]));
    assert_eq!(document.value_at(&[history[1].hash]).unwrap(), json!({ "status": "booked" }));
    assert_eq!(document.value_at(&[history[2].hash]).unwrap(), json!({ "status": "done" }));
}

#[test]
fn a_second_open_says_who_to_stop() {
    let folder = folder();
    let path = folder.path().join("a.redb");
    let replica = Replica::open(&path).unwrap();
    let error = Replica::open(&path).unwrap_err();
    let OpenError::Locked { holder, .. } = &error else { panic!("{error}") };
    if cfg!(target_os = "linux") {
        assert_eq!(holder.0, Some(std::process::id()));
    }
    replica.close();
    Replica::open(&path).unwrap();
}

#[test]
fn a_file_that_is_no_replica_is_refused_and_left_alone() {
    let folder = folder();
    let path = folder.path().join("a.redb");
    std::fs::write(&path, "Dear diary, ".repeat(1_000)).unwrap();
    let error = Replica::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("Dear diary, "));
    let missing = Replica::open(folder.path().join("no/such/folder/a.redb")).unwrap_err();
    assert!(matches!(missing, OpenError::NoFolder { .. }), "{missing}");
}

#[test]
fn an_edit_that_does_not_fit_changes_nothing() {
    let folder = folder();
    let replica = Replica::open(folder.path().join("a.redb")).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let document = jobs.create("1", &job()).unwrap();
    let before = replica.space("main").unwrap().digest().unwrap();
    let waiting = replica.status().waiting;
    assert!(matches!(document.add("phone", 1), Err(EditError::Write(_))));
    assert!(matches!(document.append("tags", "x"), Err(EditError::Write(_))));
    assert!(matches!(jobs.document("nobody").unwrap().set("phone", "1"), Err(EditError::NotFound)));
    assert_eq!(replica.space("main").unwrap().digest().unwrap(), before);
    assert_eq!(replica.status().waiting, waiting);
    document.set("phone", "2").unwrap();
}

#[test]
fn the_doctor_finds_a_sound_file_sound() {
    let folder = folder();
    let path = folder.path().join("a.redb");
    let replica = Replica::open(&path).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    jobs.create("1", &job()).unwrap();
    replica.close();
    let report = rejoin::doctor::check(&path, false).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.documents, report.waiting), (1, 1));
}

#[test]
fn unused_documents_leave_memory() {
    let database = redb::Database::builder()
        .create_with_backend(redb::backends::InMemoryBackend::new())
        .unwrap();
    let store = std::sync::Arc::new(rejoin_engine::store::Store::open(database, [1; 16]).unwrap());
    let options = EngineOptions::default();
    let idle_ms = options.idle_ms;
    let mut engine = rejoin_engine::Engine::new(store, options, || [7; 16]).unwrap();
    let edit = rejoin_engine::Edit {
        space: rejoin::SpaceName::new("main").unwrap(),
        collection: rejoin::CollectionName::new("jobs").unwrap(),
        target: rejoin_engine::Target::Key("1".to_owned()),
        create: true,
        author: None,
        batch: None,
        content: rejoin_engine::Content::Fields(serde_json::Map::new()),
    };
    engine.turn(1_000, 0, vec![edit]).unwrap().remove(0).unwrap();
    engine.handle_idle(1_000 + idle_ms).unwrap();
    assert_eq!(engine.documents_in_memory(), 1);
    engine.handle_idle(1_001 + idle_ms).unwrap();
    assert_eq!(engine.documents_in_memory(), 0);
}

#[test]
fn handles_can_be_used_from_any_thread() {
    fn any_thread<T: Send + Sync + 'static>() {}
    any_thread::<rejoin::Replica>();
    any_thread::<rejoin::Space>();
    any_thread::<rejoin::Collection>();
    any_thread::<rejoin::Document>();
    any_thread::<Replica>();

    let folder = folder();
    let replica = Replica::open(folder.path().join("a.redb")).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    jobs.create("1", &job()).unwrap();
    let threads = (0..8).map(|_| {
        let jobs = jobs.clone();
        std::thread::spawn(move || {
            let document = jobs.document("1").unwrap();
            for _ in 0..25 {
                document.add("parts_used", 1).unwrap();
            }
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(jobs.get::<Job>("1").unwrap().unwrap().parts_used.0, 200);
}
