//! A replica with a key does as one without, and its file says nothing.

use std::path::{Path, PathBuf};

use rejoin::blocking::Replica;
use rejoin::salvage::{DamagedFile, salvage};
use rejoin::{Key, OpenError, ReplicaFile, Text, doctor, seal};
use serde_json::json;

/// Words that are to be found nowhere but in memory.
const CANARIES: [&str; 5] = ["gate code 4711", "jobs", "2026-118", "Ana Petrovic", "notes"];

fn key() -> Key {
    Key::bytes([9; 32])
}

fn sealed(path: &Path) -> ReplicaFile {
    ReplicaFile::at(path).with(key())
}

/// Makes a replica with some work in it, and closes it in good order.
fn made(folder: &Path) -> PathBuf {
    let path = folder.join("van.redb");
    let replica = Replica::open(sealed(&path)).unwrap();
    replica.act_as(Some(rejoin::Identity::user("Ana Petrovic"))).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    for n in 100..160 {
        let value = json!({ "n": n, "notes": "gate code 4711. ".repeat(40) });
        jobs.create(&format!("2026-{n}"), &value).unwrap();
    }
    replica.close();
    path
}

/// The names of the files in a folder, with what of the canaries is found in each.
fn found(folder: &Path) -> Vec<(String, Vec<&'static str>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let Ok(bytes) = std::fs::read(entry.path()) else { continue };
        let has =
            |canary: &&str| bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
        let canaries = CANARIES.into_iter().filter(has).collect();
        found.push((entry.file_name().to_string_lossy().into_owned(), canaries));
    }
    found
}

#[test]
fn an_encrypted_replica_does_as_any_other_and_its_files_say_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path());
    for _ in 0..3 {
        let replica = Replica::open(sealed(&path)).unwrap();
        let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
        let job = jobs.document("2026-118").unwrap();
        job.edit(|job: &mut serde_json::Value| job["notes"] = json!("gate code 4711, twice"))
            .unwrap();
        job.append("notes", " and again").unwrap();
        assert_eq!(jobs.list().unwrap().len(), 60);
        // Also while it is open.
        assert!(found(folder.path()).iter().all(|(_, canaries)| canaries.is_empty()));
        replica.close();
    }
    assert_eq!(found(folder.path()), [("van.redb".to_owned(), Vec::new())]);
    // The canaries are ones: a replica without a key has them all.
    let plain = folder.path().join("plain.redb");
    seal::decrypt(&path, &plain, &key()).unwrap();
    let canaries =
        found(folder.path()).into_iter().find(|(name, _)| name == "plain.redb").unwrap().1;
    assert_eq!(canaries, CANARIES);
    let replica = Replica::open(&plain).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    let job: serde_json::Value = jobs.document("2026-118").unwrap().get().unwrap().unwrap();
    assert_eq!(job["notes"], "gate code 4711, twice and again");
    assert!(seal::is_sealed(&path).unwrap() && !seal::is_sealed(&plain).unwrap());
}

