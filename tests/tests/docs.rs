//! Pages of the documentation: every command on them is run, and prints what stands below it.

use std::path::Path;
use std::time::{Duration, Instant};

use rejoin_tests::processes::{Ended, Rejoin, RelayProcess, Running};
use rejoin_tests::receiver::Receiver;
use rejoin_tests::services::postgres::PostgresServer;

/// A part of a page in fences.
#[derive(Debug)]
struct Fenced<'a> {
    /// What stands behind the opening fence: the language, and what it is for.
    kind: &'a str,
    text: String,
    line: usize,
}

fn fenced(page: &str) -> Vec<Fenced<'_>> {
    let mut parts: Vec<Fenced<'_>> = Vec::new();
    let mut is_open = false;
    for (line, number) in page.lines().zip(1..) {
        match line.strip_prefix("```") {
            Some(_) if is_open => is_open = false,
            Some(kind) => {
                is_open = true;
                parts.push(Fenced { kind, text: String::new(), line: number });
            }
            None if is_open => {
                let part = parts.last_mut().expect("a fence was opened");
                part.text += line;
                part.text.push('\n');
            }
            None => {}
        }
    }
    assert!(!is_open, "a fence is not closed");
    parts
}

/// The words of a command line, with single quotes as a shell has them, and the file that takes what is
/// printed.
fn words(line: &str) -> (Vec<String>, Option<String>) {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    for char in line.chars() {
        match char {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
            char => word.push(char),
        }
    }
    words.push(word);
    assert!(!is_quoted, "a quote is not closed: {line}");
    let into = words.iter().position(|word| word == ">");
    let file = into.map(|at| words.split_off(at).pop().expect("the file it goes to"));
    (words, file)
}

/// Spaces between words do not tell how wide a table was.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_spreadsheet_meets_no_silent_change() {
    let page = include_str!("../../docs/your-own-data.md");
    let folder = tempfile::tempdir().expect("a folder");
    let rejoin = Rejoin::in_dir(folder.path());
    let write = |name: &str, text: &str| {
        std::fs::write(Path::new(folder.path()).join(name), text).expect("a file");
    };
    let mut printed = String::new();
    let mut commands = 0;
    for part in fenced(page) {
        match part.kind.split_once(' ').unwrap_or((part.kind, "")) {
            ("csv" | "toml", file) if !file.is_empty() => write(file, &part.text),
            ("sh", how) => {
                printed.clear();
                for line in part.text.lines() {
                    let (words, file) = words(line);
                    assert_eq!(words[0], "rejoin", "line {}: {line}", part.line);
                    let mut command = rejoin.command(&words[1..]);
                    let output = command.env("COLUMNS", "160").output().expect("rejoin starts");
                    let ended = Ended {
                        code: output.status.code().unwrap_or(-1),
                        stdout: String::from_utf8(output.stdout).expect("text"),
                        stderr: String::from_utf8(output.stderr).expect("text"),
                    };
                    assert_eq!(ended.code == 0, how.is_empty(), "{line}: {ended:?}");
                    match file {
                        Some(file) => write(&file, &ended.stdout),
                        None => printed += &ended.stdout,
                    }
                    printed += &ended.stderr;
                    commands += 1;
                }
            }
            ("text", _) => {
                let printed = flat(&printed);
                for line in part.text.lines().map(flat) {
                    assert!(printed.contains(&line), "line {}: {line} in {printed}", part.line);
                }
            }
            other => panic!("line {}: what is {other:?} for?", part.line),
        }
    }
    assert!(commands > 12, "only {commands} commands");
}

#[test]
fn the_reference_of_adapters_is_what_the_program_takes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/adapters-options.md");
    let page = rejoin_adapters::reference::page();
    if std::env::var_os("REJOIN_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("the page");
    }
    let written = std::fs::read_to_string(&path).expect("the page");
    assert!(written == page, "REJOIN_WRITE_DOCS=1 makes docs/adapters-options.md anew");
}

