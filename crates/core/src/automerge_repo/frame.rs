//! The messages of automerge-repo's protocol.

use std::collections::BTreeMap;

use minicbor::Encoder;

use super::frame_fields::{Fields, HeadsField, RepoFrameError};
use crate::limits::REPO_FRAME_BYTES_MAX;
use crate::{ChangeHash, DocumentId};

/// One message between an automerge-repo peer and the relay. `sender` and `target` are peer ids,
/// which are any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepoFrame<'a> {
    /// The first message, from the side that dialled.
    Join {
        /// The sender.
        sender: &'a str,
        /// The id of its storage; absent if it keeps nothing.
        storage: Option<&'a str>,
        /// Whether its documents are gone when it leaves.
        is_ephemeral: bool,
        /// Whether it speaks version "1".
        speaks_version_1: bool,
    },
    /// The answer to it.
    Peer {
        /// The side that answers.
        sender: &'a str,
        /// The side that dialled.
        target: &'a str,
        /// The id of the storage of the side that answers.
        storage: &'a str,
    },
    /// The sender goes.
    Leave {
        /// The sender.
        sender: &'a str,
    },
    /// The sender closes the connection, with a reason.
    Error {
        /// The sender.
        sender: &'a str,
        /// The receiver.
        target: &'a str,
        /// The reason.
        message: &'a str,
    },
    /// A sync message about a document.
    Sync(SyncFrame<'a>),
    /// There is no such document, or none for the receiver.
    DocUnavailable {
        /// The sender.
        sender: &'a str,
        /// The receiver.
        target: &'a str,
        /// The document.
        document: DocumentId,
    },
    /// A message for all peers that have the document open right now. It is never stored.
    Ephemeral(Ephemeral<'a>),
    /// Asks to be told of some storages' heads from now on, and of others no longer.
    RemoteSubscriptionChange {
        /// The sender.
        sender: &'a str,
        /// Storages to tell of.
        add: Vec<&'a str>,
        /// Storages to tell of no longer.
        remove: Vec<&'a str>,
    },
    /// The state of a document in other peers' storages.
    RemoteHeadsChanged(RemoteHeads<'a>),
}

/// A sync message about a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncFrame<'a> {
    /// The sender.
    pub sender: &'a str,
    /// The receiver.
    pub target: &'a str,
    /// The document.
    pub document: DocumentId,
    /// The sender has nothing, and wants to be told if the receiver has nothing either.
    pub is_request: bool,
    /// A [`SyncMessage`](super::SyncMessage).
    pub data: &'a [u8],
}

/// A message for all peers that have a document open right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ephemeral<'a> {
    /// Its author, even if it came through other peers.
    pub sender: &'a str,
    /// The receiver of this frame.
    pub target: &'a str,
    /// The author's run: counts begin anew with each.
    pub session: &'a str,
    /// Rises with each message of a session.
    pub count: u64,
    /// The document.
    pub document: DocumentId,
    /// CBOR of the author's making.
    pub data: &'a [u8],
}

/// The state of a document in several storages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteHeads<'a> {
    /// The sender.
    pub sender: &'a str,
    /// The receiver.
    pub target: &'a str,
    /// The document.
    pub document: DocumentId,
    /// The heads by the id of the storage.
    pub heads: BTreeMap<&'a str, StorageHeads>,
}

/// The state of a document in one storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageHeads {
    /// The heads it has.
    pub heads: Vec<ChangeHash>,
    /// Milliseconds since 1970, when it had them.
    pub timestamp: u64,
}

