//! Changes as bytes: the checks that one must pass before it is stored, forwarded or applied.
//!
//! Bytes from outside pass two doors, and neither needs Automerge or the document's content.
//!
//! 1. **The guard**, [`parse`], looks at one chunk alone. It bounds everything the bytes claim,
//!    hashes them, and accepts only the form Automerge itself writes, because Automerge saves the
//!    meaning of a change and not its bytes: another form comes back from a save with another
//!    hash, and the document cannot be loaded again. A [`GuardError`] is final.
//! 2. **Admission**, [`admit`], compares the change with the history of its document, which it asks
//!    through [`History`](crate::History): dependencies, sequence numbers, operation counters, and
//!    the exact bytes of every genesis, birth and conversion. A [`Refusal`] says what to do.
//!
//! ```
//! # use rejoin_core::change::{Admission, Place, admit, genesis, parse};
//! # use rejoin_core::{
//! #     ActorId, ChangeHash, CollectionName, DocumentId, Genesis, History, KnownChange,
//! #     LastChange, SpaceName,
//! # };
//! # struct Empty;
//! # impl History for Empty {
//! #     fn change(&self, _: &ChangeHash) -> Option<KnownChange> { None }
//! #     fn last(&self, _: &ActorId) -> Option<LastChange> { None }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (space, collection) = (SpaceName::new("acme")?, CollectionName::new("jobs")?);
//! let key = Genesis::first("2026-118")?;
//! let document = DocumentId::derive(&space, &collection, &key);
//! let bytes = genesis(&document, Some(&key));
//!
//! let change = parse(&bytes)?;
//! let place = Place { space: &space, collection: &collection, document: &document };
//! assert_eq!(admit(&change, &place, &Empty)?, Admission::New);
//! assert_eq!(change.genesis_key(), Some(key));
//! # Ok(())
//! # }
//! ```
//!
//! A change that passes both is still applied behind a panic fence. Its operations may refer to
//! objects and predecessors that do not exist, which only the document can tell. Automerge panics
//! on an absent object; it applies a change with an absent predecessor, but cannot load the
//! document that it then saves.
//!
//! [`genesis`], [`Birth`] and [`Conversion`] are the changes Rejoin writes itself, byte for byte
//! alike on every device. A snapshot, which holds a whole document, passes [`check_snapshot`]
//! instead.

mod admission;
mod birth;
mod chunk;
mod columns;
mod conversion;
mod encode;
mod error;
mod guard;
mod layout;
mod ops;
mod reader;
mod snapshot;
mod sum;

pub use admission::{Admission, Place, Refusal, admit};
pub use birth::{
    ACTOR_PREFIX, Birth, ContainerKind, ObjectId, RESERVED_ACTOR_BYTES, genesis, genesis_actor,
    genesis_hash, is_reserved, is_reserved_bytes,
};
pub use chunk::{ChunkKind, chunks, hash_of};
pub use conversion::Conversion;
pub use error::GuardError;
pub use guard::{AUTHOR_BYTES_MAX, Change, is_storable_time, parse};
pub(crate) use reader::Reader;
pub use snapshot::{SNAPSHOT_INFLATED_BYTES_MAX, check_snapshot};
pub use sum::ChunkSum;
