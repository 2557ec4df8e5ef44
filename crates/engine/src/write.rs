//! An edit written into a document as Automerge changes.
//!
//! Writing has two halves. [`plan`] reads the document as the editor saw it, refuses steps that
//! cannot be done, and says what to write; until then the document is not touched. [`carry_out`]
//! writes it: births first, then ordinary changes.
//!
//! Invariants:
//!
//! - A container or counter at a map key is made by a [`Birth`](rejoin_core::change::Birth), never
//!   inside an ordinary change, and is never deleted or overwritten. Exceptions are containers
//!   inside a list item that this very edit inserts (nobody else can know that item), documents
//!   of others that have no genesis, and containers that others deleted, whose birth cannot be
//!   made again. A decision about containers that one hides deletes those it hides.
//! - A scalar is deleted in a change of its own before a container is born in its place: a birth
//!   overwrites nothing. A plain text that becomes one that merges is converted instead, by a
//!   [`Conversion`](rejoin_core::change::Conversion) that holds its characters.
//! - No change holds more than [`OPS_PER_CHANGE`] operations, [`BYTES_PER_CHANGE`] of values, or
//!   [`BIRTHS_PER_CHANGE`] births among its dependencies, each well within the limits of the guard.

mod again;
mod births;
mod by_hand;
mod carry_out;
mod decide;
mod gather;
mod plan;
mod set;
mod text;
mod transact;
mod tree;
mod undo;

use std::fmt;

use automerge::{Automerge, AutomergeError, Change, ChangeHash, LoadChangeError};
use rejoin_core::lineage::Marks;
use serde_json::Value;
use thiserror::Error;

use crate::diff::Op;
use crate::value::{Effective, Marker};
pub(crate) use again::{Again, Written};
pub(crate) use by_hand::discard;
use carry_out::{Edit, carry_out};
pub(crate) use decide::{decide, found, object};
use gather::gather;
use plan::Plan;
use rejoin_core::{DocumentId, Path};
pub(crate) use set::may_convert;
pub(crate) use undo::{
    Back, Backwards, Where, delete_item, is_map, message, say, say_with_item, write_back,
};

/// Writes `ops` into `doc` as one edit, and returns every new change in the order to apply them.
/// Empty if nothing changes.
///
/// The caller gives `doc` an actor of its own first, and an author if there is one.
///
/// # Errors
/// Nothing was written, and `doc` is as it was, for every error except
/// [`Document`](WriteError::Document), [`Birth`](WriteError::Birth) and
/// [`Panicked`](WriteError::Panicked): after those, some of the edit may stand in `doc`. Drop it
/// and load it again.
pub(crate) fn write(
    doc: &mut Automerge,
    document: &DocumentId,
    ops: &[Op],
    options: &WriteOptions<'_>,
) -> Result<Vec<Change>, WriteError> {
    let base = older_heads(doc, options.base)?;
    let mut plan = Plan::new(doc, document, base.as_deref(), options.effective, options.marks);
    for op in ops {
        plan.check_names(op)?;
        plan.add(op)?;
    }
    let edit = plan.finish();
    write_planned(doc, &edit, base, options)
}

/// Writes an edit that was planned upon `base`.
fn write_planned(
    doc: &mut Automerge,
    edit: &Edit,
    base: Option<Vec<ChangeHash>>,
    options: &WriteOptions<'_>,
) -> Result<Vec<Change>, WriteError> {
    if edit.is_empty() {
        return Ok(Vec::new());
    }
    let (mut changes, base) = gather(doc, base, options.time_s)?;
    changes.extend(carry_out(doc, edit, base, options)?);
    Ok(changes)
}

/// The circumstances in which an edit is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteOptions<'a> {
    /// The heads of the document that the editor saw; `None` for the current ones. Older heads make
    /// the edit concurrent with all changes since, so that it merges with them.
    pub(crate) base: Option<&'a [ChangeHash]>,
    /// The time, in seconds since 1970.
    pub(crate) time_s: i64,
    /// The message of the changes.
    pub(crate) message: Option<&'a str>,
    /// The values that the editor saw at the base, where they are not those that Automerge shows.
    pub(crate) effective: Option<&'a Effective>,
    /// The keys at which the document says that something was removed.
    pub(crate) marks: &'static Marks,
}

impl Default for WriteOptions<'_> {
    fn default() -> Self {
        let (base, message, effective) = (None, None, None);
        Self { base, time_s: 0, message, effective, marks: Marks::OURS }
    }
}

/// The base, unless these are the document's present heads.
pub(crate) fn older_heads(
    doc: &Automerge,
    base: Option<&[ChangeHash]>,
) -> Result<Option<Vec<ChangeHash>>, WriteError> {
    let Some(base) = base else { return Ok(None) };
    if let Some(unknown) = base.iter().find(|head| doc.get_change_meta_by_hash(head).is_none()) {
        return Err(WriteError::UnknownBase { head: *unknown });
    }
    let mut base = base.to_vec();
    base.sort_unstable();
    base.dedup();
    Ok(Some(base).filter(|base| *base != doc.get_heads()))
}

