//! Text from outside does nothing to whoever looks at it.

use std::borrow::Cow;

use proptest::prelude::*;
use rejoin_core::{is_hidden, printable};

#[test]
fn what_commands_a_terminal_is_shown_by_its_number() {
    for (text, shown) in [
        ("\u{1b}[2J\u{7}", "\\u{1b}[2J\\u{7}"),
        ("\u{9b}31m", "\\u{9b}31m"),
        ("a\u{7f}\u{0}b", "a\\u{7f}\\u{0}b"),
        ("invoice\u{202e}fdp.exe", "invoice\\u{202e}fdp.exe"),
        ("\u{2066}a\u{2069}\u{200e}\u{61c}", "\\u{2066}a\\u{2069}\\u{200e}\\u{61c}"),
        ("pay\u{200b}pal\u{feff}\u{2060}", "pay\\u{200b}pal\\u{feff}\\u{2060}"),
        ("one\u{2028}two", "one\\u{2028}two"),
        ("hi\u{e0041}", "hi\\u{e0041}"),
        ("over\rwritten", "over\\u{d}written"),
    ] {
        assert_eq!(printable(text), shown);
    }
}

#[test]
fn what_can_be_seen_stays_as_it_is() {
    for text in [
        "",
        "Ring twice.\n\tThe dog is friendly.",
        "Grüße, Ωmega, Дом, שלום, سلام, 日本語, 한국어",
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{2764}\u{fe0f}\u{200d}\u{1f525}",
        "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
        "\u{915}\u{94d}\u{200d}\u{937}",
    ] {
        assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text:?}");
    }
    assert_eq!(printable("two\r\nlines\r\n\u{1b}"), "two\nlines\n\\u{1b}");
}

#[test]
fn joiners_stay_only_where_they_join() {
    for (text, shown) in [
        ("jo\u{200d}bs", "jo\\u{200d}bs"),
        ("\u{200c}", "\\u{200c}"),
        ("\u{645}\u{200c} ", "\u{645}\\u{200c} "),
        ("\u{645}\u{200c}\u{200d}\u{645}", "\u{645}\\u{200c}\\u{200d}\u{645}"),
        ("\u{1f468}\u{200d}", "\u{1f468}\\u{200d}"),
    ] {
        assert_eq!(printable(text), shown);
    }
}

/// Characters of all kinds, those often that must not be shown.
fn text() -> impl Strategy<Value = String> {
    let hidden = ('\0'..='\u{2100}')
        .filter(|char| is_hidden(*char) || ('\u{200c}'..='\u{200d}').contains(char));
    let hidden = proptest::sample::select(hidden.collect::<Vec<_>>());
    let char = prop_oneof![3 => any::<char>(), 2 => hidden, 2 => proptest::char::range(' ', '~')];
    proptest::collection::vec(char, 0..64).prop_map(String::from_iter)
}

proptest! {
    #[test]
    fn no_text_shows_what_must_not_be_shown(text in text()) {
        let shown = printable(&text);
        // Said anew, and not by the ranges of the function itself.
        let is_forbidden = |char: char| matches!(
            char,
            '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200b}'
                | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
                | '\u{feff}'
        );
        prop_assert!(!shown.contains(is_forbidden), "{shown:?}");
        prop_assert_eq!(printable(&shown), shown.clone(), "twice is once");
        let kept = |text: &str| text.chars().filter(|char| !is_hidden(*char)).count();
        prop_assert!(kept(&shown) >= kept(&text) , "nothing that can be seen is lost");
        // What was replaced can be read back from its number.
        prop_assert_eq!(shown.matches('\n').count(), text.matches('\n').count());
    }
}
