//! The rules of the workspace that neither compiler nor linter knows, as tests.
//!
//! A failure lists every place that breaks the rule, as `file:line: what is wrong`.

mod circles;
mod names;
mod workspace;

use std::collections::BTreeSet;
use std::fs;

use proc_macro2::{TokenStream, TokenTree};

use names::{is_braces, is_punct, names};
use workspace::{Lock, Metadata, Package, Source, cargo, from_json, root, rust_files, sources};

/// Which crate may depend on which. What is not written here is not allowed.
const ARROWS: &[(&str, Allowed)] = &[
    ("rejoin-core", Allowed::Only(&[])),
    ("rejoin-overwrite", Allowed::Only(&[])),
    ("rejoin-seal", Allowed::Only(&[])),
    ("rejoin-engine", Allowed::Only(&["rejoin-core", "rejoin-overwrite"])),
    ("rejoin", Allowed::Only(&["rejoin-core", "rejoin-engine", "rejoin-seal"])),
    ("rejoin-relay", Allowed::Only(&["rejoin-core", "rejoin-overwrite", "rejoin-seal"])),
    ("rejoin-adapters", Allowed::Only(&["rejoin", "rejoin-overwrite"])),
    ("rejoin-board", Allowed::Only(&["rejoin"])),
    ("rejoin-cli", Allowed::Only(&["rejoin", "rejoin-relay", "rejoin-adapters", "rejoin-board"])),
    ("rejoin-tests", Allowed::Any),
    ("rejoin-broker-tests", Allowed::Any),
    ("xtask", Allowed::Only(&[])),
];

enum Allowed {
    Only(&'static [&'static str]),
    Any,
}

/// Every crate that is part of `rejoin-core` once built, and the macros it is written with. None
/// of them opens a file or socket, reads a clock or draws a random number.
const CORE_CRATES: &[&str] = &[
    "adler2",
    "block-buffer",
    "bs58",
    "cfg-if",
    "chrono",
    "chrono-tz",
    "const-oid",
    "cpufeatures",
    "crc32fast",
    "crypto-common",
    "digest",
    "flate2",
    "generic-array",
    "hybrid-array",
    "itoa",
    "memchr",
    "minicbor",
    "minicbor-derive",
    "miniz_oxide",
    "num-traits",
    "phf",
    "phf_shared",
    "proc-macro2",
    "quote",
    "rejoin-core",
    "serde",
    "serde_core",
    "serde_json",
    "serde_spanned",
    "sha1_smol",
    "sha2",
    "simd-adler32",
    "siphasher",
    "syn",
    "thiserror",
    "thiserror-impl",
    "toml",
    "toml_datetime",
    "toml_parser",
    "toml_writer",
    "typenum",
    "unicode-ident",
    "uuid",
    "winnow",
    "zmij",
];

/// What `rejoin-engine` is besides: Automerge, redb, and what they bring with them. `rand` and
/// `getrandom` come with Automerge, which draws an actor only if it is given none; `libc` locks the
/// files that redb opens for others, and the engine is handed a database that is open.
const ENGINE_CRATES: &[&str] = &[
    "automerge",
    "chacha20",
    "either",
    "futures-core",
    "getrandom",
    "hex",
    "hexane",
    "itertools",
    "leb128",
    "libc",
    "once_cell",
    "pin-project-lite",
    "rand",
    "rand_core",
    "redb",
    "rejoin-overwrite",
    "rejoin-engine",
    "rustc-hash",
    "serde_derive",
    "similar",
    "smol_str",
    "tinyvec",
    "tracing",
    "tracing-attributes",
    "tracing-core",
    "unicode-segmentation",
    "zlib-rs",
];

/// Where the sources stand that are pure functions of what they are handed: the core, the replica's
/// engine and the relay's.
const PURE: &[&str] = &["crates/core/src", "crates/engine/src", "server/src/relay"];

/// Lines after which nobody holds a file in the head.
const FILE_LINES_MAX: usize = 700;

/// Lines of a function, from `fn` to its closing brace, that one sees at once.
const FUNCTION_LINES_MAX: usize = 70;

/// The first redb that kept its promises under power loss.
const REDB_MIN: (u64, u64, u64) = (4, 4, 0);

