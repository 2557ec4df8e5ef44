//! The documents with values that do not fit their schema, so that they can be listed without
//! reading all.

use minicbor::{Decode, Encode};
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition};
use rejoin_core::Misfit;
use rejoin_core::{DocumentId, Path, SpaceName};

use super::rows::{Row, decode, encode};
use super::{ReadTxn, StoreError, WriteTxn, unavailable};
use crate::unfit::Unfit;

/// Table: documents with values that do not fit their schema
/// Key:   `[u8; 16]` # [`DocumentId`]
/// Value: `&[u8]`    # [`MisfitsRow`], CBOR
pub(super) const MISFITS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("misfits-1");

/// The values of one document that do not fit.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct MisfitsRow {
    /// The first of them.
    #[n(0)]
    misfits: Vec<MisfitRow>,
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct MisfitRow {
    #[n(0)]
    field: String,
    #[n(1)]
    reason: String,
    #[n(2)]
    is_missing: bool,
}

impl Row for MisfitsRow {
    const TABLE: &'static str = "misfits";
}

impl ReadTxn {
    /// The documents of a space with values that do not fit, in the order of their ids.
    pub fn unfit(&self, space: &SpaceName) -> Result<Vec<Unfit>, StoreError> {
        let table = self.txn.open_table(MISFITS).map_err(unavailable)?;
        let mut unfit = Vec::new();
        for row in table.iter().map_err(unavailable)? {
            let (id, row) = row.map_err(unavailable)?;
            let document = DocumentId(id.value());
            let Some(of) = self.document(&document)?.filter(|of| of.space == *space) else {
                continue;
            };
            let (collection, key, misfits) = (of.collection, of.key, read(row.value())?);
            unfit.push(Unfit { collection, document, key, misfits });
        }
        Ok(unfit)
    }
}

impl ReadTxn {
    /// The values of one document that do not fit.
    pub fn misfits(&self, id: &DocumentId) -> Result<Vec<Misfit>, StoreError> {
        let table = self.txn.open_table(MISFITS).map_err(unavailable)?;
        let row = table.get(id.0).map_err(unavailable)?;
        row.map_or_else(|| Ok(Vec::new()), |row| read(row.value()))
    }
}

fn read(row: &[u8]) -> Result<Vec<Misfit>, StoreError> {
    let MisfitsRow { misfits } = decode(row)?;
    let misfit = |MisfitRow { field, reason, is_missing }| {
        let field = Path::from(field.as_str());
        Misfit { field, reason, is_missing }
    };
    Ok(misfits.into_iter().map(misfit).collect())
}

impl WriteTxn {
    /// Notes the values of a document that do not fit.
    pub(crate) fn put_misfits(
        &self,
        id: &DocumentId,
        misfits: &[Misfit],
    ) -> Result<(), StoreError> {
        let mut table = self.txn.open_table(MISFITS).map_err(unavailable)?;
        if misfits.is_empty() {
            if !table.is_empty().map_err(unavailable)? {
                table.remove(id.0).map_err(unavailable)?;
            }
            return Ok(());
        }
        let row = |misfit: &Misfit| MisfitRow {
            field: misfit.field.to_string(),
            reason: misfit.reason.clone(),
            is_missing: misfit.is_missing,
        };
        let misfits = misfits.iter().take(MISFITS_MAX).map(row).collect();
        let row = encode(&MisfitsRow { misfits });
        if table.get(id.0).map_err(unavailable)?.is_some_and(|before| before.value() == row) {
            return Ok(());
        }
        table.insert(id.0, row.as_slice()).map_err(unavailable)?;
        Ok(())
    }
}

/// Misfits that are kept of one document: a person who corrects these is shown the others.
const MISFITS_MAX: usize = 16;
