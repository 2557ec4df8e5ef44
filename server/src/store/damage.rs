//! The known damage: documents to be looked at, those that cannot be mended, and orphans.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadTransaction, ReadableDatabase, ReadableTable};
use rejoin_core::{CollectionName, DocumentId, SpaceName};

use super::losses::{self, Losses};
use super::tables::ORPHANS;
use super::{ChangeStore, StoreError};

/// Damage that was seen.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// The numbers of documents of which a read failed, each with why.
    suspects: BTreeMap<u64, String>,
    /// Documents that cannot be mended.
    hopeless: BTreeSet<u64>,
    /// Their spaces.
    unsound: BTreeSet<SpaceName>,
    /// There is one of which not even the space is known.
    is_unsound_somewhere: bool,
    /// Documents that have orphans, by the number of their space.
    pub(super) orphans: BTreeSet<(u32, DocumentId)>,
    /// What was lost and not brought back.
    pub(super) losses: Losses,
}

/// The orphans of a document: changes that build on a lost one, each with the position it had.
pub(crate) struct Orphaned {
    pub(crate) space: SpaceName,
    pub(crate) collection: CollectionName,
    pub(crate) document: DocumentId,
    pub(crate) changes: Vec<(u64, Vec<u8>)>,
}

impl Damage {
    /// Reads which documents have orphans, and which lost something.
    pub(super) fn read(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        let mut orphans = BTreeSet::new();
        for entry in transaction.open_table(ORPHANS)?.iter()? {
            let (key, _) = entry?;
            let (space, document, _) = key.value();
            orphans.insert((space, DocumentId(*document)));
        }
        let losses = losses::read(transaction)?;
        Ok(Self { orphans, losses, ..Self::default() })
    }
}

impl ChangeStore {
    /// Remembers that a read of one document failed, for [`take_suspect`](Self::take_suspect).
    /// Other errors are ignored.
    pub(crate) fn suspect(&mut self, error: &StoreError) {
        if let Some(number) = error.document() {
            self.suspect_document(number, error);
        }
    }

    /// As [`suspect`](Self::suspect), of a document that something else could not be done with.
    pub(crate) fn suspect_named(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
        why: &dyn std::error::Error,
    ) {
        if let Ok(Some(space)) = self.space_number(space)
            && let Ok(Some(number)) = self.number(space, document)
        {
            self.suspect_document(number, why);
        }
    }

    fn suspect_document(&mut self, number: u64, why: &dyn std::error::Error) {
        if !self.damage.hopeless.contains(&number) {
            self.damage.suspects.entry(number).or_insert_with(|| why.to_string());
        }
    }

    /// A document to be mended, and why.
    pub(crate) fn take_suspect(&mut self) -> Option<(u64, String)> {
        self.damage.suspects.pop_first()
    }

    /// Whether there is a document to be mended.
    pub(crate) fn has_suspects(&self) -> bool {
        !self.damage.suspects.is_empty()
    }

    /// Whether the digests of a space count something that is known or feared to be unreadable.
    pub(crate) fn is_unsound(&self, space: &SpaceName) -> bool {
        self.has_suspects()
            || self.damage.is_unsound_somewhere
            || self.damage.unsound.contains(space)
    }

    /// The numbers of documents that cannot be mended.
    pub fn unmendable(&self) -> Vec<u64> {
        self.damage.hopeless.iter().copied().collect()
    }

    /// Documents of which changes are held back until a lost one comes again, and how many.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn held_back(&self) -> Result<Vec<(DocumentId, u64)>, StoreError> {
        let mut held: BTreeMap<DocumentId, u64> = BTreeMap::new();
        for entry in self.database.begin_read()?.open_table(ORPHANS)?.iter()? {
            let (key, _) = entry?;
            *held.entry(DocumentId(*key.value().1)).or_default() += 1;
        }
        Ok(held.into_iter().collect())
    }

    /// This document cannot be mended: it is left as it is, and its space is never told to be
    /// whole.
    pub(super) fn give_up(&mut self, number: u64, space: Option<SpaceName>) {
        self.damage.hopeless.insert(number);
        self.damage.is_unsound_somewhere |= space.is_none();
        self.damage.unsound.extend(space);
    }

    /// The orphans of the documents that the next commit writes to.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) fn orphans(&mut self) -> Result<Vec<Orphaned>, StoreError> {
        if self.damage.orphans.is_empty() {
            return Ok(Vec::new());
        }
        let table = self.database.begin_read()?.open_table(ORPHANS)?;
        let mut all = Vec::new();
        for name in self.batch.spaces.keys() {
            let Some(space) = self.spaces.get(name) else { continue };
            for number in self.batch.documents.keys() {
                let Some(row) = self.cache.get(*number).map(|cached| cached.row.clone()) else {
                    continue;
                };
                let key = (row.space, row.id);
                let collection = space.name(row.collection).cloned();
                let Some(collection) = collection.filter(|_| space.row.number == row.space) else {
                    continue;
                };
                if !self.damage.orphans.contains(&key) {
                    continue;
                }
                let mut changes = Vec::new();
                let range = (key.0, &key.1.0, 0)..=(key.0, &key.1.0, u64::MAX);
                for entry in table.range(range)? {
                    let (key, chunk) = entry?;
                    changes.push((key.value().2, chunk.value().to_vec()));
                }
                all.push(Orphaned { space: name.clone(), collection, document: row.id, changes });
            }
        }
        Ok(all)
    }

    /// Lets the next commit forget orphans that are in the graph again. `is_all`
    /// says that none is left.
    pub(crate) fn stage_taken_back(
        &mut self,
        space: &SpaceName,
        document: DocumentId,
        positions: &[u64],
        is_all: bool,
    ) {
        let Some(space) = self.spaces.get(space).map(|space| space.row.number) else { return };
        let keys = positions.iter().map(|position| (space, document, *position));
        self.batch.taken_back.extend(keys);
        if is_all {
            self.damage.orphans.remove(&(space, document));
        }
    }
}
