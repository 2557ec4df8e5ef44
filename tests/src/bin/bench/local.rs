//! Edits on one device.

use std::path::Path;
use std::time::Duration;

use redb::{Database, TableDefinition};
use rejoin::blocking::Replica;
use rejoin::{Key, ReplicaFile};
use serde_json::json;

use crate::{Figure, quantile, timed};

const EDITS: usize = 500;
const OTHERS: usize = 1000;
const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");

/// An edit that returns when it is on disk, beside a bare commit of as many bytes.
pub(crate) fn durable_edit() -> Vec<Figure> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let replica = Replica::open(folder.path().join("a.redb")).expect("a new replica");
    let jobs = replica.space("main").and_then(|main| main.collection("jobs")).expect("names");
    let job = jobs.create("1", &json!({ "status": "booked" })).expect("a new document");
    let edit = |n| timed(|| job.set("status", n).expect("an edit")).1;
    let mut ours: Vec<_> = (0..EDITS).map(edit).collect();
    let mut bare = bare_commits(&folder.path().join("bare.redb"), EDITS, 150);
    let name = format!("edit with durable commit, median of {EDITS}");
    vec![Figure::new(
        name,
        quantile(&mut ours, 0.5),
        "bare redb commit of 150 bytes",
        quantile(&mut bare, 0.5),
    )]
}

/// The same edit in an encrypted file, in turns with one that is not: both have the same moods of the disk.
pub(crate) fn encrypted_edit() -> Vec<Figure> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plain = ReplicaFile::at(folder.path().join("plain.redb"));
    let sealed = ReplicaFile::at(folder.path().join("sealed.redb")).with(Key::bytes([7; 32]));
    let [plain, sealed] = [plain, sealed].map(|file| {
        let replica = Replica::open(file).expect("a new replica");
        let jobs = replica.space("main").and_then(|main| main.collection("jobs")).expect("names");
        // A store as one has it, and not a single page.
        for n in 0..OTHERS {
            jobs.create(&n.to_string(), &json!({ "status": "booked", "n": n }))
                .expect("a document");
        }
        (jobs.document("1").expect("a key"), replica)
    });
    let mut times = [Vec::new(), Vec::new()];
    for n in 0..2 * EDITS {
        for (at, (job, _)) in [&plain, &sealed].into_iter().enumerate() {
            times[at].push(timed(|| job.set("status", n).expect("an edit")).1);
        }
    }
    let [mut plain, mut sealed] = times;
    let figure = |what: &str, part, sealed: &mut [Duration], plain: &mut [Duration]| {
        let (name, beside) = (format!("edit in an encrypted file, {what}"), "in one that is not");
        Figure::new(name, quantile(sealed, part), beside, quantile(plain, part))
    };
    vec![
        figure("median", 0.5, &mut sealed, &mut plain),
        figure("99 %", 0.99, &mut sealed, &mut plain),
    ]
}

/// Durable commits of one row each.
pub(crate) fn bare_commits(path: &Path, count: usize, bytes: usize) -> Vec<Duration> {
    let database = Database::create(path).expect("a new database");
    let row = vec![7; bytes];
    let commit = |n: usize| {
        timed(|| {
            let txn = database.begin_write().expect("a transaction");
            let mut table = txn.open_table(ROWS).expect("a table");
            table.insert(n as u64, row.as_slice()).expect("an insert");
            drop(table);
            txn.commit().expect("a commit");
        })
        .1
    };
    (0..count).map(commit).collect()
}
