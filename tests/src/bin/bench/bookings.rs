//! Finding what a merged booking overlaps, and noting it, among more and more bookings.

use std::path::Path;
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use redb::{Database, ReadableTable, TableDefinition};
use rejoin::{CollectionName, DocumentId, SpaceName};
use rejoin_core::invariant::Booking;
use rejoin_engine::store::Store;

use crate::{Figure, quantile, timed};

const SIZES: [u64; 3] = [1_000, 10_000, 100_000];
const TECHNICIANS: u64 = 50;
const MERGED: usize = 500;
const SCANNED: usize = 20;
const INVARIANT: &str = "no_overlap";

const HOUR_MS: i64 = 3_600_000;
const DURATIONS_MIN: [i64; 8] = [15, 30, 45, 60, 90, 120, 240, 480];

/// As much memory for pages as a replica has.
const CACHE_BYTES: usize = 32 << 20;

/// A booking comes in with a merge: look what it overlaps, then note it. Beside a plain table of
/// bookings by document, all of which are read to find the same.
pub(crate) fn merged() -> Vec<Figure> {
    let mut figures = Vec::new();
    for (technicians, whose) in [(TECHNICIANS, "50 technicians"), (1, "1 technician")] {
        let mut both = Vec::new();
        for size in SIZES {
            let mut bookings = Bookings::new(size, technicians);
            let folder = tempfile::tempdir().expect("a temporary folder");
            let (check, update) = bookings.indexed(&folder.path().join("index.redb"));
            let (scan, insert) = bookings.scanned(&folder.path().join("plain.redb"));
            let mut figure = |what, ours, beside, theirs| {
                let what = format!("{what} among {size}, {whose}");
                figures.push(Figure::new(what, ours, beside, theirs));
            };
            figure("booking", check + update, "both without index", scan + insert);
            figure("overlaps", check, "all read", scan);
            figure("index update", update, "one row written", insert);
            both.push(check + update);
        }
        let (least, most) = (both[0], both[SIZES.len() - 1]);
        let growth = format!("growth to {}, {whose}", SIZES[SIZES.len() - 1]);
        figures.push(Figure::new(growth, most, &format!("among {}", SIZES[0]), least));
    }
    figures
}

/// Bookings as a calendar has them: on the quarter of an hour, some two at any moment, and one
/// absence of a year for each technician.
struct Bookings {
    random: ChaCha8Rng,
    size: u64,
    technicians: u64,
}

impl Bookings {
    fn new(size: u64, technicians: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(size), size, technicians }
    }

    fn all(&mut self) -> Vec<(DocumentId, Booking)> {
        (0..self.size).map(|n| (document(n), self.draw(n))).collect()
    }

    fn draw(&mut self, n: u64) -> Booking {
        let key = format!("\"technician {}\"", n % self.technicians);
        let hours = (self.size / self.technicians) as i64;
        let start = BEGIN_MS + self.random.random_range(0..hours * 4) * HOUR_MS / 4;
        let minutes = DURATIONS_MIN[self.random.random_range(0..DURATIONS_MIN.len())];
        let is_absence = n < self.technicians;
        let duration = if is_absence { 365 * 24 * HOUR_MS } else { minutes * HOUR_MS / 60 };
        Booking { key, start, end: start + duration }
    }

    /// Medians of looking up and of noting, in one transaction of a replica's file.
    fn indexed(&mut self, path: &Path) -> (Duration, Duration) {
        let space = SpaceName::new("main").expect("a name");
        let jobs = CollectionName::new("jobs").expect("a name");
        let store = Store::open(database(path), [1; 16]).expect("a new store");
        let txn = store.write().expect("a transaction");
        for (id, booking) in self.all() {
            txn.set_booking(&space, &jobs, INVARIANT, &id, Some(&booking)).expect("an insert");
        }
        txn.commit().expect("a commit");
        let txn = store.write().expect("a transaction");
        let mut merge = || {
            let n = self.random.random_range(self.technicians..self.size);
            let (id, booking) = (document(n), self.draw(n));
            let find = || txn.overlapping(&space, &jobs, INVARIANT, &booking, &id, 100);
            let note = || txn.set_booking(&space, &jobs, INVARIANT, &id, Some(&booking));
            let (found, check) = timed(find);
            assert!(found.is_ok_and(|found| found.len() < 100), "not all were found");
            let (noted, update) = timed(note);
            noted.expect("an insert");
            (check, update)
        };
        medians((0..MERGED).map(|_| merge()).collect())
    }

    /// The same with a table of bookings by document, without an index.
    fn scanned(&mut self, path: &Path) -> (Duration, Duration) {
        let database = database(path);
        let txn = database.begin_write().expect("a transaction");
        let mut table = txn.open_table(PLAIN).expect("a table");
        for (id, booking) in self.all() {
            table.insert(id.0, row(&booking)).expect("an insert");
        }
        drop(table);
        txn.commit().expect("a commit");
        let txn = database.begin_write().expect("a transaction");
        let mut merge = || {
            let n = self.random.random_range(self.technicians..self.size);
            let (id, booking) = (document(n), self.draw(n));
            let mut table = txn.open_table(PLAIN).expect("a table");
            let (_, check) = timed(|| {
                let rows = table.iter().expect("a table").map(|row| row.expect("a row"));
                let overlaps = rows.filter(|(other, row)| {
                    let (key, start, end) = row.value();
                    let meets = start < booking.end && end > booking.start;
                    meets && key == booking.key && other.value() != id.0
                });
                overlaps.count()
            });
            let (_, update) = timed(|| drop(table.insert(id.0, row(&booking)).expect("an insert")));
            (check, update)
        };
        medians((0..SCANNED).map(|_| merge()).collect())
    }
}

fn database(path: &Path) -> Database {
    Database::builder().set_cache_size(CACHE_BYTES).create(path).expect("a new database")
}

fn document(n: u64) -> DocumentId {
    // Ids are random, so that their order says nothing.
    DocumentId(ChaCha8Rng::seed_from_u64(n).random())
}

fn row(booking: &Booking) -> (&str, i64, i64) {
    (&booking.key, booking.start, booking.end)
}

fn medians(durations: Vec<(Duration, Duration)>) -> (Duration, Duration) {
    let (mut checks, mut updates): (Vec<_>, Vec<_>) = durations.into_iter().unzip();
    (quantile(&mut checks, 0.5), quantile(&mut updates, 0.5))
}

/// May 4, 2026.
const BEGIN_MS: i64 = 1_777_852_800_000;

/// (whose time, start, end) by document
const PLAIN: TableDefinition<'_, [u8; 16], (&str, i64, i64)> = TableDefinition::new("plain");
