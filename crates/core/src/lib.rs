//! Sans-IO core of Rejoin: the rules and formats that replica and relay agree on, without a file,
//! socket, clock, random source or `async` in it.
//!
//! Bytes come in, bytes and effects go out, and time is an argument, so any failure can be played
//! again from a seed. Read it in this order:
//!
//! - [`DocumentId`], [`SpaceName`] and the other ids; [`limits`], every limit in one file;
//! - [`change`]: the guard (bound and hash a change without applying it), admission (does it fit
//!   the history?), and the deterministic genesis and birth changes;
//! - [`schema`]: how the fields of a collection merge; [`lineage`]: which write took the place of
//!   which, and so which value is agreed and which question is for a person to decide;
//!   [`invariant`]: rules between documents, read in one of them; [`time`](mod@time): times, days
//!   and zones;
//! - [`ChangeGraph`]: the changes of a document without their operations; [`History`]: the
//!   questions of admission to it;
//! - [`SetDigest`], which compares two sets of documents at once, and [`repair`], which finds where
//!   they differ;
//! - [`wire`]: the frames of `rejoin.v2`;
//! - [`session`]: the two ends of a session as state machines;
//! - [`automerge_repo`]: the protocol of automerge-repo, for peers that speak that one;
//! - [`number`]: numbers as they are written, kept exactly or not at all; [`order`]: an order of all
//!   values;
//! - [`remains`]: reads of rows that may be damaged;
//! - [`printable`]: text from outside as a terminal or a log may show it.
#![warn(missing_docs)]

pub mod automerge_repo;
pub mod change;
mod collections;
mod digest;
mod graph;
mod history;
mod identity;
mod ids;
pub mod invariant;
pub mod limits;
pub mod lineage;
mod misfit;
pub mod number;
pub mod order;
mod path;
mod printable;
pub mod remains;
pub mod repair;
pub mod schema;
pub mod session;
mod settlement;
pub mod time;
mod undo;
pub mod wire;

pub use collections::Collections;
pub use digest::{HeadsHash, SetDigest, heads_hash};
pub use graph::{ChangeGraph, GraphEntry, GraphError, RankSet, Since};
pub use history::{History, KnownChange, LastChange};
pub use identity::Identity;
pub use ids::{
    ActorId, ChangeHash, CollectionName, DeviceId, DocumentId, Epoch, Genesis, NameError, PeerId,
    RelayId, ReviewId, ReviewIdError, ShortHash, SpaceName,
};
pub use misfit::Misfit;
pub use path::{Path, Segment};
pub use printable::{is_hidden, printable};
pub use settlement::Settlement;
pub use undo::Undo;
