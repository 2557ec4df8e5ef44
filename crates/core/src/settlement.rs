//! The message in which a change says which review it settles.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::limits::MESSAGE_BYTES_MAX;
use crate::{ReviewId, ShortHash};

/// A decision about a review, carried as the message of the change that writes the outcome.
///
/// It names the values that were decided between, so that values stay open that came later or that
/// the decider never saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The review.
    pub review: ReviewId,
    /// The changes whose values were decided between.
    pub closes: Vec<ShortHash>,
    /// Whether the review was dismissed, so that the value from before stays.
    pub dismissed: bool,
    /// The reason, in the words of the person who decided.
    pub why: Option<String>,
}

impl Settlement {
    /// As the message of a change. It keeps as many of the candidates and as much of the reason as
    /// fit into [`MESSAGE_BYTES_MAX`]; candidates that do not fit stay open.
    pub fn to_message(&self) -> String {
        let mut closes: Vec<String> = self.closes.iter().map(hex).collect();
        let mut why = self.why.clone();
        loop {
            let message = json!({
                "settles": self.review.to_string(),
                "closes": closes.join(" "),
                "dismissed": self.dismissed,
                "why": why,
            })
            .to_string();
            if message.len() <= MESSAGE_BYTES_MAX {
                return message;
            }
            match &mut why {
                Some(text) if text.chars().count() > WHY_CHARS_MIN => {
                    *text = text.chars().take(text.chars().count() / 2).collect();
                }
                _ => _ = closes.pop(),
            }
        }
    }

    /// From the message of a change, if it is one.
    pub fn from_message(message: &str) -> Option<Self> {
        // Most messages are something else, and parsing is slower than looking.
        if !message.starts_with('{') {
            return None;
        }
        let said: Value = serde_json::from_str(message).ok()?;
        let closes = said.get("closes")?.as_str()?;
        Some(Self {
            review: said.get("settles")?.as_str()?.parse().ok()?,
            closes: closes.split(' ').filter(|hash| !hash.is_empty()).filter_map(unhex).collect(),
            dismissed: said.get("dismissed").and_then(Value::as_bool).unwrap_or_default(),
            why: said.get("why").and_then(Value::as_str).map(str::to_owned),
        })
    }
}

/// Characters of a reason that are kept before candidates are left out.
const WHY_CHARS_MIN: usize = 80;

pub(crate) fn hex(hash: &ShortHash) -> String {
    let mut text = String::new();
    for byte in hash.0 {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

pub(crate) fn unhex(text: &str) -> Option<ShortHash> {
    let number = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16)?;
    Some(ShortHash(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settlement(candidates: u8, why: Option<String>) -> Settlement {
        let closes = (0..candidates).map(|byte| ShortHash([byte; 8])).collect();
        Settlement { review: ReviewId([7; 16]), closes, dismissed: false, why }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for settlement in
            [settlement(0, None), settlement(3, Some("the customer \"called\"".to_owned()))]
        {
            let message = settlement.to_message();
            assert_eq!(Settlement::from_message(&message), Some(settlement));
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_from_the_end() {
        let long = settlement(200, Some("\u{1}".repeat(5000)));
        let message = long.to_message();
        assert!(message.len() <= MESSAGE_BYTES_MAX);
        let read = Settlement::from_message(&message).unwrap();
        assert!(!read.closes.is_empty());
        assert!(long.closes.starts_with(&read.closes));
    }

    #[test]
    fn other_messages_settle_nothing() {
        for other in ["", "1:key", "{", "{}", r#"{"settles":"x","closes":""}"#, "[1]"] {
            assert_eq!(Settlement::from_message(other), None, "{other}");
        }
    }
}
