//! The author of each actor of a document, where the relay knows who brought its first change.

use std::collections::BTreeMap;

use redb::{ReadableDatabase, WriteTransaction};
use rejoin_core::change::Place;
use rejoin_core::{ActorId, DocumentId, SpaceName};

use super::tables::AUTHORS;
use super::{ChangeStore, StoreError};

/// Authors that wait for the next commit, by document and actor.
pub(super) type StagedAuthors = BTreeMap<(u64, Vec<u8>), Vec<u8>>;

impl ChangeStore {
    /// Notes with the next commit who the author of an actor is, in the bytes that its first change
    /// carries, empty for nobody. That change is staged already.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) fn stage_author(
        &mut self,
        place: &Place<'_>,
        actor: &ActorId,
        author: &[u8],
    ) -> Result<(), StoreError> {
        let cached = self.load(place.space, place.document)?.ok_or(StoreError::Failed)?;
        let key = (cached.number, actor.0.clone());
        self.batch.authors.insert(key, author.to_vec());
        Ok(())
    }

    /// The author of an actor; `None` if it is not known who brought its first change.
    ///
    /// # Errors
    /// The database cannot be read, or this document is damaged.
    pub(crate) fn author_of(
        &mut self,
        space: &SpaceName,
        document: &DocumentId,
        actor: &ActorId,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(cached) = self.load(space, document)? else { return Ok(None) };
        let number = cached.number;
        if let Some(author) = self.batch.authors.get(&(number, actor.0.clone())) {
            return Ok(Some(author.clone()));
        }
        let table = self.database.begin_read()?.open_table(AUTHORS)?;
        let author = table.get((number, actor.0.as_slice()))?;
        Ok(author.map(|author| author.value().to_vec()))
    }
}

pub(super) fn write(
    transaction: &WriteTransaction,
    authors: &StagedAuthors,
) -> Result<(), StoreError> {
    if authors.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(AUTHORS)?;
    for ((document, actor), author) in authors {
        table.insert((*document, actor.as_slice()), author.as_slice())?;
    }
    Ok(())
}

/// A document is erased, and with it the names of those who wrote it.
pub(super) fn erase(transaction: &WriteTransaction, document: u64) -> Result<(), StoreError> {
    let mut table = transaction.open_table(AUTHORS)?;
    let of_document = (document, [].as_slice())..(document + 1, [].as_slice());
    table.retain_in(of_document, |_, _| false)?;
    Ok(())
}