#[test]
fn the_crates_keep_their_arrows() {
    let metadata: Metadata =
        from_json(&cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"]));
    let members: BTreeSet<_> = metadata.packages.iter().map(|package| &*package.name).collect();
    let wrong = metadata.packages.iter().flat_map(|package| forbidden_arrows(package, &members));
    assert_none("crates may depend only as ARROWS in this file says", wrong);
}

/// Dependencies of every kind obey the same arrows: a test that reaches across them belongs in
/// `rejoin-tests`.
fn forbidden_arrows(package: &Package, members: &BTreeSet<&str>) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
        return vec![format!("{}: a new crate, which ARROWS does not know yet", package.name)];
    };
    let Allowed::Only(allowed) = allowed else { return Vec::new() };
    package
        .dependencies
        .iter()
        .filter(|to| members.contains(&*to.name) && !allowed.contains(&&*to.name))
        .map(|to| {
            format!("{0} -> {1} ({2} dependency)", package.name, to.name, to.kind_or("normal"))
        })
        .collect()
}

#[test]
fn core_cannot_do_io() {
    let crates = crates_of("rejoin-core");
    let wrong = unexpected("rejoin-core", &crates, |name| CORE_CRATES.contains(&name));
    assert_none("rejoin-core may contain only the crates in CORE_CRATES", wrong);
}

#[test]
fn the_engine_cannot_do_io() {
    let crates = crates_of("rejoin-engine");
    let wrong = unexpected("rejoin-engine", &crates, |name| {
        CORE_CRATES.contains(&name) || ENGINE_CRATES.contains(&name)
    });
    assert_none("rejoin-engine may contain only the crates in ENGINE_CRATES besides", wrong);
}

/// The crates that a package is once built.
fn crates_of(package: &str) -> BTreeSet<String> {
    let tree = cargo(&[
        "tree",
        "--package",
        package,
        "--edges=normal",
        "--all-features",
        "--prefix=none",
        "--format={p}",
        "--offline",
    ]);
    let crates: BTreeSet<_> =
        tree.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect();
    assert!(crates.contains(package), "`cargo tree` printed something unexpected:\n{tree}");
    crates
}

fn unexpected(
    package: &str,
    crates: &BTreeSet<String>,
    is_expected: impl Fn(&str) -> bool,
) -> Vec<String> {
    let wrong = crates.iter().filter(|name| !is_expected(name));
    wrong
        .map(|name| {
            format!("{name}: see `cargo tree -p {package} -e normal -i {name}` for who wants it")
        })
        .collect()
}

#[test]
fn core_and_engines_name_nothing_that_does_io() {
    let wrong = rust_files()
        .into_iter()
        .filter(|file| PURE.iter().any(|pure| file.path.starts_with(pure)) && !file.is_test())
        .flat_map(|file| impurities(&file));
    assert_none("core and engines are pure functions of what they are handed", wrong);
}

