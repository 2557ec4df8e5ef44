//! Pages of the documentation: every command on them is run, and prints what stands below it.

use std::path::Path;

use rejoin_tests::processes::{Ended, Rejoin};

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
