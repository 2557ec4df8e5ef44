//! automerge-repo as JavaScript has it: a Node process for each client, held by its standard input.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::processes::Running;

/// Which packages a client runs, of those in `tests/node`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The latest.
    Current,
    /// The minor version before, with the Automerge of its time.
    Previous,
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
        }
    }
}

/// How looking for a document ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Ready,
    Unavailable,
}

/// A client with an endpoint to dial, until it is dropped. It redials every 200 ms.
///
/// Documents go by their `automerge:` address, and places in them by names with dots between.
/// Whatever waits does so for a minute, and panics then.
#[derive(Debug)]
pub struct Node {
    running: Running,
    asked: u64,
    /// Answers to requests that nobody waited for yet.
    answers: BTreeMap<u64, Result<Value, String>>,
}

/// A request that is under way.
#[derive(Debug)]
#[must_use = "nothing is known of it before its answer"]
pub struct Asked(u64);

impl Node {
    /// A client that keeps documents in memory.
    pub fn start(version: Version, url: &str) -> Self {
        Self::start_with(version, json!({ "url": url, "retry": RETRY_MS }))
    }

    /// The same by this peer id.
    pub fn start_as(version: Version, url: &str, peer: &str) -> Self {
        Self::start_with(version, json!({ "url": url, "retry": RETRY_MS, "peer": peer }))
    }

    /// A client that keeps documents in a folder, and has those that are in there.
    pub fn start_in(version: Version, url: &str, folder: &Path) -> Self {
        Self::start_with(version, json!({ "url": url, "retry": RETRY_MS, "storage": folder }))
    }

    fn start_with(version: Version, options: Value) -> Self {
        let mut command = Command::new("node");
        command.arg(sources().join("client.mjs")).arg(packages(version)).arg(options.to_string());
        let running = Running::start({
            command.stdin(Stdio::piped());
            command
        });
        Self { running, asked: 0, answers: BTreeMap::new() }
    }

    /// Makes a document, and returns its address.
    pub fn create(&mut self, value: Value) -> String {
        self.create_all(vec![value]).remove(0)
    }

    /// Makes many documents.
    pub fn create_all(&mut self, values: Vec<Value>) -> Vec<String> {
        texts(&self.ask("create", json!({ "values": values })))
    }

    /// Makes a document of what Automerge saved in a file.
    pub fn import(&mut self, file: &Path) -> String {
        text(&self.ask("import", json!({ "file": file })))
    }

    /// Looks for a document that is somewhere.
    #[track_caller]
    pub fn find(&mut self, document: &str) {
        assert_eq!(self.seek(document), Found::Ready, "{document}");
    }

    /// Looks for a document that may be nowhere.
    pub fn seek(&mut self, document: &str) -> Found {
        self.seek_all(&[document.to_owned()]).remove(0)
    }

    /// Looks for many documents at once.
    pub fn seek_all(&mut self, documents: &[String]) -> Vec<Found> {
        let found = texts(&self.ask("find", json!({ "documents": documents })));
        let outcome = |found: String| match &*found {
            "ready" => Found::Ready,
            "unavailable" => Found::Unavailable,
            other => panic!("a document is {other}"),
        };
        found.into_iter().map(outcome).collect()
    }

    /// Takes steps in one change, and returns the heads.
    pub fn change(&mut self, document: &str, steps: &[Value]) -> Vec<String> {
        texts(&self.ask("change", json!({ "document": document, "steps": steps })))
    }

    /// Begins to type words into a text, each at a place of its own.
    pub fn start_typing(&mut self, document: &str, at: &str, words: &[String], seed: u32) -> Asked {
        let what = json!({ "document": document, "at": place(at), "words": words, "seed": seed });
        self.send("type", what)
    }

    /// The value of a document.
    pub fn value(&mut self, document: &str) -> Value {
        self.ask("value", json!({ "document": document }))
    }

    /// The heads of a document, in hexadecimal digits, sorted.
    pub fn heads(&mut self, document: &str) -> Vec<String> {
        texts(&self.ask("heads", json!({ "document": document })))
    }

    /// Waits until the document has these heads.
    pub fn heads_are(&mut self, document: &str, heads: &[String]) {
        self.ask("heads_are", json!({ "document": document, "heads": heads }));
    }

    /// Waits until this stands at a place.
    pub fn value_is(&mut self, document: &str, at: &str, value: impl Into<Value>) {
        let value = value.into();
        let what = json!({ "document": document, "at": place(at), "value": value });
        self.ask("value_is", what);
    }

    /// Waits until the endpoint said that it has all that is here of a document.
    pub fn saved(&mut self, document: &str) {
        self.all_saved(&[document.to_owned()]);
    }

    /// The same for many documents.
    pub fn all_saved(&mut self, documents: &[String]) {
        self.ask("saved", json!({ "documents": documents }));
    }

