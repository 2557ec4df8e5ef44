//! Why an encrypted file does not open.

use std::path::PathBuf;

use thiserror::Error;

/// An encrypted file could not be made or opened. Whoever knows its path names it before this.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SealError {
    /// The key is not that of the file.
    #[error("it is encrypted with another key")]
    WrongKey,
    /// A passphrase was given, and the file has none.
    #[error("it is encrypted with a key, and a passphrase was given")]
    OpensWithKey,
    /// A key was given, and the file has a passphrase.
    #[error("it is encrypted with a passphrase, and a key was given")]
    OpensWithPassphrase,
    /// No key was given.
    #[error("it is encrypted; give its key, as with --key-file or --passphrase-file")]
    NeedsKey,
    /// The file is not encrypted.
    #[error("it is not encrypted")]
    NotSealed,
    /// The file is encrypted already.
    #[error("it is encrypted already")]
    Sealed,
    /// The file is none of redb.
    #[error("it is no database")]
    NoDatabase,
    /// The beginning of the file is damaged.
    #[error("it is encrypted, and {0}")]
    Damaged(&'static str),
    /// The file says things that this version does not know.
    #[error("it is encrypted in a way that only later versions know")]
    Newer,
    /// Somebody has the file open.
    #[error("it is open; stop that first")]
    Open,
    /// The system failed.
    #[error("it cannot be read or written")]
    Io(#[from] std::io::Error),
}

impl SealError {
    /// Whether another key would open the file.
    pub fn is_about_the_key(&self) -> bool {
        matches!(self, Self::WrongKey | Self::OpensWithKey | Self::OpensWithPassphrase)
    }
}

/// A file could not be encrypted, decrypted, given another key or destroyed.
#[derive(Debug, Error)]
#[error("{} cannot be used", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub source: SealError,
}
