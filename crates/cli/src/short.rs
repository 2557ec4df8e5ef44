//! The beginnings of long names: enough of each to type it and to tell it from others.

use rejoin::{ChangeHash, ReviewId};

/// The beginning of an id, which names one review in all but very large inboxes.
pub(crate) fn short_id(id: &ReviewId) -> String {
    short(&id.to_string(), ID_SHOWN)
}

/// The beginning of the hash of a change.
pub(crate) fn short_hash(hash: &ChangeHash) -> String {
    short(&hash.to_string(), HASH_SHOWN)
}

/// The first characters of a text.
pub(crate) fn short(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

/// Characters of the id of a review that are shown.
pub(crate) const ID_SHOWN: usize = 8;

/// Characters of a hash that are shown: enough to name one change of most documents.
pub(crate) const HASH_SHOWN: usize = 8;
