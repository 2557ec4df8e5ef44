//! A relay's file of the version before is taken over whole, or not at all: whatever happens to the
//! process, the machine or the disk at any operation.

use std::collections::BTreeSet;
use std::io::Read;

use flate2::read::DeflateDecoder;
use redb::{Database, ReadableDatabase, TableHandle};
use rejoin_core::SpaceName;
use rejoin_core::wire::CollectionDigest;
use rejoin_relay::store::{ChangeStore, LogPage};
use rejoin_tests::sim::disk::{Disk, Strike, Trouble};
use rejoin_tests::sim::random::Random;

/// The fixture of the relay's own tests, which say more of what is in it.
const FILE: &[u8] = include_bytes!("../../server/tests/fixtures/relay-1.redb.deflate");

const SPACES: [&str; 3] = ["acme", "harbour", "solo"];

#[test]
fn a_kill_at_any_operation_leaves_the_old_file_or_the_new_one() {
    strike_everywhere(|_| Trouble::Strike(Strike::Kill), Strike::Kill);
}

#[test]
fn a_power_loss_at_any_operation_leaves_the_old_file_or_the_new_one() {
    strike_everywhere(|_| Trouble::Strike(Strike::PowerLoss), Strike::PowerLoss);
}

#[test]
fn a_disk_that_fails_at_any_operation_leaves_the_old_file_or_the_new_one() {
    let trouble = |at| if at % 2 == 0 { Trouble::FailOnce } else { Trouble::FailForGood };
    strike_everywhere(trouble, Strike::PowerLoss);
}

fn strike_everywhere(trouble: impl Fn(u64) -> Trouble, end: Strike) {
    let file = file();
    let disk = Disk::holding(file.clone());
    let expected = contents(open(&disk).expect("nothing is wrong"));
    let operations = disk.operations();
    assert!(operations > 50, "only {operations} operations");
    let mut left = BTreeSet::new();
    for at in 1..=operations {
        let disk = Disk::holding(file.clone());
        disk.arm(at, trouble(at));
        drop(open(&disk));
        disk.go_down(end, &mut Random::new(at));
        left.insert(layout(&disk));
        let opened = open(&disk).unwrap_or_else(|error| panic!("operation {at}: {error}"));
        assert!(contents(opened) == expected, "operation {at}: something is lost");
    }
    assert_eq!(left, BTreeSet::from(["new", "old"]), "{operations} operations");
}

fn file() -> Vec<u8> {
    let mut file = Vec::new();
    DeflateDecoder::new(FILE).read_to_end(&mut file).expect("the fixture inflates");
    file
}

fn open(disk: &Disk) -> Result<ChangeStore, Box<dyn std::error::Error>> {
    let database = Database::builder().create_with_backend(disk.open())?;
    Ok(ChangeStore::open(database, 1 << 20, || [0; 16])?)
}

/// Which tables the file has: those of one layout, whole.
fn layout(disk: &Disk) -> &'static str {
    let database = Database::builder().create_with_backend(disk.open());
    let database = database.expect("redb opens what it wrote");
    let transaction = database.begin_read().expect("reading begins");
    let tables: BTreeSet<String> = transaction
        .list_tables()
        .expect("the tables are listed")
        .map(|table| table.name().to_owned())
        .collect();
    let (old, new) = (tables.contains("documents-1"), tables.contains("documents-2"));
    assert!(old != new, "a file of both layouts, or of none: {tables:?}");
    if old { "old" } else { "new" }
}

/// Everything sessions are told of the spaces.
fn contents(mut store: ChangeStore) -> Vec<(Vec<CollectionDigest>, LogPage)> {
    let relay = store.relay();
    assert_ne!(relay.0, [0; 16], "it is another relay");
    let of_space = |space| {
        let space = SpaceName::new(space).expect("it is a name");
        let digests = store.digests(&space).expect("the digests are there");
        let page = store.log_page(&space, 0, u64::MAX, usize::MAX, usize::MAX);
        (digests, page.expect("the log is there"))
    };
    SPACES.map(of_space).into()
}
