//! Bounds a document chunk before Automerge loads it.

use std::io::Read;

use flate2::bufread::DeflateDecoder;

use super::GuardError;
use super::chunk::open_document;
use super::reader::Reader;
use crate::limits::{CHANGE_COLUMNS_MAX, SNAPSHOT_BYTES_MAX};

/// Bytes that the columns of a snapshot may have together once inflated: no more than a snapshot
/// that was not deflated could have, because the replica that loads it has the same memory.
pub const SNAPSHOT_INFLATED_BYTES_MAX: usize = SNAPSHOT_BYTES_MAX;

/// Checks that `bytes` are one document chunk within its limits, without loading it.
///
/// Bounds the bytes that loading reads and inflates. It does not look at operations, so load a
/// snapshot that passes behind a panic fence, and compare its heads with those that were promised.
///
/// # Errors
/// The bytes are not a sound snapshot. Ask for the document's changes one by one instead.
pub fn check_snapshot(bytes: &[u8]) -> Result<(), GuardError> {
    let chunk = open_document(bytes, SNAPSHOT_BYTES_MAX)?;
    let mut reader = Reader::new(&chunk.content);
    skip_actors(&mut reader)?;
    let heads = skip_heads(&mut reader)?;
    let mut columns = read_columns(&mut reader)?;
    columns.append(&mut read_columns(&mut reader)?);
    check_columns(&mut reader, &columns)?;
    // Older versions of Automerge in JavaScript leave out the places of the heads.
    if !reader.is_empty() {
        for _ in 0..heads {
            reader.u64("places of the heads")?;
        }
    }
    match reader.rest().len() {
        0 => Ok(()),
        len => Err(GuardError::Trailing { what: "document", len }),
    }
}

fn skip_actors(reader: &mut Reader<'_>) -> Result<(), GuardError> {
    for _ in 0..reader.u64("number of actors")? {
        reader.prefixed("actors")?;
    }
    Ok(())
}

fn skip_heads(reader: &mut Reader<'_>) -> Result<u64, GuardError> {
    let heads = reader.u64("number of heads")?;
    reader.take(heads.saturating_mul(32), "heads")?;
    Ok(heads)
}

/// A column of a document, as announced before its content.
struct Column {
    deflated: bool,
    len: u64,
}

fn read_columns(reader: &mut Reader<'_>) -> Result<Vec<Column>, GuardError> {
    let count = reader.u64("number of columns")?;
    if count > CHANGE_COLUMNS_MAX as u64 {
        return Err(GuardError::Columns { count, max: CHANGE_COLUMNS_MAX });
    }
    let mut columns = Vec::new();
    let mut last = None;
    for _ in 0..count {
        let spec = reader.u64("column specification")?;
        let place = Some(spec & !DEFLATE_BIT);
        if spec > u64::from(u32::MAX) || last >= place {
            return Err(GuardError::Column { spec });
        }
        last = place;
        let len = reader.u64("length of a column")?;
        columns.push(Column { deflated: spec & DEFLATE_BIT != 0, len });
    }
    Ok(columns)
}

/// Takes each column in turn from one allowance of inflated bytes.
fn check_columns(reader: &mut Reader<'_>, columns: &[Column]) -> Result<(), GuardError> {
    let mut left = SNAPSHOT_INFLATED_BYTES_MAX as u64;
    for column in columns {
        let content = reader.take(column.len, "columns")?;
        let len = if column.deflated { inflated_len(content, left)? } else { column.len };
        let Some(rest) = left.checked_sub(len) else {
            let max = SNAPSHOT_INFLATED_BYTES_MAX;
            return Err(GuardError::InflatedBytes { what: "document", max });
        };
        left = rest;
    }
    Ok(())
}

/// The length that a column inflates to, counted up to just above `max`. The bytes are not kept.
fn inflated_len(content: &[u8], max: u64) -> Result<u64, GuardError> {
    let mut inflated = DeflateDecoder::new(content).take(max.saturating_add(1));
    std::io::copy(&mut inflated, &mut std::io::sink())
        .map_err(|_| GuardError::Deflate { what: "column" })
}

/// The bit of a specification that says its column is deflated.
const DEFLATE_BIT: u64 = 0b1000;
