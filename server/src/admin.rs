//! What an operator asks of a running relay, and the answers, as they go over its socket: a line of
//! JSON each way.

mod client;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use client::{AskError, ask, back_up};

/// What can be shut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RevokedKind {
    /// A user, with the tokens that they have.
    User,
    /// A device.
    Device,
    /// One token.
    Token,
}

/// Somebody who is shut out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RevokedAnswer {
    /// What is shut out.
    pub kind: RevokedKind,
    /// Its name or id.
    pub name: String,
    /// Since when, in seconds since 1970.
    pub since_s: u64,
}

/// What is written back: an answer, or why there is none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// The answer.
    Ok(Answer),
    /// The reason why there is none.
    Error(String),
}

/// The path of the socket in a relay's folder.
pub(crate) fn socket(data: &Path) -> PathBuf {
    data.join("admin.sock")
}

/// A question or an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ask {
    /// The spaces, with what they hold.
    Spaces,
    /// Documents of a space, the one changed last first.
    Documents {
        /// The space.
        space: String,
        /// Only those of this collection.
        collection: Option<String>,
        /// Only those that changed last before this position.
        before: Option<u64>,
        /// This many at most.
        limit: usize,
    },
    /// The connections of now.
    Connections,
    /// The devices that were ever here, the one seen last first.
    Devices,
    /// Documents that are damaged, and what was lost and not brought back.
    Quarantined,
    /// Erase documents for good, here and at every replica that comes.
    Erase {
        /// The space.
        space: String,
        /// Each document's id, or its collection and key with a slash between.
        documents: Vec<String>,
        /// The heads that each has to have, in the same order; empty if that does not matter.
        #[serde(default)]
        heads: Vec<Vec<String>>,
    },
    /// Give up what a document lost to damage: nobody will bring it back.
    AcceptLoss {
        /// The space.
        space: String,
        /// The document's id.
        document: String,
    },
    /// End connections: the one of this number, or those of this device.
    Kick {
        /// A connection's number.
        connection: Option<u64>,
        /// A device's id.
        device: Option<String>,
    },
    /// Shut somebody out, or let them in again.
    Revoke {
        /// `user`, `device` or `token`.
        kind: RevokedKind,
        /// The user's name, or the id of the device or token.
        name: String,
        /// Let them in again.
        lift: bool,
    },
    /// Everybody who is shut out.
    Revoked,
    /// Take changes from others than their authors for so many seconds from now on; 0 for no more.
    Carry {
        /// Seconds.
        seconds: u64,
    },
    /// The changes that were taken from others than their authors.
    Carried {
        /// This many at most.
        limit: usize,
    },
    /// Fold the histories of all documents that have something to fold.
    Fold {
        /// Only those of this space.
        space: Option<String>,
    },
    /// Write the store's file anew without its gaps. Everybody waits meanwhile.
    Shrink,
    /// The whole store: the answer is followed by the bytes of a backup.
    Backup,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Answer {
    /// Everybody who is shut out.
    Revoked(Vec<RevokedAnswer>),
    /// Changes that were carried.
    Carried(CarriedAnswers),
    /// The spaces.
    Spaces(Vec<SpaceAnswer>),
    /// A page of documents.
    Documents(Vec<DocumentAnswer>),
    /// The connections.
    Connections(Vec<ConnectionAnswer>),
    /// The devices.
    Devices(Vec<DeviceAnswer>),
    /// Damage.
    Quarantined(QuarantinedAnswer),
    /// Documents were erased.
    Erased(ErasedAnswers),
    /// So many connections end, documents are folded, or bytes were freed.
    Done(u64),
    /// The bytes of a backup follow.
    Backup,
}

/// Changes that were taken from others than their authors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CarriedAnswers {
    /// Until when more are taken, in milliseconds since 1970; `None` if no more are.
    pub until_ms: Option<u64>,
    /// How many there are.
    pub all: u64,
    /// The latest of them.
    pub changes: Vec<CarriedAnswer>,
}

/// A change that was taken from somebody else than its author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CarriedAnswer {
    /// The space.
    pub space: String,
    /// The document's id.
    pub document: String,
    /// The change.
    pub change: String,
    /// The user whose name it bears.
    pub author: String,
    /// The user who brought it.
    pub carrier: String,
    /// The time at which it came, in milliseconds since 1970.
    pub time_ms: u64,
}

