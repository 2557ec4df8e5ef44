//! The frame around a change or a document: magic, checksum, type, length, content.

use std::borrow::Cow;
use std::io::Read;

use flate2::bufread::DeflateDecoder;

use super::GuardError;
use super::encode::{BUNDLE, CHANGE, DEFLATED, DOCUMENT, MAGIC, hash};
use super::reader::Reader;
use crate::ChangeHash;
use crate::limits::{CHANGE_BYTES_MAX, INFLATED_BYTES_MAX};

/// One chunk, opened: its content is what `hash` covers.
#[derive(Debug)]
pub(super) struct Chunk<'a> {
    pub(super) hash: ChangeHash,
    pub(super) content: Cow<'a, [u8]>,
}

/// Opens a chunk that must be one change.
pub(super) fn open_change(chunk: &[u8]) -> Result<Chunk<'_>, GuardError> {
    let frame = Frame::read(chunk, CHANGE_BYTES_MAX)?;
    let content = match frame.kind {
        CHANGE => Cow::Borrowed(frame.content),
        DEFLATED => Cow::Owned(inflate(frame.content, INFLATED_BYTES_MAX, "change")?),
        DOCUMENT => return Err(GuardError::Document),
        BUNDLE => return Err(GuardError::Bundle),
        kind => return Err(GuardError::Kind { kind }),
    };
    frame.check(CHANGE, content)
}

/// The hash of a stored change that was checked when it came, to see whether its bytes are still
/// the same.
///
/// # Errors
/// They are not: they are no change, or not one with the checksum it claims.
pub fn hash_of(chunk: &[u8]) -> Result<ChangeHash, GuardError> {
    open_change(chunk).map(|chunk| chunk.hash)
}

/// Opens a chunk that must be one document.
pub(super) fn open_document(chunk: &[u8], bytes_max: usize) -> Result<Chunk<'_>, GuardError> {
    let frame = Frame::read(chunk, bytes_max)?;
    match frame.kind {
        DOCUMENT => frame.check(DOCUMENT, Cow::Borrowed(frame.content)),
        kind => Err(GuardError::Kind { kind }),
    }
}

/// The kind of a chunk's content, as its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChunkKind {
    /// A change, deflated or not.
    Change,
    /// A whole document.
    Document,
    /// Some other kind, which is not supported.
    Other,
}

/// Takes bytes apart into the chunks they are made of, one after the other and without a look into
/// them. An error is the last item: the bytes are no row of chunks.
pub fn chunks(mut bytes: &[u8]) -> impl Iterator<Item = Result<(ChunkKind, &[u8]), GuardError>> {
    std::iter::from_fn(move || {
        let taken = std::mem::take(&mut bytes);
        if taken.is_empty() {
            return None;
        }
        Some(first_chunk(taken).map(|(kind, len)| {
            let (chunk, rest) = taken.split_at(len);
            bytes = rest;
            (kind, chunk)
        }))
    })
}

/// The kind of the chunk that bytes begin with, and how many of them it has.
fn first_chunk(bytes: &[u8]) -> Result<(ChunkKind, usize), GuardError> {
    let mut reader = Reader::new(bytes);
    if reader.array::<4>("magic")? != MAGIC {
        return Err(GuardError::Magic);
    }
    reader.array::<4>("checksum")?;
    let kind = match reader.array("chunk type")? {
        [CHANGE | DEFLATED] => ChunkKind::Change,
        [DOCUMENT] => ChunkKind::Document,
        _ => ChunkKind::Other,
    };
    reader.prefixed("chunk content")?;
    Ok((kind, bytes.len() - reader.rest().len()))
}

/// Inflates at most `max` bytes, growing with what is really there.
pub(super) fn inflate(
    deflated: &[u8],
    max: usize,
    what: &'static str,
) -> Result<Vec<u8>, GuardError> {
    let mut decoder = DeflateDecoder::new(deflated);
    let mut content = Vec::new();
    let bound = max as u64 + 1;
    (&mut decoder)
        .take(bound)
        .read_to_end(&mut content)
        .map_err(|_| GuardError::Deflate { what })?;
    if content.len() > max {
        return Err(GuardError::InflatedBytes { what, max });
    }
    let read = usize::try_from(decoder.total_in()).unwrap_or(usize::MAX);
    match deflated.len().saturating_sub(read) {
        0 => Ok(content),
        len => Err(GuardError::Trailing { what: "deflated content", len }),
    }
}

/// The header of a chunk and the bytes it covers.
struct Frame<'a> {
    checksum: [u8; 4],
    kind: u8,
    content: &'a [u8],
}

impl<'a> Frame<'a> {
    fn read(chunk: &'a [u8], bytes_max: usize) -> Result<Self, GuardError> {
        if chunk.len() > bytes_max {
            return Err(GuardError::ChunkBytes { len: chunk.len(), max: bytes_max });
        }
        let mut reader = Reader::new(chunk);
        if reader.array::<4>("magic")? != MAGIC {
            return Err(GuardError::Magic);
        }
        let checksum = reader.array("checksum")?;
        let [kind] = reader.array("chunk type")?;
        let content = reader.prefixed("chunk content")?;
        match reader.rest().len() {
            0 => Ok(Self { checksum, kind, content }),
            len => Err(GuardError::Trailing { what: "chunk", len }),
        }
    }

    fn check<'c>(&self, kind: u8, content: Cow<'c, [u8]>) -> Result<Chunk<'c>, GuardError> {
        let hash = hash(kind, &content);
        if hash.0[..4] == self.checksum {
            Ok(Chunk { hash, content })
        } else {
            Err(GuardError::Checksum)
        }
    }
}
