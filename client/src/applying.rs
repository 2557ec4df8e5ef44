//! The file beside a replica's that names the changes which are being applied.
//!
//! It is written without an fsync: it has to survive the process, and not the machine. It is made when
//! the first changes come, empty whenever nothing is being applied, and removed in the end.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rejoin_core::ChangeHash;
use tracing::warn;

use crate::engine::Suspects;

/// The file, which is open once there was something to note.
#[derive(Debug)]
pub(crate) struct Applying {
    path: PathBuf,
    file: Option<File>,
    /// Whether it says nothing.
    is_empty: bool,
    /// Whether it cannot be written. A replica works without it.
    is_broken: bool,
}

impl Applying {
    /// Reads what a process that ended left beside a replica's file.
    pub(crate) fn open(replica: &Path) -> (Self, Suspects) {
        let mut path = replica.as_os_str().to_owned();
        path.push(".applying");
        let path = PathBuf::from(path);
        let left = read(&path).unwrap_or_else(|error| {
            let (path, error) = (path.display(), &error as &dyn std::error::Error);
            warn!(%path, error, "what was being applied is not known");
            String::new()
        });
        let left = parse(&left);
        (Self { path, file: None, is_empty: left.is_empty(), is_broken: false }, left)
    }

    /// Puts a note in the place of the last one.
    pub(crate) fn note(&mut self, suspects: &Suspects) {
        if self.is_broken {
            return;
        }
        if let Err(error) = self.write(&format(suspects)) {
            let (path, error) = (self.path.display(), &error as &dyn std::error::Error);
            warn!(%path, error, "what is being applied is not noted any more");
            self.is_broken = true;
        }
        self.is_empty = suspects.is_empty();
    }

    fn write(&mut self, text: &str) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self
                .file
                .insert(File::options().write(true).create(true).truncate(false).open(&self.path)?),
        };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)
    }
}

impl Drop for Applying {
    fn drop(&mut self) {
        if self.is_empty && self.file.take().is_some() {
            // One that stays is empty and harmless.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(NOTE_BYTES_MAX).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn format(suspects: &Suspects) -> String {
    let alone = suspects.convicted.iter().map(|hash| format!("{ALONE} {hash}\n"));
    let others = suspects.suspected.iter().map(|hash| format!("{TOGETHER} {hash}\n"));
    alone.chain(others).collect()
}

/// Reads what is there. Lines that were cut short say nothing.
fn parse(text: &str) -> Suspects {
    let mut suspects = Suspects::default();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let Some((how, hash)) = line.split_once(' ') else { continue };
        let Ok(hash) = hash.parse::<automerge::ChangeHash>() else { continue };
        let hash = ChangeHash(hash.0);
        match how {
            ALONE => _ = suspects.convicted.insert(hash),
            TOGETHER => _ = suspects.suspected.insert(hash),
            _ => {}
        }
    }
    suspects
}

/// Before a change that was applied alone, for a process had ended when it was among others.
const ALONE: &str = "alone";

/// Before each of changes that were applied together.
const TOGETHER: &str = "together";

/// Bytes of the file that are read: twice what one frame of changes makes it.
const NOTE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_back_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let replica = folder.path().join("a.redb");
        let (mut applying, left) = Applying::open(&replica);
        assert!(left.is_empty());
        let many = Suspects {
            suspected: [ChangeHash([1; 32]), ChangeHash([2; 32])].into(),
            convicted: [ChangeHash([3; 32])].into(),
        };
        applying.note(&many);
        assert!(folder.path().join("a.redb.applying").exists());
        drop(applying);
        let (mut applying, left) = Applying::open(&replica);
        assert_eq!(left, many);
        applying.note(&Suspects::default());
        drop(applying);
        assert!(Applying::open(&replica).1.is_empty());
        assert!(!folder.path().join("a.redb.applying").exists(), "nothing is left lying around");
    }

    #[test]
    fn what_was_cut_short_says_nothing() {
        let hash = ChangeHash([3; 32]);
        let whole = format!("{ALONE} {hash}\n");
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_empty(), "{cut}");
        }
        assert_eq!(parse(&format!("\n{ALONE}\nalone x\n?? {hash}\n{whole}")).convicted.len(), 1);
    }
}
