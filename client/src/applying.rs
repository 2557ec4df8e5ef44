//! The file beside a replica's that names the changes which are being applied.
//!
//! It is written without an fsync: it has to survive the process, but not the machine. It is made
//! when the first changes come, empty while no change is being applied, and removed in the end.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rejoin_engine::Suspects;
use tracing::warn;

/// The file, which is open once there was something to note.
#[derive(Debug)]
pub(crate) struct Applying {
    path: PathBuf,
    file: Option<File>,
    /// Whether it names no change.
    is_empty: bool,
    /// Whether it cannot be written. A replica works without it.
    is_broken: bool,
}

impl Applying {
    /// Reads the note that a process that ended left beside a replica's file.
    pub(crate) fn open(replica: &Path) -> (Self, Suspects) {
        let mut path = replica.as_os_str().to_owned();
        path.push(".applying");
        let path = PathBuf::from(path);
        let left = read(&path).unwrap_or_else(|error| {
            let (path, error) = (path.display(), &error as &dyn std::error::Error);
            warn!(%path, error, "what was being applied is not known");
            String::new()
        });
        let left = Suspects::read(&left);
        (Self { path, file: None, is_empty: left.is_empty(), is_broken: false }, left)
    }

    /// Puts a note in the place of the last one.
    pub(crate) fn note(&mut self, suspects: &Suspects) {
        if self.is_broken {
            return;
        }
        if let Err(error) = self.write(&suspects.to_string()) {
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

/// Bytes of the file that are read: twice what one frame of changes makes it.
const NOTE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use rejoin_core::ChangeHash;

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
}
