//! Changes that the relay took from somebody else than their author.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use redb::{ReadableDatabase, ReadableTable, WriteTransaction};
use rejoin_core::change::Place;
use rejoin_core::{ChangeHash, DocumentId, SpaceName};

use super::reads::own_row;
use super::tables::{CARRIED, DOCUMENTS, SPACES, SpaceRow};
use super::{ChangeStore, StoreError};

/// A change that was carried.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CarriedRow {
    /// The user whose name it bears. Nobody has proved that it is theirs.
    #[n(0)]
    pub author: String,
    /// The user who brought it.
    #[n(1)]
    pub carrier: String,
    /// The time at which it came, in milliseconds since 1970.
    #[n(2)]
    pub time_ms: u64,
}

/// A change that was carried, and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// Its space.
    pub space: SpaceName,
    /// Its document.
    pub document: DocumentId,
    /// The change.
    pub hash: ChangeHash,
    /// Who brought it, and when.
    pub row: CarriedRow,
}

impl ChangeStore {
    /// Notes with the next commit that a change was carried. It is staged already.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) fn stage_carried(
        &mut self,
        place: &Place<'_>,
        hash: ChangeHash,
        row: CarriedRow,
    ) -> Result<(), StoreError> {
        let cached = self.load(place.space, place.document)?.ok_or(StoreError::Failed)?;
        let number = cached.number;
        self.batch.carried.push((number, hash, row));
        Ok(())
    }

    /// Changes that were carried, the latest first, at most `limit`; and how many there are in all.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn carried(&self, limit: usize) -> Result<(Vec<Carried>, u64), StoreError> {
        let transaction = self.database.begin_read()?;
        let mut rows = Vec::new();
        for entry in transaction.open_table(CARRIED)?.iter()? {
            let (key, row) = entry?;
            let (number, hash) = key.value();
            let row: CarriedRow = minicbor::decode(row.value()).map_err(StoreError::CarriedRow)?;
            rows.push((number, ChangeHash(*hash), row));
        }
        let mut spaces = BTreeMap::new();
        for entry in transaction.open_table(SPACES)?.iter()? {
            let (name, row) = entry?;
            let number = SpaceRow::decode(name.value(), row.value())?.number;
            // Only checked names were ever written.
            spaces.extend(SpaceName::new(name.value()).ok().map(|name| (number, name)));
        }
        let documents = transaction.open_table(DOCUMENTS)?;
        let all = rows.len() as u64;
        rows.sort_by_key(|(number, hash, row)| (std::cmp::Reverse(row.time_ms), *number, *hash));
        let mut carried = Vec::new();
        for (number, hash, row) in rows.into_iter().take(limit) {
            let of = own_row(&documents, number)?;
            let Some(space) = spaces.get(&of.space).cloned() else { continue };
            carried.push(Carried { space, document: of.id, hash, row });
        }
        Ok((carried, all))
    }
}

pub(super) fn write(
    transaction: &WriteTransaction,
    carried: &[(u64, ChangeHash, CarriedRow)],
) -> Result<(), StoreError> {
    if carried.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(CARRIED)?;
    for (document, hash, row) in carried {
        let row = minicbor::to_vec(row).expect("encoding into a Vec cannot fail");
        table.insert((*document, &hash.0), row.as_slice())?;
    }
    Ok(())
}

/// A document is erased, and with it the names of those who wrote it.
pub(super) fn erase(transaction: &WriteTransaction, document: u64) -> Result<(), StoreError> {
    let mut table = transaction.open_table(CARRIED)?;
    let of_document = (document, &[0; 32])..(document + 1, &[0; 32]);
    table.retain_in(of_document, |_, _| false)?;
    Ok(())
}
