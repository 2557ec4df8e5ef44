//! Whether a sound change fits the history of a document.

use thiserror::Error;

use super::birth::{Birth, ObjectId, genesis_actor, genesis_hash, is_reserved};
use super::conversion::Conversion;
use super::guard::{Change, How, Made};
use crate::{
    ActorId, ChangeHash, CollectionName, DocumentId, Genesis, History, KnownChange, LastChange,
    SpaceName,
};

/// The place a change is to belong to.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The space.
    pub space: &'a SpaceName,
    /// The collection in it.
    pub collection: &'a CollectionName,
    /// The document in it.
    pub document: &'a DocumentId,
}

/// A change that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is new; store it.
    New,
    /// It is in the history already; there is nothing to do.
    Known,
}

/// A change that does not fit this history.
///
/// Only [`Missing`](Self::Missing) can pass later, once the listed changes came. The others are
/// final: their author sets them aside and writes them anew under a fresh actor.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It builds on changes that are not here.
    #[error("{} dependencies are not known here; send those first", .0.len())]
    Missing(Vec<ChangeHash>),
    /// Another change with this actor and number exists, or did: a store was restored or copied.
    #[error(
        "actor {actor} already made change {last_seq}, and a different change {seq}; write it anew under a fresh actor"
    )]
    ActorReused {
        /// The actor.
        actor: ActorId,
        /// The sequence number used again.
        seq: u64,
        /// The sequence number of the actor's last change here.
        last_seq: u64,
    },
    /// Changes of this actor are left out. Automerge panics on such a history.
    #[error(
        "change {seq} of actor {actor} does not follow {last_seq}; send the changes between first"
    )]
    SequenceGap {
        /// The actor.
        actor: ActorId,
        /// The sequence number given.
        seq: u64,
        /// The sequence number of the actor's last change here, 0 if it made none yet.
        last_seq: u64,
    },
    /// Its operations would not come after those it builds on. Automerge applies such a change, but
    /// cannot load the document that it then saves.
    #[error(
        "it starts at operation {start_op}, but builds on operation {max_op}; write it anew under a fresh actor"
    )]
    StartOp {
        /// The counter of its first operation.
        start_op: u64,
        /// The highest counter it builds on.
        max_op: u64,
    },
    /// It does not build on its actor's previous change. Automerge applies such a change, but
    /// cannot load the document that it then saves.
    #[error(
        "change {seq} does not build on the previous one of actor {actor}; write it anew under a fresh actor"
    )]
    Detached {
        /// The actor.
        actor: ActorId,
        /// Its sequence number.
        seq: u64,
    },
    /// It has no operation and leaves counters out. Automerge applies such a change, but cannot
    /// load the document that it then saves.
    #[error(
        "it has no operation and starts at {start_op} where {expected} is next; write it anew under a fresh actor"
    )]
    EmptyStartOp {
        /// The counter its first operation would have.
        start_op: u64,
        /// The counter after the highest of its dependencies.
        expected: u64,
    },
    /// An author after an actor's first change. Automerge would ignore it.
    #[error(
        "change {seq} of actor {actor} names an author, which only the first may; write it anew under a fresh actor"
    )]
    AuthorNotFirst {
        /// The actor.
        actor: ActorId,
        /// Its sequence number.
        seq: u64,
    },
    /// A document with a derived id begins with its genesis, and with nothing else.
    #[error(
        "document {document} has a natural key and must begin with its genesis; write that first"
    )]
    NoGenesis {
        /// The document.
        document: DocumentId,
    },
    /// A genesis whose natural key names another document, or none.
    #[error(
        "the natural key of the genesis does not name document {document} in this collection; send it to the document it names"
    )]
    GenesisKey {
        /// The document.
        document: DocumentId,
    },
    /// Under the reserved prefix, but with other bytes than the genesis of this document.
    #[error(
        "it is not the genesis of document {document}; write it with the genesis Rejoin computes"
    )]
    Genesis {
        /// The document.
        document: DocumentId,
    },
    /// A birth that does not depend on the change that made its parent, or a conversion that does
    /// not depend on the one that wrote the value, and on that only.
    #[error(
        "what is made at {key:?} does not build on the change that it is made of; write it with the birth or conversion Rejoin computes"
    )]
    BirthParent {
        /// The key it is made at.
        key: String,
    },
    /// Under the reserved prefix, but with other bytes than the birth or conversion of this
    /// container.
    #[error(
        "it is not what every device would make at {key:?}; write it with the birth or conversion Rejoin computes"
    )]
    Birth {
        /// The key it is made at.
        key: String,
    },
}

/// Checks whether `change` may follow `history` in `place`.
///
/// Everything is decided by the changes themselves and so alike everywhere: a change that was
/// admitted once is admitted wherever the same history is known.
///
/// # Errors
/// It may not, or not yet; see [`Refusal`].
pub fn admit(
    change: &Change,
    place: &Place<'_>,
    history: &impl History,
) -> Result<Admission, Refusal> {
    if history.change(&change.hash()).is_some() {
        return Ok(Admission::Known);
    }
    let deps = known_deps(change, history)?;
    if is_reserved(change.actor()) {
        check_reserved(change, place, &deps)?;
    } else if deps.is_empty() && place.document.is_derived() {
        return Err(Refusal::NoGenesis { document: *place.document });
    }
    let last = history.last(change.actor());
    check_sequence(change, last)?;
    check_start_op(change, &deps, last)?;
    check_author(change)?;
    Ok(Admission::New)
}

