//! How long each group of tests took, of the report that nextest writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Forgets an earlier run.
pub(crate) fn forget() {
    // There may be none.
    let _ = fs::remove_file(report());
}

fn report() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/nextest/default/junit.xml")
}

/// Prints the groups that took longest. A group is a program of tests, and of the large one a file.
pub(crate) fn print() {
    let Ok(report) = fs::read_to_string(report()) else { return };
    let mut groups: Vec<_> = of(&report).into_iter().collect();
    groups.sort_by(|(_, one), (_, other)| other.seconds.total_cmp(&one.seconds));
    let all: f64 = groups.iter().map(|(_, group)| group.seconds).sum();
    let tests: usize = groups.iter().map(|(_, group)| group.tests).sum();
    println!("\nseconds of {tests} tests, which run side by side, by group: {all:.0}");
    for (name, Group { tests, seconds }) in groups.iter().take(SHOWN) {
        println!("{seconds:>8.1}  {name} ({tests})");
    }
    let rest: f64 = groups.iter().skip(SHOWN).map(|(_, group)| group.seconds).sum();
    if groups.len() > SHOWN {
        println!("{rest:>8.1}  {} others", groups.len() - SHOWN);
    }
}

#[derive(Debug, Default, PartialEq)]
struct Group {
    tests: usize,
    seconds: f64,
}

fn of(report: &str) -> BTreeMap<String, Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for line in report.lines().filter(|line| line.trim_start().starts_with("<testcase ")) {
        let attribute = |name: &str| {
            let (_, rest) = line.split_once(&format!(" {name}=\""))?;
            Some(rest.split_once('"')?.0)
        };
        let (Some(name), Some(program), Some(time)) =
            (attribute("name"), attribute("classname"), attribute("time"))
        else {
            continue;
        };
        let module = name.split_once("::").filter(|_| program.ends_with("::it"));
        let group = match module {
            Some((module, _)) => format!("{program}::{module}"),
            None => program.to_owned(),
        };
        let group = groups.entry(group).or_default();
        group.tests += 1;
        group.seconds += time.parse().unwrap_or(0.0);
    }
    groups
}

const SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_by_program_and_by_file_of_the_large_one() {
        let report = r#"<testsuite name="rejoin-core">
            <testcase name="order::tests::a" classname="rejoin-core" timestamp="x" time="0.5">
            <testcase name="order::tests::b" classname="rejoin-core" time="0.25"/>
            <testcase name="undo::c" classname="rejoin-tests::it" time="2"/>"#;
        let group = |tests, seconds| Group { tests, seconds };
        let wanted = [("rejoin-core", group(2, 0.75)), ("rejoin-tests::it::undo", group(1, 2.0))];
        assert_eq!(of(report), wanted.map(|(name, group)| (name.to_owned(), group)).into());
    }
}
