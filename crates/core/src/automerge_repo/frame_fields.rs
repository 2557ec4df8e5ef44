//! Reads the maps that automerge-repo's frames are, from any encoder.
//!
//! cbor-x writes a map's header in three bytes, keys whose value is `undefined`, and every large
//! integer as a float; others write the shortest forms and leave keys out.

use std::collections::BTreeMap;

use minicbor::Decoder;
use minicbor::data::Type;
use minicbor::decode::Error as CborError;
use thiserror::Error;

use crate::limits;

/// A message that is no frame of automerge-repo's protocol, or over a limit. Say `error`, close the
/// connection.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RepoFrameError {
    /// Longer than a message may be.
    #[error("a message of {len} bytes, {} are allowed", limits::REPO_FRAME_BYTES_MAX)]
    TooLarge {
        /// Its bytes.
        len: usize,
    },
    /// Not CBOR, or a field of another type.
    #[error("the message is no CBOR map of automerge-repo's protocol")]
    Malformed(#[from] CborError),
    /// A field is not there.
    #[error("a message of the type {kind:?} must have {field:?}")]
    Absent {
        /// The frame's type.
        kind: String,
        /// The field.
        field: &'static str,
    },
    /// A type of message that version "1" does not have.
    #[error("{kind:?} is no type of message of automerge-repo's protocol \"1\"")]
    Kind {
        /// The type it says.
        kind: String,
    },
    /// A text that should be an id, or a hash.
    #[error("{text:?} is no {what}")]
    Id {
        /// The kind of value it should be.
        what: &'static str,
        /// The text, shortened.
        text: String,
    },
    /// A list or text over its limit.
    #[error("{what} of {len}, {max} are allowed")]
    Limit {
        /// The thing of which there is too much.
        what: &'static str,
        /// The amount there is.
        len: u64,
        /// The limit.
        max: usize,
    },
}

/// The description that a peer gives of itself.
#[derive(Debug, Default)]
pub(super) struct Metadata<'a> {
    pub(super) storage: Option<&'a str>,
    pub(super) is_ephemeral: bool,
}

/// The heads that a storage has.
#[derive(Debug)]
pub(super) struct HeadsField<'a> {
    pub(super) heads: Vec<&'a str>,
    pub(super) timestamp: u64,
}

/// The fields of a frame of any kind.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) kind: Option<&'a str>,
    pub(super) sender: Option<&'a str>,
    pub(super) target: Option<&'a str>,
    pub(super) metadata: Option<Metadata<'a>>,
    pub(super) versions: Option<Vec<&'a str>>,
    pub(super) version: Option<&'a str>,
    pub(super) document: Option<&'a str>,
    pub(super) data: Option<&'a [u8]>,
    pub(super) count: Option<u64>,
    pub(super) session: Option<&'a str>,
    pub(super) message: Option<&'a str>,
    pub(super) add: Vec<&'a str>,
    pub(super) remove: Vec<&'a str>,
    pub(super) new_heads: BTreeMap<&'a str, HeadsField<'a>>,
}

impl<'a> Fields<'a> {
    pub(super) fn read(message: &'a [u8]) -> Result<Self, RepoFrameError> {
        let mut decoder = Decoder::new(message);
        let mut fields = Self::default();
        each_entry(&mut decoder, |key, decoder| fields.take(key, decoder))?;
        if decoder.position() != message.len() {
            return Err(CborError::message("bytes follow the map").into());
        }
        Ok(fields)
    }

    fn take(&mut self, key: &str, decoder: &mut Decoder<'a>) -> Result<(), RepoFrameError> {
        match key {
            "type" => self.kind = text(decoder)?,
            "senderId" => self.sender = text(decoder)?,
            "targetId" => self.target = text(decoder)?,
            // samod uses the second name in versions before 0.10.
            "peerMetadata" | "metadata" => self.metadata = metadata(decoder)?,
            "supportedProtocolVersions" => self.versions = Some(texts(decoder)?),
            "selectedProtocolVersion" => self.version = text(decoder)?,
            "documentId" => self.document = text(decoder)?,
            "data" => self.data = bytes(decoder)?,
            "count" => self.count = number(decoder)?,
            "sessionId" => self.session = text(decoder)?,
            "message" => self.message = text(decoder)?,
            "add" => self.add = texts(decoder)?,
            "remove" => self.remove = texts(decoder)?,
            "newHeads" => self.new_heads = new_heads(decoder)?,
            _ => skip(decoder, DEPTH_MAX)?,
        }
        Ok(())
    }
}

/// Gives the value of each entry to `each`, which must read all of it. Keys that are no text are
/// passed over.
fn each_entry<'a>(
    decoder: &mut Decoder<'a>,
    mut each: impl FnMut(&str, &mut Decoder<'a>) -> Result<(), RepoFrameError>,
) -> Result<(), RepoFrameError> {
    let mut left = decoder.map()?;
    while has_more(decoder, &mut left)? {
        match decoder.datatype()? {
            Type::String => {
                let key = decoder.str()?;
                each(key, decoder)?;
            }
            _ => {
                skip(decoder, DEPTH_MAX)?;
                skip(decoder, DEPTH_MAX)?;
            }
        }
    }
    Ok(())
}

