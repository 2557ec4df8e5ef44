//! Text for people.

use console::Style;
use rejoin::view::printable;

use crate::caller::guest;

/// Text that cannot command a terminal. Every text that becomes one passes [`printable`], as
/// documents, relays and files may hold anything; only [`Text::styled`] adds control characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text(String);

impl Text {
    /// Text in a style, if the caller's terminal shows styles and the caller has not switched them
    /// off.
    pub(crate) fn styled(text: &str, style: &Style) -> Self {
        let style = match guest() {
            Some(guest) => style.clone().force_styling(guest.terminal.has_styles),
            None => style.clone(),
        };
        Self(style.apply_to(printable(text)).to_string())
    }

    /// Texts below each other.
    pub(crate) fn lines(lines: impl IntoIterator<Item = Self>) -> Self {
        Self::joined(lines, "\n")
    }

    /// Texts behind each other.
    pub(crate) fn joined(texts: impl IntoIterator<Item = Self>, between: &str) -> Self {
        let texts: Vec<_> = texts.into_iter().map(|text| text.0).collect();
        Self(texts.join(&printable(between)))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(printable(text).into_owned())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_styles_of_ours_are_in_a_text() {
        let style = Style::new().bold().force_styling(true);
        let heading = Text::styled("KEY\u{1b}[2J", &style);
        assert_eq!(heading.as_str(), "\u{1b}[1mKEY\\u{1b}[2J\u{1b}[0m");
        let text = Text::lines([heading, "1\u{1b}[1m\n\t2".into()]);
        assert!(text.as_str().ends_with("\n1\\u{1b}[1m\n\t2"), "{text:?}");
    }
}
