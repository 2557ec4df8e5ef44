//! The protocol of automerge-repo, version "1", as its sync servers speak it.
//!
//! One binary WebSocket message holds one [`RepoFrame`], a CBOR map with text keys. After `join`
//! and `peer`, documents are synced by Automerge's own [`SyncMessage`]s. A [`Conversation`] is the
//! relay's end of those about one document, answered from a [`ChangeGraph`](crate::ChangeGraph): no
//! document is loaded to read or write one.

mod bloom;
mod conversation;
mod frame;
mod frame_fields;
mod orphans;
mod sync_message;

pub use bloom::Bloom;
pub use conversation::{Conversation, Owed, Takes};
pub use frame::{Ephemeral, RemoteHeads, RepoFrame, StorageHeads, SyncFrame};
pub use frame_fields::RepoFrameError;
pub use orphans::{Chunk, Orphans};
pub use sync_message::{Flags, Have, SyncMessage, SyncMessageError};
