//! A folder of backups: whole ones, and after each the incremental ones that follow it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rejoin_core::time::Zone;

use super::restore::{open, sync_folder};
use super::stream::Reader;
use super::{BackupError, Header, Moment, write_more, write_whole};

/// A whole backup and those that follow it, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The files.
    pub files: Vec<PathBuf>,
    /// What each says of itself.
    pub headers: Vec<Header>,
}

impl Chain {
    /// What its last backup says of itself.
    pub fn last(&self) -> &Header {
        self.headers.last().expect("a chain has a whole backup")
    }

    /// The whole backup, and those that follow it.
    pub fn parts(&self) -> (&Path, &[PathBuf]) {
        let (whole, more) = self.files.split_first().expect("a chain has a whole backup");
        (whole, more)
    }

    /// Leaves out the backups that were made after this time. `None` if the whole one was.
    #[must_use]
    pub fn until(mut self, unix_ms: u64) -> Option<Self> {
        let kept = self.headers.iter().take_while(|header| header.unix_ms <= unix_ms).count();
        self.headers.truncate(kept);
        self.files.truncate(kept);
        (kept > 0).then_some(self)
    }
}

/// A whole backup without any that follow it.
///
/// # Errors
/// The file is no backup, or an incremental one.
pub fn alone(file: &Path) -> Result<Chain, BackupError> {
    let header = Reader::begin(open(file)?)?.header;
    match header.follows {
        None => Ok(Chain { files: vec![file.to_owned()], headers: vec![header] }),
        Some(_) => Err(BackupError::Gap { path: file.to_owned() }),
    }
}

/// The chains in a folder, the oldest first. Files that are no backups are passed over.
///
/// # Errors
/// The folder cannot be read.
pub fn chains(folder: &Path) -> Result<Vec<Chain>, BackupError> {
    let cannot = |source| BackupError::Open { path: folder.to_owned(), source };
    let mut backups = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION)
            && let Ok(reader) = open(&path).and_then(Reader::begin)
        {
            backups.push((path, reader.header));
        }
    }
    backups.sort_by_key(|(_, header)| header.unix_ms);
    let (wholes, mut rest): (Vec<_>, Vec<_>) =
        backups.into_iter().partition(|(_, header)| header.follows.is_none());
    let chain = |(path, header): (PathBuf, Header)| {
        let (mut files, mut headers) = (vec![path], vec![header]);
        while let Some(at) = rest
            .iter()
            .position(|(_, header)| header.follows == headers.last().map(|last: &Header| last.id))
        {
            let (path, header) = rest.remove(at);
            files.push(path);
            headers.push(header);
        }
        Chain { files, headers }
    };
    Ok(wholes.into_iter().map(chain).collect())
}

/// Writes the next backup of a moment into a folder: one that follows `before`, or a whole one.
/// `None` if nothing is new since `before`.
///
/// # Errors
/// It cannot be written. No file is left under a name that counts then.
pub fn write_into(
    folder: &Path,
    moment: &Moment,
    before: Option<&Header>,
    id: [u8; 16],
    unix_ms: u64,
) -> Result<Option<Header>, BackupError> {
    let kind = if before.is_some() { "more" } else { "whole" };
    let path = folder.join(format!("{}-{kind}.{EXTENSION}", stamp(unix_ms)));
    // One that a killed process left is written over.
    let unfinished = folder.join("unfinished.part");
    let create = || File::create(&unfinished);
    let written = match before {
        Some(before) => write_more(moment, before, id, unix_ms, create)?,
        None => {
            fs::create_dir_all(folder).map_err(BackupError::Write)?;
            let file = create().map_err(BackupError::Write)?;
            let header = write_whole(moment, id, unix_ms, &file, &mut |_| {})?;
            Some((header, file))
        }
    };
    let Some((header, file)) = written else { return Ok(None) };
    let keep = || -> io::Result<()> {
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        sync_folder(&path)
    };
    keep().map_err(BackupError::Write)?;
    Ok(Some(header))
}

/// Removes the chains that are no longer to be kept: those that ended, by the beginning of the next
/// one, before this time. The last chain stays.
///
/// # Errors
/// The folder cannot be read, or a file not be removed.
pub fn prune(folder: &Path, before_ms: u64) -> Result<(), BackupError> {
    let chains = chains(folder)?;
    for pair in chains.windows(2) {
        if pair[1].headers[0].unix_ms >= before_ms {
            break;
        }
        // The whole one goes last: without it those that follow it are worth nothing.
        for path in pair[0].files.iter().rev() {
            fs::remove_file(path)
                .map_err(|source| BackupError::Folder { path: path.clone(), source })?;
        }
    }
    Ok(())
}

/// A time as names of files have it.
fn stamp(unix_ms: u64) -> String {
    let shown = i64::try_from(unix_ms).ok().and_then(|ms| Zone::UTC.shows(ms));
    match shown {
        Some((time, _)) => time.format("%Y%m%dT%H%M%S%3fZ").to_string(),
        None => format!("{unix_ms}"),
    }
}

/// The end of the names of backups.
const EXTENSION: &str = "backup";
