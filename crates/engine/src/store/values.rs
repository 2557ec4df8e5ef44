//! The stored form of the value of a document that people see.

use flate2::Crc;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use rejoin_core::{ChangeHash, DocumentId};

use super::{StoreError, ValueRow};

/// A [`ValueRow`] with a sum over it. Changes have hashes and documents have checksums, but a value
/// is shown without a look at those: only the sum tells that it rotted on the disk.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
struct SummedRow {
    #[n(0)]
    key: Option<String>,
    #[n(1)]
    heads: Vec<ChangeHash>,
    #[n(2)]
    deleted: bool,
    #[n(3)]
    json: ByteVec,
    /// Versions before wrote none.
    #[n(4)]
    sum: Option<u32>,
    #[n(5)]
    agreed: Option<ByteVec>,
}

/// The row of a document as it is stored.
pub(super) fn encode_value(id: &DocumentId, value: &ValueRow) -> Vec<u8> {
    let ValueRow { key, heads, deleted, json, agreed } = value.clone();
    let sum = Some(sum(id, value));
    let row = SummedRow { key, heads, deleted, json, sum, agreed };
    minicbor::to_vec(row).expect("encoding into a Vec cannot fail")
}

/// Reads the stored value of a document.
pub(super) fn decode_value(id: &DocumentId, bytes: &[u8]) -> Result<ValueRow, StoreError> {
    let row: SummedRow =
        minicbor::decode(bytes).map_err(|source| StoreError::Row { table: "values", source })?;
    let SummedRow { key, heads, deleted, json, sum: stored, agreed } = row;
    let value = ValueRow { key, heads, deleted, json, agreed };
    match stored {
        Some(stored) if stored != sum(id, &value) => Err(StoreError::Value { document: *id }),
        _ => Ok(value),
    }
}

fn sum(id: &DocumentId, value: &ValueRow) -> u32 {
    let mut sum = Crc::new();
    sum.update(&id.0);
    for head in &value.heads {
        sum.update(&head.0);
    }
    sum.update(&[u8::from(value.deleted), u8::from(value.key.is_some())]);
    // The length keeps the key apart from the bytes after it.
    let key = value.key.as_deref().unwrap_or_default();
    sum.update(&(key.len() as u64).to_le_bytes());
    sum.update(key.as_bytes());
    sum.update(&value.json);
    if let Some(agreed) = &value.agreed {
        sum.update(&(value.json.len() as u64).to_le_bytes());
        sum.update(agreed);
    }
    sum.sum()
}
