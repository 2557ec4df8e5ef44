//! Text from outside, made fit for a terminal or a log.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with every character that is not seen, or that commands a terminal, shown by its
/// number: `\u{1b}` in place of an escape.
///
/// Documents, names, messages of others and errors about them may hold anything. A terminal acts on
/// control characters, and bidirectional ones and those without width make one text look like
/// another. Line breaks and tabs stay (CR LF is a line break), for texts of many lines; a caller
/// that needs one line has to see to that. A text that is printable already is returned as it is,
/// so the function may be applied twice.
pub fn printable(text: &str) -> Cow<'_, str> {
    let Some(first) = text.char_indices().find(|(at, char)| !stays(text, *at, *char)) else {
        return Cow::Borrowed(text);
    };
    let mut shown = String::with_capacity(text.len() + 16);
    shown.push_str(&text[..first.0]);
    for (at, char) in text[first.0..].char_indices().map(|(at, char)| (first.0 + at, char)) {
        if stays(text, at, char) {
            shown.push(char);
        } else if !(char == '\r' && text[at + 1..].starts_with('\n')) {
            // Writing to a string does not fail.
            let _ = write!(shown, "{}", char.escape_unicode());
        }
    }
    Cow::Owned(shown)
}

/// Whether a character is never shown as it is: it commands a terminal, turns the direction of the
/// text after it, breaks lines unasked, or is not seen. Line breaks and tabs are among them.
pub fn is_hidden(char: char) -> bool {
    char.is_control() || HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(&char))
}

fn stays(text: &str, at: usize, char: char) -> bool {
    match char {
        '\n' | '\t' => true,
        JOINER | NON_JOINER => is_joint(text, at, char),
        _ => !is_hidden(char),
    }
}

/// Whether a joiner stands inside of an emoji or a word of a script that needs it: between two
/// characters that are both from behind the Latin, Greek, Cyrillic and Armenian ones. Anywhere else
/// it only makes one text look like another.
fn is_joint(text: &str, at: usize, char: char) -> bool {
    let joins = |char: char| char >= FIRST_JOINED && !is_hidden(char) && !is_joiner(char);
    let (before, after) = (&text[..at], &text[at + char.len_utf8()..]);
    before.chars().next_back().is_some_and(joins) && after.chars().next().is_some_and(joins)
}

fn is_joiner(char: char) -> bool {
    matches!(char, JOINER | NON_JOINER)
}

const JOINER: char = '\u{200d}';
const NON_JOINER: char = '\u{200c}';

/// The first character of Hebrew, with which the scripts begin that may need joiners.
const FIRST_JOINED: char = '\u{590}';

/// Beside control characters, each range from its first to its last.
const HIDDEN: [(char, char); 13] = [
    // A hyphen that is seen only if a line is broken at it.
    ('\u{ad}', '\u{ad}'),
    // Arabic letter mark.
    ('\u{61c}', '\u{61c}'),
    // Mongolian vowel separator.
    ('\u{180e}', '\u{180e}'),
    // Zero width space.
    ('\u{200b}', '\u{200b}'),
    // Left-to-right and right-to-left mark.
    ('\u{200e}', '\u{200f}'),
    // Line and paragraph separator; then embeddings and overrides of direction.
    ('\u{2028}', '\u{2029}'),
    ('\u{202a}', '\u{202e}'),
    // Word joiner, invisible operators, isolates of direction, and what shapes were switched by.
    ('\u{2060}', '\u{206f}'),
    // Byte order mark.
    ('\u{feff}', '\u{feff}'),
    // Annotations between lines.
    ('\u{fff9}', '\u{fffb}'),
    // Controls of shorthand and of music.
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    // Tags, in which whole texts can hide.
    ('\u{e0000}', '\u{e007f}'),
];
