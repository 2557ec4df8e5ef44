//! What the workspace holds.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A text file of the workspace.
pub(crate) struct Source {
    /// From the workspace root.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path));
        let text = text.unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
        Self { path: path.into(), text }
    }

    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Whether the file holds tests only. `tests/src` does not: that is the crate they share.
    pub(crate) fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.iter().skip(1).any(|part| part == "tests")
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    pub(crate) fn lines_where(&self, wrong: impl Fn(&str) -> bool) -> Vec<String> {
        self.lines()
            .filter(|(_, line)| wrong(line))
            .map(|(number, line)| format!("{}:{number}: {}", self.name(), line.trim()))
            .collect()
    }
}

pub(crate) fn rust_files() -> Vec<Source> {
    let files = sources(|path| path.extension().is_some_and(|extension| extension == "rs"));
    assert!(!files.is_empty(), "found no Rust files below {}", root().display());
    files
}

/// The text files of the workspace whose paths are wanted. Binary files are left out.
pub(crate) fn sources(wanted: impl Fn(&Path) -> bool) -> Vec<Source> {
    let files = files_in_git().unwrap_or_else(|| files_below(Path::new("")));
    files
        .into_iter()
        .filter(|path| wanted(path))
        .filter_map(|path| {
            Some(Source { text: fs::read_to_string(root().join(&path)).ok()?, path })
        })
        .collect()
}

/// What is committed or about to be; `None` outside a git checkout, as in an unpacked archive.
pub(crate) fn files_in_git() -> Option<Vec<PathBuf>> {
    // In a container the checkout often belongs to somebody else, which git refuses unasked.
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"])
        .arg("--exclude-standard")
        .current_dir(root())
        .output()
        .ok()?;
    let paths = output.status.success().then(|| text(output.stdout))?;
    let paths: Vec<_> = paths.split_terminator('\0').map(PathBuf::from).collect();
    (!paths.is_empty()).then_some(paths)
}

pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect("the workspace can be read");
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.expect("the workspace can be read");
        let path = folder.join(entry.file_name());
        if !entry.path().is_dir() {
            files.push(path);
        } else if !matches!(path.to_str(), Some(".git" | "target")) {
            files.extend(files_below(&path));
        }
    }
    files
}

#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
}

#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` is a normal dependency.
    kind: Option<String>,
}

impl Dependency {
    pub(crate) fn kind_or<'a>(&'a self, normal: &'a str) -> &'a str {
        self.kind.as_deref().unwrap_or(normal)
    }
}

#[derive(Deserialize)]
pub(crate) struct Lock {
    pub(crate) package: Vec<LockedPackage>,
}

#[derive(Deserialize)]
pub(crate) struct LockedPackage {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl Lock {
    pub(crate) fn read() -> Self {
        let file = Source::read("Cargo.lock");
        toml::from_str(&file.text).expect("Cargo.lock is TOML that lists packages")
    }

    pub(crate) fn versions(&self, name: &str) -> Vec<&str> {
        let named = self.package.iter().filter(|package| package.name == name);
        named.map(|package| &*package.version).collect()
    }
}

/// What cargo prints when run at the workspace root.
pub(crate) fn cargo(arguments: &[&str]) -> String {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run = Command::new(cargo).args(arguments).current_dir(root()).output();
    let Output { status, stdout, stderr } = run.expect("cargo can be started");
    assert!(status.success(), "`cargo {}` failed:\n{}", arguments.join(" "), text(stderr));
    text(stdout)
}

pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("tools print UTF-8, and so are our file names")
}

pub(crate) fn from_json<T: DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).expect("cargo metadata prints JSON of format version 1")
}
