//! The place of a value in a document.

use std::fmt::{self, Write};

use crate::is_hidden;

/// The place of a value in a document: keys of maps and indices of lists, from the root.
///
/// Written `customer.address.street` or `parts[2].name`. A key that would be read as something else
/// stands in brackets and quotes: `["weird.key"].x`. Those are the empty one; one with `.`, `[`,
/// `]`, `"`, or with `=` or `,`, which end a path on a command line; one that begins with `-`, ends
/// with `:`, or has a space at either end; and one with a character that cannot be seen. In quotes
/// `\"` and `\\` stand for those two characters, and `\u{1b}` for one by its number. Everything
/// else is an ordinary key, also `X Coordinate (State Plane)`. A path written so is read again as
/// the same path, and printing it changes nothing.
///
/// ```
/// use rejoin_core::{Path, Segment};
///
/// let path = Path::from("parts[2].name");
/// assert_eq!(
///     path.segments(),
///     [Segment::Key("parts".into()), Segment::Index(2), Segment::Key("name".into())],
/// );
/// assert_eq!(Path::from(["weird.key"]).to_string(), r#"["weird.key"]"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(Vec<Segment>);

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// Into a map.
    Key(String),
    /// Into a list, counting from 0 the items that are not removed.
    Index(usize),
}

impl Path {
    /// The document itself.
    pub const ROOT: Self = Self(Vec::new());

    /// The path of the value at `segment` in here.
    #[must_use]
    pub fn join(&self, segment: impl Into<Segment>) -> Self {
        let mut segments = Vec::with_capacity(self.0.len() + 1);
        segments.extend_from_slice(&self.0);
        segments.push(segment.into());
        Self(segments)
    }

    /// The steps from the root.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The parts before and behind the first `sign` that is not in the quotes of a key. It takes
    /// apart a list of paths, or a path and a value, that are written in one word.
    pub fn split_written(text: &str, sign: char) -> Option<(&str, &str)> {
        let mut quoted_to = 0;
        let place = text.char_indices().find(|&(place, char)| {
            if char == '['
                && place >= quoted_to
                && let Some((_, after)) = bracketed(&text[place..])
            {
                quoted_to = text.len() - after.len();
            }
            char == sign && place >= quoted_to
        });
        let (place, sign) = place?;
        Some((&text[..place], &text[place + sign.len_utf8()..]))
    }

    /// Whether this is the document itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

/// Parses the written form. Brackets around something else than an index or a quoted key are taken
/// for a part of the key, so every string is a path.
impl From<&str> for Path {
    fn from(text: &str) -> Self {
        let mut segments = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (segment, after) = bracketed(rest).unwrap_or_else(|| key(rest));
            segments.push(segment);
            rest = match after.strip_prefix('.') {
                // A dot at the end is followed by the empty key.
                Some("") => {
                    segments.push(Segment::Key(String::new()));
                    ""
                }
                Some(after) => after,
                None => after,
            };
        }
        Self(segments)
    }
}

