//! Files damaged byte by byte, at places that a seed chooses: nothing panics, nothing wrong is shown,
//! what is not damaged is served, and salvage gets all that does not stand on the damaged page.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use rejoin::salvage::{DamagedFile, salvage};
use rejoin::{CollectionName, Entry, Link, Op, SpaceName, blocking};
use rejoin_core::DocumentId;
use rejoin_engine::store::Store;
use rejoin_engine::{Content, Edit, Engine, EngineOptions, Target};
use rejoin_relay::store::{ChangeStore, salvage as salvage_relay};
use rejoin_relay::{Relay, RelayOptions};
use rejoin_tests::meeting::Meeting;

/// How a file is damaged.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// A bit flips.
    Bit { at: usize, bit: u8 },
    /// A sector reads as zeros.
    Zeros { at: usize },
}

const SECTOR: usize = 512;

impl Damage {
    fn random(rng: &mut ChaCha8Rng, len: usize) -> Self {
        match rng.random_bool(0.7) {
            true => Self::Bit { at: rng.random_range(0..len), bit: rng.random_range(0..8) },
            false => Self::Zeros { at: rng.random_range(0..len / SECTOR) * SECTOR },
        }
    }

    fn of(self, sound: &[u8]) -> Vec<u8> {
        let mut bytes = sound.to_vec();
        match self {
            Self::Bit { at, bit } => bytes[at] ^= 1 << bit,
            Self::Zeros { at } => bytes[at..at + SECTOR].fill(0),
        }
        bytes
    }
}

fn main_space() -> SpaceName {
    SpaceName::new("main").unwrap()
}

fn set(key: &str, field: &str, value: String) -> Edit {
    let op = Op::Set { path: field.into(), before: None, after: value.into() };
    Edit {
        space: main_space(),
        collection: CollectionName::new("jobs").unwrap(),
        target: Target::Key(key.to_owned()),
        create: true,
        author: None,
        batch: None,
        content: Content::Ops { base: None, ops: vec![op] },
    }
}

fn note(n: u32) -> String {
    format!("note {n} of a job that takes some room on its page: {}", "x".repeat(n as usize % 50))
}

/// A replica's file with jobs that nobody else has, and what each says.
fn replica(folder: &Path) -> (Vec<u8>, BTreeMap<String, String>) {
    let path = folder.join("sound.redb");
    let database = Database::create(&path).unwrap();
    let store = Arc::new(Store::open(database, [7; 16]).unwrap());
    let mut seed = 0;
    let random = move || {
        seed += 1;
        [seed; 16]
    };
    let mut engine = Engine::new(store, EngineOptions::default(), random).unwrap();
    let mut jobs = BTreeMap::new();
    for n in 0..JOBS {
        let (key, said) = (format!("job-{n}"), note(n));
        let edits = vec![set(&key, "note", said.clone())];
        engine.turn(0, 0, edits).unwrap().remove(0).unwrap();
        jobs.insert(key, said);
    }
    drop(engine);
    (fs::read(&path).unwrap(), jobs)
}

const JOBS: u32 = 60;

/// The notes of all jobs that a replica shows, if it lists them.
fn listed(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let replica = blocking::Replica::open(path).map_err(|error| error.to_string())?;
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let listed = jobs.list().map_err(|error| error.to_string());
    let notes = listed.map(|entries| {
        let note = |entry: Entry| {
            let said = entry.value["note"].as_str().unwrap_or_default().to_owned();
            (entry.key.unwrap_or_default(), said)
        };
        entries.into_iter().map(note).collect()
    });
    replica.close();
    notes
}

