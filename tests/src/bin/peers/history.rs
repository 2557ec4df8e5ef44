//! What clients write: made before any clock starts, in the language of a server.

use std::sync::Arc;

use crate::automerge_repo::changes::Changes;
use crate::hocuspocus::updates::Updates;
use crate::servers::Kind;

/// Somebody types a text, one character a change.
#[derive(Debug, Clone)]
pub(crate) enum History {
    Automerge(Arc<Changes>),
    Yjs(Arc<Updates>),
}

impl History {
    /// As many changes as a server of this kind takes them.
    pub(crate) fn typed(kind: Kind, changes: usize) -> Self {
        match kind {
            Kind::Hocuspocus => Self::Yjs(Arc::new(Updates::typed(changes))),
            _ => Self::Automerge(Arc::new(Changes::typed(changes))),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Automerge(changes) => changes.len(),
            Self::Yjs(updates) => updates.len(),
        }
    }
}

/// The character that is typed at this position.
pub(crate) fn letter(position: usize) -> char {
    char::from(b'a' + (position % 26) as u8)
}

/// The identifier of a document nobody has yet: a random UUID, as automerge-repo wants.
pub(crate) fn new_document() -> String {
    let mut bytes = rand::random::<[u8; 16]>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bs58::encode(bytes).with_check().into_string()
}
