//! The examples of the client crate, run as a reader runs them.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rejoin_tests::processes::{Rejoin, RelayProcess, Running, program};
use serde_json::json;

fn example(name: &str) -> Command {
    let mut command = Command::new(program(&PathBuf::from("examples").join(name)));
    command.env("RUST_LOG", "warn");
    command
}

fn printed(mut command: Command) -> String {
    let ended = command.output().expect("an example starts");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).expect("it prints text")
}

/// Runs a command of words without spaces.
fn run(rejoin: &Rejoin, line: &str) {
    rejoin.ok(line.split(' '));
}

#[test]
fn a_to_do_list_follows_is_undone_and_asks() {
    let source = include_str!("../../../client/examples/todo.rs");
    assert!(source.lines().count() <= 80, "it is to be read at one look");
    let expected = r#"added: ["Order a valve"]
added: ["Call the customer", "Order a valve"]
done (it was false): ["Call the customer"]
undone: done: ["Call the customer", "Order a valve"]
Ana's title: ["Call the customer", "Order two valves"]
Ben's title: nobody wins: ["Call the customer", "Order a valve"]
settled for Ben: ["Call the customer", "Order a pump"]
"#;
    let mut lines: Vec<String> = printed(example("todo")).lines().map(str::to_owned).collect();
    // Both were written within a second, and neither knew of the other.
    let mut says: Vec<_> = lines.extract_if(.., |line| line.starts_with("  ")).collect();
    says.sort();
    assert_eq!(says, [r#"  Ana says "Order two valves""#, r#"  Ben says "Order a pump""#]);
    assert_eq!(lines.join("\n") + "\n", expected);
}

#[test]
fn notes_made_offline_meet_at_a_relay() {
    let folder = tempfile::tempdir().expect("a folder");
    let relay = RelayProcess::start(folder.path().join("relay"));
    let file = |name: &str| folder.path().join(name);
    let note = |name: &str, note: &str, relay: Option<&str>| {
        let mut command = example("offline");
        command.arg(file(name)).args([name, note]).args(relay);
        printed(command)
    };
    assert!(note("Ana", "gate 4711", None).contains("on this device; 2 to send"));
    note("Ben", "beware of the dog", Some(&relay.url()));
    let both = note("Ana", "rang twice", Some(&relay.url()));
    assert!(both.contains("the relay holds everything; 0 to send"), "{both}");
    for said in ["Ana: gate 4711. ", "Ben: beware of the dog. ", "Ana: rang twice. "] {
        assert_eq!(both.matches(said).count(), 1, "{both}");
    }
}

#[test]
fn reviews_are_settled_by_number() {
    let folder = tempfile::tempdir().expect("a folder");
    let rejoin = Rejoin::in_dir(folder.path());
    let relay = RelayProcess::start(folder.path().join("relay"));
    for (file, phone) in [("a.redb", "1"), ("b.redb", "2")] {
        run(&rejoin, &format!("--replica {file} set jobs 1 phone={phone}"));
    }
    for file in ["a.redb", "b.redb", "a.redb"] {
        run(&rejoin, &format!("--replica {file} sync {} --once", relay.url()));
    }
    let mut command = example("reviews");
    command.arg(folder.path().join("a.redb")).arg("Ana");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("an example starts");
    child.stdin.take().expect("a pipe").write_all(b"1\n").expect("it reads");
    let ended = child.wait_with_output().expect("it ends");
    let printed = String::from_utf8(ended.stdout).expect("it prints text");
    assert!(printed.starts_with("1: phone\n  1) "), "{printed}");
    assert!(printed.ends_with("settled\n0 open\n"), "{printed}");
    let open = rejoin.json(["--replica", "a.redb", "reviews"]);
    assert_eq!(open, json!([]));
}

#[test]
fn a_list_follows_what_others_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let rejoin = Rejoin::in_dir(folder.path());
    let relay = RelayProcess::start(folder.path().join("relay"));
    run(&rejoin, "--replica b.redb set jobs 1 technician=ana starts_at=09:00 status=booked");
    run(&rejoin, &format!("--replica b.redb sync {} --once", relay.url()));
    let mut command = example("live_list");
    command.arg(folder.path().join("a.redb")).arg(relay.url()).arg("ana");
    let mut list = Running::start(command);
    assert_eq!(list.line().as_deref(), Some("+ 09:00 1 booked"));
    run(&rejoin, "--replica b.redb set jobs 1 status=done");
    run(&rejoin, &format!("--replica b.redb sync {} --once", relay.url()));
    assert_eq!(list.line().as_deref(), Some("~ 09:00 1 done"));
    run(&rejoin, "--replica b.redb delete jobs 1");
    run(&rejoin, &format!("--replica b.redb sync {} --once", relay.url()));
    assert_eq!(list.line().as_deref(), Some("- 09:00 1 done"));
}