impl<'a> RepoFrame<'a> {
    /// Reads one message.
    ///
    /// # Errors
    /// It is none of this protocol. Close the connection.
    pub fn decode(message: &'a [u8]) -> Result<Self, RepoFrameError> {
        if message.len() > REPO_FRAME_BYTES_MAX {
            return Err(RepoFrameError::TooLarge { len: message.len() });
        }
        let mut fields = Fields::read(message)?;
        let kind = fields.kind.ok_or_else(|| absent("", "type"))?;
        let sender = fields.sender.ok_or_else(|| absent(kind, "senderId"));
        let target = fields.target.unwrap_or("");
        let document = |fields: &Fields<'_>| document(kind, fields);
        let data = fields.data.ok_or_else(|| absent(kind, "data"));
        match kind {
            "join" => {
                let metadata = fields.metadata.unwrap_or_default();
                // A peer that names no version is taken to speak the first one.
                let versions = fields.versions;
                let speaks_version_1 = versions.is_none_or(|versions| versions.contains(&"1"));
                let (storage, is_ephemeral) = (metadata.storage, metadata.is_ephemeral);
                Ok(Self::Join { sender: sender?, storage, is_ephemeral, speaks_version_1 })
            }
            "peer" => {
                let storage = fields.metadata.and_then(|metadata| metadata.storage);
                let storage = storage.unwrap_or_default();
                match fields.version {
                    Some("1") => Ok(Self::Peer { sender: sender?, target, storage }),
                    _ => Err(absent(kind, "selectedProtocolVersion")),
                }
            }
            "leave" => Ok(Self::Leave { sender: sender? }),
            "error" => {
                let message = fields.message.unwrap_or_default();
                Ok(Self::Error { sender: fields.sender.unwrap_or_default(), target, message })
            }
            "request" | "sync" => {
                let document = document(&fields)?;
                let is_request = kind == "request";
                let (sender, data) = (sender?, data?);
                Ok(Self::Sync(SyncFrame { sender, target, document, is_request, data }))
            }
            "doc-unavailable" => {
                let document = document(&fields)?;
                Ok(Self::DocUnavailable { sender: sender?, target, document })
            }
            "ephemeral" => Ok(Self::Ephemeral(Ephemeral {
                sender: sender?,
                target,
                session: fields.session.ok_or_else(|| absent(kind, "sessionId"))?,
                count: fields.count.ok_or_else(|| absent(kind, "count"))?,
                document: document(&fields)?,
                data: data?,
            })),
            "remote-subscription-change" => {
                let (add, remove) = (fields.add, fields.remove);
                Ok(Self::RemoteSubscriptionChange { sender: sender?, add, remove })
            }
            "remote-heads-changed" => {
                let document = document(&fields)?;
                let heads = std::mem::take(&mut fields.new_heads).into_iter();
                let heads = heads.map(|(storage, field)| Ok((storage, storage_heads(&field)?)));
                let heads = heads.collect::<Result<_, RepoFrameError>>()?;
                let sender = sender?;
                Ok(Self::RemoteHeadsChanged(RemoteHeads { sender, target, document, heads }))
            }
            _ => Err(RepoFrameError::Kind { kind: shortened(kind) }),
        }
    }

    /// The message's bytes, maps and integers in their shortest form.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Join { sender, storage, is_ephemeral, speaks_version_1 } => {
                let mut map = Map::of("join", 4, sender);
                map.metadata(*storage, *is_ephemeral);
                let versions: &[&str] = if *speaks_version_1 { &["1"] } else { &[] };
                map.texts("supportedProtocolVersions", versions);
                map.end()
            }
            Self::Peer { sender, target, storage } => {
                let mut map = Map::of("peer", 5, sender);
                map.metadata(Some(storage), false);
                map.text("selectedProtocolVersion", "1");
                map.text("targetId", target);
                map.end()
            }
            Self::Leave { sender } => {
                let map = Map::of("leave", 2, sender);
                map.end()
            }
            Self::Error { sender, target, message } => {
                let mut map = Map::of("error", 4, sender);
                map.text("message", message);
                map.text("targetId", target);
                map.end()
            }
            Self::Sync(sync) => {
                let mut map =
                    Map::of(if sync.is_request { "request" } else { "sync" }, 5, sync.sender);
                map.text("targetId", sync.target);
                map.document(&sync.document);
                map.encoder.writer_mut().reserve(sync.data.len() + 16);
                map.bytes("data", sync.data);
                map.end()
            }
            Self::DocUnavailable { sender, target, document } => {
                let mut map = Map::of("doc-unavailable", 4, sender);
                map.text("targetId", target);
                map.document(document);
                map.end()
            }
            Self::Ephemeral(ephemeral) => {
                let mut map = Map::of("ephemeral", 7, ephemeral.sender);
                map.text("targetId", ephemeral.target);
                map.number("count", ephemeral.count);
                map.text("sessionId", ephemeral.session);
                map.document(&ephemeral.document);
                map.bytes("data", ephemeral.data);
                map.end()
            }
            Self::RemoteSubscriptionChange { sender, add, remove } => {
                let mut map = Map::of("remote-subscription-change", 4, sender);
                map.texts("add", add);
                map.texts("remove", remove);
                map.end()
            }
            Self::RemoteHeadsChanged(remote) => {
                let mut map = Map::of("remote-heads-changed", 5, remote.sender);
                map.text("targetId", remote.target);
                map.document(&remote.document);
                map.storages(&remote.heads);
                map.end()
            }
        }
    }
}

