//! Bounds, hashes and describes one change without applying it.

use super::GuardError;
use super::birth::{ContainerKind, ObjectId, is_reserved};
use super::chunk::open_change;
use super::layout::Layout;
use super::ops::{
    COUNTER_BYTE, MAKE_LIST, MAKE_MAP, MAKE_TEXT, MapWrite, NULL, PUT, Summary, check,
};
use super::reader::Reader;
use crate::limits::{
    ACTOR_BYTES_MAX, CHANGE_ACTORS_MAX, CHANGE_DEPS_MAX, MESSAGE_BYTES_MAX, OP_COUNTER_MAX,
    TIME_S_MAX,
};
use crate::{ActorId, ChangeHash, Genesis, KnownChange};

/// Bytes of an author: a user's name or key in some identity system, not a document of its own.
pub const AUTHOR_BYTES_MAX: usize = 1024;

/// One change that passed the guard: within every limit, and in the form Automerge gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    hash: ChangeHash,
    deps: Vec<ChangeHash>,
    actor: ActorId,
    seq: u64,
    start_op: u64,
    ops: u64,
    depth: usize,
    time: i64,
    message: Option<String>,
    author: Option<Box<[u8]>>,
    /// Set only under the actor prefix of births and conversions.
    made: Option<Made>,
}

/// The container that a change makes, if the change could be a birth or a conversion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) parent: ObjectId,
    pub(super) key: String,
    pub(super) how: How,
}

/// The way in which it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    /// At a key that had no value.
    Born(ContainerKind),
    /// From a plain value: the operation that wrote it, and the value.
    Converted((u64, ActorId), String),
}

/// Checks one change chunk, raw or deflated, and describes it.
///
/// Takes time and memory in proportion to the bytes given (to their inflated length, if they are
/// deflated), never to lengths that they claim. Automerge parses every change that this function
/// accepts, and saves it under the same hash if everything it refers to exists.
/// [`admit`](super::admit) says whether it fits a document.
///
/// # Errors
/// The bytes are not one sound change. They never will be: refuse or set them aside for good.
pub fn parse(chunk: &[u8]) -> Result<Change, GuardError> {
    let chunk = open_change(chunk)?;
    let mut reader = Reader::new(&chunk.content);
    let deps = read_deps(&mut reader)?;
    let actor = read_actor(&mut reader)?;
    let seq = reader.u64("sequence number")?;
    if seq == 0 {
        return Err(GuardError::Seq);
    }
    let start_op = read_start_op(&mut reader)?;
    let time = reader.i64("time")?;
    let message = read_message(&mut reader)?;
    let actors = read_actors(&mut reader, actor)?;
    let layout = Layout::read(&mut reader)?;
    let author = read_author(reader.rest())?;
    let ops = check(&layout, &actors, start_op)?;
    let actor = ActorId(actor.to_vec());
    let made = if is_reserved(&actor) { read_made(&ops, &actors) } else { None };
    let (hash, ops, depth) = (chunk.hash, ops.count, ops.depth);
    Ok(Change { hash, deps, actor, seq, start_op, ops, depth, time, message, author, made })
}

/// Whether Automerge can store a time, in seconds since 1970, beside any other such time.
pub fn is_storable_time(time_s: i64) -> bool {
    (1 - TIME_S_MAX..=TIME_S_MAX).contains(&time_s)
}

impl Change {
    /// SHA-256 of the change, its identity.
    pub fn hash(&self) -> ChangeHash {
        self.hash
    }

    /// The changes it was made on top of, ascending, each once.
    pub fn deps(&self) -> &[ChangeHash] {
        &self.deps
    }

    /// The actor that made it.
    pub fn actor(&self) -> &ActorId {
        &self.actor
    }

    /// Its place among its actor's changes, from 1.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The counter of its first operation.
    pub fn start_op(&self) -> u64 {
        self.start_op
    }

    /// The number of its operations.
    pub fn ops(&self) -> u64 {
        self.ops
    }

    /// How deep the maps, lists and texts that it makes stand inside each other, 0 if it makes
    /// none. In containers of other changes the count begins at 1 again.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The counter of its last operation; `start_op - 1` when it has none.
    pub fn max_op(&self) -> u64 {
        self.start_op + self.ops - 1
    }

    /// The time by its author's clock, as a rule in seconds of the Unix epoch. It is only a claim.
    pub fn time(&self) -> i64 {
        self.time
    }

    /// Its message, which its author wrote.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Whether it names an author. Only an actor's first change may.
    pub fn has_author(&self) -> bool {
        self.author.is_some()
    }

    /// The author that it names, in bytes of any form. It is only a claim.
    pub fn author(&self) -> Option<&[u8]> {
        self.author.as_deref()
    }

    /// Whether it has the shape of a genesis. One that was admitted is its document's.
    pub fn is_genesis(&self) -> bool {
        is_reserved(&self.actor) && self.ops == 0
    }

    /// Whether it has the shape of a birth. One that was admitted made its container.
    pub fn is_birth(&self) -> bool {
        self.made.as_ref().is_some_and(|made| matches!(made.how, How::Born(_)))
    }

    /// Whether it has the shape of a conversion. One that was admitted made its text.
    pub fn is_conversion(&self) -> bool {
        self.made.as_ref().is_some_and(|made| matches!(made.how, How::Converted(..)))
    }