fn known_deps(change: &Change, history: &impl History) -> Result<Vec<KnownChange>, Refusal> {
    let mut known = Vec::with_capacity(change.deps().len());
    let mut missing = Vec::new();
    for dep in change.deps() {
        match history.change(dep) {
            Some(change) => known.push(change),
            None => missing.push(*dep),
        }
    }
    if missing.is_empty() { Ok(known) } else { Err(Refusal::Missing(missing)) }
}

fn check_sequence(change: &Change, last: Option<LastChange>) -> Result<(), Refusal> {
    let last_seq = last.map_or(0, |last| last.seq);
    let (actor, seq) = (change.actor(), change.seq());
    if seq <= last_seq {
        return Err(Refusal::ActorReused { actor: actor.clone(), seq, last_seq });
    }
    if seq - last_seq > 1 {
        return Err(Refusal::SequenceGap { actor: actor.clone(), seq, last_seq });
    }
    Ok(())
}

/// Automerge saves only the last counter of a change, and takes its operations to be those of its
/// actor above everything it depends on.
fn check_start_op(
    change: &Change,
    deps: &[KnownChange],
    last: Option<LastChange>,
) -> Result<(), Refusal> {
    let deps_max_op = deps.iter().map(|dep| dep.max_op).max().unwrap_or(0);
    let last_max_op = last.map_or(0, |last| last.max_op);
    let (start_op, max_op) = (change.start_op(), deps_max_op.max(last_max_op));
    if start_op <= max_op {
        return Err(Refusal::StartOp { start_op, max_op });
    }
    if last_max_op > deps_max_op {
        return Err(Refusal::Detached { actor: change.actor().clone(), seq: change.seq() });
    }
    let expected = deps_max_op.saturating_add(1);
    if change.ops() == 0 && start_op != expected {
        return Err(Refusal::EmptyStartOp { start_op, expected });
    }
    Ok(())
}

fn check_author(change: &Change) -> Result<(), Refusal> {
    if change.has_author() && change.seq() > 1 {
        let actor = change.actor().clone();
        return Err(Refusal::AuthorNotFirst { actor, seq: change.seq() });
    }
    Ok(())
}

/// Computes the bytes that a change under the reserved prefix must have. Anyone could otherwise
/// take such an actor first, and the document would never accept the real birth.
///
/// Equal hashes are equal bytes. Other servers may have deflated a long one on the way; it is
/// still the same change.
fn check_reserved(change: &Change, place: &Place<'_>, deps: &[KnownChange]) -> Result<(), Refusal> {
    match change.made() {
        Some(made) => check_made(change, made, place, deps),
        None => check_genesis(change, place),
    }
}

fn check_genesis(change: &Change, place: &Place<'_>) -> Result<(), Refusal> {
    let document = *place.document;
    let genesis = if document.is_derived() { Some(derived_from(change, place)?) } else { None };
    if change.hash() == genesis_hash(&document, genesis.as_ref()) {
        Ok(())
    } else {
        Err(Refusal::Genesis { document })
    }
}

/// The natural key that a genesis states, if it is this document's.
fn derived_from(change: &Change, place: &Place<'_>) -> Result<Genesis, Refusal> {
    change
        .genesis_key()
        .filter(|key| DocumentId::derive(place.space, place.collection, key) == *place.document)
        .ok_or(Refusal::GenesisKey { document: *place.document })
}

fn check_made(
    change: &Change,
    made: &Made,
    place: &Place<'_>,
    deps: &[KnownChange],
) -> Result<(), Refusal> {
    let ([maker], [known]) = (change.deps(), deps) else {
        return Err(Refusal::BirthParent { key: made.key.clone() });
    };
    let (document, parent, key) = (*place.document, made.parent.clone(), made.key.clone());
    let (maker, maker_max_op) = (*maker, known.max_op);
    let (made_of, hash) = match &made.how {
        How::Born(kind) => {
            let kind = *kind;
            let made_of = parent.clone();
            (made_of, Birth { document, parent, key, kind, maker, maker_max_op }.hash())
        }
        How::Converted(replaces, value) => {
            let made_of = ObjectId::Op { counter: replaces.0, actor: replaces.1.clone() };
            let (replaces, value) = (replaces.clone(), value.clone());
            let conversion =
                Conversion { document, parent, key, replaces, value, maker, maker_max_op };
            (made_of, conversion.hash())
        }
    };
    if !makes(known, &made_of, place.document) {
        Err(Refusal::BirthParent { key: made.key.clone() })
    } else if hash != change.hash() {
        Err(Refusal::Birth { key: made.key.clone() })
    } else {
        Ok(())
    }
}

/// Whether a change made an object, or wrote a value. The root counts as made by the genesis.
fn makes(maker: &KnownChange, object: &ObjectId, document: &DocumentId) -> bool {
    match object {
        ObjectId::Root => maker.actor == genesis_actor(document),
        ObjectId::Op { counter, actor } => {
            maker.actor == *actor && (maker.start_op..=maker.max_op).contains(counter)
        }
    }
}
