//! Full disks, damaged files and wrong sums: nothing is lost, and somebody is told what to do.

use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::backends::InMemoryBackend;
use redb::{Database, StorageBackend};
use rejoin::blocking::Replica;
use rejoin::{CollectionName, Op, OpenError, SpaceName, doctor};
use rejoin_engine::store::{DigestRow, Store};
use rejoin_engine::{Content, Edit, Engine, EngineOptions, Target};
use serde_json::json;

/// A disk that can be full.
#[derive(Debug, Default)]
struct Disk {
    inner: InMemoryBackend,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn room(&self) -> Result<(), Error> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(Error::from(ErrorKind::StorageFull)),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, Error> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.room()?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> Result<(), Error> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.room()?;
        self.inner.write(offset, data)
    }
}

fn append(text: &str) -> Edit {
    let op = Op::Append { path: "notes".into(), text: text.to_owned() };
    Edit {
        space: SpaceName::new("main").unwrap(),
        collection: CollectionName::new("jobs").unwrap(),
        target: Target::Key("1".to_owned()),
        create: true,
        author: None,
        batch: None,
        content: Content::Ops { base: None, ops: vec![op] },
    }
}

#[test]
fn a_full_disk_refuses_edits_says_so_and_keeps_reading() {
    let disk = Disk::default();
    let full = Arc::clone(&disk.full);
    let database = Database::builder().create_with_backend(disk).unwrap();
    let store = Arc::new(Store::open(database, [1; 16]).unwrap());
    let mut drawn = 0_u8;
    let random = move || {
        drawn += 1;
        [drawn; 16]
    };
    let mut engine = Engine::new(Arc::clone(&store), EngineOptions::default(), random).unwrap();
    let made = engine.turn(0, 0, vec![append("kept")]).unwrap().remove(0).unwrap();
    full.store(true, Ordering::SeqCst);
    let error = engine.turn(0, 0, vec![append(" and lost")]).unwrap_err();
    assert!(error.to_string().contains("disk is full"), "{error}");
    let value = store.read().unwrap().value(&made.document).unwrap().unwrap();
    assert_eq!(&value.json[..], br#"{"notes":"kept"}"#);
    assert_eq!(store.read().unwrap().outbox_len().unwrap(), 1);
}

#[test]
fn the_doctor_repairs_sums_and_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    let replica = Replica::open(&path).unwrap();
    let main = replica.space("main").unwrap();
    let jobs = main.collection("jobs").unwrap();
    let job = jobs.create("1", &json!({ "phone": "1" })).unwrap();
    let digest = main.digest().unwrap();
    replica.close();

    let store = Store::open(Database::create(&path).unwrap(), [0; 16]).unwrap();
    let txn = store.write().unwrap();
    let names = (SpaceName::new("main").unwrap(), CollectionName::new("jobs").unwrap());
    txn.put_digest(&names.0, &names.1, &DigestRow::default()).unwrap();
    let mut value = txn.value(&job.id()).unwrap().unwrap();
    value.json = br#"{"phone":"2"}"#.to_vec().into();
    txn.put_value(&job.id(), &txn.document(&job.id()).unwrap().unwrap(), &value).unwrap();
    txn.commit().unwrap();
    drop(store);

    let found = doctor::check(&path, false).unwrap();
    assert_eq!(found.findings.len(), 2, "{found:?}");
    assert!(!found.is_sound());
    let repaired = doctor::check(&path, true).unwrap();
    assert!(repaired.is_sound(), "{repaired:?}");
    assert!(doctor::check(&path, false).unwrap().findings.is_empty());
    let replica = Replica::open(&path).unwrap();
    assert_eq!(replica.space("main").unwrap().digest().unwrap(), digest);
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    assert_eq!(jobs.list().unwrap()[0].value, json!({ "phone": "1" }));
}

#[test]
fn a_damaged_file_never_panics_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    let replica = Replica::open(&path).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    for n in 0..50 {
        jobs.create(&n.to_string(), &json!({ "phone": "555-0100", "n": n })).unwrap();
    }
    replica.close();
    let sound = std::fs::read(&path).unwrap();
    let used = sound.iter().rposition(|byte| *byte != 0).unwrap();
    for step in 0..60 {
        let mut damaged = sound.clone();
        damaged[(step * 7_919 * 131) % used] ^= 0x5a;
        std::fs::write(&path, &damaged).unwrap();
        match doctor::check(&path, true) {
            Ok(report) => {
                let advised =
                    |finding: &doctor::Finding| finding.repaired || finding.advice.is_some();
                assert!(report.findings.iter().all(advised), "{report:?}");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        // Whatever is left of it can be used or is refused.
        if let Ok(replica) = Replica::open(&path) {
            let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
            let _ = jobs.list();
            let _ = jobs.document("7").unwrap().append("notes", "x");
            replica.close();
        }
    }
    std::fs::write(&path, &sound[..sound.len() / 2]).unwrap();
    assert!(matches!(Replica::open(&path), Err(OpenError::Damaged { .. })));
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    // Not even the superuser writes here.
    let error = Replica::open("/proc/rejoin-test.redb").unwrap_err();
    assert!(error.to_string().contains("/proc/rejoin-test.redb"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let error = Replica::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
}

/// Overwrites the first changes of a document so that it does not load.
fn damage(path: &std::path::Path, document: rejoin::DocumentId) {
    let store = Store::open(Database::create(path).unwrap(), [0; 16]).unwrap();
    let txn = store.write().unwrap();
    txn.put_change(&document, 0, b"no change").unwrap();
    txn.mark_stale(&document, true).unwrap();
    txn.commit().unwrap();
}

#[test]
fn a_document_that_does_not_load_does_not_hide_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    let replica = Replica::open(&path).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let bad = jobs.create("1", &json!({ "phone": "1" })).unwrap();
    let good = jobs.create("2", &json!({ "phone": "2" })).unwrap();
    replica.close();
    damage(&path, bad.id());

    let replica = Replica::open(&path).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    assert_eq!(jobs.list().unwrap().len(), 2);
    assert!(bad.append("notes", "x").is_err());
    let good = jobs.document_by_id(good.id());
    good.append("notes", "x").unwrap();
    let error = jobs.document_by_id(bad.id()).append("notes", "x").unwrap_err();
    assert!(error.to_string().contains("doctor"), "{error}");
    replica.close();
}

#[test]
fn deleting_a_large_document_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let replica = Replica::open(folder.path().join("a.redb")).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let job = jobs.create("1", &json!({ "phone": "x".repeat(40_000) })).unwrap();
    let mut watcher = job.watch().unwrap();
    job.delete().unwrap();
    let Some(rejoin::WatchEvent::Changed(change)) = watcher.next() else { panic!() };
    assert!(change.deleted);
    assert!(jobs.list().unwrap().is_empty());
}
