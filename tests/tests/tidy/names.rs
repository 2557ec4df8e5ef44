//! The paths that a source names, outside of its tests.

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

use crate::workspace::Source;

/// A path as written, groups of imports multiplied out, and where it ends.
pub(crate) type Name = (Vec<String>, Span);

/// The paths that a file names.
///
/// # Errors
/// It is not Rust.
pub(crate) fn names(file: &Source) -> Result<Vec<Name>, String> {
    let tokens: Result<TokenStream, _> = file.text.parse();
    let tokens = tokens.map_err(|error| format!("{}: is not Rust: {error}", file.name()))?;
    let mut names = Vec::new();
    collect_names(&tokens.into_iter().collect::<Vec<_>>(), &mut names);
    Ok(names)
}

fn collect_names(tokens: &[TokenTree], names: &mut Vec<Name>) {
    let mut rest = tokens;
    while let [first, after @ ..] = rest {
        rest = match first {
            _ if is_test_only(rest) => after_item(&rest[2..]),
            TokenTree::Ident(_) => read_path(rest, &[], names),
            TokenTree::Group(group) => {
                collect_names(&group.stream().into_iter().collect::<Vec<_>>(), names);
                after
            }
            _ => after,
        };
    }
}

/// Whether the tokens begin with `#[cfg(test)]`.
pub(crate) fn is_test_only(tokens: &[TokenTree]) -> bool {
    let [hash, TokenTree::Group(group), ..] = tokens else { return false };
    is_punct(hash, '#') && group.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// The tokens after the item these begin with: an item ends with its braces or with a semicolon.
pub(crate) fn after_item(tokens: &[TokenTree]) -> &[TokenTree] {
    let end = tokens.iter().position(|token| is_punct(token, ';') || is_braces(token));
    end.map_or(&[], |end| &tokens[end + 1..])
}

/// Reads one path, or a tree of imports, and returns the tokens after it.
fn read_path<'a>(
    tokens: &'a [TokenTree],
    prefix: &[String],
    names: &mut Vec<Name>,
) -> &'a [TokenTree] {
    let [first, after @ ..] = tokens else { return tokens };
    if let TokenTree::Group(group) = first
        && is_braces(first)
    {
        let inner: Vec<_> = group.stream().into_iter().collect();
        for branch in inner.split(|token| is_punct(token, ',')) {
            read_path(branch, prefix, names);
        }
        return after;
    }
    let is_part = matches!(first, TokenTree::Ident(_)) || is_punct(first, '*');
    let name: Vec<_> = prefix.iter().cloned().chain(is_part.then(|| first.to_string())).collect();
    match after {
        [a, b, rest @ ..] if is_part && is_punct(a, ':') && is_punct(b, ':') && continues(rest) => {
            read_path(rest, &name, names)
        }
        _ => {
            names.push((name, first.span()));
            after
        }
    }
}

/// Whether what stands after `::` is part of the path; generic arguments are not.
fn continues(tokens: &[TokenTree]) -> bool {
    tokens.first().is_some_and(|token| {
        matches!(token, TokenTree::Ident(_)) || is_punct(token, '*') || is_braces(token)
    })
}

pub(crate) fn is_punct(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

pub(crate) fn is_braces(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}
