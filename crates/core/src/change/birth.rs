//! Changes any device makes byte for byte alike: the genesis of a document, and the birth of a
//! container in it.
//!
//! Automerge shows one of two containers that were put at one key concurrently and hides the
//! other, with everything in it. Two devices that first use `notes` offline must therefore not
//! make two texts: they make the same change twice, which is one change.
//!
//! The format is frozen. Another byte here is another change, and two devices of different
//! versions would part.

use sha2::{Digest, Sha256};

use super::encode::{Draft, one_row, prefixed, uleb};
use super::layout::{
    ACTION, INSERT, KEY_TEXT, OBJECT_ACTOR, OBJECT_COUNTER, PRED_COUNT, VALUE, VALUE_META,
};
use super::ops::{COUNTER_BYTE, MAKE_LIST, MAKE_MAP, MAKE_TEXT, NULL, PUT};
use crate::{ActorId, ChangeHash, DocumentId, Genesis};

/// First bytes of every actor that makes a genesis, birth or conversion. Nobody else may use an
/// actor with them, and Automerge never draws one: its own have 16 bytes.
pub const ACTOR_PREFIX: [u8; 4] = [0x00, b'r', b'j', 0x01];

/// Bytes of such an actor: the prefix and half a SHA-256.
pub const RESERVED_ACTOR_BYTES: usize = 20;

/// Whether an actor is one that only genesis, birth and conversion changes may have.
pub fn is_reserved(actor: &ActorId) -> bool {
    is_reserved_bytes(&actor.0)
}

/// [`is_reserved`] for the bytes of an actor.
pub fn is_reserved_bytes(actor: &[u8]) -> bool {
    actor.len() == RESERVED_ACTOR_BYTES && actor.starts_with(&ACTOR_PREFIX)
}

/// The first change of `document`: no operation, and the natural key as its message.
///
/// The id was derived from `genesis`; a document with a random id has none.
pub fn genesis(document: &DocumentId, genesis: Option<&Genesis>) -> Vec<u8> {
    let message = genesis.map(Genesis::to_string).unwrap_or_default();
    genesis_draft(&genesis_actor(document), &message).encode()
}

/// The hash of that first change.
pub fn genesis_hash(document: &DocumentId, genesis: Option<&Genesis>) -> ChangeHash {
    let message = genesis.map(Genesis::to_string).unwrap_or_default();
    genesis_draft(&genesis_actor(document), &message).hash()
}

/// The actor of the first change of `document`.
pub fn genesis_actor(document: &DocumentId) -> ActorId {
    reserved_actor(&[b"rejoin genesis", &document.0])
}

fn genesis_draft<'a>(actor: &'a ActorId, message: &'a str) -> Draft<'a> {
    Draft { deps: &[], actor, start_op: 1, message, other_actors: &[], columns: &[] }
}

/// A kind of container that can be born at a map key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerKind {
    /// A text, empty.
    Text,
    /// A list, empty.
    List,
    /// A map, empty.
    Map,
    /// A counter at 0.
    Counter,
}

impl ContainerKind {
    /// Number of the kind in a birth's actor, frozen.
    fn code(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::List => 2,
            Self::Map => 3,
            Self::Counter => 4,
        }
    }

    fn action(self) -> u64 {
        match self {
            Self::Text => MAKE_TEXT,
            Self::List => MAKE_LIST,
            Self::Map => MAKE_MAP,
            Self::Counter => PUT,
        }
    }
}

/// An object of a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectId {
    /// The map every document is.
    Root,
    /// The object an operation made.
    Op {
        /// The operation's counter.
        counter: u64,
        /// The operation's actor.
        actor: ActorId,
    },
}

/// The birth of a container: everything that determines its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Birth {
    /// The document it is born in.
    pub document: DocumentId,
    /// The map it is born in.
    pub parent: ObjectId,
    /// Its key in that map.
    pub key: String,
    /// Its kind. The kind is part of the actor, too: so devices that disagree about it make a
    /// conflict that people can see, and not two changes with one actor and number, which Automerge
    /// never merges.
    pub kind: ContainerKind,
    /// The change that made the parent; for the root, the genesis.
    pub maker: ChangeHash,
    /// The counter of that change's last operation.
    pub maker_max_op: u64,
}

impl Birth {
    /// The change as a raw chunk, as Automerge itself would write it.
    pub fn encode(&self) -> Vec<u8> {
        self.with_draft(|draft| draft.encode())
    }

    /// The change's hash.
    pub fn hash(&self) -> ChangeHash {
        self.with_draft(|draft| draft.hash())
    }

    /// The container it makes. For a counter, the operation that increments refer to.
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
            b"rejoin birth",
            &self.document.0,
            &counter.to_be_bytes(),
            maker,
            self.key.as_bytes(),
            &[self.kind.code()],
        ])
    }

    /// The counter of its one operation.
    pub fn start_op(&self) -> u64 {
        self.maker_max_op.saturating_add(1)
    }

    fn with_draft<T>(&self, write: impl FnOnce(&Draft<'_>) -> T) -> T {
        let actor = self.actor();
        let parent = match &self.parent {
            ObjectId::Root => None,
            ObjectId::Op { counter, actor } => Some((*counter, actor)),
        };
        write(&Draft {
            deps: &[self.maker],
            actor: &actor,
            start_op: self.start_op(),
            message: "",
            other_actors: parent.map(|(_, actor)| actor).as_slice(),
            columns: &self.columns(parent.map(|(counter, _)| counter)),
        })
    }

    /// One operation: make a container, or put a counter, at `key` of the object with counter
    /// `parent`, whose actor is the only other one.
    fn columns(&self, parent: Option<u64>) -> Vec<(u32, Vec<u8>)> {
        let mut columns = Vec::with_capacity(8);
        if let Some(counter) = parent {
            columns.push((OBJECT_ACTOR, one_number(1)));
            columns.push((OBJECT_COUNTER, one_number(counter)));
        }
        let mut key = Vec::with_capacity(self.key.len() + 2);
        prefixed(&mut key, self.key.as_bytes());
        columns.push((KEY_TEXT, one_row(&key)));
        columns.push((INSERT, vec![1]));
        columns.push((ACTION, one_number(self.kind.action())));
        if self.kind == ContainerKind::Counter {
            columns.push((VALUE_META, one_number(COUNTER_BYTE)));
            columns.push((VALUE, vec![0]));
        } else {
            columns.push((VALUE_META, one_number(NULL)));
        }
        columns.push((PRED_COUNT, one_number(0)));
        columns
    }
}

fn one_number(value: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4);
    uleb(&mut bytes, value);
    one_row(&bytes)
}

/// Prefix and the first half of a SHA-256 over `parts`, each behind its length, so that no two
/// lists of parts are hashed as the same bytes.
pub(super) fn reserved_actor(parts: &[&[u8]]) -> ActorId {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u32).to_be_bytes());
        hasher.update(part);
    }
    let mut actor = Vec::with_capacity(RESERVED_ACTOR_BYTES);
    actor.extend_from_slice(&ACTOR_PREFIX);
    actor.extend_from_slice(&hasher.finalize()[..RESERVED_ACTOR_BYTES - ACTOR_PREFIX.len()]);
    ActorId(actor)
}