/// Whoever follows `docs/adapters-first-row.md`, with the ports that are free here.
struct Walk {
    folder: tempfile::TempDir,
    /// What stands on the page, and what it is here.
    here: Vec<(&'static str, String)>,
    relay: Option<RelayProcess>,
    running: Option<Running>,
}

const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

impl Walk {
    fn here(&self, text: &str) -> String {
        self.here.iter().fold(text.to_owned(), |text, (page, here)| text.replace(page, here))
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Changes the lines of an option where they stood last, comments included.
    fn change(&self, file: &str, lines: &str) {
        let mut text = std::fs::read_to_string(self.file(file)).expect("the file");
        for line in lines.lines() {
            let option = line.split_once(" =").expect("an option").0;
            let is_it = |it: &&str| it.trim_start_matches("# ").starts_with(&format!("{option} ="));
            let old = text.lines().rfind(is_it).expect("the option").to_owned();
            let at = text.rfind(&old).expect("it was found");
            text.replace_range(at..at + old.len(), &self.here(line));
        }
        std::fs::write(self.file(file), text).expect("the file");
    }

    fn run(&mut self, line: &str, is_background: bool) -> String {
        let (words, into) = words(&self.here(line));
        assert_eq!(words[0], "rejoin", "{line}");
        if is_background && words[1] == "relay" {
            let relay = RelayProcess::start(self.file("relay"));
            let address = relay.url().replace("ws://", "");
            self.here.push(("127.0.0.1:4455", address));
            self.relay = Some(relay);
            return String::new();
        }
        let rejoin = Rejoin::in_dir(self.folder.path());
        let mut command = rejoin.command(&words[1..]);
        command.env("COLUMNS", "160").env("POSTGRES_PASSWORD", "canary-of-reports");
        command.env("WEBHOOK_SECRET", WEBHOOK_SECRET);
        if is_background {
            let mut running = Running::start(command);
            let said = running.line().expect("it says that it runs");
            self.running = Some(running);
            return said;
        }
        let output = command.output().expect("rejoin starts");
        let said =
            String::from_utf8([output.stdout.clone(), output.stderr].concat()).expect("text");
        assert!(output.status.success(), "{line}: {said}");
        if let Some(into) = into {
            std::fs::write(self.file(&into), output.stdout).expect("a file");
        }
        if let Ok(text) = std::fs::read_to_string(self.file("adapters.toml")) {
            std::fs::write(self.file("adapters.toml"), self.here(&text)).expect("the file");
        }
        said
    }
}

#[test]
fn an_empty_folder_has_its_first_rows_by_the_page_alone() {
    let page = include_str!("../../docs/adapters-first-row.md");
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let server = runtime.block_on(PostgresServer::start());
    let client = runtime.block_on(server.connect());
    let receiver = Receiver::start(WEBHOOK_SECRET);
    let here = vec![
        ("127.0.0.1:5432", format!("127.0.0.1:{}", server.port())),
        ("127.0.0.1:8080", receiver.address().to_string()),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let mut walk = Walk { folder, here, relay: None, running: None };
    let (began, mut printed, mut waits) = (Instant::now(), String::new(), None);
    for part in fenced(page) {
        match part.kind.split_once(' ').unwrap_or((part.kind, "")) {
            ("csv" | "toml", file) if !file.starts_with("in ") => {
                std::fs::write(walk.file(file), &part.text).expect("a file");
            }
            ("toml", file) => walk.change(file.trim_start_matches("in "), &part.text),
            ("sql", _) => {
                let script = std::fs::read_to_string(walk.file("reports.sql")).expect("a script");
                let sql = part.text.replace("\\i reports.sql\n", &script);
                let sql = sql.replace("the password", "canary-of-reports");
                runtime.block_on(client.batch_execute(&sql)).expect("the script runs");
            }
            ("sh", "until") => waits = Some(part.text.trim().to_owned()),
            ("sh", how) => {
                let said = part.text.lines().map(|line| walk.run(line, how == "background"));
                printed = said.collect();
            }
            ("text", _) => loop {
                if let Some(line) = &waits {
                    printed = walk.run(line, false);
                }
                let said = flat(&printed);
                if part.text.lines().map(flat).all(|line| said.contains(&line)) {
                    break;
                }
                let is_late = began.elapsed() > Duration::from_secs(180);
                assert!(waits.is_some() && !is_late, "line {}: {said}", part.line);
            },
            other => panic!("line {}: what is {other:?} for?", part.line),
        }
    }
    let told = "SELECT string_agg(concat_ws(' ', key, id, status, technician, \
                extract(epoch FROM visit)::bigint), ', ' ORDER BY key) FROM jobs";
    let wanted = "W-1 W-1 booked ana 1777885200, W-2 W-2 done bo 1777975200";
    loop {
        let row = runtime.block_on(client.query_one(told, &[])).expect("the table");
        let row = row.get::<_, Option<String>>(0).unwrap_or_default();
        let taken: Vec<_> = receiver.taken().iter().map(|it| it["subject"].clone()).collect();
        if row == wanted && ["W-1", "W-2"].iter().all(|key| taken.contains(&(*key).into())) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(180), "{row}; {taken:?}");
    }
}
