//! Takes the documents that can still be read out of a damaged replica's file, into a fresh one.
//!
//! The damaged file is only ever copied. Documents are read one by one, those with edits that no
//! relay has first, and each read may fail without ending the others: one bad page costs only the
//! rows on it. The new file is another device, so no number that the old one may have used is used
//! again, and its first session repairs documents that are missing on either side.

mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use redb::ReadTransaction;
use rejoin_core::{DocumentId, SpaceName};
use serde::Serialize;
use thiserror::Error;

use crate::driver::random_bytes;
use crate::file::{OpenError, ReplicaFile, open_database};
use rejoin_engine::damage::{Rebuilt, Remains, Unreadable, is_whole, rebuild, recount_digests};
use rejoin_engine::store::{OutboxRow, SetAsideRow, Store, StoreError, WriteTxn};

pub use file::DamagedFile;

/// The documents and changes that were taken out of a damaged file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Salvaged {
    /// Documents with everything that they had.
    pub whole: u64,
    /// Documents of which something is lost.
    pub partly: Vec<Lost>,
    /// Documents of which nothing could be read.
    pub lost: Vec<Lost>,
    /// Rows that could not be read and say of no document that they belonged to it.
    pub unnamed: u64,
    /// Edits that no relay has acknowledged, and that are in the new file.
    pub edits: u64,
    /// Edits that are lost.
    pub edits_lost: u64,
    /// Changes that are kept apart, because changes they build on are lost.
    pub set_aside: u64,
}

/// A document of which something is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The document.
    pub document: String,
    /// Its natural key, if that is known.
    pub key: Option<String>,
    /// Changes that are in the new file.
    pub changes: u64,
    /// Its edits that no relay has acknowledged, and that are lost.
    pub edits_lost: u64,
}

impl Salvaged {
    /// Whether the new file has all that the old one had.
    pub fn is_everything(&self) -> bool {
        self.partly.is_empty() && self.lost.is_empty() && self.unnamed == 0 && self.edits_lost == 0
    }
}

/// No document could be taken out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SalvageError {
    /// There is something where the new file is to be.
    #[error("{} exists already; name a file that does not", path.display())]
    Exists {
        /// The new file.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{} cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The message of the system.
        source: std::io::Error,
    },
    /// Not even the list of tables could be read.
    #[error(
        "nothing can be read of {}: it is no file of Rejoin, or damaged where all of it begins; \
         restore it from a backup, or sync a new replica from the relay",
        path.display()
    )]
    Unreadable {
        /// The damaged file.
        path: PathBuf,
    },
    /// The new file could not be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new file could not be written.
    #[error("the new file could not be written")]
    Store(#[from] StoreError),
}

/// Takes all that can be read into a fresh replica at `to`. `progress` is told the number of
/// documents that are done, and of all.
///
/// # Errors
/// The new file could not be written. Damage in the old one is no error.
pub fn salvage(
    from: &ReadTransaction,
    to: impl Into<ReplicaFile>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Salvaged, SalvageError> {
    let ReplicaFile { path: to, key } = to.into();
    if to.exists() {
        return Err(SalvageError::Exists { path: to });
    }
    // A file that was cut short is not taken for a replica.
    let unfinished = file::beside(&to, "unfinished");
    let io = |source| SalvageError::Io { path: unfinished.clone(), source };
    if unfinished.exists() {
        std::fs::remove_file(&unfinished).map_err(io)?;
    }
    let unfinished_file = ReplicaFile::at(&unfinished).with(key);
    let store = Store::open(open_database(&unfinished_file)?, random_bytes())?;
    let salvaged = Salvage::new(Remains::of(from)).into(&store, progress)?;
    store.close();
    std::fs::rename(&unfinished, &to).map_err(io)?;
    Ok(salvaged)
}

struct Salvage<'a> {
    remains: Remains<'a>,
    /// Edits of each document that wait for a relay.
    waiting: BTreeMap<DocumentId, Vec<OutboxRow>>,
    /// Spaces that have documents in the new file.
    spaces: BTreeSet<SpaceName>,
    salvaged: Salvaged,
}

impl<'a> Salvage<'a> {
    fn new(remains: Remains<'a>) -> Self {
        let (waiting, spaces) = (BTreeMap::new(), BTreeSet::new());
        Self { remains, waiting, spaces, salvaged: Salvaged::default() }
    }

