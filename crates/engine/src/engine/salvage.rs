//! A document made of those of its changes that could be read.

use automerge::Automerge;
use rejoin_core::change::{self, Admission, Place, Refusal, admit};
use rejoin_core::{ChangeGraph, ChangeHash, DocumentId, GraphEntry};

use super::loaded::{LoadedDocument, fenced};
use crate::store::DocumentRow;

/// A document put together from the parts that could be read.
#[derive(Debug)]
pub struct Rebuilt {
    /// Its row, with its changes at places from 0 on.
    pub row: DocumentRow,
    /// The changes that fit, each after those it builds on.
    pub changes: Vec<Vec<u8>>,
    /// The changes that do not fit, because changes they build on are missing.
    pub left: Vec<(ChangeHash, Vec<u8>)>,
}

/// Whether a document loads from these changes and agrees with its row.
pub fn is_whole(
    id: &DocumentId,
    row: &DocumentRow,
    snapshot: Option<Vec<u8>>,
    changes: &[(u64, Vec<u8>)],
) -> bool {
    let has_snapshot = snapshot.is_some() || row.snapshot_bytes == 0;
    let loaded = LoadedDocument::load(id, row, snapshot, changes);
    has_snapshot && loaded.is_ok_and(|it| row.quarantined > 0 || it.heads() == row.heads)
}

/// Puts a document together from its snapshot, if that loads, and changes in any order.
pub fn rebuild(
    id: &DocumentId,
    row: &DocumentRow,
    snapshot: Option<&[u8]>,
    chunks: Vec<Vec<u8>>,
) -> Rebuilt {
    let mut pending = snapshot.map(changes_of).unwrap_or_default();
    pending.extend(chunks);
    let place = Place { space: &row.space, collection: &row.collection, document: id };
    let mut graph = ChangeGraph::new();
    let mut rebuilt = Rebuilt {
        row: DocumentRow::new(row.space.clone(), row.collection.clone(), row.key.clone()),
        changes: Vec::new(),
        left: Vec::new(),
    };
    let mut doc = Automerge::new();
    loop {
        let before = pending.len();
        for chunk in std::mem::take(&mut pending) {
            // A chunk that is no change any more was one, so something is lost.
            let Ok(change) = change::parse(&chunk) else { continue };
            match admit(&change, &place, &graph) {
                Ok(Admission::Known) => {}
                Ok(Admission::New) => {
                    if apply(&mut doc, &chunk).is_err() {
                        // This undoes all that Automerge did before it failed.
                        doc = Automerge::new();
                        rebuilt.changes.iter().for_each(|chunk| drop(apply(&mut doc, chunk)));
                        rebuilt.left.push((change.hash(), chunk));
                    } else if graph.insert(GraphEntry::from(&change)).is_ok() {
                        rebuilt.row.tail_bytes += chunk.len() as u64;
                        rebuilt.changes.push(chunk);
                    }
                }
                Err(Refusal::Missing(_)) => pending.push(chunk),
                Err(_) => rebuilt.left.push((change.hash(), chunk)),
            }
        }
        if pending.len() == before || pending.is_empty() {
            break;
        }
    }
    let missing = pending.into_iter().filter_map(|chunk| {
        let hash = change::hash_of(&chunk).ok()?;
        Some((hash, chunk))
    });
    rebuilt.left.extend(missing);
    rebuilt.row.next = rebuilt.changes.len() as u64;
    rebuilt.row.heads = graph.heads();
    // Its values are derived anew in any case.
    rebuilt.row.uneasy = true;
    rebuilt
}

fn apply(doc: &mut Automerge, chunk: &[u8]) -> Result<(), String> {
    fenced(|| {
        let change = automerge::Change::from_bytes(chunk.to_vec())?;
        doc.apply_changes([change])
    })
}

/// The changes of a snapshot; none if it does not load.
fn changes_of(snapshot: &[u8]) -> Vec<Vec<u8>> {
    if change::check_snapshot(snapshot).is_err() {
        return Vec::new();
    }
    let changes = fenced(|| {
        let doc = Automerge::load(snapshot)?;
        let mut changes = doc.get_changes(&[]);
        Ok(changes.iter_mut().map(|change| change.bytes().into_owned()).collect())
    });
    changes.unwrap_or_default()
}
