//! Backups of a store: whole ones, of every row at one moment, and incremental ones, of the changes
//! that came since the backup before.
//!
//! A backup reads a snapshot of the database while the relay goes on writing, so all of it is of one
//! moment, which a copy of the file is not: a copy mixes pages of two moments and may not even
//! open. What is restored is another lifetime of the store, with an epoch of its own, so that no
//! replica trusts a mark that the restored store never gave: each compares its documents, and brings
//! back what the backup lacks.

mod folder;
mod more;
mod restore;
mod rows;
mod stream;
mod verify;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use minicbor::{Decode, Encode};
use redb::{ReadTransaction, ReadableDatabase, ReadableTable};
use rejoin_core::{DocumentId, SpaceName};
use rejoin_seal::Key;
use thiserror::Error;

pub use folder::{Chain, Found, alone, chains, prune, write_into};
pub use more::write_more;
pub use restore::{Restored, restore};
pub use verify::{Verified, verify};

use super::file::open;
use super::tables::{SPACES, SpaceRow};
use super::{ChangeStore, Reader, StoreError};
use stream::Writer;

/// A moment of a store, to be backed up while the store goes on.
pub struct Moment {
    pub(super) transaction: ReadTransaction,
    _reader: Reader,
}

/// Makes changes of a snapshot, or says why it cannot: only Automerge can, and the store does not know
/// it.
pub type TakeApart<'a> = &'a dyn Fn(&[u8]) -> Result<Vec<Vec<u8>>, String>;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Header {
    /// The relay that it is of.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub relay: [u8; 16],
    /// The backup's own number, drawn at random.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub id: [u8; 16],
    /// The backup that it follows; `None` for a whole one.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub follows: Option<[u8; 16]>,
    /// The time at which it was made, in milliseconds since 1970.
    #[n(3)]
    pub unix_ms: u64,
    /// The last position of each space that is in it.
    #[n(4)]
    pub spaces: Vec<SpaceMark>,
    /// The lifetime of the store.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub epoch: [u8; 16],
}

/// A space, and a position up to which a backup has it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SpaceMark {
    /// Its name.
    #[n(0)]
    pub space: String,
    /// The position.
    #[n(1)]
    pub position: u64,
}

impl Header {
    /// The position up to which a space is in the backup; 0 for one that is not.
    pub fn position(&self, space: &str) -> u64 {
        let mark = self.spaces.iter().find(|mark| mark.space == space);
        mark.map_or(0, |mark| mark.position)
    }
}

/// A backup cannot be made, read, or restored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The backup cannot be written.
    #[error("the backup cannot be written")]
    Write(#[source] io::Error),
    /// The backup cannot be read.
    #[error("the backup cannot be read")]
    Read(#[source] io::Error),
    /// One of several backups.
    #[error("{} is not as it was written; what was backed up before it is restored with --until", path.display())]
    Bad {
        /// The backup.
        path: PathBuf,
        /// The fault.
        source: Box<Self>,
    },
    /// The bytes are no backup of a relay.
    #[error("this is no backup of a relay")]
    NoBackup,
    /// A later version made it.
    #[error("the backup is of format {found}, and this program knows {known}: update the program")]
    Format {
        /// Its format.
        found: u8,
        /// The format that is known.
        known: u8,
    },
    /// Its end is missing.
    #[error("the backup ends after {bytes} bytes, in the middle: take another one")]
    CutShort {
        /// The bytes that are there.
        bytes: u64,
    },
    /// Its bytes are not those that were written.
    #[error("the backup was altered: its checksum differs; take another one")]
    Altered,
    /// Its checksum is right, and still it makes no sense.
    #[error("the backup makes no sense at {place}; report this")]
    Nonsense {
        /// The place.
        place: &'static str,
    },
    /// An incremental backup does not follow the one before.
    #[error("{} does not follow the backup before it: one in between is missing", path.display())]
    Gap {
        /// The backup.
        path: PathBuf,
    },
    /// A change of an incremental backup does not fit.
    #[error("a change of {document} in space {space} does not fit what was restored: {reason}")]
    Refused {
        /// The space.
        space: SpaceName,
        /// The document.
        document: DocumentId,
        /// The reason.
        reason: String,
    },
    /// There is a store already.
    #[error("{} exists already; restore into a folder without a relay's store", path.display())]
    Exists {
        /// The store.
        path: PathBuf,
    },
    /// A backup, a folder of them or a store cannot be opened.
    #[error("{} cannot be opened", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The new store cannot be written.
    #[error("{} cannot be written", path.display())]
    Folder {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
}

impl std::fmt::Debug for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Moment(..)")
    }
}

impl ChangeStore {
    /// The store as it is committed now, to be backed up by another thread.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn moment(&self) -> Result<Moment, StoreError> {
        Ok(Moment { transaction: self.database.begin_read()?, _reader: self.reader.clone() })
    }
}

impl Moment {
    /// The header of a backup of this moment.
    fn header(
        &self,
        id: [u8; 16],
        follows: Option<[u8; 16]>,
        unix_ms: u64,
    ) -> Result<Header, StoreError> {
        let (relay, epoch) = rows::identity(&self.transaction)?;
        let mut spaces = Vec::new();
        for entry in self.transaction.open_table(SPACES)?.iter()? {
            let (space, row) = entry?;
            let space = space.value().to_owned();
            let position = SpaceRow::decode(&space, row.value())?.position;
            spaces.push(SpaceMark { space, position });
        }
        Ok(Header { relay, id, follows, unix_ms, spaces, epoch })
    }

    /// Whether a backup is of this lifetime of this store, so that another one may follow it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn continues(&self, before: &Header) -> Result<bool, StoreError> {
        let now = self.header(before.id, None, 0)?;
        let is_same = (now.relay, now.epoch) == (before.relay, before.epoch);
        let marks = before.spaces.iter();
        Ok(is_same && marks.into_iter().all(|mark| mark.position <= now.position(&mark.space)))
    }
}

/// Writes every row of a moment, and returns what the backup says of itself. `progress` is told the
/// bytes that are written.
///
/// # Errors
/// The database cannot be read, or the backup not be written.
pub fn write_whole(
    moment: &Moment,
    id: [u8; 16],
    unix_ms: u64,
    to: impl Write,
    progress: &mut dyn FnMut(u64),
) -> Result<Header, BackupError> {
    let header = moment.header(id, None, unix_ms)?;
    let mut writer = Writer::begin(to, &header)?;
    rows::write(&moment.transaction, &mut writer, progress)?;
    writer.end()?;
    Ok(header)
}

/// Writes every row of a store that no relay has open.
///
/// # Errors
/// The file is no relay's, another process has it open, or the backup cannot be written.
pub fn write_file(
    file: &Path,
    key: Option<&Key>,
    id: [u8; 16],
    unix_ms: u64,
    to: impl Write,
    progress: &mut dyn FnMut(u64),
) -> Result<Header, BackupError> {
    let cannot = |source| BackupError::Open { path: file.to_owned(), source };
    if !file.exists() {
        return Err(cannot(io::ErrorKind::NotFound.into()));
    }
    let database = open(file, key).map_err(|error| cannot(io::Error::other(error)))?;
    let store = ChangeStore::open(database, 0, || [0; 16])?;
    write_whole(&store.moment()?, id, unix_ms, to, progress)
}

/// Reads a backup to its end, compares its checksum, and returns what it says of itself.
///
/// # Errors
/// It is none, or cut short, or altered.
pub fn check(file: &Path) -> Result<Header, BackupError> {
    stream::check(restore::open(file)?)?;
    Ok(stream::Reader::begin(restore::open(file)?)?.header)
}
