//! The blocking handles have every method that the async ones have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The public methods of each type, as far as they are written in a file.
fn methods(file: &Path, found: &mut BTreeMap<String, BTreeSet<String>>) {
    let text = fs::read_to_string(file).unwrap();
    let mut of = None;
    for line in text.lines() {
        if let Some(header) = line.strip_prefix("impl") {
            // `impl<T: Bound> Query<T> {`; an `impl` of a trait has no methods of its own.
            let header = header.strip_suffix('{').unwrap_or(header);
            let is_trait = header.contains(" for ");
            let name = match header.split_once("> ") {
                Some((generics, name)) if generics.starts_with('<') => name,
                _ => header,
            };
            let name: String = name.trim().chars().take_while(|it| it.is_alphanumeric()).collect();
            of = (!is_trait && !name.is_empty()).then_some(name);
            // What is awaited there is iterated here.
            if let Some(name) = header.trim().split_once("Iterator for ").map(|(_, name)| name) {
                let name = name.chars().take_while(|it| it.is_alphanumeric()).collect();
                found.entry(name).or_default().insert("next".to_owned());
            }
        } else if line == "}" {
            of = None;
        }
        let line = line.trim_start();
        let method = ["pub async fn ", "pub fn ", "fn "];
        let in_macro = line.starts_with("fn ") && line.ends_with(';');
        let method = method.iter().find_map(|start| line.strip_prefix(start));
        let is_public = line.starts_with("pub ") || in_macro;
        if let (Some(of), Some(method), true) = (&of, method, is_public) {
            let name = method.chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect();
            found.entry(of.clone()).or_default().insert(name);
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|it| it == "rs")).collect()
}

#[test]
fn what_can_be_done_async_can_be_done_blocking() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut have, mut blocking) = (BTreeMap::new(), BTreeMap::new());
    for file in sources(&src) {
        let of = if file.ends_with("blocking.rs") { &mut blocking } else { &mut have };
        methods(&file, of);
    }
    sources(&src.join("blocking")).iter().for_each(|file| methods(file, &mut blocking));
    let mut missing = Vec::new();
    let handles =
        ["Replica", "Space", "Collection", "Document", "Reviews", "Edited", "Query", "LiveQuery"];
    for handle in handles {
        let (have, blocking) = (&have[handle], &blocking[handle]);
        assert!(have.len() > 1 || handle == "Edited", "{handle} was not found: {have:?}");
        missing.extend(have.difference(blocking).map(|method| format!("{handle}::{method}")));
    }
    assert!(missing.is_empty(), "blocking lacks {missing:?}");
}