/// A map of text keys under construction. Writing to memory does not fail, so neither does this.
struct Map {
    encoder: Encoder<Vec<u8>>,
    left: u64,
}

impl Map {
    /// A map of so many entries, the type and the sender included.
    fn of(kind: &str, entries: u64, sender: &str) -> Self {
        let mut map = Self { encoder: Encoder::new(Vec::with_capacity(256)), left: entries };
        let _ = map.encoder.map(entries);
        map.text("type", kind);
        map.text("senderId", sender);
        map
    }

    fn key(&mut self, key: &str) -> &mut Encoder<Vec<u8>> {
        self.left = self.left.saturating_sub(1);
        let _ = self.encoder.str(key);
        &mut self.encoder
    }

    fn text(&mut self, key: &str, text: &str) {
        let _ = self.key(key).str(text);
    }

    fn bytes(&mut self, key: &str, bytes: &[u8]) {
        let _ = self.key(key).bytes(bytes);
    }

    fn number(&mut self, key: &str, number: u64) {
        put_number(self.key(key), number);
    }

    fn texts(&mut self, key: &str, texts: &[&str]) {
        let encoder = self.key(key);
        let _ = encoder.array(texts.len() as u64);
        for text in texts {
            let _ = encoder.str(text);
        }
    }

    fn document(&mut self, document: &DocumentId) {
        self.text("documentId", document.to_string().trim_start_matches("automerge:"));
    }

    fn metadata(&mut self, storage: Option<&str>, is_ephemeral: bool) {
        let encoder = self.key("peerMetadata");
        let _ = encoder.map(1 + u64::from(storage.is_some()));
        if let Some(storage) = storage {
            let _ = encoder.str("storageId").and_then(|encoder| encoder.str(storage));
        }
        let _ = encoder.str("isEphemeral").and_then(|encoder| encoder.bool(is_ephemeral));
    }

    fn storages(&mut self, storages: &BTreeMap<&str, StorageHeads>) {
        let encoder = self.key("newHeads");
        let _ = encoder.map(storages.len() as u64);
        for (storage, StorageHeads { heads, timestamp }) in storages {
            let _ = encoder.str(storage).and_then(|encoder| encoder.map(2));
            let _ = encoder.str("heads").and_then(|encoder| encoder.array(heads.len() as u64));
            for head in heads {
                let _ = encoder.str(&bs58::encode(head.0).with_check().into_string());
            }
            let _ = encoder.str("timestamp");
            put_number(encoder, *timestamp);
        }
    }

    fn end(self) -> Vec<u8> {
        debug_assert_eq!(self.left, 0, "as many entries as were announced");
        self.encoder.into_writer()
    }
}

/// Writes a number as cbor-x does. It reads a 64-bit integer as a `BigInt`, which is equal to no
/// number.
fn put_number(encoder: &mut Encoder<Vec<u8>>, number: u64) {
    let _ = match u32::try_from(number) {
        Ok(number) => encoder.u32(number),
        Err(_) => encoder.f64(number as f64),
    };
}

fn document(kind: &str, fields: &Fields<'_>) -> Result<DocumentId, RepoFrameError> {
    let text = fields.document.ok_or_else(|| absent(kind, "documentId"))?;
    text.parse().map_err(|_| RepoFrameError::Id { what: "document id", text: shortened(text) })
}

fn storage_heads(field: &HeadsField<'_>) -> Result<StorageHeads, RepoFrameError> {
    let heads = field.heads.iter().map(|text| {
        let bytes = bs58::decode(text).with_check(None).into_vec().ok();
        let hash = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        hash.map(ChangeHash)
            .ok_or_else(|| RepoFrameError::Id { what: "hash of a change", text: shortened(text) })
    });
    Ok(StorageHeads { heads: heads.collect::<Result<_, _>>()?, timestamp: field.timestamp })
}

fn absent(kind: &str, field: &'static str) -> RepoFrameError {
    RepoFrameError::Absent { kind: shortened(kind), field }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}
