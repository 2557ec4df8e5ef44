//! Encrypted replicas and relays through the real binary, and what their disks have.

use std::fs;
use std::path::Path;

use rejoin_tests::processes::{Rejoin, RelayProcess};

const CANARIES: [&str; 4] = ["gate code 4711", "jobs", "2026-118", "Ana Petrovic"];

/// The files below a folder that have one of the canaries.
fn telling(folder: &Path) -> Vec<String> {
    let mut telling = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            telling.extend(self::telling(&path));
            continue;
        }
        let Ok(bytes) = fs::read(&path) else { continue };
        let has = |canary: &str| bytes.windows(canary.len()).any(|it| it == canary.as_bytes());
        if CANARIES.into_iter().any(has) {
            telling.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    telling
}

fn van<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["--replica", "van.redb", "--key-file", "van.key"], more].concat()
}

#[test]
fn encrypted_devices_meet_at_an_encrypted_relay_and_no_disk_says_of_what() {
    let folder = tempfile::tempdir().unwrap();
    let rejoin = Rejoin::in_dir(folder.path());
    for key in ["van.key", "relay.key", "other.key"] {
        rejoin.ok(["seal", "key", key]);
    }
    let data = folder.path().join("relay-data");
    fs::create_dir(&data).unwrap();
    let key = folder.path().join("relay.key");
    let with_key = ["--key-file", key.to_str().unwrap()];
    let relay = RelayProcess::start_as(&data, &with_key);
    let note = "note=gate code 4711";
    rejoin.ok(van(&["whoami", "--user", "Ana Petrovic"]));
    rejoin.ok(van(&["set", "jobs", "2026-118", note]));
    rejoin.ok(van(&["sync", &relay.url(), "--once"]));
    let desk = ["--replica", "desk.redb", "--passphrase-file", "words"];
    fs::write(folder.path().join("words"), "correct horse\n").unwrap();
    rejoin.ok([&desk[..], &["sync", &relay.url(), "--once"]].concat());
    assert!(rejoin.ok([&desk[..], &["get", "jobs", "2026-118"]].concat()).contains("4711"));
    assert_eq!(telling(folder.path()), [""; 0]);
    assert!(rejoin.ok(van(&["doctor"])).contains("nothing is wrong"));

    // The relay goes down, is refused without its key, is backed up, and comes back.
    drop(relay);
    let refused = rejoin.refused(["relay", "--listen", "127.0.0.1:0", "--data", "relay-data"]);
    assert!(refused.contains("it is encrypted; give its key"), "{refused}");
    let other = ["relay", "--listen", "127.0.0.1:0", "--data", "relay-data", "--key-file"];
    let refused = rejoin.refused([&other[..], &["other.key"]].concat());
    assert!(refused.contains("encrypted with another key"), "{refused}");
    let refused = rejoin.refused(["backup", "--data", "relay-data", "a.backup"]);
    assert!(refused.contains("it is encrypted; give its key"), "{refused}");
    rejoin.ok(["backup", "--data", "relay-data", "a.backup", "--key-file", "relay.key"]);
    let restore = ["backup", "restore", "a.backup", "--data", "again", "--key-file", "other.key"];
    rejoin.ok(restore);
    assert_eq!(telling(folder.path()), ["a.backup"]);
    fs::write(
        folder.path().join("relay.toml"),
        format!("data = \"again\"\nlisten = \"127.0.0.1:0\"\nkey_file = \"{}\"\n", "other.key"),
    )
    .unwrap();
    let checked = rejoin.ok(["relay", "--config", "relay.toml", "--check"]);
    assert!(checked.contains("key_file = \"other.key\""), "{checked}");
    let relay = RelayProcess::start_as(&data, &with_key);
    rejoin.ok(van(&["append", "jobs", "2026-118", "more", "and more"]));
    rejoin.ok(van(&["sync", &relay.url(), "--once"]));
    rejoin.ok([&desk[..], &["sync", &relay.url(), "--once"]].concat());
    let seen = rejoin.ok([&desk[..], &["get", "jobs", "2026-118"]].concat());
    assert!(seen.contains("and more"), "{seen}");
    drop(relay);

    // What is saved of a damaged one is encrypted, too.
    let salvage = ["doctor", "--salvage", "relay-data", "saved", "--key-file", "relay.key"];
    rejoin.ok(salvage);
    let salvage = ["doctor", "--salvage", "van.redb", "saved.redb", "--key-file", "van.key"];
    rejoin.ok(salvage);
    assert_eq!(telling(folder.path()), ["a.backup"]);
    let refused = rejoin.refused(["doctor", "--salvage", "van.redb", "saved-2.redb"]);
    assert!(refused.contains("is encrypted; give its key"), "{refused}");
}

#[test]
fn a_replica_is_encrypted_rekeyed_and_destroyed_at_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let rejoin = Rejoin::in_dir(folder.path());
    rejoin.ok(["--replica", "plain.redb", "set", "jobs", "2026-118", "note=gate code 4711"]);
    rejoin.ok(["seal", "key", "van.key"]);
    rejoin.ok(["seal", "key", "next.key"]);
    assert!(rejoin.refused(["seal", "key", "van.key"]).contains("van.key cannot be"));
    let refused = rejoin.refused(["seal", "encrypt", "plain.redb", "van.redb"]);
    assert!(refused.contains("--key-file FILE"), "{refused}");
    rejoin.ok(["seal", "encrypt", "plain.redb", "van.redb", "--key-file", "van.key"]);
    assert_eq!(telling(folder.path()), ["plain.redb"]);
    let refused =
        rejoin.refused(["--replica", "plain.redb", "--key-file", "van.key", "list", "jobs"]);
    assert!(refused.contains("is not encrypted"), "{refused}");
    let refused = rejoin.refused(["--replica", "van.redb", "list", "jobs"]);
    assert!(refused.contains("van.redb is encrypted; give its key"), "{refused}");
    let mut command = rejoin.command(["--replica", "van.redb", "list", "jobs"]);
    let listed = command.env("REJOIN_KEY_FILE", "van.key").output().unwrap();
    assert!(String::from_utf8(listed.stdout).unwrap().contains("2026-118"));
    let rekey =
        ["seal", "rekey", "van.redb", "--key-file", "van.key", "--new-key-file", "next.key"];
    rejoin.ok(rekey);
    let refused = rejoin.refused(van(&["list", "jobs"]));
    assert!(refused.contains("is encrypted with another key"), "{refused}");
    let next = ["--replica", "van.redb", "--key-file", "next.key"];
    assert!(rejoin.ok([&next[..], &["list", "jobs"]].concat()).contains("2026-118"));
    rejoin.ok(["seal", "decrypt", "van.redb", "back.redb", "--key-file", "next.key"]);
    assert!(rejoin.ok(["--replica", "back.redb", "list", "jobs"]).contains("2026-118"));
    let refused = rejoin.refused(["seal", "destroy", "van.redb"]);
    assert!(refused.contains("--yes"), "{refused}");
    let refused = rejoin.refused(["seal", "destroy", "back.redb", "--yes"]);
    assert!(refused.contains("it is not encrypted"), "{refused}");
    rejoin.ok(["seal", "destroy", "van.redb", "--yes"]);
    assert!(!folder.path().join("van.redb").exists());
    let keys: Vec<_> = ["van.key", "next.key"]
        .map(|key| fs::read_to_string(folder.path().join(key)).unwrap())
        .into();
    assert!(keys[0] != keys[1] && keys.iter().all(|key| key.trim().len() == 64));
}