/// Whether a list or map goes on. `left` is what its header counted, or `None` if it has an end
/// mark, which is taken.
fn has_more(decoder: &mut Decoder<'_>, left: &mut Option<u64>) -> Result<bool, RepoFrameError> {
    match left {
        Some(0) => Ok(false),
        Some(left) => {
            *left -= 1;
            Ok(true)
        }
        None if decoder.datatype()? == Type::Break => {
            decoder.skip()?;
            Ok(false)
        }
        None => Ok(true),
    }
}

fn text<'a>(decoder: &mut Decoder<'a>) -> Result<Option<&'a str>, RepoFrameError> {
    if is_nothing(decoder)? {
        return Ok(None);
    }
    let text = decoder.str()?;
    let (len, max) = (text.len(), limits::REPO_TEXT_BYTES_MAX);
    if len > max {
        return Err(RepoFrameError::Limit { what: "text bytes", len: len as u64, max });
    }
    Ok(Some(text))
}

fn texts<'a>(decoder: &mut Decoder<'a>) -> Result<Vec<&'a str>, RepoFrameError> {
    if is_nothing(decoder)? {
        return Ok(Vec::new());
    }
    let len = decoder.array()?.ok_or_else(|| CborError::message("a list without a length"))?;
    let max = limits::HEADS_MAX;
    if len > max as u64 {
        return Err(RepoFrameError::Limit { what: "list items", len, max });
    }
    let mut texts = Vec::new();
    for _ in 0..len {
        texts.extend(text(decoder)?);
    }
    Ok(texts)
}

fn bytes<'a>(decoder: &mut Decoder<'a>) -> Result<Option<&'a [u8]>, RepoFrameError> {
    if is_nothing(decoder)? {
        return Ok(None);
    }
    // Encoders that mark typed arrays put tag 64 before them.
    if decoder.datatype()? == Type::Tag {
        decoder.tag()?;
    }
    Ok(Some(decoder.bytes()?))
}

/// A count or a time: an integer, or what JavaScript has for one.
fn number(decoder: &mut Decoder<'_>) -> Result<Option<u64>, RepoFrameError> {
    if is_nothing(decoder)? {
        return Ok(None);
    }
    let number = match decoder.datatype()? {
        Type::F16 | Type::F32 | Type::F64 => {
            let number = decoder.f64()?;
            (0.0..=EXACT_MAX as f64).contains(&number).then_some(number as u64)
        }
        _ => Some(decoder.u64()?).filter(|number| *number <= EXACT_MAX),
    };
    let nothing = || CborError::message("a number that counts nothing").into();
    number.map(Some).ok_or_else(nothing)
}

fn metadata<'a>(decoder: &mut Decoder<'a>) -> Result<Option<Metadata<'a>>, RepoFrameError> {
    if is_nothing(decoder)? {
        return Ok(None);
    }
    let mut metadata = Metadata::default();
    each_entry(decoder, |key, decoder| {
        match key {
            "storageId" => metadata.storage = text(decoder)?,
            "isEphemeral" => {
                metadata.is_ephemeral = !is_nothing(decoder)? && decoder.bool()?;
            }
            _ => skip(decoder, DEPTH_MAX)?,
        }
        Ok(())
    })?;
    Ok(Some(metadata))
}

fn new_heads<'a>(
    decoder: &mut Decoder<'a>,
) -> Result<BTreeMap<&'a str, HeadsField<'a>>, RepoFrameError> {
    let mut storages = BTreeMap::new();
    if is_nothing(decoder)? {
        return Ok(storages);
    }
    let len = decoder.map()?.ok_or_else(|| CborError::message("a map without a length"))?;
    let max = limits::REPO_STORAGES_MAX;
    if len > max as u64 {
        return Err(RepoFrameError::Limit { what: "storages", len, max });
    }
    for _ in 0..len {
        let storage = text(decoder)?;
        let mut field = HeadsField { heads: Vec::new(), timestamp: 0 };
        each_entry(decoder, |key, decoder| {
            match key {
                "heads" => field.heads = texts(decoder)?,
                "timestamp" => field.timestamp = number(decoder)?.unwrap_or(0),
                _ => skip(decoder, DEPTH_MAX)?,
            }
            Ok(())
        })?;
        storage.map(|storage| storages.insert(storage, field));
    }
    Ok(storages)
}

/// Passes over a value that is not needed. `Decoder::skip` keeps a place in memory for every list
/// that is open, and an attacker opens one with a single byte.
fn skip(decoder: &mut Decoder<'_>, depth: usize) -> Result<(), RepoFrameError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(CborError::message("lists in lists in lists").into());
    };
    let mut left = match decoder.datatype()? {
        Type::Array | Type::ArrayIndef => decoder.array()?,
        Type::Map | Type::MapIndef => decoder.map()?.map(|entries| entries.saturating_mul(2)),
        Type::Tag => {
            decoder.tag()?;
            return skip(decoder, depth);
        }
        _ => return Ok(decoder.skip()?),
    };
    while has_more(decoder, &mut left)? {
        skip(decoder, depth)?;
    }
    Ok(())
}

/// Takes a `null` or `undefined`, if one comes next.
fn is_nothing(decoder: &mut Decoder<'_>) -> Result<bool, RepoFrameError> {
    let is_nothing = matches!(decoder.datatype()?, Type::Null | Type::Undefined);
    if is_nothing {
        decoder.skip()?;
    }
    Ok(is_nothing)
}

/// Lists and maps within each other, in values that are passed over.
const DEPTH_MAX: usize = 16;

/// Up to here a float tells all integers apart; JavaScript counts no further.
const EXACT_MAX: u64 = 9_007_199_254_740_991;
