//! Editing sessions: what real people typed, where the recordings are, and what made-up people type.

use std::io::Read;
use std::path::{Path, PathBuf};

use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ObjType, ROOT, ReadDoc};
use serde_json::Value;

use crate::sim::random::Random;

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

/// A session of made-up people, each of whom types words in an own paragraph, takes some back, and hears of
/// the others now and then. Where nobody types at another's place the text does not depend on who is who.
///
/// # Panics
/// Automerge refuses what they type.
pub fn made(agents: usize, transactions: usize, seed: u64) -> Trace {
    let mut random = Random::new(seed);
    let mut first = AutoCommit::new().with_actor(ActorId::from([0; 16]));
    let text = first.put_object(ROOT, "text", ObjType::Text).unwrap();
    first.commit();
    let ends: Vec<char> = ('①'..).take(agents).collect();
    let paragraphs: String = ends.iter().map(|end| format!("{end}\n")).collect();
    first.splice_text(&text, 0, 0, &paragraphs).unwrap();
    let begun = first.commit().unwrap();
    let mut people: Vec<_> = (0..agents)
        .map(|agent| first.clone().with_actor(ActorId::from([agent as u8 + 1; 16])))
        .collect();
    let mut versions = std::collections::BTreeMap::from([(begun, 0)]);
    let begin = (0, 0, paragraphs);
    let mut made = vec![Transaction { agent: 0, parents: Vec::new(), patches: vec![begin] }];
    for at in 1..transactions {
        let agent = random.index(agents);
        if random.chance(100) {
            let mut other = people[random.index(agents)].clone();
            people[agent].merge(&mut other).unwrap();
        }
        let doc = &mut people[agent];
        let parents = doc.get_heads().iter().map(|head| versions[head]).collect();
        let shown: Vec<char> = doc.text(&text).unwrap().chars().collect();
        let end = shown.iter().position(|char| *char == ends[agent]).expect("nobody deletes it");
        let typed = shown[..end].iter().rev().take_while(|char| **char != '\n').count();
        let (delete, insert) = match typed > 0 && random.chance(120) {
            true => (random.index(typed.min(6)) + 1, ""),
            false => (0, WORDS[random.index(WORDS.len())]),
        };
        doc.splice_text(&text, end - delete, delete as isize, insert).unwrap();
        versions.insert(doc.commit().unwrap(), at);
        let patches = vec![(end - delete, delete, insert.to_owned())];
        made.push(Transaction { agent, parents, patches });
    }
    let mut all = first;
    for doc in &mut people {
        all.merge(doc).unwrap();
    }
    Trace { end_content: all.text(&text).unwrap(), agents, transactions: made }
}

/// What made-up people type.
const WORDS: [&str; 8] = ["the ", "pump ", "is ", "loud", ". ", "Gate ", "4711 ", "ä€😀 "];

fn index(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn patch(value: &Value) -> (usize, usize, String) {
    (index(&value[0]), index(&value[1]), value[2].as_str().unwrap().to_owned())
}
