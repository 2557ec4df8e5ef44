//! Automerge's sync messages as bytes. Frames of automerge-repo carry them as `data`.

use thiserror::Error;

use super::bloom::Bloom;
use crate::ChangeHash;
use crate::change::{ChunkKind, GuardError, Reader, chunks};
use crate::graph::put_varint;
use crate::limits::REPO_CHANGES_MAX;

/// One sync message about one document.
///
/// | bytes | what |
/// |---|---|
/// | 1 | 0x42: every item of `changes` is a change; 0x43: it may be a document |
/// | varint, 32 each | `heads` |
/// | varint, 32 each | `need` |
/// | varint, each | `have`: a list of hashes like the two above, then a Bloom filter behind its length |
/// | varint, each | `changes`: bytes behind their length |
/// | | nothing, or the flags: bytes behind their length |
///
/// Numbers are unsigned LEB128. The format is that of `automerge::sync::Message`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncMessage<'a> {
    /// Whether `changes` may hold documents.
    pub is_v2: bool,
    /// The sender's heads.
    pub heads: Vec<ChangeHash>,
    /// Changes the sender asks for.
    pub need: Vec<ChangeHash>,
    /// The changes the sender has; empty if it is to be sent only the changes it asks for.
    pub have: Vec<Have>,
    /// Chunks for the receiver, each item one or several of them.
    pub changes: Vec<&'a [u8]>,
    /// The abilities of the sender. A sender that names any understands documents among changes.
    pub flags: Option<Flags>,
}

/// The changes that the sender of a message has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Have {
    /// Changes that both sides have, with all they build on.
    pub last_sync: Vec<ChangeHash>,
    /// A filter of the changes that the sender has beyond those.
    pub bloom: Bloom,
}

/// The abilities and wishes of the sender of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// The receiver is to forget all it sent.
    pub sync_reset: bool,
    /// The sender takes no changes.
    pub read_only: bool,
}

impl<'a> SyncMessage<'a> {
    /// Reads one message. Takes time and memory in proportion to the bytes given.
    ///
    /// # Errors
    /// The bytes are no sync message, or over a limit. Close the connection.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, SyncMessageError> {
        let mut reader = Reader::new(bytes);
        let is_v2 = match reader.array("kind of the message")? {
            [V1] => false,
            [V2] => true,
            [kind] => return Err(SyncMessageError::Kind { kind }),
        };
        let heads = hashes(&mut reader, "heads")?;
        let need = hashes(&mut reader, "need")?;
        let have = haves(&mut reader)?;
        let mut changes = Vec::new();
        let count = reader.u64("number of changes")?;
        if count > REPO_CHANGES_MAX as u64 {
            return Err(SyncMessageError::Count { what: "changes", count, max: REPO_CHANGES_MAX });
        }
        for _ in 0..count {
            changes.push(reader.prefixed("changes")?);
        }
        // Later versions may add more after the flags.
        let flags = if reader.is_empty() { None } else { Some(reader.prefixed("flags")?) };
        Ok(Self { is_v2, heads, need, have, changes, flags: flags.map(Flags::decode) })
    }

    /// Whether a message brings a whole document. Automerge puts all changes it has into one, even
    /// those that it sent before.
    pub fn is_document(bytes: &'a [u8]) -> bool {
        let holds_document =
            |item: &&[u8]| chunks(item).any(|chunk| matches!(chunk, Ok((ChunkKind::Document, _))));
        bytes.first() == Some(&V2)
            && Self::decode(bytes).is_ok_and(|message| message.changes.iter().any(holds_document))
    }

    /// Whether the sender begins anew: it has nothing, or names none of its changes as shared.
    /// Automerge does so if it lacks changes that the other side takes it to have.
    pub(super) fn is_anew(&self) -> bool {
        let shares_nothing = |have: &Have| have.last_sync.is_empty() && have.bloom.entries() == 0;
        self.heads.is_empty() || (!self.have.is_empty() && self.have.iter().all(shares_nothing))
    }

    /// The message's bytes. Hashes must be sorted.
    pub fn encode(&self) -> Vec<u8> {
        let changes: usize = self.changes.iter().map(|chunk| chunk.len() + 10).sum();
        let mut out = Vec::with_capacity(changes + 64 + 32 * (self.heads.len() + self.need.len()));
        out.push(if self.is_v2 { V2 } else { V1 });
        put_hashes(&mut out, &self.heads);
        put_hashes(&mut out, &self.need);
        put_varint(&mut out, self.have.len() as u64);
        for have in &self.have {
            put_hashes(&mut out, &have.last_sync);
            have.bloom.encode(&mut out);
        }
        put_varint(&mut out, self.changes.len() as u64);
        for chunk in &self.changes {
            put_varint(&mut out, chunk.len() as u64);
            out.extend_from_slice(chunk);
        }
        if let Some(flags) = self.flags {
            out.extend_from_slice(&flags.encode());
        }
        out
    }
}

