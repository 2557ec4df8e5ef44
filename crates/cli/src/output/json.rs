//! JSON for programs, which people may look at in a terminal too.

use std::io::{self, Write};

use rejoin::view::is_hidden;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Writes a value as JSON in which every character that [`is_hidden`] is escaped. It reads as the
/// same value: JSON has `\u202e` for any character.
pub(crate) fn write_json(out: impl Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Escaping))
}

/// The same JSON as text.
pub(crate) fn to_json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut json = Vec::new();
    write_json(&mut json, value)?;
    // Serde writes only UTF-8, so nothing is lost.
    Ok(String::from_utf8_lossy(&json).into_owned())
}

struct Escaping;

impl Formatter for Escaping {
    /// A fragment holds no control characters up to U+001F: serde has escaped them before.
    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut shown = 0;
        for (at, char) in fragment.char_indices().filter(|(_, char)| is_hidden(*char)) {
            out.write_all(&fragment.as_bytes()[shown..at])?;
            for unit in char.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            shown = at + char.len_utf8();
        }
        out.write_all(&fragment.as_bytes()[shown..])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn json_escapes_what_is_hidden_and_reads_as_the_same_value() {
        let value = json!({
            "k\u{9b}\u{202e}": ["\u{1b}[2J", "\u{2028}\u{2029}\u{7f}\u{feff}", "\u{e0041}", "ü\n\"\\"],
        });
        let json = to_json(&value).expect("a value is JSON");
        assert!(!json.contains(is_hidden), "{json:?}");
        assert!(json.contains("k\\u009b\\u202e") && json.contains("\\udb40\\udc41"), "{json}");
        assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON"), value);
    }
}
