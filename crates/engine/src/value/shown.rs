//! A value as one text, as tables and files of cells have it.

use std::borrow::Cow;

use serde_json::Value;

/// A value as text: strings as they are, everything else as JSON, and an empty text for null.
pub fn shown(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        value => Cow::Owned(value.to_string()),
    }
}

/// A text that no spreadsheet takes for a formula: with a `'` before it, if it begins like a
/// formula. A number, or a telephone number, is no formula.
pub fn spreadsheet_safe(text: &str) -> Cow<'_, str> {
    let begins_like_one = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let is_number =
        |rest: &str| rest.chars().all(|char| matches!(char, '0'..='9' | '.' | ',' | ' ' | '/'));
    match begins_like_one && !text.strip_prefix(['+', '-']).is_some_and(is_number) {
        true => Cow::Owned(format!("'{text}")),
        false => Cow::Borrowed(text),
    }
}
