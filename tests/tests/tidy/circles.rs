//! Arrows between the subjects of a crate go one way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use crate::assert_none;
use crate::names::names;
use crate::workspace::{Source, rust_files};

/// Files of a crate that are one subject, and may lead to each other: the handles of the client, of which
/// a replica leads to a space, a collection and a document, and a document back.
const ONE_SUBJECT: &[(&str, &[&str])] =
    &[("client/src", &["collection", "document", "query", "replica", "review", "saved"])];

/// The modules that each module at the top of a crate needs.
type Needs = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_two_subjects_of_a_crate_need_each_other() {
    let mut crates = BTreeMap::<String, Needs>::new();
    for file in rust_files().into_iter().filter(|file| !file.is_test()) {
        let Some((folder, module)) = place(&file.path) else { continue };
        let together = ONE_SUBJECT.iter().filter(|(of, _)| *of == folder);
        let together: Vec<&str> = together.flat_map(|(_, files)| *files).copied().collect();
        let subject = |module: String| match together.contains(&&*module) {
            true => together[0].to_owned(),
            false => module,
        };
        let needed = needed(&file).into_iter().map(&subject);
        crates.entry(folder).or_default().entry(subject(module)).or_default().extend(needed);
    }
    assert!(crates.len() > 6, "{:?}", crates.keys());
    let wrong = crates.iter().flat_map(|(folder, needs)| {
        circles(needs).into_iter().map(move |circle| format!("{folder}: {circle}"))
    });
    assert_none("arrows between the modules of a crate go one way", wrong);
}

#[test]
fn a_circle_is_found_however_long_it_is() {
    let needs = |pairs: &[(&str, &str)]| {
        let mut needs = Needs::new();
        for (from, to) in pairs {
            needs.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        needs
    };
    let tree = [("serve", "relay"), ("relay", "store"), ("serve", "store"), ("store", "store")];
    assert!(circles(&needs(&tree)).is_empty());
    let round = needs(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]);
    assert_eq!(circles(&round), ["a, b and c need each other"]);
    let file = |path: &str, text: &str| Source { path: path.into(), text: text.to_owned() };
    let text =
        "use crate::{b::C, d}; use super::e; use std::f; #[cfg(test)] mod tests { use crate::g; }";
    let found = |path: &str| needed(&file(path, text)).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(found("client/src/a.rs"), "b d e");
    assert_eq!(found("client/src/a/x.rs"), "a b d");
}

/// The folder of a crate's sources that a file is in, and the module at the top that it belongs to.
fn place(path: &Path) -> Option<(String, String)> {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let at = parts.iter().position(|part| part == "src")?;
    let first = Path::new(parts.get(at + 1)?).file_stem()?.to_string_lossy().into_owned();
    let is_root = parts.len() == at + 2 && ["lib", "main"].contains(&&*first);
    (!is_root && first != "bin").then(|| (parts[..=at].join("/"), first))
}

/// The modules at the top of its crate that a file names.
fn needed(file: &Source) -> BTreeSet<String> {
    let depth = file.path.components().filter(|it| matches!(it, Component::Normal(_))).count();
    let src = file.path.iter().position(|part| part == "src").unwrap_or_default();
    // A file stands for a module in the module of its folder.
    let mut module: Vec<_> = file.path.iter().take(depth).skip(src + 1).collect();
    let stem = file.path.file_stem().unwrap_or_default();
    module.pop();
    if stem != "mod" {
        module.push(stem);
    }
    let mut needed = BTreeSet::new();
    for (name, _) in names(file).unwrap_or_default() {
        let ups = name.iter().take_while(|part| *part == "super").count();
        let first = match &name[..] {
            [start, first, ..] if start == "crate" => Some(first.clone()),
            [_, ..] if ups > 0 && ups < module.len() => {
                Some(module[0].to_string_lossy().into_owned())
            }
            [_, ..] if ups > 0 => name.get(ups).cloned(),
            _ => None,
        };
        // Modules are written small, and names of items at the root of the crate are not.
        needed.extend(first.filter(|first| first.chars().all(|c| c == '_' || c.is_lowercase())));
    }
    needed
}

/// Each set of modules that need each other, in words.
fn circles(needs: &Needs) -> Vec<String> {
    let reached = |from: &String| {
        let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            for needed in needs.get(module).into_iter().flatten() {
                if reached.insert(needed) {
                    next.push(needed);
                }
            }
        }
        reached
    };
    let all: BTreeMap<&String, BTreeSet<&String>> =
        needs.keys().map(|module| (module, reached(module))).collect();
    let mut circles = BTreeSet::new();
    for (module, reached) in &all {
        let back =
            reached.iter().filter(|it| all.get(**it).is_some_and(|its| its.contains(module)));
        let circle: BTreeSet<&String> = back.copied().filter(|it| it != module).collect();
        if !circle.is_empty() {
            circles.insert(circle.into_iter().chain([*module]).collect::<BTreeSet<_>>());
        }
    }
    let words = |circle: BTreeSet<&String>| {
        let names: Vec<_> = circle.into_iter().map(String::as_str).collect();
        let (last, before) = names.split_last().expect("a circle has members");
        format!("{} and {last} need each other", before.join(", "))
    };
    circles.into_iter().map(words).collect()
}
