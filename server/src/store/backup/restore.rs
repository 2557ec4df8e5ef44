//! A store made of a whole backup and the incremental ones that follow it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use redb::{Database, Durability, ReadableDatabase, ReadableTable};
use rejoin_core::change::{self, Admission, Place};
use rejoin_core::{ChangeGraph, Epoch, GraphEntry};
use rejoin_seal::Key;

use super::more::Piece;
use super::stream::{CHANGE, ERASED, Reader, SNAPSHOT, check};
use super::{BackupError, Header, TakeApart, rows};
use crate::store::file::create;
use crate::store::tables::{IDENTITY, SPACES, SpaceRow, encode};
use crate::store::{ChangeStore, StoreError};

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// The last backup that was taken in: everything up to its time is there.
    pub header: Header,
    /// Incremental backups that were taken in.
    pub followed: usize,
    /// Documents of all spaces.
    pub documents: u64,
    /// Changes of all spaces, as their positions count them.
    pub changes: u64,
    /// Documents of which something in an incremental backup could not be taken in, as after damage
    /// of the relay's file, and the reason. Replicas that have it bring it back.
    pub partly: Vec<String>,
}

/// Restores a store into the file `to`, which must not exist, from a whole backup and incremental
/// ones in their order, encrypted if there is a key. The new store is another lifetime: replicas compare what they have with it,
/// and bring back what it lacks. `take_apart` makes changes of a snapshot, as
/// [`take_apart_in_process`](crate::take_apart_in_process) does.
///
/// # Errors
/// A backup is damaged or does not follow the one before, or the file cannot be written. Nothing is
/// left at `to` then.
pub fn restore(
    whole: &Path,
    more: &[PathBuf],
    to: &Path,
    key: Option<&Key>,
    take_apart: TakeApart<'_>,
    mut random: impl FnMut() -> [u8; 16],
    progress: &mut dyn FnMut(u64),
) -> Result<Restored, BackupError> {
    if to.exists() {
        return Err(BackupError::Exists { path: to.to_owned() });
    }
    for backup in [whole].into_iter().chain(more.iter().map(PathBuf::as_path)) {
        check(open(backup)?).map_err(|error| BackupError::Bad {
            path: backup.to_owned(),
            source: Box::new(error),
        })?;
    }
    let unfinished = to.with_extension("redb.restoring");
    let folder = |source| BackupError::Folder { path: unfinished.clone(), source };
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(folder(error)),
        _ => {}
    }
    let made = make(whole, more, &unfinished, key, take_apart, &mut random, progress);
    let kept = made.and_then(|restored| {
        fs::rename(&unfinished, to).map_err(folder)?;
        sync_folder(to).map_err(folder)?;
        Ok(restored)
    });
    if kept.is_err() {
        // The error is told; the unfinished file helps nobody.
        let _ = fs::remove_file(&unfinished);
    }
    kept
}

fn make(
    whole: &Path,
    more: &[PathBuf],
    to: &Path,
    key: Option<&Key>,
    take_apart: TakeApart<'_>,
    random: &mut impl FnMut() -> [u8; 16],
    progress: &mut dyn FnMut(u64),
) -> Result<Restored, BackupError> {
    let database = create(to, key).map_err(|error| {
        let source = std::io::Error::other(error);
        BackupError::Folder { path: to.to_owned(), source }
    })?;
    let mut reader = Reader::begin(open(whole)?)?;
    if reader.header.follows.is_some() {
        return Err(BackupError::Gap { path: whole.to_owned() });
    }
    rows::read(&mut reader, &database, progress)?;
    begin_lifetime(&database, random())?;
    let mut header = reader.header;
    let mut partly = Vec::new();
    let mut store = ChangeStore::open(database, GRAPH_BYTES_MAX, &mut *random)?;
    for path in more {
        let mut reader = Reader::begin(open(path)?)?;
        if reader.header.follows != Some(header.id) || reader.header.relay != header.relay {
            return Err(BackupError::Gap { path: path.clone() });
        }
        while let Some((kind, content)) = reader.next()? {
            match take(&mut store, kind, &content, take_apart, reader.header.unix_ms) {
                Err(error) if is_of_one_document(&error) => {
                    if partly.len() < PARTLY_MAX {
                        partly.push(error.to_string());
                    }
                }
                taken => taken?,
            }
        }
        store.commit(reader.header.unix_ms)?;
        header = reader.header;
    }
    // What an increment erased was written by one before it.
    store.overwrite()?;
    let (mut documents, mut changes) = (0, 0);
    for space in store.spaces()? {
        documents += store.documents_of(&space)?;
        changes += store.space(&space)?.position;
    }
    Ok(Restored { header, followed: more.len(), documents, changes, partly })
}

