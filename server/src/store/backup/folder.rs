//! A folder of backups: whole ones, and after each the incremental ones that follow it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// The backups in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The chains, the oldest first.
    pub chains: Vec<Chain>,
    /// Files named like backups that belong to no chain: what they follow is missing, or they cannot
    /// be read.
    pub loose: Vec<PathBuf>,
}

/// The backups in a folder.
///
/// # Errors
/// The folder cannot be read.
pub fn chains(folder: &Path) -> Result<Found, BackupError> {
    let cannot = |source| BackupError::Open { path: folder.to_owned(), source };
    let (mut backups, mut loose) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        match open(&path).and_then(Reader::begin) {
            Ok(reader) => backups.push((path, reader.header)),
            Err(_) => loose.push(path),
        }
    }
    backups.sort_by_key(|(_, header)| header.unix_ms);
    let (wholes, rest): (Vec<_>, Vec<_>) =
        backups.into_iter().partition(|(_, header)| header.follows.is_none());
    let mut following: BTreeMap<[u8; 16], Vec<(PathBuf, Header)>> = BTreeMap::new();
    for (path, header) in rest {
        following.entry(header.follows.unwrap_or_default()).or_default().push((path, header));
    }
    let chain = |(path, header): (PathBuf, Header)| {
        let (mut files, mut headers) = (vec![path], vec![header]);
        // Of two that follow the same one, as after a backup that could not be read, the later.
        while let Some((path, header)) =
            headers.last().and_then(|last| following.get_mut(&last.id)).and_then(Vec::pop)
        {
            files.push(path);
            headers.push(header);
        }
        Chain { files, headers }
    };
    let chains = wholes.into_iter().map(chain).collect();
    loose.extend(following.into_values().flatten().map(|(path, _)| path));
    loose.sort();
    Ok(Found { chains, loose })
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
) -> Result<Option<(Header, PathBuf)>, BackupError> {
    let kind = if before.is_some() { "more" } else { "whole" };
    let path = folder.join(format!("{}-{kind}.{EXTENSION}", stamp(unix_ms)));
    // Another relay may write into the same folder, so the name is this backup's own.
    let name: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let unfinished = folder.join(format!("{name}.{UNFINISHED}"));
    let create = || private(&unfinished);
    let written = match before {
        Some(before) => write_more(moment, before, id, unix_ms, create)?,
        None => {
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
    Ok(Some((header, path)))
}

/// Makes a file that only its owner can read: a backup has everything.
fn private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Removes the chains of a relay that are no longer to be kept: those that ended, by the beginning of
/// the next one, before this time. The last chain stays, and so do those of other relays. Backups that
/// a killed process left unfinished go, too.
///
/// # Errors
/// The folder cannot be read, or a file not be removed.
pub fn prune(folder: &Path, relay: &[u8; 16], before_ms: u64) -> Result<(), BackupError> {
    let mut chains = chains(folder)?.chains;
    chains.retain(|chain| chain.last().relay == *relay);
    let remove = |path: &Path| {
        fs::remove_file(path)
            .map_err(|source| BackupError::Folder { path: path.to_owned(), source })
    };
    for pair in chains.windows(2) {
        if pair[1].headers[0].unix_ms >= before_ms {
            break;
        }
        // The whole one goes last: without it those that follow it are worth nothing.
        pair[0].files.iter().rev().try_for_each(|path| remove(path))?;
    }
    let cannot = |source| BackupError::Open { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let is_old = || {
            let modified = path.metadata().and_then(|it| it.modified()).ok();
            modified.and_then(|it| it.elapsed().ok()).is_some_and(|age| age > UNFINISHED_AFTER)
        };
        if path.extension().is_some_and(|it| it == UNFINISHED) && is_old() {
            remove(&path)?;
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

/// The end of the names of backups that are being written.
const UNFINISHED: &str = "part";

/// The time after which nobody writes such a file any more.
const UNFINISHED_AFTER: Duration = Duration::from_hours(24);

/// The end of the names of backups.
const EXTENSION: &str = "backup";