#[test]
fn a_damaged_replica_shows_nothing_wrong_and_salvage_gets_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (sound, jobs) = replica(folder.path());
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut refused, mut partly, mut all, mut nothing) = (0, 0, 0, 0);
    for round in 0..ROUNDS {
        let damage = Damage::random(&mut rng, sound.len());
        let path = folder.path().join("damaged.redb");
        fs::write(&path, damage.of(&sound)).unwrap();
        match listed(&path) {
            Ok(shown) => {
                for (key, said) in &shown {
                    assert_eq!(jobs.get(key), Some(said), "{round}: {damage:?}: {key} is wrong");
                }
            }
            Err(said) => {
                refused += 1;
                assert!(!said.contains("thread"), "{round}: {damage:?}: {said}");
            }
        }
        fs::write(&path, damage.of(&sound)).unwrap();
        let to = folder.path().join(format!("salvaged-{round}.redb"));
        let Ok(damaged) = DamagedFile::open(&path, &to) else {
            nothing += 1;
            continue;
        };
        let salvaged = salvage(damaged.transaction(), &to, &mut |_, _| {}).unwrap();
        drop(damaged);
        assert_eq!(fs::read(&path).unwrap(), damage.of(&sound), "the damaged file is only read");
        let shown = listed(&to).unwrap_or_else(|error| panic!("{round}: {damage:?}: {error}"));
        for (key, said) in &shown {
            // A job that was saved in part is as it was earlier, and told of.
            let is_partly = salvaged.partly.iter().any(|it| it.key.as_ref() == Some(key));
            let is_earlier = is_partly && said.is_empty();
            assert!(
                is_earlier || jobs.get(key) == Some(said),
                "{round}: {damage:?}: {key} says {said}"
            );
        }
        // What is lost was told.
        let lost = jobs.len() - shown.len();
        let told = salvaged.lost.len() + salvaged.partly.len() + salvaged.unnamed as usize;
        assert!(lost <= told, "{round}: {damage:?}: {lost} lost, told {salvaged:?}");
        match lost {
            0 => all += 1,
            _ => partly += 1,
        }
        // A leaf page has some ten rows of this size, and two levels of branches do not exist here.
        assert!(shown.len() * 2 > jobs.len(), "{round}: {damage:?}: only {} saved", shown.len());
        fs::remove_file(&to).unwrap();
    }
    println!("{refused} refused; {all} salvaged whole, {partly} in part, {nothing} not at all");
    assert!(all > ROUNDS / 2);
    assert!(nothing <= ROUNDS / 10, "{nothing} of {ROUNDS} could not be opened");
}

const ROUNDS: usize = 120;

/// A meeting of one replica whose relay stores in a file.
fn meeting_at(path: &Path) -> Meeting {
    let mut meeting = Meeting::new(3);
    meeting.relay = relay_at(path).unwrap();
    meeting
}

fn relay_at(path: &Path) -> Result<Relay, String> {
    let database = Database::create(path).map_err(|error| error.to_string())?;
    let mut seed = 100;
    let random = || {
        seed += 1;
        [seed; 16]
    };
    Relay::open(database, RelayOptions::default(), random).map_err(|error| error.to_string())
}

/// A relay in memory, in the place of one whose file is to be closed.
fn close_relay(meeting: &mut Meeting) {
    // The relay's driver fences the end of a damaged store like this, too.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| meeting.replace_relay()));
}

/// A relay's file with the jobs of one replica, and that replica.
fn relay(folder: &Path) -> (PathBuf, Meeting) {
    let path = folder.join("relay.redb");
    let mut meeting = meeting_at(&path);
    let writer = meeting.join(EngineOptions::default());
    for n in 0..JOBS {
        meeting.edit(writer, vec![set(&format!("job-{n}"), "note", note(n))]);
    }
    meeting.edit(writer, vec![set("job-1", "more", "of it".to_owned())]);
    meeting.connect(writer);
    meeting.settle(writer);
    meeting.disconnect(writer);
    close_relay(&mut meeting);
    (path, meeting)
}