#[test]
fn the_scan_for_io_sees_through_imports_and_leaves_tests_alone() {
    let text = "
        //! Reads like a HashMap, an async fn, std::fs.
        use std::{collections::{BTreeMap, HashSet}, fs};
        use std::time::{Duration, SystemTime};
        async fn wait() { std::io::stdout(); later().await; }
        #[cfg(test)]
        mod tests { use std::env; }
        fn ask() { println!(\"std::net\"); vec![std::thread::current()]; }
    ";
    let found = impurities(&Source { path: "a.rs".into(), text: text.to_owned() });
    let expected = [
        "a.rs:3: std::collections::HashSet",
        "a.rs:3: std::fs",
        "a.rs:4: std::time::SystemTime",
        "a.rs:5: async",
        "a.rs:5: std::io::stdout",
        "a.rs:5: await",
        "a.rs:8: println",
        "a.rs:8: std::thread::current",
    ];
    assert_eq!(found, expected);
}

#[test]
fn files_stay_readable() {
    let files = rust_files();
    let long = files.iter().filter(|file| !file.is_test()).filter_map(too_long);
    let words = files.iter().flat_map(unfinished);
    let names = files.iter().flat_map(vague_names);
    assert_none("every file can be read by a stranger", long.chain(words).chain(names));
}

fn too_long(file: &Source) -> Option<String> {
    let lines = file.text.lines().count();
    (lines > FILE_LINES_MAX).then(|| {
        format!("{}: {lines} lines; split it by subject below {FILE_LINES_MAX}", file.name())
    })
}

#[test]
fn functions_stay_readable() {
    let wrong = rust_files().into_iter().flat_map(|file| long_functions(&file));
    assert_none("every function can be seen at once", wrong);
}

#[test]
fn the_count_of_a_functions_lines_sees_it_wherever_it_stands() {
    let body = "();\n".repeat(FUNCTION_LINES_MAX - 2);
    let text = format!(
        "fn short() {{\n{body}}}
        mod inner {{ impl Some {{ fn long<const N: usize>(it: fn(u8)) -> [u8; {{ N }}] {{\n\n{body}}} }} }}
        trait Said {{ fn only(); }}
        fn around() {{ fn within() {{\n{body}();\n}} }}"
    );
    let found = long_functions(&Source { path: "a.rs".into(), text });
    let [long, around, within] = &found[..] else { panic!("{found:?}") };
    let (over, lines) = (FUNCTION_LINES_MAX + 1, FUNCTION_LINES_MAX);
    assert!(long.starts_with(&format!("a.rs:{}: `long` has {over} lines", lines + 1)), "{long}");
    assert!(around.contains(&format!("`around` has {over} lines")), "{around}");
    assert!(within.contains(&format!("`within` has {over} lines")), "{within}");
}

fn long_functions(file: &Source) -> Vec<String> {
    let tokens: TokenStream = match file.text.parse() {
        Ok(tokens) => tokens,
        Err(error) => return vec![format!("{}: is not Rust: {error}", file.name())],
    };
    let mut functions = Vec::new();
    collect_functions(&tokens.into_iter().collect::<Vec<_>>(), &mut functions);
    functions
        .into_iter()
        .filter(|(.., lines)| *lines > FUNCTION_LINES_MAX)
        .map(|(name, at, lines)| {
            let why = format!("split it by subject to at most {FUNCTION_LINES_MAX}");
            format!("{}:{at}: `{name}` has {lines} lines; {why}", file.name())
        })
        .collect()
}

/// Collects every function that has a body: its name, its first line, and how many lines it has.
fn collect_functions(tokens: &[TokenTree], functions: &mut Vec<(String, usize, usize)>) {
    for (at, token) in tokens.iter().enumerate() {
        if let [TokenTree::Ident(word), TokenTree::Ident(name), after @ ..] = &tokens[at..]
            && word == "fn"
            && let Some(end) = after.iter().find(|it| is_punct(it, ';') || is_braces(it))
            && is_braces(end)
        {
            let (first, last) = (word.span().start().line, end.span().end().line);
            functions.push((name.to_string(), first, last + 1 - first));
        }
        if let TokenTree::Group(group) = token {
            collect_functions(&group.stream().into_iter().collect::<Vec<_>>(), functions);
        }
    }
}

fn unfinished(file: &Source) -> Vec<String> {
    // In pieces, so that this file does not find itself.
    let words = [
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
        concat!("db", "g!"),
        concat!("FIX", "ME"),
    ];
    let placeholder = concat!("XX", "X");
    let is_word = |word: &&str| {
        let has_placeholder =
            || word.split(|c: char| !c.is_alphanumeric()).any(|w| w == placeholder);
        words.iter().any(|unfinished| word.contains(unfinished)) || has_placeholder()
    };
    file.lines()
        .filter_map(|(number, line)| Some((number, line.split_whitespace().find(is_word)?)))
        .map(|(number, word)| format!("{}:{number}: `{word}` is unfinished work", file.name()))
        .collect()
}

fn vague_names(file: &Source) -> Vec<String> {
    let path = file.path.with_extension("");
    let in_path = path.iter().filter_map(|part| part.to_str()).filter(|part| is_vague(part));
    let in_path =
        in_path.map(|part| format!("{}: `{part}` says nothing of what is in it", file.name()));
    let modules = file.lines().filter_map(|(number, line)| Some((number, module(line)?)));
    let modules = modules.filter(|(_, module)| is_vague(module)).map(|(number, module)| {
        format!("{}:{number}: `mod {module}` says nothing of what is in it", file.name())
    });
    in_path.chain(modules).collect()
}

fn is_vague(name: &str) -> bool {
    matches!(name.trim_end_matches('s'), "util" | "helper" | "common" | "manager")
}

/// The name in a line that declares a module.
fn module(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
    (words.next()? == "mod").then(|| words.next())?.map(|name| name.trim_end_matches(';'))
}

#[test]
fn every_limit_is_explained() {
    let file = Source::read("crates/core/src/limits.rs");
    let lines: Vec<_> = file.text.lines().collect();
    let limits: Vec<_> = (0..lines.len()).filter(|&n| lines[n].starts_with("pub const ")).collect();
    assert!(!limits.is_empty(), "{} holds no limit at all", file.name());
    let wrong = limits
        .into_iter()
        .filter(|&n| !is_explained(&lines[..n]))
        .map(|n| format!("{}:{}: {}", file.name(), n + 1, lines[n]));
    assert_none("above each limit stands its unit and its reason", wrong);
}

/// Whether a doc comment ends these lines, attributes aside.
fn is_explained(above: &[&str]) -> bool {
    let last = above.iter().rev().find(|line| !line.starts_with("#["));
    last.and_then(|line| line.strip_prefix("///")).is_some_and(|text| !text.trim().is_empty())
}

#[test]
fn one_websocket_stack() {
    let lock = Lock::read();
    let copies = ["tungstenite", "tokio-tungstenite"].into_iter().filter_map(|name| {
        let versions = lock.versions(name);
        (versions.len() > 1).then(|| format!("{name}: {}", versions.join(" and ")))
    });
    assert_none("client and relay share one WebSocket implementation", copies);
    let old = lock.versions("redb").into_iter().filter(|version| parse_version(version) < REDB_MIN);
    assert_none(
        "redb before 4.4.0 loses commits under power loss",
        old.map(|v| format!("redb {v}")),
    );
}

fn parse_version(version: &str) -> (u64, u64, u64) {
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse().ok());
    let mut next = || numbers.next().flatten().expect("a version is three numbers");
    (next(), next(), next())
}

#[test]
fn the_map_for_contributors_leads_somewhere() {
    let page =
        fs::read_to_string(root().join("CONTRIBUTING.md")).expect("CONTRIBUTING.md is there");
    let cells = |line: &str| -> Vec<String> {
        line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let ways = page.lines().map(cells).filter(|it| it.len() == 5 && it[2].ends_with(".rs"));
    let ways: Vec<_> = ways.collect();
    assert!(ways.len() >= 10, "the map has {} ways", ways.len());
    let wrong = ways.iter().filter_map(|way| {
        let (file, name) = (&way[2], &way[3]);
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        let is_named = |(at, _): (usize, &str)| {
            let rest = text[at + name.len()..].chars().next();
            let is_kind =
                ["fn ", "struct ", "enum ", "const "].iter().any(|it| text[..at].ends_with(it));
            is_kind && rest.is_some_and(|next| !next.is_alphanumeric() && next != '_')
        };
        let is_there = text.match_indices(name.as_str()).any(is_named);
        (!is_there).then(|| format!("CONTRIBUTING.md: {file} has no {name}"))
    });
    assert_none("the map leads to what is there", wrong);
}

#[test]
fn nothing_speaks_of_where_it_was_made() {
    // In pieces, so that this file does not find itself.
    let folders = ["home", "root", "work", "workspace", "Users"].map(|name| format!("/{name}/"));
    let files = sources(|_| true);
    let paths = files.iter().flat_map(|file| file.lines_where(|line| names_folder(line, &folders)));
    let registries = files
        .iter()
        .filter(|file| file.path.ends_with("Cargo.lock"))
        .flat_map(|file| file.lines_where(names_other_registry));
    assert_none("files know nothing of the machine they were written on", paths.chain(registries));
}

/// Whether the line holds an absolute path into one of the folders. After a letter or the like it
/// is part of an address or of a relative path.
fn names_folder(line: &str, folders: &[String]) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || "._-~*>)}]".contains(c);
    folders
        .iter()
        .flat_map(|folder| line.match_indices(folder.as_str()))
        .any(|(at, _)| !line[..at].ends_with(goes_on))
}

fn names_other_registry(line: &str) -> bool {
    line.starts_with("source = ") && !line.contains("https://github.com/rust-lang/crates.io-index")
}

// What is wrong, and saying so.

fn assert_none(rule: &str, wrong: impl IntoIterator<Item = String>) {
    let wrong: Vec<_> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}

/// Names in the file that the core must do without, outside its tests.
fn impurities(file: &Source) -> Vec<String> {
    match names(file) {
        Err(unread) => vec![unread],
        Ok(names) => names
            .iter()
            .filter(|(name, _)| is_impure(name))
            .map(|(name, at)| format!("{}:{}: {}", file.name(), at.start().line, name.join("::")))
            .collect(),
    }
}

fn is_impure(name: &[String]) -> bool {
    let name: Vec<_> = name.iter().map(String::as_str).collect();
    match name[..] {
        ["std"] | ["std", "*"] | ["std", "io" | "time", "*"] => true,
        ["std", "env" | "fs" | "net" | "os" | "process" | "thread", ..] => true,
        ["std", "time", "Instant" | "SystemTime", ..] | ["time", "Instant" | "SystemTime", ..] => {
            true
        }
        ["std", "io", item, ..] | ["io", item, ..] => item.to_lowercase().starts_with("std"),
        _ => name.iter().any(|part| IMPURE_WORDS.contains(part)),
    }
}

/// Iteration order, waiting, randomness and printing; each by its last name.
const IMPURE_WORDS: &[&str] = &[
    "HashMap",
    "HashSet",
    "RandomState",
    "async",
    "await",
    "eprint",
    "eprintln",
    "print",
    "println",
];
