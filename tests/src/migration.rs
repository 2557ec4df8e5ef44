//! Files of the version before, taken over while something happens to the process, the machine or the
//! disk at any operation.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Debug;
use std::io::Read;

use flate2::read::DeflateDecoder;
use redb::{Database, ReadableDatabase, TableHandle};

use crate::sim::disk::{Disk, Strike, Trouble};
use crate::sim::random::Random;

/// A file to be taken over.
#[derive(Debug)]
pub struct Migration<T> {
    /// As the version before wrote it.
    pub file: Vec<u8>,
    /// Opens what is on a disk, and reads all of it.
    pub open: fn(Database) -> Result<T, Box<dyn Error>>,
}

impl<T: PartialEq + Debug> Migration<T> {
    /// Of a deflated file.
    pub fn new(deflated: &[u8], open: fn(Database) -> Result<T, Box<dyn Error>>) -> Self {
        let mut file = Vec::new();
        DeflateDecoder::new(deflated).read_to_end(&mut file).expect("the fixture inflates");
        Self { file, open }
    }

    /// What is in the file when nothing goes wrong.
    pub fn contents(&self) -> T {
        self.open(&Disk::holding(self.file.clone())).expect("nothing is wrong")
    }

    /// Kills the process at each operation of the disk in turn, cuts the power, or lets the operation
    /// fail, and takes the file over again after that: it is then the old one or the new one, and
    /// nothing of it is lost.
    pub fn strike_everywhere(&self) {
        self.strike(|_| Trouble::Strike(Strike::Kill), Strike::Kill);
        self.strike(|_| Trouble::Strike(Strike::PowerLoss), Strike::PowerLoss);
        let fails = |at| if at % 2 == 0 { Trouble::FailOnce } else { Trouble::FailForGood };
        self.strike(fails, Strike::PowerLoss);
    }

    fn strike(&self, trouble: impl Fn(u64) -> Trouble, end: Strike) {
        let disk = Disk::holding(self.file.clone());
        let expected = self.open(&disk).expect("nothing is wrong");
        let operations = disk.operations();
        assert!(operations > 50, "only {operations} operations");
        let mut left = BTreeSet::new();
        for at in 1..=operations {
            let disk = Disk::holding(self.file.clone());
            disk.arm(at, trouble(at));
            drop(self.open(&disk));
            disk.go_down(end, &mut Random::new(at));
            left.insert(layout(&disk));
            let opened = self.open(&disk).unwrap_or_else(|error| panic!("operation {at}: {error}"));
            assert!(opened == expected, "operation {at}: something is lost");
        }
        assert_eq!(left, BTreeSet::from(["new", "old"]), "{operations} operations");
    }

    fn open(&self, disk: &Disk) -> Result<T, Box<dyn Error>> {
        (self.open)(Database::builder().create_with_backend(disk.open())?)
    }
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
