//! Replica files that cannot be used: what the binary says, and that it leaves them alone.

use std::fs;

use rejoin_tests::processes::{Rejoin, RelayProcess};

fn folder() -> (tempfile::TempDir, Rejoin) {
    let folder = tempfile::tempdir().expect("a folder");
    let rejoin = Rejoin::in_dir(folder.path());
    (folder, rejoin)
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[test]
fn a_file_that_is_no_replica_is_left_alone() {
    let (folder, rejoin) = folder();
    let file = folder.path().join("notes.txt");
    let content = "This is not a replica. ".repeat(500);
    fs::write(&file, &content).expect("a file");
    for command in ["list jobs", "set jobs 1 a=b", "digest", "doctor"] {
        let said = rejoin.refused(words(&format!("--replica notes.txt {command}")));
        assert!(said.contains("notes.txt"), "{said}");
        assert!(said.contains("not a replica"), "{said}");
    }
    assert_eq!(fs::read_to_string(&file).expect("the file"), content);
}

#[test]
fn a_damaged_replica_is_reported_and_not_written_over() {
    let (folder, rejoin) = folder();
    rejoin.ok(words("--replica a.redb set jobs 1 status=booked"));
    let file = folder.path().join("a.redb");
    let mut bytes = fs::read(&file).expect("the file");
    bytes.truncate(2000);
    fs::write(&file, &bytes).expect("the file");
    let said = rejoin.refused(words("--replica a.redb list jobs"));
    assert!(said.contains("a.redb is damaged"), "{said}");
    assert!(said.contains("restore it from a backup"), "{said}");
    assert_eq!(fs::read(&file).expect("the file"), bytes);
}

#[test]
fn an_empty_file_is_no_new_replica_and_no_new_relay() {
    let (folder, rejoin) = folder();
    let file = folder.path().join("a.redb");
    fs::write(&file, "").expect("a file");
    for command in ["list jobs", "set jobs 1 a=b", "doctor"] {
        let said = rejoin.refused(words(&format!("--replica a.redb {command}")));
        assert!(said.contains("a.redb is empty: was it cut short?"), "{command}: {said}");
    }
    assert_eq!(fs::metadata(&file).expect("the file").len(), 0);
    fs::create_dir(folder.path().join("relay")).expect("a folder");
    let store = folder.path().join("relay/relay.redb");
    fs::write(&store, "").expect("a file");
    let said = rejoin.refused(words("relay --listen 127.0.0.1:0 --data relay"));
    assert!(said.contains("relay.redb is empty: was it cut short?"), "{said}");
    assert_eq!(fs::metadata(&store).expect("the file").len(), 0);
}

#[test]
fn a_file_of_the_other_kind_is_told_as_such() {
    let (folder, rejoin) = folder();
    rejoin.ok(words("--replica a.redb set jobs 1 status=booked"));
    fs::create_dir(folder.path().join("relay")).expect("a folder");
    let store = folder.path().join("relay/relay.redb");
    fs::copy(folder.path().join("a.redb"), &store).expect("a copy");
    let said = rejoin.refused(words("relay --listen 127.0.0.1:0 --data relay"));
    assert!(said.contains("it is a replica's"), "{said}");
    fs::remove_file(&store).expect("the copy");
    drop(RelayProcess::start(folder.path().join("relay")));
    let said = rejoin.refused(words("--replica relay/relay.redb list jobs"));
    assert!(said.contains("the file is a relay's"), "{said}");
}

#[test]
fn reading_makes_no_file() {
    let (folder, rejoin) = folder();
    for command in [
        "list jobs",
        "get jobs 1",
        "export jobs",
        "history jobs 1",
        "status",
        "digest",
        "doctor",
        "watch jobs",
        "append jobs 1 notes x",
        "add jobs 1 n 1",
        "delete jobs 1",
        "reviews",
        "review ab",
        "settle ab --take 1",
        "assign ab Ann",
        "blame jobs 1",
        "audit",
        "whoami",
    ] {
        let said = rejoin.refused(words(&format!("--replica new.redb {command}")));
        assert!(said.contains("there is no replica at new.redb"), "{command}: {said}");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let (folder, rejoin) = folder();
    let said = rejoin.refused(words("--replica gone/a.redb set jobs 1 a=b"));
    assert!(said.contains("folder does not exist"), "{said}");
    fs::write(folder.path().join("file"), "").expect("a file");
    let said = rejoin.refused(words("--replica file/a.redb set jobs 1 a=b"));
    assert!(said.contains("file/a.redb"), "{said}");
}

/// Permissions do not bind whoever runs as root, but nobody can make a file in there.
#[test]
#[cfg(target_os = "linux")]
fn a_read_only_folder_is_named_with_what_to_do() {
    let (_folder, rejoin) = folder();
    let said = rejoin.refused(words("--replica /sys/kernel/a.redb set jobs 1 a=b"));
    assert!(said.contains("/sys/kernel/a.redb cannot be written"), "{said}");
    assert!(said.contains("write permission"), "{said}");
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let (_folder, rejoin) = folder();
    rejoin.ok(words("--replica a.redb set jobs 1 status=booked"));
    for (command, said) in [
        (
            "list customers",
            "there is no collection \"customers\"; space \"main\" has jobs (1 document)",
        ),
        (
            "get jobs 2",
            "there is no document \"2\" in jobs; `rejoin list jobs` shows what there is",
        ),
        ("--space other list jobs", "space \"other\" is empty here"),
        ("add jobs 1 status 2", "status"),
        ("append jobs 2 notes x", "there is no document \"2\""),
        ("history jobs 1 --at ffff", "no change of this document begins with \"ffff\""),
        ("sync http://127.0.0.1:1 --once", "is not the address of a relay; write it as ws://"),
        (
            "sync ws://127.0.0.1:1 --once --timeout 200ms",
            "not in sync after 0.2 s: connecting, 1 edit to send; ws://127.0.0.1:1/sync cannot be reached",
        ),
    ] {
        let told = rejoin.refused(words(&format!("--replica a.redb {command}")));
        assert!(told.contains(said), "{command}: {told}");
    }
    let told = rejoin.refused(words("list jobs"));
    assert!(told.contains("Give --replica FILE, or set REJOIN_REPLICA"), "{told}");
}

#[test]
fn a_command_line_that_is_not_understood_ends_with_2() {
    let (_folder, rejoin) = folder();
    for line in ["frobnicate", "set jobs 1", "set jobs 1 nosign", "add jobs 1 n two", "sync"] {
        assert_eq!(rejoin.run(words(line)).code, 2, "{line}");
    }
}