    /// Says something that is not kept to everybody who has the document open.
    pub fn broadcast(&mut self, document: &str, message: Value) {
        self.ask("broadcast", json!({ "document": document, "message": message }));
    }

    /// Waits until so much was said in a document, and returns who said it, and what.
    pub fn heard(&mut self, document: &str, count: usize) -> Vec<(String, Value)> {
        let heard = self.ask("heard", json!({ "document": document, "count": count }));
        let heard = heard.as_array().expect("a list of messages").iter();
        heard.map(|said| (text(&said["from"]), said["message"].clone())).collect()
    }

    /// The addresses of the documents that are open.
    pub fn documents(&mut self) -> Vec<String> {
        texts(&self.ask("documents", json!({})))
    }

    /// How many messages of this type came.
    pub fn received(&mut self, kind: &str) -> u64 {
        self.ask("received", json!({}))[kind].as_u64().unwrap_or(0)
    }

    /// How many messages of this type went.
    pub fn sent(&mut self, kind: &str) -> u64 {
        self.ask("sent", json!({}))[kind].as_u64().unwrap_or(0)
    }

    /// Waits until the endpoint has introduced itself, and returns what it said: `peer`,
    /// `storageId` and `isEphemeral`.
    pub fn connected(&mut self) -> Value {
        self.ask("connected", json!({}))[0].take()
    }

    /// Waits until it is known that the endpoint is gone.
    pub fn alone(&mut self) {
        self.ask("alone", json!({}));
    }

    /// Hangs up, and dials no more.
    pub fn disconnect(&mut self) {
        self.ask("disconnect", json!({}));
    }

    /// Dials again after [`disconnect`](Self::disconnect).
    pub fn reconnect(&mut self) {
        self.ask("reconnect", json!({}));
    }

    /// Ends in good order, with everything in its folder.
    pub fn shutdown(mut self) {
        self.ask("shutdown", json!({}));
    }

    /// Waits for the answer to a request.
    #[track_caller]
    pub fn answer(&mut self, Asked(number): Asked) -> Value {
        while !self.answers.contains_key(&number) {
            let line = self.running.line().expect("the client runs; what it said is above");
            let mut reply: Value =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
            let answer = match reply["error"].as_str() {
                Some(error) => Err(error.to_owned()),
                None => Ok(reply["answer"].take()),
            };
            self.answers.insert(reply["number"].as_u64().expect("a number"), answer);
        }
        let answer = self.answers.remove(&number).expect("it was just looked for");
        answer.unwrap_or_else(|error| panic!("the client could not: {error}"))
    }

    #[track_caller]
    fn ask(&mut self, name: &str, parameters: Value) -> Value {
        let asked = self.send(name, parameters);
        self.answer(asked)
    }

    fn send(&mut self, name: &str, mut parameters: Value) -> Asked {
        self.asked += 1;
        parameters["number"] = self.asked.into();
        parameters["ask"] = name.into();
        self.running.say(&format!("{parameters}\n"));
        Asked(self.asked)
    }
}

/// Puts a value.
pub fn set(at: &str, to: impl Into<Value>) -> Value {
    json!({ "what": "set", "at": place(at), "to": to.into() })
}

/// Replaces characters of a text.
pub fn splice(at: &str, index: usize, remove: usize, insert: &str) -> Value {
    let at = place(at);
    json!({ "what": "splice", "at": at, "index": index, "remove": remove, "insert": insert })
}

/// Adds to a counter, which is made if it is not there.
pub fn count(at: &str, by: i64) -> Value {
    json!({ "what": "count", "at": place(at), "by": by })
}

/// Adds an item to the end of a list.
pub fn push(at: &str, to: impl Into<Value>) -> Value {
    json!({ "what": "push", "at": place(at), "to": to.into() })
}

/// Milliseconds between two attempts to dial. The client's own default is 5,000.
const RETRY_MS: u32 = 200;

fn place(at: &str) -> Vec<&str> {
    at.split('.').collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list")).iter().map(text).collect()
}

/// The folder with the packages. `cargo xtask test` installs them before; where they are missing
/// they are installed now.
pub fn packages(version: Version) -> PathBuf {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    let folder = |version: Version| root().join("target/node").join(version.name());
    INSTALLED.get_or_init(|| {
        let is_there = |version: Version| {
            let wanted = sources().join(version.name()).join("package-lock.json");
            let wanted = fs::read(wanted).expect("the lock file is there");
            let installed = fs::read(folder(version).join("node_modules/.installed.json"));
            installed.is_ok_and(|installed| installed == wanted)
        };
        if ![Version::Current, Version::Previous].into_iter().all(is_there) {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut command = Command::new(cargo);
            command.args(["run", "--package", "xtask", "--", "node"]).current_dir(root());
            let installed = command.status().expect("there is cargo");
            assert!(installed.success(), "the npm packages are not installed; see above");
        }
    });
    folder(version)
}

fn sources() -> PathBuf {
    root().join("tests/node")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
