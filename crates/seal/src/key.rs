//! What opens an encrypted file: 32 bytes, or a passphrase.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::folder::sync_folder_of;
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;
use zeroize::Zeroizing;

/// What opens an encrypted file. Who loses it has lost the file; who destroys every copy of it has
/// wiped the file, wherever its bytes still are.
///
/// ```
/// use rejoin_seal::Key;
///
/// let of_keystore = Key::bytes([7; 32]);
/// let of_a_person = Key::passphrase("correct horse battery staple");
/// assert_eq!(format!("{of_keystore:?} {of_a_person:?}"), "Key::bytes(..) Key::passphrase(..)");
/// ```
#[derive(Clone)]
pub struct Key(pub(crate) Secret);

#[derive(Clone)]
pub(crate) enum Secret {
    Bytes(Zeroizing<[u8; KEY_BYTES]>),
    Passphrase(Zeroizing<String>),
}

impl Key {
    /// 32 bytes that nobody can guess, as the keystore of a telephone makes and keeps them.
    pub fn bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Secret::Bytes(Zeroizing::new(bytes)))
    }

    /// What a person remembers. Each opening takes a tenth of a second and 64 MiB of memory for a
    /// while, so that guessing is dear.
    pub fn passphrase(passphrase: impl Into<String>) -> Self {
        Self(Secret::Passphrase(Zeroizing::new(passphrase.into())))
    }

    /// A key from a file, with 32 bytes as they are, or with 64 hexadecimal digits.
    ///
    /// # Errors
    /// The file cannot be read, or has something else.
    pub fn file(path: &Path) -> Result<Self, KeyError> {
        let bytes = read(path, KEY_FILE_BYTES_MAX)?;
        let unlike = || KeyError::NoKey { path: path.to_owned() };
        if let Ok(bytes) = <[u8; KEY_BYTES]>::try_from(&bytes[..]) {
            return Ok(Self::bytes(bytes));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| unlike())?.trim();
        from_hex(text).map(|bytes| Self(Secret::Bytes(bytes))).ok_or_else(unlike)
    }

    /// A passphrase from a file. The end of its line is not part of it.
    ///
    /// # Errors
    /// The file cannot be read, or is empty.
    pub fn passphrase_file(path: &Path) -> Result<Self, KeyError> {
        let bytes = read(path, PASSPHRASE_BYTES_MAX)?;
        let empty = || KeyError::NoPassphrase { path: path.to_owned() };
        let text = std::str::from_utf8(&bytes).map_err(|_| empty())?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(empty());
        }
        Ok(Self::passphrase(text))
    }

    /// Makes a key that nobody can guess, and writes it to a new file, which only its owner can read.
    ///
    /// # Errors
    /// There is a file already, or it cannot be written.
    pub fn make_file(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        let bytes = Zeroizing::new(random().map_err(io)?);
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let digits = Zeroizing::new(digits + "\n");
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(io)?;
        let written = file.write_all(digits.as_bytes()).and_then(|()| file.sync_all());
        // What is encrypted with the key must not outlive it.
        written.and_then(|()| sync_folder_of(path)).map_err(io)?;
        Ok(Self(Secret::Bytes(bytes)))
    }
}

/// A key is a secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Secret::Bytes(_) => "Key::bytes(..)",
            Secret::Passphrase(_) => "Key::passphrase(..)",
        })
    }
}

/// A key could not be had from a file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file could not be read or written.
    #[error("{} cannot be read or written as a file with a key", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The message of the system.
        source: io::Error,
    },
    /// The file has no key.
    #[error(
        "{} has no key: it is to have 32 bytes that nobody can guess, or 64 hexadecimal digits",
        path.display()
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The file has no passphrase.
    #[error("{} has no passphrase: it is to have one line of text", path.display())]
    NoPassphrase {
        /// The file.
        path: PathBuf,
    },
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(bytes)
}

fn read(path: &Path, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let read = || {
        // With this much room from the beginning, no half of a key is left where it grew from.
        let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max as usize + 1));
        File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| KeyError::Io { path: path.to_owned(), source })
}

fn from_hex(digits: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    if digits.len() != 2 * KEY_BYTES {
        return None;
    }
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(bytes)
}

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;

/// Bytes of a file with a key that are looked at.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// Bytes of a file with a passphrase that are looked at.
const PASSPHRASE_BYTES_MAX: u64 = 4096;