/// Flips a bit in the row of a change of document no. `number`: the one before the last.
fn flip_in_relay(path: &Path, number: u64) {
    let documents: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("documents-2");
    let database = Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut documents = transaction.open_table(documents).unwrap();
        let changes = documents.range((number, 0)..(number, 1 << 63)).unwrap();
        let second = changes.map(|row| row.unwrap().0.value()).nth(1).unwrap();
        let mut row = documents.get(second).unwrap().unwrap().value().to_vec();
        *row.last_mut().unwrap() ^= 1;
        documents.insert(second, row.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

fn digest(engine: &Engine) -> Vec<u8> {
    let view = engine.store().read().unwrap();
    let digests = view.digests(&main_space()).unwrap();
    digests.iter().flat_map(|(_, row)| row.digest.to_bytes()).collect()
}

#[test]
fn one_flipped_bit_at_the_relay_is_mended_by_the_replica_that_holds_the_change() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut meeting) = relay(folder.path());
    flip_in_relay(&path, 2);
    meeting.relay = relay_at(&path).unwrap();

    // A new replica completes, with what can be read.
    let reader = meeting.join(EngineOptions::default());
    meeting.connect(reader);
    for _ in 0..1000 {
        meeting.round_trip(reader);
        if meeting.replicas[reader].status().lost == 1 {
            break;
        }
        meeting.wait(50);
    }
    // It holds all that the relay does, and knows that this is not all.
    let status = meeting.replicas[reader].status();
    assert_eq!((status.link, status.lost), (Link::Syncing, 1));
    let counters = meeting.relay.counters();
    assert_eq!((counters.documents_damaged, counters.changes_damaged), (1, 1));
    assert_ne!(digest(&meeting.replicas[0]), digest(&meeting.replicas[reader]));

    // Who holds the change is not told that both hold everything before the relay has it again.
    meeting.connect(0);
    for _ in 0..1000 {
        meeting.round_trip(0);
        if meeting.replicas[0].status().link == Link::Safe {
            break;
        }
        meeting.wait(50);
    }
    assert_eq!(meeting.replicas[0].status().link, Link::Safe);
    let all = digest(&meeting.replicas[0]);
    let held = meeting.relay.store_mut().contents(&main_space()).unwrap();
    assert_eq!(held.iter().flat_map(|it| it.digest.to_bytes()).collect::<Vec<_>>(), all);
    meeting.settle(reader);
    assert_eq!(digest(&meeting.replicas[reader]), all);
}

#[test]
fn a_replica_that_is_connected_when_damage_is_found_pushes_what_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut meeting) = relay(folder.path());
    flip_in_relay(&path, 2);
    meeting.relay = relay_at(&path).unwrap();
    meeting.connect(0);
    meeting.settle(0);
    assert_eq!(meeting.relay.counters().documents_damaged, 0, "nobody has read it");
    let reader = meeting.join(EngineOptions::default());
    meeting.connect(reader);
    meeting.settle(reader);
    assert_eq!(meeting.relay.counters().documents_damaged, 1);
    assert_eq!(digest(&meeting.replicas[reader]), digest(&meeting.replicas[0]));
}

#[test]
fn a_relay_damaged_anywhere_gives_errors_and_salvage_and_repair_bring_everything_back() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut meeting) = relay(folder.path());
    let sound = fs::read(&path).unwrap();
    let all = digest(&meeting.replicas[0]);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (mut whole, mut partly, mut nothing) = (0, 0, 0);
    for round in 0..ROUNDS / 2 {
        let damage = Damage::random(&mut rng, sound.len());
        let path = folder.path().join("damaged.redb");
        fs::write(&path, damage.of(&sound)).unwrap();
        let to = folder.path().join(format!("salvaged-{round}.redb"));
        let Ok(damaged) = DamagedFile::open(&path, &to) else {
            nothing += 1;
            continue;
        };
        assert!(damaged.is_relay());
        let mut seed = 50;
        let random = || {
            seed += 1;
            [seed; 16]
        };
        let salvaged = salvage_relay(damaged.transaction(), &to, None, random, &mut |_, _| {});
        let salvaged = salvaged.unwrap_or_else(|error| panic!("{round}: {damage:?}: {error}"));
        drop(damaged);
        assert_eq!(fs::read(&path).unwrap(), damage.of(&sound), "the damaged file is only read");
        match salvaged.is_everything() {
            true => whole += 1,
            false => partly += 1,
        }
        // What was told is what is there.
        let store = ChangeStore::open(Database::create(&to).unwrap(), 1 << 20, || [1; 16]);
        let mut store = store.unwrap_or_else(|error| panic!("{round}: {damage:?}: {error}"));
        let there = store.documents_of(&main_space()).unwrap();
        let told = salvaged.whole + salvaged.partly.len() as u64;
        assert_eq!(there, told, "{round}: {damage:?}: {salvaged:?}");
        assert!(there * 2 > u64::from(JOBS), "{round}: {damage:?}: only {there} saved");
        drop(store);
        // The replica brings back what is lost.
        meeting.relay = relay_at(&to).unwrap();
        meeting.connect(0);
        meeting.settle(0);
        let held = meeting.relay.store_mut().contents(&main_space()).unwrap();
        let held: Vec<u8> = held.iter().flat_map(|it| it.digest.to_bytes()).collect();
        assert_eq!(held, all, "{round}: {damage:?}");
        meeting.disconnect(0);
        close_relay(&mut meeting);
        fs::remove_file(&to).unwrap();
    }
    println!("{whole} salvaged whole, {partly} in part, {nothing} not at all");
    assert!(nothing <= ROUNDS / 20, "{nothing} could not be opened");
}

