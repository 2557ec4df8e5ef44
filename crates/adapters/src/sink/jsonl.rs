//! Deliveries as lines of JSON in files: to try things out, and to keep what was sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;

use super::{Held, Sink, SinkError};
use crate::delivery::{Delivery, Fault, Record};
use crate::option::Opt;

/// How a [`Jsonl`] is set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The folder the files are in.
    pub folder: PathBuf,
    /// Bytes after which another file is begun; 64 MiB if that is not said.
    #[serde(default = "bytes_max")]
    pub bytes_max: u64,
}

/// The options, for people.
pub(super) const OPTIONS: &[Opt] = &[
    Opt::required("folder", "path", "\"out\"", "the folder the files are in"),
    Opt::with_default("bytes_max", "number", "67108864", "bytes after which another file is begun"),
];

fn bytes_max() -> u64 {
    64 << 20
}

/// Files `1.jsonl`, `2.jsonl` and so on, each line a delivery. A line is synced before it counts as
/// delivered, and what is handed over again after a crash is not written twice.
#[derive(Debug)]
pub struct Jsonl {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    folder: PathBuf,
    bytes_max: u64,
    number: u64,
    file: File,
    bytes: u64,
    /// The keys of the last lines: a crash repeats no more than what was under way.
    recent: VecDeque<String>,
}

impl Jsonl {
    /// Opens the files. Of a line that a crash cut off nothing stays.
    ///
    /// # Errors
    /// The folder cannot be made or written to.
    pub fn open(options: Options, folder: &Path) -> Result<Self, SinkError> {
        let folder = folder.join(options.folder);
        let place = |source| SinkError::Place { place: folder.display().to_string(), source };
        let state = State::open(folder.clone(), options.bytes_max).map_err(place)?;
        Ok(Self { state: Arc::new(Mutex::new(state)) })
    }
}

impl State {
    fn open(folder: PathBuf, bytes_max: u64) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let known = numbers(&folder)?;
        let number = known.last().copied().unwrap_or(1);
        let mut file = open(&folder, number)?;
        // The file is there after a power cut, too.
        File::open(&folder)?.sync_all()?;
        let mut whole = 0;
        let mut recent = VecDeque::new();
        // What was under way may have gone into the file before.
        if let Some(before) = known.iter().rev().nth(1) {
            for line in BufReader::new(File::open(path(&folder, *before))?).lines() {
                let line: Value = serde_json::from_str(&line?).unwrap_or_default();
                remember(&mut recent, line["key"].as_str().unwrap_or_default().to_owned());
            }
        }
        let mut reader = BufReader::new(&mut file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                break;
            }
            whole += read as u64;
            let line: Value = serde_json::from_slice(&line).unwrap_or_default();
            remember(&mut recent, line["key"].as_str().unwrap_or_default().to_owned());
        }
        file.set_len(whole)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { folder, bytes_max, number, file, bytes: whole, recent })
    }

    fn write(&mut self, deliveries: &[Delivery]) -> io::Result<()> {
        let mut lines = Vec::new();
        let mut keys = Vec::new();
        for delivery in deliveries {
            if self.recent.contains(&delivery.key.0) {
                continue;
            }
            serde_json::to_writer(&mut lines, &delivery.to_json())?;
            lines.push(b'\n');
            keys.push(delivery.key.0.clone());
        }
        if self.bytes > 0 && self.bytes + lines.len() as u64 > self.bytes_max {
            self.number += 1;
            self.file = open(&self.folder, self.number)?;
            self.bytes = 0;
            File::open(&self.folder)?.sync_all()?;
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What stands there may be a part of a line: it goes, or nothing more can be written.
            self.file.set_len(self.bytes)?;
            self.file.seek(SeekFrom::End(0))?;
            return Err(error);
        }
        self.bytes += lines.len() as u64;
        keys.into_iter().for_each(|key| remember(&mut self.recent, key));
        Ok(())
    }

    /// The last that was written of each row of a kind.
    fn rows(&self, name: &str) -> io::Result<BTreeMap<String, Held>> {
        let mut rows = BTreeMap::new();
        for number in numbers(&self.folder)? {
            for line in BufReader::new(File::open(path(&self.folder, number))?).lines() {
                let line: Value = serde_json::from_str(&line?).unwrap_or_default();
                let Some(key) = line["record"].as_str().filter(|_| line["name"] == name) else {
                    continue;
                };
                let record = Record { name: name.to_owned(), key: key.to_owned() };
                let row = line["row"].as_object().cloned();
                match line["op"].as_str() {
                    Some("delete") => _ = rows.remove(key),
                    _ => _ = rows.insert(key.to_owned(), Held { record, row }),
                }
            }
        }
        Ok(rows)
    }
}

impl Sink for Jsonl {
    fn batch(&self) -> usize {
        BATCH
    }

    fn apply<'a>(&'a self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Vec<Result<(), Fault>>> {
        let (state, some) = (Arc::clone(&self.state), deliveries.to_vec());
        async move {
            let written = blocking(move || lock(&state).write(&some)).await;
            vec![written; deliveries.len()]
        }
        .boxed()
    }

    fn scan<'a>(
        &'a self,
        name: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<Vec<Held>>, Fault>> {
        let (state, of) = (Arc::clone(&self.state), name.to_owned());
        async move {
            let rows = blocking(move || lock(&state).rows(&of)).await?;
            let rows = rows.into_iter().filter(|(key, _)| Some(&**key) > after);
            Ok(Some(rows.take(limit).map(|(_, held)| held).collect()))
        }
        .boxed()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::transient(error.to_string()))?
        .map_err(|error| Fault::trouble(format!("the file cannot be written or read: {error}")))
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    // After a panic the file is where its length says.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember(recent: &mut VecDeque<String>, key: String) {
    recent.push_back(key);
    if recent.len() > RECENT_MAX {
        recent.pop_front();
    }
}

/// The numbers of the files that are there, in ascending order.
fn numbers(folder: &Path) -> io::Result<BTreeSet<u64>> {
    let mut numbers = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.parse::<u64>().ok());
        numbers.extend(number);
    }
    Ok(numbers)
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number}.jsonl"))
}

fn open(folder: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).open(path(folder, number))
}

/// Lines synced at once.
const BATCH: usize = 64;

/// Keys that are remembered: more than deliveries can be under way.
const RECENT_MAX: usize = 1024;
