//! Incremental backups: the changes that came since the backup before.

use std::collections::BTreeSet;
use std::io::Write;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use rejoin_core::{CollectionName, DocumentId, SpaceName};

use super::stream::{CHANGE, ERASED, SNAPSHOT, Writer};
use super::{BackupError, Header, Moment};
use crate::store::StoreError;
use crate::store::guard::confined;
use crate::store::reads::{Rows, own_row};
use crate::store::tables::{
    CHUNKS, COLLECTIONS, ChangeRow, Chunk, DOCUMENTS, LOG, SNAPSHOTS, SPACES, SpaceRow, encode,
};
use crate::store::verify::check_snapshot;

/// A change, or a snapshot of a document of which changes were folded meanwhile, or nothing of one that
/// was erased.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Piece {
    #[n(0)]
    pub(super) space: SpaceName,
    #[n(1)]
    pub(super) collection: CollectionName,
    #[n(2)]
    pub(super) document: DocumentId,
    #[n(3)]
    pub(super) chunk: ByteVec,
}

/// Writes the changes of a moment that the backup before does not have. `None` if there are none:
/// then nothing was written.
///
/// # Errors
/// The database cannot be read, or the backup not be written.
pub fn write_more<W: Write>(
    moment: &Moment,
    before: &Header,
    id: [u8; 16],
    unix_ms: u64,
    to: impl FnOnce() -> std::io::Result<W>,
) -> Result<Option<(Header, W)>, BackupError> {
    let header = moment.header(id, Some(before.id), unix_ms)?;
    if header.spaces.iter().all(|mark| mark.position == before.position(&mark.space)) {
        return Ok(None);
    }
    let mut file = to().map_err(BackupError::Write)?;
    let mut writer = Writer::begin(&mut file, &header)?;
    for mark in &header.spaces {
        let after = before.position(&mark.space);
        if let Ok(space) = SpaceName::new(&*mark.space) {
            write_space(moment, &space, after, mark.position, &mut writer)?;
        }
    }
    writer.end()?;
    Ok(Some((header, file)))
}

/// The tables that changes are read from.
struct Tables {
    documents: Rows,
    chunks: Rows,
    snapshots: Rows,
}

fn write_space<W: Write>(
    moment: &Moment,
    space: &SpaceName,
    after: u64,
    through: u64,
    writer: &mut Writer<W>,
) -> Result<(), BackupError> {
    let transaction = &moment.transaction;
    let open = || -> Result<_, StoreError> {
        let row = transaction.open_table(SPACES)?.get(space.as_str())?;
        let row = row.map(|row| SpaceRow::decode(space.as_str(), row.value())).transpose()?;
        let tables = Tables {
            documents: transaction.open_table(DOCUMENTS)?,
            chunks: transaction.open_table(CHUNKS)?,
            snapshots: transaction.open_table(SNAPSHOTS)?,
        };
        Ok((row, tables))
    };
    let (Some(row), tables) = open()? else { return Ok(()) };
    let names = collections(moment, row.number)?;
    let log = transaction.open_table(LOG).map_err(StoreError::from)?;
    let mut whole = BTreeSet::new();
    let entries = log.range((row.number, after + 1)..=(row.number, through));
    for entry in entries.map_err(StoreError::from)? {
        let (key, value) = entry.map_err(StoreError::from)?;
        let ((_, position), (number, collection)) = (key.value(), value.value());
        let name = names.iter().find(|(of, _)| *of == collection).map(|(_, name)| name);
        let Some(collection) = name.cloned() else { continue };
        match confined(number, || chunk(&tables, number, position)) {
            Ok(Found::Change(document, chunk)) => {
                let (space, chunk) = (space.clone(), chunk.into());
                writer.frame(CHANGE, &encode(&Piece { space, collection, document, chunk }))?;
            }
            Ok(Found::Folded(document, bytes)) if whole.insert(number) => {
                match confined(number, || snapshot(&tables, number, bytes)) {
                    Ok(chunk) => {
                        let (space, chunk) = (space.clone(), chunk.into());
                        let piece = Piece { space, collection, document, chunk };
                        writer.frame(SNAPSHOT, &encode(&piece))?;
                    }
                    Err(error) if error.is_confined() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(Found::Folded(..)) => {}
            Ok(Found::Erased(document)) => {
                let (space, chunk) = (space.clone(), Vec::new().into());
                writer.frame(ERASED, &encode(&Piece { space, collection, document, chunk }))?;
            }
            // What is damaged here is damaged in the relay, too, and is told there.
            Err(error) if error.is_confined() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

enum Found {
    Change(DocumentId, Vec<u8>),
    /// It is in a snapshot of so many bytes.
    Folded(DocumentId, u64),
    Erased(DocumentId),
}

fn chunk(tables: &Tables, number: u64, position: u64) -> Result<Found, StoreError> {
    let absent = |what| StoreError::Absent { document: number, what };
    let own = own_row(&tables.documents, number)?;
    let Some(row) = tables.documents.get((number, position))? else {
        let is_erasure = own.erased_ms.is_some() && own.last == position;
        return if is_erasure { Ok(Found::Erased(own.id)) } else { Err(absent("change")) };
    };
    let row = ChangeRow::decode(number, row.value())?;
    let sound = |chunk: &[u8]| match row.is_of(chunk) {
        true => Ok(Found::Change(own.id, chunk.to_vec())),
        false => Err(StoreError::Damaged { document: number, what: "change" }),
    };
    Ok(match row.chunk {
        Chunk::Inline(chunk) => sound(chunk)?,
        Chunk::Apart(_) => {
            let chunk = tables.chunks.get((number, position))?.ok_or_else(|| absent("chunk"))?;
            sound(chunk.value())?
        }
        Chunk::Folded => {
            let snapshot = own.snapshot.ok_or_else(|| absent("snapshot"))?;
            Found::Folded(own.id, snapshot.bytes)
        }
    })
}

fn snapshot(tables: &Tables, number: u64, bytes: u64) -> Result<Vec<u8>, StoreError> {
    check_snapshot(&tables.snapshots, number, bytes)?;
    let mut snapshot = Vec::new();
    for part in tables.snapshots.range((number, 0)..=(number, u64::MAX))? {
        snapshot.extend_from_slice(part?.1.value());
    }
    Ok(snapshot)
}

/// The collections of a space by their numbers.
fn collections(moment: &Moment, space: u32) -> Result<Vec<(u32, CollectionName)>, StoreError> {
    let table = moment.transaction.open_table(COLLECTIONS)?;
    let mut names = Vec::new();
    for entry in table.range((space, "")..(space + 1, ""))? {
        let (key, number) = entry?;
        // Only checked names were ever written.
        if let Ok(name) = CollectionName::new(key.value().1) {
            names.push((number.value(), name));
        }
    }
    Ok(names)
}
