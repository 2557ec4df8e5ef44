//! A plain value that becomes a text: the change any device makes byte for byte alike.
//!
//! Two devices that first append to one plain value offline must not make two texts of it, of which
//! one shows and hides the other. They make the same change twice, which is one change: it makes a
//! text with the characters of the value, in the place of the operation that wrote it.
//!
//! The format is frozen, as that of [births](super::birth).

use super::birth::{ObjectId, reserved_actor};
use super::encode::{Draft, deltas, one_row, prefixed, runs, uleb};
use super::layout::{
    ACTION, INSERT, KEY_ACTOR, KEY_COUNTER, KEY_TEXT, OBJECT_ACTOR, OBJECT_COUNTER, PRED_ACTOR,
    PRED_COUNT, PRED_COUNTER, VALUE, VALUE_META,
};
use super::ops::{MAKE_TEXT, NULL, PUT, TEXT};
use crate::{ActorId, ChangeHash, DocumentId};

/// The conversion of a plain value into a text: everything that determines its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversion {
    /// The document it is in.
    pub document: DocumentId,
    /// The map the value stands in.
    pub parent: ObjectId,
    /// Its key in that map.
    pub key: String,
    /// The operation that wrote the value: its counter and actor.
    pub replaces: (u64, ActorId),
    /// The value. It is part of the actor, too: a conversion of another value makes another text.
    pub value: String,
    /// The change that wrote the value.
    pub maker: ChangeHash,
    /// The counter of that change's last operation.
    pub maker_max_op: u64,
}

impl Conversion {
    /// The change as a raw chunk, as Automerge itself would write it.
    pub fn encode(&self) -> Vec<u8> {
        self.with_draft(|draft| draft.encode())
    }

    /// The change's hash.
    pub fn hash(&self) -> ChangeHash {
        self.with_draft(|draft| draft.hash())
    }

    /// The text it makes.
    pub fn object(&self) -> ObjectId {
        ObjectId::Op { counter: self.start_op(), actor: self.actor() }
    }

    /// The actor of the change, which no other change has.
    pub fn actor(&self) -> ActorId {
        let (counter, maker) = match &self.parent {
            ObjectId::Root => (0, [].as_slice()),
            ObjectId::Op { counter, actor } => (*counter, actor.0.as_slice()),
        };
        reserved_actor(&[
            b"rejoin conversion",
            &self.document.0,
            &counter.to_be_bytes(),
            maker,
            self.key.as_bytes(),
            &self.replaces.0.to_be_bytes(),
            &self.replaces.1.0,
            self.value.as_bytes(),
        ])
    }

    /// The counter of its first operation.
    pub fn start_op(&self) -> u64 {
        self.maker_max_op.saturating_add(1)
    }

    /// The number of its operations: one for the text, and one for each of its characters.
    pub fn ops(&self) -> u64 {
        1 + self.value.chars().count() as u64
    }

    fn with_draft<T>(&self, write: impl FnOnce(&Draft<'_>) -> T) -> T {
        let actor = self.actor();
        let mut others = vec![&self.replaces.1];
        if let ObjectId::Op { actor, .. } = &self.parent {
            others.push(actor);
        }
        others.sort_unstable();
        others.dedup();
        write(&Draft {
            deps: &[self.maker],
            actor: &actor,
            start_op: self.start_op(),
            message: "",
            other_actors: &others,
            columns: &self.columns(&others),
        })
    }

    /// The operations: make a text at `key` in the place of another, and insert each character
    /// behind the one before.
    fn columns(&self, others: &[&ActorId]) -> Vec<(u32, Vec<u8>)> {
        let characters: Vec<char> = self.value.chars().collect();
        // The author's own actor is the first.
        let index = |actor: &ActorId| {
            1 + others.iter().position(|other| *other == actor).unwrap_or_default() as u64
        };
        let (map_actor, map_counter) = match &self.parent {
            ObjectId::Root => (None, None),
            ObjectId::Op { counter, actor } => (Some(index(actor)), Some(*counter)),
        };
        let start = self.start_op();
        let each = |value: Option<u64>| characters.iter().map(move |_| value);
        let numbers =
            |values: &mut dyn Iterator<Item = Option<u64>>| runs(values, |out, it| uleb(out, *it));
        let mut key = Vec::with_capacity(self.key.len() + 2);
        prefixed(&mut key, self.key.as_bytes());
        let mut keys = one_row(&key);
        if !characters.is_empty() {
            keys.push(0);
            uleb(&mut keys, characters.len() as u64);
        }
        let mut inserts = vec![1];
        if !characters.is_empty() {
            uleb(&mut inserts, characters.len() as u64);
        }
        // The first character stands before everything, the others each behind another.
        let behind = || characters.iter().skip(1);
        let before_all = || characters.iter().take(1);
        let mut key_actors =
            [None].into_iter().chain(before_all().map(|_| None)).chain(behind().map(|_| Some(0)));
        let key_counters = [None]
            .into_iter()
            .chain(before_all().map(|_| Some(0)))
            .chain(behind().zip(start + 1..).map(|(_, counter)| Some(counter)));
        let meta = |character: &char| (character.len_utf8() as u64) << 4 | TEXT;
        let mut metas = [Some(NULL)].into_iter().chain(characters.iter().map(|it| Some(meta(it))));
        let columns = [
            (OBJECT_ACTOR, numbers(&mut [map_actor].into_iter().chain(each(Some(0))))),
            (OBJECT_COUNTER, numbers(&mut [map_counter].into_iter().chain(each(Some(start))))),
            (KEY_ACTOR, numbers(&mut key_actors)),
            (KEY_COUNTER, deltas(key_counters)),
            (KEY_TEXT, keys),
            (INSERT, inserts),
            (ACTION, numbers(&mut [Some(MAKE_TEXT)].into_iter().chain(each(Some(PUT))))),
            (VALUE_META, numbers(&mut metas)),
            (VALUE, self.value.as_bytes().to_vec()),
            (PRED_COUNT, numbers(&mut [Some(1)].into_iter().chain(each(Some(0))))),
            (PRED_ACTOR, numbers(&mut [Some(index(&self.replaces.1))].into_iter())),
            (PRED_COUNTER, deltas([Some(self.replaces.0)])),
        ];
        columns.into_iter().filter(|(_, column)| !column.is_empty()).collect()
    }
}