impl From<String> for Path {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&String> for Path {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

/// Keys, taken as they are.
impl<const N: usize> From<[&str; N]> for Path {
    fn from(keys: [&str; N]) -> Self {
        keys.into_iter().map(Segment::from).collect()
    }
}

impl From<&Self> for Path {
    fn from(path: &Self) -> Self {
        path.clone()
    }
}

impl FromIterator<Segment> for Path {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self(segments.into_iter().collect())
    }
}

impl From<&str> for Segment {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<String> for Segment {
    fn from(key: String) -> Self {
        Self::Key(key)
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if is_ordinary(key) => {
                    let dot = if place == 0 { "" } else { "." };
                    write!(f, "{dot}{key}")?;
                }
                Segment::Key(key) => {
                    f.write_str("[\"")?;
                    key.chars().try_for_each(|char| match char {
                        '"' | '\\' => write!(f, "\\{char}"),
                        char if is_hidden(char) => write!(f, "{}", char.escape_unicode()),
                        char => f.write_char(char),
                    })?;
                    f.write_str("\"]")?;
                }
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

fn is_ordinary(key: &str) -> bool {
    let is_special = |char| matches!(char, '.' | '[' | ']' | '"' | '=' | ',') || is_hidden(char);
    let has_space = key.starts_with(char::is_whitespace) || key.ends_with(char::is_whitespace);
    let is_taken_for_another = key.starts_with('-') || key.ends_with(':') || has_space;
    !key.is_empty() && !is_taken_for_another && !key.contains(is_special)
}

/// `[2]` or `["key"]` at the start of `text`, and what follows it.
fn bracketed(text: &str) -> Option<(Segment, &str)> {
    let inside = text.strip_prefix('[')?;
    if let Some(quoted) = inside.strip_prefix('"') {
        return quoted_key(quoted);
    }
    let (digits, after) = inside.split_once(']')?;
    let is_index = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let index = digits.parse().ok().filter(|_| is_index)?;
    Some((Segment::Index(index), after))
}

/// The key up to its closing quote and bracket, and what follows.
fn quoted_key(text: &str) -> Option<(Segment, &str)> {
    let mut key = String::new();
    let mut chars = text.char_indices();
    while let Some((place, char)) = chars.next() {
        match char {
            '\\' => match numbered(&text[place..]) {
                Some((char, len)) => {
                    key.push(char);
                    chars.by_ref().take(len - 1).for_each(drop);
                }
                None => key.push(chars.next()?.1),
            },
            '"' => {
                let after = text[place + 1..].strip_prefix(']')?;
                return Some((Segment::Key(key), after));
            }
            _ => key.push(char),
        }
    }
    None
}

/// The character that is written by its number at the start of `text`, as `\u{1b}`, and how many
/// characters that takes.
fn numbered(text: &str) -> Option<(char, usize)> {
    let (digits, _) = text.strip_prefix("\\u{")?.split_once('}')?;
    let is_number =
        (1..=6).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_hexdigit());
    let number = u32::from_str_radix(digits, 16).ok().filter(|_| is_number)?;
    Some((char::from_u32(number)?, digits.len() + 4))
}

/// The plain key at the start of `text`, and what follows it. Takes at least one character unless
/// a dot stands there.
fn key(text: &str) -> (Segment, &str) {
    let end = text.char_indices().find(|&(place, char)| {
        char == '.' || (place > 0 && char == '[' && bracketed(&text[place..]).is_some())
    });
    let (key, after) = text.split_at(end.map_or(text.len(), |(place, _)| place));
    (Segment::from(key), after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, segments: &[Segment]) {
        assert_eq!(Path::from(text).segments(), segments, "{text}");
    }

    #[test]
    fn keys_and_indices_are_parsed() {
        check("", &[]);
        check("a", &["a".into()]);
        check("customer.address.street", &["customer".into(), "address".into(), "street".into()]);
        check("parts[2].name", &["parts".into(), 2.into(), "name".into()]);
        check("grid[1][0]", &["grid".into(), 1.into(), 0.into()]);
        check(r#"["weird.key"].x"#, &["weird.key".into(), "x".into()]);
        check(r#"a["say \"hi\" \\"]"#, &["a".into(), r#"say "hi" \"#.into()]);
        check("a..b.", &["a".into(), "".into(), "b".into(), "".into()]);
    }

    #[test]
    fn columns_of_spreadsheets_are_ordinary_keys() {
        for column in ["Latitude", "X Coordinate (State Plane)", "Created/Date", r"back\slash", "ü"]
        {
            check(column, &[column.into()]);
            assert_eq!(Path::from([column]).to_string(), column);
        }
    }

    #[test]
    fn keys_that_a_command_would_take_for_something_else_are_quoted() {
        for (key, written) in [
            ("Geo.Lat", r#"["Geo.Lat"]"#),
            ("a=b", r#"["a=b"]"#),
            ("a,b", r#"["a,b"]"#),
            ("-v", r#"["-v"]"#),
            ("due:", r#"["due:"]"#),
            (" a", r#"[" a"]"#),
            ("", r#"[""]"#),
            ("a\nb\u{1b}\u{202e}", r#"["a\u{a}b\u{1b}\u{202e}"]"#),
            (r"\u{1b}", r"\u{1b}"),
            (r"\u{1b}.", r#"["\\u{1b}."]"#),
            ("X (State: Plane)*", "X (State: Plane)*"),
        ] {
            assert_eq!(Path::from([key]).to_string(), written);
            check(written, &[key.into()]);
        }
        check(r#"["\u{110000}\u{}\u"]"#, &["u{110000}u{}u".into()]);
    }

    #[test]
    fn what_ends_a_path_is_found_behind_its_quotes() {
        for (text, split) in [
            ("a=b=c", Some(("a", "b=c"))),
            (r#"["a=\"=].\\"]=b"#, Some((r#"["a=\"=].\\"]"#, "b"))),
            (r#"a["b=c"].d:=["="]"#, Some((r#"a["b=c"].d:"#, r#"["="]"#))),
            (r#"["a=b"#, Some((r#"["a"#, "b"))),
            (r#"["a=b"]"#, None),
            ("", None),
        ] {
            assert_eq!(Path::split_written(text, '='), split, "{text}");
        }
    }

    #[test]
    fn brackets_that_say_nothing_belong_to_the_key() {
        for odd in
            ["a[x]", "a[", "[]", "a]b", "[-1]", "[1", r#"["open"#, "[99999999999999999999999]"]
        {
            check(odd, &[odd.into()]);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            segments in prop::collection::vec(
                prop_oneof![
                    "[a-z.\\[\\]\"\\\\ ()é=,:*'u{}0-9\n\t\u{1b}\u{202e}-]{0,6}".prop_map(Segment::Key),
                    any::<String>().prop_map(Segment::Key),
                    any::<usize>().prop_map(Segment::Index),
                ],
                0..6,
            ),
        ) {
            let path: Path = segments.into_iter().collect();
            let written = path.to_string();
            prop_assert_eq!(crate::printable(&written), written.as_str());
            let (assignment, list) = (format!("{written}=a=b"), format!("{written},b"));
            prop_assert_eq!(Path::split_written(&assignment, '='), Some((&*written, "a=b")));
            prop_assert_eq!(Path::split_written(&list, ','), Some((&*written, "b")));
            prop_assert_eq!(Path::from(written), path);
        }
    }
}
