//! Pages of the documentation: every command on them is run, and prints what stands below it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rejoin_tests::node::{Version, packages};
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

/// The words of a command line, with quotes as a shell has them, and the file that takes what is
/// printed.
fn words(line: &str) -> (Vec<String>, Option<String>) {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for char in line.chars() {
        match char {
            char if quote == Some(char) => quote = None,
            '\'' | '"' if quote.is_none() => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            ' ' if quote.is_none() => words.extend(word.take()),
            char => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    assert!(quote.is_none(), "a quote is not closed: {line}");
    let into = words.iter().position(|word| word == ">");
    let file = into.map(|at| words.split_off(at).pop().expect("the file it goes to"));
    (words, file)
}

/// Spaces between words do not tell how wide a table was.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A page that is played in an empty folder.
struct Play {
    folder: tempfile::TempDir,
    relay: Option<RelayProcess>,
    /// A program in JavaScript that goes on, and the address that it printed.
    app: Option<(Running, String)>,
    /// What the last commands printed.
    printed: String,
    commands: usize,
}

impl Play {
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("a file");
    }

    /// A text of the page, with the addresses of relay and document that are here.
    fn here(&self, text: &str) -> String {
        let port =
            self.relay.as_ref().map(|relay| relay.url().rsplit(':').next().map(str::to_owned));
        let text = match port.flatten() {
            Some(port) => text.replace(":4455", &format!(":{port}")),
            None => text.to_owned(),
        };
        match &self.app {
            Some((_, document)) => text.replace("automerge:3658...", document),
            None => text,
        }
    }

    /// Runs a program with the packages of the clients of automerge-repo.
    fn run_app(&mut self, name: &str, text: &str) {
        self.write(name, &self.here(text));
        let modules = packages(Version::Current).join("node_modules");
        std::os::unix::fs::symlink(modules, self.folder.path().join("node_modules"))
            .expect("a link to the packages");
        let mut command = std::process::Command::new("node");
        command.arg(name).current_dir(self.folder.path());
        let mut running = Running::start(command);
        let printed = running.line().expect("it prints an address");
        self.app = Some((running, printed));
    }

    /// Runs a command, which succeeds or fails if that is said.
    fn run(&mut self, line: &str, succeeds: Option<bool>) {
        let line = line.split(" # ").next().unwrap_or_default().trim_end();
        let (words, file) = words(&self.here(line));
        assert_eq!(words[0], "rejoin", "{line}");
        let rejoin = Rejoin::in_dir(self.folder.path());
        let mut command = rejoin.command(&words[1..]);
        let output = command.env("COLUMNS", "160").output().expect("rejoin starts");
        let ended = Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        };
        assert_eq!(ended.code == 0, succeeds.unwrap_or(ended.code == 0), "{line}: {ended:?}");
        match file {
            Some(file) => self.write(&file, &ended.stdout),
            None => self.printed += &ended.stdout,
        }
        self.printed += &ended.stderr;
        self.commands += 1;
    }

    /// The first line that was not printed; `…` stands for anything.
    fn missing<'t>(&self, text: &'t str) -> Option<&'t str> {
        let printed = flat(&self.printed);
        text.lines().find(|line| {
            let mut rest = printed.as_str();
            !line.split('…').map(flat).all(|part| match rest.split_once(&part) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => part.is_empty(),
            })
        })
    }

    fn run_all(&mut self, lines: &str, succeed: Option<bool>) {
        self.printed.clear();
        lines.lines().filter(|line| !line.is_empty()).for_each(|line| self.run(line, succeed));
    }
}