/// What a relay's replicas hold when its file is damaged while it is stopped: it refuses to start, or
/// it serves, and never a byte that its author did not write.
#[test]
fn a_relay_that_starts_on_a_damaged_file_serves_only_what_is_sound() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut meeting) = relay(folder.path());
    let sound = fs::read(&path).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut served = 0;
    for round in 0..ROUNDS / 2 {
        let damage = Damage::random(&mut rng, sound.len());
        let path = folder.path().join("damaged.redb");
        fs::write(&path, damage.of(&sound)).unwrap();
        let opened = std::panic::catch_unwind(|| relay_at(&path));
        let Ok(Ok(relay)) = opened else { continue };
        meeting.relay = relay;
        let reader = meeting.join(EngineOptions::default());
        meeting.connect(reader);
        // Whatever the relay cannot do, the replica takes no wrong byte: it would end the session.
        let exchanged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..40 {
                meeting.round_trip(reader);
                meeting.wait(50);
            }
        }));
        if exchanged.is_ok() {
            served += 1;
            let view = meeting.replicas[reader].store().read().unwrap();
            let jobs = CollectionName::new("jobs").unwrap();
            view.each_value(&main_space(), &jobs, |_, row| {
                let value: serde_json::Value = serde_json::from_slice(&row.json).unwrap();
                let key = row.key.unwrap();
                let n: u32 = key.trim_start_matches("job-").parse().unwrap();
                // Where the change that wrote it is taken out, the job is as it was before.
                let said = &value["note"];
                assert!(said.is_null() || *said == note(n), "{round}: {damage:?}: {said}");
                true
            })
            .unwrap();
        }
        meeting.disconnect(reader);
        close_relay(&mut meeting);
        meeting.replicas.truncate(1);
    }
    assert!(served > ROUNDS / 4, "only {served} served");
}

#[test]
fn documents_of_a_damaged_replica_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (sound, _) = replica(folder.path());
    let path = folder.path().join("damaged.redb");
    fs::write(&path, &sound).unwrap();
    // The genesis of the first document, and so all of it, is gone.
    let changes: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("changes-2");
    let numbers: TableDefinition<'_, [u8; 16], u64> = TableDefinition::new("numbers-1");
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut changes = transaction.open_table(changes).unwrap();
        let mut row = changes.get((1, 0)).unwrap().unwrap().value().to_vec();
        *row.last_mut().unwrap() ^= 1;
        changes.insert((1, 0), row.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
    let transaction = database.begin_read().unwrap();
    let numbers = transaction.open_table(numbers).unwrap();
    let first = numbers.iter().unwrap().map(|row| row.unwrap());
    let first = first.map(|(id, number)| (number.value(), DocumentId(id.value()))).min().unwrap().1;
    drop((transaction, database));
    let to = folder.path().join("salvaged.redb");
    let damaged = DamagedFile::open(&path, &to).unwrap();
    let salvaged = salvage(damaged.transaction(), &to, &mut |_, _| {}).unwrap();
    assert_eq!(salvaged.lost.len(), 1, "{salvaged:?}");
    assert_eq!(salvaged.lost[0].document, first.to_string());
    assert_eq!(salvaged.lost[0].key.as_deref(), Some("job-0"));
    assert_eq!((salvaged.edits, salvaged.edits_lost), (u64::from(JOBS) - 1, 1));
    assert!(salvaged.set_aside >= 1, "what builds on it is kept apart: {salvaged:?}");
}
