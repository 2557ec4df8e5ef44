//! What is printed fits who reads it: a narrow terminal, a pipe, and nobody at all.

use std::io::pipe;
use std::process::{Command, Stdio};

use rejoin_tests::processes::{Rejoin, RelayProcess, Running};

/// A company with many jobs, in a folder of its own.
struct Company {
    rejoin: Rejoin,
    folder: tempfile::TempDir,
}

impl Company {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rejoin = Rejoin::in_dir(folder.path());
        let statuses = ["booked", "en_route", "done"];
        let rows = (0..300).map(|row| {
            let (status, notes) = (statuses[row % 3], "ring twice and wait ".repeat(9));
            format!("2026-{row:05},T{},{notes}!,{row} Long Avenue of the City,{status}\n", row % 7)
        });
        let csv = format!("id,technician,notes,address,status\n{}", rows.collect::<String>());
        let import = "--replica a.redb import - --collection jobs --key id".split(' ');
        assert_eq!(rejoin.run_with_input(import, csv.as_bytes()).code, 0);
        rejoin.ok("--replica a.redb delete jobs 2026-00007".split(' '));
        Self { rejoin, folder }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.rejoin.command(line.split(' '));
        command.env("REJOIN_REPLICA", "a.redb");
        command
    }

    /// What is printed in a terminal of so many columns, or into a pipe.
    fn shown(&self, line: &str, columns: Option<usize>) -> String {
        let mut command = self.command(line);
        match columns {
            Some(columns) => command.env("COLUMNS", columns.to_string()),
            None => command.env_remove("COLUMNS"),
        };
        let output = command.output().expect("rejoin starts");
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }
}

/// Standard output, or error, that nobody reads any more.
fn gone() -> Stdio {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn no_command_fails_because_nobody_reads() {
    let company = Company::new();
    let relay = RelayProcess::start(company.folder.path().join("relay"));
    let url = relay.url();
    let lines = [
        "list jobs",
        "list jobs --json",
        "list jobs --deleted",
        "export jobs",
        "export jobs --json",
        "export jobs --format csv",
        "get jobs 2026-00001",
        "history jobs 2026-00001",
        "history jobs 2026-00001 --json",
        "blame jobs 2026-00001",
        "audit",
        "reviews",
        "reviews --json",
        "status",
        "status --unsent",
        "status --unsent --json",
        "whoami",
        "digest",
        "doctor",
        "schema show",
        "set jobs 2026-00001 status=done",
        "--help",
        "--version",
        "help list",
        "demo",
        &format!("sync {url} --once"),
        &format!("watch jobs --json --connect {url}"),
    ];
    for line in lines {
        let mut command = company.command(line);
        let output = command.env("RUST_LOG", "error").stdout(gone()).output();
        let output = output.expect("rejoin starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*said), (Some(0), ""), "{line}");
    }
}

#[test]
fn errors_that_nobody_reads_are_still_errors() {
    let company = Company::new();
    for (line, code) in [
        ("get jobs none", 1),
        ("get jobs none --json", 1),
        ("restore jobs 2026-00001", 1),
        ("nonsense", 2),
        ("nonsense --json", 2),
    ] {
        let status = company.command(line).stdout(gone()).stderr(gone()).status();
        assert_eq!(status.expect("rejoin starts").code(), Some(code), "{line}");
    }
}

#[test]
fn a_relay_goes_on_when_nobody_reads_its_log() {
    let company = Company::new();
    let mut command = company.command("relay --listen 127.0.0.1:0 --data relay --json");
    command.env("RUST_LOG", "trace").stderr(gone());
    let mut relay = Running::start(command);
    let line = relay.line().expect("the relay listens");
    let line: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
    let url = line["url"].as_str().expect("an address");
    for replica in ["a.redb", "b.redb"] {
        company.rejoin.ok(["--replica", replica, "sync", url, "--once"]);
    }
    assert!(relay.lives());
}

#[test]
fn a_narrow_table_keeps_keys_and_the_status() {
    let company = Company::new();
    for columns in [40, 80] {
        let list = company.shown("list jobs", Some(columns));
        let mut lines = list.lines();
        let heading = lines.next().expect("a heading");
        assert!(heading.starts_with("KEY         status"), "{heading}");
        assert!(list.contains("2026-00001  en_route"), "{list}");
        assert!(list.lines().all(|line| line.chars().count() <= columns), "{list}");

        let asked = "list jobs --fields status,notes,address,technician,id";
        let list = company.shown(asked, Some(columns));
        assert!(list.contains("2026-00001  en_route"), "{list}");
        assert!(list.lines().all(|line| line.chars().count() <= columns), "{list}");

        for (line, seen) in [
            ("list jobs --deleted", "2026-00007"),
            ("status --unsent", "jobs        2026-00299"),
            ("history jobs 2026-00007", "edit"),
        ] {
            let table = company.shown(line, Some(columns));
            assert!(table.contains(seen), "{table}");
            // The last line of some is a sentence, which a terminal breaks.
            let rows = table.lines().take_while(|line| !line.contains('`'));
            assert!(rows.clone().count() > 1, "{table}");
            assert!(rows.clone().all(|line| line.chars().count() <= columns), "{table}");
        }
    }
}

#[test]
fn a_pipe_gets_whole_values() {
    let company = Company::new();
    let list = company.shown("list jobs", None);
    let whole = format!("{}!", "ring twice and wait ".repeat(9));
    assert_eq!(list.matches(&whole).count(), 299, "{}", &list[..2000]);
    assert!(list.contains("1 Long Avenue of the City") && !list.contains('…'));
}

#[test]
fn help_breaks_between_words() {
    let company = Company::new();
    let helps = ["--help", "list --help", "set --help", "relay --help", "adapters run --help"];
    for line in helps {
        let words = |columns| {
            let help = company.shown(line, Some(columns));
            // How a command is typed stays in one line.
            let mut lines = help.lines().filter(|line| !line.starts_with("Usage:"));
            let fits = lines.all(|line| line.chars().count() <= columns);
            assert!(fits, "{line} in {columns} columns:\n{help}");
            help.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(words(40), words(100), "{line}: the same words at any width");
    }
}

#[test]
fn a_line_that_is_not_protected_as_asked_is_refused_with_what_works() {
    let company = Company::new();
    let relay = RelayProcess::start(company.folder.path().join("relay"));
    let tls = relay.url().replace("ws://", "wss://");
    // A relay without TLS is not talked to as if it had it, nor given a token over an open line.
    let output = company.command(&format!("sync {tls} --once --timeout 2s")).output();
    let output = output.expect("rejoin starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let away = company.command("sync ws://relay.example --once --token secret").output();
    let away = away.expect("rejoin starts");
    let said = String::from_utf8_lossy(&away.stderr);
    assert!(away.status.code() == Some(1) && said.contains("wss://"), "{said}");
    assert!(!said.contains("secret"), "{said}");
    let open = "relay --listen 0.0.0.0:0 --data open".split(' ');
    let said = company.rejoin.refused(open);
    assert!(said.contains("other machines") && said.contains("--access"), "{said}");
}