fn play(path: &Path) -> usize {
    let page = std::fs::read_to_string(path).expect("a page");
    let folder = tempfile::tempdir().expect("a folder");
    let mut play = Play { folder, relay: None, app: None, printed: String::new(), commands: 0 };
    let mut waits: Option<String> = None;
    for part in fenced(&page) {
        let place = format!("{}:{}", path.display(), part.line);
        match part.kind.split_once(' ').unwrap_or((part.kind, "")) {
            ("csv" | "toml" | "json", file) if !file.is_empty() => play.write(file, &part.text),
            ("sh", "background") => {
                let begin = "rejoin relay --listen 127.0.0.1:4455 --data ";
                let rest = part.text.trim_end().strip_prefix(begin);
                let rest = rest.unwrap_or_else(|| panic!("{place}: another relay is shown"));
                let (data, more) = rest.split_once(' ').unwrap_or((rest, ""));
                let more: Vec<_> = more.split_whitespace().collect();
                // The one before, if there was one, is gone.
                play.relay = None;
                let data = play.folder.path().join(data);
                play.relay = Some(RelayProcess::start_as(data, &more));
            }
            ("sh", "openssl") => {
                let mut command = std::process::Command::new("sh");
                command.args(["-c", &part.text]).current_dir(play.folder.path());
                let output = command.output().expect("a shell");
                assert!(output.status.success(), "{place}: {output:?}");
            }
            ("js", name) if !name.is_empty() => play.run_app(name, &part.text),
            ("sh", how) => {
                assert!(["", "fails", "until"].contains(&how), "{place}: {how}");
                play.run_all(&part.text, (how != "until").then_some(how.is_empty()));
                waits = (how == "until").then_some(part.text);
            }
            ("text", "") => {
                let began = Instant::now();
                while let Some(line) = play.missing(&part.text) {
                    let is_late = began.elapsed() > Duration::from_secs(60);
                    let Some(again) = waits.as_ref().filter(|_| !is_late) else {
                        panic!("{place}: {line}\nis not in {}", play.printed);
                    };
                    play.run_all(again, None);
                }
            }
            // Shown only, or read by another test.
            ("toml" | "rust,no_run" | "diagram" | "text-example", "") => {}
            other => panic!("{place}: what is {other:?} for?"),
        }
    }
    play.commands
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// The pages of a folder.
fn pages(folder: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(docs().join(folder)).expect("a folder of pages");
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == "md"));
    files.sort();
    files
}

#[test]
fn a_spreadsheet_meets_no_silent_change() {
    assert!(play(&docs().join("your-own-data.md")) > 12);
}

#[test]
fn the_guide_says_what_happens() {
    let pages = pages("guide");
    assert!(pages.len() >= 5);
    for page in pages {
        assert!(play(&page) > 3, "{}", page.display());
    }
}

#[test]
fn the_cookbook_says_what_happens() {
    let pages = pages("cookbook");
    assert!(pages.len() >= 5);
    for page in pages {
        assert!(play(&page) > 3, "{}", page.display());
    }
}

#[test]
fn what_operators_type_works() {
    assert!(play(&docs().join("operating.md")) > 15);
}

#[test]
fn who_may_come_in_does_and_nobody_else() {
    assert!(play(&docs().join("signing-in.md")) > 12);
}

#[test]
fn an_app_of_automerge_repo_and_a_replica_share_a_document() {
    assert!(play(&docs().join("automerge-repo.md")) > 4);
}

/// Pages whose commands need servers, or a shell, are played by other tests or show what there is; every
/// command on them is one that the program takes.
#[test]
fn every_command_that_is_shown_exists() {
    let rejoin = Rejoin::in_dir(docs());
    let mut commands = 0;
    for page in [docs().join("adapters/overview.md"), docs().join("../README.md")] {
        let text = std::fs::read_to_string(&page).expect("a page");
        let shell = fenced(&text).into_iter().filter(|part| part.kind == "sh");
        let shell: String = shell.map(|part| part.text).collect();
        for line in shell.lines().filter(|line| line.starts_with("rejoin ")) {
            let shown = line.split(" # ").next().unwrap_or_default().trim_end_matches(['&', ' ']);
            let (words, _) = words(shown);
            // What is wrong before the last word is told before help is.
            let output = rejoin.command(&words[1..]).arg("--help").output().expect("rejoin starts");
            assert!(output.status.success(), "{}: {shown}", page.display());
            commands += 1;
        }
    }
    assert!(commands > 15, "{commands}");
}