    /// The natural key a genesis states; none for other changes and for documents without one.
    pub fn genesis_key(&self) -> Option<Genesis> {
        self.message().filter(|_| self.is_genesis()).and_then(|text| text.parse().ok())
    }

    /// The facts to remember of it to admit later changes.
    pub fn known(&self) -> KnownChange {
        KnownChange {
            actor: self.actor.clone(),
            seq: self.seq,
            start_op: self.start_op,
            max_op: self.max_op(),
        }
    }

    pub(super) fn made(&self) -> Option<&Made> {
        self.made.as_ref()
    }
}

/// Automerge writes dependencies in ascending order and once each, but accepts any order. This
/// function returns them in the order in which Automerge writes them.
fn read_deps(reader: &mut Reader<'_>) -> Result<Vec<ChangeHash>, GuardError> {
    let count = reader.u64("number of dependencies")?;
    if count > CHANGE_DEPS_MAX as u64 {
        return Err(GuardError::Deps { count, max: CHANGE_DEPS_MAX });
    }
    let mut deps = Vec::new();
    for _ in 0..count {
        deps.push(ChangeHash(reader.array("dependencies")?));
    }
    deps.sort_unstable();
    deps.dedup();
    Ok(deps)
}

fn read_actor<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], GuardError> {
    let actor = reader.prefixed("actor")?;
    if actor.is_empty() || actor.len() > ACTOR_BYTES_MAX {
        return Err(GuardError::ActorBytes { len: actor.len(), max: ACTOR_BYTES_MAX });
    }
    Ok(actor)
}

fn read_start_op(reader: &mut Reader<'_>) -> Result<u64, GuardError> {
    let start_op = reader.u64("start operation")?;
    if (1..=OP_COUNTER_MAX).contains(&start_op) {
        return Ok(start_op);
    }
    let counter = i128::from(start_op);
    Err(GuardError::Counter { what: "start operation", counter, min: 1, max: OP_COUNTER_MAX })
}

fn read_message(reader: &mut Reader<'_>) -> Result<Option<String>, GuardError> {
    let message = reader.prefixed("message")?;
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(GuardError::MessageBytes { len: message.len(), max: MESSAGE_BYTES_MAX });
    }
    let message = std::str::from_utf8(message).map_err(|_| GuardError::Utf8 { what: "message" })?;
    Ok(Some(message.to_owned()).filter(|message| !message.is_empty()))
}

/// The author's actor, then those of other operations in ascending order.
fn read_actors<'a>(reader: &mut Reader<'a>, actor: &'a [u8]) -> Result<Vec<&'a [u8]>, GuardError> {
    let count = reader.u64("number of actors")?;
    if count > CHANGE_ACTORS_MAX as u64 {
        return Err(GuardError::Actors { count, max: CHANGE_ACTORS_MAX });
    }
    let mut actors = vec![actor];
    for _ in 0..count {
        let other = read_actor(reader)?;
        if other == actor || actors[1..].last() >= Some(&other) {
            return Err(GuardError::ActorsOrder);
        }
        actors.push(other);
    }
    Ok(actors)
}

/// Reads the bytes after the operations: none, or one author behind its mark and length.
fn read_author(footer: &[u8]) -> Result<Option<Box<[u8]>>, GuardError> {
    if footer.is_empty() {
        return Ok(None);
    }
    let wrong = GuardError::Author { len: footer.len(), max: AUTHOR_BYTES_MAX };
    let mut reader = Reader::new(footer);
    let mark = reader.u64("author");
    let author = reader.prefixed("author");
    match (mark, author) {
        (Ok(AUTHOR_MARK), Ok(author)) if author.len() <= AUTHOR_BYTES_MAX && reader.is_empty() => {
            Ok(Some(author.into()))
        }
        _ => Err(wrong),
    }
}

/// The container that a change makes, if it makes one at a key without a value, or a text in the
/// place of a value. The hash tells whether the rest of the change is as it must be.
fn read_made(ops: &Summary<'_>, actors: &[&[u8]]) -> Option<Made> {
    let write = ops.first?;
    let actor = |index: usize| Some(ActorId(actors.get(index)?.to_vec()));
    let how = match write.pred {
        None if ops.count == 1 => How::Born(container_kind(&write)?),
        Some((counter, index)) if write.action == MAKE_TEXT => {
            let value = std::str::from_utf8(ops.values).ok()?;
            How::Converted((counter, actor(index)?), value.to_owned())
        }
        _ => return None,
    };
    let parent = match write.object {
        None => ObjectId::Root,
        Some((counter, index)) => ObjectId::Op { counter, actor: actor(index)? },
    };
    Some(Made { parent, key: write.key.to_owned(), how })
}

fn container_kind(write: &MapWrite<'_>) -> Option<ContainerKind> {
    match (write.action, write.value_meta, write.value) {
        (MAKE_TEXT, NULL, _) => Some(ContainerKind::Text),
        (MAKE_LIST, NULL, _) => Some(ContainerKind::List),
        (MAKE_MAP, NULL, _) => Some(ContainerKind::Map),
        (PUT, COUNTER_BYTE, [0]) => Some(ContainerKind::Counter),
        _ => None,
    }
}

/// Marks an author among the bytes after the operations.
const AUTHOR_MARK: u64 = 1;