/// An edit that was not written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The document holds another kind of thing there.
    #[error("{} holds {found} where {wanted} is wanted; {}", named(.path), advice(*.found))]
    Kind {
        /// The place.
        path: Path,
        /// The kind of value in the document.
        found: ValueKind,
        /// The kind of value that the edit needs.
        wanted: ValueKind,
    },
    /// Several values stand there that were written at once, so none of them can become a text.
    #[error("{} holds several values that were written at once; settle its review, or set it to one value, first", named(.path))]
    Several {
        /// The place.
        path: Path,
    },
    /// A plain value is too long to become a text at once.
    #[error("{} is a plain value of {max} characters or more, which cannot become a text; set it to a shorter one first", named(.path))]
    LongText {
        /// The place.
        path: Path,
        /// One more than may be converted, in code points.
        max: usize,
    },
    /// The edit was made on another text than the document held when it was read.
    #[error("the text {} is not the one this edit was made on; read the document again and edit that", named(.path))]
    Mismatch {
        /// The text.
        path: Path,
    },
    /// No item has that index.
    #[error("the list {} has no place {index}, for its length is {len}; read the document again", named(.path))]
    NoItem {
        /// The list.
        path: Path,
        /// The index given.
        index: usize,
        /// Items that are not removed.
        len: usize,
    },
    /// The text is shorter.
    #[error("the text {} has {len} characters and no {delete} at {index}; read the document again", named(.path))]
    NoCharacters {
        /// The text.
        path: Path,
        /// The index given, in code points.
        index: usize,
        /// The number that was to be deleted.
        delete: usize,
        /// Code points in the text.
        len: usize,
    },
    /// The name says in this document that something was removed.
    #[error(
        "{} is how a document says that something was removed; give the field another name, \
         and delete or restore by the commands of that name", named(.path)
    )]
    Reserved {
        /// The field.
        path: Path,
    },
    /// A counter would leave the range of 64 bits.
    #[error("the counter {} would leave the range of 64-bit integers; count in larger units", named(.path))]
    CounterRange {
        /// The counter.
        path: Path,
    },
    /// Maps and lists nested deeper than documents are read.
    #[error("{} is more than {max} maps and lists deep; nest less", named(.path))]
    Depth {
        /// The place.
        path: Path,
        /// The limit.
        max: usize,
    },
    /// One value that does not fit into a change.
    #[error("a {what} in {} has {len} bytes, of at most {max}; use a text, which is split, or store it elsewhere", named(.path))]
    TooLarge {
        /// `key` or `value`.
        what: &'static str,
        /// The place.
        path: Path,
        /// Its bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The whole document was to be removed.
    #[error("an edit cannot remove the document itself; delete the document instead")]
    Root,
    /// The edit was made on changes that are not here.
    #[error(
        "the document does not have change {head}, which the edit was made on; wait until it has come"
    )]
    UnknownBase {
        /// The head that is missing.
        head: ChangeHash,
    },
    /// Automerge refused it.
    #[error("the document refused the edit; load it again and repeat the edit")]
    Document(#[source] Box<AutomergeError>),
    /// Automerge panicked on the content of the document.
    #[error("the document could not be edited; run `rejoin doctor` on the file and report this")]
    Panicked,
    /// A birth is not a change. A bug in Rejoin.
    #[error("the container at key {key:?} could not be made; please report this")]
    Birth {
        /// Its key.
        key: String,
        /// The reason why not.
        source: Box<LoadChangeError>,
    },
}

impl From<AutomergeError> for WriteError {
    fn from(error: AutomergeError) -> Self {
        Self::Document(Box::new(error))
    }
}

/// The kind of value at a place in a document. A value of one kind cannot be edited into another
/// kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// A string, number, truth value, null, bytes or time.
    Scalar,
    /// A counter.
    Counter,
    /// A text that merges by character.
    Text,
    /// A list.
    List,
    /// A map.
    Map,
}

impl ValueKind {
    /// The kind of container or scalar as which a value is written.
    fn of(value: &Value) -> Self {
        match (Marker::of(value), value) {
            (Some(Marker::Text(_)), _) => Self::Text,
            (Some(Marker::Counter(_)), _) => Self::Counter,
            (None, Value::Array(_)) => Self::List,
            (None, Value::Object(_)) => Self::Map,
            _ => Self::Scalar,
        }
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "a plain value",
            Self::Counter => "a counter",
            Self::Text => "a text",
            Self::List => "a list",
            Self::Map => "a map",
        })
    }
}

fn named(path: &Path) -> String {
    if path.is_root() { "the document".into() } else { format!("`{path}`") }
}

fn advice(found: ValueKind) -> &'static str {
    match found {
        ValueKind::Scalar => "it stays what it is, so use another key",
        _ => "what merges stays what it is, as others may be writing in it, so use another key",
    }
}

/// Operations after which another change is begun. The guard takes 100,000 rows, and an
/// operation may overwrite several.
const OPS_PER_CHANGE: usize = 20_000;

/// Bytes of values after which another change is begun: those that fit into one frame.
const BYTES_PER_CHANGE: usize = rejoin_core::limits::FRAME_PAYLOAD_BYTES;

/// Births among the dependencies of one change: half of the number that the guard takes.
const BIRTHS_PER_CHANGE: usize = rejoin_core::limits::CHANGE_DEPS_MAX / 2;

/// Bytes of one scalar: with as much as a change holds before another is begun, it still fits.
const VALUE_BYTES_MAX: usize = rejoin_core::limits::CHANGE_BYTES_MAX / 2;

/// Bytes of one map key. Every birth and change that names it carries it.
const KEY_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests;