/// A space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceAnswer {
    /// Its name.
    pub space: String,
    /// Its documents.
    pub documents: u64,
    /// Changes that it ever took, those of erased documents too, and each erasure counts as one.
    pub changes: u64,
    /// Their bytes as they came.
    pub bytes: u64,
    /// Its collections, each with the number of its documents.
    pub collections: Vec<(String, u64)>,
    /// Connections that follow it.
    pub connections: usize,
    /// The reason why it takes no new documents, or nothing at all; `None` if it has room.
    #[serde(default)]
    pub full: Option<String>,
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentAnswer {
    /// Its id.
    pub document: String,
    /// Its collection.
    pub collection: String,
    /// Its changes.
    pub changes: u64,
    /// Bytes of the changes that are not folded.
    pub bytes: u64,
    /// Bytes of its snapshot.
    pub snapshot_bytes: u64,
    /// The time at which an operator erased it, in milliseconds since 1970.
    #[serde(default)]
    pub erased_ms: Option<u64>,
    /// The position of its last change in the space.
    pub position: u64,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionAnswer {
    /// Its number, as the log has it.
    pub connection: u64,
    /// The address it comes from.
    pub remote: String,
    /// Seconds that it lasts.
    pub seconds: u64,
    /// The replica's id.
    pub device: Option<String>,
    /// The name of a peer of automerge-repo.
    pub peer: Option<String>,
    /// The person, as the replica claims.
    pub user: Option<String>,
    /// The program.
    pub app: Option<String>,
    /// The spaces that it follows.
    pub spaces: Vec<String>,
    /// Changes that it brought.
    pub changes: u64,
    /// Changes that it was not sent yet.
    pub behind: u64,
    /// Bytes that wait until it reads.
    pub unread_bytes: usize,
    /// Messages and bytes that came from it.
    pub messages_in: u64,
    /// Bytes that came from it.
    pub bytes_in: u64,
    /// Messages that it was given.
    pub messages_out: u64,
    /// Bytes that it was given.
    pub bytes_out: u64,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAnswer {
    /// The replica's id.
    pub device: String,
    /// The person, as the replica claims.
    pub user: Option<String>,
    /// The name of the device, as its replica claims.
    pub name: Option<String>,
    /// The program and its version.
    pub app: Option<String>,
    /// The time at which it came first, in milliseconds since 1970.
    pub first_ms: u64,
    /// The time at which it was last here.
    pub seen_ms: u64,
    /// Whether it is connected.
    pub connected: bool,
    /// Edits that waited at the device when it came last.
    pub waited_on_arrival: u64,
    /// How far it has come.
    pub spaces: Vec<DeviceSpace>,
}

/// How far a device has come in a space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpace {
    /// The space.
    pub space: String,
    /// The position up to which it has everything new.
    pub position: u64,
    /// The space's last position.
    pub of: u64,
    /// Older positions of which it may lack something.
    pub older: u64,
    /// Whether it was sent this and has not been back to say that it arrived.
    pub sent: bool,
}

/// Damage of the store that is not mended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedAnswer {
    /// Documents that cannot be mended, by their numbers in the store.
    pub unmendable: Vec<u64>,
    /// Documents of which changes are held back until a lost one comes again, with their number.
    pub held_back: Vec<(String, u64)>,
    /// Documents of which changes were lost, and no replica has brought them back.
    #[serde(default)]
    pub lost: Vec<LossAnswer>,
}

/// A document that was to be erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedAnswer {
    /// As it was named.
    pub document: String,
    /// The changes that there were.
    pub changes: u64,
    /// Why it was not erased, or not now.
    pub trouble: Option<String>,
}

/// The answer to an order to erase documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedAnswers {
    /// Each document.
    pub documents: Vec<ErasedAnswer>,
    /// The reason why bytes of them are still in free pages of the file; `None` if none are. The relay
    /// tries again by itself.
    pub left: Option<String>,
}

/// A document that lost changes to damage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossAnswer {
    /// The space.
    pub space: String,
    /// The document's id.
    pub document: String,
    /// The lost changes of which something tells.
    pub changes: u64,
    /// Whether there were more of which nothing does.
    pub more: bool,
    /// The time at which the relay found the damage, in milliseconds since 1970; `None` if a salvage
    /// did.
    pub found_ms: Option<u64>,
}
