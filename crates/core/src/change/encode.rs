//! A small encoder for the few changes Rejoin makes without Automerge.

use sha2::{Digest, Sha256};

use crate::{ActorId, ChangeHash};

/// A change about to be written. It has only the parts that genesis, birth and conversion changes
/// need: sequence number 1, time 0, no author.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) deps: &'a [ChangeHash],
    pub(super) actor: &'a ActorId,
    pub(super) start_op: u64,
    pub(super) message: &'a str,
    /// Ascending, without `actor`.
    pub(super) other_actors: &'a [&'a ActorId],
    /// Specification and content, ascending, none empty.
    pub(super) columns: &'a [(u32, Vec<u8>)],
}

impl Draft<'_> {
    /// The change's content. The hash covers it together with type and length.
    fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(192);
        uleb(&mut body, self.deps.len() as u64);
        for dep in self.deps {
            body.extend_from_slice(&dep.0);
        }
        prefixed(&mut body, &self.actor.0);
        uleb(&mut body, 1);
        uleb(&mut body, self.start_op);
        leb(&mut body, 0);
        prefixed(&mut body, self.message.as_bytes());
        uleb(&mut body, self.other_actors.len() as u64);
        for actor in self.other_actors {
            prefixed(&mut body, &actor.0);
        }
        uleb(&mut body, self.columns.len() as u64);
        for (spec, content) in self.columns {
            uleb(&mut body, u64::from(*spec));
            uleb(&mut body, content.len() as u64);
        }
        for (_, content) in self.columns {
            body.extend_from_slice(content);
        }
        body
    }

    pub(super) fn hash(&self) -> ChangeHash {
        hash(CHANGE, &self.body())
    }

    /// The whole chunk, never deflated: deflate may change between versions, these bytes may not.
    pub(super) fn encode(&self) -> Vec<u8> {
        seal(CHANGE, &self.body())
    }
}

/// Puts magic, checksum, type and length before a chunk's content.
pub(super) fn seal(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(body.len() + 14);
    chunk.extend_from_slice(&MAGIC);
    chunk.extend_from_slice(&hash(kind, body).0[..4]);
    chunk.push(kind);
    uleb(&mut chunk, body.len() as u64);
    chunk.extend_from_slice(body);
    chunk
}

/// SHA-256 over type, length and content. Its first four bytes are the chunk's checksum.
pub(super) fn hash(kind: u8, body: &[u8]) -> ChangeHash {
    let mut head = Vec::with_capacity(11);
    head.push(kind);
    uleb(&mut head, body.len() as u64);
    ChangeHash(Sha256::new().chain_update(&head).chain_update(body).finalize().into())
}

/// A column of one row: a literal run of length one.
pub(super) fn one_row(value: &[u8]) -> Vec<u8> {
    let mut column = Vec::with_capacity(1 + value.len());
    leb(&mut column, -1);
    column.extend_from_slice(value);
    column
}

/// A column of values, as runs of one value, literal runs of different ones, and runs of none. One
/// without any value is empty. As Automerge writes them.
pub(super) fn runs<T: PartialEq>(
    values: impl Iterator<Item = Option<T>>,
    write: impl Fn(&mut Vec<u8>, &T),
) -> Vec<u8> {
    let mut alike: Vec<(Option<T>, usize)> = Vec::new();
    for value in values {
        match alike.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => alike.push((value, 1)),
        }
    }
    let mut column = Vec::new();
    if alike.iter().all(|(value, _)| value.is_none()) {
        return column;
    }
    let mut rest = alike.as_slice();
    while let Some(((value, count), after)) = rest.split_first() {
        match value {
            None => {
                leb(&mut column, 0);
                uleb(&mut column, *count as u64);
                rest = after;
            }
            Some(value) if *count > 1 => {
                leb(&mut column, *count as i64);
                write(&mut column, value);
                rest = after;
            }
            Some(_) => {
                let literal =
                    rest.iter().take_while(|(value, count)| value.is_some() && *count == 1);
                let literal: Vec<&T> = literal.filter_map(|(value, _)| value.as_ref()).collect();
                leb(&mut column, -(literal.len() as i64));
                literal.iter().for_each(|value| write(&mut column, value));
                rest = &rest[literal.len()..];
            }
        }
    }
    column
}

/// A column of numbers, each as its difference from the one before.
pub(super) fn deltas(values: impl IntoIterator<Item = Option<u64>>) -> Vec<u8> {
    let mut before = 0;
    let deltas = values.into_iter().map(|value| {
        let value = value?.cast_signed();
        let delta = value - before;
        before = value;
        Some(delta)
    });
    runs(deltas, |out, delta| leb(out, *delta))
}

pub(super) fn prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    uleb(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends an unsigned LEB128 number.
pub(super) fn uleb(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed LEB128 number.
pub(super) fn leb(out: &mut Vec<u8>, mut value: i64) {
    loop {
        let byte = value as u8 & 0x7f;
        value >>= 7;
        if (value == 0 && byte & 0x40 == 0) || (value == -1 && byte & 0x40 != 0) {
            return out.push(byte);
        }
        out.push(byte | 0x80);
    }
}

/// First bytes of every Automerge chunk.
pub(super) const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];

/// Chunk type of a document as a whole.
pub(super) const DOCUMENT: u8 = 0;
/// Chunk type of a change.
pub(super) const CHANGE: u8 = 1;
/// Chunk type of a change whose content is deflated; checksum and hash are those of the change.
pub(super) const DEFLATED: u8 = 2;
/// Chunk type of a bundle of changes.
pub(super) const BUNDLE: u8 = 3;
