//! The message in which a change says that it takes back other changes.

use serde_json::{Value, json};

use crate::limits::MESSAGE_BYTES_MAX;
use crate::settlement::{hex, unhex};
use crate::{ReviewId, ShortHash};

/// The taking back of earlier changes, carried as the message of the changes that do it.
///
/// A change with such a message closes only the values that it names. Values of others at the same
/// field stay open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    /// The changes that are taken back. A redo takes back the changes of an undo.
    pub undoes: Vec<ShortHash>,
    /// The changes whose values it takes the place of.
    pub closes: Vec<ShortHash>,
    /// The review that is open again, if one of the changes settled one. Such a change has no
    /// operation: it says that the decision does not count.
    pub reopens: Option<ReviewId>,
}

impl Undo {
    /// As the message of a change; `None` if it does not fit into [`MESSAGE_BYTES_MAX`].
    pub fn to_message(&self) -> Option<String> {
        let message = json!({
            "undoes": self.undoes.iter().map(hex).collect::<Vec<_>>().join(" "),
            "closes": self.closes.iter().map(hex).collect::<Vec<_>>().join(" "),
            "reopens": self.reopens.map(|review| review.to_string()),
        })
        .to_string();
        (message.len() <= MESSAGE_BYTES_MAX).then_some(message)
    }

    /// From the message of a change, if it is one.
    pub fn from_message(message: &str) -> Option<Self> {
        // Most messages are something else, and parsing is slower than looking.
        if !message.starts_with('{') {
            return None;
        }
        let said: Value = serde_json::from_str(message).ok()?;
        let hashes = |name| {
            let hashes = said.get(name)?.as_str()?.split(' ').filter(|hash| !hash.is_empty());
            Some(hashes.filter_map(unhex).collect())
        };
        let reopens = said.get("reopens").and_then(Value::as_str);
        Some(Self {
            undoes: hashes("undoes")?,
            closes: hashes("closes")?,
            reopens: reopens.and_then(|review| review.parse().ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (count, reopens) in [(0, None), (20, None), (1, Some(ReviewId([7; 16])))] {
            let hashes = |from: u8| (0..count).map(|byte| ShortHash([from + byte; 8])).collect();
            let undo = Undo { undoes: hashes(0), closes: hashes(100), reopens };
            assert_eq!(Undo::from_message(&undo.to_message().unwrap()), Some(undo));
        }
    }

    #[test]
    fn what_does_not_fit_is_no_message() {
        let undoes = (0..100).map(|byte| ShortHash([byte; 8])).collect();
        let undo = Undo { undoes, closes: Vec::new(), reopens: None };
        assert_eq!(undo.to_message(), None);
    }

    #[test]
    fn other_messages_undo_nothing() {
        for other in ["", "1:key", "{", "{}", r#"{"undoes":1,"closes":""}"#, r#"{"undoes":""}"#] {
            assert_eq!(Undo::from_message(other), None, "{other}");
        }
    }
}