#[test]
fn a_replica_opens_with_its_key_only_and_says_which_way_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path());
    let before = std::fs::read(&path).unwrap();
    let error = Replica::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Sealed { .. }), "{error:?}");
    assert!(error.to_string().contains("is encrypted; give its key"), "{error}");
    let error = Replica::open(ReplicaFile::at(&path).with(Key::bytes([8; 32]))).unwrap_err();
    assert!(matches!(error, OpenError::WrongKey { .. }), "{error:?}");
    assert!(error.to_string().contains("is encrypted with another key"), "{error}");
    let passphrase = ReplicaFile::at(&path).with(Key::passphrase("correct horse"));
    let error = Replica::open(passphrase).unwrap_err();
    assert!(error.to_string().contains("a passphrase was given"), "{error}");
    assert!(matches!(doctor::check(&path, true), Err(OpenError::Sealed { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let plain = folder.path().join("plain.redb");
    Replica::open(&plain).unwrap().close();
    let error = Replica::open(sealed(&plain)).unwrap_err();
    assert!(matches!(error, OpenError::NotSealed { .. }), "{error:?}");
    assert!(error.to_string().contains("`rejoin seal encrypt`"), "{error}");
    let replica = Replica::open(sealed(&path)).unwrap();
    let error = Replica::open(sealed(&path)).unwrap_err();
    assert!(error.to_string().contains("is open in this process"), "{error}");
    replica.close();
    Replica::open(sealed(&path)).unwrap().close();
}

#[test]
fn a_passphrase_and_another_key_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("van.redb");
    let words = Key::passphrase("correct horse");
    let file = ReplicaFile::at(&path).with(words.clone());
    let replica = Replica::open(file.clone()).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    jobs.create("1", &json!({ "notes": Text::from("kept") })).unwrap();
    replica.close();
    assert!(!format!("{file:?}").contains("horse"));
    seal::change_key(&path, &words, &key()).unwrap();
    assert!(Replica::open(file).is_err());
    let replica = Replica::open(sealed(&path)).unwrap();
    let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
    assert_eq!(jobs.list().unwrap().len(), 1);
}

#[test]
fn what_was_wiped_is_gone_and_a_new_replica_may_take_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path());
    let left = folder.path().join("left");
    std::fs::hard_link(&path, &left).unwrap();
    let replica = Replica::open(sealed(&path)).unwrap();
    assert!(seal::destroy(&path).is_err());
    replica.close();
    seal::destroy(&path).unwrap();
    assert!(Replica::open(sealed(&left)).is_err());
    let replica = Replica::open(sealed(&path)).unwrap();
    assert!(replica.space("main").unwrap().collections().unwrap().is_empty());
}

#[test]
fn the_doctor_finds_an_altered_page_and_the_rest_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path());
    let report = doctor::check(sealed(&path), false).unwrap();
    assert!(report.is_sound());
    assert_eq!(doctor::bundle(sealed(&path), &report).unwrap().waiting, 60);
    let whole = std::fs::read(&path).unwrap();
    let (mut unsound, mut in_part) = (0, 0);
    for at in (24_576..whole.len()).step_by(4140 * 5) {
        let mut bytes = whole.clone();
        bytes[at + 100] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let sound = match doctor::check(sealed(&path), false) {
            Ok(report) => report.is_sound(),
            Err(OpenError::Damaged { .. } | OpenError::Store { .. }) => false,
            Err(error) => panic!("{error:?}"),
        };
        if sound {
            continue;
        }
        unsound += 1;
        std::fs::write(&path, &bytes).unwrap();
        let to = folder.path().join(format!("saved-{at}.redb"));
        let Ok(damaged) = DamagedFile::open(sealed(&path), &to) else { continue };
        let saved = salvage(damaged.transaction(), sealed(&to), &mut |_, _| {}).unwrap();
        drop(damaged);
        in_part += u64::from(saved.whole > 0);
        assert!(seal::is_sealed(&to).unwrap());
        let replica = Replica::open(sealed(&to)).unwrap();
        let jobs = replica.space("main").unwrap().collection("jobs").unwrap();
        for job in jobs.list().unwrap() {
            assert_eq!(job.value["notes"], "gate code 4711. ".repeat(40), "after {at}");
        }
    }
    assert!(unsound > 3, "{unsound}");
    assert!(in_part > 0, "{in_part}");
    assert!(found(folder.path()).iter().all(|(_, canaries)| canaries.is_empty()));
}

#[test]
fn a_file_that_was_cut_off_is_damaged_and_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path());
    let whole = std::fs::read(&path).unwrap();
    for len in [0, 1, 4000, 8192, 9000, 24_575, 24_576, 30_000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..len]).unwrap();
        let error = Replica::open(sealed(&path)).unwrap_err();
        let text = error.to_string();
        let is_told = text.contains("is damaged")
            || text.contains("is empty")
            || text.contains("is not encrypted");
        assert!(is_told, "{len}: {text}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), len as u64);
    }
}