#[test]
fn the_examples_are_without_fault() {
    let examples = docs().join("../examples");
    let rejoin = Rejoin::in_dir(&examples);
    let schema = rejoin.command(["schema", "lint", "schema.toml"]).output().expect("rejoin starts");
    assert!(schema.status.success(), "{}", String::from_utf8_lossy(&schema.stderr));
    let mut lint = rejoin.command(["adapters", "--config", "adapters.toml", "lint"]);
    for secret in ["REPORTS_PASSWORD", "CRM_SECRET", "CALENDAR_SECRET"] {
        lint.env(secret, WEBHOOK_SECRET);
    }
    let lint = lint.output().expect("rejoin starts");
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stderr));
}

/// The places that a page can be linked at: its headings, as GitHub and mdBook name them.
fn anchors(page: &str) -> Vec<String> {
    let mut is_code = false;
    let headings = page.lines().filter(|line| {
        is_code ^= line.starts_with("```");
        !is_code && line.starts_with('#')
    });
    let named = headings.map(|line| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
        kept.map(|char| if char == ' ' { '-' } else { char }).collect()
    });
    named.collect()
}

#[test]
fn no_link_is_dead_and_every_page_is_in_the_book() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let top = ["README", "ARCHITECTURE", "CONTRIBUTING", "SECURITY", "CHANGELOG"];
    let mut all: Vec<_> = top.iter().map(|name| root.join(format!("{name}.md"))).collect();
    let of_book: Vec<_> =
        ["", "guide", "cookbook", "adapters"].into_iter().flat_map(pages).collect();
    all.extend(of_book.clone());
    let mut dead = Vec::new();
    for path in &all {
        let page = std::fs::read_to_string(path).expect("a page");
        let links = page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|it| it.0);
        for link in links.filter(|link| !link.contains("://")) {
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let there = match file {
                "" => path.clone(),
                file => path.parent().expect("a folder").join(file),
            };
            let text = std::fs::read_to_string(&there);
            let is_there = match (&text, place) {
                (Ok(text), place) => place.is_empty() || anchors(text).iter().any(|it| it == place),
                (Err(_), _) => there.is_dir(),
            };
            if !is_there {
                dead.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
    let summary = std::fs::read_to_string(docs().join("SUMMARY.md")).expect("a summary");
    for page in of_book {
        let name = page.strip_prefix(docs()).expect("a page of the book").display().to_string();
        assert!(
            name == "SUMMARY.md" || summary.contains(&format!("({name})")),
            "{name} is in no chapter"
        );
    }
}

#[test]
fn the_page_of_the_protocol_has_every_frame() {
    let page = std::fs::read_to_string(docs().join("protocol.md")).expect("a page");
    let source = include_str!("../../../crates/core/src/wire.rs");
    let (_, list) = source.split_once("frames! {").expect("the list of frames");
    let (list, _) = list.split_once("\n}").expect("its end");
    let frames: Vec<_> = list.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
    let frames = frames.into_iter().filter(|line| !line.starts_with("//"));
    let rows: Vec<_> = frames
        .map(|line| {
            let (number, name) = line.split_once(' ').expect("number and name");
            format!("| {number} `{name}` |")
        })
        .collect();
    assert!(rows.len() >= 15);
    for row in rows {
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn the_reference_of_adapters_is_what_the_program_takes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/adapters");
    for page in rejoin_adapters::reference::pages() {
        let path = folder.join(&page.file);
        if std::env::var_os("REJOIN_WRITE_DOCS").is_some() {
            std::fs::write(&path, &page.text).expect("the page");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == page.text, "REJOIN_WRITE_DOCS=1 makes {} anew", path.display());
    }
}

/// Whoever follows `docs/adapters/first-row.md`, with the ports that are free here.
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

    fn file(&self, name: &str) -> PathBuf {
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
    let page = include_str!("../../../docs/adapters/first-row.md");
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
