//! Recorded editing sessions: what real people typed.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// One recorded session.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The text everybody ends with.
    pub end_content: String,
    /// How many people typed.
    pub agents: usize,
    /// What they did, each after everything it depends on.
    pub transactions: Vec<Transaction>,
}

/// Something one person typed.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Who.
    pub agent: usize,
    /// The transactions whose result they saw, besides everything those saw.
    pub parents: Vec<usize>,
    /// Position, characters deleted there, and characters inserted there.
    pub patches: Vec<(usize, usize, String)>,
}

/// The folder with real input beside the project, if it is there.
pub fn data() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    folder.is_dir().then_some(folder)
}

/// Reads a file of [`data`]. Says so where it is absent.
pub fn read(name: &str) -> Option<Vec<u8>> {
    let read = data().and_then(|folder| std::fs::read(folder.join(name)).ok());
    if read.is_none() {
        eprintln!("skipped: ../shared/data/{name} is not here");
    }
    read
}

/// Reads a trace, at most `limit` transactions of it.
pub fn trace(name: &str, limit: usize) -> Option<Trace> {
    let packed = read(&format!("trace-{name}.json.gz"))?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let concurrent = json["kind"] == "concurrent";
    let transactions = json["txns"].as_array().unwrap().iter().take(limit).enumerate();
    let transactions = transactions.map(|(at, txn)| Transaction {
        agent: txn["agent"].as_u64().unwrap_or(0) as usize,
        parents: match concurrent {
            true => txn["parents"].as_array().unwrap().iter().map(index).collect(),
            false => at.checked_sub(1).into_iter().collect(),
        },
        patches: txn["patches"].as_array().unwrap().iter().map(patch).collect(),
    });
    Some(Trace {
        end_content: json["endContent"].as_str().unwrap().to_owned(),
        agents: json["numAgents"].as_u64().unwrap_or(1) as usize,
        transactions: transactions.collect(),
    })
}

fn index(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn patch(value: &Value) -> (usize, usize, String) {
    (index(&value[0]), index(&value[1]), value[2].as_str().unwrap().to_owned())
}