/// Whether only one document is concerned.
fn is_of_one_document(error: &BackupError) -> bool {
    match error {
        BackupError::Refused { .. } => true,
        BackupError::Store(error) => error.is_confined(),
        _ => false,
    }
}

/// Takes in one piece of an incremental backup.
fn take(
    store: &mut ChangeStore,
    kind: u8,
    content: &[u8],
    take_apart: TakeApart<'_>,
    unix_ms: u64,
) -> Result<(), BackupError> {
    let piece: Piece =
        minicbor::decode(content).map_err(|_| BackupError::Nonsense { place: "a change" })?;
    let place =
        Place { space: &piece.space, collection: &piece.collection, document: &piece.document };
    let chunks = match kind {
        ERASED => {
            store.commit(unix_ms)?;
            store.erase(&place, unix_ms)?;
            return Ok(());
        }
        CHANGE => vec![piece.chunk.to_vec()],
        SNAPSHOT => take_apart(&piece.chunk).map_err(|reason| BackupError::Refused {
            space: piece.space.clone(),
            document: piece.document,
            reason,
        })?,
        _ => return Err(BackupError::Nonsense { place: "a frame of another kind of backup" }),
    };
    let refused = |reason: String| BackupError::Refused {
        space: piece.space.clone(),
        document: piece.document,
        reason,
    };
    for chunk in chunks {
        let change = change::parse(&chunk).map_err(|error| refused(error.to_string()))?;
        let nothing = ChangeGraph::new();
        let known = store.known(&place)?;
        let graph = known.map_or(&nothing, |known| known.graph);
        match change::admit(&change, &place, graph) {
            Ok(Admission::New) => {
                store.stage(&place, GraphEntry::from(&change), chunk)?;
            }
            Ok(Admission::Known) => {}
            Err(refusal) => return Err(refused(refusal.to_string())),
        }
        if store.is_batch_full() {
            store.commit(unix_ms)?;
        }
    }
    Ok(())
}

/// Gives the store and its spaces an epoch that no replica has a mark of.
fn begin_lifetime(database: &Database, epoch: [u8; 16]) -> Result<(), StoreError> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        transaction.open_table(IDENTITY)?.insert("epoch", &epoch)?;
        let mut spaces = transaction.open_table(SPACES)?;
        let mut rows = Vec::new();
        for entry in spaces.iter()? {
            let (space, row) = entry?;
            rows.push((space.value().to_owned(), SpaceRow::decode(space.value(), row.value())?));
        }
        for (space, row) in rows {
            let row = SpaceRow { epoch: Epoch(epoch), ..row };
            spaces.insert(space.as_str(), encode(&row).as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

impl ChangeStore {
    /// The spaces that hold something, in the order of their names.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn spaces(&self) -> Result<Vec<rejoin_core::SpaceName>, StoreError> {
        let table = self.database.begin_read()?.open_table(SPACES)?;
        let mut spaces = Vec::new();
        for entry in table.iter()? {
            // Only checked names were ever written.
            spaces.extend(rejoin_core::SpaceName::new(entry?.0.value()).ok());
        }
        Ok(spaces)
    }
}

pub(super) fn open(path: &Path) -> Result<File, BackupError> {
    File::open(path).map_err(|source| BackupError::Open { path: path.to_owned(), source })
}

/// Makes a rename survive a power loss.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if cfg!(unix) {
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    } else {
        Ok(())
    }
}

/// Bytes of change graphs in memory.
const GRAPH_BYTES_MAX: usize = 64 << 20;

/// Documents that are named as taken in partly.
const PARTLY_MAX: usize = 1000;
