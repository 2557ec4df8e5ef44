//! The power goes at every operation, and the last commit or the one under way is there.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use redb::{Database, Durability};
use rejoin_seal::{Key, Sealed};

use super::disk::Disk;
use super::{NOTES, get, key, open, put};

/// The rows of one commit: some that change each time, of all sizes, and one that says which it was.
fn rows(commit: u64) -> Vec<(u64, Vec<u8>)> {
    let mut random = StdRng::seed_from_u64(commit);
    let mut rows: Vec<_> = (0..random.random_range(1..12))
        .map(|_| {
            let mut value = vec![0; random.random_range(0..14_000)];
            random.fill_bytes(&mut value);
            (random.random_range(1..40), value)
        })
        .collect();
    rows.push((0, commit.to_le_bytes().to_vec()));
    rows
}

/// Every row as it is after so many commits.
fn expected(commits: u64) -> std::collections::BTreeMap<u64, Vec<u8>> {
    (1..=commits).flat_map(rows).collect()
}

/// Commits until the power goes, and returns how many commits had returned.
fn work(disk: &Disk, from: u64) -> u64 {
    let mut done = from;
    let run = || -> Result<(), redb::Error> {
        let database = open(disk.clone())?;
        for commit in from + 1..=from + COMMITS {
            put(&database, rows(commit))?;
            done = commit;
        }
        Ok(())
    };
    // An error is the power's.
    let _ = { run }();
    done
}

fn holds(database: &Database) -> u64 {
    let commit =
        get(database, 0).unwrap().map_or(0, |it| u64::from_le_bytes(it.try_into().unwrap()));
    for (key, value) in expected(commit) {
        assert_eq!(get(database, key).unwrap().as_ref(), Some(&value), "row {key} of {commit}");
    }
    commit
}

fn made() -> Disk {
    let disk = Disk::default();
    let sealed = Sealed::create(disk.clone(), &key()).unwrap();
    drop(Database::builder().create_with_backend(sealed).unwrap());
    put(&open(disk.clone()).unwrap(), rows(1)).unwrap();
    disk
}

#[test]
fn a_power_loss_anywhere_leaves_the_last_commit_or_the_one_under_way() {
    let whole = Disk::holding(made().bytes());
    assert_eq!(work(&whole, 1), 1 + COMMITS);
    let operations = whole.operations();
    assert!(operations > 100, "{operations}");
    let made = made().bytes();
    for cut in 0..operations {
        for seed in 0..SEEDS {
            let disk = Disk::holding(made.clone());
            disk.cut_after(cut);
            let done = work(&disk, 1);
            let after = disk.after_power_loss(cut * SEEDS + seed);
            let database = open(after.clone())
                .unwrap_or_else(|error| panic!("cut after {cut}, seed {seed}: {error:?}"));
            let found = holds(&database);
            assert!(
                found == done || found == done + 1,
                "cut after {cut}, seed {seed}: {done} were told, {found} are there"
            );
            // It goes on from there.
            put(&database, rows(found + 1)).unwrap();
            drop(database);
            assert_eq!(holds(&open(after).unwrap()), found + 1);
        }
    }
}

#[test]
fn power_losses_one_after_the_other_lose_no_commit() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut disk = made();
        let mut done = 1;
        for _ in 0..12 {
            disk.cut_after(random.random_range(0..60));
            let told = work(&disk, done);
            disk = disk.after_power_loss(random.next_u64());
            done = holds(&open(disk.clone()).unwrap());
            assert!(done == told || done == told + 1, "seed {seed}: {told} told, {done} there");
        }
    }
}

#[test]
fn what_was_committed_without_a_sync_may_be_lost_and_nothing_else() {
    for seed in 0..60 {
        let disk = made();
        let database = open(disk.clone()).unwrap();
        disk.cut_after(StdRng::seed_from_u64(seed).random_range(0..200));
        for commit in 2..30 {
            let run = || -> Result<(), redb::Error> {
                let mut transaction = database.begin_write()?;
                transaction.set_durability(Durability::None)?;
                {
                    let mut table = transaction.open_table(NOTES)?;
                    for (key, value) in rows(commit) {
                        table.insert(key, &value[..])?;
                    }
                }
                Ok(transaction.commit()?)
            };
            if run().is_err() {
                break;
            }
        }
        let after = disk.after_power_loss(seed);
        assert_eq!(holds(&open(after).unwrap()), 1, "seed {seed}");
    }
}

#[test]
fn a_change_of_the_key_that_is_cut_short_leaves_one_of_the_two() {
    use redb::StorageBackend;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.redb");
    let made = made().bytes();
    std::fs::write(&path, &made).unwrap();
    let new = Key::bytes([8; 32]);
    rejoin_seal::change_key(&path, &key(), &new).unwrap();
    let changed = std::fs::read(&path).unwrap();
    // The first write and every part of it, and then the second one.
    for (first, second) in [(4096..8192, 0..4096), (0..4096, 4096..8192)] {
        for kept in 0..=8 {
            let disk = Disk::holding(made.clone());
            disk.write(first.start, &changed[first.start as usize..][..kept * 512]).unwrap();
            if kept == 8 {
                let half = &changed[second.start as usize..][..512];
                disk.write(second.start, half).unwrap();
            }
            let opens = [&key(), &new].map(|key| Sealed::open(disk.clone(), key).is_ok());
            assert!(opens[0] != opens[1], "{first:?} {kept}: {opens:?}");
        }
    }
}

const COMMITS: u64 = 8;
const SEEDS: u64 = 8;
