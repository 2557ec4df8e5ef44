//! Identities as people and programs are shown them.

use rejoin::Identity;
use serde_json::Value;

use crate::layout::one_line;

/// The user and role as people read them, `Ann (dispatch)`, or words for an unknown author.
pub(crate) fn person(identity: Option<&Identity>) -> String {
    identity.map_or_else(|| "nobody in particular".to_owned(), |it| one_line(&it.to_string()))
}

/// The user, the role and the device: `Ann (dispatch) on desk-2`.
pub(crate) fn whole(identity: &Identity) -> String {
    let person = person(Some(identity));
    match &identity.device {
        Some(device) => format!("{person} on {}", one_line(device)),
        None => person,
    }
}

/// The author of something as JSON; null if nobody is named.
pub(crate) fn author_json(author: Option<&Identity>) -> Value {
    author.map_or(Value::Null, Identity::to_json)
}
