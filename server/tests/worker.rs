//! The compaction worker and the process around it.
#![cfg(unix)]

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ROOT};
use redb::Database;
use redb::backends::InMemoryBackend;
use rejoin_core::change::{Place, parse};
use rejoin_core::{CollectionName, DocumentId, GraphEntry, SpaceName};
use rejoin_relay::store::{ChangeStore, FoldInput};
use rejoin_relay::{CompactionError, WorkerError, WorkerProcess, compact_worker};

/// A document of a hundred changes in a store, to be folded.
fn input() -> FoldInput {
    let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
    let mut store = ChangeStore::open(database, 1 << 20, || [1; 16]).unwrap();
    let space = SpaceName::new("acme").unwrap();
    let collection = CollectionName::new("jobs").unwrap();
    let document = DocumentId::from_random([1; 16]);
    let place = Place { space: &space, collection: &collection, document: &document };
    let mut doc = AutoCommit::new();
    for n in 0..100 {
        doc.put(ROOT, "n", n).unwrap();
        doc.commit();
        let chunk = doc.get_last_local_change().unwrap().raw_bytes().to_vec();
        store.stage(&place, entry(&chunk), chunk).unwrap();
    }
    store.commit(0).unwrap();
    store.fold_input(&space, &document).unwrap().unwrap()
}

fn entry(chunk: &[u8]) -> GraphEntry {
    GraphEntry::from(&parse(chunk).unwrap())
}

/// A worker that is a line of shell, in a folder.
fn shell(line: &str, folder: &Path) -> WorkerProcess {
    let line = format!("cd {} && {line}", folder.display());
    let command = ["sh", "-c", &line].map(OsString::from).to_vec();
    WorkerProcess { command, time_limit: Duration::from_secs(60) }
}

#[test]
fn what_a_process_answers_is_what_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let deaf = shell("cat > question", folder.path()).run(input(), || false);
    assert!(matches!(deaf, Err(CompactionError::Answer(_))), "{deaf:?}");

    let question = File::open(path("question")).unwrap();
    compact_worker(question, File::create(path("answer")).unwrap()).unwrap();
    let answered = shell("cat > /dev/null; cat answer", folder.path()).run(input(), || false);
    let answered = answered.unwrap();
    assert_eq!(answered.changes(), 100);
    assert!(!answered.snapshot().is_empty());
}

#[test]
fn what_a_worker_that_fails_says_is_kept_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let failed = shell("cat > /dev/null; echo panicked at my notes >&2; exit 9", folder.path());
    let error = failed.run(input(), || false).unwrap_err();
    let shown = error.to_string();
    assert!(shown.contains('9') && !shown.contains("my notes"), "{shown}");
    assert!(std::error::Error::source(&error).is_none(), "nor below it");
    let CompactionError::Failed { message, .. } = error else { panic!("{error:?}") };
    assert_eq!(message, "panicked at my notes");
}

#[test]
fn a_worker_that_takes_too_long_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut slow = shell("exec sleep 1000", folder.path());
    slow.time_limit = Duration::ZERO;
    let error = slow.run(input(), || false).unwrap_err();
    assert!(matches!(error, CompactionError::TimedOut { .. }), "{error:?}");
    slow.time_limit = Duration::from_secs(1000);
    let error = slow.run(input(), || true).unwrap_err();
    assert!(matches!(error, CompactionError::Cancelled), "{error:?}");
}

#[test]
fn a_worker_that_is_not_there_is_named() {
    let command = vec![OsString::from("/nowhere/rejoin")];
    let absent = WorkerProcess { command, time_limit: Duration::from_secs(60) };
    let error = absent.run(input(), || false).unwrap_err().to_string();
    assert!(error.contains("/nowhere/rejoin"), "{error}");
}

#[test]
fn a_damaged_question_is_refused_at_every_length() {
    let folder = tempfile::tempdir().unwrap();
    let _ = shell("cat > question", folder.path()).run(input(), || false);
    let question = fs::read(folder.path().join("question")).unwrap();
    for len in 0..question.len() {
        let answer = compact_worker(&question[..len], std::io::sink());
        assert!(matches!(answer, Err(WorkerError::Question(_))), "{len}: {answer:?}");
    }
    let mut flipped = question.clone();
    flipped[200] ^= 1;
    assert!(compact_worker(flipped.as_slice(), std::io::sink()).is_err());
}
