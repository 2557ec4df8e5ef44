//! Documents with values that do not fit their schema, in the words of every command that tells of
//! them.

use rejoin::view::{Misfit, Unfit};
use serde_json::{Value, json};

use crate::layout::one_line;
use crate::output::count;

/// The number of unfit documents and the names of the first, such as `2 documents hold what does not
/// fit the schema: jobs 7, jobs 9`; `None` if there are none.
pub(crate) fn summary(unfit: &[Unfit]) -> Option<String> {
    let first = unfit.first()?;
    let hold = if unfit.len() == 1 { "holds" } else { "hold" };
    let named: Vec<_> = unfit
        .iter()
        .take(NAMED)
        .map(|document| format!("{} {}", document.collection, key(document)))
        .collect();
    let more = unfit.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(one_line(&format!(
        "{} {hold} what does not fit the schema: {}{more}; `rejoin list {} --unfit` tells what",
        count(unfit.len() as u64, "document"),
        named.join(", "),
        first.collection,
    )))
}

/// A value that does not fit, and the reason, in a line.
pub(crate) fn line(misfit: &Misfit) -> String {
    one_line(&format!("{}: {}", misfit.field, misfit.reason))
}

/// The values of one document that do not fit, for programs.
pub(crate) fn misfits_json(misfits: &[Misfit]) -> Value {
    let misfits = misfits.iter().map(|misfit| {
        json!({
            "field": misfit.field.to_string(),
            "reason": misfit.reason,
            "missing": misfit.is_missing,
        })
    });
    misfits.collect()
}

/// The name by which commands take such a document: its key, or else its id.
pub(crate) fn key(unfit: &Unfit) -> String {
    unfit.key.clone().unwrap_or_else(|| unfit.document.to_string())
}

/// How many documents are named beside the number of all.
const NAMED: usize = 3;