    fn into(
        mut self,
        store: &Store,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Salvaged, SalvageError> {
        let (edits, unreadable) = self.remains.outbox();
        self.salvaged.edits_lost += unreadable;
        for edit in edits {
            self.waiting.entry(edit.document).or_default().push(edit);
        }
        let names = self.remains.names();
        let numbers = self.remains.numbers(&names);
        let all = numbers.len() as u64;
        let is_waiting = |number: &u64| {
            names.get(number).is_some_and(|document| self.waiting.contains_key(document))
        };
        let (first, others): (Vec<u64>, Vec<u64>) = numbers.into_iter().partition(is_waiting);
        let mut txn = store.write()?;
        self.remains.copy_identity(&txn)?;
        self.remains.copy_erased(&txn)?;
        for (done, number) in (1..).zip(first.into_iter().chain(others)) {
            self.take(&txn, number, names.get(&number))?;
            progress(done, all);
            if done % DOCUMENTS_PER_COMMIT == 0 {
                txn.commit()?;
                txn = store.write()?;
            }
        }
        let (aside, unreadable) = self.remains.set_aside();
        self.salvaged.unnamed += unreadable;
        for row in aside {
            txn.push_set_aside(&row)?;
        }
        // Edits of documents of which not even the number is known.
        let known: BTreeSet<DocumentId> = names.values().copied().collect();
        let nameless = self.waiting.iter().filter(|(document, _)| !known.contains(document));
        self.salvaged.edits_lost += nameless.map(|(_, edits)| edits.len() as u64).sum::<u64>();
        for space in &self.spaces {
            recount_digests(&txn, space)?;
        }
        txn.commit()?;
        Ok(self.salvaged)
    }

    /// Takes one document out.
    fn take(
        &mut self,
        txn: &WriteTxn,
        number: u64,
        name: Option<&DocumentId>,
    ) -> Result<(), SalvageError> {
        let row = match self.remains.document(number) {
            // The number was never used, or is free again.
            Ok(None) if name.is_none() => return Ok(()),
            Ok(found) => found,
            Err(Unreadable) => None,
        };
        let Some((document, row)) = row else {
            let Some(document) = name else {
                self.salvaged.unnamed += 1;
                return Ok(());
            };
            let edits = self.waiting.get(document).map_or(0, Vec::len) as u64;
            self.salvaged.edits_lost += edits;
            self.salvaged.lost.push(lost(document, None, 0, edits));
            return Ok(());
        };
        let snapshot = self.remains.snapshot(number);
        let (changes, is_all) = self.remains.changes(number);
        let edits = self.waiting.remove(&document).unwrap_or_default();
        let is_sound = is_all
            && snapshot.as_ref().is_ok_and(|snapshot| {
                let after: Vec<_> =
                    changes.iter().filter(|(at, _)| *at >= row.covered).cloned().collect();
                is_whole(&document, &row, snapshot.clone(), &after)
            })
            && edits.iter().all(|edit| has_all(edit, &changes));
        if is_sound {
            txn.put_document(&document, &row)?;
            self.spaces.insert(row.space.clone());
            if let Ok(Some(snapshot)) = &snapshot {
                txn.put_snapshot(&document, snapshot)?;
            }
            for (at, chunk) in &changes {
                txn.put_change(&document, *at, chunk)?;
            }
            for (hash, kept) in self.remains.quarantined(&document) {
                txn.put_quarantine(&document, &hash, &kept)?;
            }
            for edit in &edits {
                txn.push_outbox(edit)?;
            }
            self.salvaged.edits += edits.len() as u64;
            self.salvaged.whole += 1;
            txn.mark_stale(&document, true)?;
            return Ok(());
        }
        let chunks = changes.iter().map(|(_, chunk)| chunk.clone()).collect();
        let snapshot = snapshot.ok().flatten();
        let rebuilt = rebuild(&document, &row, snapshot.as_deref(), chunks);
        self.put_rebuilt(txn, &document, &rebuilt, &edits, &changes)
    }

    /// Writes the part of a document that is left.
    fn put_rebuilt(
        &mut self,
        txn: &WriteTxn,
        document: &DocumentId,
        rebuilt: &Rebuilt,
        edits: &[OutboxRow],
        stored: &[(u64, Vec<u8>)],
    ) -> Result<(), SalvageError> {
        let Rebuilt { row, changes, left } = rebuilt;
        let mut edits_lost = 0;
        if !changes.is_empty() {
            txn.put_document(document, row)?;
            self.spaces.insert(row.space.clone());
            for (at, chunk) in (0..).zip(changes) {
                txn.put_change(document, at, chunk)?;
            }
            txn.mark_stale(document, true)?;
        }
        for edit in edits {
            let of_edit = stored.iter().filter(|(at, _)| edit.places().contains(at));
            let places: Option<Vec<u64>> = of_edit
                .map(|(_, chunk)| changes.iter().position(|it| it == chunk).map(|at| at as u64))
                .collect();
            match places {
                Some(places) if has_all(edit, stored) => {
                    // They may not stand side by side any more.
                    for from in places {
                        txn.push_outbox(&OutboxRow { from, count: 1, ..edit.clone() })?;
                    }
                    self.salvaged.edits += 1;
                }
                _ => edits_lost += 1,
            }
        }
        self.salvaged.edits_lost += edits_lost;
        for (hash, chunk) in left {
            txn.push_set_aside(&SetAsideRow {
                space: row.space.clone(),
                collection: row.collection.clone(),
                document: *document,
                key: row.key.clone(),
                hash: *hash,
                chunk: chunk.clone().into(),
                reason: "what it builds on was lost with a damaged file".to_owned(),
                authored_anew: false,
                time_s: 0,
                anew: None,
                fields: Vec::new(),
                acknowledged: false,
            })?;
            self.salvaged.set_aside += 1;
        }
        let lost = lost(document, row.key.clone(), changes.len() as u64, edits_lost);
        match changes.is_empty() {
            true => self.salvaged.lost.push(lost),
            false => self.salvaged.partly.push(lost),
        }
        Ok(())
    }
}

/// Whether all changes of an edit were read.
fn has_all(edit: &OutboxRow, changes: &[(u64, Vec<u8>)]) -> bool {
    let found = changes.iter().filter(|(at, _)| edit.places().contains(at)).count();
    found as u64 == edit.count
}

fn lost(document: &DocumentId, key: Option<String>, changes: u64, edits_lost: u64) -> Lost {
    Lost { document: document.to_string(), key, changes, edits_lost }
}

/// Documents that are written with one commit.
const DOCUMENTS_PER_COMMIT: u64 = 1000;
