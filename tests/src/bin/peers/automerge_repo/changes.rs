//! Changes that Automerge made, and what a reader has of them.

use std::collections::HashMap;

use automerge::transaction::Transactable;
use automerge::{ActorId, Automerge, ChangeHash, ObjType, ROOT};

use crate::history::letter;

/// Somebody types a text, one character a change.
#[derive(Debug)]
pub(crate) struct Changes {
    pub(crate) changes: Vec<Vec<u8>>,
    pub(crate) hashes: Vec<ChangeHash>,
    by_hash: HashMap<ChangeHash, usize>,
    by_checksum: HashMap<[u8; 4], usize>,
}

impl Changes {
    pub(crate) fn typed(changes: usize) -> Self {
        loop {
            let typed = Self::by_somebody(changes);
            // One of a thousand or so has two changes with the same checksum.
            if typed.by_checksum.len() == changes {
                return typed;
            }
        }
    }

    fn by_somebody(changes: usize) -> Self {
        let (changes, hashes): (Vec<_>, Vec<_>) = type_text(changes).into_iter().unzip();
        let by_hash = hashes.iter().enumerate().map(|(at, hash)| (*hash, at)).collect();
        let checksums = changes.iter().map(|change: &Vec<u8>| [4, 5, 6, 7].map(|at| change[at]));
        let by_checksum = checksums.enumerate().map(|(at, checksum)| (checksum, at)).collect();
        Self { changes, hashes, by_hash, by_checksum }
    }

    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    /// How many changes somebody has who has these heads.
    pub(crate) fn reached(&self, heads: &[ChangeHash]) -> usize {
        let known = heads.iter().filter_map(|head| self.by_hash.get(head));
        known.max().map_or(0, |last| last + 1)
    }

    /// The heads of somebody who has the first so many changes.
    pub(crate) fn heads(&self, changes: usize) -> Vec<ChangeHash> {
        changes.checked_sub(1).map(|last| self.hashes[last]).into_iter().collect()
    }

    /// Which change has this checksum, which its bytes carry in front.
    pub(crate) fn with_checksum(&self, checksum: [u8; 4]) -> Option<usize> {
        self.by_checksum.get(&checksum).copied()
    }
}

/// The changes of one person, each with its hash.
pub(crate) fn type_text(changes: usize) -> Vec<(Vec<u8>, ChangeHash)> {
    let mut document = Automerge::new().with_actor(ActorId::random());
    let mut text = None;
    for position in 0..changes {
        let mut transaction = document.transaction();
        let into = text.get_or_insert_with(|| {
            transaction.put_object(ROOT, "text", ObjType::Text).expect("a new field")
        });
        let letter = letter(position).to_string();
        transaction.splice_text(&*into, position, 0, &letter).expect("at the end");
        transaction.commit();
    }
    let typed = document.get_changes(&[]);
    typed.into_iter().map(|mut change| (change.bytes().into_owned(), change.hash())).collect()
}

/// What a reader has of a history, by the checksums of the changes that came.
#[derive(Debug, Default)]
pub(crate) struct Received {
    ahead: Vec<bool>,
    /// All changes before this one are here.
    pub(crate) complete: usize,
}

impl Received {
    /// Takes the chunks that a message brought from somebody with these heads.
    pub(crate) fn take(&mut self, history: &Changes, heads: &[ChangeHash], mut chunks: &[u8]) {
        self.ahead.resize(history.len(), false);
        while let Some((header, rest)) = chunks.split_first_chunk::<9>() {
            let [_, _, _, _, checksum @ .., kind] = *header;
            match kind {
                // A whole document.
                0 => self.complete = self.complete.max(history.reached(heads)),
                _ => {
                    let at = history.with_checksum(checksum);
                    if let Some(ahead) = at.and_then(|at| self.ahead.get_mut(at)) {
                        *ahead = true;
                    }
                }
            }
            let (length, rest) = leb128(rest);
            chunks = rest.get(length..).unwrap_or_default();
        }
        while self.ahead.get(self.complete) == Some(&true) {
            self.complete += 1;
        }
    }
}

fn leb128(bytes: &[u8]) -> (usize, &[u8]) {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return (value, &bytes[at + 1..]);
        }
    }
    (usize::MAX, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_has_seen_a_change_when_all_before_it_came_too() {
        let history = Changes::typed(5);
        let mut received = Received::default();
        let heads = history.heads(4);
        received.take(&history, &heads, &history.changes[..2].concat());
        assert_eq!(received.complete, 2);
        received.take(&history, &heads, &history.changes[3]);
        assert_eq!(received.complete, 2);
        received.take(&history, &heads, &history.changes[2]);
        assert_eq!(received.complete, 4);
    }

    #[test]
    fn a_whole_document_brings_what_its_heads_say() {
        let history = Changes::typed(200);
        let mut document = Automerge::new();
        document.load_incremental(&history.changes[..150].concat()).expect("sound changes");
        let mut received = Received::default();
        received.take(&history, &document.get_heads(), &document.save());
        assert_eq!(received.complete, 150);
    }
}
