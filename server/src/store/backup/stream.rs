//! The bytes of a backup: a header, frames, and a checksum over all of it at the end.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | [`MAGIC`] |
//! | 1 | [`FORMAT`] |
//! | | frames: a byte for the kind, four for the length, little endian, and so many bytes |
//! | 33 | the last frame's kind, [`END`], and the SHA-256 of everything before the 32 bytes |

use std::io::{self, BufReader, BufWriter, Read, Write};

use sha2::{Digest, Sha256};

use super::{BackupError, Header};

const MAGIC: [u8; 8] = *b"rejoinbk";

const FORMAT: u8 = 1;

/// The header, CBOR.
const HEADER: u8 = b'h';
/// The name of the table that the next rows are of.
pub(super) const TABLE: u8 = b't';
/// Rows of a table: the key's length in 4 bytes, the key, the value's length, the value.
pub(super) const ROWS: u8 = b'r';
/// A change, CBOR.
pub(super) const CHANGE: u8 = b'c';
/// A document's snapshot, CBOR.
pub(super) const SNAPSHOT: u8 = b's';
/// A document that was erased, CBOR: no change of it is left.
pub(super) const ERASED: u8 = b'x';
const END: u8 = b'e';

/// Writes a backup.
pub(super) struct Writer<W: Write> {
    to: BufWriter<W>,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn begin(to: W, header: &Header) -> Result<Self, BackupError> {
        let mut writer = Self { to: BufWriter::new(to), hash: Sha256::new(), bytes: 0 };
        writer.put(&MAGIC)?;
        writer.put(&[FORMAT])?;
        let header = super::super::tables::encode(header);
        writer.frame(HEADER, &header)?;
        Ok(writer)
    }

    pub(super) fn frame(&mut self, kind: u8, content: &[u8]) -> Result<(), BackupError> {
        let len = u32::try_from(content.len())
            .map_err(|_| BackupError::Nonsense { place: "a row of four gigabytes" })?;
        self.put(&[kind])?;
        self.put(&len.to_le_bytes())?;
        self.put(content)
    }

    /// The bytes written so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn end(mut self) -> Result<(), BackupError> {
        self.put(&[END])?;
        let sum = self.hash.finalize();
        self.to.write_all(&sum).map_err(BackupError::Write)?;
        self.to.flush().map_err(BackupError::Write)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.to.write_all(bytes).map_err(BackupError::Write)
    }
}

/// Reads a backup whose checksum was found right.
pub(super) struct Reader<R: Read> {
    from: BufReader<R>,
    pub(super) header: Header,
}

impl<R: Read> Reader<R> {
    pub(super) fn begin(from: R) -> Result<Self, BackupError> {
        let mut from = BufReader::new(from);
        let mut magic = [0; MAGIC.len() + 1];
        from.read_exact(&mut magic).map_err(no_backup)?;
        if magic[..MAGIC.len()] != MAGIC {
            return Err(BackupError::NoBackup);
        }
        if magic[MAGIC.len()] != FORMAT {
            return Err(BackupError::Format { found: magic[MAGIC.len()], known: FORMAT });
        }
        let nonsense = BackupError::Nonsense { place: "its header" };
        let header = match frame(&mut from)? {
            Some((HEADER, header)) => minicbor::decode(&header).map_err(|_| nonsense)?,
            _ => return Err(nonsense),
        };
        Ok(Self { from, header })
    }

    /// The next frame; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, BackupError> {
        frame(&mut self.from)
    }
}

fn frame(from: &mut impl Read) -> Result<Option<(u8, Vec<u8>)>, BackupError> {
    let mut kind = [0];
    from.read_exact(&mut kind).map_err(BackupError::Read)?;
    if kind[0] == END {
        return Ok(None);
    }
    let mut len = [0; 4];
    from.read_exact(&mut len).map_err(BackupError::Read)?;
    let len = u64::from(u32::from_le_bytes(len));
    let mut content = Vec::new();
    from.take(len).read_to_end(&mut content).map_err(BackupError::Read)?;
    if (content.len() as u64) < len {
        return Err(BackupError::Read(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(Some((kind[0], content)))
}

/// Reads a backup to its end and compares its checksum. Nothing of it is kept in memory.
///
/// # Errors
/// It is none, or cut short, or altered.
pub(super) fn check(from: impl Read) -> Result<(), BackupError> {
    let mut from = BufReader::with_capacity(BLOCK_BYTES, from);
    let (mut hash, mut bytes) = (Sha256::new(), 0_u64);
    let mut take = |from: &mut BufReader<_>, len: u64| -> Result<Vec<u8>, BackupError> {
        let mut block = Vec::new();
        Read::take(from, len).read_to_end(&mut block).map_err(BackupError::Read)?;
        bytes += block.len() as u64;
        if (block.len() as u64) < len {
            return Err(BackupError::CutShort { bytes });
        }
        hash.update(&block);
        Ok(block)
    };
    let magic = take(&mut from, MAGIC.len() as u64 + 1).map_err(|error| match error {
        BackupError::CutShort { .. } => BackupError::NoBackup,
        error => error,
    })?;
    if magic[..MAGIC.len()] != MAGIC {
        return Err(BackupError::NoBackup);
    }
    if magic[MAGIC.len()] != FORMAT {
        return Err(BackupError::Format { found: magic[MAGIC.len()], known: FORMAT });
    }
    loop {
        let kind = take(&mut from, 1)?;
        match kind[0] {
            HEADER | TABLE | ROWS | CHANGE | SNAPSHOT | ERASED => {}
            END => break,
            _ => return Err(BackupError::Altered),
        }
        let len = take(&mut from, 4)?;
        let mut left = u64::from(u32::from_le_bytes([len[0], len[1], len[2], len[3]]));
        while left > 0 {
            let block = left.min(BLOCK_BYTES as u64);
            take(&mut from, block)?;
            left -= block;
        }
    }
    let expected = hash.finalize();
    let mut sum = Vec::new();
    from.read_to_end(&mut sum).map_err(BackupError::Read)?;
    match sum.len() {
        32 if sum == expected.as_slice() => Ok(()),
        0..32 => Err(BackupError::CutShort { bytes: bytes + sum.len() as u64 }),
        _ => Err(BackupError::Altered),
    }
}

fn no_backup(error: io::Error) -> BackupError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => BackupError::NoBackup,
        _ => BackupError::Read(error),
    }
}

/// Bytes that are read at once.
const BLOCK_BYTES: usize = 64 << 10;