impl Flags {
    /// The byte 2 alone is how earlier versions of Automerge say that they take documents; those
    /// ignore the other one.
    fn encode(self) -> [u8; 3] {
        let reset = if self.sync_reset { SYNC_RESET } else { 0 };
        let read_only = if self.read_only { READ_ONLY } else { 0 };
        [2, 2, FLAGS | reset | read_only]
    }

    fn decode(bytes: &[u8]) -> Self {
        let set = bytes.iter().filter(|byte| **byte & FLAGS != 0).fold(0, |set, byte| set | byte);
        Self { sync_reset: set & SYNC_RESET != 0, read_only: set & READ_ONLY != 0 }
    }
}

fn hashes(
    reader: &mut Reader<'_>,
    what: &'static str,
) -> Result<Vec<ChangeHash>, SyncMessageError> {
    let mut hashes = Vec::new();
    // Only the message's length bounds them, for people may give a document any number of heads.
    for _ in 0..reader.u64(what)? {
        hashes.push(ChangeHash(reader.array(what)?));
    }
    Ok(hashes)
}

fn haves(reader: &mut Reader<'_>) -> Result<Vec<Have>, SyncMessageError> {
    let count = reader.u64("have")?;
    if count > HAVES_MAX as u64 {
        return Err(SyncMessageError::Count { what: "have", count, max: HAVES_MAX });
    }
    let mut haves = Vec::new();
    for _ in 0..count {
        let last_sync = hashes(reader, "last sync")?;
        let bloom = Bloom::decode(reader.prefixed("Bloom filter")?)?;
        haves.push(Have { last_sync, bloom });
    }
    Ok(haves)
}

fn put_hashes(out: &mut Vec<u8>, hashes: &[ChangeHash]) {
    put_varint(out, hashes.len() as u64);
    hashes.iter().for_each(|hash| out.extend_from_slice(&hash.0));
}

/// Bytes that are no sync message, or one over a limit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SyncMessageError {
    /// It does not begin like one.
    #[error("a sync message begins with 0x42 or 0x43, not with {kind:#x}")]
    Kind {
        /// The first byte.
        kind: u8,
    },
    /// It ends too early, or a number is not one.
    #[error("the sync message is damaged")]
    Bytes(#[from] GuardError),
    /// A list is too long.
    #[error("the sync message has {count} items in {what}, {max} are allowed")]
    Count {
        /// The list.
        what: &'static str,
        /// The number it declares.
        count: u64,
        /// The limit.
        max: usize,
    },
    /// A filter that Automerge does not make.
    #[error("a Bloom filter has other parameters than Automerge gives it, or another length")]
    Bloom,
}

const V1: u8 = 0x42;
const V2: u8 = 0x43;

/// Automerge sends one.
const HAVES_MAX: usize = 4;

const FLAGS: u8 = 0x80;
const SYNC_RESET: u8 = 1;
const READ_ONLY: u8 = 2;
